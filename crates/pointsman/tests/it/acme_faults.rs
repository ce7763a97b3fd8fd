//! Certificates by ACME while something is wrong: the authority answers nonsense or wants other terms agreed to, the clock is
//! wrong, the disk is full, services come and go in the middle.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::acme::{World, served};
use crate::fleet::Store;
use crate::harness::{Api, Authority, Pebble, Process, epoch, free_port, holds, long, wait};

/// Passes requests on to the authority, but for those whose path contains the first word of the file `mode`: these get what
/// the second word says.
const LIAR: &str = r#"
import http.client, http.server, os, re, ssl, sys
port, cert, upstream, home = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
LIES = {
    'html': (200, 'text/html', '<html>hello</html>'),
    'json': (200, 'application/json', '{"status": 7}'),
    'long': (200, 'application/json', 'a' * 1000000),
    'empty': (200, 'application/json', ''),
    'error': (500, 'text/html', 'oops'),
    'terms': (403, 'application/problem+json',
              '{"type": "urn:ietf:params:acme:error:userActionRequired", "detail": "agree to the new terms"}'),
    'nonce': (200, 'application/json', '{"newNonce": "", "newAccount": "https://[", "newOrder": "a b"}'),
    'gateway': (403, 'application/json', '{"message": "blocked"}'),
    'other': (200, 'application/pem-certificate-chain', re.search('-----BEGIN CERT.*?-----END CERTIFICATE-----', open(cert).read(), re.S)[0]),
}
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def answer(self):
        body = self.rfile.read(int(self.headers.get('content-length', 0)))
        path, lie = open(os.path.join(home, 'mode')).read().split()
        talk = http.client.HTTPSConnection(upstream, context=ssl._create_unverified_context())
        wrong = path in self.path
        if wrong:
            print('lied:', lie, flush=True)
            status, kind, text = LIES[lie]
            headers, answer = [('Content-Type', kind)], text.encode()
            # The next request needs a nonce.
            talk.request('HEAD', '/nonce-plz', headers={'Host': self.headers['host']})
            headers.append(('Replay-Nonce', talk.getresponse().headers.get('Replay-Nonce', '')))
        else:
            talk.request(self.command, self.path, body or None, dict(self.headers))
            reply = talk.getresponse()
            answer, status = reply.read(), reply.status
            headers = [(n, v) for n, v in reply.getheaders() if n.lower() not in ('content-length', 'transfer-encoding', 'connection')]
        self.send_response(status)
        for name, value in headers: self.send_header(name, value)
        self.send_header('Content-Length', str(len(answer)))
        self.end_headers()
        if self.command != 'HEAD': self.wfile.write(answer)
    do_GET = do_POST = do_HEAD = answer
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert)
server.socket = context.wrap_socket(server.socket, server_side=True)
print('listening', flush=True)
server.serve_forever()
"#;

/// A running [`LIAR`].
struct Liar {
    home: TempDir,
    authority: Authority,
    address: SocketAddr,
    process: Process,
}

impl Liar {
    #[track_caller]
    fn before(pebble: &Pebble) -> Self {
        let (home, authority) = (TempDir::new().expect("a temporary folder"), Authority::new());
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let cert = authority.issue("liar", "DNS:localhost,IP:127.0.0.1");
        let script = home.path().join("liar.py");
        std::fs::write(&script, LIAR).expect("our own folder");
        std::fs::write(home.path().join("mode"), "nowhere html").expect("our own folder");
        let mut command = Command::new("python3");
        command.arg(&script).arg(address.port().to_string()).arg(cert).arg(pebble.address().to_string());
        let mut process = Process::start(command.arg(home.path()));
        process.wait_log("listening");
        Self { home, authority, address, process }
    }

    /// Lies in this way to requests for this path.
    fn lie(&self, path: &str, lie: &str) {
        let new = self.home.path().join("new");
        std::fs::write(&new, format!("{path} {lie}")).expect("our own folder");
        std::fs::rename(&new, self.home.path().join("mode")).expect("our own folder");
    }

    fn lies(&self) -> usize {
        self.process.log().matches("lied:").count()
    }

    fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Those who vouch for it and for others, in one file.
    fn ca(&self, pebble: &Pebble) -> PathBuf {
        let file = self.home.path().join("ca.pem");
        let other = std::fs::read_to_string(pebble.ca()).expect("its file");
        std::fs::write(&file, format!("{}\n{other}", self.authority.pem())).expect("our own folder");
        file
    }
}

#[test]
fn an_authority_that_answers_nonsense_or_changes_its_terms() {
    let mut world = World::new(Store::folder(), 0, &["shop.test"], Pebble::start);
    world.lead("shop.test", 1);
    let liar = Liar::before(&world.pebble);
    world.set("config/acme/directory", &liar.directory());
    world.set("services/shop/acme", "true");
    liar.lie("/dir", "html");
    world.ca = Some(liar.ca(&world.pebble));
    world.start(1);
    let mut seen = 0;
    // Each ends an order or a try; an operator has the next one begun.
    for (path, lie, said) in [
        ("/dir", "html", "cannot talk to the authority"),
        ("/dir", "long", "cannot talk to the authority"),
        ("/dir", "nonce", "the authority says what cannot be understood"),
        ("/sign-me-up", "json", "cannot talk to the authority"),
        ("/order-plz", "empty", "cannot talk to the authority"),
        ("/order-plz", "error", "cannot talk to the authority"),
        ("/order-plz", "terms", "the authority says userActionRequired: agree to the new terms"),
        ("/order-plz", "gateway", "the authority says "),
        ("/certZ", "html", "the authority issued what cannot be used for shop.test: no PEM"),
        ("/certZ", "other", "the private key belongs to another certificate"),
    ] {
        liar.lie(path, lie);
        world.store.run("certs renew shop.test");
        wait(&format!("{lie} at {path}"), || liar.lies() > seen);
        world.balancers[0].0.wait_listed("no_certificate", &["acme/shop.test", said]);
        seen = liar.lies();
    }
    liar.lie("nowhere", "html");
    assert_eq!(world.store.run("certs renew shop.test").code, Some(0));
    world.wait_served(&["shop.test"]);
    wait("no problem", || !world.balancers[0].0.admin_page("/api/problems").contains("no_certificate"));
}

#[test]
fn the_clock_is_wrong_and_is_set_right() {
    let mut world = World::new(Store::folder(), 0, &["shop.test"], Pebble::start);
    world.lead("shop.test", 1);
    let home = TempDir::new().expect("a temporary folder");
    let clock = home.path().join("clock");
    let set = |text: &str| {
        let new = home.path().join("new");
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &clock)).expect("our own folder");
    };
    set("+20000d");
    world.variables = vec![
        ("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1".to_owned()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    world.set("services/shop/acme", "true");
    world.start(1);
    // Its certificate expired long ago, or so it seems. What is written then says when to try again: in many years.
    world.balancers[0].0.wait_problem("no_certificate", &["acme/shop.test", "cannot talk to the authority", "xpired"]);
    set("+0d");
    // Somebody changes a key; else it is seen within a minute.
    world.set("services/shop/maintenance", "false");
    world.wait_served(&["shop.test"]);
}

#[test]
fn a_service_is_deleted_in_the_middle_of_an_order_and_comes_back() {
    let names = ["shop.test", "other.test"];
    let world = World::new(Store::etcd(Api::V3), 2, &names, |names| Pebble::pausing(names, 86_400, 4));
    world.set("services/shop/domain", names[0]);
    world.set("services/other/domain", names[1]);
    world.set("services/other/one", "127.0.0.1:9");
    world.set("config/acme/auto", "true");
    wait("both orders", || world.pebble.counts().0 == 2);
    let removed = world.store.run("rm services/shop --recursive");
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    world.wait_served(&names[1..]);
    holds("nothing is asked for who is gone", Duration::from_secs(5), || world.pebble.counts() == (2, 1));
    assert!(!world.balancers[0].0.admin_page("/api/problems").contains("no_certificate"));
    world.set("services/shop/domain", names[0]);
    world.set("services/shop/one", "127.0.0.1:9");
    world.wait_served(&names[..1]);
    assert_eq!(world.pebble.counts(), (2, 2), "the same order");
}

#[test]
fn a_name_that_moves_between_services_keeps_its_certificate() {
    let names = ["shop.test", "other.test"];
    let world = World::new(Store::folder(), 1, &names, Pebble::start);
    world.set("services/shop/acme", "true");
    world.wait_served(&names);
    let first = served(world.balancers[0].1, names[0]);
    world.set("services/new/domain", names[0]);
    world.set("services/new/one", "127.0.0.1:9");
    world.set("services/new/acme", "true");
    world.set("services/shop/domain", names[1]);
    holds("the same certificate", Duration::from_secs(3), || {
        served(world.balancers[0].1, names[0]) == first && world.pebble.counts() == (2, 2)
    });
}

/// A key's place in the folder of a store, as a program in a mount namespace of its own sees it.
fn within(id: u32, path: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{id}/root{}", path.display()))
}

#[test]
fn a_full_disk_loses_no_order() {
    let store = Store::folder();
    let folder = PathBuf::from(store.flags[1].clone());
    let aside = folder.join(".pointsman");
    std::fs::create_dir_all(&aside).expect("our own folder");
    let mut world = World::new(store, 0, &["shop.test"], Pebble::start);
    world.lead("shop.test", 1);
    world.variables = vec![("ASIDE", aside.display().to_string())];
    let mount = "mount -t tmpfs -o size=1m tmpfs \"$ASIDE\" && exec \"$@\"";
    world.wrapper = vec!["unshare", "--mount", "sh", "-c", mount, "sh"];
    world.start(1);
    let filler = within(world.balancers[0].0.process.id(), &aside).join("filler");
    let fill = || assert!(std::fs::write(&filler, vec![b'x'; 8 << 20]).is_err(), "the disk is full");
    let accounts = |world: &World| world.pebble.log().matches("accounts in memory").count();
    fill();
    world.set("services/shop/acme", "true");
    holds("nothing is asked for", Duration::from_secs(3), || accounts(&world) == 0);
    std::fs::remove_file(&filler).expect("it is there");
    world.wait_served(&["shop.test"]);
    fill();
    world.lead("other.test", 1);
    world.set("services/shop/domain", "shop.test,other.test");
    wait("the log", || world.balancers[0].0.process.log().contains("the order cannot be written"));
    holds("no further step is taken", Duration::from_secs(2), || world.pebble.counts() == (2, 1));
    assert!(served(world.balancers[0].1, "shop.test").is_some(), "the first one serves");
    std::fs::remove_file(&filler).expect("it is there");
    world.wait_served(&["other.test"]);
    assert_eq!((accounts(&world), world.pebble.counts()), (1, (2, 2)), "one account, one order each");
}

/// Seconds of processor time that a process has used.
fn used(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    ticks / 100.0
}

#[test]
fn many_names_get_one_order_each_and_cost_nothing_afterwards() {
    let count = if long() { 10_000 } else { 200 };
    let names: Vec<String> = (0..count).map(|number| format!("n{number}.test")).collect();
    let mut world = World::new(Store::etcd(Api::V3), 0, &[], Pebble::start);
    for (number, names) in names.chunks(50).enumerate() {
        names.iter().for_each(|name| world.lead(name, 1));
        world.set(&format!("services/s{number}/domain"), &names.join(","));
        world.set(&format!("services/s{number}/one"), "127.0.0.1:9");
    }
    world.set("config/acme/auto", "true");
    world.start(1);
    let start = epoch();
    let patience = 120 + i64::from(count);
    let issued = loop {
        let (orders, issued) = world.pebble.counts();
        assert!(orders <= issued + 64, "64 at once: {orders} orders, {issued} certificates");
        if issued >= names.len() || epoch() - start > patience {
            break issued;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(issued, names.len(), "after {} s", epoch() - start);
    let last = names.last().expect("there are names");
    world.wait_served(&[last]);
    assert_eq!(world.pebble.counts(), (names.len(), names.len()), "one order each");
    let id = world.balancers[0].0.process.id();
    wait("quiet", || {
        let before = used(id);
        std::thread::sleep(Duration::from_secs(2));
        used(id) - before < 0.4
    });
}
