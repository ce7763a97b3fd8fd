//! Which names a leader works at next. Pure: asks nobody, begins nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use pointsman_table::AcmeNames;

use super::book::CertBook;
use super::order::OrderStage;

/// The names that may be worked at.
pub(super) struct Candidates<'a> {
    pub(super) book: &'a CertBook,
    /// Those that services want certificates for.
    pub(super) wanted: &'a AcmeNames,
    /// Those that handshakes want certificates for.
    pub(super) on_demand: &'a BTreeSet<Box<str>>,
    /// Those that are worked at.
    pub(super) busy: &'a BTreeSet<Box<str>>,
}

/// Whose turn it is, the least first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct DueName<'a> {
    /// An order that fails keeps no other one waiting.
    has_failed: bool,
    /// What has begun is finished first.
    is_idle: bool,
    /// Services are served before strangers.
    is_on_demand: bool,
    at: i64,
    name: &'a str,
}

impl Candidates<'_> {
    /// The names to begin with now, and how long no other is due. No new order begins before `hold`. At most `room` names
    /// besides those to revoke, and at most `most_open` orders that have begun and do not fail.
    pub(super) fn due(
        &self,
        (now, hold): (i64, i64),
        (room, most_open): (usize, usize),
    ) -> (Vec<Box<str>>, Option<Duration>) {
        let mut next = None;
        // An operator waits for them.
        let mut begun = self.revoked(now, &mut next);
        let (mut turns, mut open) = (Vec::new(), self.busy.len() + begun.len());
        for (name, is_on_demand) in self.names().filter(|(name, _)| !self.is_revoked(name, now)) {
            let order = self.book.orders.get(name);
            let at = order.map_or(now, |order| order.due_by(now));
            let is_idle = order.is_none_or(|order| order.stage == OrderStage::Idle);
            // One that has begun may have failed before.
            let has_failed =
                order.is_some_and(|order| if is_idle { order.failure.is_some() } else { order.outages > 0 });
            open += usize::from(!is_idle && !has_failed);
            let at = if is_idle { at.max(hold) } else { at };
            match at <= now {
                true => turns.push(DueName { has_failed, is_idle, is_on_demand, at, name }),
                false => sooner(&mut next, at, now),
            }
        }
        turns.sort_unstable();
        let places = most_open.saturating_sub(open);
        let mut opened = 0;
        let has_place = |turn: &DueName<'_>| {
            opened += usize::from(turn.is_idle);
            !turn.is_idle || opened <= places
        };
        let names = turns.into_iter().filter(has_place).take(room).map(|turn| turn.name.into());
        begun.extend(names);
        (begun, next)
    }

    /// The certificates to revoke now.
    fn revoked(&self, now: i64, next: &mut Option<Duration>) -> Vec<Box<str>> {
        let revocations = self.book.revocations.iter().filter(|(name, revocation)| {
            // The end of what is worked at is waited for anyway.
            !revocation.is_refused && !self.busy.contains(*name)
        });
        let mut begun = Vec::new();
        for (name, revocation) in revocations {
            match revocation.is_due(now) {
                true => begun.push(name.clone()),
                false => sooner(next, revocation.due, now),
            }
        }
        begun
    }

    fn is_revoked(&self, name: &str, now: i64) -> bool {
        self.book.revocations.get(name).is_some_and(|revocation| revocation.is_due(now))
    }

    /// The names that are not worked at, and whether only handshakes want them.
    fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        let wanted = self.wanted.keys().map(|name| (name, false));
        let on_demand = self.on_demand.iter().filter(|name| !self.wanted.contains_key(*name)).map(|name| (name, true));
        wanted.chain(on_demand).filter(|(name, _)| !self.busy.contains(*name)).map(|(name, kind)| (&**name, kind))
    }
}

/// Something is due at this time.
fn sooner(next: &mut Option<Duration>, at: i64, now: i64) {
    let wait = Duration::from_secs(at.abs_diff(now));
    *next = Some(next.map_or(wait, |next| next.min(wait)));
}

#[cfg(test)]
mod tests {
    use pointsman_table::ChallengeKind;

    use super::super::order::{CertOrder, OrderFailure};
    use super::super::revoke::Revocation;
    use super::*;

    const NOW: i64 = 1000;

    /// What is due of orders `name:due[:open][:failed][:again]`, `again` that go on after a failure; those that begin with `~` are on demand.
    #[track_caller]
    fn check(orders: &str, busy: &[&str], (room, most_open): (usize, usize), expected: &str) {
        let mut book = CertBook::default();
        let (mut wanted, mut on_demand) = (AcmeNames::new(), BTreeSet::new());
        for word in orders.split_whitespace() {
            let parts: Vec<_> = word.split(':').collect();
            let name: Box<str> = parts[0].trim_start_matches('~').into();
            let stage = match parts.contains(&"open") {
                true => OrderStage::Opened { url: "u".into() },
                false => OrderStage::Idle,
            };
            let is_failing = parts.contains(&"failed");
            let has_failed = is_failing || parts.contains(&"again");
            let failure = has_failed.then(|| OrderFailure { said: "no".into(), at: 1 });
            let outages = u32::from(is_failing);
            let due = parts[1].parse().unwrap();
            book.orders.insert(name.clone(), CertOrder { due, stage, failure, outages, ..CertOrder::default() });
            if parts[0].starts_with('~') {
                on_demand.insert(name);
            } else {
                wanted.insert(name, ChallengeKind::Http);
            }
        }
        book.revocations.insert("revoke".into(), Revocation { due: NOW + 50, ..Revocation::default() });
        let busy = busy.iter().map(|name| (*name).into()).collect();
        let candidates = Candidates { book: &book, wanted: &wanted, on_demand: &on_demand, busy: &busy };
        let (due, next) = candidates.due((NOW, 0), (room, most_open));
        assert_eq!(format!("{} in {}", due.join(","), next.unwrap().as_secs()), expected, "{orders}");
    }

    #[test]
    fn services_go_before_handshakes_and_failures_go_last() {
        check("b:1 a:2 c:1020", &[], (16, 64), "b,a in 20");
        check("~a:1 b:2", &[], (1, 64), "b in 50");
        check("~a:1 ~b:2 c:3", &[], (2, 64), "c,a in 50");
        check("~a:1:open b:2", &[], (1, 64), "a in 50");
        check("~a:1 b:2:failed", &[], (1, 64), "a in 50");
        check("~a:1:failed b:2:failed", &[], (1, 64), "b in 50");
        check("~a:1 a:1", &[], (16, 64), "a in 50");
    }

    #[test]
    fn open_orders_are_few_whoever_wants_them() {
        check("~a:1010:open ~b:1010:open c:1 ~d:1", &[], (16, 3), "c in 10");
        check("~a:1010:open ~b:1:open c:1 ~d:1", &[], (16, 2), "b in 10");
        check("~a:1010:open:failed c:1 ~d:1", &[], (16, 2), "c,d in 10");
        check("~a:1010:open:again c:1 ~d:1", &[], (16, 2), "c in 10");
        check("c:1 ~d:1", &["busy"], (16, 2), "c in 50");
        check("c:1 ~d:1", &["c"], (16, 2), "d in 50");
    }

    #[test]
    fn authorities_limit_new_orders_and_no_others() {
        let mut book = CertBook::default();
        book.orders
            .insert("open".into(), CertOrder { stage: OrderStage::Opened { url: "u".into() }, ..CertOrder::default() });
        let wanted = ["new", "open"].map(|name| (name.into(), ChallengeKind::Http)).into();
        let none = BTreeSet::new();
        let due = |book: &CertBook, hold, room| {
            Candidates { book, wanted: &wanted, on_demand: &none, busy: &none }.due((NOW, hold), (room, 64))
        };
        assert_eq!(due(&book, NOW + 7, 16), (vec!["open".into()], Some(Duration::from_secs(7))));
        // What an operator wants revoked waits for no room.
        book.revocations.insert("new".into(), Revocation { due: 1, ..Revocation::default() });
        assert_eq!(due(&book, 0, 0).0, ["new".into()]);
    }
}
