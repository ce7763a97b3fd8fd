//! Which names get certificates by ACME: those of the services that want them and have none of their own. Asks no
//! authority.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::acme::{AcmeTerms, AcmeWish, Answers, CHALLENGE_PATH, ChallengeKind};
use crate::address::HostPattern;
use crate::form::Form;
use crate::limits::Limits;
use crate::names::Protocol;
use crate::on_demand::Allowance;
use crate::problem::{Problem, ProblemKind, Report};
use crate::table::Table;

/// Whether an authority can issue a certificate for this name by this kind of challenge; else why not.
fn refusal(host: &HostPattern, kind: ChallengeKind) -> Option<String> {
    let name = host.name();
    match host {
        HostPattern::Wildcard(_) if kind != ChallengeKind::Dns => {
            let kind = kind.word();
            Some(format!("no authority issues *.{name} by {kind}; set this or config/acme/challenge to dns-01"))
        }
        _ if name.parse::<IpAddr>().is_ok() => Some(format!("{name} is an address, not a name")),
        _ if !name.contains('.') => Some(format!("{name} is no public name")),
        HostPattern::Exact(_) | HostPattern::Wildcard(_) => None,
    }
}

/// Names that services want certificates for, and how each is shown to be ours.
pub type AcmeNames = BTreeMap<Box<str>, ChallengeKind>;

/// What a served service wants that wants certificates.
#[derive(Clone, Copy)]
struct Wanting<'f> {
    hosts: &'f [HostPattern],
    /// How its names are shown to be its own.
    kind: ChallengeKind,
    /// It says itself that it wants them.
    is_explicit: bool,
    /// It says itself how.
    chooses: bool,
}

/// `None`: it wants no certificates.
fn wanting<'f>(form: &'f Form, terms: &AcmeTerms) -> Option<Wanting<'f>> {
    let settings = form.settings.as_ref().filter(|_| form.protocol == Protocol::Http && form.service.is_some())?;
    let usual = if terms.auto { AcmeWish::Usual } else { AcmeWish::None };
    let (kind, chooses) = match settings.acme.unwrap_or(usual) {
        AcmeWish::None => return None,
        AcmeWish::Usual => (terms.challenge, false),
        AcmeWish::By(kind) => (kind, true),
    };
    let hosts = settings.http().map(|entry| &*entry.hosts).unwrap_or_default();
    Some(Wanting { hosts, kind, is_explicit: settings.acme.is_some(), chooses })
}

/// The problems of services that want certificates and cannot get them.
pub(crate) fn problems(forms: &[Arc<Form>], terms: &AcmeTerms, limits: &Limits) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut is_wanted = terms.on_demand.is_some();
    for (form, wanting) in forms.iter().filter_map(|form| Some((form, wanting(form, terms)?))) {
        let Wanting { hosts, kind, is_explicit, .. } = wanting;
        is_wanted |= hosts.iter().any(|host| refusal(host, kind).is_none());
        if !is_explicit {
            continue;
        }
        let mut report = Report::of_service(&limits.prefix, Protocol::Http, &form.name);
        if hosts.is_empty() {
            let advice = "the service names no domain to get a certificate for; set domain";
            report.add(ProblemKind::NoCertificate, "acme", None, advice);
        }
        for why in hosts.iter().filter_map(|host| refusal(host, kind)) {
            let advice = format!("{why}, or put a certificate for it below certs/");
            report.add(ProblemKind::NoCertificate, "acme", None, advice);
        }
        problems.extend(report.finish());
    }
    if is_wanted && !terms.agree {
        let mut report = Report::of_tree(&limits.prefix, "config");
        let who = if terms.on_demand.is_some() { "services or handshakes" } else { "services" };
        let advice = format!(
            "{who} want certificates of {}, which issues none before you agree to its terms; read them, then set this to true",
            terms.directory
        );
        report.add(ProblemKind::NoCertificate, "acme/agree", None, advice);
        problems.extend(report.finish());
    }
    problems
}

impl Table {
    /// The names to get certificates for, and how each is shown to be ours: those of the services that want them, without
    /// those that a certificate of a key or file covers. Of two services with the same name, one that chooses how is heard
    /// before one that does not. Looks at all services.
    pub fn acme_names(&self) -> AcmeNames {
        let terms = &self.config().acme;
        let mut names = AcmeNames::new();
        if !terms.agree {
            return names;
        }
        let (choosing, usual): (Vec<_>, Vec<_>) =
            self.forms.iter().filter_map(|form| wanting(form, terms)).partition(|wanting| wanting.chooses);
        for Wanting { hosts, kind, .. } in choosing.into_iter().chain(usual) {
            for host in hosts.iter().filter(|host| refusal(host, kind).is_none()) {
                names.entry(host.to_string().into_boxed_str()).or_insert(kind);
            }
        }
        if !names.is_empty() {
            let covered = self.basis.certs.value.own_names();
            names.retain(|name, _| !covered.has(name));
        }
        names
    }

    /// Whether the first handshake for this name, in lower case, may have a certificate asked for. Not if a certificate of a
    /// key or file covers it.
    pub fn acme_on_demand(&self, name: &str) -> Allowance<'_> {
        match self.config().acme.on_demand(name) {
            Allowance::No => Allowance::No,
            _ if self.basis.certs.value.own_names().has(name) => Allowance::No,
            allowance => allowance,
        }
    }

    /// Those of these names that handshakes may have certificates asked for, and no certificate of a key or file covers.
    pub fn acme_demanded<'n>(&self, names: impl Iterator<Item = &'n str>) -> BTreeSet<&'n str> {
        let terms = &self.config().acme;
        let mut names: BTreeSet<_> = names.filter(|name| terms.on_demand(name) != Allowance::No).collect();
        if !names.is_empty() {
            let covered = self.basis.certs.value.own_names();
            names.retain(|name| !covered.has(name));
        }
        names
    }

    /// Whether a service wants certificates by ACME, or a handshake may.
    pub fn wants_acme(&self) -> bool {
        let terms = &self.config().acme;
        terms.is_on_demand() || terms.agree && self.forms.iter().any(|form| wanting(form, terms).is_some())
    }

    /// The answer to an authority that asks for this path, over whatever services there are.
    pub fn answer(&self, target: &str) -> Option<&str> {
        let answers = &self.answers().bodies;
        // Almost always.
        if answers.is_empty() {
            return None;
        }
        let token = target.strip_prefix(CHALLENGE_PATH)?;
        let token = token.split('?').next().unwrap_or_default();
        answers.get(token).map(|body| &**body)
    }

    /// All answers to authorities.
    pub fn answers(&self) -> &Arc<Answers> {
        &self.basis.limits.answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::compile;
    use crate::key_set::KeySet;

    /// The names that these keys want certificates for, and the problems of kind `no certificate`.
    fn names(keys: &[(&str, &str)]) -> String {
        let mut set = KeySet::default();
        set.reset(1, keys.iter().map(|(key, value)| (Box::from(*key), Box::from(value.as_bytes()))));
        let compiled = compile(&set, None, &Limits::default());
        let show = |(name, kind): (Box<str>, ChallengeKind)| match kind {
            ChallengeKind::Http => name.into_string(),
            _ => format!("{name}={}", kind.word()),
        };
        let names: Vec<_> = compiled.table.acme_names().into_iter().map(show).collect();
        let problems = compiled.problems.iter().filter(|problem| problem.kind == ProblemKind::NoCertificate);
        let problems: Vec<_> = problems.map(|problem| problem.to_string()).collect();
        format!("{} {}", names.join(","), problems.join("; "))
    }

    const AGREE: (&str, &str) = ("config/acme/agree", "true");
    const WANT: (&str, &str) = ("services/a/acme", "true");

    #[test]
    fn who_wants_certificates() {
        let domain = ("services/a/domain", "b.test,a.test");
        let other = ("services/b/domain", "b.test,c.test,*.d.test,localhost,192.0.2.1");
        let auto = ("config/acme/auto", "true");
        assert_eq!(names(&[domain, other, AGREE]), " ");
        assert_eq!(names(&[domain, other, AGREE, WANT]), "a.test,b.test ");
        assert_eq!(names(&[domain, other, AGREE, auto]), "a.test,b.test,c.test ");
        assert_eq!(names(&[domain, other, AGREE, auto, ("services/a/acme", "false")]), "b.test,c.test ");
        let said = names(&[domain, WANT]);
        assert!(
            said.starts_with(" /config/acme/agree: no certificate: services want certificates of https://"),
            "{said}"
        );
        let said = names(&[("services/a/domain", "*.a.test"), WANT, AGREE]);
        assert!(
            said.starts_with(" /services/a/acme: no certificate: no authority issues *.a.test by http-01"),
            "{said}"
        );
        let alpn = ("config/acme/challenge", "tls-alpn-01");
        let said = names(&[("services/a/domain", "*.a.test"), WANT, AGREE, alpn]);
        assert!(said.contains("no authority issues *.a.test by tls-alpn-01"), "{said}");
        let dns = ("config/acme/challenge", "dns-01");
        assert_eq!(
            names(&[("services/a/domain", "*.a.test,a.test"), WANT, AGREE, dns]),
            "*.a.test=dns-01,a.test=dns-01 "
        );
        let said = names(&[("services/a/default", "true"), WANT, AGREE]);
        assert!(said.starts_with(" /services/a/acme: no certificate: the service names no domain"), "{said}");
    }

    #[test]
    fn a_service_chooses_how_its_names_are_shown() {
        let (a, b) = (("services/a/domain", "*.a.test,a.test"), ("services/b/domain", "a.test,b.test"));
        let by = |kind| [a, b, AGREE, ("services/a/acme", kind), ("services/b/acme", "true")];
        assert_eq!(names(&by("dns-01")), "*.a.test=dns-01,a.test=dns-01,b.test ");
        let said = names(&by("tls-alpn-01"));
        assert!(said.starts_with("a.test=tls-alpn-01,b.test /services/a/acme: no certificate: no authority"), "{said}");
        // Whichever service comes first.
        let by_b = [a, b, AGREE, WANT, ("services/b/acme", "tls-alpn-01")];
        assert!(names(&by_b).starts_with("a.test=tls-alpn-01,b.test=tls-alpn-01 "), "{}", names(&by_b));
    }

    #[test]
    fn names_of_certificates_are_not_wanted() {
        let cert =
            concat!(include_str!("../tests/certificates/leaf.pem"), include_str!("../tests/certificates/leaf.key"));
        // It is for shop.test and *.shop.test.
        let domain = ("services/a/domain", "shop.test,www.shop.test,a.www.shop.test");
        assert_eq!(names(&[domain, WANT, AGREE, ("certs/shop", cert)]), "a.www.shop.test ");
    }

    #[test]
    fn on_demand_wants_what_no_other_certificate_covers() {
        let said = names(&[("config/acme/on_demand", "shop.test")]);
        assert!(said.starts_with(" /config/acme/agree: no certificate: services or handshakes want"), "{said}");
        let cert =
            concat!(include_str!("../tests/certificates/leaf.pem"), include_str!("../tests/certificates/leaf.key"));
        let keys = [("config/acme/on_demand", "shop.test,other.test"), AGREE, ("certs/shop", cert)];
        let mut set = KeySet::default();
        set.reset(1, keys.iter().map(|(key, value)| (Box::from(*key), Box::from(value.as_bytes()))));
        let table = compile(&set, None, &Limits::default()).table;
        assert!(table.wants_acme() && table.acme_names().is_empty());
        assert_eq!(table.acme_on_demand("other.test"), Allowance::Yes);
        assert_eq!(table.acme_on_demand("shop.test"), Allowance::No, "it has one");
        let demanded = table.acme_demanded(["other.test", "shop.test", "a.test"].into_iter());
        assert_eq!(demanded.into_iter().collect::<Vec<_>>(), ["other.test"]);
    }

    #[test]
    fn answers_are_found_by_token() {
        let answers = Answers { bodies: [("token".into(), "token.print".into())].into(), ..Answers::default() };
        let limits = Limits { answers: Arc::new(answers), ..Limits::default() };
        let table = compile(&KeySet::default(), None, &limits).table;
        let rows = [("token", true), ("token?a=b", true), ("other", false), ("", false)];
        for (token, is_known) in rows {
            assert_eq!(table.answer(&format!("{CHALLENGE_PATH}{token}")).is_some(), is_known, "{token}");
        }
        assert_eq!(table.answer("/token"), None);
    }
}
