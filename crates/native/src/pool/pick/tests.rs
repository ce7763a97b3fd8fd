//! Rows of keys and the instances picked. A property: the cached list and a scan of all instances agree.

use std::rc::Rc;
use std::sync::Arc;

use pointsman_table::{KeySet, Limits, Table, compile};

use super::*;
use crate::pool::connections::Pools;
use crate::pool::view::{Home, View};
use pointsman_engine::live::Registry;

fn home() -> Home {
    Home::new(0, Arc::new(Registry::new(1, crate::FAULTS)), Pools::new(0))
}

fn table(keys: &[(&str, &str)]) -> Arc<Table> {
    let mut key_set = KeySet::default();
    let entry = |(key, value): &(&str, &str)| (format!("services/s/{key}").into(), value.as_bytes().into());
    key_set.reset(1, keys.iter().chain(&[("default", "true")]).map(entry));
    let compiled = compile(&key_set, None, &Limits::default());
    assert_eq!(compiled.problems, []);
    compiled.table
}

/// The view of the service with these keys, after another one.
fn next(view: &View, keys: &[(&str, &str)], home: &Home) -> (Rc<View>, Rc<ServiceLive>) {
    let view = view.next(table(keys), home, 0);
    let live = Rc::clone(view.service(0, home).unwrap());
    (view, live)
}

/// A service with these keys, and nothing at work.
fn service(keys: &[(&str, &str)]) -> Rc<ServiceLive> {
    let (_, live) = next(&View::empty(), keys, &home());
    rewind(&live);
    live
}

/// The next turn is the first one.
fn rewind(live: &ServiceLive) {
    live.turns().skip(live.turns().take(0).wrapping_neg());
}

fn kill(live: &ServiceLive, index: usize) {
    for _ in 0..3 {
        live.instances[index].shared.health.failed(0);
    }
}

fn tried(live: &ServiceLive, indices: &[usize]) -> Tried {
    let mut tried = Tried::default();
    indices.iter().for_each(|index| tried.add(live.instances[*index].id));
    tried
}

/// Which instances this many requests get, by name; `*`: all are full, `-`: there is none.
fn picks(live: &ServiceLive, count: usize, key: Option<u64>) -> String {
    picks_at(live, 0, count, key)
}

fn picks_at(live: &ServiceLive, now: u64, count: usize, key: Option<u64>) -> String {
    let mut rng = fastrand::Rng::with_seed(7);
    let name = |picked| match picked {
        Picked::One(index) => live.service.instances[index].name.to_string(),
        Picked::Full => "*".to_owned(),
        Picked::None => "-".to_owned(),
    };
    (0..count).map(|_| name(pick(live, key, Tried::default(), now, &mut rng))).collect()
}

fn check(keys: &[(&str, &str)], expected: &str) {
    assert_eq!(picks(&service(keys), expected.len(), None), expected, "{keys:?}");
}

#[test]
fn turns() {
    check(&[("a", "h:1"), ("b", "h:2"), ("c", "h:3")], "abcabc");
    check(&[("a", "h:1 weight=3"), ("b", "h:2")], "abaaabaa");
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
    (0..2).for_each(|_| live.instances[1].begin());
    assert_eq!(picks(&live, 1, None), "a");
}

#[test]
fn a_key_stays_with_its_instance() {
    let all = [("a", "h:1"), ("b", "h:2"), ("c", "h:3"), ("balance", "source")];
    let (three, two) = (service(&all), service(&[all[0], all[2], all[3]]));
    let keys = || (0..300).map(|key| hash_key(format!("{key}").as_bytes()));
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
    (0..5).for_each(|_| live.instances[0].begin());
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
    assert_eq!(picks(&live, 2, None), "**", "a backup is no way around it");
}

#[test]
fn one_that_is_full_when_its_trial_is_due_does_not_hold_the_traffic() {
    let live = service(&[("a", "h:1 maxconn=1"), ("c", "h:3 backup")]);
    assert!(live.instances[0].shared.slots.take(std::num::NonZeroU32::MIN));
    kill(&live, 0);
    assert_eq!(picks_at(&live, 999, 2, None), "cc");
    assert_eq!(picks_at(&live, 1_000, 2, None), "cc", "its trial is due");
    live.instances[0].shared.slots.give();
    assert_eq!(picks_at(&live, 1_000, 1, None), "a");
    let live = service(&[("a", "h:1 maxconn=1"), ("b", "h:2 maxconn=1")]);
    (0..2).for_each(|index| assert!(live.instances[index].shared.slots.take(std::num::NonZeroU32::MIN)));
    kill(&live, 0);
    assert_eq!(picks_at(&live, 1_000, 1, None), "*", "the other one is full as well");
}

#[test]
fn one_that_was_tried_is_not_tried_again() {
    let live = service(&[("a", "h:1"), ("b", "h:2")]);
    let mut rng = fastrand::Rng::with_seed(7);
    assert_eq!(pick(&live, None, tried(&live, &[0]), 0, &mut rng), Picked::One(1));
    assert_eq!(pick(&live, None, tried(&live, &[0, 1]), 0, &mut rng), Picked::None);
}

#[test]
fn a_request_with_the_most_attempts_tries_another_instance_each_time() {
    let names: Vec<_> = ('a'..='l').map(String::from).collect();
    for (balance, seed) in [("roundrobin", 7), ("leastconn", 7)].into_iter().chain((0..20).map(|seed| ("random", seed)))
    {
        let instances = names.iter().map(|name| (name.as_str(), "h:1"));
        let live = service(&instances.chain([("balance", balance)]).collect::<Vec<_>>());
        let (mut tried, mut rng, mut picked) = (Tried::default(), fastrand::Rng::with_seed(seed), Vec::new());
        for _ in 0..=pointsman_table::MOST_RETRIES {
            let Picked::One(index) = pick(&live, None, tried, 0, &mut rng) else { panic!("some are left") };
            assert!(!picked.contains(&index), "{balance}: {index} after {picked:?}");
            picked.push(index);
            tried.add(live.instances[index].id);
        }
    }
}

/// How many of 1,200 requests each instance takes, by name, if `a` takes none and each goes on to another one.
fn shares_without_a(keys: &[(&str, &str)], names: &str) -> Vec<usize> {
    let (live, mut rng) = (service(keys), fastrand::Rng::with_seed(7));
    let mut takers = String::new();
    for _ in 0..1_200 {
        let mut tried = Tried::default();
        let taker = loop {
            let Picked::One(index) = pick(&live, None, tried, 0, &mut rng) else { panic!("there is one") };
            match live.service.instances[index].name.as_str() {
                "a" => tried.add(live.instances[index].id),
                name => break name,
            }
        };
        takers.push_str(taker);
    }
    names.chars().map(|name| takers.matches(name).count()).collect()
}

#[test]
fn repeated_requests_take_turns_with_the_others() {
    let all = [("a", "h:1"), ("b", "h:2"), ("c", "h:3"), ("d", "h:4"), ("e", "h:5")];
    assert_eq!(shares_without_a(&all[..3], "abc"), [0, 600, 600]);
    assert_eq!(shares_without_a(&all[..4], "abcd"), [0, 400, 400, 400]);
    assert_eq!(shares_without_a(&all, "abcde"), [0, 300, 300, 300, 300]);
    let light = [("b", "h:2 weight=1"), ("c", "h:3 weight=1"), ("d", "h:4 weight=2")];
    let shares = shares_without_a(&[("a", "h:1 weight=250"), light[0], light[1], light[2]], "bcd");
    let off = shares.iter().zip([300, 300, 600]).map(|(share, right): (_, usize)| share.abs_diff(right)).max();
    assert!(off <= Some(60), "{shares:?}");
}

#[test]
fn an_ejection_is_seen_at_once_and_so_is_its_end() {
    let live = service(&[("a", "h:1"), ("b", "h:2"), ("c", "h:3")]);
    let check = |now, expected: &str| {
        rewind(&live);
        assert_eq!(picks_at(&live, now, expected.len(), None), expected, "at {now}");
    };
    check(0, "abc");
    kill(&live, 0);
    check(0, "bcb");
    check(999, "bcb");
    check(1_000, "abc");
    let health = &live.instances[0].shared.health;
    health.approach(1_000, 500);
    check(1_000, "bcb");
    check(1_500, "abc");
    health.approach(1_500, 500);
    check(1_600, "bcb");
    assert!(health.succeeded(1_600));
    check(1_600, "abc");
}

#[test]
fn room_that_is_given_back_is_seen_at_once() {
    let live = service(&[("a", "h:1 maxconn=1"), ("b", "h:2 maxconn=1"), ("balance", "first")]);
    let slots = [0, 1].map(|index| &live.instances[index].shared.slots);
    let one = std::num::NonZeroU32::MIN;
    assert_eq!(picks(&live, 2, None), "aa");
    assert!(slots[0].take(one));
    assert_eq!(picks(&live, 2, None), "bb");
    assert!(slots[1].take(one));
    assert_eq!(picks(&live, 2, None), "**", "all are full: whoever comes waits");
    slots[1].give();
    assert_eq!(picks(&live, 2, None), "bb");
}

#[test]
fn who_came_before_the_newest_table_avoids_what_that_has_drained() {
    let home = home();
    let (view, first) = next(&View::empty(), &[("a", "h:1"), ("b", "h:2")], &home);
    rewind(&first);
    assert_eq!(picks(&first, 2, None), "ab");
    let (view, second) = next(&view, &[("a", "h:1 drain"), ("b", "h:2"), ("c", "h:3")], &home);
    rewind(&second);
    assert_eq!(picks(&first, 2, None), "bb");
    assert_eq!(picks(&second, 3, None), "bcb");
    let (view, third) = next(&view, &[("a", "h:1"), ("c", "h:3 drain")], &home);
    assert_eq!(picks(&first, 2, None), "aa", "b is gone, a is back");
    assert_eq!(picks(&second, 2, None), "cb", "where nothing is left, its own table counts");
    assert_eq!(picks(&third, 2, None), "aa");
    next(&view, &[("a", "h:1 drain"), ("c", "h:3 drain")], &home);
    assert_eq!(picks(&first, 2, None), "ba");
}

/// How many of 1,200 requests each named instance gets, while the service changes after every `every` of them, to these
/// forms in turn.
fn shares_under_churn(forms: &[&[(&str, &str)]], every: usize, names: &str) -> Vec<usize> {
    let (home, mut view, mut picked) = (home(), View::empty(), String::new());
    home.with_rng(|rng| rng.seed(7));
    for round in 0..1_200 / every {
        let (newest, live) = next(&view, forms[round % forms.len()], &home);
        picked.push_str(&picks(&live, every, None));
        view = newest;
    }
    names.chars().map(|name| picked.matches(name).count()).collect()
}

#[test]
fn turns_survive_every_change() {
    let (a, b) = (("a", "h:1 weight=9"), ("b", "h:2 weight=1"));
    let changing: [&[_]; 2] = [&[a, b], &[a, b, ("timeout/server", "9s")]];
    assert_eq!(shares_under_churn(&changing, 3, "ab"), [1_080, 120]);
    let moving: [&[_]; 2] = [&[a, b], &[a, ("b", "h:3 weight=1")]];
    assert_eq!(shares_under_churn(&moving, 3, "ab"), [1_080, 120], "its address changes");
}

#[test]
fn shares_are_right_while_others_come_and_go() {
    let (x, y, z) = (("x", "h:1"), ("y", "h:2"), ("z", "h:4 weight=1"));
    for balance in ["roundrobin", "leastconn"] {
        let balance = ("balance", balance);
        for every in [1, 3, 4, 7, 25] {
            let shares = shares_under_churn(&[&[x, y, balance], &[("a", "h:3"), x, y, balance]], every, "axy");
            // Half of the time a third, half of the time a half.
            let off = shares.iter().zip([200, 500, 500]).map(|(share, right): (_, usize)| share.abs_diff(right)).max();
            assert!(off <= Some(12), "{balance:?}, every {every}: {shares:?}");
        }
    }
    let one: &[_] = &[("w", "h:5 weight=7"), z];
    for every in [1, 2, 3, 5, 11] {
        let shares = shares_under_churn(&[one, &[("w", "h:5 weight=7"), z, ("v", "h:6 weight=4")]], every, "vwz");
        let off = shares.iter().zip([200, 875, 125]).map(|(share, right): (_, usize)| share.abs_diff(right)).max();
        assert!(off <= Some(12), "every {every}: {shares:?}");
    }
}

#[test]
fn workers_take_turns_together() {
    let registry = Arc::new(Registry::new(2, crate::FAULTS));
    let table = table(&[("a", "h:1"), ("b", "h:2 weight=2"), ("c", "h:3")]);
    let homes = [0, 1].map(|worker| Home::new(worker, Arc::clone(&registry), Pools::new(0)));
    let lives = homes
        .each_ref()
        .map(|home| Rc::clone(View::empty().next(Arc::clone(&table), home, 0).service(0, home).unwrap()));
    let picked: String = (0..400).map(|n| picks(&lives[n * n % 7 % 2], 1, None)).collect();
    assert_eq!(["a", "b", "c"].map(|name| picked.matches(name).count()), [100, 200, 100]);
    assert!(picked.as_bytes().chunks(4).all(|four| four.contains(&b'a') && four.contains(&b'c')), "{picked}");
}

#[test]
fn open_work_of_all_workers_counts() {
    let registry = Arc::new(Registry::new(2, crate::FAULTS));
    let keys = [("a", "h:1"), ("b", "h:2"), ("balance", "leastconn")];
    let homes = [0, 1].map(|worker| Home::new(worker, Arc::clone(&registry), Pools::new(0)));
    let (view, first) = next(&View::empty(), &keys, &homes[0]);
    let (_, second) = next(&View::empty(), &keys, &homes[1]);
    (0..3).for_each(|_| first.instances[0].begin());
    assert_eq!(picks(&second, 4, None), "bbbb");
    // What was open before the balance asked for it counts too.
    let (view, turns) = next(&view, &keys[..2], &homes[0]);
    assert_eq!(turns.instances[0].shared.load.open(), 0);
    let (_, least) = next(&view, &keys, &homes[0]);
    assert_eq!(least.instances[0].shared.load.open(), 3);
    (0..3).for_each(|_| first.instances[0].end());
    assert_eq!(least.instances[0].shared.load.open(), 0);
}

#[test]
fn a_bound_sends_a_key_on() {
    let live = service(&[("a", "h:1"), ("b", "h:2"), ("c", "h:3"), ("balance", "source"), ("bounded", "150%")]);
    let key = Some(hash_key(b"somebody"));
    let index_of = |name: &str| live.service.instances.iter().position(|one| one.name.as_str() == name).unwrap();
    let home = index_of(&picks(&live, 1, key));
    let work = |index: usize| {
        live.instances[index].begin();
        live.turns().open();
    };
    let mut taken = [0; 3];
    for _ in 0..30 {
        let index = index_of(&picks(&live, 1, key));
        taken[index] += 1;
        work(index);
    }
    assert_eq!(taken.iter().max(), Some(&taken[home]));
    assert_eq!(taken[home], 15, "half as much again as ten: {taken:?}");
    assert_eq!(picks_at(&live, 0, 1, None).len(), 1, "without a key there is no bound");
}

#[test]
fn an_instance_that_returns_gets_its_share_by_and_by() {
    for balance in ["roundrobin", "random", "source"] {
        let live = service(&[("a", "h:1"), ("b", "h:2"), ("slow_start", "10s"), ("balance", balance)]);
        let share = |now: u64| {
            let mut rng = fastrand::Rng::with_seed(7);
            let mut is_first = |n: usize| {
                let key = (balance == "source").then(|| hash_key(&n.to_le_bytes()));
                pick(&live, key, Tried::default(), now, &mut rng) == Picked::One(0)
            };
            (0..2_200).filter(|n| is_first(*n)).count()
        };
        let near = |now, right: usize| {
            let share = share(now);
            assert!(share.abs_diff(right) <= 100, "{balance} at {now}: {share}, not {right}");
        };
        near(0, 1_100);
        kill(&live, 0);
        near(500, 0);
        assert!(live.instances[0].shared.health.succeeded(1_000));
        near(1_000, 200);
        near(6_000, 772);
        near(11_000, 1_100);
    }
}

#[test]
fn one_that_appears_starts_slowly_and_a_first_table_does_not() {
    let home = home();
    let keys = [("a", "h:1"), ("b", "h:2"), ("slow_start", "1h")];
    let (view, live) = next(&View::empty(), &[keys[0], keys[2]], &home);
    let since = |live: &ServiceLive, index: usize| live.instances[index].shared.health.since();
    assert_eq!(since(&live, 0), 0);
    let (view, live) = next(&view, &keys, &home);
    assert_eq!((since(&live, 0), since(&live, 1) > 0), (0, true));
    assert_eq!(picks_at(&live, since(&live, 1), 11, None).matches('b').count(), 1);
    let (view, _) = next(&view, &[keys[0], keys[2]], &home);
    assert_eq!(since(&live, 1), 0);
    let (_, live) = next(&view, &keys, &home);
    assert!(since(&live, 1) > 0, "it appears again");
    let view = View::empty().next(table(&[keys[0], keys[2], ("domain", "s.test")]), &home, 0);
    let (_, live) = next(&view, &[keys[0], ("c", "h:3"), keys[2]], &home);
    assert!(since(&live, 1) > 0, "the service had no work before");
}

#[test]
fn two_choices_go_by_latency_and_open_work() {
    let live = service(&[("a", "h:1"), ("b", "h:2"), ("balance", "p2c")]);
    let measure = |index: usize, millis| {
        live.instances[index].shared.load.measure(0, std::time::Duration::from_millis(millis));
    };
    measure(0, 10);
    measure(1, 30);
    assert_eq!(picks(&live, 3, None), "aaa");
    (0..3).for_each(|_| live.instances[0].begin());
    assert_eq!(picks(&live, 3, None), "bbb", "four at 10 ms take longer than one at 30");
}

/// The rank of an instance; one of the lowest rank present is picked.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Ready,
    Full,
    Backup,
    FullBackup,
    Down,
    DownBackup,
}

impl Standing {
    fn is_full(&self) -> bool {
        matches!(self, Self::Full | Self::FullBackup)
    }
}

fn standing(live: &ServiceLive, index: usize, now: u64) -> Standing {
    let up = live.instances[index].shared.health.is_up(now);
    match (up, has_room(live, index), live.service.instances[index].backup) {
        (false, _, false) => Standing::Down,
        (false, _, true) => Standing::DownBackup,
        (true, false, false) => Standing::Full,
        (true, false, true) => Standing::FullBackup,
        (true, true, true) => Standing::Backup,
        (true, true, false) => Standing::Ready,
    }
}

/// The instances of which one should be picked, found by a scan of all.
fn best(live: &ServiceLive, tried: Tried, now: u64) -> Vec<usize> {
    let all = 0..live.instances.len();
    let eligible = |index: &usize| live.service.instances[*index].takes_work() && !tried.has(live.instances[*index].id);
    let mut eligible: Vec<usize> = all.filter(eligible).collect();
    if eligible.iter().any(|index| live.is_current(*index)) {
        eligible.retain(|index| live.is_current(*index));
    }
    let among = |of: &dyn Fn(usize) -> Standing| {
        let lowest = eligible.iter().map(|index| of(*index)).min();
        let all = eligible.iter().copied().filter(|index| Some(of(*index)) == lowest).collect::<Vec<_>>();
        (lowest, all)
    };
    let (lowest, all) = among(&|index| standing(live, index, now));
    if lowest.is_some_and(|lowest| lowest.is_full()) {
        // Those that are due for a trial do not stand in the way of others.
        let others = among(&|index| match standing(live, index, now) {
            full if !full.is_full() || live.instances[index].shared.health.is_sound() => full,
            Standing::Full => Standing::Down,
            _ => Standing::DownBackup,
        });
        if others.0.is_some_and(|lowest| lowest < Standing::Down) {
            return others.1;
        }
    }
    all
}

/// Keys of a service of up to eight instances.
fn any_keys(rng: &mut fastrand::Rng) -> Vec<(String, String)> {
    let balances = ["roundrobin", "leastconn", "first", "source", "random", "p2c"];
    let balance = balances[rng.usize(..balances.len())];
    let mut keys = vec![("balance".to_owned(), balance.to_owned())];
    if balance == "source" && rng.bool() {
        keys.push(("bounded".to_owned(), "110%".to_owned()));
    }
    if rng.bool() {
        keys.push(("slow_start".to_owned(), "2s".to_owned()));
    }
    for name in 'a'..'i' {
        let options = [" weight=0", " weight=200", " maxconn=1", " maxconn=2", " backup", " backup", " drain", ""];
        let mut some = || options[if rng.bool() { rng.usize(..options.len()) } else { options.len() - 1 }];
        let (one, other) = (some(), some());
        // The same option twice is a problem of the key.
        let other = if one.split('=').next() == other.split('=').next() { "" } else { other };
        if rng.u8(..4) > 0 {
            keys.push((name.to_string(), format!("h:1{one}{other}")));
        }
    }
    keys
}

/// Changes the state of some instance.
fn disturb(live: &ServiceLive, now: u64, rng: &mut fastrand::Rng) {
    let Some(index) = rng.usize(..).checked_rem(live.instances.len()) else { return };
    let (instance, shared) = (&live.service.instances[index], &live.instances[index].shared);
    match (rng.u8(..8), instance.max_connections) {
        (0, _) => shared.health.approach(now, 500),
        (1, _) => drop(shared.health.succeeded(now)),
        (2, Some(limit)) if !shared.slots.is_full(limit) => assert!(shared.slots.take(limit)),
        (3, Some(limit)) if shared.slots.is_full(limit) => shared.slots.give(),
        _ => drop(shared.health.failed(now)),
    }
}

#[test]
fn a_pick_is_one_of_those_that_a_look_at_all_would_find() {
    for seed in 0..300 {
        let (mut rng, home, mut now) = (fastrand::Rng::with_seed(seed), home(), 0);
        let (mut view, mut lives) = (View::empty(), Vec::new());
        for step in 0..120 {
            if step % 40 == 0 {
                let keys = any_keys(&mut rng);
                let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                let (newest, live) = next(&view, &keys, &home);
                view = newest;
                lives.push(live);
            }
            now += rng.u64(..400);
            let live = &lives[rng.usize(..lives.len())];
            disturb(live, now, &mut rng);
            let mut tried = Tried::default();
            live.instances.iter().filter(|_| rng.u8(..16) == 0).for_each(|instance| tried.add(instance.id));
            for (tried, key) in [(Tried::default(), None), (Tried::default(), Some(rng.u64(..))), (tried, None)] {
                let (picked, best) = (pick(live, key, tried, now, &mut rng), best(live, tried, now));
                let full = |index: &usize| matches!(standing(live, *index, now), Standing::Full | Standing::FullBackup);
                let right = match picked {
                    Picked::One(index) => live.instances.len() == 1 || best.contains(&index) && !full(&index),
                    Picked::Full => best.iter().any(full),
                    Picked::None => best.is_empty(),
                };
                assert!(right, "seed {seed}, step {step}: {picked:?}, not of {best:?}");
            }
        }
    }
}
