//! 200 services written back to back: every one of them answers, and none before those that were written before it.
//!
//! How soon they do is a row of the bench: `pointsman-bench burst`.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Api, Backend, Connection, Etcd, Launch, Pointsman, Writer, engine, wait};

const SERVICES: usize = 200;

#[test]
fn two_hundred_services_with_the_v2_api() {
    burst(Api::V2, "2");
}

#[test]
fn two_hundred_services_with_the_v3_api() {
    burst(Api::V3, "3");
}

fn burst(api: Api, flag: &str) {
    let (etcd, backend) = (Etcd::start(), Backend::naming("one"));
    let running = Launch::new().args(&["--store", &etcd.url(), "--etcd-api", flag, "--id", "burst"]).start();
    running.wait_ready();
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&running, &written));
        let mut writer = Writer::to(&etcd, api);
        for number in 0..SERVICES {
            for (key, value) in keys(number, &backend.instance()) {
                writer.put(&format!("/haproxy-burst/services/s{number}/{key}"), &value);
            }
            written.store(number + 1, Ordering::Release);
        }
        watcher.join().expect("every service answers");
    });
}

/// Two or three keys a service.
fn keys(number: usize, instance: &str) -> Vec<(&'static str, String)> {
    let mut keys = vec![("domain", format!("s{number}.test")), ("only-1", instance.to_owned())];
    if number % 2 == 1 {
        keys.insert(1, ("path", "/".to_owned()));
    }
    keys
}

/// Follows the writer: asks for the newest service until it answers, and then for all that are older and were not asked
/// for yet.
fn watch(running: &Pointsman, written: &AtomicUsize) {
    let (mut asked, mut connection) = (0, running.connect());
    while asked < SERVICES {
        wait("a service to be written", || written.load(Ordering::Acquire) > asked);
        let newest = written.load(Ordering::Acquire) - 1;
        wait(&format!("s{newest} to answer"), || answers(running, &mut connection, newest));
        for number in asked..newest {
            // HAProxy is told of several services one after another.
            let told = answers(running, &mut connection, number) || engine().differs("reload-pace");
            assert!(told, "s{newest} answers, s{number} was written before and does not");
            wait(&format!("s{number} to answer"), || answers(running, &mut connection, number));
        }
        asked = newest + 1;
    }
}

/// Whether this service answers. A connection that has ended in good order is opened anew.
fn answers(running: &Pointsman, connection: &mut Connection, number: usize) -> bool {
    let response = connection.request("GET", &format!("s{number}.test"), "/").expect("the connection stays");
    assert!([200, 503].contains(&response.status), "{}", response.head);
    if response.closes() && engine().differs("closed-at-reload") {
        *connection = running.connect();
    }
    response.status == 200
}
