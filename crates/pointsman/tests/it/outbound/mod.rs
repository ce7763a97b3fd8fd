//! Connections to instances over TLS, and with PROXY headers: who is verified and against what, certificates of our own,
//! sessions, and which connections are never shared.

mod checked;
mod http2;
mod identity;
mod proxied;
mod refused;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::harness::{Authority, PATIENCE, Pointsman, Process, Site, engine, free_address, get, wait, wait_within};

/// What nginx answers: what it knows of the connection and of its client.
const TELL: &str = "name=$ssl_server_name; verify=$ssl_client_verify; dn=$ssl_client_s_dn; reused=$ssl_session_reused; \
                    connection=$connection; client=$proxy_protocol_addr:$proxy_protocol_port; \
                    at=$proxy_protocol_server_addr:$proxy_protocol_server_port; version=$ssl_protocol; http=$server_protocol; end\\n";

/// A running nginx.
pub(crate) struct Nginx {
    pub(crate) addresses: Vec<SocketAddr>,
    process: Process,
}

impl Nginx {
    /// With these servers, each the options of its `listen` and the lines of its block.
    #[track_caller]
    pub(crate) fn serving(site: &Site, servers: &[(&str, String)]) -> Self {
        for _ in 0..5 {
            let mut nginx = Self::start(site, servers);
            let up = wait_within("nginx", PATIENCE, || {
                if !nginx.process.is_running() {
                    return Some(false);
                }
                nginx.addresses.iter().all(|address| TcpStream::connect(address).is_ok()).then_some(true)
            });
            if up {
                return nginx;
            }
        }
        panic!("nginx found no ports");
    }

    fn start(site: &Site, servers: &[(&str, String)]) -> Self {
        let home = site.home().join("nginx");
        std::fs::create_dir_all(&home).expect("inside our own folder");
        let addresses: Vec<_> = servers.iter().map(|_| free_address()).collect();
        let block = |(address, (options, lines)): (&SocketAddr, &(&str, String))| {
            format!("server {{ listen {address} {options}; {lines} location / {{ return 200 '{TELL}'; }} }}\n")
        };
        let blocks: String = addresses.iter().zip(servers).map(block).collect();
        let http = format!("http {{ access_log off; keepalive_requests 100000; {blocks} }}");
        let text = format!("daemon off; pid {}/pid; error_log stderr; events {{}} {http}", home.display());
        let file = home.join("nginx.conf");
        std::fs::write(&file, text).expect("inside our own folder");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&home).arg("-c").arg(&file).args(["-g", "master_process off;"]);
        Self { addresses, process: Process::start(&mut command) }
    }

    /// An address as an instance's value, with TLS.
    pub(crate) fn tls(&self, number: usize) -> String {
        format!("{} tls", self.addresses[number])
    }
}

/// The lines of a server with this certificate and key.
pub(crate) fn certified(file: &Path) -> String {
    format!("ssl_certificate {0}; ssl_certificate_key {0};", file.display())
}

/// The value of a field of nginx's answer.
#[track_caller]
fn told<'t>(answer: &'t str, field: &str) -> &'t str {
    let found = answer.split("; ").find_map(|part| part.strip_prefix(field)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {field} in {answer}"))
}

/// What nginx says of a request for this host, once it is served.
#[track_caller]
fn answer(running: &Pointsman, host: &str) -> String {
    running.wait_answer(host, "/", 200, "end");
    get(running.http, host, "/").expect("it is served").text()
}

/// Waits until a request is refused for the sake of the instance.
#[track_caller]
fn wait_refused(running: &Pointsman, host: &str) {
    wait(&format!("{host} to be refused"), || {
        get(running.http, host, "/").is_ok_and(|answer| [502, 503].contains(&answer.status))
    });
}

/// Waits for a line of the log; HAProxy keeps its reasons to itself.
#[track_caller]
fn wait_said(running: &Pointsman, words: &str) {
    if !engine().differs("failure-lines") {
        wait(words, || running.process.log().contains(words));
    }
}

#[test]
fn without_authorities_any_certificate_will_do_and_the_host_is_the_name() {
    let (site, authority) = (Site::new(), Authority::new());
    let nginx = Nginx::serving(&site, &[("ssl", certified(&authority.issue_expired("any", "DNS:x.test")))]);
    site.put("services/a/domain", "a.test,b.test");
    site.put("services/a/one", nginx.tls(0));
    let running = Pointsman::serving(&site);
    for host in ["a.test", "b.test"] {
        assert_eq!(told(&answer(&running, host), "name"), host);
    }
    site.put("services/a/tls_server_name", "web.test");
    wait("the name of the key", || told(&answer(&running, "a.test"), "name") == "web.test");
    site.remove("services/a/tls_server_name");
    site.put("services/a/one", format!("localhost:{} tls", nginx.addresses[0].port()));
    wait("the instance's own name", || told(&answer(&running, "a.test"), "name") == "localhost");
}

#[test]
fn an_instance_is_verified_against_the_authorities() {
    let (site, authority, stranger) = (Site::new(), Authority::new(), Authority::new());
    let web = authority.issue("web", "DNS:web.test");
    stranger.issue("other", "DNS:web.test");
    let nginx = Nginx::serving(
        &site,
        &[("ssl", certified(&web)), ("ssl", certified(&authority.issue_expired("old", "DNS:web.test")))],
    );
    for (service, instance, name) in [("good", 0, "web.test"), ("name", 0, "other.test"), ("old", 1, "web.test")] {
        site.put(&format!("services/{service}/domain"), format!("{service}.test"));
        site.put(&format!("services/{service}/tls_ca"), authority.pem());
        site.put(&format!("services/{service}/tls_server_name"), name);
        site.put(&format!("services/{service}/one"), nginx.tls(instance));
    }
    let running = Pointsman::serving(&site);
    assert_eq!(told(&answer(&running, "good.test"), "name"), "web.test");
    wait_refused(&running, "name.test");
    wait_said(&running, "its certificate is not for other.test");
    wait_refused(&running, "old.test");
    wait_said(&running, "its certificate has expired");
    site.put("services/good/tls_ca", stranger.pem());
    wait_refused(&running, "good.test");
    wait_said(&running, "its certificate is of no authority that is trusted; see tls_ca");
    if !engine().differs("failure-lines") {
        wait("the faults", || running.metric("pointsman_faults_total", &["instance_tls"]) >= 3.0);
        wait("an ejection", || {
            let _ = get(running.http, "good.test", "/");
            running.admin_page("/api/table").contains("instance_tls")
        });
    }
    site.put("services/good/tls_ca", stranger.pem() + &authority.pem());
    answer(&running, "good.test");
}

#[test]
fn another_instance_serves_when_one_is_not_who_it_should_be() {
    let (site, authority) = (Site::new(), Authority::new());
    let good = authority.issue("good", "DNS:web.test");
    let bad = authority.issue("bad", "DNS:other.test");
    let nginx = Nginx::serving(&site, &[("ssl", certified(&good)), ("ssl", certified(&bad))]);
    for (key, value) in [("domain", "a.test"), ("tls_server_name", "web.test")] {
        site.put(&format!("services/a/{key}"), value);
    }
    site.put("services/a/tls_ca", authority.pem());
    site.put("services/a/good", nginx.tls(0));
    site.put("services/a/bad", nginx.tls(1));
    let running = Pointsman::serving(&site);
    answer(&running, "a.test");
    for _ in 0..20 {
        assert_eq!(get(running.http, "a.test", "/").expect("served").status, 200);
    }
    if !engine().differs("checks") {
        assert!(running.metric("pointsman_connect_failures_total", &["\"bad\""]) >= 1.0);
    }
}

#[test]
fn our_certificate_is_shown_to_those_that_ask() {
    let (site, authority) = (Site::new(), Authority::new());
    let ours = authority.issue("pointsman", "DNS:pointsman.test");
    let lines = certified(&authority.issue("web", "DNS:web.test"));
    let asks = format!("{lines} ssl_client_certificate {}; ssl_verify_client on;", authority.file().display());
    let nginx = Nginx::serving(&site, &[("ssl", asks)]);
    site.put("services/a/domain", "a.test");
    site.put("services/a/one", nginx.tls(0));
    let mut running = Pointsman::serving(&site);
    running.wait_answer("a.test", "/", 400, "No required SSL certificate was sent");
    let pem = std::fs::read_to_string(&ours).expect("issued");
    site.put("services/a/tls_cert", &pem);
    let said = answer(&running, "a.test");
    assert_eq!((told(&said, "verify"), told(&said, "dn")), ("SUCCESS", "CN=pointsman"));
    // Another one's key: the last good form stays, and nothing is told of either.
    let other = std::fs::read_to_string(authority.issue("other", "DNS:other.test")).expect("issued");
    let (chain, key) = (pem.split_inclusive("END CERTIFICATE-----\n").next(), other.split("END CERTIFICATE-----\n"));
    site.put("services/a/tls_cert", chain.unwrap_or_default().to_owned() + key.last().unwrap_or_default());
    let place = if engine().name() == "native" { "services/a/tls_cert" } else { "services/a" };
    for _ in 0..3 {
        running.wait_listed("rejected", &[place]);
        assert_eq!(told(&answer(&running, "a.test"), "dn"), "CN=pointsman");
        running.end();
        running = Pointsman::serving(&site);
    }
    site.put("services/a/tls_cert", "junk");
    running.wait_problem("bad_value", &["services/a/tls_cert"]);
    assert_eq!(told(&answer(&running, "a.test"), "dn"), "CN=pointsman");
    let (page, log) = (running.admin_page("/api/problems"), running.process.log());
    let secrets = pem.lines().filter(|line| !line.starts_with('-')).chain(["junk"]);
    for secret in secrets {
        assert!(!page.contains(secret) && !log.contains(secret), "{secret}");
    }
}
