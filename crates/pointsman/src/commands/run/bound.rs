//! All that listens, and the engine that the settings choose: what it writes about requests, and its run.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, bail};
use pointsman_engine::access::LogQueue;
use pointsman_engine::cert_wishes::CertWishes;
use pointsman_engine::inherited::LendRequests;
use pointsman_engine::tickets::TicketSecrets;
use pointsman_engine::{Applied, Phase};
use pointsman_haproxy::{self as haproxy, EngineSettings, Former};
use pointsman_native::{self as native, AccessLog, NativeSettings, Observed};
use pointsman_table::Table;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::admin::{self, Figures};
use crate::control::local;
use crate::fleet::Listens;
use crate::logging::access::AccessThreads;
use crate::settings::{AccessSettings, Engine, Settings};
use crate::stats::{KeyEdits, StatsListener};
use crate::sys;
use crate::takeover::{Before, HaproxyBefore};
use crate::traces::Traces;

/// Starts the access log of the native engine.
pub(super) fn access_log(settings: &Settings) -> anyhow::Result<AccessThreads> {
    let access = &settings.access;
    match settings.engine {
        Engine::Native => AccessThreads::start(&access.to, access.syslog, access.recent()),
        Engine::Haproxy => AccessThreads::start(&[], access.syslog, 0),
    }
}

/// Makes ready to send the spans of the native engine.
pub(super) fn traces(settings: &Settings) -> anyhow::Result<Traces> {
    match settings.engine {
        Engine::Native => Traces::open(&settings.otlp),
        Engine::Haproxy => Ok(Traces::default()),
    }
}

/// The addresses in use, with the ports that the system chose for port 0.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The HTTP listeners' addresses.
    pub http: Vec<SocketAddr>,
    /// The HTTPS listeners' addresses.
    pub https: Vec<SocketAddr>,
    /// The address of the admin pages.
    pub admin: Option<SocketAddr>,
}

impl Addresses {
    /// The addresses that clients connect to.
    pub(super) fn all(&self) -> impl Iterator<Item = &SocketAddr> {
        self.http.iter().chain(&self.https)
    }

    pub(super) fn listens(&self) -> Listens {
        let machine = Vec::new();
        Listens { http: self.http.clone(), https: self.https.clone(), admin: self.admin, machine }
            .on(local::addresses())
    }
}

/// All that listens.
pub(super) struct Opened {
    pub(super) bound: Bound,
    /// Of the admin pages.
    pub(super) admin: Option<TcpListener>,
    /// Of `--stats-socket`.
    pub(super) socket: Option<StatsListener>,
    pub(super) addresses: Addresses,
}

impl Opened {
    pub(super) async fn open(
        settings: &Settings,
        queue: &LogQueue,
        traces: &Traces,
        before: &mut Before,
        edits: KeyEdits,
    ) -> anyhow::Result<Self> {
        let bound = Bound::open(settings, queue, traces, before).await?;
        let admin = match settings.admin {
            Some(address) => Some(admin::bind(address, &before.inherited)?),
            None => None,
        };
        let socket = settings.stats_socket.as_ref().map(|socket| StatsListener::bind(socket, edits)).transpose()?;
        let (http, https) = bound.addresses();
        let address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(Self { bound, admin, socket, addresses: Addresses { http, https, admin: address } })
    }
}

/// The engine's listening sockets.
pub(super) enum Bound {
    Native(Box<native::Bound>),
    Haproxy(Box<haproxy::Bound>),
}

impl Bound {
    async fn open(settings: &Settings, queue: &LogQueue, traces: &Traces, before: &mut Before) -> anyhow::Result<Self> {
        let inherited = before.inherited.clone();
        let threads = settings.workers.get();
        match settings.engine {
            Engine::Native => {
                let AccessSettings { format, sample, .. } = settings.access.clone();
                let is_on = queue.has_destinations() || queue.has_recent();
                let log = is_on.then(|| AccessLog { format, sample, queue: queue.clone() });
                let settings = NativeSettings {
                    http: settings.http.clone(),
                    https: settings.https.clone(),
                    workers: threads,
                    open_files: sys::open_files_limit(),
                    observed: Observed { log, traces: traces.engine.clone() },
                };
                Ok(Self::Native(Box::new(native::bind(&settings, &inherited)?)))
            }
            Engine::Haproxy => {
                let state =
                    settings.state.clone().context("--state: the HAProxy engine needs a folder for its files")?;
                let (http, https, haproxy) = (settings.http.clone(), settings.https.clone(), settings.haproxy.clone());
                let settings = EngineSettings { http, https, threads, state, haproxy };
                let former = before.haproxy.take().map(|HaproxyBefore { runtime, open }| Former { runtime, open });
                Ok(Self::Haproxy(Box::new(haproxy::bind(settings, inherited, former).await?)))
            }
        }
    }

    /// For HTTP and for HTTPS.
    fn addresses(&self) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        match self {
            Self::Native(bound) => (bound.http_addresses().to_vec(), bound.https_addresses().to_vec()),
            Self::Haproxy(bound) => (bound.http_addresses().to_vec(), bound.https_addresses().to_vec()),
        }
    }
}

/// Runs the engine to its end.
pub(super) async fn serve_with(
    bound: Bound,
    figures: Figures,
    tables: watch::Receiver<Arc<Table>>,
    tickets: watch::Receiver<TicketSecrets>,
    told: (mpsc::Sender<Applied>, CertWishes),
    phase: watch::Receiver<Phase>,
    lend: LendRequests,
) -> anyhow::Result<()> {
    match (bound, figures) {
        (Bound::Native(bound), Figures::Native(registry)) => {
            native::run(*bound, tables, tickets, told, phase, lend, registry).await
        }
        (Bound::Haproxy(bound), _) => haproxy::run(*bound, tables, tickets, told.0, phase, lend).await,
        (Bound::Native(_), Figures::Haproxy(_)) => bail!("the native engine has counters of its own"),
    }
}
