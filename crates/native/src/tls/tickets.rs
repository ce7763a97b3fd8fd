//! Session tickets: how they are made and opened with secrets that others rotate and share. Keeps no secret of its own,
//! and takes no lock.
//!
//! ```text
//! ticket = name of the secret (16) | salt (32) | AES-256-GCM(session)
//!          key = HKDF-SHA256(secret, salt, what the handshake asked of the client)
//! ```
//!
//! Each ticket has a key of its own, so a nonce never repeats, however many balancers share a secret. A session is never
//! resumed where clients are asked for another certificate: the key is another one there.

use std::fmt::{Debug, Formatter};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use aws_lc_rs::rand;
use pointsman_engine::tickets::{TicketSecret, TicketSecrets};
use rustls::server::ProducesTickets;

use crate::net::presented::AskedId;

/// How long a ticket can be used, seconds.
const LIFETIME: u32 = 12 * 3600;
const NAME: usize = 16;
const SALT: usize = 32;
const LABEL: &[u8] = b"pointsman session ticket";

/// A new one; `None`: the system has no random numbers.
pub fn new_ticket_secret() -> Option<TicketSecret> {
    let mut secret = TicketSecret::default();
    rand::fill(&mut secret).ok().map(|()| secret)
}

/// Makes and opens the tickets of handshakes that ask the same of clients.
pub(super) struct Ticketer {
    secrets: Vec<NamedSecret>,
    asked: AskedId,
}

/// A secret, and the name that tickets call it by.
struct NamedSecret {
    name: [u8; NAME],
    secret: TicketSecret,
}

impl Debug for Ticketer {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticketer({})", self.secrets.len())
    }
}

impl Ticketer {
    pub(super) fn new(secrets: &TicketSecrets, asked: AskedId) -> Self {
        Self { secrets: secrets.iter().map(NamedSecret::new).collect(), asked }
    }

    /// `None` never happens: the output is of the algorithm's own length.
    fn key(&self, secret: &TicketSecret, salt: &[u8]) -> Option<LessSafeKey> {
        let bound: [&[u8]; 2] = [LABEL, &self.asked];
        let secret = Salt::new(HKDF_SHA256, salt).extract(secret);
        Some(LessSafeKey::new(UnboundKey::from(secret.expand(&bound, &AES_256_GCM).ok()?)))
    }
}

impl NamedSecret {
    fn new(secret: &TicketSecret) -> Self {
        let mut name = [0; NAME];
        name.copy_from_slice(&sign(&Key::new(HMAC_SHA256, secret), b"name").as_ref()[..NAME]);
        Self { name, secret: *secret }
    }
}

/// The key is used once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        !self.secrets.is_empty()
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let NamedSecret { name, secret } = self.secrets.first()?;
        let mut salt = [0; SALT];
        rand::fill(&mut salt).ok()?;
        let mut sealed = session.to_vec();
        self.key(secret, &salt)?.seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed).ok()?;
        Some([name, &salt[..], &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (salt, sealed) = rest.split_at_checked(SALT)?;
        let NamedSecret { secret, .. } = self.secrets.iter().find(|known| known.name == name)?;
        let mut session = sealed.to_vec();
        let length = self.key(secret, salt)?.open_in_place(nonce(), Aad::empty(), &mut session).ok()?.len();
        session.truncate(length);
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticketer(secrets: &[u8], asked: u8) -> Ticketer {
        let secrets: Vec<_> = secrets.iter().map(|byte| [*byte; 32]).collect();
        Ticketer::new(&secrets.into(), [asked; 32])
    }

    #[test]
    fn tickets_are_opened_where_the_secret_and_what_was_asked_are_the_same() {
        let ticket = ticketer(&[1, 2], 0).encrypt(b"session").unwrap();
        for (secrets, asked, expected) in
            [(&[1][..], 0, true), (&[3, 1], 0, true), (&[2], 0, false), (&[], 0, false), (&[1, 2], 1, false)]
        {
            let opened = ticketer(secrets, asked).decrypt(&ticket);
            assert_eq!(opened.as_deref(), expected.then_some(&b"session"[..]), "{secrets:?} {asked}");
        }
        assert_ne!(ticket, ticketer(&[1], 0).encrypt(b"session").unwrap());
    }

    #[test]
    fn what_is_no_ticket_is_not_opened() {
        let ticketer = ticketer(&[1], 0);
        let ticket = ticketer.encrypt(b"session").unwrap();
        for length in 0..ticket.len() {
            assert_eq!(ticketer.decrypt(&ticket[..length]), None, "{length}");
        }
        for position in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[position] ^= 1;
            assert_eq!(ticketer.decrypt(&changed), None, "{position}");
        }
    }
}
