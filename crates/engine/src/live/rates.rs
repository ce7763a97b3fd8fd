//! How many requests came of late from each client of a service with a rate limit, for all workers: the generic cell rate
//! algorithm (ITU-T I.371). Memory is bounded, nothing waits, and no table changes it. Knows no key of the store.
//!
//! A client has a place with one number: the moment when all that it sent is paid for at its rate. Once that is past, the
//! place is free for others, and nothing need be known of the client. A place is one of 16 that the client's hash names,
//! first in a small segment, then in a larger one, then in one of many, which come into being as they are needed.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Places that a hash names in a segment: four cache lines.
const BUCKET: usize = 16;
/// Where segments begin, how many there are of a kind, and their places: 16 KiB, 512 KiB, and 48 MiB in 96 parts, which
/// is room for a million clients and more at three to a bucket.
const KINDS: [(usize, usize, usize); 3] = [(0, 1, 1 << 10), (1, 1, 1 << 15), (2, 96, 1 << 15)];
/// How often a request looks for its place, when others take it each time.
const TRIES: usize = 4;

/// A rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// From one request to the next, nanoseconds.
    pub interval: u64,
    /// How many may come at once.
    pub burst: u32,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// It is let in.
    pub is_in: bool,
    /// How many more would be let in now.
    pub left: u32,
    /// Until one more is let in, nanoseconds; 0: at once.
    pub next: u64,
    /// Until all that may come at once is let in again, nanoseconds.
    pub full: u64,
}

/// The places of all clients.
#[derive(Debug)]
pub struct Rates {
    seed: RandomState,
    segments: Box<[OnceLock<Box<[RateSlot]>>]>,
}

#[derive(Debug, Default)]
struct RateSlot {
    /// Whose it is; 0: nobody's.
    key: AtomicU64,
    /// When all is paid for, nanoseconds.
    paid: AtomicU64,
}

impl Default for Rates {
    fn default() -> Self {
        let count = KINDS.iter().map(|(_, count, _)| count).sum();
        Self { seed: RandomState::new(), segments: std::iter::repeat_with(OnceLock::new).take(count).collect() }
    }
}

impl Rates {
    /// Whether a request of this client is let in. `now`: nanoseconds since a moment that stays the same.
    pub fn ask(&self, client: impl Hash, rate: Rate, now: u64) -> Allowance {
        let key = self.seed.hash_one(client).max(1);
        let mut allowance = None;
        for _ in 0..TRIES {
            let place = self.find(key).unwrap_or_else(|| self.claim(key, now));
            allowance = Some(place.take(rate, now));
            // Else its place was free for others in the same moment, and one of them took it.
            if place.key.load(Ordering::Acquire) == key {
                break;
            }
        }
        allowance.unwrap_or(Allowance { is_in: true, left: 0, next: 0, full: 0 })
    }

    /// The bucket of this key in a segment of a kind, unless there is no such segment yet.
    fn bucket(&self, key: u64, (first, count, places): (usize, usize, usize), makes: bool) -> Option<&[RateSlot]> {
        // Not the same bits for both.
        let (part, bucket) = ((key >> 40) as usize % count, (key as usize) % (places / BUCKET));
        let segment = &self.segments[first + part];
        let make = || std::iter::repeat_with(RateSlot::default).take(places).collect();
        let segment = if makes { segment.get_or_init(make) } else { segment.get()? };
        segment.get(bucket * BUCKET..(bucket + 1) * BUCKET)
    }

    fn find(&self, key: u64) -> Option<&RateSlot> {
        let buckets = KINDS.into_iter().filter_map(|kind| self.bucket(key, kind, false));
        buckets.flatten().find(|place| place.key.load(Ordering::Acquire) == key)
    }

    /// Takes a free place; if none is, that of the client that has most to spend.
    fn claim(&self, key: u64, now: u64) -> &RateSlot {
        for kind in KINDS {
            let bucket = self.bucket(key, kind, true).unwrap_or_default();
            if let Some(place) = bucket.iter().find(|place| place.is_taken(key, now)) {
                return place;
            }
        }
        let last = self.bucket(key, KINDS[KINDS.len() - 1], true).unwrap_or_default();
        let richest = last.iter().min_by_key(|place| place.paid.load(Ordering::Relaxed));
        let place = richest.expect("a bucket has places");
        place.key.store(key, Ordering::Release);
        place.paid.store(now, Ordering::Release);
        place
    }
}

impl RateSlot {
    /// Takes it for this key if it is free. `true`: it is this key's.
    fn is_taken(&self, key: u64, now: u64) -> bool {
        let had = self.key.load(Ordering::Acquire);
        let is_free = had == 0 || self.paid.load(Ordering::Acquire) <= now;
        match is_free.then(|| self.key.compare_exchange(had, key, Ordering::AcqRel, Ordering::Acquire)) {
            Some(Err(other)) => other == key,
            Some(Ok(_)) => true,
            None => had == key,
        }
    }

    fn take(&self, Rate { interval, burst }: Rate, now: u64) -> Allowance {
        let whole = interval.saturating_mul(u64::from(burst));
        let pays = |paid: u64| {
            let then = paid.max(now).saturating_add(interval);
            (then <= now.saturating_add(whole)).then_some(then)
        };
        let (is_in, paid) = match self.paid.fetch_update(Ordering::AcqRel, Ordering::Acquire, pays) {
            Ok(before) => (true, before.max(now).saturating_add(interval)),
            Err(paid) => (false, paid),
        };
        let full = paid.saturating_sub(now);
        let left = whole.saturating_sub(full) / interval.max(1);
        let next = if left > 0 { 0 } else { (full + interval).saturating_sub(whole) };
        Allowance { is_in, left: u32::try_from(left).unwrap_or(u32::MAX), next, full }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn places(rates: &Rates) -> usize {
        rates.segments.iter().filter_map(OnceLock::get).map(|segment| segment.len()).sum()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let rates = Rates::default();
        let rate = Rate { interval: SECOND / 10, burst: 3 };
        let ask = |now| rates.ask("a", rate, now);
        let begin = 5 * SECOND;
        assert_eq!(ask(begin), Allowance { is_in: true, left: 2, next: 0, full: SECOND / 10 });
        assert_eq!((ask(begin).is_in, ask(begin).is_in), (true, true));
        let refused = Allowance { is_in: false, left: 0, next: SECOND / 10, full: 3 * SECOND / 10 };
        assert_eq!(ask(begin), refused);
        assert_eq!(ask(begin + SECOND / 10 - 1), Allowance { next: 1, full: 2 * SECOND / 10 + 1, ..refused });
        assert!(ask(begin + SECOND / 10).is_in && !ask(begin + SECOND / 10).is_in);
        assert!(rates.ask("b", rate, begin).is_in, "another client has its own");
        let later = (0..1_000).filter(|step| ask(begin + SECOND + step * SECOND / 100).is_in).count();
        assert_eq!(later, 3 + 99, "ten a second for ten seconds, and the burst");
    }

    #[test]
    fn all_threads_together_let_in_what_one_would() {
        let rates = Rates::default();
        let rate = Rate { interval: SECOND, burst: 1_000 };
        let ask_often = || (0..5_000).filter(|_| rates.ask("a", rate, SECOND).is_in).count();
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask_often)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1_000);
    }

    #[test]
    fn memory_follows_the_clients_and_is_bounded() {
        let rates = Rates::default();
        let rate = Rate { interval: SECOND, burst: 1 };
        (0..300).for_each(|client| assert!(rates.ask(client, rate, SECOND).is_in));
        assert!(places(&rates) <= 1 << 16, "a few clients take no more than the first segments: {}", places(&rates));
        // Their places are free again, two seconds later.
        for client in 0..100_000_u32 {
            rates.ask(client, rate, 4 * SECOND * u64::from(client));
        }
        assert!(places(&rates) <= 1 << 16, "one after another: {}", places(&rates));
        let clients = 200_000_u32;
        let end = 4 * SECOND * 200_000;
        (0..clients).for_each(|client| assert!(rates.ask(client, rate, end).is_in));
        let again = (0..clients).filter(|client| rates.ask(client, rate, end).is_in).count();
        assert!(again <= 20, "{again} of {clients} were forgotten");
        let most: usize = KINDS.iter().map(|(_, count, places)| count * places).sum();
        assert!(most * size_of::<RateSlot>() < 64_000_000 && places(&rates) <= most);
    }
}
