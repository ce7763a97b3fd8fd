//! Statistics as real versions give them, and as workers come and go.

use std::sync::Arc;

use pointsman_table::{KeySet, Limits, Table, compile};

use super::*;

/// `show stat -1 7 -1` of HAProxy 2.6.12: four requests each to services a (fine), b (its first instance refuses), c
/// (its only instance refuses), d (its instance closes without an answer), e (no instance), to nobody, and to a health
/// page; and four connections to TCP service t, one of whose instances refuses.
const REAL: &str = include_str!("haproxy-2.6.csv");

/// A table of HTTP services a to e and TCP service t, for their names.
fn table() -> Arc<Table> {
    let http = ["a", "b", "c", "d", "e"].map(|name| (format!("services/{name}/domain"), "x.test"));
    let keys = http.into_iter().chain([("tcp-services/t/port".to_owned(), "1")]);
    let mut key_set = KeySet::default();
    key_set.reset(1, keys.map(|(key, value)| (key.into(), value.as_bytes().into())));
    compile(&key_set, None, &Limits::default()).table
}

/// Reads with backends named as the engine names them, and `spare:1` given to the service of that name.
fn read(tally: &mut Tally, pid: u32, text: &str, spare: &str, now: Instant) {
    let table = table();
    let service = |backend: &str| {
        let (protocol, name) = match backend.split_once(':')? {
            ("services", name) => (Protocol::Http, name),
            ("tcp-services", name) => (Protocol::Tcp, name),
            _ => (Protocol::Http, spare),
        };
        Some((protocol, table.service(protocol, name)?.name.clone()))
    };
    let names = Names { service: &service, instance: &|server| Some(server.into()) };
    tally.read(pid, text, &names, now).unwrap();
}

/// Rows written as `spare:1/one type=2 stot=3`, with columns in another order than HAProxy's and one that nobody knows.
fn text(rows: &[&str]) -> String {
    let columns = [
        "hrsp_5xx", "type", "new", "scur", "stot", "svname", "status", "pxname", "req_tot", "conn_tot", "wredis",
        "addr",
    ];
    let row = |row: &&str| {
        let (name, values) = row.split_once(' ').unwrap();
        let (proxy, server) = name.split_once('/').unwrap();
        let value = |column: &&str| match *column {
            "pxname" => proxy.to_owned(),
            "svname" => server.to_owned(),
            column => {
                let mut values = values.split(' ').filter_map(|value| value.split_once('='));
                values.find(|(name, _)| *name == column).map(|(_, value)| value.to_owned()).unwrap_or_default()
            }
        };
        columns.iter().map(value).collect::<Vec<_>>().join(",")
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    format!("# {}\n{}\n\n", columns.join(","), rows.join("\n"))
}

/// `http/a requests=4 2xx=4 | one=4`: the service, then its instances; only what is not 0.
fn shown(snapshot: &Snapshot) -> Vec<String> {
    let totals = |totals: &Totals| {
        let Totals { requests, responses, active, connect_failures, retries, .. } = totals;
        let words = [
            ("2xx", responses[1]),
            ("5xx", responses[4]),
            ("active", *active),
            ("failed", *connect_failures),
            ("retried", *retries),
        ];
        let words = words.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!(" {word}={count}"));
        format!("{requests}{}", words.collect::<String>())
    };
    let instance = |instance: &InstanceStats| {
        format!(" | {}={}{}", instance.instance, totals(&instance.totals), if instance.up { "" } else { " down" })
    };
    let service = |service: &ServiceStats| {
        let instances: String = service.instances.iter().map(instance).collect();
        format!("{}/{} {}{instances}", service.protocol, service.service, totals(&service.totals))
    };
    snapshot.services.iter().map(service).collect()
}

#[test]
fn what_a_real_one_counts() {
    let mut tally = Tally::default();
    read(&mut tally, 1, REAL, "", Instant::now());
    let snapshot = tally.snapshot();
    assert_eq!(
        shown(&snapshot),
        [
            "services/a 4 2xx=4 | one=4 2xx=4",
            "services/b 4 2xx=4 failed=4 retried=4 | dead=0 failed=4 retried=4 | one=4 2xx=4",
            "services/c 4 5xx=4 failed=4 retried=12 | dead=0 failed=4 retried=12",
            "services/d 4 5xx=4 retried=24 | closes=0 retried=24",
            "services/e 4 5xx=4",
            "tcp-services/t 4 failed=3 retried=3 | dead=0 failed=3 retried=3 | one=4",
        ]
    );
    let a = &snapshot.services[0];
    assert_eq!((a.totals.bytes_in, a.totals.bytes_out), (332, 216));
    assert_eq!(a.instances[0].target, "127.0.0.1:18091");
    assert_eq!((snapshot.connections_total, snapshot.connections_open), (32, 0));
    let faults: Vec<_> = snapshot.faults.iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(faults, [&("no_route", 4), &("connect_refused", 4), &("bad_response", 4)]);
    assert_eq!(a.latency.count, 0);
}

#[test]
fn counters_only_grow_over_reloads_and_comebacks() {
    let (mut tally, now) = (Tally::default(), Instant::now());
    let backend = |requests: u64, more: &str| {
        let whole = format!("services:a/BACKEND type=1 req_tot={requests} {more}");
        text(&[&whole, &format!("services:a/one type=2 status=UP stot={requests} req_tot={requests} {more}")])
    };
    let mut step = |pid: u32, requests: u64, more: &str, expected: &str| {
        read(&mut tally, pid, &backend(requests, more), "", now);
        assert_eq!(shown(&tally.snapshot()), [expected], "{pid} {requests}");
    };
    step(1, 5, "scur=2", "services/a 5 active=2 | one=5 active=2");
    step(1, 7, "", "services/a 7 | one=7");
    step(2, 1, "scur=1", "services/a 8 active=1 | one=8 active=1");
    step(1, 9, "scur=3", "services/a 10 active=4 | one=10 active=4");
    step(2, 2, "", "services/a 11 active=3 | one=11 active=3");
    tally.gone(1);
    assert_eq!(shown(&tally.snapshot()), ["services/a 11 | one=11"]);
    let mut step = |requests: u64, expected: &str| {
        read(&mut tally, 2, &backend(requests, ""), "", now);
        assert_eq!(shown(&tally.snapshot()), [expected], "{requests}");
    };
    step(1, "services/a 12 | one=12");
    step(3, "services/a 14 | one=14");
}

#[test]
fn a_spare_counts_for_whom_it_serves() {
    let (mut tally, now) = (Tally::default(), Instant::now());
    let spare = |requests: u64| text(&[&format!("spare:1/BACKEND type=1 req_tot={requests}")]);
    read(&mut tally, 1, &spare(3), "a", now);
    read(&mut tally, 1, &spare(5), "nobody", now);
    read(&mut tally, 1, &spare(6), "b", now);
    assert_eq!(shown(&tally.snapshot()), ["services/a 3", "services/b 1"]);
    // In the next worker the same spare may be another's, while the old one still has it.
    read(&mut tally, 2, &spare(10), "c", now);
    read(&mut tally, 1, &spare(7), "b", now);
    assert_eq!(shown(&tally.snapshot()), ["services/a 3", "services/b 2", "services/c 10"]);
}

#[test]
fn a_request_is_not_taken_back() {
    let (mut tally, now) = (Tally::default(), Instant::now());
    let server = |more: &str| text(&[&format!("tcp-services:t/one type=2 status=UP {more}")]);
    read(&mut tally, 1, &server("stot=1 scur=1"), "", now);
    read(&mut tally, 1, &server("stot=1 wredis=1"), "", now);
    assert_eq!(shown(&tally.snapshot()), ["tcp-services/t 0 | one=1 failed=1 retried=1"]);
}

#[test]
fn the_newest_worker_says_who_is_in_rotation() {
    let (mut tally, now) = (Tally::default(), Instant::now());
    let status = |status: &str| text(&[&format!("services:a/one type=2 status={status}")]);
    for (word, up) in [("UP", true), ("DOWN", false), ("DOWN\u{a0}1/2", false), ("MAINT", false), ("DRAIN", true)] {
        read(&mut tally, 1, &status(word), "", now);
        assert_eq!(tally.snapshot().services[0].instances[0].up, up, "{word}");
    }
    read(&mut tally, 2, &status("DOWN"), "", now);
    read(&mut tally, 1, &status("UP"), "", now);
    assert!(!tally.snapshot().services[0].instances[0].up);
    read(&mut tally, 3, &text(&["services:a/two type=2 status=UP"]), "", now);
    assert!(tally.snapshot().services[0].instances[0].up, "who is not there is not down");
}

#[test]
fn what_left_is_forgotten_after_a_while() {
    let (mut tally, now) = (Tally::default(), Instant::now());
    let rows = ["services:a/BACKEND type=1 req_tot=1", "services:a/one type=2 stot=1", "services:b/BACKEND type=1"];
    read(&mut tally, 1, &text(&rows), "", now);
    read(&mut tally, 1, &text(&rows[..1]), "", now + FORGET_AFTER / 2);
    assert_eq!(shown(&tally.snapshot()), ["services/a 1 | one=1", "services/b 0"]);
    read(&mut tally, 1, &text(&rows[..1]), "", now + FORGET_AFTER);
    assert_eq!(shown(&tally.snapshot()), ["services/a 1"]);
}

#[test]
fn an_unreadable_answer_changes_nothing() {
    let (mut tally, now) = (Tally::default(), Instant::now());
    read(&mut tally, 1, REAL, "", now);
    let before = shown(&tally.snapshot());
    let names = Names { service: &|_| None, instance: &|_| None };
    assert!(tally.read(1, "Permission denied\n", &names, now).is_err());
    assert_eq!(shown(&tally.snapshot()), before);
}
