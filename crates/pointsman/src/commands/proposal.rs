//! A change of keys as data: the keys to write and to prune, the store's content, and the difference between them. Reads
//! and writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use pointsman_store::Listing;
use pointsman_table::BARRIER;

/// The keys to change.
#[derive(Debug, Default)]
pub struct Proposal {
    /// Full keys and their new values.
    pub puts: BTreeMap<String, Vec<u8>>,
    /// Full keys: the keys below them that are not among `puts` are removed, unless they end with a lease.
    pub prune: Vec<String>,
    /// Full keys that are not pruned: the values are left out because they are secret.
    pub kept: BTreeSet<String>,
    /// Full keys to remove.
    pub deletes: BTreeSet<String>,
    /// The keys below the prefix as they were when the change was thought out. If others changed one since, nothing is written.
    pub over: Option<Listing>,
}

/// One key that changes: its full name, its value before and after.
pub(super) struct Proposed {
    pub(super) key: String,
    pub(super) old: Option<Vec<u8>>,
    pub(super) new: Option<Vec<u8>>,
}

/// The store's content, by full key.
#[derive(Default)]
pub(super) struct Present {
    pub(super) values: BTreeMap<String, Vec<u8>>,
    /// Keys under a lease, which their owners change and remove.
    pub(super) leased: BTreeSet<String>,
    /// This user may not read every key.
    pub(super) partial: bool,
    /// Where the live balancers listen for HTTP, HTTPS and admin.
    pub(super) own: Box<[SocketAddr]>,
}

/// The keys that change; without `only_different`, every key to be written.
pub(super) fn changes(proposal: &Proposal, present: &Present, only_different: bool) -> Vec<Proposed> {
    let put = |(key, new): (&String, &Vec<u8>)| Proposed {
        key: key.clone(),
        old: present.values.get(key).cloned(),
        new: Some(new.clone()),
    };
    let mut changes: Vec<_> = proposal.puts.iter().map(put).collect();
    changes.retain(|change| !only_different || change.old != change.new);
    let stays = |key: &str| present.leased.contains(key) || proposal.kept.contains(key);
    let is_pruned = |key: &str| !stays(key) && proposal.prune.iter().any(|place| is_below(key, place));
    let is_removed =
        |key: &String| !proposal.puts.contains_key(key) && (proposal.deletes.contains(key) || is_pruned(key));
    let gone = present.values.iter().filter(|(key, _)| is_removed(key));
    changes.extend(gone.map(|(key, old)| Proposed { key: key.clone(), old: Some(old.clone()), new: None }));
    changes
}

/// Whether the full key is the one that Pointsman itself writes below the prefix.
pub(super) fn is_marker(prefix: &str, key: &str) -> bool {
    relative(prefix, key) == Some(BARRIER)
}

/// Whether a full key is below this place.
pub(super) fn is_below(key: &str, place: &str) -> bool {
    key.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
}

/// The key below the prefix, without a slash in front.
pub(super) fn relative<'k>(prefix: &str, key: &'k str) -> Option<&'k str> {
    key.strip_prefix(prefix)?.strip_prefix('/')
}

/// The key as it is shown: below the prefix, or in full if it is elsewhere.
pub(super) fn shown_key<'k>(prefix: &str, key: &'k str) -> &'k str {
    relative(prefix, key).unwrap_or(key)
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;

    pub(crate) fn present(lines: &str) -> Present {
        Present { values: keys(lines), ..Present::default() }
    }

    pub(crate) fn keys(lines: &str) -> BTreeMap<String, Vec<u8>> {
        let entry = |line: &str| line.split_once(' ').map(|(key, value)| (format!("/p/{key}"), value.into()));
        lines.split('\n').filter_map(entry).collect()
    }
}
