//! One HTTP/2 client connection: a task for each of its requests (RFC 9113). Bounds what a client may make us hold, and
//! ends a connection that does not move.
//!
//! | bound | value |
//! |---|---|
//! | requests at once | `config/limit/streams` |
//! | head, as decoded | [`HEAD`] |
//! | unread bytes of a request's body, of all bodies | [`WINDOW`], [`CONNECTION_WINDOW`] |
//! | bytes of responses in our memory | [`SEND_BUFFER`] each |
//! | requests that were reset before we began them | [`RESETS`] |
//! | bytes of responses in our memory, of all requests | see `http2::backlog` |
//! | frames that move nothing | see `http2::glitches` |

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request as Http2Head;
use pointsman_engine::seldom::untold_failures;
use pointsman_wire::{BodyLength, Http2Request, judge_http2_request};
use tracing::warn;

use crate::exchange::context::Cx;
use crate::exchange::decide::{Decision, Request, decide, head_limits, refused};
use crate::exchange::exchange;
use crate::exchange::sides::Downstream;
use crate::exchange::traced::note;
use crate::fault::Fault;
use crate::http1::client::After;
use crate::http2::backlog::Backlog;
use crate::http2::carrier::{FrameCarrier, Stalled};
use crate::http2::fields;
use crate::http2::glitches::{Breach, Glitches};
use crate::http2::outgoing::Outgoing;
use crate::http2::recv::Recv;
use crate::http2::turn::Turn;
use crate::net::deadline::Deadline;
use crate::net::peer::Peer;
use crate::net::stream::Stream;
use crate::pool::announced::Announced;
use crate::pool::logins::Logins;
use crate::record::{self, Record, begins};
use crate::worker::{Counted, Worker};

/// The largest head, names and values and 32 bytes a field, bytes.
const HEAD: u32 = 64 * 1024;
/// How much of a request's body may come before it is read, bytes.
const WINDOW: u32 = 256 * 1024;
/// The same for all bodies of a connection.
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// How much of a response is held until the connection takes it, bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// How many requests may be reset before we have begun them: more are a flood (CVE-2023-44487).
const RESETS: usize = 32;
/// How many streams may end with an error of the client's, before the connection ends.
const ERRORS: usize = 256;
/// How long the last frames may take when a connection ends, milliseconds.
const GRACE: u64 = 1_000;

/// Serves a connection until it is over. `early`: what was read of it already.
pub(crate) async fn serve(counted: Counted, stream: Stream, peer: Peer, early: Vec<u8>) {
    let place = Rc::new(ClientPlace { counted, running: Cell::new(0), rested: Cell::new(0) });
    let worker = place.counted.worker();
    let deadline = worker.timers.deadline();
    let glitches = Rc::new(Glitches::new(deadline.now()));
    let backlog = Rc::default();
    let carrier = FrameCarrier::new(stream, early, &worker.timers).watched(&glitches, &backlog);
    let stalled = carrier.stalled();
    let globals = Rc::clone(&worker.view().globals);
    let handshake = builder(globals.config.streams).handshake(carrier);
    let limit = globals.config.timeouts.head;
    let connection = match deadline.within(limit, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return failed(worker, &peer, &error),
        Err(_) => return record::connection_refused(worker, Fault::HeadTimeout),
    };
    let (is_ending, ends) = (Cell::new(false), Cell::new(u64::MAX));
    let (accepted, is_settled) = (Cell::new(0), Cell::new(false));
    let multiplex = Multiplex {
        worker: Rc::clone(worker),
        place: Rc::clone(&place),
        peer,
        stalled,
        glitches,
        backlog,
        is_ending,
        ends,
        accepted,
        is_settled,
    };
    let outcome = multiplex.run(connection, &deadline).await;
    match (multiplex.glitches.breach(), outcome) {
        (Some(Breach::Flood), _) => ended(worker, &multiplex.peer, "too many frames that move nothing"),
        (Some(Breach::NoSettings), _) => ended(worker, &multiplex.peer, "its first frame is not SETTINGS"),
        (None, Err(error)) => failed(worker, &multiplex.peer, &error),
        (None, Ok(())) => {}
    }
}

fn builder(streams: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(u32::try_from(streams).unwrap_or(u32::MAX))
        .max_header_list_size(HEAD)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(ERRORS))
        .enable_connect_protocol();
    builder
}

/// Counts a connection that ended because the client broke the protocol.
fn failed(worker: &Worker, peer: &Peer, error: &h2::Error) {
    if !error.is_io() && !error.is_remote() {
        ended(worker, peer, &error.to_string());
    }
}

/// Counts a connection that we ended, and logs it at a limited rate.
#[cold]
fn ended(worker: &Worker, peer: &Peer, why: &str) {
    record::connection_refused(worker, Fault::Http2);
    if let Some(untold) = worker.home.registry.ungreeted().happened(worker.timers.now()) {
        let (name, more) = (Fault::Http2.facts().name, untold_failures(untold));
        warn!("{name}: ended the HTTP/2 connection of {}: {why}{more}", peer.client);
    }
}

/// What a connection and its requests hold together. A request may be at work when its client, or even the connection, is
/// gone: until then the connection counts.
struct ClientPlace {
    counted: Counted,
    /// Requests at work.
    running: Cell<usize>,
    /// When the last of them ended, coarse time.
    rested: Cell<u64>,
}

/// A request at work.
struct Running(Rc<ClientPlace>);

impl Running {
    fn new(place: &Rc<ClientPlace>) -> Self {
        place.running.set(place.running.get() + 1);
        Self(Rc::clone(place))
    }

    fn worker(&self) -> &Rc<Worker> {
        self.0.counted.worker()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.rested.set(self.worker().timers.now());
    }
}

/// A connection, and what its requests share.
struct Multiplex {
    worker: Rc<Worker>,
    place: Rc<ClientPlace>,
    peer: Peer,
    stalled: Stalled,
    glitches: Rc<Glitches>,
    backlog: Rc<Backlog>,
    /// The client was told to begin no more requests.
    is_ending: Cell<bool>,
    /// Until when its last frames may be sent, coarse time, once no request is left.
    ends: Cell<u64>,
    /// Requests so far.
    accepted: Cell<u64>,
    /// The connection was polled until it waits, and holds no other request: it need not be polled again before it
    /// wakes its task.
    is_settled: Cell<bool>,
}

type Frames = Connection<FrameCarrier, Bytes>;
type Came = (Http2Head<RecvStream>, SendResponse<Bytes>);

/// What happens on a connection.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Event {
    /// A request, or the end.
    Came(Option<Result<Came, h2::Error>>),
    /// Its last request ended.
    Rests,
}

impl Multiplex {
    async fn run(&self, mut connection: Frames, deadline: &Deadline) -> Result<(), h2::Error> {
        loop {
            let event = match connection.has_streams() {
                true => self.busy(&mut connection, deadline).await,
                false => self.idle(&mut connection, deadline).await,
            };
            match event {
                Some(Event::Came(Some(Ok((_, mut respond))))) if self.is_full() => {
                    respond.send_reset(Reason::REFUSED_STREAM);
                }
                Some(Event::Came(Some(Ok((head, respond))))) => {
                    let out = Outgoing::response(respond, &self.backlog);
                    // Boxed, as the runtime moves what it is given several times.
                    let turn = Box::pin(serve_one(Running::new(&self.place), self.peer.clone(), head, out));
                    drop(tokio::task::spawn_local(turn));
                }
                Some(Event::Came(Some(Err(error)))) => return Err(error),
                Some(Event::Rests) => {}
                Some(Event::Came(None)) | None => return Ok(()),
            }
        }
    }

    /// Whether twice as many requests are at work as the client may begin: it has left some behind.
    fn is_full(&self) -> bool {
        self.place.running.get() >= 2 * self.worker.view().globals.config.streams
    }

    /// Since when the client has taken nothing, with all answers handed over: it keeps a window shut, coarse time. `None`: it
    /// takes them, or is owed one.
    fn shut_since(&self) -> Option<u64> {
        let since = self.place.rested.get().max(self.backlog.moved());
        (self.place.running.get() == 0).then_some(since)
    }

    /// Waits while requests are at work. `None`: the client takes nothing any more.
    async fn busy(&self, connection: &mut Frames, deadline: &Deadline) -> Option<Event> {
        let client = self.worker.view().globals.config.timeouts.client;
        // What began before the client knew that it should not is finished.
        let ends = || if self.glitches.breach().is_some() { self.ends.get() } else { u64::MAX };
        let stalled = || Some(self.stalled.get()).filter(|since| *since != u64::MAX).or_else(|| self.shut_since());
        let late = || stalled().map_or(u64::MAX, |since| deadline.later(since, client)).min(ends());
        deadline.watched(late, poll_fn(|context| self.poll(connection, true, context))).await.ok()
    }

    /// Waits for a request. `None`: the connection is over.
    async fn idle(&self, connection: &mut Frames, deadline: &Deadline) -> Option<Event> {
        let idle = deadline.idle();
        let at = deadline.after(self.worker.view().globals.config.timeouts.keep_alive);
        self.worker.stats().idle.add(1);
        if self.ends.get() != u64::MAX && self.glitches.breach().is_none() {
            self.ends.set(deadline.now() + GRACE);
        }
        let until = || self.worker.idle_until(&idle, at).min(self.ends.get());
        let mut event = deadline.watched(until, poll_fn(|context| self.poll(connection, false, context))).await;
        if event.is_err() && !idle.is_evicted() && self.ends.get() == u64::MAX {
            self.end(connection);
            self.ends.set(deadline.now() + GRACE);
            let until = || self.worker.idle_until(&idle, self.ends.get());
            event = deadline.watched(until, poll_fn(|context| self.poll(connection, false, context))).await;
        }
        self.worker.stats().idle.sub(1);
        event.ok()
    }

    fn poll(&self, connection: &mut Frames, is_busy: bool, context: &mut Context<'_>) -> Poll<Event> {
        if self.is_settled.take() {
            return Poll::Pending;
        }
        if self.worker.is_draining() {
            self.end(connection);
        }
        let mut polled = connection.poll_accept(context);
        self.worker.stats().glitches.add(self.glitches.take());
        if self.cut_off(connection) {
            polled = connection.poll_accept(context);
        }
        match polled {
            Poll::Ready(came) => {
                self.accepted.set(self.accepted.get() + 1);
                self.is_settled.set(self.accepted.get() == self.glitches.heads());
                Poll::Ready(Event::Came(came))
            }
            Poll::Pending if is_busy && !connection.has_streams() => {
                self.is_settled.set(true);
                Poll::Ready(Event::Rests)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ends the connection of a client that flooded it, or did not begin it properly; returns whether it did so now.
    fn cut_off(&self, connection: &mut Frames) -> bool {
        let Some(breach) = self.glitches.breach().filter(|_| self.ends.get() == u64::MAX) else { return false };
        connection.abrupt_shutdown(match breach {
            Breach::NoSettings => Reason::PROTOCOL_ERROR,
            Breach::Flood => Reason::ENHANCE_YOUR_CALM,
        });
        self.ends.set(self.worker.timers.now() + GRACE);
        true
    }

    /// Tells the client to begin no more requests, in two steps (RFC 9113 §6.8): those that it has begun are served.
    fn end(&self, connection: &mut Frames) {
        if !self.is_ending.replace(true) {
            connection.graceful_shutdown();
        }
    }
}

/// Serves one request of a connection. What it takes is where it stays, as a request may wait for long.
fn serve_one(
    running: Running,
    mut peer: Peer,
    head: Http2Head<RecvStream>,
    out: Outgoing,
) -> impl Future<Output = ()> + use<> {
    let started = begins();
    let (parts, body) = head.into_parts();
    let mut turn = Turn {
        recv: Recv::request(body),
        out,
        head_request: parts.method == http::Method::HEAD,
        is_grpc: fields::is_grpc(&parts.headers),
    };
    let parts = Box::new(parts);
    async move {
        let worker = running.worker();
        let globals = Rc::clone(&worker.view().globals);
        let request = judge(worker, &mut peer, &parts, turn.recv.has_ended());
        drop(parts);
        if request.decision.asks() {
            turn.recv.drop_trailers();
        }
        let (deadline, logins, announced) = (worker.timers.deadline(), Logins::default(), Announced::default());
        let cx = Cx {
            worker,
            globals,
            peer: &peer,
            deadline: &deadline,
            logins: &logins,
            announced: &announced,
            record: Record::new(started),
            edits: None,
        };
        let after = Box::pin(exchange(cx, request, Downstream::Http2(&mut turn))).await;
        if matches!(after, After::Reset | After::Broken) {
            // What was sent so far reaches the connection first: a reset takes it back.
            tokio::task::yield_now().await;
        }
        match after {
            // RFC 8441 §5: what would be a reset of the TCP connection.
            After::Abort | After::Broken => turn.reset(Reason::CANCEL),
            // Nothing is broken off when all was sent.
            After::Keep | After::Linger | After::Close | After::Reset => turn.reset(Reason::INTERNAL_ERROR),
        }
        if after != After::Abort && !turn.recv.has_ended() {
            // Boxed, as few requests are answered early.
            Box::pin(turn.linger(&deadline)).await;
        }
    }
}

/// Judges a head, with the newest table.
fn judge(worker: &Worker, peer: &mut Peer, parts: &http::request::Parts, is_whole: bool) -> Request {
    let view = worker.view();
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    let pseudo = Http2Request {
        method: parts.method.as_str(),
        authority: parts.uri.authority().map(|authority| authority.as_str()),
        path: parts.uri.path_and_query().map_or("", |path| path.as_str()),
        protocol: protocol.map(|protocol| protocol.as_str()),
        is_whole,
    };
    let headers = fields::lines(&parts.headers);
    let head = match judge_http2_request(pseudo, &headers, head_limits(&view.globals.config)) {
        Ok(head) => head,
        Err(bad) => {
            let noted = worker.access.as_ref().and_then(|access| access.note_bare(None, view.table.revision(), peer));
            return Request { decision: Decision::Refuse(Fault::BadRequest(bad)), whole: is_whole, noted };
        }
    };
    peer.hear(&head, &view.globals.config.trusted_proxies);
    let mut id = String::new();
    let mut decision = decide(worker, &view, &head, peer, &mut id);
    if let Decision::Refuse(fault) = decision {
        decision = refused((worker, &view), peer, &head, fault);
    }
    let noted = worker.access.as_deref().and_then(|access| {
        let when = (None, view.table.revision());
        note((access, worker), (&head, "HTTP/2.0", &id), when, peer, &mut decision)
    });
    if let Some(plan) = decision.plan_mut() {
        plan.fit(&worker.buffers);
    }
    Request { decision, whole: matches!(head.body, BodyLength::None | BodyLength::Length(0)), noted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    fn three<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// A client may have a hundred requests wait. The bounds are sizes that the allocator has.
    #[test]
    fn a_request_that_waits_is_small() {
        let task = four(serve_one);
        let exchange = three(|cx: Cx<'static>, request, downstream| exchange(cx, request, downstream));
        assert!(task <= 896 && exchange <= 1_024, "task {task}, exchange {exchange}");
    }
}
