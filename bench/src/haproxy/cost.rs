//! CPU per request with 10,000 services and requests spread evenly over them; also the duration of a reload, and
//! memory.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::confd::Confd;
use crate::admin::metric;
use crate::drive::{Load, resident, turn};
use crate::http::micros;
use crate::options::Options;
use crate::peers::{self, Peer, Workplace};
use crate::report::{Report, median};
use crate::scale;
use crate::store::Store;

/// Services.
const MANY: usize = 10_000;
/// How long a reload may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("haproxy-cost")?;
    let backend = peers::responder()?;
    let store = Store::folder(&place, "keys")?;
    store.fill(MANY, backend.address)?;
    let flags = store.flags();
    let flags = flags.each_ref().map(String::as_str);
    let (driven, admin) = peers::driven(&options.pointsman, &place.path().join("state"), &flags)?;
    let confd = Confd::start(&place, MANY, backend.address)?;
    compare(&driven, confd.peer(), &place, options, report)?;
    report.note("10,000 services: HAProxy's memory, driven", worker_memory(&driven)?, "MB");
    report.note("10,000 services: HAProxy's memory, confd", worker_memory(confd.peer())?, "MB");
    store.put(&[("services/s5000/timeout/server".to_owned(), "30s".to_owned())])?;
    wait_reloads(admin, 1.0)?;
    report.note("10,000 services: a reload", metric(admin, "pointsman_haproxy_reload_seconds")?, "s");
    Ok(())
}

fn compare(driven: &Peer, confd: &Peer, place: &Workplace, options: &Options, report: &mut Report) -> io::Result<()> {
    let script = scale::script(place, MANY)?;
    let load = Load { connections: 64, path: "/", close: false, script: Some(&script) };
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let one = micros(turn(driven, &load, options.turn)?);
        let other = micros(turn(confd, &load, options.turn)?);
        ours.push(one);
        theirs.push(other);
        ratios.push(one / other);
    }
    report.note("10,000 services: CPU per request, driven", median(ours), "us");
    report.note("10,000 services: CPU per request, confd", median(theirs), "us");
    report.hold("10,000 services: CPU per request, driven / confd", median(ratios), "x", 0.02);
    Ok(())
}

/// Memory of the largest process: the serving one.
fn worker_memory(peer: &Peer) -> io::Result<f64> {
    let all = peer.workers()?.into_iter().filter_map(|id| resident(id).ok());
    Ok(all.max().unwrap_or_default() as f64 / 1e6)
}

/// Waits until HAProxy has reloaded this many times since its start.
pub(super) fn wait_reloads(admin: SocketAddr, times: f64) -> io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if metric(admin, "pointsman_haproxy_reloads_total")? >= times {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(io::Error::other(format!("HAProxy did not reload {times} times")))
}
