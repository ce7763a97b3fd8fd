//! The addresses of instances that are given by name: waits a moment for new names of a table, and looks all names up
//! periodically beside the loop. Never changes what is served.

use std::collections::BTreeSet;

use pointsman_table::Table;
use tokio::time::Instant;

use super::errand::Errand;
use crate::model::Addresses;
use crate::resolve;

/// What is known, and the lookup under way.
pub(super) struct Resolver {
    pub(super) addresses: Addresses,
    /// Names of the newest table: each has had its moment.
    asked: BTreeSet<Box<str>>,
    next: Instant,
    lookup: Errand<Addresses>,
}

impl Resolver {
    pub(super) fn new(now: Instant) -> Self {
        let (addresses, asked) = (Addresses::new(), BTreeSet::new());
        Self { addresses, asked, next: now + resolve::AGAIN, lookup: Errand::default() }
    }

    /// Waits a moment for the names that are new in this table.
    pub(super) async fn first(&mut self, table: &Table, now: Instant) {
        let mut names = resolve::names(table);
        let asked = std::mem::replace(&mut self.asked, names.keys().cloned().collect());
        // Once for each name: an unknown one must not hold up every later change.
        names.retain(|name, _| !asked.contains(name));
        self.addresses.extend(resolve::first(&names, &self.addresses).await);
        if names.keys().any(|name| !self.addresses.contains_key(name)) {
            self.next = now;
        }
    }

    /// Looks all names up again, if it is time.
    pub(super) fn tick(&mut self, table: &Table, now: Instant) {
        if now < self.next || !self.lookup.is_idle() {
            return;
        }
        self.next = now + resolve::AGAIN;
        let (names, known) = (resolve::names(table), self.addresses.clone());
        if !names.is_empty() {
            self.lookup.start(async move { resolve::again(&names, &known).await });
        }
    }

    /// Waits for the lookup under way.
    pub(super) async fn looked_up(&mut self) -> Addresses {
        self.lookup.finished().await
    }

    /// Takes the answer of a lookup. Returns whether an address changed.
    pub(super) fn take(&mut self, mut addresses: Addresses, table: &Table) -> bool {
        // A table that came meanwhile may have brought names that were looked up on their own.
        let names = resolve::names(table);
        for (name, address) in self.addresses.iter().filter(|(name, _)| names.contains_key(*name)) {
            addresses.entry(name.clone()).or_insert(*address);
        }
        let changed = self.addresses != addresses;
        self.addresses = addresses;
        changed
    }
}
