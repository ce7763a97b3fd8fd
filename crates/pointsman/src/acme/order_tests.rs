//! Steps of an order, as rows.

use super::*;

const DAY: i64 = 86_400;

fn facts(id: Option<&str>) -> IssuedFacts {
    IssuedFacts {
        from: 0,
        until: 90 * DAY,
        issuer: "CA".into(),
        renew: 0,
        id: id.map(str::to_owned),
        directory: "https://ca.test/".into(),
    }
}

fn pending() -> OrderEvent {
    OrderEvent::Seen(Sight::Pending(challenge()))
}

fn challenge() -> Challenge {
    Challenge { token: "t".into(), answer: "t.print".into(), kind: ChallengeKind::Http }
}

fn ready(key: Option<&str>) -> OrderEvent {
    OrderEvent::Seen(Sight::Ready { key: key.map(str::to_owned) })
}

fn opened() -> OrderEvent {
    OrderEvent::Opened { url: "u".into(), directory: "d".into() }
}

/// In a few words: the stage, the action, when it is due, and the failure.
fn words(order: &CertOrder, action: Option<&OrderAction>, now: i64) -> String {
    let stage = match &order.stage {
        OrderStage::Idle => "idle",
        OrderStage::Opened { .. } => "opened",
        OrderStage::Answering { .. } => "answering",
        OrderStage::Told { .. } => "told",
        OrderStage::Signing { .. } => "signing",
    };
    let action = match action {
        None => format!("in {}", order.due - now),
        Some(OrderAction::Open { replaces }) => format!("open {replaces:?}"),
        Some(OrderAction::Consult { .. }) => "consult".into(),
        Some(OrderAction::Look { .. }) => "look".into(),
        Some(OrderAction::Tell { challenge, .. }) => format!("tell {}", challenge.token),
        Some(OrderAction::Finalize { key, .. }) => format!("finalize {key}"),
        Some(OrderAction::Fetch { key, .. }) => format!("fetch {key}"),
    };
    let failure = order.failure.as_ref().map(|failure| format!(": {}", failure.said)).unwrap_or_default();
    format!("{stage}, {action}{failure}")
}

/// Each event, a second later than the one before, and what becomes of the order.
#[track_caller]
fn check(mut order: CertOrder, rows: Vec<(OrderEvent, &str)>) -> CertOrder {
    for (now, (event, expected)) in (1..).zip(rows) {
        let action;
        (order, action) = order.step(event.clone(), now, 0.0);
        assert_eq!(words(&order, action.as_ref(), now), expected, "{event:?}");
        // What is written is what is read.
        let read: CertOrder = serde_json::from_slice(&serde_json::to_vec(&order).unwrap()).unwrap();
        assert_eq!(read, order);
    }
    order
}

#[test]
fn a_certificate_is_issued() {
    let order = check(
        CertOrder::wished(0),
        vec![
            (opened(), "opened, look"),
            (pending(), "answering, tell t"),
            (OrderEvent::Told, "told, in 1"),
            (OrderEvent::Seen(Sight::Checking), "told, in 1"),
            (pending(), "told, in 1"),
            (ready(Some("k")), "signing, finalize k"),
            (OrderEvent::Finalized, "signing, in 1"),
            (OrderEvent::Seen(Sight::Signing), "signing, in 1"),
            (OrderEvent::Seen(Sight::Signed), "signing, fetch k"),
            (OrderEvent::Kept { facts: facts(None), window: None }, "idle, in 5183990"),
        ],
    );
    assert_eq!(order.issued.as_ref().map(|issued| issued.renew), Some(60 * DAY));
    assert_eq!(order.next(60 * DAY), OrderAction::Open { replaces: None });
}

#[test]
fn another_leader_goes_on_with_the_same_order_and_key() {
    let order = check(CertOrder::wished(0), vec![(opened(), "opened, look")]);
    assert_eq!(order.next(9), OrderAction::Look { url: "u".into(), keyed: false });
    let order = check(order, vec![(pending(), "answering, tell t")]);
    assert_eq!(order.challenge(), Some(&challenge()));
    // The one before has told the authority, and died.
    let order = check(order, vec![(OrderEvent::Seen(Sight::Checking), "told, in 1")]);
    let order = check(order, vec![(ready(Some("k")), "signing, finalize k")]);
    assert_eq!(order.next(9), OrderAction::Look { url: "u".into(), keyed: true });
    check(order.clone(), vec![(ready(None), "signing, finalize k")]);
    check(order, vec![(OrderEvent::Seen(Sight::Signed), "signing, fetch k")]);
}

#[test]
fn a_name_that_was_shown_to_be_ours_before_is_signed_at_once() {
    check(CertOrder::wished(0), vec![(opened(), "opened, look"), (ready(Some("k")), "signing, finalize k")]);
}

#[test]
fn refusals_are_backed_off_and_outages_less() {
    let refusal = |said: &str| OrderEvent::Failed(Trouble::refusal(said));
    let outage = |said: &str| OrderEvent::Failed(Trouble::passing(said));
    let order = check(
        CertOrder::wished(0),
        vec![
            (outage("down"), "idle, in 2: down"),
            (outage("down"), "idle, in 5: down"),
            (opened(), "opened, look: down"),
            (outage("down"), "opened, in 2: down"),
            (refusal("no"), "idle, in 60: no"),
            (refusal("no"), "idle, in 300: no"),
            (
                OrderEvent::Failed(Trouble { wait: Some(7200), ..Trouble::refusal("slow down") }),
                "idle, in 7200: slow down",
            ),
        ],
    );
    let order = (0..20).fold(order, |order, _| order.step(refusal("no"), 0, 1.0).0);
    assert_eq!(order.due, 12 * 3600 + 8640);
    let elsewhere = |said: &str| OrderEvent::Failed(Trouble::elsewhere(said));
    let order = check(
        CertOrder::wished(0),
        vec![
            (elsewhere("not here"), "idle, in 5: not here"),
            (elsewhere("not here"), "idle, in 15: not here"),
            (opened(), "opened, look: not here"),
            (refusal("no"), "idle, in 60: no"),
            (elsewhere("not here"), "idle, in 5: not here"),
        ],
    );
    assert_eq!(order.renewed(9).misses, 0, "an operator mended it");
}

#[test]
fn nothing_waits_for_ever() {
    let told = OrderStage::Told { url: "u".into(), challenge: challenge(), since: -CHECKS };
    let late = "idle, in 60: the authority did not check the answer within 180 s";
    check(CertOrder { stage: told, ..CertOrder::default() }, vec![(OrderEvent::Seen(Sight::Checking), late)]);
    let signing = OrderStage::Signing { url: "u".into(), key: "k".into(), since: -SIGNS };
    let late = "idle, in 60: the authority did not sign within 900 s";
    check(CertOrder { stage: signing, ..CertOrder::default() }, vec![(OrderEvent::Seen(Sight::Signing), late)]);
    let mut order = check(CertOrder::wished(0), vec![(opened(), "opened, look")]);
    for _ in 0..GIVEN_UP {
        order = order.step(OrderEvent::Failed(Trouble::passing("down")), 0, 0.0).0;
    }
    assert_eq!(order.stage, OrderStage::Idle);
}

#[test]
fn what_takes_long_is_looked_at_less() {
    let at = |took: i64| wait(1000, 1000 - took, SIGNS, "sign").unwrap() - 1000;
    assert_eq!([at(0), at(10), at(50), at(900)], [1, 1, 5, 90]);
}

#[test]
fn a_certificate_that_is_to_be_renewed_already_is_not_ordered_again_at_once() {
    let signing = OrderStage::Signing { url: "u".into(), key: "k".into(), since: 0 };
    let mut order = CertOrder { stage: signing.clone(), ..CertOrder::default() };
    let late = "the certificate that was issued is to be renewed already; check the clock of this machine";
    for wait in [60, 300, 900] {
        let kept = OrderEvent::Kept { facts: IssuedFacts { until: 1, ..facts(None) }, window: None };
        order = check(CertOrder { stage: signing.clone(), ..order }, vec![(kept, &format!("idle, in {wait}: {late}"))]);
        assert_eq!(order.issued.as_ref().map(|issued| issued.until), Some(1), "it serves");
    }
}

#[test]
fn the_second_order_replaces_nothing() {
    let issued = Some(IssuedFacts { renew: 5, ..facts(Some("a.b")) });
    let order = CertOrder { issued, ..CertOrder::default() };
    assert_eq!(order.next(9), OrderAction::Open { replaces: Some("a.b".into()) });
    for trouble in [Trouble::passing("lost"), Trouble::refusal("no")] {
        let order = order.clone().step(OrderEvent::Failed(trouble), 9, 0.0).0;
        assert_eq!(order.next(99), OrderAction::Open { replaces: None });
    }
}

#[test]
fn orders_are_left_to_the_authority_that_has_them() {
    let mut order = check(CertOrder::wished(0), vec![(opened(), "opened, look")]);
    order.leave_other("d");
    assert_eq!(order.next(9), OrderAction::Look { url: "u".into(), keyed: false });
    order.leave_other("another");
    assert_eq!(order.next(9), OrderAction::Open { replaces: None });
}

#[test]
fn what_nobody_wants_any_more_is_forgotten_in_its_time() {
    let issued = |until| Some(IssuedFacts { until, renew: 5, ..facts(None) });
    let unwanted = OrderEvent::Failed(Trouble::unwanted("not allowed"));
    let order = check(CertOrder { issued: issued(9000), ..CertOrder::default() }, vec![(unwanted, "idle, in 8999")]);
    assert_eq!(order.next_due(), Some(9000), "no renewal is late");
    assert!(!order.is_over(8999) && order.is_over(9000));
    let failed = CertOrder::wished(0).step(OrderEvent::Failed(Trouble::refusal("no")), 0, 0.0).0;
    assert!(!failed.is_over(3600) && failed.is_over(RESTS + 60), "it may come back");
    assert!(CertOrder::on_demand(0).is_over(1));
    let open = check(CertOrder::on_demand(0), vec![(opened(), "opened, look")]);
    assert!(!open.is_over(3600) && open.is_over(RESTS + 1));
}

#[test]
fn a_clock_that_was_ahead_delays_nothing() {
    let failure = Some(OrderFailure { said: "down".into(), at: 900_000 });
    let order = CertOrder { due: 900_002, failure, ..CertOrder::default() };
    assert_eq!((order.due_by(900_001), order.due_by(1000)), (900_002, 1000));
    let told = OrderStage::Told { url: "u".into(), challenge: challenge(), since: 900_000 };
    let order = CertOrder { due: 900_001, stage: told, ..CertOrder::default() };
    assert_eq!((order.due_by(899_999), order.due_by(1000)), (900_001, 1000));
    let late = "idle, in 60: the authority did not check the answer within 180 s";
    check(order, vec![(OrderEvent::Seen(Sight::Checking), late)]);
    let issued = CertOrder { due: 60 * DAY, issued: Some(facts(None)), ..CertOrder::default() };
    assert_eq!(issued.due_by(1000), 60 * DAY);
}

#[test]
fn renewal_at_two_thirds_or_when_the_authority_wishes() {
    for (days, chance, expected) in [(90, 0.0, 60.0), (90, 1.0, 55.5), (45, 0.0, 30.0), (6, 0.0, 4.0), (6, 1.0, 3.7)] {
        let at = usual_renewal(0, days * DAY, chance);
        assert_eq!(at, (expected * DAY as f64) as i64, "{days} days");
    }
    assert_eq!(within((10, 20), 15, 0.9), 15);
    assert_eq!(within((10, 20), 50, 0.5), 15);
    assert_eq!(within((10, 10), 50, 0.5), 10);
    let kept = OrderEvent::Kept { facts: facts(Some("a.b")), window: Some((50 * DAY, 60 * DAY)) };
    let order = CertOrder::wished(0).step(kept, 0, 0.5).0;
    let issued = order.issued.clone().unwrap();
    assert!((50 * DAY..=60 * DAY).contains(&issued.renew), "{}", issued.renew);
    assert!(order.due < DAY, "it asks the authority again: {}", order.due);
    assert_eq!(order.next(order.due), OrderAction::Consult { id: "a.b".into() });
    // The authority wants it renewed now: it will be revoked.
    let (order, _) = order.step(OrderEvent::Consulted { window: Some((0, 10)), again: 9999 }, 5000, 0.5);
    assert_eq!(order.due, 5);
    assert_eq!(order.next(5000), OrderAction::Open { replaces: Some("a.b".into()) });
}

#[test]
fn names_on_demand_are_tried_less_and_forgotten() {
    let refusal = |said: &str| OrderEvent::Failed(Trouble::refusal(said));
    let order = check(CertOrder::on_demand(0), vec![(refusal("no"), "idle, in 3600: no")]);
    assert!(!order.is_hopeless(3601));
    let order = check(order, vec![(refusal("no"), "idle, in 10800: no")]);
    assert!(order.is_hopeless(14_401));
    let issued = Some(IssuedFacts { until: 20_000, ..facts(None) });
    let order = CertOrder { issued, ..order };
    assert!(!order.is_hopeless(14_401), "its certificate still counts");
    assert!(order.is_hopeless(20_000));
    assert!(!CertOrder { on_demand: None, ..order }.is_hopeless(20_000), "a service wants it");
}

#[test]
fn names_on_demand_that_lead_elsewhere_are_forgotten_once_they_are_no_new_ones() {
    const HOUR: i64 = 3600;
    let (mut order, mut now) = (CertOrder::on_demand(0), 0);
    while !order.is_hopeless(now) {
        order = order.step(OrderEvent::Failed(Trouble::elsewhere("not here")), now, 0.0).0;
        now = order.due;
    }
    assert!((HOUR..3 * HOUR).contains(&now), "{now}");
    assert_eq!(order.refusals, 0);
    assert!(!CertOrder { on_demand: None, ..order }.is_hopeless(now), "a service wants it");
}
