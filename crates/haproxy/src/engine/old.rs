//! A worker that was replaced and still finishes its connections. Ends sessions when told to; keeps no time.

use tokio::time::Instant;

use crate::answers::{Session, sessions};
use crate::master::Master;
use crate::names::BackendName;
use crate::scrape::ServiceLookup;

/// Most sessions of an old worker that are ended in one go.
const MOST_CUT: usize = 100;

/// An old worker.
pub(super) struct OldWorker {
    pub(super) pid: u32,
    pub(super) master: Master,
    pub(super) services: ServiceLookup,
    /// Servers that the table no longer has, and since when.
    pub(super) departed: Vec<(BackendName, Box<str>, Instant)>,
}

impl OldWorker {
    /// Ends the sessions on these servers, one by one: an old worker takes no command about its servers. A large number
    /// takes several calls.
    ///
    /// # Errors
    /// The worker could not be asked, as while its master reloads, or sessions are left.
    pub(super) async fn cut(&self, departed: &[(BackendName, Box<str>, Instant)]) -> Result<(), Uncut> {
        let answer = self.master.ask_worker(self.pid, "show sess").await.map_err(|_| Uncut)?;
        let gone =
            |session: &Session<'_>| departed.iter().any(|(b, s, _)| **b == *session.backend && **s == *session.server);
        let mut left = sessions(&answer).filter(gone);
        for session in left.by_ref().take(MOST_CUT) {
            let asked = self.master.ask_worker(self.pid, &format!("shutdown session {}", session.id)).await;
            asked.map_err(|_| Uncut)?;
        }
        left.next().map_or(Ok(()), |_| Err(Uncut))
    }
}

/// Sessions are left to be ended.
pub(super) struct Uncut;
