//! Changes one or more keys: judges the change as a balancer would, shows it, writes it and waits for it. Reads no
//! argument and no file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::bail;
use pointsman_store::lease::Edit;
use pointsman_store::{Api, Location, Store, StoreError, StoreSettings};
use pointsman_table::{
    Capabilities, Change, KeySet, Limits, Problem, ProblemKind, compile, doubt, is_secret, place_in_writing, shown,
};

use super::patience::within;
use super::{Outcome, fleet};

/// The keys to change.
#[derive(Debug, Default)]
pub struct Proposal {
    /// Full keys and their new values.
    pub puts: BTreeMap<String, Vec<u8>>,
    /// Full keys: the keys below them that are not among `puts` are removed, unless they end with a lease.
    pub prune: Vec<String>,
}

/// How to make the change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Write the change even if a balancer could not use it.
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

/// The store's content, by full key.
#[derive(Default)]
struct Present {
    values: BTreeMap<String, Vec<u8>>,
    /// Keys under a lease, which their owners change and remove.
    leased: BTreeSet<String>,
    /// This user may not read every key.
    partial: bool,
}

/// Makes a change, unless a balancer of this prefix could not use it. With `out`, prints the difference there and skips
/// keys that already have their value; without it, writes every key again.
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
    // Detecting etcd's API costs requests, so it is done once for all steps.
    let settings = &within(Store::open(settings)?.settle(settings)).await?;
    let (prefix, store) = (&*settings.prefix, Store::open(settings)?);
    for key in proposal.puts.keys() {
        expect_readers(prefix, key, manner.wait)?;
        within(store.check_name(key)).await?;
    }
    proposal.prune.iter().try_for_each(|key| expect_readers(prefix, key, manner.wait))?;
    let present = present(&store, prefix, proposal, out.is_some(), note).await?;
    let changes = changes(proposal, &present, out.is_some());
    let edits = edits(prefix, &changes);
    if settings.api == Api::V2 || matches!(settings.location, Location::Directory(_)) {
        expect_no_directory(&changes, &present)?;
    }
    let size = within(store.check_commit(&edits)).await?;
    let review = Review::of(prefix, &present, &changes, proposal);
    let is_good = review.errors.is_empty() && review.owned.is_empty();
    let refused = !is_good && !manner.force;
    let is_shown = out.is_some() && (manner.dry_run || !refused);
    if let Some(out) = out.filter(|_| is_shown) {
        show(prefix, &changes, out)?;
        out.flush()?;
    }
    size.map_or(Ok(()), |size| writeln!(note, "warning: {size}"))?;
    let total = count(&changes, &empty_places(proposal, &present));
    if is_shown && manner.dry_run {
        writeln!(note, "dry run, nothing was written: {total}")?;
    }
    if refused {
        return review.refuse(prefix, manner.dry_run, note);
    }
    let revision = match manner.dry_run || changes.is_empty() {
        true => 0,
        false => within(store.commit(&edits)).await?,
    };
    if is_shown && !manner.dry_run {
        writeln!(note, "{total}")?;
    }
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

/// Why no balancer could use this key, judged without the others.
pub(super) fn obstacle(prefix: &str, key: &str, value: &str) -> Option<String> {
    let proposal = Proposal { puts: [(key.to_owned(), value.into())].into(), prune: Vec::new() };
    let review = Review::of(prefix, &Present::default(), &changes(&proposal, &Present::default(), false), &proposal);
    review.errors.first().map(|problem| said(prefix, problem))
}

/// A store with directories cannot hold a value where a directory is.
fn expect_no_directory(changes: &[Proposed], present: &Present) -> anyhow::Result<()> {
    let puts: BTreeSet<&str> =
        changes.iter().filter(|change| change.new.is_some()).map(|change| &*change.key).collect();
    let deleted: BTreeSet<&str> =
        changes.iter().filter(|change| change.new.is_none()).map(|change| &*change.key).collect();
    let stays = |key: &&str| !deleted.contains(key);
    let keys: BTreeSet<&str> =
        present.values.keys().map(|key| &**key).filter(stays).chain(puts.iter().copied()).collect();
    for key in puts {
        let below = format!("{key}/");
        if keys.range(&*below..).next().is_some_and(|next| next.starts_with(&below)) {
            bail!("{key}: is a directory");
        }
        let above = key.match_indices('/').map(|(end, _)| &key[..end]).find(|above| keys.contains(above));
        if let Some(above) = above {
            bail!("{key}: {above} is a key, not a directory");
        }
    }
    Ok(())
}

/// The places to prune that hold no key.
fn empty_places(proposal: &Proposal, present: &Present) -> Vec<String> {
    let is_empty = |place: &&String| !present.values.keys().any(|key| is_below(key, place));
    proposal.prune.iter().filter(is_empty).cloned().collect()
}

/// Whether a full key is below this place.
pub(super) fn is_below(key: &str, place: &str) -> bool {
    key.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
}

/// The keys below the prefix; with `all`, also the proposal's keys elsewhere.
async fn present(
    store: &Store,
    prefix: &str,
    proposal: &Proposal,
    all: bool,
    note: &mut dyn Write,
) -> anyhow::Result<Present> {
    let mut present = Present::default();
    let is_elsewhere = |key: &&String| relative(prefix, key).is_none();
    for place in [prefix].into_iter().chain(proposal.prune.iter().map(String::as_str)) {
        if place != prefix && !present.partial && relative(prefix, place).is_some() {
            continue;
        }
        match within(store.list(place)).await {
            // The user may lack the right to read the other keys; then judge the change alone.
            Err(error) if place == prefix && is_closed(&error) => {
                present.partial = true;
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
        if !present.values.contains_key(key) && (present.partial || is_elsewhere(&key)) {
            present.values.extend(within(store.get(key)).await?.map(|value| (key.clone(), value)));
        }
    }
    Ok(present)
}

fn is_closed(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Refused { .. } | StoreError::Files { .. }))
}

/// The keys that change; without `only_different`, every key to be written.
fn changes(proposal: &Proposal, present: &Present, only_different: bool) -> Vec<Proposed> {
    let put = |(key, new): (&String, &Vec<u8>)| Proposed {
        key: key.clone(),
        old: present.values.get(key).cloned(),
        new: Some(new.clone()),
    };
    let mut changes: Vec<_> = proposal.puts.iter().map(put).collect();
    changes.retain(|change| !only_different || change.old != change.new);
    let is_pruned =
        |key: &str| !present.leased.contains(key) && proposal.prune.iter().any(|place| is_below(key, place));
    let gone = present.values.iter().filter(|(key, _)| !proposal.puts.contains_key(*key) && is_pruned(key));
    changes.extend(gone.map(|(key, old)| Proposed { key: key.clone(), old: Some(old.clone()), new: None }));
    changes
}

/// The edits, in an order in which neither a half-written nor a half-removed service takes traffic.
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

/// A balancer's judgement of a change.
#[derive(Debug, Default)]
struct Review {
    /// Values that it would not use.
    errors: Vec<Problem>,
    /// Keys that `register` or the agent would lose.
    owned: Vec<String>,
    /// Problems that do not keep the balancer from using a value, but that an operator should know.
    warnings: Vec<String>,
    /// The keys that are written.
    named: Vec<Box<str>>,
}

impl Review {
    fn of(prefix: &str, present: &Present, changes: &[Proposed], proposal: &Proposal) -> Self {
        // Read every key, whichever engine the balancers have; a feature that an engine lacks is that balancer's own
        // problem.
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
        let is_owned = |change: &&Proposed| change.new.is_some() && present.leased.contains(&change.key);
        let owned = changes.iter().filter(is_owned).map(|change| owned(prefix, &change.key)).collect();
        let named = proposal.puts.keys().map(|key| (**key).into()).collect();
        let mut review = Self { named, owned, errors: doubts(prefix, proposal), ..Self::default() };
        for problem in compile(&keys, None, &limits).problems {
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
                ProblemKind::Shadowed | ProblemKind::Denied if is_new => review.warnings.push(said(prefix, &problem)),
                _ => {}
            }
        }
        review
    }

    /// Whether the problem is about a key that is written, or about the misspelt tree that such a key is in.
    fn names(&self, prefix: &str, problem: &Problem) -> bool {
        let is_tree = relative(prefix, &problem.key).is_some_and(|key| !key.contains('/'));
        self.named.iter().any(|key| **key == *problem.key || is_tree && is_below(key, &problem.key))
    }

    fn refuse(&self, prefix: &str, dry_run: bool, note: &mut dyn Write) -> anyhow::Result<Outcome> {
        let errors = self.errors.iter().map(|problem| said(prefix, problem));
        errors.chain(self.owned.iter().cloned()).try_for_each(|error| writeln!(note, "pointsman: {error}"))?;
        match dry_run {
            true => writeln!(note, "pointsman: the change would be refused; --force writes it all the same")?,
            false => writeln!(note, "pointsman: nothing was written; --force writes it all the same")?,
        }
        Ok(Outcome::No)
    }

    fn warn(&self, prefix: &str, dry_run: bool, note: &mut dyn Write) -> anyhow::Result<()> {
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

/// The key below the prefix, without a slash in front.
fn relative<'k>(prefix: &str, key: &'k str) -> Option<&'k str> {
    key.strip_prefix(prefix)?.strip_prefix('/')
}

/// The key as it is shown: below the prefix, or in full if it is elsewhere.
pub(super) fn shown_key<'k>(prefix: &str, key: &'k str) -> &'k str {
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

/// `keys: 2 added, 1 changed, 3 removed`; `empty` places hold no key.
fn count(changes: &[Proposed], empty: &[String]) -> String {
    let many = |old: bool, new: bool| {
        changes.iter().filter(|change| (change.old.is_some(), change.new.is_some()) == (old, new)).count()
    };
    let counts = [(many(false, true), "added"), (many(true, true), "changed"), (many(true, false), "removed")];
    let words: Vec<_> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    let empty: String = empty.iter().map(|place| format!("; there is nothing below {}", shown(place))).collect();
    match words.is_empty() {
        true => format!("nothing to change: the store holds these keys already{empty}"),
        false => format!("keys: {}{empty}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(lines: &str) -> Present {
        Present { values: keys(lines), ..Present::default() }
    }

    fn keys(lines: &str) -> BTreeMap<String, Vec<u8>> {
        let entry = |line: &str| line.split_once(' ').map(|(key, value)| (format!("/p/{key}"), value.into()));
        lines.split('\n').filter_map(entry).collect()
    }

    /// The errors (`!`) and warnings (`?`) if these lines are written over those of `held`.
    #[track_caller]
    fn check(held: &str, lines: &str, want: &[&str]) {
        let (present, proposal) = (present(held), Proposal { puts: keys(lines), prune: Vec::new() });
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
            let (proposal, present) = (Proposal { puts: keys(line), prune: Vec::new() }, Present::default());
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
            let proposal = Proposal { puts: keys(line), prune: Vec::new() };
            let review = Review::of("/p", &present, &changes(&proposal, &present, false), &proposal);
            assert_eq!((review.owned.len(), review.errors.len()), (want, 0), "{line}: {review:?}");
        }
    }

    #[test]
    fn directories_hold_no_value() {
        let present = present("services/a/1 10.0.0.1\nservices/b 1");
        for (line, want) in [
            ("services/a x", "/p/services/a: is a directory"),
            ("services/b/1 x", "/p/services/b/1: /p/services/b is a key, not a directory"),
            ("services/c/1 x\nservices/c/1/2 x", "/p/services/c/1: is a directory"),
            ("services/a/2 x", ""),
        ] {
            let proposal = Proposal { puts: keys(line), prune: Vec::new() };
            let found = expect_no_directory(&changes(&proposal, &present, true), &present);
            assert_eq!(found.map_or_else(|error| error.to_string(), |()| String::new()), want, "{line}");
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
        assert_eq!((&*String::from_utf8(out).unwrap(), &*count(&changes, &[])), (want, "keys: 2 added, 1 changed"));
        let nothing = count(&[], &["/p/services/b".to_owned()]);
        assert_eq!(
            nothing,
            "nothing to change: the store holds these keys already; there is nothing below /p/services/b"
        );
    }
}
