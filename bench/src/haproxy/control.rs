//! The control side's cost of bringing one change of the keys to HAProxy, in this process: no socket, no HAProxy.

use std::path::PathBuf;
use std::time::Duration;

use pointsman_haproxy::desire::{Cache, desire_cached};
use pointsman_haproxy::model::{Addresses, Desired, Held};
use pointsman_haproxy::plan::plan;
use pointsman_haproxy::render::{render, spare, spare_name};
use pointsman_haproxy::running::Running;
use pointsman_haproxy::shape::{Listen, Shape};
use pointsman_haproxy::version::Version;
use pointsman_table::{Change, Table, compile};

use crate::options::Options;
use crate::report::{Report, median};
use crate::table;

/// Spare backends, as many as in the engine.
const SPARES: usize = 256;

/// Measures a whole table, and one changed instance.
pub(super) fn measure(options: &Options, report: &mut Report) {
    for (services, target) in [(1_000, 1.0), (10_000, 5.0)] {
        measure_at(services, target, options, report);
    }
}

fn measure_at(services: usize, target: f64, options: &Options, report: &mut Report) {
    let (mut key_set, shape) = (table::key_set(&table::hosts(services)), shape());
    let mut current = compile(&key_set, None, &table::limits()).table;
    let mut cache = Cache::default();
    let (first, all) = table::millis(|| desired(&mut cache, &current, &shape));
    report.note(format!("{services} services: table to configuration, all"), all, "ms");
    let (_, written) = table::millis(|| render(&first, &shape));
    report.note(format!("{services} services: configuration to text"), written, "ms");
    let spares = (1..=SPARES).map(|number| spare_name(number).into()).collect();
    let mut running = Running::rendered(&first, spares, &spare());
    let (mut desiring, mut planning) = (Vec::new(), Vec::new());
    for round in 0..options.rounds.max(5) {
        let value = format!("10.1.1.{}:8080", round + 1);
        let key = format!("services/s{}/s{0}-1", services / 2).into();
        key_set.apply(100 + round as u64, [Change::Put { key, value: value.into_bytes().into() }]);
        current = compile(&key_set, Some(&current), &table::limits()).table;
        let (desired, cost) = table::millis(|| desired(&mut cache, &current, &shape));
        desiring.push(cost);
        let (plan, cost) = table::millis(|| plan(&mut running, &desired));
        planning.push(cost);
        assert!(!plan.commands.is_empty() && plan.reload.is_empty(), "an instance that moves: {plan:?}");
    }
    let (desiring, planning) = (median(desiring), median(planning));
    report.note(format!("{services} services: one changed instance, configuration"), desiring, "ms");
    report.note(format!("{services} services: one changed instance, plan"), planning, "ms");
    report.hold(format!("{services} services: one changed instance, both"), desiring + planning, "ms", target);
}

fn desired(cache: &mut Cache, table: &Table, shape: &Shape) -> Desired {
    desire_cached(cache, table, &Held::default(), &Addresses::new(), shape).0
}

fn shape() -> Shape {
    let address = ([0, 0, 0, 0], 80).into();
    Shape {
        http: vec![Listen { address, socket: Some(3) }],
        https: Vec::new(),
        threads: 2,
        folder: PathBuf::from("/run/pointsman"),
        socket: Some(PathBuf::from("/run/pointsman/1.sock")),
        hard_stop: Duration::from_secs(600),
        global_settings: None,
        tickets: None,
        ciphers: None,
        custom_settings: None,
        template: None,
        version: Version { major: 2, minor: 6, patch: 12, pcre: true, tls: true },
        spares: SPARES,
    }
}
