//! `pointsman status`, `wait`, `drain`, `undrain`, and `--wait` of the edits: shows what every balancer of an id serves,
//! and waits for it. Edits nothing except the word `drain` of an instance.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pointsman_table::{Capabilities, KeySet, Limits, Protocol, compile, shown};
use serde::Serialize;
use tokio::time::timeout;

use super::Outcome;
use super::patience::{expect_folder, full, within};
use super::proposal::shown_key;
use crate::admin::source::SourceView;
use crate::admin::view::{protocol_of, protocol_word};
use crate::control::{expiry, plural};
use crate::fleet::instance_key::{Drain, InstanceKey, drained};
use crate::fleet::{self, FleetWait, Goal, LastGoodService, Leaving, Member, Point, Stage};
use pointsman_store::{Amended, Location, Store, StoreError, StoreSettings};

/// Waits until every balancer serves the change that the store made at this revision (0 if the store has none). A
/// balancer that reports a problem with one of these full keys does not serve it, nor does one whose guard holds what was removed.
///
/// # Errors
/// The store is unreachable.
pub async fn served(
    settings: &StoreSettings,
    revision: u64,
    (keys, removed): (&[String], &[String]),
    patience: Duration,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let point = match revision {
        0 => within(fleet::barrier(settings)).await?,
        revision => Point::Revision(revision),
    };
    wait_for(settings, &Goal { point, idle: None }, (keys, removed), patience, note).await
}

/// Waits until every balancer serves this revision; without one, everything that the store holds now.
///
/// # Errors
/// The store is unreachable; a revision was given for a store that has none.
pub async fn wait(
    settings: &StoreSettings,
    revision: Option<u64>,
    patience: Duration,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    expect_folder(settings, "waited for")?;
    let is_folder = matches!(settings.location, Location::Directory(_));
    let point = match revision {
        Some(_) if is_folder => {
            bail!("--revision: a folder has no revisions; give none to wait for everything that it holds")
        }
        Some(revision) => Point::Revision(revision),
        None => within(fleet::barrier(settings)).await?,
    };
    wait_for(settings, &Goal { point, idle: None }, (&[], &[]), patience, note).await
}

async fn wait_for(
    settings: &StoreSettings,
    goal: &Goal,
    (keys, removed): (&[String], &[String]),
    patience: Duration,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let call = timeout(patience.max(Duration::from_secs(1)), FleetWait::new(settings)).await;
    let mut call = call.with_context(|| format!("the store does not answer within {patience:?}"))??;
    let outcome = call.wait(goal, patience.saturating_sub(start.elapsed())).await;
    let said = say(&outcome, goal, settings, patience, note)?;
    let (problems, holds) = (call.problems_with(keys), call.holds(removed));
    if said != Outcome::Yes {
        return Ok(said);
    }
    let is_well = problems.is_empty() && holds.is_empty();
    let held = "but the guard holds what was removed; if it was meant, type `pointsman guard release`:";
    for (lead, lines) in [("but the change is a problem:", problems), (held, holds)] {
        if !lines.is_empty() {
            writeln!(note, "{lead}")?;
        }
        for (line, count) in lines {
            writeln!(note, "  on {}: {}", plural(count, "balancer"), shown(&line))?;
        }
    }
    Ok(if is_well { Outcome::Yes } else { Outcome::No })
}

fn say(
    outcome: &fleet::WaitOutcome,
    goal: &Goal,
    settings: &StoreSettings,
    patience: Duration,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let what = match (&goal.point, &goal.idle) {
        (_, Some((_, service, instance))) => format!("done with {service}/{instance}"),
        (Point::Revision(revision), None) => format!("at revision {revision}"),
        (Point::Barrier(_), None) => "up to date".to_owned(),
    };
    match outcome {
        fleet::WaitOutcome::All(count) => {
            let verb = if *count == 1 { "is" } else { "are" };
            writeln!(note, "{} {verb} {what}", plural(*count, "balancer"))?;
            return Ok(Outcome::Yes);
        }
        fleet::WaitOutcome::Nobody => {
            nobody(settings, note)?;
        }
        fleet::WaitOutcome::Late(late) => {
            writeln!(note, "after {patience:?}, not every balancer is {what}:")?;
            late.iter().try_for_each(|line| writeln!(note, "  {}", shown(line)))?;
        }
        fleet::WaitOutcome::Lost(names) => {
            writeln!(note, "disappeared without signing off, may still serve old keys: {}", shown(&names.join(", ")))?;
        }
        fleet::WaitOutcome::Unknown(why) => bail!("cannot tell whether every balancer is {what}: {why}"),
    }
    Ok(Outcome::No)
}

/// Names the keys that no balancer follows: perhaps they are not those that were meant.
fn nobody(settings: &StoreSettings, note: &mut dyn Write) -> anyhow::Result<()> {
    let keys = SourceView::new(settings).to_string();
    let is_missing = matches!(&settings.location, Location::Directory(folder) if !folder.is_dir());
    let why = if is_missing { ": there is no such folder" } else { ", as far as the store knows" };
    Ok(writeln!(note, "no balancer of {} is live{why}", shown(&keys))?)
}

/// Adds the word `drain` to an instance, or removes it. With `patience`, waits until every balancer serves the change and,
/// for a drain, has no request or connection open to the instance.
///
/// # Errors
/// There is no such instance, or the store is unreachable.
pub async fn drain(
    settings: &StoreSettings,
    instance: &str,
    drain: Drain,
    patience: Option<Duration>,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let store = Store::open(settings)?;
    let found = find(&store, settings, instance).await?;
    let Some(InstanceKey { key, protocol, service, name }) = found else {
        let (instance, source) = (shown(instance), SourceView::new(settings).to_string());
        let source = shown(&source);
        writeln!(
            note,
            "pointsman: {instance}: there is no such instance below {source}; `pointsman routes` lists them"
        )?;
        return Ok(Outcome::No);
    };
    let amended = store.amend(&key, |value| drained(value, drain)).await;
    let amended = match amended {
        Err(error @ StoreError::NoSuchKey { .. }) => {
            writeln!(note, "pointsman: {error}")?;
            return Ok(Outcome::No);
        }
        other => other?,
    };
    match (amended, drain) {
        (Amended::Same, _) => unchanged(&store, settings, &key, drain, note).await?,
        (Amended::At(_), Drain::On) => warn_of_last(&store, settings, (protocol, &service), note).await?,
        (Amended::At(_), Drain::Off) => {}
    }
    let Some(patience) = patience else { return Ok(Outcome::Yes) };
    let point = match amended {
        Amended::At(revision @ 1..) => Point::Revision(revision),
        Amended::At(_) | Amended::Same => within(fleet::barrier(settings)).await?,
    };
    let idle = (drain == Drain::On).then(|| (protocol_word(protocol).to_owned(), service, name));
    wait_for(settings, &Goal { point, idle }, (&[], &[]), patience, note).await
}

/// Says that the instance already was as it was to become.
async fn unchanged(
    store: &Store,
    settings: &StoreSettings,
    key: &str,
    drain: Drain,
    note: &mut dyn Write,
) -> anyhow::Result<()> {
    let value = within(store.get(key)).await?.unwrap_or_default();
    let value = String::from_utf8_lossy(&value).into_owned();
    let is_weightless = value.split_whitespace().skip(1).any(|word| word == "weight=0");
    let key = shown(shown_key(&settings.prefix, key));
    match drain {
        Drain::On => writeln!(note, "{key} is drained already")?,
        Drain::Off if is_weightless => {
            writeln!(note, "{key} is not drained, but has weight=0; `set` gives it another")?
        }
        Drain::Off => writeln!(note, "{key} is not drained; nothing to undo")?,
    }
    Ok(())
}

/// Warns if the service has no instance left that takes new work. A service that nobody reaches has none to lose.
async fn warn_of_last(
    store: &Store,
    settings: &StoreSettings,
    (protocol, service): (Protocol, &str),
    note: &mut dyn Write,
) -> anyhow::Result<()> {
    let place = format!("{protocol}/{service}");
    // The instance is drained already; who may not read its neighbours is not told of them.
    let Ok(listing) = within(store.list(&full(&settings.prefix, &place))).await else { return Ok(()) };
    let mut keys = KeySet::default();
    keys.reset(1, listing.entries.into_iter().map(|(key, value)| (format!("{place}/{key}").into(), value)));
    let limits = Limits { capabilities: Capabilities::HAPROXY, ..Limits::default() };
    let table = compile(&keys, None, &limits).table;
    let is_empty = table.service(protocol, service).is_some_and(|service| {
        service.dns.is_none() && !service.instances.iter().any(|instance| instance.takes_work())
    });
    if is_empty {
        let outcome = if protocol == Protocol::Tcp { "connections to it are closed" } else { "it answers 503" };
        writeln!(note, "warning: no instance of {} is left that takes new work: {outcome}", shown(&place))?;
    }
    Ok(())
}

/// Finds `shop/web-1`, or a key such as `tcp-services/db/db-1` if both trees have a service of that name.
async fn find(store: &Store, settings: &StoreSettings, instance: &str) -> anyhow::Result<Option<InstanceKey>> {
    let places = InstanceKey::places(&settings.prefix, instance).with_context(|| {
        format!("{instance}: not an instance; write SERVICE/INSTANCE or its key, such as tcp-services/SERVICE/INSTANCE")
    })?;
    let mut found = within(InstanceKey::existing(store, places)).await?;
    match found.as_slice() {
        [one, other] => bail!("{instance}: both {} and {} exist; give one of these keys", one.key, other.key),
        _ => Ok(found.pop()),
    }
}

/// One balancer in the output of `status --json`.
#[derive(Serialize)]
struct StatusRow<'a> {
    name: &'a str,
    #[serde(flatten)]
    member: &'a Member,
}

/// Lists the live balancers of the prefix.
///
/// # Errors
/// The store is unreachable, or `out` is closed. No live balancer is [`Outcome::No`], with a line on `note`.
pub async fn status(
    settings: &StoreSettings,
    json: bool,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let store = Store::open(settings)?;
    let members = within(fleet::members(&store, &settings.prefix)).await?;
    if json {
        let lines: Vec<_> = members.iter().map(|member| StatusRow { name: &member.name, member }).collect();
        serde_json::to_writer_pretty(&mut *out, &lines)?;
        writeln!(out)?;
    } else if !members.is_empty() {
        table(&members, out)?;
    }
    out.flush()?;
    if members.is_empty() {
        nobody(settings, note)?;
        writeln!(note, "`pointsman doctor` says what keeps one from starting")?;
        return Ok(Outcome::No);
    }
    Ok(Outcome::Yes)
}

fn table(members: &[Member], out: &mut dyn Write) -> anyhow::Result<()> {
    let width = members.iter().map(|member| member.name.chars().count()).max().unwrap_or(0).max("balancer".len());
    // Most have no certificates; then there is no column for them.
    let has_certificates = members.iter().any(|member| member.expires.is_some());
    let column = |text: &str| if has_certificates { format!("{text:<12}  ") } else { String::new() };
    writeln!(
        out,
        "{:<width$}  {:<8}  {:<7}  {:<8}  {:>9}  {:>4}  {}problems",
        "balancer",
        "version",
        "engine",
        "stage",
        "revision",
        "down",
        column("cert expires")
    )?;
    for member in members {
        let stage = match member.stage {
            Stage::Serving => "serving",
            Stage::Draining => "draining",
            Stage::Stopped => "stopped",
        };
        let Member { name, version, engine, revision, down, problems, .. } = member;
        let (name, version, engine) = (shown(name).to_string(), shown(version), shown(engine));
        let (version, engine) = (version.to_string(), engine.to_string());
        let expires = column(member.expires.as_ref().map_or(String::new(), |first| expiry::day(first.at)).as_str());
        writeln!(
            out,
            "{name:<width$}  {version:<8}  {engine:<7}  {stage:<8}  {revision:>9}  {down:>4}  {expires}{problems}"
        )?;
    }
    for Member { name, store, .. } in members {
        store.iter().try_for_each(|lost| writeln!(out, "{}: {}", shown(name), shown(lost)))?;
    }
    for member in members {
        for Leaving { protocol, service, instance, active } in &member.leaving {
            let protocol = protocol_of(protocol);
            let work = if protocol == Protocol::Tcp { "connection" } else { "request" };
            let open = plural(usize::try_from(*active).unwrap_or(usize::MAX), work);
            let instance = format!("{protocol}/{service}/{instance}");
            writeln!(out, "{}: {} takes no new work, {open} open", shown(&member.name), shown(&instance))?;
        }
    }
    for member in members {
        for LastGoodService { protocol, service, revision } in &member.last_good {
            let (name, protocol, service) = (shown(&member.name), protocol_of(protocol), shown(service));
            writeln!(
                out,
                "{name}: {protocol}/{service} is served with its last good settings, of revision {revision}"
            )?;
        }
        member.problem_lines.iter().try_for_each(|line| writeln!(out, "{}: {}", shown(&member.name), shown(line)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_members_say_cannot_steer_a_terminal() {
        let value =
            br#"{"version":"1","engine":"native","stage":"serving","revision":1,"problems":0,"problem_lines":[],
            "store":"lost \u001b[2J\nlb-2: serving"}"#;
        let mut out = Vec::new();
        table(&[Member::read("lb\u{1b}-1", value)], &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("lost ") && !out.contains('\u{1b}') && out.lines().count() == 3, "{out}");
    }
}
