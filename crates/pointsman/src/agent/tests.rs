//! From labels to keys, row by row.

use super::*;

/// A container from facts, separated by ` ; `: labels, `name:web-1`, `created:N`, `env:NAME=VALUE`, `expose:PORT`,
/// `net:NAME=IP` and words for its state. The default is `web-1` at 10.0.0.7.
fn container(facts: &str) -> Container {
    let mut made = Container { id: "1".to_owned(), name: "web-1".to_owned(), ..Container::default() };
    for fact in facts.split(" ; ").map(str::trim).filter(|fact| !fact.is_empty()) {
        match fact.split_once(':').filter(|(kind, _)| ["name", "created", "env", "expose", "net"].contains(kind)) {
            Some(("name", name)) => (made.id, made.name) = (name.to_owned(), name.to_owned()),
            Some(("created", time)) => made.created = time.parse().unwrap(),
            Some(("expose", port)) => drop(made.exposed.insert(port.parse().unwrap())),
            Some(("env", text)) => drop(insert(&mut made.env, text)),
            Some((_, text)) => {
                let (name, ip) = text.split_once('=').unwrap();
                made.networks.insert(name.to_owned(), ip.parse().ok());
            }
            None => match fact {
                "paused" => made.state = State::Paused,
                "stopped" => made.state = State::Stopped,
                "starting" => made.health = Health::Starting,
                "healthy" => made.health = Health::Healthy,
                "unhealthy" => made.health = Health::Unhealthy,
                "stopping" => made.stopping = true,
                label => drop(insert(&mut made.labels, label)),
            },
        }
    }
    if made.networks.is_empty() {
        made.networks.insert("bridge".to_owned(), Some("10.0.0.7".parse().unwrap()));
    }
    made
}

fn insert(map: &mut std::collections::BTreeMap<String, String>, text: &str) -> Option<String> {
    let (name, value) = text.split_once('=').unwrap_or_else(|| panic!("{text} is no fact"));
    map.insert(name.to_owned(), value.to_owned())
}

/// Keys and values, then complaints prefixed with `!`, in order.
fn said(containers: &[&str], defaults: &AgentDefaults) -> Vec<String> {
    let containers: Vec<_> = containers.iter().map(|facts| container(facts)).collect();
    let (wanted, complaints) = wanted(&containers, defaults);
    let mut lines = Vec::new();
    for (prefix, wanted) in wanted {
        let all = wanted.settings.into_iter().chain(wanted.instances);
        lines.extend(all.map(|(key, value)| format!("{prefix}/{key}={value}")));
    }
    lines.extend(complaints.iter().map(|complaint| format!("! {complaint}")));
    lines
}

/// The keys and complaints of containers, for an agent with `--id p` on the machine `n`. An expected line that begins
/// with `!` may be a part of the complaint.
#[track_caller]
fn check_all(containers: &[&str], expected: &[&str]) {
    let defaults = AgentDefaults { prefix: Some("/p".to_owned()), node: "n".to_owned(), ..AgentDefaults::default() };
    compare(&said(containers, &defaults), expected);
}

#[track_caller]
fn compare(said: &[String], expected: &[&str]) {
    let same = |(said, expected): (&String, &&str)| match expected.strip_prefix('!') {
        Some(part) => said.starts_with('!') && said.contains(part.trim()),
        None => said == expected,
    };
    let all = said.len() == expected.len() && said.iter().zip(expected).all(same);
    assert!(all, "said:\n  {}\nexpected:\n  {}", said.join("\n  "), expected.join("\n  "));
}

#[track_caller]
fn check(facts: &str, expected: &[&str]) {
    check_all(&[facts], expected);
}

#[test]
fn a_container_without_our_labels_is_nobodys() {
    check("", &[]);
    check("com.docker.compose.service=web ; traefik.enable=true ; pointsmanx.port=1", &[]);
    check("io.kontena.service.name=web ; env:KONTENA_LB_MODE=tcp", &[]);
}

#[test]
fn one_service() {
    check(
        "pointsman.domain=shop.test",
        &["/p/services/web-1/domain=shop.test", "/p/services/web-1/upstreams/n-web-1=10.0.0.7:80"],
    );
    check("pointsman.enable=true", &["/p/services/web-1/upstreams/n-web-1=10.0.0.7:80"]);
    check("pointsman.port=8080 ; com.docker.compose.service=web", &["/p/services/web/upstreams/n-web-1=10.0.0.7:8080"]);
    check("pointsman.service=shop ; pointsman.name=a", &["/p/services/shop/upstreams/a=10.0.0.7:80"]);
    check(
        "pointsman.service=shop ; pointsman.timeout.connect=1s ; pointsman.balance=nonsense ; pointsman.health_check_uri= /up ",
        &[
            "/p/services/shop/balance=nonsense",
            "/p/services/shop/health_check_uri=/up",
            "/p/services/shop/timeout/connect=1s",
            "/p/services/shop/upstreams/n-web-1=10.0.0.7:80",
        ],
    );
    check("pointsman.service=a b.c", &["/p/services/a b.c/upstreams/n-web-1=10.0.0.7:80"]);
}

#[test]
fn empty_values_are_not_set() {
    check("pointsman.domain= ; pointsman.service= ; pointsman.id= ", &[]);
    check(
        "pointsman.domain= ; pointsman.service=shop ; pointsman.cookie=",
        &["/p/services/shop/cookie=", "/p/services/shop/upstreams/n-web-1=10.0.0.7:80"],
    );
}

#[test]
fn several_services() {
    check(
        "pointsman.shop.domain=shop.test ; pointsman.shop.timeout.server=9s ; pointsman.admin.domain=admin.test ; \
         pointsman.admin.port=9000 ; pointsman.weight=2 ; pointsman.admin.weight=3 ; pointsman.id=q",
        &[
            "/haproxy-q/services/admin/domain=admin.test",
            "/haproxy-q/services/shop/domain=shop.test",
            "/haproxy-q/services/shop/timeout/server=9s",
            "/haproxy-q/services/admin/upstreams/n-web-1=10.0.0.7:9000 weight=3",
            "/haproxy-q/services/shop/upstreams/n-web-1=10.0.0.7:80 weight=2",
        ],
    );
    // Labels without a service name that are not about the container form a separate service.
    check(
        "pointsman.domain=shop.test ; pointsman.admin.port=9000",
        &[
            "/p/services/web-1/domain=shop.test",
            "/p/services/admin/upstreams/n-web-1=10.0.0.7:9000",
            "/p/services/web-1/upstreams/n-web-1=10.0.0.7:80",
        ],
    );
    // HTTP and TCP make two services.
    check(
        "pointsman.a.service=db ; pointsman.b.service=db ; pointsman.b.mode=tcp ; pointsman.b.port=5432",
        &[
            "/p/tcp-services/db/port=5432",
            "/p/services/db/upstreams/n-web-1=10.0.0.7:80",
            "/p/tcp-services/db/upstreams/n-web-1=10.0.0.7:5432",
        ],
    );
    check(
        "pointsman.a.service=shop ; pointsman.b.service=shop",
        &["/p/services/shop/upstreams/n-web-1=10.0.0.7:80", "! same name: two of its services have the same name"],
    );
    check("pointsman.x.service=shop.example", &["/p/services/shop.example/upstreams/n-web-1=10.0.0.7:80"]);
    check(
        "pointsman.shop.example.port=80",
        &["! pointsman.shop.example.port = \"80\": unknown label: the name of a service has no dot"],
    );
}

#[test]
fn what_is_not_enabled_is_left_out() {
    check("pointsman.enable=false ; pointsman.domain=a.test", &[]);
    check("pointsman.enable=false ; io.kontena.load_balancer.name=lb", &[]);
    check("pointsman.a.enable=false ; pointsman.b.port=81", &["/p/services/b/upstreams/n-web-1=10.0.0.7:81"]);
    check(
        "pointsman.enable=no ; pointsman.domain=a.test",
        &["! pointsman.enable = \"no\": bad label: expected true or false"],
    );
    check("pointsman.domain=a.test ; stopped", &[]);
}

#[test]
fn tcp_services() {
    check(
        "pointsman.mode=tcp ; pointsman.port=5432 ; pointsman.service=db ; expose:5433",
        &["/p/tcp-services/db/port=5432", "/p/tcp-services/db/upstreams/n-web-1=10.0.0.7:5433"],
    );
    check(
        "pointsman.mode=tcp ; pointsman.port=10.0.0.1:5432, 9 ; pointsman.service=db ; pointsman.balance=first",
        &[
            "/p/tcp-services/db/balance=first",
            "/p/tcp-services/db/port=10.0.0.1:5432, 9",
            "/p/tcp-services/db/upstreams/n-web-1=10.0.0.7:5432",
        ],
    );
    check(
        "pointsman.mode=tcp ; pointsman.ports=1,2 ; pointsman.internal_port=7 ; pointsman.service=db ; pointsman.sni=a.test",
        &[
            "/p/tcp-services/db/ports=1,2",
            "/p/tcp-services/db/sni=a.test",
            "/p/tcp-services/db/upstreams/n-web-1=10.0.0.7:7",
        ],
    );
    check("pointsman.mode=tcp", &["! pointsman.internal_port: no port: it exposes no port"]);
    check(
        "pointsman.mode=tcp ; expose:1 ; expose:2",
        &["! pointsman.internal_port: no port: it exposes the ports 1, 2"],
    );
    check(
        "pointsman.mode=tcp ; pointsman.port=eighty ; expose:1 ; pointsman.service=db",
        &["/p/tcp-services/db/port=eighty", "/p/tcp-services/db/upstreams/n-web-1=10.0.0.7:1"],
    );
    check("pointsman.mode=udp", &["! pointsman.mode = \"udp\": bad label: expected http or tcp"]);
}

#[test]
fn the_port_inside() {
    let at = |port| format!("/p/services/web-1/upstreams/n-web-1=10.0.0.7:{port}");
    for (facts, port) in [
        ("expose:8080", 8080),
        ("expose:8080 ; expose:80", 80),
        ("expose:8080 ; expose:81 ; pointsman.port=81", 81),
        ("expose:8080 ; pointsman.port=3000", 3000),
        ("pointsman.internal_port=3000", 3000),
        ("pointsman.internal_port=3000 ; pointsman.port=3000", 3000),
    ] {
        check(&format!("pointsman.enable=true ; {facts}"), &[&at(port)]);
    }
    check(
        "pointsman.enable=true ; expose:8080 ; expose:81",
        &["! pointsman.port: no port: it exposes the ports 81, 8080"],
    );
    check(
        "pointsman.port=eighty",
        &["! web-1: pointsman.port = \"eighty\": bad label: expected a port between 1 and 65535"],
    );
    check(
        "pointsman.port=0 ; pointsman.weight=x",
        &["! pointsman.port = \"0\": bad label", "! pointsman.weight = \"x\": bad label"],
    );
    check("pointsman.port=1 ; pointsman.internal_port=2", &["! mean the same port"]);
    check("pointsman.a.domain=x ; expose:1 ; expose:2", &["! pointsman.a.port: no port"]);
}

#[test]
fn options_of_the_instance() {
    let value = |facts: &str| {
        let (offers, complaints) =
            offers(&container(facts), &AgentDefaults { prefix: Some(String::new()), ..<_>::default() });
        assert_eq!(complaints, []);
        offers[0].value.clone()
    };
    assert_eq!(
        value("pointsman.weight=3 ; pointsman.maxconn=9 ; pointsman.backup= ; pointsman.tls=true"),
        "10.0.0.7:80 weight=3 maxconn=9 backup tls"
    );
    assert_eq!(value("pointsman.weight=0 ; pointsman.backup=false"), "10.0.0.7:80 weight=0");
    assert_eq!(value("pointsman.port=1 ; healthy"), "10.0.0.7:1");
    for state in ["paused", "unhealthy", "starting", "stopping"] {
        assert_eq!(
            value(&format!("pointsman.weight=3 ; pointsman.maxconn=9 ; {state}")),
            "10.0.0.7:80 weight=0 maxconn=9"
        );
        assert_eq!(value(&format!("io.kontena.load_balancer.name=lb ; {state}")), "10.0.0.7:80 weight=0");
    }
    for (label, advice) in [
        ("weight=257", "expected a weight from 0 to 256"),
        ("weight=1 drain", "expected a weight from 0 to 256"),
        ("weight=+1", "expected a weight from 0 to 256"),
        ("maxconn=-1", "expected a number of connections"),
        ("backup=yes", "expected true or false"),
        ("tls=1", "expected true or false"),
        ("name=a/b", "expected a name without a slash"),
        ("name=..", "expected a name other than . and .."),
        ("service=a\nb", "expected a name without control characters"),
        ("id=a/b", "expected a name without a slash"),
    ] {
        check(&format!("pointsman.{label}"), &[&format!("! bad label: {advice}")]);
    }
}

#[test]
fn a_slip_is_told() {
    let value = "/p/services/web-1/upstreams/n-web-1=10.0.0.7:80";
    check(
        "pointsman.domian=a.test",
        &["! pointsman.domian = \"a.test\": unknown label: no such label; did you mean pointsman.domain?"],
    );
    check(
        "pointsman.banana=1 ; pointsman.port=80",
        &[value, "! pointsman.banana = \"1\": unknown label: no such label"],
    );
    check("pointsman.timeout.conect=1s", &["! did you mean pointsman.timeout.connect?"]);
    check("pointsman.shop.domian=1s", &["! did you mean pointsman.shop.domain?"]);
    check("pointsman.=1", &["! unknown label: no such label"]);
    check(
        "pointsman.basic_auth_secret=user a insecure-password b",
        &[
            "! web-1: pointsman.basic_auth_secret: unknown label: no such label; did you mean pointsman.basic_auth_secrets?",
        ],
    );
    check("pointsman.external_port=80 ; pointsman.port=80", &[value, "! is pointsman.mode=tcp missing?"]);
    check(
        "pointsman.mode=tcp ; pointsman.port=80 ; pointsman.domain=a.test",
        &[
            "/p/tcp-services/web-1/port=80",
            "/p/tcp-services/web-1/upstreams/n-web-1=10.0.0.7:80",
            "! only HTTP services have this",
        ],
    );
}

#[test]
fn somebody_must_name_the_balancer() {
    let nobody = AgentDefaults { node: "n".to_owned(), ..AgentDefaults::default() };
    compare(&said(&["pointsman.port=80"], &nobody), &["! pointsman.id: no id: no balancer is named"]);
    compare(&said(&["pointsman.id=x"], &nobody), &["/haproxy-x/services/web-1/upstreams/n-web-1=10.0.0.7:80"]);
    let top = AgentDefaults { prefix: Some(String::new()), ..AgentDefaults::default() };
    compare(&said(&["pointsman.port=80"], &top), &["/services/web-1/upstreams/web-1=10.0.0.7:80"]);
    check("pointsman.id=x", &["/haproxy-x/services/web-1/upstreams/n-web-1=10.0.0.7:80"]);
}

#[test]
fn kontena_http() {
    let lb = "/kontena/haproxy/lb/services";
    check(
        "io.kontena.load_balancer.name=lb ; io.kontena.service.name=api ; io.kontena.stack.name=null ; \
         io.kontena.container.name=api-1 ; io.kontena.container.overlay_cidr=10.81.128.6/16 ; \
         io.kontena.load_balancer.internal_port=8080 ; io.kontena.load_balancer.mode=http",
        &[
            &format!("{lb}/api/balance=roundrobin"),
            &format!("{lb}/api/virtual_path=/"),
            &format!("{lb}/api/upstreams/api-1=10.81.128.6:8080"),
        ],
    );
    check(
        "io.kontena.load_balancer.name=lb ; io.kontena.service.name=api ; io.kontena.stack.name=shop ; \
         env:KONTENA_LB_VIRTUAL_HOSTS=a.test,b.test ; env:KONTENA_LB_COOKIE= ; env:KONTENA_LB_BALANCE=leastconn ; \
         env:KONTENA_LB_KEEP_VIRTUAL_PATH=true ; env:KONTENA_LB_CUSTOM_SETTINGS=a\nb ; env:KONTENA_LB_INTERNAL_PORT=81 ; \
         env:KONTENA_LB_BASIC_AUTH_SECRETS=user a insecure-password b ; io.kontena.health_check.uri=/up ; \
         io.kontena.health_check.port=82",
        &[
            &format!("{lb}/shop-api/balance=leastconn"),
            &format!("{lb}/shop-api/basic_auth_secrets=user a insecure-password b"),
            &format!("{lb}/shop-api/cookie="),
            &format!("{lb}/shop-api/custom_settings=a\nb"),
            &format!("{lb}/shop-api/health_check_port=82"),
            &format!("{lb}/shop-api/health_check_uri=/up"),
            &format!("{lb}/shop-api/keep_virtual_path=true"),
            &format!("{lb}/shop-api/virtual_hosts=a.test,b.test"),
            &format!("{lb}/shop-api/upstreams/web-1=10.0.0.7:81"),
        ],
    );
    check(
        "io.kontena.load_balancer.name=stack/lb ; env:KONTENA_LB_VIRTUAL_PATH=/api ; env:KONTENA_LB_VIRTUAL_HOSTS= ; \
         env:KONTENA_LB_BASIC_AUTH_SECRETS= ; io.kontena.health_check.port= ; env:KONTENA_LB_COOKIE=SESS prefix",
        &[
            "/kontena/haproxy/stack/lb/services/web/balance=roundrobin",
            "/kontena/haproxy/stack/lb/services/web/basic_auth_secrets=",
            "/kontena/haproxy/stack/lb/services/web/cookie=SESS prefix",
            "/kontena/haproxy/stack/lb/services/web/virtual_path=/api",
            "/kontena/haproxy/stack/lb/services/web/upstreams/web-1=10.0.0.7:80",
        ],
    );
}

#[test]
fn kontena_tcp() {
    let lb = "/kontena/haproxy/lb/tcp-services";
    check(
        "io.kontena.load_balancer.name=lb ; env:KONTENA_LB_MODE=tcp ; name:db ; env:KONTENA_LB_VIRTUAL_HOSTS=a.test",
        &[
            &format!("{lb}/db/balance=roundrobin"),
            &format!("{lb}/db/external_port=5000"),
            &format!("{lb}/db/upstreams/db=10.0.0.7:80"),
        ],
    );
    check(
        "io.kontena.load_balancer.name=lb ; io.kontena.load_balancer.mode=tcp ; env:KONTENA_LB_MODE=http ; name:db-2 ; \
         env:KONTENA_LB_EXTERNAL_PORT=5432 ; env:KONTENA_LB_BALANCE=source ; env:KONTENA_LB_CUSTOM_SETTINGS=x ; \
         io.kontena.health_check.port=82",
        &[
            &format!("{lb}/db/balance=source"),
            &format!("{lb}/db/custom_settings=x"),
            &format!("{lb}/db/external_port=5432"),
            &format!("{lb}/db/health_check_port=82"),
            &format!("{lb}/db/upstreams/db-2=10.0.0.7:80"),
        ],
    );
}

#[test]
fn kontena_gone_wrong() {
    let lb = "io.kontena.load_balancer.name=lb";
    check(
        "io.kontena.load_balancer.name=",
        &["! io.kontena.load_balancer.name = \"\": bad label: expected a balancer's name"],
    );
    check("io.kontena.load_balancer.name=a//b", &["! bad label: expected a balancer's name"]);
    check(
        &format!("{lb} ; env:KONTENA_LB_MODE=udp"),
        &["! KONTENA_LB_MODE = \"udp\": bad label: expected http or tcp"],
    );
    check(
        &format!("{lb} ; env:KONTENA_LB_INTERNAL_PORT=x"),
        &["! KONTENA_LB_INTERNAL_PORT = \"x\": bad label: expected a port"],
    );
    check(&format!("{lb} ; io.kontena.container.overlay_cidr=x/16"), &["! bad label: expected an address, such as"]);
    check(&format!("{lb} ; io.kontena.container.name=a/b"), &["! bad label: expected a name without a slash"]);
    check(&format!("{lb} ; io.kontena.service.name=a/b"), &["! bad label: expected a name without a slash"]);
    check(&format!("{lb} ; net:a=10.0.0.1 ; net:b=10.1.0.1"), &["! no address: it is attached to a, b"]);
    check(&format!("{lb} ; io.kontena.container.type=volume"), &[]);
}

#[test]
fn both_languages_are_heard() {
    check(
        "io.kontena.load_balancer.name=lb ; pointsman.port=81",
        &[
            "/kontena/haproxy/lb/services/web/balance=roundrobin",
            "/kontena/haproxy/lb/services/web/virtual_path=/",
            "/kontena/haproxy/lb/services/web/upstreams/web-1=10.0.0.7:80",
            "/p/services/web-1/upstreams/n-web-1=10.0.0.7:81",
        ],
    );
}

#[test]
fn the_newest_container_is_right() {
    let old = "name:a ; created:1 ; pointsman.service=shop ; pointsman.domain=old.test ; pointsman.priority=1";
    let new = "name:b ; created:2 ; pointsman.service=shop ; pointsman.domain=new.test";
    let expected = [
        "/p/services/shop/domain=new.test",
        "/p/services/shop/priority=1",
        "/p/services/shop/upstreams/n-a=10.0.0.7:80",
        "/p/services/shop/upstreams/n-b=10.0.0.7:80",
        "! a: /p/services/shop/domain = \"old.test\": differs: b is newer and wants another value",
    ];
    check_all(&[old, new], &expected);
    check_all(&[new, old], &expected);
    // If two are equally old, the id decides.
    let twin = |name| format!("name:{name} ; pointsman.service=shop ; pointsman.domain={name}.test");
    check_all(
        &[&twin("b"), &twin("a")],
        &[
            "/p/services/shop/domain=b.test",
            "/p/services/shop/upstreams/n-a=10.0.0.7:80",
            "/p/services/shop/upstreams/n-b=10.0.0.7:80",
            "! a: /p/services/shop/domain",
        ],
    );
    let secret =
        |name| format!("name:{name} ; pointsman.service=shop ; pointsman.basic_auth_secrets=user {name} password x");
    check_all(
        &[&secret("a"), &secret("b")],
        &[
            "/p/services/shop/basic_auth_secrets=user b password x",
            "/p/services/shop/upstreams/n-a=10.0.0.7:80",
            "/p/services/shop/upstreams/n-b=10.0.0.7:80",
            "! a: /p/services/shop/basic_auth_secrets: differs",
        ],
    );
}

#[test]
fn the_older_container_keeps_its_name() {
    let named = |time: u8| {
        format!(
            "name:c{time} ; created:{time} ; pointsman.service=shop ; pointsman.name=x ; pointsman.port={time} ; pointsman.domain={time}.test"
        )
    };
    check_all(
        &[&named(2), &named(1)],
        &[
            "/p/services/shop/domain=1.test",
            "/p/services/shop/upstreams/x=10.0.0.7:1",
            "! c2: /p/services/shop/upstreams/x = \"10.0.0.7:2\": same name: c1 has this instance already",
        ],
    );
    // In another service, or below another prefix, it is a different name.
    check_all(
        &[
            "name:a ; pointsman.name=x ; pointsman.service=s",
            "name:b ; pointsman.name=x ; pointsman.service=s ; pointsman.id=q",
        ],
        &["/haproxy-q/services/s/upstreams/x=10.0.0.7:80", "/p/services/s/upstreams/x=10.0.0.7:80"],
    );
}

/// Valid, nearly valid and invalid labels.
fn label() -> impl proptest::strategy::Strategy<Value = (String, String)> {
    use proptest::prelude::*;
    use proptest::sample::select;
    let handle = select(&["", "shop.", "a.b.", ".", "timeout.", "\n."][..]);
    let key = select(
        &[
            "service",
            "id",
            "mode",
            "name",
            "port",
            "internal_port",
            "domain",
            "timeout.connect",
            "weight",
            "enable",
            "network",
            "cookie",
            "prot",
            "",
            "backup",
            "maxconn",
            "external_port",
        ][..],
    );
    let value =
        select(&["", "a", "tcp", "80", "a/b", "..", "x\ny", "true", "1 drain", "bridge", "ü", "65536", "\0", "/"][..]);
    let ours =
        (handle, key, value).prop_map(|(handle, key, value)| (format!("pointsman.{handle}{key}"), value.to_owned()));
    let kontena = select(
        &[
            "load_balancer.name",
            "load_balancer.mode",
            "load_balancer.internal_port",
            "service.name",
            "stack.name",
            "container.name",
            "container.overlay_cidr",
        ][..],
    );
    let kontena = (kontena, value_of_kontena()).prop_map(|(key, value)| (format!("io.kontena.{key}"), value));
    prop_oneof![3 => ours, 1 => kontena]
}

fn value_of_kontena() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::Strategy;
    proptest::sample::select(&["", "lb", "a/b", "null", "10.0.0.1/16", "81", "../x", "x\u{1b}"][..])
        .prop_map(str::to_owned)
}

proptest::proptest! {
    /// Whatever the labels contain, keys are valid and complaints are single lines.
    #[test]
    fn no_label_makes_a_bad_key(labels in proptest::collection::vec(label(), 0..8)) {
        let made = Container { labels: labels.into_iter().collect(), ..container("") };
        let defaults = AgentDefaults { prefix: Some("/p".to_owned()), node: "n".to_owned(), ..AgentDefaults::default() };
        let (wanted, complaints) = wanted([&made], &defaults);
        for (prefix, wanted) in wanted {
            for (key, value) in &wanted.instances {
                let full = format!("{prefix}/{key}");
                let bad = |segment: &str| matches!(segment, "" | "." | "..") || segment.chars().any(char::is_control);
                proptest::prop_assert!(!full[1..].split('/').any(bad), "{full:?}");
                proptest::prop_assert_eq!(key.split('/').count(), 4, "{}", key);
                proptest::prop_assert!(!value.contains("drain") && value.contains(':'), "{value:?}");
            }
        }
        for complaint in complaints {
            proptest::prop_assert!(!complaint.to_string().chars().any(char::is_control), "{complaint}");
        }
    }
}
