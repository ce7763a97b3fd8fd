//! Certificates beyond what one engine does with them: when they expire, and where they come from.

use std::net::SocketAddr;

use crate::harness::{Backend, Engine, Launch, Pointsman, Site, certificate, epoch, free_address, run, wait};

const DAY: i64 = 86_400;

/// A balancer that serves `a.test` over HTTPS too.
fn serving(site: &Site, backend: &Backend) -> (Pointsman, SocketAddr) {
    site.put("services/a/domain", "a.test");
    site.put("services/a/one", backend.instance());
    let https = free_address();
    let mut running = Launch::engine(Engine::HaProxy).store(site).args(&["--https", &https.to_string()]).start();
    running.process.wait_log(&format!("listening for HTTPS on {https}"));
    running.wait_backend("a.test", "/", "one");
    (running, https)
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
    let shown = crate::harness::shell(&format!(
        "openssl s_client -connect {https} -servername brief.test </dev/null 2>/dev/null | openssl x509 -noout -subject"
    ));
    assert!(shown.stdout.contains("brief.test"), "{}", shown.stdout);
}
