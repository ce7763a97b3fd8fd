//! Certificates beyond what one engine does with them: when they expire, and where they come from.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::{
    Authority, Backend, Engine, Launch, Pointsman, Site, certificate, engine, epoch, free_address, run, shell, wait,
};

const DAY: i64 = 86_400;

/// A balancer that serves `a.test` over HTTPS too.
fn serving(site: &Site, backend: &Backend) -> (Pointsman, SocketAddr) {
    launched(site, backend, Launch::new())
}

/// The same, with more flags or variables.
fn launched(site: &Site, backend: &Backend, launch: Launch) -> (Pointsman, SocketAddr) {
    site.put("services/a/domain", "a.test");
    site.put("services/a/one", backend.instance());
    let https = free_address();
    let mut running = launch.store(site).args(&["--https", &https.to_string()]).start();
    running.process.wait_log(&format!("listening for HTTPS on {https}"));
    running.wait_backend("a.test", "/", "one");
    (running, https)
}

/// The name in the certificate that the server presents for this server name; empty if it presents none.
fn presented(https: SocketAddr, name: &str) -> String {
    let session = shell(&format!(
        "openssl s_client -connect {https} -servername {name} </dev/null 2>/dev/null | openssl x509 -noout -subject"
    ));
    session.stdout.trim().rsplit('=').next().unwrap_or_default().trim().to_owned()
}

#[track_caller]
fn wait_presented(https: SocketAddr, name: &str, expected: &str) {
    wait(&format!("{expected} for {name}"), || presented(https, name) == expected);
}

/// A certificate for a year.
fn yearly(name: &str) -> String {
    certificate(name, epoch() - DAY, epoch() + 365 * DAY)
}

/// Writes a file beside the folder and renames it into place, as careful writers do.
fn replace(folder: &Path, file: &str, text: &str) {
    let draft = folder.join(format!("{file}.tmp"));
    std::fs::write(&draft, text).expect("our own folder");
    std::fs::rename(draft, folder.join(file)).expect("the same folder");
}

fn has_problem(running: &Pointsman, kind: &str, key: &str) -> bool {
    let page = running.admin_page("/api/problems");
    let problems: serde_json::Value = serde_json::from_str(&page).expect("JSON");
    let mut problems = problems.as_array().expect("a list").iter();
    problems.any(|problem| problem["kind"] == kind && problem["key"].as_str().is_some_and(|at| at.ends_with(key)))
}

#[test]
fn a_certificate_expires_in_view_of_all() {
    let (site, backend, now) = (Site::new(), Backend::naming("one"), epoch());
    site.put("certs/shop", certificate("shop.test", now - 300 * DAY, now + 10 * DAY));
    site.put("certs/later", certificate("later.test", now - DAY, now + 300 * DAY));
    let (running, _) = serving(&site, &backend);
    running.wait_problem("expires_soon", &["certs/shop", "the certificate expires on "]);
    let expires = running.metric("pointsman_certificate_expires_seconds", &["certificate=\"shop\""]);
    assert!((expires - (now + 10 * DAY) as f64).abs() < 0.5, "{expires}");
    let table: serde_json::Value = serde_json::from_str(&running.admin_page("/api/table")).expect("JSON");
    let first = &table["certificates"][0];
    assert_eq!((first["name"].as_str(), first["names"][0].as_str()), (Some("shop"), Some("shop.test")));
    assert_eq!(first["expires"].as_i64(), Some(now + 10 * DAY));
    let store = site.folder().to_string_lossy().into_owned();
    let place = ["--store", &store, "--prefix", "/"];
    wait("the day in `status`", || {
        let status = run(&[&["status"], &place[..]].concat()).stdout;
        let mut rows = status.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let has_column = rows.next().is_some_and(|head| head[6..8] == ["cert", "expires"]);
        has_column && rows.next().is_some_and(|row| row[6].len() == "2026-12-01".len() && row[7] == "1")
    });
    let json = run(&[&["status", "--json"], &place[..]].concat()).ok();
    assert!(json.contains("\"certificate\": \"shop\""), "{json}");
    let checked = run(&[&["check"], &place[..], &["--engine", "haproxy"]].concat());
    assert!(checked.stdout.contains("certs/shop: expires soon: "), "{}", checked.stdout);
}

#[test]
fn time_alone_brings_and_ends_problems_of_certificates() {
    let (site, backend) = (Site::new(), Backend::naming("one"));
    let (running, https) = serving(&site, &backend);
    let now = epoch();
    site.put("certs/brief", certificate("brief.test", now - DAY, now + 12));
    site.put("certs/early", certificate("early.test", now + 12, now + 300 * DAY));
    running.wait_problem("not_valid", &["certs/early", "is not valid before"]);
    running.wait_problem("expires_soon", &["certs/brief"]);
    let swaps = running.metric("pointsman_swaps_total", &[]);
    running.wait_problem("not_valid", &["certs/brief", "the certificate expired on "]);
    wait("the early one to be valid", || !has_problem(&running, "not_valid", "certs/early"));
    assert!(!has_problem(&running, "expires_soon", "certs/brief"));
    assert!((running.metric("pointsman_swaps_total", &[]) - swaps).abs() < 0.5, "no key changed");
    // It is served all the same.
    assert_eq!(presented(https, "brief.test"), "brief.test");
}

/// The new one comes before the old one is removed, or the other way round: nobody sees the one that has expired.
#[test]
fn a_certificate_that_is_valid_goes_before_one_that_is_not() {
    if engine().differs("valid-first") {
        return;
    }
    let (site, backend) = (Site::new(), Backend::naming("one"));
    let (_running, https) = serving(&site, &backend);
    let authority = Authority::new();
    let issue = |label: &str, life| {
        std::fs::read_to_string(authority.issue_for(label, "DNS:two.test", life)).expect("PEM is text")
    };
    let now = epoch();
    site.put("certs/a", issue("old", [now - 3 * DAY, now - DAY]));
    wait("the only one", || presented(https, "two.test") == "old");
    site.put("certs/b", issue("new", [now - DAY, now + 30 * DAY]));
    wait("the valid one", || presented(https, "two.test") == "new");
    site.remove("certs/b");
    wait("the old one again", || presented(https, "two.test") == "old");
}

/// What handshakes cannot use is not written, and `check` and `certs` say so of what is there.
#[test]
fn a_key_of_another_certificate_is_told_by_every_command() {
    let site = Site::new();
    let authority = Authority::new();
    let [one, other] = ["one", "other"].map(|label| {
        std::fs::read_to_string(authority.issue(label, &format!("DNS:{label}.test"))).expect("PEM is text")
    });
    let chain = &one[..one.find("-----BEGIN PRIVATE KEY").or(one.find("-----BEGIN EC")).expect("a key comes last")];
    let key = &other[other.find("-----BEGIN PRIVATE KEY").or(other.find("-----BEGIN EC")).expect("a key comes last")..];
    let (mixed, store) = (format!("{chain}{key}"), site.folder().display().to_string());
    let ask = |command: &[&str]| run(&[command, &["--store", &store, "--prefix", "/"]].concat());
    let refused = ask(&["set", "certs/mixed", &mixed]);
    assert!(refused.code == Some(1) && refused.stderr.contains("belongs to another certificate"), "{refused:?}");
    site.put("certs/mixed", &mixed);
    assert!(ask(&["check"]).stdout.contains("belongs to another certificate"), "{:?}", ask(&["check"]));
    assert!(ask(&["certs"]).stdout.contains("belongs to another certificate"), "{:?}", ask(&["certs"]));
}

#[test]
fn files_are_certificates_and_keys_go_before_them() {
    let (site, backend) = (Site::new(), Backend::naming("one"));
    let folder = site.home().join("certs");
    let launch = Launch::new().arg("--certs").arg(&folder);
    let (running, https) = launched(&site, &backend, launch);
    running.wait_problem("bad_value", &["--certs", "cannot read the folder"]);
    std::fs::create_dir(&folder).expect("our own folder");
    wait("the folder", || !running.admin_page("/api/problems").contains("cannot read"));
    replace(&folder, "shop.pem", &yearly("first"));
    wait_presented(https, "shop.test", "first");
    let reloads = || if engine() == Engine::HaProxy { running.reloads() } else { 0.0 };
    let before = reloads();
    replace(&folder, "shop.pem", &yearly("second"));
    wait_presented(https, "shop.test", "second");
    let file = folder.join("shop.pem").display().to_string();
    replace(&folder, "shop.pem", "no PEM");
    running.wait_problem("bad_value", &[&file, "expected a certificate too"]);
    replace(&folder, "shop.pem", &"x".repeat((1 << 20) + 1));
    running.wait_problem("bad_value", &[&file, "cannot be read: larger than 1 MiB"]);
    assert_eq!(presented(https, "shop.test"), "second");
    site.put("certs/shop", yearly("key"));
    running.wait_problem("shadowed", &[&file, "the key /certs/shop has the same name"]);
    wait_presented(https, "shop.test", "key");
    replace(&folder, "shop.pem", &yearly("third"));
    wait("the file to be good", || !running.admin_page("/api/problems").contains("larger than"));
    assert_eq!(presented(https, "shop.test"), "key");
    site.remove("certs/shop");
    wait_presented(https, "shop.test", "third");
    let reloads = reloads() - before;
    assert!(reloads.abs() < 0.5, "{reloads} reloads, where only contents changed");
    replace(&folder, "shop.pem", &certificate("soon", epoch() - 300 * DAY, epoch() + 5 * DAY));
    running.wait_problem("expires_soon", &[&file, "the certificate expires on "]);
    std::fs::remove_file(folder.join("shop.pem")).expect("it is there");
    wait_presented(https, "shop.test", "");
    assert!(!site.folder().join("certs/shop").exists(), "files never get into the store");
}

/// As the kubelet does it: files are links through `..data`, which is replaced as a whole.
#[test]
fn a_mounted_secret_is_followed() {
    let (site, backend) = (Site::new(), Backend::naming("one"));
    let folder = site.home().join("certs");
    let version = |name: &str, text: &str| {
        std::fs::create_dir_all(folder.join(name)).expect("our own folder");
        std::fs::write(folder.join(name).join("tls.pem"), text).expect("our own folder");
        symlink(name, folder.join("..data_tmp")).expect("a new link");
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("the same folder");
    };
    version("..1", &yearly("first"));
    symlink("..data/tls.pem", folder.join("tls.pem")).expect("a new link");
    let launch = Launch::new().arg("--certs").arg(&folder);
    let (running, https) = launched(&site, &backend, launch);
    wait_presented(https, "a.test", "first");
    version("..2", &yearly("second"));
    std::fs::remove_dir_all(folder.join("..1")).expect("it is there");
    wait_presented(https, "a.test", "second");
    assert_eq!(running.admin_page("/api/problems").trim(), "[]");
    let store = site.folder().to_string_lossy().into_owned();
    let flags = ["--store", &store, "--prefix", "/", "--engine", "haproxy", "--https", "127.0.0.1:1"];
    let checked = run(&[&["check", "--certs", &folder.to_string_lossy()], &flags[..]].concat());
    assert_eq!((checked.code, checked.stdout.as_str()), (Some(0), ""), "{}", checked.stderr);
    let checked = run(&[&["check", "--certs", "/nonexistent/certs"], &flags[..]].concat());
    assert!(checked.code == Some(1) && checked.stdout.contains("--certs: bad value: "), "{}", checked.stdout);
}

#[test]
fn variables_of_kontena_are_taken_up() {
    let (site, backend) = (Site::new(), Backend::naming("one"));
    let cipher = "ECDHE-ECDSA-AES256-GCM-SHA384";
    let launch = Launch::new()
        .env("SSL_CERTS", &format!("{},{}", yearly("one.test"), yearly("two.test")))
        .env("SSL_CERT_SHOP", &yearly("shop.test"))
        .env("SSL_CERT_BAD", "secret nonsense")
        .env("KONTENA_LB_SSL_CIPHERS", cipher);
    let (running, https) = launched(&site, &backend, launch);
    for name in ["one.test", "two.test", "shop.test"] {
        wait_presented(https, name, name);
    }
    running.wait_problem("bad_value", &["SSL_CERT_BAD", "expected a certificate too"]);
    let table: serde_json::Value = serde_json::from_str(&running.admin_page("/api/table")).expect("JSON");
    let mut names: Vec<_> =
        table["certificates"].as_array().expect("a list").iter().map(|cert| &cert["name"]).collect();
    names.sort_by_key(|name| name.as_str());
    assert_eq!(names, ["SSL_CERTS-1", "SSL_CERTS-2", "ssl_cert_shop"]);
    let talks = |cipher: &str| {
        let with = format!("openssl s_client -connect {https} -tls1_2 -cipher {cipher} </dev/null 2>&1");
        shell(&with).stdout.contains("BEGIN CERTIFICATE")
    };
    let others = talks("ECDHE-ECDSA-AES128-GCM-SHA256");
    assert!(talks(cipher) && others == (engine() == Engine::Native), "only HAProxy takes the cipher of the variable");
    assert!(!running.process.log().contains("nonsense") && !running.admin_page("/api/problems").contains("nonsense"));
    let native = Launch::engine(Engine::Native).env("KONTENA_LB_SSL_CIPHERS", cipher).start();
    let warning = "KONTENA_LB_SSL_CIPHERS has no effect on the native engine";
    wait("the warning", || native.process.log().contains(warning));
}
