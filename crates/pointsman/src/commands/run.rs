//! `pointsman run`: binds, starts the engine and the control side, and stops them in order. Decides nothing in between.
//!
//! ```text
//! names::follow <-> control::run   (host names of instances)
//! store.follow -> control::run -> tables -> native::run (its own threads) -> applied -> control::run
//!                            \-> status -> admin::serve        signals -> phase -> native::run
//! ```

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use pointsman_table::{KeySet, Table};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::apis;
use crate::acme;
use crate::admin::live::{LiveAbout, LiveInputs, collect};
use crate::admin::source::SourceView;
use crate::admin::view::epoch_seconds;
use crate::admin::{self, Figures, Hosts, MetricNames, Pages};
use crate::certs::CertSources;
use crate::control::{self, Around, ControlChannels, ControlInputs, Defaults, Status, Timeline, local};
use crate::fleet::Listens;
use crate::fleet::glance::watch_fleet;
use crate::fleet::keeper::{self, About};
use crate::fleet::release;
use crate::logging::Logging;
use crate::logging::access::{AccessThreads, RequestsView, tell_dropped};
use crate::names::{self, HostNames, Lookup};
use crate::notify;
use crate::settings::{
    AccessSettings, AcmeSettings, Chosen, CommandLine, Engine, Environment, FLAGS, Group, Host, Settings,
};
use crate::state::StateFile;
use crate::state::keeper::{self as state_keeper, Sources};
use crate::state::snapshot::SnapshotFile;
use crate::state::snapshot_keeper::{self, SnapshotSources};
use crate::sys;
use crate::tickets;
use crate::traces::Traces;
use pointsman_engine::access::LogQueue;
use pointsman_engine::live::{DownBefore, Registry};
use pointsman_engine::sockets;
use pointsman_engine::tickets::TicketSecrets;
use pointsman_engine::{Applied, Phase};
use pointsman_haproxy::{self as haproxy, EngineSettings};
use pointsman_native::{self as native, AccessLog, NativeSettings, Observed};
use pointsman_store::{Api, ClusterId, Condition, Location, Store, StoreSettings};

/// Most updates from the store that may queue for the control loop.
const UPDATES: usize = 1024;
/// Most answers from the engine that may queue for the control loop.
const APPLIED: usize = 64;

/// How long the end of the program waits for the access log to be written.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How long it then waits for the last spans to be sent.
const LAST_SPANS: Duration = Duration::from_secs(2);

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
    fn all(&self) -> impl Iterator<Item = &SocketAddr> {
        self.http.iter().chain(&self.https)
    }

    fn listens(&self) -> Listens {
        let machine = Vec::new();
        Listens { http: self.http.clone(), https: self.https.clone(), admin: self.admin, machine }
            .on(local::addresses())
    }
}

/// Serves until stopped. `ready` is called once the first table is in use.
///
/// # Errors
/// The store's settings cannot be used, its folder cannot be made, an address cannot be listened on, or the engine fails.
pub async fn run(settings: &Settings, mut reload: Reload, ready: impl FnOnce(&Addresses)) -> anyhow::Result<()> {
    let signals = Signals::new()?;
    warn_of_idle(settings.engine, &reload.chosen);
    tell_usual_store(settings, &reload);
    raise_open_files();
    let state = state_file(settings);
    let kept = state.as_ref().map(StateFile::take).unwrap_or_default();
    let store = Store::open(&settings.store)?.remembering(kept.api);
    store.make_place()?;
    let workers = settings.workers.get();
    let access = access_log(settings)?;
    reload.access = access.queue().clone();
    let traces = traces(settings)?;
    let bound = Bound::open(settings, access.queue(), &traces).await?;
    let listener = match settings.admin {
        Some(address) => Some(admin::bind(address)?),
        None => None,
    };
    let admin = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let (http, https) = bound.addresses();
    let addresses = Addresses { http, https, admin };
    announce(&addresses);
    let about = About {
        name: settings.name.clone().unwrap_or_else(|| usual_name(&addresses)),
        prefix: settings.store.prefix.clone(),
        engine: settings.engine.word(),
        listens: addresses.listens(),
    };
    let hosts = Hosts::new(&settings.admin_hosts);
    let lookup = Lookup::new(&settings.resolvers);
    let certs = CertSources::new(settings);
    let down = kept.down_before(epoch_seconds());
    let (standby, damage) = state.as_ref().map(|file| SnapshotFile::beside(file).take()).unwrap_or_default();
    let acme = (settings.acme.clone(), about.name.clone());
    let (requests, settings_of_store) = (access.view(Arc::clone(&traces.counts)), settings.store.clone());
    let sending = traces.start(&about.name);
    let parts = Parts {
        store,
        bound,
        listener,
        hosts,
        signals,
        reload,
        about,
        lookup,
        certs,
        acme,
        state,
        around: Around { snapshot: damage, ..Around::default() },
        down,
        requests,
        roster: MetricNames::new(settings.metrics_detail),
        settings: settings_of_store,
        api: kept.api,
    };
    let inputs = ControlInputs { standby, cluster: parts.store.cluster(), ..inputs(settings, &addresses) };
    let before = Table::recall(kept.memory, &inputs.limits());
    let outcome = parts.serve((inputs, before), workers, &addresses, ready).await;
    access.finish(LAST_LINES);
    sending.finish(LAST_SPANS).await;
    outcome
}

/// Starts the access log of the native engine.
fn access_log(settings: &Settings) -> anyhow::Result<AccessThreads> {
    let access = &settings.access;
    match settings.engine {
        Engine::Native => AccessThreads::start(&access.to, access.syslog, access.recent()),
        Engine::Haproxy => AccessThreads::start(&[], access.syslog, 0),
    }
}

/// Makes ready to send the spans of the native engine.
fn traces(settings: &Settings) -> anyhow::Result<Traces> {
    match settings.engine {
        Engine::Native => Traces::open(&settings.otlp),
        Engine::Haproxy => Ok(Traces::default()),
    }
}

/// The engine's listening sockets.
enum Bound {
    Native(Box<native::Bound>),
    Haproxy(Box<haproxy::Bound>),
}

impl Bound {
    async fn open(settings: &Settings, queue: &LogQueue, traces: &Traces) -> anyhow::Result<Self> {
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
                Ok(Self::Native(Box::new(native::bind(&settings)?)))
            }
            Engine::Haproxy => {
                let state =
                    settings.state.clone().context("--state: the HAProxy engine needs a folder for its files")?;
                let (http, https, haproxy) = (settings.http.clone(), settings.https.clone(), settings.haproxy.clone());
                let settings = EngineSettings { http, https, threads, state, haproxy };
                Ok(Self::Haproxy(Box::new(haproxy::bind(settings).await?)))
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

    /// The source of the engine's figures. The native engine needs the registry itself too.
    fn figures(&self, workers: usize) -> Figures {
        match self {
            Self::Native(_) => Figures::Native(Arc::new(Registry::new(workers, native::FAULTS))),
            Self::Haproxy(bound) => Figures::Haproxy(bound.ledger()),
        }
    }
}

/// Runs the engine to its end.
async fn serve_with(
    bound: Bound,
    figures: Figures,
    tables: watch::Receiver<Arc<Table>>,
    tickets: watch::Receiver<TicketSecrets>,
    applied: mpsc::Sender<Applied>,
    phase: watch::Receiver<Phase>,
) -> anyhow::Result<()> {
    match (bound, figures) {
        (Bound::Native(bound), Figures::Native(registry)) => {
            native::run(*bound, tables, tickets, applied, phase, registry).await
        }
        (Bound::Haproxy(bound), _) => haproxy::run(*bound, tables, tickets, applied, phase).await,
        (Bound::Native(_), Figures::Haproxy(_)) => bail!("the native engine has counters of its own"),
    }
}

/// The opened parts, not yet connected.
struct Parts {
    store: Store,
    bound: Bound,
    listener: Option<TcpListener>,
    hosts: Hosts,
    signals: Signals,
    reload: Reload,
    about: About,
    lookup: Lookup,
    certs: CertSources,
    /// How certificates are asked for, and by whom.
    acme: (AcmeSettings, String),
    state: Option<StateFile>,
    /// Problems found before the start.
    around: Around,
    /// The instances that active checks found down just before.
    down: DownBefore,
    requests: RequestsView,
    roster: MetricNames,
    settings: StoreSettings,
    /// The API of etcd that was chosen before.
    api: Option<Api>,
}

impl Parts {
    /// What open pages look at, and the store and prefix of the fleet.
    fn looking(
        &self,
        status: &watch::Receiver<Status>,
        figures: &Figures,
        timeline: &Timeline,
    ) -> anyhow::Result<(LiveInputs, (Store, String))> {
        let live = LiveInputs {
            status: status.clone(),
            timeline: timeline.clone(),
            figures: figures.clone(),
            source: SourceView::new(&self.settings),
            about: LiveAbout { name: self.about.name.clone(), engine: self.about.engine },
            started: SystemTime::now(),
        };
        let store = Store::open(&self.settings)?.remembering(self.api);
        Ok((live, (store, self.settings.prefix.clone())))
    }

    /// Connects the parts and runs until the engine ends; no other part ends by itself.
    async fn serve(
        mut self,
        (inputs, before): (ControlInputs, Arc<Table>),
        workers: usize,
        addresses: &Addresses,
        ready: impl FnOnce(&Addresses),
    ) -> anyhow::Result<()> {
        let (tables, engine_tables) = watch::channel(before);
        let (applied, control_applied) = mpsc::channel(APPLIED);
        let (updates, control_updates) = mpsc::channel(UPDATES);
        let (condition, control_condition) = watch::channel(Condition::Connecting { error: None });
        let (status, admin_status) = watch::channel(Status::new());
        let (wanted, names_wanted) = watch::channel(HostNames::default());
        let (names, control_names) = watch::channel(Arc::default());
        let (certs, control_certs) = watch::channel(self.certs.first());
        let (around, control_around) = watch::channel(std::mem::take(&mut self.around));
        let ((issued, control_issued), (released, control_released)) = (watch::channel(None), watch::channel(0));
        let (served, keys) = watch::channel(None);
        let (phase, engine_phase) = watch::channel(Phase::Serve);
        let (tickets, engine_tickets) = watch::channel(tickets::first());
        let needs_tickets = ends_tls(addresses, engine_tables.clone());
        let (figures, timeline) = (self.bound.figures(workers), Timeline::default());
        let registry = figures.registry().inspect(|registry| registry.recall(self.down.clone()));
        let channels = ControlChannels {
            updates: control_updates,
            condition: control_condition,
            applied: control_applied,
            names: control_names,
            wanted,
            certs: control_certs,
            issued: control_issued,
            around: control_around,
            released: control_released,
            served,
            tables,
            status: status.clone(),
            timeline: timeline.clone(),
        };
        let (live, glance) = self.looking(&admin_status, &figures, &timeline)?;
        let told = (self.requests, self.roster, self.reload.logging.lost());
        let pages = Pages::new(&live, addresses.all().copied().collect(), self.hosts, told);
        let (ended, end) = watch::channel(false);
        let sources = Sources { status: admin_status.clone(), api: self.store.api(), ended: end.clone(), registry };
        let keeping = keeper::keep(&self.store, self.about, status.clone(), figures.clone(), end);
        let keeping_state = keep_state(self.state, sources, (keys, self.store.cluster()), around.clone());
        let background = async {
            tokio::join!(
                Box::pin(self.store.follow(updates, condition)),
                apis::keep(&self.store, &self.settings, &around),
                control::run(inputs, channels),
                names::follow(self.lookup, names_wanted, names),
                self.certs.follow(certs, around.clone()),
                release::follow(&self.store, &self.settings.prefix, admin_status.clone(), released),
                tickets::keep(&self.store, &self.settings.prefix, tickets, needs_tickets),
                acme::keep((&self.store, &self.settings), self.acme, admin_status.clone(), (issued, around.clone())),
                tell_dropped(Arc::clone(&pages.requests.log)),
                show(self.listener, pages, live, glance),
                self.signals.heed(phase, status, self.reload),
                once_served(admin_status.clone(), || ready(addresses)),
                notify::run(admin_status),
            );
            pending().await
        };
        let engine = Box::pin(serve_with(self.bound, figures, engine_tables, engine_tickets, applied, engine_phase));
        let serving = until_written(engine, ended, async { tokio::join!(Box::pin(keeping), keeping_state) });
        tokio::select! {
            result = serving => result,
            () = Box::pin(background) => Ok(()),
        }
    }
}

/// Runs the engine to its end, and then the keepers to theirs: what they write last is written after the engine has ended.
async fn until_written<E>(engine: impl Future<Output = E>, ended: watch::Sender<bool>, keepers: impl Future) -> E {
    let engine = async {
        let result = engine.await;
        ended.send_replace(true);
        result
    };
    tokio::join!(engine, keepers).0
}

/// Waits until TLS ends in this process: at `--https`, or where keys say so.
fn ends_tls(addresses: &Addresses, mut tables: watch::Receiver<Arc<Table>>) -> impl Future<Output = ()> + use<> {
    let has_https = !addresses.https.is_empty();
    async move {
        // It fails only when the program ends.
        if !has_https && tables.wait_for(|table| table.generation() > 0 && table.ends_tls()).await.is_err() {
            pending().await
        }
    }
}

/// The default name: the port distinguishes two balancers on one machine.
fn usual_name(addresses: &Addresses) -> String {
    let port = addresses.http.first().map(|address| format!(":{}", address.port()));
    format!("{}{}", sys::host_name(), port.unwrap_or_default())
}

fn announce(addresses: &Addresses) {
    for address in &addresses.http {
        info!("listening for HTTP on {address}");
    }
    for address in &addresses.https {
        info!("listening for HTTPS on {address}");
    }
    match addresses.admin {
        Some(address) => info!("admin on http://{address}"),
        None => info!("admin is off"),
    }
}

/// Warns of settings that have no effect.
fn warn_of_idle(engine: Engine, chosen: &Chosen) {
    let idle = FLAGS.iter().filter(|flag| flag.group == Group::Haproxy && engine == Engine::Native);
    for origin in idle.filter_map(|flag| chosen.origin(flag.name)) {
        warn!("{origin} has no effect on the native engine; it is for --engine haproxy");
    }
    let idle = FLAGS.iter().filter(|flag| flag.group == Group::Native && engine == Engine::Haproxy);
    for origin in idle.filter_map(|flag| chosen.origin(flag.name)) {
        let page = if origin.to_string().contains("otlp") { "docs/engines.md" } else { "docs/logs.md" };
        warn!("{origin} has no effect on the HAProxy engine, which logs as its configuration says; see {page}");
    }
}

/// Logs that no store is named: as a warning in a container, where this is most often forgotten.
fn tell_usual_store(settings: &Settings, reload: &Reload) {
    let (Location::Directory(folder), false) = (&settings.store.location, reload.chosen.has("store")) else { return };
    let folder = folder.display();
    let text = format!(
        "no store is named, so the keys are files in {folder}; for etcd, set POINTSMAN_STORE=http://HOST:2379 and POINTSMAN_ID"
    );
    // Set by our images, podman and systemd's containers (systemd.io/CONTAINER_INTERFACE).
    match reload.environment.get("container").is_some_and(|kind| !kind.is_empty()) {
        true => warn!("{text}; to keep the folder, set POINTSMAN_STORE={folder}"),
        false => info!("{text}"),
    }
}

fn raise_open_files() {
    match sys::raise_open_files() {
        Ok(limit) => info!("up to {limit} open files"),
        Err(error) => warn!("cannot raise the limit on open files above {}: {error}", sys::open_files_limit()),
    }
}

/// The file for the state that must survive a restart.
fn state_file(settings: &Settings) -> Option<StateFile> {
    if settings.state.is_none() {
        info!(
            "there is no folder for --state: last good settings, the etcd API and what is served are forgotten at a restart"
        );
    }
    settings.state.as_deref().map(|folder| StateFile::new(folder, &settings.store))
}

async fn keep_state(
    file: Option<StateFile>,
    sources: Sources,
    (served, cluster): (watch::Receiver<Option<Arc<KeySet>>>, ClusterId),
    around: watch::Sender<Around>,
) {
    if let Some(file) = file {
        let (status, ended) = (sources.status.clone(), sources.ended.clone());
        let snapshots = SnapshotSources { served, status, cluster, ended };
        let snapshot = snapshot_keeper::keep(SnapshotFile::beside(&file), snapshots, around.clone());
        tokio::join!(Box::pin(state_keeper::keep(file, sources, around)), Box::pin(snapshot));
    }
}

fn inputs(settings: &Settings, addresses: &Addresses) -> ControlInputs {
    ControlInputs {
        prefix: settings.store.prefix.as_str().into(),
        own: addresses.all().chain(&addresses.admin).copied().collect(),
        usual_https: settings.usual_https.clone(),
        places: settings.places.clone(),
        probe: sockets::probe,
        local: local::addresses,
        now: SystemTime::now,
        capabilities: settings.engine.capabilities(),
        listeners: Some(most_listeners(settings)),
        defaults: Defaults::new(settings.health_uri.as_deref(), settings.accept_proxy.as_deref()),
        guard: settings.guard,
        standby: None,
        cluster: ClusterId::default(),
    }
}

/// Listening sockets may take a quarter of the descriptors, so that a list of ports leaves enough for connections. The
/// native engine opens one for each worker, HAProxy one for all of its threads.
fn most_listeners(settings: &Settings) -> usize {
    let sockets = match settings.engine {
        Engine::Native => settings.workers.get(),
        Engine::Haproxy => 1,
    };
    usize::try_from(sys::open_files_limit() / 4).unwrap_or(usize::MAX) / sockets
}

async fn show(listener: Option<TcpListener>, pages: Pages, live: LiveInputs, (store, prefix): (Store, String)) {
    let Some(listener) = listener else { return };
    let hub = pages.hub.clone();
    let looking = Box::pin(collect(hub.clone(), live));
    tokio::join!(admin::serve(listener, admin::router(pages)), looking, Box::pin(watch_fleet(hub, store, prefix)));
}

async fn once_served(mut status: watch::Receiver<Status>, ready: impl FnOnce()) {
    if status.wait_for(|status| status.served).await.is_ok() {
        ready();
    }
}

/// The signals that the balancer handles.
struct Signals {
    terminate: Signal,
    user: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            user: signal(SignalKind::user_defined1())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn heed(mut self, phase: watch::Sender<Phase>, status: watch::Sender<Status>, mut reload: Reload) {
        loop {
            let wanted = tokio::select! {
                _ = self.terminate.recv() => Phase::Drain,
                _ = self.user.recv() => Phase::Drain,
                _ = self.interrupt.recv() => interrupted(*phase.borrow()),
                _ = self.hangup.recv() => {
                    if !reload.attended {
                        let ready = notify::is_ready(&status.borrow());
                        if ready { notify::reloading(|| reload.again()) } else { reload.again() }
                        continue;
                    }
                    Phase::Drain
                }
            };
            if *phase.borrow() < wanted {
                match wanted {
                    Phase::Halt => info!("stopping at once"),
                    _ => info!("draining: finishing open requests and connections, then exiting"),
                }
                status.send_modify(|status| status.phase = wanted);
                phase.send_replace(wanted);
            }
        }
    }
}

/// The first interrupt drains; a second one stops at once.
fn interrupted(phase: Phase) -> Phase {
    match phase {
        Phase::Serve => Phase::Drain,
        Phase::Drain | Phase::Halt => Phase::Halt,
    }
}

/// The inputs for reading the settings again.
pub struct Reload {
    /// The command line, which does not change.
    pub given: CommandLine,
    /// The environment, which does not change.
    pub environment: Environment,
    /// The machine.
    pub host: Host,
    /// The settings chosen at start.
    pub chosen: Chosen,
    /// The log; its filter can change.
    pub logging: Logging,
    /// The access log; its files can be opened again.
    pub access: LogQueue,
    /// The filter when none is given.
    pub default_log: &'static str,
    /// Interactive: HUP means that the terminal closed; exit.
    pub attended: bool,
}

impl Reload {
    /// Reads the settings again, and applies those that can change while serving.
    pub(super) fn again(&mut self) {
        self.access.reopen();
        match self.read() {
            Ok(()) => {}
            Err(error) => warn!("read the settings again, and kept the old ones: {error:#}"),
        }
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let chosen = Chosen::gather(&self.given, &self.environment, self.host)?;
        let settings = chosen.settings(&self.environment, self.host)?;
        self.logging.change(settings.log.as_deref().unwrap_or(self.default_log))?;
        let later: Vec<_> = self.chosen.differences(&chosen).into_iter().filter(|name| *name != "log").collect();
        match later.as_slice() {
            [] => info!("read the settings again; nothing needs a restart"),
            some => warn!("read the settings again; restart to apply {}", some.join(", ")),
        }
        Ok(())
    }
}
