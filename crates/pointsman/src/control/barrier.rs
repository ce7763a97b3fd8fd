//! The marker key of a store without revisions.

use pointsman_store::Update;
use pointsman_table::{BARRIER, Change};

/// The number that an update sets in the key `barrier`.
pub(super) fn barrier_of(update: &Update) -> Option<u64> {
    let value = match update {
        Update::Reset { entries, .. } => entries.iter().find(|(key, _)| **key == *BARRIER).map(|(_, value)| value),
        Update::Changes { changes, .. } => changes.iter().rev().find_map(|change| match change {
            Change::Put { key, value } if **key == *BARRIER => Some(value),
            Change::Put { .. } | Change::Delete { .. } | Change::DeleteTree { .. } => None,
        }),
    };
    std::str::from_utf8(value?).ok()?.trim().parse().ok()
}
