//! Names that handshakes wait for and that have no certificate, on their way from workers to whoever has certificates
//! issued. Decides about none.

use tokio::sync::{mpsc, oneshot};

/// Most names that may queue.
const QUEUED: usize = 64;

/// A name that a handshake waits for.
#[derive(Debug)]
pub struct CertWish {
    /// In lower case.
    pub name: Box<str>,
    /// Gets `true` once a certificate is on its way. Else the handshake goes on without one.
    pub verdict: oneshot::Sender<bool>,
}

/// Where workers put names; none is put there while the queue is full.
pub type CertWishes = mpsc::Sender<CertWish>;

/// A queue of names.
pub fn queue() -> (CertWishes, mpsc::Receiver<CertWish>) {
    mpsc::channel(QUEUED)
}
