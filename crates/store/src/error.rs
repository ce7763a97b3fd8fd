//! Errors of a store. Each variant names the party at fault, each message the remedy.

use std::path::PathBuf;

/// The reason that a store could not be read, followed or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Operator: a setting that cannot work, detected before connecting.
    #[error("{what}")]
    BadSettings {
        /// The flag, and a correct value.
        what: String,
    },
    /// Network, or nothing listens there: worth a retry, and another endpoint.
    #[error("cannot reach etcd at {endpoint}: {why}")]
    Unreachable {
        /// URL.
        endpoint: String,
        /// The system's error.
        why: String,
    },
    /// Operator: etcd does not know our user, or the user lacks permission.
    #[error("etcd at {endpoint} denies access: {why}; check --etcd-user and its roles")]
    Refused {
        /// URL.
        endpoint: String,
        /// The store's error.
        why: String,
    },
    /// Operator: a server answers, but not with this API.
    #[error("{endpoint} does not speak the etcd {api} API ({why}); {hint}")]
    NotSupported {
        /// URL.
        endpoint: String,
        /// `v2` or `v3`.
        api: &'static str,
        /// The evidence.
        why: String,
        /// The remedy.
        hint: &'static str,
    },
    /// Store: it answers, but cannot serve, such as a member without a leader.
    #[error("etcd at {endpoint} cannot answer: {why}")]
    Failed {
        /// URL.
        endpoint: String,
        /// The store's error.
        why: String,
    },
    /// Nobody: the requested history is compacted. List everything again.
    #[error("etcd at {endpoint} has compacted the requested revision")]
    Compacted {
        /// URL.
        endpoint: String,
    },
    /// Nobody: a lease was not renewed in time and ended with its keys. Grant a new one.
    #[error("the lease at {endpoint} has ended")]
    LeaseEnded {
        /// URL.
        endpoint: String,
    },
    /// Operator: another process holds this lease, which only one process can hold.
    #[error("{}: another running process holds this lease", path.display())]
    LeaseHeld {
        /// The lease's file.
        path: PathBuf,
    },
    /// Store: an answer that violates its own protocol.
    #[error("etcd at {endpoint} gave an invalid answer: {why}")]
    BadAnswer {
        /// URL.
        endpoint: String,
        /// The violation.
        why: String,
    },
    /// Operator: an invalid key, or an edit that this key does not allow.
    #[error("{key}: {why}")]
    BadKey {
        /// The full key.
        key: String,
        /// The mistake, and the remedy.
        why: String,
    },
    /// Nobody: the key does not exist.
    #[error("{key}: there is no such key")]
    NoSuchKey {
        /// The full key.
        key: String,
    },
    /// Machine: a file or folder that cannot be read or written.
    #[error("{}: {why}", path.display())]
    Files {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        why: String,
    },
}

impl StoreError {
    /// Whether the server denies the request for good, so that it holds nothing for us. Other errors leave that open.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::NotSupported { .. })
    }

    /// The variant in words, for labels of metrics: one of few.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BadSettings { .. } => "bad_settings",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::NotSupported { .. } => "not_supported",
            Self::Failed { .. } => "failed",
            Self::Compacted { .. } => "compacted",
            Self::LeaseEnded { .. } => "lease_ended",
            Self::LeaseHeld { .. } => "lease_held",
            Self::BadAnswer { .. } => "bad_answer",
            Self::BadKey { .. } => "bad_key",
            Self::NoSuchKey { .. } => "no_such_key",
            Self::Files { .. } => "files",
        }
    }
}

/// An error and its causes on one line: the outermost error rarely tells what to do.
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
