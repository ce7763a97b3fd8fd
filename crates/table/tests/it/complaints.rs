//! Problems that an engine finds: the full key, the value unless it is secret, the service.

use pointsman_table::{Problem, ProblemKind, Protocol};

use crate::compiled;

const KEYS: &str = "services/a/domain = a.test
    services/a/custom_settings = option x
    services/a/basic_auth_secrets = user u insecure-password hunter2
    tcp-services/t/ports = 1, 2
    config/errors/503 = sorry
    certs/a = hunter2";

#[track_caller]
fn check(problem: &Problem, service: &str, expected: &str) {
    let named = problem.service.as_ref().map(|(protocol, name)| format!("{protocol}/{name}")).unwrap_or_default();
    assert_eq!((named.as_str(), problem.to_string().as_str()), (service, expected));
}

#[test]
fn of_a_service() {
    let table = compiled(KEYS).table;
    let name = |text: &str| {
        let table = compiled(&format!("services/{text}/default = true")).table;
        table.services()[0].name.clone()
    };
    let rejected = |service: &str, key: &str| {
        table.key_problem(ProblemKind::Rejected, Protocol::Http, &name(service), key, "unknown keyword")
    };
    let rows = [
        ("a", "custom_settings", "services/a/custom_settings = \"option x\": rejected: unknown keyword"),
        ("a", "basic_auth_secrets", "services/a/basic_auth_secrets: rejected: unknown keyword"),
        ("a", "", "services/a: rejected: unknown keyword"),
        ("a", "cookie", "services/a/cookie: rejected: unknown keyword"),
        ("gone", "custom_settings", "services/gone/custom_settings: rejected: unknown keyword"),
    ];
    let quoting = "HAProxy refuses it: unknown keyword 'hunter2'";
    let secret = table.key_problem(ProblemKind::Rejected, Protocol::Http, &name("a"), "basic_auth_secrets", quoting);
    let expected = "HAProxy refuses it; the message may quote the value, which is secret";
    assert_eq!(&*secret.advice, expected);
    for (service, key, expected) in rows {
        check(&rejected(service, key), &format!("services/{service}"), &format!("/haproxy-x/{expected}"));
    }
}

#[test]
fn of_no_service() {
    let table = compiled(KEYS).table;
    let rows = [
        ("certs/a", "/haproxy-x/certs/a: engine: no room"),
        ("config/errors/503", "/haproxy-x/config/errors/503 = \"sorry\": engine: no room"),
        ("config", "/haproxy-x/config: engine: no room"),
        ("", "/haproxy-x: engine: no room"),
    ];
    for (key, expected) in rows {
        check(&table.tree_problem(ProblemKind::Engine, key, "no room"), "", expected);
    }
    let of_setting = Problem::of_setting(ProblemKind::Engine, "haproxy-template", "no such value");
    check(&of_setting, "", "--haproxy-template: engine: no such value");
    let nowhere = pointsman_table::Table::empty().tree_problem(ProblemKind::Engine, "", "no room");
    check(&nowhere, "", "/: engine: no room");
}

#[test]
fn of_a_listening_address() {
    let table = compiled(KEYS).table;
    for (index, port) in [(0, 1), (1, 2)] {
        let bind = table.tcp()[index].0;
        let problem = table.listen_problem(bind, "in use").expect("a service listens there");
        let expected = format!("ports = \"1, 2\": listen: cannot listen on 0.0.0.0:{port}: in use;");
        assert!(problem.to_string().contains(&expected), "{problem}");
    }
    let mut elsewhere = table.tcp()[0].0;
    elsewhere.port = 3;
    assert_eq!(table.listen_problem(elsewhere, "in use"), None);
}
