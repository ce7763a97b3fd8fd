//! What happened to a request or a connection, and the one place that counts it. Decides nothing, sends nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pointsman_engine::live::{Counters, RetryReason};
use pointsman_table::Protocol;
use tracing::debug;

use crate::access::{Access, Ended, Noted, Open};
use crate::fault::{Fault, Repeat};
use crate::net::peer::Peer;
use crate::pool::view::{InstanceLive, ServiceLive};
use crate::worker::Worker;

/// What happened to one request, or to one connection of a TCP service: filled in meanwhile, counted at its end.
#[derive(Debug)]
pub(crate) struct Record {
    started: Instant,
    /// How long it took until it was sent to its instance last, microseconds, up to an hour: for balances that go by latency.
    before: Cell<u32>,
    /// The service that took it.
    pub(crate) service: Option<Rc<ServiceLive>>,
    /// The instance that it was sent to, the last one if there were several.
    pub(crate) instance: Option<Rc<InstanceLive>>,
    /// It was sent again.
    repeated: Cell<bool>,
    /// The status of the response that the client was sent, whole or in part.
    pub(crate) status: Option<u16>,
    /// What went wrong.
    pub(crate) fault: Option<Fault>,
    /// What is noted for the access log; `None`: nothing, as usual.
    pub(crate) noted: Option<Box<Noted>>,
}

/// The moment when a request begins.
#[expect(clippy::disallowed_methods, reason = "a request's time begins here")]
pub(crate) fn begins() -> Instant {
    Instant::now()
}

impl Record {
    /// A record of what begins now.
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            before: Cell::new(0),
            service: None,
            instance: None,
            repeated: Cell::new(false),
            status: None,
            fault: None,
            noted: None,
        }
    }

    /// Counts that the request is sent again, because this instance did not answer it: at once, as the request may last
    /// for days.
    pub(crate) fn repeat(&self, instance: &InstanceLive, reason: RetryReason) {
        instance.counters().retried(reason);
        self.repeated.set(true);
        self.sent();
        if let Some(noted) = &self.noted {
            noted.repeated();
        }
    }

    /// Notes that it is sent to an instance now, or has been sent whole: what came before, such as waits, failed attempts
    /// elsewhere and a slow client, says nothing about the instance.
    #[cold]
    pub(crate) fn sent(&self) {
        self.before.set(u32::try_from(self.started.elapsed().as_micros()).unwrap_or(u32::MAX));
    }

    /// Measures how long its instance took to answer, for balances that go by it.
    #[cold]
    pub(crate) fn answered(&self, instance: &InstanceLive, now: u64) {
        instance.shared.load.measure(now, self.waited());
    }

    /// How long its instance has had it.
    fn waited(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_micros(self.before.get().into()))
    }

    /// Whether it was sent again.
    pub(crate) fn is_repeated(&self) -> bool {
        self.repeated.get()
    }

    /// Counts a connection of a TCP service when an instance takes it: it may last for days.
    pub(crate) fn taken(&mut self, instance: &Rc<InstanceLive>) {
        instance.counters().requests.add(1);
        self.instance = Some(Rc::clone(instance));
    }

    /// Counts the end of an HTTP request, whatever the outcome.
    pub(crate) fn finish(self, worker: &Worker, peer: &Peer) {
        let counters = self.instance.as_ref().map(|instance| instance.counters());
        let unserved = || self.service.as_ref().map(|service| service.unserved());
        if let Some(counters) = counters.or_else(unserved) {
            counters.requests.add(1);
            count_status(counters, self.status);
        }
        self.settle(Protocol::Http, worker, peer);
    }

    /// Counts the end of a connection of a TCP service. [`Record::taken`] has counted one that an instance took.
    pub(crate) fn finish_connection(self, worker: &Worker, peer: &Peer) {
        if let (None, Some(service)) = (&self.instance, &self.service) {
            service.unserved().requests.add(1);
        }
        self.settle(Protocol::Tcp, worker, peer);
    }

    fn settle(self, kind: Protocol, worker: &Worker, peer: &Peer) {
        let mut took = None;
        if let (Some(_), Some(service)) = (&self.instance, &self.service) {
            service.latency().record(*took.insert(self.started.elapsed()));
        }
        if let (Some(noted), Some(access)) = (&self.noted, &worker.access) {
            self.log((noted, access), (kind, took), worker, peer);
        }
        if let Some(fault) = self.fault {
            worker.stats().fault(fault.facts().index);
            match &self.service {
                Some(service) if fault.is_crowded() => service.shed().add(1),
                Some(service) if fault == Fault::RateLimited => service.limited().add(1),
                _ => {}
            }
            debug!("client {}: {}: {fault}", peer.client, fault.facts().name);
        }
    }

    /// Writes its line of the access log.
    #[cold]
    fn log(
        &self,
        (noted, access): (&Noted, &Access),
        (kind, took): (Protocol, Option<Duration>),
        worker: &Worker,
        peer: &Peer,
    ) {
        let Self { service, instance, status, fault, .. } = self;
        let live = service.as_deref();
        // One that took no connection is named too, as HAProxy does.
        let is_refused = fault.is_some_and(|fault| fault.facts().repeat == Repeat::Elsewhere);
        let refused_by = noted.refused_by.get().filter(|_| is_refused);
        let id = instance.as_ref().map(|instance| instance.id).or(refused_by);
        let named = live.zip(id).and_then(|(live, id)| live.name_of(id));
        let open = Open {
            clients: worker.home.registry.open(),
            service: live.map_or(0, ServiceLive::active),
            instance: instance.as_ref().map_or(0, |instance| instance.shared.active()),
            queue: 0,
        };
        let service = live.map(|live| live.service.name.as_str());
        let instance = named.as_deref();
        let ended = Ended { kind, service, instance, status: *status, fault: *fault, open, live, took };
        access.log(noted, peer, ended, || worker.home.with_rng(fastrand::Rng::f64));
    }
}

/// Counts a connection that was refused before anything of it was read.
pub(crate) fn connection_refused(worker: &Worker, fault: Fault) {
    worker.stats().fault(fault.facts().index);
}

fn count_status(counters: &Counters, status: Option<u16>) {
    if let Some(status) = status {
        counters.responses[usize::from(status / 100).clamp(1, 5) - 1].add(1);
    }
}

/// Bytes of an instance's requests and responses, counted as they move: a stream may last for days.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter<'a>(&'a Counters, Option<&'a Noted>);

impl<'a> Meter<'a> {
    pub(crate) fn of(instance: &'a InstanceLive, noted: Option<&'a Noted>) -> Self {
        Self(instance.counters(), noted)
    }

    /// Bytes from the client went to the instance.
    pub(crate) fn up(self, count: usize) {
        self.0.bytes_in.add(count as u64);
        if let Some(noted) = self.1 {
            noted.up(count);
        }
    }

    /// Bytes from the instance went to the client.
    pub(crate) fn down(self, count: usize) {
        self.0.bytes_out.add(count as u64);
        if let Some(noted) = self.1 {
            noted.down(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_is_not_the_instances_time() {
        const BEFORE: Duration = Duration::from_secs(600);
        let Some(long_ago) = begins().checked_sub(BEFORE) else { return };
        let record = Record::new(long_ago);
        assert!(record.waited() >= BEFORE);
        record.sent();
        assert!(record.waited() < BEFORE);
    }
}
