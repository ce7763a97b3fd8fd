//! Connections to instances that began with a PROXY header, over HTTP. The header names one client, so they belong to the
//! client's connection that they were opened for, and end with it: no pool holds them. Opens none.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use super::view::{InstanceLive, Way};
use crate::net::stream::Stream;

/// How many a client may have, each to another instance or of another client behind the same proxy.
const MOST: usize = 4;

/// What a connection to an instance is set up with besides the keys: of the request, or of the client's connection, that
/// it is opened for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OpenFor {
    /// The request's host, where that is the server name.
    pub(crate) host: Option<Box<str>>,
    /// The client, and what it connected to, where a PROXY header says so.
    pub(crate) addresses: Option<(SocketAddr, SocketAddr)>,
}

/// The same, with the client's own connections.
#[derive(Debug)]
pub(crate) struct ForClient<'g> {
    pub(crate) open_for: Rc<OpenFor>,
    /// `None`: it keeps none.
    pub(crate) own: Option<&'g Announced>,
}

/// The idle ones of a client's connection, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Announced(RefCell<Vec<Own>>);

#[derive(Debug)]
struct Own {
    /// Its instance's number.
    instance: u32,
    stream: Stream,
    way: Rc<Way>,
    opened_for: Rc<OpenFor>,
    since: u64,
}

impl Announced {
    /// One to this instance that was opened for the same, if it was idle for at most `limit` milliseconds and is still
    /// open.
    pub(crate) fn take(
        &self,
        instance: &InstanceLive,
        open_for: &OpenFor,
        now: u64,
        limit: u64,
    ) -> Option<(Stream, Rc<Way>)> {
        let mut all = self.0.borrow_mut();
        let place = all.iter().rposition(|own| own.instance == instance.id && *own.opened_for == *open_for)?;
        let Own { stream, way, since, .. } = all.remove(place);
        let is_good = way.is_current() && now.saturating_sub(since) <= limit && stream.is_quiet();
        is_good.then_some((stream, way))
    }

    /// Keeps one for the client's next request.
    pub(crate) fn keep(
        &self,
        instance: &InstanceLive,
        (stream, way): (Stream, Rc<Way>),
        opened_for: Rc<OpenFor>,
        since: u64,
    ) {
        let mut all = self.0.borrow_mut();
        if all.len() == MOST {
            all.remove(0);
        }
        all.push(Own { instance: instance.id, stream, way, opened_for, since });
    }
}
