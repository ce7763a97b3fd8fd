//! The secrets of TLS session tickets that all workers and balancers share. Makes no ticket and no secret.

use std::fmt::{Debug, Formatter};

/// A secret that tickets are made with.
pub type TicketSecret = [u8; 32];

/// Secrets of session tickets: the first makes tickets, all open them; the others are ordered, the newest first. Shows
/// none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TicketSecrets(Vec<TicketSecret>);

impl Debug for TicketSecrets {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "TicketSecrets({})", self.0.len())
    }
}

impl From<Vec<TicketSecret>> for TicketSecrets {
    fn from(secrets: Vec<TicketSecret>) -> Self {
        Self(secrets)
    }
}

impl TicketSecrets {
    /// Each secret.
    pub fn iter(&self) -> std::slice::Iter<'_, TicketSecret> {
        self.0.iter()
    }
}
