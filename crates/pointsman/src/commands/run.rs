//! `pointsman run`: binds, starts the engine and the control side, and stops them in order. Decides nothing in between.
//!
//! ```text
//! names::follow <-> control::run   (host names of instances)
//! store.follow -> control::run -> tables -> native::run (its own threads) -> applied -> control::run
//!                            \-> status -> admin::serve        signals -> phase -> native::run
//! ```

use std::future::pending;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use pointsman_table::{KeySet, Table};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::apis;
pub use super::signals::Reload;
use super::signals::Signals;
use crate::admin::live::{LiveAbout, LiveInputs, collect};
use crate::admin::source::SourceView;
use crate::admin::view::epoch_seconds;
use crate::admin::{self, Figures, Hosts, MetricNames, Pages};
use crate::certs::CertSources;
use crate::control::{self, Around, ControlChannels, ControlInputs, Defaults, PortProbe, Status, Timeline, local};
use crate::fleet::Listens;
use crate::fleet::glance::watch_fleet;
use crate::fleet::keeper::{self, About};
use crate::fleet::release;
use crate::logging::access::{AccessThreads, RequestsView, tell_dropped};
use crate::names::{self, HostNames, Lookup};
use crate::notify;
use crate::settings::{AccessSettings, Chosen, Engine, FLAGS, Group, Settings};
use crate::state::StateFile;
use crate::state::keeper::{self as state_keeper, Sources};
use crate::state::snapshot::SnapshotFile;
use crate::state::snapshot_keeper::{self, SnapshotSources};
use crate::sys;
use crate::takeover::{Before, GiverInputs, HaproxyBefore, Succession};
use crate::tenure::Tenure;
use crate::tickets;
use crate::traces::Traces;
use pointsman_engine::access::LogQueue;
use pointsman_engine::inherited::{Inherited, LendRequest, LendRequests};
use pointsman_engine::live::{DownBefore, Registry};
use pointsman_engine::sockets;
use pointsman_engine::tickets::TicketSecrets;
use pointsman_engine::{Applied, Phase};
use pointsman_haproxy::{self as haproxy, EngineSettings, Former};
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
pub async fn run(
    settings: &Settings,
    reload: Reload,
    takeover: bool,
    ready: impl FnOnce(&Addresses),
) -> anyhow::Result<()> {
    let signals = Signals::new()?;
    warn_of_idle(settings.engine, &reload.chosen);
    tell_usual_store(settings, &reload);
    raise_open_files();
    let about = (settings.state.as_deref(), settings.store.prefix.as_str(), settings.engine.word());
    let mut before = Before::gather(about, &reload.environment, takeover).await?;
    let outcome = Box::pin(start(settings, reload, signals, &mut before, ready)).await;
    if let Err(error) = &outcome {
        before.failed(error).await;
    }
    outcome
}

/// Opens everything and serves, with what was there `before`.
async fn start(
    settings: &Settings,
    mut reload: Reload,
    signals: Signals,
    before: &mut Before,
    ready: impl FnOnce(&Addresses),
) -> anyhow::Result<()> {
    let state = state_file(settings);
    let kept = before.kept(state.as_ref());
    let store = Store::open(&settings.store)?.remembering(kept.api);
    store.make_place()?;
    let workers = settings.workers.get();
    let access = access_log(settings)?;
    reload.access = access.queue().clone();
    let traces = traces(settings)?;
    let bound = Bound::open(settings, access.queue(), &traces, before).await?;
    let listener = match settings.admin {
        Some(address) => Some(admin::bind(address, &before.inherited)?),
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
    let (standby, damage) = before.standby(state.as_ref());
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
        state,
        around: Around { snapshot: damage, ..Around::default() },
        down,
        requests,
        roster: MetricNames::new(settings.metrics_detail),
        settings: settings_of_store,
        api: kept.api,
        succession: Succession::new(settings.state.clone(), before.predecessor.is_some()),
        given: std::mem::take(before),
    };
    let inputs = ControlInputs {
        standby,
        cluster: parts.store.cluster(),
        ..inputs(settings, &addresses, &parts.given.inherited)
    };
    let before = Table::recall(kept.memory, &inputs.limits());
    let outcome = parts.serve((inputs, before), (workers, &addresses), ready).await;
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
async fn serve_with(
    bound: Bound,
    figures: Figures,
    tables: watch::Receiver<Arc<Table>>,
    tickets: watch::Receiver<TicketSecrets>,
    applied: mpsc::Sender<Applied>,
    phase: watch::Receiver<Phase>,
    lend: LendRequests,
) -> anyhow::Result<()> {
    match (bound, figures) {
        (Bound::Native(bound), Figures::Native(registry)) => {
            native::run(*bound, tables, tickets, applied, phase, lend, registry).await
        }
        (Bound::Haproxy(bound), _) => haproxy::run(*bound, tables, tickets, applied, phase, lend).await,
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
    succession: Succession,
    /// What the program before, or the service manager, gave.
    given: Before,
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

    /// The source of the engine's figures, with what is known from before. The native engine needs the registry itself too.
    fn figures(&mut self, workers: usize) -> Figures {
        let health = std::mem::take(&mut self.given.health);
        let figures = match &self.bound {
            Bound::Native(_) => Figures::Native(Arc::new(Registry::resuming(workers, native::FAULTS, health))),
            Bound::Haproxy(bound) => Figures::Haproxy(bound.ledger()),
        };
        figures.registry().iter().for_each(|registry| registry.recall(self.down.clone()));
        self.given.counts.take().into_iter().for_each(|counts| figures.earlier().tell(counts));
        figures
    }

    /// What the state file is written from.
    fn sources(&self, status: &watch::Receiver<Status>, end: &watch::Receiver<bool>, figures: &Figures) -> Sources {
        Sources { status: status.clone(), api: self.store.api(), ended: end.clone(), registry: figures.registry() }
    }

    /// What a program that takes over is given.
    fn giving(
        &self,
        (status, phase, figures): (&watch::Sender<Status>, &watch::Sender<Phase>, &Figures),
        (lend, tickets): (mpsc::Sender<LendRequest>, &watch::Receiver<TicketSecrets>),
        (served, ended): (&watch::Receiver<Option<Arc<KeySet>>>, &watch::Receiver<bool>),
    ) -> anyhow::Result<GiverInputs> {
        let admin = self.listener.as_ref().map(|listener| listener.as_fd().try_clone_to_owned()).transpose()?;
        Ok(GiverInputs {
            prefix: self.settings.prefix.clone(),
            engine: self.about.engine,
            status: status.clone(),
            phase: phase.clone(),
            lend,
            admin,
            inherited: self.given.inherited.clone(),
            figures: figures.clone(),
            tickets: tickets.clone(),
            state: self.state.clone(),
            api: self.store.api(),
            served: served.clone(),
            cluster: self.store.cluster(),
            is_last: self.succession.is_last(),
            handed: self.succession.handed(),
            ended: ended.clone(),
        })
    }

    /// Connects the parts and runs until the engine ends; no other part ends by itself.
    async fn serve(
        mut self,
        (inputs, before): (ControlInputs, Arc<Table>),
        (workers, addresses): (usize, &Addresses),
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
        let (released, control_released) = watch::channel(0);
        let (served, keys) = watch::channel(None);
        let (phase, engine_phase) = watch::channel(Phase::Serve);
        let ((lend, engine_lend), (ended, end)) = (mpsc::channel(1), watch::channel(false));
        let (tickets, engine_tickets) = watch::channel(self.given.tickets.take().unwrap_or_else(tickets::first));
        let (figures, timeline) = (self.figures(workers), Timeline::default());
        let giving = self.giving((&status, &phase, &figures), (lend, &engine_tickets), (&keys, &end))?;
        let sources = self.sources(&admin_status, &end, &figures);
        let tenure = || self.succession.tenure();
        let channels = ControlChannels {
            updates: control_updates,
            condition: control_condition,
            applied: control_applied,
            names: control_names,
            wanted,
            certs: control_certs,
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
        let taking =
            self.succession.follow(self.given.predecessor, admin_status.clone(), phase.clone(), figures.clone());
        let keeping = keeper::keep(&self.store, self.about, status.clone(), figures.clone(), (tenure(), end));
        let keeping_state = keep_state(self.state, sources, (keys, self.store.cluster()), around.clone(), tenure());
        let giving = self.succession.give(giving, around.clone());
        let secrets = (tickets, ends_tls(addresses, engine_tables.clone()));
        let background = async {
            tokio::join!(
                Box::pin(self.store.follow(updates, condition)),
                look_at_store(&self.store, &self.settings, &around, (admin_status.clone(), released), secrets),
                control::run(inputs, channels),
                names::follow(self.lookup, names_wanted, names),
                self.certs.follow(certs, around.clone()),
                tell_dropped(Arc::clone(&pages.requests.log)),
                show((self.listener, tenure()), pages, live, glance),
                taking,
                self.signals.heed(phase, status, self.reload),
                once_served(admin_status.clone(), || ready(addresses)),
                notify::run(admin_status, tenure()),
            );
            pending().await
        };
        let engine = serve_with(self.bound, figures, engine_tables, engine_tickets, applied, engine_phase, engine_lend);
        let keepers = async { tokio::join!(Box::pin(keeping), keeping_state, Box::pin(giving)) };
        tokio::select! {
            result = until_written(Box::pin(engine), ended, keepers) => result.and_then(|()| self.succession.outcome()),
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

/// Everything about the store but its keys: its other API, releases of the guard, and the secrets of tickets.
async fn look_at_store(
    store: &Store,
    settings: &StoreSettings,
    around: &watch::Sender<Around>,
    (status, released): (watch::Receiver<Status>, watch::Sender<u64>),
    (tickets, needed): (watch::Sender<TicketSecrets>, impl Future<Output = ()>),
) {
    tokio::join!(
        apis::watch(store, settings, around),
        apis::remember(settings),
        release::follow(store, &settings.prefix, status, released),
        tickets::keep(store, &settings.prefix, tickets, needed),
    );
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
    tenure: Tenure,
) {
    if let Some(file) = file {
        let (status, ended) = (sources.status.clone(), sources.ended.clone());
        let snapshots = SnapshotSources { served, status, cluster, ended };
        let mut over = sources.ended.clone();
        let snapshot = snapshot_keeper::keep(SnapshotFile::beside(&file), snapshots, around.clone());
        let state = state_keeper::keep(file, sources, around);
        let mut turn = tenure.clone();
        tokio::select! {
            () = turn.begins() => {}
            _ = over.wait_for(|over| *over) => return,
        }
        let both = async {
            tokio::join!(Box::pin(state), Box::pin(snapshot));
        };
        tenure.during(both).await;
    }
}

fn inputs(settings: &Settings, addresses: &Addresses, given: &Inherited) -> ControlInputs {
    ControlInputs {
        prefix: settings.store.prefix.as_str().into(),
        own: addresses.all().chain(&addresses.admin).copied().collect(),
        usual_https: settings.usual_https.clone(),
        places: settings.places.clone(),
        probe: PortProbe::new(sockets::probe, given.clone()),
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

async fn show(
    (listener, tenure): (Option<TcpListener>, Tenure),
    pages: Pages,
    live: LiveInputs,
    (store, prefix): (Store, String),
) {
    let Some(listener) = listener else { return };
    let hub = pages.hub.clone();
    let looking = Box::pin(collect(hub.clone(), live));
    tokio::join!(
        admin::serve(listener, admin::router(pages), tenure),
        looking,
        Box::pin(watch_fleet(hub, store, prefix))
    );
}

async fn once_served(mut status: watch::Receiver<Status>, ready: impl FnOnce()) {
    if status.wait_for(|status| status.served).await.is_ok() {
        ready();
    }
}
