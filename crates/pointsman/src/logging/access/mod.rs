//! The access log's way out: a thread for each destination, and the last requests in memory. Formats no line, and no
//! worker ever waits for it.
//!
//! | module | owns |
//! |---|---|
//! | `target` | the destinations by name |
//! | `sink` | files and streams: lines whole or not at all |
//! | `syslog` | syslog: the frames of a line, and how they are sent |
//! | `recent` | the last requests |

mod recent;
mod sink;
mod syslog;
mod target;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use pointsman_engine::access::{DropReason, LogPage, LogQueue, LogState};
use pointsman_engine::exemplars::Exemplars;
use pointsman_engine::spans::SpanCounts;
use tracing::{info, warn};

pub use recent::Recent;
use sink::Sink;
use target::Unwritten;
pub use target::{LogTarget, SyslogForm};

/// The pauses between attempts to write what could not be written: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often the log says that lines were dropped.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What the admin pages show of requests.
#[derive(Clone, Debug, Default)]
pub struct RequestsView {
    /// The last requests.
    pub recent: Recent,
    /// Counts of the log.
    pub log: Arc<LogState>,
    /// Counts of spans.
    pub spans: Arc<SpanCounts>,
    /// What metrics tell of traces; `None`: nothing.
    pub exemplars: Option<Arc<Exemplars>>,
}

/// The threads of the access log.
#[derive(Debug)]
pub struct AccessThreads {
    queue: LogQueue,
    recent: Recent,
    /// Nothing comes; it ends when the threads have ended.
    ended: Receiver<()>,
}

impl AccessThreads {
    /// Opens the destinations, and starts a thread for each. `most`: how many requests are kept in memory.
    ///
    /// # Errors
    /// A file cannot be opened, or the system cannot start another thread.
    pub fn start(targets: &[LogTarget], syslog: SyslogForm, most: usize) -> anyhow::Result<Self> {
        let mut queue = LogQueue::default();
        let (alive, ended) = channel::<()>();
        for target in targets {
            let sink = Sink::open(target, syslog).with_context(|| format!("--access-log {target}"))?;
            let pages = queue.destination();
            let state = Arc::clone(queue.state());
            let missing = sink.missing();
            let mut writer = Writer { name: target.to_string(), sink, state, turn: 0, failing: None };
            missing.into_iter().for_each(|error| writer.failed(&Unwritten { lines: 0, error }));
            let alive = alive.clone();
            spawn(move || {
                writer.run(&pages);
                drop(alive);
            })?;
        }
        let recent = Recent::new(most);
        if most > 0 {
            let (pages, recent) = (queue.recent(), recent.clone());
            spawn(move || pages.iter().for_each(|page| recent.add(&page.text)))?;
        }
        Ok(Self { queue, recent, ended })
    }

    /// The queues of the threads.
    pub fn queue(&self) -> &LogQueue {
        &self.queue
    }

    /// What the admin pages show.
    pub fn view(&self, spans: Arc<SpanCounts>, exemplars: Option<Arc<Exemplars>>) -> RequestsView {
        RequestsView { recent: self.recent.clone(), log: Arc::clone(self.queue.state()), spans, exemplars }
    }

    /// Waits until everything is written, but no longer than this.
    pub fn finish(self, within: Duration) {
        let Self { queue, ended, .. } = self;
        queue.close();
        if ended.recv_timeout(within) == Err(RecvTimeoutError::Timeout) {
            warn!("the last lines of the access log were not written within {} s", within.as_secs());
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    std::thread::Builder::new().name("access-log".to_owned()).spawn(work).context("starting the access log")?;
    Ok(())
}

/// Logs, every 10 s, how many lines were dropped since.
pub async fn tell_dropped(state: Arc<LogState>) {
    let mut told = state.dropped();
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        let now = state.dropped();
        if now != told {
            let [late, unwritten] = [now[0] - told[0], now[1] - told[1]];
            warn!(
                "lines of the access log were dropped: {late} because nobody took them in time, {unwritten} because they could \
                 not be written"
            );
            told = now;
        }
    }
}

/// Writes to one destination.
struct Writer {
    name: String,
    sink: Sink,
    state: Arc<LogState>,
    turn: u64,
    /// It could not write; lines that come before the next attempt are dropped.
    failing: Option<Failing>,
}

struct Failing {
    pause: Duration,
    again: Instant,
    dropped: u64,
}

impl Writer {
    fn run(mut self, pages: &Receiver<LogPage>) {
        while let Some(page) = self.state.next(pages) {
            self.take(&page);
        }
    }

    fn take(&mut self, page: &LogPage) {
        if page.turn != self.turn {
            self.turn = page.turn;
            self.sink.close();
            self.failing = None;
        }
        if page.lines == 0 {
            return;
        }
        match &mut self.failing {
            Some(failing) if Instant::now() < failing.again => {
                failing.dropped += page.lines;
                self.state.drop_lines(DropReason::Write, page.lines);
            }
            _ => match self.sink.write(page) {
                Ok(()) => self.succeeded(),
                Err(unwritten) => self.failed(&unwritten),
            },
        }
    }

    fn succeeded(&mut self) {
        if let Some(Failing { dropped, .. }) = self.failing.take() {
            info!("the access log {} is written again; {dropped} lines were dropped", self.name);
        }
    }

    fn failed(&mut self, Unwritten { lines, error }: &Unwritten) {
        self.state.drop_lines(DropReason::Write, *lines);
        let before = self.failing.take();
        if before.is_none() {
            warn!("the access log {} cannot be written, and its lines are dropped meanwhile: {error}", self.name);
        }
        let pause = before.as_ref().map_or(FIRST_PAUSE, |before| (before.pause * 2).min(LONGEST_PAUSE));
        let dropped = before.map_or(0, |before| before.dropped) + lines;
        self.failing = Some(Failing { pause, again: Instant::now() + pause, dropped });
    }
}
