//! The secrets of TLS session tickets: shared through the store by all balancers of a prefix, so that a session resumes at
//! each of them and after a restart; replaced every six hours. Without the store a balancer has its own. Makes no ticket.
//!
//! ```text
//! store: /_pointsman<prefix>/ticket-secrets/<period> ─list, create─> TicketBook ─watch─> engine
//! ```
//!
//! A period's secret is there before the period begins, so clocks may differ by hours. Whoever creates it first has created
//! it for all.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_engine::tickets::{TicketSecret, TicketSecrets};
use pointsman_native::new_ticket_secret;
use pointsman_store::{ASIDE, Store, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

/// How long a secret makes tickets.
const PERIOD: Duration = Duration::from_secs(6 * 3600);
/// How many periods later its last tickets, which live for 12 hours, have expired.
const OPENS: u64 = 2;
/// How often to look at the store, and how soon again after a failure.
const LOOK: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);
/// Failures in a row before one is logged.
const LASTS: u32 = 10;

/// Secrets by the number of their period, counted from the epoch.
type ByPeriod = BTreeMap<u64, TicketSecret>;

/// Publishes the secrets in use, forever, from when they are needed. Before that, nothing is written.
pub(crate) async fn keep(
    store: &Store,
    prefix: &str,
    secrets: watch::Sender<TicketSecrets>,
    needed: impl Future<Output = ()>,
) {
    needed.await;
    let earlier = (period(SystemTime::now()), secrets.borrow().clone());
    let mut keeper = TicketKeeper {
        store,
        folder: format!("{ASIDE}{prefix}/ticket-secrets"),
        book: TicketBook { earlier, ..TicketBook::default() },
        failures: 0,
    };
    loop {
        let pause = keeper.look(period(SystemTime::now()), &secrets).await;
        sleep(pause).await;
    }
}

/// The secret of a balancer that shares none yet.
pub(crate) fn first() -> TicketSecrets {
    let mut book = TicketBook::default();
    book.provide(period(SystemTime::now()));
    book.secrets(period(SystemTime::now()))
}

fn period(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / PERIOD.as_secs())
}

struct TicketKeeper<'a> {
    store: &'a Store,
    folder: String,
    book: TicketBook,
    /// How often in a row the store had no secret for us.
    failures: u32,
}

impl TicketKeeper<'_> {
    /// Takes part in the store's secrets; returns how long to wait until the next look.
    async fn look(&mut self, now: u64, secrets: &watch::Sender<TicketSecrets>) -> Duration {
        let shared = self.share(now).await;
        self.book.provide(now);
        let newest = self.book.secrets(now);
        secrets.send_if_modified(|last| {
            let is_news = *last != newest;
            *last = newest;
            is_news
        });
        match shared {
            Ok(()) => {
                if std::mem::take(&mut self.failures) >= LASTS {
                    info!("TLS sessions resume at every balancer of this prefix again");
                }
                LOOK
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures == LASTS {
                    warn!(
                        "TLS sessions resume at this balancer only, as its store has no secrets for tickets: {error}"
                    );
                }
                if self.failures < LASTS { RETRY } else { LOOK }
            }
        }
    }

    /// Reads the store's secrets, creates those that are missing, and removes those that opened their last ticket.
    async fn share(&mut self, now: u64) -> Result<(), StoreError> {
        let mut found = self.list().await?;
        for period in [now, now + 1].into_iter().filter(|period| !found.contains_key(period)).collect::<Vec<_>>() {
            let Some(secret) = new_ticket_secret() else { continue };
            if self.store.create(&self.key(period), STANDARD.encode(secret).as_bytes()).await? {
                found.insert(period, secret);
            } else if let Some(secret) = self.list().await?.remove(&period) {
                found.insert(period, secret);
            }
        }
        for period in found.keys().filter(|period| **period + OPENS < now) {
            // Another balancer may have removed it.
            let _ = self.store.delete(&self.key(*period), false).await;
        }
        self.book.shared = found;
        match self.book.shared.contains_key(&now) {
            true => Ok(()),
            false => Err(StoreError::BadKey { key: self.key(now), why: "is no secret; remove it".to_owned() }),
        }
    }

    async fn list(&self) -> Result<ByPeriod, StoreError> {
        let listing = self.store.list(&self.folder).await?;
        Ok(listing.entries.iter().filter_map(|(key, value)| Some((key.parse().ok()?, decoded(value)?))).collect())
    }

    fn key(&self, period: u64) -> String {
        format!("{}/{period}", self.folder)
    }
}

fn decoded(value: &[u8]) -> Option<TicketSecret> {
    STANDARD.decode(value.trim_ascii()).ok()?.try_into().ok()
}

/// All secrets that are known.
#[derive(Default)]
struct TicketBook {
    shared: ByPeriod,
    /// Our own, of periods without a shared one.
    own: ByPeriod,
    /// Those that were in use at first, in this period: they may be another program's.
    earlier: (u64, TicketSecrets),
}

impl TicketBook {
    /// Makes sure that there is one for this period.
    fn provide(&mut self, now: u64) {
        if !self.shared.contains_key(&now) && !self.own.contains_key(&now) {
            let first = self.earlier.1.iter().next().copied().filter(|_| self.earlier.0 == now);
            self.own.extend(first.or_else(new_ticket_secret).map(|secret| (now, secret)));
        }
        if self.earlier.0 + OPENS < now {
            self.earlier.1 = TicketSecrets::default();
        }
        self.own.retain(|period, _| *period + OPENS >= now);
    }

    /// The one that makes tickets now, and all others that open tickets, the newest first.
    fn secrets(&self, now: u64) -> TicketSecrets {
        let in_use = |by: &ByPeriod, period: u64| by.get(&period).copied();
        let current = in_use(&self.shared, now).or_else(|| in_use(&self.own, now));
        let known = self.shared.iter().chain(&self.own);
        let mut others: Vec<_> =
            known.filter(|(period, _)| (now.saturating_sub(OPENS)..=now + 1).contains(period)).collect();
        others.sort_by_key(|(period, _)| std::cmp::Reverse(*period));
        let others = others.into_iter().map(|(_, secret)| *secret).filter(|secret| Some(*secret) != current);
        let mut all: Vec<_> = current.into_iter().chain(others).collect();
        let more = self.earlier.1.iter().filter(|secret| !all.contains(secret));
        let more: Vec<_> = more.copied().collect();
        all.extend(more);
        all.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first byte of each secret in use.
    fn in_use(shared: &[u64], own: &[u64], now: u64) -> TicketSecrets {
        let by = |periods: &[u64], mark: u8| {
            periods.iter().map(|period| (*period, secret(*period, mark))).collect::<ByPeriod>()
        };
        TicketBook { shared: by(shared, 0), own: by(own, 1), ..TicketBook::default() }.secrets(now)
    }

    fn secret(period: u64, mark: u8) -> TicketSecret {
        let mut secret = [mark; 32];
        secret[0] = u8::try_from(period).unwrap();
        secret
    }

    #[test]
    fn the_present_makes_tickets_and_the_last_hours_open_them() {
        type Expected = [(u64, u8)];
        let rows: [(&[u64], &[u64], &Expected); 4] = [
            (&[6, 7, 8, 9, 10, 11, 12], &[], &[(10, 0), (11, 0), (9, 0), (8, 0)]),
            (&[10], &[10, 9], &[(10, 0), (10, 1), (9, 1)]),
            (&[9], &[10], &[(10, 1), (9, 0)]),
            (&[], &[], &[]),
        ];
        for (shared, own, expected) in rows {
            let expected: Vec<_> = expected.iter().map(|(period, mark)| secret(*period, *mark)).collect();
            assert_eq!(in_use(shared, own, 10), expected.into(), "{shared:?} {own:?}");
        }
    }

    #[test]
    fn secrets_of_the_program_before_open_tickets_until_they_expire() {
        let handed: Vec<_> = [10, 9].map(|period| secret(period, 7)).into();
        let mut book = TicketBook { earlier: (10, handed.clone().into()), ..TicketBook::default() };
        book.provide(10);
        assert_eq!(book.secrets(10), handed.clone().into(), "the first makes tickets");
        book.shared = [(10, secret(10, 0))].into();
        assert_eq!(book.secrets(10), vec![secret(10, 0), handed[0], handed[1]].into());
        book.provide(13);
        assert!(!book.secrets(13).iter().any(|known| handed.contains(known)));
    }

    #[test]
    fn a_period_without_a_shared_secret_gets_an_own_one() {
        let mut book = TicketBook::default();
        book.provide(10);
        let first = book.secrets(10);
        book.provide(10);
        assert_eq!(book.secrets(10), first);
        assert_ne!(first, TicketSecrets::default());
        book.provide(13);
        assert_eq!(book.own.keys().copied().collect::<Vec<_>>(), [13]);
    }
}
