//! What HAProxy should serve: the newest table without held-back services, and the table that it serves so far. Asks
//! HAProxy nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use pointsman_table::{Bind, Problem, Table};
use tokio::time::Instant;

use crate::desire::{Cache, desire_cached};
use crate::exclude::Excluded;
use crate::frontend;
use crate::hold::Served;
use crate::model::{Addresses, Desired, Held};
use crate::reloader::{Current, Order};
use crate::shape::Shape;
use crate::tickets::TicketKeys;

/// The newest table, and how far it is in force.
pub(super) struct Goal {
    pub(super) table: Arc<Table>,
    /// When the table came.
    pub(super) changed: Instant,
    pub(super) served: Served,
    pub(super) excluded: Excluded,
    /// The keys of session tickets.
    pub(super) tickets: Option<TicketKeys>,
    cache: Cache,
}

impl Goal {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            table: Table::empty(),
            changed: now,
            served: Served::nothing(),
            excluded: Excluded::default(),
            tickets: None,
            cache: Cache::default(),
        }
    }

    pub(super) fn take(&mut self, table: Arc<Table>, now: Instant) {
        self.table = table;
        self.changed = now;
        self.excluded.refusals.review(&self.table);
    }

    /// Takes what an attempt held back. Keys may have changed meanwhile.
    pub(super) fn exclude(&mut self, excluded: Excluded) {
        self.excluded = excluded;
        self.excluded.refusals.review(&self.table);
    }

    /// The configuration for a worker of this shape, what is held back of it, and what HAProxy cannot do.
    pub(super) fn desired(&mut self, addresses: &Addresses, shape: &Shape) -> (Desired, Held, Vec<Problem>) {
        let held = self.excluded.held(&self.table, &self.served);
        let (desired, problems) = desire_cached(&mut self.cache, &self.table, &held, addresses, shape);
        (desired, held, problems)
    }

    /// The ports of TCP services that HAProxy is to open.
    pub(super) fn ports(&self) -> BTreeSet<Bind> {
        frontend::ports(&self.table, &self.excluded.held(&self.table, &self.served))
    }

    /// The order to load all of it.
    pub(super) fn order(&self, addresses: &Addresses, current: Option<Current>) -> Order {
        Order {
            table: self.table.clone(),
            served: self.served.clone(),
            excluded: self.excluded.clone(),
            addresses: addresses.clone(),
            tickets: self.tickets.clone(),
            current,
        }
    }
}
