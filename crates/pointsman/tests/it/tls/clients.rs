//! Clients' certificates: who is let in, what instances are told, and that no other way leads to a service that requires
//! them: plain HTTP, connections for other names, sessions of other names.

use std::process::Command;

use super::{Scene, certificate, scene, sh};
use crate::harness::{Pointsman, Site, engine, finish, get, run, wait};

/// Certificates for the three names of these tests.
const CERTS: &[(&str, &str, &str)] = &[("all", "DNS:a.test,DNS:b.test,DNS:open.test", "ec")];

/// Makes an authority; returns its certificate.
fn authority(site: &Site, label: &str) -> String {
    certificate(site, label, "DNS:unused", "ec");
    std::fs::read_to_string(site.home().join(format!("{label}.crt"))).expect("made")
}

/// Makes a client's certificate, and returns the options of `openssl s_client` that show it.
fn client(site: &Site, authority: &str, label: &str) -> String {
    client_with(site, authority, label, "ec -pkeyopt ec_paramgen_curve:P-256")
}

/// The same with a key of some kind.
fn client_with(site: &Site, authority: &str, label: &str, kind: &str) -> String {
    let at = |name: &str, end: &str| site.home().join(format!("{name}.{end}")).display().to_string();
    let (key, request, own) = (at(label, "key"), at(label, "csr"), at(label, "pem"));
    let asked = format!("openssl req -new -newkey {kind} -nodes");
    let extensions = at(label, "ext");
    std::fs::write(&extensions, "basicConstraints=CA:FALSE").expect("our own folder");
    let signed = format!(
        "openssl x509 -req -extfile {extensions} -days 30 -CA {} -CAkey {}",
        at(authority, "crt"),
        at(authority, "key")
    );
    sh(&format!(
        "{asked} -subj /CN={label} -keyout {key} -out {request} && {signed} -CAcreateserial -in {request} -out {own}"
    ));
    format!("-cert {own} -key {key}")
}

/// `a.test` requires certificates of one authority, `b.test` of another; `open.test` asks for none.
struct Clients {
    scene: Scene,
    of_a: String,
    of_b: String,
}

fn clients(more: &[(&str, &str)]) -> Clients {
    let scene = scene(CERTS, &[]);
    let site = &scene.site;
    for name in ["b", "open"] {
        site.put(&format!("services/{name}/domain"), format!("{name}.test"));
        site.put(&format!("services/{name}/one"), scene.backend.instance());
    }
    site.put("services/a/client_ca", authority(site, "ca-a"));
    site.put("services/b/client_ca", authority(site, "ca-b"));
    more.iter().for_each(|(key, value)| site.put(key, value));
    let (of_a, of_b) = (client(site, "ca-a", "ann"), client(site, "ca-b", "bob"));
    wait("open.test", || said(&scene, "open.test", "open.test", "").0 == 200);
    // With HAProxy, what is asked for comes with a reload.
    let plain = |host: &str| get(scene.running.http, host, "/").map_or(0, |answer| answer.status);
    wait("both to ask", || ["a.test", "b.test"].iter().all(|host| plain(host) != 200));
    Clients { scene, of_a, of_b }
}

impl Clients {
    /// The status of a request for `host` over a connection for `name`, and the head that the instance saw; 0: none.
    fn ask(&self, name: &str, host: &str, options: &str) -> (u16, String) {
        said(&self.scene, name, host, options)
    }

    fn status(&self, name: &str, host: &str, options: &str) -> u16 {
        self.ask(name, host, options).0
    }
}

fn said(scene: &Scene, name: &str, host: &str, options: &str) -> (u16, String) {
    let name = if name.is_empty() { "-noservername".to_owned() } else { format!("-servername {name}") };
    let request =
        format!("GET /head HTTP/1.1\\r\\nHost: {host}\\r\\nClient-Cert: :bWU=:\\r\\nConnection: close\\r\\n\\r\\n");
    let line = format!(
        "printf '{request}' | timeout 20 openssl s_client -quiet -ign_eof -connect {} {name} {options} 2>/dev/null",
        scene.https
    );
    let said = finish(Command::new("sh").args(["-c", &line])).stdout;
    let status = said.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_default();
    (status, said.to_ascii_lowercase())
}

#[test]
fn only_certificates_of_the_services_own_authorities_count() {
    let clients = clients(&[]);
    let Clients { of_a, of_b, scene } = &clients;
    for version in ["-tls1_2", "-tls1_3"] {
        let with = |options: &str| format!("{version} {options}");
        let (status, head) = clients.ask("a.test", "a.test", &with(of_a));
        assert_eq!((status, head.matches("client-cert:").count()), (200, 1), "{head}");
        assert_eq!(head.split("client-cert: :").nth(1).and_then(|rest| rest.split(':').next()), Some(&*der(scene)));
        assert_eq!(clients.status("A.TEST", "a.test:443", &with(of_a)), 200);
        // No handshake ends well: every service of the name requires one.
        assert_eq!(clients.status("a.test", "a.test", version), 0);
        assert_eq!(clients.status("a.test", "a.test", &with(of_b)), 0);
        assert_eq!(clients.status("b.test", "b.test", &with(of_b)), 200);
        let (status, head) = clients.ask("open.test", "open.test", &with(of_a));
        assert_eq!((status, head.contains("client-cert")), (200, false), "{head}");
    }
    if !engine().differs("tls-faults") {
        wait("the faults", || scene.faults("tls_handshake") >= 4.0);
    }
    let admin = scene.running.admin.to_string();
    let explained = run(&["explain", "https://a.test/", "--admin", &admin]).ok();
    assert!(explained.contains("clients need a certificate of its client_ca"), "{explained}");
}

#[test]
fn the_chain_that_a_client_sends_follows_its_certificate() {
    let clients = clients(&[]);
    let Clients { of_a, scene, .. } = &clients;
    let home = scene.site.home().display();
    let with = format!("{of_a} -cert_chain {home}/ca-a.crt");
    wait("the service", || clients.status("a.test", "a.test", of_a) == 200);
    for version in ["-tls1_2", "-tls1_3"] {
        let (status, head) = clients.ask("a.test", "a.test", &format!("{version} {with}"));
        assert_eq!((status, head.matches("client-cert:").count()), (200, 1), "{head}");
        if engine().differs("client-cert-chain") {
            assert!(!head.contains("client-cert-chain"), "{head}");
            continue;
        }
        let chain = format!("client-cert-chain: :{}:", base64_of(scene, "ca-a.crt"));
        assert!(head.lines().any(|line| line == chain), "{chain} is not in\n{head}");
    }
    assert!(!clients.ask("a.test", "a.test", of_a).1.contains("client-cert-chain"), "it sent none");
}

/// The certificate that the client `ann` shows, in base64 and lower case.
fn der(scene: &Scene) -> String {
    base64_of(scene, "ann.pem")
}

fn base64_of(scene: &Scene, file: &str) -> String {
    let text = std::fs::read_to_string(scene.site.home().join(file)).expect("made");
    text.lines().filter(|line| !line.starts_with('-')).collect::<String>().to_ascii_lowercase()
}

#[test]
fn no_other_way_leads_in() {
    let clients = clients(&[]);
    let Clients { of_a, of_b, scene } = &clients;
    for (name, options) in [("open.test", ""), ("open.test", &**of_a), ("b.test", of_b), ("", ""), ("", of_a)] {
        assert_eq!(clients.status(name, "a.test", options), 421, "{name} {options}");
    }
    assert_eq!(clients.status("a.test", "open.test", of_a), 200);
    assert_eq!(get(scene.running.http, "a.test", "/").expect("an answer").status, 403);
    if !engine().differs("client-certificates") {
        wait("the faults", || scene.faults("misdirected") >= 5.0 && scene.faults("client_certificate") >= 1.0);
    }
    scene.site.put("services/a/scheme", "https");
    wait("the redirect", || get(scene.running.http, "a.test", "/").is_ok_and(|answer| answer.status == 301));
    scene.site.put("config/trusted_proxies", "loopback");
    let through = |running: &Pointsman| {
        let mut connection = running.connect();
        connection.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\r\n").expect("open");
        connection.response("GET").map(|answer| answer.status).unwrap_or_default()
    };
    wait("a proxy's word about TLS, which is no certificate", || through(&scene.running) == 403);
}

#[test]
fn a_session_is_never_resumed_at_another_name_nor_after_other_authorities() {
    let clients = clients(&[]);
    let Clients { of_a, of_b, scene } = &clients;
    let file = |name: &str| scene.site.home().join(name).display().to_string();
    let reused = |name: &str, options: &str| {
        let line = format!("openssl s_client -connect {} -servername {name} {options} </dev/null 2>&1", scene.https);
        finish(Command::new("sh").args(["-c", &line])).stdout.contains("Reused, ")
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let (own, other, open) = (file("own"), file("other"), file("open"));
        // Waits for the answer: tickets come with it.
        for (name, shown, to) in
            [("a.test", of_a, &own), ("b.test", of_b, &other), ("open.test", &String::new(), &open)]
        {
            assert_eq!(clients.status(name, name, &format!("{version} {shown} -sess_out {to}")), 200);
        }
        if engine().differs("client-sessions") {
            // None begins there, or none that can be resumed.
            for (name, from) in [("a.test", &own), ("b.test", &other), ("open.test", &open)] {
                assert!(!reused(name, &format!("{version} -sess_in {from}")), "{version} {from}");
            }
            continue;
        }
        assert!(reused("a.test", &format!("{version} -sess_in {own}")), "{version}");
        assert!(reused("open.test", &format!("{version} -sess_in {open}")), "{version}");
        let (status, head) = clients.ask("a.test", "a.test", &format!("{version} -sess_in {own}"));
        assert_eq!((status, head.matches("client-cert:").count()), (200, 1), "resumed: {head}");
        for from in [&other, &open] {
            assert!(!reused("a.test", &format!("{version} -sess_in {from}")), "{version} {from}");
            assert_eq!(clients.status("a.test", "a.test", &format!("{version} -sess_in {from}")), 0);
            assert_eq!(clients.status("open.test", "a.test", &format!("{version} -sess_in {from}")), 421);
        }
    }
    if engine().differs("client-sessions") {
        return;
    }
    scene.site.put("services/a/client_ca", authority(&scene.site, "ca-new"));
    let of_new = client(&scene.site, "ca-new", "new");
    wait("the new authority", || clients.status("a.test", "a.test", &of_new) == 200);
    assert_eq!(clients.status("a.test", "a.test", &format!("-tls1_3 -sess_in {}", file("own"))), 0);
}

/// Their tickets are those of a time when nobody was asked.
#[test]
fn a_session_that_began_before_the_key_was_set_leads_nowhere() {
    let scene = scene(CERTS, &[("services/open/domain", "open.test")]);
    scene.site.put("services/open/one", scene.backend.instance());
    let file = |name: &str| scene.site.home().join(name).display().to_string();
    let reused = |options: &str| {
        let line = format!("openssl s_client -connect {} {options} </dev/null 2>&1", scene.https);
        finish(Command::new("sh").args(["-c", &line])).stdout.contains("Reused, ")
    };
    let versions = ["-tls1_2", "-tls1_3"];
    wait("both services", || ["a.test", "open.test"].iter().all(|name| said(&scene, name, name, "").0 == 200));
    for version in versions {
        for name in ["a.test", "open.test"] {
            let session = file(&format!("{name}{version}"));
            assert_eq!(said(&scene, name, name, &format!("{version} -sess_out {session}")).0, 200);
            assert!(reused(&format!("-servername {name} {version} -sess_in {session}")), "{version} {name}");
        }
    }
    scene.site.put("services/a/client_ca", authority(&scene.site, "ca-a"));
    wait("a.test to ask", || said(&scene, "a.test", "a.test", "").0 == 0);
    for (version, name) in versions.iter().flat_map(|version| [(version, "a.test"), (version, "open.test")]) {
        let with = format!("{version} -sess_in {}", file(&format!("{name}{version}")));
        assert!(!reused(&format!("-servername a.test {with}")), "{with}");
        assert_eq!(said(&scene, "a.test", "a.test", &with).0, 0, "{with}");
        assert_eq!(said(&scene, "open.test", "a.test", &with).0, 421, "{with}");
        assert_eq!(said(&scene, "open.test", "open.test", &with).0, 200, "{with}");
    }
}

#[test]
fn services_of_one_name_may_differ() {
    if engine().differs("client-certificates") {
        return;
    }
    let clients =
        clients(&[("services/b/domain", "a.test"), ("services/b/path", "/head"), ("services/c/domain", "a.test")]);
    let Clients { of_a, of_b, scene } = &clients;
    scene.site.put("services/c/path", "/x");
    scene.site.put("services/c/one", scene.backend.instance());
    wait("a request without a certificate", || clients.status("a.test", "a.test", "") == 403);
    assert_eq!(clients.status("a.test", "a.test", of_b), 200);
    assert_eq!(clients.status("a.test", "a.test", of_a), 403);
    scene.site.put("services/b/client_verify", "optional");
    wait("none to be required", || clients.status("a.test", "a.test", "") == 200);
    for (options, count) in [("", 0), (&**of_a, 0), (of_b, 1)] {
        let (status, head) = clients.ask("a.test", "a.test", options);
        assert_eq!((status, head.matches("client-cert:").count()), (200, count), "{head}");
    }
    assert_eq!(clients.status("open.test", "a.test", ""), 421);
    let head = get(scene.running.http, "a.test", "/head").expect("an answer");
    assert_eq!((head.status, head.text().to_ascii_lowercase().contains("client-cert")), (200, false));
}

#[test]
fn a_kept_connection_follows_the_keys() {
    let scene = scene(&[("a", "DNS:a.test", "ec")], &[]);
    wait("https", || scene.curl("").code == Some(0));
    let script = "
c = Client()
say('first', c.ask('/x')[0])
wait_file('changed')
say('second', c.ask('/x')[0])
";
    let mut kept = crate::harness::python_tls_running(&scene.site, scene.https, script);
    kept.wait_log("first 200");
    scene.site.put("services/a/client_ca", authority(&scene.site, "ca"));
    wait("the change", || get(scene.running.http, "a.test", "/").is_ok_and(|answer| answer.status == 403));
    std::fs::write(scene.site.home().join("changed"), "").expect("our own folder");
    kept.wait_log(if engine().differs("closed-at-reload") { "second 200" } else { "second 421" });
}

#[test]
fn bad_authorities_keep_the_last_good_form() {
    let clients = clients(&[]);
    let Clients { of_a, scene, .. } = &clients;
    let leaf = std::fs::read_to_string(scene.site.home().join("ann.pem")).expect("made");
    let secret = std::fs::read_to_string(scene.site.home().join("ca-a.key")).expect("made");
    for (value, advice) in [
        ("junk", "expected certificates"),
        (&*leaf, "may not sign others"),
        (&*secret, "expected certificates of authorities only"),
    ] {
        scene.site.put("services/a/client_ca", value);
        scene.running.wait_problem("bad_value", &["services/a/client_ca", advice]);
        assert_eq!([clients.status("a.test", "a.test", of_a), clients.status("a.test", "a.test", "")], [200, 0]);
    }
    assert!(!scene.running.admin_page("/api/problems").contains("PRIVATE"));
    scene.site.put("services/new/client_verify", "required");
    scene.site.put("services/new/one", scene.backend.instance());
    scene.site.put("services/new/domain", "new.test");
    scene.running.wait_problem("bad_value", &["services/new/client_verify", "expected client_ca too"]);
    assert_eq!(get(scene.running.http, "new.test", "/").expect("an answer").status, 503, "it was never good");
}

/// Services that HAProxy cannot protect are not served, and come back once it can.
#[test]
fn without_the_protection_there_is_no_service() {
    if engine().name() == "native" {
        return;
    }
    let clients = clients(&[]);
    let Clients { of_a, of_b, scene } = &clients;
    wait("a.test", || clients.status("a.test", "a.test", of_a) == 200);
    let unsupported = |name: &str, why: &str| {
        let key = format!("services/{name}/client_ca");
        scene.running.wait_listed("unsupported", &[&key, why, "--engine native honours it"]);
    };
    scene.site.put("services/b/path", "/head");
    scene.site.put("services/b/domain", "a.test,b.test");
    ["a", "b"].iter().for_each(|name| unsupported(name, "another one there has other authorities"));
    for options in [of_a, of_b, ""] {
        wait("an end of both, where nobody is asked", || clients.status("a.test", "a.test", options) == 503);
    }
    scene.site.put("services/b/domain", "b.test");
    for (name, options) in [("a.test", of_a), ("b.test", of_b)] {
        wait("both", || clients.status(name, name, options) == 200);
    }
    scene.site.put("services/b/domain", "");
    unsupported("b", "not reached by its domain alone");
    scene.site.put("services/a/client_ca", below(&scene.site, "ca-a", "below"));
    unsupported("a", "has the certificates of its issuers too");
    wait("an end of a.test", || get(scene.running.http, "a.test", "/").is_ok_and(|answer| answer.status == 503));
}

/// The certificate of an authority that another one issued.
fn below(site: &Site, issuer: &str, label: &str) -> String {
    client(site, issuer, label);
    let at = |name: &str, end: &str| site.home().join(format!("{name}.{end}")).display().to_string();
    std::fs::write(at(label, "ext"), "basicConstraints=CA:TRUE").expect("our own folder");
    let (request, own) = (at(label, "csr"), at(label, "pem"));
    let (cert, key) = (at(issuer, "crt"), at(issuer, "key"));
    let signed = format!("openssl x509 -req -extfile {} -days 30 -CA {cert} -CAkey {key}", at(label, "ext"));
    sh(&format!("{signed} -CAcreateserial -in {request} -out {own}")).ok();
    std::fs::read_to_string(own).expect("made")
}

/// A wildcard, and the certificate for all other names.
#[test]
fn names_below_a_wildcard_ask_too() {
    let clients = clients(&[("services/a/domain", "*.w.test"), ("services/a/client_verify", "optional")]);
    let Clients { of_a, of_b, .. } = &clients;
    wait("the wildcard", || clients.ask("x.w.test", "x.w.test", of_a).1.contains("client-cert:"));
    for (name, host, options, status, count) in [
        ("X.w.test", "x.w.test", &**of_a, 200, 1),
        ("x.w.test", "x.w.test", "", 200, 0),
        ("x.w.test", "x.w.test", of_b, 0, 0),
        ("y.w.test", "x.w.test", of_a, 421, 0),
        ("open.test", "x.w.test", of_a, 421, 0),
        ("b.test", "x.w.test", of_b, 421, 0),
        ("", "x.w.test", "", 421, 0),
    ] {
        let (said, head) = clients.ask(name, host, options);
        assert_eq!((said, head.matches("client-cert:").count()), (status, count), "{name} {host} {options}: {head}");
    }
}

/// A client that verifies no signature of the name's own certificate gets the one of the wildcard above: what it is asked
/// for is still what its name asks for.
#[test]
fn another_certificate_for_a_name_asks_for_the_same() {
    let clients = clients(&[("services/a/domain", "x.w.test"), ("services/b/domain", "*.w.test")]);
    let Clients { of_a, scene, .. } = &clients;
    for (label, names, key) in [("exact", "DNS:x.w.test", "ec"), ("wild", "DNS:*.w.test", "rsa")] {
        scene.site.put(&format!("certs/{label}"), certificate(&scene.site, label, names, key));
    }
    wait("both", || scene.shown("-servername x.w.test") == "exact" && scene.shown("-servername y.w.test") == "wild");
    wait("x.w.test", || clients.status("x.w.test", "x.w.test", of_a) == 200);
    // Clients sign with what they verify, so their own keys are of the same kind.
    let rsa = "-sigalgs RSA-PSS+SHA256:RSA+SHA256";
    let [of_a, of_b] = [("ca-a", "rsa-a"), ("ca-b", "rsa-b")]
        .map(|(issuer, label)| format!("{} {rsa}", client_with(&scene.site, issuer, label, "rsa:2048")));
    for version in ["-tls1_2", "-tls1_3"] {
        let shown = |name: &str, options: &str| scene.shown(&format!("{version} -servername {name} {options}"));
        assert_eq!([shown("x.w.test", &of_a), shown("y.w.test", &of_b)], ["wild", "wild"]);
        let status = |name: &str, options: &str| clients.status(name, name, &format!("{version} {options}"));
        assert_eq!([status("x.w.test", &of_a), status("y.w.test", &of_b)], [200, 200], "{version}");
        assert_eq!([status("x.w.test", &of_b), status("y.w.test", &of_a)], [0, 0], "{version}");
    }
}

#[test]
fn nobody_speaks_of_a_certificate_but_us() {
    let scene = scene(CERTS, &[]);
    let mut connection = scene.running.connect();
    let lines =
        "Client-Cert: :bWU=:\r\nCLIENT_CERT: x\r\nClient-Cert-Chain: y\r\nclient_cert-chain: z\r\nX-Other: stays\r\n";
    connection.send(format!("GET /head HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).expect("open");
    let head = connection.response("GET").expect("an answer").text().to_ascii_lowercase();
    assert!(!head.contains("cert") && head.contains("x-other: stays"), "{head}");
}
