//! Everything that a line of the log can say about a request, or about a connection of a TCP service. Reads no clock.

use std::net::{IpAddr, SocketAddr};

use pointsman_table::Protocol;

use super::ending::{Passed, letters};
use super::noted::{HeadWords, Noted};
use crate::fault::Fault;

/// What a line of the log can say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogEntry<'a> {
    /// When it began, milliseconds since 1970.
    pub(super) at: u64,
    /// The other end of the client's connection.
    pub(super) peer: (IpAddr, u16),
    /// The client, as trusted proxies name it.
    pub(super) client: IpAddr,
    /// What the client connected to, if that is known.
    pub(super) listener: Option<SocketAddr>,
    /// The version of its TLS.
    pub(super) tls: Option<&'static str>,
    /// A request, or a connection of a TCP service.
    pub(super) kind: Protocol,
    pub(super) words: Option<&'a HeadWords>,
    /// The user whose password it brought; empty: none was asked for.
    pub(super) user: &'a str,
    pub(super) revision: u64,
    /// The id of its trace; 0: none is known.
    pub(super) trace_id: u128,
    pub(super) service: Option<&'a str>,
    pub(super) instance: Option<&'a str>,
    pub(super) fault: Option<Fault>,
    /// How it ended, in HAProxy's letters.
    pub(super) letters: [u8; 2],
    /// The cookie of its client and that of its answer, in HAProxy's letters.
    pub(super) cookies: [u8; 2],
    pub(super) status: Option<u16>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// Milliseconds, of what it came to.
    pub(super) head: Option<u32>,
    pub(super) queue: Option<u32>,
    pub(super) connect: Option<u32>,
    pub(super) first_byte: Option<u32>,
    pub(super) total: u32,
    /// How often it was sent again.
    pub(super) retries: u32,
    /// It went to another instance because one did not take the connection.
    pub(super) is_redispatched: bool,
    pub(super) open: Open,
}

/// What was open when it ended.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Open {
    /// Clients' connections.
    pub(crate) clients: u64,
    /// Work at the service's instances.
    pub(crate) service: u64,
    /// Work at its instance.
    pub(crate) instance: u64,
    /// Requests that were in the queue when it joined it.
    pub(crate) queue: u32,
}

impl<'a> LogEntry<'a> {
    /// What `noted` says, and the rest as of a request of which nothing else is known.
    pub(super) fn of(noted: &'a Noted, kind: Protocol, peer: (IpAddr, u16), fault: Option<Fault>) -> Self {
        let passed = noted.passed.get();
        let own = || noted.severed.get().map_or(*b"--", |cut| [cut.letter(), Passed::Data.letter()]);
        let queue = match (noted.queue.get(), fault) {
            (None, Some(_)) if passed == Passed::Queue && fault != Some(Fault::NoInstance) => Some(noted.wait_so_far()),
            (queue, _) => queue,
        };
        Self {
            at: noted.at,
            peer,
            client: peer.0,
            listener: noted.listener,
            tls: None,
            kind,
            words: noted.words.as_ref(),
            user: noted.user_name(),
            revision: noted.revision,
            trace_id: noted.trace_id,
            service: None,
            instance: None,
            fault,
            letters: fault.map_or_else(own, |fault| letters(fault, passed)),
            cookies: noted.cookies.get(),
            status: None,
            bytes_in: noted.bytes_in.get(),
            bytes_out: noted.bytes_out.get(),
            // As with HAProxy: nobody waited for it.
            head: noted.head.filter(|_| fault != Some(Fault::NoRoute)),
            queue,
            connect: noted.connect.get(),
            first_byte: noted.first_byte(),
            total: noted.total(),
            retries: noted.retries.get() + noted.redispatches.get(),
            is_redispatched: noted.redispatches.get() > 0,
            open: Open { queue: noted.queued.get(), ..Open::default() },
        }
    }

    /// The client's port; 0 where nobody knows it.
    pub(super) fn client_port(&self) -> u16 {
        if self.client == self.peer.0 { self.peer.1 } else { 0 }
    }

    pub(super) fn method(&self) -> &'a [u8] {
        self.words.map(HeadWords::method).unwrap_or_default()
    }

    pub(super) fn target(&self) -> &'a [u8] {
        self.words.map(HeadWords::target).unwrap_or_default()
    }

    pub(super) fn host(&self) -> &'a [u8] {
        self.words.map(HeadWords::host).unwrap_or_default()
    }

    pub(super) fn protocol(&self) -> &'static str {
        self.words.map_or("", |words| words.protocol)
    }

    /// The value of a header, by its place among those that are noted.
    pub(super) fn header(&self, place: usize) -> &'a [u8] {
        self.words.map(|words| words.header(place)).unwrap_or_default()
    }

    /// The target without its query.
    pub(super) fn path(&self) -> &'a [u8] {
        let target = self.target();
        target.split(|byte| *byte == b'?').next().unwrap_or_default()
    }

    /// The query with its `?`, or nothing.
    pub(super) fn query(&self) -> &'a [u8] {
        &self.target()[self.path().len()..]
    }

    pub(super) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The fault's name.
    pub(super) fn fault_name(&self) -> Option<&'static str> {
        self.fault.map(|fault| fault.facts().name)
    }
}
