//! What handshakes ask clients for, by server name.

use pointsman_table::{Asking, KeySet, compile};

use super::{entries, limits};

const A: &str = include_str!("../certificates/authority.pem");
const B: &str = include_str!("../certificates/nameless.pem");

/// `ask`: the server names, each with the number of authorities and `required`, `optional` or nothing; `-`: no name.
/// `*.a.test` stands for the names below it that no service has.
#[track_caller]
fn check(keys: &str, ask: &[(&str, &str)]) {
    let pem = |value: Box<[u8]>| -> Box<[u8]> {
        match &*value {
            b"A" => A.as_bytes().into(),
            b"B" => B.as_bytes().into(),
            _ => value,
        }
    };
    let mut key_set = KeySet::default();
    key_set.reset(1, entries(keys).into_iter().map(|(key, value)| (key, pem(value))));
    let compiled = compile(&key_set, None, &limits());
    assert_eq!(compiled.problems, [], "{keys}");
    let asking = Asking::of(compiled.table.services());
    for (name, expected) in ask {
        let found = match name.strip_prefix("*.") {
            Some(suffix) => asking.below(suffix),
            None => asking.find(Some(*name).filter(|name| *name != "-")),
        };
        let said = found.map_or_else(String::new, |asked| {
            let verify = if asked.is_required { "required" } else { "optional" };
            format!("{} {verify}", asked.authorities.len())
        });
        assert_eq!(said, *expected, "{name} with {keys}");
    }
}

#[test]
fn a_name_asks_for_what_its_services_ask_for() {
    let a = "services/a/domain = a.test
        services/a/client_ca = A\n";
    check(a, &[("a.test", "1 required"), ("b.test", ""), ("x.a.test", ""), ("-", "")]);
    check(&format!("{a}services/a/client_verify = optional"), &[("a.test", "1 optional"), ("-", "")]);
    check(&format!("{a}services/z/default = true"), &[("a.test", "1 required"), ("z.test", "")]);
    check(&format!("{a}services/z/path = /z"), &[("a.test", "1 required"), ("z.test", "")]);
    let by_path = format!("{a}services/a/path = /a\n");
    check(&by_path, &[("a.test", "1 required")]);
    check(&format!("{by_path}services/z/default = true"), &[("a.test", "1 optional"), ("z.test", "")]);
    let z = "services/z/domain = a.test\n services/z/path = /z\n";
    check(&format!("{by_path}{z}"), &[("a.test", "1 optional")]);
    check(&format!("{by_path}{z}services/z/client_ca = B"), &[("a.test", "2 required")]);
    check(&format!("{by_path}{z}services/z/client_ca = A"), &[("a.test", "1 required")]);
}

#[test]
fn priority_and_match_any_let_others_in() {
    let a = "services/a/domain = a.test
        services/a/client_ca = A\n";
    check(&format!("{a}services/z/path = /z\n services/z/priority = 1"), &[("a.test", "1 optional"), ("z.test", "")]);
    check(&format!("{a}services/z/path = /z\n services/z/priority = -1"), &[("a.test", "1 required")]);
    check("services/a/path = /a\n services/a/client_ca = A", &[("a.test", "1 required"), ("-", "1 required")]);
    let either = "services/a/domain = a.test
        services/a/path = /a
        services/a/match = any
        services/a/client_ca = A\n";
    check(either, &[("a.test", "1 required"), ("b.test", "1 required"), ("-", "1 required")]);
    check(
        &format!("{either}services/b/domain = b.test"),
        &[("a.test", "1 required"), ("b.test", ""), ("c.test", "1 required")],
    );
}

#[test]
fn what_takes_some_requests_leaves_the_others_to_other_services() {
    let admin = "services/admin/domain = www.shop.test
        services/admin/method = DELETE
        services/admin/client_ca = A
        services/shop/domain = *.shop.test\n";
    check(admin, &[("www.shop.test", "1 optional"), ("x.shop.test", "")]);
    let canary = "services/canary/domain = shop.test
        services/canary/header/X-Canary = 1
        services/canary/priority = 10
        services/shop/domain = shop.test
        services/shop/client_ca = A\n";
    check(canary, &[("shop.test", "1 optional")]);
}

#[test]
fn wildcards_ask_below_their_name() {
    let below = "services/a/domain = *.w.test
        services/a/client_ca = A
        services/x/domain = x.w.test\n";
    check(
        below,
        &[("y.w.test", "1 required"), ("p.q.w.test", "1 required"), ("x.w.test", ""), ("w.test", ""), ("-", "")],
    );
    check(
        &format!("{below}services/x/path = /x"),
        &[("x.w.test", "1 optional"), ("y.w.test", "1 required"), ("z.x.w.test", "1 required")],
    );
    check(
        &format!("{below}services/q/domain = *.q.w.test\n services/q/client_ca = B"),
        &[("p.q.w.test", "1 required"), ("y.w.test", "1 required")],
    );
}

#[test]
fn names_that_no_service_has_ask_for_what_the_nearest_wildcard_asks_for() {
    let keys = "services/a/domain = *.a.test
        services/a/client_ca = A
        services/b/domain = *.x.a.test,y.a.test\n";
    check(keys, &[("*.a.test", "1 required"), ("*.z.a.test", "1 required"), ("*.x.a.test", ""), ("*.test", "")]);
    check(keys, &[("y.a.test", ""), ("z.a.test", "1 required"), ("q.x.a.test", "")]);
}
