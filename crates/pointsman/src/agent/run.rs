//! The agent's loop: Docker's containers become wanted keys, and the registrar keeps them in the store. Ends only when
//! told to, and leaves the keys: they expire unless an agent returns.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use super::docker::{self, Containers, DockerSettings};
use super::journal::AgentJournal;
use super::offer::AgentDefaults;
use super::wanted::wanted;
use crate::logging::LogLine;
use crate::notify;
use crate::registrar::{self, Plan, Report};
use crate::settings::AgentSettings;
use pointsman_store::lease::Owner;
use pointsman_store::tenure::{LeaseHolder, LeaseState};
use pointsman_store::{Condition, Store, StoreError, StoreSettings};

/// Follows Docker and keeps its containers' keys until dropped. `prefix` is for containers that name no balancer.
///
/// # Errors
/// The store's settings are invalid.
pub async fn run(
    settings: &AgentSettings,
    store: &StoreSettings,
    prefix: Option<&str>,
) -> Result<Infallible, StoreError> {
    let (sender, mut views) = watch::channel(Containers::default());
    let work = async {
        let store = Store::open(store)?.settled(store).await;
        loop {
            // Before the first complete view, the containers are unknown, so no key of the last agent is removed.
            let seen = views.wait_for(|view| !matches!(view.condition, Condition::Connecting { .. }));
            let Ok(view) = seen.await.map(|view| view.clone()) else { return std::future::pending().await };
            DaemonSession { settings, store: &store, prefix, view }.keep(&mut views).await?;
        }
    };
    tokio::select! {
        never = work => never,
        () = docker::follow(DockerSettings::new(settings.docker.clone()), sender) => unreachable!("we receive"),
    }
}

/// One daemon's containers, and the lease for their keys.
struct DaemonSession<'a> {
    settings: &'a AgentSettings,
    store: &'a StoreSettings,
    prefix: Option<&'a str>,
    /// The daemon's first view.
    view: Containers,
}

impl DaemonSession<'_> {
    /// Runs until another daemon replaces this one; the keys of its containers then expire.
    async fn keep(&self, views: &mut watch::Receiver<Containers>) -> Result<(), StoreError> {
        let store = Store::open(self.store)?;
        let defaults = self.defaults();
        // Daemons that share a data directory, or were copied with their machine, have the same id; the name
        // distinguishes them.
        let owner = Owner::new("agent", &format!("{}\0{}", self.view.daemon, defaults.node));
        let holder = LeaseHolder::new(&store, owner, self.settings.ttl);
        let (plan, complaints) = wanted(self.view.containers.values(), &defaults);
        let (plans, wanted_plans) = watch::channel(Arc::new(plan));
        let (report, mut reports) = watch::channel(Report::default());
        let mut planner =
            Planner { defaults, journal: AgentJournal::default(), complaints: said(&complaints), ready: false };
        let desk = async {
            loop {
                planner.tell(&reports.borrow_and_update().clone());
                tokio::select! {
                    changed = views.changed() => if changed.is_err() { return },
                    changed = reports.changed() => if changed.is_err() { return },
                    () = until(planner.journal.due()) => continue,
                }
                let view = views.borrow_and_update().clone();
                if view.daemon != self.view.daemon {
                    warn!("another Docker daemon answers; the keys for the previous one will expire");
                    return;
                }
                planner.plan(&view, &plans);
            }
        };
        tokio::select! {
            () = desk => {}
            () = Box::pin(registrar::run(self.store, &holder, wanted_plans, &report)) => {}
            () = stand_by(&holder, self.settings.ttl) => {}
            never = awaited(&holder) => match never {},
        }
        Ok(())
    }

    fn defaults(&self) -> AgentDefaults {
        let AgentSettings { node, host, network, .. } = self.settings;
        AgentDefaults {
            prefix: self.prefix.map(str::to_owned),
            node: node.clone().unwrap_or_else(|| self.view.node.replace('/', "-")),
            host: *host,
            network: network.clone(),
        }
    }
}

/// Holds the lease. While another agent of the same daemon has it, waits for that agent to end.
async fn stand_by(holder: &LeaseHolder<'_>, ttl: Duration) {
    let mut told = false;
    loop {
        holder.run().await;
        if !told {
            warn!("another agent keeps the keys of this Docker daemon; standing by until it ends");
            told = true;
        }
        sleep(ttl / 2).await;
    }
}

/// Logs that the store does not grant the lease, and why; and when it does.
async fn awaited(holder: &LeaseHolder<'_>) -> Infallible {
    let mut standing = holder.state();
    let mut told = None;
    loop {
        match standing.borrow_and_update().clone() {
            LeaseState::Awaited { error: Some(error) } if told.as_ref() != Some(&error) => {
                warn!("waiting for the store: {error}");
                told = Some(error);
            }
            LeaseState::Held { .. } if told.take().is_some() => info!("the store answers"),
            _ => {}
        }
        if standing.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn said(complaints: &[super::Complaint]) -> Vec<String> {
    complaints.iter().map(ToString::to_string).collect()
}

/// Turns views into plans, and logs the results.
struct Planner {
    defaults: AgentDefaults,
    journal: AgentJournal,
    complaints: Vec<String>,
    ready: bool,
}

impl Planner {
    fn plan(&mut self, view: &Containers, plans: &watch::Sender<Arc<Plan>>) {
        if matches!(view.condition, Condition::Connecting { .. }) {
            return;
        }
        let (plan, complaints) = wanted(view.containers.values(), &self.defaults);
        self.complaints = said(&complaints);
        plans.send_if_modified(|now| {
            let changed = **now != plan;
            if changed {
                *now = Arc::new(plan);
            }
            changed
        });
    }

    fn tell(&mut self, report: &Report) {
        self.journal.report(&self.complaints, report, Instant::now()).iter().for_each(LogLine::write);
        if report.tried && !self.ready {
            self.ready = true;
            notify::ready(&format!("keeping {} keys", report.keys));
        }
    }
}
