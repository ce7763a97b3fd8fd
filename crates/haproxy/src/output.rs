//! Reads what a running HAProxy prints: logs each line, and keeps the last ones to tell why it failed. Bounded in line
//! length, in lines kept and in lines logged a second; never judges them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::complaint::{Level, level};

/// Longest line that is kept.
const LINE_LIMIT: usize = 4 << 10;
/// How many lines are kept.
const LINES_KEPT: usize = 500;
/// How many lines are logged a second.
const LINES_PER_SECOND: u32 = 50;
/// How long to wait for the last lines of a process that has ended.
const END_PATIENCE: Duration = Duration::from_millis(500);
/// Routine messages: printed at every reload, some once a proxy, or in answer to our own commands. Not kept, and logged
/// at debug level only.
const ROUTINE: [&str; 15] = [
    " stopped (cumulated conns",
    "Stopping frontend ",
    "Stopping backend ",
    "Stopping proxy ",
    ") exited with code 0 (Exit)",
    "haproxy version is ",
    "path to executable is ",
    "Automatically setting global.maxconn",
    "leaving forced maintenance",
    "going DOWN for maintenance",
    "now enters maintenance",
    // Follows a message that the last server went down.
    "has no server available",
    "Exiting Master process",
    "All workers exited",
    "Server deleted",
];

/// The last lines that HAProxy printed.
#[derive(Clone, Debug, Default)]
pub(super) struct Output(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<LineBuffer>,
    printed: Notify,
    /// Streams that are still open.
    streams: AtomicUsize,
}

#[derive(Debug, Default)]
struct LineBuffer {
    kept: VecDeque<Box<str>>,
    /// How many lines came before those.
    gone: usize,
}

impl Output {
    /// Reads the stream to its end. The task ends with it.
    pub(super) fn follow(&self, stream: impl AsyncRead + Unpin + Send + 'static) {
        let output = self.clone();
        self.0.streams.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            output.read(stream).await;
            output.0.streams.fetch_sub(1, Ordering::Relaxed);
            output.0.printed.notify_one();
        });
    }

    /// Waits until all streams have ended. Not for long: an orphan may hold one open.
    pub(super) async fn ended(&self) {
        let ended = async {
            while self.0.streams.load(Ordering::Relaxed) > 0 {
                self.printed().await;
            }
        };
        // Late lines are not worth a longer wait.
        let _ = timeout(END_PATIENCE, ended).await;
    }

    /// A place in the output, for [`Output::since`].
    pub(super) fn mark(&self) -> usize {
        let lines = self.lines();
        lines.gone + lines.kept.len()
    }

    /// What was printed since then, as far as it is kept.
    pub(super) fn since(&self, mark: usize) -> String {
        let lines = self.lines();
        let skipped = mark.saturating_sub(lines.gone);
        lines.kept.iter().skip(skipped).flat_map(|line| [&**line, "\n"]).collect()
    }

    /// Waits until something is printed.
    pub(super) async fn printed(&self) {
        self.0.printed.notified().await;
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, LineBuffer> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, mut stream: impl AsyncRead + Unpin) {
        let (mut buffer, mut log) = (Vec::with_capacity(LINE_LIMIT), Log::default());
        // A pipe that cannot be read has nothing more to say.
        while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
            let whole = match buffer.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if buffer.len() >= LINE_LIMIT => buffer.len(),
                None => continue,
            };
            self.take_lines(&buffer[..whole], &mut log);
            buffer.drain(..whole);
        }
        self.take_lines(&buffer, &mut log);
        log.count();
    }

    fn take_lines(&self, bytes: &[u8], log: &mut Log) {
        String::from_utf8_lossy(bytes).lines().for_each(|line| self.take(line, log));
        self.0.printed.notify_one();
    }

    fn take(&self, line: &str, log: &mut Log) {
        let line = line.char_indices().nth(LINE_LIMIT).map_or(line, |(end, _)| &line[..end]);
        let routine = ROUTINE.iter().any(|words| line.contains(words));
        log.write(line, routine);
        if routine {
            return;
        }
        let mut lines = self.lines();
        lines.kept.push_back(line.into());
        if lines.kept.len() > LINES_KEPT {
            lines.kept.pop_front();
            lines.gone += 1;
        }
    }
}

/// Our log, limited to [`LINES_PER_SECOND`].
#[derive(Default)]
struct Log {
    second: Option<Instant>,
    written: u32,
    skipped: u32,
}

impl Log {
    fn write(&mut self, line: &str, routine: bool) {
        if routine {
            return tracing::debug!(target: "haproxy", "{line}");
        }
        let now = Instant::now();
        if self.second.is_none_or(|second| now - second >= Duration::from_secs(1)) {
            self.count();
            (self.second, self.written) = (Some(now), 0);
        }
        if self.written == LINES_PER_SECOND {
            self.skipped += 1;
            return;
        }
        self.written += 1;
        match level(line) {
            Some((Level::Alert, words)) => tracing::error!(target: "haproxy", "HAProxy: {words}"),
            Some((Level::Warning, words)) => tracing::warn!(target: "haproxy", "HAProxy: {words}"),
            Some((Level::Notice, words)) => tracing::debug!(target: "haproxy", "{words}"),
            None => tracing::info!(target: "haproxy", "HAProxy: {line}"),
        }
    }

    /// Logs how many lines were skipped.
    fn count(&mut self) {
        if self.skipped > 0 {
            tracing::warn!(target: "haproxy", lines = self.skipped, "HAProxy printed too many lines; some were not logged");
            self.skipped = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn printed(text: Vec<u8>) -> Output {
        let output = Output::default();
        output.follow(std::io::Cursor::new(text));
        output.ended().await;
        output
    }

    #[tokio::test]
    async fn lines_are_kept_from_a_mark_on() {
        let output =
            printed(b"[ALERT]    (1) : one\n[NOTICE]   (1) : haproxy version is 2.6\ntwo\nunfinished".to_vec()).await;
        assert_eq!(output.since(0), "[ALERT]    (1) : one\ntwo\nunfinished\n");
        assert_eq!(output.since(1), "two\nunfinished\n");
        assert_eq!(output.since(output.mark()), "");
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let output = printed((0..LINES_KEPT + 100).flat_map(|line| format!("{line}\n").into_bytes()).collect()).await;
        assert_eq!(output.mark(), LINES_KEPT + 100);
        assert!(output.since(0).starts_with("100\n"));
        let output = printed(vec![b'x'; 100 * LINE_LIMIT]).await;
        assert!(output.lines().kept.iter().all(|line| line.len() <= LINE_LIMIT));
    }
}
