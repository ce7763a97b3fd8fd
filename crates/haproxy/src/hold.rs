//! Services and certificates that HAProxy refuses: which, why, and the form that serves on. Never asks HAProxy: the
//! `reloader` reports refusals.
//!
//! A service stays held back until its keys change. Meanwhile the form that HAProxy accepted last serves on; a service
//! that it never accepted is not served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pointsman_table::{Cert, PemText, Problem, ProblemKind, Protocol, Service, ServiceName, Table};

use super::model::{Held, Owner};

/// All refusals.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    services: BTreeMap<(Protocol, ServiceName), Refused>,
    certs: BTreeMap<Box<str>, RefusedCert>,
    /// What was served before the start, without its instances, until something is served again.
    before: Option<Arc<Table>>,
}

/// A refused certificate: secret.
#[derive(Clone)]
struct RefusedCert {
    newest: Arc<Cert>,
    kept: Option<PemText>,
    problem: Problem,
}

/// Never shows a certificate.
impl std::fmt::Debug for RefusedCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.problem)
    }
}

#[derive(Clone, Debug)]
struct Refused {
    /// The form that was refused.
    newest: Arc<Service>,
    /// The form that serves on.
    kept: Option<Arc<Service>>,
    problems: BTreeSet<Problem>,
}

/// What HAProxy serves: a table, except for what was held back.
#[derive(Clone, Debug)]
pub struct Served {
    /// The table.
    pub table: Arc<Table>,
    /// What was held back.
    pub held: Held,
}

impl Served {
    /// Nothing: before the first table.
    pub fn nothing() -> Self {
        Self { table: Table::empty(), held: Held::new() }
    }

    /// The form of a service that is served.
    pub fn service(&self, protocol: Protocol, name: &ServiceName) -> Option<&Arc<Service>> {
        match self.held.services.get(&(protocol, name.clone())) {
            Some(kept) => kept.as_ref(),
            None => self.table.service(protocol, name.as_str()),
        }
    }
}

impl Served {
    /// The form of a certificate that is served.
    fn cert(&self, name: &str) -> Option<&PemText> {
        match self.held.certs.get(name) {
            Some(kept) => kept.as_ref(),
            None => self.table.certs().get(name).map(|cert| &cert.pem),
        }
    }
}

/// A complaint of HAProxy, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// What it is about.
    pub owner: Owner,
    /// HAProxy's own words.
    pub words: Box<str>,
}

impl Refused {
    fn serving(&self, table: &Table) -> Option<Arc<Service>> {
        let now = table.service(self.newest.protocol, self.newest.name.as_str())?;
        let policy = |service: &Arc<Service>| service.policy.clone().unwrap_or_default();
        let kept = self.kept.as_ref().filter(|kept| policy(kept).protects_as(&policy(now)));
        match kept {
            Some(kept) => Some(Arc::new(Service { instances: now.instances.clone(), ..Service::clone(kept) })),
            // Neither open, as it was, nor left to a service with wider rules.
            None if policy(now).protects() && now.protocol == Protocol::Http => Some(Arc::new(now.to_closed())),
            None => None,
        }
    }
}

impl Refusals {
    /// Sets what was served before the start.
    pub fn recall(&mut self, before: Option<Arc<Table>>) {
        self.before = before;
    }

    /// Forgets refusals of services and certificates that have changed since: they get another try.
    pub fn review(&mut self, table: &Table) {
        self.services.retain(|(protocol, name), refused| {
            table.service(*protocol, name.as_str()).is_some_and(|now| same_but_instances(now, &refused.newest))
        });
        self.certs.retain(|name, refused| table.certs().get(name) == Some(&refused.newest));
    }

    /// What is held back. A form that serves on has the table's instances: HAProxy did not refuse those.
    pub fn held(&self, table: &Table) -> Held {
        let services = self.services.iter().map(|(key, refused)| (key.clone(), refused.serving(table)));
        let certs = self.certs.iter().map(|(name, refused)| (name.clone(), refused.kept.clone()));
        Held { services: services.collect(), certs: certs.collect(), ..Held::default() }
    }

    /// Holds back the services to blame; their `served` form serves on. Returns whether anything new is held back: if
    /// not, there is no use in asking HAProxy again.
    pub fn blame(&mut self, table: &Table, served: &Served, blames: &[Blame]) -> bool {
        let before: BTreeSet<_> = self.services.keys().cloned().collect();
        let mut found = false;
        for blame in blames {
            if let Owner::Cert(name) = &blame.owner {
                found |= self.refuse_cert(table, served, name, &blame.words);
            }
            let Owner::Service(protocol, name, key) = &blame.owner else { continue };
            let Some(newest) = table.service(*protocol, name.as_str()) else { continue };
            found |= match before.contains(&(*protocol, name.clone())) {
                true => self.give_up(*protocol, name),
                false => self.refuse(served, newest, problem(table, newest, key, &blame.words)),
            };
        }
        found
    }

    fn refuse_cert(&mut self, table: &Table, served: &Served, name: &str, words: &str) -> bool {
        if let Some(refused) = self.certs.get_mut(name) {
            return refused.kept.take().is_some();
        }
        let Some(newest) = table.certs().get(name) else { return false };
        let before = || self.before.as_ref()?.certs().get(name).map(|cert| &cert.pem);
        let kept = served.cert(name).or_else(before).filter(|kept| **kept != newest.pem).cloned();
        let advice = format!("HAProxy refuses it: {words}");
        let problem = table.tree_problem(ProblemKind::Rejected, &format!("certs/{name}"), advice);
        self.certs.insert(name.into(), RefusedCert { newest: newest.clone(), kept, problem });
        true
    }

    /// The form that served on is refused too: the service is no longer served.
    fn give_up(&mut self, protocol: Protocol, name: &ServiceName) -> bool {
        self.services.get_mut(&(protocol, name.clone())).is_some_and(|refused| refused.kept.take().is_some())
    }

    /// Holds back the services of problems found before HAProxy was asked. Returns whether any is new.
    pub fn confine(&mut self, table: &Table, served: &Served, problems: &[Problem]) -> bool {
        let mut found = false;
        for problem in problems.iter().filter(|problem| problem.kind == ProblemKind::Rejected) {
            let Some((protocol, name)) = &problem.service else { continue };
            let Some(newest) = table.service(*protocol, name.as_str()) else { continue };
            found |=
                !self.services.contains_key(&(*protocol, name.clone())) && self.refuse(served, newest, problem.clone());
        }
        found
    }

    fn refuse(&mut self, served: &Served, newest: &Arc<Service>, problem: Problem) -> bool {
        let before = || self.before.as_ref()?.service(newest.protocol, newest.name.as_str());
        let kept = served.service(newest.protocol, &newest.name).or_else(before);
        let kept = kept.filter(|kept| !same_but_instances(kept, newest)).cloned();
        let name = (newest.protocol, newest.name.clone());
        let new = || Refused { newest: newest.clone(), kept, problems: BTreeSet::new() };
        self.services.entry(name).or_insert_with(new).problems.insert(problem)
    }

    /// The problems, under the keys that caused them.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        let services = self.services.values().flat_map(|refused| refused.problems.iter().cloned());
        services.chain(self.certs.values().map(|refused| refused.problem.clone()))
    }
}

/// Whether only instances differ: those may change while a service is held back.
fn same_but_instances(a: &Service, b: &Service) -> bool {
    // Every field is named, so that one that comes later is not forgotten here.
    let Service {
        protocol: _,
        name: _,
        closed: _,
        port: _,
        instances: _,
        // HAProxy honours neither.
        eject: _,
        panic: _,
        entry,
        balance,
        bounded,
        http_version,
        timeouts,
        bounds,
        policy,
        dns,
        health_check,
        link,
        custom_settings,
    } = a;
    (entry, balance, timeouts, http_version) == (&b.entry, &b.balance, &b.timeouts, &b.http_version)
        && *bounds == b.bounds
        && (policy, dns) == (&b.policy, &b.dns)
        && (health_check, custom_settings) == (&b.health_check, &b.custom_settings)
        && (bounded, link) == (&b.bounded, &b.link)
}

fn problem(table: &Table, service: &Service, key: &str, words: &str) -> Problem {
    let advice = format!("HAProxy refuses it: {words}");
    table.key_problem(ProblemKind::Rejected, service.protocol, &service.name, key, advice)
}

#[cfg(test)]
mod tests {
    use pointsman_table::{Capabilities, KeySet, Limits, compile};

    use super::*;

    fn table(keys: &[(&str, &str)]) -> Arc<Table> {
        let mut key_set = KeySet::default();
        key_set.reset(1, keys.iter().map(|(key, value)| (format!("services/{key}").into(), value.as_bytes().into())));
        compile(&key_set, None, &Limits { capabilities: Capabilities::HAPROXY, ..Limits::default() }).table
    }

    fn served(table: &Arc<Table>) -> Served {
        Served { table: table.clone(), held: Held::new() }
    }

    fn blame(table: &Table) -> Vec<Blame> {
        let name = table.services()[0].name.clone();
        let owner = Owner::Service(Protocol::Http, name, "custom_settings");
        vec![Blame { owner: owner.clone(), words: "unknown keyword".into() }, Blame { owner, words: "and more".into() }]
    }

    /// What serves of the one service: its custom settings and its instances.
    fn serving(refusals: &Refusals, table: &Table) -> Option<String> {
        let held = refusals.held(table).services.into_values().next()?;
        let form = held.map(|form| format!("{:?} {}", form.custom_settings, form.instances.len()));
        Some(form.unwrap_or_else(|| "nothing".to_owned()))
    }

    #[test]
    fn the_form_that_was_accepted_serves_on_with_new_instances() {
        let good = table(&[("a/domain", "a.test"), ("a/one", "10.0.0.1"), ("a/custom_settings", "option httplog")]);
        let bad = table(&[("a/domain", "a.test"), ("a/one", "10.0.0.1"), ("a/custom_settings", "optoin httplog")]);
        let more = [
            ("a/domain", "a.test"),
            ("a/one", "10.0.0.1"),
            ("a/two", "10.0.0.2"),
            ("a/custom_settings", "optoin httplog"),
        ];
        let mut refusals = Refusals::default();
        assert!(refusals.blame(&bad, &served(&good), &blame(&bad)));
        assert_eq!(serving(&refusals, &bad).as_deref(), Some("Some(\"option httplog\") 1"));
        let problems: Vec<_> = refusals.problems().map(|problem| problem.to_string()).collect();
        assert_eq!(problems.len(), 2);
        assert!(
            problems[1].contains("services/a/custom_settings") && problems[1].contains("unknown keyword"),
            "{problems:?}"
        );
        let more = table(&more);
        refusals.review(&more);
        assert_eq!(serving(&refusals, &more).as_deref(), Some("Some(\"option httplog\") 2"));
        refusals.review(&good);
        assert_eq!(serving(&refusals, &good), None, "other keys get another try");
    }

    #[test]
    fn no_message_of_haproxy_quotes_a_secret() {
        let secret = table(&[("a/domain", "a.test"), ("a/custom_settings", "stats auth ann:x\nfoo hunter2")]);
        let mut refusals = Refusals::default();
        let blames: Vec<_> =
            blame(&secret).into_iter().map(|it| Blame { words: "but found 'hunter2'".into(), ..it }).collect();
        refusals.blame(&secret, &Served::nothing(), &blames);
        let problems: Vec<_> = refusals.problems().map(|problem| problem.to_string()).collect();
        assert!(problems.len() == 1 && !problems[0].contains("hunter2"), "{problems:?}");
    }

    #[test]
    fn nothing_serves_of_what_was_never_accepted() {
        let bad = table(&[("a/domain", "a.test"), ("a/custom_settings", "optoin httplog")]);
        let mut refusals = Refusals::default();
        assert!(refusals.blame(&bad, &Served::nothing(), &blame(&bad)));
        assert_eq!(serving(&refusals, &bad).as_deref(), Some("nothing"));
        assert!(!refusals.blame(&bad, &Served::nothing(), &blame(&bad)), "to ask again would change nothing");
    }

    #[test]
    fn a_form_with_other_protection_does_not_serve_on() {
        let open = table(&[("a/domain", "a.test"), ("a/one", "10.0.0.1")]);
        let asks = [("a/domain", "a.test"), ("a/one", "10.0.0.1"), ("a/allow", "10.0.0.0/8")];
        let bad = table(&[asks[0], asks[1], asks[2], ("a/custom_settings", "optoin httplog")]);
        for before in [served(&open), Served::nothing()] {
            let mut refusals = Refusals::default();
            assert!(refusals.blame(&bad, &before, &blame(&bad)));
            let held = refusals.held(&bad).services.into_values().next().expect("it is held back");
            let form = held.expect("its rules stay");
            assert!(form.closed && form.instances.is_empty() && form.custom_settings.is_none());
        }
        let same = table(&asks);
        let mut refusals = Refusals::default();
        assert!(refusals.blame(&bad, &served(&same), &blame(&bad)));
        assert_eq!(serving(&refusals, &bad).as_deref(), Some("None 1"), "the same protection serves on");
    }

    #[test]
    fn a_kept_form_that_is_refused_too_is_given_up() {
        let old = table(&[("a/domain", "a.test"), ("a/custom_settings", "errorfile 503 /gone")]);
        let bad = table(&[("a/domain", "a.test"), ("a/custom_settings", "optoin httplog")]);
        let mut refusals = Refusals::default();
        assert!(refusals.blame(&bad, &served(&old), &blame(&bad)));
        assert!(refusals.blame(&bad, &served(&old), &blame(&bad)));
        assert_eq!(serving(&refusals, &bad).as_deref(), Some("nothing"));
    }
}
