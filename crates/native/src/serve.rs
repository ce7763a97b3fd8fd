//! One HTTP/1 client connection: requests one after another until either side is done. Holds no buffer while idle.

use std::rc::Rc;
use std::time::Instant;

use pointsman_wire::{
    BodyLength, BodyReader, HeadProgress, HeaderSpace, MAX_HEADERS, begins_head_request, parse_request,
};

use crate::access::{Noted, protocol};
use crate::exchange::context::Cx;
use crate::exchange::decide::{Decision, Gated, Plan, Request, decide, head_limits, refused};
use crate::exchange::exchange;
use crate::exchange::sides::Downstream;
use crate::exchange::traced::note;
use crate::exchange::turned::Turned;
use crate::fault::Fault;
use crate::http1::body::{Moved, transcode};
use crate::http1::client::{After, Client, ClientSide};
use crate::multiplex;
use crate::net::deadline::Deadline;
use crate::net::peer::{Ends, Peer};
use crate::net::stream::Stream;
use crate::pool::announced::Announced;
use crate::pool::logins::Logins;
use crate::pool::view::{Globals, View};
use crate::record::{Record, begins};
use crate::worker::{Counted, Worker};

/// How much of a body is held and sent with the head, bytes: it can be sent again if necessary.
const FIRST_BODY: usize = 32 * 1024;

/// What a client's first bytes of HTTP/2 look like to a reader of HTTP/1 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Serves a client's connection until it is over. One that begins with HTTP/2's preface speaks that.
pub(crate) async fn serve(counted: Counted, stream: Stream, ends: Ends) {
    let mut connection = Connection::new(&counted, stream, ends);
    let mut after = connection.next(true).await;
    while after == After::Keep {
        after = connection.next(false).await;
    }
    if !connection.speaks_http2 {
        return connection.end(after).await;
    }
    let Connection { client: Client { stream, input, .. }, peer, .. } = connection;
    // Boxed: otherwise every connection would hold the memory for it.
    Box::pin(multiplex::serve(counted, stream, peer, input.into_unread())).await;
}

/// Tells a client that there is no room for it.
pub(crate) async fn turn_away(counted: Counted, stream: Stream, ends: Ends) {
    let mut connection = Connection::new(&counted, stream, ends);
    let after = connection.exchange(Request::refused(Fault::TooManyConnections)).await;
    // It is beyond the limit: to end it early would make no room for another.
    connection.client.end(after, &connection.worker.buffers, &connection.deadline, &|| false).await;
}

/// A client's connection, and the state that outlives its requests.
pub(crate) struct Connection<'w> {
    worker: &'w Rc<Worker>,
    client: Client,
    peer: Peer,
    deadline: Deadline,
    logins: Logins,
    announced: Announced,
    /// It began with the preface of HTTP/2.
    speaks_http2: bool,
    /// The globals of the current request, or of the last one.
    globals: Rc<Globals>,
}

impl<'w> Connection<'w> {
    fn new(counted: &'w Counted, stream: Stream, ends: Ends) -> Self {
        let worker = counted.worker();
        let peer = Peer::new(ends, &stream);
        Self {
            worker,
            client: Client::new(stream),
            peer,
            deadline: worker.timers.deadline(),
            logins: Logins::default(),
            announced: Announced::default(),
            speaks_http2: false,
            globals: Rc::clone(&worker.view().globals),
        }
    }

    /// Serves the next request.
    async fn next(&mut self, first: bool) -> After {
        match self.request(first).await {
            Some(request) => self.exchange(request).await,
            None => After::Close,
        }
    }

    async fn exchange(&mut self, request: Request) -> After {
        self.client.input.release(&self.worker.buffers);
        let cx = Cx {
            worker: self.worker,
            globals: Rc::clone(&self.globals),
            peer: &self.peer,
            deadline: &self.deadline,
            logins: &self.logins,
            announced: &self.announced,
            record: Record::new(begins()),
            edits: None,
        };
        // Boxed, so that its memory is held only while it lasts: an idle connection is small.
        Box::pin(exchange(cx, request, Downstream::Http1(&mut self.client))).await
    }

    /// Ends the connection. It counts as idle meanwhile, so that another that needs its place need not wait.
    async fn end(&mut self, after: After) {
        let idle = self.deadline.idle();
        self.client.end(after, &self.worker.buffers, &self.deadline, &|| idle.is_evicted()).await;
    }

    /// Waits for a head and judges it. `None`: the client is done, or sent nothing in time.
    ///
    /// The request sees the table that is the newest when its head is complete.
    async fn request(&mut self, first: bool) -> Option<Request> {
        let came = self.deadline.now();
        self.client.side = ClientSide::UNKNOWN;
        self.peer.forget();
        if self.client.input.unread().is_empty() && !self.wait(first).await {
            return None;
        }
        let began = if first { came } else { self.deadline.now() };
        let (mut by, mut begun) = (None, None);
        let mut progress = HeadProgress::default();
        loop {
            if first && self.begins_preface() {
                self.speaks_http2 = self.client.input.unread().len() >= PREFACE.len();
                if self.speaks_http2 {
                    return None;
                }
            } else if let Some(request) = self.look(&mut progress, begun) {
                return Some(request);
            }
            let (mut from, _) = self.client.stream.split();
            let by = *by.get_or_insert_with(|| {
                // Its sender may hold the rest back until the first part is acknowledged.
                from.acknowledge();
                begun = self.worker.access.is_some().then(begins);
                self.deadline.later(began, self.globals.config.timeouts.head)
            });
            let read = self.client.input.fill(&mut from, &self.worker.buffers);
            match self.deadline.until(by, read).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return None,
                Err(_) => return Some(self.refuse_head(Fault::HeadTimeout, begun)),
            }
        }
    }

    /// Looks at what was read so far, with the newest table. `None`: the head is not complete yet. The table is not kept
    /// while the rest is awaited.
    fn look(&mut self, progress: &mut HeadProgress, begun: Option<Instant>) -> Option<Request> {
        let view = self.worker.view();
        self.globals = Rc::clone(&view.globals);
        let ready = progress.ready(self.client.input.unread(), head_limits(&view.globals.config));
        if ready { self.judge(&view, begun) } else { None }
    }

    /// Whether what was read is the preface of HTTP/2, or the beginning of it.
    fn begins_preface(&self) -> bool {
        let unread = self.client.input.unread();
        unread.starts_with(&PREFACE[..PREFACE.len().min(unread.len())])
    }

    /// Waits for the first bytes of a request. A client that sends none gets no answer.
    async fn wait(&mut self, first: bool) -> bool {
        self.client.input.rest(&self.worker.buffers);
        let timeouts = self.worker.view().globals.config.timeouts;
        let at = self.deadline.after(if first { timeouts.head } else { timeouts.keep_alive });
        let idle = self.deadline.idle();
        let until = || self.worker.idle_until(&idle, at);
        self.worker.stats().idle.add(1);
        let (mut from, _) = self.client.stream.split();
        let read = self.client.input.fill(&mut from, &self.worker.buffers);
        let came = self.deadline.watched(until, read).await;
        self.worker.stats().idle.sub(1);
        matches!(came, Ok(Ok(1..)))
    }

    /// Judges what was read so far; takes a complete head, and the body bytes behind it, out of the input. `None`: the
    /// head is not complete yet. `begun`: when it began, if it came in parts and is noted.
    fn judge(&mut self, view: &View, begun: Option<Instant>) -> Option<Request> {
        let limits = head_limits(&view.globals.config);
        let mut space: HeaderSpace<'_> = [const { std::mem::MaybeUninit::uninit() }; MAX_HEADERS];
        let parsed = parse_request(self.client.input.unread(), limits, &mut space).transpose()?;
        let head = match parsed {
            Ok(head) => head,
            Err(bad) => return Some(self.refuse_head(Fault::BadRequest(bad), begun)),
        };
        self.peer.hear(&head, &view.globals.config.trusted_proxies);
        let mut id = String::new();
        let decision = decide(self.worker, view, &head, &self.peer, &mut id);
        let mut decision = match decision {
            Decision::Refuse(fault) => refused((self.worker, view), &self.peer, &head, fault),
            decision => decision,
        };
        let noted = match self.worker.access.as_deref() {
            None => None,
            Some(access) => {
                let when = (begun, view.table.revision());
                note((access, self.worker), (&head, protocol(head.version), &id), when, &self.peer, &mut decision)
            }
        };
        let no_body = matches!(head.body, BodyLength::None | BodyLength::Length(0));
        self.client.side = ClientSide::of(&head);
        self.client.body = BodyReader::new(head.body, limits.bytes);
        let length = head.len;
        self.client.input.consume(length);
        Some(match decision {
            Decision::Forward(plan) if !no_body => self.with_body(plan, noted),
            Decision::Gated(gated) => self.gated(*gated, noted),
            decision => Request { decision, whole: no_body, noted },
        })
    }

    /// Refuses a head that could not be parsed. Only the method of its request is known, if that.
    fn refuse_head(&mut self, fault: Fault, begun: Option<Instant>) -> Request {
        self.client.side.head_request = begins_head_request(self.client.input.unread());
        let revision = || self.worker.view().table.revision();
        let noted = self.worker.access.as_ref().and_then(|access| access.note_bare(begun, revision(), &self.peer));
        Request { noted, ..Request::refused(fault) }
    }

    /// The same for a request that goes to an instance if what is not known yet lets it.
    #[cold]
    fn gated(&mut self, gated: Gated, noted: Option<Box<Noted>>) -> Request {
        let Gated { gate, then } = gated;
        if gate.asks() {
            self.client.body.drop_trailers();
        }
        let no_body = self.client.body.is_done();
        let request = match then {
            Decision::Forward(plan) => self.with_body(plan, noted),
            then => Request { decision: then, whole: no_body, noted },
        };
        match request.decision {
            // Neither needs to know more: it is malformed, or too large.
            Decision::Refuse(_) => request,
            then => Request { decision: Decision::Gated(Box::new(Gated { gate, then })), ..request },
        }
    }

    /// Takes the body bytes that came with the head. Malformed ones are found before anything is sent.
    fn with_body(&mut self, mut plan: Box<Plan>, noted: Option<Box<Noted>>) -> Request {
        let Client { body, input, .. } = &mut self.client;
        match transcode(body, &plan.writer, input, &mut plan.held, FIRST_BODY) {
            Ok(_) if plan.is_too_large() => {
                let (fault, config) = (Fault::BodyTooLarge, &self.globals.config);
                Request {
                    decision: Decision::Turn(Turned::of_held(
                        (&plan.live, &plan.held, plan.edits.take()),
                        fault,
                        config,
                        &self.peer,
                    )),
                    whole: false,
                    noted,
                }
            }
            Ok(moved) => Request { decision: Decision::Forward(plan), whole: moved == Moved::Done, noted },
            Err(bad) => Request { noted, ..Request::refused(Fault::BadRequestBody(bad)) },
        }
    }
}
