//! Many containers at once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::harness::{alone, long};
use crate::place::{Place, TTL, each_in_turn};

/// Quiet time after the last container started or ended.
const REST: Duration = Duration::from_secs(3);
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
    alone();
    each_in_turn(|place| {
        let mut agent = place.agent();
        let (all, start) = (if long() { 200 } else { 60 }, Instant::now());
        let place = &*place;
        let left: BTreeSet<String> = std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..WORKERS).map(|worker| scope.spawn(move || churn(place, worker, all / WORKERS))).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("no worker panics")).collect()
        });
        let took = start.elapsed();
        let instances = left.iter().map(|name| format!(", services/crowd/upstreams/{name}=80")).collect::<String>();
        let rest = place.wait_keys_within(&format!("services/crowd/domain=crowd.test{instances}"), REST);
        println!("{:?}: {all} containers in {took:?}, {} left, at rest after {rest:?}", place.api, left.len());
        crate::harness::holds("at rest", TTL, || place.keys().is_some_and(|keys| keys.ends_with(&instances)));
        assert!(agent.is_running());
        let said = agent.log().lines().filter(|line| line.contains("keeping ")).count();
        let most = usize::try_from(start.elapsed().as_secs()).expect("few") + 2;
        assert!(said <= most, "{said} lines in {most} s");
    });
}
