//! The command line. Knows what can be asked; measures nothing.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What `--help` says.
pub(crate) const HELP: &str = "\
usage: pointsman-bench [GROUP...] [--rounds N] [--seconds S] [--pointsman FILE] [--json FILE]
                       [--balancers N,...] [--api 2|3] [--against FILE]

groups: all (default), http, scale, memory, table, pick, haproxy, burst, fleet, against

  --rounds N        rounds of which the median counts, each round one turn of every proxy (default 5)
  --seconds S       length of one turn (default 2; of a fleet's idling, 20)
  --pointsman FILE  the program (default: target/dist/pointsman, of `cargo build --profile dist`; without it, the
                    peers are measured alone)
  --json FILE       write the figures there as well
  --balancers N,... sizes of the fleets that share one etcd (default 20,100,1000)
  --api 2|3         the API of etcd that they use (default 3)
  --against FILE    another build of the program, built alike, for the group `against`

The proxy under test has core 0, wrk and the backend have core 1: leave both idle.";

/// What to do.
pub(crate) enum Command {
    /// Measure these.
    Measure(Vec<Group>),
    /// Be the plain relay.
    Relay {
        /// Where to listen.
        listen: SocketAddr,
        /// Where everything goes.
        to: SocketAddr,
    },
    /// Be the backend.
    Responder {
        /// Where to listen.
        listen: SocketAddr,
        /// What its answers are made of, by which it is told from others.
        name: u8,
    },
}

/// Figures that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// CPU per request.
    Http,
    /// CPU per request by number of services.
    Scale,
    /// Resident memory.
    Memory,
    /// Lookups and compiling.
    Table,
    /// Picking instances.
    Pick,
    /// A HAProxy that we drive.
    Haproxy,
    /// Many services written at once.
    Burst,
    /// Many balancers on one etcd.
    Fleet,
    /// Another build of the program.
    Against,
}

const ALL: [Group; 9] = [
    Group::Http,
    Group::Scale,
    Group::Memory,
    Group::Table,
    Group::Pick,
    Group::Haproxy,
    Group::Burst,
    Group::Fleet,
    Group::Against,
];

/// How to measure.
pub(crate) struct Options {
    /// Rounds of which the median counts.
    pub(crate) rounds: usize,
    /// Length of one turn.
    pub(crate) turn: Duration,
    /// How long a fleet is left alone.
    pub(crate) idle: Duration,
    /// Sizes of fleets.
    pub(crate) balancers: Vec<usize>,
    /// The API of etcd that they use.
    pub(crate) api: u8,
    /// The program.
    pub(crate) pointsman: PathBuf,
    /// Another build of it.
    pub(crate) against: Option<PathBuf>,
    /// Where figures go as JSON.
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
            json: None,
        }
    }
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// What is wrong with them, for the user.
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
                "all" => groups.extend(ALL),
                "http" => groups.push(Group::Http),
                "scale" => groups.push(Group::Scale),
                "memory" => groups.push(Group::Memory),
                "table" => groups.push(Group::Table),
                "pick" => groups.push(Group::Pick),
                "haproxy" => groups.push(Group::Haproxy),
                "burst" => groups.push(Group::Burst),
                "fleet" => groups.push(Group::Fleet),
                "against" => groups.push(Group::Against),
                other => return Err(format!("`{other}` is not a group or an option")),
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
    text.parse().map_err(|_| format!("`{of}` cannot take `{text}`"))
}
