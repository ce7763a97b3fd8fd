//! A worker's unwritten lines: passed on when there are many, or with the next tick of the clock. Never waits.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use pointsman_engine::access::LogQueue;
use pointsman_table::Protocol;
use pointsman_wire::RequestHead;

use super::entry::{LogEntry, Open};
use super::line::{LineFormat, LineWriter};
use super::noted::{HeadWords, Noted, protocol};
use crate::fault::Fault;
use crate::net::peer::Peer;

/// How many bytes a page has before it is passed on.
const FULL: usize = 64 * 1024;

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
}

impl Access {
    pub(crate) fn new(log: AccessLog) -> Box<Self> {
        let AccessLog { format, sample, queue } = log;
        let mut headers = Vec::new();
        let page = queue.has_destinations().then(|| Unwritten::new(LineWriter::new(format, &mut headers)));
        let recent = queue.has_recent().then(|| Unwritten::new(LineWriter::new(LineFormat::Json, &mut headers)));
        let (page, recent) = (page.map(RefCell::new), recent.map(RefCell::new));
        let recent_left = Cell::new(RECENT_EACH_TICK);
        Box::new(Self { sample, headers: headers.into(), page, recent, recent_left, queue })
    }

    /// Notes a request of HTTP/1. `began`: when its first byte came, if not just now.
    #[inline(never)]
    pub(crate) fn note(
        &self,
        head: &RequestHead<'_, '_>,
        (began, revision): (Option<Instant>, u64),
        peer: &Peer,
    ) -> Box<Noted> {
        self.begin((began, revision), Some(HeadWords::new(head, protocol(head.version), &self.headers)), peer)
    }

    /// Notes a request of HTTP/2.
    #[inline(never)]
    pub(crate) fn note_stream(&self, head: &RequestHead<'_, '_>, revision: u64, peer: &Peer) -> Box<Noted> {
        self.begin((None, revision), Some(HeadWords::new(head, "HTTP/2.0", &self.headers)), peer)
    }

    /// Notes a request without a head that could be read.
    #[cold]
    pub(crate) fn note_bare(&self, began: Option<Instant>, revision: u64, peer: &Peer) -> Box<Noted> {
        self.begin((began, revision), None, peer)
    }

    /// Notes a connection of a TCP service.
    #[cold]
    pub(crate) fn note_connection(&self, revision: u64, peer: &Peer) -> Box<Noted> {
        let noted = self.begin((None, revision), None, peer);
        noted.waits();
        noted
    }

    fn begin(&self, (began, revision): (Option<Instant>, u64), words: Option<HeadWords>, peer: &Peer) -> Box<Noted> {
        let mut noted = Box::new(Noted::new(began, words, revision));
        noted.listener = peer.local();
        noted
    }

    /// Writes the line of a request that ended into the page, if it is to be logged.
    pub(crate) fn log(&self, noted: &Noted, peer: &Peer, ended: Ended<'_>, draw: impl FnOnce() -> f64) {
        let Ended { kind, service, instance, status, fault, open } = ended;
        let entry = LogEntry::of(noted, kind, peer.other_end(), fault);
        let open = Open { queue: entry.open.queue, ..open };
        let (client, tls) = (peer.client, peer.tls());
        // HAProxy's word for answers of its own.
        let is_local = kind == Protocol::Http && fault.is_none() && instance.is_none();
        let letters = if is_local { *b"LR" } else { entry.letters };
        let entry = LogEntry { client, tls, service, instance, status, open, letters, ..entry };
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
