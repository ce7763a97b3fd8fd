//! Rows: what runs, what is wanted, and the commands and reloads that lead there.

use std::path::Path;
use std::sync::Arc;

use pointsman_table::{KeySet, Limits, Protocol, compile};

use super::*;
use crate::maps::{Lot, Route};
use crate::model::Part;

/// `web=one@10.0.0.1:80,two@10.0.0.2:80/drain` and so on; a service whose name begins with `odd` is not plain, one
/// that begins with `fixed` is not elastic. Each is led to by the host of its name.
fn desired(services: &str) -> Desired {
    let mut desired = Desired::default();
    for service in services.split_whitespace() {
        let (name, servers) = service.split_once('=').unwrap();
        let backend: BackendName = format!("services:{name}").into();
        let route = Route { backend: backend.clone(), strip: 0, level: 0 };
        let maps = Arc::make_mut(&mut desired.maps);
        maps.hosts.insert(format!("{name}.test").into(), name.into());
        maps.paths.insert(format!("{name}|").into(), route);
        desired.backends.insert(backend, Arc::new(self::backend(name, servers)));
    }
    desired
}

fn backend(name: &str, servers: &str) -> Backend {
    let text = if name.starts_with("odd") { "  timeout server 1s\n" } else { "  balance roundrobin\n" };
    let servers = servers.split(',').filter(|text| !text.is_empty()).map(server);
    Backend {
        protocol: Protocol::Http,
        service: service_name(),
        options: [Part { text: text.into(), owner: None }].into(),
        servers: servers.collect(),
        sections: Arc::default(),
        elastic: !name.starts_with("fixed"),
    }
}

fn server(text: &str) -> Server {
    let (name, rest) = text.split_once('@').unwrap();
    let mut words = rest.split('/');
    let address: std::net::SocketAddr = words.next().unwrap().parse().unwrap();
    let mut server = Server {
        name: name.into(),
        address: Address::Socket(address.ip(), address.port()),
        weight: 1,
        max_connections: 0,
        drain: false,
        options: "".into(),
        check: false,
    };
    for word in words {
        match word.split_once('=') {
            Some(("weight", weight)) => server.weight = weight.parse().unwrap(),
            Some(("maxconn", most)) => server.max_connections = most.parse().unwrap(),
            _ if word == "drain" => server.drain = true,
            _ => server.options = word.into(),
        }
    }
    server
}

fn service_name() -> pointsman_table::ServiceName {
    let mut key_set = KeySet::default();
    key_set.reset(1, [("services/x/domain".into(), b"x.test".as_slice().into())]);
    compile(&key_set, None, &Limits::default()).table.services()[0].name.clone()
}

fn running(services: &str, spares: usize) -> Running {
    let names = (1..=spares).map(|number| format!("spare:{number}").into()).collect();
    Running::rendered(&desired(services), names, &backend("plain", "").options)
}

fn told(plan: &Plan) -> String {
    let lines = plan.commands.iter().flat_map(|command| command.lines(Path::new("")));
    let reasons = plan.reload.iter().map(|reason| format!("reload: {reason}"));
    lines.chain(reasons).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(before: &str, after: &str, expected: &[&str]) {
    let mut state = running(before, 1);
    let made = plan(&mut state, &desired(after));
    assert_eq!(told(&made), expected.join("\n"), "{before} -> {after}");
    if made.reload.is_empty() {
        assert_eq!(plan(&mut state, &desired(after)), Plan::default(), "{before} -> {after}: nothing is left to do");
    }
}

#[test]
fn instances() {
    check("a=one@10.0.0.1:80", "a=one@10.0.0.1:80", &[]);
    check(
        "a=one@10.0.0.1:80",
        "a=one@10.0.0.1:80,two@10.0.0.2:81/maxconn=5",
        &["add server services:a/two 10.0.0.2:81 maxconn 5", "set server services:a/two state ready"],
    );
    check("a=one@10.0.0.1:80,two@10.0.0.2:80", "a=two@10.0.0.2:80", &["set server services:a/one state maint"]);
    check(
        "a=one@10.0.0.1:80",
        "a=one@10.0.0.9:81",
        &[
            "add server services:a/one:-2 10.0.0.9:81",
            "set server services:a/one:-2 state ready",
            "set server services:a/one state maint",
        ],
    );
    check("a=one@10.0.0.1:80", "a=one@10.0.0.1:80/weight=5", &["set server services:a/one weight 5"]);
    check("a=one@10.0.0.1:80/weight=5", "a=one@10.0.0.1:80/weight=5/drain", &["set server services:a/one weight 0"]);
    check("a=one@10.0.0.1:80/weight=0", "a=one@10.0.0.1:80/drain", &[]);
    check("a=one@10.0.0.1:80", "a=one@10.0.0.1:80/maxconn=7", &["set maxconn server services:a/one 7"]);
    check(
        "a=one@10.0.0.1:80",
        "a=one@10.0.0.1:80/backup",
        &[
            "add server services:a/one:-2 10.0.0.1:80 backup",
            "set server services:a/one:-2 state ready",
            "set server services:a/one state maint",
        ],
    );
}

/// HAProxy 2.6: `'cookie' option is not accepted for dynamic server`.
#[test]
fn nobody_leaves_for_a_server_that_only_a_reload_can_bring() {
    let mut state = running("a=one@10.0.0.1:80", 1);
    let mut wanted = desired("a=one@10.0.0.1:80/cookie");
    let backend = wanted.backends.get_mut("services:a").map(Arc::make_mut).unwrap();
    (backend.elastic, backend.options) = (false, [Part::ours("  cookie x\n")].into());
    assert!(plan(&mut state, &wanted).commands.is_empty());
    let back = plan(&mut state, &desired("a=one@10.0.0.1:80,two@10.0.0.2:80"));
    assert!(back.reload.is_empty() && told(&back).starts_with("add server services:a/two"), "{}", told(&back));
}

#[test]
fn a_host_goes_on_while_who_shares_it_waits_for_a_reload() {
    let mut state = running("a=one@10.0.0.1:80", 1);
    let mut wanted = desired("a=one@10.0.0.1:80 odd=one@10.0.0.2:80");
    let maps = Arc::make_mut(&mut wanted.maps);
    maps.hosts.insert("a.test".into(), "@a.test".into());
    maps.hosts.remove("odd.test");
    let shared = maps.paths.remove("a|").unwrap();
    maps.paths.insert("@a.test|".into(), shared);
    let odd = maps.paths.remove("odd|").unwrap();
    maps.paths.insert("@a.test|/odd".into(), odd);
    let made = plan(&mut state, &wanted);
    assert_eq!(told(&made), "reload: the new backend services:odd");
}

#[test]
fn fixed_backends() {
    check("fixed=one@10.0.0.1:80", "fixed=one@10.0.0.2:80", &["set server services:fixed/one addr 10.0.0.2 port 80"]);
    let reload = "reload: the servers of services:fixed";
    check("fixed=one@10.0.0.1:80", "fixed=one@10.0.0.1:80,two@10.0.0.2:80", &[reload]);
    check("fixed=one@10.0.0.1:80", "fixed=one@10.0.0.1:80/weight=3", &[reload]);
}

#[test]
fn services_that_come_and_go() {
    let moves_in = [
        "add server spare:1/one 10.0.0.2:80",
        "set server spare:1/one state ready",
        "add map paths.map b| spare:1|0|0",
        "add map hosts.map b.test b",
    ];
    check("a=one@10.0.0.1:80", "a=one@10.0.0.1:80 b=one@10.0.0.2:80", &moves_in);
    check(
        "a=one@10.0.0.1:80 b=one@10.0.0.2:80",
        "a=one@10.0.0.1:80",
        &["del map hosts.map b.test", "del map paths.map b|", "set server services:b/one state maint"],
    );
    check("a=", "a= odd=one@10.0.0.2:80", &["reload: the new backend services:odd"]);
    check(
        "odd=one@10.0.0.1:80",
        "fixed=",
        &[
            "del map hosts.map odd.test",
            "del map paths.map odd|",
            "set server services:odd/one state maint",
            "reload: the new backend services:fixed",
        ],
    );
}

#[test]
fn what_needs_a_reload_holds_back_nothing_else() {
    check(
        "a=one@10.0.0.1:80",
        "a=one@10.0.0.1:80/weight=2 b= c=",
        &[
            "set server services:a/one weight 2",
            "add map paths.map b| spare:1|0|0",
            "add map hosts.map b.test b",
            "reload: the new backend services:c",
        ],
    );
}

#[test]
fn an_instance_that_comes_back_is_not_added_twice() {
    let mut state = running("a=one@10.0.0.1:80", 0);
    plan(&mut state, &desired("a="));
    assert_eq!(told(&plan(&mut state, &desired("a=one@10.0.0.1:80"))), "set server services:a/one state ready");
}

#[test]
fn an_instance_that_moves_to_and_fro_uses_what_is_there() {
    let mut state = running("a=one@10.0.0.1:80", 0);
    for (address, expected) in [
        ("10.0.0.2:80", "add server services:a/one:-2 10.0.0.2:80"),
        ("10.0.0.1:80", "set server services:a/one state ready"),
        ("10.0.0.3:80", "add server services:a/one:-3 10.0.0.3:80"),
        ("10.0.0.2:80", "set server services:a/one:-2 state ready"),
    ] {
        let made = plan(&mut state, &desired(&format!("a=one@{address}")));
        assert_eq!(told(&made).lines().next(), Some(expected), "{address}");
        assert_eq!(made.commands.len(), 2, "{address}: one comes, one goes");
    }
}

#[test]
fn a_service_that_comes_back_finds_its_backend() {
    let mut state = running("a=one@10.0.0.1:80", 0);
    plan(&mut state, &desired(""));
    let made = plan(&mut state, &desired("a=one@10.0.0.1:80"));
    assert!(made.reload.is_empty() && told(&made).contains("add map hosts.map a.test a"), "{}", told(&made));
}

/// Shares follow their backends into spares, and wait for those that the worker lacks.
#[test]
fn shares_point_to_backends_that_run() {
    let with_split = |services: &str, sides: &[(u64, &str)]| {
        let mut desired = desired(services);
        desired.frame = vec![Part { text: "map_str(splits.map)".into(), owner: None }];
        let sides = sides.iter().map(|(end, name)| (*end, format!("services:{name}").into())).collect();
        let maps = Arc::make_mut(&mut desired.maps);
        maps.splits.insert("services:a".into(), Lot::Shares { by: "header:x".into(), sides });
        maps.splits.insert("services:a|b".into(), Lot::Named("services:b".into()));
        desired
    };
    let (a, b) = ("a=one@10.0.0.1:80", "b=one@10.0.0.2:80");
    let lines = |running: &mut Running, desired: &Desired| {
        let told = told(&plan(running, desired));
        told.lines()
            .filter(|line| line.contains("splits.map") || line.contains("reload"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let mut running = running(a, 1);
    let both = format!("{a} {b}");
    let unknown = with_split(&both, &[(7, "b")]);
    let reload = "reload: listeners or global settings";
    assert_eq!(lines(&mut running, &unknown), reload, "no rule reads the map");
    running.frame = vec![Part { text: "map_str(splits.map)".into(), owner: None }];
    running.planned.maps = None;
    assert_eq!(
        lines(&mut running, &with_split(&both, &[(7, "b")])),
        "add map splits.map services:a header:x|7|spare:1\nadd map splits.map services:a|b spare:1"
    );
    assert_eq!(
        lines(&mut running, &with_split(&both, &[(9, "b")])),
        "set map splits.map services:a header:x|9|spare:1"
    );
    let more = format!("{both} odd=one@10.0.0.3:80");
    assert_eq!(
        lines(&mut running, &with_split(&more, &[(9, "b"), (12, "odd")])),
        "reload: the new backend services:odd"
    );
    assert_eq!(
        lines(&mut running, &desired(&both)),
        format!("del map splits.map services:a\ndel map splits.map services:a|b\n{reload}")
    );
}
