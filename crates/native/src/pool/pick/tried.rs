//! Which instances a request has tried, and whether it had one before. Picks none.

use pointsman_table::MOST_RETRIES;

/// How many instances are remembered: as many as a request tries before its last attempt.
const MOST: usize = MOST_RETRIES as usize;

/// Which instances a request has tried. Small: every exchange holds one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    ids: [u32; MOST],
    count: u8,
    /// It had an instance before: it goes before requests that never had one.
    pub(crate) returning: bool,
    pub(crate) spent: Spent,
}

/// The time and the attempts that checkouts of a request took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Milliseconds until there was a free place at an instance.
    pub(crate) queue: u32,
    /// Milliseconds until there was a connection.
    pub(crate) connect: u32,
    /// How many requests were in the queue when this one joined it, 65,535 at most.
    pub(crate) queued: u16,
    /// How often it went to another instance because one did not take the connection.
    pub(crate) redispatches: u8,
    /// A connection is being opened, or could not be.
    pub(crate) is_connecting: bool,
}

impl Tried {
    /// Adds an instance by its number, which it keeps from table to table.
    pub(crate) fn add(&mut self, id: u32) {
        if let Some(free) = self.ids.get_mut(usize::from(self.count)) {
            *free = id;
        }
        self.count = self.count.saturating_add(1);
    }

    /// Forgets the instances: all of them may be tried again.
    pub(crate) fn forget(&mut self) {
        self.count = 0;
    }

    pub(crate) fn count(self) -> u32 {
        self.count.into()
    }

    /// The instance that was tried last, as far as it is remembered.
    pub(crate) fn last(self) -> Option<u32> {
        self.ids.get(usize::from(self.count.checked_sub(1)?)).copied()
    }

    pub(in crate::pool) fn has(self, id: u32) -> bool {
        self.ids.iter().take(usize::from(self.count)).any(|known| *known == id)
    }
}
