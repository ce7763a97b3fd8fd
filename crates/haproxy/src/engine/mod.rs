//! The engine's loop: tables in, commands and reloads out, HAProxy watched. Knows when; `plan`, `drift` and `reloader`
//! know what.
//!
//! ```text
//!            table ──> commands at once ──> the rest waits until a reload is due ──> attempt (beside the loop)
//! names, audits ──────────^                                                            │
//!            └── later changes go in by commands <── another worker serves <───────────┘
//! ```

mod attempt;
mod errand;
mod event;
mod figures;
mod goal;
mod old;
mod report;
mod resolver;
mod stage;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use pointsman_engine::inherited::{GivenSocket, Inherited, LendRequests, ListenerRole};
use pointsman_engine::tickets::TicketSecrets;
use pointsman_engine::{Applied, Phase};
use pointsman_table::Table;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use self::attempt::{Attempt, Outcome};
use self::event::Event;
use self::figures::Figures;
use self::goal::Goal;
use self::old::OldWorker;
use self::report::Reporter;
use self::resolver::Resolver;
use self::stage::Stage;
use self::worker::{Worker, Workers};
use crate::apply::Failure;
use crate::command::Command;
use crate::frontend;
use crate::ledger::Ledger;
use crate::model::{Addresses, Desired, Held};
use crate::pace::{AUDIT, Backoff, Due, FIRST_TABLE, Pace, RETRY};
use crate::plan::{Reason, plan, plan_for_last_moments};
use crate::reloader::{Loaded, ReloadFault, Reloader};
use crate::scrape::Scrape;
use crate::tickets::TicketKeys;

/// How long HAProxy waits for the first table while another program's serves.
const FIRST_TAKEN: Duration = Duration::from_secs(60);
/// How often workers that drain are asked for their figures.
const LAST_SCRAPES: Duration = Duration::from_secs(1);
/// How often the loop looks for what is due.
const TICK: Duration = Duration::from_millis(50);

/// What the engine follows.
pub(super) struct Inputs {
    pub(super) tables: watch::Receiver<Arc<Table>>,
    pub(super) tickets: watch::Receiver<TicketSecrets>,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) lend: LendRequests,
    /// Our listening sockets, and how many are for plain HTTP: the first.
    pub(super) sockets: (Arc<[TcpListener]>, usize),
    /// Sockets that were given and are not in use.
    pub(super) inherited: Inherited,
}

/// The engine. How far HAProxy is lies beside it, in [`Stage`].
pub(super) struct Engine {
    inputs: Inputs,
    goal: Goal,
    resolver: Resolver,
    figures: Figures,
    reporter: Reporter,
    pace: Pace,
    backoff: Backoff,
    due: Due,
}

impl Engine {
    pub(super) fn new(
        every: Duration,
        ledger: Arc<Ledger>,
        mut inputs: Inputs,
        applied: mpsc::Sender<Applied>,
    ) -> Self {
        let now = Instant::now();
        let mut goal = Goal::new(now);
        goal.tickets = TicketKeys::derive(&inputs.tickets.borrow_and_update());
        goal.excluded.refusals.recall(Some(Arc::clone(&inputs.tables.borrow())));
        Self {
            inputs,
            goal,
            resolver: Resolver::new(now),
            figures: Figures::new(ledger),
            reporter: Reporter::new(applied),
            pace: Pace::new(every),
            backoff: Backoff::default(),
            due: Due::after(now),
        }
    }

    pub(super) async fn run(mut self, reloader: Reloader) {
        // Until then, clients are served by the program before.
        let first_table = if reloader.former.is_some() { FIRST_TAKEN } else { FIRST_TABLE };
        let mut stage = Stage::waiting(reloader, Instant::now() + first_table);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            stage = match self.next(&mut stage, &mut tick).await {
                Event::Table(table) => self.take(stage, table).await,
                Event::Attempted(attempt) => self.attempted(stage, *attempt).await,
                Event::Died(how) => self.died(stage, &how),
                Event::Tickets(secrets) => self.rekey(stage, &secrets).await,
                Event::Chosen(addresses) => self.chosen(stage, addresses).await,
                Event::FiguresWanted => self.scrape(stage),
                Event::Scraped(gone) => forget(stage, &gone),
                Event::Tick => self.tick(stage).await,
                Event::Lend(request) => {
                    // Who asked may have given up.
                    let _ = request.send(self.copies());
                    stage
                }
                Event::Stop => break,
            };
            stage = self.load_if_due(stage);
            self.report(&stage).await;
        }
        self.end(stage).await;
    }

    async fn next(&mut self, stage: &mut Stage, tick: &mut Interval) -> Event {
        let Self { inputs: Inputs { tables, tickets, phase, lend, .. }, resolver, figures, .. } = self;
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase >= Phase::Drain) => Event::Stop,
            changed = tables.changed() => match changed {
                Ok(()) => Event::Table(Arc::clone(&tables.borrow_and_update())),
                Err(_) => Event::Stop,
            },
            event = stage.event() => event,
            Ok(()) = tickets.changed() => Event::Tickets(tickets.borrow_and_update().clone()),
            Some(request) = lend.recv() => Event::Lend(request),
            addresses = resolver.chosen() => Event::Chosen(addresses),
            event = figures.event() => event,
            _ = tick.tick() => Event::Tick,
        }
    }

    /// Copies of our listening sockets.
    fn copies(&self) -> io::Result<Vec<GivenSocket>> {
        let (all, http) = &self.inputs.sockets;
        let copy = |(number, socket): (usize, &TcpListener)| {
            let role = if number < *http { ListenerRole::Http } else { ListenerRole::Https };
            Ok(GivenSocket { listener: socket.try_clone()?, role: Some(role), stays: false })
        };
        all.iter().enumerate().map(copy).collect()
    }

    async fn take(&mut self, stage: Stage, table: Arc<Table>) -> Stage {
        let now = Instant::now();
        self.goal.take(table, now);
        self.pace.changed(now);
        self.resolver.first(&self.goal.table).await;
        self.synced(stage.with_table()).await
    }

    async fn rekey(&mut self, stage: Stage, secrets: &TicketSecrets) -> Stage {
        self.goal.tickets = TicketKeys::derive(secrets);
        self.synced(stage).await
    }

    async fn chosen(&mut self, stage: Stage, addresses: Addresses) -> Stage {
        match self.resolver.take(addresses) {
            true => self.synced(stage).await,
            false => stage,
        }
    }

    /// Sends the current worker what it can take, and notes what needs a reload.
    async fn synced(&mut self, mut stage: Stage) -> Stage {
        match &mut stage {
            Stage::Waiting(_) | Stage::Down(_) | Stage::Starting(_) => {}
            Stage::Serving(serving) => self.sync(&mut serving.workers.current).await,
            Stage::Reloading(reloading) => self.sync_last(&mut reloading.workers.current).await,
        }
        stage
    }

    async fn sync(&mut self, worker: &mut Worker) {
        let Some((desired, held)) = self.desired(worker) else { return };
        let plan = plan(&mut worker.running, &desired);
        let sent = self.send(worker, &plan.commands).await;
        let unknown = worker.reasons.take(&Reason::Unknown);
        worker.reasons = plan.reload;
        worker.reasons.extend(unknown);
        if let Err(failure) = sent {
            worker.distrust(&failure);
        }
        if worker.reasons.is_empty() {
            // All is in force: what an attempt could not load is no longer asked for.
            self.reporter.failed.clear();
            self.goal.served.table = self.goal.table.clone();
            self.goal.served.held = held;
        }
    }

    /// For a worker that is about to be replaced.
    async fn sync_last(&mut self, worker: &mut Worker) {
        let Some((desired, _)) = self.desired(worker) else { return };
        let commands = plan_for_last_moments(&mut worker.running, &desired);
        let sent = self.send(worker, &commands).await;
        // Should the worker stay after all, nobody knows what it runs.
        worker.reasons.extend(sent.is_err().then_some(Reason::Unknown));
    }

    /// The configuration that the worker should run; `None` if the template fails.
    fn desired(&mut self, worker: &mut Worker) -> Option<(Desired, Held)> {
        worker.shape.tickets.clone_from(&self.goal.tickets);
        let (desired, held, problems) = self.goal.desired(&self.resolver.addresses, &worker.shape);
        self.reporter.unsupported = problems;
        if desired.frame.is_empty() {
            worker.reasons.insert(Reason::Frame);
            return None;
        }
        Some((desired, held))
    }

    async fn send(&self, worker: &Worker, commands: &[Command]) -> Result<(), Failure> {
        if commands.is_empty() {
            return Ok(());
        }
        let count = worker.applier().apply(commands, &worker.running).await?;
        if count > 0 {
            debug!("{count} commands brought HAProxy to revision {}", self.goal.table.revision());
            self.figures.ledger.note(|facts| facts.commands += count as u64);
        }
        Ok(())
    }

    /// Begins an attempt to start or reload HAProxy if one is needed and due.
    fn load_if_due(&mut self, stage: Stage) -> Stage {
        let now = Instant::now();
        let allowed = self.pace.allows(now) && self.backoff.allows(now);
        match stage.at(now) {
            Stage::Down(down) if allowed => {
                debug!("starting HAProxy");
                self.pace.begun(now);
                let order = self.goal.order(&self.resolver.addresses, None);
                Stage::starting(attempt::begin(down.reloader, None, order))
            }
            Stage::Serving(serving) if allowed && serving.workers.current.needs_reload(self.goal.changed, now) => {
                let stage::Serving { reloader, process, workers } = *serving;
                let reasons: Vec<_> = workers.current.reasons.iter().take(3).map(ToString::to_string).collect();
                debug!("reloading HAProxy: {}", reasons.join(", "));
                self.pace.begun(now);
                let current = workers.hand_over(&self.goal.table);
                let order = self.goal.order(&self.resolver.addresses, Some(current));
                Stage::reloading(attempt::begin(reloader, Some(process), order), workers)
            }
            other => other,
        }
    }

    async fn attempted(&mut self, stage: Stage, attempt: Attempt) -> Stage {
        let Attempt { reloader, outcome, table, excluded, took } = attempt;
        self.goal.exclude(excluded);
        let workers = stage.into_workers();
        match outcome {
            Outcome::Loaded(loaded) => {
                self.note_load(workers.is_some(), &table, took);
                let stage = self.succeeded(reloader, workers, *loaded);
                self.synced(stage).await
            }
            Outcome::Failed(failed) => {
                self.note_failure(&failed.fault);
                match (workers, failed.process) {
                    // Keys that came meanwhile must not wait for those that fail.
                    (Some(workers), Some(process)) => self.synced(Stage::serving(reloader, process, workers)).await,
                    (workers, _) => self.lost(reloader, workers),
                }
            }
        }
    }

    fn note_load(&self, reloaded: bool, table: &Table, took: Duration) {
        let how = if reloaded { "reloaded" } else { "started" };
        info!("{how} HAProxy for revision {} in {took:.1?}", table.revision());
        self.figures.ledger.note(|facts| {
            facts.serving = true;
            if reloaded {
                facts.reloads += 1;
                facts.last_reload = took;
            }
        });
    }

    fn succeeded(&mut self, reloader: Reloader, replaced: Option<Workers>, loaded: Loaded) -> Stage {
        let now = Instant::now();
        let Loaded { process, running, shape, runtime, pid, served, problems } = loaded;
        let old = replaced.map(|workers| workers.replaced(&running, &self.goal.table)).unwrap_or_default();
        self.pace.succeeded();
        self.due.audit = now + RETRY;
        self.reporter.failed.clear();
        self.reporter.unsupported = problems;
        let current = Worker {
            running,
            shape,
            runtime,
            pid,
            master: process.master().clone(),
            open: frontend::ports(&served.table, &served.held),
            started: now,
            reasons: BTreeSet::new(),
            leaving: BTreeMap::new(),
        };
        self.inputs.inherited.close_unused();
        let opened = current.open.iter().map(|bind| SocketAddr::new(bind.address, bind.port)).collect();
        self.figures.ledger.note(|facts| (facts.runtime, facts.open) = (current.runtime.path().to_owned(), opened));
        self.goal.served = served;
        self.goal.excluded.refusals.recall(None);
        Stage::serving(reloader, process, Workers { current, old })
    }

    fn note_failure(&mut self, fault: &ReloadFault) {
        self.figures.ledger.note(|facts| facts.failed_reloads += 1);
        warn!("HAProxy did not load the newest configuration: {fault}");
        self.pace.failed(Instant::now());
        self.reporter.failed = fault.problems(&self.goal.table);
    }

    fn died(&mut self, stage: Stage, how: &str) -> Stage {
        let Stage::Serving(serving) = stage else { return stage };
        warn!("HAProxy ended ({how}); it will be started again");
        self.lost(serving.reloader, Some(serving.workers))
    }

    /// HAProxy is gone, and with it all workers.
    fn lost(&mut self, reloader: Reloader, workers: Option<Workers>) -> Stage {
        let now = Instant::now();
        let lived = workers.as_ref().map_or(Duration::ZERO, |workers| now - workers.current.started);
        workers.iter().flat_map(Workers::pids).for_each(|pid| self.figures.ledger.gone(pid));
        self.figures.ledger.note(|facts| facts.serving = false);
        self.backoff.died(now, lived);
        self.pace.succeeded();
        Stage::down(reloader)
    }

    fn scrape(&mut self, stage: Stage) -> Stage {
        self.figures.scrape(stage.workers().map(|workers| workers.scrape(&self.goal.table)));
        stage
    }

    async fn tick(&mut self, mut stage: Stage) -> Stage {
        let now = Instant::now();
        if now >= self.due.retry {
            self.due.retry = now + RETRY;
            stage = self.retry(stage).await;
        }
        self.resolver.tick(now);
        if now < self.due.audit {
            return stage;
        }
        if let Stage::Serving(serving) = &mut stage {
            serving.workers.current.audit().await;
            // Old workers that ended are forgotten even if no page wants figures.
            if !serving.workers.old.is_empty() && self.figures.is_idle() {
                self.figures.scrape(Some(serving.workers.scrape(&self.goal.table)));
            }
            // However many servers there are, audits take a hundredth of the time.
            self.due.audit = now + AUDIT.max(now.elapsed() * 100);
        }
        stage
    }

    /// Tries closed ports again, and sees to servers that were taken out.
    async fn retry(&mut self, mut stage: Stage) -> Stage {
        let Goal { table, excluded, .. } = &mut self.goal;
        if let Some(workers) = stage.workers()
            && !excluded.closed.is_empty()
            && excluded.probe(table, &workers.current.open)
        {
            stage = self.synced(stage).await;
        }
        let limit = self.goal.table.config().timeouts.drain;
        if let Some(workers) = stage.workers_mut() {
            workers.current.delete_leaving(limit).await;
            workers.cut_departed(limit).await;
        }
        stage
    }

    async fn report(&mut self, stage: &Stage) {
        // Before anything is served there is nothing to tell but why.
        if stage.workers().is_some() || !self.reporter.failed.is_empty() {
            let excluded = self.goal.excluded.problems(&self.goal.table);
            let open = stage.workers().map(|workers| &workers.current.open);
            let bound = open.into_iter().flatten().copied().chain(self.goal.ports()).collect();
            self.reporter.report(&self.goal.served.table, excluded, bound).await;
        }
    }

    /// Lets HAProxy finish its work, no longer than `timeout/drain` and until told to halt.
    async fn end(mut self, stage: Stage) {
        let limit = self.goal.table.config().timeouts.drain;
        // They are HAProxy's alone to close, or another program's.
        self.inputs.sockets = (Arc::default(), 0);
        let scrape = stage.workers().map(|workers| workers.last_scrape(&self.goal.table));
        let ledger = Arc::clone(&self.figures.ledger);
        tokio::select! {
            () = stage.end(limit) => {}
            () = keep_counting(scrape, &ledger) => {}
            _ = self.inputs.phase.wait_for(|phase| *phase == Phase::Halt) => {}
        }
    }
}

/// Asks workers that drain for their figures, every second. Never ends.
async fn keep_counting(scrape: Option<Scrape>, ledger: &Ledger) {
    let Some(scrape) = scrape else { return pending().await };
    loop {
        tokio::select! {
            () = ledger.wanted() => {}
            () = sleep(LAST_SCRAPES) => {}
        }
        scrape.run(ledger).await;
    }
}

/// Forgets old workers that have ended.
fn forget(mut stage: Stage, gone: &[u32]) -> Stage {
    if let Some(workers) = stage.workers_mut() {
        workers.old.retain(|old: &OldWorker| !gone.contains(&old.pid));
    }
    stage
}
