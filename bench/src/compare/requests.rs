//! CPU per small request, and memory, of every contestant.

use std::io;

use super::contestants::Contestant;
use super::equal::{self, Added};
use crate::drive::{Load, turn};
use crate::held;
use crate::http::micros;
use crate::options::Options;
use crate::peers::{self, HOST, Peer, Workplace};
use crate::probe::Probe;
use crate::report::{Report, median};

/// The figures of one contestant. One that could not be measured is not a number.
pub(super) struct ProxyFigures {
    /// Its name.
    pub(super) name: &'static str,
    /// CPU per request at 64 connections, microseconds.
    pub(super) few: f64,
    /// The same at 1,000.
    pub(super) many: f64,
    /// Resident memory at the start, MB.
    pub(super) start: f64,
    /// Memory of an idle connection, kB.
    pub(super) idle: f64,
    /// Fields that it adds.
    pub(super) added: Added,
}

/// Measures all of them; one whose work differs is left out.
pub(super) fn measure(
    contestants: &[Contestant],
    options: &Options,
    report: &mut Report,
) -> io::Result<Vec<ProxyFigures>> {
    let place = Workplace::new("peers")?;
    let backend = peers::responder()?;
    let (mut running, mut rows) = (Vec::new(), Vec::new());
    for one in contestants {
        match started(one, &backend, &place).and_then(|peer| Ok((equal::check(&peer)?, peer))) {
            Ok((added, peer)) => {
                rows.push(ProxyFigures { name: one.name, few: 0.0, many: 0.0, start: 0.0, idle: 0.0, added });
                running.push(peer);
            }
            Err(error) => report.fail(one.name, &error),
        }
    }
    let (few, many) = (costs(&running, 64, options, report), costs(&running, 1_000, options, report));
    drop(running);
    for (row, (few, many)) in rows.iter_mut().zip(few.into_iter().zip(many)) {
        (row.few, row.many) = (few, many);
        let one = contestants.iter().find(|one| one.name == row.name).expect("every row is a contestant's");
        (row.start, row.idle) = memory(one, &backend, &place).unwrap_or_else(|error| {
            report.fail(&format!("{}: memory", row.name), &error);
            (f64::NAN, f64::NAN)
        });
        report.note(format!("{}: resident at the start", row.name), row.start, "MB");
        report.note(format!("{}: an idle connection", row.name), row.idle, "kB");
    }
    Ok(rows)
}

/// Starts it, and waits until it serves.
fn started(one: &Contestant, backend: &Peer, place: &Workplace) -> io::Result<Peer> {
    let peer = one.start(backend.address, place)?;
    Probe::new(peer.address).wait(HOST, b'x')?;
    Ok(peer)
}

/// CPU per request of each, microseconds.
fn costs(peers: &[Peer], connections: usize, options: &Options, report: &mut Report) -> Vec<f64> {
    let load = Load { connections, path: "/", close: false, script: None };
    let mut costs = vec![Vec::new(); peers.len()];
    for _ in 0..options.rounds {
        for (peer, costs) in peers.iter().zip(&mut costs) {
            match turn(peer, &load, options.turn) {
                Ok(cost) => costs.push(micros(cost)),
                Err(error) => report.fail(&format!("{}, {connections} kept alive", peer.name), &error),
            }
        }
    }
    let costs: Vec<_> = costs.into_iter().map(median).collect();
    for (peer, cost) in peers.iter().zip(&costs) {
        report.note(format!("{}, {connections} kept alive: CPU per request", peer.name), *cost, "us");
    }
    costs
}

/// Resident memory of a fresh process in MB, and what an idle connection takes of it in kB.
fn memory(one: &Contestant, backend: &Peer, place: &Workplace) -> io::Result<(f64, f64)> {
    let peer = started(one, backend, place)?;
    Ok((held::at_start(&peer)?, held::idle(&peer)? / 1024.0))
}
