//! The engine's loop: tables in, commands and reloads out, HAProxy watched. Knows when; `plan`, `drift` and `plant` know
//! what.
//!
//! ```text
//!            table ──> commands at once ──> what needs a reload waits for its turn ──> plant (beside the loop)
//! names, audits ──────────^                                                              │
//!            └── what changed meanwhile goes in by commands <── another worker serves <──┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::{Bind, Problem, Table};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use super::answers::{Refusal, refusal};
use super::apply::{Failure, Hand};
use super::census::{Census, Tenants};
use super::desire::{Memory, desire_again};
use super::hold::{Refusals, Served};
use super::ledger::Ledger;
use super::master::Master;
use super::model::{Addresses, Server};
use super::names::BackendName;
use super::old::OldWorker;
use super::pace::{AUDIT, Backoff, Due, Pace, RETRY};
use super::plan::{Plan, Reason, plan, plan_for_last_moments};
use super::plant::{Fresh, Order, Plant, Trouble};
use super::ports::Closed;
use super::running::Running;
use super::runtime::Runtime;
use super::shape::Shape;
use super::{frontend, resolve};
use pointsman_engine::{Applied, Phase};

/// How often what is due is looked for.
const TICK: Duration = Duration::from_millis(50);
/// How many of the spare backends may be taken before more are made, as a fraction of all.
const FEW_SPARES: usize = 4;
/// How many servers are tried to be deleted at a time: the loop waits for it.
const MOST_DELETED: usize = 500;
/// How long nothing must have changed before a reload that only makes spares.
const QUIET: Duration = Duration::from_secs(5);

/// The worker that serves.
struct Worker {
    running: Running,
    shape: Shape,
    runtime: Runtime,
    pid: u32,
    master: Master,
    /// Ports of TCP services that it was started with.
    open: BTreeSet<Bind>,
    started: Instant,
}

/// What came of a renewal, and what it was made with.
struct Renewal {
    plant: Plant,
    refusals: Refusals,
    closed: Closed,
    table: Arc<Table>,
    outcome: Result<Fresh, Trouble>,
    took: Duration,
}

/// Something that the loop answers to.
enum Event {
    Table(Arc<Table>),
    Renewed(Box<Renewal>),
    Died(String),
    Named(Addresses),
    /// A page wants figures.
    Wanted,
    /// Workers were asked; these are gone.
    Counted(Vec<u32>),
    Tick,
    Stop,
}

/// The engine.
pub(super) struct Engine {
    tables: watch::Receiver<Arc<Table>>,
    applied: mpsc::Sender<Applied>,
    phase: watch::Receiver<Phase>,
    /// Elsewhere while a renewal is under way.
    plant: Option<Plant>,
    renewing: Option<JoinHandle<Renewal>>,
    worker: Option<Worker>,
    table: Arc<Table>,
    served: Served,
    addresses: Addresses,
    memory: Memory,
    /// Names that were looked up at least once.
    asked: BTreeSet<Box<str>>,
    resolving: Option<JoinHandle<Addresses>>,
    ledger: Arc<Ledger>,
    counting: Option<JoinHandle<Vec<u32>>>,
    old: Vec<OldWorker>,
    refusals: Refusals,
    closed: Closed,
    /// Why the newest configuration does not go in.
    trouble: Vec<Problem>,
    /// What of the keys HAProxy does not do.
    found: Vec<Problem>,
    /// Why a reload is needed.
    reasons: BTreeSet<Reason>,
    pace: Pace,
    backoff: Backoff,
    /// Servers that leave, and since when.
    leaving: BTreeMap<(BackendName, Box<str>), Instant>,
    changed: Instant,
    due: Due,
    reported: Option<(u64, Vec<Problem>)>,
    has_table: bool,
}

impl Engine {
    pub(super) fn new(
        plant: Plant,
        every: Duration,
        tables: watch::Receiver<Arc<Table>>,
        applied: mpsc::Sender<Applied>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let now = Instant::now();
        Self {
            tables,
            applied,
            phase,
            renewing: None,
            worker: None,
            table: Table::empty(),
            served: Served::nothing(),
            addresses: Addresses::new(),
            memory: Memory::default(),
            asked: BTreeSet::new(),
            resolving: None,
            ledger: plant.ledger.clone(),
            counting: None,
            old: Vec::new(),
            refusals: Refusals::default(),
            closed: Closed::default(),
            trouble: Vec::new(),
            found: Vec::new(),
            reasons: BTreeSet::new(),
            pace: Pace::new(every),
            backoff: Backoff::default(),
            leaving: BTreeMap::new(),
            changed: now,
            due: Due::after(now),
            reported: None,
            has_table: false,
            plant: Some(plant),
        }
    }

    pub(super) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match self.next(&mut tick).await {
                Event::Table(table) => self.take(table).await,
                Event::Renewed(renewal) => self.renewed(*renewal).await,
                Event::Died(how) => self.died(&how),
                Event::Named(addresses) => self.named(addresses).await,
                Event::Wanted => self.count(),
                Event::Counted(gone) => self.old.retain(|old| !gone.contains(&old.pid)),
                Event::Tick => self.tick().await,
                Event::Stop => break,
            }
            self.renew_if_due();
            self.report().await;
        }
        self.end().await;
    }

    async fn next(&mut self, tick: &mut tokio::time::Interval) -> Event {
        let Self { tables, phase, plant, renewing, resolving, counting, ledger, .. } = self;
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Drain) => Event::Stop,
            changed = tables.changed() => match changed {
                Ok(()) => Event::Table(Arc::clone(&tables.borrow_and_update())),
                Err(_) => Event::Stop,
            },
            renewal = finished(renewing) => Event::Renewed(Box::new(renewal)),
            how = death(plant) => Event::Died(how),
            addresses = finished(resolving) => Event::Named(addresses),
            gone = finished(counting) => Event::Counted(gone),
            () = ledger.wanted(), if counting.is_none() => Event::Wanted,
            _ = tick.tick() => Event::Tick,
        }
    }

    async fn take(&mut self, table: Arc<Table>) {
        let now = Instant::now();
        self.has_table = true;
        self.table = table;
        self.changed = now;
        self.refusals.review(&self.table);
        self.pace.changed(now);
        let mut names = resolve::names(&self.table);
        let asked = std::mem::replace(&mut self.asked, names.keys().cloned().collect());
        // A name is waited for once: one that nobody knows must not hold up every change from then on.
        names.retain(|name, _| !asked.contains(name));
        self.addresses.extend(resolve::first(&names, &self.addresses).await);
        if names.keys().any(|name| !self.addresses.contains_key(name)) {
            self.due.names = now;
        }
        self.sync().await;
    }

    async fn named(&mut self, mut addresses: Addresses) {
        // A table that came meanwhile may have brought names that were looked up on their own.
        let names = resolve::names(&self.table);
        for (name, address) in self.addresses.iter().filter(|(name, _)| names.contains_key(*name)) {
            addresses.entry(name.clone()).or_insert(*address);
        }
        if self.addresses != addresses {
            self.addresses = addresses;
            self.sync().await;
        }
    }

    /// Sends what the worker can take, and notes what needs a reload.
    async fn sync(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        let mut held = self.refusals.held(&self.table);
        self.closed.hold(&self.table, &self.served, &mut held);
        let (desired, problems) = desire_again(&mut self.memory, &self.table, &held, &self.addresses, &worker.shape);
        self.found = problems;
        if desired.frame.is_empty() {
            self.reasons.insert(Reason::Frame);
            return;
        }
        let plan = match self.renewing {
            Some(_) => Plan { commands: plan_for_last_moments(&mut worker.running, &desired), reload: BTreeSet::new() },
            None => plan(&mut worker.running, &desired),
        };
        let hand = Hand { runtime: &worker.runtime, folder: &worker.shape.folder };
        let sent = match plan.commands.is_empty() {
            true => Ok(0),
            false => hand.apply(&plan.commands, &worker.running).await,
        };
        if let Ok(count @ 1..) = sent {
            debug!("{count} commands brought HAProxy to revision {}", self.table.revision());
            self.ledger.note(|facts| facts.commands += count as u64);
        }
        if self.renewing.is_some() {
            // Should the worker stay after all, what it runs is not known.
            self.reasons.extend(sent.is_err().then_some(Reason::Unknown));
            return;
        }
        let unknown = self.reasons.contains(&Reason::Unknown);
        self.reasons = plan.reload;
        if let Err(failure) = sent {
            self.unknown(&failure);
        } else if unknown {
            self.reasons.insert(Reason::Unknown);
        }
        if self.reasons.is_empty() {
            // What could not be taken is no longer asked for.
            self.trouble.clear();
            self.served = Served { table: self.table.clone(), held };
            // Perhaps the keys went back to what runs: then no reload will come that says so.
            self.trouble.clear();
        }
    }

    fn unknown(&mut self, failure: &Failure) {
        warn!("{failure}; HAProxy will be reloaded");
        self.reasons.insert(Reason::Unknown);
    }

    /// Starts a reload, or HAProxy, if one is wanted and its time has come.
    fn renew_if_due(&mut self) {
        let now = Instant::now();
        let wanted = match &self.worker {
            None => self.has_table || now >= self.due.first_table,
            Some(worker) => !self.reasons.is_empty() || self.wants_spares(worker, now),
        };
        if !wanted || !self.pace.allows(now) || !self.backoff.allows(now) {
            return;
        }
        let Some(mut plant) = self.plant.take() else { return };
        self.pace.begun(now);
        let reasons: Vec<_> = self.reasons.iter().take(3).map(ToString::to_string).collect();
        debug!("HAProxy gets another configuration: {}", reasons.join(", "));
        let mut order = Order {
            table: self.table.clone(),
            served: self.served.clone(),
            refusals: self.refusals.clone(),
            addresses: self.addresses.clone(),
            open: self.worker.iter().flat_map(|worker| worker.open.iter().copied()).collect(),
            old: self.worker.as_ref().map(|worker| worker.runtime.clone()),
            moved: self.worker.as_ref().map(|worker| worker.running.moved.clone()).unwrap_or_default(),
            census: self.census(),
        };
        self.renewing = Some(tokio::spawn(async move {
            let mut closed = Closed::default();
            let outcome = plant.renew(&mut order, &mut closed).await;
            let Order { table, refusals, .. } = order;
            Renewal { plant, refusals, closed, table, outcome, took: now.elapsed() }
        }));
    }

    /// Everybody to be asked for statistics.
    fn census(&self) -> Option<Census> {
        let worker = self.worker.as_ref()?;
        let tenants = Tenants::of(&self.table, &worker.running);
        let current = (worker.pid, worker.runtime.clone(), tenants);
        let old = self.old.iter().map(|old| (old.pid, old.tenants.clone())).collect();
        Some(Census { master: worker.master.clone(), current, old })
    }

    /// Has the workers asked for statistics, beside the loop.
    fn count(&mut self) {
        match self.census() {
            Some(census) => {
                let ledger = self.ledger.clone();
                self.counting = Some(tokio::spawn(async move { census.take(&ledger).await }));
            }
            None => self.ledger.renewed(self.ledger.begin(), false),
        }
    }

    fn wants_spares(&self, worker: &Worker, now: Instant) -> bool {
        let few = worker.running.free.len() * FEW_SPARES < worker.shape.spares;
        few && !worker.running.moved.is_empty() && now >= self.changed + QUIET
    }

    async fn renewed(&mut self, renewal: Renewal) {
        let Renewal { plant, refusals, closed, table, outcome, took } = renewal;
        let lives = plant.process.is_some();
        self.plant = Some(plant);
        (self.refusals, self.closed) = (refusals, closed);
        // Keys may have changed meanwhile.
        self.refusals.review(&self.table);
        match outcome {
            Ok(fresh) => self.succeeded(fresh, &table, took).await,
            Err(trouble) => self.failed(&trouble, lives).await,
        }
    }

    async fn succeeded(&mut self, fresh: Fresh, table: &Table, took: Duration) {
        let reloaded = self.worker.is_some();
        let how = if reloaded { "reloaded" } else { "started" };
        info!("{how} HAProxy for revision {} in {took:.1?}", table.revision());
        self.ledger.note(|facts| {
            facts.serving = true;
            if reloaded {
                facts.reloads += 1;
                facts.last_reload = took;
            }
        });
        self.grow_old(&fresh.running);
        self.pace.succeeded();
        self.trouble.clear();
        self.leaving.clear();
        self.reasons.clear();
        let Fresh { running, shape, runtime, pid, master, served, problems } = fresh;
        let open = frontend::ports(&served.table, &served.held);
        self.found = problems;
        self.served = served;
        self.worker = Some(Worker { running, shape, runtime, pid, master, open, started: Instant::now() });
        self.due.audit = Instant::now() + RETRY;
        self.sync().await;
    }

    /// The worker that served is replaced, and may still have connections.
    fn grow_old(&mut self, next: &Running) {
        let Some(worker) = self.worker.take() else { return };
        let now = Instant::now();
        let tenants = Tenants::of(&self.table, &worker.running);
        let mut departed = Vec::new();
        for (backend, pool) in &worker.running.backends {
            let stays = next.backends.get(next.name_of(tenants.backend(backend)));
            let stays = |server: &Server| {
                stays.is_some_and(|pool| pool.servers.values().any(|other| other.address == server.address))
            };
            let left = pool.leaving.keys().map(|server| (server, self.leaving.get(&(backend.clone(), server.clone()))));
            let gone = pool.servers.values().filter(|server| !stays(server)).map(|server| (&server.name, None));
            departed
                .extend(left.chain(gone).map(|(s, since)| (backend.clone(), s.clone(), since.copied().unwrap_or(now))));
        }
        self.old.push(OldWorker { pid: worker.pid, master: worker.master, tenants, departed });
    }

    /// Cuts what still runs on servers that left longer ago than it may take, in workers that were replaced.
    async fn cut_departed(&mut self) {
        let limit = self.table.config().timeouts.drain;
        for old in &mut self.old {
            let mut due: Vec<_> = old.departed.extract_if(.., |(_, _, since)| since.elapsed() >= limit).collect();
            if !due.is_empty() && old.cut(&due).await.is_err() {
                old.departed.append(&mut due);
            }
        }
    }

    async fn failed(&mut self, trouble: &Trouble, lives: bool) {
        self.ledger.note(|facts| facts.failed_reloads += 1);
        warn!("HAProxy did not take the newest configuration: {trouble}");
        let now = Instant::now();
        self.pace.failed(now);
        self.trouble = trouble.problems(&self.table);
        match lives {
            // What came meanwhile must not wait for what does not go in.
            true => self.sync().await,
            false => self.lost(),
        }
    }

    fn died(&mut self, how: &str) {
        warn!("HAProxy ended ({how}); it will be started again");
        self.plant.iter_mut().for_each(|plant| plant.process = None);
        self.lost();
    }

    fn lost(&mut self) {
        let now = Instant::now();
        let lived = self.worker.as_ref().map_or(Duration::ZERO, |worker| now - worker.started);
        let dead = self.old.drain(..).map(|old| old.pid).chain(self.worker.take().map(|worker| worker.pid));
        dead.for_each(|pid| self.ledger.gone(pid));
        self.ledger.note(|facts| facts.serving = false);
        self.backoff.died(now, lived);
        self.pace.succeeded();
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        if now >= self.due.retry {
            self.due.retry = now + RETRY;
            self.retry().await;
        }
        if now >= self.due.names && self.resolving.is_none() {
            self.due.names = now + resolve::AGAIN;
            self.resolve();
        }
        if now >= self.due.audit && self.plant.is_some() {
            self.audit().await;
            // Workers that ended are forgotten even if nobody wants figures.
            if !self.old.is_empty() && self.counting.is_none() {
                self.count();
            }
            // However many servers there are, audits take a hundredth of the time.
            self.due.audit = now + AUDIT.max(now.elapsed() * 100);
        }
    }

    fn resolve(&mut self) {
        let (names, known) = (resolve::names(&self.table), self.addresses.clone());
        if !names.is_empty() {
            self.resolving = Some(tokio::spawn(async move { resolve::again(&names, &known).await }));
        }
    }

    /// Tries ports again that were taken, and deletes servers that nothing uses any more.
    async fn retry(&mut self) {
        if !self.closed.is_empty()
            && let Some(worker) = &self.worker
        {
            let closed = Closed::probe(&self.table, &worker.open);
            if closed != self.closed {
                self.closed = closed;
                self.sync().await;
            }
        }
        self.delete_leaving().await;
        self.cut_departed().await;
    }

    /// A server in maintenance can be deleted once nothing runs there; what still runs after its time is cut.
    async fn delete_leaving(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        let now = Instant::now();
        let limit = self.table.config().timeouts.drain;
        let pools = worker.running.backends.iter();
        let all: BTreeSet<_> = pools
            .flat_map(|(backend, pool)| pool.leaving.keys().map(|server| (backend.clone(), server.clone())))
            .collect();
        self.leaving.retain(|key, _| all.contains(key));
        for key in all.into_iter().take(MOST_DELETED) {
            let since = *self.leaving.entry(key.clone()).or_insert(now);
            let (backend, server) = &key;
            if now.duration_since(since) >= limit {
                let _ = worker.runtime.ask_one(format!("shutdown sessions server {backend}/{server}")).await;
            }
            let answer = worker.runtime.ask_one(format!("del server {backend}/{server}")).await;
            let Ok(answer) = answer else { return };
            if matches!(refusal(&answer), None | Some(Refusal::NoSuchServer)) {
                if let Some(pool) = worker.running.backends.get_mut(backend) {
                    pool.leaving.remove(server);
                }
                self.leaving.remove(&key);
            }
        }
    }

    /// Asks HAProxy what it runs, and mends what is not as it should be.
    async fn audit(&mut self) {
        let Some(worker) = &self.worker else { return };
        let hand = Hand { runtime: &worker.runtime, folder: &worker.shape.folder };
        let (commands, beyond) = match hand.audit(&worker.running).await {
            Ok(found) => found,
            Err(fault) => {
                warn!("cannot ask HAProxy what it runs: {fault}; it will be reloaded");
                self.reasons.insert(Reason::Unknown);
                return;
            }
        };
        if !commands.is_empty() {
            let first = commands[0].lines(hand.folder).join("; ");
            warn!("HAProxy does not run what it should, {} to mend: {first}", commands.len());
            if let Err(failure) = hand.apply(&commands, &worker.running).await {
                self.unknown(&failure);
            }
        }
        if !beyond.is_empty() {
            warn!("HAProxy lacks servers of {}; it will be reloaded", beyond.join(", "));
            self.reasons.insert(Reason::Unknown);
        }
    }

    /// Says what is served and what is not, if that is news.
    async fn report(&mut self) {
        if self.worker.is_none() && self.trouble.is_empty() {
            return;
        }
        let mut problems: Vec<_> = self.found.iter().cloned().chain(self.refusals.problems()).collect();
        problems.extend(self.closed.problems(&self.table));
        problems.extend(self.trouble.iter().cloned());
        problems.sort();
        problems.dedup();
        let news = (self.served.table.revision(), problems);
        if self.reported.as_ref() != Some(&news) {
            self.reported = Some(news.clone());
            // The control loop ends only with the program.
            let _ = self.applied.send(Applied { revision: news.0, problems: news.1 }).await;
        }
    }

    /// Lets HAProxy finish what it has, for so long at most, or until told to halt.
    async fn end(self) {
        let Self { renewing, plant, table, mut phase, .. } = self;
        let limit = table.config().timeouts.drain;
        let finished = async {
            // A reload that is under way has HAProxy, and with it everybody's connections.
            let plant = match renewing {
                Some(renewing) => timeout(limit, renewing).await.ok().and_then(Result::ok).map(|renewal| renewal.plant),
                None => plant,
            };
            let Some(Plant { process: Some(process), sockets, .. }) = plant else { return };
            drop(sockets);
            process.stop(limit).await;
        };
        tokio::select! {
            () = finished => {}
            _ = phase.wait_for(|phase| *phase == Phase::Halt) => {}
        }
    }
}

/// Waits for a task, if there is one, and takes its answer.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> T {
    let Some(running) = task else { return std::future::pending().await };
    let answer = running.await;
    *task = None;
    match answer {
        Ok(answer) => answer,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Waits for HAProxy's end, if it is not being replaced.
async fn death(plant: &mut Option<Plant>) -> String {
    let Some(Plant { process: Some(process), .. }) = plant else { return std::future::pending().await };
    match process.exited().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}
