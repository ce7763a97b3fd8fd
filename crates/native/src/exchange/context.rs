//! The context of one request. Decides nothing.

use std::rc::Rc;

use pointsman_wire::HeaderEdits;

use crate::net::deadline::Deadline;
use crate::net::peer::Peer;
use crate::pool::announced::Announced;
use crate::pool::logins::Logins;
use crate::pool::view::{Globals, InstanceLive};
use crate::record::{Meter, Record};
use crate::worker::Worker;

/// The snapshot that a request sees from beginning to end, and its record.
#[derive(Debug)]
pub(crate) struct Cx<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) globals: Rc<Globals>,
    pub(crate) peer: &'a Peer,
    pub(crate) deadline: &'a Deadline,
    /// Connections that are logged in for this client.
    pub(crate) logins: &'a Logins,
    /// Connections that began with a PROXY header for this client.
    pub(crate) announced: &'a Announced,
    pub(crate) record: Record,
    /// What the service that the request reached changes in the headers of the answer, whoever gives it.
    pub(crate) edits: Option<Rc<HeaderEdits>>,
}

impl Cx<'_> {
    /// Counts bytes of the request and its response.
    pub(crate) fn meter<'m>(&'m self, instance: &'m InstanceLive) -> Meter<'m> {
        Meter::of(instance, self.record.noted.as_deref())
    }
}
