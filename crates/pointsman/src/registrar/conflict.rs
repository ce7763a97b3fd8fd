//! What others have that somebody wants to write: said, never resolved by force.

use std::fmt;

/// A key that somebody else has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Its kind: `taken` or `differs`.
    pub kind: &'static str,
    /// The full key.
    pub key: String,
    /// What is wrong and what would be right.
    pub advice: String,
}

impl Conflict {
    /// An instance's key that is not ours.
    pub(super) fn taken(key: &str, theirs: Option<String>) -> Self {
        let theirs = theirs.map_or_else(String::new, |value| format!(" and says {value:?}"));
        let advice = format!(
            "somebody else wrote this key{theirs}; it is left alone. Remove it (`pointsman rm {key}`), or give the \
             instance another name"
        );
        Self { kind: "taken", key: key.to_owned(), advice }
    }

    /// A service's setting that others want to be another one.
    pub(super) fn differs(key: &str, theirs: &str, ours: &str) -> Self {
        let advice = match is_secret(key) {
            true => "others want another value; theirs stays while they are there".to_owned(),
            false => format!("{theirs:?} is there and {ours:?} is wanted here; theirs stays while they are there"),
        };
        Self { kind: "differs", key: key.to_owned(), advice }
    }
}

fn is_secret(key: &str) -> bool {
    key.contains("secret") || key.contains("certs/")
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.key.escape_debug(), self.kind, self.advice)
    }
}
