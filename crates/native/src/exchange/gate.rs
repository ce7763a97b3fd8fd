//! What must be known before a request goes on: its user's password, and what another server says of it. Waits for neither.

use std::rc::Rc;

use pointsman_table::ForwardAuth;
use pointsman_wire::{Forward, RequestHead};

use super::password::Login;
use super::reach::{key, open_for};
use crate::net::peer::Peer;
use crate::pool::announced::OpenFor;
use crate::pool::view::{ServiceLive, View};
use crate::worker::Worker;

/// What is not known yet.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Whether the request's password is right; `None`: none is asked for.
    pub(super) login: Option<Box<Login>>,
    /// Whether another server lets it go on; `None`: none is asked.
    pub(super) question: Option<Question>,
}

impl Gate {
    /// Whether another server is asked. Its answer replaces headers of the request, which trailers could say again.
    pub(crate) fn asks(&self) -> bool {
        self.question.is_some()
    }

    /// The head of the question.
    pub(super) fn question_mut(&mut self) -> Option<&mut Vec<u8>> {
        self.question.as_mut().map(|question| &mut question.head)
    }
}

/// The question whether a request may go on: `forward_auth`.
#[derive(Debug)]
pub(crate) struct Question {
    /// The service that has the key.
    pub(super) asker: Rc<ServiceLive>,
    /// The service that is asked; `None`: it is not served.
    pub(super) asked: Option<Rc<ServiceLive>>,
    /// The key for its balance, and what a new connection is set up with.
    pub(super) towards: (Option<u64>, Option<Rc<OpenFor>>),
    pub(super) head: Vec<u8>,
}

impl Question {
    #[cold]
    pub(super) fn about(
        (worker, view): (&Worker, &View),
        (asker, auth): (&Rc<ServiceLive>, &ForwardAuth),
        head: &RequestHead<'_, '_>,
        peer: &Peer,
    ) -> Self {
        let asked = view.table.asked(&asker.service).and_then(|index| worker.service(view, index));
        let host = auth.host.as_deref();
        let open_for = |live| open_for(live, host.unwrap_or(head.host), peer);
        let towards = asked.as_deref().map(|live| (key(&live.service.balance, head, peer), open_for(live)));
        let (client, arrived, trust) = (peer.client.to_string(), &peer.arrived, peer.trust);
        let forward = Forward { strip: 0, client: &client, arrived, trust, websocket_key: String::new, cookie: None };
        let mut text = Vec::new();
        head.write_question(&forward, &auth.path, host, &mut text);
        Self { asker: Rc::clone(asker), asked, towards: towards.unwrap_or_default(), head: text }
    }
}
