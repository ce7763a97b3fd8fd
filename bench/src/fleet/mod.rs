//! What many balancers of one id cost the etcd that they share, and how long it takes until all of them serve a change.
//!
//! | module | owns |
//! |---|---|
//! | `crowd` | the balancers: everything that a real one has but an engine, all of them in one thread |
//! | `phases` | what is done to them, one thing after another, and the figures of each |
//! | `command` | what `set --wait` does, in a runtime of its own |
//! | `program` | `set --wait` with programs instead: the command and twenty balancers |
//! | `gauge` | what etcd says of itself, and what the kernel says of it |

mod command;
mod crowd;
mod gauge;
mod phases;
mod program;

use std::io;

use pointsman_store::{Api, Location, StoreSettings};

use self::program::PREFIX;
use crate::options::Options;
use crate::peers::{self, Workplace};
use crate::report::Report;

/// As the program has it.
const AUDIT: std::time::Duration = std::time::Duration::from_secs(180);

/// Measures fleets of every wished size, each with an etcd of its own.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    for &balancers in &options.balancers {
        if let Err(error) = measure_at(balancers, options, report) {
            report.fail(&format!("fleet of {balancers}"), &error);
        }
    }
    if let Err(error) = program::measure(options, report) {
        report.fail("set --wait", &error);
    }
}

fn measure_at(balancers: usize, options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("fleet")?;
    let etcd = peers::etcd(&place)?;
    let api = match options.api {
        2 => Api::V2,
        _ => Api::V3,
    };
    let settings = StoreSettings {
        location: Location::Etcd(vec![format!("http://{}", etcd.address)]),
        api,
        prefix: PREFIX.to_owned(),
        user: None,
        ca: None,
        identity: None,
        audit: AUDIT,
    };
    phases::run(balancers, &settings, &etcd, options, report)
}
