//! The program from start to end: reads the command line, runs the command, reports how it ended. Does nothing else
//! itself.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use pointsman_engine::access::LogQueue;
use tokio::runtime::{Builder, Runtime};
use tracing::warn;

use crate::commands::arguments;
use crate::commands::change::Manner;
use crate::commands::check::CheckReport;
use crate::commands::cli::Command;
use crate::commands::doctor::KnownSettings;
use crate::commands::run::Reload;
#[cfg(feature = "tui")]
use crate::commands::top;
use crate::commands::{
    Outcome, agent, apply, certs, check, demo, doctor, edit, explain, export, fleet, guard, health, history, logs,
    plan, register, render, rollback, routes, run, teach, upgrade,
};
use crate::fleet::instance_key::Drain;
use crate::logging::{self, Delivery, Streams};
use crate::plain::{Heedless, Plain};
use crate::settings::{Chosen, CommandLine, Environment, Host, Settings};
use crate::sys;
use crate::takeover;

/// How long to wait at the end for work that cannot be interrupted, such as name resolution.
const LAST_WAIT: Duration = Duration::from_millis(100);
/// The file of settings, if no other is named.
const CONFIG: &str = "/etc/pointsman.toml";

/// Runs the command on the command line.
pub fn main() -> ExitCode {
    let (command, given) = match arguments::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => error.exit(),
    };
    // Dropped at the end, also after a panic: then the queued lines are written.
    let mut streams = Streams::default();
    match start(command, given, &mut streams) {
        Ok(Outcome::Yes) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Ok(Outcome::Status(status)) => ExitCode::from(status),
        Err(error) => {
            // If this fails too, there is nobody left to tell.
            let _ = writeln!(Plain(streams.stderr()), "pointsman: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn start(command: Command, mut given: CommandLine, streams: &mut Streams) -> anyhow::Result<Outcome> {
    match &command {
        Command::Version => return teach::version(&mut Heedless(io::stdout())),
        Command::Completions { shell } => return teach::completions(shell, &mut Heedless(io::stdout())),
        Command::Man { folder } => return teach::manual(folder),
        Command::Launch { programs, arguments } => {
            takeover::launch(programs, arguments, &mut Heedless(io::stdout()))?;
            return Ok(Outcome::Yes);
        }
        _ => {}
    }
    let (environment, host) = (environment(), host(&command));
    if let Command::Render { .. } = command {
        given.insert("engine", vec!["haproxy".to_owned()]);
    }
    if let Command::Doctor { json } = command {
        return examine((&given, &environment, host), json);
    }
    let mut chosen = Chosen::gather(&given, &environment, host)?;
    let folder = match command {
        Command::Demo => Some(demo::Folder::new("demo")?),
        _ => None,
    };
    if let Some(folder) = &folder {
        demo::arrange(folder, &mut given, &chosen);
        chosen = Chosen::gather(&given, &environment, host)?;
    }
    if let Command::Health = command {
        say(&chosen.warnings(&environment));
        return runtime()?.block_on(health::health(chosen.admin()?, &mut Plain(Heedless(io::stdout()))));
    }
    if let Command::Top { once } = command {
        say(&chosen.warnings(&environment));
        return look(chosen.admin()?, once);
    }
    let placed = chosen.has("id") || chosen.has("prefix");
    if let (Command::Agent, false) = (&command, placed) {
        // Each container may name its own balancer.
        given.insert("prefix", vec!["/".to_owned()]);
        chosen = Chosen::gather(&given, &environment, host)?;
    }
    let warnings = chosen.warnings(&environment);
    // A missing setting may have been set by a mistyped name: show the warnings too.
    let settings = chosen.settings(&environment, host).inspect_err(|_| say(&warnings))?;
    let (default_log, delivery) =
        if command.serves() { ("info", Delivery::Queued) } else { ("warn", Delivery::Direct) };
    let logging;
    (logging, *streams) = logging::start(settings.log.as_deref().unwrap_or(default_log), delivery)?;
    warnings.iter().for_each(|line| warn!("{line}"));
    let attended = matches!(command, Command::Demo);
    let access = LogQueue::default();
    let reload = Reload { given, environment, host, chosen, logging, access, default_log, attended };
    let runtime = runtime()?;
    let outcome = runtime.block_on(dispatch(command, &settings, reload, folder, placed, streams));
    runtime.shutdown_timeout(LAST_WAIT);
    outcome
}

/// Settings that cannot be used are something to tell, too.
fn examine((given, environment, host): (&CommandLine, &Environment, Host), json: bool) -> anyhow::Result<Outcome> {
    let chosen = Chosen::gather(given, environment, host);
    let settings = chosen.as_ref().map_err(ToString::to_string);
    let settings = settings.and_then(|chosen| chosen.settings(environment, host).map_err(|error| error.to_string()));
    let settings = settings.as_ref().map_err(String::as_str);
    let known = KnownSettings { settings, chosen: chosen.as_ref().ok(), environment };
    let runtime = runtime()?;
    let outcome = runtime.block_on(doctor::doctor(known, json, &mut Plain(Heedless(io::stdout()))));
    runtime.shutdown_timeout(LAST_WAIT);
    outcome
}

#[cfg(feature = "tui")]
fn look(admin: Option<SocketAddr>, once: bool) -> anyhow::Result<Outcome> {
    let runtime = runtime()?;
    let outcome = runtime.block_on(top::top(admin, once, &mut Plain(Heedless(io::stdout()))));
    runtime.shutdown_timeout(LAST_WAIT);
    outcome
}

#[cfg(not(feature = "tui"))]
fn look(_: Option<SocketAddr>, _: bool) -> anyhow::Result<Outcome> {
    anyhow::bail!("this program was built without `top`: build it with the feature tui, which is on by default")
}

fn say(warnings: &[String]) {
    let mut note = Plain(io::stderr());
    warnings.iter().for_each(|line| drop(writeln!(note, "pointsman: {line}")));
}

fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("starting")
}

async fn dispatch(
    command: Command,
    settings: &Settings,
    reload: Reload,
    folder: Option<demo::Folder>,
    placed: bool,
    streams: &Streams,
) -> anyhow::Result<Outcome> {
    let named = placed || reload.chosen.has("store");
    let (out, note) = (&mut *output(&command, streams), &mut Plain(Heedless(streams.stderr())));
    let names_engine = reload.chosen.has("engine");
    match command {
        Command::Run { takeover } => Box::pin(run::run(settings, reload, takeover, |_| ())).await?,
        Command::Demo => {
            let folder = folder.context("the demo has no folder")?;
            Box::pin(demo::demo(&folder, settings, reload, &program(), out)).await?;
        }
        Command::Agent => Box::pin(agent::agent(settings, placed, reload)).await?,
        Command::Register { request } => return Box::pin(register::register(&settings.store, &request, note)).await,
        Command::Upgrade { wait } => return upgrade::upgrade((settings, placed), wait, note).await,
        Command::Check { probe, json } => {
            let how = CheckReport { json, probe };
            return Box::pin(check::check((settings, names_engine), how, out, note)).await;
        }
        command => return Box::pin(look_at((settings, named), command, out, note)).await,
    }
    out.flush()?;
    Ok(Outcome::Yes)
}

/// The commands that tell what a balancer does, or would do.
async fn look_at(
    (settings, named): (&Settings, bool),
    command: Command,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let store = &settings.store;
    match command {
        Command::Routes { json } => routes::routes(settings, named, json, out, note).await,
        Command::Logs { service, follow, status, slower, json } => {
            let wanted = logs::RequestFilter { service, status, slower, json };
            logs::logs(settings.admin, &wanted, follow, out).await
        }
        Command::Explain { url, request, json } => {
            explain::explain((settings, named), (&url, request), json, out, note).await
        }
        Command::Render { output } => render::render(settings, output.as_deref(), out, note).await,
        Command::Plan { request } => plan::plan((settings, named), &request, out, note).await,
        Command::History { request } => history::history(settings, &request, out, note).await,
        Command::Diff { request } => history::diff(settings, &request, out, note).await,
        Command::Export { service, secrets, leased } => {
            export::export(store, (service.as_deref(), secrets, leased), out, note).await
        }
        Command::Status { json } => fleet::status(store, json, out, note).await,
        Command::Certs { action, what, reason, json } => {
            certs::certs(settings, (action.zip(what), reason), json, out, note).await
        }
        Command::Get { key } => edit::get(store, &key, out, note).await,
        Command::Ls { key, recursive, values, secrets } => {
            edit::ls(store, &key, edit::View { recursive, values: values || secrets, secrets }, out, note).await
        }
        command => Box::pin(change(settings, command, out, note)).await,
    }
}

/// The commands that change keys, or what balancers do.
async fn change(
    settings: &Settings,
    command: Command,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let store = &settings.store;
    match command {
        Command::Set { key, value, more, dry_run, force, wait } => {
            let (words, wait) = ([vec![key, value], more].concat(), wait.patience());
            edit::set(store, &words, Manner { force, dry_run, wait, ..Manner::default() }, out, note).await
        }
        Command::Apply { request, force, wait } => {
            let manner = Manner { force, wait: wait.patience(), ..Manner::default() };
            apply::apply(store, &request, manner, out, note).await
        }
        Command::Import { request, wait } => apply::import(store, &request, wait.patience(), out, note).await,
        Command::Rm { key, recursive, dry_run, wait } => {
            let manner = Manner { dry_run, wait: wait.patience(), ..Manner::default() };
            edit::rm(store, &key, recursive, manner, out, note).await
        }
        Command::Mkdir { key } => {
            edit::mkdir(store, &key, note).await?;
            out.flush()?;
            Ok(Outcome::Yes)
        }
        Command::Rollback { request, force, wait } => {
            let manner = Manner { force, wait: wait.patience(), ..Manner::default() };
            rollback::rollback(settings, &request, manner, out, note).await
        }
        Command::Guard { action, json } => guard::guard(settings, action, json, out, note).await,
        Command::Wait { revision, timeout } => fleet::wait(store, revision, timeout, note).await,
        Command::Drain { instance, wait } => fleet::drain(store, &instance, Drain::On, wait.patience(), note).await,
        Command::Undrain { instance, wait } => fleet::drain(store, &instance, Drain::Off, wait.patience(), note).await,
        _ => anyhow::bail!("this command is not connected to anything: report this, please"),
    }
}

/// Standard output. A file's content or a program's input is not escaped, unless stdout is a terminal.
fn output(command: &Command, streams: &Streams) -> Box<dyn Write> {
    let is_data = matches!(command, Command::Get { .. } | Command::Render { .. } | Command::Export { .. });
    let out = io::BufWriter::new(Heedless(streams.stdout()));
    match is_data && !io::stdout().is_terminal() {
        true => Box::new(out),
        false => Box::new(Plain(out)),
    }
}

/// Omits variables whose name or value is not UTF-8.
fn environment() -> Environment {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

/// The demo ignores the settings file of this machine's balancer.
fn host(command: &Command) -> Host {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let config = if let Command::Demo = command { None } else { Some(Path::new(CONFIG)) };
    Host { root: sys::is_root(), cores, config, needs_config: command.serves() }
}

/// The program's name as it was called, for command lines to copy.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "pointsman".to_owned())
}
