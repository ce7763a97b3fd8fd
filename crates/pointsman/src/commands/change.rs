//! Changes one or more keys: judges the change as a balancer would, shows it, writes it and waits for it. Reads no
//! argument and no file.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use anyhow::bail;
use pointsman_store::lease::Edit;
use pointsman_store::{Api, Location, Store, StoreError, StoreSettings};
use pointsman_table::{is_secret, place_in_writing, shown};

use super::patience::within;
use super::proposal::{Present, Proposal, Proposed, changes, is_below, is_marker, relative, shown_key};
use super::review::Review;
use super::{Outcome, fleet};
use crate::fleet::{listeners, members};

/// How to make the change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Write the change even if a balancer could not use it.
    pub force: bool,
    /// Write nothing.
    pub dry_run: bool,
    /// The longest wait until every balancer serves the change.
    pub wait: Option<Duration>,
    /// Write more than a store takes at once one part after the other.
    pub in_parts: bool,
}

/// Most edits of one part.
const PART_EDITS: usize = 1000;
/// Most bytes of one part's values, but for its last one.
const PART_BYTES: usize = 1 << 20;

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
        expect_unclaimed(prefix, key)?;
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
    within(store.check_values(&edits)).await?;
    let size = if manner.in_parts { None } else { within(store.check_commit(&edits)).await? };
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
        true => Some(0),
        false => write(&store, prefix, &edits, proposal, manner).await?,
    };
    let Some(revision) = revision else {
        writeln!(note, "pointsman: others changed keys below {prefix} meanwhile; nothing was written: look again")?;
        return Ok(Outcome::No);
    };
    if is_shown && !manner.dry_run {
        writeln!(note, "{total}")?;
    }
    review.warn(prefix, manner.dry_run, note)?;
    let Some(patience) = manner.wait.filter(|_| !manner.dry_run) else { return Ok(Outcome::Yes) };
    let keys: Vec<_> = proposal.puts.keys().cloned().collect();
    // An instance without a value is none.
    let is_removal = |change: &&Proposed| change.new.as_ref().is_none_or(|value| value.trim_ascii().is_empty());
    let removed: Vec<_> = changes.iter().filter(is_removal).map(|change| change.key.clone()).collect();
    let outcome = Box::pin(fleet::served(settings, revision, (&keys, &removed), patience, note)).await?;
    Ok(if review.errors.is_empty() { outcome } else { Outcome::No })
}

/// Makes the edits; returns the revision that shows them. `None`: others changed keys meanwhile, and nothing is written.
async fn write(
    store: &Store,
    prefix: &str,
    edits: &[Edit],
    proposal: &Proposal,
    manner: Manner,
) -> anyhow::Result<Option<u64>> {
    if let Some(listed) = &proposal.over {
        return within(store.commit_over(edits, prefix, listed)).await;
    }
    let mut revision = 0;
    for part in if manner.in_parts { parts(edits) } else { vec![edits] } {
        revision = within(store.commit(part)).await?;
    }
    Ok(Some(revision))
}

/// The edits in parts that every store takes at once, in their order.
fn parts(edits: &[Edit]) -> Vec<&[Edit]> {
    let size = |edit: &Edit| match edit {
        Edit::Put { key, value } => key.len() + value.len(),
        Edit::Delete { key } => key.len(),
    };
    let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, edit) in edits.iter().enumerate() {
        if at > start && (at - start >= PART_EDITS || bytes + size(edit) > PART_BYTES) {
            parts.push(&edits[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += size(edit);
    }
    parts.push(&edits[start..]);
    parts
}

/// Balancers of this prefix do not read a key outside it: there would be nothing to wait for.
pub(super) fn expect_readers(prefix: &str, key: &str, wait: Option<Duration>) -> anyhow::Result<()> {
    if wait.is_some() && relative(prefix, key).is_none() {
        bail!("--wait: {key} is not below {prefix}, so its balancers do not read it; nothing was changed");
    }
    Ok(())
}

/// That the key is none that Pointsman itself writes.
pub(super) fn expect_unclaimed(prefix: &str, key: &str) -> anyhow::Result<()> {
    if is_marker(prefix, key) {
        bail!("{key}: `wait` and --wait write this key, to see how far each balancer is; name another");
    }
    Ok(())
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
            bail!("{key} is a folder of keys, so it cannot hold a value; name a key in it");
        }
        let above = key.match_indices('/').map(|(end, _)| &key[..end]).find(|above| keys.contains(above));
        if let Some(above) = above {
            bail!("{key}: {above} is a key, not a folder of keys");
        }
    }
    Ok(())
}

/// The places to prune that hold no key.
fn empty_places(proposal: &Proposal, present: &Present) -> Vec<String> {
    let is_empty = |place: &&String| !present.values.keys().any(|key| is_below(key, place));
    proposal.prune.iter().filter(is_empty).cloned().collect()
}

/// The keys below the prefix; with `all`, also the proposal's keys elsewhere.
pub(super) async fn present(
    store: &Store,
    prefix: &str,
    proposal: &Proposal,
    all: bool,
    note: &mut dyn Write,
) -> anyhow::Result<Present> {
    // Who may not read the status is told of clashes by the balancers.
    let members = within(members(store, prefix)).await.unwrap_or_default();
    let own = listeners(&members).into();
    let mut present = Present { own, ..Present::default() };
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
    // No change of an operator's removes it.
    present.values.retain(|key, _| !is_marker(prefix, key));
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

/// The difference, one line a key: `+ KEY = NEW`, `- KEY = OLD` or `~ KEY = OLD -> NEW`.
pub(super) fn show(prefix: &str, changes: &[Proposed], out: &mut dyn Write) -> anyhow::Result<()> {
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
pub(super) fn count(changes: &[Proposed], empty: &[String]) -> String {
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
    use super::super::proposal::samples::{keys, present};
    use super::*;

    #[test]
    fn directories_hold_no_value() {
        let present = present("services/a/1 10.0.0.1\nservices/b 1");
        for (line, want) in [
            ("services/a x", "/p/services/a is a folder of keys, so it cannot hold a value; name a key in it"),
            ("services/b/1 x", "/p/services/b/1: /p/services/b is a key, not a folder of keys"),
            (
                "services/c/1 x\nservices/c/1/2 x",
                "/p/services/c/1 is a folder of keys, so it cannot hold a value; name a key in it",
            ),
            ("services/a/2 x", ""),
        ] {
            let proposal = Proposal { puts: keys(line), ..Proposal::default() };
            let found = expect_no_directory(&changes(&proposal, &present, true), &present);
            assert_eq!(found.map_or_else(|error| error.to_string(), |()| String::new()), want, "{line}");
        }
    }

    #[test]
    fn rules_come_last_and_go_first() {
        let mut present = present("services/b/domain b.test\nservices/b/1 10.0.0.1\nservices/b/2 10.0.0.2");
        present.leased.insert("/p/services/b/2".to_owned());
        let puts = keys("services/a/domain a.test\nservices/a/path /x\nservices/a/1 10.0.0.1\ntcp-services/t/port 1");
        let proposal = Proposal { puts, prune: vec!["/p/services".to_owned()], ..Proposal::default() };
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
    fn many_edits_come_in_parts() {
        let put = |length: usize| Edit::Put { key: "/k".to_owned(), value: vec![0; length] };
        let lengths = |edits: &[Edit]| parts(edits).iter().map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&vec![put(1); 2500]), [1000, 1000, 500]);
        assert_eq!(lengths(&[put(PART_BYTES), put(1), put(PART_BYTES * 2)]), [1, 1, 1]);
    }

    #[test]
    fn differences_hide_secrets() {
        let (present, puts) =
            (present("services/a/port 80"), keys("services/a/port 81\ncerts/a pem\nservices/a/x 10.0.0.1"));
        let changes = changes(&Proposal { puts, ..Proposal::default() }, &present, true);
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
