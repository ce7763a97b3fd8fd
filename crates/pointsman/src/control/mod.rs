//! The loop that turns a store's updates into published tables. Never touches a request, never waits for an engine.
//!
//! ```text
//! Update -> KeySet -> (burst ends: 5 ms quiet, 10 to 50 ms at most) -> compile -> watch<Arc<Table>> -> engine
//!                                                                        -> watch<Status>     -> admin
//!              ^ the guard: what too many keys at once were taken from
//! Applied, Condition ----------------------------------------------------^      Journal       -> log
//! KeySet as served -> the keeper of the snapshot, which the next start serves until the store answers (Standby)
//! Other inputs of compile: where the engine listens (Applied), the addresses of host names (Names)
//! ```

mod barrier;
mod burst;
mod defaults;
pub(crate) mod expiry;
mod first;
mod guard;
mod journal;
pub mod local;
mod ports;
mod recorder;
mod standby;
mod status;
mod timeline;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock, SystemTime, UNIX_EPOCH};

use pointsman_engine::Applied;
use pointsman_table::{
    Answers, Bind, Capabilities, Compiled, KeySet, Limits, Names, OuterCert, Places, Table, compile,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use barrier::barrier_of;
use burst::Burst;
pub use defaults::Defaults;
use expiry::Expiry;
use guard::Guard;
pub use guard::GuardSettings;
use journal::Journal;
pub(crate) use journal::{plural, serving};
pub use ports::PortProbe;
use ports::Ports;
pub use recorder::{ChangeNote, Recorder};
pub use standby::Standby;
use standby::Waiting;
pub use status::{
    ACME_OUTCOMES, AcmeName, AcmeReport, Around, DEMAND_VERDICTS, FromSnapshot, HeldBack, IssuedCerts, Status,
};
pub(crate) use timeline::epoch_millis;
pub use timeline::{ChangedKey, Timeline, TimelineEntry};

use crate::logging::LogLine;
use crate::names::HostNames;
use pointsman_store::{ClusterId, Condition, Update};

/// How long the first table waits for host names that are being looked up: nobody is served meanwhile.
const FIRST_NAMES: Duration = Duration::from_secs(1);

/// The same while a snapshot is served: its start must not take longer than a second.
const SNAPSHOT_NAMES: Duration = Duration::from_millis(400);
/// How long after a table its keys are handed to the keeper of the snapshot, and noted by the guard: once for a burst.
const SETTLE: Duration = Duration::from_secs(1);

/// Longest time between two looks at the certificates: somebody may set the clock, and it goes on while the machine is
/// suspended.
const CERTIFICATES: Duration = Duration::from_secs(60);

/// The loop's fixed inputs.
#[derive(Clone, Debug)]
pub struct ControlInputs {
    /// The prefix, for full keys in problems.
    pub prefix: Box<str>,
    /// Where HTTPS is served if no setting says where.
    pub usual_https: Box<[Bind]>,
    /// Our own HTTP and admin addresses.
    pub own: Box<[SocketAddr]>,
    /// Where instances may be.
    pub places: Places,
    /// Tests whether we could listen on an address of a TCP service.
    pub probe: PortProbe,
    /// Reads this machine's addresses; called at every full listing and whenever a name moves, because they may change.
    pub local: fn() -> Vec<IpAddr>,
    /// Reads the clock, for certificates.
    pub now: fn() -> SystemTime,
    /// What the engine can honour.
    pub capabilities: Capabilities,
    /// Most addresses that TCP services may listen on, all together.
    pub listeners: Option<usize>,
    /// Keys that count as set while the store lacks them.
    pub defaults: Defaults,
    /// How much may be taken away at once.
    pub guard: GuardSettings,
    /// What was served before the start.
    pub standby: Option<Standby>,
    /// The way to the keeper of the journal.
    pub recorder: Recorder,
    /// The cluster that the store follows.
    pub cluster: ClusterId,
}

impl ControlInputs {
    /// What the keys are judged by, before anything is known of names, certificates and open ports.
    pub fn limits(&self) -> Limits {
        Limits {
            prefix: self.prefix.clone(),
            own: self.own.clone(),
            usual_https: self.usual_https.clone(),
            local: (self.local)().into(),
            listeners: self.listeners,
            capabilities: self.capabilities,
            places: self.places.clone(),
            bound: Some(Arc::default()),
            certs: Arc::default(),
            issued: Arc::default(),
            answers: Arc::default(),
            names: Some(Arc::default()),
        }
    }
}

/// The loop's channels.
#[derive(Debug)]
pub struct ControlChannels {
    /// From the store.
    pub updates: mpsc::Receiver<Update>,
    /// The state of the store.
    pub condition: watch::Receiver<Condition>,
    /// From the engine.
    pub applied: mpsc::Receiver<Applied>,
    /// The addresses of host names.
    pub names: watch::Receiver<Arc<Names>>,
    /// The host names that the keys contain.
    pub wanted: watch::Sender<HostNames>,
    /// Certificates from outside the store; `None` until they were read.
    pub certs: watch::Receiver<Option<Arc<[OuterCert]>>>,
    /// Certificates that we had issued; `None` until they were read.
    pub issued: watch::Receiver<Option<IssuedCerts>>,
    /// Problems outside the keys.
    pub around: watch::Receiver<Around>,
    /// Counts the releases of what the guard holds.
    pub released: watch::Receiver<u64>,
    /// Whether the engine has ended: nothing is left to decide.
    pub ended: watch::Receiver<bool>,
    /// To the keeper of the snapshot: the keys as served, once they come from the store. Closed when the last are sent.
    pub served: watch::Sender<Option<Arc<KeySet>>>,
    /// To the engine. The first one, of generation 0, is not served: it has the last good settings from before the start.
    pub tables: watch::Sender<Arc<Table>>,
    /// To admin.
    pub status: watch::Sender<Status>,
    /// The last changes, to admin.
    pub timeline: Timeline,
}

/// An input of the loop.
enum ControlEvent {
    /// An update from the store.
    Update(Update),
    /// The burst is over: compile.
    Quiet,
    /// A report to the log is due.
    Report,
    /// A certificate may have expired.
    Expiry,
    /// The engine uses a new table.
    Applied(Applied),
    /// The state of the store changed.
    Condition(Condition),
    /// The addresses of host names changed.
    Named(Arc<Names>),
    /// Certificates from outside the store changed.
    Certs(Option<Arc<[OuterCert]>>),
    /// Certificates that we had issued changed, or the answers to authorities.
    Issued(Option<IssuedCerts>),
    /// A problem outside the keys appeared or ended.
    Around(Box<Around>),
    /// The store was not read in time: serve the snapshot.
    Standby,
    /// A table was in use for a moment.
    Settle,
    /// What the guard holds may have to be let in.
    Guard,
    /// An operator let it in.
    Released,
    /// The engine has ended, or the store's channel is closed.
    Stop,
}

/// Runs until the engine has ended, or the store's channel is closed; publishes pending changes first, and hands on the keys
/// in use.
pub async fn run(inputs: ControlInputs, mut channels: ControlChannels) {
    channels.condition.mark_changed();
    channels.around.mark_changed();
    let ControlChannels { certs, issued, condition, .. } = &mut channels;
    first::certificates(certs, issued, condition, inputs.standby.is_some()).await;
    channels.certs.mark_changed();
    channels.issued.mark_changed();
    let mut control = Control::new(inputs, &channels);
    loop {
        match control.next(&mut channels).await {
            ControlEvent::Update(update) => control.take(update),
            ControlEvent::Quiet => control.publish(),
            ControlEvent::Report => control.report(),
            ControlEvent::Expiry => control.expire(),
            ControlEvent::Applied(applied) => control.applied(applied),
            ControlEvent::Condition(condition) => control.condition(condition),
            ControlEvent::Named(names) => control.named(names),
            ControlEvent::Certs(certs) => control.certified(certs),
            ControlEvent::Issued(issued) => control.issued(issued),
            ControlEvent::Around(around) => control.around(*around),
            ControlEvent::Standby => control.stand_in(),
            ControlEvent::Settle => control.settle(),
            ControlEvent::Guard => control.burst.add(Instant::now()),
            ControlEvent::Released => control.release(),
            ControlEvent::Stop => return control.stop(),
        }
    }
}

struct Control {
    /// The store's keys. The guard may serve more.
    keys: KeySet,
    guard: Guard,
    waiting: Waiting,
    cluster: ClusterId,
    /// When the keys in use are handed on.
    settle: Option<Instant>,
    served: watch::Sender<Option<Arc<KeySet>>>,
    recorder: Recorder,
    limits: Limits,
    local: fn() -> Vec<IpAddr>,
    now: fn() -> SystemTime,
    defaults: Defaults,
    /// The last number in the key `barrier`, and the generation of the first table that shows it, once there is one.
    barrier: Option<(u64, Option<u64>)>,
    ports: Ports,
    burst: Burst,
    /// When the first table stops waiting for host names.
    held: Option<Instant>,
    /// When to look at the certificates again, if there are any.
    expiry: Option<Instant>,
    journal: Journal,
    wanted: watch::Sender<HostNames>,
    tables: watch::Sender<Arc<Table>>,
    status: watch::Sender<Status>,
    timeline: Timeline,
}

impl Control {
    fn new(inputs: ControlInputs, channels: &ControlChannels) -> Self {
        Self {
            keys: KeySet::default(),
            guard: Guard::new(inputs.guard),
            limits: inputs.limits(),
            waiting: Waiting::new(inputs.standby, Instant::now()),
            cluster: inputs.cluster,
            settle: None,
            served: channels.served.clone(),
            recorder: inputs.recorder,
            local: inputs.local,
            now: inputs.now,
            defaults: inputs.defaults,
            barrier: None,
            ports: Ports::new(inputs.probe),
            burst: Burst::default(),
            held: None,
            expiry: None,
            journal: Journal::default(),
            wanted: channels.wanted.clone(),
            tables: channels.tables.clone(),
            status: channels.status.clone(),
            timeline: channels.timeline.clone(),
        }
    }

    /// Due work goes first, so that a store that never pauses cannot delay its own changes.
    async fn next(&self, channels: &mut ControlChannels) -> ControlEvent {
        tokio::select! {
            biased;
            () = over(&mut channels.ended) => ControlEvent::Stop,
            () = until(self.burst.due()) => ControlEvent::Quiet,
            () = until(self.held) => ControlEvent::Quiet,
            () = until(self.journal.due()) => ControlEvent::Report,
            () = until(self.expiry) => ControlEvent::Expiry,
            () = until(self.settle) => ControlEvent::Settle,
            () = until(self.guard.due()) => ControlEvent::Guard,
            Ok(()) = channels.released.changed() => ControlEvent::Released,
            Some(applied) = channels.applied.recv() => ControlEvent::Applied(applied),
            Ok(()) = channels.condition.changed() => ControlEvent::Condition(channels.condition.borrow_and_update().clone()),
            Ok(()) = channels.names.changed() => ControlEvent::Named(channels.names.borrow_and_update().clone()),
            Ok(()) = channels.certs.changed() => ControlEvent::Certs(channels.certs.borrow_and_update().clone()),
            Ok(()) = channels.issued.changed() => ControlEvent::Issued(channels.issued.borrow_and_update().clone()),
            Ok(()) = channels.around.changed() => ControlEvent::Around(channels.around.borrow_and_update().clone().into()),
            update = channels.updates.recv() => update.map_or(ControlEvent::Stop, ControlEvent::Update),
            // Last, so that a store that answers goes first.
            () = until(self.waiting.due()) => ControlEvent::Standby,
        }
    }

    fn take(&mut self, update: Update) {
        let is_listing = matches!(update, Update::Reset { .. });
        // What the store's keys were, if that is known.
        let mut before = (is_listing && self.waiting.is_over()).then(|| self.keys.clone());
        if let Some((standby, was_served)) = self.waiting.end() {
            self.recorder.follows(standby.cluster);
            before = Some(standby.keys.clone());
            self.compare(standby, was_served);
        }
        self.guard.take(&update);
        self.barrier = barrier_of(&update).map(|number| (number, None)).or(self.barrier);
        match self.defaults.complete(update) {
            Update::Reset { revision, entries } => {
                self.limits.local = (self.local)().into();
                self.keys.reset(revision, entries);
                self.recorder.listed(&self.keys, before.as_ref(), self.cluster.get());
            }
            Update::Changes { revision, changes } => {
                self.recorder.changing(&self.keys, revision, &changes);
                self.keys.apply(revision, changes);
            }
        }
        self.burst.add(Instant::now());
    }

    /// Serves the keys of the snapshot, as the store was not read in time.
    fn stand_in(&mut self) {
        let Some(Standby { keys, at, .. }) = self.waiting.serve() else { return };
        self.keys = keys.clone();
        let from = FromSnapshot { revision: self.keys.revision(), at: *at };
        self.status.send_modify(|status| status.snapshot = Some(from));
        let error = self.status.borrow().condition.outage().map(|error| format!(": {error}")).unwrap_or_default();
        let (revision, age) = (from.revision, from.shown_age());
        LogLine::Warn(format!("serving the snapshot of revision {revision}, {age}; the store was not read yet{error}"))
            .write();
        self.held = Some(Instant::now() + SNAPSHOT_NAMES);
        self.burst.add(Instant::now());
    }

    /// The store was read for the first time, after a snapshot was read. What it lost since then is guarded.
    fn compare(&mut self, standby: Standby, was_served: bool) {
        let (now, then) = (self.cluster.get(), standby.cluster);
        if now != 0 && then != 0 && now != then {
            LogLine::Warn(format!("etcd cluster {now:x} answers; the snapshot is of cluster {then:x}")).write();
        }
        if was_served || standby.is_recent() {
            self.guard.note(Instant::now(), &standby.keys);
        }
    }

    /// The keys in use.
    fn in_use(&self) -> &KeySet {
        self.guard.held().unwrap_or(&self.keys)
    }

    fn settle(&mut self) {
        self.settle = None;
        self.guard.note(Instant::now(), &self.keys);
        if self.waiting.is_over() {
            self.served.send_replace(Some(Arc::new(self.in_use().clone())));
        }
    }

    fn release(&mut self) {
        if self.guard.release() {
            self.burst.add(Instant::now());
        }
    }

    /// Judges the keys, and says what is held.
    fn guard(&mut self) {
        self.guard.judge(Instant::now(), (self.now)(), &self.keys);
        if let Some(end) = self.guard.ended() {
            LogLine::Info(end.words().to_owned()).write();
        }
        if self.guard.is_new() && self.waiting.is_over() {
            self.guard.note(Instant::now(), &self.keys);
        }
        self.tell_held();
    }

    fn tell_held(&self) {
        let held = self.guard.shown(&self.limits.prefix).map(Arc::new);
        self.status.send_if_modified(|status| {
            let is_news = status.held != held;
            (status.held, status.holds) = (held, self.guard.holds());
            is_news
        });
    }

    fn publish(&mut self) {
        let start = Clock::now();
        self.guard();
        let compiled = self.compile();
        let took = start.elapsed();
        self.burst.end(took);
        self.want(&compiled);
        if self.waits_for_names(&compiled, Instant::now()) {
            return;
        }
        let generation = compiled.table.generation();
        self.barrier = self.barrier.map(|(number, first)| (number, first.or(Some(generation))));
        let (before, after) = (self.status.borrow().table.clone(), Arc::clone(&compiled.table));
        self.tables.send_replace(compiled.table.clone());
        self.status.send_modify(|status| {
            if *status.answers.0 != **compiled.table.answers() {
                status.answers = (Arc::clone(compiled.table.answers()), generation);
            }
            status.table = Some(compiled.table);
            status.snapshot = status.snapshot.filter(|_| !self.waiting.is_over());
            status.found = compiled.problems.into();
            status.barrier = self.barrier.and_then(|(number, first)| Some((number, first?)));
            status.compile = took;
            status.swaps += 1;
            status.changed = Some(SystemTime::now());
        });
        self.settle.get_or_insert(Instant::now() + SETTLE);
        self.timeline.published(before.as_deref(), &after, SystemTime::now());
        self.journal.changed(Instant::now());
        self.expire();
    }

    /// Looks which certificates have expired, or soon will.
    fn expire(&mut self) {
        let Some(table) = self.status.borrow().table.clone() else { return };
        let now = (self.now)().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
        let Expiry { problems, next } = expiry::judge(&table, now);
        let wait = |next: i64| Duration::from_secs(next.abs_diff(now)).min(CERTIFICATES);
        self.expiry = next.map(|next| Instant::now() + wait(next));
        let is_news = self.status.send_if_modified(|status| {
            let is_news = *status.expiring != *problems;
            if is_news {
                status.expiring = problems.into();
            }
            is_news
        });
        if is_news {
            self.journal.changed(Instant::now());
        }
    }

    fn compile(&mut self) -> Compiled {
        let previous = Arc::clone(&self.tables.borrow());
        let compiled = compile(self.in_use(), Some(&previous), &self.limits);
        if !self.ports.foretell(&compiled.table) {
            return compiled;
        }
        self.limits.bound = Some(self.ports.bound());
        compile(self.in_use(), Some(&previous), &self.limits)
    }

    /// Publishes the host names to look up.
    fn want(&self, compiled: &Compiled) {
        self.wanted.send_if_modified(|wanted| {
            let is_news = **wanted != compiled.names;
            if is_news {
                *wanted = Arc::new(compiled.names.clone());
            }
            is_news
        });
    }

    /// Whether the first table waits for its host names.
    fn waits_for_names(&mut self, compiled: &Compiled, now: Instant) -> bool {
        let is_first = self.status.borrow().table.is_none();
        let known = self.limits.names.as_deref();
        let mut names = compiled.names.iter();
        let all_known = names.all(|name| known.is_some_and(|known| known.contains_key(name)));
        let until = *self.held.get_or_insert(now + FIRST_NAMES);
        let waits = is_first && now < until && !all_known;
        if !waits {
            self.held = None;
        }
        waits
    }

    /// They are part of the next table. Before the first listing there is none.
    fn certified(&mut self, certs: Option<Arc<[OuterCert]>>) {
        self.limits.certs = certs.unwrap_or_default();
        if self.status.borrow().table.is_some() {
            self.burst.add(Instant::now());
        }
    }

    /// Likewise. Authorities wait for answers, and clients for certificates.
    fn issued(&mut self, issued: Option<IssuedCerts>) {
        let IssuedCerts { certs, answers } = issued.unwrap_or_default();
        let answers = if self.limits.capabilities.answers_by_tls() {
            answers
        } else {
            // The fleet is told of those only that are given.
            Arc::new(Answers { bodies: answers.bodies.clone(), ..Answers::default() })
        };
        (self.limits.issued, self.limits.answers) = (certs, answers);
        if self.status.borrow().table.is_some() {
            self.burst.add(Instant::now());
        }
    }

    fn named(&mut self, names: Arc<Names>) {
        self.limits.names = Some(names);
        // This machine's addresses may have changed since the last listing.
        self.limits.local = (self.local)().into();
        self.burst.add(Instant::now());
    }

    /// Compiles again if the engine does not listen where it should, or listens where it should not.
    fn listening(&mut self, applied: &Applied) {
        let newest = self.status.borrow().table.as_ref().map(|table| table.generation());
        if newest == Some(applied.generation) && self.ports.take(applied.bound.clone()) {
            self.limits.bound = Some(self.ports.bound());
            self.burst.add(Instant::now());
        }
    }

    fn applied(&mut self, applied: Applied) {
        self.listening(&applied);
        self.timeline.served(applied.generation, SystemTime::now());
        let same = *self.status.borrow().refused == *applied.problems;
        self.status.send_modify(|status| {
            // Only the empty table before the first has generation 0. Do not ask for the newest: under constant change,
            // it is always ahead.
            status.served |= applied.generation > 0;
            status.generation = applied.generation;
            status.applied = applied.revision;
            status.barrier_served = match status.barrier {
                Some((number, first)) if first <= applied.generation => Some(number),
                _ => status.barrier_served,
            };
            if status.answers.1 <= applied.generation {
                status.answered = Arc::clone(&status.answers.0);
            }
            status.refused = applied.problems.into();
        });
        if !same {
            self.journal.changed(Instant::now());
        }
    }

    fn condition(&mut self, condition: Condition) {
        if condition.outage().is_some() {
            self.waiting.hurry(Instant::now());
        }
        self.guard.reading(Instant::now(), matches!(condition, Condition::Watching { .. }));
        self.tell_held();
        self.journal.condition(Instant::now(), &condition).iter().for_each(LogLine::write);
        self.status.send_modify(|status| {
            if std::mem::discriminant(&status.condition) != std::mem::discriminant(&condition) {
                status.since = SystemTime::now();
            }
            status.condition = condition;
        });
    }

    fn around(&mut self, around: Around) {
        self.status.send_modify(|status| status.around = around);
        self.journal.changed(Instant::now());
    }

    fn stop(&mut self) {
        if self.burst.due().is_some() {
            self.publish();
        }
        self.settle();
        self.report();
    }

    fn report(&mut self) {
        self.journal.report(Instant::now(), &self.status.borrow()).iter().for_each(LogLine::write);
    }
}

/// Waits until the engine has ended.
async fn over(ended: &mut watch::Receiver<bool>) {
    let is_known = ended.wait_for(|ended| *ended).await.is_ok();
    if !is_known {
        std::future::pending().await
    }
}

/// Waits until an instant; forever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
