//! This program against another build of it, in turns on one machine: what a change costs. Both must be built alike.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::drive::Load;
use crate::http::{micros, rounds};
use crate::options::Options;
use crate::peers::{self, HOST, Peer, Workplace};
use crate::report::{Report, median};
use crate::scale;

/// What a change may cost.
const MOST: f64 = 1.02;
/// Connections, and whether each makes one request only.
const CASES: &[(&str, usize, bool)] = &[
    ("64 kept alive", 64, false),
    ("1,000 kept alive", 1000, false),
    ("64 open-close", 64, true),
    ("1,000 open-close", 1000, true),
];

/// Measures CPU per request and resident memory of both. Without another build there is nothing to measure.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    let Some(other) = &options.against else { return };
    if let Err(error) = requests(other, options, report).and_then(|()| memory(other, options, report)) {
        report.fail("against", &error);
    }
}

fn requests(other: &Path, options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("against")?;
    let backend = peers::responder()?;
    let start = |name, program| -> io::Result<Peer> {
        let keys = place.path().join(name);
        peers::write_service(&keys, "bench", HOST, &[backend.address])?;
        peers::pointsman(name, program, &keys)
    };
    let (this, other) = (start("this", &options.pointsman)?, start("other", other)?);
    for (name, connections, close) in CASES {
        let load = Load { connections: *connections, path: "/", close: *close, script: None };
        let rounds = in_turns(&this, &other, &load, options)?;
        let cost = |column: usize| median(rounds.iter().map(|round| micros(round[column])).collect());
        report.note(format!("{name}: CPU per request, this"), cost(0), "us");
        report.note(format!("{name}: CPU per request, other"), cost(1), "us");
        let ratio = median(rounds.iter().map(|round| micros(round[0]) / micros(round[1])).collect());
        report.hold(format!("{name}: this / other"), ratio, "x", MOST);
    }
    Ok(())
}

/// One row per round, each with this program's column first. The two change places from round to round, as whichever goes
/// first may find the machine in another state.
fn in_turns(this: &Peer, other: &Peer, load: &Load<'_>, options: &Options) -> io::Result<Vec<Vec<Duration>>> {
    let round = |number: usize| -> io::Result<Vec<Duration>> {
        let order = if number.is_multiple_of(2) { [this, other] } else { [other, this] };
        let mut costs = rounds(&order, load, 1, options.turn)?.swap_remove(0);
        if !number.is_multiple_of(2) {
            costs.reverse();
        }
        Ok(costs)
    };
    (0..options.rounds).map(round).collect()
}

fn memory(other: &Path, options: &Options, report: &mut Report) -> io::Result<()> {
    let (this, other) = (scale::memory_of(&options.pointsman)?, scale::memory_of(other)?);
    report.note("resident memory, 10,000 services, this", this, "MB");
    report.note("resident memory, 10,000 services, other", other, "MB");
    report.hold("resident memory: this / other", this / other, "x", MOST);
    Ok(())
}
