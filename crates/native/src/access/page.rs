//! A worker's unwritten lines and spans: passed on when there are many, or with the next tick of the clock. Never waits.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use pointsman_engine::access::LogQueue;
use pointsman_engine::spans::{Span, SpanQueue};
use pointsman_table::Protocol;
use pointsman_wire::RequestHead;

use super::entry::{LogEntry, Open};
use super::line::{LineFormat, LineWriter, place_of};
use super::noted::{HeadWords, Noted};
use super::parent::TraceParent;
use super::spans;
use super::trace::{self, Course};
use crate::fault::Fault;
use crate::net::peer::Peer;
use crate::pool::view::ServiceLive;

/// How many bytes a page has before it is passed on.
const FULL: usize = 64 * 1024;
/// How many spans are kept before they are passed on.
const MANY_SPANS: usize = 128;

/// How many requests a tick are kept for readers without a log file. Beyond them, only those that somebody looks for at a
/// time like that: nobody reads so many, and each costs more than its line in the log.
const RECENT_EACH_TICK: u32 = 100;
/// Requests that took as long are looked for, milliseconds.
const SLOW: u32 = 1_000;

/// What is logged of requests, and where the lines go.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// How a line is written.
    pub format: LineFormat,
    /// The share of requests without a fault that are logged.
    pub sample: f64,
    /// Where lines go.
    pub queue: LogQueue,
}

/// Which requests are traced, and where their spans go.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The share of requests that are recorded, of those whose caller has not decided.
    pub share: f64,
    /// Where spans go.
    pub queue: SpanQueue,
}

/// What is observed of requests.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// What is logged; `None`: nothing.
    pub log: Option<AccessLog>,
    /// What is traced; `None`: nothing.
    pub traces: Option<TraceSettings>,
}

/// A worker's spans that were not passed on yet.
#[derive(Debug)]
struct Tracer {
    settings: TraceSettings,
    /// Where `User-Agent` is among the headers that are noted.
    user_agent: usize,
    spans: RefCell<Vec<Span>>,
}

impl Tracer {
    fn pass_on(&self, least: usize) {
        if self.spans.borrow().len() >= least.max(1) {
            self.settings.queue.pass_on(self.spans.take());
        }
    }
}

/// The lines of one format that were not passed on yet.
#[derive(Debug)]
struct Unwritten {
    writer: LineWriter,
    text: Vec<u8>,
    lines: u64,
}

impl Unwritten {
    fn new(writer: LineWriter) -> Self {
        Self { writer, text: Vec::new(), lines: 0 }
    }

    fn add(&mut self, entry: &LogEntry<'_>) {
        self.writer.write(entry, &mut self.text);
        self.lines += 1;
    }

    /// Empties the page, whose memory is used again.
    fn pass_on(&mut self, take: impl FnOnce(&[u8], u64)) {
        if self.lines > 0 {
            take(&self.text, self.lines);
            self.text.clear();
            self.lines = 0;
        }
    }
}

/// One worker's part of the access log.
#[derive(Debug)]
pub(crate) struct Access {
    sample: f64,
    /// The headers that are noted.
    headers: Box<[Box<str>]>,
    page: Option<RefCell<Unwritten>>,
    recent: Option<RefCell<Unwritten>>,
    /// How many more are kept for such readers before the next tick.
    recent_left: Cell<u32>,
    queue: LogQueue,
    /// Lines tell the trace of their request.
    tells_trace: bool,
    tracer: Option<Tracer>,
}

/// How a request or a connection ended, beside what was noted of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) kind: Protocol,
    pub(crate) service: Option<&'a str>,
    pub(crate) instance: Option<&'a str>,
    pub(crate) status: Option<u16>,
    pub(crate) fault: Option<Fault>,
    pub(crate) open: Open,
    pub(crate) live: Option<&'a ServiceLive>,
    /// How long it took, if the latencies of its service count it.
    pub(crate) took: Option<Duration>,
}

impl Access {
    /// `None`: nothing is observed.
    pub(crate) fn new(Observed { log, traces }: Observed) -> Option<Box<Self>> {
        if log.is_none() && traces.is_none() {
            return None;
        }
        let usual = || AccessLog { format: LineFormat::Httplog, sample: 0.0, queue: LogQueue::default() };
        let AccessLog { format, sample, queue } = log.unwrap_or_else(usual);
        let tells_trace = queue.has_recent() || (queue.has_destinations() && format.tells_trace());
        let mut headers = Vec::new();
        let page = queue.has_destinations().then(|| Unwritten::new(LineWriter::new(format, &mut headers)));
        let recent = queue.has_recent().then(|| Unwritten::new(LineWriter::in_memory(&mut headers)));
        let (page, recent) = (page.map(RefCell::new), recent.map(RefCell::new));
        let recent_left = Cell::new(RECENT_EACH_TICK);
        let tracer = traces.map(|settings| {
            let user_agent = place_of("user-agent", &mut headers);
            Tracer { settings, user_agent, spans: RefCell::default() }
        });
        Some(Box::new(Self { sample, headers: headers.into(), page, recent, recent_left, queue, tells_trace, tracer }))
    }

    /// Whether requests are logged, all of which are noted then.
    fn is_log(&self) -> bool {
        self.page.is_some() || self.recent.is_some()
    }

    /// What becomes of a request's trace. `draw`: 0 to 1.
    pub(crate) fn course(
        &self,
        (head, peer): (&RequestHead<'_, '_>, &Peer),
        began: Option<Instant>,
        draw: impl FnOnce() -> f64,
    ) -> Course {
        match &self.tracer {
            Some(tracer) => trace::course((head, peer), began, tracer.settings.share, draw),
            None if self.tells_trace => Course::Passed(TraceParent::of(head)),
            None => Course::Passed(None),
        }
    }

    /// Notes a request, if it is logged or its trace recorded. `protocol`: the name of its version; `began`: when its first
    /// byte came, if not just now; `id`: its own, which counts instead of what its client sent; empty: it has none.
    pub(crate) fn note(
        &self,
        (head, protocol, id): (&RequestHead<'_, '_>, &'static str, &str),
        (began, revision): (Option<Instant>, u64),
        peer: &Peer,
        course: Course,
    ) -> Option<Box<Noted>> {
        if !self.is_log() && !matches!(course, Course::Sampled(_)) {
            return None;
        }
        let words = HeadWords::new((head, id), protocol, &self.headers);
        Some(begin((began, revision), Some(words), peer, course))
    }

    /// Notes a request without a head that could be read.
    #[cold]
    pub(crate) fn note_bare(&self, began: Option<Instant>, revision: u64, peer: &Peer) -> Option<Box<Noted>> {
        self.is_log().then(|| begin((began, revision), None, peer, Course::Passed(None)))
    }

    /// Notes a connection of a TCP service.
    #[cold]
    pub(crate) fn note_connection(&self, revision: u64, peer: &Peer) -> Option<Box<Noted>> {
        let noted = self.note_bare(None, revision, peer);
        noted.iter().for_each(|noted| noted.waits());
        noted
    }

    /// Writes the line of a request that ended into the page, if it is to be logged.
    pub(crate) fn log(&self, noted: &Noted, peer: &Peer, ended: Ended<'_>, draw: impl FnOnce() -> f64) {
        let Ended { kind, service, instance, status, fault, open, live, took } = ended;
        let entry = LogEntry::of(noted, kind, peer.other_end(), fault);
        let open = Open { queue: entry.open.queue, ..open };
        let (client, tls) = (peer.client, peer.tls());
        // HAProxy's word for answers of its own.
        let is_local = kind == Protocol::Http && fault.is_none() && instance.is_none();
        let letters = if is_local { *b"LR" } else { entry.letters };
        let entry = LogEntry { client, tls, service, instance, status, open, letters, ..entry };
        if let (Some(tracer), Some(trace)) = (&self.tracer, &noted.trace) {
            tracer.spans.borrow_mut().extend(spans::of(&entry, trace, (tracer.user_agent, took), live));
            tracer.pass_on(MANY_SPANS);
        }
        let is_wanted = fault.is_some() || noted.severed.get().is_some() || self.sample >= 1.0 || draw() < self.sample;
        if let Some(page) = self.page.as_ref().filter(|_| is_wanted) {
            page.borrow_mut().add(&entry);
        }
        if let Some(recent) = self.recent.as_ref().filter(|_| self.is_kept(&entry)) {
            recent.borrow_mut().add(&entry);
        }
        self.pass_on(FULL);
    }

    /// Whether a request is kept for readers without a log file.
    fn is_kept(&self, entry: &LogEntry<'_>) -> bool {
        let left = self.recent_left.get();
        self.recent_left.set(left.saturating_sub(1));
        left > 0 || entry.fault.is_some() || entry.status.is_some_and(|status| status >= 500) || entry.total >= SLOW
    }

    /// Passes on what there is, at every tick of the clock.
    pub(crate) fn tick(&self) {
        self.recent_left.set(RECENT_EACH_TICK);
        self.pass_on(0);
        self.tracer.iter().for_each(|tracer| tracer.pass_on(0));
    }

    /// Passes lines on if there are this many bytes of them.
    fn pass_on(&self, least: usize) {
        let pass = |unwritten: &Option<RefCell<Unwritten>>, take: &dyn Fn(&[u8], u64)| {
            if let Some(mut page) = unwritten.as_ref().map(RefCell::borrow_mut)
                && page.text.len() >= least
            {
                page.pass_on(take);
            }
        };
        pass(&self.page, &|text, lines| self.queue.pass_on(text, lines));
        pass(&self.recent, &|text, lines| self.queue.pass_on_recent(text, lines));
    }
}

fn begin(
    (began, revision): (Option<Instant>, u64),
    words: Option<HeadWords>,
    peer: &Peer,
    course: Course,
) -> Box<Noted> {
    let mut noted = Box::new(Noted::new(began, words, revision, course));
    noted.listener = peer.local();
    noted
}
