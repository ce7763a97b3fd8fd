//! Pointsman beside HAProxy, nginx, Envoy, Traefik and Caddy: the tables and charts of docs/compare.md, and the README's.
//!
//! | module | owns |
//! |---|---|
//! | `contestants` | who takes part, in which version; installing |
//! | `equal` | whether all do the same work, and what each adds to it |
//! | `requests` | CPU per request, and memory |
//! | `etcd` | Pointsman and Traefik on one etcd, by number of services |
//! | `broken` | what one broken route does to the others there |
//! | `chart` | bars as SVG |
//! | `page` | tables, charts, and their places in the pages |

mod broken;
mod chart;
mod contestants;
mod equal;
mod etcd;
mod page;
mod requests;

use contestants::Contestant;

use crate::options::Options;
use crate::report::Report;

/// Measures everything, and writes it into the pages.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    let (contestants, skipped) = contestants::all(options, report);
    let flags = match options.quick {
        true => " --quick".to_owned(),
        false => format!(" --rounds {} --seconds {}", options.rounds, options.turn.as_secs()),
    };
    let mut versions: Vec<_> = contestants.iter().map(Contestant::title).collect();
    versions.dedup();
    let mut results = page::Results { quick: options.quick, flags, versions, skipped, ..page::Results::default() };
    match requests::measure(&contestants, options, report) {
        Ok(rows) => results.requests = rows,
        Err(error) => report.fail("peers: requests", &error),
    }
    if let Some(traefik) = contestants.iter().find(|one| one.name == "Traefik") {
        results.etcd = etcd::measure(&traefik.program, options, report);
        results.broken = broken::measure(&traefik.program, options, report);
    }
    if let Err(error) = page::write(&results) {
        report.fail("peers: pages", &error);
    }
}
