//! Tests holds on a clock of their own: when they begin, what is served meanwhile, and how they end.

use pointsman_table::guard_share;

use super::*;

/// A guard, the store's keys, and the seconds since its first keys.
struct Scene {
    guard: Guard,
    start: Instant,
    keys: KeySet,
}

/// A service with a domain and instances of these numbers.
fn service(name: &str, numbers: std::ops::Range<usize>) -> Vec<(Box<str>, Box<[u8]>)> {
    let instance = |number| (format!("services/{name}/i{number}").into(), b"10.0.0.1:80".as_slice().into());
    let domain = (format!("services/{name}/domain").into(), format!("{name}.test").as_bytes().into());
    std::iter::once(domain).chain(numbers.map(instance)).collect()
}

impl Scene {
    /// It serves a service of 20 instances.
    fn new() -> Self {
        let settings = GuardSettings { share: guard_share("50%").unwrap(), hold: Duration::from_secs(600) };
        let (mut guard, start, mut keys) = (Guard::new(settings), Instant::now(), KeySet::default());
        keys.reset(1, service("a", 0..20));
        guard.note(start, &keys);
        Self { guard, start, keys }
    }

    /// At this second, the store has these keys. How many keys are served, and how many of them are held; why the last hold
    /// ended.
    fn at(&mut self, second: u64, keys: Vec<(Box<str>, Box<[u8]>)>) -> (usize, usize, Option<HoldEnd>) {
        self.guard.take(&Update::Reset { revision: second, entries: Vec::new() });
        self.keys.reset(second, keys);
        self.judge(second)
    }

    fn judge(&mut self, second: u64) -> (usize, usize, Option<HoldEnd>) {
        let now = self.start + Duration::from_secs(second);
        self.guard.judge(now, SystemTime::UNIX_EPOCH, &self.keys);
        let served = self.guard.held().unwrap_or(&self.keys).clone();
        self.guard.note(now, &self.keys);
        (served.len(), self.guard.shown("/p").map_or(0, |held| held.keys), self.guard.ended())
    }
}

#[test]
fn a_wipe_is_held_until_its_time_is_over() {
    let mut scene = Scene::new();
    assert_eq!(scene.at(1, vec![]), (21, 21, None));
    let held = scene.guard.shown("/p").unwrap();
    assert_eq!((held.services.len(), held.instances.len(), held.problems.len()), (1, 20, 1));
    let line = held.problems[0].to_string();
    let begin =
        "/p: held: 1 of 1 service and 20 of 20 instances, more than 50%, were taken away at once, at revision 1;";
    assert!(line.starts_with(begin) && line.contains("`pointsman guard release`"), "{line}");
    assert_eq!(scene.guard.due(), Some(scene.start + Duration::from_secs(601)));
    // What comes is taken, and goes again.
    assert_eq!(scene.at(2, service("b", 0..3)), (21 + 4, 21, None));
    assert_eq!(scene.at(3, service("b", 0..1)), (21 + 2, 21, None));
    assert_eq!(scene.judge(600), (23, 21, None));
    assert_eq!(scene.judge(601), (2, 0, Some(HoldEnd::Over)));
    assert_eq!((scene.judge(602), scene.guard.due(), scene.guard.holds()), ((2, 0, None), None, 1));
}

#[test]
fn keys_that_come_back_are_held_no_more() {
    let mut scene = Scene::new();
    assert_eq!(scene.at(1, vec![]), (21, 21, None));
    assert_eq!(scene.at(2, service("a", 0..5)), (21, 15, None));
    // From here on the rest would pass by itself, but it may still be on its way.
    assert_eq!(scene.at(3, service("a", 0..15)), (21, 5, None));
    assert_eq!(scene.at(12, service("a", 0..16)), (21, 4, None));
    assert_eq!(scene.guard.due(), Some(scene.start + Duration::from_secs(22)));
    assert_eq!(scene.judge(21), (21, 4, None));
    assert_eq!(scene.judge(22), (17, 0, Some(HoldEnd::Settled)));
    let mut scene = Scene::new();
    assert_eq!(scene.at(1, vec![]), (21, 21, None));
    assert_eq!(scene.at(2, service("a", 0..20)), (21, 0, Some(HoldEnd::Returned)));
    assert_eq!(scene.at(3, vec![]), (21, 21, None), "and it is guarded again");
    // Other instances in their places.
    assert_eq!(scene.at(4, service("a", 20..40)), (21, 0, Some(HoldEnd::Returned)));
}

#[test]
fn a_greater_loss_gets_the_whole_time() {
    let mut scene = Scene::new();
    let both = |of_a| [service("a", of_a), service("b", 0..20)].concat();
    assert_eq!(scene.at(1, both(0..20)).1, 0);
    // A part of one service, then everything.
    assert_eq!(scene.at(10, both(0..5)).1, 15);
    assert_eq!(scene.guard.due(), Some(scene.start + Duration::from_secs(610)));
    assert_eq!(scene.at(600, vec![]).1, 42);
    assert_eq!(scene.guard.due(), Some(scene.start + Duration::from_secs(1_200)));
    assert_eq!(scene.judge(1_199).1, 42);
    assert_eq!(scene.judge(1_200), (0, 0, Some(HoldEnd::Over)));
}

#[test]
fn what_is_released_is_not_held_again() {
    let mut scene = Scene::new();
    assert_eq!(scene.at(1, vec![]), (21, 21, None));
    assert!(scene.guard.release() && !scene.guard.release());
    assert_eq!(scene.judge(2), (0, 0, Some(HoldEnd::Released)));
    assert_eq!(scene.judge(30), (0, 0, None));
}

#[test]
fn losses_within_seconds_are_one() {
    // Leases that end one after the other; and the same within minutes, as somebody scales down.
    for (apart, expected) in [(1, 15), (10, 0)] {
        let mut scene = Scene::new();
        let mut held = 0;
        for step in 1..=5 {
            held = scene.at(step * apart, service("a", 0..20 - 3 * usize::try_from(step).unwrap())).1;
            if held > 0 {
                break;
            }
        }
        let least = if expected == 0 { 0 } else { 11 };
        assert!((held > 0) == (expected > 0) && held >= least, "{apart} s apart: {held}");
    }
}

#[test]
fn a_service_that_is_held_becomes_the_table() {
    let mut scene = Scene::new();
    let both = |a, b| [service("a", 0..a), service("b", 0..b)].concat();
    scene.keys.reset(2, both(20, 100));
    scene.guard = Guard::new(scene.guard.settings);
    scene.guard.note(scene.start, &scene.keys);
    assert_eq!(scene.at(1, both(2, 100)), (122, 18, None));
    let problem = scene.guard.shown("").unwrap().problems.remove(0);
    assert_eq!((&*problem.key, problem.service.unwrap().1.as_str()), ("/services/a", "a"));
    // Only that service is held.
    assert_eq!(scene.at(2, both(2, 99)), (121, 18, None));
    assert_eq!(scene.at(3, vec![]), (122, 122, None));
    assert_eq!(&*scene.guard.shown("").unwrap().problems[0].key, "/");
}

/// A loss in two parts, three seconds apart, wherever a border might be.
#[test]
fn the_window_slides() {
    for first in 1..12 {
        let mut scene = Scene::new();
        assert_eq!(scene.at(first, service("a", 0..14)).1, 0);
        for second in first + 1..first + 3 {
            scene.judge(second);
        }
        assert_eq!(scene.at(first + 3, service("a", 0..8)), (21, 12, None), "after {first} s");
    }
    // What came in between counts, too.
    let mut scene = Scene::new();
    assert_eq!(scene.at(1, service("a", 0..12)).1, 0);
    assert_eq!(scene.at(3, [service("a", 0..12), service("b", 0..20)].concat()).1, 0);
    assert_eq!(scene.at(5, service("a", 0..12)), (13 + 21, 21, None));
}

#[test]
fn what_came_during_a_hold_is_guarded_too() {
    let mut scene = Scene::new();
    assert_eq!(scene.at(1, vec![]), (21, 21, None));
    assert_eq!(scene.at(20, service("b", 0..30)), (21 + 31, 21, None));
    // An ordinary removal.
    assert_eq!(scene.at(40, service("b", 0..25)), (21 + 26, 21, None));
    assert_eq!(scene.at(60, vec![]), (21 + 26, 47, None));
    assert_eq!((scene.guard.holds(), scene.guard.shown("").unwrap().problems.len()), (2, 2));
    // Each has its own time, and its own end.
    assert_eq!(scene.guard.due(), Some(scene.start + Duration::from_secs(601)));
    assert_eq!(scene.at(601, vec![]), (26, 26, None));
    assert_eq!(scene.guard.due(), Some(scene.start + Duration::from_secs(660)));
    assert_eq!(scene.at(602, service("b", 0..25)), (26, 0, Some(HoldEnd::Returned)));
    // One service is held, and then a part of another that came.
    let mut scene = Scene::new();
    let of = |a, b| [service("a", 0..a), service("b", 0..b), service("c", 0..100)].concat();
    assert_eq!(scene.at(1, of(20, 0)).1, 0);
    assert_eq!(scene.at(10, of(2, 0)), (21 + 1 + 101, 18, None));
    assert_eq!(scene.at(20, of(2, 40)), (21 + 41 + 101, 18, None));
    assert_eq!(scene.at(30, of(2, 10)), (21 + 41 + 101, 48, None));
    assert_eq!(scene.judge(31), (21 + 41 + 101, 48, None));
    let named: Vec<_> = scene.guard.shown("").unwrap().problems.iter().map(|one| one.key.to_string()).collect();
    assert_eq!(named, ["/services/a", "/services/b"]);
}

/// The rest of a loss is no further one; a wipe of what was put back is.
#[test]
fn a_loss_that_goes_on_is_one() {
    let mut scene = Scene::new();
    assert_eq!(scene.at(1, service("a", 0..100)).1, 0);
    assert_eq!(scene.at(10, service("a", 0..40)), (101, 60, None));
    assert_eq!(scene.at(12, service("a", 0..5)), (101, 95, None));
    assert_eq!(scene.at(14, vec![]), (101, 101, None));
    assert_eq!((scene.guard.holds(), scene.guard.due()), (1, Some(scene.start + Duration::from_secs(610))));
    assert_eq!(scene.at(100, service("a", 0..90)), (101, 10, None));
    assert_eq!(scene.at(106, vec![]), (101, 101, None));
    assert_eq!(scene.guard.holds(), 2);
    assert_eq!(scene.judge(610), (91, 91, None));
    assert_eq!(scene.judge(706), (0, 0, Some(HoldEnd::Over)));
}

/// Keys that were put back are guarded before they were in use for a moment.
#[test]
fn what_came_back_is_guarded_at_once() {
    let mut scene = Scene::new();
    assert_eq!(scene.at(1, vec![]), (21, 21, None));
    for (keys, expected) in [(service("a", 0..20), (21, 0, Some(HoldEnd::Returned))), (vec![], (21, 21, None))] {
        scene.guard.take(&Update::Reset { revision: 2, entries: Vec::new() });
        scene.keys.reset(2, keys);
        scene.guard.judge(scene.start + Duration::from_secs(2), SystemTime::UNIX_EPOCH, &scene.keys);
        let served = scene.guard.held().unwrap_or(&scene.keys).len();
        assert_eq!((served, scene.guard.shown("").map_or(0, |held| held.keys), scene.guard.ended()), expected);
    }
}

#[test]
fn holds_are_few() {
    let mut scene = Scene::new();
    for round in 0..20 {
        let name = format!("s{round}");
        scene.at(20 * round + 1, service(&name, 0..20));
        scene.at(20 * round + 11, vec![]);
    }
    let held = scene.guard.shown("").unwrap();
    assert_eq!((scene.guard.holds(), held.problems.len(), held.keys), (21, MOST, MOST * 21));
}

#[test]
fn time_stands_still_while_the_store_is_away() {
    let mut scene = Scene::new();
    let at = Duration::from_secs;
    let start = scene.start;
    scene.guard.reading(start, true);
    assert_eq!(scene.at(1, vec![]), (21, 21, None));
    scene.guard.reading(start + at(101), false);
    assert_eq!((scene.guard.due(), scene.judge(5_000)), (None, (21, 21, None)));
    scene.guard.reading(start + at(10_101), true);
    assert_eq!(scene.guard.due(), Some(start + at(10_601)));
    let until = scene.guard.shown("").unwrap().until;
    assert_eq!(until, SystemTime::UNIX_EPOCH + at(10_600));
    assert_eq!(scene.judge(10_600), (21, 21, None));
    assert_eq!(scene.judge(10_601), (0, 0, Some(HoldEnd::Over)));
    // The few that did not come back yet, either.
    let mut scene = Scene::new();
    assert_eq!(scene.at(1, vec![]), (21, 21, None));
    assert_eq!(scene.at(2, service("a", 0..15)), (21, 5, None));
    let start = scene.start;
    scene.guard.reading(start + at(5), false);
    assert_eq!(scene.judge(100), (21, 5, None));
    scene.guard.reading(start + at(100), true);
    assert_eq!((scene.judge(106), scene.judge(107)), ((21, 5, None), (16, 0, Some(HoldEnd::Settled))));
    // A hold that began while the store is said to be away, as its first listing goes before.
    let mut scene = Scene::new();
    let start = scene.start;
    scene.guard.reading(start, false);
    assert_eq!(scene.at(50, vec![]), (21, 21, None));
    scene.guard.reading(start + at(51), true);
    assert_eq!(scene.guard.due(), Some(start + at(651)));
}
