//! 200 services written back to back: each answers within moments of its last key.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::harness::{Api, Backend, Connection, Etcd, Launch, Pointsman, Writer, alone, engine};

const SERVICES: usize = 200;
const LIMIT: Duration = Duration::from_millis(50);
/// Where a reload may have to be waited for, and the one before it.
const RELOADED: Duration = Duration::from_secs(1);

/// How often it may be tried: a busy machine is not what is tested.
const TRIES: usize = 10;

#[test]
fn two_hundred_services_with_the_v2_api() {
    within_limit(Api::V2, "2");
}

#[test]
fn two_hundred_services_with_the_v3_api() {
    within_limit(Api::V3, "3");
}

fn within_limit(api: Api, flag: &str) {
    alone();
    let limit = if engine().differs("reload-pace") { RELOADED } else { LIMIT };
    let high: Vec<Duration> = (0..TRIES).map(|_| burst(api, flag)).take_while(|high| *high > limit).collect();
    assert!(high.len() < TRIES, "99th percentiles {high:?}");
}

/// The 99th percentile of the time from a service's last key to its first answer.
fn burst(api: Api, flag: &str) -> Duration {
    let (etcd, backend) = (Etcd::start(), Backend::naming("one"));
    let running = Launch::new().args(&["--store", &etcd.url(), "--etcd-api", flag, "--id", "burst"]).start();
    running.wait_ready();
    let (written, to_check) = channel();
    let took = std::thread::scope(|scope| {
        let running = &running;
        let watcher = scope.spawn(move || watch(running, &to_check));
        let mut writer = Writer::to(&etcd, api);
        for number in 0..SERVICES {
            for (key, value) in keys(number, &backend.instance()) {
                writer.put(&format!("/haproxy-burst/services/s{number}/{key}"), &value);
            }
            written.send((number, Instant::now())).expect("the watcher waits for all");
        }
        drop(written);
        watcher.join().expect("every service answers")
    });
    ninety_ninth(took)
}

/// Two or three keys a service.
fn keys(number: usize, instance: &str) -> Vec<(&'static str, String)> {
    let mut keys = vec![("domain", format!("s{number}.test")), ("only-1", instance.to_owned())];
    if number % 2 == 1 {
        keys.insert(1, ("path", "/".to_owned()));
    }
    keys
}

/// Asks for every written service in turn until it answers; gives the time that each took from its last key.
fn watch(running: &Pointsman, written: &Receiver<(usize, Instant)>) -> Vec<Duration> {
    let (mut pending, mut took, mut open) = (Vec::<(usize, Instant)>::new(), Vec::new(), true);
    let mut connection = running.connect();
    let start = Instant::now();
    while open || !pending.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "never answered: {pending:?}");
        while let Ok(more) = written.try_recv() {
            pending.push(more);
        }
        open = took.len() + pending.len() < SERVICES;
        pending.retain(|(number, since)| {
            let answers = answers(&mut connection, *number);
            if answers.is_none() {
                connection = running.connect();
            }
            let answers = answers == Some(true);
            if answers {
                took.push(since.elapsed());
            }
            !answers
        });
    }
    took
}

/// Whether this service answers; `None`: the connection has ended in good order.
fn answers(connection: &mut Connection, number: usize) -> Option<bool> {
    let response = connection.request("GET", &format!("s{number}.test"), "/").expect("the connection stays");
    assert!([200, 503].contains(&response.status), "{}", response.head);
    let ended = response.closes() && engine().differs("closed-at-reload");
    (!ended).then_some(response.status == 200)
}

fn ninety_ninth(mut took: Vec<Duration>) -> Duration {
    took.sort();
    assert_eq!(took.len(), SERVICES);
    let (median, high, last) = (took[SERVICES / 2], took[SERVICES * 99 / 100 - 1], took[SERVICES - 1]);
    eprintln!("from last key to answer: median {median:?}, 99th percentile {high:?}, most {last:?}");
    high
}
