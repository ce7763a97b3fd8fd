//! Keeps this balancer's status key: writes it when it changes, at once if somebody may be waiting for it, and removes
//! it at the end. Logs a write failure once; a failure affects nothing else.

use std::time::Duration;

use pointsman_table::{Protocol, Table};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::folder;
use super::member::{CertificateExpiry, HeldCount, Leaving, Listens, Member, Stage};
use crate::admin::view::protocol_word;
use crate::admin::{Figures, Survey};
use crate::control::{Status, expiry};
use crate::tenure::Tenure;
use pointsman_engine::Phase;
use pointsman_engine::live::{InstancePath, Working};
use pointsman_store::lease::{Edit, LeaseOutcome, Owner};
use pointsman_store::tenure::{LeaseHolder, LeaseState};
use pointsman_store::{Condition, Store, StoreError};

/// How long a balancer counts as live after its last renewal.
pub const TTL: Duration = Duration::from_secs(10);
/// Minimum time between two writes; longer on a store with slow writes.
const SPACING: Duration = Duration::from_millis(5);
/// The next write waits this many times the duration of the faster of the last two writes, so that one write that is
/// slow by chance does not delay a change that somebody waits for.
const SHARE: u32 = 2;
/// How often to check draining instances for open requests: in our own counters, or by asking HAProxy.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_AT_HAPROXY: Duration = Duration::from_millis(500);
/// How often to count the instances that are down, if nothing else asks for a look.
const SURVEY: Duration = Duration::from_secs(2);
const SURVEY_OF_HAPROXY: Duration = Duration::from_secs(10);
/// How often to write counts that change neither from 0 nor to 0.
const NUMBERS: Duration = Duration::from_secs(1);
/// The pause after a failed write.
const RETRY: Duration = Duration::from_millis(500);
/// Failures shorter than this are not logged.
const LASTS: Duration = Duration::from_secs(2);
/// Added to the deadline for a request's head, for requests whose head arrived just in time.
const GRACE: Duration = Duration::from_secs(1);
/// How long to wait for a name that another process of this machine holds; a process that ends releases it at once.
const NAME_TAKEN: Duration = Duration::from_secs(2);
/// Deadline for the final write.
const FAREWELL: Duration = Duration::from_secs(1);

/// The identity of this balancer.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name: one path segment.
    pub name: String,
    /// The prefix that it follows.
    pub prefix: String,
    /// `native` or `haproxy`.
    pub engine: &'static str,
    /// Where it listens itself.
    pub listens: Listens,
}

/// Keeps the status key in this program's turn, and after it another one beside the successor's, for the work that is
/// still open here; until `ended`, then removes it.
pub async fn keep(
    store: &Store,
    about: About,
    status: watch::Sender<Status>,
    figures: Figures,
    (mut tenure, mut ended): (Tenure, watch::Receiver<bool>),
) {
    tokio::select! {
        () = tenure.begins() => {}
        _ = ended.wait_for(|ended| *ended) => return,
    }
    let (mut about, mut is_over) = (about, false);
    loop {
        let owner = Owner::new("balancer", &format!("{}\0{}", about.prefix, about.name));
        let holder = LeaseHolder::new(store, owner, TTL);
        let mut keeper = Keeper::new(&holder, &about, &status, figures.clone());
        let replaced = tokio::select! {
            biased;
            _ = tenure.ends(), if !is_over => {
                // The key stays as it is, and with it the lease: the successor writes it under the same lease.
                is_over = true;
                let mark = std::process::id();
                about.name = format!("{}~{mark}", about.name);
                continue;
            }
            () = holder.run() => true,
            () = name_is_taken(&holder) => true,
            () = keeper.run() => false,
            _ = ended.wait_for(|ended| *ended) => false,
        };
        if !replaced {
            keeper.farewell().await;
            holder.release(FAREWELL).await;
            return;
        }
        let other = format!("{}~{:04x}", about.name, fastrand::u16(..));
        warn!("another balancer has the name {}; this one is now {other}. Set --name", about.name);
        about.name = other;
    }
}

/// In a folder, the process that had the name first keeps it.
async fn name_is_taken(holder: &LeaseHolder<'_>) {
    let is_taken =
        |standing: &LeaseState| matches!(standing, LeaseState::Awaited { error: Some(StoreError::LeaseHeld { .. }) });
    let mut standing = holder.state();
    loop {
        // The sender outlives this future.
        let _ = standing.wait_for(is_taken).await;
        if timeout(NAME_TAKEN, standing.wait_for(|standing| !is_taken(standing))).await.is_err() {
            return;
        }
    }
}

struct Keeper<'a, 's> {
    holder: &'a LeaseHolder<'s>,
    about: &'a About,
    status: watch::Receiver<Status>,
    figures: Figures,
    /// Receives whether the status is kept.
    control: &'a watch::Sender<Status>,
    /// The last look, and the table revision of that look.
    survey: Survey,
    looked: u64,
    /// HAProxy did not answer the last time.
    unsure: bool,
    /// The start of draining.
    draining: Option<Instant>,
    /// The last write in this term.
    written: Option<(Member, Instant)>,
    /// The earliest time for the next write, and the duration of the last one.
    next: Instant,
    took: Duration,
    /// The current write error, and its start.
    failing: Option<(StoreError, Instant)>,
    /// The last logged write error.
    told: Option<StoreError>,
}

impl<'a, 's> Keeper<'a, 's> {
    fn new(
        holder: &'a LeaseHolder<'s>,
        about: &'a About,
        control: &'a watch::Sender<Status>,
        figures: Figures,
    ) -> Self {
        Self {
            holder,
            about,
            status: control.subscribe(),
            figures,
            control,
            survey: Survey::default(),
            looked: 0,
            unsure: false,
            draining: None,
            written: None,
            next: Instant::now(),
            took: Duration::ZERO,
            failing: None,
            told: None,
        }
    }

    /// Never ends.
    async fn run(&mut self) {
        let mut standing = self.holder.state();
        standing.mark_changed();
        loop {
            let pause = self.pause();
            let look = tokio::select! {
                Ok(()) = self.status.changed() => false,
                Ok(()) = standing.changed() => {
                    let now = standing.borrow_and_update().clone();
                    self.stand(now);
                    false
                }
                () = sleep(pause) => true,
                () = sleep(RETRY), if self.written.is_none() => false,
            };
            self.complain();
            sleep_until(self.next).await;
            if matches!(*standing.borrow(), LeaseState::Held { .. }) {
                self.update(look).await;
            }
        }
    }

    fn stand(&mut self, standing: LeaseState) {
        self.written = None;
        match standing {
            LeaseState::Awaited { error: Some(error) } => self.failed(error),
            LeaseState::Awaited { error: None } | LeaseState::Held { .. } | LeaseState::Replaced => {}
        }
    }

    fn failed(&mut self, error: StoreError) {
        self.note(false);
        self.failing = Some((error, self.failing.take().map_or_else(Instant::now, |(_, since)| since)));
    }

    /// Logs a write failure that lasts. The follower logs an unreachable store.
    fn complain(&mut self) {
        let is_followed = matches!(self.status.borrow().condition, Condition::Watching { .. });
        let Some((error, since)) = &mut self.failing else { return };
        if !is_followed {
            *since = Instant::now();
        }
        let is_news = self.told.as_ref() != Some(error) && !matches!(error, StoreError::Unreachable { .. });
        if is_news && since.elapsed() >= LASTS {
            warn!(
                "the status of this balancer cannot be written, so `pointsman status` and --wait do not see it: {error}"
            );
            self.told = Some(error.clone());
        }
    }

    fn note(&self, kept: bool) {
        self.control.send_if_modified(|status| std::mem::replace(&mut status.kept, kept) != kept);
    }

    fn pause(&self) -> Duration {
        match (&self.figures, self.is_look_due()) {
            (Figures::Native(_), true) => LOOK,
            (Figures::Haproxy(_), true) => LOOK_AT_HAPROXY,
            (Figures::Native(_), false) => SURVEY,
            (Figures::Haproxy(_), false) => SURVEY_OF_HAPROXY,
        }
    }

    /// Whether a draining instance may still have open requests.
    fn is_look_due(&self) -> bool {
        let is_open = |member: &Member| !member.leaving.is_empty() || self.looked < member.revision;
        let written = self.written.as_ref();
        self.unsure || self.draining.is_some() || written.is_some_and(|(member, _)| is_open(member))
    }

    async fn update(&mut self, look: bool) {
        let status = self.status.borrow_and_update().clone();
        if !status.served {
            return;
        }
        // Asking HAProxy takes time, so ask before reporting a new revision only if somebody may wait for the answer.
        let asks = matches!(self.figures, Figures::Native(_)) || look || status.table.as_deref().is_none_or(has_idle);
        if asks || status.phase != Phase::Serve {
            let only_counts = look && !self.is_look_due();
            match self.figures.survey().await {
                Some(survey) => (self.survey, self.looked, self.unsure) = (survey, status.applied, false),
                None if only_counts => {}
                None => {
                    // The new revision must not be reported with old counts.
                    self.unsure = true;
                    return;
                }
            }
        }
        let mut member = self.about.member(&status, &self.survey);
        if status.phase != Phase::Serve {
            let since = *self.draining.get_or_insert_with(Instant::now);
            // A connected client may still be sending its request.
            let head = status.table.as_deref().map_or(Duration::ZERO, |table| table.config().timeouts.head);
            member.begins = since.elapsed() < head + GRACE;
        }
        let due = self.written.as_ref().is_none_or(|(last, at)| match change(last, &member) {
            Change::None => false,
            Change::Numbers => at.elapsed() >= NUMBERS,
            Change::News => true,
        });
        if due {
            self.write(member).await;
        }
    }

    async fn write(&mut self, member: Member) {
        let start = Instant::now();
        let key = format!("{}/{}", folder(&self.about.prefix), self.about.name);
        let put = Edit::Put { key, value: member.text() };
        let done = self.holder.apply(std::slice::from_ref(&put)).await.pop();
        let took = start.elapsed();
        self.next = Instant::now() + SPACING.max(took.min(self.took) * SHARE);
        self.took = took;
        match done {
            Some(Ok(LeaseOutcome::Done(_))) => {
                self.written = Some((member, start));
                self.note(true);
                self.failing = None;
                if self.told.take().is_some() {
                    info!("the status of this balancer is written again");
                }
            }
            Some(Ok(LeaseOutcome::Taken)) => {
                let why = "this key was not written by a balancer; remove it".to_owned();
                let key = put.key().to_owned();
                self.written = None;
                self.failed(StoreError::BadKey { key, why });
            }
            Some(Err(error)) => {
                self.written = None;
                self.failed(error);
            }
            Some(Ok(LeaseOutcome::Ended | LeaseOutcome::Replaced)) | None => self.written = None,
        }
    }

    /// The final write: this balancer ends as intended.
    async fn farewell(&mut self) {
        let Some((mut member, _)) = self.written.take() else { return };
        member.stage = Stage::Stopped;
        member.leaving.clear();
        let _ = timeout(FAREWELL, self.write(member)).await;
    }
}

impl About {
    fn member(&self, status: &Status, Survey { working, apart }: &Survey) -> Member {
        let stage = match status.phase {
            Phase::Serve => Stage::Serving,
            Phase::Drain => Stage::Draining,
            Phase::Halt => Stage::Stopped,
        };
        let leaving = match (&status.table, stage) {
            (Some(table), Stage::Serving) => leaving(table, working),
            _ => working.iter().map(Leaving::from).collect(),
        };
        let mut member = Member {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: self.engine.to_owned(),
            stage,
            listens: self.listens.clone(),
            revision: status.applied,
            barrier: status.barrier_served,
            store: status.store_lost(),
            held: status.held.as_deref().map(HeldCount::from),
            down: status.table.as_deref().map_or(0, |table| down(table, apart)),
            expires: status.table.as_deref().and_then(first_expiry),
            leaving,
            ..Member::default()
        };
        member.list_answers(&status.answered);
        member.tell(status.problems());
        status.table.iter().for_each(|table| member.list_last_good(table));
        member.shorten();
        member
    }
}

fn first_expiry(table: &Table) -> Option<CertificateExpiry> {
    expiry::first(table).map(|(certificate, at)| CertificateExpiry { certificate: certificate.to_owned(), at })
}

fn has_idle(table: &Table) -> bool {
    table.services().iter().any(|service| service.instances.iter().any(|instance| !instance.takes_work()))
}

/// Counts the instances that should get new work according to their keys, but get none or only a trial request.
fn down(table: &Table, apart: &[InstancePath]) -> usize {
    let is_meant_to_work = |(protocol, service, instance): &&InstancePath| {
        let service = table.service(*protocol, service);
        service.is_some_and(|service| {
            service.instances.iter().any(|known| known.name.as_str() == instance && known.takes_work())
        })
    };
    apart.iter().filter(is_meant_to_work).count()
}

/// Instances that get no new work: drained by their keys, or removed but with open requests.
fn leaving(table: &Table, working: &[Working]) -> Vec<Leaving> {
    let active = |protocol: Protocol, service: &str, instance: &str| {
        let same = |one: &&Working| one.protocol == protocol && one.service == service && one.instance == instance;
        working.iter().find(same).map_or(0, |one| one.active)
    };
    let mut leaving = Vec::new();
    for service in table.services() {
        let out = service.instances.iter().filter(|instance| !instance.takes_work());
        leaving.extend(out.map(|instance| Leaving {
            protocol: protocol_word(service.protocol).to_owned(),
            service: service.name.to_string(),
            instance: instance.name.to_string(),
            active: active(service.protocol, service.name.as_str(), instance.name.as_str()),
        }));
    }
    let is_gone = |one: &&Working| {
        let service = table.service(one.protocol, &one.service);
        !service.is_some_and(|service| service.instances.iter().any(|known| known.name.as_str() == one.instance))
    };
    leaving.extend(working.iter().filter(is_gone).map(Leaving::from));
    leaving
}

impl From<&Working> for Leaving {
    fn from(one: &Working) -> Self {
        Self {
            protocol: protocol_word(one.protocol).to_owned(),
            service: one.service.clone(),
            instance: one.instance.clone(),
            active: one.active,
        }
    }
}

/// How much a status differs from the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    /// Only counts changed: instances that are down, or open requests, none from or to 0.
    Numbers,
    /// A change that somebody may wait for.
    News,
}

fn change(last: &Member, now: &Member) -> Change {
    if last == now {
        return Change::None;
    }
    let plain = |member: &Member| {
        let leaving = member.leaving.iter().cloned().map(|one| Leaving { active: one.active.min(1), ..one });
        Member { leaving: leaving.collect(), down: 0, ..member.clone() }
    };
    if plain(last) == plain(now) { Change::Numbers } else { Change::News }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_news() {
        let leaving = |active: u64| Leaving {
            protocol: "http".to_owned(),
            service: "shop".to_owned(),
            instance: "web-1".to_owned(),
            active,
        };
        let member =
            |revision: u64, active: u64| Member { revision, leaving: vec![leaving(active)], ..Member::default() };
        for (last, now, expected) in [
            (member(1, 3), member(1, 3), Change::None),
            (member(1, 3), member(1, 2), Change::Numbers),
            (member(1, 1), member(1, 0), Change::News),
            (member(1, 0), member(1, 1), Change::News),
            (member(1, 3), member(2, 3), Change::News),
            (member(1, 0), Member { down: 2, ..member(1, 0) }, Change::Numbers),
        ] {
            assert_eq!(change(&last, &now), expected, "{last:?} {now:?}");
        }
    }
}
