//! `pointsman guard`: shows what balancers serve on although it was taken away, and lets that in. Writes no key below the
//! prefix.

use std::io::Write;
use std::time::{Duration, Instant};

use pointsman_table::shown;
use tokio::time::sleep;

use super::Outcome;
use super::ask::{Answer, ask};
use super::patience::within;
use crate::admin::held::GuardView;
use crate::control::{expiry, plural};
use crate::fleet::{self, HeldCount, Member, release};
use crate::settings::Settings;
use pointsman_store::Store;

/// How long a release waits for the balancers.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
/// Services and instances that are named.
const MOST: usize = 20;

/// Shows what is held, or lets that in if the action says so.
///
/// # Errors
/// The store is unreachable, or `out` or `note` is closed.
pub async fn guard(
    settings: &Settings,
    action: Option<String>,
    json: bool,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    match action {
        None => show(settings, json, out).await,
        // The only one.
        Some(_) => release(settings, note).await,
    }
}

/// Lists what is held: by all balancers of the prefix, by their status, and in full by the one on `--admin`.
///
/// # Errors
/// The store is unreachable, or `out` is closed. Something that is held is [`Outcome::No`].
async fn show(settings: &Settings, json: bool, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let store = Store::open(&settings.store)?;
    let members = within(fleet::members(&store, &settings.store.prefix)).await?;
    let held: Vec<_> = members.iter().filter_map(|member| Some((member, member.held.as_ref()?))).collect();
    if json {
        let rows: serde_json::Map<_, _> = held
            .iter()
            .map(|(member, held)| Ok((member.name.clone(), serde_json::to_value(held)?)))
            .collect::<serde_json::Result<_>>()?;
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(if held.is_empty() { Outcome::Yes } else { Outcome::No });
    }
    if held.is_empty() {
        writeln!(out, "nothing is held")?;
        return Ok(Outcome::Yes);
    }
    for (Member { name, .. }, count) in &held {
        writeln!(out, "{}: {}", shown(name), words(count))?;
    }
    // A balancer on this machine, if there is one, lists everything.
    if let Ok(Answer::Running(view)) = ask::<GuardView>(settings.admin, "/api/guard").await {
        details(&view, out)?;
    }
    writeln!(out, "`pointsman guard release` lets the change in")?;
    out.flush()?;
    Ok(Outcome::No)
}

fn words(HeldCount { services, instances, keys, until, .. }: &HeldCount) -> String {
    let until = expiry::utc(until.cast_signed());
    let (services, instances) = (plural(*services, "service"), plural(*instances, "instance"));
    format!("holds {services} and {instances}, {}, until {until}", plural(*keys, "key"))
}

fn details(view: &GuardView, out: &mut dyn Write) -> anyhow::Result<()> {
    for problem in &view.problems {
        writeln!(out, "  {problem}")?;
    }
    for name in view.instances.iter().take(MOST) {
        writeln!(out, "  {}", shown(name))?;
    }
    match view.instances.len().saturating_sub(MOST) {
        0 => {}
        more => writeln!(out, "  and {} more: /api/guard on the admin address lists all", plural(more, "instance"))?,
    }
    Ok(())
}

/// Lets all balancers of the prefix go on without what they hold, and waits until they have.
///
/// # Errors
/// The store is unreachable. Balancers that still hold something after 10 s are [`Outcome::No`].
async fn release(settings: &Settings, note: &mut dyn Write) -> anyhow::Result<Outcome> {
    let store = Store::open(&settings.store)?;
    let prefix = &settings.store.prefix;
    if holders(&store, prefix).await?.is_empty() {
        writeln!(note, "nothing is held")?;
        return Ok(Outcome::Yes);
    }
    within(release::write(&store, prefix)).await?;
    let start = Instant::now();
    loop {
        let left = holders(&store, prefix).await?;
        if left.is_empty() {
            writeln!(note, "released: every balancer serves the store's keys")?;
            return Ok(Outcome::Yes);
        }
        if start.elapsed() >= PATIENCE {
            writeln!(note, "released, but still held after {PATIENCE:?} by {}", shown(&left.join(", ")))?;
            return Ok(Outcome::No);
        }
        sleep(LOOK).await;
    }
}

async fn holders(store: &Store, prefix: &str) -> anyhow::Result<Vec<String>> {
    let members = within(fleet::members(store, prefix)).await?;
    Ok(members.into_iter().filter(|member| member.held.is_some()).map(|member| member.name).collect())
}
