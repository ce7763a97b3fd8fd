//! Everything that the engine's loop answers to. Decides nothing.

use std::sync::Arc;

use pointsman_engine::inherited::LendRequest;
use pointsman_engine::tickets::TicketSecrets;
use pointsman_table::Table;

use super::attempt::Attempt;
use crate::model::Addresses;

/// What happened.
pub(super) enum Event {
    /// The keys changed.
    Table(Arc<Table>),
    /// An attempt to load a configuration has ended.
    Attempted(Box<Attempt>),
    /// HAProxy ended by itself: how.
    Died(String),
    /// Session tickets have other secrets.
    Tickets(TicketSecrets),
    /// Addresses of instances were chosen.
    Chosen(Addresses),
    /// A page wants fresh figures.
    FiguresWanted,
    /// All workers were asked for figures; these processes have ended.
    Scraped(Vec<u32>),
    /// Copies of the listening sockets are wanted.
    Lend(LendRequest),
    /// Time to look for what is due.
    Tick,
    /// The program ends.
    Stop,
}
