//! Commands that change servers, as edits of their keys: what `pointsman drain` and `pointsman set` write. So every balancer
//! does the same, and it holds over restarts.

use std::collections::HashMap;
use std::time::Duration;

use pointsman_store::{Store, StoreError};
use pointsman_table::{Instance, Service, Table, shown};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tracing::info;

use super::command::{ServerEdit, ServerPath};
use super::inputs::{NOT_READ, Stats};
use super::proxies::{find_instance, find_service};
use crate::fleet::instance_key::{Drain, InstanceKey, drained, weighed, weight_of};

/// Longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait until the change is served here, so that the next command sees it.
const SERVED: Duration = Duration::from_secs(5);
/// Most initial weights that are remembered.
const MOST_WEIGHTS: usize = 10_000;
/// The greatest weight.
const HEAVIEST: u16 = 256;

/// Edits of keys, one at a time.
pub struct KeyEdits {
    store: Store,
    prefix: String,
    weights: Mutex<HashMap<String, KnownWeight>>,
}

/// The weight that an instance had before it was changed here, and the weight that was written: a key has room for one.
#[derive(Clone, Copy, Debug)]
struct KnownWeight {
    initial: u16,
    written: u16,
}

impl KeyEdits {
    /// Of the keys below this prefix.
    pub fn new(store: Store, prefix: String) -> Self {
        Self { store, prefix, weights: Mutex::default() }
    }

    /// Makes a change, and waits a moment until it is served. Returns the answer: nothing if all went well.
    pub(super) async fn make(&self, stats: &Stats, path: &ServerPath, edit: ServerEdit) -> String {
        let Some(table) = stats.table() else { return NOT_READ.to_owned() };
        let (service, instance) = match find(&table, path) {
            Ok(found) => found,
            Err(wrong) => return wrong.to_owned(),
        };
        match timeout(PATIENCE, self.write(service, instance, edit)).await {
            Err(_) => format!("The store did not answer within {PATIENCE:?}; look whether the key was changed.\n"),
            Ok(Err(refused)) => refused,
            Ok(Ok(wanted)) => {
                info!("stats socket: {}/{}: {}", shown(&path.backend), shown(&path.server), edit.words());
                served(stats, (service, instance), wanted).await
            }
        }
    }

    /// The weight in the table, and the initial one.
    pub(super) async fn weight(&self, stats: &Stats, path: &ServerPath) -> String {
        let Some(table) = stats.table() else { return NOT_READ.to_owned() };
        match find(&table, path) {
            Err(wrong) => wrong.to_owned(),
            Ok((service, Instance { name, weight, .. })) => {
                let known = self.weights.lock().await.get(&place(service, name.as_str())).copied();
                let initial = known.filter(|known| known.written == *weight).map_or(*weight, |known| known.initial);
                format!("{weight} (initial {initial})\n")
            }
        }
    }

    async fn write(&self, service: &Service, instance: &Instance, edit: ServerEdit) -> Result<WantedWords, String> {
        let place = place(service, instance.name.as_str());
        // One edit at a time.
        let mut weights = self.weights.lock().await;
        let places = InstanceKey::places(&self.prefix, &place).unwrap_or_default();
        let found = InstanceKey::existing(&self.store, places).await.map_err(refused)?.pop();
        let Some(InstanceKey { key, .. }) = found else {
            return Err(format!(
                "The store has no key of this server, {}.
",
                shown(&place)
            ));
        };
        let wanted = match edit {
            ServerEdit::Drain => WantedWords::Drain(Drain::On),
            ServerEdit::Ready => WantedWords::Drain(Drain::Off),
            ServerEdit::Weight(_) | ServerEdit::Percent(_) => {
                let value = self.store.get(&key).await.map_err(refused)?.unwrap_or_default();
                let now = weight_of(&value).unwrap_or(instance.weight);
                let known = weights.get(&place).filter(|known| known.written == now);
                let initial = known.map_or(now, |known| known.initial);
                let written = new_weight(initial, edit)?;
                if weights.len() >= MOST_WEIGHTS {
                    weights.clear();
                }
                weights.insert(place, KnownWeight { initial, written });
                WantedWords::Weight(written)
            }
        };
        self.store.amend(&key, |value| wanted.write(value)).await.map_err(refused)?;
        Ok(wanted)
    }
}

/// `services/shop/web-1`.
fn place(service: &Service, instance: &str) -> String {
    format!("{}/{}/{instance}", service.protocol, service.name)
}

/// The weight after an edit of weights: a share of the initial weight is at most the greatest.
fn new_weight(initial: u16, edit: ServerEdit) -> Result<u16, String> {
    let share = match edit {
        ServerEdit::Weight(weight) => return Ok(weight),
        ServerEdit::Percent(share) => u64::from(share),
        ServerEdit::Drain | ServerEdit::Ready => 100,
    };
    if initial == 0 && share > 0 {
        return Err("The initial weight is not known: the key says weight=0. Set an absolute weight.\n".to_owned());
    }
    Ok(u16::try_from(u64::from(initial) * share / 100).unwrap_or(HEAVIEST).min(HEAVIEST))
}

fn refused(error: StoreError) -> String {
    format!("{}\n", shown(&error.to_string()))
}

fn find<'t>(table: &'t Table, path: &ServerPath) -> Result<(&'t Service, &'t Instance), &'static str> {
    let at = find_service(table, &path.backend).ok_or("No such backend.\n")?;
    let service = &table.services()[at];
    Ok((service, find_instance(service, &path.server).ok_or("No such server.\n")?))
}

/// What an edit writes, and the table shows once it is served.
#[derive(Clone, Copy, Debug)]
enum WantedWords {
    Drain(Drain),
    Weight(u16),
}

impl WantedWords {
    /// The new value; `None`: it is so already.
    fn write(self, value: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Drain(drain) => drained(value, drain),
            Self::Weight(weight) => weighed(value, weight),
        }
    }

    fn is_in(self, instance: &Instance) -> bool {
        match self {
            Self::Drain(drain) => instance.drain == (drain == Drain::On),
            Self::Weight(weight) => instance.weight == weight,
        }
    }
}

/// Waits until the engine uses a table with the change. One that is gone meanwhile needs no waiting.
async fn served(stats: &Stats, (service, instance): (&Service, &Instance), wanted: WantedWords) -> String {
    let mut status = stats.status.clone();
    let is_served = |table: &Table| {
        let service = table.service(service.protocol, service.name.as_str());
        service.and_then(|service| find_instance(service, instance.name.as_str())).is_none_or(|now| wanted.is_in(now))
    };
    let done = status.wait_for(|status| {
        let table = status.table.as_ref();
        table.is_some_and(|table| is_served(table) && status.generation >= table.generation())
    });
    match timeout(SERVED, done).await {
        Ok(_) => String::new(),
        Err(_) => format!("Written, but not served here within {SERVED:?}; see the problems at /api/problems.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_initial_weight() {
        for (initial, share, expected) in [
            (2, 50, Ok(1)),
            (2, 0, Ok(0)),
            (2, 100, Ok(2)),
            (200, 1000, Ok(256)),
            (256, u32::MAX, Ok(256)),
            (0, 0, Ok(0)),
        ] {
            assert_eq!(new_weight(initial, ServerEdit::Percent(share)), expected, "{initial} {share}");
        }
        assert!(new_weight(0, ServerEdit::Percent(100)).unwrap_err().contains("absolute"));
        assert_eq!(new_weight(0, ServerEdit::Weight(7)), Ok(7));
    }
}
