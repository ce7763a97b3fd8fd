//! Properties over random keys: nothing panics, changes add up, and lookups agree with the naive reference.

use pointsman_table::{Change, Compiled, Imagined, KeySet, compile};
use proptest::prelude::*;
use proptest::sample::select;

use crate::{able_limits, limits, picture, put, reference};

const HOSTS: &[&str] = &["a.test", "b.test", "*.test", "*.a.test", "x.a.test", "a.test,b.test", "*.x.a.test", "test"];
const PREFIXES: &[&str] = &["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/a?x", "/a,/b", "/b/c,/a/b"];
const PATTERNS: &[&str] = &["^/a", "b$", "/a/[a-c]", "x", "(/a|/b)/c", ".", "/ab?c", "^/zz/", "/q[0-9]+/r", "c/d|d/c"];
const TARGETS: &[&str] =
    &["/", "/a", "/a/", "/ab", "/a/b", "/a/bc", "/a/b/c", "/a?x", "/a/b?x", "/B/c", "/zz/", "*", "/q1/r"];

/// A key of an HTTP service, always good.
fn good_key() -> impl Strategy<Value = (String, String)> {
    let pick = |name: &'static str, values: &'static [&'static str]| {
        select(values).prop_map(move |value| (name.to_owned(), value.to_owned()))
    };
    prop_oneof![
        4 => pick("domain", HOSTS),
        1 => pick("virtual_hosts", HOSTS),
        2 => pick("url_beg", PREFIXES),
        2 => pick("virtual_path", PREFIXES),
        1 => pick("keep_virtual_path", &["true", "false"]),
        2 => select(&["/", "/a", "/a/", "/a/b", "/ab", "/a,/a/b/c"][..]).prop_map(|v| ("path".into(), v.into())),
        2 => pick("url_reg", PATTERNS),
        1 => pick("priority", &["-1", "0", "1", "2"]),
        1 => pick("match", &["any", "all"]),
        1 => pick("default", &["true", "false"]),
        4 => pick("i", &["10.0.0.1:80", "10.0.0.2:80", ""]),
    ]
}

fn good_services() -> impl Strategy<Value = Vec<(String, String)>> {
    let service = (0..30u32, prop::collection::vec(good_key(), 1..5));
    prop::collection::vec(service, 0..25).prop_map(|services| {
        let full = |(service, keys): (u32, Vec<(String, String)>)| {
            keys.into_iter().map(move |(key, value)| (format!("services/s{service:02}/{key}"), value))
        };
        services.into_iter().flat_map(full).collect()
    })
}

#[rustfmt::skip]
const NAMES: &[&str] = &[
    "domain", "virtual_hosts", "url_reg", "url_beg", "virtual_path", "keep_virtual_path", "path", "priority", "match",
    "default", "port", "external_port", "ports", "internal_port", "i", "upstreams/i", "upstreams/j", "upstreams/",
    "upstreams", "dns", "balance", "bounded", "slow_start", "protocol", "cookie", "basic_auth_secrets", "health_check_uri", "health_check_port", "scheme",
    "sni", "custom_settings", "timeout/connect", "timeout/x", "", "/", "domains", "limit/headers", "errors/503",
    "errors/x",
];

#[rustfmt::skip]
const VALUES: &[&str] = &[
    "", " ", "a.test", "*.test", "/a", "/a,/b", "80", "127.0.0.1:80,81", "10.0.0.1", "127.0.0.1:81 weight=3", "true",
    "any", "5s", "^/a[0-9]", "(", "https", "http", "h2", "leastconn", "hdr(x)", "125%", "[::1]:9 tls", "1", ",",
];

/// Any key of any shape, with any value, most of them near to something that means something.
fn any_key() -> impl Strategy<Value = (String, String)> {
    let tree = select(&["services", "tcp-services", "config", "certs", "", "x", "services/"][..]);
    let service = select(&["a", "b", "c", "", "ü"][..]);
    let name = select(NAMES);
    let value = prop_oneof![select(VALUES).prop_map(str::to_owned), ".{0,12}",];
    (tree, service, name, value).prop_map(|(tree, service, name, value)| match tree {
        "services" | "tcp-services" | "services/" => (format!("{tree}/{service}/{name}"), value),
        _ => (format!("{tree}/{name}"), value),
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => any_key().prop_map(|(key, value)| put(&key, &value)),
        2 => any_key().prop_map(|(key, _)| Change::Delete { key: key.into() }),
        1 => any_key().prop_map(|(key, _)| Change::DeleteTree { key: key.into() }),
        1 => select(&["services/a", "services/b/upstreams", "tcp-services/a", "services", "config", ""][..])
            .prop_map(|key| Change::DeleteTree { key: key.into() }),
    ]
}

/// Whether some service or configuration value is served in a last good form, so that history matters.
fn has_history(compiled: &Compiled) -> bool {
    compiled.problems.iter().any(|problem| matches!(problem.kind.as_str(), "bad_value" | "no_rule"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes_are_judged_without_panic(entries in prop::collection::vec((".{0,20}", prop::collection::vec(any::<u8>(), 0..20)), 0..20)) {
        let mut key_set = KeySet::default();
        key_set.reset(1, entries.into_iter().map(|(key, value)| (format!("services/s/{key}").into(), value.into())));
        compile(&key_set, None, &limits());
        compile(&key_set, None, &able_limits());
    }

    #[test]
    fn changes_one_by_one_make_the_same_table_as_all_at_once(changes in prop::collection::vec(any_change(), 1..60), able: bool) {
        let limits = if able { able_limits() } else { limits() };
        let mut key_set = KeySet::default();
        let mut last: Option<Compiled> = None;
        for (revision, change) in (1..).zip(changes) {
            key_set.apply(revision, [change]);
            let step = compile(&key_set, last.as_ref().map(|last| &*last.table), &limits);
            let whole = compile(&key_set, None, &limits);
            prop_assert_eq!(crate::problem_lines(&step).len() >= crate::problem_lines(&whole).len(), true);
            if !has_history(&step) {
                prop_assert_eq!(picture(&step), picture(&whole));
            }
            // Starting over where history matters keeps the steps comparable.
            last = Some(if has_history(&step) { whole } else { step });
        }
    }

    #[test]
    fn lookups_agree_with_the_reference(
        keys in good_services(),
        more in good_services(),
        hosts in prop::collection::vec(select(&["a.test", "B.test:80", "x.a.test.", "y.x.a.test", "test", "", "q.test", ".a.test"][..]), 1..8),
    ) {
        let mut key_set = KeySet::default();
        key_set.apply(1, keys.iter().map(|(key, value)| put(key, value)));
        let first = compile(&key_set, None, &limits());
        key_set.apply(2, more.iter().map(|(key, value)| put(key, value)));
        let second = compile(&key_set, Some(&first.table), &limits());
        for table in [&first.table, &second.table] {
            for host in &hosts {
                for target in TARGETS {
                    let found = table.route(host, target);
                    prop_assert_eq!(found, reference::route(table, host, target), "{}{} {:?}", host, target, keys);
                    let explained = table.explain(host, target, &Imagined::default());
                    prop_assert_eq!(explained.chosen.map(|one| one.index), found.map(|route| route.service));
                }
            }
        }
    }
}
