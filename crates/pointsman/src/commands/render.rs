//! `pointsman render`: prints the HAProxy engine's configuration for the current keys; for `check`, asks HAProxy whether it
//! accepts it. Starts no HAProxy that serves, and writes nothing outside the folder that it is given or a temporary one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use pointsman_table::{Problem, Table};

use super::once::Standpoint;
use super::{Outcome, demo, once};
use crate::control::plural;
use crate::settings::Settings;
use pointsman_haproxy::desire::desire;
use pointsman_haproxy::folder::{CONFIG, Folder};
use pointsman_haproxy::model::{Addresses, Held};
use pointsman_haproxy::program;
use pointsman_haproxy::reloader::Reloader;
use pointsman_haproxy::render::{File, Rendered, render as render_all};
use pointsman_haproxy::shape::{Listen, Shape};
use pointsman_haproxy::version::Version;

/// The version to write for if no HAProxy is found: every later one accepts that configuration too.
const PORTABLE: Version =
    Version { major: Version::OLDEST.0, minor: Version::OLDEST.1, patch: 0, pcre: true, tls: true };

/// Prints haproxy.cfg on `out`, or writes all files into `output`. Problems go to `note`.
///
/// # Errors
/// The store is unreachable, the template is wrong, the folder cannot be written, or `out` is closed.
pub async fn render(
    settings: &Settings,
    output: Option<&Path>,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let compiled = once::compiled(settings, Standpoint::of_settings(settings)).await?;
    let folder = folder(settings, output)?;
    let shape = shape(settings, &folder, version(settings, note).await?)?;
    let (desired, problems) = desire(&compiled.table, &Held::new(), &Addresses::new(), &shape);
    for problem in compiled.problems.iter().chain(&problems) {
        writeln!(note, "{problem}")?;
    }
    ensure!(!desired.frame.is_empty(), "--haproxy-template: it is wrong, so there is no configuration");
    let rendered = render_all(&desired, &shape);
    match output {
        None => print(&rendered, out)?,
        Some(_) => {
            write(&rendered, &folder)?;
            writeln!(note, "wrote {} and {} to {}", CONFIG, plural(rendered.files.len(), "file"), folder.display())?;
        }
    }
    Ok(Outcome::Yes)
}

/// The problems that the HAProxy engine, and HAProxy itself (`haproxy -c`), have with a table.
///
/// # Errors
/// There is no HAProxy, it cannot be asked, or the template cannot be read.
pub(super) async fn refused(settings: &Settings, table: &Arc<Table>) -> anyhow::Result<Vec<Problem>> {
    let program = program::find(settings.haproxy.program.as_deref()).await.context("--haproxy")?;
    let scratch = demo::Folder::new("check")?;
    let folder = Folder::open(scratch.path())?;
    let shape = shape(settings, folder.path(), program.version)?;
    let mut reloader = Reloader::new((program, folder), Arc::default(), shape, Arc::default());
    Ok(reloader.examine(table).await?)
}

fn folder(settings: &Settings, output: Option<&Path>) -> anyhow::Result<PathBuf> {
    let folder = match output {
        None => settings.state.as_deref().unwrap_or(Path::new("/var/lib/pointsman")).join("haproxy"),
        Some(output) => output.to_owned(),
    };
    let folder = std::path::absolute(&folder).with_context(|| folder.display().to_string())?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+@-".contains(c);
    let holds = folder.to_str().is_some_and(|folder| folder.chars().all(plain));
    ensure!(holds, "{}: HAProxy needs a path of letters, digits and any of / . _ + @ -", folder.display());
    Ok(folder)
}

/// The version of the installed HAProxy, or [`PORTABLE`].
async fn version(settings: &Settings, note: &mut dyn Write) -> anyhow::Result<Version> {
    match program::find(settings.haproxy.program.as_deref()).await {
        Ok(program) => Ok(program.version),
        Err(error) if settings.haproxy.program.is_some() => Err(error.into()),
        Err(error) => {
            writeln!(note, "written for HAProxy {}.{}: {error}", PORTABLE.major, PORTABLE.minor)?;
            Ok(PORTABLE)
        }
    }
}

fn shape(settings: &Settings, folder: &Path, version: Version) -> anyhow::Result<Shape> {
    let haproxy = &settings.haproxy;
    let listen = |address: &_| Listen { address: *address, socket: None };
    Ok(Shape {
        http: settings.http.iter().map(listen).collect(),
        https: settings.https.iter().map(listen).collect(),
        threads: settings.workers.get(),
        folder: folder.to_owned(),
        socket: None,
        hard_stop: haproxy.hard_stop,
        global_settings: haproxy.global_settings.clone(),
        ciphers: haproxy.ciphers.clone(),
        custom_settings: haproxy.custom_settings.clone(),
        template: haproxy.template.as_deref().map(read_template).transpose()?,
        version,
        spares: 0,
        tickets: None,
    })
}

fn read_template(path: &Path) -> anyhow::Result<Box<str>> {
    let text = fs::read_to_string(path).with_context(|| format!("--haproxy-template: {}", path.display()))?;
    Ok(text.into())
}

/// Prints the configuration, followed by the maps as comments: the whole is still a haproxy.cfg.
fn print(rendered: &Rendered, out: &mut dyn Write) -> anyhow::Result<()> {
    out.write_all(rendered.config.as_bytes())?;
    for map in rendered.files.iter().filter(|file| file.name.ends_with(".map")) {
        writeln!(out, "# {}:", map.name)?;
        for line in String::from_utf8_lossy(&map.bytes).lines() {
            writeln!(out, "#   {line}")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Writes each file whole or not at all, haproxy.cfg last.
fn write(rendered: &Rendered, folder: &Path) -> anyhow::Result<()> {
    for file in &rendered.files {
        put(folder, file)?;
    }
    let bytes = rendered.config.as_bytes().into();
    // User lists hold passwords.
    put(folder, &File { name: CONFIG.into(), bytes, secret: true })
}

fn put(folder: &Path, file: &File) -> anyhow::Result<()> {
    let path = folder.join(&*file.name);
    let place = |error: io::Error| anyhow::Error::new(error).context(format!("cannot write {}", path.display()));
    fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(place)?;
    let draft = folder.join(format!("{}.new", file.name));
    let written = write_new(&draft, file).and_then(|()| fs::rename(&draft, &path));
    if written.is_err() {
        // The error to report is the one before.
        let _ = fs::remove_file(&draft);
    }
    written.map_err(place)
}

fn write_new(path: &Path, file: &File) -> io::Result<()> {
    let mode = if file.secret { 0o600 } else { 0o644 };
    // A draft left by a crash may have another mode.
    let _ = fs::remove_file(path);
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(&file.bytes)
}
