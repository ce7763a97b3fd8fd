//! Requests that fail while clients open and close connections as fast as they can: while instances are added, moved
//! and removed, and while HAProxy reloads.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::confd::Confd;
use super::cost::wait_reloads;
use crate::admin::metric;
use crate::drive::{Background, Load, Told};
use crate::options::Options;
use crate::peers::{self, Peer, Workplace};
use crate::report::Report;
use crate::scale;
use crate::store::{Store, instance_key};

/// Services.
const SERVICES: usize = 1_000;
/// Changes to instances.
const CHANGES: usize = 300;
/// Changes that need a reload.
const RELOADS: usize = 30;
/// The pause between two changes.
const PAUSE: Duration = Duration::from_millis(20);
/// A timeout that differs from the default.
const OTHER: &str = "45s";

/// One change of an instance.
#[derive(Clone, Copy)]
enum Change {
    /// A second instance is added.
    Come,
    /// The first instance moves to another address.
    Move,
    /// The second instance is removed.
    Go,
}

/// Each changed service gets three changes in turn.
fn change(number: usize) -> (usize, Change) {
    (number / 3 * 7919 % SERVICES, [Change::Come, Change::Move, Change::Go][number % 3])
}

pub(super) fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("haproxy-changes")?;
    let backends = [peers::responder()?, peers::responder()?];
    let script = scale::script(&place, SERVICES)?;
    driven(options, &place, &backends, &script, report)?;
    confd(&place, &backends, &script, report)
}

fn driven(
    options: &Options,
    place: &Workplace,
    backends: &[Peer; 2],
    script: &Path,
    report: &mut Report,
) -> io::Result<()> {
    let store = Store::folder(place, "keys")?;
    store.fill(SERVICES, backends[0].address)?;
    let flags = store.flags();
    let flags = flags.each_ref().map(String::as_str);
    let (peer, admin) = peers::driven(&options.pointsman, &place.path().join("state"), &flags)?;
    let told = under_load(peer.address, script, || (0..CHANGES).try_for_each(|n| put(&store, n, backends[1].address)))?;
    report.note("300 changed instances: requests meanwhile", told.requests as f64, "");
    report.hold("300 changed instances: failed requests", told.failed as f64, "", 0.0);
    let reloads = metric(admin, "pointsman_haproxy_reloads_total")?;
    report.hold("300 changed instances: reloads", reloads, "", 0.0);
    report.note("300 changed instances: commands", metric(admin, "pointsman_haproxy_commands_total")?, "");
    let told = under_load(peer.address, script, || {
        (0..RELOADS).try_for_each(|n| {
            store.put(&[(format!("services/s{n}/timeout/server"), OTHER.to_owned())])?;
            wait_reloads(admin, reloads + 1.0 + n as f64)
        })
    })?;
    report.note("30 reloads: requests meanwhile", told.requests as f64, "");
    report.hold("30 reloads: failed requests", told.failed as f64, "", 0.0);
    Ok(())
}

fn put(store: &Store, number: usize, to: SocketAddr) -> io::Result<()> {
    std::thread::sleep(PAUSE);
    let (service, change) = change(number);
    match change {
        Change::Come => store.put(&[(instance_key(service, 1), to.to_string())]),
        Change::Move => store.put(&[(instance_key(service, 0), to.to_string())]),
        Change::Go => store.delete(instance_key(service, 1)),
    }
}

fn confd(place: &Workplace, backends: &[Peer; 2], script: &Path, report: &mut Report) -> io::Result<()> {
    let mut confd = Confd::start(place, SERVICES, backends[0].address)?;
    let address = confd.peer().address;
    let told = under_load(address, script, || {
        (0..CHANGES).try_for_each(|number| {
            let (service, change) = change(number);
            let instances = &mut confd.services[service].instances;
            match change {
                Change::Come => instances.push(backends[1].address),
                Change::Move => instances[0] = backends[1].address,
                Change::Go => drop(instances.pop()),
            }
            confd.apply()
        })
    })?;
    report.note("300 changed instances, confd: requests meanwhile", told.requests as f64, "");
    report.note("300 changed instances, confd: failed requests", told.failed as f64, "");
    let told = under_load(address, script, || {
        (0..RELOADS).try_for_each(|number| {
            confd.services[number].timeout = Some(OTHER);
            confd.apply()
        })
    })?;
    report.note("30 reloads, confd: requests meanwhile", told.requests as f64, "");
    report.note("30 reloads, confd: failed requests", told.failed as f64, "");
    Ok(())
}

/// Does the work under load.
fn under_load(address: SocketAddr, script: &Path, work: impl FnOnce() -> io::Result<()>) -> io::Result<Told> {
    let load = Load { connections: 16, path: "/", close: true, script: Some(script) };
    let load = Background::start(address, &load)?;
    work()?;
    std::thread::sleep(Duration::from_millis(500));
    load.stop()
}
