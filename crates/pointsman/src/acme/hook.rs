//! Sets and removes TXT records, for challenges of the kind dns-01: by the operator's program, or by
//! [updates](super::update) of DNS. Knows no DNS.
//!
//! The program is called as lego calls its own (provider `exec`): `PROGRAM present|cleanup _acme-challenge.NAME. VALUE`. It returns
//! once the record is to be seen.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::order::Trouble;
use crate::settings::AcmeSettings;

/// How long it may take: some name servers take minutes to show a change.
const WITHIN: Duration = Duration::from_secs(600);
/// How much of what it says is told, in characters.
const LONGEST: usize = 300;

/// What it is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Set the record.
    Present,
    /// Remove it.
    CleanUp,
}

/// Sets or removes the record of a name in the way of these settings.
///
/// # Errors
/// There is no way, or it fails.
pub(super) async fn change(settings: &AcmeSettings, turn: Turn, name: &str, value: &str) -> Result<(), Trouble> {
    match (&settings.hook, &settings.updates) {
        (Some(program), _) => run(program, turn, name, value).await,
        (None, Some(updates)) => updates.change(turn, name, value).await,
        (None, None) => Err(Trouble::passing(
            "dns-01 is wanted, and this balancer has no way to set records; set --acme-dns-server or --acme-dns-hook",
        )),
    }
}

/// Runs the program to its end.
async fn run(program: &Path, turn: Turn, name: &str, value: &str) -> Result<(), Trouble> {
    let shown = program.display();
    let word = if turn == Turn::Present { "present" } else { "cleanup" };
    let mut command = Command::new(program);
    command.arg(word).arg(record(name)).arg(value).stdin(Stdio::null()).kill_on_drop(true);
    let done = timeout(WITHIN, command.output()).await;
    let done = done.map_err(|_| Trouble::passing(format!("{shown} {word} took longer than {} s", WITHIN.as_secs())))?;
    let done = done.map_err(|error| Trouble::passing(format!("{shown} cannot be run: {error}")))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said: String = said.trim().chars().take(LONGEST).collect();
    Err(Trouble::passing(format!("{shown} {word} failed ({}): {said}", done.status)))
}

/// The record's name, with the dot at the end; that of a wildcard is its parent's (RFC 8555 §8.4).
pub(super) fn record(name: &str) -> String {
    format!("_acme-challenge.{}.", name.strip_prefix("*.").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_has_the_record_of_its_parent() {
        assert_eq!(record("shop.test"), "_acme-challenge.shop.test.");
        assert_eq!(record("*.shop.test"), "_acme-challenge.shop.test.");
    }
}
