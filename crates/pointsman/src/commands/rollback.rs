//! `pointsman rollback`: writes the keys of an earlier revision back, in one transaction. `past` knows what they were, `change`
//! judges, shows and writes them.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use pointsman_table::shown;

use super::Outcome;
use super::change::{self, Manner};
use super::history::differing;
use super::past::{KeyPast, KeyScope, KeysAt, PastEntry, moment, tell};
use super::proposal::{Proposal, Proposed};
use crate::control::plural;
use crate::settings::Settings;

/// More of its help.
pub const HELP: &str = "\
Keys under a lease are left to their owners. A key that changed more than once since the revision
is listed, and nothing is written: --force rolls it back as well.

Examples:
  pointsman history shop
  pointsman rollback shop --to 845 --dry-run
  pointsman rollback shop --to 845 --wait";

/// Most keys that are named of those that are left as they are.
const MOST_NAMED: usize = 10;

/// What to roll back.
#[derive(Clone, Debug, Args)]
pub struct RollbackRequest {
    /// Only this service, `config`, `certs`, or what is below this key
    service: Option<String>,
    /// The revision whose keys are written back, as `history` lists them
    #[arg(long, value_name = "R")]
    to: u64,
    /// Print the difference and the problems, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Writes the keys of a revision back, and prints the difference on `out`.
///
/// # Errors
/// The revision is not known; the store is unreachable, or refuses. Keys that others changed since are [`Outcome::No`].
pub async fn rollback(
    settings: &Settings,
    request: &RollbackRequest,
    manner: Manner,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let past = KeyPast::read(settings).await?;
    let prefix = past.settings.prefix.clone();
    let scope = KeyScope::of(request.service.as_deref(), &prefix);
    let (then, now) = (past.keys_at(request.to).await?, KeysAt::from(&past.now));
    let is_leased = |key: &String| then.leased.contains(key) || now.leased.contains(key);
    let (leased, changes): (Vec<_>, Vec<_>) =
        differing(&now, &then, &scope).into_iter().partition(|change| is_leased(&change.key));
    let (entries, notes) = past.changes(request.to).await?;
    if let Some(service) = request.service.as_ref().filter(|_| !past.knows(&scope, &entries, &then)) {
        writeln!(note, "pointsman: there is no key of {}, nor was there any, as far as is known", shown(service))?;
        return Ok(Outcome::No);
    }
    let unknown: Vec<_> = then.unknown.iter().filter(|(key, _)| scope.has(key)).collect();
    if !unknown.is_empty() {
        let lead = if manner.force { "left as it is" } else { "pointsman" };
        for (key, why) in unknown.iter().take(MOST_NAMED) {
            writeln!(note, "{lead}: {}: {}", shown(key), shown(why))?;
        }
        if !manner.force {
            let count = plural(unknown.len(), "key");
            writeln!(note, "pointsman: nothing was written: {count} of revision {} cannot be told", request.to)?;
            writeln!(note, "pointsman: --force leaves such keys as they are, and writes the others")?;
            return Ok(Outcome::No);
        }
    }
    tell_leased(&leased, note)?;
    let again = changed_again(&changes, &entries);
    if !again.is_empty() {
        tell(&notes, note)?;
        tell_again(&again, request, manner, note)?;
    }
    let refused = !again.is_empty() && !manner.force;
    if refused && !request.dry_run {
        return Ok(Outcome::No);
    }
    let (was, is_change) = (past.now.revision, !changes.is_empty());
    let had = changes.iter().filter_map(|change| Some((&*change.key, &**change.old.as_ref()?)));
    let returns = past.keeps(had);
    let proposal = proposal(&prefix, changes, past);
    let manner = Manner { dry_run: request.dry_run, ..manner };
    let outcome = Box::pin(change::make(&settings.store, &proposal, manner, Some(out), note)).await?;
    if is_change && !request.dry_run && outcome == Outcome::Yes && was > 0 {
        let service = request.service.as_ref().map(|service| format!(" {}", shown(service))).unwrap_or_default();
        match returns {
            true => writeln!(note, "to take this back: pointsman rollback{service} --to {was}")?,
            false => {
                writeln!(note, "it cannot be taken back: the journal does not keep all values that were replaced")?
            }
        }
    }
    Ok(if refused { Outcome::No } else { outcome })
}

fn proposal(prefix: &str, changes: Vec<Proposed>, past: KeyPast) -> Proposal {
    let mut proposal = Proposal { over: Some(past.now), ..Proposal::default() };
    for Proposed { key, new, .. } in changes {
        let key = format!("{prefix}/{key}");
        match new {
            Some(value) => drop(proposal.puts.insert(key, value)),
            None => drop(proposal.deletes.insert(key)),
        }
    }
    proposal
}

/// The keys that changed more than once: somebody may need the later change.
fn changed_again<'e>(changes: &[Proposed], entries: &'e [PastEntry]) -> BTreeMap<&'e str, Vec<&'e PastEntry>> {
    let mut all = BTreeMap::<&str, Vec<_>>::new();
    for entry in entries {
        all.entry(&entry.key).or_default().push(entry);
    }
    all.retain(|key, entries| entries.len() > 1 && changes.iter().any(|change| change.key == *key));
    all
}

fn tell_again(
    again: &BTreeMap<&str, Vec<&PastEntry>>,
    request: &RollbackRequest,
    manner: Manner,
    note: &mut dyn Write,
) -> anyhow::Result<()> {
    let lead = if manner.force { "warning" } else { "pointsman" };
    let to = request.to;
    writeln!(note, "{lead}: changed more than once since revision {to}; is the later change still needed?")?;
    for (key, entries) in again {
        writeln!(note, "  {}", shown(key))?;
        for entry in entries {
            let at = entry.at.map_or_else(|| "-".to_owned(), moment);
            writeln!(note, "    {}  {at}  {}", entry.revision, entry.words())?;
        }
    }
    match (manner.force, request.dry_run) {
        (true, _) => {}
        (false, true) => writeln!(note, "pointsman: the rollback would be refused; --force does it all the same")?,
        (false, false) => writeln!(note, "pointsman: nothing was written; --force does it all the same")?,
    }
    Ok(())
}

fn tell_leased(leased: &[Proposed], note: &mut dyn Write) -> anyhow::Result<()> {
    if leased.is_empty() {
        return Ok(());
    }
    let count = plural(leased.len(), "key");
    writeln!(note, "left as they are: {count} under a lease, which `register` or the agent writes and removes:")?;
    for Proposed { key, .. } in leased.iter().take(MOST_NAMED) {
        writeln!(note, "  {}", shown(key))?;
    }
    match leased.len().saturating_sub(MOST_NAMED) {
        0 => Ok(()),
        more => Ok(writeln!(note, "  and {more} more")?),
    }
}
