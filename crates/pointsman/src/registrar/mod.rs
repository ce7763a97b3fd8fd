//! Keeps keys in the store under a lease as long as they are wanted: instances, and settings of services that several
//! writers share. Never touches a key of somebody else.
//!
//! ```text
//! Plan (wanted keys) ────┐
//! followers of prefixes ─┼─> Reconciler ─edits─> LeaseHolder ─> store
//! terms of the lease ────┘     └─> Report (our keys, conflicts)
//! ```

mod book;
mod conflict;
mod wanted;

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use book::Reconciler;
pub use conflict::Conflict;
pub use wanted::{Plan, Wanted};

use pointsman_store::backoff::{Backoff, jitter};
use pointsman_store::lease::LeaseOutcome;
use pointsman_store::tenure::{LeaseHolder, LeaseState};
use pointsman_store::{Condition, Store, StoreError, StoreSettings, Update};

/// Capacity for updates of all followers.
const UPDATES: usize = 1024;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_millis(500);
/// The pause after a permanent refusal of an edit.
const REFUSED: Duration = Duration::from_secs(15);
/// A store without revisions may not show a change that was undone at once, so our keys are read again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How far the store matches the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every possible edit was tried once: missing keys belong to somebody else, or were refused.
    pub tried: bool,
    /// Every wanted key is in the store.
    pub settled: bool,
    /// The plan that this report is about: the latest one.
    pub plan: Option<Arc<Plan>>,
    /// Keys under the lease.
    pub keys: usize,
    /// The store's revision that shows the last edit; 0 if it has none.
    pub revision: u64,
    /// Keys that belong to others.
    pub conflicts: Vec<Conflict>,
    /// The reason that the last edits failed, or that there is no lease.
    pub error: Option<StoreError>,
}

enum RegistrarEvent {
    Wanted,
    Saw(String, Update),
    Lease(LeaseState),
    Retry,
    Stop,
}

/// Keeps the wanted keys in the store until the sender of plans is dropped. The settings name the store, with its API
/// decided; the caller runs the tenure.
pub async fn run(
    settings: &StoreSettings,
    holder: &LeaseHolder<'_>,
    mut plans: watch::Receiver<Arc<Plan>>,
    report: &watch::Sender<Report>,
) {
    let (updates, mut seen) = mpsc::channel(UPDATES);
    let mut standing = holder.state();
    standing.mark_changed();
    plans.mark_changed();
    let mut registrar = Registrar::new(holder, report);
    let mut followers = FuturesUnordered::new();
    loop {
        let retry = registrar.due();
        let event = tokio::select! {
            changed = plans.changed() => if changed.is_ok() { RegistrarEvent::Wanted } else { RegistrarEvent::Stop },
            Ok(()) = standing.changed() => RegistrarEvent::Lease(standing.borrow_and_update().clone()),
            Some((prefix, update)) = seen.recv() => RegistrarEvent::Saw(prefix, update),
            () = until(retry) => RegistrarEvent::Retry,
            Some(()) = followers.next() => continue,
        };
        match event {
            RegistrarEvent::Wanted => {
                let plan = plans.borrow_and_update().clone();
                for prefix in registrar.want(plan) {
                    followers.push(follow(settings, prefix, updates.clone()));
                }
            }
            RegistrarEvent::Saw(prefix, update) => registrar.reconciler.saw(&prefix, update),
            RegistrarEvent::Lease(standing) => registrar.stand(&standing),
            RegistrarEvent::Retry => {}
            RegistrarEvent::Stop => return,
        }
        registrar.settle().await;
    }
}

/// Whether the error may go away by itself.
fn is_passing(error: &StoreError) -> bool {
    !matches!(error, StoreError::Refused { .. } | StoreError::BadKey { .. })
}

/// Forwards the updates of a follower of this prefix.
async fn follow(settings: &StoreSettings, prefix: String, updates: mpsc::Sender<(String, Update)>) {
    let settings = StoreSettings { prefix: prefix.clone(), ..settings.clone() };
    // Only the prefix differs from the tenure's store, whose settings were valid.
    let Ok(store) = Store::open(&settings) else { return };
    // A folder starts empty. That it cannot be made is seen when keys are written.
    let _ = store.make_place();
    let (sender, mut receiver) = mpsc::channel(1);
    let (condition, _) = watch::channel(Condition::Connecting { error: None });
    let pass_on = async {
        while let Some(update) = receiver.recv().await {
            if updates.send((prefix.clone(), update)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = store.follow(sender, condition) => {}
        () = pass_on => {}
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

struct Registrar<'a, 's> {
    holder: &'a LeaseHolder<'s>,
    report: &'a watch::Sender<Report>,
    reconciler: Reconciler,
    plan: Arc<Plan>,
    followed: BTreeSet<String>,
    /// Whether the lease's keys were read in this term.
    begun: bool,
    held: bool,
    /// The reason that there is no lease.
    waiting: Option<StoreError>,
    backoff: Backoff,
    rng: fastrand::Rng,
    revision: u64,
    again: Option<Instant>,
    look_again: Option<Instant>,
}

impl<'a, 's> Registrar<'a, 's> {
    fn new(holder: &'a LeaseHolder<'s>, report: &'a watch::Sender<Report>) -> Self {
        Self {
            holder,
            report,
            reconciler: Reconciler::default(),
            plan: Arc::default(),
            followed: BTreeSet::new(),
            begun: false,
            held: false,
            waiting: None,
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
            rng: fastrand::Rng::new(),
            revision: 0,
            again: None,
            look_again: None,
        }
    }

    /// Takes a plan; returns its new prefixes. A prefix stays followed even if it leaves the plan: there are few.
    fn want(&mut self, plan: Arc<Plan>) -> Vec<String> {
        self.reconciler.want(&plan);
        self.plan = plan;
        let new: Vec<_> = self.plan.keys().filter(|prefix| !self.followed.contains(*prefix)).cloned().collect();
        self.followed.extend(new.iter().cloned());
        new
    }

    fn stand(&mut self, standing: &LeaseState) {
        self.held = matches!(standing, LeaseState::Held { .. });
        self.begun = false;
        self.waiting = match standing {
            LeaseState::Awaited { error } => error.clone(),
            LeaseState::Held { .. } | LeaseState::Replaced => None,
        };
    }

    fn due(&self) -> Option<Instant> {
        // A failed edit has its own retry time, whatever else is due.
        match (self.again, self.held) {
            (Some(again), _) => Some(again),
            (None, true) => self.look_again.into_iter().chain(self.reconciler.due()).min(),
            (None, false) => None,
        }
    }

    /// Makes the due edits, and publishes a report.
    async fn settle(&mut self) {
        self.again = None;
        let failed = match self.held {
            true => self.make().await.err(),
            false => None,
        };
        match &failed {
            Some(error) => {
                debug!("registrar: {error}");
                let pause = match error {
                    error if is_passing(error) => self.backoff.next(&mut self.rng),
                    // Only an operator can resolve this.
                    _ => jitter(REFUSED, 0.8..1.2, &mut self.rng),
                };
                self.again = Some(Instant::now() + pause);
            }
            None if self.again.is_none() => self.backoff.reset(),
            None => {}
        }
        let report = Report {
            tried: self.begun && failed.as_ref().is_none_or(|error| !is_passing(error)),
            settled: self.begun && self.reconciler.is_settled(Instant::now()),
            plan: Some(self.plan.clone()),
            keys: self.reconciler.len(),
            revision: self.revision,
            conflicts: self.reconciler.conflicts(),
            error: failed.or_else(|| self.waiting.clone()),
        };
        self.report.send_if_modified(|last| {
            let changed = *last != report;
            *last = report;
            changed
        });
    }

    async fn make(&mut self) -> Result<(), StoreError> {
        if self.look_again.take_if(|due| *due <= Instant::now()).is_some() {
            self.begun = false;
        }
        if !self.begun {
            let Some(held) = self.holder.held().await? else { return Ok(()) };
            self.reconciler.begin(held);
            self.begun = true;
        }
        let edits = self.reconciler.edits(Instant::now());
        if edits.is_empty() {
            return Ok(());
        }
        let done = self.holder.apply(&edits).await;
        let now = Instant::now();
        let mut failed = Ok(());
        for (edit, outcome) in edits.iter().zip(done) {
            match outcome {
                // Either a new term begins, or the error was temporary.
                Ok(LeaseOutcome::Ended | LeaseOutcome::Replaced) => {
                    self.again = Some(now + self.backoff.next(&mut self.rng));
                }
                Ok(outcome) => {
                    if let LeaseOutcome::Done(revision) = outcome {
                        self.revision = self.revision.max(revision);
                    }
                    if outcome == LeaseOutcome::Done(0) {
                        self.look_again.get_or_insert(now + LOOK_AGAIN);
                    }
                    self.reconciler.settled(edit, outcome, now);
                }
                Err(error) => failed = Err(error),
            }
        }
        failed
    }
}
