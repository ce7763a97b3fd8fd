//! Certificates by ACME: names that have none, renewals that are late, and the next one. Reads the store; asks no authority.

use std::collections::BTreeSet;
use std::time::Duration;

use pointsman_store::Store;
use pointsman_table::{Table, shown};
use tokio::time::timeout;

use super::observation::Observation;
use crate::acme::{CertBook, CertOrder, folder};
use crate::admin::view::epoch_seconds;
use crate::control::{expiry, plural};
use crate::settings::Settings;

const SUBJECT: &str = "acme";
/// Failing names that are listed.
const MOST: usize = 5;
/// A renewal is late after so many seconds.
const LATE: i64 = 12 * 3600;

/// Nothing if no certificates by ACME are wanted.
pub(super) async fn look(settings: &Settings, table: &Table, within: Duration) -> Vec<Observation> {
    let names = table.acme_names();
    let may_want = !names.is_empty() || table.config().acme.is_on_demand();
    let Some(store) = Store::open(&settings.store).ok().filter(|_| may_want) else { return Vec::new() };
    match timeout(within, store.list(&folder(&settings.store.prefix))).await {
        Ok(Ok(listing)) => {
            let mut book = CertBook::default();
            book.reset(listing.entries);
            // What strangers ask for and never get is nothing to mend.
            let is_issued = |name: &&str| book.orders.get(*name).is_some_and(|order| order.issued.is_some());
            let demanded = book.demanded(&names, table).into_iter().filter(is_issued).map(Box::from);
            let wanted: BTreeSet<_> = names.keys().cloned().chain(demanded).collect();
            match wanted.is_empty() {
                true => Vec::new(),
                false => observe(&book, &wanted, epoch_seconds().cast_signed()),
            }
        }
        Ok(Err(error)) => vec![Observation::note(SUBJECT, format!("they cannot be read: {error}"), "pointsman certs")],
        Err(_) => vec![Observation::note(SUBJECT, "the store does not answer in time", "pointsman certs")],
    }
}

fn observe(book: &CertBook, wanted: &BTreeSet<Box<str>>, now: i64) -> Vec<Observation> {
    let orders: Vec<_> = wanted.iter().map(|name| (name, book.orders.get(name))).collect();
    let failing = orders.iter().filter_map(|(name, order)| Some((*name, (*order)?.failure.as_ref()?)));
    let failing: Vec<_> = failing.collect();
    let mut all: Vec<_> = failing
        .iter()
        .take(MOST)
        .map(|(name, failure)| {
            let has = if book.certs.contains_key(*name) { "no new certificate" } else { "no certificate" };
            let what = format!("{has} for {}: {}", shown(name), shown(&failure.said));
            Observation::wrong(SUBJECT, what, "pointsman certs renew NAME, once that is mended")
        })
        .collect();
    if let Some(more) = failing.len().checked_sub(MOST).filter(|more| *more > 0) {
        let what = format!("no certificate or no new one for {} more", plural(more, "name"));
        all.push(Observation::wrong(SUBJECT, what, "pointsman certs"));
    }
    let renewals = orders.iter().filter_map(|(name, order)| Some((order.and_then(renewal)?, *name)));
    let first = renewals.min();
    let late = first.filter(|(at, _)| now - at > LATE && failing.is_empty());
    let unasked = orders.iter().filter(|(_, order)| order.is_none()).count();
    if unasked > 0 || late.is_some() {
        let what = match late {
            Some((at, name)) => format!("the certificate for {} was to be renewed at {}", shown(name), expiry::utc(at)),
            None => format!("no balancer has asked for {} yet", plural(unasked, "certificate")),
        };
        all.push(Observation::wrong(
            SUBJECT,
            what,
            "pointsman status, for a balancer that serves; its log has the reason",
        ));
    }
    if all.is_empty() {
        let next = first.map(|(at, name)| format!("; {} is renewed next, at {}", shown(name), expiry::utc(at)));
        let count = plural(wanted.len(), "name");
        all.push(Observation::ok(SUBJECT, format!("certificates for {count}{}", next.unwrap_or_default())));
    }
    all
}

fn renewal(order: &CertOrder) -> Option<i64> {
    order.issued.as_ref().map(|issued| issued.renew)
}

#[cfg(test)]
mod tests {
    use super::super::observation::check;
    use super::*;
    use crate::acme::IssuedFacts;

    #[test]
    fn what_fails_what_is_late_and_what_comes_next() {
        let order = |renew: i64, said: &str| {
            let failure = (!said.is_empty()).then(|| serde_json::json!({ "said": said, "at": 1 }));
            let issued = (renew > 0).then(|| IssuedFacts { renew, ..IssuedFacts::default() });
            let text = serde_json::json!({ "term": 1, "version": 1, "stage": "idle", "due": 1, "failure": failure, "issued": issued });
            text.to_string().into_bytes().into_boxed_slice()
        };
        let seen = |rows: &[(&str, Option<(i64, &str)>)]| {
            let mut book = CertBook::default();
            let orders = rows.iter().filter_map(|(name, row)| {
                let text = order((*row)?.0, (*row)?.1);
                Some((format!("orders/{name}").into(), text))
            });
            book.reset(orders.collect());
            observe(&book, &rows.iter().map(|(name, _)| (*name).into()).collect(), 100_000)
        };
        check(
            &seen(&[("a.test", Some((200_000, "")))]),
            &["ok: certificates for 1 name; a.test is renewed next, at 1970-01-03"],
        );
        check(&seen(&[("a.test", Some((99_000, "")))]), &["ok: certificates for 1 name"]);
        check(
            &seen(&[("a.test", Some((1_000, "")))]),
            &["wrong: the certificate for a.test was to be renewed at 1970-01-01"],
        );
        check(&seen(&[("a.test", None)]), &["wrong: no balancer has asked for 1 certificate yet"]);
        check(
            &seen(&[("a.test", Some((1_000, "refused"))), ("b.test", Some((200_000, "")))]),
            &["wrong: no certificate for a.test: refused | pointsman certs renew NAME"],
        );
        let many = ["a", "b", "c", "d", "e", "f"].map(|name| (name, Some((1, "no"))));
        assert_eq!(seen(&many).len(), MOST + 1);
    }
}
