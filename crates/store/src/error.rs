//! What can go wrong with a store: each variant says whose fault it is, each message what would be right.

use std::path::PathBuf;

/// Why a store could not be read, followed or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The operator's: a setting that cannot work, found before anything is connected.
    #[error("{what}")]
    BadSettings {
        /// The flag, and what would be right.
        what: String,
    },
    /// The network's, or nobody is there: worth another try, and another endpoint.
    #[error("cannot reach etcd at {endpoint}: {why}")]
    Unreachable {
        /// URL.
        endpoint: String,
        /// What the system said.
        why: String,
    },
    /// The operator's: the store knows us not, or does not let us.
    #[error("etcd at {endpoint} refuses us: {why}; check --etcd-user and what its roles permit")]
    Refused {
        /// URL.
        endpoint: String,
        /// What the store said.
        why: String,
    },
    /// The operator's: something answers there, but not with this API.
    #[error("{endpoint} does not speak the etcd {api} API ({why}); {hint}")]
    NotSupported {
        /// URL.
        endpoint: String,
        /// `v2` or `v3`.
        api: &'static str,
        /// How that showed.
        why: String,
        /// What to try.
        hint: &'static str,
    },
    /// The store's: it is there and says that it cannot, such as a member without a leader.
    #[error("etcd at {endpoint} cannot answer: {why}")]
    Failed {
        /// URL.
        endpoint: String,
        /// What the store said.
        why: String,
    },
    /// Nobody's: the history that was asked for is no longer kept. Read everything again.
    #[error("etcd at {endpoint} no longer keeps the revision asked for")]
    Compacted {
        /// URL.
        endpoint: String,
    },
    /// Nobody's: a lease was not renewed in time, and is gone with its keys. Grant it anew.
    #[error("at {endpoint} the lease has ended")]
    LeaseEnded {
        /// URL.
        endpoint: String,
    },
    /// The operator's: a lease that only one process can hold is held by another.
    #[error("{}: another process that is still running holds this lease", path.display())]
    LeaseHeld {
        /// The lease's file.
        path: PathBuf,
    },
    /// The store's: an answer that breaks its own protocol.
    #[error("etcd at {endpoint} gave an answer that makes no sense: {why}")]
    BadAnswer {
        /// URL.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// The operator's: a text that is no key, or an edit that this key does not allow.
    #[error("{key}: {why}")]
    BadKey {
        /// The full key.
        key: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// Nobody's: there is no such key.
    #[error("{key}: there is no such key")]
    NoSuchKey {
        /// The full key.
        key: String,
    },
    /// The machine's: a file or folder that cannot be read or written.
    #[error("{}: {why}", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
}

/// An error and everything below it on one line: the outermost rarely says what to do.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        if !said.contains(&inner) {
            said = format!("{said}: {inner}");
        }
        cause = error.source();
    }
    said
}
