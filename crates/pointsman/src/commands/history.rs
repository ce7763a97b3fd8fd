//! `pointsman history` and `diff`: which keys changed, when, and how two revisions differ. Change nothing.

use std::io::Write;

use clap::Args;
use pointsman_table::shown;
use serde::Serialize;

use super::Outcome;
use super::change::{count, show};
use super::past::{KeyPast, KeyScope, KeysAt, PastEntry, PastValue, moment, tell};
use super::proposal::Proposed;
use crate::settings::Settings;

/// More of its help.
pub const DIFF_HELP: &str = "\
Examples:
  pointsman diff 812
      from revision 812 to the keys as they are
  pointsman diff 812 845 --only shop";

/// More of its help.
pub const HELP: &str = "\
With etcd v3 the changes come from etcd, as far back as it is not compacted; their times, and what
is older, from the journal that `run` keeps in --state. With etcd v2 and folders all of it comes
from the journal.

Examples:
  pointsman history shop
  pointsman history --since 812 --last 500 --json";

/// The changes to list.
#[derive(Clone, Debug, Args)]
pub struct HistoryRequest {
    /// Only this service, `config`, `certs`, or what is below this key
    service: Option<String>,
    /// Only changes after this revision
    #[arg(long, value_name = "R", default_value_t = 0)]
    since: u64,
    /// The last so many changes
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 50)]
    last: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A revision by its number, or the keys as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevisionName {
    /// That one.
    Number(u64),
    /// `now`.
    Now,
}

/// Parses `845` or `now`.
///
/// # Errors
/// It is neither.
pub fn revision_name(text: &str) -> Result<RevisionName, String> {
    match text {
        "now" => Ok(RevisionName::Now),
        _ => text.parse().map(RevisionName::Number).map_err(|_| format!("{text:?} is no revision; write 845 or now")),
    }
}

/// The revisions to compare.
#[derive(Clone, Debug, Args)]
pub struct DiffRequest {
    /// The earlier revision, as `history` lists them
    #[arg(value_name = "R1", value_parser = revision_name)]
    from: RevisionName,
    /// The later revision, or `now`
    #[arg(value_name = "R2", value_parser = revision_name, default_value = "now")]
    to: RevisionName,
    /// Only this service, `config`, `certs`, or what is below this key
    #[arg(long, value_name = "SERVICE")]
    only: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A change as JSON.
#[derive(Serialize)]
struct ChangeRow<'e> {
    revision: u64,
    /// Milliseconds since the epoch; `null`: nobody knows.
    at: Option<u64>,
    key: &'e str,
    /// A value that is secret or long is in parentheses; `null`: there was none.
    before: Option<String>,
    after: Option<String>,
    /// In hexadecimal, as etcdctl has it.
    lease: Option<String>,
}

impl<'e> ChangeRow<'e> {
    fn new(entry: &'e PastEntry) -> Self {
        let PastEntry { revision, at, key, before, after, lease } = entry;
        let (before, after) = (before.shown(key), after.shown(key));
        Self { revision: *revision, at: *at, key, before, after, lease: (*lease != 0).then(|| format!("{lease:016x}")) }
    }
}

/// Lists changes on `out`, oldest first; notes say where the record begins.
///
/// # Errors
/// The store is unreachable, or `out` is closed. Nothing to list is [`Outcome::No`].
pub async fn history(
    settings: &Settings,
    request: &HistoryRequest,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let past = KeyPast::read(settings).await?;
    let scope = KeyScope::of(request.service.as_deref(), &past.settings.prefix);
    let (mut entries, notes) = past.changes(request.since).await?;
    entries.retain(|entry| scope.has(&entry.key));
    let earlier = entries.len().saturating_sub(request.last);
    entries.drain(..earlier);
    match request.json {
        true => {
            let rows: Vec<_> = entries.iter().map(ChangeRow::new).collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        }
        false => print(&entries, out)?,
    }
    out.flush()?;
    if earlier > 0 {
        writeln!(note, "note: {earlier} earlier ones are not shown; -n shows more")?;
    }
    tell(&notes, note)?;
    if entries.is_empty() {
        writeln!(note, "no change is known")?;
    }
    Ok(if entries.is_empty() { Outcome::No } else { Outcome::Yes })
}

/// One change a line. What is the same as in the line before is left out: those keys changed at once.
fn print(entries: &[PastEntry], out: &mut dyn Write) -> anyhow::Result<()> {
    let Some(last) = entries.iter().map(|entry| entry.revision).max() else { return Ok(()) };
    let width = last.to_string().len().max("REVISION".len());
    writeln!(out, "{:>width$}  {:<19}  CHANGE", "REVISION", "TIME (UTC)")?;
    let mut before = None;
    for entry in entries {
        let is_new = before != Some(entry.revision);
        before = Some(entry.revision);
        let revision = if is_new { entry.revision.to_string() } else { String::new() };
        let at = entry.at.map_or_else(|| "-".to_owned(), moment);
        let at = if is_new { at } else { String::new() };
        let lease = if entry.lease == 0 { String::new() } else { format!("  (lease {:016x})", entry.lease) };
        writeln!(out, "{revision:>width$}  {at:<19}  {}{lease}", entry.words())?;
    }
    Ok(())
}

/// Lists on `out` the keys that differ between two revisions.
///
/// # Errors
/// A revision is not known, the store is unreachable, or `out` is closed. A difference is [`Outcome::No`].
pub async fn diff(
    settings: &Settings,
    request: &DiffRequest,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let past = KeyPast::read(settings).await?;
    let scope = KeyScope::of(request.only.as_deref(), &past.settings.prefix);
    let number = |name: RevisionName| match name {
        RevisionName::Number(number) => number,
        RevisionName::Now => past.now.revision,
    };
    let (from, to) = (number(request.from), number(request.to));
    let (before, after) = (past.keys_at(from).await?, past.keys_at(to).await?);
    let changes = differing(&before, &after, &scope);
    match request.json {
        true => {
            let entries: Vec<_> = changes.iter().map(|change| entry_of(to, change)).collect();
            let rows: Vec<_> = entries.iter().map(ChangeRow::new).collect();
            writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        }
        false => show("", &changes, out)?,
    }
    out.flush()?;
    for (revision, keys) in [(from, &before), (to, &after)] {
        for (key, why) in keys.unknown.iter().filter(|(key, _)| scope.has(key)) {
            writeln!(note, "note: {} at revision {revision}: {}", shown(key), shown(why))?;
        }
    }
    match changes.is_empty() {
        true => writeln!(note, "no difference between revisions {from} and {to}")?,
        false => writeln!(note, "from revision {from} to {to}: {}", count(&changes, &[]))?,
    }
    Ok(if changes.is_empty() { Outcome::Yes } else { Outcome::No })
}

fn entry_of(revision: u64, Proposed { key, old, new }: &Proposed) -> PastEntry {
    let value = |value: &Option<Vec<u8>>| value.clone().map_or(PastValue::Nothing, PastValue::Told);
    PastEntry { revision, at: None, key: key.clone(), before: value(old), after: value(new), lease: 0 }
}

/// The keys that differ, relative to the prefix; those whose values are not known on one side are left out.
pub(super) fn differing(before: &KeysAt, after: &KeysAt, scope: &KeyScope) -> Vec<Proposed> {
    let mut keys: Vec<_> = before.values.keys().chain(after.values.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let is_known = |key: &&&String| !before.unknown.contains_key(**key) && !after.unknown.contains_key(**key);
    let pairs = keys.iter().filter(|key| scope.has(key)).filter(is_known).map(|key| Proposed {
        key: (*key).clone(),
        old: before.values.get(*key).cloned(),
        new: after.values.get(*key).cloned(),
    });
    pairs.filter(|change| change.old != change.new).collect()
}
