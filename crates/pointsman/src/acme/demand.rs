//! Certificates on demand: judges the names that handshakes wait for, and has the leader ask for those that are allowed. A
//! bounded number of them, whoever asks how often.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pointsman_engine::cert_wishes::CertWish;
use pointsman_store::Store;
use pointsman_table::Allowance;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::authority::now;
use super::book::{CertBook, order_key};
use super::endpoint::Endpoint;
use super::order::{CLOCKS, CertOrder};
use crate::control::{Around, DEMAND_VERDICTS, Status};

/// Most names that are judged together.
const MOST_JUDGED: usize = 16;
/// Most names that are new within an hour, whichever balancers of the prefix take them: half of what Let's Encrypt allows
/// an account in three hours.
const MOST_NEW: usize = 50;
const HOUR: i64 = 3600;
/// How often verdicts are published at most.
const PACE: Duration = Duration::from_millis(500);
/// Most names that have certificates on demand.
const MOST_NAMES: usize = 10_000;

/// What names are judged with.
pub(super) struct Demand<'a> {
    pub(super) store: &'a Store,
    pub(super) folder: &'a str,
    pub(super) book: &'a watch::Sender<CertBook>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) endpoint: &'a Endpoint,
    /// Where verdicts are counted.
    pub(super) around: &'a watch::Sender<Around>,
    /// The hour in which a refusal for too many names was logged last.
    pub(super) told: Cell<i64>,
    /// New names that are being written.
    pub(super) writing: Cell<usize>,
}

/// What becomes of a name that a handshake wants a certificate for, in the order of [`DEMAND_VERDICTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DemandVerdict {
    Coming,
    Refused,
    Limited,
    Failed,
}

impl Demand<'_> {
    /// Judges all names. Never ends.
    pub(super) async fn run(self, mut wishes: mpsc::Receiver<CertWish>) {
        // Handshakes of one name wait for one verdict.
        let mut waiting: BTreeMap<Box<str>, Vec<oneshot::Sender<bool>>> = BTreeMap::new();
        let mut judging = FuturesUnordered::new();
        let (mut counts, mut is_told) = ([0; DEMAND_VERDICTS.len()], true);
        let mut turns = interval(PACE);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(CertWish { name, verdict }) = wishes.recv(), if judging.len() < MOST_JUDGED => {
                    let others = waiting.entry(name.clone()).or_default();
                    others.push(verdict);
                    if others.len() == 1 {
                        judging.push(self.judge(name));
                    }
                }
                Some((name, verdict)) = judging.next() => {
                    counts[verdict as usize] += 1;
                    is_told = false;
                    let is_coming = verdict == DemandVerdict::Coming;
                    for verdict in waiting.remove::<str>(&name).into_iter().flatten() {
                        // Whoever does not wait any more is not told.
                        let _ = verdict.send(is_coming);
                    }
                }
                _ = turns.tick(), if !is_told => {
                    is_told = true;
                    self.around.send_modify(|around| around.acme.demands = counts);
                }
                else => std::future::pending().await,
            }
        }
    }

    /// Whether a certificate for this name is on its way.
    async fn judge(&self, name: Box<str>) -> (Box<str>, DemandVerdict) {
        let table = self.status.borrow().table.clone();
        let allowed = match table.as_ref().map_or(Allowance::No, |table| table.config().acme.on_demand(&name)) {
            Allowance::Yes => Ok(true),
            Allowance::No => Ok(false),
            Allowance::Endpoint(url) => self.endpoint.allows(url, &name).await,
        };
        let verdict = match allowed {
            Ok(true) => self.expect(&name).await,
            Ok(false) => DemandVerdict::Refused,
            Err(_) => DemandVerdict::Failed,
        };
        (name, verdict)
    }

    /// Has a certificate asked for, if none is on its way.
    async fn expect(&self, name: &str) -> DemandVerdict {
        let now = now();
        if let Some(order) = self.book.borrow().orders.get(name) {
            // What has failed is tried again in its time.
            let is_tried = order.failure.is_none() || order.due <= now;
            return if is_tried { DemandVerdict::Coming } else { DemandVerdict::Failed };
        }
        if let Some(why) = crowded(&self.book.borrow(), self.writing.get(), now) {
            if self.told.replace(now / HOUR) != now / HOUR {
                warn!("no certificate for {name} on demand, nor for other new names: {why}");
            }
            return DemandVerdict::Limited;
        }
        let order = CertOrder::on_demand(now);
        let Ok(text) = serde_json::to_vec(&order) else { return DemandVerdict::Failed };
        self.writing.set(self.writing.get() + 1);
        let written = self.store.create(&order_key(self.folder, name), &text).await;
        self.writing.set(self.writing.get() - 1);
        match written {
            Ok(is_new) => {
                if is_new {
                    info!("certificate for {name}: wanted by a handshake");
                    self.book.send_modify(|book| book.note(name, order));
                }
                DemandVerdict::Coming
            }
            Err(error) => {
                warn!("no certificate for {name} on demand: {error}");
                DemandVerdict::Failed
            }
        }
    }
}

/// Why no other name may have a certificate on demand now. `writing`: names that are not in the book yet.
fn crowded(book: &CertBook, writing: usize, now: i64) -> Option<String> {
    let asked = || book.orders.values().filter_map(|order| order.on_demand);
    // One that came in the future came while the clock was wrong.
    let is_new = |at: &i64| (-CLOCKS..HOUR).contains(&now.saturating_sub(*at));
    if asked().filter(is_new).count() + writing >= MOST_NEW {
        return Some(format!("{MOST_NEW} names were new within an hour"));
    }
    (asked().count() >= MOST_NAMES).then(|| format!("{MOST_NAMES} names have one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_are_few() {
        let mut book = CertBook::default();
        for number in 0..MOST_NEW {
            assert_eq!(crowded(&book, 0, 0), None);
            assert_eq!(crowded(&book, MOST_NEW - 1 - number, 0), None);
            assert!(crowded(&book, MOST_NEW - number, 0).is_some());
            book.note(&format!("n{number}.test"), CertOrder::on_demand(0));
        }
        assert!(crowded(&book, 0, 0).is_some());
        assert!(crowded(&book, 0, HOUR - 1).is_some());
        assert_eq!(crowded(&book, 0, HOUR), None);
        for number in MOST_NEW..MOST_NAMES {
            book.note(&format!("n{number}.test"), CertOrder::on_demand(0));
        }
        assert!(crowded(&book, 0, HOUR).is_some());
    }
}
