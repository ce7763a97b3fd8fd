//! What is rendered, before the real HAProxy: it must take whatever compiles, hostile names and values too.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

#[path = "support/haproxy.rs"]
mod haproxy;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use pointsman_haproxy::desire::desire;
use pointsman_haproxy::frame::STATES;
use pointsman_haproxy::model::{Addresses, Desired, Held, Owner};
use pointsman_haproxy::render::{Rendered, render};
use pointsman_haproxy::shape::{Listen, Shape};
use pointsman_table::{Capabilities, Compiled, KeySet, Limits, Problem, Table, Target, Tree, compile};
use proptest::prelude::*;
use proptest::sample::select;

fn shape(folder: &Path) -> Shape {
    let listen = |text: &str| Listen { address: text.parse().unwrap(), socket: None };
    Shape {
        http: vec![listen("127.0.0.1:18080"), listen("[::1]:18080")],
        https: vec![listen("127.0.0.1:18443")],
        threads: 2,
        folder: folder.to_owned(),
        socket: Some(folder.join("runtime.sock")),
        hard_stop: Duration::from_secs(600),
        global_settings: None,
        custom_settings: None,
        ciphers: None,
        template: None,
        version: haproxy::version(),
        spares: 2,
        tickets: None,
    }
}

fn table(keys: &[(&str, &str)]) -> Arc<Table> {
    compiled(keys).table
}

fn compiled(keys: &[(&str, &str)]) -> Compiled {
    let cert = ("certs/shop test", include_str!("support/shop.test.pem"));
    let entry = |&(key, value): &(&str, &str)| -> (Box<str>, Box<[u8]>) { (key.into(), value.as_bytes().into()) };
    let mut key_set = KeySet::default();
    key_set.reset(7, keys.iter().chain([&cert]).map(entry));
    let limits = Limits { prefix: "/p".into(), capabilities: Capabilities::HAPROXY, ..Limits::default() };
    compile(&key_set, None, &limits)
}

/// Names that are known, so that HAProxy need not ask.
fn addresses() -> Addresses {
    Addresses::from([(Target::Name("name.test".into(), 81), [10, 9, 9, 9].into())])
}

fn rendered(keys: &[(&str, &str)], shape: &Shape) -> (Desired, Rendered, Vec<Problem>) {
    let (desired, problems) = desire(&table(keys), &Held::new(), &addresses(), shape);
    let rendered = render(&desired, shape);
    (desired, rendered, problems)
}

/// Writes the files, and has HAProxy check them. What it says, and whether it was content.
fn haproxy_check(rendered: &Rendered, folder: &Path) -> (bool, String) {
    for file in &rendered.files {
        let path = folder.join(&*file.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &file.bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(folder.join(STATES), "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n").unwrap();
    let config = folder.join("haproxy.cfg");
    fs::write(&config, &rendered.config).unwrap();
    let output = Command::new(haproxy::program()).args(["-c", "-f"]).arg(&config).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// HAProxy takes it, without a word that does not come from a name it cannot resolve here.
#[track_caller]
fn accepted(keys: &[(&str, &str)]) -> Rendered {
    let folder = tempfile::tempdir().unwrap();
    let shape = shape(folder.path());
    let (_, rendered, problems) = rendered(keys, &shape);
    let (content, said) = haproxy_check(&rendered, folder.path());
    let is_fine = |line: &str| !line.contains("[WARNING]") || line.contains("could not resolve address");
    assert!(content && said.lines().all(is_fine), "{said}\n{keys:?}\n{}\n{problems:?}", rendered.config);
    rendered
}

#[test]
fn an_empty_table() {
    accepted(&[]);
}
#[test]
fn everything() {
    accepted(&[
        ("services/web/domain", "shop.test,*.shop.test"),
        ("services/web/web-1", "10.0.0.1:80 weight=3 maxconn=7 backup"),
        ("services/web/web-2", "[::1]:80 drain"),
        ("services/web/web-3", "unix:/run/x'y\"z\\#.sock"),
        ("services/web/tls", "10.0.0.2 tls"),
        ("services/web/virtual_path", "/a,/b,/cc"),
        ("services/web/cookie", ""),
        ("services/web/basic_auth_secrets", "user a insecure-password \"b c\"\ngroup x\nuser d password $5$x groups x"),
        ("services/web/health_check_uri", "/x\"#'y\\"),
        ("services/web/health_check_port", "81"),
        ("services/web/scheme", "https"),
        ("services/web/dns", "web.test"),
        ("services/web/custom_settings", "http-response set-header X Y # z\n# comment"),
        ("services/web/timeout/connect", "720h"),
        ("services/web/timeout/server", "1ms"),
        ("services/web/timeout/tunnel", "1500ms"),
        ("services/srv/domain", "srv.test"),
        ("services/srv/dns", "srv:_http._tcp.web.test"),
        ("services/x y/domain", "xy.test"),
        ("services/x y/a b", "10.0.0.2"),
        ("services/x y/balance", "hdr(X-$#')"),
        ("services/r/url_reg", "^/a(b|c)+$"),
        ("services/r/a", "10.0.0.2"),
        ("tcp-services/db/port", "15432,[::]:15433"),
        ("tcp-services/db/db-1", "10.0.0.3"),
        ("tcp-services/s1/port", "15443"),
        ("tcp-services/s1/sni", "a.test,*.b.test,*.c.d.test"),
        ("tcp-services/s1/a", "10.0.0.3"),
        ("tcp-services/s2/port", "15443"),
        ("tcp-services/s2/a", "10.0.0.3 tls"),
        ("config/limit/connections", "4294967295"),
        ("config/limit/head_bytes", "1024"),
        ("config/limit/headers", "1"),
        ("config/health_uri", "/h\"#'e\\$x"),
        ("config/errors/503", "<b>no</b>"),
    ]);
}

/// Names that a key's segment may have, most of them odd.
const NAMES: &[&str] = &[
    "web",
    "a b",
    "a\nb",
    "ü",
    "frontend",
    "..",
    "-",
    "%",
    "a'b\"c",
    "$HOME",
    "${X}",
    "#",
    "\\",
    "a:b",
    "{ }",
    "*",
    "a|b",
    "a\u{1}b",
    "A",
    "default",
    "spare:1",
    "services:web",
    "if",
    "\u{7f}",
];

/// Values that are good somewhere, and odd ones.
const VALUES: &[&str] = &[
    "/x\"#'y\\",
    "/$HOME",
    "/${X}",
    "/%[src]",
    "/a,b",
    "/}",
    "/{",
    "/a|b",
    "/ü",
    "hdr(X-$#'!)",
    "hdr({)",
    "url_param(%[a])",
    "url_param(-i)",
    "true",
    "false",
    "80",
    "65535",
    "0",
    "1ms",
    "720h",
    "a.test",
    "*.b.test",
    "a_b",
    "[::1]",
    "https",
    "http-and-https",
    "srv:_a._tcp.b.test",
    "roundrobin",
    "static-rr",
    "leastconn",
    "first",
    "source",
    "uri",
    "random",
    "p2c",
    "",
    "SID insert",
    "cookie SID prefix nocache",
    "SID rewrite",
    "SID insert dynamic",
    "SID insert domain .a.test maxidle 5s attr a=b",
    "user a insecure-password 'b\"#$c\\' groups g\ngroup g",
    "user ü password $6$x$y",
    "user ' insecure-password x",
    "any",
    "^/(a|b)+[^c]\\.(?i:x)$",
    "\\x00\\n|\\|",
    ".*",
    "#",
    "(a{1,3}){2}",
    "-9223372036854775808",
    "9223372036854775807",
    "8080,[::1]:8081,127.0.0.1:8082",
    "1.2.3.4",
    "10.0.0.1:80 weight=0 maxconn=4294967295 backup drain tls",
    "[::1]:81 tls",
    "unix:/run/a'b\"#;\\{}%.sock",
    "unix:/run/$x",
    "name.test:81",
    "xn--a.test tls",
    "1",
    "256",
    "1024",
    "1048576",
    "4294967295",
    "<b>x</b>",
    "plain \u{1} text",
    "http-request deny if { path /x }\n\n# y",
];

/// A random key, with a value that is as likely as not for another one.
fn key() -> impl Strategy<Value = (String, String)> {
    let http = pointsman_table::KNOWN_KEYS.iter().filter(|key| key.tree == Tree::Http && key.name != "custom_settings");
    let tcp = pointsman_table::KNOWN_KEYS.iter().filter(|key| key.tree == Tree::Tcp && key.name != "custom_settings");
    let config = pointsman_table::KNOWN_KEYS.iter().filter(|key| key.tree == Tree::Config);
    let names = |keys: Vec<&'static str>| select(keys);
    let segment = select(NAMES);
    let place = prop_oneof![
        4 => (Just("services"), segment.clone(), names(http.map(|key| key.name).collect())),
        3 => (Just("tcp-services"), segment.clone(), names(tcp.map(|key| key.name).collect())),
        1 => (Just("config"), Just(""), names(config.map(|key| key.name).collect())),
    ];
    let status = select(&["503", "502", "404", "400", "413"]);
    (place, segment, status, select(VALUES)).prop_map(|((tree, service, key), instance, status, value)| {
        let key = key.replace("<instance>", instance).replace("<status>", status).replace("<service>", instance);
        let service = if service.is_empty() { String::new() } else { format!("{service}/") };
        (format!("{tree}/{service}{key}"), value.to_owned())
    })
}

/// A service that HTTP or TCP requests reach, with keys of its own kind that are good.
fn service() -> impl Strategy<Value = Vec<(String, String)>> {
    let good: Vec<_> = GOOD.iter().map(|row| row.split_once(" = ").expect("key = value")).collect();
    let rows = proptest::sample::subsequence(good, 1..8);
    (select(NAMES), select(NAMES), rows).prop_map(|(name, instance, rows)| {
        let mut keys = vec![(format!("services/{name}/upstreams/{instance}"), "10.0.0.1".to_owned())];
        keys.push((format!("services/{name}/default"), "true".to_owned()));
        keys.extend(rows.iter().map(|(key, value)| (format!("services/{name}/{key}"), (*value).to_owned())));
        keys
    })
}

/// Rows that are good, every key among them.
const GOOD: &[&str] = &[
    "domain = a.test,*.b.test,[::1]",
    "virtual_hosts = c.test",
    "url_reg = ^/(a|b)+[^c]\\.(?i:x)$",
    "url_beg = /x\"#'y\\",
    "virtual_path = /a,/bb,/cc",
    "path = /p/%[src]",
    "priority = -9223372036854775808",
    "match = any",
    "port = 8080",
    "two = [::1]:81 weight=0 maxconn=4294967295 backup tls",
    "three = unix:/run/a'b\"#;\\{}%.sock drain",
    "four = name.test:81 tls",
    "dns = srv:_a._tcp.b.test",
    "balance = hdr(X-$#'!)",
    "cookie = SID insert indirect httponly secure maxidle 5s",
    "basic_auth_secrets = user a insecure-password 'b\"#$c\\' groups g\ngroup g",
    "health_check_uri = /up\"#'\\$x",
    "health_check_port = 81",
    "scheme = https",
    "timeout/connect = 720h",
    "timeout/server = 1ms",
    "timeout/tunnel = 1500ms",
];

/// So that the random tables are not empty.
#[test]
fn the_good_rows_are_good() {
    let rows = GOOD.iter().filter(|row| haproxy::version().pcre || !row.starts_with("url_reg"));
    let rows: Vec<_> = rows.map(|row| format!("services/web/{row}")).collect();
    let mut keys: Vec<_> = rows.iter().map(|row| row.split_once(" = ").unwrap()).collect();
    for name in NAMES {
        let domain = format!("services/{name}/domain");
        assert_eq!(table(&[(&domain, "a.test")]).services().len(), 1, "{name:?}");
    }
    keys.push(("services/web/a", "10.0.0.1"));
    assert_eq!(compiled(&keys).problems, []);
    let rendered = accepted(&keys);
    let servers = if haproxy::version().tls { 4 } else { 2 };
    assert_eq!(rendered.config.matches("\n    server ").count(), servers, "{}", rendered.config);
    for word in
        ["server-template", "cookie SID", "http_auth", "http-check", "redirect prefix", "set-pathq", "hash-type"]
    {
        assert!(rendered.config.contains(word), "{word} is not in\n{}", rendered.config);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever compiles, HAProxy takes.
    #[test]
    fn random_tables(
        keys in proptest::collection::vec(key(), 0..40),
        services in proptest::collection::vec(service(), 0..4),
    ) {
        let keys: Vec<_> = services.into_iter().flatten().chain(keys).collect();
        let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        accepted(&keys);
    }

    /// Whatever raw lines say, HAProxy's complaints about lines lead back to them, and it takes all else.
    #[test]
    fn random_raw_lines(text in raw_text()) {
        let web = [("services/web/domain", "a.test"), ("services/web/a", "10.0.0.1"), ("services/b/domain", "b.test")];
        let raw = [&web[..], &[("services/web/custom_settings", text.as_str())]].concat();
        let folder = tempfile::tempdir().unwrap();
        let (_, rendered, _) = rendered(&raw, &shape(folder.path()));
        let (content, said) = haproxy_check(&rendered, folder.path());
        let lines: Vec<usize> = said.split("haproxy.cfg:").skip(1).filter_map(line_number).collect();
        prop_assert!(content || !lines.is_empty(), "{said}\n{}", rendered.config);
        for line in lines {
            let owner = rendered.owner(line);
            let raw = matches!(owner, Some(Owner::Service(_, _, "custom_settings" | "")));
            prop_assert!(raw, "line {line} is {owner:?}'s: {said}\n{}", rendered.config);
        }
    }
}

/// Bounded, unless somebody has the time.
fn cases() -> u32 {
    if std::env::var_os("POINTSMAN_LONG").is_some() { 20_000 } else { 100 }
}

fn line_number(text: &str) -> Option<usize> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Lines of words that mean something to HAProxy, in any order, with quotes and escapes between them.
fn raw_text() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "frontend",
        "backend",
        "listen",
        "defaults",
        "global",
        "userlist",
        "peers",
        "server",
        "option",
        "httpchk",
        "x",
        "http-request",
        "deny",
        "if",
        "{",
        "}",
        "\"",
        "'",
        "\\",
        "\\x66rontend",
        "#",
        "\n",
        "\r\n",
        "\t",
        ".if",
        "0",
        ".endif",
        "no",
        "$X",
        "\"$X\"",
        "${X[*]}",
        "mode",
        "tcp",
        "acl",
        "use_backend",
        "bind",
        ":1",
        "10.0.0.1:80",
        "check",
        "é",
        "errorfile",
        "503",
        "/etc/passwd",
        "timeout",
        "balance",
        "source",
        "http-errors",
        "ring",
        "cache",
        "filter",
        "trace",
    ];
    let word = (select(WORDS), select(&[" ", " ", "", "\n"])).prop_map(|(word, space)| format!("{word}{space}"));
    proptest::collection::vec(word, 1..30).prop_map(|words| words.concat())
}
