//! `pointsman completions`, `man` and `version`: made from the command line alone. Need no settings and no store.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap_complete::Shell;

use super::Outcome;
use super::arguments;

/// Prints the version.
///
/// # Errors
/// `out` cannot be written.
pub fn version(out: &mut dyn Write) -> anyhow::Result<Outcome> {
    writeln!(out, "pointsman {}", env!("CARGO_PKG_VERSION"))?;
    Ok(Outcome::Yes)
}

/// Prints the script that completes commands and flags in this shell.
///
/// # Errors
/// There is no such shell, or `out` cannot be written.
pub fn completions(shell: &str, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let shell: Shell = shell.parse().map_err(anyhow::Error::msg)?;
    // The generator panics if it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut arguments::command(), "pointsman", &mut script);
    out.write_all(&script)?;
    Ok(Outcome::Yes)
}

/// Writes `pointsman.1` and a page for each command into an existing folder.
///
/// # Errors
/// The folder cannot be written.
pub fn manual(folder: &Path) -> anyhow::Result<Outcome> {
    let written = clap_mangen::generate_to(arguments::command(), folder);
    written.with_context(|| format!("writing manual pages into {}", folder.display()))?;
    Ok(Outcome::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_help_is_broken_in_a_sentence() {
        for command in arguments::command().get_subcommands() {
            let taught = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            for line in taught.lines() {
                assert!(line.chars().count() < 100, "{}: {line}", command.get_name());
            }
        }
    }
}
