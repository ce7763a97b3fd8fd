//! Instances, ports, balance and waits of a service, for HTTP and TCP.

use pointsman_table::{Compiled, Instance, Protocol, Service, compile};

use crate::{able_limits, changes, compiled, compiled_for_haproxy, key_set};

fn describe(service: &Service) -> String {
    let instance = |i: &Instance| {
        let mut words = format!("{}={}", i.name, i.target);
        if i.weight != 1 {
            words += &format!(" weight={}", i.weight);
        }
        if let Some(most) = i.max_connections {
            words += &format!(" maxconn={most}");
        }
        for (set, word) in [(i.backup, " backup"), (i.drain, " drain"), (i.tls, " tls")] {
            words += if set { word } else { "" };
        }
        words
    };
    service.instances.iter().map(instance).collect::<Vec<_>>().join(", ")
}

fn check(keys: &str, expected: &str) {
    let compiled = compiled(keys);
    let table = &compiled.table;
    let service = table.service(Protocol::Http, "s").or_else(|| table.service(Protocol::Tcp, "s")).expect("s serves");
    assert_eq!(describe(service), expected, "{keys}");
}

#[test]
fn values_and_default_ports() {
    let http = |keys: &str| format!("services/s/domain = s.test\n{keys}");
    check(&http("services/s/b = 10.0.0.1\nservices/s/upstreams/a = web.test:81"), "a=web.test:81, b=10.0.0.1:80");
    check(&http("services/s/port = 8080\nservices/s/a = 10.0.0.1"), "a=10.0.0.1:8080");
    check(
        &http("services/s/a = [::1]:81 weight=0 maxconn=7 backup drain"),
        "a=[::1]:81 weight=0 maxconn=7 backup drain",
    );
    check(&http("services/s/a = unix:/run/a.sock weight=2"), "a=unix:/run/a.sock weight=2");
    check(&http("services/s/upstreams/domain = 10.0.0.1"), "domain=10.0.0.1:80");
    check(&http("services/s/a = 10.0.0.1\nservices/s/upstreams/a = 10.0.0.2"), "a=10.0.0.2:80");
    check(&http("services/s/a = 10.0.0.1\nservices/s/upstreams/a ="), "a=10.0.0.1:80");
    check(&http("services/s/a =\nservices/s/upstreams =\nservices/s/ ="), "");
    check("tcp-services/s/port = 5432\ntcp-services/s/a = 10.0.0.1", "a=10.0.0.1:5432");
    check("tcp-services/s/ports = 10.0.0.9:5432,6432\ntcp-services/s/a = db.test", "a=db.test:5432");
    check("tcp-services/s/external_port = 5432\ntcp-services/s/internal_port = 1\ntcp-services/s/a = db", "a=db:1");
}

#[test]
fn instances_that_speak_tls() {
    let http = "services/s/domain = s.test\nservices/s/a = 10.0.0.1:443 tls\nservices/s/tls_ca = system";
    check(http, "a=10.0.0.1:443 tls");
    check("tcp-services/s/port = 1\ntcp-services/s/a = 10.0.0.1 tls", "a=10.0.0.1:1 tls");
}

#[test]
fn balance_and_waits() {
    let compiled = compiled(
        "services/h/domain = h.test
         tcp-services/t/port = 1
         services/u/domain = u.test
         services/u/balance = hdr(X-User)
         services/u/timeout/connect = 1s
         services/u/bounded = 125%
         services/u/slow_start = 9s
         config/slow_start = 30s
         config/timeout/server = 7s",
    );
    let said = |protocol, name: &str| {
        let service = compiled.table.service(protocol, name).expect("it serves");
        let waits = service.timeouts;
        let slow = waits.slow_start.expect("all have it");
        format!("{} {:?} {:?} {:?} {slow:?}", service.balance, service.bounded, waits.connect, waits.server)
    };
    assert_eq!(said(Protocol::Http, "h"), "roundrobin None 5s 7s 30s");
    assert_eq!(said(Protocol::Tcp, "t"), "leastconn None 5s 7s 30s");
    assert_eq!(said(Protocol::Http, "u"), "hdr(X-User) Some(125) 1s 7s 9s");
}

fn check_ports(keys: &str, expected: &str) {
    let compiled = compiled(keys);
    let table = &compiled.table;
    let bind = |&(bind, at): &(_, u32)| format!("{bind} {}", table.services()[at as usize].name);
    assert_eq!(table.tcp().iter().map(bind).collect::<Vec<_>>().join(", "), expected, "{keys}");
}

#[test]
fn listening_ports() {
    check_ports(
        "services/web/domain = web.test
         tcp-services/a/port = 2
         tcp-services/a/external_port = 10.0.0.1:1, 2
         tcp-services/a/ports = [::1]:3",
        "0.0.0.0:2 a, 10.0.0.1:1 a, [::1]:3 a",
    );
    check_ports("tcp-services/a/port = 1\ntcp-services/b/port = 10.0.0.1:1,2", "0.0.0.0:1 a, 0.0.0.0:2 b");
    check_ports("tcp-services/a/port = 10.0.0.1:1\ntcp-services/b/port = 10.0.0.2:1", "10.0.0.1:1 a, 10.0.0.2:1 b");
    check_ports("tcp-services/a/port = 10.0.0.1:80,8404,81", "0.0.0.0:81 a");
    // The wildcard of IPv4 leaves IPv6 addresses free; that of IPv6 takes both.
    check_ports("tcp-services/a/port = [::1]:80", "[::1]:80 a");
    check_ports("tcp-services/a/port = [::]:80", "");
    check_ports("tcp-services/a/port = [::]:1\ntcp-services/b/port = 10.0.0.1:1", "[::]:1 a");
}

/// Who takes which server name on each address; `-` is whatever else comes.
fn check_sni(keys: &str, expected: &str) {
    let table = compiled_for_haproxy(keys).table;
    let name = |at: u32| &table.services()[at as usize].name;
    let of_bind = |&(bind, at): &(_, u32)| {
        let names = table.sni(bind).iter().map(|(pattern, at)| format!(" {pattern}={}", name(*at)));
        let takes_rest = table.services()[at as usize].sni().is_empty();
        let rest = if takes_rest { format!(" -={}", name(at)) } else { String::new() };
        format!("{bind}{}{rest}", names.collect::<String>())
    };
    assert_eq!(table.tcp().iter().map(of_bind).collect::<Vec<_>>().join(", "), expected, "{keys}");
}

#[test]
fn services_share_a_port_by_server_name() {
    check_sni("tcp-services/a/port = 1\ntcp-services/a/sni = b.test,*.a.test", "0.0.0.0:1 b.test=a *.a.test=a");
    check_sni(
        "services/web/domain = web.test
         tcp-services/a/port = 1
         tcp-services/a/sni = A.test
         tcp-services/b/ports = 1, 2
         tcp-services/c/port = 1
         tcp-services/c/sni = *.test, a.test
         tcp-services/d/ports = 1, 3",
        "0.0.0.0:1 a.test=a *.test=c -=b, 0.0.0.0:2 -=b, 0.0.0.0:3 -=d",
    );
    check_sni(
        "tcp-services/a/port = 1
         tcp-services/b/ports = 1
         tcp-services/b/sni = b.test
         tcp-services/c/ports = 10.0.0.1:1
         tcp-services/c/sni = c.test",
        "0.0.0.0:1 b.test=b -=a",
    );
}

#[test]
fn connections_go_by_the_most_specific_name() {
    let table = compiled(
        "services/web/domain = web.test
         tcp-services/exact/port = 1
         tcp-services/exact/sni = a.x.test
         tcp-services/near/port = 1
         tcp-services/near/sni = *.x.test
         tcp-services/far/ports = 1, 2
         tcp-services/far/sni = *.test
         tcp-services/rest/port = 1
         tcp-services/rest/tls = terminate",
    )
    .table;
    let check = |port: u16, name: Option<&str>, expected: &str| {
        let bind = table.tcp().iter().map(|(bind, _)| *bind).find(|bind| bind.port == port).unwrap();
        let found = table.named(bind, name).map(|at| table.services()[at as usize].name.as_str());
        assert_eq!(found.unwrap_or_default(), expected, "{port}: {name:?}");
    };
    check(1, Some("a.x.test"), "exact");
    check(1, Some("A.X.Test."), "exact");
    check(1, Some("b.x.test"), "near");
    check(1, Some("c.b.x.test"), "near");
    check(1, Some("x.test"), "far");
    check(1, Some("test"), "rest");
    check(1, Some(""), "rest");
    check(1, Some("\u{fffd}.test"), "far");
    check(1, None, "rest");
    check(2, Some("x.test"), "far");
    check(2, Some("x.other"), "");
    check(2, None, "");
    let ends: Vec<_> =
        table.services().iter().filter(|service| service.terminates()).map(|service| service.name.as_str()).collect();
    assert_eq!(ends, ["rest"]);
}

#[test]
fn keys_for_other_engines_reach_the_model_when_honoured() {
    let keys = "services/s/domain = s.test
        services/s/cookie =
        services/s/basic_auth_secrets = user a insecure-password hunter2
        services/s/dns = srv:_http._tcp.s.test
        services/s/health_check_uri = /up
        services/s/health_check_port = 81
        services/s/scheme = https
        services/s/custom_settings = option httpchk
        tcp-services/t/port = 443
        tcp-services/t/sni = *.t.test";
    let compiled = compiled_for_haproxy(keys);
    assert_eq!(compiled.problems, []);
    let [http, tcp] = compiled.table.services() else { panic!("{:?}", compiled.table.services()) };
    let said = format!("{http:?} {tcp:?}");
    for expected in [
        "Srv(\"_http._tcp.s.test\")",
        "KONTENA_SERVERID",
        "/up",
        "Some(81)",
        "scheme: Https",
        "option httpchk",
        "Wildcard(\"t.test\")",
    ] {
        assert!(said.contains(expected), "{said} lacks {expected}");
    }
    assert_eq!(http.cookie().map(ToString::to_string).as_deref(), Some("KONTENA_SERVERID insert indirect nocache"));
    assert_eq!(http.basic_auth().map(|list| list.users.len()), Some(1));
    assert_eq!(tcp.policy, None);
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn configuration() {
    let compiled = compiled(
        "config/timeout/connect = 100ms
         config/timeout/head = 1s
         config/timeout/keep_alive = 2s
         config/timeout/client = 3s
         config/timeout/server = 4s
         config/timeout/tunnel = 2h
         config/timeout/drain = 6m
         config/slow_start = 30s
         config/limit/connections = 1000
         config/limit/head_bytes = 1024
         config/limit/headers = 256
         config/health_uri = /healthz
         config/health_check = tcp
         config/health_check_interval = 5s
         config/health_check_fall = 4
         config/trusted_proxies = 10.1.0.0/8
         config/accept_proxy = 192.0.2.0/24
         config/tls_min_version = 1.3
         config/tls_strict_sni = true
         config/errors/503 = <h1>Back soon</h1>
         config/errors/404 = gone",
    );
    let config = compiled.table.config();
    assert_eq!(compiled.problems, []);
    assert_eq!(
        format!("{config:?}"),
        "Config { timeouts: Timeouts { connect: 100ms, head: 1s, keep_alive: 2s, client: 3s, server: 4s, \
         tunnel: 7200s, drain: 360s, slow_start: Some(30s) }, bounds: Bounds { retries: None, request: None, \
         requests: None, queue: None, queue_wait: None }, max_connections: Some(1000), head_bytes: 1024, headers: 256, \
         streams: 128, request_id: false, health_uri: Some(\"/healthz\"), eject: None, panic: None, \
         health_check: CheckKeys { way: Some(Tcp), uri: None, port: None, method: None, host: None, \
         expect: None, interval: Some(5s), timeout: None, rise: None, fall: Some(4) }, \
         trusted_proxies: Networks([10.0.0.0/8]), accept_proxy: Networks([192.0.2.0/24]), \
         tls_min_version: V1_3, tls_strict_sni: true, acme: AcmeTerms { directory: \"https://acme-v02.api.letsencrypt.org/directory\", \
         contact: [], agree: false, auto: false, challenge: Http, check: Some(80), on_demand: None, key: P256, profile: None, \
         eab: None }, errors: [(404, Page { body: \"gone\", \
         text: Text([Literal(\"gone\")]) }), (503, Page { body: \"<h1>Back soon</h1>\", \
         text: Text([Literal(\"<h1>Back soon</h1>\")]) })] }"
    );
}

/// A name that instances come from makes a service as full as an instance does, before it resolves.
#[test]
fn a_service_fed_by_a_name_keeps_its_rule_and_its_port() {
    let keys = "services/a/domain = x.test
        services/a/dns = web.test
        services/b/domain = x.test
        services/b/i = 10.0.0.1
        tcp-services/a/port = 1
        tcp-services/a/dns = db.test
        tcp-services/b/port = 1
        tcp-services/b/i = 10.0.0.1:1";
    let winners = |compiled: &Compiled| {
        let table = &compiled.table;
        let route = table.route("x.test", "/").expect("a route");
        let (_, tcp) = table.tcp()[0];
        [route.service, tcp].map(|index| table.services()[index as usize].name.to_string())
    };
    assert_eq!(winners(&compiled_for_haproxy(keys)), ["a", "a"]);
    assert_eq!(winners(&compiled(keys)), ["a", "a"]);
    // The same when the name comes later.
    let mut key_set = key_set(keys);
    key_set.apply(2, changes("- services/a/dns\n- tcp-services/a/dns"));
    let without = compile(&key_set, None, &able_limits());
    assert_eq!(winners(&without), ["b", "b"]);
    key_set.apply(3, changes("services/a/dns = web.test\ntcp-services/a/dns = db.test"));
    assert_eq!(winners(&compile(&key_set, Some(&without.table), &able_limits())), ["a", "a"]);
}
