//! What ACME does in TLS handshakes: answers to challenges (tls-alpn-01), and certificates on demand.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{NAMES, World, served};
use crate::fleet::Store;
use crate::harness::{Api, PATIENCE, Pebble, Scripted, answer, engine, holds, shell, wait, wait_within};

/// What `openssl` says of a handshake that offers these protocols, until the server closes; and of the certificate.
fn offering(https: SocketAddr, name: &str, protocols: &str) -> String {
    let client = format!("timeout 20 openssl s_client -connect {https} -servername {name} -alpn {protocols}");
    let said = shell(&format!("({client} </dev/null 2>&1; echo code $?)"));
    let cert = shell(&format!("{client} </dev/null 2>/dev/null | openssl x509 -noout -text 2>/dev/null"));
    format!("{}{}", said.stdout, cert.stdout)
}

const CHECK: &str = "acme-tls/1";
const REFUSED: &str = "alert number 120";

#[test]
fn an_authority_is_shown_a_certificate_in_a_handshake() {
    let mut world = World::new(Store::etcd(Api::V3), 0, &NAMES, Pebble::start);
    if !engine().differs("tls-alpn") {
        // It would find nothing over HTTP.
        world.http_port = crate::harness::free_port();
    }
    world.set("config/acme/challenge", "tls-alpn-01");
    for (number, name) in (1..=3).zip(NAMES) {
        world.lead(name, number);
        world.start(number);
    }
    world.set("services/shop/acme", "true");
    world.wait_served(&NAMES);
    assert_eq!(world.pebble.counts(), (3, 3), "one order a name");
    let (running, https) = &world.balancers[0];
    if engine().differs("tls-alpn") {
        running.wait_problem("unsupported", &["config/acme/challenge", "http-01 is used"]);
        return;
    }
    for name in [NAMES[0], "other.test"] {
        let said = offering(*https, name, CHECK);
        assert!(said.contains(REFUSED), "nothing is checked: {said}");
    }
    for protocols in ["acme-tls/1,http/1.1", "http/1.1,acme-tls/1"] {
        let said = offering(*https, NAMES[0], protocols);
        assert!(said.contains("ALPN protocol: http/1.1") && said.contains("Pebble"), "{protocols}: {said}");
    }
}

#[test]
fn only_an_authority_sees_the_answer_to_a_challenge() {
    if engine().differs("tls-alpn") {
        return;
    }
    let world = World::new(Store::etcd(Api::V3), 2, &NAMES[..2], Pebble::start);
    world.set("config/acme/challenge", "tls-alpn-01");
    world.set("services/shop/acme", "true");
    world.wait_served(&NAMES[..2]);
    let leader = world.leader();
    // Until it answers too, the authority is not told.
    world.balancers[1 - leader].0.process.signal("STOP");
    let name = NAMES[2];
    world.lead(name, u8::try_from(leader + 1).expect("one of two"));
    world.set("services/shop/domain", &NAMES.join(","));
    let https = world.balancers[leader].1;
    let said = wait_within("an answer", PATIENCE, || {
        let said = offering(https, name, CHECK);
        said.contains("ALPN protocol: acme-tls/1").then_some(said)
    });
    // id-pe-acmeIdentifier, critical (RFC 8737 section 3).
    assert!(said.contains("1.3.6.1.5.5.7.1.31: critical"), "{said}");
    assert!(said.contains(&format!("DNS:{name}")) && !said.contains("code 124"), "it is over at once: {said}");
    for (name, protocols) in [(name, "http/1.1"), (name, "acme-tls/1,http/1.1")] {
        let said = offering(https, name, protocols);
        assert!(!said.contains("1.3.6.1.5.5.7.1.31"), "{protocols}: {said}");
    }
    assert!(offering(https, NAMES[0], CHECK).contains(REFUSED), "this name is not being checked");
    world.balancers[1 - leader].0.process.signal("CONT");
    world.wait_served(&NAMES);
}

/// Has handshakes ask for certificates, once all balancers know it.
#[track_caller]
fn on_demand(world: &World, value: &str) {
    let set = world.store.run(&format!("set config/acme/on_demand {value} --wait"));
    assert_eq!(set.code, Some(0), "{}{}", set.stdout, set.stderr);
}

/// How many of the names in `certs` only handshakes wanted.
fn demanded(world: &World) -> usize {
    world.store.run("certs").stdout.matches(" on-demand ").count()
}

#[test]
fn the_first_handshake_for_an_allowed_name_asks_for_its_certificate() {
    let world = World::new(Store::etcd(Api::V3), 2, &NAMES[..1], Pebble::start);
    world.lead("a.user.test", 1);
    if engine().differs("on-demand") {
        world.set("config/acme/on_demand", "*.user.test");
        world.balancers[0].0.wait_problem("unsupported", &["config/acme/on_demand", "no handshake with HAProxy"]);
        return;
    }
    on_demand(&world, "*.user.test,user.test");
    world.leader();
    let (start, https) = (Instant::now(), world.balancers[1].1);
    let first = served(https, "a.user.test");
    assert!(first.is_some() || start.elapsed() >= Duration::from_secs(10), "it waits: {:?}", start.elapsed());
    world.wait_served(&["a.user.test"]);
    for name in ["other.test", "x.y.user.test", "localhost", NAMES[0]] {
        assert_eq!(served(https, name), None, "{name}");
    }
    assert_eq!((world.pebble.counts(), demanded(&world)), ((1, 1), 1));
    // It is renewed as all others, while it is allowed.
    let first = served(https, "a.user.test");
    assert_eq!(world.store.run("certs renew a.user.test").code, Some(0));
    wait("another certificate", || served(https, "a.user.test").is_some_and(|now| Some(now) != first));
    on_demand(&world, "user.test");
    world.set("services/shop/acme", "true");
    world.wait_served(&NAMES[..1]);
    let orders = world.pebble.counts().0;
    assert_eq!(world.store.run("certs renew a.user.test").code, Some(0));
    holds("no order", Duration::from_secs(3), || world.pebble.counts().0 == orders);
    assert!(served(https, "a.user.test").is_some(), "it serves until it expires");
}

#[test]
fn a_url_says_which_names_may_have_certificates() {
    if engine().differs("on-demand") {
        return;
    }
    let asked = Scripted::new(|_, line| {
        let is_good = line.starts_with("GET /ask?domain=good.test ");
        answer(if is_good { 200 } else { 404 }, "")
    });
    let world = World::new(Store::folder(), 1, &NAMES[..1], Pebble::start);
    world.lead("good.test", 1);
    world.lead("bad.test", 1);
    on_demand(&world, &format!("http://{}/ask", asked.instance()));
    let https = world.balancers[0].1;
    wait("its certificate", || served(https, "good.test").is_some());
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(served(https, "bad.test"), None);
        assert!(start.elapsed() < Duration::from_secs(10), "nothing is waited for: {:?}", start.elapsed());
    }
    assert_eq!(served(https, "10.0.0.1"), None);
    let mut lines = asked.lines();
    lines.sort();
    let line = |name: &str| format!("GET /ask?domain={name} HTTP/1.1");
    let lines: Vec<_> = lines.iter().map(|line| line.trim()).collect();
    assert_eq!(lines, [line("bad.test"), line("good.test")], "once for each name");
    assert_eq!((world.pebble.counts(), demanded(&world)), ((1, 1), 1));
    let (running, refused) = (&world.balancers[0].0, ["outcome=\"refused\""]);
    wait("it is counted", || running.metric("pointsman_acme_demands_total", &refused) >= 1.0);
}

#[test]
fn a_name_on_demand_that_leads_elsewhere_is_not_asked_for() {
    if engine().differs("on-demand") {
        return;
    }
    const NAME: &str = "a.user.test";
    let world = World::new(Store::etcd(Api::V3), 1, &NAMES[..1], Pebble::start);
    world.lead(NAME, 9);
    on_demand(&world, "*.user.test");
    world.leader();
    let (running, https) = &world.balancers[0];
    assert_eq!(served(*https, NAME), None);
    running.wait_problem("no_certificate", &["acme/a.user.test", "not asked for: a.user.test leads to 127.0.0.9"]);
    assert_eq!(world.pebble.counts().0, 0, "the authority is not asked");
    assert_eq!(running.metric("pointsman_acme_names", &["state=\"missing\""]), 1.0);
    world.lead(NAME, 1);
    assert_eq!(world.store.run("certs renew a.user.test").code, Some(0));
    world.wait_served(&[NAME]);
    assert_eq!((world.pebble.counts(), demanded(&world)), ((1, 1), 1));
    wait("its metric", || running.metric("pointsman_acme_names", &["state=\"issued\""]) == 1.0);
    let next = ["certificate=\"acme-a.user.test\"", "step=\"renew\""];
    assert_eq!(running.metric("pointsman_acme_next", &next), 1.0);
    let said = world.store.run("doctor --http 127.0.0.1:0 --admin 127.0.0.1:0");
    assert!(said.stdout.contains("certificates for 1 name; a.user.test is renewed next"), "{}", said.stdout);
    // What handshakes wanted is revoked and replaced as all others.
    let first = served(*https, NAME);
    let said = world.store.run("certs revoke a.user.test");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    wait("another certificate", || served(*https, NAME).is_some_and(|now| Some(now) != first));
    assert_eq!((world.pebble.counts().0, demanded(&world)), (2, 1));
}

#[test]
fn a_flood_of_names_asks_for_few_certificates() {
    if engine().differs("on-demand") {
        return;
    }
    const MOST_NEW: usize = 50;
    let mut world = World::new(Store::etcd(Api::V3), 1, &NAMES[..1], Pebble::start);
    world.set("services/shop/acme", "true");
    world.wait_served(&NAMES[..1]);
    world.pebble.kill();
    on_demand(&world, "*.user.test");
    let https = world.balancers[0].1;
    wait("the key", || served(https, "ready.user.test").is_none() && demanded(&world) == 1);
    let flood = |number| std::thread::spawn(move || served(https, &format!("n{number}.user.test")));
    let clients: Vec<_> = (0..MOST_NEW + 30).map(flood).collect();
    wait("as many as are allowed", || demanded(&world) == MOST_NEW);
    assert!(served(https, NAMES[0]).is_some(), "other names are served meanwhile");
    clients.into_iter().for_each(|client| assert_eq!(client.join().expect("it ended"), None));
    let start = Instant::now();
    assert_eq!(served(https, "late.user.test"), None);
    assert!(start.elapsed() < Duration::from_secs(10), "nothing is waited for: {:?}", start.elapsed());
    assert_eq!(demanded(&world), MOST_NEW);
    world.balancers[0].0.process.wait_log("50 names were new within an hour");
    let running = &world.balancers[0].0;
    let verdicts = |outcome: &str| running.metric("pointsman_acme_demands_total", &[&format!("outcome=\"{outcome}\"")]);
    wait("verdicts", || verdicts("coming") >= 50.0 && verdicts("limited") >= 1.0);
}
