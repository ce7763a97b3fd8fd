//! CPU per request through each proxy, in alternating turns, so that disturbances of the machine affect all alike.

use std::io;
use std::time::Duration;

use crate::drive::{Load, turn};
use crate::options::Options;
use crate::peers::{self, HOST, Peer, Workplace};
use crate::report::{Report, median};
use crate::responder::LARGE;

/// A case: the load, and Pointsman's maximum cost relative to each peer.
struct Case {
    name: &'static str,
    load: Load<'static>,
    targets: &'static [(&'static str, f64)],
}

const fn case(name: &'static str, connections: usize, targets: &'static [(&'static str, f64)]) -> Case {
    Case { name, load: Load { connections, path: "/", close: false, script: None }, targets }
}

const KEPT_64: Case = case("64 kept alive", 64, &[("HAProxy", 0.80), ("nginx", 0.95), ("relay", 1.35)]);
const KEPT_1000: Case = case("1,000 kept alive", 1000, &[("HAProxy", 0.40)]);
const CLOSED_64: Case =
    Case { name: "64 open-close", load: Load { connections: 64, path: "/", close: true, script: None }, targets: &[] };
const LARGE_64: Case = Case {
    name: "64 of 1 MiB",
    load: Load { connections: 64, path: "/large", close: false, script: None },
    targets: &[],
};

/// Measures every case.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    let prepared = prepare(options);
    let (_place, _backend, peers) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return report.fail("http", &error),
    };
    for case in [KEPT_64, KEPT_1000, CLOSED_64, LARGE_64] {
        if let Err(error) = measure_case(&case, &peers, options, report) {
            report.fail(case.name, &error);
        }
    }
}

fn prepare(options: &Options) -> io::Result<(Workplace, Peer, Vec<Peer>)> {
    let place = Workplace::new("http")?;
    let backend = peers::responder()?;
    let to = backend.address;
    let mut proxies = vec![peers::relay(to)?, peers::nginx(to, &place)?, peers::haproxy(to, &place)?];
    if options.pointsman.exists() {
        let keys = place.path().join("keys");
        peers::write_service(&keys, "bench", HOST, &[to])?;
        proxies.push(peers::pointsman("Pointsman", &options.pointsman, &keys)?);
    }
    Ok((place, backend, proxies))
}

fn measure_case(case: &Case, peers: &[Peer], options: &Options, report: &mut Report) -> io::Result<()> {
    // A relay cannot tell requests apart, so the client alone decides when to close.
    let peers: Vec<_> = peers.iter().filter(|peer| !(case.load.close && peer.name == "relay")).collect();
    let rounds = rounds(&peers, &case.load, options.rounds, options.turn)?;
    for (column, peer) in peers.iter().enumerate() {
        let costs = rounds.iter().map(|round| micros(round[column]));
        if case.load.path == "/large" {
            let per_gigabyte = median(costs.collect()) / 1e6 * 1e9 / LARGE as f64;
            report.note(format!("{}, {}: CPU per GB", case.name, peer.name), per_gigabyte, "s");
        } else {
            report.note(format!("{}, {}: CPU per request", case.name, peer.name), median(costs.collect()), "us");
        }
    }
    let Some(ours) = peers.iter().position(|peer| peer.name == "Pointsman") else {
        return Ok(());
    };
    for (theirs, peer) in peers.iter().enumerate().filter(|(column, _)| *column != ours) {
        let ratio = median(rounds.iter().map(|round| micros(round[ours]) / micros(round[theirs])).collect());
        let name = format!("{}: Pointsman / {}", case.name, peer.name);
        match case.targets.iter().find(|(name, _)| *name == peer.name) {
            Some((_, target)) => report.hold(name, ratio, "x", *target),
            None => report.note(name, ratio, "x"),
        }
    }
    Ok(())
}

/// One row per round, one column per proxy.
///
/// # Errors
/// If any turn fails.
pub(crate) fn rounds(
    peers: &[&Peer],
    load: &Load<'_>,
    rounds: usize,
    span: Duration,
) -> io::Result<Vec<Vec<Duration>>> {
    (0..rounds).map(|_| peers.iter().map(|peer| turn(peer, load, span)).collect()).collect()
}

/// CPU per request in microseconds.
pub(crate) fn micros(cost: Duration) -> f64 {
    cost.as_secs_f64() * 1e6
}
