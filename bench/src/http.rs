//! CPU per request through each proxy, in alternating turns, so that disturbances of the machine affect all alike.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::drive::{Load, turn};
use crate::options::Options;
use crate::peers::{self, HAPROXY_ALWAYS, HOST, HttpReuse, Peer, Workplace};
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

const CASES: [Case; 4] = [
    case("64 kept alive", 64, &[("HAProxy", 0.60), ("nginx", 0.85), ("relay", 1.05)]),
    case("1,000 kept alive", 1000, &[(HAPROXY_ALWAYS, 0.60), ("nginx", 0.65), ("relay", 1.15)]),
    Case {
        name: "64 open-close",
        load: Load { connections: 64, path: "/", close: true, script: None },
        targets: &[("HAProxy", 0.95), ("relay", 1.10)],
    },
    Case {
        name: "64 of 1 MiB",
        load: Load { connections: 64, path: "/large", close: false, script: None },
        targets: &[("relay", 1.05)],
    },
];
/// The most that a request costs with two workers, over one.
const TWO_WORKERS: f64 = 1.05;

/// Measures every case.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    let prepared = prepare(options);
    let (place, backend, peers) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return report.fail("http", &error),
    };
    for case in &CASES {
        if let Err(error) = measure_case(case, &peers, options, report) {
            report.fail(case.name, &error);
        }
    }
    drop(peers);
    if options.pointsman.exists()
        && let Err(error) = measure_workers(backend.address, &place, options, report)
    {
        report.fail("two workers", &error);
    }
}

fn prepare(options: &Options) -> io::Result<(Workplace, Peer, Vec<Peer>)> {
    let place = Workplace::new("http")?;
    let backend = peers::responder()?;
    let to = backend.address;
    let mut proxies = vec![
        peers::relay(to)?,
        peers::nginx(to, &place)?,
        peers::haproxy(to, &place, HttpReuse::Safe)?,
        peers::haproxy(to, &place, HttpReuse::Always)?,
    ];
    if options.pointsman.exists() {
        let keys = place.path().join("keys");
        peers::write_service(&keys, "bench", HOST, &[to])?;
        proxies.push(peers::pointsman("Pointsman", &options.pointsman, &keys)?);
    }
    Ok((place, backend, proxies))
}

fn measure_case(case: &Case, peers: &[Peer], options: &Options, report: &mut Report) -> io::Result<()> {
    let peers: Vec<_> = peers.iter().collect();
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

/// Two workers against one, both on the one core.
fn measure_workers(to: SocketAddr, place: &Workplace, options: &Options, report: &mut Report) -> io::Result<()> {
    let keys = |name: &str| -> io::Result<PathBuf> {
        let keys = place.path().join(name);
        peers::write_service(&keys, "bench", HOST, &[to])?;
        Ok(keys)
    };
    let one = peers::pointsman("one worker", &options.pointsman, &keys("one")?)?;
    let two = peers::two_workers("two workers", &options.pointsman, &keys("two")?)?;
    let load = Load { connections: 64, path: "/", close: false, script: None };
    let rounds = rounds(&[&one, &two], &load, options.rounds, options.turn)?;
    let ratios = rounds.iter().map(|round| micros(round[1]) / micros(round[0])).collect();
    report.hold("64 kept alive: two workers / one", median(ratios), "x", TWO_WORKERS);
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
