//! `pointsman upgrade`: has the running balancer start the program that is at its path now, which takes over from it. Starts
//! nothing itself.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Outcome;
use crate::settings::Settings;
use crate::takeover::ask_for_upgrade;

/// Asks, and waits until the new program serves, for `wait` at most. `placed`: the operator has named an id or a prefix.
///
/// # Errors
/// It does not serve: the error says why. The old program serves on.
pub async fn upgrade(
    (settings, placed): (&Settings, bool),
    wait: Duration,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let state = settings.state.as_deref().context("--state: there is no folder that the balancer could listen in")?;
    let began = Instant::now();
    let prefix = placed.then(|| settings.store.prefix.clone());
    let pid = ask_for_upgrade(state, prefix, wait).await?;
    writeln!(note, "process {pid} serves, after {:.1?}; the one before it finishes its open work", began.elapsed())?;
    Ok(Outcome::Yes)
}
