//! Follows a prefix forever: connect, list or resume, watch, audit, and again. The only place here that waits to retry.
//!
//! ```text
//!   connect ─> same history? ─yes─> watch from revision + 1 ─> changes ... ─error─> next endpoint, backoff, connect
//!                  │no                    ▲       │compacted, or the audit finds a difference
//!                  └──> list, Reset ──────┘<──────┘
//! ```
//!
//! The history is the same if the cluster id is the same and the revision has not gone back. The revision is read
//! through the leader, so a lagging member does not matter. A data directory replaced by an older copy that has since
//! grown past our revision passes both checks, so a resumed watch is audited at once.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::audit::{Delivered, Fingerprinter, Fingerprints, Verdict};
use super::client::Client;
use super::keys::Folder;
use super::list::{Position, list, position};
use super::messages::WatchCreate;
use super::store::Etcd3;
use super::watch::{Revision, Step, Watching};
use crate::backoff::{Backoff, jitter};
use crate::error::StoreError;
use crate::model::{Condition, Update};

const FIRST_RETRY: Duration = Duration::from_millis(50);
/// Low, so that an etcd that returns is found soon.
const LAST_RETRY: Duration = Duration::from_secs(2);
/// After a session of this length, the next retry is quick again.
const GOOD_SESSION: Duration = Duration::from_secs(5);
/// The time from a resumed watch to its audit.
const AUDIT_RESUMED: Duration = Duration::from_millis(300);
/// The time from an audit with a suspect or a failure to the next.
const AUDIT_AGAIN: Duration = Duration::from_secs(1);
/// The time from an audit's list to its comparison, so that the watch can catch up with the list.
const SETTLE: Duration = Duration::from_millis(100);

/// The known keys and revision, kept across connections.
struct Resumable {
    seen: Position,
    delivered: Delivered,
}

impl Etcd3 {
    /// Follows the prefix until the future is dropped or the receiver is. Retries every failure, and reports it through
    /// `condition`. A transaction is one update; a list is sent whole.
    pub async fn follow(&self, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) {
        Etcd3Follower::new(self, updates, condition).run().await;
    }
}

/// Follows one prefix.
pub(super) struct Etcd3Follower<'a> {
    store: &'a Etcd3,
    updates: mpsc::Sender<Update>,
    reporter: Reporter,
    rng: fastrand::Rng,
    backoff: Backoff,
    known: Option<Resumable>,
}

impl<'a> Etcd3Follower<'a> {
    pub(super) fn new(store: &'a Etcd3, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) -> Self {
        Self {
            store,
            updates,
            reporter: Reporter { condition },
            rng: fastrand::Rng::new(),
            backoff: Backoff::new(FIRST_RETRY, LAST_RETRY),
            known: None,
        }
    }

    /// Ends only when the receiver is dropped.
    pub(super) async fn run(mut self) {
        let updates = self.updates.clone();
        tokio::select! {
            () = updates.closed() => {}
            () = self.sessions() => {}
        }
    }

    /// Connects to the first endpoint that answers, from a random one; starts at the one after it next time. Pauses
    /// when none answers, and after each round of failures.
    async fn sessions(&mut self) {
        let count = self.store.endpoints.len();
        let mut turn = self.rng.usize(..count);
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let met = self.store.connect((0..count).map(|step| (turn + step) % count)).await;
            let is_lonely = met.is_err();
            let error = match met {
                Ok(client) => {
                    turn = (client.member() + 1) % count;
                    let Err(error) = self.session(&client).await;
                    error
                }
                Err(error) => error,
            };
            self.reporter.failed(&error);
            if started.elapsed() >= GOOD_SESSION && !is_lonely {
                self.backoff.reset();
                failures = 0;
            }
            failures += 1;
            if is_lonely || failures % count == 0 {
                sleep(self.backoff.next(&mut self.rng)).await;
            }
        }
    }

    /// Everything done on one connection.
    async fn session(&mut self, client: &Client) -> Result<Infallible, StoreError> {
        self.trust(position(client, &self.store.folder).await?);
        let mut relists = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            let (mut known, audit_in) = match self.known.take() {
                Some(known) => (known, jitter(AUDIT_RESUMED, 0.5..1.5, &mut self.rng)),
                None => (self.relist(client).await?, self.audit_pause()),
            };
            match self.watch(client, &mut known, audit_in).await {
                Ok(why) => warn!("etcd at {}: {why}; listing all keys again", client.endpoint()),
                Err(error) => {
                    self.known = Some(known);
                    return Err(error);
                }
            }
            sleep(relists.next(&mut self.rng)).await;
        }
    }

    /// Forgets the known keys if the store's present state cannot follow from them.
    fn trust(&mut self, now: Position) {
        let Some(Resumable { seen, .. }) = &self.known else {
            return;
        };
        if now.cluster != seen.cluster {
            warn!("another etcd cluster answers, at revision {}; listing all keys again", now.revision);
            self.known = None;
        } else if now.revision < seen.revision {
            warn!(
                "etcd went back from revision {} to {}, so it was restored; listing all keys again",
                seen.revision, now.revision
            );
            self.known = None;
        }
    }

    async fn relist(&mut self, client: &Client) -> Result<Resumable, StoreError> {
        let folder = &self.store.folder;
        let (seen, entries) = list(client, folder, self.store.page, |entries: &mut Vec<_>, kv| {
            entries.extend(folder.relative_or_say(&kv.key).map(|key| (key, kv.value.into_boxed_slice())));
        })
        .await?;
        let mut delivered = Delivered::default();
        delivered.reset(&entries);
        self.store.cluster.set(seen.cluster);
        self.send(Update::Reset { revision: seen.revision, entries }).await;
        Ok(Resumable { seen, delivered })
    }

    /// Watches until the connection fails (an error) or all keys must be listed again (the reason).
    async fn watch(
        &mut self,
        client: &Client,
        known: &mut Resumable,
        audit_in: Duration,
    ) -> Result<String, StoreError> {
        let store = self.store;
        let (first, mut watch) = client.watch(creation(&store.folder, known.seen.revision + 1)).await?;
        let mut watching = Watching::new(store.folder.clone(), known.seen);
        let mut step;
        (watching, step) = watching.step(first);
        let audit = survey(store, client, known, audit_in);
        tokio::pin!(audit);
        loop {
            match step {
                Step::Created => self.reporter.watching(client, &store.folder, known.seen.revision),
                Step::Changes(revisions) => self.deliver(&mut known.delivered, revisions).await,
                Step::Relist(why) => return Ok(why),
                Step::Retry(why) => return Err(client.failed(why)),
            }
            known.seen = watching.seen;
            step = tokio::select! {
                response = client.next(&mut watch) => {
                    let step;
                    (watching, step) = watching.step(response?);
                    step
                }
                listed = &mut audit => match self.judge(known, listed) {
                    Ok(pause) => {
                        audit.set(survey(store, client, known, pause));
                        Step::Changes(Vec::new())
                    }
                    Err(why) => Step::Relist(why),
                },
            };
        }
    }

    async fn deliver(&mut self, delivered: &mut Delivered, revisions: Vec<Revision>) {
        for Revision { number: revision, changes } in revisions {
            changes.iter().for_each(|change| delivered.change(change));
            if !changes.is_empty() {
                self.send(Update::Changes { revision, changes }).await;
            }
        }
    }

    /// The time to the next audit, or the reason to list everything again.
    fn judge(&mut self, known: &mut Resumable, listed: Result<Survey, StoreError>) -> Result<Duration, String> {
        let again = jitter(AUDIT_AGAIN, 0.8..1.2, &mut self.rng);
        match listed {
            Err(error) => {
                debug!("audit: {error}");
                Ok(again)
            }
            Ok(Survey { now, .. }) if now.cluster != known.seen.cluster => Err("another cluster answers".to_owned()),
            Ok(Survey { now, since, .. }) if now.revision < since => {
                Err(format!("it went back from revision {since} to {}, so it was restored", now.revision))
            }
            Ok(Survey { listed, .. }) => match known.delivered.compare(&listed) {
                Verdict::Sound => Ok(self.audit_pause()),
                Verdict::Suspect => Ok(again),
                Verdict::Lost(keys) => {
                    Err(format!("the watch missed changes to {keys} keys, or the store was replaced"))
                }
            },
        }
    }

    fn audit_pause(&mut self) -> Duration {
        jitter(self.store.audit, 0.8..1.2, &mut self.rng)
    }

    /// Waits for room in the channel. If the receiver is dropped, waits to be ended by [`Etcd3Follower::run`].
    async fn send(&self, update: Update) {
        if self.updates.send(update).await.is_err() {
            pending::<()>().await;
        }
    }
}

/// A watch that reports its progress and splits large responses.
fn creation(folder: &Folder, from: u64) -> WatchCreate {
    WatchCreate {
        key: folder.start(),
        range_end: folder.end(),
        start_revision: from.cast_signed(),
        progress_notify: true,
        prev_kv: false,
        fragment: true,
    }
}

/// A listing to compare with the delivered keys.
struct Survey {
    /// The position of the list.
    now: Position,
    /// The revision seen before it.
    since: u64,
    listed: Fingerprints,
}

/// After `pause`, the fingerprints of the keys that etcd lists.
fn survey<'a>(
    store: &'a Etcd3,
    client: &'a Client,
    known: &Resumable,
    pause: Duration,
) -> impl Future<Output = Result<Survey, StoreError>> + use<'a> {
    let (maker, since): (Fingerprinter, u64) = (known.delivered.maker(), known.seen.revision);
    async move {
        sleep(pause).await;
        let listed = list(client, &store.folder, store.page, |prints: &mut Fingerprints, kv| {
            if let Some(key) = store.folder.relative(&kv.key) {
                maker.add(prints, &key, &kv.value);
            }
        })
        .await;
        sleep(SETTLE).await;
        listed.map(|(now, listed)| Survey { now, since, listed })
    }
}

/// Publishes the condition and logs it.
struct Reporter {
    condition: watch::Sender<Condition>,
}

impl Reporter {
    fn watching(&mut self, client: &Client, folder: &Folder, revision: u64) {
        let via = format!("etcd v3 at {}", client.endpoint());
        debug!("watching {} in {via} ({}) from revision {revision}", folder.name(), client.version());
        self.condition.send_replace(Condition::Watching { via });
    }

    fn failed(&mut self, error: &StoreError) {
        debug!("store: {error}");
        let was_in_reach = !matches!(*self.condition.borrow(), Condition::Connecting { .. });
        let error = error.into();
        let next = if was_in_reach { Condition::Lost { error } } else { Condition::Connecting { error: Some(error) } };
        self.condition.send_if_modified(|condition| {
            let changed = *condition != next;
            *condition = next;
            changed
        });
    }
}
