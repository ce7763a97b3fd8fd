//! Certificates by ACME: Pebble, which checks names for real and refuses half of the nonces, several balancers of an id,
//! and every kind of store.

mod handshakes;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::fleet::Store;
use crate::harness::{
    Api, Backend, Knot, Launch, NameServer, PATIENCE, Pebble, Pointsman, Site, Zone, certificate, engine, epoch, get,
    holds, run, shell, wait, wait_within,
};

/// A fleet, its store, the authority and the names that it looks up.
pub(crate) struct World {
    pub(crate) names: NameServer,
    pub(crate) pebble: Pebble,
    pub(crate) store: Store,
    pub(crate) balancers: Vec<(Pointsman, SocketAddr)>,
    /// Where they listen for HTTP.
    http_port: u16,
    /// More flags of balancers, variables of theirs, and what they are started by.
    pub(crate) flags: Vec<String>,
    pub(crate) variables: Vec<(&'static str, String)>,
    pub(crate) wrapper: Vec<&'static str>,
    /// The file of `--acme-ca`; by default, that of the authority.
    pub(crate) ca: Option<PathBuf>,
    _backend: Backend,
}

impl World {
    /// So many balancers, each on an address of its own. The names lead to one of them each.
    pub(crate) fn new(store: Store, balancers: u8, names: &[&str], pebble: impl FnOnce(&NameServer) -> Pebble) -> Self {
        let server = NameServer::with(&[]);
        let backend = Backend::naming("one");
        let pebble = pebble(&server);
        let mut world = Self {
            names: server,
            http_port: pebble.http_port(),
            pebble,
            store,
            balancers: Vec::new(),
            flags: Vec::new(),
            variables: Vec::new(),
            wrapper: Vec::new(),
            ca: None,
            _backend: backend,
        };
        for (number, name) in (0..).zip(names) {
            world.lead(name, 1 + number % balancers.max(1));
        }
        world.set("config/acme/directory", &world.pebble.directory());
        world.set("config/acme/check", &world.pebble.http_port().to_string());
        world.set("config/acme/agree", "true");
        world.set("config/acme/contact", "admin@shop.test");
        world.set("services/shop/domain", &names.join(","));
        world.set("services/shop/one", &world._backend.instance());
        for number in 1..=balancers {
            world.start(number);
        }
        world
    }

    /// Makes a name lead to a balancer, or to nobody.
    pub(crate) fn lead(&self, name: &str, number: u8) {
        self.names.set(name, Zone::At(vec![[127, 0, 0, number].into()], 1));
    }

    #[track_caller]
    pub(crate) fn set(&self, key: &str, value: &str) {
        let set = self.store.run(&format!("set {key} {value}"));
        assert_eq!(set.code, Some(0), "{key}: {}{}", set.stdout, set.stderr);
    }

    pub(crate) fn start(&mut self, number: u8) {
        let https = SocketAddr::from(([127, 0, 0, number], self.pebble.tls_port()));
        let http = format!("127.0.0.{number}:{}", self.http_port);
        let flags: Vec<&str> = self.store.flags.iter().chain(&self.flags).map(String::as_str).collect();
        let launch = Launch::bare().args(&flags).args(&["--name", &format!("lb{number}"), "--workers", "1"]);
        let launch = launch.args(&["--engine", engine().name(), "--admin", "127.0.0.1:0", "--http", &http]);
        let launch = launch.args(&["--resolver", &self.names.flag(), "--https", &https.to_string(), "--log", "info"]);
        let launch = launch.arg("--acme-ca");
        let launch = self.variables.iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        let running = launch.under(&self.wrapper).arg(self.ca.clone().unwrap_or_else(|| self.pebble.ca())).start();
        running.wait_ready();
        self.balancers.push((running, https));
    }

    /// Waits until every balancer presents a certificate of the authority for each name.
    #[track_caller]
    pub(crate) fn wait_served(&self, names: &[&str]) {
        for (_, https) in &self.balancers {
            for name in names {
                wait(&format!("{name} at {https}"), || served(*https, name).is_some());
            }
        }
    }

    /// The balancer that asks for certificates: its place in the list.
    #[track_caller]
    pub(crate) fn leader(&self) -> usize {
        wait_within("a leader", PATIENCE, || {
            let leads = |(running, _): &(Pointsman, SocketAddr)| {
                running.process.log().contains("this balancer asks for certificates now")
            };
            self.balancers.iter().position(leads)
        })
    }
}

/// What is said of the certificate that is presented for a name.
pub(crate) fn presented(https: SocketAddr, name: &str) -> String {
    shell(&format!(
        "openssl s_client -connect {https} -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -serial -issuer -ext subjectAltName"
    ))
    .stdout
}

/// The serial number of the certificate that is presented for a name, if the authority issued it for this name.
pub(crate) fn served(https: SocketAddr, name: &str) -> Option<String> {
    let said = presented(https, name);
    let is_its = said.contains("Pebble") && said.contains(&format!("DNS:{name}"));
    let serial = said.lines().find_map(|line| line.strip_prefix("serial="))?;
    is_its.then(|| serial.to_owned())
}

const NAMES: [&str; 3] = ["shop.test", "www.shop.test", "api.shop.test"];

#[track_caller]
fn check_fleet(store: Store, names: &[&str], balancers: u8) {
    let world = World::new(store, balancers, names, Pebble::start);
    // Whatever becomes of other requests, the authority gets its answer.
    world.set("services/shop/maintenance", "true");
    assert_eq!(world.pebble.counts().0, 0, "nobody asked");
    world.set("services/shop/acme", "true");
    world.wait_served(names);
    assert_eq!(world.pebble.counts(), (names.len(), names.len()), "one order a name");
    let listed = world.store.run("certs");
    assert_eq!(listed.code, Some(0), "{}", listed.stdout);
    for name in names {
        let row = listed.stdout.lines().find(|line| line.starts_with(&format!("{name} "))).expect("a row");
        assert!(row.contains("Pebble Intermediate CA") && row.contains("renew "), "{row}");
    }
}

#[test]
fn one_balancer_asks_and_every_balancer_serves() {
    let names: Vec<String> = (1..=20).map(|number| format!("n{number}.test")).collect();
    check_fleet(Store::etcd(Api::V3), &names.iter().map(String::as_str).collect::<Vec<_>>(), 3);
}

#[test]
fn the_same_with_etcd_v2() {
    check_fleet(Store::etcd(Api::V2), &NAMES, 2);
}

#[test]
fn the_same_with_a_folder() {
    check_fleet(Store::folder(), &NAMES, 2);
}

#[test]
fn another_leader_goes_on_with_the_same_order() {
    let mut world = World::new(Store::etcd(Api::V3), 3, &NAMES[..1], |names| Pebble::pausing(names, 86_400, 8));
    world.set("config/acme/check", "false");
    world.lead(NAMES[0], 3);
    // Every balancer must answer first: the leader waits for the one that is stopped.
    world.balancers[2].0.process.signal("STOP");
    world.set("services/shop/acme", "true");
    let leader = world.leader();
    assert_ne!(leader, 2);
    wait("the order", || world.pebble.counts().0 == 1);
    wait("its record", || world.store.run("certs").stdout.contains("being checked"));
    world.balancers.remove(leader);
    world.balancers[1].0.process.signal("CONT");
    world.leader();
    // The authority takes its time: this leader dies as well.
    wait("validation", || world.pebble.log().contains("validated") || world.pebble.log().contains("Pulled a task"));
    let leader = world.leader();
    if leader == 0 {
        world.balancers.remove(leader);
    }
    world.wait_served(&NAMES[..1]);
    assert_eq!(world.pebble.counts(), (1, 1), "the same order");
}

#[test]
fn certificates_are_renewed_without_a_failed_handshake() {
    let world = World::new(Store::etcd(Api::V3), 2, &NAMES[..1], |names| Pebble::pausing(names, 24, 0));
    world.set("services/shop/acme", "true");
    world.wait_served(&NAMES[..1]);
    let https = world.balancers[1].1;
    let first = served(https, NAMES[0]).expect("served");
    let start = std::time::Instant::now();
    wait_within("another certificate", PATIENCE, || {
        let now = served(https, NAMES[0]).expect("every handshake succeeds");
        (now != first).then_some(())
    });
    assert!(start.elapsed() >= Duration::from_secs(5), "not before its time: {:?}", start.elapsed());
    world.wait_served(&NAMES[..1]);
}

#[test]
fn an_authority_that_is_down_or_lost_its_memory() {
    let mut world = World::new(Store::folder(), 1, &NAMES[..1], Pebble::start);
    world.pebble.kill();
    world.set("services/shop/acme", "true");
    let running = &world.balancers[0].0;
    running.wait_problem("no_certificate", &["acme/shop.test", "cannot talk to the authority", "the next try is at"]);
    world.pebble.resume();
    world.wait_served(&NAMES[..1]);
    wait("no problem", || !world.balancers[0].0.admin_page("/api/problems").contains("no_certificate"));
    let first = served(world.balancers[0].1, NAMES[0]);
    // It knows our account no more.
    world.pebble.kill();
    world.pebble.resume();
    assert_eq!(world.store.run("certs renew other.test").code, Some(2));
    assert_eq!(world.store.run("certs renew shop.test").code, Some(0));
    wait("a certificate for a new account", || {
        let now = served(world.balancers[0].1, NAMES[0]);
        assert!(now.is_some(), "the certificate from before serves on");
        now != first
    });
}

#[test]
fn a_name_that_leads_elsewhere_is_told_in_the_words_of_the_authority() {
    let world = World::new(Store::folder(), 1, &NAMES, Pebble::start);
    world.set("config/acme/check", "false");
    world.lead(NAMES[2], 9);
    world.set("services/shop/acme", "true");
    world.wait_served(&NAMES[..2]);
    let running = &world.balancers[0].0;
    running.wait_problem("no_certificate", &["acme/api.shop.test", "the authority says", "127.0.0.9"]);
    let orders = world.pebble.counts().0;
    assert_eq!(orders, 3);
    holds("it is not asked again at once", Duration::from_secs(3), || world.pebble.counts().0 == orders);
    let listed = world.store.run("certs");
    assert_eq!(listed.code, Some(1));
    assert!(listed.stdout.contains("api.shop.test: the authority says "), "{}", listed.stdout);
}

/// Metrics, the table and `doctor`: a certificate for shop.test, and none for four others.
#[track_caller]
fn check_seen(world: &World) {
    for (running, _) in &world.balancers {
        assert_eq!(running.metric("pointsman_acme_names", &["state=\"issued\""]), 1.0);
        assert_eq!(running.metric("pointsman_acme_names", &["state=\"missing\""]), 4.0);
        let next = |labels: &[&str]| running.metric("pointsman_acme_next", labels);
        assert_eq!(next(&["certificate=\"acme-shop.test\"", "step=\"renew\""]), 1.0);
        assert_eq!(next(&["certificate=\"acme-none.test\"", "step=\"order\""]), 1.0);
        let renew = running.metric("pointsman_acme_renew_seconds", &["certificate=\"acme-shop.test\""]);
        assert!(renew > epoch() as f64, "{renew}");
        let table: serde_json::Value = serde_json::from_str(&running.admin_page("/api/table")).expect("JSON");
        let rows = table["acme"].as_array().expect("names");
        let row = |name: &str| rows.iter().find(|row| row["name"] == name).expect("a row");
        assert!(row("shop.test")["issuer"].as_str().is_some_and(|issuer| issuer.contains("Pebble")), "{table}");
        assert_eq!(row("shop.test")["next"], "renew");
        let error = row("other.test")["error"].as_str().unwrap_or_default();
        assert!(error.starts_with("not asked for: other.test leads to 127.0.0.8"), "{error}");
    }
    let leader = &world.balancers[world.leader()].0;
    assert_eq!(leader.metric("pointsman_acme_orders_total", &["outcome=\"issued\""]), 1.0);
    assert!(leader.metric("pointsman_acme_orders_total", &["outcome=\"elsewhere\""]) >= 4.0);
    let said = world.store.run("doctor --http 127.0.0.1:0 --admin 127.0.0.1:0");
    assert!(said.stdout.contains("no certificate for none.test: not asked for"), "{}", said.stdout);
}

#[test]
fn the_authority_is_not_asked_for_names_that_lead_elsewhere() {
    let names = ["shop.test", "none.test", "nowhere.test", "other.test", "both.test"];
    let world = World::new(Store::etcd(Api::V3), 2, &names, Pebble::start);
    let stranger = std::net::TcpListener::bind(("127.0.0.8", world.pebble.http_port())).expect("a port of ours");
    std::thread::spawn(move || {
        for mut stream in stranger.incoming().flatten() {
            let _ = stream.read(&mut [0; 2048]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    world.names.forget("none.test");
    world.lead("nowhere.test", 9);
    world.lead("other.test", 8);
    let both = vec![[127, 0, 0, 2].into(), [127, 0, 0, 8].into()];
    world.names.set("both.test", Zone::At(both, 1));
    world.set("services/shop/acme", "true");
    world.wait_served(&names[..1]);
    let right = "make it lead to the balancers, or set config/acme/check to false";
    for (name, seen) in [
        ("none.test", "none.test cannot be looked up: there is no such name"),
        ("nowhere.test", "nowhere.test leads to 127.0.0.9 (Connection refused"),
        ("other.test", "other.test leads to 127.0.0.8, which answers http://other.test/.well-known/acme-challenge/"),
        ("both.test", "both.test leads to 127.0.0.8, which answers"),
    ] {
        world.balancers[0].0.wait_listed("no_certificate", &[name, "not asked for: ", seen, right]);
    }
    holds("nothing is asked for", Duration::from_secs(3), || world.pebble.counts().0 == 1);
    let listed = world.store.run("certs");
    assert_eq!(listed.code, Some(1));
    assert!(listed.stdout.contains("none.test: not asked for: "), "{}", listed.stdout);
    check_seen(&world);
    // It is looked at again by itself, and at once if somebody says so.
    world.lead("nowhere.test", 2);
    assert_eq!(world.store.run("certs renew nowhere.test").code, Some(0));
    world.wait_served(&names[2..3]);
    world.lead("none.test", 1);
    world.wait_served(&names[1..2]);
    assert_eq!(world.pebble.counts(), (3, 3), "one order a name");
    world.set("config/acme/check", "false");
    assert_eq!(world.store.run("certs renew other.test").code, Some(0));
    world.balancers[0].0.wait_problem("no_certificate", &["acme/other.test", "the authority says"]);
}

#[test]
fn the_store_is_away_in_the_middle() {
    let world = World::new(Store::etcd(Api::V3), 2, &NAMES[..2], |names| Pebble::pausing(names, 86_400, 4));
    world.set("services/shop/acme", "true");
    wait("the orders", || world.pebble.counts().0 == 2);
    let etcd = world.store.etcd.as_ref().expect("its store is etcd");
    etcd.signal("STOP");
    std::thread::sleep(crate::harness::span(12, 60));
    etcd.signal("CONT");
    world.wait_served(&NAMES[..2]);
    assert_eq!(world.pebble.counts(), (2, 2), "no second order");
}

#[test]
fn names_with_a_certificate_of_their_own_are_never_asked_for() {
    let world = World::new(Store::folder(), 1, &NAMES[..2], Pebble::start);
    let own = certificate(NAMES[0], epoch() - 86_400, epoch() + 86_400);
    world.store.put("certs/own", &own);
    world.set("config/acme/auto", "true");
    world.wait_served(&NAMES[1..2]);
    holds("one order", Duration::from_secs(2), || world.pebble.counts().0 == 1);
}

#[test]
fn a_revoked_certificate_is_replaced_at_once() {
    let world = World::new(Store::etcd(Api::V3), 2, &NAMES[..2], Pebble::start);
    world.set("services/shop/acme", "true");
    world.wait_served(&NAMES[..2]);
    let serials = |name: &str| world.balancers.iter().map(|(_, https)| served(*https, name)).collect::<Vec<_>>();
    let key = |name: &str| {
        shell(&format!(
            "openssl s_client -connect {} -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -pubkey",
            world.balancers[0].1
        ))
        .stdout
    };
    let (first, other, old_key) = (serials(NAMES[0]), serials(NAMES[1]), key(NAMES[0]));
    assert_eq!(world.store.run("certs revoke other.test").code, Some(2));
    assert_eq!(world.store.run("certs revoke shop.test --reason nonsense").code, Some(2));
    let said = world.store.run("certs revoke SHOP.test --reason key-compromise");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let expected = "the certificate for shop.test is revoked (key-compromise); one with a new key is ordered, and the old one serves";
    assert!(said.stderr.contains(expected), "{}", said.stderr);
    let serial = first[0].as_deref().expect("served").to_ascii_lowercase();
    let status = world.pebble.status(&serial);
    assert!(status.contains("Revoked") && status.contains("\"Reason\": 1"), "{status}");
    wait("another certificate everywhere", || {
        let now = serials(NAMES[0]);
        assert!(now.iter().all(Option::is_some), "every handshake succeeds");
        now.iter().zip(&first).all(|(now, first)| now != first)
    });
    assert_ne!(key(NAMES[0]), old_key, "a new key");
    assert_eq!(serials(NAMES[1]), other, "nobody else's");
    assert_eq!(world.pebble.counts(), (3, 3));
    // The authority does not know this account.
    let mut world = world;
    world.pebble.kill();
    world.pebble.resume();
    let said = world.store.run("certs revoke shop.test");
    assert_ne!(said.code, Some(0));
    assert!(said.stderr.contains("the certificate for shop.test is not revoked"), "{}", said.stderr);
}

#[test]
fn answers_of_kontena_are_given() {
    let site = Site::new();
    let answer = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
    let running = Launch::on(&site).env("ACME_CHALLENGE_shop_test", answer).start();
    running.wait_ready();
    let path = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    let said = get(running.http, "shop.test", path).expect("an answer");
    assert_eq!((said.status, said.text().as_str()), (200, answer));
    assert_eq!(get(running.http, "shop.test", &format!("{path}x")).expect("an answer").status, 503);
}

#[test]
fn certificates_of_others_are_taken_over() {
    let site = Site::new();
    let from = site.home().join("others");
    let put = |path: &str, text: &str| {
        let path = from.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("our own folder");
        std::fs::write(path, text).expect("our own folder");
    };
    let [first, second, third] = ["bot.test", "sh.test", "traefik.test"].map(|name| {
        let pem = certificate(name, epoch() - 86_400, epoch() + 80 * 86_400);
        let at = pem.find("-----BEGIN PRIVATE").or(pem.find("-----BEGIN EC PRIVATE")).expect("a key");
        let other = pem.find("-----BEGIN CERT").expect("a certificate");
        if at > other {
            (pem[other..at].to_owned(), pem[at..].to_owned())
        } else {
            (pem[other..].to_owned(), pem[at..other].to_owned())
        }
    });
    put("letsencrypt/live/bot.test/fullchain.pem", &first.0);
    put("letsencrypt/live/bot.test/privkey.pem", &first.1);
    put("letsencrypt/live/README", "no certificate");
    put("acme.sh/sh.test_ecc/fullchain.cer", &second.0);
    put("acme.sh/sh.test_ecc/sh.test.key", &second.1);
    put("acme.sh/ca/nothing", "");
    let encoded = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let json = serde_json::json!({ "resolver": { "Account": null, "Certificates": [
        { "domain": { "main": "traefik.test" }, "certificate": encoded(&third.0), "key": encoded(&third.1) },
        { "domain": { "main": "bad.test" }, "certificate": "!", "key": "" },
    ]}});
    put("acme.json", &json.to_string());
    let store = site.folder().display().to_string();
    let import = |what: &str| {
        run(&["certs", "import", &from.join(what).display().to_string(), "--store", &store, "--prefix", "/"])
    };
    assert_eq!(import("letsencrypt").code, Some(0));
    assert_eq!(import("acme.sh").code, Some(0));
    let said = import("acme.json");
    assert_eq!(said.code, Some(1), "one of them is none: {}", said.stderr);
    assert!(import("letsencrypt").stderr.contains("the store has one that lives as long"));
    assert_eq!(import("letsencrypt/live/bot.test").code, Some(2));
    let listed = run(&["certs", "--store", &store, "--prefix", "/"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stdout);
    let https = crate::harness::free_address();
    let running = Launch::on(&site).args(&["--https", &https.to_string()]).start();
    running.wait_ready();
    for name in ["bot.test", "sh.test", "traefik.test"] {
        assert!(listed.stdout.contains(&format!("{name} ")), "{}", listed.stdout);
        wait(name, || {
            shell(&format!(
            "openssl s_client -connect {https} -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -subject"
        )).stdout.contains(name)
        });
    }
    // Private keys are for the owner of the folder only.
    let modes = shell(&format!("find {store}/.pointsman -path '*acme/certs/*' -type f -printf '%m\\n' | sort -u"));
    assert_eq!(modes.stdout.trim(), "600");
}

#[test]
fn wildcards_come_by_dns() {
    let names = ["*.shop.test", "shop.test"];
    let mut world = World::new(Store::etcd(Api::V3), 0, &names, Pebble::start);
    let home = Site::new();
    let records = home.home().join("records");
    std::fs::create_dir(&records).expect("our own folder");
    world.names.set("_acme-challenge.shop.test", Zone::Texts(records.clone()));
    let (hook, calls) = (home.home().join("hook"), home.home().join("calls"));
    let script = format!(
        "#!/bin/sh\necho \"$1 $2\" >>{calls}\ncase $1 in present) : >{records}/$3 ;; cleanup) rm {records}/$3 ;; esac\n",
        calls = calls.display(),
        records = records.display()
    );
    std::fs::write(&hook, script).expect("our own folder");
    shell(&format!("chmod +x {}", hook.display())).ok();
    world.set("config/acme/challenge", "dns-01");
    world.set("services/shop/acme", "true");
    world.start(1);
    world.balancers[0]
        .0
        .wait_problem("no_certificate", &["acme/shop.test", "set --acme-dns-server or --acme-dns-hook"]);
    world.balancers.clear();
    world.flags = ["--acme-dns-hook", &hook.display().to_string()].map(str::to_owned).into();
    world.start(1);
    world.start(2);
    for (_, https) in &world.balancers {
        wait("the wildcard", || presented(*https, "www.shop.test").contains("DNS:*.shop.test"));
        wait("its parent", || served(*https, "shop.test").is_some());
    }
    assert_eq!(world.pebble.counts(), (2, 2), "one order a name");
    wait("records to be removed", || std::fs::read_dir(&records).expect("our own folder").count() == 0);
    let calls = std::fs::read_to_string(calls).expect("it was called");
    for call in ["present _acme-challenge.shop.test.", "cleanup _acme-challenge.shop.test."] {
        assert_eq!(calls.lines().filter(|line| *line == call).count(), 2, "{calls}");
    }
}

#[test]
fn wildcards_come_by_updates_of_dns() {
    let names = ["*.shop.test", "shop.test"];
    let mut world = World::new(Store::etcd(Api::V3), 0, &names, Pebble::start);
    let knot = Knot::start("shop.test");
    world.names.set("_acme-challenge.shop.test", Zone::Of(knot.address));
    world.set("services/shop/acme", "dns-01");
    let server = knot.address.to_string();
    let start = |world: &mut World, key: &str| {
        world.balancers.clear();
        world.flags = ["--acme-dns-server", &server, "--acme-dns-key", key].map(str::to_owned).into();
        world.start(1);
    };
    // A key that the server does not know, a file that holds none, and then the right one.
    start(&mut world, &knot.key("hmac-sha256:up.test:d3Jvbmc=").display().to_string());
    let seen = ["_acme-challenge.shop.test. cannot be set at the name server", "it refuses: ", "check the key's name"];
    world.balancers[0].0.wait_problem("no_certificate", &seen);
    start(&mut world, &knot.key("nonsense").display().to_string());
    world.balancers[0].0.wait_problem("no_certificate", &["--acme-dns-key", "expected ALGORITHM:NAME:SECRET"]);
    assert_eq!(world.pebble.counts().1, 0);
    start(&mut world, &knot.key(Knot::KEY).display().to_string());
    let https = world.balancers[0].1;
    wait("the wildcard", || presented(https, "www.shop.test").contains("DNS:*.shop.test"));
    wait("its parent", || served(https, "shop.test").is_some());
    assert_eq!(world.pebble.counts(), (2, 2), "one order a name");
    let log = knot.log();
    assert!(log.contains("DDNS"), "{log}");
    wait("records to be removed", || !knot.zone().contains("TXT"));
}
