//! Follows the prefix's folder: reads changed paths again and sends the differences. Ends only when the receiver is
//! dropped.

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use pointsman_table::Change;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::agenda::{Due, FRESH, ReadSchedule};
use super::files::{Content, Unreadable};
use super::lease::Sweeper;
use super::scan::{Contents, Identity, Place, Reading, Scan, scan};
use super::store::{Directory, blocking};
use super::watches::{self, EventSource, FileEvent, Watches};
use crate::backoff::jitter;
use crate::known::Known;
use crate::model::{Condition, Outage, Update};

/// How often to check that the store's folder still exists and is the same one, and to read folders that are not
/// watched.
const TICK: Duration = Duration::from_secs(1);

/// The receiver was dropped.
struct ReceiverDropped;

/// The state of the store's own folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    /// Never seen.
    Awaited,
    Here(Identity),
    /// Missing or unmounted; its last identity.
    Away(Identity),
}

impl Directory {
    /// Sends the prefix's keys and then every change, also while the folder is missing, until the receiver is dropped. Does
    /// not make the folder: [`Directory::make_root`] does.
    /// Revisions are our own count, from 1.
    pub async fn follow(&self, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) {
        DirectoryFollower::new(self, updates, condition).run().await;
    }

    /// The same for a folder of files that is no store: it is not made, and what cannot be read is handed out, not logged.
    pub async fn follow_files(
        &self,
        updates: mpsc::Sender<Update>,
        condition: watch::Sender<Condition>,
        unreadable: watch::Sender<Unreadable>,
    ) {
        let follower = DirectoryFollower::new(self, updates, condition);
        DirectoryFollower { listed: Some(unreadable), ..follower }.run().await;
    }
}

/// Follows one folder.
pub(super) struct DirectoryFollower {
    store: Directory,
    sweeper: Sweeper,
    place: Place,
    audit: Duration,
    updates: mpsc::Sender<Update>,
    condition: watch::Sender<Condition>,
    source: Option<EventSource>,
    watches: Option<Watches>,
    schedule: ReadSchedule,
    known: Known,
    /// 0 before the first listing.
    revision: u64,
    root: Root,
    /// Why some folders are not watched; all are then read at every tick.
    blind: Option<String>,
    /// The last `blind` that was logged.
    blind_told: Option<String>,
    /// Keys that keep their last value, and the reason.
    unreadable: Unreadable,
    /// Who is told of them; `None`: the log.
    listed: Option<watch::Sender<Unreadable>>,
    next_tick: Instant,
    next_audit: Instant,
}

impl DirectoryFollower {
    pub(super) fn new(store: &Directory, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) -> Self {
        let folder = store.path(&store.prefix);
        let now = Instant::now();
        Self {
            store: store.clone(),
            sweeper: Sweeper::default(),
            place: Place { root: store.root.clone(), folder },
            audit: store.audit,
            updates,
            condition,
            source: None,
            watches: None,
            schedule: ReadSchedule::default(),
            known: Known::default(),
            revision: 0,
            root: Root::Awaited,
            blind: None,
            blind_told: None,
            unreadable: Unreadable::new(),
            listed: None,
            next_tick: now,
            next_audit: now,
        }
    }

    pub(super) async fn run(mut self) {
        let Err(ReceiverDropped) = self.turns().await;
    }

    async fn turns(&mut self) -> Result<Infallible, ReceiverDropped> {
        loop {
            let now = Instant::now();
            let work = self.schedule.take(now);
            // Before any deletion is sent: check whether the whole store is missing.
            if now >= self.next_tick || work != Due::default() {
                self.tick(now).await?;
            }
            match self.root {
                Root::Here(_) if work.everything => self.begin_anew().await?,
                Root::Here(_) => self.read_again(work.paths).await?,
                Root::Awaited | Root::Away(_) => {}
            }
            self.wait().await?;
        }
    }

    async fn wait(&mut self) -> Result<(), ReceiverDropped> {
        let until = self.schedule.due().map_or(self.next_tick, |due| due.min(self.next_tick));
        tokio::select! {
            events = look(&mut self.source, &mut self.watches) => self.note(events),
            () = sleep_until(until) => {}
            () = self.updates.closed() => return Err(ReceiverDropped),
        }
        Ok(())
    }

    fn note(&mut self, events: Vec<FileEvent>) {
        let now = Instant::now();
        if self.watches.as_mut().is_some_and(Watches::saw_removal) {
            *self.store.removal.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
        for event in events {
            let seen = match event {
                FileEvent::Changed(path) => self.place.concerns(&path).map(FileEvent::Changed),
                FileEvent::Touched(path) => self.place.concerns(&path).map(FileEvent::Touched),
                FileEvent::Written(path) => self.place.concerns(&path).map(FileEvent::Written),
                FileEvent::Expected(path) => self.place.concerns(&path).map(FileEvent::Expected),
                FileEvent::Overflow => Some(FileEvent::Overflow),
            };
            if let Some(event) = seen {
                self.schedule.note(event, now);
            }
        }
    }

    /// Checks that the root exists and is the same; reads everything if that is due.
    async fn tick(&mut self, now: Instant) -> Result<(), ReceiverDropped> {
        let (due, audit) = (now >= self.next_tick, now >= self.next_audit);
        if due {
            self.sweep().await;
        }
        self.next_tick = now + TICK;
        let place = self.place.clone();
        match (blocking(move || place.look()).await, self.root) {
            (Err(why), _) => self.lose(&why),
            (Ok((seen, Contents::Empty)), Root::Here(was) | Root::Away(was)) if seen.device != was.device => {
                self.lose("it is now on another file system, which is empty; is the right one mounted?");
            }
            (Ok((seen, _)), Root::Here(was)) if seen == was => match (due && audit, self.blind.is_some()) {
                (true, true) => return self.begin_anew().await,
                (true, false) => return self.audit().await,
                (false, true) if due => return self.read_everything().await,
                (false, _) => {}
            },
            (Ok((seen, _)), _) => {
                self.root = Root::Here(seen);
                return self.begin_anew().await;
            }
        }
        Ok(())
    }

    async fn sweep(&mut self) {
        let (store, mut sweeper) = (self.store.clone(), std::mem::take(&mut self.sweeper));
        self.sweeper = blocking(move || {
            sweeper.sweep(&store, std::time::Instant::now());
            sweeper
        })
        .await;
    }

    fn lose(&mut self, why: &str) {
        let was = self.condition.borrow().clone();
        let now = match self.root {
            Root::Awaited => Condition::Connecting { error: Some(self.outage(why)) },
            Root::Here(identity) | Root::Away(identity) => {
                self.root = Root::Away(identity);
                Condition::Lost { error: self.outage(why) }
            }
        };
        if was != now {
            debug!("store: {}", self.describe(why));
            self.condition.send_replace(now);
        }
    }

    fn outage(&self, why: &str) -> Outage {
        Outage::new("files", &self.describe(why))
    }

    fn describe(&self, why: &str) -> String {
        format!("{}: {why}", self.place.root.display())
    }

    /// Reads everything with new watches.
    async fn begin_anew(&mut self) -> Result<(), ReceiverDropped> {
        self.blind = None;
        (self.source, self.watches) = match watches::open() {
            Ok((source, watches)) => (Some(source), Some(watches)),
            Err(error) => {
                self.go_blind(error.to_string());
                (None, None)
            }
        };
        self.audit().await?;
        self.watching();
        Ok(())
    }

    async fn audit(&mut self) -> Result<(), ReceiverDropped> {
        self.next_audit = Instant::now() + jitter(self.audit, 0.8..1.2, &mut fastrand::Rng::new());
        self.read_everything().await
    }

    async fn read_everything(&mut self) -> Result<(), ReceiverDropped> {
        self.read_again(BTreeSet::from([self.place.folder.clone()])).await
    }

    /// Logs once that some folders are not watched. All are then read at every tick, until watching is tried again.
    fn go_blind(&mut self, why: String) {
        if self.blind_told.as_ref() != Some(&why) {
            warn!("{why}: cannot watch every folder; reading all of them every second (see fs.inotify in sysctl)");
            self.blind_told = Some(why.clone());
        }
        self.blind = Some(why);
    }

    fn watching(&mut self) {
        let via = format!("folder {}", self.place.folder.display());
        let now = Condition::Watching { via };
        if *self.condition.borrow() != now {
            debug!(keys = self.known.len(), "watching {}", self.place.folder.display());
        }
        self.condition.send_replace(now);
    }

    /// Reads these paths again and sends the differences.
    async fn read_again(&mut self, paths: BTreeSet<PathBuf>) -> Result<(), ReceiverDropped> {
        if paths.is_empty() {
            return Ok(());
        }
        let (place, mut watches) = (self.place.clone(), self.watches.take());
        let (scan, watches) = blocking(move || (scan(&place, watches.as_mut(), &paths), watches)).await;
        let Scan { readings, blind } = scan;
        self.watches = watches;
        if let Some(why) = blind {
            self.go_blind(why);
        }
        let mut changes = Vec::new();
        for reading in readings {
            self.compare(reading, &mut changes);
        }
        self.list();
        self.tell(changes).await
    }

    /// Hands out what cannot be read, if that changed.
    fn list(&self) {
        if let Some(listed) = &self.listed {
            listed.send_if_modified(|last| {
                let is_news = *last != self.unreadable;
                last.clone_from(&self.unreadable);
                is_news
            });
        }
    }

    async fn tell(&mut self, changes: Vec<Change>) -> Result<(), ReceiverDropped> {
        let first = self.revision == 0;
        if !first && changes.is_empty() {
            return Ok(());
        }
        self.revision += 1;
        let revision = self.revision;
        let update = match first {
            true => Update::Reset { revision, entries: changes.into_iter().filter_map(entry).collect() },
            false => Update::Changes { revision, changes },
        };
        self.updates.send(update).await.map_err(|_| ReceiverDropped)
    }

    /// Adds the changes that a reading shows. A file that cannot be read, or is being written, keeps its last value.
    fn compare(&mut self, reading: Reading, changes: &mut Vec<Change>) {
        let Reading { key: at, found } = reading;
        let mut there = There::default();
        let mut puts = Vec::new();
        let is_found = |key: &str| found.files.iter().any(|(there, _)| **there == *key);
        self.unreadable.retain(|key, _| !is_within(key, &at) || is_found(key));
        for (key, content) in found.files {
            if let Content::Unreadable(_) = content {
                there.unread.insert(key.clone());
            }
            if let Some(value) = self.judge(&at, &key, content)
                && !self.known.has(&key, &value)
            {
                puts.push(Change::Put { key: key.clone(), value });
            }
            there.files.insert(key);
        }
        for change in self.gone(&at, &there).into_iter().chain(puts) {
            self.known.apply(&change);
            changes.push(change);
        }
    }

    fn judge(&mut self, at: &str, key: &str, content: Content) -> Option<Box<[u8]>> {
        let path = self.place.path(key);
        if self.schedule.holds(&path) {
            return None;
        }
        match content {
            // It was closed, or nobody filled it in time: it is empty.
            Content::Fresh if at == key => Some(Box::default()),
            Content::Fresh => {
                self.schedule.hold(path, Instant::now(), FRESH);
                None
            }
            Content::Unreadable(why) => {
                self.complain(key, why);
                None
            }
            Content::Value(value) => {
                self.unreadable.remove(key);
                Some(value)
            }
        }
    }

    /// Logs once why a key keeps its last value.
    fn complain(&mut self, key: &str, why: String) {
        if self.unreadable.get(key) != Some(&why) {
            if self.listed.is_none() {
                warn!("{}: {why}; keeping its last value", self.place.path(key).display());
            }
            self.unreadable.insert(key.into(), why);
        }
    }

    /// Deletions at and below a path that now holds only the files in `there`.
    fn gone(&mut self, at: &str, there: &There) -> Vec<Change> {
        let below = self.known.below(at).map(Box::<str>::from);
        let itself = self.known.contains(at).then(|| at.into());
        let gone: Vec<Box<str>> = below.chain(itself).filter(|key| !self.stays(key, there)).collect();
        for key in &gone {
            self.unreadable.remove(key);
        }
        if there.files.is_empty() && gone.len() > 1 && gone.len() == self.known.below(at).count() {
            return vec![Change::DeleteTree { key: at.into() }];
        }
        gone.into_iter().map(|key| Change::Delete { key }).collect()
    }

    /// Whether a known key still exists, is in an unreadable folder, or is about to be written.
    fn stays(&self, key: &str, there: &There) -> bool {
        let mut folders = key.match_indices('/').map(|(end, _)| &key[..end]).chain([""]);
        there.files.contains(key)
            || folders.any(|folder| there.unread.contains(folder))
            || self.schedule.holds(&self.place.path(key))
    }
}

/// Whether a key is this one or below it; all are below the empty one.
fn is_within(key: &str, at: &str) -> bool {
    at.is_empty() || key.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The result of a reading.
#[derive(Default)]
struct There {
    files: HashSet<Box<str>>,
    /// Unreadable ones; they may be folders.
    unread: HashSet<Box<str>>,
}

fn entry(change: Change) -> Option<(Box<str>, Box<[u8]>)> {
    match change {
        Change::Put { key, value } => Some((key, value)),
        Change::Delete { .. } | Change::DeleteTree { .. } => None,
    }
}

/// Waits for events; forever if nothing is watched.
async fn look(source: &mut Option<EventSource>, watches: &mut Option<Watches>) -> Vec<FileEvent> {
    let (Some(source), Some(watches)) = (source, watches) else {
        return std::future::pending().await;
    };
    source.look(watches).await
}
