//! The commands of the command line, by derive, and what help says of them. Runs nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::{apply, explain, export, history, logs, plan, register, rollback};
use crate::acme::REVOKE_REASONS;
use crate::admin::query::ExplainRequest;
use crate::settings;

/// A load balancer that configures itself from etcd, or from a folder.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, after_help = FIRST_STEPS, after_long_help = AFTER_HELP)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const FIRST_STEPS: &str = "\
Try it: pointsman demo
Examples: pointsman help, pointsman help COMMAND";

const AFTER_HELP: &str = "\
Try it:
  pointsman demo

Serve the keys below /haproxy-haproxy-1 in etcd:
  pointsman run --store http://127.0.0.1:2379 --id haproxy-1

Or keep the keys in a folder, here for a server on port 9000:
  pointsman run --http :8080 &
  pointsman set services/shop/domain shop.test
  pointsman set services/shop/web-1 127.0.0.1:9000
  curl -H 'Host: shop.test' http://127.0.0.1:8080/

Every flag --x-y is also the environment variable POINTSMAN_X_Y and the key x-y in the file of
--config, which is /etc/pointsman.toml by default.

Exit codes:
  0  done, or yes
  1  no: `check` found problems, the URL would be refused, there is no such key, a balancer could
     not use the change, or not every balancer serves it in time
  2  failed: wrong usage or settings, the store is unreachable, an address is taken";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the services in the store, and follow every change of their keys
    #[command(after_help = "\
Signals:
  TERM, USR1  accept no new connections, finish open requests (config/timeout/drain, 60 s), exit
  INT         the same; a second INT stops at once
  HUP         read --log again, and open the files of the access log anew

With --takeover, the balancer that runs with the same --state hands over its listening sockets,
health and counters, and drains once this one serves (docs/operations.md). `pointsman upgrade`
does this for a balancer whose program was replaced.

Examples:
  pointsman run --http :8080
      keys in the default folder
  pointsman run --store http://127.0.0.1:2379 --id haproxy-1
      keys below /haproxy-haproxy-1 in etcd
  docker run -e HAPROXY-ID=haproxy-1 -e ETCD_NODE=10.0.0.1 IMAGE
      the same, from a container's environment")]
    Run {
        /// Take over from the balancer with the same --state, if one runs
        #[arg(long)]
        takeover: bool,
    },

    /// Replace the running balancer by the program that is at its path now, without losing a connection
    #[command(after_help = "\
Asks the balancer that runs with the same --state. It starts the program that is at its path now,
with its own arguments and environment and --takeover, and drains once that one serves. If the new
program does not serve within --wait, it is ended, and the old one serves on.
The main process of a container cannot be replaced so: see docs/operations.md.

Exit codes:
  0  the new program serves
  2  it does not; the error says why

Examples:
  pointsman upgrade
  ExecReload=/usr/bin/pointsman upgrade
      in a systemd unit")]
    Upgrade {
        /// How long the new program may take until it serves
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = settings::duration)]
        wait: Duration,
    },

    /// Serve two sample backends from a temporary folder, and print commands to try
    #[command(after_help = "\
Listens on 127.0.0.1:8080, 8443 (HTTPS, with a certificate of its own) and 8404 (admin), or on
free ports if these are taken.
Ends and removes its folder at INT (Ctrl-C), TERM, USR1 or HUP.")]
    Demo,

    /// Compile the keys once and list every problem; exit 1 if there is one
    #[command(after_help = "\
Prints one problem per line on stdout; the summary, and which services live on their last good
settings, on stderr. With --engine haproxy, HAProxy checks the configuration too (`haproxy -c`).
With --probe, every instance that has health checks is asked once from here, as the native engine
asks; exit 1 as well if one fails.
Serves and changes nothing.")]
    Check {
        /// Ask every instance that has health checks once, and print what it says
        #[arg(long, conflicts_with = "json")]
        probe: bool,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },

    /// Say what is wrong, and what to type: settings, store, ports, limits, certificates, instances, time, the fleet; exit 1 if
    /// anything is
    #[command(after_help = "\
Works before the first start, and beside a running balancer, which it asks on --admin: give it the
balancer's own flags or environment. What is wrong comes first. Takes less than 10 s, even if
nothing answers. Changes nothing.

Examples:
  pointsman doctor
  pointsman doctor --store http://127.0.0.1:2379 --id haproxy-1
  docker exec lb /pointsman doctor")]
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },

    /// Set keys; exit 1, with nothing written, if a balancer could not use them
    #[command(after_help = "\
A KEY without a leading slash is below the prefix. Several keys are one change, as with `apply`.

Examples:
  pointsman set services/shop/domain shop.test
  pointsman set services/shop/web-1 '10.0.0.7:8080 weight=2'
  pointsman set tcp-services/db/port 5432 tcp-services/db/db-1 10.0.0.21 --wait")]
    Set {
        /// The key, such as services/shop/domain
        key: String,
        /// The value; - reads it from standard input
        value: String,
        /// More keys and values, in turns
        #[arg(value_name = "KEY VALUE")]
        more: Vec<String>,
        /// Print the difference and the problems, and write nothing
        #[arg(long)]
        dry_run: bool,
        /// Write the change even if a balancer could not use it
        #[arg(long)]
        force: bool,
        /// Whether to wait for all balancers
        #[command(flatten)]
        wait: Wait,
    },

    /// Write the keys of a file as one change, and print the difference; exit 1, with nothing written, if a balancer could
    /// not use them
    #[command(after_help = apply::HELP)]
    Apply {
        /// The file, and how
        #[command(flatten)]
        request: apply::FileChange,
        /// Write the change even if a balancer could not use it
        #[arg(long)]
        force: bool,
        /// Whether to wait for all balancers
        #[command(flatten)]
        wait: Wait,
    },

    /// Show what the table would become with a change, and what the last requests would get instead; exit 1 if something gets
    /// worse
    #[command(after_help = plan::HELP)]
    Plan {
        /// The change
        #[command(flatten)]
        request: plan::PlanRequest,
    },

    /// List which keys changed, when, and under whose lease; exit 1 if no change is known
    #[command(after_help = history::HELP)]
    History {
        /// The changes
        #[command(flatten)]
        request: history::HistoryRequest,
    },

    /// List the keys that differ between two revisions; exit 1 if one does
    #[command(after_help = history::DIFF_HELP)]
    Diff {
        /// The revisions
        #[command(flatten)]
        request: history::DiffRequest,
    },

    /// Write the keys of an earlier revision back, as one change; exit 1, with nothing written, if others changed them since
    #[command(after_help = rollback::HELP)]
    Rollback {
        /// What to roll back
        #[command(flatten)]
        request: rollback::RollbackRequest,
        /// Also roll back what changed more than once since, or what a balancer could not use
        #[arg(long)]
        force: bool,
        /// Whether to wait for all balancers
        #[command(flatten)]
        wait: Wait,
    },

    /// Print all keys in the form that `import`, `apply` and `plan` read
    #[command(after_help = export::HELP)]
    Export {
        /// Only this service, `config`, `certs`, or what is below this key
        service: Option<String>,
        /// Export secrets, too
        #[arg(long)]
        secrets: bool,
        /// Export keys under a lease, too, as if they were nobody's
        #[arg(long)]
        leased: bool,
    },

    /// Write the keys of an export as they are, and print the difference
    #[command(after_help = apply::IMPORT_HELP)]
    Import {
        /// The file, and how
        #[command(flatten)]
        request: apply::FileChange,
        /// Whether to wait for all balancers
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
  pointsman ls                      the top level below the prefix
  pointsman ls services/shop        one service
  pointsman ls -r --values          all keys and their values, except for secrets
  pointsman ls -r --secrets         the same with secrets: a backup that `pointsman apply` takes")]
    Ls {
        /// List only the keys below this key
        #[arg(default_value = "")]
        key: String,
        /// List all levels
        #[arg(long, short)]
        recursive: bool,
        /// Print the values too, except for secrets
        #[arg(long)]
        values: bool,
        /// Print all values, secrets too
        #[arg(long)]
        secrets: bool,
    },

    /// Remove a key; exit 1 if there is no such key
    Rm {
        /// The key
        key: String,
        /// Remove everything below it too
        #[arg(long, short)]
        recursive: bool,
        /// Print what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
        /// Whether to wait for all balancers
        #[command(flatten)]
        wait: Wait,
    },

    /// Create a directory (etcd v2 or a folder; etcd v3 has none)
    Mkdir {
        /// The key
        key: String,
    },

    /// Show the table of the balancer on --admin; if nothing answers there, compile the store's keys
    Routes {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },

    /// Show the balancer on --admin in the terminal, live, what hurts first
    #[command(after_help = "\
The same as the page of --admin in a browser. `?` lists the keys, q quits. Where its output is no
terminal, prints one frame, of the size in COLUMNS and LINES, and ends. NO_COLOR=1 uses no colours.

Examples:
  pointsman top
  pointsman top --admin 10.0.0.5:8404
      a balancer on another machine, whose --admin can be reached from here
  pointsman top --once | head -20")]
    Top {
        /// Print one frame, and end
        #[arg(long)]
        once: bool,
    },

    /// Show the last requests of the balancer on --admin
    #[command(after_help = "\
The balancer keeps them in memory if it has an access log or --recent-requests (native engine).

Examples:
  pointsman logs shop --status 5xx
  pointsman logs -f --slower 1s")]
    Logs {
        /// Only requests of this service
        service: Option<String>,
        /// Go on with new requests until interrupted
        #[arg(short, long)]
        follow: bool,
        /// Only with this status: 404, or 5xx
        #[arg(long, value_name = "STATUS", value_parser = logs::status_filter)]
        status: Option<logs::StatusFilter>,
        /// Only those that took longer than this
        #[arg(long, value_name = "TIME", value_parser = settings::duration)]
        slower: Option<Duration>,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },

    /// Show the service and the instances that take a URL, and why; exit 1 if the balancer would refuse it
    #[command(after_help = explain::HELP)]
    Explain {
        /// `http://shop.test/cart`, `shop.test/cart`, `/cart` or `tcp://HOST:PORT`
        url: String,
        /// What else is known of the request.
        #[command(flatten)]
        request: ExplainRequest,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },

    /// List the balancers of an id: what each serves, its problems, and which drained instances still have open
    /// requests; exit 1 if no balancer is live
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },

    /// Show what was taken away at once and is served on by the guard, or let that in; exit 1 if something is held
    #[command(after_help = "\
Without `release`, lists what each live balancer of the id holds. With it, all of them serve the
store's keys again; waits for that, at most 10 s.

Examples:
  pointsman guard
  pointsman guard release")]
    Guard {
        /// Let in what is held
        #[arg(value_parser = ["release"])]
        action: Option<String>,
        /// Print JSON
        #[arg(long, conflicts_with = "action")]
        json: bool,
    },

    /// List all certificates: days, issuer, next step and last error; or have one by ACME renewed or revoked
    #[command(after_help = "\
Reads the store: the certificates below certs/, and those that balancers had issued by ACME.
Exit 1 if a name has no certificate.
`import` reads the folder of certbot (/etc/letsencrypt) or acme.sh, or Traefik's acme.json.
Balancers serve what is there, and renew it in time.
`revoke` has the authority revoke the certificate, and one with a new key ordered at once. The old
one serves until that is there. Waits for the balancer that does so, at most 60 s.

Examples:
  pointsman certs
  pointsman certs renew shop.example.org
  pointsman certs revoke shop.example.org --reason key-compromise
  pointsman certs import /etc/letsencrypt")]
    Certs {
        /// Renew or revoke the certificate of a name now; import certificates
        #[arg(value_parser = ["renew", "revoke", "import"], requires = "what")]
        action: Option<String>,
        /// The name; the folder, or Traefik's file
        #[arg(value_name = "NAME|DIR")]
        what: Option<String>,
        /// Why it is revoked
        #[arg(long, requires = "action", value_parser = REVOKE_REASONS, default_value = REVOKE_REASONS[0])]
        reason: String,
        /// Print JSON
        #[arg(long, conflicts_with = "action")]
        json: bool,
    },

    /// Wait until every live balancer serves a revision; exit 1 after --timeout, with a list of those that do not
    #[command(after_help = "\
A balancer without a status for 10 s does not count. If one disappears during the wait, the wait
fails and names it.

Examples:
  pointsman wait
      everything that the store holds now
  pointsman wait --revision 845 --timeout 5s
      a revision from elsewhere, such as from `etcdctl put -w json`")]
    Wait {
        /// The store's revision [default: the current one]
        #[arg(long, value_name = "R")]
        revision: Option<u64>,
        /// The longest wait
        #[arg(long, value_name = "TIME", default_value = "30s", value_parser = settings::duration)]
        timeout: Duration,
    },

    /// Drain an instance: it takes no new work and finishes its open requests
    #[command(after_help = "\
Adds the word `drain` to the instance's value. --wait also waits until no balancer has a request or
connection open to the instance.

Examples:
  pointsman drain shop/web-1 --wait && systemctl restart web && pointsman undrain shop/web-1
  pointsman drain tcp-services/db/db-1")]
    Drain {
        /// SERVICE/INSTANCE, or the instance's key
        instance: String,
        /// Whether to wait for all balancers
        #[command(flatten)]
        wait: Wait,
    },

    /// Undo `drain`
    Undrain {
        /// SERVICE/INSTANCE, or the instance's key
        instance: String,
        /// Whether to wait for all balancers
        #[command(flatten)]
        wait: Wait,
    },

    /// Write keys for this machine's Docker containers into the store, and follow every change of them
    #[command(after_help = "\
Labels such as pointsman.service=shop and pointsman.domain=shop.test make a container an instance;
so do Kontena's labels and environment (docs/agent.md). If this process stops or dies, its keys
stay for --ttl; an agent that restarts within that time keeps them.

Signals:
  TERM, INT   stop; containers keep running
  HUP         read the settings again: only --log takes effect without a restart

Examples:
  pointsman agent --store http://10.0.0.1:2379 --id haproxy-1
      balancers reach containers by the containers' own addresses
  pointsman agent --store http://10.0.0.1:2379 --id haproxy-1 --host 10.0.0.7
      balancers reach containers by this machine's address and the published ports")]
    Agent,

    /// Run a command, and register it as an instance while its check passes
    #[command(after_help = "\
The instance is registered when its check passes. It takes no new work while the check fails, and
its key ends within --ttl if this process or the machine dies. TERM, INT or QUIT drains it first:
balancers send it no new requests, and when they are done with it, or after --drain, the command
gets the signal. A second signal skips the wait. Other signals are passed on. The exit status is
the command's, or 128 plus the number of the signal that ended it.

Without a command, the key is written once, when the check passes, and stays until
`pointsman register --remove`: for ExecStartPost and ExecStop of a systemd unit.

Examples:
  pointsman register shop --port 9000 -- node server.js
  pointsman register db --tcp --port 5432 --ttl 30s -- postgres -D data
  pointsman register shop --port 9000 --check /health --timeout 20s
  pointsman register shop --port 9000 --remove")]
    Register {
        /// The instance to register
        #[command(flatten)]
        request: register::Request,
    },

    /// Print the haproxy.cfg and the maps of the HAProxy engine
    #[command(after_help = "\
Compiles the keys once, as `check` does, for the HAProxy engine, whatever --engine is. Writes for
the installed HAProxy; without one for 2.4, which later versions accept too. Problems go to stderr.

Examples:
  pointsman render
      haproxy.cfg, followed by the maps as comments
  pointsman render --output out && haproxy -c -f out/haproxy.cfg
      all files in a folder, including certificates with their keys")]
    Render {
        /// Write all files into this folder
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },

    /// Ask the balancer on --admin whether it is ready; exit 1 if not
    #[command(after_help = "\
Prints the balancer's answer. Reads only --admin of the settings, so it works whatever `run` has.

Exit codes:
  0  ready: a table is served
  1  not ready: the store was not read yet, or the balancer is draining
  2  nothing answers on --admin

Examples:
  HEALTHCHECK CMD [\"/pointsman\", \"health\"]
      in an image
  until pointsman health; do sleep 1; done
      in a script")]
    Health,

    /// Print what completes commands and flags in a shell
    #[command(after_help = "\
Examples:
  pointsman completions bash >/usr/share/bash-completion/completions/pointsman
  source <(pointsman completions bash)
      in this shell only")]
    Completions {
        /// The shell
        #[arg(value_parser = ["bash", "zsh", "fish"])]
        shell: String,
    },

    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man {
        /// The folder
        folder: PathBuf,
    },

    /// Start a program that is nobody's child, and print its process
    #[command(hide = true)]
    Launch {
        /// The file; the first that is there counts
        #[arg(long = "program")]
        programs: Vec<PathBuf>,
        /// What it is called with
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },

    /// Print the version
    Version,
}

/// Waiting for all balancers.
#[derive(Clone, Copy, Debug, Args)]
pub struct Wait {
    /// Wait until every live balancer serves the change, for at most 30 s or TIME; exit 1 if not
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "30s",
          value_parser = settings::duration)]
    wait: Option<Duration>,
}

impl Wait {
    /// The longest wait, if there is one.
    pub fn patience(self) -> Option<Duration> {
        self.wait
    }
}

impl Command {
    /// Whether it runs until it is stopped, and so logs at level info.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Demo | Self::Agent | Self::Register { .. })
    }
}
