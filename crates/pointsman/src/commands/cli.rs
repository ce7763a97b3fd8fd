//! The command line: commands by derive, flags from the one list of settings. Never runs anything.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::register;
use crate::settings::{self, CommandLine, FLAGS, Flag, Group};

/// A load balancer that configures itself from etcd, or from a folder.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Try it:
  pointsman demo

Serve what etcd says, for the keys below /haproxy-haproxy-1:
  pointsman run --store http://127.0.0.1:2379 --id haproxy-1

Or keep the keys in a folder, here for something that listens on port 9000:
  pointsman run --http :8080 &
  pointsman set services/shop/domain shop.test
  pointsman set services/shop/web-1 127.0.0.1:9000
  curl -H 'Host: shop.test' http://127.0.0.1:8080/

Every flag --x-y is also the environment variable POINTSMAN_X_Y and the key x-y in the file of --config.

Exit codes:
  0  done; or the answer is yes
  1  the answer is no: `check` found problems, no service takes the URL, there is no such key, not every balancer is
     where it was waited for
  2  it could not be done: wrong usage or settings, the store is out of reach, an address is taken";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve what the keys in the store say, and follow every change of them
    #[command(after_help = "\
Signals:
  TERM, USR1  take no new connections, finish what runs (config/timeout/drain, 60 s), exit
  INT         the same; a second one stops at once
  HUP         read the settings again: --log is taken up, for anything else the log says to restart

Examples:
  pointsman run --http :8080
      keys in the default folder
  pointsman run --store http://127.0.0.1:2379 --id haproxy-1
      keys below /haproxy-haproxy-1 in etcd
  docker run -e HAPROXY-ID=haproxy-1 -e ETCD_NODE=10.0.0.1 IMAGE
      the same, from a container's environment")]
    Run,

    /// Serve two sample backends from a temporary folder, and print what to try
    #[command(after_help = "\
Takes 127.0.0.1:8080 and 127.0.0.1:8404, or free ports where these are taken.
Ends, and removes its folder, at INT (Ctrl-C), TERM, USR1 or HUP.")]
    Demo,

    /// Compile the keys once and list every problem; exit 1 if there is one
    #[command(after_help = "One problem a line on stdout, the summary on stderr. Nothing is served or changed.")]
    Check,

    /// Set a key
    #[command(after_help = "\
A KEY without a leading slash is below the prefix.

Examples:
  pointsman set services/shop/domain shop.test
  pointsman set services/shop/web-1 '10.0.0.7:8080 weight=2'
  pointsman set tcp-services/db/port 5432")]
    Set {
        /// The key, such as services/shop/domain
        key: String,
        /// The value; - reads it from standard input
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Whether to wait for the balancers.
        #[command(flatten)]
        wait: Wait,
    },

    /// Print a key's value; exit 1 if there is no such key
    Get {
        /// The key
        key: String,
    },

    /// List keys
    #[command(after_help = "\
Examples:
  pointsman ls                      what is at the top, below the prefix
  pointsman ls services/shop        one service
  pointsman ls -r --values          everything, and what it says")]
    Ls {
        /// Only what is below this key
        #[arg(default_value = "")]
        key: String,
        /// All levels below it
        #[arg(long, short)]
        recursive: bool,
        /// Values too
        #[arg(long)]
        values: bool,
    },

    /// Remove a key; exit 1 if there is no such key
    Rm {
        /// The key
        key: String,
        /// And everything below it
        #[arg(long, short)]
        recursive: bool,
        /// Whether to wait for the balancers.
        #[command(flatten)]
        wait: Wait,
    },

    /// Make a directory, where the store has such (etcd v2, a folder)
    Mkdir {
        /// The key
        key: String,
    },

    /// Show the table in use: of the balancer on --admin, else compiled from the store
    Routes {
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// Say which service and instances a URL gets, and why; exit 1 if none
    #[command(after_help = "\
Examples:
  pointsman explain http://shop.test/cart
  pointsman explain shop.test")]
    Explain {
        /// `http://shop.test/cart`, `shop.test/cart` or `/cart`
        url: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// List the balancers of an id: what each serves, its problems, and who still has work that gets no new; exit 1 if
    /// none is live
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// Wait until every live balancer serves a revision; exit 1, and say who does not, after the time given
    #[command(after_help = "\
A balancer that is not heard of for 10 s no longer counts; one that vanishes while it is waited for is named.

Examples:
  pointsman wait
      whatever the store holds now
  pointsman wait --revision 845 --timeout 5s
      a revision that another edit has told, such as that of `etcdctl put -w json`")]
    Wait {
        /// The store's revision; without it, that of now
        #[arg(long, value_name = "R")]
        revision: Option<u64>,
        /// For how long at most
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = settings::duration)]
        timeout: Duration,
    },

    /// Give an instance no new work, and let it finish what it has
    #[command(after_help = "\
Adds the word `drain` to the instance's value. --wait also waits until no balancer has work for it any more.

Examples:
  pointsman drain shop/web-1 --wait && systemctl restart web && pointsman undrain shop/web-1
  pointsman drain tcp-services/db/db-1")]
    Drain {
        /// SERVICE/INSTANCE, or the instance's key
        instance: String,
        /// Whether to wait for the balancers.
        #[command(flatten)]
        wait: Wait,
    },

    /// Take back `drain`
    Undrain {
        /// SERVICE/INSTANCE, or the instance's key
        instance: String,
        /// Whether to wait for the balancers.
        #[command(flatten)]
        wait: Wait,
    },

    /// Write this machine's Docker containers into the store, and follow every change of them
    #[command(after_help = "\
Containers ask for it with labels such as pointsman.service=shop and pointsman.domain=shop.test; Kontena's labels and
environment do too (docs/agent.md). Their keys end within --ttl if this process or the machine dies; they stay for as
long if it is stopped, so that one that starts again leaves no gap.

Signals:
  TERM, INT   stop; containers stay as they are
  HUP         read the settings again: --log is taken up, for anything else the log says to restart

Examples:
  pointsman agent --store http://10.0.0.1:2379 --id haproxy-1
      containers by their own addresses
  pointsman agent --store http://10.0.0.1:2379 --id haproxy-1 --host 10.0.0.7
      containers by this machine's address and the ports that they publish")]
    Agent,

    /// Run a command, and keep it registered as an instance while it is ready
    #[command(after_help = "\
The instance is registered when its check passes, out of rotation while that fails, and gone within --ttl if this
process or the machine dies. At TERM, INT or QUIT it is drained first: balancers give it no new work, and when they are
done with it, or after --drain, the command gets the signal. A second signal ends the waiting. Other signals are passed
on as they are; the exit status is the command's, 128 and the signal where one ended it.

Without a command the key is written once, when the check passes, and stays until `pointsman register --remove`, for
ExecStartPost and ExecStop of a systemd unit.

Examples:
  pointsman register shop --port 9000 -- node server.js
  pointsman register db --tcp --port 5432 --ttl 30s -- postgres -D data
  pointsman register shop --port 9000 --check /health --timeout 20s
  pointsman register shop --port 9000 --remove")]
    Register {
        /// What to register
        #[command(flatten)]
        request: register::Request,
    },

    /// Print the haproxy.cfg and the maps that the HAProxy engine would run
    #[command(after_help = "\
Compiles the keys once, as `check` does, for the HAProxy engine whatever --engine says, and for the HAProxy found here,
else for 2.4: later ones take that too. Problems go to stderr.

Examples:
  pointsman render
      haproxy.cfg, and the maps behind it as comments
  pointsman render --output out && haproxy -c -f out/haproxy.cfg
      all files in a folder, certificates with their keys among them")]
    Render {
        /// Write all files into this folder instead
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },

    /// Ask the balancer on --admin whether it is ready; exit 1 if not
    #[command(after_help = "\
Prints what it says. Nothing but --admin is read of the settings, so that it works beside whatever `run` was given.

Exit codes:
  0  ready: a table is served
  1  not ready: the store was not read yet, or it is draining
  2  nobody answers there

Examples:
  HEALTHCHECK CMD [\"/pointsman\", \"health\"]
      in an image
  until pointsman health; do sleep 1; done
      in a script")]
    Health,

    /// Print the version
    Version,
}

/// Waiting for every balancer.
#[derive(Clone, Copy, Debug, Args)]
pub struct Wait {
    /// Wait until every live balancer serves it, for 30 s or for the time given; exit 1 if not
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s",
          value_parser = settings::duration)]
    wait: Option<Duration>,
}

impl Wait {
    /// For how long, if at all.
    pub fn patience(self) -> Option<Duration> {
        self.wait
    }
}

impl Command {
    /// Whether it serves, and so logs what it does.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Run | Self::Demo | Self::Agent | Self::Register { .. })
    }
}

/// Whether a command, by its name, takes this flag.
fn takes(command: &str, flag: &Flag) -> bool {
    match command {
        "health" => flag.name == "admin" || flag.group == Group::General,
        _ => groups(command).contains(&flag.group),
    }
}

/// Which groups of flags a command takes, by its name.
fn groups(command: &str) -> &'static [Group] {
    match command {
        "run" | "check" | "routes" | "explain" | "render" => {
            &[Group::Store, Group::Serve, Group::Haproxy, Group::General]
        }
        "demo" => &[Group::Serve, Group::Haproxy, Group::General],
        "agent" => &[Group::Store, Group::Agent, Group::General],
        "version" => &[],
        _ => &[Group::Store, Group::General],
    }
}

/// The whole command line, with the flags each command takes.
pub fn command() -> clap::Command {
    let names: Vec<String> = Cli::command().get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.iter().fold(Cli::command(), |command, name| {
        let flags = FLAGS.iter().filter(|flag| takes(name, flag));
        command.mut_subcommand(name, |sub| sub.args(flags.map(argument)))
    })
}

fn argument(flag: &'static Flag) -> Arg {
    let older = if flag.legacy.is_empty() { String::new() } else { format!(", else {}", flag.legacy.join(", ")) };
    let default = if flag.default.is_empty() { String::new() } else { format!("\n[default: {}]", flag.default) };
    Arg::new(flag.name)
        .long(flag.name)
        .value_name(flag.value)
        .help_heading(flag.group.heading())
        .help(format!("{}{default}\n[env: {}{older}]", flag.help, flag.variable()))
        // Even for a single one: giving it twice is for the settings to judge, in their own words.
        .action(ArgAction::Append)
        .allow_hyphen_values(false)
}

/// Reads the arguments: the command, and the flags given with it.
///
/// # Errors
/// Wrong usage, or a question for help or the version: the error prints what is to be said.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<(Command, CommandLine), clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
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
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let shown = match parse(line.split(' ').map(OsString::from)) {
            Ok(parsed) => format!("{parsed:?}"),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{line}: {shown} lacks {expected}");
    }

    #[test]
    fn the_command_line_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn command_lines() {
        for (line, expected) in [
            ("pointsman run --http :1 --http :2", r#"(Run, {"http": [":1", ":2"]})"#),
            (
                "pointsman set --store d services/a/b -1",
                r#"Set { key: "services/a/b", value: "-1", wait: Wait { wait: None } }, {"store": ["d"]}"#,
            ),
            ("pointsman set services/a/b v --store d", r#"{"store": ["d"]}"#),
            ("pointsman ls", r#"Ls { key: "", recursive: false, values: false }"#),
            ("pointsman rm -r a", "recursive: true"),
            ("pointsman rm a --wait", "wait: Some(30s)"),
            ("pointsman set a b --wait=5s", "wait: Some(5s)"),
            ("pointsman set --wait a b", r#"key: "a", value: "b", wait: Wait { wait: Some(30s) }"#),
            ("pointsman set a b --wait=soon", "is not a duration"),
            ("pointsman demo --store d", "unexpected argument '--store'"),
            ("pointsman get --workers 2 a", "unexpected argument '--workers'"),
            ("pointsman run --htpt :1", "a similar argument exists: '--http'"),
            ("pointsman explain --json /a", r#"Explain { url: "/a", json: true }"#),
            ("pointsman render --output a/b --https :443", r#"Render { output: Some("a/b") }, {"https": [":443"]}"#),
            ("pointsman health --admin :9000", r#"(Health, {"admin": [":9000"]})"#),
            ("pointsman health --http :80", "unexpected argument '--http'"),
            ("pointsman nonsense", "unrecognized subcommand"),
        ] {
            check(line, expected);
        }
    }

    #[test]
    fn help_teaches_every_flag() {
        for command in ["run", "set", "demo", "health"] {
            let help = parse(["pointsman", command, "--help"].map(OsString::from)).unwrap_err().to_string();
            for flag in FLAGS {
                let expected = takes(command, flag);
                assert_eq!(help.contains(&flag.variable()), expected, "{command} --help and {}", flag.name);
            }
        }
    }
}
