//! The command line's arguments: the commands of `cli`, each with its flags from the one list of settings. Runs nothing.

use std::ffi::OsString;

use clap::builder::{PossibleValue, PossibleValuesParser, Resettable, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches, ValueHint};

use super::cli::{Cli, Command};
use super::{edit, tips};
use crate::settings::{CommandLine, FLAGS, Flag, Group};

/// Help of `drain --wait`, which waits for more than [`Wait`] says.
const DRAIN_WAIT: &str = "Wait until every live balancer serves the change and has no request or connection open to the \
                          instance, for at most 30 s or TIME; exit 1 if not";

/// Longest default that `-h` shows, in bytes.
const SHORT_DEFAULT: usize = 30;

/// Whether the command of this name takes this flag.
fn takes(command: &str, flag: &Flag) -> bool {
    match command {
        "health" | "top" => flag.name == "admin" || flag.group == Group::General,
        _ => groups(command).contains(&flag.group),
    }
}

/// The groups of flags that the command of this name takes.
fn groups(command: &str) -> &'static [Group] {
    match command {
        "run" | "check" | "doctor" | "routes" | "explain" | "render" | "plan" => {
            &[Group::Store, Group::Serve, Group::Native, Group::Haproxy, Group::General]
        }
        "demo" => &[Group::Serve, Group::Native, Group::Haproxy, Group::General],
        "logs" | "guard" | "history" | "diff" | "rollback" => &[Group::Store, Group::Serve, Group::General],
        "agent" => &[Group::Store, Group::Agent, Group::General],
        "version" | "completions" | "man" | "launch" => &[],
        _ => &[Group::Store, Group::General],
    }
}

/// The whole command line, with the flags each command takes. `-h` is short, `--help` tells everything.
pub fn command() -> clap::Command {
    let names: Vec<String> = Cli::command().get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = Cli::command().mut_subcommand("drain", |drain| drain.mut_arg("wait", |wait| wait.help(DRAIN_WAIT)));
    names.iter().fold(command, |command, name| {
        let flags = FLAGS.iter().filter(|flag| takes(name, flag));
        command.mut_subcommand(name, |sub| {
            let taught = sub.get_after_help().cloned();
            let sub = sub.after_help(Resettable::Reset).args(flags.map(|flag| argument(name, flag)));
            if let Some(taught) = taught { sub.after_long_help(taught) } else { sub }
        })
    })
}

fn argument(command: &str, flag: &'static Flag) -> Arg {
    let older = if flag.legacy.is_empty() { String::new() } else { format!(", else {}", flag.legacy.join(", ")) };
    let default = match default(command, flag) {
        "" => String::new(),
        words => format!("[default: {words}]"),
    };
    let short =
        if default.len() <= SHORT_DEFAULT { format!("{} {default}", flag.brief()) } else { flag.brief().to_owned() };
    let whole = if (command, flag.name) == ("demo", "state") { flag.brief() } else { flag.help };
    let lines = [whole, &default, &format!("[env: {}{older}]", flag.variable())];
    let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    Arg::new(flag.name)
        .long(flag.name)
        .value_name(flag.value)
        .value_hint(match flag.value {
            "FILE" => ValueHint::FilePath,
            "DIR" => ValueHint::DirPath,
            _ => ValueHint::Unknown,
        })
        .value_parser(parser(flag))
        .hide_possible_values(true)
        .help_heading(flag.group.heading())
        .help(short.trim_end().to_owned())
        .long_help(lines.join("\n"))
        // Even for a single value: the settings report a repeated flag in their own words.
        .action(ArgAction::Append)
        .allow_hyphen_values(false)
}

/// Any text; or one of a few words, if the placeholder lists them.
fn parser(flag: &'static Flag) -> ValueParser {
    // `--etcd-api v2` means 2.
    let word =
        |word: &'static str| PossibleValue::new(word).aliases(["v2", "v3"].into_iter().filter(|v| v[1..] == *word));
    match flag.value.contains('|') && !flag.value.contains(char::is_uppercase) {
        true => PossibleValuesParser::new(flag.value.split('|').map(word)).into(),
        false => ValueParser::string(),
    }
}

/// A flag's default in words, as this command has it.
fn default(command: &str, flag: &'static Flag) -> &'static str {
    match (command, flag.name) {
        ("demo", "http") => "127.0.0.1:8080, or a free port if it is taken",
        ("demo", "https") => "127.0.0.1:8443, or a free port if it is taken",
        ("demo", "admin") => "127.0.0.1:8404, or a free port if it is taken",
        ("demo", "state") => "in the demo's own folder",
        ("demo", "config") => "none",
        ("run" | "demo" | "agent" | "register", "log") => "info",
        (_, "log") => "warn",
        _ => flag.default,
    }
}

/// Reads the arguments: the command, and the flags given with it.
///
/// # Errors
/// Wrong usage, or a request for help or the version: the error prints the text.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<(Command, CommandLine), clap::Error> {
    let command = command();
    let arguments = edit::values_apart(&command, arguments.into_iter().collect());
    let matches = command.try_get_matches_from(&arguments).map_err(|error| tips::advised(error, &arguments))?;
    let cli = Cli::from_arg_matches(&matches)?;
    let given = matches.subcommand().map(|(name, matches)| given(name, matches)).unwrap_or_default();
    Ok((cli.command, given))
}

fn given(command: &str, matches: &ArgMatches) -> CommandLine {
    let flags = FLAGS.iter().filter(|flag| takes(command, flag));
    let values = |flag: &Flag| Some(matches.get_many::<String>(flag.name)?.cloned().collect());
    flags.filter_map(|flag| Some((flag.name, values(flag)?))).collect()
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
