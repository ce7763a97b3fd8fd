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
    live.turn.set(0);
    live
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
    assert_eq!(picks(&live, 2, None), "**", "a backup is no way around it");
}

#[test]
fn one_that_was_tried_is_not_tried_again() {
    let live = service(&[("a", "h:1"), ("b", "h:2")]);
    let mut rng = fastrand::Rng::with_seed(7);
    assert_eq!(pick(&live, None, tried(&live, &[0]), 0, &mut rng), Picked::One(1));
    assert_eq!(pick(&live, None, tried(&live, &[0, 1]), 0, &mut rng), Picked::None);
}

#[test]
fn an_ejection_is_seen_at_once_and_so_is_its_end() {
    let live = service(&[("a", "h:1"), ("b", "h:2"), ("c", "h:3")]);
    let check = |now, expected: &str| assert_eq!(picks_at(&live, now, expected.len(), None), expected, "at {now}");
    check(0, "abc");
    kill(&live, 0);
    check(0, "bcb");
    check(999, "cbc");
    check(1_000, "abc");
    let health = &live.instances[0].shared.health;
    health.approach(1_000, 500);
    check(1_000, "bcb");
    check(1_500, "cab");
    health.approach(1_500, 500);
    check(1_600, "cbc");
    assert!(health.succeeded());
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
    first.turn.set(0);
    assert_eq!(picks(&first, 2, None), "ab");
    let (view, second) = next(&view, &[("a", "h:1 drain"), ("b", "h:2"), ("c", "h:3")], &home);
    second.turn.set(0);
    assert_eq!(picks(&first, 2, None), "bb");
    assert_eq!(picks(&second, 3, None), "bcb");
    let (view, third) = next(&view, &[("a", "h:1"), ("c", "h:3 drain")], &home);
    assert_eq!(picks(&first, 2, None), "aa", "b is gone, a is back");
    assert_eq!(picks(&second, 2, None), "cb", "where nothing is left, its own table counts");
    assert_eq!(picks(&third, 2, None), "aa");
    next(&view, &[("a", "h:1 drain"), ("c", "h:3 drain")], &home);
    assert_eq!(picks(&first, 2, None), "ba");
}

/// How many of 300 requests each named instance gets, while the service changes after every `every` of them, to these
/// forms in turn.
fn shares_under_churn(forms: &[&[(&str, &str)]], every: usize, names: &str) -> Vec<usize> {
    let (home, mut view, mut picked) = (home(), View::empty(), String::new());
    home.with_rng(|rng| rng.seed(7));
    for round in 0..300 / every {
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
    assert_eq!(shares_under_churn(&changing, 3, "ab"), [270, 30]);
    let moving: [&[_]; 2] = [&[a, b], &[a, ("b", "h:3 weight=1")]];
    assert_eq!(shares_under_churn(&moving, 3, "ab"), [270, 30], "its address changes");
    // Another one comes and goes before them.
    for balance in ["roundrobin", "leastconn"] {
        let (x, y, balance) = (("x", "h:1"), ("y", "h:2"), ("balance", balance));
        let shares = shares_under_churn(&[&[x, y, balance], &[("a", "h:3"), x, y, balance]], 1, "xy");
        assert!(shares.iter().all(|share| *share >= 149), "{balance:?}: {shares:?}");
    }
}

#[test]
fn one_of_little_weight_that_comes_and_goes_has_its_turns() {
    let (a, b) = (("a", "h:1 weight=9"), ("b", "h:2 weight=1"));
    let shares = shares_under_churn(&[&[a, b], &[a]], 3, "b");
    assert!((5..=25).contains(&shares[0]), "{shares:?} of 150: about 15 would be right");
}

#[test]
fn what_was_saved_under_great_weights_is_soon_spent() {
    let home = home();
    let (view, live) = next(&View::empty(), &[("a", "h:1 weight=256"), ("b", "h:2 weight=255")], &home);
    assert_eq!(picks(&live, 1, None), "a");
    let (_, live) = next(&view, &[("a", "h:1 weight=1"), ("b", "h:2 weight=2")], &home);
    let picked = picks(&live, 12, None);
    assert!(picked.matches('a').count() >= 2, "{picked}");
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
    let lowest = eligible.iter().map(|index| standing(live, *index, now)).min();
    eligible.retain(|index| Some(standing(live, *index, now)) == lowest);
    eligible
}

/// Keys of a service of up to eight instances.
fn any_keys(rng: &mut fastrand::Rng) -> Vec<(String, String)> {
    let balances = ["roundrobin", "leastconn", "first", "source", "random", "p2c"];
    let mut keys = vec![("balance".to_owned(), balances[rng.usize(..balances.len())].to_owned())];
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
        (1, _) => drop(shared.health.succeeded()),
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
