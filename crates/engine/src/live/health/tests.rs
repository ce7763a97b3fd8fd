//! Health as the circuit, answers and checks decide it together.

use super::*;

#[test]
fn three_failures_in_a_row_eject_an_instance_for_a_growing_while() {
    let health = Health::default();
    assert_eq!(health.failed(0), None);
    assert_eq!(health.failed(0), None);
    assert!(health.is_up(0));
    assert_eq!(health.failed(0), Some(Duration::from_secs(1)));
    assert!(!health.is_up(999));
    assert!(health.is_up(1_000));
    assert_eq!(health.failed(1_000), Some(Duration::from_secs(2)));
    assert!(health.succeeded(5));
    assert!(health.is_up(1_000));
    assert_eq!(health.failed(1_000), None, "a success starts the count again");
}

#[test]
fn the_last_error_is_a_fault_or_a_status() {
    let health = Health::default();
    assert_eq!(health.last_error(), None);
    for (now, error) in [(0, InstanceError::Fault(0)), (9, InstanceError::Fault(40)), (11, InstanceError::Status(599))]
    {
        health.erred(now, error);
        assert_eq!(health.last_error(), Some((now.max(1), error)));
    }
}

#[test]
fn an_ejection_began_with_its_first_spell() {
    let health = Health::default();
    let shown = |now| match health.ejection(now)? {
        Ejection { state, since, cause: Cause::Fault(fault) } => Some((state, since, fault)),
        Ejection { cause: Cause::Answers(_), .. } => None,
    };
    let blame = |now, fault| health.blame(now, fault, Reason::Unanswered);
    let eject = |now, fault| (0..3).any(|_| health.failed(now).inspect(|_| blame(now, fault)).is_some());
    assert_eq!(shown(0), None);
    assert!(eject(100, 7));
    assert_eq!(shown(200), Some(("ejected", 100, 7)));
    assert_eq!(shown(1_100), Some(("half-open", 100, 7)));
    assert!(eject(1_200, 5));
    assert_eq!(shown(1_300), Some(("ejected", 100, 5)), "it was not up in between");
    assert!(health.succeeded(5));
    assert_eq!(shown(1_400), None);
    assert!(eject(9_000, 3));
    assert_eq!(shown(9_000), Some(("ejected", 9_000, 3)));
}

#[test]
fn an_ejection_is_bounded() {
    let health = Health::default();
    let mut now = 0;
    let longest = (0..40)
        .filter_map(|_| {
            now += 100_000;
            health.failed(now)
        })
        .max();
    assert_eq!(longest, Some(Duration::from_secs(2)));
}

#[test]
fn after_an_ejection_one_request_tries_for_all() {
    let health = Health::default();
    assert_eq!([(); 3].map(|()| health.failed(0)), [None, None, Some(Duration::from_secs(1))]);
    health.approach(1_000, 500);
    assert!(!health.is_up(1_400), "the others go elsewhere while it is tried");
    assert_eq!(health.failed(1_500), Some(Duration::from_secs(2)));
    assert_eq!(health.failed(1_500), None, "one verdict a spell");
    health.approach(3_500, 500);
    assert!(health.succeeded(5));
    assert!(health.is_up(3_500));
}

#[test]
fn every_change_in_who_is_up_moves_the_count() {
    let flips = Arc::new(FlipCount::default());
    let health = Health::new(&flips);
    let check = |count, why| assert_eq!(flips.get(), count, "{why}");
    assert_eq!([(); 2].map(|()| health.failed(0)), [None, None]);
    health.approach(0, 500);
    check(0, "two failures are no flip");
    assert!(health.failed(0).is_some());
    check(1, "ejected");
    health.approach(999, 500);
    check(1, "no trial before its time");
    health.approach(1_000, 500);
    check(2, "half-open");
    assert!(health.failed(1_100).is_some());
    check(3, "ejected again");
    assert!(health.succeeded(5) && !health.succeeded(5));
    check(4, "restored, once");
}

#[test]
fn a_circuit_fits_into_a_word() {
    let longest = u64::MAX >> UNTIL_SHIFT;
    let circuits = [
        Circuit::Closed { failures: 0 },
        Circuit::Closed { failures: 2 },
        Circuit::Ejected { until: 1_000, spells: 1 },
        Circuit::Ejected { until: longest, spells: 17 },
        Circuit::HalfOpen { until: 1_500, spells: 17 },
    ];
    for circuit in circuits {
        assert_eq!(unpack(pack(circuit)), circuit);
    }
    let endless = Circuit::HalfOpen { until: u64::MAX, spells: u32::MAX };
    assert_eq!(unpack(pack(endless)), Circuit::HalfOpen { until: longest, spells: 63 });
    assert_eq!(pack(Circuit::Closed { failures: 0 }), 0, "a success of a healthy instance writes nothing");
}

#[test]
fn of_many_that_see_it_fail_one_ejects_it_and_of_many_that_try_it_one_does() {
    let health = Health::default();
    let at_once = |work: &(dyn Fn() -> bool + Sync)| {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|done| *done).count()
        })
    };
    assert_eq!(at_once(&|| health.failed(0).is_some()), 1);
    assert_eq!(health.flips.get(), 1);
    let trial = HealthEvent::Trying { limit: 500 };
    let approach = || health.apply(1_000, &EjectionRules::default(), trial) == Some(Flip::HalfOpen);
    assert_eq!(at_once(&approach), 1);
}
const RULES: CheckRules = CheckRules { rise: 2, fall: 3 };

fn outcome(passed: bool) -> CheckOutcome {
    CheckOutcome { passed, said: "GET / got 503".into(), took: Duration::from_millis(1) }
}

#[test]
fn checks_and_requests_must_both_find_it_up() {
    let flips = Arc::new(FlipCount::default());
    let health = Health::new(&flips);
    assert!(health.is_up(0) && health.last_check().is_none());
    assert_eq!(health.checked(5, RULES, &outcome(false)), Some(CheckFlip::Fell(1)));
    assert!(!health.is_up(u64::MAX - 1), "no trial while checks fail");
    assert_eq!(flips.get(), 1);
    let last = health.last_check().expect("it was checked");
    assert_eq!((last.up, last.since, &*last.said), (false, 5, "GET / got 503"));
    // Requests that were under way eject it as well; checks that bring it back end that too.
    assert_eq!([(); 3].map(|()| health.failed(10).is_some()), [false, false, true]);
    assert_eq!(health.checked(20, RULES, &outcome(true)), None);
    assert!(!health.is_up(20));
    assert_eq!(health.checked(30, RULES, &outcome(true)), Some(CheckFlip::Rose));
    assert!(health.is_up(30));
    assert_eq!(health.last_check().map(|last| last.since), Some(30));
    // Passing checks do not outvote failing requests.
    assert_eq!([(); 3].map(|()| health.failed(40).is_some()), [false, false, true]);
    assert_eq!(health.checked(50, RULES, &outcome(true)), None);
    assert!(!health.is_up(50));
}

#[test]
fn checks_that_bring_it_back_end_an_ejection_for_its_answers() {
    let health = Health::default();
    health.checked(5, RULES, &outcome(false));
    let standing = Standing::Ejected { until: 60_000, spells: 1 };
    health.answers.recall(standing, 10, Grounds::Status(5, 503));
    let rises = [20, 30].map(|now| health.checked(now, RULES, &outcome(true)));
    assert!(rises == [None, Some(CheckFlip::Rose)] && health.is_up(30) && health.is_sound());
}

#[test]
fn what_is_no_longer_checked_gets_work() {
    let flips = Arc::new(FlipCount::default());
    let health = Health::new(&flips);
    health.begin_down(1, "before the restart".into());
    assert!(!health.is_up(1) && flips.get() == 1);
    health.begin_down(2, "again".into());
    assert_eq!(flips.get(), 1, "once");
    health.forget_checks();
    assert!(health.is_up(1) && flips.get() == 2 && health.last_check().is_none());
}
