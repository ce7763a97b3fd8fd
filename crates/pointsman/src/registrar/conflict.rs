//! Wanted keys that belong to somebody else: reported, never overwritten.

use pointsman_table::{is_secret, shown};
use std::fmt;

/// A key that belongs to somebody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Its kind: `taken` or `differs`.
    pub kind: &'static str,
    /// The full key.
    pub key: String,
    /// The conflict and its remedy.
    pub advice: String,
}

impl Conflict {
    /// An instance's key that is not ours. Without its value, which may arrive later: one complaint, one text.
    pub(super) fn taken(key: &str) -> Self {
        let advice = format!(
            "somebody else wrote this key, so it is not changed. Remove it (`pointsman rm {key}`), or give the instance \
             another name"
        );
        Self { kind: "taken", key: key.to_owned(), advice }
    }

    /// A service's setting for which others want another value.
    pub(super) fn differs(key: &str, theirs: &str, ours: &str) -> Self {
        let advice = match key.contains("certs/") || is_secret(key, theirs) || is_secret(key, ours) {
            true => "others set another value, which is used as long as they keep it".to_owned(),
            false => {
                format!("others set {theirs:?}, but {ours:?} is wanted here; theirs is used as long as they keep it")
            }
        };
        Self { kind: "differs", key: key.to_owned(), advice }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", shown(&self.key), self.kind, shown(&self.advice))
    }
}
