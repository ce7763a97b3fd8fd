//! Writes the journal, outside the control loop. A failed write is a problem that is listed until a later attempt succeeds;
//! what comes meanwhile waits, up to a bound, and serving goes on. Before the first line the journal is read: another program may
//! have written what this one has seen, too.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::{Problem, ProblemKind};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use super::journal::{JournalChange, JournalFile, JournalLine, JournalRead};
use super::keeper::{LONGEST, RETRY, SHARE, at_most_farewell};
use super::reconcile::{JournalStep, remaining};
use crate::control::{Around, ChangeNote, Recorder};

/// Most notes that wait for the keeper.
const NOTES: usize = 1024;
/// Most lines that wait for a file that cannot be written; then the oldest are lost.
const MOST_LINES: usize = 20_000;
/// The least time between two writes.
const SHORTEST: Duration = Duration::from_millis(100);
/// Without revisions, this program waits so long for what the one before it saw last.
const SETTLES: Duration = Duration::from_millis(500);

/// The way to the keeper of the journal, which is closed if none is kept.
pub fn channel(is_kept: bool) -> (Recorder, mpsc::Receiver<ChangeNote>) {
    let (to, notes) = mpsc::channel(NOTES);
    (if is_kept { Recorder::to(to) } else { Recorder::default() }, notes)
}

/// Keeps the journal until the balancer ends.
pub async fn keep(
    file: JournalFile,
    notes: mpsc::Receiver<ChangeNote>,
    ended: watch::Receiver<bool>,
    around: watch::Sender<Around>,
) {
    let counts = file.counts();
    let keeper = JournalKeeper { file, counts, last: None, around, lines: Vec::new(), failed: false };
    at_most_farewell(ended.clone(), keeper.run(notes, ended)).await;
}

struct JournalKeeper {
    file: JournalFile,
    /// The store has no revisions, so that changes are numbered here.
    counts: bool,
    /// The number of the last change; `None`: the file was not read yet.
    last: Option<u64>,
    around: watch::Sender<Around>,
    /// What is to be written.
    lines: Vec<JournalLine>,
    failed: bool,
}

impl JournalKeeper {
    async fn run(mut self, mut notes: mpsc::Receiver<ChangeNote>, mut ended: watch::Receiver<bool>) {
        let mut next = Instant::now();
        loop {
            let mut new = Vec::new();
            let is_over = tokio::select! {
                count = notes.recv_many(&mut new, NOTES) => count == 0,
                _ = ended.wait_for(|ended| *ended) => true,
                () = sleep_until(next), if self.failed => false,
            };
            if !is_over && self.counts && self.last.is_none() && !new.is_empty() {
                tokio::select! {
                    () = sleep(SETTLES) => {}
                    _ = ended.wait_for(|ended| *ended) => {}
                }
                while let Ok(note) = notes.try_recv() {
                    new.push(note);
                }
            }
            if is_over {
                notes.close();
                while let Ok(note) = notes.try_recv() {
                    new.push(note);
                }
            }
            self.take(new).await;
            if !is_over && !self.failed {
                tokio::select! {
                    () = sleep_until(next) => {}
                    _ = ended.wait_for(|ended| *ended) => {}
                }
            }
            if is_over || Instant::now() >= next {
                let began = Instant::now();
                self.write().await;
                let pause = if self.failed { RETRY } else { (began.elapsed() * SHARE).clamp(SHORTEST, LONGEST) };
                next = Instant::now() + pause;
            }
            if is_over {
                return;
            }
        }
    }

    async fn take(&mut self, notes: Vec<ChangeNote>) {
        if notes.is_empty() {
            return;
        }
        let (mut last, steps) = match self.last {
            Some(last) => (last, notes.into_iter().map(JournalStep::from).collect()),
            None => {
                let read = self.read().await;
                (read.last(), remaining(notes, &read, self.counts))
            }
        };
        for step in steps {
            if step.lost > 0 {
                self.lines.push(JournalLine::Lost { changes: step.lost });
            }
            match step.changes {
                None => {
                    last = if self.counts { last } else { step.revision };
                    let JournalStep { at, cluster, keys, .. } = step;
                    self.lines.push(JournalLine::Begin { at, revision: last, cluster, keys });
                }
                Some(changes) if changes.is_empty() => {}
                Some(changes) => {
                    last = if self.counts { last + 1 } else { step.revision };
                    let lines = changes.into_iter().map(|change| JournalChange { revision: last, ..change });
                    self.lines.extend(lines.map(JournalLine::Change));
                }
            }
        }
        self.last = Some(last);
        // What can be written is, however much it is.
        if let Some(more @ 1..) = self.lines.len().checked_sub(MOST_LINES).filter(|_| self.failed) {
            drop(self.lines.splice(..=more, [JournalLine::Lost { changes: more + 1 }]));
        }
    }

    async fn read(&self) -> JournalRead {
        let file = self.file.clone();
        let read = spawn_blocking(move || file.read()).await.map_err(io::Error::other).and_then(|read| read);
        let path = self.file.path().display();
        match read {
            Ok(read) => {
                if read.damaged > 0 {
                    warn!("{path}: {} lines of the journal of changes are damaged and left out", read.damaged);
                }
                read
            }
            Err(error) => {
                warn!("{path}: the journal of changes cannot be read: {error}");
                JournalRead::default()
            }
        }
    }

    async fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let (file, lines) = (self.file.clone(), Arc::<[_]>::from(std::mem::take(&mut self.lines)));
        let written = Arc::clone(&lines);
        let saved = spawn_blocking(move || file.add(&written));
        let saved = saved.await.map_err(io::Error::other).and_then(|saved| saved);
        self.failed = saved.is_err();
        let problem = saved.err().map(|error| {
            self.lines = lines.to_vec();
            let path = self.file.path().display();
            let advice = format!(
                "cannot write {path}: {error}; `pointsman history` does not know the latest changes' times, nor, without \
                 etcd v3, the changes"
            );
            Problem::of_setting(ProblemKind::State, "state", advice)
        });
        self.around.send_if_modified(|around| std::mem::replace(&mut around.journal, problem.clone()) != problem);
    }
}
