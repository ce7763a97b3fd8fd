//! Follows the prefix on one member at a time: a list, then one long poll per event. Correctness comes from the list,
//! speed from the polls. Ends only when the receiver is dropped.

use std::convert::Infallible;
use std::time::Duration;

use ::http::Method;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

use super::event::Event;
use super::http::{About, Bounds};
use super::store::{Etcd2, Got, LIST, bad_answer, event_of, got, listing, url};
use crate::backoff::{Backoff, jitter};
use crate::error::StoreError;
use crate::known::Known;
use crate::model::{Condition, Listing, Update};

/// A poll is silent while nothing happens, so a separate request checks the member this often. With its own 5 s
/// deadline, a dead member is noticed within 8 s.
const ALIVE_EVERY: Duration = Duration::from_secs(3);
/// Its deadline if there are other members to go on to.
const ALIVE: Duration = Duration::from_secs(2);
/// Each event costs one poll, so a burst is written faster than it can be read. When this many events behind, plus one
/// for every `KEYS_A_POLL` keys in the tree, a list is cheaper.
const FAR_BEHIND: u64 = 8;
const KEYS_A_POLL: usize = 64;
/// Lists must leave most of the time to polls: the next list waits this many times the duration of the last.
const LIST_SHARE: u32 = 4;
/// A poll for an event in etcd's history returns at once; after this time, the event does not exist.
const HISTORY_ANSWERS: Duration = Duration::from_millis(500);
/// The pause after an empty poll.
const EMPTY_PAUSE: Duration = Duration::from_millis(20);

/// The pause between two rounds over all members.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// The reason that a session with a member ended.
enum End {
    /// The receiver was dropped.
    ReceiverDropped,
    /// The member does not answer, or gives a wrong answer.
    Lost(StoreError),
}

impl<E: Into<StoreError>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

/// The next request after an event.
enum Next {
    Poll,
    List,
}

impl Etcd2 {
    /// Sends the prefix's keys and then every change, through any outage, until the receiver is dropped.
    pub async fn follow(&self, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) {
        Etcd2Follower::new(self, updates, condition).run().await;
    }
}

/// The state kept between sessions.
pub(super) struct Etcd2Follower<'a> {
    store: &'a Etcd2,
    updates: mpsc::Sender<Update>,
    condition: watch::Sender<Condition>,
    known: Known,
    /// Everything up to this index has been sent; `None` before the first listing.
    index: Option<u64>,
    cluster: Option<Box<str>>,
    listed: Instant,
    listing_took: Duration,
    lost: Option<StoreError>,
}

impl<'a> Etcd2Follower<'a> {
    pub(super) fn new(store: &'a Etcd2, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) -> Self {
        Self {
            store,
            updates,
            condition,
            known: Known::default(),
            index: None,
            cluster: None,
            listed: Instant::now(),
            listing_took: Duration::ZERO,
            lost: None,
        }
    }

    /// Runs sessions with members that answer; pauses when none does, or when each of them had a short one.
    pub(super) async fn run(mut self) {
        let mut rng = fastrand::Rng::new();
        let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
        let (store, mut short) = (self.store, 0);
        loop {
            let began = Instant::now();
            let met = store.member().await;
            let is_lonely = met.is_err();
            let ended = match met {
                Ok(member) => {
                    let Err(end) = self.session(&store.endpoints[member]).await;
                    store.members.failed(member);
                    end
                }
                Err(error) => End::Lost(error),
            };
            match ended {
                End::ReceiverDropped => return,
                End::Lost(error) => self.report(error),
            }
            // A member that answers lists but cuts every poll must not be listed in a tight loop.
            if began.elapsed() > LAST_PAUSE && !is_lonely {
                backoff.reset();
                short = 0;
            }
            short += 1;
            if is_lonely || short % store.endpoints.len() == 0 {
                tokio::select! {
                    () = sleep(backoff.next(&mut rng)) => {}
                    () = self.updates.closed() => return,
                }
            }
        }
    }

    async fn session(&mut self, endpoint: &str) -> Result<Infallible, End> {
        self.relist(endpoint).await?;
        self.watching(endpoint);
        let (store, updates) = (self.store, self.updates.clone());
        tokio::select! {
            end = self.poll_on(endpoint) => end,
            error = silence(store, endpoint) => Err(End::Lost(error)),
            () = updates.closed() => Err(End::ReceiverDropped),
        }
    }

    async fn poll_on(&mut self, endpoint: &str) -> Result<Infallible, End> {
        // Jitter keeps balancers that started together from listing together.
        let period = jitter(self.store.audit, 0.8..1.2, &mut fastrand::Rng::new());
        let mut audit = interval(period.max(Duration::from_millis(10)));
        audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        audit.tick().await;
        loop {
            let next = tokio::select! {
                next = self.poll(endpoint, u64::MAX) => next?,
                _ = audit.tick() => {
                    self.audit(endpoint).await?;
                    Next::Poll
                }
            };
            if let Next::List = next {
                self.relist(endpoint).await?;
            }
        }
    }

    /// Waits for the next event and sends its change, unless it is later than `until`.
    async fn poll(&mut self, endpoint: &str, until: u64) -> Result<Next, End> {
        let query = format!("?wait=true&recursive=true&waitIndex={}", self.index.unwrap_or(0).saturating_add(1));
        let poll = self.store.http.poll(&url(endpoint, &self.store.prefix, &query)).await?;
        if self.is_of_another_history(&poll.about) {
            // Such a poll waits until that history reaches our index.
            return Ok(Next::List);
        }
        let Got::Some(answer) = got(poll.answer().await?, &self.store.prefix)? else {
            return Ok(Next::List);
        };
        if answer.body.iter().all(u8::is_ascii_whitespace) {
            // etcd ends a poll this way when it stops or loses its leader.
            sleep(EMPTY_PAUSE).await;
            return Ok(Next::Poll);
        }
        let event = event_of(&answer)?;
        if !event.is_near(&self.store.prefix) || Some(event.index()) <= self.index {
            let why = format!("an event of {:?} at index {} that was not asked for", event.key(), event.index());
            return Err(bad_answer(endpoint, &why).into());
        }
        if event.index() > until {
            return Ok(Next::List);
        }
        self.tell(&event).await?;
        Ok(self.after(event.index(), &answer.about))
    }

    fn after(&self, index: u64, about: &About) -> Next {
        let behind = about.index.unwrap_or(index).saturating_sub(index);
        let far = FAR_BEHIND + (self.known.len() / KEYS_A_POLL) as u64;
        if behind > far && self.listed.elapsed() > self.listing_took * LIST_SHARE { Next::List } else { Next::Poll }
    }

    async fn tell(&mut self, event: &Event) -> Result<(), End> {
        let index = event.index();
        if let Some(change) = event.change(&self.store.prefix) {
            let room = self.room().await?;
            self.known.apply(&change);
            room.send(Update::Changes { revision: index, changes: vec![change] });
        }
        self.index = self.index.max(Some(index));
        Ok(())
    }

    /// Lists, and sends the whole listing if it differs.
    async fn relist(&mut self, endpoint: &str) -> Result<(), End> {
        let began = Instant::now();
        let (listing, about) = self.list(endpoint).await?;
        self.listing_took = began.elapsed();
        self.adopt(listing, about).await
    }

    /// Lists and compares. If the listing differs although all events up to it have been sent, etcd lost an event.
    async fn audit(&mut self, endpoint: &str) -> Result<(), End> {
        let (listing, about) = self.list(endpoint).await?;
        let replaced = self.is_of_another_history(&about);
        if !replaced && self.known.differs(&listing.entries) {
            self.catch_up(endpoint, listing.revision).await?;
            if self.known.differs(&listing.entries) {
                warn!(revision = listing.revision, "etcd did not send every change; listing all keys again");
            }
        }
        self.adopt(listing, about).await
    }

    /// Sends the events up to an index that etcd has already reached.
    async fn catch_up(&mut self, endpoint: &str, until: u64) -> Result<(), End> {
        while self.index < Some(until) {
            match timeout(HISTORY_ANSWERS, self.poll(endpoint, until)).await {
                Ok(Ok(Next::Poll)) => {}
                Ok(Ok(Next::List)) | Err(_) => break,
                Ok(Err(end)) => return Err(end),
            }
        }
        Ok(())
    }

    async fn list(&self, endpoint: &str) -> Result<(Listing, About), End> {
        let url = url(endpoint, &self.store.prefix, LIST);
        let answer = self.store.http.ask(Method::GET, &url, None, Bounds::list()).await?;
        Ok(listing(answer, &self.store.prefix)?)
    }

    async fn adopt(&mut self, listing: Listing, about: About) -> Result<(), End> {
        let room = self.room().await?;
        let replaced = self.is_of_another_history(&about);
        if replaced {
            let (was, now) = (self.index.unwrap_or(0), listing.revision);
            warn!(was, now, "etcd was restored or replaced; listing all keys again");
        }
        let first = self.index.is_none();
        self.index = Some(listing.revision);
        // etcd writes it in hexadecimal digits.
        let id = about.cluster.as_deref().and_then(|id| u64::from_str_radix(id, 16).ok());
        self.store.cluster.set(id.unwrap_or_default());
        self.cluster = about.cluster;
        self.listed = Instant::now();
        if first || replaced || self.known.differs(&listing.entries) {
            self.known.reset(&listing.entries);
            room.send(Update::Reset { revision: listing.revision, entries: listing.entries });
        }
        Ok(())
    }

    /// A lower index or another cluster id: etcd was restored or replaced. A member that was listed has every event up
    /// to our index.
    fn is_of_another_history(&self, about: &About) -> bool {
        let is_lower = about.index.is_some_and(|index| Some(index) < self.index);
        is_lower || (self.cluster.is_some() && about.cluster.is_some() && self.cluster != about.cluster)
    }

    /// Waits for room before `known` changes. An audit or a silent member may cancel the wait, and a change that is in
    /// `known` but was never sent would stay unnoticed.
    async fn room(&self) -> Result<OwnedPermit<Update>, End> {
        self.updates.clone().reserve_owned().await.map_err(|_| End::ReceiverDropped)
    }

    fn watching(&mut self, endpoint: &str) {
        let via = format!("etcd v2 at {endpoint}");
        if self.lost.take().is_some() || !matches!(&*self.condition.borrow(), Condition::Watching { .. }) {
            debug!(keys = self.known.len(), revision = self.index, "watching {}/ in {via}", self.store.prefix);
        }
        self.condition.send_replace(Condition::Watching { via });
    }

    /// Logs each new error once, not every attempt.
    fn report(&mut self, error: StoreError) {
        let outage = (&error).into();
        self.condition.send_replace(match self.index {
            None => Condition::Connecting { error: Some(outage) },
            Some(_) => Condition::Lost { error: outage },
        });
        if self.lost.as_ref() != Some(&error) {
            debug!("store: {error}");
            self.lost = Some(error);
        }
    }
}

/// Returns when the member stops answering, or has no leader twice in a row.
async fn silence(store: &Etcd2, endpoint: &str) -> StoreError {
    let bounds = if store.members.has_others() { Bounds::one().within(ALIVE) } else { Bounds::one() };
    let mut is_leaderless = false;
    loop {
        sleep(ALIVE_EVERY).await;
        match store.check_leader(endpoint, bounds).await {
            Ok(()) => is_leaderless = false,
            Err(StoreError::Failed { .. }) if !is_leaderless => is_leaderless = true,
            Err(error) => return error,
        }
    }
}
