//! Random tables and requests, dense enough that rules meet. Knows nothing of who routes.

use std::sync::Arc;

use pointsman_table::{Capabilities, KeySet, Limits, Table, compile};
use proptest::prelude::*;
use proptest::sample::select;

/// A key below `services/` and its value.
pub(crate) type Keys = Vec<(String, String)>;

const NAMES: &[&str] = &["a", "b", "c", "d", "web", "a b", "ü|x", "Z", "a.test", "any", "default", "e", "f", "g"];

const HOSTS: &[&str] = &[
    "a.test",
    "b.test",
    "*.test",
    "*.a.test",
    "x.a.test",
    "a.test,b.test",
    "*.x.a.test",
    "test",
    "a.test,*.a.test",
    "[::1]",
    "*.b.c.d.e.test",
    "any",
    "default,b.test",
];

const PREFIXES: &[&str] = &[
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/ab",
    "/a/b/c",
    "/a?x",
    "/a,/b",
    "/b/c,/a/b",
    "//",
    "/a;b|c",
    "/a#",
    "/%2f",
    "/ü",
    "/a\\",
];

const SEGMENTS: &[&str] = &["/", "/a", "/a/", "/a/b", "/ab", "/a,/a/b/c", "/b,/", "//a"];

/// None of them needs a look behind, so that other engines than PCRE can check what is made of them.
const PATTERNS: &[&str] = &[
    "^/a",
    "b$",
    "/a/[a-c]",
    "x",
    "(/a|/b)/c",
    ".",
    "/ab?c",
    "^/zz/",
    "/q[0-9]+/r",
    "c/d|d/c",
    "^/(a|b)(/|$)",
    "",
    r"\bb\b",
    "^/[^/]+/[^/]+$",
    "^/[a-z]{1,2}/?$",
    r"(?-i)B",
    r"\.|;|\||%2F",
];

/// Hosts as requests have them.
pub(crate) const REQUEST_HOSTS: &[&str] = &[
    "a.test",
    "B.test:80",
    "x.a.test.",
    "y.x.a.test",
    "z.y.x.A.test:8080",
    "test",
    "",
    "q.test",
    ".a.test",
    "a..test",
    "[::1]",
    "[::1]:80",
    "q.b.c.d.e.test",
    "b.c.d.e.test",
    "any",
    "default.",
    "*",
    "a.test..",
    ":80",
    "a.test|",
    "~",
];

/// Targets as requests have them.
pub(crate) const TARGETS: &[&str] = &[
    "/", "/a", "/a/", "/ab", "/a/b", "/a/bc", "/a/b/c", "/a?x", "/a/b?x", "/B/c", "/zz/", "*", "/q1/r", "//", "//a/b",
    "/%2f", "/a;b|c/d", "/a|", "/a\\", "/?", "/x?/a/b", "/A/B/C/", "/a/./b", "/~@", "/a/b-c.x",
];

/// Keys of an HTTP service, always good.
fn key() -> impl Strategy<Value = (String, String)> {
    let pick = |name: &'static str, values: &'static [&'static str]| {
        select(values).prop_map(move |value| (name.to_owned(), value.to_owned()))
    };
    prop_oneof![
        5 => pick("domain", HOSTS),
        1 => pick("virtual_hosts", HOSTS),
        2 => pick("url_beg", PREFIXES),
        2 => pick("virtual_path", PREFIXES),
        1 => pick("keep_virtual_path", &["true", "false"]),
        2 => pick("path", SEGMENTS),
        2 => pick("url_reg", PATTERNS),
        1 => pick("match", &["any", "all"]),
        1 => pick("default", &["true", "false"]),
    ]
}

fn priority() -> impl Strategy<Value = &'static str> {
    select(&["-1", "0", "1", "2", "-9223372036854775808", "9223372036854775807"][..])
}

/// Services, in half of all cases with several priorities.
pub(crate) fn services() -> impl Strategy<Value = Keys> {
    let service = (select(NAMES), prop::collection::vec(key(), 1..5), priority());
    (any::<bool>(), prop::collection::vec(service, 0..15)).prop_map(|(priorities, services)| {
        let mut all = Keys::new();
        for (name, keys, priority) in services {
            all.extend(keys.into_iter().map(|(key, value)| (format!("{name}/{key}"), value)));
            all.extend(priorities.then(|| (format!("{name}/priority"), priority.to_owned())));
        }
        all
    })
}

/// The table of these keys below `services/`.
pub(crate) fn table<'a>(keys: impl IntoIterator<Item = (&'a str, &'a str)>) -> Arc<Table> {
    let mut key_set = KeySet::default();
    let entry = |(key, value): (&str, &str)| (format!("services/{key}").into(), value.as_bytes().into());
    key_set.reset(1, keys.into_iter().map(entry));
    let limits = Limits { capabilities: Capabilities::HAPROXY, ..Limits::default() };
    compile(&key_set, None, &limits).table
}
