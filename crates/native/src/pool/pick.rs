//! Picks one instance. Never waits, never logs, never connects.
//!
//! A request sees one table from beginning to end. But one that waits or is repeated while a newer table takes an
//! instance out goes to another one of its own table, if there is one: who was told that an instance has no work left
//! can rely on it.
//!
//! An instance is *eligible* when it takes new work: weight above 0, not draining, not tried already for this request.
//! Of those, instances that are up go before those taken out by connect failures, ordinary ones before backups, and
//! ones with room before those at their `maxconn`. A backup is no way around a `maxconn`: it stands in for the dead.

use std::cmp::Reverse;
use std::hash::BuildHasher as _;
use std::net::IpAddr;

use foldhash::quality::FixedState;
use pointsman_table::{Balance, Instance};

use super::view::ServiceLive;

/// Which instances a request has tried. More than 128 are not remembered: no request tries that many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    bits: u128,
    count: u32,
}

impl Tried {
    pub(crate) fn add(&mut self, index: usize) {
        self.count += 1;
        self.bits |= 1u128.checked_shl(index as u32).unwrap_or(0);
    }

    pub(crate) fn count(self) -> u32 {
        self.count
    }

    fn has(self, index: usize) -> bool {
        self.bits & 1u128.checked_shl(index as u32).unwrap_or(0) != 0
    }
}

/// How willing an instance is; the lowest present is picked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Ready,
    Full,
    Backup,
    FullBackup,
    Down,
    DownBackup,
}

/// What a request is hashed by, for balances that want it: the same key gets the same instance.
pub(crate) fn key_of_address(address: IpAddr) -> u64 {
    FixedState::with_seed(0).hash_one(address)
}

/// As [`key_of_address`], for a path, header or parameter.
pub(crate) fn key_of_bytes(bytes: &[u8]) -> u64 {
    FixedState::with_seed(0).hash_one(bytes)
}

/// Picks an instance: its index, or `None` when none takes new work. `now`: coarse time. `key`: for hashing balances;
/// without one they take turns, as HAProxy does when the header or parameter is absent.
pub(crate) fn pick(
    live: &ServiceLive,
    key: Option<u64>,
    tried: Tried,
    now: u64,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let instances = &live.service.instances;
    if let [only] = &**instances {
        return (only.takes_work() && !tried.has(0)).then_some(0);
    }
    let eligible = |index: usize| instances[index].takes_work() && !tried.has(index);
    let current = |index: usize| eligible(index) && live.is_current(index);
    let any_current = (0..instances.len()).any(current);
    let eligible = |index: usize| if any_current { current(index) } else { eligible(index) };
    let standing = |index: usize| stand(live, index, now);
    let best = (0..instances.len()).filter(|index| eligible(*index)).map(standing).min()?;
    let candidate = |index: usize| eligible(index) && standing(index) == best;
    match (&live.service.balance, key) {
        (Balance::First, _) => (0..instances.len()).find(|index| candidate(*index)),
        (Balance::Random, _) => by_chance(instances, candidate, rng),
        (Balance::PowerOfTwo, _) => less_busy_of_two(live, candidate, rng),
        (Balance::LeastConnections, _) => least_busy(live, candidate),
        (Balance::Source | Balance::Uri | Balance::Header(_) | Balance::UrlParam(_), Some(key)) => {
            by_key(instances, candidate, key)
        }
        _ => by_turn(live, candidate),
    }
}

fn stand(live: &ServiceLive, index: usize, now: u64) -> Standing {
    let instance = &live.service.instances[index];
    let shared = &live.instances[index].shared;
    let full = instance.max_connections.is_some_and(|limit| shared.slots.is_full(limit));
    match (shared.health.is_up(now), full, instance.backup) {
        (false, _, false) => Standing::Down,
        (false, _, true) => Standing::DownBackup,
        (true, true, false) => Standing::Full,
        (true, true, true) => Standing::FullBackup,
        (true, false, true) => Standing::Backup,
        (true, false, false) => Standing::Ready,
    }
}

/// Plain turns where all weights are equal, smooth weighted turns otherwise.
fn by_turn(live: &ServiceLive, candidate: impl Fn(usize) -> bool) -> Option<usize> {
    let instances = &live.service.instances;
    if instances.iter().any(|instance| instance.weight != instances[0].weight) {
        return by_credit(live, candidate);
    }
    let count = instances.len();
    let start = live.turn.get();
    let ahead = (0..count).find(|ahead| candidate((start + ahead) % count))?;
    let index = (start + ahead) % count;
    live.turn.set(index + 1);
    Some(index)
}

/// Every candidate earns its weight, the richest goes and pays what all earned.
fn by_credit(live: &ServiceLive, candidate: impl Fn(usize) -> bool) -> Option<usize> {
    let mut credit = live.credit.borrow_mut();
    let mut total = 0;
    for index in (0..credit.len()).filter(|index| candidate(*index)) {
        let weight = i64::from(live.service.instances[index].weight);
        credit[index] += weight;
        total += weight;
    }
    let richest =
        (0..credit.len()).filter(|index| candidate(*index)).max_by_key(|index| (credit[*index], Reverse(*index)))?;
    credit[richest] -= total;
    Some(richest)
}

/// Fewest at work per weight; ties by turn.
fn least_busy(live: &ServiceLive, candidate: impl Fn(usize) -> bool) -> Option<usize> {
    let count = live.instances.len();
    let start = live.turn.get();
    let index = (0..count)
        .map(|ahead| (start + ahead) % count)
        .filter(|index| candidate(*index))
        .min_by(|a, b| load(live, *a).total_cmp(&load(live, *b)))?;
    live.turn.set(index + 1);
    Some(index)
}

/// What the next request would make it carry, per weight.
fn load(live: &ServiceLive, index: usize) -> f64 {
    let active = live.instances[index].shared.active();
    (active + 1) as f64 / f64::from(live.service.instances[index].weight)
}

/// Rendezvous hashing: every instance draws a score from key and name, the highest wins. An instance that comes or goes
/// moves only its own share of keys.
fn by_key(instances: &[Instance], candidate: impl Fn(usize) -> bool, key: u64) -> Option<usize> {
    let score = |index: usize| {
        let draw = FixedState::with_seed(key).hash_one(instances[index].name.as_str());
        let unit = ((draw >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        f64::from(instances[index].weight) / -unit.ln()
    };
    (0..instances.len()).filter(|index| candidate(*index)).max_by(|a, b| score(*a).total_cmp(&score(*b)))
}

fn by_chance(instances: &[Instance], candidate: impl Fn(usize) -> bool, rng: &mut fastrand::Rng) -> Option<usize> {
    let weight = |index: &usize| u64::from(instances[*index].weight);
    let candidates = || (0..instances.len()).filter(|index| candidate(*index));
    let mut left = rng.u64(0..candidates().map(|index| weight(&index)).sum::<u64>().max(1));
    candidates().find(|index| {
        let found = left < weight(index);
        left = left.saturating_sub(weight(index));
        found
    })
}

fn less_busy_of_two(
    live: &ServiceLive,
    candidate: impl Fn(usize) -> bool + Copy,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let instances = &live.service.instances;
    let one = by_chance(instances, candidate, rng)?;
    let other = by_chance(instances, |index| index != one && candidate(index), rng).unwrap_or(one);
    [one, other].into_iter().min_by(|a, b| load(live, *a).total_cmp(&load(live, *b)))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use pointsman_table::{KeySet, Limits, compile};

    use super::*;
    use crate::pool::connections::Pools;
    use crate::pool::view::{Home, View};
    use pointsman_engine::live::Registry;

    /// A service with these keys, and nothing at work.
    fn service(keys: &[(&str, &str)]) -> Rc<ServiceLive> {
        let mut key_set = KeySet::default();
        let entry = |(key, value): &(&str, &str)| (format!("services/s/{key}").into(), value.as_bytes().into());
        key_set.reset(1, keys.iter().chain(&[("default", "true")]).map(entry));
        let compiled = compile(&key_set, None, &Limits::default());
        assert_eq!(compiled.problems, []);
        let home = Home::new(0, Arc::new(Registry::new(1, crate::FAULTS)), Pools::new(0));
        let view = View::empty().next(compiled.table, &home, 0);
        let live = Rc::clone(view.service(0, &home).unwrap());
        live.turn.set(0);
        live
    }

    fn kill(live: &ServiceLive, index: usize) {
        for _ in 0..3 {
            live.instances[index].shared.health.failed(0);
        }
    }

    fn tried(indices: &[usize]) -> Tried {
        let mut tried = Tried::default();
        indices.iter().for_each(|index| tried.add(*index));
        tried
    }

    /// Which instances so many requests get, by name.
    fn picks(live: &ServiceLive, count: usize, key: Option<u64>) -> String {
        let mut rng = fastrand::Rng::with_seed(7);
        let name = |index: usize| live.service.instances[index].name.to_string();
        (0..count).map(|_| pick(live, key, Tried::default(), 0, &mut rng).map_or("-".to_owned(), name)).collect()
    }

    fn check(keys: &[(&str, &str)], expected: &str) {
        assert_eq!(picks(&service(keys), expected.len(), None), expected, "{keys:?}");
    }

    #[test]
    fn turns() {
        check(&[("a", "h:1"), ("b", "h:2"), ("c", "h:3")], "abcabc");
        check(&[("a", "h:1 weight=3"), ("b", "h:2")], "aabaaaba");
        check(&[("a", "h:1 weight=0"), ("b", "h:2"), ("c", "h:3 drain")], "bbb");
        check(&[("a", "h:1 weight=0")], "-");
        check(&[], "-");
        check(&[("a", "h:1"), ("b", "h:2"), ("balance", "first")], "aaa");
        check(&[("a", "h:1 backup"), ("b", "h:2")], "bbb");
        check(&[("a", "h:1 backup"), ("b", "h:2 drain")], "aaa");
    }

    #[test]
    fn the_least_busy_by_weight() {
        let live = service(&[("a", "h:1"), ("b", "h:2 weight=2"), ("balance", "leastconn")]);
        assert_eq!(picks(&live, 1, None), "b");
        live.instances[1].counters().active.add(2);
        assert_eq!(picks(&live, 1, None), "a");
    }

    #[test]
    fn a_key_stays_with_its_instance() {
        let all = [("a", "h:1"), ("b", "h:2"), ("c", "h:3"), ("balance", "source")];
        let (three, two) = (service(&all), service(&[all[0], all[2], all[3]]));
        let keys = || (0..300).map(|key| key_of_bytes(format!("{key}").as_bytes()));
        let homes = |live| keys().map(|key| picks(live, 1, Some(key))).collect::<Vec<_>>();
        let (before, after) = (homes(&three), homes(&two));
        assert!(before.iter().zip(&after).all(|(before, after)| before == "b" || before == after));
        assert!((60..140).contains(&before.iter().filter(|home| *home == "a").count()));
        assert_eq!(picks(&three, 3, None), "abc", "without a key they take turns");
    }

    #[test]
    fn chance_goes_by_weight() {
        let live = service(&[("a", "h:1 weight=3"), ("b", "h:2 weight=1"), ("balance", "random")]);
        let share = picks(&live, 1000, None).matches('a').count();
        assert!((700..800).contains(&share), "{share}");
        let live = service(&[("a", "h:1"), ("b", "h:2"), ("balance", "p2c")]);
        live.instances[0].counters().active.add(5);
        assert_eq!(picks(&live, 3, None), "bbb");
    }

    #[test]
    fn the_dead_go_last() {
        let live = service(&[("a", "h:1"), ("b", "h:2"), ("c", "h:3 backup")]);
        kill(&live, 0);
        assert_eq!(picks(&live, 3, None), "bbb");
        kill(&live, 1);
        assert_eq!(picks(&live, 2, None), "cc");
        kill(&live, 2);
        assert_eq!(picks(&live, 2, None).replace('b', "a"), "aa", "when all are out they are tried all the same");
    }

    #[test]
    fn one_at_its_maxconn_waits_behind_those_with_room() {
        let live = service(&[("a", "h:1 maxconn=1"), ("b", "h:2"), ("c", "h:3 backup")]);
        assert!(live.instances[0].shared.slots.take(std::num::NonZeroU32::MIN));
        assert_eq!(picks(&live, 2, None), "bb");
        let live = service(&[("a", "h:1 maxconn=1"), ("c", "h:3 backup")]);
        assert!(live.instances[0].shared.slots.take(std::num::NonZeroU32::MIN));
        assert_eq!(picks(&live, 2, None), "aa", "a backup is no way around it");
    }

    #[test]
    fn one_that_was_tried_is_not_tried_again() {
        let live = service(&[("a", "h:1"), ("b", "h:2")]);
        let mut rng = fastrand::Rng::with_seed(7);
        assert_eq!(pick(&live, None, tried(&[0]), 0, &mut rng), Some(1));
        assert_eq!(pick(&live, None, tried(&[0, 1]), 0, &mut rng), None);
    }
}
