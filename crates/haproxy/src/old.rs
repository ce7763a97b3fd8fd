//! A worker that was replaced: whose connections it still has, and which of them have to end. Keeps no time.

use tokio::time::Instant;

use super::answers::{Session, sessions};
use super::census::Tenants;
use super::master::Master;
use super::names::BackendName;

/// How many sessions of a replaced worker are cut before anything else has its turn.
const MOST_CUT: usize = 100;

/// A worker that was replaced, and may still have connections.
pub(super) struct OldWorker {
    pub(super) pid: u32,
    pub(super) master: Master,
    pub(super) tenants: Tenants,
    /// Servers that nobody wants any more, and since when.
    pub(super) departed: Vec<(BackendName, Box<str>, Instant)>,
}

impl OldWorker {
    /// Ends the sessions on these servers, one by one: a worker that was replaced takes no command about its servers.
    /// Not all at once if there are many.
    ///
    /// # Errors
    /// It could not be asked, as while its master reloads, or some are left.
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

/// Sessions of a worker that was replaced are left to be cut.
pub(super) struct Uncut;
