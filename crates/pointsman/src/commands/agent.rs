//! `pointsman agent`: starts the agent's loop, and ends it on a signal. Writes no key itself.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::run::Reload;
use crate::agent;
use crate::notify;
use crate::settings::Settings;
use pointsman_store::{Location, Store};

/// Runs until stopped. `placed`: the prefix was given, and applies to containers that name no balancer.
///
/// # Errors
/// The store's settings cannot be used.
pub async fn agent(settings: &Settings, placed: bool, mut reload: Reload) -> anyhow::Result<()> {
    let listen = |kind| signal(kind).context("listening for signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Store::open(&settings.store)?.check_place()?;
    let is_folder = matches!(settings.store.location, Location::Directory(_));
    let prefix = Some(settings.store.prefix.as_str()).filter(|_| placed || is_folder);
    let run = Box::pin(agent::run(&settings.agent, &settings.store, prefix));
    let heed = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => reload.again(),
            }
        }
    };
    tokio::select! {
        never = run => match never? {},
        () = heed => {}
        () = notify::watchdog() => {}
    }
    info!("stopping; the keys end after {:?} unless an agent takes them over", settings.agent.ttl);
    notify::stopping("stopping");
    Ok(())
}
