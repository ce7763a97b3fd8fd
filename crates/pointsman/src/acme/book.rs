//! What the store holds of certificates by ACME, as every balancer of the prefix sees it: the orders, and the certificates
//! that were issued. Takes the updates of a follower; writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pointsman_store::{ASIDE, Update};
use pointsman_table::{
    AcmeNames, Answers, ChallengeCert, ChallengeKind, Change, OuterCert, Problem, ProblemKind, Table,
};
use serde::{Deserialize, Serialize};

use super::order::{CertOrder, Challenge};
use super::revoke::Revocation;
use crate::control::expiry::utc;
use crate::control::{AcmeName, IssuedCerts};

/// The folder of orders, and of certificates, within the prefix's own.
const ORDERS: &str = "orders";
const CERTS: &str = "certs";
/// The folder of certificates that are to be revoked.
const REVOKE: &str = "revoke";
/// The key of the answer that shows whether a name leads here.
const PROBE: &str = "probe";
/// Failing names that are listed as problems, and how many of these only handshakes may want.
const MOST_PROBLEMS: usize = 100;
const MOST_ON_DEMAND: usize = 10;

/// Where all of this is kept for the balancers of a prefix.
pub(crate) fn folder(prefix: &str) -> String {
    format!("{ASIDE}{prefix}/acme")
}

/// The full key of a name's order.
pub(crate) fn order_key(folder: &str, name: &str) -> String {
    format!("{folder}/{ORDERS}/{name}")
}

/// The full key of a name's certificate, with its key.
pub(crate) fn cert_key(folder: &str, name: &str) -> String {
    format!("{folder}/{CERTS}/{name}")
}

/// The full key of the request to revoke a name's certificate.
pub(crate) fn revoke_key(folder: &str, name: &str) -> String {
    format!("{folder}/{REVOKE}/{name}")
}

/// The full key of the [`Probe`].
pub(crate) fn probe_key(folder: &str) -> String {
    format!("{folder}/{PROBE}")
}

/// An answer that all balancers give to whoever asks, so that the leader sees whether a name leads to one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// The term of the leader that made it.
    pub(crate) term: u64,
    pub(crate) token: String,
    pub(crate) answer: String,
}

/// All orders and certificates, by the names that they are for.
#[derive(Clone, Default)]
pub(crate) struct CertBook {
    pub(crate) orders: BTreeMap<Box<str>, CertOrder>,
    pub(crate) certs: BTreeMap<Box<str>, Arc<[u8]>>,
    /// The certificates that are to be revoked.
    pub(crate) revocations: BTreeMap<Box<str>, Revocation>,
    pub(crate) probe: Option<Probe>,
}

impl CertBook {
    /// Takes an update of a follower of the folder.
    pub(crate) fn take(&mut self, update: Update) {
        match update {
            Update::Reset { entries, .. } => self.reset(entries),
            Update::Changes { changes, .. } => changes.into_iter().for_each(|change| match change {
                Change::Put { key, value } => self.put(&key, &value),
                Change::Delete { key } => self.remove(&key),
                Change::DeleteTree { key } => {
                    if key.is_empty() || &*key == ORDERS {
                        self.orders.clear();
                    }
                    if key.is_empty() || &*key == CERTS {
                        self.certs.clear();
                    }
                    if key.is_empty() || &*key == REVOKE {
                        self.revocations.clear();
                    }
                }
            }),
        }
    }

    /// Takes everything that is in the store.
    pub(crate) fn reset(&mut self, entries: Vec<(Box<str>, Box<[u8]>)>) {
        let here: BTreeSet<_> = entries.iter().map(|(key, _)| key.clone()).collect();
        let has = |folder: &str, name: &str| here.contains(&*format!("{folder}/{name}"));
        self.orders.retain(|name, _| has(ORDERS, name));
        self.certs.retain(|name, _| has(CERTS, name));
        self.revocations.retain(|name, _| has(REVOKE, name));
        entries.iter().for_each(|(key, value)| self.put(key, value));
    }

    fn put(&mut self, key: &str, value: &[u8]) {
        match key.split_once('/') {
            None if key == PROBE => self.probe = serde_json::from_slice(value).ok(),
            Some((ORDERS, name)) => {
                // One that cannot be read, perhaps of a later version, counts as none.
                if let Ok(order) = serde_json::from_slice(value) {
                    self.note(name, order);
                }
            }
            Some((CERTS, name)) => drop(self.certs.insert(name.into(), value.trim_ascii().into())),
            Some((REVOKE, name)) => {
                if let Ok(revocation) = serde_json::from_slice(value) {
                    self.revocations.insert(name.into(), revocation);
                }
            }
            _ => {}
        }
    }

    fn remove(&mut self, key: &str) {
        match key.split_once('/') {
            Some((ORDERS, name)) => drop(self.orders.remove(name)),
            Some((CERTS, name)) => drop(self.certs.remove(name)),
            Some((REVOKE, name)) => drop(self.revocations.remove(name)),
            _ => {}
        }
    }

    /// Takes an order unless a later one is known: a follower tells of what we wrote ourselves some time ago.
    pub(crate) fn note(&mut self, name: &str, order: CertOrder) {
        let known = self.orders.get(name).map(|known| (known.term, known.version));
        if known.is_none_or(|known| known < (order.term, order.version)) {
            self.orders.insert(name.into(), order);
        }
    }

    /// Certificates and answers, as the table takes them; `more` are answers from elsewhere.
    pub(crate) fn issued(&self, more: &Answers) -> IssuedCerts {
        let certs = self.certs.iter().map(|(name, pem)| OuterCert {
            name: cert_name(name).into(),
            origin: format!("acme/{name}").into(),
            pem: Ok(Arc::clone(pem)),
            staple: None,
        });
        let mut answers = more.clone();
        for (name, order) in &self.orders {
            let Some(Challenge { token, answer, kind }) = order.challenge() else { continue };
            let (token, answer) = (token.as_str().into(), answer.as_str().into());
            match kind {
                ChallengeKind::Http => drop(answers.bodies.insert(token, answer)),
                ChallengeKind::Tls => drop(answers.certs.insert(name.clone(), ChallengeCert { token, pem: answer })),
                ChallengeKind::Dns => {}
            }
        }
        if let Some(Probe { token, answer, .. }) = &self.probe {
            answers.bodies.insert(token.as_str().into(), answer.as_str().into());
        }
        IssuedCerts { certs: certs.collect(), answers: Arc::new(answers) }
    }

    /// Forgets a name.
    pub(crate) fn forget(&mut self, name: &str) {
        self.orders.remove(name);
        self.certs.remove(name);
    }

    /// How it stands with each of the names that services want, and with those that handshakes want, as far as this table allows
    /// them.
    pub(crate) fn names(&self, wanted: &AcmeNames, table: Option<&Table>) -> Arc<[AcmeName]> {
        let mut names = table.map(|table| self.demanded(wanted, table)).unwrap_or_default();
        names.extend(wanted.keys().map(|name| &**name));
        names.into_iter().map(|name| self.acme_name(name)).collect()
    }

    fn acme_name(&self, name: &str) -> AcmeName {
        let order = self.orders.get(name);
        let issued = order.and_then(|order| order.issued.as_ref());
        AcmeName {
            name: name.into(),
            certificate: cert_name(name).into(),
            issued: issued.map(|issued| (issued.issuer.as_str().into(), issued.until)),
            renew: issued.map(|issued| issued.renew),
            next: order.map_or("order", CertOrder::next_word),
            due: order.and_then(CertOrder::next_due),
            error: order.and_then(|order| Some(order.failure.as_ref()?.said.as_str().into())),
        }
    }

    /// The names of orders that handshakes may have certificates asked for, whoever wanted them first. `wanted`: those that
    /// services want.
    pub(crate) fn demanded(&self, wanted: &AcmeNames, table: &Table) -> BTreeSet<&str> {
        let others = self.orders.keys().filter(|name| !wanted.contains_key(*name));
        table.acme_demanded(others.map(|name| &**name))
    }

    /// The names that no service wants certificates for and a leader works at: those that handshakes may want, and those that
    /// nobody does, once they are to be forgotten.
    pub(crate) fn on_demand(&self, wanted: &AcmeNames, table: &Table, now: i64) -> BTreeSet<Box<str>> {
        let allowed = self.demanded(wanted, table);
        let others = self.orders.iter().filter(|(name, _)| !wanted.contains_key(*name));
        let counting = others.filter(|(name, order)| allowed.contains(&***name) || order.is_over(now));
        counting.map(|(name, _)| name.clone()).collect()
    }

    /// The names that the authority issued no certificate for, in its own words: those of `wanted`, and some of those that
    /// handshakes may want.
    pub(crate) fn problems(&self, wanted: &AcmeNames, table: Option<&Table>) -> Arc<[Problem]> {
        let fails = |name: &str| self.orders.get(name).is_some_and(|order| order.failure.is_some());
        let demanded = table.map(|table| self.demanded(wanted, table)).unwrap_or_default();
        let demanded = demanded.into_iter().filter(|name| fails(name)).take(MOST_ON_DEMAND);
        let wanted = wanted.keys().map(|name| &**name).filter(|name| fails(name));
        let failing = wanted.chain(demanded).filter_map(|name| {
            let order = self.orders.get(name)?;
            let failure = order.failure.as_ref()?;
            let next = utc(order.due);
            let meanwhile = match self.certs.contains_key(name) {
                true => "; the certificate from before serves on",
                false => "",
            };
            let advice = format!("{}; the next try is at {next}{meanwhile}", failure.said);
            let key = format!("acme/{name}").into();
            Some(Problem { key, value: None, kind: ProblemKind::NoCertificate, service: None, advice: advice.into() })
        });
        let unrevoked = self.revocations.iter().filter_map(|(name, revocation)| {
            let said = revocation.failure.as_ref()?;
            let next = match revocation.is_refused {
                true => "it is not tried again".to_owned(),
                false => format!("the next try is at {}", utc(revocation.due)),
            };
            let advice = format!("the certificate that serves is to be revoked, and is not: {said}; {next}").into();
            let key = format!("acme/{name}").into();
            Some(Problem { key, value: None, kind: ProblemKind::NoCertificate, service: None, advice })
        });
        failing.chain(unrevoked).take(MOST_PROBLEMS).collect()
    }
}

/// The certificate's name among all: short enough for every engine, and the same at every balancer.
fn cert_name(name: &str) -> String {
    const LONGEST: usize = 60;
    match name.len() <= LONGEST {
        true => format!("acme-{name}"),
        false => {
            // FNV-1a: the number must be the same in every version.
            let hash = name
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            let start = (0..=LONGEST - 17).rev().find(|end| name.is_char_boundary(*end)).unwrap_or_default();
            format!("acme-{}-{hash:016x}", &name[..start])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::{OrderFailure, OrderStage};
    use super::*;

    fn order(version: u64, stage: OrderStage) -> CertOrder {
        CertOrder { version, stage, ..CertOrder::default() }
    }

    fn put(key: &str, value: Vec<u8>) -> Update {
        Update::Changes { revision: 1, changes: vec![Change::Put { key: key.into(), value: value.into() }] }
    }

    #[test]
    fn the_newest_of_an_order_counts() {
        let mut book = CertBook::default();
        let challenge = Challenge { token: "t".into(), answer: "a".into(), kind: ChallengeKind::Http };
        let told = OrderStage::Told { url: "u".into(), challenge, since: 1 };
        book.note("a.test", order(2, told.clone()));
        book.take(put("orders/a.test", serde_json::to_vec(&order(1, OrderStage::Idle)).unwrap()));
        assert_eq!(book.orders["a.test"].stage, told);
        let by_tls = Challenge { token: "u".into(), answer: "PEM".into(), kind: ChallengeKind::Tls };
        book.note("b.test", order(1, OrderStage::Answering { url: "u".into(), challenge: by_tls }));
        let more = Answers { bodies: [("env".into(), "b".into())].into(), ..Answers::default() };
        let issued = book.issued(&more);
        assert_eq!(issued.answers.tokens().collect::<Vec<_>>(), ["env", "t", "u"]);
        assert_eq!(&*issued.answers.certs["b.test"].pem, "PEM");
        book.take(put("probe", br#"{"term":1,"token":"p","answer":"p.x"}"#.to_vec()));
        assert_eq!(book.issued(&more).answers.bodies["p"].as_ref(), "p.x");
        book.probe = None;
        book.take(Update::Changes { revision: 1, changes: vec![Change::Delete { key: "orders/b.test".into() }] });
        book.take(put("orders/a.test", serde_json::to_vec(&order(3, OrderStage::Idle)).unwrap()));
        book.take(put("certs/a.test", b"PEM\n".to_vec()));
        book.take(put("orders/b.test", b"nonsense".to_vec()));
        let issued = book.issued(&Answers::default());
        assert_eq!(*issued.answers, Answers::default());
        assert_eq!(&*issued.certs[0].name, "acme-a.test");
        assert_eq!(issued.certs[0].pem, Ok(b"PEM".as_slice().into()));
        book.take(Update::Reset { revision: 2, entries: Vec::new() });
        assert!(book.orders.is_empty() && book.certs.is_empty());
    }

    #[test]
    fn failures_are_problems_of_names_that_are_wanted() {
        let mut book = CertBook::default();
        let failure = Some(OrderFailure { said: "unauthorized: no".into(), at: 1 });
        for name in ["a.test", "b.test"] {
            book.note(name, CertOrder { version: 1, failure: failure.clone(), ..CertOrder::default() });
        }
        book.take(put("certs/a.test", b"PEM".to_vec()));
        let problems = book.problems(&["a.test", "c.test"].map(|name| (name.into(), ChallengeKind::Http)).into(), None);
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let expected = "acme/a.test: no certificate: unauthorized: no; the next try is at 1970-01-01 00:00 UTC; the \
                        certificate from before serves on";
        assert_eq!(said, [expected]);
    }

    #[test]
    fn names_of_certificates_are_short() {
        assert_eq!(cert_name("shop.test"), "acme-shop.test");
        let long = |end: &str| cert_name(&format!("{}.{end}", "x".repeat(200)));
        assert!(long("test").len() <= 80 && long("test") != long("example"));
        // Anybody may have written the key.
        assert!(cert_name(&"é".repeat(100)).starts_with("acme-éé"));
    }
}
