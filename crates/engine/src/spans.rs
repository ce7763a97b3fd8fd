//! Spans of traces on their way from the workers to the task that sends them: one bounded queue that nobody waits for, and
//! the number of spans that were sent and dropped. Encodes nothing, sends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How many spans may wait for the task.
const WAITING: usize = 8192;

/// Which side of a request a span shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// The request, as the client sees it.
    Server,
    /// One attempt at an instance.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanValue {
    /// A text.
    Text(Box<str>),
    /// A number.
    Number(i64),
}

/// One span of a trace.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace that it is of, never 0.
    pub trace: u128,
    /// Its id, never 0.
    pub id: u64,
    /// The id of the span above it; 0: there is none.
    pub parent: u64,
    /// What `tracestate` said; empty: nothing.
    pub state: Arc<str>,
    /// Which side it shows.
    pub kind: SpanKind,
    /// Its name: the request's method.
    pub name: Box<str>,
    /// When it began, nanoseconds since 1970.
    pub begin: u64,
    /// When it ended, nanoseconds since 1970.
    pub end: u64,
    /// Names and values.
    pub attributes: Vec<(&'static str, SpanValue)>,
    /// It failed, in the sense of OpenTelemetry.
    pub failed: bool,
    /// How long the request took, if this is its span and the latencies of its service count it.
    pub took: Option<Duration>,
}

/// Why spans were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanDrop {
    /// The queue was full: the collector is slow or away.
    Queue,
    /// The collector did not take them in several attempts.
    Unsent,
    /// The collector refused them.
    Refused,
}

/// The names of the reasons, in their order.
pub const SPAN_DROPS: [&str; 3] = ["queue", "unsent", "refused"];

/// The counts of spans.
#[derive(Debug, Default)]
pub struct SpanCounts {
    sent: AtomicU64,
    dropped: [AtomicU64; SPAN_DROPS.len()],
}

impl SpanCounts {
    /// Counts spans that the collector took.
    pub fn add_sent(&self, spans: usize) {
        self.sent.fetch_add(spans as u64, Relaxed);
    }

    /// Counts spans that were dropped.
    pub fn add_dropped(&self, reason: SpanDrop, spans: usize) {
        self.dropped[reason as usize].fetch_add(spans as u64, Relaxed);
    }

    /// How many spans the collector took.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// How many spans were dropped, by [`SPAN_DROPS`].
    pub fn dropped(&self) -> [u64; SPAN_DROPS.len()] {
        std::array::from_fn(|reason| self.dropped[reason].load(Relaxed))
    }
}

/// A queue of at most `WAITING` spans: the workers' end, and the end to read from.
pub fn span_queue(counts: Arc<SpanCounts>) -> (SpanQueue, SpanReceiver) {
    let (pages, receiver) = unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let receiver = SpanReceiver { pages: receiver, waiting: Arc::clone(&waiting) };
    (SpanQueue { pages, waiting, counts }, receiver)
}

/// The workers' end of the queue.
#[derive(Clone, Debug)]
pub struct SpanQueue {
    /// Bounded by `waiting`: a page may hold one span or many.
    pages: UnboundedSender<Vec<Span>>,
    waiting: Arc<AtomicUsize>,
    counts: Arc<SpanCounts>,
}

impl SpanQueue {
    /// Passes spans on, or drops and counts them.
    pub fn pass_on(&self, page: Vec<Span>) {
        let spans = page.len();
        let before = self.waiting.fetch_add(spans, Relaxed);
        if before + spans > WAITING || self.pages.send(page).is_err() {
            self.waiting.fetch_sub(spans, Relaxed);
            self.counts.add_dropped(SpanDrop::Queue, spans);
        }
    }
}

/// The end to read from.
#[derive(Debug)]
pub struct SpanReceiver {
    pages: UnboundedReceiver<Vec<Span>>,
    waiting: Arc<AtomicUsize>,
}

impl SpanReceiver {
    /// Waits for the next page. `None`: the queue is closed and empty. May be dropped at any moment.
    pub async fn next(&mut self) -> Option<Vec<Span>> {
        let page = self.pages.recv().await?;
        self.waiting.fetch_sub(page.len(), Relaxed);
        Some(page)
    }

    /// Takes nothing more in: what waits is still read.
    pub fn close(&mut self) {
        self.pages.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_never_waited_for() {
        let span = Span {
            trace: 1,
            id: 2,
            parent: 0,
            state: "".into(),
            kind: SpanKind::Server,
            name: "GET".into(),
            begin: 0,
            end: 1,
            attributes: Vec::new(),
            failed: false,
            took: None,
        };
        let counts = Arc::new(SpanCounts::default());
        let (queue, mut receiver) = span_queue(Arc::clone(&counts));
        (0..WAITING).for_each(|_| queue.pass_on(vec![span.clone()]));
        assert_eq!(counts.dropped(), [0, 0, 0]);
        queue.pass_on(vec![span.clone(), span.clone()]);
        assert_eq!(counts.dropped(), [2, 0, 0]);
        receiver.next().await;
        queue.pass_on(vec![span.clone()]);
        assert_eq!(counts.dropped(), [2, 0, 0], "there was a place");
        receiver.close();
        queue.pass_on(vec![span]);
        assert_eq!(counts.dropped(), [3, 0, 0]);
        let mut left = 0;
        while let Some(page) = receiver.next().await {
            left += page.len();
        }
        assert_eq!(left, WAITING);
    }
}
