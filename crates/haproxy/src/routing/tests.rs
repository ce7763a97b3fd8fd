//! The maps against the table: a naive reading of them, step by step as HAProxy takes them, must find what the table
//! does.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use pointsman_table::{Protocol, Table};
use proptest::prelude::*;
use regex::bytes::Regex;

use super::*;
use crate::maps::MapName;

#[path = "../../tests/support/tables.rs"]
mod tables;

use tables::{REQUEST_HOSTS, TARGETS, services, table};

/// What the rules do with a request, read from the maps.
struct Lookup<'m> {
    maps: &'m Maps,
    target: &'m str,
    route: Option<&'m Route>,
}

impl<'m> Lookup<'m> {
    fn find(maps: &'m Maps, host: &str, target: &'m str) -> Option<&'m Route> {
        let mut lookup = Self { maps, target, route: None };
        let host = normal(host);
        lookup.scope(maps.hosts.get(&*host));
        let labels: Vec<_> = host.trim_start_matches('.').split('.').skip(1).collect();
        for at in 0..labels.len() {
            lookup.scope(maps.wildcards.get(&*labels[at..].join(".")));
        }
        lookup.scope(maps.hosts.get(ANY_HOST));
        lookup.route.or_else(|| maps.rest.get(DEFAULT))
    }

    fn scope(&mut self, scope: Option<&Arc<str>>) {
        let Some(scope) = scope else { return };
        let text = format!("{scope}|{}#", self.target);
        let ends = (0..=text.len()).rev().filter(|&end| text.is_char_boundary(end));
        self.consider({ ends }.find_map(|end| self.maps.paths.get(&text[..end])));
        if scope.ends_with(HAS_PATTERNS) {
            let text = format!("{scope}\n{}", self.target);
            self.consider(self.maps.patterns.iter().find(|(key, _)| matches(key, &text)).map(|(_, route)| route));
            self.consider(self.maps.rest.get(&**scope));
        }
    }

    fn consider(&mut self, next: Option<&'m Route>) {
        let level = |route: Option<&Route>| route.map(|route| route.level);
        if level(next) > level(self.route) {
            self.route = next;
        }
    }
}

fn normal(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let name = match host.find(']') {
        Some(end) if host.starts_with('[') => &host[..=end],
        _ => host.split(':').next().unwrap_or_default(),
    };
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

fn matches(pattern: &str, text: &str) -> bool {
    thread_local! {
        static EXPRESSIONS: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    // As PCRE reads them: bytes, and words in ASCII. Whether a group is atomic is tried on the real HAProxy.
    let expression = || Regex::new(&format!("(?-u){}", pattern.replace("(?>", "(?:"))).unwrap();
    EXPRESSIONS.with_borrow_mut(|known| {
        let regex = known.entry(pattern.to_owned()).or_insert_with(expression);
        regex.is_match(text.as_bytes())
    })
}

/// Backend and bytes to take off, as the table says.
fn expected(table: &Table, host: &str, target: &str) -> Option<(BackendName, u32)> {
    let route = table.route(host, target)?;
    let name = &table.services()[route.service as usize].name;
    Some((names::backend(Protocol::Http, name.as_str()), route.strip))
}

fn pairs(keys: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    keys.iter().map(|(key, value)| (&**key, &**value))
}

/// Keys written as `web/domain = a.test`, one a line.
fn maps_of(keys: &str) -> Maps {
    let lines = keys.lines().filter_map(|line| line.split_once('='));
    maps(table(lines.map(|(key, value)| (key.trim(), value.trim()))).services())
}

fn all_text(maps: &Maps) -> String {
    MapName::ALL.iter().rev().map(|name| maps.text(*name)).collect()
}

#[track_caller]
fn check(keys: &str, expected: &[&str]) {
    assert_eq!(all_text(&maps_of(keys)).lines().collect::<Vec<_>>(), expected, "{keys}");
}

#[test]
fn a_host_leads_to_its_scope() {
    check("web/domain = A.test, *.b.test", &["a.test web", "b.test web", "web| services:web|0|0"]);
    check("a b/domain = a.test", &["a.test a:20b", "a:20b| services:a:20b|0|0"]);
    let shared = "a/domain = a.test, b.test, *.a.test\n b/domain = b.test, *.a.test, a.test\n b/url_beg = /b";
    let rows =
        ["a.test @a.test", "b.test @a.test", "a.test @a.test", "@a.test| services:a|0|0", "@a.test|/b services:b|0|0"];
    check(shared, &rows);
    check(
        "a/domain = *.a.test\n b/domain = *.a.test\n b/priority = 1",
        &["a.test @.a.test", "@.a.test| services:b|0|p0000000000000000001"],
    );
}

#[test]
fn prefixes_carry_what_wins_below_them() {
    check(
        "web/path = /api",
        &["* @", "@|/api# services:web|0|0", "@|/api/ services:web|0|0", "@|/api? services:web|0|0"],
    );
    check("web/path = /", &["* @", "@|/ services:web|0|0"]);
    check("web/virtual_path = /api,/", &["* @", "@|/ services:web|0|0", "@|/api services:web|4|0"]);
    // The shorter prefix has the higher priority, so that the longer never wins.
    check("a/url_beg = /a/b\n b/url_beg = /a\n b/priority = 7", &["* @", "@|/a services:b|0|p0000000000000000007"]);
    check("a/url_beg = /a#b,/ü", &["* @"]);
}

#[test]
fn expressions_go_before_who_takes_any_path() {
    let rows = [
        "a.test @a.test~",
        "@a.test~|/x services:b|0|0",
        r"\A\x40a\x2etest\x7e\n\x2f[Aa] services:b|0|0",
        "@a.test~ services:a|0|0",
    ];
    check("a/domain = a.test\n b/domain = a.test\n b/url_reg = ^/a\n b/url_beg = /x", &rows);
    check("a/default = true\n b/default = true", &["@default services:a|0|0"]);
    check("a/default = true\n a/dns = a.test\n b/default = true\n b/i = 10.0.0.1", &["@default services:a|0|0"]);
}

#[test]
fn steps_that_are_needed() {
    let check = |keys: &str, labels: &[usize], wildcard_patterns, priorities| {
        let expected = Steps { labels: labels.iter().copied().collect(), wildcard_patterns, priorities, splits: None };
        assert_eq!(Steps::of(&maps_of(keys)), expected, "{keys}");
    };
    check("a/domain = a.test", &[], false, false);
    check("a/domain = *.test", &[1, 2, 3, 4], false, false);
    check("a/domain = *.a.b.c.d.e.f", &[1, 2, 3, 4, 6], false, false);
    check("a/url_reg = x\n b/domain = *.test", &[1, 2, 3, 4], false, false);
    check("a/url_reg = x\n a/domain = *.test", &[1, 2, 3, 4], true, false);
    check("a/domain = a.test\n a/priority = 5", &[], false, false);
    check("a/domain = a.test\n a/priority = 5\n b/domain = b.test", &[], false, true);
    check("a/domain = a.test\n a/priority = 5\n b/default = true", &[], false, false);
}

/// The entries of `splits.map`, and the problems of `a`.
#[track_caller]
fn check_split(keys: &str, expected: &[&str], problems: &[&str]) {
    let common = "a/domain = a.test\n b/port = 1\n b/i = 10.0.0.1\n";
    let keys = format!("{common}{keys}");
    assert_eq!(maps_of(&keys).text(MapName::Splits).lines().collect::<Vec<_>>(), expected, "{keys}");
    let lines = keys.lines().filter_map(|line| line.split_once(" = "));
    let table = table(lines.map(|(key, value)| (key.trim(), value.trim())));
    let found: Vec<_> = obstacles(&table.services()[0], table.services()).into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, problems, "{keys}");
}

#[test]
fn shares_of_a_split() {
    check_split("a/split/b = 25%", &["services:a chance|1073741824|services:b"], &[]);
    let shares = "a/split/b = 1\n a/split/c = 2\n a/split/a = 1\n c/i = 10.0.0.1\n c/port = 1\n a/split_by = client";
    check_split(shares, &["services:a client|1073741824|services:b|3221225472|services:c"], &[]);
    let rows = ["services:a header:X-Side|4294967296|services:b", "services:a|a services:a", "services:a|b services:b"];
    check_split("a/split/b = 200%\n a/split_by = header:X-Side", &rows, &[]);
    // The share of a side that takes nothing is the service's.
    let gone = "a/split/b = 25%\n a/split/c = 25%";
    check_split(gone, &["services:a chance|1073741824|services:b|2147483648|services:a"], &[]);
    check_split("a/split/b = 25%\n b/i = 10.0.0.1 drain", &[], &[]);
    check_split("a/split/c = 25%", &[], &[]);
    let odd = "a/split/b = 1\n a/split/b c = 1\n a/split_by = cookie:x\n b c/i = 10.0.0.1\n b c/port = 1";
    let rows = [
        "services:a cookie:x|42949672|services:b|85899345|services:b:20c",
        "services:a|a services:a",
        "services:a|b services:b",
    ];
    check_split(odd, &rows, &[]);
}

#[test]
fn sides_with_other_rules_take_nothing() {
    for key in ["request_headers = set X-A b", "allow = 10.0.0.0/8", "custom_settings = option httplog", "max_body = 1"]
    {
        check_split(&format!("a/split/b = 1\n a/{key}"), &[], &["split/b"]);
        let same = format!("a/split/b = 50%\n a/{key}\n b/{key}");
        check_split(&same, &["services:a chance|2147483648|services:b"], &[]);
    }
    check_split(
        "a/split/b = 50%\n b/cookie = SRV\n b/abort = false",
        &["services:a chance|2147483648|services:b"],
        &[],
    );
    let cut = "a/split/b = 50%\n a/virtual_path = /x";
    check_split(cut, &["services:a chance|2147483648|services:b"], &[]);
    check_split(&format!("{cut}\n a/rewrite = /a /b\n b/rewrite = /a /b"), &[], &["split/b"]);
    check_split("a/split/b = 50%\n a/split_by = cookie:x|y", &[], &["split_by"]);
}

#[test]
fn steps_of_splits() {
    let check = |keys: &str, by: &[&str], sides: usize, strips: &[u32]| {
        let common = "a/domain = a.test\n b/port = 1\n b/i = 10.0.0.1\n";
        let by = by.iter().map(|by| Box::from(*by)).collect();
        let expected = SplitSteps { by, sides, strips: strips.iter().copied().collect() };
        assert_eq!(Steps::of(&maps_of(&format!("{common}{keys}"))).splits, Some(expected), "{keys}");
    };
    check("a/split/b = 1", &["chance"], 2, &[]);
    check("a/split/b = 1\n a/virtual_path = /abc\n b/virtual_path = /b\n a/split_by = client", &["client"], 2, &[4]);
    check("a/split/b = 1\n a/split/c = 1\n a/split/d = 1", &["chance"], 3, &[]);
}

#[test]
fn unsupported_expressions_are_left_out() {
    let table = table([("a/domain", "a.test"), ("a/url_reg", "^/(a+)+$"), ("b/url_reg", "^/b")]);
    let [a, b] = table.services() else { panic!("the table takes both") };
    assert_eq!(unsupported(a).len(), 1);
    assert_eq!(unsupported(b).len(), 0);
    assert_eq!(all_text(&maps(table.services())), "* @~\na.test a\n\\A\\x40\\x7e\\n\\x2f[Bb] services:b|0|0\n");
}

#[test]
fn one_service_changes_few_entries() {
    let all = |extra: &str| {
        let keys: String = (0..50).map(|n| format!("s{n}/domain = s{n}.test\n s{n}/url_reg = ^/{n}[a-z]/\n")).collect();
        let maps = maps_of(&(keys + extra));
        let entries = |name: &MapName| {
            maps.entries(*name).into_iter().map(|(k, v)| (format!("{name:?} {k}"), v)).collect::<Vec<_>>()
        };
        MapName::ALL.iter().flat_map(entries).collect::<BTreeMap<_, _>>()
    };
    let check = |extra: &str, most: usize| {
        let (old, new) = (all(""), all(extra));
        let gone = old.iter().filter(|(key, value)| new.get(*key) != Some(value)).count();
        let came = new.iter().filter(|(key, value)| old.get(*key) != Some(value)).count();
        assert!(gone + came <= most, "{extra}: {gone} gone, {came} came");
    };
    check("a/domain = a.test", 2);
    check("a/domain = a.test\n a/priority = -7", 2);
    check("a/path = /x", 4);
    check("s7/url_beg = /x", 1);
    check("s7/priority = 3", 2);
    check("a/domain = s7.test", 5);
}

/// For a bench see `bench/`; this only fails if it comes to depend on the services' number squared.
#[test]
fn ten_thousand_services() {
    let keys: Vec<_> = (0..10_000)
        .flat_map(|n| {
            let path = if n % 2 == 0 { ("url_beg", "/a,/b") } else { ("path", "/x") };
            [(format!("s{n}/domain"), format!("s{n}.test")), (format!("s{n}/{}", path.0), path.1.to_owned())]
        })
        .collect();
    let table = table(pairs(&keys));
    let start = Instant::now();
    let maps = maps(table.services());
    let took = start.elapsed();
    println!("{took:?}");
    assert_eq!((maps.hosts.len(), maps.paths.len()), (10_000, 25_000));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn lookups_agree_with_the_table(keys in services()) {
        let table = table(pairs(&keys));
        let maps = maps(table.services());
        for host in REQUEST_HOSTS.iter().chain(&["@"]) {
            for target in TARGETS {
                let found = Lookup::find(&maps, host, target).map(|route| (route.backend.clone(), route.strip));
                prop_assert_eq!(found, expected(&table, host, target), "{}{} {:#?}\n{}", host, target, keys, all_text(&maps));
            }
        }
    }
}
