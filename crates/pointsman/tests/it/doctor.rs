//! `pointsman doctor`: before the first start and beside a running balancer, what it says is wrong, and what to type.

use std::net::TcpListener;

use crate::harness::{
    Api, Backend, Etcd, Finished, Launch, Pointsman, Site, certificate, epoch, free_address, get, program_folder, run,
    shell, wait,
};

/// Runs it with free ports, and with these flags.
fn doctor(flags: &[&str]) -> Finished {
    let (http, admin) = (free_address().to_string(), free_address().to_string());
    run(&[&["doctor", "--http", &http, "--admin", &admin], flags].concat())
}

/// The store and the state of this site.
fn site_flags(site: &Site) -> [String; 4] {
    let state = site.home().join("state").display().to_string();
    ["--store".to_owned(), site.folder().display().to_string(), "--state".to_owned(), state]
}

/// As [`doctor`], on a site.
fn on(site: &Site, flags: &[&str]) -> Finished {
    let own = site_flags(site);
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    doctor(&[&own, flags].concat())
}

/// That it says this in one line, and this to do in the next, if anything is to be done.
#[track_caller]
fn assert_says(said: &Finished, grade: &str, what: &str, remedy: &str) {
    let lines: Vec<&str> = said.stdout.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(grade) && line.contains(what));
    let at = at.unwrap_or_else(|| panic!("no {grade} {what} in {said:?}"));
    if !remedy.is_empty() {
        let next = lines.get(at + 1).copied().unwrap_or_default();
        assert!(next.trim_start().starts_with("do: ") && next.contains(remedy), "{next} is not {remedy}");
    }
}

/// A site with one good service.
fn good(backend: &Backend) -> Site {
    Site::with(&[("services/a/domain", "a.test"), ("services/a/one", &backend.instance())])
}

#[test]
fn a_good_site_is_well_before_the_start_and_while_it_runs() {
    let backend = Backend::naming("one");
    let site = good(&backend);
    let before = on(&site, &[]);
    assert_eq!(before.code, Some(0), "{before:?}");
    assert_says(&before, "ok", "none answers on", "");
    assert_says(&before, "ok", "can be listened on", "");
    assert_says(&before, "ok", "1 service, no problem", "");
    assert!(before.stdout.lines().last().is_some_and(|line| line.starts_with("nothing is wrong")), "{before:?}");
    let running = Pointsman::serving(&site);
    running.wait_backend("a.test", "/", "one");
    let own = site_flags(&site);
    let (http, admin) = (running.http.to_string(), running.admin.to_string());
    wait("its status", || {
        let flags = ["doctor", "--http", &http, "--admin", &admin, &own[0], &own[1], &own[2], &own[3]];
        let beside = run(&flags);
        let says = |text: &str| beside.stdout.contains(text);
        beside.code == Some(0) && says("served by the balancer") && says(" serves\n") && says("1 balancer, all at one")
    });
}

#[test]
fn settings_that_cannot_work_are_told() {
    let wrong = doctor(&["--workers", "none"]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert_says(&wrong, "wrong", "--workers", "pointsman run --help");
    let shell_line = format!(
        "POINTSMAN_STOER=x {} doctor --http 127.0.0.1:0 --admin {} --store {}",
        program_folder().join("pointsman").display(),
        free_address(),
        Site::new().folder().display()
    );
    let misspelt = shell(&shell_line);
    assert_eq!(misspelt.code, Some(1), "{misspelt:?}");
    assert_says(&misspelt, "wrong", "did you mean POINTSMAN_STORE?", "unset POINTSMAN_STOER");
    let site = Site::new();
    let idle = on(&site, &["--haproxy-ciphers", "ALL"]);
    assert_says(&idle, "note", "has no effect on the native engine", "--engine");
}

#[test]
fn a_dead_store_is_told_in_time() {
    let site = Site::new();
    let state = site.home().join("state").display().to_string();
    let dead = format!("http://{}", free_address());
    let said = doctor(&["--store", &dead, "--id", "x", "--state", &state]);
    assert_eq!(said.code, Some(1));
    assert_says(&said, "wrong", "cannot reach etcd at", &format!("curl -sS {dead}/health"));
    // One that accepts and is silent: the wait for the command has an end, and so has its own.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("bound"));
    let said = doctor(&["--store", &silent, "--id", "x", "--state", &state]);
    assert!(said.code == Some(1) && said.stdout.contains(&silent), "{said:?}");
}

#[test]
fn etcd_is_looked_at_and_a_prefix_that_was_not_meant_is_told() {
    let (etcd, site) = (Etcd::start(), Site::new());
    let state = site.home().join("state").display().to_string();
    let of = |id: &str| doctor(&["--store", &etcd.url(), "--id", id, "--state", &state]);
    let nothing = of("shop");
    assert_eq!(nothing.code, Some(0), "{nothing:?}");
    assert_says(&nothing, "note", "there is no key below /haproxy-shop yet", "pointsman set services/");
    etcd.put(Api::V3, "/haproxy-shop/services/a/domain", "a.test");
    let other = of("shpo");
    assert_eq!(other.code, Some(1));
    assert_says(&other, "wrong", "there is no key below /haproxy-shpo", "--prefix /haproxy-shop");
    let found = of("shop");
    assert_says(&found, "ok", "by the v3 API of etcd: 1 key", "");
    assert_says(&found, "ok", "1 of 1 members answer, version 3.", "");
    assert_says(&found, "ok", "our clock and etcd's agree", "");
    assert_says(&found, "note", "no instance: a", "pointsman set services/a/NAME");
    // Its alarm, as when its disk is full.
    let address = etcd.url();
    let body = "{\"action\":\"ACTIVATE\",\"alarm\":\"NOSPACE\"}";
    let curl =
        ["v3", "v3beta"].map(|api| shell(&format!("curl -sf {address}/{api}/maintenance/alarm -d '{body}'")).code);
    assert!(curl.contains(&Some(0)), "{curl:?}");
    let full = of("shop");
    assert_eq!(full.code, Some(1), "{full:?}");
    assert_says(&full, "wrong", "alarm:NOSPACE", "defrag");
}

#[test]
fn a_store_that_wants_a_user_says_so() {
    let (etcd, site) = (Etcd::start(), Site::new());
    let state = site.home().join("state").display().to_string();
    etcd.put(Api::V3, "/haproxy-x/services/a/domain", "a.test");
    etcd.etcdctl3(&["user", "add", "root:secret"]);
    etcd.etcdctl3(&["user", "grant-role", "root", "root"]);
    etcd.etcdctl3(&["auth", "enable"]);
    let said = doctor(&["--store", &etcd.url(), "--etcd-api", "3", "--id", "x", "--state", &state]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_says(&said, "wrong", "denies access", "--etcd-user NAME:PASSWORD");
}

#[test]
fn a_taken_port_and_a_stranger_on_admin_are_told() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let port = address.rsplit(':').next().unwrap_or_default().to_owned();
    site.put("tcp-services/t/port", port.as_str());
    let said = on(&site, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_says(&said, "wrong", &format!("cannot listen on 0.0.0.0:{port}"), "ss -ltnp");
    let web = Backend::naming("stranger");
    let own = site_flags(&site);
    let strange =
        run(&["doctor", "--http", "127.0.0.1:0", "--admin", &web.instance(), &own[0], &own[1], &own[2], &own[3]]);
    assert_eq!(strange.code, Some(1), "{strange:?}");
    assert_says(&strange, "wrong", "is no balancer", "ss -ltnp");
}

#[test]
fn bad_keys_and_dead_instances_are_told() {
    let backend = Backend::naming("one");
    let site = good(&backend);
    site.put("services/a/port", "80x");
    site.put("services/b/domain", "b.test");
    site.put("services/b/health_check_uri", "/");
    let dead = free_address();
    site.put("services/b/gone", dead.to_string());
    let said = on(&site, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_says(&said, "wrong", "/services/a/port = \"80x\": bad value", "pointsman set KEY VALUE");
    assert_says(&said, "wrong", &format!("b/gone ({dead}) fails its check"), "pointsman drain b/gone");
    let json = on(&site, &["--json"]);
    let report: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert!(json.code == Some(1) && report["wrong"].as_u64() >= Some(2), "{report}");
    let first = &report["observations"][0];
    assert!(first["grade"] == "wrong" && first["do"].is_string() && first["subject"].is_string(), "{first}");
}

#[test]
fn certificates_and_hosts_without_one_are_told() {
    let backend = Backend::naming("one");
    let site = good(&backend);
    let day = 86_400;
    site.put("certs/a", certificate("a.test", epoch() - 80 * day, epoch() + 3 * day));
    site.put("services/b/domain", "b.test");
    site.put("services/b/one", backend.instance());
    site.put("services/b/scheme", "https");
    let said = on(&site, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_says(&said, "wrong", "/certs/a", "pointsman set certs/a - <NEW.pem");
    assert_says(&said, "wrong", "no certificate is for b.test", "pointsman set certs/NAME");
}

#[test]
fn limits_and_the_state_folder_are_looked_at() {
    let backend = Backend::naming("one");
    let site = good(&backend);
    site.put("config/limit/connections", "5000");
    let own = site_flags(&site).join(" ");
    let program = program_folder().join("pointsman").display().to_string();
    let line = format!("ulimit -n 1024; {program} doctor --http 127.0.0.1:0 --admin {} {own}", free_address());
    let few = shell(&line);
    assert_eq!(few.code, Some(1), "{few:?}");
    assert_says(&few, "wrong", "1024 open files are too few for config/limit/connections = 5000", "LimitNOFILE");
    std::fs::write(site.home().join("state"), "a file").expect("our own file");
    let said = on(&site, &[]);
    assert_says(&said, "wrong", "is a file, not a folder", "--state DIR");
}

#[test]
fn the_guard_and_the_fleet_are_told() {
    let (etcd, backend, site) = (Etcd::start(), Backend::naming("one"), Site::new());
    let put = |key: &str, value: &str| etcd.put(Api::V3, &format!("/haproxy-d/{key}"), value);
    put("services/a/domain", "a.test");
    (0..12).for_each(|number| put(&format!("services/a/i{number}"), &backend.instance()));
    let running = Launch::new().args(&["--store", &etcd.url(), "--id", "d", "--name", "edge"]).start();
    running.wait_backend("a.test", "/", "one");
    etcd.etcdctl3(&["del", "--prefix", "/haproxy-d"]);
    running.wait_problem("held", &["12 of 12 instances"]);
    let state = site.home().join("state").display().to_string();
    let (http, admin) = (running.http.to_string(), running.admin.to_string());
    let url = etcd.url();
    wait("its status to say so", || {
        let flags = ["--store", &url, "--id", "d", "--http", &http, "--admin", &admin, "--state", &state];
        let said = run(&[&["doctor"][..], &flags].concat());
        let says = |text: &str| said.stdout.contains(text);
        said.code == Some(1) && says("edge: the guard holds 13 keys") && says("pointsman guard release")
    });
    assert!(get(running.http, "a.test", "/").is_ok_and(|answer| answer.status == 200));
}

#[test]
fn haproxy_is_looked_for() {
    let backend = Backend::naming("one");
    let site = good(&backend);
    let missing = on(&site, &["--engine", "haproxy", "--haproxy", "/nowhere/haproxy"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert_says(&missing, "wrong", "/nowhere/haproxy", "apt install haproxy");
    let there = on(&site, &["--engine", "haproxy"]);
    assert_says(&there, "ok", "accepts the configuration", "");
}
