//! `pointsman plan`: what the table would become with a change of keys, and what the last requests would get instead. Writes
//! nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use pointsman_store::{Listing, Store};
use pointsman_table::{
    Change, Compiled, KeySet, Losses, Percent, Problem, ProblemKind, Protocol, ServiceName, Shortfall, Table, losses,
    shown,
};
use serde::Serialize;

use super::apply::FileChange;
use super::change::{count, present, show};
use super::once::{self, Standpoint};
use super::patience::{expect_folder, full, within};
use super::proposal::{Proposal, Proposed, changes, relative, shown_key};
use super::reroute::{Rerouted, reroute};
use super::review::Review;
use super::routes::rule_words;
use super::{Outcome, edit};
use crate::admin::view::{ProblemView, RuleView};
use crate::control::plural;
use crate::settings::Settings;

/// More of its help.
pub const HELP: &str = "\
Writes nothing. Lists the routes that come, go and change, services that would be shadowed, and
problems; and looks the last requests of the balancer on --admin up in the new table (run
--recent-requests 10000; native engine).

Exit codes:
  0  nothing gets worse
  1  a balancer could not use the change, a problem comes, or requests that are served now would be
     refused

Examples:
  pointsman plan shop.toml
  pointsman plan services/shop/domain shop.test
  pointsman plan --rm services/shop";

/// Most lines of a list; `--json` has all.
const MOST_LINES: usize = 40;

/// The change to judge.
#[derive(Clone, Debug, Args)]
pub struct PlanRequest {
    /// A file, as for `apply`, or keys and values in turns, as for `set`; - reads standard input
    #[arg(value_name = "FILE|KEY VALUE", required_unless_present = "rm")]
    words: Vec<String>,
    /// Also remove this key and everything below it; repeatable
    #[arg(long, value_name = "KEY")]
    rm: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The answer, as JSON has it.
#[derive(Debug, Default, Serialize)]
struct TablePlan {
    /// Keys that are added, changed and removed.
    keys: usize,
    /// Why no balancer could use the change, a line each.
    errors: Vec<String>,
    routes: RouteChanges,
    /// Why guards would hold it back; `null`: they would not.
    guard: Option<String>,
    /// Services that are shadowed with the change, and were not before.
    shadowed: Vec<ProblemView>,
    /// Other problems that come.
    problems: Vec<ProblemView>,
    /// Problems that end.
    gone: Vec<ProblemView>,
    /// `null`: no balancer that keeps requests was asked.
    requests: Option<Rerouted>,
}

/// Which services get which requests.
#[derive(Debug, Default, Serialize)]
struct RouteChanges {
    gained: Vec<RouteRow>,
    lost: Vec<RouteRow>,
    changed: Vec<RouteRow>,
}

/// A service, and its rule.
#[derive(Debug, Serialize)]
struct RouteRow {
    /// `services/shop`.
    service: String,
    before: Option<String>,
    after: Option<String>,
}

/// Prints on `out` what a change would do. `named`: the operator has named the keys.
///
/// # Errors
/// Wrong usage; the store is unreachable, or `out` is closed. A change that no balancer could use, that brings a problem, or by
/// which requests would be refused that are served now, is [`Outcome::No`].
pub async fn plan(
    (settings, named): (&Settings, bool),
    request: &PlanRequest,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    expect_folder(&settings.store, "read")?;
    let proposal = request.proposal(settings)?;
    let store = &within(Store::open(&settings.store)?.settle(&settings.store)).await?;
    let (prefix, store) = (&*store.prefix, Store::open(store)?);
    let present = present(&store, prefix, &proposal, true, note).await?;
    let changes = changes(&proposal, &present, true);
    let review = Review::of(prefix, &present, &changes, &proposal);
    let entries =
        present.values.iter().filter_map(|(key, value)| Some((relative(prefix, key)?.into(), (**value).into())));
    let revision = within(store.list(&format!("{prefix}/config"))).await?.revision;
    let listing = Listing { revision, entries: entries.collect(), ..Listing::default() };
    let edits: Vec<_> = changes.iter().filter_map(|change| edit_of(prefix, change)).collect();
    let guard = held(&listing, &edits, settings.guard.share);
    let standpoint = Standpoint::of_fleet(settings, true).await?;
    let [before, after] = once::planned(settings, standpoint, (listing, edits)).await?;
    let plan = TablePlan {
        keys: changes.len(),
        errors: review.lines(prefix),
        routes: RouteChanges::between(&before.table, &after.table),
        guard,
        requests: reroute((settings, named), (&before.table, &after.table), note).await?,
        ..TablePlan::of_problems(&before, &after)
    };
    match request.json {
        true => writeln!(out, "{}", serde_json::to_string_pretty(&plan)?)?,
        false => print(prefix, &plan, &changes, out)?,
    }
    out.flush()?;
    let is_worse = plan.requests.as_ref().is_some_and(|requests| requests.refused > 0);
    let is_good = plan.errors.is_empty() && plan.shadowed.is_empty() && plan.problems.is_empty() && !is_worse;
    Ok(if is_good { Outcome::Yes } else { Outcome::No })
}

impl PlanRequest {
    fn proposal(&self, settings: &Settings) -> anyhow::Result<Proposal> {
        let mut proposal = match self.words.as_slice() {
            [] => Proposal::default(),
            [file] => FileChange::of(PathBuf::from(file)).proposal(&settings.store, false)?.0,
            words => edit::pairs(&settings.store, words, false)?,
        };
        for key in &self.rm {
            // An empty variable in a script means no key.
            if key.trim_matches('/').is_empty() {
                anyhow::bail!("--rm: name a key, such as services/shop");
            }
            let key = full(&settings.store.prefix, key);
            proposal.deletes.insert(key.clone());
            proposal.prune.push(key);
        }
        Ok(proposal)
    }
}

/// Why a guard would hold these edits, if they come at once.
fn held(listing: &Listing, edits: &[Change], share: Option<Percent>) -> Option<String> {
    let mut before = KeySet::default();
    before.reset(1, listing.entries.iter().cloned());
    let mut after = before.clone();
    after.apply(2, edits.iter().cloned());
    let lost = |lost: Shortfall, noun: &str| format!("{} of {}", lost.lost, plural(lost.had, noun));
    let what = match losses(&before, &after, share)? {
        Losses::Table { services, instances, .. } => {
            format!("{} and {} go at once", lost(services, "service"), lost(instances, "instance"))
        }
        Losses::Services(all) => {
            let one = |(protocol, name, short, _): &(Protocol, ServiceName, Shortfall, Percent)| {
                format!("{} of {protocol}/{name}", lost(*short, "instance"))
            };
            format!("{} go at once", all.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    };
    Some(format!("{what}; `pointsman guard release` then lets it in"))
}

fn edit_of(prefix: &str, change: &Proposed) -> Option<Change> {
    let key = relative(prefix, &change.key)?.into();
    Some(match &change.new {
        Some(value) => Change::Put { key, value: (**value).into() },
        None => Change::Delete { key },
    })
}

impl TablePlan {
    fn of_problems(before: &Compiled, after: &Compiled) -> Self {
        let same = |a: &Problem, b: &Problem| (&a.key, a.kind, &a.value) == (&b.key, b.kind, &b.value);
        let without = |all: &[Problem], others: &[Problem]| {
            let only = all.iter().filter(|problem| !others.iter().any(|other| same(problem, other)));
            only.cloned().collect::<Vec<_>>()
        };
        let views = |problems: &[&Problem]| problems.iter().map(|problem| ProblemView::from(*problem)).collect();
        let (new, gone) = (without(&after.problems, &before.problems), without(&before.problems, &after.problems));
        let (shadowed, other): (Vec<_>, Vec<_>) = new.iter().partition(|problem| problem.kind == ProblemKind::Shadowed);
        let gone: Vec<_> = gone.iter().collect();
        Self { shadowed: views(&shadowed), problems: views(&other), gone: views(&gone), ..Self::default() }
    }
}

impl RouteChanges {
    fn between(before: &Table, after: &Table) -> Self {
        let (had, has) = (rules(before), rules(after));
        let mut found = Self::default();
        let mut all: Vec<_> = had.keys().chain(has.keys()).collect();
        all.sort_unstable();
        all.dedup();
        for service in all {
            let (before, after) = (had.get(service).cloned(), has.get(service).cloned());
            let list = match (&before, &after) {
                (None, _) => &mut found.gained,
                (_, None) => &mut found.lost,
                (before, after) if before == after => continue,
                _ => &mut found.changed,
            };
            let service = format!("{}/{}", service.0, service.1);
            list.push(RouteRow { service, before, after });
        }
        found
    }
}

/// The rule of each service that has one.
fn rules(table: &Table) -> BTreeMap<(Protocol, String), String> {
    let rule = |service: &std::sync::Arc<pointsman_table::Service>| {
        let words = rule_words(&RuleView::new(service));
        (!words.is_empty()).then(|| ((service.protocol, service.name.to_string()), words))
    };
    table.services().iter().filter_map(rule).collect()
}

fn print(prefix: &str, plan: &TablePlan, changes: &[Proposed], out: &mut dyn Write) -> anyhow::Result<()> {
    let mut text = Vec::new();
    show(prefix, changes, &mut text)?;
    writeln!(out, "{}", count(changes, &[]))?;
    list(out, String::from_utf8_lossy(&text).lines().map(str::to_owned))?;
    if !plan.errors.is_empty() {
        writeln!(out, "a balancer could not use this; `set` and `apply` would refuse it:")?;
        list(out, plan.errors.iter().map(|error| format!("! {error}")))?;
    }
    if let Some(guard) = &plan.guard {
        writeln!(out, "the guard would hold this: {}", shown(guard))?;
    }
    let RouteChanges { gained, lost, changed } = &plan.routes;
    writeln!(out, "routes: {} gained, {} lost, {} changed", gained.len(), lost.len(), changed.len())?;
    let row = |row: &RouteRow| {
        let words = |rule: &Option<String>| rule.as_ref().map(|rule| shown(rule).to_string()).unwrap_or_default();
        let (service, before, after) = (shown(&row.service), words(&row.before), words(&row.after));
        match (row.before.is_some(), row.after.is_some()) {
            (true, true) => format!("~ {service}: {before} -> {after}"),
            (false, _) => format!("+ {service}: {after}"),
            (true, false) => format!("- {service}: {before}"),
        }
    };
    list(out, gained.iter().chain(lost).chain(changed).map(row))?;
    let problem = |sign: char| {
        move |problem: &ProblemView| {
            let key = shown_key(prefix, &problem.key);
            format!("{sign} {}: {}: {}", shown(key), shown(&problem.kind.replace('_', " ")), shown(&problem.advice))
        }
    };
    if !plan.shadowed.is_empty() {
        writeln!(out, "shadowed: {}", plan.shadowed.len())?;
        list(out, plan.shadowed.iter().map(problem('+')))?;
    }
    writeln!(out, "problems: {} new, {} gone", plan.problems.len(), plan.gone.len())?;
    list(out, plan.problems.iter().map(problem('+')).chain(plan.gone.iter().map(problem('-'))))?;
    if let Some(requests) = &plan.requests {
        print_requests(requests, out)?;
    }
    Ok(())
}

fn print_requests(requests: &Rerouted, out: &mut dyn Write) -> anyhow::Result<()> {
    let Rerouted { asked, different, refused, groups } = requests;
    let asked = plural(*asked, "request");
    match different {
        0 => writeln!(out, "requests: the last {asked} would get the same")?,
        _ => writeln!(
            out,
            "requests: of the last {asked}, {different} would get something else; {refused} of them are served now, and \
             would be refused"
        )?,
    }
    let width = groups.first().map_or(0, |group| group.count.to_string().len());
    list(
        out,
        groups.iter().map(|group| {
            let (was, would) = (shown(&group.was), shown(&group.would));
            format!("{:>width$} {}  {was} -> {would}", group.count, shown(&group.request))
        }),
    )
}

/// Indented lines, but not too many.
fn list(out: &mut dyn Write, mut lines: impl Iterator<Item = String>) -> anyhow::Result<()> {
    for line in lines.by_ref().take(MOST_LINES) {
        writeln!(out, "  {line}")?;
    }
    match lines.count() {
        0 => Ok(()),
        more => Ok(writeln!(out, "  and {more} more: --json lists all")?),
    }
}

#[cfg(test)]
mod tests {
    use pointsman_table::{KeySet, Limits, compile};

    use super::*;

    fn compiled(lines: &str) -> Compiled {
        let mut keys = KeySet::default();
        let entry = |line: &str| line.split_once(' ').map(|(key, value)| (key.into(), value.as_bytes().into()));
        keys.reset(1, lines.split(';').filter_map(entry));
        compile(&keys, None, &Limits::default())
    }

    #[test]
    fn routes_come_go_and_change() {
        let before = compiled("services/a/domain a.test;services/b/domain b.test;services/c/domain c.test");
        let after = compiled("services/a/domain x.test;services/c/domain c.test;services/d/domain c.test");
        let RouteChanges { gained, lost, changed } = RouteChanges::between(&before.table, &after.table);
        let names = |rows: &[RouteRow]| rows.iter().map(|row| row.service.clone()).collect::<Vec<_>>();
        assert_eq!(names(&gained), ["services/d"]);
        assert_eq!(names(&lost), ["services/b"]);
        assert_eq!((names(&changed), changed[0].after.as_deref()), (vec!["services/a".to_owned()], Some("x.test")));
        let problems = TablePlan::of_problems(&before, &after);
        assert_eq!(problems.shadowed.len(), 1, "{problems:?}");
    }
}
