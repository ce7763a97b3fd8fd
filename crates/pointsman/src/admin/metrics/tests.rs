//! The page of a table with one service, line by line.

use std::sync::Arc;

use pointsman_table::{KeySet, Limits, Table, compile};

use super::*;
use pointsman_engine::live::{CheckedNow, Histogram, Reason};

const SERVICE: &str = "a\"b\\c\nd";

/// A table of one service with three instances: `down`, one that had no work yet, and one more.
fn table() -> Arc<Table> {
    let entry = |key: &str, value: &[u8]| (format!("services/{SERVICE}/{key}").into(), value.into());
    let address = &b"127.0.0.1:1"[..];
    let keys = [("domain", &b"a.test"[..]), ("one", address), ("down", address), ("fresh", address)];
    let mut key_set = KeySet::default();
    key_set.reset(7, keys.map(|(key, value)| entry(key, value)));
    compile(&key_set, None, &Limits::default()).table
}

fn totals(requests: u64, responses: [u64; 5]) -> Totals {
    Totals { requests, responses, bytes_in: 10, bytes_out: 20, ..Totals::default() }
}

fn instance(name: &str, requests: u64) -> InstanceStats {
    InstanceStats {
        instance: name.to_owned(),
        target: "127.0.0.1:1".to_owned(),
        totals: totals(requests, [0, requests, 0, 0, 0]),
        up: name != "down",
        apart: None,
        lasts: Some(Duration::from_secs(60)),
        error: (name == "down").then(|| ("no_answer".to_owned(), Duration::from_secs(5))),
        age: None,
        ejections: Reason::ALL.map(|reason| (reason, u64::from(name == "down" && reason == Reason::Errors))),
        check: (name == "down").then(|| CheckedNow {
            up: false,
            said: "GET / got 503".to_owned(),
            took: Duration::from_micros(1500),
            age: Some(Duration::from_secs(1)),
            streak: 0,
        }),
    }
}

fn page() -> String {
    let service = ServiceStats {
        protocol: Protocol::Http,
        service: SERVICE.to_owned(),
        totals: totals(5, [0, 3, 0, 0, 2]),
        queued: 4,
        panic: false,
        latency: Histogram { buckets: vec![(0.005, 2), (f64::INFINITY, 5)], sum: 1.5, count: 5 },
        instances: vec![instance("one", 3), instance("down", 0)],
    };
    let snapshot = Snapshot {
        services: vec![service],
        faults: vec![("no_route", 2)],
        handshakes: vec![("1.3", true, 4)],
        ..Snapshot::default()
    };
    let mut status = Status { table: Some(table()), ..Status::new() };
    status.condition = Condition::Watching { via: "etcd v3 at http://a:1".to_owned() };
    let facts = Facts { version: "2.6.12".to_owned(), serving: true, old_workers: 2, reloads: 3, ..Facts::default() };
    let process = Process::read(SystemTime::now(), Lost::default(), (0, 0));
    render((&status, &Named::all(snapshot)), &process, Some(&facts), None)
}

#[test]
fn shows_each_number_under_its_labels() {
    let page = page();
    let service = r#"protocol="http",service="a\"b\\c\nd""#;
    for expected in [
        format!("pointsman_requests_total{{{service},instance=\"one\"}} 3\n"),
        format!("pointsman_requests_total{{{service},instance=\"\"}} 2\n"),
        format!("pointsman_responses_total{{{service},instance=\"one\",code=\"2xx\"}} 3\n"),
        format!("pointsman_responses_total{{{service},instance=\"\",code=\"5xx\"}} 2\n"),
        format!("pointsman_queued{{{service}}} 4\n"),
        format!("pointsman_request_duration_seconds_bucket{{{service},le=\"0.005\"}} 2\n"),
        format!("pointsman_request_duration_seconds_bucket{{{service},le=\"+Inf\"}} 5\n"),
        format!("pointsman_request_duration_seconds_sum{{{service}}} 1.5\n"),
        format!("pointsman_instance_up{{{service},instance=\"down\"}} 0\n"),
        format!("pointsman_instance_up{{{service},instance=\"fresh\"}} 1\n"),
        "pointsman_table_revision 7\n".to_owned(),
        "pointsman_faults_total{fault=\"no_route\"} 2\n".to_owned(),
        "pointsman_tls_handshakes_total{version=\"1.3\",resumed=\"true\"} 4\n".to_owned(),
        "pointsman_problems{kind=\"bad_value\"} 0\n".to_owned(),
        "pointsman_store_up 1\n".to_owned(),
        "pointsman_store_info{state=\"watching\",via=\"etcd v3 at http://a:1\",reason=\"\"} 1\n".to_owned(),
        "pointsman_haproxy_info{version=\"2.6.12\"} 1\n".to_owned(),
        "pointsman_haproxy_workers{state=\"current\"} 1\n".to_owned(),
        "pointsman_haproxy_workers{state=\"old\"} 2\n".to_owned(),
        "pointsman_haproxy_reloads_total{result=\"ok\"} 3\n".to_owned(),
        "pointsman_haproxy_reloads_total{result=\"failed\"} 0\n".to_owned(),
        "pointsman_ready 0\n".to_owned(),
        "# TYPE pointsman_request_duration_seconds histogram\n".to_owned(),
    ] {
        assert!(page.contains(&expected), "the page lacks {expected}");
    }
    assert!(!page.contains("requests_total{protocol=\"http\",service=\"a\\\"b\\\\c\\nd\",instance=\"down\"}"));
}

/// Every sample follows the TYPE line of its family, and each family occurs once.
#[test]
fn is_well_formed() {
    let mut seen = std::collections::BTreeSet::new();
    let mut family = String::new();
    for line in page().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(seen.insert(family.clone()), "{family} comes twice");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(name.starts_with(&family), "{name} is not below {family}");
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
    }
}

#[test]
fn documented() {
    let reference = include_str!("../../../../../docs/metrics.md");
    for line in page().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(reference.contains(&format!("| `{name}` | {kind} |")), "docs/metrics.md lacks {name}");
    }
}

#[test]
fn says_nothing_of_haproxy_where_it_does_not_serve() {
    let page = render(
        (&Status::new(), &Named::all(Snapshot::default())),
        &Process::read(SystemTime::now(), Lost::default(), (0, 0)),
        None,
        None,
    );
    assert!(!page.contains("haproxy"));
}

#[test]
fn resident_memory() {
    assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\n"), 1234 * 1024);
    assert_eq!(resident_bytes(""), 0);
}
