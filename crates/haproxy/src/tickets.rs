//! HAProxy's keys of TLS session tickets, derived from the secrets that all balancers share. Knows no file and no command.

use std::fmt::{Debug, Formatter};

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_engine::tickets::{TicketSecret, TicketSecrets};

/// How many HAProxy keeps.
const KEYS: usize = 3;
/// Bytes of a key: its name (16), one for AES-256 and one for HMAC-SHA256.
const LENGTH: usize = 80;
/// Sets them apart from all else that is derived from the secrets.
const LABEL: &[u8] = b"pointsman haproxy session ticket";
/// Their file.
pub const FILE: &str = "tickets.keys";
/// How long a session can be resumed, in seconds: as long as any ticket can be opened at least.
pub const LIFETIME: u32 = 6 * 3600;

/// Keys in base64, as `tls-ticket-keys` lists them: all open tickets, the last but one makes them.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKeys([Box<str>; KEYS]);

/// Shows none.
impl Debug for TicketKeys {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketKeys")
    }
}

impl TicketKeys {
    /// Those of the newest secrets; `None`: there is no secret.
    pub fn derive(secrets: &TicketSecrets) -> Option<Self> {
        let mut newest = secrets.iter();
        let current = newest.next()?;
        // Where there are too few, the current one stands in.
        let mut other = || newest.next().unwrap_or(current);
        let (next, last) = (other(), other());
        Some(Self([key(last)?, key(current)?, key(next)?]))
    }

    /// Each key. A worker that is told all of them, one after the other, uses them as if it had read them at its start.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| &**key)
    }

    /// The content of their file.
    pub fn file(&self) -> String {
        self.iter().map(|key| format!("{key}\n")).collect()
    }
}

/// [`LENGTH`], for HKDF.
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        LENGTH
    }
}

/// `None` never happens: the output is no longer than HKDF allows.
fn key(secret: &TicketSecret) -> Option<Box<str>> {
    let mut key = [0; LENGTH];
    Salt::new(HKDF_SHA256, &[]).extract(secret).expand(&[LABEL], Length).ok()?.fill(&mut key).ok()?;
    Some(STANDARD.encode(key).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which secrets, by their only byte, the keys come from.
    #[track_caller]
    fn check(secrets: &[u8], expected: &[u8]) {
        let of = |byte: &u8| key(&[*byte; 32]).unwrap();
        let keys = TicketKeys::derive(&secrets.iter().map(|byte| [*byte; 32]).collect::<Vec<_>>().into());
        let keys = keys.iter().flat_map(TicketKeys::iter).map(Box::from).collect::<Vec<_>>();
        assert_eq!(keys, expected.iter().map(of).collect::<Vec<_>>(), "{secrets:?}");
    }

    #[test]
    fn the_current_secret_makes_tickets_and_its_neighbours_open_them() {
        check(&[5, 6, 4, 3], &[4, 5, 6]);
        check(&[5, 6], &[5, 5, 6]);
        check(&[5], &[5, 5, 5]);
        check(&[], &[]);
    }

    /// As `openssl kdf` derives it: balancers of every version must agree.
    #[test]
    fn a_key_is_always_the_same() {
        let key = key(&[7; 32]).unwrap();
        let expected = "fp7ZjRdumiOr2U+BZ2EVT5ZwS2+vY1lflm6LFR9q4BbVUZhnHMaWIg\
                        IjWpslXUOw8pBg0KYoOB5s3zBe6aSgF43wcgsd73I/rBdxo89JNH8=";
        assert_eq!(&*key, expected);
    }
}
