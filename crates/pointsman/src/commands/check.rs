//! `pointsman check`: compiles the keys once and lists every problem. Serves and changes nothing.

use std::io::Write;

use anyhow::bail;

use super::{Outcome, once, render};
use crate::control::{plural, serving};
use crate::settings::{Engine, Settings};
use pointsman_store::Location;

/// Lists problems on `out`, one per line, and writes a summary to `note`.
///
/// # Errors
/// The store is unreachable, or `out` is closed.
pub async fn check(settings: &Settings, out: &mut dyn Write, note: &mut dyn Write) -> anyhow::Result<Outcome> {
    // `run` creates the folder. Here a typo must not pass for an empty store without problems.
    if let Location::Directory(folder) = &settings.store.location
        && !folder.is_dir()
    {
        bail!("--store: there is no folder {}; nothing was checked", folder.display());
    }
    let mut compiled = once::compiled(settings).await?;
    if settings.engine == Engine::Haproxy {
        compiled.problems.extend(render::problems(settings, &compiled.table, note).await?);
    }
    for problem in &compiled.problems {
        writeln!(out, "{problem}")?;
    }
    out.flush()?;
    let table = serving(&compiled.table).replacen("serving ", "", 1);
    if compiled.problems.is_empty() {
        writeln!(note, "no problems: {table}")?;
        return Ok(Outcome::Yes);
    }
    writeln!(note, "{}: {table}", plural(compiled.problems.len(), "problem"))?;
    Ok(Outcome::No)
}
