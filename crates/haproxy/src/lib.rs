//! The HAProxy engine: a real HAProxy, started, watched and changed so that it serves the table. Takes tables, reports
//! what is served and what is not; never touches a byte of traffic.
//!
//! ```text
//! table -> desire -> Desired -> plan -> commands on the runtime socket, read back
//!                                   \-> reload: render -> haproxy -c -> activate -> master reloads -> verdict
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `engine`, `pace` | the loop and its stages; when a reload is due |
//! | `desire`, `backend`, `server`, `frontend` | from a table to the configuration wanted, section by section |
//! | `outbound`, `changes` | TLS and PROXY headers to instances; what a policy changes in requests and answers |
//! | `clients` | what handshakes ask clients for |
//! | `admission` | who is let in |
//! | `strict`, `forwarded`, `frame` | rules against malformed heads, for clients' headers; sections before any frontend |
//! | `model`, `shape`, `settings`, `maps`, `names` | what HAProxy is to run; what of that does not depend on the keys |
//! | `routing`, `pattern` | the rules and maps that look requests up; expressions |
//! | `words`, `confine`, `template` | quoting; operators' own lines and templates |
//! | `tickets` | keys of session tickets |
//! | `render` | the files, and the key that each line comes from |
//! | `running`, `plan`, `reach`, `command`, `drift`, `states` | what runs; the smallest change; differences found |
//! | `apply`, `runtime`, `answers`, `master` | conversations with HAProxy, and what its answers mean |
//! | `reloader`, `hold`, `exclude`, `ports` | replacing what runs; services and ports left out of it |
//! | `program`, `version`, `check`, `complaint` | the HAProxy program, and its verdict on a configuration |
//! | `process`, `output`, `inherit`, `leftover`, `folder` | the running process and its files |
//! | `resolve`, `scrape`, `stats`, `ledger` | names of instances; figures over all workers |

mod admission;
pub mod answers;
pub mod apply;
pub mod backend;
mod changes;
pub mod check;
mod clients;
pub mod command;
pub mod complaint;
pub mod confine;
pub mod desire;
pub mod drift;
mod engine;
pub mod exclude;
pub mod folder;
mod forwarded;
pub mod frame;
pub mod frontend;
pub mod hold;
mod inherit;
pub mod ledger;
pub mod leftover;
pub mod maps;
pub mod master;
pub mod model;
pub mod names;
mod outbound;
mod output;
pub mod pace;
pub mod pattern;
pub mod plan;
pub mod ports;
pub mod process;
pub mod program;
mod reach;
pub mod reloader;
pub mod render;
pub mod resolve;
pub mod routing;
pub mod running;
pub mod runtime;
pub mod scrape;
pub mod server;
mod settings;
pub mod shape;
pub mod states;
pub mod stats;
mod strict;
pub mod template;
pub mod tickets;
pub mod version;
pub mod words;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pointsman_table::Table;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tracing::info;

use engine::{Engine, Inputs};
use folder::Folder;
use ledger::Ledger;
use pointsman_engine::inherited::{Inherited, LendRequests, ListenerRole};
use pointsman_engine::sockets::{Claim, hint};
use pointsman_engine::tickets::TicketSecrets;
use pointsman_engine::{Applied, Phase};
pub use process::Former;
use program::Program;
use reloader::Reloader;
pub use settings::HaproxySettings;
use shape::{Listen, Shape};

/// How long a HAProxy that was just ended may keep its addresses.
const LEFTOVERS: Duration = Duration::from_secs(3);
/// How many spare backends wait for new services.
const SPARES: usize = 256;

/// The engine's settings.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Listening addresses for HTTP.
    pub http: Vec<SocketAddr>,
    /// Listening addresses for HTTPS.
    pub https: Vec<SocketAddr>,
    /// HAProxy's threads.
    pub threads: usize,
    /// The state folder.
    pub state: PathBuf,
    /// How to run HAProxy.
    pub haproxy: HaproxySettings,
}

/// Open listening sockets, and a HAProxy to start.
#[derive(Debug)]
pub struct Bound {
    settings: EngineSettings,
    program: Program,
    folder: Folder,
    template: Option<Box<str>>,
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    ledger: Arc<Ledger>,
    former: Option<Former>,
    inherited: Inherited,
}

impl Bound {
    /// The listening addresses for HTTPS, with their real ports.
    pub fn https_addresses(&self) -> &[SocketAddr] {
        &self.addresses[self.http.len()..]
    }

    /// The listening addresses for plain HTTP, with their real ports.
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.addresses[..self.http.len()]
    }

    /// The figures of this engine.
    pub fn ledger(&self) -> Arc<Ledger> {
        self.ledger.clone()
    }
}

/// Finds HAProxy, ends one that an earlier run may have left, and opens the addresses, with the sockets that were given
/// for them. A `former` HAProxy serves on.
///
/// # Errors
/// The setting that cannot be used, with advice.
pub async fn bind(settings: EngineSettings, inherited: Inherited, former: Option<Former>) -> anyhow::Result<Bound> {
    let program = program::find(settings.haproxy.program.as_deref()).await.context("--haproxy")?;
    info!("HAProxy {} is {}", program.release, program.path.display());
    let template = settings.haproxy.template.as_ref().map(|path| {
        std::fs::read_to_string(path).with_context(|| format!("--haproxy-template: cannot read {}", path.display()))
    });
    let folder = match former {
        Some(_) => Folder::beside(&settings.state, leftover::is_in_use),
        None => Folder::open(&settings.state),
    };
    let folder = folder.context("--state")?;
    let mut left = leftover::end_leftovers(folder.path()).await.context("--state")?;
    for other in folder.others(&settings.state).into_iter().filter(|other| !leftover::is_in_use(other)) {
        left.extend(leftover::end_leftovers(&other).await.context("--state")?);
        // Nobody uses it any more; what cannot be removed is removed by a later start.
        let _ = std::fs::remove_dir_all(&other);
    }
    left.iter().for_each(|pid| info!("ended a HAProxy that an earlier run left (process {pid})"));
    // Workers hold the addresses for a moment after their master has ended.
    let patience = if left.is_empty() { Duration::ZERO } else { LEFTOVERS };
    let http = open((ListenerRole::Http, &inherited), &settings.http, patience).await?;
    let https = open((ListenerRole::Https, &inherited), &settings.https, patience).await?;
    let addresses = http.iter().chain(&https).map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    let ledger = Arc::new(Ledger::default());
    ledger.note(|facts| facts.version = program.release.to_string());
    let template = template.transpose()?.map(Into::into);
    Ok(Bound { settings, program, folder, template, http, https, addresses, ledger, former, inherited })
}

async fn open(
    (role, inherited): (ListenerRole, &Inherited),
    addresses: &[SocketAddr],
    patience: Duration,
) -> anyhow::Result<Vec<TcpListener>> {
    let flag = if role == ListenerRole::Https { "--https" } else { "--http" };
    let mut sockets = Vec::new();
    for address in addresses {
        let opened = open_one(*address, (role, inherited), patience).await;
        let named = |error| {
            let hint = hint(*address, &error);
            anyhow::Error::new(error).context(format!("{flag} {address}: {hint}"))
        };
        sockets.push(opened.map_err(named)?);
    }
    Ok(sockets)
}

/// Opens an address; while it is in use, retries for this long.
async fn open_one(
    address: SocketAddr,
    (role, inherited): (ListenerRole, &Inherited),
    patience: Duration,
) -> io::Result<TcpListener> {
    let start = Instant::now();
    loop {
        match inherited.open(address, role, 1, Claim::Alone) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < patience => {
                sleep(Duration::from_millis(20)).await;
            }
            opened => return opened?.pop().ok_or_else(|| io::Error::other("no socket was opened")),
        }
    }
}

/// Serves the tables that come, with the newest secrets for session tickets, until `phase` says otherwise: on [`Phase::Drain`] HAProxy finishes its work, within
/// `timeout/drain` of the keys; on [`Phase::Halt`] it ends at once. The table that is there at first is not served: it has
/// the last good forms, from before the start, of what HAProxy rejects now.
///
/// # Errors
/// None: whatever a later table could repair is a problem.
pub async fn run(
    bound: Bound,
    tables: watch::Receiver<Arc<Table>>,
    tickets: watch::Receiver<TicketSecrets>,
    applied: mpsc::Sender<Applied>,
    phase: watch::Receiver<Phase>,
    lend: LendRequests,
) -> anyhow::Result<()> {
    let (every, http, inherited) = (bound.settings.haproxy.reload_every, bound.http.len(), bound.inherited.clone());
    let reloader = prepare(bound);
    let sockets = (Arc::clone(&reloader.sockets), http);
    let inputs = Inputs { tables, tickets, phase, lend, sockets, inherited };
    Engine::new(every, reloader.ledger.clone(), inputs, applied).run(reloader).await;
    Ok(())
}

fn prepare(bound: Bound) -> Reloader {
    let Bound { settings, program, folder, template, http, https, ledger, former, .. } = bound;
    let EngineSettings { threads, haproxy, .. } = settings;
    let shape = Shape {
        http: listens(&http),
        https: listens(&https),
        threads,
        folder: PathBuf::new(),
        socket: None,
        hard_stop: haproxy.hard_stop,
        global_settings: haproxy.global_settings,
        ciphers: haproxy.ciphers,
        custom_settings: haproxy.custom_settings,
        template,
        version: program.version,
        spares: if program.version.has_dynamic_servers() { SPARES } else { 0 },
        tickets: None,
    };
    let grace = haproxy.hard_stop;
    Reloader {
        grace,
        former,
        ..Reloader::new((program, folder), http.into_iter().chain(https).collect(), shape, ledger)
    }
}

fn listens(sockets: &[TcpListener]) -> Vec<Listen> {
    let listen =
        |socket: &TcpListener| Some(Listen { address: socket.local_addr().ok()?, socket: Some(socket.as_raw_fd()) });
    sockets.iter().filter_map(listen).collect()
}
