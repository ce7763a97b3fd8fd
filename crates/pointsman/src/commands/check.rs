//! `pointsman check`: compiles the keys once and lists every problem. Serves and changes nothing.

use std::io::Write;

use anyhow::Context;
use pointsman_native::{self as native, Probed};
use pointsman_table::{Problem, Table, shown};
use serde::Serialize;

use super::once::Standpoint;
use super::patience::expect_folder;
use super::{Outcome, once, render};
use crate::admin::view::{ProblemView, epoch_seconds};
use crate::control::{expiry, plural, serving};
use crate::fleet::{LastGoodService, last_good};
use crate::settings::{Engine, Settings};

/// The output of `check --json`.
#[derive(Serialize)]
struct Checked {
    revision: u64,
    problems: Vec<ProblemView>,
    last_good: Vec<LastGoodService>,
}

/// What is reported, and how.
#[derive(Clone, Copy, Debug)]
pub struct CheckReport {
    /// As JSON.
    pub json: bool,
    /// With what every instance says that has health checks.
    pub probe: bool,
}

/// Lists problems on `out`, one per line, and writes a summary to `note`. `names_engine`: the operator has named one.
///
/// # Errors
/// The store is unreachable, there is no HAProxy to ask, or `out` cannot be written.
pub async fn check(
    (settings, names_engine): (&Settings, bool),
    CheckReport { json, probe }: CheckReport,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    expect_folder(&settings.store, "checked")?;
    let standpoint = Standpoint::of_fleet(settings, names_engine).await?;
    let engine = standpoint.engine();
    let mut compiled = match probe {
        true => once::resolved(settings, standpoint).await?,
        false => once::compiled(settings, standpoint).await?,
    };
    let now = epoch_seconds().cast_signed();
    compiled.problems.extend(expiry::judge(&compiled.table, now).problems);
    let asked = match settings.engine {
        Engine::Haproxy => render::refused(settings, &compiled.table).await,
        Engine::Native => Ok(Vec::new()),
    };
    compiled.problems.extend(asked.as_ref().ok().into_iter().flatten().cloned());
    print(&compiled.table, &compiled.problems, json, out)?;
    asked.context("the keys were checked, but not by HAProxy")?;
    summary(&compiled.table, compiled.problems.len(), note)?;
    if engine != settings.engine {
        writeln!(
            note,
            "judged for the HAProxy engine, which the live balancers have; --engine haproxy asks HAProxy too"
        )?;
    }
    let is_well = !probe || print_probed(&native::probe_once(&compiled.table).await, out)?;
    Ok(if compiled.problems.is_empty() && is_well { Outcome::Yes } else { Outcome::No })
}

fn print(table: &Table, problems: &[Problem], json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if json {
        let problems = problems.iter().map(ProblemView::from).collect();
        let checked = Checked { revision: table.revision(), problems, last_good: last_good(table).collect() };
        writeln!(out, "{}", serde_json::to_string_pretty(&checked)?)?;
    } else {
        problems.iter().try_for_each(|problem| writeln!(out, "{problem}"))?;
    }
    Ok(out.flush()?)
}

/// One instance a line. Returns whether all passed.
fn print_probed(probed: &[Probed], out: &mut dyn Write) -> anyhow::Result<bool> {
    for Probed { protocol, service, instance, target, passed, said } in probed {
        let verdict = if *passed { "passes" } else { "fails" };
        let path = shown(&format!("{protocol}/{service}/{instance}")).to_string();
        writeln!(out, "{path} ({}) {verdict}: {}", shown(target), shown(said))?;
    }
    out.flush()?;
    Ok(probed.iter().all(|probed| probed.passed))
}

fn summary(table: &Table, problems: usize, note: &mut dyn Write) -> anyhow::Result<()> {
    for (protocol, name, revision) in table.last_good() {
        let name = shown(name.as_str());
        writeln!(note, "{protocol}/{name} is served with its last good settings, of revision {revision}")?;
    }
    let serving = serving(table).replacen("serving ", "", 1);
    let problems = if problems == 0 { "no problems".to_owned() } else { plural(problems, "problem") };
    Ok(writeln!(note, "{problems}: {serving}")?)
}
