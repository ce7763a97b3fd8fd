//! The time that a connection has for what comes first, and why there is nothing to serve. Reads nothing.

use std::net::IpAddr;
use std::time::Duration;

use pointsman_engine::seldom::untold_failures;
use pointsman_wire::{BadProxyHeader, HelloTooLong};
use tracing::warn;

use crate::fault::Fault;
use crate::net::deadline::Deadline;
use crate::record;
use crate::worker::Worker;

/// Why a connection is not served.
pub(super) struct Failure {
    pub(super) fault: Fault,
    /// What there is not.
    pub(super) what: &'static str,
    pub(super) why: String,
}

impl Failure {
    pub(super) fn handshake(why: impl Into<String>) -> Self {
        Self { fault: Fault::TlsHandshake, what: "TLS connection", why: why.into() }
    }

    pub(super) fn header(bad: BadProxyHeader) -> Self {
        Self { fault: Fault::BadProxyHeader, what: "PROXY header", why: bad.to_string() }
    }

    pub(super) fn hello_too_long(why: HelloTooLong) -> Self {
        Self { fault: Fault::HelloTooLong, what: "ClientHello", why: why.to_string() }
    }

    pub(super) fn unserved(why: String) -> Self {
        Self { fault: Fault::UnknownServerName, what: "TCP service", why }
    }

    /// Counts it, and logs it at a limited rate.
    pub(super) fn count(self, worker: &Worker, address: IpAddr) {
        let Self { fault, what, why } = self;
        record::connection_refused(worker, fault);
        if let Some(untold) = worker.home.registry.ungreeted().happened(worker.timers.now()) {
            let (name, address, more) = (fault.facts().name, address.to_canonical(), untold_failures(untold));
            warn!("{name}: no {what} with {address}: {why}{more}");
        }
    }
}

/// Why there is nothing to serve.
pub(super) enum Unopened {
    /// The other side left, as the health check of a load balancer does, or gave way to others: nobody's fault.
    Left,
    Failed(Failure),
}

/// The time that a connection has for what comes first. Meanwhile it gives way like an idle one.
pub(super) struct Opening<'w> {
    pub(super) worker: &'w Worker,
    deadline: Deadline,
    limit: Duration,
    at: u64,
    /// What is wrong when the time is over.
    late: (Fault, &'static str),
}

impl<'w> Opening<'w> {
    pub(super) fn new(worker: &'w Worker, late: (Fault, &'static str)) -> Self {
        let limit = worker.view().globals.config.timeouts.head;
        Self::lasting(worker, limit, late)
    }

    /// The same with another limit.
    pub(super) fn lasting(worker: &'w Worker, limit: Duration, late: (Fault, &'static str)) -> Self {
        let deadline = worker.timers.deadline();
        let at = deadline.after(limit);
        Self { worker, deadline, limit, at, late }
    }

    /// What is left of the time, for the next part.
    pub(super) fn then(self, late: (Fault, &'static str)) -> Self {
        Self { late, ..self }
    }

    /// Does a part of it.
    pub(super) async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Unopened> {
        let idle = self.deadline.idle();
        let until = || self.worker.idle_until(&idle, self.at);
        self.worker.stats().idle.add(1);
        let done = self.deadline.watched(until, work).await;
        self.worker.stats().idle.sub(1);
        let (fault, what) = self.late;
        done.map_err(|_| match self.deadline.now() < self.at {
            true => Unopened::Left,
            false => Unopened::Failed(Failure { fault, what, why: format!("it was not done within {:?}", self.limit) }),
        })
    }
}
