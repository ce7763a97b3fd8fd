//! Every kind of problem, with its full key, its value and its advice; and that others never notice.

use pointsman_table::{Compiled, KNOWN_KEYS, Limits, Protocol, Tree, compile};

use crate::{compiled, compiled_for_haproxy, key_set, limits, problem_lines};

/// The problems of these keys beside a good service, and whether the services named still serve.
fn check(keys: &str, serves: &str, expected: &[&str]) {
    check_with(compiled, keys, serves, expected);
}

/// The same where the engine honours everything.
fn check_for_haproxy(keys: &str, serves: &str, expected: &[&str]) {
    check_with(compiled_for_haproxy, keys, serves, expected);
}

fn check_with(compiled: fn(&str) -> Compiled, keys: &str, serves: &str, expected: &[&str]) {
    let compiled = compiled(&format!("{keys}\nservices/good/domain = good.test\nservices/good/a = 10.0.0.1:80"));
    let lines = problem_lines(&compiled);
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "{line} is not {expected}");
    }
    let served = compiled.table.services().iter().filter(|service| !service.closed);
    let names: Vec<_> = served.map(|service| service.name.as_str()).collect();
    let expected: Vec<_> = serves.split_whitespace().collect();
    assert_eq!(names, expected, "{keys}");
    assert_eq!(compiled.table.service(Protocol::Http, "good").expect("it serves").instances.len(), 1);
}

#[test]
fn the_line_an_operator_reads() {
    check(
        "services/shop/domain = shop.test\nservices/shop/port = eighty",
        "good",
        &["services/shop/port = \"eighty\": bad value: expected a port between 1 and 65535"],
    );
}

#[test]
fn bad_values() {
    let rows = [
        ("domain", "http://a.test", "expected a host name"),
        ("domain", "a b", "expected a host name"),
        ("virtual_hosts", "a.test/x", "expected a host name"),
        ("url_beg", "api", "expected a prefix that starts with /"),
        ("virtual_path", "/a b", "expected a prefix without white space"),
        ("path", "/a?b", "expected a path without a query"),
        ("url_reg", "(", "expected a regular expression: unclosed group"),
        ("url_reg", "((a{999}){999}){999}", "expected a smaller regular expression"),
        ("url_reg", "a[ab]{300}[^ab]", "expected a smaller regular expression, one that never holds a request up"),
        ("priority", "high", "expected an integer"),
        ("match", "both", "expected all or any"),
        ("default", "yes", "expected true or false"),
        ("keep_virtual_path", "1", "expected true or false"),
        ("abort", "never", "expected true or false"),
        ("port", "0", "expected a port"),
        ("balance", "fastest", "expected roundrobin, static-rr"),
        ("bounded", "125%", "balance roundrobin has no use for it"),
        ("slow_start", "soon", "expected a duration such as"),
        ("protocol", "h3", "expected http1 or h2"),
        ("dns", "a b", "expected a host name, or srv:"),
        ("health_check_uri", "up", "expected a path that starts with /"),
        ("health_check_port", "x", "expected a port"),
        ("health_check", "on", "expected http, tcp, grpc or off"),
        ("health_check", "grpc", "expected protocol=h2 too"),
        ("health_check_method", "get", "expected a method in capital letters"),
        ("health_check_host", "a b", "expected a host name"),
        ("health_check_expect", "2xx", "expected statuses and ranges"),
        ("health_check_interval", "10ms", "expected a duration of at least 100ms"),
        ("health_check_timeout", "2m", "expected a duration of at most 60s"),
        ("health_check_rise", "0", "expected a number from 1 to 100"),
        ("health_check_fall", "many", "expected a number from 1 to 100"),
        ("scheme", "ftp", "expected http, https or http-and-https"),
        ("client_ca", "ca.pem", "expected certificates: blocks that begin with -----BEGIN"),
        ("client_verify", "required", "expected client_ca too"),
        ("client_verify", "yes", "expected required or optional"),
        ("hsts", "for ever", "expected a duration such as 365d, then includeSubDomains"),
        ("cors", "app.test", "expected * or origins such as https://app.test"),
        ("request_id", "yes", "expected true or false"),
        ("redirect", "https://b.test", "expected a status (301, 302, 303, 307 or 308)"),
        ("redirect", "301 {scheme}://s.test{uri}", "it leads requests onto themselves"),
        ("rewrite", "/old", "expected lines PREFIX REPLACEMENT"),
        ("rewrite", "~a[ab]{300}[^ab] /x", "expected a smaller regular expression"),
        ("request_headers", "set Content-Length 1", "Content-Length cannot be changed"),
        ("request_headers", "remove Host", "expected set for Host"),
        ("response_headers", "set Host a", "expected set for Host"),
        ("response_headers", "set X-A {hosts}", "unknown placeholder {hosts}"),
        ("compress", "true", "expected on, or content types such as text/html"),
        ("compress", "text/*", "expected each content type by its name, such as text/html"),
        ("compress", "on,text/event-stream", "text/event-stream is never compressed"),
        ("timeout/connect", "5", "expected a duration such as"),
        ("timeout/server", "0s", "expected a duration longer than 0"),
        ("timeout/tunnel", "721h", "expected a duration of at most 720h"),
    ];
    for (key, value, advice) in rows {
        let good = if key == "domain" { "" } else { "services/s/domain = s.test" };
        let line = format!("services/s/{key} = \"{value}\": bad value: {advice}");
        check(&format!("{good}\nservices/s/{key} = {value}"), "good", &[&line]);
    }
}

#[test]
fn bad_values_of_tcp_services_and_configuration() {
    let rows = [
        ("tcp-services/s/port", "a:1", "expected PORT or ADDRESS:PORT"),
        ("tcp-services/s/external_port", "70000", "expected PORT or ADDRESS:PORT"),
        ("tcp-services/s/ports", "1,,x", "expected PORT or ADDRESS:PORT"),
        ("tcp-services/s/internal_port", "1,2", "expected a port"),
        ("tcp-services/s/balance", "uri", "expected roundrobin, static-rr, leastconn, first, source, random or p2c"),
        ("tcp-services/s/sni", "a/b", "expected a host name"),
        ("tcp-services/s/tls", "true", "expected terminate"),
        ("config/timeout/drain", "never", "expected a duration"),
        ("config/slow_start", "0s", "expected a duration longer than 0"),
        ("config/limit/connections", "0", "expected a number from 1"),
        ("config/limit/head_bytes", "1023", "expected a number from 1024 to 1048576"),
        ("config/limit/headers", "257", "expected a number from 1 to 256"),
        ("config/request_id", "1", "expected true or false"),
        ("config/health_uri", "x", "expected a path"),
        ("config/health_check", "grpc", "expected http, tcp or off; set grpc at each service"),
        ("config/health_check_timeout", "2m", "expected a duration of at most 60s"),
        ("config/tls_min_version", "1.1", "expected 1.2 or 1.3"),
        ("config/tls_strict_sni", "yes", "expected true or false"),
        ("config/errors/200", "ok", "expected errors/<status> with a status from 400 to 599"),
        ("config/errors/0404", "x", "expected errors/<status>"),
    ];
    for (key, value, advice) in rows {
        let setting = key.strip_prefix("tcp-services/s/").unwrap_or_default();
        let listens = matches!(setting, "internal_port" | "balance" | "sni" | "tls");
        let port = if listens { "tcp-services/s/port = 1\n" } else { "" };
        check(&format!("{port}{key} = {value}"), "good", &[&format!("{key} = \"{value}\": bad value: {advice}")]);
    }
}

#[test]
fn every_reason_is_listed() {
    check(
        "services/s/domain = a b\nservices/s/port = x\nservices/s/priority = y\nservices/s/i = 10.0.0.1:x",
        "good",
        &[
            "s/domain = \"a b\": bad value",
            "s/i = \"10.0.0.1:x\": bad instance",
            "s/port = \"x\": bad value",
            "s/priority = \"y\": bad value",
        ],
    );
}

#[test]
fn bad_instances_are_left_out() {
    check(
        "services/s/domain = s.test
         services/s/a = 10.0.0.1:80
         services/s/b = 10.0.0.300
         services/s/upstreams/c = 10.0.0.1 weight=300
         services/s/upstreams/a = 10.0.0.2:80",
        "good s",
        &[
            "services/s/a = \"10.0.0.1:80\": bad instance: upstreams/ has an instance of the same name",
            "services/s/b = \"10.0.0.300\": bad instance: expected ADDRESS[:PORT]",
            "services/s/upstreams/c = \"10.0.0.1 weight=300\": bad instance: expected a weight from 0 to 256",
        ],
    );
}

#[test]
fn no_rule() {
    check(
        "services/ghost/ghost-1 = 10.0.0.1:80",
        "good",
        &["services/ghost: no rule: no request can reach this service"],
    );
    check("tcp-services/db/a = 10.0.0.1:80", "good", &["tcp-services/db: no rule: this service has no port"]);
    check("services/s/default = false\nservices/s/match = any", "good", &["services/s: no rule"]);
    check("services/empty =\nservices/empty/ =\nservices/empty/upstreams =\nservices/empty/domain =", "good", &[]);
}

#[test]
fn unknown_keys() {
    let rows = [
        ("services/s/virtual_host", "a.test", "did you mean virtual_hosts?"),
        ("services/s/domains", "a.test", "did you mean domain?"),
        ("services/s/upstreams/a/b", "10.0.0.1", "did you mean upstreams/<instance>?"),
        ("services/s/timeout/conect", "5s", "did you mean timeout/connect?"),
        ("services/s/x/y", "1", "no balancer reads it"),
        ("services/s/upstream/red", "10.0.0.1", "did you mean upstreams/red?"),
        ("services/s/timeout/foo", "5s", "timeout/ has connect, queue, request, server and tunnel"),
        (
            "config/timeout/foo",
            "5s",
            "timeout/ has connect, queue, request, head, keep_alive, client, server, tunnel and drain",
        ),
        (
            "services/s/external_port",
            "80",
            "no balancer reads it in services/; if this is an instance, write it below upstreams/",
        ),
        ("services/s/upstreams", "10.0.0.1", "did you mean upstreams/<instance>?"),
        ("services/s", "x", "a service is a directory"),
        ("config/limits/headers", "1", "did you mean limit/headers?"),
        ("config/colour", "red", "no balancer reads it"),
    ];
    for (key, value, advice) in rows {
        let keys = format!("services/s/domain = s.test\n{key} = {value}");
        check(&keys, "good s", &[&format!("{key} = \"{value}\": unknown key: {advice}")]);
    }
    check("services//domain = a.test", "good", &["services//domain: unknown key: the service has no name"]);
    check("barrier = 1\nconfig = x\nservices = x\n = x\n/notes = x", "good", &[]);
    let strays = "notes = x\nservice/s/domain = a.test\nservice/s/port = 80\nempty/x =\nbarrier/x = 1";
    let advice = ["barrier: unknown key: no balancer reads", "notes: unknown key: ", "service: unknown key: "];
    check(strays, "good", &advice);
}

#[test]
fn shadowed() {
    check(
        "services/a/domain = a.test,b.test
         services/b/domain = b.test
         services/b/virtual_hosts = a.test
         services/c/url_beg = /x
         services/d/path = /x
         services/e/virtual_path = /x
         services/f/url_reg = ^/f
         services/g/url_reg = ^/f
         services/h/default = true
         services/i/default = true
         services/j/domain = a.test
         services/j/url_beg = /j
         services/k/domain = a.test
         services/k/priority = 1",
        "a b c d e f g good h i j k",
        &[
            "services/b/domain = \"b.test\": shadowed: service a has the same rule and goes first: host b.test;",
            "services/b/virtual_hosts = \"a.test\": shadowed: service a has the same rule and goes first: host a.test;",
            "services/d/path = \"/x\": shadowed: service c has the same rule and goes first: path /x;",
            "services/e/virtual_path = \"/x\": shadowed: service c has the same rule and goes first: virtual_path /x;",
            "services/g/url_reg = \"^/f\": shadowed: service f has the same rule and goes first: url_reg ^/f;",
            "services/i/default = \"true\": shadowed: service h has the same rule and goes first: default true;",
        ],
    );
}

#[test]
fn ports_taken() {
    check(
        "tcp-services/a/port = 1
         tcp-services/b/external_port = 10.0.0.1:1, 2
         tcp-services/c/port = 80
         tcp-services/d/port = 8404",
        "good a b c d",
        &[
            "tcp-services/b/external_port = \"10.0.0.1:1, 2\": port taken: tcp service a already listens on 0.0.0.0:1",
            "tcp-services/c/port = \"80\": port taken: the balancer itself listens on 0.0.0.0:80",
            "tcp-services/d/port = \"8404\": port taken: the balancer itself listens on 127.0.0.1:8404",
        ],
    );
}

#[test]
fn an_empty_service_takes_no_port_from_one_with_instances() {
    check(
        "tcp-services/api/port = 1
         tcp-services/db/port = 1
         tcp-services/db/i = 10.0.0.1:5432",
        "good api db",
        &["tcp-services/api/port = \"1\": port taken: tcp service db already listens on 0.0.0.0:1"],
    );
}

#[test]
fn more_ports_than_descriptors_allow() {
    let list = |from: u16, count: u16| (from..from + count).map(|port| port.to_string()).collect::<Vec<_>>().join(",");
    let keys = format!(
        "tcp-services/a/ports = {}\ntcp-services/b/ports = {}\ntcp-services/c/port = 9000\ntcp-services/d/port = 1000",
        list(1000, 700),
        list(2000, 3)
    );
    let limited = |listeners| {
        let limits = Limits { listeners, ..limits() };
        let compiled = compile(&key_set(&keys), None, &limits);
        let count = |name: &str| {
            let is_its = |at: u32| compiled.table.services()[at as usize].name.as_str() == name;
            compiled.table.tcp().iter().filter(|(_, at)| is_its(*at)).count()
        };
        (["a", "b", "c"].map(count), problem_lines(&compiled).join("\n"))
    };
    let (counts, problems) = limited(None);
    assert_eq!(counts, [100, 3, 1]);
    assert_eq!(
        problems.matches("too many ports: the service asks for 700 addresses to listen on and may have 100:").count(),
        1,
        "{problems}"
    );
    let (counts, problems) = limited(Some(8));
    assert_eq!(counts, [2, 2, 1], "{problems}");
    assert!(problems.contains("a/ports") && problems.contains("b/ports"), "{problems}");
    let (counts, problems) = limited(Some(2));
    assert_eq!(counts, [1, 1, 0], "{problems}");
    assert!(
        problems.contains("c/port = \"9000\": too many ports: all services together may listen on 2 addresses"),
        "{problems}"
    );
}

#[test]
fn server_names_shadowed_and_ports_not_shared() {
    check_for_haproxy(
        "tcp-services/a/port = 1
         tcp-services/a/sni = a.test, *.test
         tcp-services/b/ports = 1, 2
         tcp-services/b/sni = *.test, b.test, a.test
         tcp-services/c/port = 1
         tcp-services/d/external_port = 1
         tcp-services/e/port = 10.0.0.1:1
         tcp-services/e/sni = e.test",
        "good a b c d e",
        &[
            "tcp-services/b/sni = \"*.test, b.test, a.test\": shadowed: tcp service a has the same server name on 0.0.0.0:1 and goes first: a.test (and 1 more);",
            "tcp-services/d/external_port = \"1\": port taken: tcp service c already listens on 0.0.0.0:1",
            "tcp-services/e/port = \"10.0.0.1:1\": port taken: tcp service c already listens on 0.0.0.0:1",
        ],
    );
    check_for_haproxy(
        "tcp-services/s/port = 1\ntcp-services/s/sni = 10.0.0.1",
        "good",
        &["tcp-services/s/sni = \"10.0.0.1\": bad value: expected a host name; an IP address is never"],
    );
}

#[test]
fn loops() {
    let ours = ["127.0.0.1:80", "127.9.9.9:80", "192.0.2.7:80", "localhost:80", "0.0.0.0:80", "127.0.0.1:8404"];
    let not_ours = ["192.0.2.8:80", "127.0.0.1:81", "192.0.2.7:8404", "shop.test:80", "127.0.0.2:8404", "[::1]:80"];
    for (address, expected) in ours.map(|address| (address, 1)).into_iter().chain(not_ours.map(|address| (address, 0)))
    {
        let keys = format!("services/s/domain = s.test\nservices/s/a = {address}");
        let line = format!("services/s/a = \"{address}\": loop: ");
        check(&keys, "good s", &[&*line][..expected]);
    }
    check(
        "tcp-services/t/port = 5432\ntcp-services/t/a = 127.0.0.1:5432\nservices/s/path = /\nservices/s/a = 192.0.2.7:5432",
        "good s t",
        &["services/s/a = \"192.0.2.7:5432\": loop: ", "tcp-services/t/a = \"127.0.0.1:5432\": loop: "],
    );
}

#[test]
fn unsupported_keys_serve_without_or_not_at_all() {
    let without = "unsupported: this engine does not honour it yet; the service is served without it; --engine haproxy honours it";
    check(
        "services/s/domain = s.test\nservices/s/custom_settings = option x",
        "good s",
        &[&format!("services/s/custom_settings = \"option x\": {without}")],
    );
    let key = "services/s/domain = s.test\nservices/s/custom_settings = dynamic-cookie-key x";
    check(&format!("{key}\nservices/s/cookie = SRV insert dynamic"), "good s", &[]);
    check(key, "good s", &["services/s/custom_settings: unsupported"]);
    for scheme in ["http", "https", "http-and-https"] {
        check(&format!("services/s/domain = s.test\nservices/s/scheme = {scheme}"), "good s", &[]);
    }
    let held = "unsupported: this engine does not honour it yet; the service is not served, as it would take \
                requests that it must not; --engine native honours it";
    check_for_haproxy(
        "services/s/domain = s.test\nservices/s/forward_auth = auth:/x",
        "good",
        &[&format!("services/s/forward_auth = \"auth:/x\": {held}")],
    );
    check("certs/shop.pem = -----BEGIN hunter2", "good", &["certs/shop.pem: bad value: expected a certificate too"]);
}

#[test]
fn keys_about_connections_to_instances() {
    let rows = [
        ("tls_ca", "systen", "= \"systen\": bad value: expected system, or certificates of authorities"),
        ("tls_server_name", "10.0.0.1", "= \"10.0.0.1\": bad value: expected a host name, not an address"),
        ("tls_cert", "hunter2", ": bad value: expected a certificate too"),
        ("send_proxy", "on", "= \"on\": bad value: expected v1 or v2"),
    ];
    for (key, value, expected) in rows {
        let glue = if expected.starts_with('=') { " " } else { "" };
        check(
            &format!("services/s/domain = s.test\nservices/s/{key} = {value}"),
            "good",
            &[&format!("services/s/{key}{glue}{expected}")],
        );
    }
}

#[test]
fn bad_values_of_keys_that_haproxy_honours() {
    let rows = [
        ("cookie", "SRV insert forever", "s/cookie = \"SRV insert forever\": bad value: expected NAME and then insert"),
        ("custom_settings", "a\u{b}b", "s/custom_settings = \"a\\u{b}b\": bad value: expected lines of text"),
        ("basic_auth_secrets", "hunter2", "s/basic_auth_secrets: bad value: expected lines such as: user NAME"),
    ];
    for (key, value, expected) in rows {
        check_for_haproxy(&format!("services/s/domain = s.test\nservices/s/{key} = {value}"), "good", &[expected]);
    }
    check_for_haproxy(
        "tcp-services/s/port = 1\ntcp-services/s/custom_settings = a\u{0}b",
        "good",
        &["s/custom_settings = \"a\\0b\": bad value: expected lines of text"],
    );
    check_for_haproxy("services/s/domain = s.test\nservices/s/custom_settings = a\tb", "good s", &[]);
    let empty = "s/basic_auth_secrets: bad value: expected a value: this key protects the service";
    check_for_haproxy("services/s/domain = s.test\nservices/s/basic_auth_secrets = ", "good", &[empty]);
}

#[test]
fn secrets_stay_secret() {
    for keys in [
        "services/s/basic_auth_secrets = user a password hunter2",
        "services/s/basic_auth_secret = user a insecure-password hunter2",
        "services/s/basicauth_secrets = user a insecure-password hunter2",
        "services/s/basic_auth_secretss = user a insecure-password hunter2",
        "services/s/auth = user a insecure-password hunter2",
        "tcp-services/s/basic_auth_secrets = user a insecure-password hunter2",
        "services/s/basic_auth_secrets/x = hunter2",
        "certs/x/y = hunter2",
        "services//basic_auth_secrets = hunter2",
    ] {
        let compiled = compiled(&format!("services/s/domain = s.test\n{keys}"));
        let said = format!("{:?} {:?}", problem_lines(&compiled), compiled.problems);
        assert!(!compiled.problems.is_empty() && !said.contains("hunter2"), "{keys}: {said}");
    }
}

#[test]
fn who_is_asked_must_be_there() {
    let asks = |value: &str| format!("services/s/domain = s.test\nservices/s/forward_auth = {value}");
    check(
        &asks("auth:/x"),
        "good s",
        &["services/s/forward_auth: no target: there is no service auth; nobody is let in"],
    );
    check(
        &format!("{}\nservices/auth/port = x\nservices/auth/a = 10.0.0.2", asks("auth:/x")),
        "good s",
        &[
            "services/auth: no rule",
            "services/auth/port",
            "services/s/forward_auth: no target: service auth is not served; nobody is let in",
        ],
    );
    check(&format!("{}\nservices/auth/a = 10.0.0.2", asks("auth:/x")), "auth good s", &[]);
    check(&asks("s:/x"), "good", &["services/s/forward_auth = \"s:/x\": bad value: s is this service itself"]);
    check(&asks("http://10.0.0.2:4180/x Remote-User"), "good http://10.0.0.2:4180 s", &[]);
    check(
        &asks("http://10.0.0.2:4180/x a:b"),
        "good",
        &["services/s/forward_auth = \"http://10.0.0.2:4180/x a:b\": bad value"],
    );
    let own = "services/s/forward_auth: loop: ";
    check(
        &format!("tcp-services/t/port = 5432\ntcp-services/t/a = 10.0.0.1\n{}", asks("http://192.0.2.7:5432/x")),
        "good http://192.0.2.7:5432 s t",
        &[own],
    );
}

#[test]
fn odd_bytes_are_shown_harmlessly() {
    check("services/s/domain = \u{7}a\u{1b}[31m", "good", &["services/s/domain = \"\\u{7}a\\u{1b}[31m\": bad value"]);
    let long = "x".repeat(5000);
    let compiled = compiled(&format!("services/s/port = {long}"));
    assert!(problem_lines(&compiled)[0].len() < 400);
}

#[test]
fn each_known_key_is_read() {
    for key in KNOWN_KEYS {
        let path = match key.tree {
            Tree::Http => format!("services/s/{}", key.name),
            Tree::Tcp => format!("tcp-services/s/{}", key.name),
            Tree::Config => format!("config/{}", key.name),
            Tree::Certs => format!("certs/{}", key.name),
        };
        let path =
            path.replace("<instance>", "x").replace("<status>", "503").replace("<name>", "x").replace("<service>", "x");
        let compiled = compiled(&format!("{path} = \u{1}"));
        let unknown = compiled.problems.iter().any(|problem| problem.kind.as_str() == "unknown_key");
        assert!(!unknown && !key.meaning.is_empty(), "{path} is not read");
    }
}
