//! Connections to instances that are logged in for one client (NTLM, Negotiate). They belong to that client's
//! connection and end with it. No pool holds them, so that no other client can use the login. Opens none.

use std::cell::RefCell;

use super::announced::ForClient;
use super::checkout::Private;
use super::view::ServiceLive;

/// How many a client may have, each to another service.
const MOST: usize = 4;

/// The connections that are logged in for a client, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Logins(RefCell<Vec<Private>>);

impl Logins {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The one to this service, with the index of its instance, if it is still open and was
    /// opened for the same.
    pub(crate) fn take(&self, live: &ServiceLive, client: Option<&ForClient<'_>>) -> Option<(Private, usize)> {
        let mut all = self.0.borrow_mut();
        let (place, index) = all.iter().enumerate().find_map(|(place, one)| Some((place, one.index(live)?)))?;
        let one = all.remove(place);
        one.serves(client).then_some((one, index))
    }

    /// Keeps one for the client's next request.
    pub(crate) fn keep(&self, one: Private) {
        let mut all = self.0.borrow_mut();
        if all.len() == MOST {
            all.remove(0);
        }
        all.push(one);
    }
}
