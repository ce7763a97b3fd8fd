//! One change of one or more keys: judged as a balancer would judge it, shown, written and waited for. Reads no argument
//! and no file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use pointsman_store::lease::Edit;
use pointsman_store::{Store, StoreError, StoreSettings};
use pointsman_table::{
    Capabilities, Change, KeySet, Limits, Problem, ProblemKind, compile, is_secret, place_in_writing, shown,
};

use super::patience::within;
use super::{Outcome, fleet};

/// What is to change.
#[derive(Debug, Default)]
pub struct Proposal {
    /// Full keys and their new values.
    pub puts: BTreeMap<String, Vec<u8>>,
    /// Full keys: what is below one of them and not among `puts` is removed, unless it ends with a lease.
    pub prune: Vec<String>,
}

/// How to change it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Write what a balancer could not use, too.
    pub force: bool,
    /// Write nothing.
    pub dry_run: bool,
    /// The longest wait until every balancer serves the change.
    pub wait: Option<Duration>,
}

/// One key that changes: its full name, its value before and after.
struct Proposed {
    key: String,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

/// What the store holds, by full keys.
#[derive(Default)]
struct Present {
    values: BTreeMap<String, Vec<u8>>,
    /// Keys that are their owners' to remove.
    leased: BTreeSet<String>,
}

/// Makes a change, unless a balancer of this prefix could not use it. With `out`, prints the difference there and leaves
/// keys alone that are as they should be; without it, writes every key again.
///
/// # Errors
/// The store is unreachable, or refuses.
pub async fn make(
    settings: &StoreSettings,
    proposal: &Proposal,
    manner: Manner,
    out: Option<&mut dyn Write>,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    // Which API of etcd it is costs requests to find out: once for all steps.
    let settings = &within(Store::open(settings)?.settle(settings)).await?;
    let (prefix, store) = (&*settings.prefix, Store::open(settings)?);
    for key in proposal.puts.keys() {
        expect_readers(prefix, key, manner.wait)?;
        within(store.check_name(key)).await?;
    }
    proposal.prune.iter().try_for_each(|key| expect_readers(prefix, key, manner.wait))?;
    let present = present(&store, prefix, proposal, out.is_some(), note).await?;
    let changes = changes(proposal, &present, out.is_some());
    let review = Review::of(prefix, &present, &changes, proposal);
    let refused = !review.errors.is_empty() && !manner.force;
    if let Some(out) = out.filter(|_| manner.dry_run || !refused) {
        show(prefix, &changes, out)?;
        out.flush()?;
        writeln!(note, "{}{}", if manner.dry_run { "dry run, nothing was written: " } else { "" }, count(&changes))?;
    }
    if refused {
        review.errors.iter().try_for_each(|problem| writeln!(note, "pointsman: {}", said(prefix, problem)))?;
        writeln!(note, "pointsman: nothing was written; --force writes it all the same")?;
        return Ok(Outcome::No);
    }
    let revision = match manner.dry_run || changes.is_empty() {
        true => 0,
        false => within(store.commit(&edits(prefix, &changes))).await?,
    };
    review.warn(prefix, manner.dry_run, note)?;
    let Some(patience) = manner.wait.filter(|_| !manner.dry_run) else { return Ok(Outcome::Yes) };
    let keys: Vec<_> = proposal.puts.keys().cloned().collect();
    let outcome = Box::pin(fleet::served(settings, revision, &keys, patience, note)).await?;
    Ok(if review.errors.is_empty() { outcome } else { Outcome::No })
}

/// Balancers of this prefix do not read a key outside it: there would be nothing to wait for.
pub(super) fn expect_readers(prefix: &str, key: &str, wait: Option<Duration>) -> anyhow::Result<()> {
    if wait.is_some() && relative(prefix, key).is_none() {
        bail!("--wait: {key} is not below {prefix}, so its balancers do not read it; nothing was changed");
    }
    Ok(())
}

/// Why no balancer could use this key, judged alone.
pub(super) fn obstacle(prefix: &str, key: &str, value: &str) -> Option<String> {
    let proposal = Proposal { puts: [(key.to_owned(), value.into())].into(), prune: Vec::new() };
    let review = Review::of(prefix, &Present::default(), &changes(&proposal, &Present::default(), false), &proposal);
    review.errors.first().map(|problem| said(prefix, problem))
}

/// The keys below the prefix; with `all`, also those elsewhere that the proposal is about.
async fn present(
    store: &Store,
    prefix: &str,
    proposal: &Proposal,
    all: bool,
    note: &mut dyn Write,
) -> anyhow::Result<Present> {
    let mut present = Present::default();
    let mut places = vec![prefix];
    let is_elsewhere = |key: &&String| relative(prefix, key).is_none();
    places.extend(proposal.prune.iter().filter(is_elsewhere).map(String::as_str));
    for place in places {
        match within(store.list(place)).await {
            // Who may write some keys need not be allowed to read all, nor does a file that nobody can read matter to others.
            Err(error) if place == prefix && proposal.prune.is_empty() && is_closed(&error) => {
                writeln!(note, "warning: judging the change without the other keys: {error:#}")?;
            }
            listing => {
                let listing = listing?;
                let full = |key: &str| format!("{place}/{key}");
                present.leased.extend(listing.leased.iter().map(|key| full(key)));
                present.values.extend(listing.entries.into_iter().map(|(key, value)| (full(&key), value.into_vec())));
            }
        }
    }
    for key in proposal.puts.keys().filter(|_| all) {
        if !present.values.contains_key(key) && (present.values.is_empty() || is_elsewhere(&key)) {
            present.values.extend(within(store.get(key)).await?.map(|value| (key.clone(), value)));
        }
    }
    Ok(present)
}

fn is_closed(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Refused { .. } | StoreError::Files { .. }))
}

/// The keys that change; without `only_different` every key that is to be written.
fn changes(proposal: &Proposal, present: &Present, only_different: bool) -> Vec<Proposed> {
    let put = |(key, new): (&String, &Vec<u8>)| Proposed {
        key: key.clone(),
        old: present.values.get(key).cloned(),
        new: Some(new.clone()),
    };
    let mut changes: Vec<_> = proposal.puts.iter().map(put).collect();
    changes.retain(|change| !only_different || change.old != change.new);
    let is_below = |key: &str, place: &String| key.strip_prefix(&**place).is_some_and(|rest| rest.starts_with('/'));
    let is_pruned =
        |key: &str| !present.leased.contains(key) && proposal.prune.iter().any(|place| is_below(key, place));
    let gone = present.values.iter().filter(|(key, _)| !proposal.puts.contains_key(*key) && is_pruned(key));
    changes.extend(gone.map(|(key, old)| Proposed { key: key.clone(), old: Some(old.clone()), new: None }));
    changes
}

/// The edits in an order in which no half-written service takes traffic, and no half-removed one either.
fn edits(prefix: &str, changes: &[Proposed]) -> Vec<Edit> {
    let rank = |key: &str| i16::from(relative(prefix, key).map_or(0, place_in_writing));
    let mut ordered: Vec<_> = changes.iter().collect();
    ordered.sort_by_key(|change| match change.new {
        Some(_) => (false, rank(&change.key)),
        None => (true, -rank(&change.key)),
    });
    let edit = |change: &Proposed| match change.new.clone() {
        Some(value) => Edit::Put { key: change.key.clone(), value },
        None => Edit::Delete { key: change.key.clone() },
    };
    ordered.into_iter().map(edit).collect()
}

/// What a balancer would say of a change.
#[derive(Debug, Default)]
struct Review {
    /// Values that it would not use.
    errors: Vec<Problem>,
    /// What it would use, but an operator should know.
    warnings: Vec<String>,
    /// The keys that are written.
    named: Vec<Box<str>>,
}

impl Review {
    fn of(prefix: &str, present: &Present, changes: &[Proposed], proposal: &Proposal) -> Self {
        // Whichever engine the balancers have, every key is read; what an engine lacks is its own problem.
        let limits = Limits { prefix: prefix.into(), capabilities: Capabilities::HAPROXY, ..Limits::default() };
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
        let mut review = Self { named: proposal.puts.keys().map(|key| (**key).into()).collect(), ..Self::default() };
        for problem in compile(&keys, None, &limits).problems {
            let same = |old: &Problem| (&old.key, old.kind, &old.value) == (&problem.key, problem.kind, &problem.value);
            let is_new = !before.problems.iter().any(same);
            let served = |(protocol, name): (_, &str)| before.table.service(protocol, name).is_some();
            let was_served =
                problem.service.as_ref().is_some_and(|(protocol, name)| served((*protocol, name.as_str())));
            match problem.kind {
                ProblemKind::UnknownKey | ProblemKind::BadValue | ProblemKind::BadInstance
                    if is_new || review.names(&problem) =>
                {
                    review.errors.push(problem);
                }
                ProblemKind::PortTaken | ProblemKind::TooManyPorts | ProblemKind::Loop if is_new => {
                    review.errors.push(problem);
                }
                // A service that is written key by key has no rule, or no instance, for a while.
                ProblemKind::NoRule if is_new && was_served => review.warnings.push(said(prefix, &problem)),
                ProblemKind::Shadowed | ProblemKind::Denied if is_new => review.warnings.push(said(prefix, &problem)),
                _ => {}
            }
        }
        review
    }

    /// Whether the problem is about a key that is written, or about the tree that it is in.
    fn names(&self, problem: &Problem) -> bool {
        let is_of =
            |key: &str| key.strip_prefix(&*problem.key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.named.iter().any(|key| is_of(key))
    }

    fn warn(&self, prefix: &str, dry_run: bool, note: &mut dyn Write) -> anyhow::Result<()> {
        for problem in &self.errors {
            match self.names(problem) && !dry_run {
                true => {
                    let key = shown_key(prefix, &problem.key);
                    writeln!(note, "warning: {} was written, but {}", shown(key), mistake(problem))?;
                }
                false => writeln!(note, "warning: {}", said(prefix, problem))?,
            }
        }
        self.warnings.iter().try_for_each(|warning| writeln!(note, "warning: {warning}"))?;
        Ok(())
    }
}

/// `services/shop/port: "80x" is not a port between 1 and 65535`.
fn said(prefix: &str, problem: &Problem) -> String {
    format!("{}: {}", shown(shown_key(prefix, &problem.key)), mistake(problem))
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

/// The key below the prefix, without a slash in front.
fn relative<'k>(prefix: &str, key: &'k str) -> Option<&'k str> {
    key.strip_prefix(prefix)?.strip_prefix('/')
}

fn shown_key<'k>(prefix: &str, key: &'k str) -> &'k str {
    relative(prefix, key).unwrap_or(key)
}

/// The difference, one line a key: `+ KEY = NEW`, `- KEY = OLD` or `~ KEY = OLD -> NEW`.
fn show(prefix: &str, changes: &[Proposed], out: &mut dyn Write) -> anyhow::Result<()> {
    for Proposed { key, old, new } in changes {
        let place = shown_key(prefix, key);
        let value = |value: &[u8]| match is_secret(place, &String::from_utf8_lossy(value)) {
            true => "(hidden)".to_owned(),
            false => shown(&String::from_utf8_lossy(value)).to_string(),
        };
        let place = shown(place);
        match (old, new) {
            (Some(old), Some(new)) => writeln!(out, "~ {place} = {} -> {}", value(old), value(new))?,
            (None, Some(new)) => writeln!(out, "+ {place} = {}", value(new))?,
            (Some(old), None) => writeln!(out, "- {place} = {}", value(old))?,
            (None, None) => {}
        }
    }
    Ok(())
}

/// `2 keys added, 1 changed, 3 removed`.
fn count(changes: &[Proposed]) -> String {
    let many = |old: bool, new: bool| {
        changes.iter().filter(|change| (change.old.is_some(), change.new.is_some()) == (old, new)).count()
    };
    let counts = [(many(false, true), "added"), (many(true, true), "changed"), (many(true, false), "removed")];
    let words: Vec<_> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    match words.is_empty() {
        true => "nothing to change: the store holds these keys already".to_owned(),
        false => format!("keys: {}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(lines: &str) -> Present {
        Present { values: keys(lines), leased: BTreeSet::new() }
    }

    fn keys(lines: &str) -> BTreeMap<String, Vec<u8>> {
        let entry = |line: &str| line.split_once(' ').map(|(key, value)| (format!("/p/{key}"), value.into()));
        lines.split('\n').filter_map(entry).collect()
    }

    /// What is said of these lines, written over others: errors after `!`, warnings after `?`.
    #[track_caller]
    fn check(held: &str, lines: &str, want: &[&str]) {
        let (present, proposal) = (present(held), Proposal { puts: keys(lines), prune: Vec::new() });
        let review = Review::of("/p", &present, &changes(&proposal, &present, false), &proposal);
        let errors = review.errors.iter().map(|problem| format!("! {}", said("/p", problem)));
        let all: Vec<_> = errors.chain(review.warnings.iter().map(|warning| format!("? {warning}"))).collect();
        assert_eq!(all.len(), want.len(), "{lines}: {all:?}");
        all.iter().zip(want).for_each(|(said, want)| assert!(said.starts_with(want), "{said} is not {want}"));
    }

    #[test]
    fn errors_of_a_value_are_refused() {
        check("", "services/a/port 80x", &["! services/a/port: \"80x\" is not a port between 1 and 65535"]);
        check("", "services/a/1 10.0.0.1:99999", &["! services/a/1: \"10.0.0.1:99999\" is a bad instance: expected"]);
        check("", "services/a/upstreams/1/x y", &["! services/a/upstreams/1/x: it is an unknown key: "]);
        check("", "services/a/domain a test", &["! services/a/domain: \"a test\" is not a host name "]);
        check("", "config/timeout/conect 5s", &["! config/timeout/conect: it is an unknown key: "]);
        check("", "service/a/domain a.test", &["! service: it is an unknown key: "]);
        check("service/a/domain a.test", "service/a/port 80", &["! service: it is an unknown key: "]);
        check("", "services/a/cookie a;b", &["! services/a/cookie: \"a;b\" is a bad value: "]);
        check("", "services/a/basic_auth_secrets x", &["! services/a/basic_auth_secrets: the value is a bad value: "]);
        // A value that is bad already is no better a second time; other keys of that service may be written.
        let bad = "services/a/port 80x";
        check(bad, bad, &["! services/a/port: "]);
        check(bad, "services/a/domain a.test", &[]);
        check("tcp-services/a/port 5432", "tcp-services/b/port 5432", &["! tcp-services/b/port: port taken: "]);
        check("tcp-services/b/port 5432", "tcp-services/a/port 5432", &["! tcp-services/b/port: port taken: "]);
        check("tcp-services/a/port 5432", "tcp-services/a/1 127.0.0.1:5432", &["! tcp-services/a/1: loop: "]);
        check("services/a/1 10.0.0.1", "services/a/upstreams/1 10.0.0.2", &["! services/a/1: "]);
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
        let served = "services/a/domain a.test\nservices/a/1 10.0.0.1:80";
        check(served, "services/b/domain a.test", &["? services/b/domain: shadowed: service a has the same rule"]);
        check(served, "services/a/domain ", &["? services/a: no rule: "]);
    }

    #[test]
    fn rules_come_last_and_go_first() {
        let mut present = present("services/b/domain b.test\nservices/b/1 10.0.0.1\nservices/b/2 10.0.0.2");
        present.leased.insert("/p/services/b/2".to_owned());
        let puts = keys("services/a/domain a.test\nservices/a/path /x\nservices/a/1 10.0.0.1\ntcp-services/t/port 1");
        let proposal = Proposal { puts, prune: vec!["/p/services".to_owned()] };
        let edits = edits("/p", &changes(&proposal, &present, true));
        let keys: Vec<_> = edits.iter().map(|edit| edit.key().trim_start_matches("/p/")).collect();
        let want = [
            "services/a/1",
            "services/a/path",
            "services/a/domain",
            "tcp-services/t/port",
            "services/b/domain",
            "services/b/1",
        ];
        assert_eq!(keys, want);
    }

    #[test]
    fn differences_hide_secrets() {
        let (present, puts) =
            (present("services/a/port 80"), keys("services/a/port 81\ncerts/a pem\nservices/a/x 10.0.0.1"));
        let changes = changes(&Proposal { puts, prune: Vec::new() }, &present, true);
        let mut out = Vec::new();
        show("/p", &changes, &mut out).unwrap();
        let want = "+ certs/a = (hidden)\n~ services/a/port = 80 -> 81\n+ services/a/x = 10.0.0.1\n";
        assert_eq!((&*String::from_utf8(out).unwrap(), &*count(&changes)), (want, "keys: 2 added, 1 changed"));
        assert_eq!(count(&[]), "nothing to change: the store holds these keys already");
    }
}
