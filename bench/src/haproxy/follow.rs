//! How soon traffic follows a change: from just before an instance's key is written to the first response from its new
//! address.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use super::confd::Confd;
use crate::options::Options;
use crate::peers::{self, Peer, Workplace};
use crate::probe::Probe;
use crate::report::{Report, median};
use crate::store::{Store, host, instance_key};

/// Services.
const SERVICES: usize = 1_000;
/// Changes, over services in an order without neighbours.
const CHANGES: usize = 300;
/// Fewer changes for confd, because each takes long.
const CONFD_CHANGES: usize = 30;

pub(super) fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("haproxy-follow")?;
    let backends = [peers::responder_named("a")?, peers::responder_named("b")?];
    for (name, store) in [("folder", Store::folder(&place, "keys")?), ("etcd v3", Store::etcd(&place)?)] {
        store.fill(SERVICES, backends[0].address)?;
        let flags = store.flags();
        let flags = flags.each_ref().map(String::as_str);
        let (driven, _) = peers::driven(&options.pointsman, &place.path().join("state"), &flags)?;
        let waits = waits(CHANGES, driven.address, &backends, |service, to| {
            store.put(&[(instance_key(service, 0), to.to_string())])
        })?;
        report.note(format!("1,000 services, {name}: traffic follows, median"), median(waits.clone()), "ms");
        report.hold(format!("1,000 services, {name}: traffic follows, 99 of 100"), percentile(waits, 99), "ms", 50.0);
    }
    let mut confd = Confd::start(&place, SERVICES, backends[0].address)?;
    let waits = waits(CONFD_CHANGES, confd.peer().address, &backends, |service, to| {
        confd.services[service].instances = vec![to];
        confd.apply()
    })?;
    report.note("1,000 services, confd: traffic follows, median", median(waits.clone()), "ms");
    report.note("1,000 services, confd: traffic follows, 99 of 100", percentile(waits, 99), "ms");
    Ok(())
}

/// Moves one service after another from the first backend to the second; returns the duration of each in milliseconds.
fn waits(
    changes: usize,
    proxy: SocketAddr,
    backends: &[Peer; 2],
    mut move_to: impl FnMut(usize, SocketAddr) -> io::Result<()>,
) -> io::Result<Vec<f64>> {
    let mut probe = Probe::new(proxy);
    let mut waits = Vec::new();
    for number in 0..changes {
        let service = number * 7919 % SERVICES;
        probe.wait(&host(service), b'a')?;
        let start = Instant::now();
        move_to(service, backends[1].address)?;
        probe.wait(&host(service), b'b')?;
        waits.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(waits)
}

fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
