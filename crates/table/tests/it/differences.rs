//! What changed between two tables, in words.

use pointsman_table::{Fate, compile, differences};

use crate::{able_limits, key_set};

/// The lines of a change from these keys to those.
fn lines(before: &str, after: &str) -> Vec<String> {
    let old = compile(&key_set(before), None, &able_limits()).table;
    let new = compile(&key_set(after), Some(&old), &able_limits()).table;
    differences(&old, &new).iter().map(ToString::to_string).collect()
}

const SHOP: &str = "services/shop/domain = a.test
    services/shop/web-1 = 10.0.0.1:80
    services/shop/upstreams/web-2 = 10.0.0.2:80 weight=2 drain";

#[test]
fn each_key_that_changed_is_named() {
    for (before, after, expected) in [
        (SHOP, SHOP.to_owned(), vec![]),
        (
            SHOP,
            "services/shop/domain = b.test
             services/shop/web-1 = 10.0.0.1:80 weight=2
             services/shop/web-3 = 10.0.0.3:80
             services/shop/upstreams/web-2 = 10.0.0.9:80 weight=2 maxconn=5"
                .to_owned(),
            vec![
                "services/shop: domain a.test -> b.test, address of web-2 10.0.0.2:80 -> 10.0.0.9:80, \
                 maxconn of web-2 none -> 5, drain of web-2 on -> off, weight of web-1 1 -> 2, +web-3",
            ],
        ),
        (SHOP, String::new(), vec!["services/shop removed"]),
        ("", SHOP.to_owned(), vec!["services/shop added: domain = a.test, +web-2, +web-1"]),
        (SHOP, SHOP.replace("10.0.0.1:80", "  10.0.0.1:80  "), vec![]),
        (SHOP, SHOP.replace("10.0.0.1:80", ""), vec!["services/shop: -web-1"]),
        (SHOP, SHOP.replace("a.test", "b.test, c.test"), vec!["services/shop: domain a.test -> \"b.test, c.test\""]),
        (SHOP, SHOP.replace("10.0.0.1:80", "10.0.0.1:80x"), vec!["services/shop: web-1 10.0.0.1:80 -> 10.0.0.1:80x"]),
        (
            "tcp-services/db/port = 1\ntcp-services/db/a = h:1\nconfig/timeout/connect = 1s",
            "tcp-services/db/port = 2\ntcp-services/db/a = h:1\nconfig/errors/503 = <h1>Back soon</h1>".to_owned(),
            vec![
                "tcp-services/db: port 1 -> 2",
                "config: errors/503 = \"<h1>Back soon</h1>\", timeout/connect removed",
            ],
        ),
    ] {
        assert_eq!(lines(before, &after), expected, "{before} => {after}");
    }
}

#[test]
fn no_secret_is_shown() {
    let keys = |secret: &str| {
        let keys = [
            ("services/a/domain", "a.test"),
            ("services/a/one", "h:1"),
            ("services/a/basic_auth_secrets", &format!("user {secret} insecure-password {secret}")),
            ("services/a/basic_auth_secret", secret),
            ("services/a/password", secret),
            ("services/a/custom_settings", &format!("http-request set-header authorization {secret}")),
            ("certs/a", secret),
        ];
        keys.map(|(key, value)| format!("{key} = {value}")).join("\n")
    };
    for (before, after) in
        [("", keys("hunter2")), (&*keys("hunter1"), keys("hunter2")), (&*keys("hunter2"), String::new())]
    {
        let lines = lines(before, &after).join("\n");
        assert!(!lines.is_empty() && !lines.contains("hunter"), "{lines}");
    }
    let changed = lines(&keys("hunter1"), &keys("hunter2"));
    assert!(changed[0].contains("basic_auth_secrets changed") && changed[1] == "certs: a changed", "{changed:?}");
}

#[test]
fn a_long_change_is_cut_short() {
    let many = |count: u32| (0..count).map(|at| format!("services/a/i-{at:02} = h:1\n")).collect::<String>();
    assert!(lines(&many(1), &many(20))[0].ends_with("+i-07, +i-08, 11 more"));
    let long = format!("services/a/domain = {}.test", "a".repeat(200));
    assert_eq!(lines(&long, "services/a/domain = b.test"), ["services/a: domain changed"]);
}

#[test]
fn services_that_come_and_go_are_told_apart() {
    let old = compile(&key_set("services/a/one = h:1\nservices/b/one = h:1"), None, &able_limits()).table;
    let new = compile(&key_set("services/b/one = h:2\nservices/c/one = h:1"), Some(&old), &able_limits()).table;
    let fates: Vec<_> = differences(&old, &new).iter().map(|difference| difference.fate()).collect();
    assert_eq!(fates, [Fate::Removed, Fate::Changed, Fate::Added]);
}
