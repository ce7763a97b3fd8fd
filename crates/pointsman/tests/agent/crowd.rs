//! Many containers at once.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::harness::long;
use crate::place::{Place, TTL, each};

const WORKERS: usize = 4;

/// Starts this many containers as fast as possible and kills two of three; returns the names of the rest.
fn churn(place: &Place, worker: usize, count: usize) -> Vec<String> {
    let mut left = Vec::new();
    for number in 0..count {
        let name = format!("w{worker}x{number}");
        let id = place.container(&name, "service=crowd domain=crowd.test", &[]);
        match number % 3 {
            0 => drop(place.docker.docker(&["kill", &id])),
            1 => drop(place.docker.docker(&["rm", "--force", &id])),
            _ => left.push(name),
        }
    }
    left
}

#[test]
fn the_store_has_those_that_run() {
    each(|place| {
        let mut agent = place.agent();
        let (all, start) = (if long() { 200 } else { 60 }, Instant::now());
        let place = &*place;
        let left: BTreeSet<String> = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..WORKERS).map(|worker| scope.spawn(move || churn(place, worker, all / WORKERS))).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("no worker panics")).collect()
        });
        let instances = left.iter().map(|name| format!(", services/crowd/upstreams/{name}=80")).collect::<String>();
        place.wait_keys(&format!("services/crowd/domain=crowd.test{instances}"));
        crate::harness::holds("at rest", TTL, || place.keys().is_some_and(|keys| keys.ends_with(&instances)));
        assert!(agent.is_running());
        let said = agent.log().lines().filter(|line| line.contains("keeping ")).count();
        let most = usize::try_from(start.elapsed().as_secs()).expect("few") + 2;
        assert!(said <= most, "{said} lines in {most} s");
    });
}
