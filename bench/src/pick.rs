//! Picking an instance, in this process: no socket, no engine.

use pointsman_native::PickBench;

use crate::options::Options;
use crate::report::{Report, median};
use crate::table::{Keys, nanos_each, table};

/// Picks of one measurement.
const PICKS: usize = 200_000;
/// The same, for balances that look at every instance.
const LONG_PICKS: usize = 5_000;
/// Workers, whose counters `p2c` and `leastconn` add up.
const WORKERS: usize = 4;
/// The time, milliseconds. It stands still: no ejection ends.
const NOW: u64 = 1_000;

/// Measures picks among 3 and 1,000 instances, by balance, and after a flip.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    for (count, written, target) in [(3, "3", 100.0), (1_000, "1,000", 400.0)] {
        for balance in ["roundrobin", "random", "p2c"] {
            let cost = cost(options, PICKS, &mut picker(count, balance, ""), |_| None);
            report.hold(format!("pick among {written}, {balance}"), cost, "ns", target);
        }
    }
    let mut some_are_down = picker(1_000, "roundrobin", "");
    (0..3).for_each(|_| some_are_down.fail(500, NOW));
    report.hold(
        "pick among 1,000 of which one is ejected",
        cost(options, PICKS, &mut some_are_down, |_| None),
        "ns",
        400.0,
    );
    linear(options, report);
    flips(options, report);
}

/// Balances that look at every instance.
fn linear(options: &Options, report: &mut Report) {
    for (balance, uneven) in [("roundrobin", " weight=2"), ("leastconn", ""), ("source", "")] {
        let mut picker = picker(1_000, balance, uneven);
        let cost = cost(options, LONG_PICKS, &mut picker, |n| (balance == "source").then_some(n as u64));
        report.note(format!("pick among 1,000, {balance}{uneven}"), cost / 1e3, "us");
    }
}

/// The first pick after an instance was ejected or restored: it makes the list of candidates again.
fn flips(options: &Options, report: &mut Report) {
    let mut picker = picker(1_000, "roundrobin", "");
    let mut flip = |n: usize| {
        match n % 2 {
            0 => (0..3).for_each(|_| picker.fail(500, NOW)),
            _ => picker.connect(500),
        }
        picker.pick(None, NOW)
    };
    let costs = (0..options.rounds).map(|_| nanos_each(LONG_PICKS, &mut flip) / 1e3).collect();
    report.note("pick among 1,000 after a flip", median(costs), "us");
}

fn cost(options: &Options, picks: usize, picker: &mut PickBench, key: impl Fn(usize) -> Option<u64>) -> f64 {
    median((0..options.rounds).map(|_| nanos_each(picks, |n| picker.pick(key(n), NOW))).collect())
}

/// A service of so many instances; every third has these options.
fn picker(count: usize, balance: &str, options: &str) -> PickBench {
    let instance = |n: usize| {
        let options = if n.is_multiple_of(3) { options } else { "" };
        (format!("services/s/i{n}"), format!("10.0.{}.{}:8080{options}", n / 250, n % 250))
    };
    let mut keys: Keys = (0..count).map(instance).collect();
    keys.push(("services/s/balance".to_owned(), balance.to_owned()));
    keys.push(("services/s/domain".to_owned(), "s.test".to_owned()));
    PickBench::new(table(&[keys]), WORKERS).expect("a service")
}
