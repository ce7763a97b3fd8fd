//! A balancer's judgement of a change of keys, and how it is told. Reads and writes no key.

use std::io::Write;
use std::net::Ipv6Addr;

use pointsman_table::{Capabilities, Change, KeySet, Limits, Problem, ProblemKind, Table, compile, doubt, shown};

use super::Outcome;
use super::once::rejected_cert;
use super::proposal::{Present, Proposal, Proposed, changes, is_below, relative, shown_key};

/// A balancer's judgement of a change.
#[derive(Debug, Default)]
pub(super) struct Review {
    /// Values that it would not use.
    pub(super) errors: Vec<Problem>,
    /// Keys that `register` or the agent would lose.
    pub(super) owned: Vec<String>,
    /// Problems that do not keep the balancer from using a value, but that an operator should know.
    warnings: Vec<String>,
    /// The keys that are written.
    named: Vec<Box<str>>,
}

impl Review {
    pub(super) fn of(prefix: &str, present: &Present, changes: &[Proposed], proposal: &Proposal) -> Self {
        // Read every key, whichever engine the balancers have; a feature that an engine lacks is that balancer's own
        // problem.
        let own = present.own.clone();
        let limits = Limits { prefix: prefix.into(), own, capabilities: Capabilities::EVERY, ..Limits::default() };
        let mut keys = KeySet::default();
        let entry = |(key, value): (&String, &Vec<u8>)| Some((relative(prefix, key)?.into(), (**value).into()));
        keys.reset(1, present.values.iter().filter_map(entry));
        let before = compile(&keys, None, &limits);
        let change = |change: &Proposed| {
            let key = relative(prefix, &change.key)?.into();
            Some(match &change.new {
                Some(value) => Change::Put { key, value: (**value).into() },
                None => Change::Delete { key },
            })
        };
        keys.apply(2, changes.iter().filter_map(change));
        let is_owned = |change: &&Proposed| change.new.is_some() && present.leased.contains(&change.key);
        let owned = changes.iter().filter(is_owned).map(|change| owned(prefix, &change.key)).collect();
        let named = proposal.puts.keys().map(|key| (**key).into()).collect();
        let mut review = Self { named, owned, errors: doubts(prefix, proposal), ..Self::default() };
        let after = compile(&keys, None, &limits);
        review.judge_certs(prefix, changes, &after.table);
        review.doubt_hashes(changes, &limits);
        for problem in after.problems {
            let same = |old: &Problem| (&old.key, old.kind, &old.value) == (&problem.key, problem.kind, &problem.value);
            let is_new = !before.problems.iter().any(same);
            let served = |(protocol, name): (_, &str)| before.table.service(protocol, name).is_some();
            let was_served =
                problem.service.as_ref().is_some_and(|(protocol, name)| served((*protocol, name.as_str())));
            match problem.kind {
                ProblemKind::UnknownKey | ProblemKind::BadValue | ProblemKind::BadInstance
                    if is_new || review.names(prefix, &problem) =>
                {
                    review.errors.push(problem);
                }
                // The instance gets the service's own port, because internal_port is not set yet.
                ProblemKind::Loop if is_new && takes_the_port(&problem, prefix, present, changes) => {
                    review.warnings.push(format!("{}, or set internal_port", said(prefix, &problem)));
                }
                ProblemKind::PortTaken | ProblemKind::TooManyPorts | ProblemKind::Loop if is_new => {
                    review.errors.push(problem);
                }
                // A service that is written key by key has no rule, or no instance, for a while.
                ProblemKind::NoRule if is_new && was_served => review.warnings.push(said(prefix, &problem)),
                ProblemKind::Shadowed | ProblemKind::Denied | ProblemKind::NoTarget if is_new => {
                    review.warnings.push(said(prefix, &problem))
                }
                _ => {}
            }
        }
        review
    }

    /// Certificates that are written, and that no handshake could use.
    fn judge_certs(&mut self, prefix: &str, changes: &[Proposed], table: &Table) {
        let names = changes.iter().filter_map(|change| relative(prefix, &change.key)?.strip_prefix("certs/"));
        self.errors.extend(names.filter_map(|name| rejected_cert(table, name)));
    }

    /// Password hashes that only crypt(3), and so only the HAProxy engine, knows.
    fn doubt_hashes(&mut self, changes: &[Proposed], limits: &Limits) {
        let prefix = &*limits.prefix;
        let of_users = changes.iter().filter(|change| change.key.ends_with("/basic_auth_secrets"));
        let entry = |change: &Proposed| Some((relative(prefix, &change.key)?.into(), (**change.new.as_ref()?).into()));
        let entries: Vec<_> = of_users.filter_map(entry).collect();
        if entries.is_empty() {
            return;
        }
        let mut alone = KeySet::default();
        alone.reset(1, entries);
        let problems = |capabilities| compile(&alone, None, &Limits { capabilities, ..limits.clone() }).problems;
        let of_all = problems(limits.capabilities);
        for problem in
            problems(Capabilities::NATIVE).into_iter().filter(|problem| problem.kind == ProblemKind::BadValue)
        {
            if !of_all.contains(&problem) {
                self.warnings
                    .push(format!("{}; the native engine would not serve the service", said(prefix, &problem)));
            }
        }
    }

    /// Whether the problem is about a key that is written, or about the misspelt tree that such a key is in.
    fn names(&self, prefix: &str, problem: &Problem) -> bool {
        let is_tree = relative(prefix, &problem.key).is_some_and(|key| !key.contains('/'));
        self.named.iter().any(|key| **key == *problem.key || is_tree && is_below(key, &problem.key))
    }

    /// Why the change would be refused, a line each.
    pub(super) fn lines(&self, prefix: &str) -> Vec<String> {
        let errors = self.errors.iter().map(|problem| said(prefix, problem));
        errors.chain(self.owned.iter().cloned()).collect()
    }

    pub(super) fn refuse(&self, prefix: &str, dry_run: bool, note: &mut dyn Write) -> anyhow::Result<Outcome> {
        self.lines(prefix).iter().try_for_each(|error| writeln!(note, "pointsman: {error}"))?;
        match dry_run {
            true => writeln!(note, "pointsman: the change would be refused; --force writes it all the same")?,
            false => writeln!(note, "pointsman: nothing was written; --force writes it all the same")?,
        }
        Ok(Outcome::No)
    }

    pub(super) fn warn(&self, prefix: &str, dry_run: bool, note: &mut dyn Write) -> anyhow::Result<()> {
        for problem in &self.errors {
            match self.names(prefix, problem) && !dry_run {
                true => {
                    let key = shown_key(prefix, &problem.key);
                    writeln!(note, "warning: {} was written, but {}", shown(key), mistake(problem))?;
                }
                false => writeln!(note, "warning: {}", said(prefix, problem))?,
            }
        }
        self.owned.iter().chain(&self.warnings).try_for_each(|warning| writeln!(note, "warning: {warning}"))?;
        Ok(())
    }
}

/// Keys that a balancer would take for instances, and that an operator probably misspelt.
fn doubts(prefix: &str, proposal: &Proposal) -> Vec<Problem> {
    let doubt = |(key, value): (&String, &Vec<u8>)| {
        let advice = doubt(relative(prefix, key)?, value)?.into();
        Some(Problem { key: key.as_str().into(), value: None, kind: ProblemKind::UnknownKey, service: None, advice })
    };
    proposal.puts.iter().filter_map(doubt).collect()
}

/// Whether an instance leads back to the balancer only because its value names no port, so that it gets the service's
/// own one.
fn takes_the_port(problem: &Problem, prefix: &str, present: &Present, changes: &[Proposed]) -> bool {
    let (Some((protocol, name)), Some(value)) = (&problem.service, &problem.value) else { return false };
    let address = value.split_ascii_whitespace().next().unwrap_or_default();
    let internal = format!("{prefix}/{protocol}/{name}/internal_port");
    let is_set = match changes.iter().find(|change| change.key == internal) {
        Some(change) => change.new.is_some(),
        None => present.values.contains_key(&internal),
    };
    !is_set && (!address.contains(':') || address.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok())
}

/// Why a key under a lease is not written.
fn owned(prefix: &str, key: &str) -> String {
    let key = shown(shown_key(prefix, key)).to_string();
    format!("{key}: its owner, `register` or the agent, would lose this key, and it would stay when the owner ends")
}

/// `services/shop/port: "80x" is not a port between 1 and 65535`.
fn said(prefix: &str, problem: &Problem) -> String {
    let (key, Problem { kind, advice, .. }) = (shown(shown_key(prefix, &problem.key)), problem);
    match kind {
        ProblemKind::UnknownKey => format!("{key}: {kind}: {}", shown(advice)),
        _ => format!("{key}: {}", mistake(problem)),
    }
}

fn mistake(Problem { value, kind, advice, .. }: &Problem) -> String {
    let plain = ["a port", "a number", "an integer", "a duration", "a host name"];
    let expected = advice.strip_prefix("expected ").filter(|expected| plain.iter().any(|it| expected.starts_with(it)));
    let mistake = match (kind, value, expected) {
        (ProblemKind::BadValue, Some(value), Some(expected)) => format!("{value:?} is not {expected}"),
        (ProblemKind::BadValue | ProblemKind::BadInstance, Some(value), _) => {
            format!("{value:?} is a {kind}: {advice}")
        }
        (ProblemKind::BadValue | ProblemKind::BadInstance, None, _) => format!("the value is a {kind}: {advice}"),
        (ProblemKind::UnknownKey, ..) => format!("it is an {kind}: {advice}"),
        _ => format!("{kind}: {advice}"),
    };
    shown(&mistake).to_string()
}

/// Why no balancer could use this key, judged without the others.
pub(super) fn obstacle(prefix: &str, key: &str, value: &str) -> Option<String> {
    let proposal = Proposal { puts: [(key.to_owned(), value.into())].into(), ..Proposal::default() };
    let review = Review::of(prefix, &Present::default(), &changes(&proposal, &Present::default(), false), &proposal);
    review.errors.first().map(|problem| said(prefix, problem))
}

#[cfg(test)]
mod tests {
    use super::super::proposal::samples::{keys, present};
    use super::*;

    /// The errors (`!`) and warnings (`?`) if these lines are written over those of `held`.
    #[track_caller]
    fn check(held: &str, lines: &str, want: &[&str]) {
        let (present, proposal) = (present(held), Proposal { puts: keys(lines), ..Proposal::default() });
        let review = Review::of("/p", &present, &changes(&proposal, &present, false), &proposal);
        let errors = review.errors.iter().map(|problem| said("/p", problem)).map(|error| format!("! {error}"));
        let all: Vec<_> = errors.chain(review.warnings.iter().map(|warning| format!("? {warning}"))).collect();
        assert_eq!(all.len(), want.len(), "{lines}: {all:?}");
        all.iter().zip(want).for_each(|(said, want)| assert!(said.starts_with(want), "{said} is not {want}"));
    }

    #[test]
    fn errors_of_a_value_are_refused() {
        check("", "services/a/port 80x", &["! services/a/port: \"80x\" is not a port between 1 and 65535"]);
        check("", "services/a/1 10.0.0.1:99999", &["! services/a/1: \"10.0.0.1:99999\" is a bad instance: expected"]);
        check("", "services/a/upstreams/1/x y", &["! services/a/upstreams/1/x: unknown key: "]);
        check("", "services/a/domain a test", &["! services/a/domain: \"a test\" is not a host name "]);
        check("", "config/timeout/conect 5s", &["! config/timeout/conect: unknown key: "]);
        check("", "service/a/domain a.test", &["! service: unknown key: "]);
        check("service/a/domain a.test", "service/a/port 80", &["! service: unknown key: "]);
        check("", "services/a/cookie a;b", &["! services/a/cookie: \"a;b\" is a bad value: "]);
        check("", "services/a/basic_auth_secrets x", &["! services/a/basic_auth_secrets: the value is a bad value: "]);
        // A bad value stays an error when it is written again; other keys of that service may be written.
        let bad = "services/a/port 80x";
        check(bad, bad, &["! services/a/port: "]);
        check(bad, "services/a/domain a.test", &[]);
        check("tcp-services/a/port 5432", "tcp-services/b/port 5432", &["! tcp-services/b/port: port taken: "]);
        check("tcp-services/b/port 5432", "tcp-services/a/port 5432", &["! tcp-services/b/port: port taken: "]);
        check("tcp-services/a/port 5432", "tcp-services/a/1 127.0.0.1:5432", &["! tcp-services/a/1: loop: "]);
        check(
            "tcp-services/b/port 1\ntcp-services/a/internal_port 1",
            "tcp-services/a/1 127.0.0.1",
            &["! tcp-services/a/1: loop"],
        );
        check("services/a/1 10.0.0.1", "services/a/upstreams/1 10.0.0.2", &["! services/a/1: "]);
        // A key in the place of a service is not a misspelt tree.
        check("services/a owner", "services/a/domain a.test", &[]);
    }

    #[test]
    fn advice_quotes_no_secret() {
        for (line, want) in [
            (
                "services/a/htpasswd ann hunter2",
                "the value is a bad instance: unknown option (hidden); expected weight",
            ),
            ("services/a/my_auth ann hunter2", "the value is a bad instance: unknown option (hidden); expected weight"),
            ("services/a/custom_settings stats auth hunter2\u{1}", "the value is a bad value: "),
        ] {
            let (proposal, present) = (Proposal { puts: keys(line), ..Proposal::default() }, Present::default());
            let review = Review::of("/p", &present, &changes(&proposal, &present, false), &proposal);
            for problem in &review.errors {
                assert!(!problem.advice.contains("hunter2"), "{problem}");
                assert!(mistake(problem).starts_with(want), "{problem}");
            }
        }
    }

    #[test]
    fn a_key_of_register_or_the_agent_is_not_taken_away() {
        let mut present = present("services/a/upstreams/r 10.0.0.1");
        present.leased.insert("/p/services/a/upstreams/r".to_owned());
        for (line, want) in [("services/a/upstreams/r 10.0.0.1 weight=3", 1), ("services/a/upstreams/s 10.0.0.1", 0)] {
            let proposal = Proposal { puts: keys(line), ..Proposal::default() };
            let review = Review::of("/p", &present, &changes(&proposal, &present, false), &proposal);
            assert_eq!((review.owned.len(), review.errors.len()), (want, 0), "{line}: {review:?}");
        }
    }

    #[test]
    fn what_is_not_complete_yet_is_written() {
        for line in [
            "services/a/domain a.test",
            "services/a/1 10.0.0.1:80",
            "services/a/port 80",
            "services/a/cookie SRV insert",
            "tcp-services/db/port 5432",
            "tcp-services/db/1 10.0.0.1",
            "config/timeout/connect 5s",
            "barrier x",
        ] {
            check("", line, &[]);
        }
        // The port of instances comes with internal_port.
        let own = ["? tcp-services/c/1: loop: "];
        check("tcp-services/c/1 127.0.0.1", "tcp-services/c/port 5433", &own);
        check("tcp-services/c/port 5433", "tcp-services/c/1 127.0.0.1 weight=2", &own);
        check("tcp-services/c/port 5433\ntcp-services/c/1 127.0.0.1", "tcp-services/c/internal_port 6000", &[]);
        let served = "services/a/domain a.test\nservices/a/1 10.0.0.1:80";
        check(served, "services/b/domain a.test", &["? services/b/domain: shadowed: service a has the same rule"]);
        check(served, "services/a/domain ", &["? services/a: no rule: "]);
    }
}
