//! `pointsman register`: an instance in the store as long as a command runs. Registered when it is ready, without new
//! work while its check fails, drained before the command is told to end.
//!
//! ```text
//! start ─check passes─> registered ─TERM─> weight=0 ─drained on every balancer, or timeout─> removed ─> TERM
//!                         └─check fails─> weight=0 ─passes─> registered        command ends: removed at once
//! ```

pub mod check;
pub mod child;
pub mod doubt;

use std::sync::Arc;
use std::time::{Duration, Instant};

use pointsman_table::Protocol;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use check::Check;
use child::{Child, ChildEvent};
use doubt::Doubt;
use rustix::process::Signal;

use crate::admin::view::protocol_word;
use crate::fleet::{self, FleetWait, Goal, Point, WaitOutcome};
use crate::registrar::{self, Plan, Report, Wanted};
use pointsman_store::lease::Owner;
use pointsman_store::tenure::LeaseHolder;
use pointsman_store::{Store, StoreSettings};

/// Interval between checks before the command is ready.
const EAGER: Duration = Duration::from_millis(200);
/// Interval between checks afterwards.
const CALM: Duration = Duration::from_secs(2);
/// This many failures in a row stop new work.
const FAILURES: u32 = 3;
/// Deadline for writing to a store that should answer.
const WRITE: Duration = Duration::from_secs(2);

/// The instance to register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// HTTP or TCP.
    pub protocol: Protocol,
    /// The service.
    pub service: String,
    /// The instance's name.
    pub name: String,
    /// The instance's value.
    pub value: String,
    /// The readiness check.
    pub check: Check,
    /// How long the key lives after its last renewal.
    pub ttl: Duration,
    /// How long balancers may take to finish open requests.
    pub drain: Duration,
}

impl Registration {
    /// The instance's key below the prefix.
    pub fn key(&self) -> String {
        format!("{}/{}/upstreams/{}", self.protocol.tree(), self.service, self.name)
    }

    fn plan(&self, prefix: &str, availability: Availability) -> Arc<Plan> {
        let value = match availability {
            Availability::Absent => None,
            Availability::Serving => Some(self.value.clone()),
            Availability::Draining => Some(format!("{} weight=0", self.value)),
        };
        let mut wanted = Wanted::default();
        wanted.instances.extend(value.map(|value| (self.key().into(), value.into())));
        Arc::new([(prefix.to_owned(), wanted)].into())
    }
}

/// Whether balancers give the instance new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Availability {
    /// No key in the store.
    Absent,
    /// New work.
    Serving,
    /// No new work; open requests may finish.
    Draining,
}

/// Runs beside the command until it ends; returns its exit status. If the store is unreachable, waits for it.
///
/// # Errors
/// The store's settings are invalid.
pub async fn run(settings: &StoreSettings, registration: &Registration, child: &mut Child) -> anyhow::Result<u8> {
    let store = Store::open(settings)?;
    let settings = tokio::select! {
        settled = Box::pin(store.settled(settings)) => settled,
        status = gone(child) => return Ok(status),
    };
    let store = Store::open(&settings)?;
    // The same address is the same instance, so a restarted process takes over at once.
    let identity = format!("{}\0{}\0{}", settings.prefix, registration.key(), registration.value);
    let holder = LeaseHolder::new(&store, Owner::new("register", &identity), registration.ttl);
    let (plans, wanted) = watch::channel(registration.plan(&settings.prefix, Availability::Absent));
    let (report, reports) = watch::channel(Report::default());
    let supervisor = Supervisor { settings: &settings, registration, plans: &plans, reports };
    let status = tokio::select! {
        status = Box::pin(supervisor.attend(child)) => status,
        () = Box::pin(registrar::run(&settings, &holder, wanted, &report)) => unreachable!("the plans' sender is here"),
        never = serve_out(&holder) => never,
    };
    holder.release(WRITE).await;
    Ok(status)
}

/// Waits for the command's end. Nothing is registered, so nothing is drained.
async fn gone(child: &mut Child) -> u8 {
    loop {
        match child.next().await {
            ChildEvent::Ended(status) => return status,
            ChildEvent::Stop(signal) => child.signal(signal),
        }
    }
}

/// Holds the lease. If another process takes it over, the command keeps running anyway.
async fn serve_out(holder: &LeaseHolder<'_>) -> u8 {
    holder.run().await;
    warn!("another process has registered the same instance, so this one no longer keeps the key");
    std::future::pending().await
}

/// Connects the command's life to the store.
struct Supervisor<'a> {
    settings: &'a StoreSettings,
    registration: &'a Registration,
    plans: &'a watch::Sender<Arc<Plan>>,
    reports: watch::Receiver<Report>,
}

impl Supervisor<'_> {
    /// Runs until the command has ended.
    async fn attend(&self, child: &mut Child) -> u8 {
        let stop = tokio::select! {
            event = child.next() => event,
            () = self.watch() => unreachable!("checks go on for ever"),
            () = self.tell() => unreachable!("reports go on for ever"),
        };
        let signal = match stop {
            ChildEvent::Ended(status) => return status,
            ChildEvent::Stop(signal) => signal,
        };
        tokio::select! {
            () = Box::pin(self.drain()) => {}
            event = child.next() => match event {
                ChildEvent::Ended(status) => return status,
                // A second signal means: do not wait.
                ChildEvent::Stop(again) => info!("got a second stop signal ({}): not waiting any longer", name(again)),
            },
        }
        child.signal(signal);
        gone(child).await
    }

    /// Registers the instance when it is ready, and stops new work while it is not.
    async fn watch(&self) {
        let check = &self.registration.check;
        let mut failures = FAILURES;
        let mut doubt = Doubt::new(Instant::now());
        loop {
            match check.ask_patiently(|| self.doubt(&mut doubt, failures, "no answer yet")).await {
                Ok(()) => {
                    failures = 0;
                    self.put(Availability::Serving);
                }
                Err(error) => {
                    failures += 1;
                    let reason = format!("{error:#}");
                    if failures == FAILURES && self.put(Availability::Draining) {
                        doubt.say(Instant::now(), &reason);
                        warn!("the check {check} fails: {reason}; no new work until it passes");
                    }
                    self.doubt(&mut doubt, failures, &reason);
                }
            }
            sleep(if failures < FAILURES { CALM } else { EAGER }).await;
        }
    }

    /// Logs why the instance is not registered, or takes no new work, if that is news.
    fn doubt(&self, doubt: &mut Doubt, failures: u32, reason: &str) {
        if failures >= FAILURES && doubt.is_news(Instant::now(), reason) {
            let check = &self.registration.check;
            let is_absent = *self.plans.borrow() == self.registration.plan(&self.settings.prefix, Availability::Absent);
            let state = if is_absent { "not registered yet" } else { "no new work" };
            warn!("{state}: the check {check} fails: {reason}");
        }
    }

    /// Sets the availability; returns whether it changed.
    fn put(&self, availability: Availability) -> bool {
        let plan = self.registration.plan(&self.settings.prefix, availability);
        self.plans.send_if_modified(|now| {
            let changed = *now != plan;
            *now = plan;
            changed
        })
    }

    /// Logs the results.
    async fn tell(&self) {
        let mut reports = self.reports.clone();
        let mut said = String::new();
        loop {
            let line = {
                let report = reports.borrow_and_update();
                let key = self.registration.key();
                match (report.conflicts.first(), &report.error) {
                    (Some(conflict), _) => Err(conflict.to_string()),
                    (None, Some(error)) => Err(format!("cannot register: {error}")),
                    (None, None) if report.settled && report.keys > 0 => Ok(format!("registered {key}")),
                    (None, None) => Ok(said.clone()),
                }
            };
            let (text, is_bad) = match line {
                Ok(text) => (text, false),
                Err(text) => (text, true),
            };
            if text != said {
                if is_bad {
                    warn!("{text}")
                } else {
                    info!("{text}")
                }
                said = text;
            }
            if reports.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops new work, waits until every balancer has finished its requests, then removes the key.
    async fn drain(&self) {
        if *self.plans.borrow() == self.registration.plan(&self.settings.prefix, Availability::Absent) {
            return;
        }
        info!("draining: no new work, finishing open requests");
        if let Some(point) = self.settle(Availability::Draining).await {
            self.finish(point).await;
        }
        self.settle(Availability::Absent).await;
    }

    /// Waits until the store has this availability; returns a point that shows it.
    async fn settle(&self, availability: Availability) -> Option<Point> {
        self.put(availability);
        let plan = self.registration.plan(&self.settings.prefix, availability);
        let mut reports = self.reports.clone();
        let settled = reports.wait_for(|report| report.settled && report.plan.as_ref() == Some(&plan));
        match timeout(WRITE, settled).await {
            Ok(Ok(report)) => Some(Point::Revision(report.revision)),
            Ok(Err(_)) | Err(_) => {
                warn!(
                    "cannot write to the store, so no balancer knows that this instance is draining; not waiting for them"
                );
                None
            }
        }
    }

    async fn finish(&self, point: Point) {
        let Registration { protocol, service, name, drain, .. } = self.registration;
        let point = match point {
            Point::Revision(0) => match fleet::barrier(self.settings).await {
                Ok(point) => point,
                Err(error) => return warn!("cannot wait for the balancers: {error}"),
            },
            point => point,
        };
        let goal = Goal { point, idle: Some((protocol_word(*protocol).to_owned(), service.clone(), name.clone())) };
        let outcome = match FleetWait::new(self.settings).await {
            Ok(mut call) => call.wait(&goal, *drain).await,
            Err(error) => WaitOutcome::Unknown(error.to_string()),
        };
        match outcome {
            WaitOutcome::All(_) | WaitOutcome::Nobody => {}
            WaitOutcome::Late(late) => warn!("some balancers are not done after {drain:?}: {}", late.join("; ")),
            WaitOutcome::Lost(names) => warn!("these balancers disappeared without signing off: {}", names.join(", ")),
            WaitOutcome::Unknown(why) => warn!("cannot tell whether the balancers are done: {why}"),
        }
    }
}

fn name(signal: Signal) -> String {
    format!("signal {}", signal.as_raw())
}
