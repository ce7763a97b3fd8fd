//! Rows: keys in, lines of the configuration out; and what planning relies on.

use std::path::PathBuf;

use pointsman_table::{Capabilities, KeySet, Limits, Target, compile};

use super::super::model::{Address, Owner};
use super::super::render::{Rendered, render, spare};
use super::super::version::Version;
use super::*;

/// Keys, a revision and a shape.
pub(super) struct World {
    keys: Vec<(String, String)>,
    revision: u64,
    pub(super) shape: Shape,
    pub(super) addresses: Addresses,
    pub(super) held: Held,
}

impl Default for World {
    fn default() -> Self {
        let (held, addresses) = Default::default();
        Self { keys: Vec::new(), revision: 7, shape: Shape::sample(), addresses, held }
    }
}

impl World {
    /// Rows of `key = value`; `\n` in a value is a line feed.
    pub(super) fn of(rows: &[&str]) -> Self {
        Self::default().and(rows)
    }

    pub(super) fn and(mut self, rows: &[&str]) -> Self {
        let pair = |row: &&str| row.split_once(" = ").map(|(key, value)| (key.to_owned(), value.replace("\\n", "\n")));
        self.keys.extend(rows.iter().map(|row| pair(row).unwrap()));
        self
    }

    fn without(mut self, beginning: &str) -> Self {
        self.keys.retain(|(key, _)| !key.starts_with(beginning));
        self
    }

    fn table(&self) -> Arc<Table> {
        let entry = |(key, value): &(String, String)| (key.as_str().into(), value.as_bytes().into());
        let mut key_set = KeySet::default();
        key_set.reset(self.revision, self.keys.iter().map(entry));
        let limits = Limits { prefix: "/p".into(), capabilities: Capabilities::HAPROXY, ..Limits::default() };
        compile(&key_set, None, &limits).table
    }

    pub(super) fn desired(&self) -> (Desired, Vec<String>) {
        let (desired, problems) = desire(&self.table(), &self.held, &self.addresses, &self.shape);
        (desired, problems.iter().map(ToString::to_string).collect())
    }

    pub(super) fn rendered(&self) -> Rendered {
        render(&self.desired().0, &self.shape)
    }
}

/// What these keys come to.
pub(in super::super) fn desired_of(rows: &[&str]) -> Desired {
    World::of(rows).desired().0
}

/// A service that any row may add to.
pub(super) const WEB: [&str; 2] = ["services/web/domain = shop.test", "services/web/a = 10.0.0.1:80"];
/// The same for TCP.
pub(super) const DB: [&str; 2] = ["tcp-services/db/port = 5432", "tcp-services/db/a = 10.0.0.1"];

/// What is written for `HEALTH` in rows.
const HEALTH: &str =
    "check inter 60s fastinter 1s downinter 1s rise 1 fall 3 observe layer4 error-limit 3 on-error mark-down";

/// The lines are there, one after another, with the usual indentation; one that begins with `!` is nowhere.
#[track_caller]
pub(super) fn check(world: &World, expected: &[&str]) {
    let config = world.rendered().config;
    let (absent, present): (Vec<&str>, Vec<&str>) = expected.iter().copied().partition(|line| line.starts_with('!'));
    let block: String = present.iter().map(|line| format!("    {}\n", line.replace("HEALTH", HEALTH))).collect();
    assert!(config.contains(&block), "{present:?} is not in\n{config}");
    for line in absent {
        assert!(!config.contains(&line[1..]), "{line} in\n{config}");
    }
}

#[test]
fn keys_of_http_services() {
    for (keys, expected) in [
        (
            &[][..],
            &[
                "http-request return status 503 errorfiles pointsman if { nbsrv eq 0 } !{ stopping }",
                "server a 10.0.0.1:80 HEALTH",
            ][..],
        ),
        (&["services/web/cookie = "], &["cookie KONTENA_SERVERID insert indirect nocache", "!dynamic"]),
        (&["services/web/cookie = cookie SID prefix"], &["cookie SID prefix"]),
        (&["services/web/cookie = SID insert"], &["server a 10.0.0.1:80 HEALTH cookie a"]),
        (
            &["services/web/cookie = SID insert dynamic"],
            &["cookie SID insert dynamic", "dynamic-cookie-key services:web", "!mark-down cookie"],
        ),
        (
            &["services/web/cookie = SID insert dynamic", "services/web/custom_settings = dynamic-cookie-key x"],
            &["dynamic-cookie-key x", "!dynamic-cookie-key services:web"],
        ),
        (
            &["services/web/basic_auth_secrets = user me insecure-password a\\ b"],
            &["http-request auth realm web unless { http_auth(services:web) }"],
        ),
        (
            &["services/web/basic_auth_secrets = group g\\nuser me password $5$x groups g"],
            &["group g", "user me password $5$x groups g"],
        ),
        (
            &["services/web/scheme = https"],
            &[
                "http-request redirect prefix https://%[var(txn.host)] code 301 unless { ssl_fc } or { var(txn.scheme) -m str https }",
            ],
        ),
        (&["services/web/scheme = http-and-https"], &["!redirect prefix"]),
        (
            &["services/web/virtual_path = /api,/bpi,/c"],
            &[
                "http-request set-pathq '%[pathq,regsub(\"^.{2}/?\",/)]' if { var(txn.strip) -m int 2 }",
                "http-request set-pathq '%[pathq,regsub(\"^.{4}/?\",/)]' if { var(txn.strip) -m int 4 }",
            ],
        ),
        (&[], &["option abortonclose", "!no option abortonclose"]),
        (&["services/web/abort = false"], &["no option abortonclose"]),
        (&["services/web/virtual_path = /api", "services/web/keep_virtual_path = true"], &["!set-pathq"]),
    ] {
        check(&World::of(&WEB).and(keys), expected);
    }
}

#[test]
fn waits_raw_lines_and_names_of_http_services() {
    for (keys, expected) in [
        (&["services/web/timeout/connect = 2s"][..], &["timeout connect 2s", "timeout queue 2s"][..]),
        (&["services/web/timeout/server = 1500ms"], &["timeout server 1500ms"]),
        (&["services/web/timeout/tunnel = 2h"], &["timeout tunnel 7200s"]),
        (&["services/web/timeout/queue = 3s"], &["timeout queue 3s"]),
        (
            &["services/web/timeout/queue = 3s", "services/web/timeout/connect = 2s"],
            &["timeout connect 2s", "timeout queue 3s", "!timeout queue 2s"],
        ),
        (&["config/timeout/queue = 3s", "services/web/retries = 0"], &["timeout queue 3s", "retries 0"]),
        (
            &["services/web/retries = 2 on=connect,reset,timeout,503 budget=5%"],
            &["retries 2", "retry-on conn-failure empty-response response-timeout 503"],
        ),
        (&["services/web/retries = 1 on=non_idempotent"], &["retries 1", "retry-on none"]),
        (&["services/web/timeout/tunnel = 1h"], &["!backend services:web\n    timeout"]),
        (
            &["services/web/custom_settings = http-request deny\\n# not \\n\\noption httplog"],
            &["# services/web/custom_settings", "http-request deny", "# not", "option httplog"],
        ),
        (
            &["services/web/dns = web.test", "services/web/port = 81", "services/web/dns_1 = 10.0.0.9"],
            &["server-template dns__ 32 web.test:81 resolvers pointsman init-addr last,none HEALTH"],
        ),
        (
            &["services/web/dns = srv:_http._tcp.web.test", "services/web/health_check_port = 9"],
            &[
                "server-template dns_ 32 _http._tcp.web.test resolvers pointsman init-addr last,none check inter 2s fastinter 500ms fall 3 rise 2 port 9",
            ],
        ),
        (
            &["services/web/dns = web.test", "services/web/cookie = "],
            &["cookie KONTENA_SERVERID insert indirect nocache dynamic", "dynamic-cookie-key services:web"],
        ),
    ] {
        check(&World::of(&WEB).and(keys), expected);
    }
}

#[test]
fn keys_of_tcp_services() {
    let rest = "default_backend tcp-services:db";
    for (keys, expected) in [
        (&[][..], &["bind 0.0.0.0:5432", "mode tcp", "timeout client 3600s", rest][..]),
        (
            &[],
            &[
                "mode tcp",
                "no option abortonclose",
                "timeout server 3600s",
                "timeout tunnel 3600s",
                "balance leastconn",
            ],
        ),
        (&[], &["balance leastconn", "server a 10.0.0.1:5432 HEALTH"]),
        (&["tcp-services/db/timeout/tunnel = 5s"], &["timeout server 5s", "timeout tunnel 5s", "balance leastconn"]),
        (&["tcp-services/db/ports = [::1]:77"], &["bind [::1]:77", "mode tcp"]),
        (&["tcp-services/db/balance = roundrobin"], &["!    balance"]),
        (&["tcp-services/db/b = 10.0.0.2 tls"], &["!sni", "!alpn"]),
        (
            &["tcp-services/s/port = 5432", "tcp-services/s/sni = a.test,*.b.test"],
            &[
                "tcp-request inspect-delay 5s",
                "tcp-request content set-var(sess.sni) req.ssl_sni,lower if { req.ssl_hello_type 1 }",
                "tcp-request content set-var(sess.backend) 'str(\"0.0.0.0:5432|\"),concat(,sess.sni),map_str(\"/run/pointsman/sni.map\")' if { var(sess.sni) -m found }",
                "tcp-request content set-var(sess.below) 'var(sess.sni),regsub(\"^[^.]*\",\"\"),field(-1,.,2)' unless { var(sess.backend) -m found }",
                "tcp-request content set-var(sess.backend) 'str(\"0.0.0.0:5432|*.\"),concat(,sess.below),map_str(\"/run/pointsman/sni.map\")' unless { var(sess.backend) -m found }",
                "use_backend %[var(sess.backend)] if { var(sess.backend) -m found }",
                rest,
            ],
        ),
    ] {
        check(&World::of(&DB).and(keys), expected);
    }
    let all_named = World::of(&["tcp-services/s/port = 5432", "tcp-services/s/sni = a.test"]);
    check(&all_named, &["use_backend %[var(sess.backend)] if { var(sess.backend) -m found }", "!default_backend"]);
}

#[test]
fn instances() {
    for (value, expected) in [
        ("10.0.0.1", "server b 10.0.0.1:80 HEALTH"),
        ("[::1]:81 weight=0", "server b [::1]:81 weight 0 HEALTH"),
        ("10.0.0.1 weight=256 maxconn=4294967295", "server b 10.0.0.1:80 weight 256 maxconn 2147483647 HEALTH"),
        ("10.0.0.1 weight=7 drain", "server b 10.0.0.1:80 weight 0 HEALTH"),
        ("10.0.0.1 backup", "server b 10.0.0.1:80 backup HEALTH"),
        ("10.0.0.1 tls", "server b 10.0.0.1:80 HEALTH ssl verify none alpn http/1.1 sni var(txn.host)"),
        (
            "web.test tls",
            "server b web.test:80 HEALTH ssl verify none alpn http/1.1 sni str(web.test) check-sni web.test init-addr last,none",
        ),
        ("known.test:81", "server b 10.9.9.9:81 HEALTH"),
        ("unix:/run/a'b#.sock", "server b unix@/run/a\\'b\\#.sock HEALTH"),
    ] {
        let mut world = World::of(&WEB).and(&[&format!("services/web/upstreams/b = {value}")]);
        world.addresses.insert(Target::Name("known.test".into(), 81), [10, 9, 9, 9].into());
        check(&world, &[expected]);
    }
    let world = World::of(&WEB).and(&["services/web/upstreams/b:c/ü = x", "services/web/upstreams/b ü = 10.0.0.2"]);
    check(&world, &["server b:20:C3:BC 10.0.0.2:80 HEALTH"]);
}

#[test]
fn keys_of_the_configuration() {
    for (keys, expected) in [
        (&[][..], &["nbthread 2", "hard-stop-after 600s", "fd-hard-limit 1048576"][..]),
        (&[], &["stats socket /run/pointsman/1.sock mode 600 level admin expose-fd listeners"]),
        (&["config/limit/connections = 5000"], &["maxconn 5000", "no strict-limits"]),
        (&["config/limit/connections = 4294967295"], &["maxconn 1000000", "no strict-limits"]),
        (
            &["config/limit/head_bytes = 8192", "config/limit/headers = 99"],
            &["tune.bufsize 10008", "tune.maxrewrite 1024"],
        ),
        (&["config/limit/headers = 99"], &["tune.http.maxhdr 100"]),
        (&["config/timeout/connect = 1s"], &["timeout connect 1s", "timeout queue 1s"]),
        (&["config/timeout/client = 2s"], &["timeout client 2s"]),
        (&["config/timeout/server = 2s"], &["timeout server 2s"]),
        (&["config/timeout/head = 2s"], &["timeout http-request 2s"]),
        (&["config/timeout/keep_alive = 2s"], &["timeout http-keep-alive 2s"]),
        (&["config/timeout/tunnel = 720h"], &["timeout tunnel 2147483647ms"]),
        (
            &["config/health_uri = /u'p"],
            &[
                "http-request return status 200 content-type \"text/plain; charset=utf-8\" string \"ok\\n\" if { path /u\\'p }",
            ],
        ),
        (&["config/errors/404 = gone"], &["errorfile 404 /run/pointsman/errors/404.http"]),
    ] {
        check(&World::of(keys), expected);
    }
}

#[test]
fn pages() {
    let world = World::of(&["config/errors/503 = <b>later</b>", "config/errors/502 = oops", "config/errors/418 = tea"]);
    let (desired, problems) = world.desired();
    let page = |name: &str| String::from_utf8(desired.files[name].to_vec()).unwrap();
    assert!(page("errors/503.http").starts_with("HTTP/1.1 503 ") && page("errors/503.http").ends_with("<b>later</b>"));
    assert!(page("errors/refused.http").starts_with("HTTP/1.1 502 ") && page("errors/refused.http").ends_with("oops"));
    assert!(page("errors/405.http").contains("\r\nAllow: GET, "));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with("/p/config/errors/418 = \"tea\": unsupported: HAProxy never answers"),
        "{problems:?}"
    );
    let long = World::of(&["config/limit/head_bytes = 1024", &format!("config/errors/503 = {}", "x".repeat(3000))]);
    assert!(long.desired().1[0].contains("HAProxy takes no page longer than"));
}

#[test]
fn operators_lines() {
    let mut world = World::default();
    world.shape.global_settings = Some("log stdout local0\n\n# mine".into());
    world.shape.custom_settings = Some("option dontlognull".into());
    check(&world, &["# --haproxy-global-settings", "log stdout local0", "# mine"]);
    check(&world, &["# --haproxy-custom-settings", "option dontlognull"]);
    world.shape.custom_settings = Some("x\nlisten y".into());
    let (_, problems) = world.desired();
    assert!(
        problems[0].starts_with("--haproxy-custom-settings: rejected: line 2 begins a section (listen)"),
        "{problems:?}"
    );
    check(&world, &["!--haproxy-custom-settings"]);
}

#[test]
fn tls() {
    let cert = include_str!("../../tests/support/shop.test.pem").replace('\n', "\\n");
    let cert = format!("certs/shop test = {cert}");
    let mut world = World::of(&[&cert]);
    assert!(
        world.desired().1[0].starts_with("/p/certs/shop test: unsupported: nothing is served over TLS: --https is off")
    );
    world.shape.https = world.shape.http.clone();
    check(&world, &["bind fd@3 ssl crt-list /run/pointsman/certs.list alpn h2,http/1.1 # 0.0.0.0:80"]);
    check(
        &world,
        &["http-request set-header X-Forwarded-Proto https unless { req.fhdr(x-forwarded-proto),length gt 0 }"],
    );
    let files = world.rendered().files;
    let file = |name: &str| files.iter().find(|file| &*file.name == name).unwrap();
    assert_eq!(&*file("certs.list").bytes, b"/run/pointsman/certs/shop:20test.pem\n");
    assert!(file("certs/shop:20test.pem").secret && !file("certs.list").secret);
    check(
        &World { shape: world.shape.clone(), ..World::default() },
        &["!alpn h2,http/1.1 #\n", "!frontend https\n    bind fd@3 ssl crt-list /run/pointsman/certs.list alpn"],
    );
    world.shape.version.tls = false;
    assert!(
        world.desired().1.iter().any(|problem| problem.starts_with("--https: engine: this HAProxy was built without"))
    );
    check(&world, &["!frontend https", "!ssl"]);
}

#[test]
fn what_haproxy_cannot_have() {
    let at = |minor, pcre, tls| Version { major: 2, minor, patch: 0, pcre, tls };
    for (keys, version, expected) in [
        (
            &["services/web/custom_settings = a\\nbackend x"][..],
            at(6, true, true),
            "/p/services/web/custom_settings = \"a\\nbackend x\": rejected: line 2 begins a section (backend)",
        ),
        (
            &["services/web/url_reg = a+"],
            at(6, false, true),
            "/p/services/web/url_reg = \"a+\": rejected: this HAProxy was built without PCRE",
        ),
        (
            &["services/web/upstreams/b = unix:/run/$x"],
            at(6, true, true),
            "/p/services/web/upstreams/b = \"unix:/run/$x\": unsupported: HAProxy takes a $",
        ),
        (
            &["services/web/b = 10.0.0.1 tls"],
            at(6, true, false),
            "/p/services/web/b = \"10.0.0.1 tls\": unsupported: this HAProxy was built without TLS",
        ),
        (
            &["services/web/dns = srv:web.test"],
            at(6, true, true),
            "/p/services/web/dns = \"srv:web.test\": rejected: expected a name that begins with _",
        ),
    ] {
        let mut world = World::of(&WEB).and(keys);
        world.shape.version = version;
        let (desired, problems) = world.desired();
        assert!(problems[0].starts_with(expected), "{problems:?} is not {expected}");
        let rejected = expected.contains("rejected");
        assert_eq!(desired.backends.contains_key("services:web"), !rejected, "{keys:?}");
        assert_eq!(desired.maps.hosts.is_empty(), rejected, "{keys:?}");
    }
}

#[test]
fn a_held_service_is_served_in_the_form_it_had() {
    let good = World::of(&WEB).table();
    let form = good.service(Protocol::Http, "web").unwrap();
    let key = (Protocol::Http, form.name.clone());
    let mut world = World::of(&WEB).and(&["services/web/custom_settings = frontend x"]);
    world.held.services.insert(key.clone(), Some(form.clone()));
    let (desired, problems) = world.desired();
    assert!(desired.backends.contains_key("services:web"));
    assert!(problems[0].contains("begins a section"), "{problems:?}");
    let mut world = World::of(&WEB);
    world.held.services.insert(key, None);
    let (desired, problems) = world.desired();
    assert!(desired.backends.is_empty() && desired.maps.hosts.is_empty() && problems.is_empty());
}

#[test]
fn a_tcp_service_that_is_not_served_does_not_listen() {
    check(&World::of(&DB).and(&["tcp-services/db/custom_settings = listen x"]), &["!5432"]);
    let shared = World::of(&DB).and(&[
        "tcp-services/db/custom_settings = listen x",
        "tcp-services/s/port = 5432",
        "tcp-services/s/sni = a.test",
    ]);
    check(&shared, &["bind 0.0.0.0:5432", "mode tcp", "!default_backend"]);
}

/// The names of what differs.
fn differences(a: &World, b: &World) -> Vec<String> {
    let (a, b) = (a.desired().0, b.desired().0);
    let mut found = Vec::new();
    let mut note = |name: &str, differs: bool| found.extend(differs.then(|| name.to_owned()));
    note("frame", a.frame != b.frame);
    note("maps", a.maps != b.maps);
    note("certs", a.certs != b.certs);
    note("files", a.files != b.files);
    for name in a.backends.keys().chain(b.backends.keys().filter(|name| !a.backends.contains_key(*name))) {
        note(name, a.backends.get(name) != b.backends.get(name));
    }
    found
}

#[test]
fn what_a_change_touches() {
    let all = [WEB, DB].concat();
    let base = || World::of(&all).and(&["services/web/b = 10.0.0.2"]);
    for (other, expected) in [
        (World { revision: 8, ..base() }, &[][..]),
        (base().and(&["services/web/c = 10.0.0.3"]), &["services:web"]),
        (base().without("services/web/b").and(&["services/web/b = 10.0.0.2 weight=5"]), &["services:web"]),
        (base().and(&["services/new/domain = new.test", "services/new/a = 10.0.0.1"]), &["maps", "services:new"]),
        (base().and(&["services/web/url_beg = /x"]), &["maps"]),
        (base().and(&["services/web/balance = leastconn"]), &["services:web"]),
        (base().without("services/"), &["maps", "services:web"]),
        (base().and(&["tcp-services/db/ports = 5433"]), &["frame"]),
        (base().and(&["config/timeout/connect = 1s"]), &["frame"]),
        (base().and(&["config/errors/503 = x"]), &["files"]),
    ] {
        assert_eq!(differences(&base(), &other), expected, "{:?}", other.keys);
    }
    // Every reload has a folder and a socket of its own.
    let mut moved = base();
    moved.shape.folder = PathBuf::from("/elsewhere");
    moved.shape.socket = Some(PathBuf::from("/elsewhere/2.sock"));
    moved.shape.spares = 9;
    assert_eq!(differences(&base(), &moved), [""; 0]);
    check(&moved, &["stats socket /elsewhere/2.sock mode 600 level admin expose-fd listeners"]);
}

#[test]
fn a_plain_service_fits_into_a_spare() {
    for (keys, plain) in [
        (&[][..], true),
        (&["services/web/b = 10.0.0.2 backup"], true),
        (&["services/web/b = 10.0.0.2 tls maxconn=4"], true),
        (&["services/web/priority = 4", "services/web/url_reg = a+", "services/web/path = /x"], true),
        (&["services/web/health_check_port = 81"], true),
        (&["services/web/scheme = http-and-https"], true),
        (&["services/web/timeout/connect = 5s"], true),
        (&["services/web/timeout/connect = 6s"], false),
        (&["services/web/virtual_path = /x"], false),
        (&["services/web/cookie = "], false),
        (&["services/web/balance = uri"], false),
        (&["services/web/health_check_uri = /x"], false),
        (&["services/web/custom_settings = # x"], false),
        (&["services/web/dns = x.test"], false),
    ] {
        let (desired, _) = World::of(&WEB).and(keys).desired();
        assert_eq!(desired.backends["services:web"].options == spare(), plain, "{keys:?}");
    }
}

#[test]
fn whose_servers_come_and_go() {
    for (keys, minor, elastic) in [
        (&[][..], 6, true),
        (&[], 4, false),
        (&["services/web/balance = source"], 6, true),
        (&["services/web/balance = static-rr"], 6, false),
        (&["services/web/cookie = "], 6, false),
        (&["services/web/dns = x.test"], 6, false),
        (&["services/web/b = x.test"], 6, false),
        (&["services/web/b = known.test"], 6, true),
        (&["services/web/custom_settings = http-request deny"], 6, true),
        (&["services/web/custom_settings = default-server check"], 6, false),
        (&["services/web/custom_settings = 'bal'ance static-rr"], 6, false),
        (&["services/web/custom_settings = no option httpchk"], 6, false),
        (&["services/web/custom_settings = server own 10.0.0.9:80"], 6, false),
        (&["services/web/custom_settings = use-server a if TRUE"], 6, false),
    ] {
        let mut world = World::of(&WEB).and(keys);
        world.shape.version.minor = minor;
        world.addresses.insert(Target::Name("known.test".into(), 80), [10, 0, 0, 9].into());
        assert_eq!(world.desired().0.backends["services:web"].elastic, elastic, "{keys:?} {minor}");
    }
}

#[test]
fn a_service_keeps_its_port_until_it_gets_the_one_that_it_wants() {
    let (before, mut after) = (World::of(&DB), World::of(&DB).without("tcp-services/db/port"));
    after = after.and(&["tcp-services/db/port = 5433"]);
    let name = before.table().services()[0].name.clone();
    after.held.services.insert((Protocol::Tcp, name), before.table().service(Protocol::Tcp, "db").cloned());
    after.held.closed.insert(after.table().tcp()[0].0);
    check(&after, &["bind 0.0.0.0:5432", "!bind 0.0.0.0:5433"]);
    assert_eq!(after.desired().0.frame, before.desired().0.frame);
    assert!(frontend::ports(&after.table(), &after.held).iter().all(|bind| bind.port == 5432));
}

#[test]
fn every_line_has_its_owner() {
    let keys = [WEB, DB].concat();
    let world = World::of(&keys).and(&[
        "services/web/custom_settings = one\\ntwo",
        "services/web/basic_auth_secrets = user me insecure-password a",
        "services/web/cookie = ",
    ]);
    let rendered = world.rendered();
    let owner = |wanted: &str| {
        let line =
            rendered.config.lines().position(|line| line.trim() == wanted.replace("HEALTH", HEALTH)).unwrap() + 1;
        match rendered.owner(line) {
            None => "ours".to_owned(),
            Some(Owner::Service(protocol, name, key)) => format!("{protocol}/{name}/{key}"),
            Some(owner) => format!("{owner:?}"),
        }
    };
    for (line, expected) in [
        ("global", "ours"),
        ("mode http", "ours"),
        ("frontend http", "ours"),
        ("bind 0.0.0.0:5432", "Bind(Bind { address: 0.0.0.0, port: 5432 })"),
        ("default_backend tcp-services:db", "Bind(Bind { address: 0.0.0.0, port: 5432 })"),
        ("userlist services:web", "services/web/basic_auth_secrets"),
        ("user me insecure-password a", "services/web/basic_auth_secrets"),
        ("backend services:web", "services/web/"),
        ("cookie KONTENA_SERVERID insert indirect nocache", "services/web/cookie"),
        ("one", "services/web/custom_settings"),
        ("two", "services/web/custom_settings"),
        ("server a 10.0.0.1:80 HEALTH cookie a", "services/web/"),
        ("backend tcp-services:db", "tcp-services/db/"),
    ] {
        assert_eq!(owner(line), expected, "{line}\n{}", rendered.config);
    }
    assert_eq!(rendered.owner(0), None);
    assert_eq!(rendered.owner(100_000), None);
}

#[test]
fn templates() {
    let mut world = World::of(&[WEB, DB].concat());
    world.shape.template =
        Some("{{ global }}\n{{ defaults }}\n{{ frontends }}\nlisten mine\n    bind :1\n{{ backends }}\n".into());
    let (desired, problems) = world.desired();
    assert!(problems.is_empty() && desired.has_backends(), "{problems:?}");
    check(&world, &["bind :1"]);
    check(&world, &["server a 10.0.0.1:80 HEALTH"]);
    check(&world, &["stats socket /run/pointsman/1.sock mode 600 level admin expose-fd listeners"]);
    let more =
        World { shape: world.shape.clone(), ..World::of(&[WEB, DB].concat()).and(&["services/web/b = 10.0.0.2"]) };
    assert_eq!(differences(&world, &more), ["services:web"], "no reload for an instance");
    world.shape.template = Some("backend mine\n".into());
    assert!(world.desired().0.backends.is_empty());
    world.shape.template = Some("x\n{{ nonsense }}".into());
    let (desired, problems) = world.desired();
    assert!(desired.frame.is_empty());
    assert_eq!(problems, ["--haproxy-template: engine: line 2: undefined value"]);
}

#[test]
fn addresses_are_known_or_left_to_haproxy() {
    let mut world = World::of(&WEB).and(&["services/web/b = known.test", "services/web/c = other.test:81"]);
    world.addresses.insert(Target::Name("known.test".into(), 80), [10, 0, 0, 9].into());
    let (desired, _) = world.desired();
    let servers = &desired.backends["services:web"].servers;
    assert_eq!(servers[1].address, Address::Socket([10, 0, 0, 9].into(), 80));
    assert_eq!(servers[2].address, Address::Name("other.test".into(), 81));
    assert_eq!(servers[2].words()[..1], ["other.test:81"]);
}

/// The backends read what these rules set, in frontends of operators too.
#[test]
fn a_templates_rules_find_the_client() {
    let mut world = World::of(&["services/web/domain = a.test", "config/trusted_proxies = 10.0.0.0/8"]);
    world.shape.template = Some("{{ rules }}".into());
    let rules = world.desired().0.frame[0].text.clone();
    for rule in ["set-var(txn.client) src", "set-var(txn.scheme) req.fhdr(x-forwarded-proto)"] {
        assert_eq!(rules.matches(rule).count(), 1, "{rule}: {rules}");
    }
}
