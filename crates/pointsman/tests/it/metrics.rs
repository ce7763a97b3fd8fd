//! The size of the metrics with many services, and that their sums are right.

use std::collections::BTreeMap;

use crate::harness::{Backend, Engine, Launch, PATIENCE, Pointsman, Site, get_ok, wait_within};

/// How many services there are.
const SERVICES: usize = 10_000;
/// How many have work.
const BUSY: usize = 150;

/// The samples of a page, by name and labels.
fn samples(running: &Pointsman) -> BTreeMap<String, f64> {
    let page = running.admin_page("/metrics");
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a sample");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

fn sum(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    let of_name = |found: &&String| found.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    samples.keys().filter(of_name).map(|found| samples[found]).sum()
}

/// Waits until the sum of a counter is so much.
#[track_caller]
fn wait_sum(running: &Pointsman, name: &str, expected: usize) -> BTreeMap<String, f64> {
    wait_within(&format!("{name} {expected}"), PATIENCE, || {
        let page = samples(running);
        (sum(&page, name) == expected as f64).then_some(page)
    })
}

/// Waits until all services are served.
#[track_caller]
fn wait_table(running: &Pointsman) {
    let services = || running.metric("pointsman_table_services", &[]) == SERVICES as f64;
    wait_within("the table", 4 * PATIENCE, || services().then_some(()));
}

fn site(backend: &Backend) -> Site {
    let site = Site::with(&[]);
    for number in 0..SERVICES {
        site.put(&format!("services/s{number}/domain"), format!("s{number}.test"));
        site.put(&format!("services/s{number}/one"), backend.instance());
    }
    site
}

#[test]
fn ten_thousand_services_have_two_thousand_series() {
    let backend = Backend::naming("one");
    let site = site(&backend);
    let running = Launch::engine(Engine::Native).store(&site).start();
    wait_table(&running);
    let (mut requests, mut before) = (0, BTreeMap::new());
    for round in 1..=3 {
        for number in 0..BUSY * round / 3 {
            // The last of them have the most.
            for _ in 0..=number / 50 {
                get_ok(running.http, &format!("s{number}.test"), "/");
                requests += 1;
            }
        }
        let now = wait_sum(&running, "pointsman_requests_total", requests);
        assert!(now.len() <= 2_000, "{} series", now.len());
        assert_eq!(sum(&now, "pointsman_request_duration_seconds_count"), requests as f64);
        assert_eq!(sum(&now, "pointsman_responses_total"), requests as f64);
        for (name, value) in before.iter().filter(|(name, _): &(&String, _)| name.contains("_total")) {
            assert!(now.get(name).is_some_and(|now| now >= value), "{name} was {value}");
        }
        before = now;
    }
    let others = before["pointsman_requests_total{protocol=\"http\",service=\"(others)\",instance=\"\"}"];
    assert!(others > 0.0 && others < requests as f64, "{others} of {requests}");
    let unnamed = before["pointsman_metrics_unnamed_services"];
    assert!(unnamed >= (SERVICES - BUSY) as f64 && unnamed < SERVICES as f64, "{unnamed}");
    let all = Launch::engine(Engine::Native).store(&site).args(&["--metrics-detail", "all"]).start();
    wait_table(&all);
    assert_eq!(sum(&samples(&all), "pointsman_instance_up"), SERVICES as f64);
}
