//! Copies of requests for other services, which answer to nobody: they never hold up the original, and have a bound of
//! their own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pointsman_table::WHOLE;
use pointsman_wire::{BodyLength, BodyWriter, RequestHead, Version};

use super::reach::{key, open_for};
use super::sides::Sink;
use crate::http1::client::ClientSide;
use crate::net::peer::Peer;
use crate::pool::announced::OpenFor;
use crate::pool::view::{ServiceLive, View};
use crate::worker::Worker;

/// The longest head and body of a request that is copied, bytes.
const LONGEST: usize = 64 * 1024;

/// The services that get copies of a request, and what is kept of it for them.
#[derive(Debug)]
pub(crate) struct Copies {
    to: Vec<Receiver>,
    client: CopyClient,
    /// Body bytes beyond those that the plan holds, framed as those. `None`: they are too many.
    rest: RefCell<Option<Vec<u8>>>,
    /// All of it has come from the client.
    whole: Cell<bool>,
    /// The body's length, where the head tells it. A client of HTTP/2 may get its answer before it says that this was all.
    length: Option<usize>,
}

/// A service that gets a copy, the key for its balance, and what a new connection is set up with.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) live: Rc<ServiceLive>,
    pub(super) key: Option<u64>,
    pub(super) open_for: Option<Rc<OpenFor>>,
}

/// The client that sent the original. Its connection may be gone before the copies are sent.
#[derive(Clone, Debug)]
pub(super) struct CopyClient {
    pub(super) peer: Peer,
    pub(super) side: ClientSide,
}

impl Copies {
    /// Draws who gets a copy of a request to `live`. `None`: nobody, as usual.
    #[cold]
    pub(super) fn draw(
        (worker, view): (&Worker, &View),
        live: &ServiceLive,
        head: &RequestHead<'_, '_>,
        peer: &Peer,
    ) -> Option<Box<Self>> {
        // A tunnel, or a login that holds for a connection, cannot be copied.
        if head.upgrade.is_some() || head.logs_connection_in {
            return None;
        }
        let is_drawn = |share: u32| worker.home.with_rng(|rng| rng.u32(..WHOLE)) < share;
        let drawn = live.service.mirrors().iter().filter(|(_, share)| is_drawn(*share));
        let lives = drawn.filter_map(|(name, _)| worker.service(view, view.table.target(&live.service, name)?));
        let to: Vec<_> = lives
            .map(|live| Receiver {
                key: key(&live.service.balance, head, peer),
                open_for: open_for(&live, head.host, peer),
                live,
            })
            .collect();
        let side = ClientSide { version: Version::Http11, keep_alive: true, head_request: head.method == "HEAD" };
        let rest = RefCell::new(Some(Vec::new()));
        let whole = Cell::new(false);
        let client = CopyClient { peer: peer.clone(), side };
        let length = match head.body {
            BodyLength::Length(length) => usize::try_from(length).ok(),
            _ => None,
        };
        (!to.is_empty()).then(|| Box::new(Self { to, client, rest, whole, length }))
    }

    /// Notes that all of the request has come.
    pub(super) fn complete(&self) {
        self.whole.set(true);
    }

    /// Keeps what is about to be sent of the body. `writer`: the framing of what the plan holds.
    #[cold]
    pub(super) fn keep(&self, sink: &Sink<'_>, writer: BodyWriter) {
        let mut rest = self.rest.borrow_mut();
        if let Some(rest) = rest.as_mut() {
            match sink {
                Sink::Http1 { output, .. } => rest.extend_from_slice(output),
                Sink::Http2(out) => out.write_queued(writer, rest),
                Sink::Nobody | Sink::Us(_) => {}
            }
        }
        if rest.as_ref().is_some_and(|rest| rest.len() > LONGEST) {
            *rest = None;
        }
    }

    /// Who gets the copies, and all of the request; `held`: its head, and the beginning of its body. `None`: something
    /// of it is missing.
    #[cold]
    pub(super) fn finish(self, (head, body): (&[u8], &[u8])) -> Option<(CopyClient, Vec<Receiver>, Vec<u8>)> {
        let Self { to, client, rest, whole, length } = self;
        let rest = rest.into_inner().filter(|rest| head.len() + body.len() + rest.len() <= LONGEST)?;
        let is_whole = whole.get() || length == Some(body.len() + rest.len());
        is_whole.then(|| (client, to, [head, body, &rest].concat()))
    }
}
