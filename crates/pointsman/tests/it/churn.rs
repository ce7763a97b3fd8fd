//! Instances that come and go: a thousand of them every second, and all of a service replaced again and again under load.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Backend, Launch, Load, Pointsman, Site, engine, wait};

/// How many instances there are at once.
const INSTANCES: usize = 1_000;

/// Takes connections at every address of loopback and closes them: notes at which.
struct Farm {
    port: u16,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Farm {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let farm = Self { port, taken: Arc::default() };
        let taken = Arc::clone(&farm.taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(address) = stream.local_addr() {
                    *taken.lock().expect("no panic while held").entry(address.ip()).or_default() += 1;
                }
            }
        });
        farm
    }

    fn instance(&self, round: usize, number: usize) -> String {
        format!("127.{}.{}.{}:{}", round + 1, number / 250, number % 250 + 1, self.port)
    }

    fn forget(&self) {
        self.taken.lock().expect("no panic while held").clear();
    }

    /// How many addresses had at least so many connections.
    fn with(&self, least: usize) -> usize {
        self.taken.lock().expect("no panic while held").values().filter(|count| **count >= least).count()
    }
}

/// Whether the newest table is that of all workers.
fn is_applied(running: &Pointsman) -> bool {
    let newest = running.metric("pointsman_table_revision", &[]);
    newest == running.metric("pointsman_table_applied_revision", &[])
}

#[test]
fn a_thousand_instances_that_change_every_second_are_checked_and_then_forgotten() {
    if engine().differs("checks") {
        return;
    }
    const ROUNDS: usize = 5;
    let (farm, calm) = (Farm::new(), Backend::naming("calm"));
    let site = Site::with(&[
        ("config/health_check_interval", "500ms"),
        ("config/health_check_timeout", "10s"),
        ("services/calm/domain", "calm.test"),
        ("services/calm/one", &calm.instance()),
        ("services/a/domain", "a.test"),
        ("services/a/health_check", "tcp"),
    ]);
    let running = Launch::on(&site).args(&["--metrics-detail", "all"]).start();
    running.wait_ready();
    running.wait_backend("calm.test", "/", "calm");
    let load = Load::new().keep_alive(1, running.http, "calm.test").open_close(1, running.http, "calm.test");
    for round in 0..ROUNDS {
        let began = Instant::now();
        for number in 0..INSTANCES {
            site.put(&format!("services/a/upstreams/{round}-{number}"), farm.instance(round, number));
            if let Some(before) = round.checked_sub(1) {
                site.remove(&format!("services/a/upstreams/{before}-{number}"));
            }
        }
        let is_served = || running.metric("pointsman_table_instances", &[]) == (INSTANCES + 1) as f64;
        wait("the change to be served", || is_served() && is_applied(&running));
        // The pace of the changes.
        std::thread::sleep(Duration::from_secs(1).saturating_sub(began.elapsed()));
    }
    wait("all that are left to be checked, and no others", || {
        farm.forget();
        wait("each to be checked again", || farm.with(2) >= INSTANCES);
        farm.with(1) == INSTANCES
    });
    let is_of_a = |line: &&str| line.starts_with("pointsman_instance_check_up{") && line.contains("service=\"a\"");
    wait("the others to be forgotten", || running.admin_page("/metrics").lines().filter(is_of_a).count() == INSTANCES);
    assert_eq!(running.metric("pointsman_instance_check_up", &["service=\"a\""]), INSTANCES as f64);
    load.finish().assert_clean(100);
}

/// Each round adds new instances, waits for their checks, drains the old ones, removes them and ends them.
#[test]
fn all_instances_are_replaced_ten_times_and_no_request_fails() {
    let site = Site::with(&[
        ("config/health_check_interval", "200ms"),
        ("services/a/domain", "a.test"),
        ("services/a/health_check_uri", "/health"),
    ]);
    let add = |round: usize| {
        let names = ["one", "two"].map(|name| format!("{name}-{round}"));
        names.map(|name| {
            let backend = Backend::naming(&name);
            site.put(&format!("services/a/upstreams/{name}"), backend.instance());
            (name, backend)
        })
    };
    let mut old = add(0);
    let running = Pointsman::serving(&site);
    old.iter().for_each(|(name, _)| running.wait_backend("a.test", "/", name));
    let load = Load::new().keep_alive(1, running.http, "a.test").open_close(1, running.http, "a.test");
    let label = |name: &str| format!("instance=\"{name}\"");
    for round in 1..=10 {
        let new = add(round);
        for (name, _) in &new {
            running.wait_backend("a.test", "/", name);
            if !engine().differs("checks") {
                wait("it to be checked", || running.metric("pointsman_instance_check_up", &[&label(name)]) == 1.0);
            }
        }
        for (name, backend) in &old {
            site.put(&format!("services/a/upstreams/{name}"), format!("{} drain", backend.instance()));
        }
        let is_drained = || running.admin_page("/api/table").matches("\"state\":\"drain\"").count() == old.len();
        wait("the old ones to be drained", || is_drained() && is_applied(&running));
        let active = |(name, _): &(String, Backend)| running.metric("pointsman_active", &[&label(name)]);
        wait("their work to end", || old.iter().all(|one| active(one) == 0.0));
        for (name, _) in &old {
            site.remove(&format!("services/a/upstreams/{name}"));
        }
        let is_gone = || running.metric("pointsman_table_instances", &[]) == new.len() as f64;
        wait("them to be gone", || is_gone() && is_applied(&running));
        old = new;
    }
    load.finish().assert_served(100);
}
