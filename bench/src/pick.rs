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
        for (balance, uneven) in [
            ("roundrobin", ""),
            ("roundrobin", " weight=2"),
            ("random", ""),
            ("p2c", ""),
            ("source", ""),
            ("source", " weight=2"),
        ] {
            let mut picker = picker(count, balance, uneven);
            let cost = cost(options, PICKS, &mut picker, |n| (balance == "source").then(|| key(n)));
            report.hold(format!("pick among {written}, {balance}{uneven}"), cost, "ns", target);
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
    together(options, report);
    linear(options, report);
    flips(options, report);
}

/// Balances that look at every instance.
fn linear(options: &Options, report: &mut Report) {
    let cost = cost(options, LONG_PICKS, &mut picker(1_000, "leastconn", ""), |_| None);
    report.note("pick among 1,000, leastconn", cost / 1e3, "us");
}

/// Two workers that do nothing but take turns of one service: the worst that a common cache line can cost.
fn together(options: &Options, report: &mut Report) {
    let fellows = PickBench::fellows(table(&[keys(3, "roundrobin", "")]), WORKERS);
    let nanos = |worker: usize| {
        let mut picker = fellows(worker).expect("a service");
        cost(options, PICKS, &mut picker, |_| None)
    };
    let costs = std::thread::scope(|scope| {
        let threads = [0, 1].map(|worker| {
            let nanos = &nanos;
            scope.spawn(move || nanos(worker))
        });
        threads.map(|thread| thread.join().expect("no panic"))
    });
    report.note("pick among 3, roundrobin, two workers at once", costs[0].max(costs[1]), "ns");
}

/// A key as hashes make them.
fn key(n: usize) -> u64 {
    (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
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
    PickBench::new(table(&[keys(count, balance, options)]), WORKERS).expect("a service")
}

fn keys(count: usize, balance: &str, options: &str) -> Keys {
    let instance = |n: usize| {
        let options = if n.is_multiple_of(3) { options } else { "" };
        (format!("services/s/i{n}"), format!("10.0.{}.{}:8080{options}", n / 250, n % 250))
    };
    let mut keys: Keys = (0..count).map(instance).collect();
    keys.push(("services/s/balance".to_owned(), balance.to_owned()));
    keys.push(("services/s/domain".to_owned(), "s.test".to_owned()));
    keys
}
