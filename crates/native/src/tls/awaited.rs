//! The handshakes of one worker that wait for a certificate: a bounded number. Knows no TLS.

use std::cell::Cell;

use tokio::sync::Notify;

/// Most handshakes of one worker that wait. Beyond, they go on without a certificate.
const MOST: usize = 64;

/// The handshakes of one worker that wait for a certificate.
#[derive(Debug, Default)]
pub(crate) struct Awaited {
    waiting: Cell<usize>,
    changed: Notify,
}

impl Awaited {
    /// Has them look at the certificates again.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Ends with the next change of certificates from now on.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> {
        self.changed.notified()
    }

    /// A place to wait, if there is one.
    pub(crate) fn enter(&self) -> Option<AwaitedPlace<'_>> {
        let waiting = self.waiting.get();
        (waiting < MOST).then(|| {
            self.waiting.set(waiting + 1);
            AwaitedPlace(self)
        })
    }
}

/// A handshake's place among those that wait.
pub(crate) struct AwaitedPlace<'a>(&'a Awaited);

impl Drop for AwaitedPlace<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_few_and_given_back() {
        let awaited = Awaited::default();
        let places: Vec<_> = (0..MOST).map(|_| awaited.enter().unwrap()).collect();
        assert!(awaited.enter().is_none());
        drop(places);
        assert!(awaited.enter().is_some());
    }
}
