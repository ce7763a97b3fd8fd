//! Looks up the host names of instances, and the names in `dns`, for the whole program: compile takes the addresses, engines look nothing up.
//!
//! ```text
//! control ── wanted names ─> follow ─┬─ book: due names and known addresses      pure
//!    ^                               └─ lookup: one name, by hickory-resolver
//!    └── watch<Arc<Names>> ──────────┘
//! ```

mod book;
mod lookup;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::Names;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::debug;

use book::{Ask, Book, Located, Unfound};
pub use lookup::Lookup;

/// How often to check whether the machine's own files changed.
const FILES: Duration = Duration::from_secs(1);

/// How long all name servers together may take for a name; the same for a patient lookup.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENT: Duration = Duration::from_secs(5);

/// The host names that the keys contain.
pub type HostNames = Arc<BTreeSet<Box<str>>>;

/// An answer, and the question.
type Told = (Ask, Result<Located, Unfound>);

/// Keeps `found` up to date for the names that are `wanted`, until the sender of `wanted` is dropped.
pub async fn follow(mut lookup: Lookup, mut wanted: watch::Receiver<HostNames>, found: watch::Sender<Arc<Names>>) {
    let mut book = Book::default();
    let mut asked = JoinSet::new();
    let mut files = interval(FILES);
    files.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for ask in book.ask(Instant::now()) {
            asked.spawn(answer(lookup.clone(), ask));
        }
        let due = book.due().unwrap_or_else(|| Instant::now() + FILES);
        tokio::select! {
            changed = wanted.changed() => match changed {
                Ok(()) => book.want(&wanted.borrow_and_update(), Instant::now()),
                Err(_) => return,
            },
            Some(told) = asked.join_next() => {
                let more = std::iter::from_fn(|| asked.try_join_next());
                let told: Vec<_> = std::iter::once(told).chain(more).filter_map(Result::ok).collect();
                told.into_iter().for_each(|told| take(&mut book, told));
            }
            _ = files.tick() => if lookup.refresh() {
                book.refresh(Instant::now());
            },
            () = sleep_until(due) => {}
        }
        found.send_if_modified(|found| {
            let news = book.news();
            let is_news = news.is_some();
            *found = news.unwrap_or_else(|| Arc::clone(found));
            is_news
        });
    }
}

async fn answer(lookup: Lookup, ask: Ask) -> Told {
    let patience = if ask.patient { PATIENT } else { PATIENCE };
    let answer = timeout(patience, lookup.look_up(&ask.name, ask.patient)).await;
    let silent = |_| Err(Unfound::Silent("no answer".into()));
    (ask, answer.unwrap_or_else(silent))
}

/// Takes an answer. A name that does not resolve is a problem with the keys, and logged as such.
fn take(book: &mut Book, (Ask { name, lane, .. }, answer): Told) {
    let before = book.known(&name).unwrap_or_default();
    book.take(&name, lane, answer, Instant::now());
    let now = book.known(&name).unwrap_or_default();
    // Some name servers return another selection of many addresses each time: do not log that by default.
    if before.addresses != now.addresses {
        debug!("{name} moved from {:?} to {:?}", before.addresses, now.addresses);
    }
}
