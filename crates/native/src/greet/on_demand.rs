//! Handshakes for names that have no certificate yet, and may have one asked for (`config/acme/on_demand`): they wait for
//! it, a bounded number of them for a bounded time. Asks no authority.

use std::time::Duration;

use pointsman_engine::cert_wishes::CertWish;
use pointsman_table::Allowance;
use tokio::sync::oneshot;

use super::opening::{Opening, Unopened};
use crate::fault::Fault;
use crate::net::tls::Greeted;
use crate::tls::Keys;
use crate::worker::Worker;

/// How long a handshake waits.
const LONGEST: Duration = Duration::from_secs(10);

/// Whether the name has no certificate, and one may be asked for.
pub(super) fn is_missing(worker: &Worker, keys: &Keys, greeted: &Greeted) -> bool {
    let view = worker.view();
    let terms = &view.globals.config.acme;
    terms.is_on_demand()
        && !greeted.is_challenge()
        && greeted.name().is_some_and(|name| !keys.covers(name) && terms.on_demand(name) != Allowance::No)
}

/// Asks for a certificate for this name, and waits until this worker has one; not if it is refused, nor for longer than ten
/// seconds.
///
/// # Errors
/// The connection had to give way to others.
pub(super) async fn wait(worker: &Worker, name: &str, late: (Fault, &'static str)) -> Result<(), Unopened> {
    let Some(_place) = worker.awaited.enter() else { return Ok(()) };
    let (verdict, told) = oneshot::channel();
    if worker.wishes.try_send(CertWish { name: name.into(), verdict }).is_err() {
        return Ok(());
    }
    let served = async {
        if told.await != Ok(true) {
            return;
        }
        loop {
            let changed = worker.awaited.changed();
            if worker.keys().is_some_and(|keys| keys.covers(name)) {
                return;
            }
            changed.await;
        }
    };
    match Opening::lasting(worker, LONGEST, late).run(served).await {
        Err(Unopened::Left) => Err(Unopened::Left),
        // The time is over: the handshake goes on as any other without a certificate.
        Ok(()) | Err(Unopened::Failed(_)) => Ok(()),
    }
}
