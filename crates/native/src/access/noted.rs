//! What is noted of one request while it is served, if anybody wants to know. Costs memory for as long as the request lasts.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pointsman_wire::{RequestHead, Version};
use smallvec::SmallVec;

use super::ending::{Passed, Severed};
use super::trace::{Course, Trace};
use crate::fault::Fault;
use crate::pool::dials::Dials;
use crate::pool::pick::Tried;

/// The header that has the id of a request.
pub(crate) const REQUEST_ID: &str = "X-Request-Id";
/// The longest target, host or header that is noted, bytes.
const LONGEST: usize = 8 * 1024;
/// Method, target, host, and the headers of the usual formats.
const USUAL_PARTS: usize = 6;

/// What is noted of one request, or of one connection of a TCP service.
#[derive(Debug)]
pub(crate) struct Noted {
    /// When it began, milliseconds since 1970.
    pub(super) at: u64,
    began: Instant,
    /// What its head says; `None`: it had none, or one that could not be read.
    pub(super) words: Option<HeadWords>,
    /// The table's revision.
    pub(super) revision: u64,
    /// The id of its trace; 0: none is known.
    pub(super) trace_id: u128,
    /// Its trace, if that is recorded.
    pub(crate) trace: Option<Box<Trace>>,
    /// What the client connected to, if that is known.
    pub(super) listener: Option<SocketAddr>,
    /// Milliseconds from its first byte to the end of its head.
    pub(super) head: Option<u32>,
    /// Milliseconds that it waited for a place, before an instance was looked for.
    admission: Cell<u32>,
    /// Milliseconds in the queue and for the connection; `None`: it did not come that far.
    pub(super) queue: Cell<Option<u32>>,
    pub(super) connect: Cell<Option<u32>>,
    /// Milliseconds from its beginning to the response's head.
    answered: Cell<Option<u32>>,
    pub(super) passed: Cell<Passed>,
    pub(super) bytes_in: Cell<u64>,
    pub(super) bytes_out: Cell<u64>,
    /// How often it was sent again.
    pub(super) retries: Cell<u32>,
    /// How often it went to another instance because one did not take the connection.
    pub(super) redispatches: Cell<u32>,
    /// How many requests were in the queue that it had to wait in.
    pub(super) queued: Cell<u32>,
    /// The cookie of its client and that of its answer, in HAProxy's letters.
    pub(crate) cookies: Cell<[u8; 2]>,
    /// The instance that was tried last, if none took the connection.
    pub(crate) refused_by: Cell<Option<u32>>,
    /// Why its relay of bytes was cut.
    pub(super) severed: Cell<Option<Severed>>,
    /// The user whose password it brought.
    user: OnceCell<Box<str>>,
}

/// What a head says.
#[derive(Debug)]
pub(super) struct HeadWords {
    /// Method, target, host, and the values of headers, one after another.
    text: Vec<u8>,
    /// Where each ends. A header that is missing ends where it begins.
    ends: SmallVec<[u32; USUAL_PARTS]>,
    pub(super) protocol: &'static str,
}

impl HeadWords {
    /// `headers`: names of the headers to note; `id`: what counts as the request's id, whatever its head says, if not empty.
    pub(super) fn new((head, id): (&RequestHead<'_, '_>, &str), protocol: &'static str, headers: &[Box<str>]) -> Self {
        let values = headers.iter().map(|name| match !id.is_empty() && name.eq_ignore_ascii_case(REQUEST_ID) {
            true => id.as_bytes(),
            false => head.header(name).unwrap_or_default(),
        });
        let all = [head.method.as_bytes(), head.target.as_bytes(), head.host.as_bytes()].into_iter().chain(values);
        let parts: SmallVec<[&[u8]; USUAL_PARTS]> = all.map(|part| &part[..part.len().min(LONGEST)]).collect();
        let mut text = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        let end = |part: &&[u8]| {
            text.extend_from_slice(part);
            u32::try_from(text.len()).unwrap_or(u32::MAX)
        };
        let ends = parts.iter().map(end).collect();
        Self { text, ends, protocol }
    }

    fn part(&self, index: usize) -> &[u8] {
        let from = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let part = self.ends.get(index).and_then(|end| self.text.get(from as usize..*end as usize));
        part.unwrap_or_default()
    }

    pub(super) fn method(&self) -> &[u8] {
        self.part(0)
    }

    pub(super) fn target(&self) -> &[u8] {
        self.part(1)
    }

    pub(super) fn host(&self) -> &[u8] {
        self.part(2)
    }

    /// The value of a header, by its place among those that are noted.
    pub(super) fn header(&self, place: usize) -> &[u8] {
        self.part(3 + place)
    }
}

/// The name of a version of HTTP/1.
pub(crate) fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

impl Noted {
    /// Begins now, or began then.
    pub(super) fn new(began: Option<Instant>, words: Option<HeadWords>, revision: u64, course: Course) -> Self {
        #[expect(clippy::disallowed_methods, reason = "only when requests are logged")]
        let now = Instant::now();
        let began = began.unwrap_or(now);
        let head = words.is_some().then(|| millis(now.saturating_duration_since(began).as_millis()));
        #[expect(clippy::disallowed_methods, reason = "the date in the log")]
        let date =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() - now.saturating_duration_since(began);
        Self {
            at: u64::try_from(date.as_millis()).unwrap_or(0),
            began,
            words,
            revision,
            trace_id: course.id(),
            trace: if let Course::Sampled(trace) = course { Some(trace) } else { None },
            listener: None,
            head,
            admission: Cell::new(0),
            queue: Cell::new(None),
            connect: Cell::new(None),
            answered: Cell::new(None),
            passed: Cell::new(Passed::Asking),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            retries: Cell::new(0),
            redispatches: Cell::new(0),
            queued: Cell::new(0),
            cookies: Cell::new(*b"--"),
            refused_by: Cell::new(None),
            severed: Cell::new(None),
            user: OnceCell::new(),
        }
    }

    /// Milliseconds since it began.
    pub(super) fn total(&self) -> u32 {
        millis(self.began.elapsed().as_millis())
    }

    /// Milliseconds from the connection to the response's head.
    pub(super) fn first_byte(&self) -> Option<u32> {
        let before = [self.head, self.queue.get(), self.connect.get()].into_iter().flatten().sum();
        self.answered.get().map(|answered| answered.saturating_sub(before))
    }

    /// It is for a service, and waits for its place there or for an instance.
    pub(crate) fn waits(&self) {
        self.passed.set(Passed::Queue);
    }

    /// It has its place at its service, and looks for an instance.
    #[cold]
    pub(crate) fn admitted(&self) {
        self.admission.set(self.total().saturating_sub(self.head.unwrap_or(0)));
    }

    /// An instance was checked out, or not.
    pub(crate) fn checked_out(&self, tried: &Tried, is_reached: bool) {
        self.answered.set(None);
        self.passed.set(match is_reached {
            true => Passed::Answer,
            false if tried.spent.is_connecting => Passed::Connect,
            false => Passed::Queue,
        });
        if is_reached || tried.spent.is_connecting {
            self.queue.set(Some(self.admission.get() + tried.spent.queue));
        }
        self.refused_by.set(tried.last().filter(|_| !is_reached));
        if is_reached {
            self.connect.set(Some(tried.spent.connect));
        }
        self.redispatches.set(tried.spent.redispatches.into());
        self.queued.set(tried.spent.queued.into());
    }

    /// Where new connections for it are noted.
    pub(crate) fn dials(&self) -> Option<&Dials> {
        self.trace.as_ref().map(|trace| &trace.dials)
    }

    /// It is sent again.
    #[cold]
    pub(crate) fn repeated(&self) {
        self.retries.set(self.retries.get() + 1);
        self.trace.iter().for_each(|trace| trace.ended(None));
    }

    /// An attempt met a fault.
    pub(crate) fn failed(&self, fault: Fault) {
        self.trace.iter().for_each(|trace| trace.ended(Some(fault)));
    }

    /// It brought the password of this user.
    #[cold]
    pub(crate) fn user(&self, name: Box<str>) {
        self.user.get_or_init(|| name);
    }

    /// The user whose password it brought; empty: none was asked for.
    pub(super) fn user_name(&self) -> &str {
        self.user.get().map_or("", |name| name)
    }

    /// The response's head has come.
    pub(crate) fn answered(&self, status: u16) {
        self.trace.iter().for_each(|trace| trace.answered(status));
        self.passed.set(Passed::Data);
        self.answered.set(Some(self.total()));
    }

    /// Bytes went to the instance.
    pub(crate) fn up(&self, count: usize) {
        self.bytes_in.set(self.bytes_in.get() + count as u64);
    }

    /// Bytes went to the client.
    pub(crate) fn down(&self, count: usize) {
        self.bytes_out.set(self.bytes_out.get() + count as u64);
    }

    /// Its relay of bytes was cut.
    #[cold]
    pub(crate) fn sever(&self, why: Severed) {
        self.severed.set(self.severed.get().or(Some(why)));
    }

    /// Milliseconds that it has waited, if it left the queue without an instance.
    pub(super) fn wait_so_far(&self) -> u32 {
        self.total().saturating_sub(self.head.unwrap_or(0))
    }
}

fn millis(millis: u128) -> u32 {
    u32::try_from(millis).unwrap_or(u32::MAX)
}
