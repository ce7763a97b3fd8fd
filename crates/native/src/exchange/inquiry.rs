//! What another server answers when it is asked whether a request may go on: kept whole, and bounded. Judges nothing.

use std::cell::{Cell, RefCell};

use pointsman_wire::{BadBody, BodyLength, BodyReader, Reply, ResponseHead, Step, Version};

use crate::fault::Fault;
use crate::http1::body::Moved;
use crate::net::buffer::Input;
use crate::net::socket::Socket;

/// The largest body of an answer, bytes.
const LARGEST: usize = 64 * 1024;

/// An answer while it comes, and the client of the request that it is about.
#[derive(Debug)]
pub(crate) struct Inquiry<'c> {
    /// Watched meanwhile.
    pub(super) client: Socket<'c>,
    heard: RefCell<Heard>,
    /// Something came that was not counted yet.
    has_news: Cell<bool>,
}

/// An answer, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) status: u16,
    /// Without framing.
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// All of it has come.
    pub(super) is_whole: bool,
    /// Its body is larger than is kept.
    pub(super) is_too_large: bool,
    /// Why there is none.
    pub(super) fault: Option<Fault>,
}

impl<'c> Inquiry<'c> {
    pub(super) fn new(client: Socket<'c>) -> Self {
        Self { client, heard: RefCell::default(), has_news: Cell::new(false) }
    }

    pub(super) fn into_heard(self) -> Heard {
        self.heard.into_inner()
    }

    /// The final head has come.
    pub(super) fn begin(&self, head: &ResponseHead<'_, '_>) {
        let mut heard = Heard { status: head.status, ..Heard::default() };
        head.write(
            &Reply { version: Version::Http11, keep_alive: true, body: BodyLength::None, edits: None },
            &mut heard.head,
        );
        *self.heard.borrow_mut() = heard;
        self.has_news.set(true);
    }

    /// A part of the body has come.
    pub(super) fn data(&self, bytes: &[u8]) {
        let mut heard = self.heard.borrow_mut();
        heard.is_too_large |= heard.body.len() + bytes.len() > LARGEST;
        if !heard.is_too_large {
            heard.body.extend_from_slice(bytes);
        }
        // Without any, the source is to be read.
        self.has_news.set(self.has_news.get() || !bytes.is_empty());
    }

    /// Whether the body is larger than is kept.
    pub(super) fn is_too_large(&self) -> bool {
        self.heard.borrow().is_too_large
    }

    /// The body is over.
    pub(super) fn end(&self) {
        self.heard.borrow_mut().is_whole = true;
    }

    /// There is no answer, or not all of it.
    pub(super) fn fail(&self, fault: Fault) {
        self.heard.borrow_mut().fault = Some(fault);
    }

    /// An answer that is thrown away: the question is asked again.
    pub(super) fn forget(&self) {
        self.heard.take();
        self.has_news.set(false);
    }

    pub(super) fn has_news(&self) -> bool {
        self.has_news.get()
    }

    /// What came is counted.
    pub(super) fn counted(&self) {
        self.has_news.set(false);
    }

    /// Takes body bytes of HTTP/1.
    pub(super) fn take(&self, reader: &mut BodyReader, input: &mut Input) -> Result<Moved, BadBody> {
        loop {
            let (used, moved) = match reader.step(input.unread())? {
                Step::Data { bytes, used } => {
                    self.data(bytes);
                    (used, None)
                }
                Step::More { used } => (used, Some(Moved::More)),
                Step::End { used, .. } => {
                    self.end();
                    (used, Some(Moved::Done))
                }
            };
            input.consume(used);
            if let Some(moved) = moved {
                return Ok(moved);
            }
        }
    }
}
