//! The addresses of instances whose host names have several: waits a moment for the choice when a table brings some, and
//! chooses again periodically beside the loop. Never changes what is served.

use pointsman_table::Table;
use tokio::time::Instant;

use super::errand::Errand;
use crate::model::Addresses;
use crate::resolve::{self, Ambiguous};

/// What was chosen, and the choice under way.
pub(super) struct Resolver {
    pub(super) addresses: Addresses,
    /// What the newest table has: each has had its moment.
    asked: Ambiguous,
    next: Instant,
    choice: Errand<Addresses>,
}

impl Resolver {
    pub(super) fn new(now: Instant) -> Self {
        let (addresses, asked) = (Addresses::new(), Ambiguous::new());
        Self { addresses, asked, next: now + resolve::AGAIN, choice: Errand::default() }
    }

    /// Waits a moment for what is new in this table.
    pub(super) async fn first(&mut self, table: &Table) {
        let all = resolve::ambiguous(table);
        let asked = std::mem::replace(&mut self.asked, all);
        // Once for each: one that accepts no connection must not hold up every later change.
        let is_new = |target: &_, addresses: &_| asked.get(target) != Some(addresses);
        let new = self.asked.iter().filter(|(target, addresses)| is_new(target, *addresses));
        let new = new.map(|(target, addresses)| (target.clone(), addresses.clone())).collect();
        self.addresses.extend(resolve::first(&new, &self.addresses).await);
        self.addresses.retain(|target, _| self.asked.contains_key(target));
    }

    /// Chooses for all again, if it is time.
    pub(super) fn tick(&mut self, now: Instant) {
        if now < self.next || !self.choice.is_idle() {
            return;
        }
        self.next = now + resolve::AGAIN;
        if !self.asked.is_empty() {
            let (asked, had) = (self.asked.clone(), self.addresses.clone());
            self.choice.start(async move { resolve::again(&asked, &had).await });
        }
    }

    /// Waits for the choice under way.
    pub(super) async fn chosen(&mut self) -> Addresses {
        self.choice.finished().await
    }

    /// Takes a choice. Returns whether an address changed.
    pub(super) fn take(&mut self, addresses: Addresses) -> bool {
        // A table that came meanwhile may have other names, or other addresses for them.
        let before = self.addresses.clone();
        self.addresses.extend(addresses);
        self.addresses.retain(|target, _| self.asked.contains_key(target));
        self.addresses != before
    }
}
