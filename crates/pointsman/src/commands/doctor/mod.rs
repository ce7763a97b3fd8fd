//! `pointsman doctor`: looks at settings, store, ports, limits, certificates, instances, time, etcd and the fleet, and says
//! what is wrong and what to type. Changes nothing, whether a balancer runs or not.
//!
//! ```text
//! settings ─> balancer on --admin ─> store, etcd, fleet, keys (at the same time, each with a deadline)
//!                                 └─> ports, limits, state, engine, certificates, instances ─> Observation, sorted
//! ```
//!
//! One file a subject. Each looks, and judges with a function of its own what it saw.

mod acme;
mod balancer;
mod certificates;
mod engine;
mod etcd;
mod fleet;
mod instances;
mod keys;
mod limits;
mod observation;
mod ports;
mod settings;
mod state;
mod store;

use std::io::Write;
use std::time::Duration;

use pointsman_store::{Store, members_health};
use pointsman_table::{Compiled, shown};
use serde::Serialize;
use tokio::time::timeout;

pub use self::settings::KnownSettings;
use self::store::StoreReach;
use super::Outcome;
use super::once::{Standpoint, compiled, resolved};
use crate::control::plural;
use crate::fleet as members_of;
use crate::settings::Settings;
use balancer::RunningBalancer;
use observation::{Grade, Observation};

/// How long each look at the store, or at what is in it, may take. All together take less than 10 s.
const LOOK: Duration = Duration::from_millis(2500);

/// The output of `doctor --json`.
#[derive(Serialize)]
struct DoctorReport<'o> {
    wrong: usize,
    notes: usize,
    observations: &'o [Observation],
}

/// Looks at everything, and prints what was seen: what is wrong first.
///
/// # Errors
/// `out` is closed. Anything wrong is [`Outcome::No`].
pub async fn doctor(known: KnownSettings<'_>, json: bool, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let mut all = settings::observe(&known);
    if let Ok(settings) = known.settings {
        all.extend(Box::pin(examine(settings, known.has("engine"))).await);
    }
    all.sort_by_key(|one| std::cmp::Reverse(one.grade));
    let count = |grade| all.iter().filter(|one| one.grade == grade).count();
    let (wrong, notes) = (count(Grade::Wrong), count(Grade::Note));
    match json {
        true => {
            let report = DoctorReport { wrong, notes, observations: &all };
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        }
        false => print(&all, (wrong, notes), out)?,
    }
    out.flush()?;
    Ok(if wrong == 0 { Outcome::Yes } else { Outcome::No })
}

fn print(all: &[Observation], (wrong, notes): (usize, usize), out: &mut dyn Write) -> anyhow::Result<()> {
    for Observation { subject, grade, what, remedy } in all {
        writeln!(out, "{:<6} {subject:<13} {}", grade.word(), shown(what))?;
        if !remedy.is_empty() {
            writeln!(out, "{:<20} do: {}", "", shown(remedy))?;
        }
    }
    let wrong = if wrong == 0 { "nothing is wrong".to_owned() } else { format!("{wrong} wrong") };
    Ok(writeln!(out, "{wrong}, {}, {} ok", plural(notes, "note"), all.len() - count_other(all))?)
}

/// How many are not just well.
fn count_other(all: &[Observation]) -> usize {
    all.iter().filter(|one| one.grade != Grade::Ok).count()
}

async fn examine(settings: &Settings, names_engine: bool) -> Vec<Observation> {
    let ((running, mut all), (of_store, reached), of_etcd) =
        tokio::join!(Box::pin(balancer::look(settings, LOOK)), store::look(&settings.store, LOOK), etcd(settings));
    all.extend(of_store);
    all.extend(of_etcd);
    let is_reached = reached == StoreReach::Read;
    let (compiled, of_fleet) = tokio::join!(
        Box::pin(compile(settings, names_engine, is_reached)),
        fleet(settings, running.as_ref(), is_reached),
    );
    all.extend(of_fleet);
    let table = compiled.as_ref().map(|compiled| &compiled.table);
    let (of_engine, of_instances) = tokio::join!(
        Box::pin(engine::look(settings, table)),
        Box::pin(instances::look(table.map(|table| &**table), running.as_ref(), LOOK)),
    );
    let table = table.map(|table| &**table);
    all.extend(of_engine);
    all.extend(ports::look(settings, table, running.as_ref()));
    all.extend(limits::look(settings, table));
    all.extend(settings.state.as_deref().map(state::look).into_iter().flatten());
    match &compiled {
        Some(compiled) => {
            all.extend(keys::observe(compiled, running.as_ref()));
            all.extend(certificates::observe(&compiled.table, settings));
            all.extend(acme::look(settings, &compiled.table, LOOK).await);
        }
        None if is_reached => {
            all.push(Observation::note("keys", "they could not be read and judged in time", "pointsman check"));
        }
        None => {}
    }
    all.extend(of_instances);
    all
}

/// The keys, as a balancer with these settings would use them, with the addresses of host names if they come in time; `None`:
/// the keys cannot be read in time.
async fn compile(settings: &Settings, names_engine: bool, is_reached: bool) -> Option<Compiled> {
    let with = async |looks_up: bool| {
        let standpoint = Standpoint::of_fleet(settings, names_engine).await?;
        if looks_up { resolved(settings, standpoint).await } else { compiled(settings, standpoint).await }
    };
    if !is_reached {
        return None;
    }
    let (named, plain) = tokio::join!(timeout(LOOK, Box::pin(with(true))), timeout(LOOK, Box::pin(with(false))));
    [named, plain].into_iter().find_map(|done| done.ok()?.ok())
}

async fn fleet(settings: &Settings, running: Option<&RunningBalancer>, is_reached: bool) -> Vec<Observation> {
    let (true, Ok(store)) = (is_reached, Store::open(&settings.store)) else { return Vec::new() };
    match timeout(LOOK, members_of::members(&store, &settings.store.prefix)).await {
        Ok(Ok(members)) => fleet::observe(&members, running.is_some()),
        Ok(Err(error)) => vec![fleet::unread(&error.to_string())],
        Err(_) => vec![fleet::unread("the store does not answer in time")],
    }
}

async fn etcd(settings: &Settings) -> Vec<Observation> {
    match timeout(LOOK, members_health(&settings.store)).await {
        Ok(Ok(members)) => etcd::observe(&members),
        // That it cannot be asked is told with the store.
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}
