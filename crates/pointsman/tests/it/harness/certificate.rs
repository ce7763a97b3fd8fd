//! Certificates of any life, each of an authority of its own.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Authority;

/// Seconds since the epoch.
pub(crate) fn epoch() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().cast_signed()
}

/// A certificate for this name and its key, as PEM; valid from and until these seconds since the epoch.
#[track_caller]
pub(crate) fn certificate(name: &str, from: i64, until: i64) -> String {
    let authority = Authority::new();
    let file = authority.issue_for(name, &format!("DNS:{name}"), [from, until]);
    std::fs::read_to_string(file).expect("PEM is text")
}
