//! The outcome of a check, in words that follow what was asked: `GET /health` `got 503`.

use std::borrow::Cow;
use std::io;

/// Words.
pub(super) type CheckWords = Cow<'static, str>;

/// Why a check did not pass.
#[derive(Debug)]
pub(super) enum CheckFailure {
    /// The instance's doing.
    Instance(CheckWords),
    /// This machine had nothing left to check with: it says nothing about the instance.
    Ours(io::Error),
}

impl CheckFailure {
    /// The instance's doing.
    pub(super) fn of(said: impl Into<CheckWords>) -> Self {
        Self::Instance(said.into())
    }
}

/// What became of a connection.
impl From<io::Error> for CheckFailure {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL | libc::ENOBUFS | libc::ENOMEM) => Self::Ours(error),
            _ => Self::of(format!("failed: {error}")),
        }
    }
}

/// What the instance says over HTTP/2 instead of a response.
impl From<h2::Error> for CheckFailure {
    fn from(error: h2::Error) -> Self {
        match error.is_io() {
            true => error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into()).into(),
            false => Self::of(format!("got no answer over HTTP/2: {error}")),
        }
    }
}
