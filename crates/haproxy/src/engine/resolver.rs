//! The addresses of instances whose host names have several: waits a moment for the choice when a table brings some,
//! and chooses again periodically beside the loop. Never changes what is served.

use std::net::{IpAddr, SocketAddr};

use pointsman_table::{Table, Target};
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
        let new = self.urgent(&all);
        self.asked = all;
        self.addresses.extend(resolve::first(&new, &self.addresses).await);
        self.addresses.retain(|target, _| self.asked.contains_key(target));
    }

    /// The targets for which the engine waits: new ones, and those whose address in use is no longer theirs. Each once:
    /// one that accepts no connection must not hold up every later change, nor a name whose other addresses change.
    fn urgent(&self, all: &Ambiguous) -> Ambiguous {
        let is_urgent = |target: &Target, now: &[SocketAddr]| {
            let lost = |used: &IpAddr| now.iter().all(|address| address.ip() != *used);
            !self.asked.contains_key(target) || self.addresses.get(target).is_some_and(lost)
        };
        let urgent = all.iter().filter(|(target, now)| is_urgent(target, now));
        urgent.map(|(target, now)| (target.clone(), now.clone())).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_in_use_that_is_gone_is_urgent() {
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 80));
        let all = |last: &[u8]| {
            let addresses = last.iter().map(|last| address(*last)).collect();
            Ambiguous::from([(Target::Name("web.test".into(), 80), addresses)])
        };
        let mut resolver = Resolver::new(Instant::now());
        let is_urgent = |resolver: &Resolver, last: &[u8]| !resolver.urgent(&all(last)).is_empty();
        assert!(is_urgent(&resolver, &[1, 2]), "it is new");
        resolver.asked = all(&[1, 2]);
        assert!(!is_urgent(&resolver, &[3, 4]), "it had its moment");
        resolver.addresses = Addresses::from([(Target::Name("web.test".into(), 80), address(2).ip())]);
        assert!(!is_urgent(&resolver, &[2, 7]), "the address in use stays");
        assert!(is_urgent(&resolver, &[1, 7]), "the address in use is gone");
    }
}
