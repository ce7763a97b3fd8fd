//! Pages of the access log on their way from the workers to the threads that write them: bounded queues that nobody waits
//! for, and the number of lines that found no room. Formats nothing, writes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// How many pages may wait for a thread.
const WAITING: usize = 64;

/// Some lines of the access log.
#[derive(Clone, Debug)]
pub struct LogPage {
    /// Whole lines.
    pub text: Arc<[u8]>,
    /// How many.
    pub lines: u64,
    /// How often the log had been asked to open its files again.
    pub turn: u64,
}

/// Why lines were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The queue was full: whoever reads the log is behind.
    Queue,
    /// The file, the pipe or the other end did not take them.
    Write,
}

/// The names of the reasons, in their order.
pub const DROP_REASONS: [&str; 2] = ["queue", "write"];

/// What workers and writers share.
#[derive(Debug, Default)]
pub struct LogState {
    dropped: [AtomicU64; DROP_REASONS.len()],
    turn: AtomicU64,
    closed: AtomicBool,
}

impl LogState {
    /// The next page of a queue; `None`: there is no more.
    pub fn next(&self, pages: &Receiver<LogPage>) -> Option<LogPage> {
        if self.closed.load(Relaxed) { pages.try_recv().ok() } else { pages.recv().ok() }
    }

    /// Counts lines that were dropped.
    pub fn drop_lines(&self, reason: DropReason, lines: u64) {
        self.dropped[reason as usize].fetch_add(lines, Relaxed);
    }

    /// How many lines were dropped, by [`DROP_REASONS`].
    pub fn dropped(&self) -> [u64; DROP_REASONS.len()] {
        std::array::from_fn(|reason| self.dropped[reason].load(Relaxed))
    }

    /// How often the log was asked to open its files again.
    pub fn turn(&self) -> u64 {
        self.turn.load(Relaxed)
    }
}

/// The queues of the access log.
#[derive(Clone, Debug, Default)]
pub struct LogQueue {
    lines: Vec<SyncSender<LogPage>>,
    recent: Vec<SyncSender<LogPage>>,
    state: Arc<LogState>,
}

impl LogQueue {
    /// Adds a destination for lines in the log's format; returns the end to read from.
    pub fn destination(&mut self) -> Receiver<LogPage> {
        let (sender, receiver) = sync_channel(WAITING);
        self.lines.push(sender);
        receiver
    }

    /// Adds a reader of the same requests in JSON.
    pub fn recent(&mut self) -> Receiver<LogPage> {
        let (sender, receiver) = sync_channel(WAITING);
        self.recent.push(sender);
        receiver
    }

    /// What workers and writers share.
    pub fn state(&self) -> &Arc<LogState> {
        &self.state
    }

    /// Whether anybody takes lines in the log's format.
    pub fn has_destinations(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Whether anybody takes the same requests in JSON.
    pub fn has_recent(&self) -> bool {
        !self.recent.is_empty()
    }

    /// Passes lines on in the log's format, or drops and counts them.
    pub fn pass_on(&self, text: &[u8], lines: u64) {
        let page = LogPage { text: text.into(), lines, turn: self.state.turn() };
        for sender in &self.lines {
            if let Err(TrySendError::Full(page) | TrySendError::Disconnected(page)) = sender.try_send(page.clone()) {
                self.state.drop_lines(DropReason::Queue, page.lines);
            }
        }
    }

    /// Passes the same requests on in JSON. Those that find no room are in the log.
    pub fn pass_on_recent(&self, text: &[u8], lines: u64) {
        let page = LogPage { text: text.into(), lines, turn: 0 };
        self.recent.iter().for_each(|sender| drop(sender.try_send(page.clone())));
    }

    /// Asks for the files to be opened again: lines passed on before go to those that are open.
    pub fn reopen(&self) {
        self.state.turn.fetch_add(1, Relaxed);
        // Wakes the threads. One with a full queue comes to it by itself.
        self.pass_on(&[], 0);
    }

    /// Ends the log: the threads stop once everything that was passed on is written.
    pub fn close(&self) {
        self.state.closed.store(true, Relaxed);
        self.pass_on(&[], 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_never_waited_for() {
        let mut queue = LogQueue::default();
        let receiver = queue.destination();
        for _ in 0..=WAITING {
            queue.pass_on(b"a\nb\n", 2);
        }
        assert_eq!(queue.state().dropped(), [2, 0]);
        queue.reopen();
        assert_eq!(queue.state().dropped(), [2, 0], "a page without lines");
        assert_eq!(receiver.iter().take(WAITING).map(|page| page.lines).sum::<u64>(), 2 * WAITING as u64);
        queue.pass_on(b"c\n", 1);
        assert_eq!(receiver.recv().unwrap().turn, 1);
        queue.pass_on(b"d\n", 1);
        queue.close();
        let state = queue.state();
        assert_eq!(std::iter::from_fn(|| state.next(&receiver)).map(|page| page.lines).sum::<u64>(), 1);
    }
}
