//! `pointsman run`: binds, starts the engine and the control side, and stops them in order. Decides nothing in between.
//!
//! ```text
//! names::follow <-> control::run   (host names of instances)
//! store.follow -> control::run -> tables -> native::run (its own threads) -> applied -> control::run
//!                            \-> status -> admin::serve        signals -> phase -> native::run
//! ```

mod bound;
mod words;

use std::future::pending;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pointsman_table::{KeySet, Table};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

pub use bound::Addresses;
use bound::{Bound, Opened, access_log, serve_with, traces};
pub(in crate::commands) use words::idle;
use words::{about, announce, raise_open_files, tell_usual_store};

use super::apis;
pub use super::signals::Reload;
use super::signals::Signals;
use crate::acme;
use crate::admin::live::{LiveAbout, LiveInputs, collect};
use crate::admin::source::SourceView;
use crate::admin::view::epoch_seconds;
use crate::admin::{self, Figures, Hosts, MetricNames, Pages};
use crate::certs::CertSources;
use crate::control::{
    self, Around, ChangeNote, ControlChannels, ControlInputs, Defaults, PortProbe, Recorder, Status, Timeline, local,
};
use crate::fleet::glance::watch_fleet;
use crate::fleet::keeper::{self, About};
use crate::fleet::release;
use crate::logging::LostLines;
use crate::logging::access::{RequestsView, tell_dropped};
use crate::names::{self, HostNames, Lookup};
use crate::notify;
use crate::settings::{AcmeSettings, Engine, Settings};
use crate::state::StateFile;
use crate::state::journal::JournalFile;
use crate::state::journal_keeper;
use crate::state::keeper::{self as state_keeper, Sources};
use crate::state::snapshot::SnapshotFile;
use crate::state::snapshot_keeper::{self, SnapshotSources};
use crate::state::turn;
use crate::stats::{self, KeyEdits, Stats, StatsListener};
use crate::sys;
use crate::takeover::{Before, GiverInputs, Succession};
use crate::tenure::Tenure;
use crate::tickets;
use pointsman_engine::cert_wishes::{self, CertWish, CertWishes};
use pointsman_engine::inherited::{Inherited, LendRequest};
use pointsman_engine::live::{DownBefore, Registry};
use pointsman_engine::sockets;
use pointsman_engine::tickets::TicketSecrets;
use pointsman_engine::{Applied, Phase};
use pointsman_native as native;
use pointsman_store::{Api, ClusterId, Condition, Store, StoreSettings};

/// Most updates from the store that may queue for the control loop.
const UPDATES: usize = 1024;
/// Most answers from the engine that may queue for the control loop.
const APPLIED: usize = 64;
/// How long the end of the program waits for the access log to be written.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How long it then waits for the last spans to be sent.
const LAST_SPANS: Duration = Duration::from_secs(2);

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
    idle(settings.engine, &reload.chosen).iter().for_each(|line| warn!("{line}"));
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
    let (standby, damage) = before.standby(state.as_ref());
    // A folder that had keys and is missing is not mounted, or was moved: it must not look like an empty one.
    if standby.is_some() {
        store.check_place()?
    } else {
        store.make_place()?
    }
    let workers = settings.workers.get();
    let access = access_log(settings)?;
    reload.access = access.queue().clone();
    let traces = traces(settings)?;
    let edits = KeyEdits::new(Store::open(&settings.store)?.remembering(kept.api), settings.store.prefix.clone());
    let opened = Opened::open(settings, access.queue(), &traces, before, edits).await?;
    let Opened { bound, admin: listener, socket, addresses } = opened;
    announce(&addresses);
    let about = about(settings, &addresses);
    let down = kept.down_before(epoch_seconds());
    let acme = (settings.acme.clone(), about.name.clone(), Lookup::new(&settings.resolvers));
    let requests = access.view(Arc::clone(&traces.counts), traces.exemplars.clone());
    let told = (requests, MetricNames::new(settings.metrics_detail), reload.logging.lost());
    let sending = traces.start(&about.name);
    let (recorder, changes) = journal_keeper::channel(state.is_some());
    let parts = Parts {
        store,
        bound,
        listener,
        socket,
        hosts: Hosts::new(&settings.admin_hosts),
        signals,
        reload,
        about,
        lookup: Lookup::new(&settings.resolvers),
        certs: CertSources::new(settings),
        acme,
        state,
        around: Around { snapshot: damage, ..Around::default() },
        down,
        told,
        settings: settings.store.clone(),
        api: kept.api,
        changes,
        succession: Succession::new(settings.state.clone(), before.predecessor.is_some()),
        given: std::mem::take(before),
    };
    let inputs = ControlInputs {
        standby,
        recorder,
        cluster: parts.store.cluster(),
        ..inputs(settings, &addresses, &parts.given.inherited)
    };
    let before = Table::recall(kept.memory, &inputs.limits());
    let outcome = parts.serve((inputs, before), (workers, &addresses), ready).await;
    access.finish(LAST_LINES);
    sending.finish(LAST_SPANS).await;
    outcome
}

/// The opened parts, not yet connected.
struct Parts {
    store: Store,
    bound: Bound,
    listener: Option<TcpListener>,
    socket: Option<StatsListener>,
    hosts: Hosts,
    signals: Signals,
    reload: Reload,
    about: About,
    lookup: Lookup,
    certs: CertSources,
    /// How certificates are asked for, by whom, and how names are looked up before.
    acme: (AcmeSettings, String, Lookup),
    state: Option<StateFile>,
    /// Problems found before the start.
    around: Around,
    /// The instances that active checks found down just before.
    down: DownBefore,
    /// What the admin pages tell besides.
    told: (RequestsView, MetricNames, LostLines),
    settings: StoreSettings,
    /// The API of etcd that was chosen before.
    api: Option<Api>,
    /// What changed, for the keeper of the journal.
    changes: mpsc::Receiver<ChangeNote>,
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
        let ((tables, engine_tables), (served, keys)) = (watch::channel(before), watch::channel(None));
        let (applied, (control_applied, acme_wishes)) = told_by_engine();
        let ((lend, engine_lend), (updates, control_updates)) = (mpsc::channel(1), mpsc::channel(UPDATES));
        let (condition, control_condition) = watch::channel(Condition::Connecting { error: None });
        let (status, admin_status) = watch::channel(Status::new());
        let ((wanted, names_wanted), (names, control_names)) =
            (watch::channel(HostNames::default()), watch::channel(Arc::default()));
        let (certs, control_certs) = watch::channel(self.certs.first());
        let (around, control_around) = watch::channel(std::mem::take(&mut self.around));
        let ((issued, control_issued), (released, control_released)) = (watch::channel(None), watch::channel(0));
        let ((phase, engine_phase), (ended, end)) = (watch::channel(Phase::Serve), watch::channel(false));
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
            issued: control_issued,
            around: control_around,
            released: control_released,
            ended: end.clone(),
            served,
            tables,
            status: status.clone(),
            timeline: timeline.clone(),
        };
        let (live, glance) = self.looking(&admin_status, &figures, &timeline)?;
        let pages = pages(&live, (workers, addresses), (self.hosts, self.told), self.about.name.clone());
        let heard = (admin_status.clone(), tenure());
        let taking =
            self.succession.follow(self.given.predecessor, admin_status.clone(), phase.clone(), figures.clone());
        let keeping = keeper::keep(&self.store, self.about, status.clone(), figures.clone(), (tenure(), end));
        let kept = (keys, self.store.cluster(), self.changes);
        let keeping_state = keep_state(self.state, sources, kept, around.clone(), tenure());
        let giving = self.succession.give(giving, around.clone());
        let secrets = (tickets, ends_tls(addresses, engine_tables.clone()));
        let background = async {
            tokio::join!(
                Box::pin(self.store.follow(updates, condition)),
                look_at_store(&self.store, &self.settings, &around, (admin_status.clone(), released), secrets),
                control::run(inputs, channels),
                names::follow(self.lookup, names_wanted, names),
                self.certs.follow(certs, around.clone()),
                acme::keep((&self.store, &self.settings), self.acme, heard, (issued, around.clone()), acme_wishes),
                show((self.listener, self.socket, tenure()), pages, live, glance),
                taking,
                self.signals.heed(phase, status, self.reload),
                announce_service(admin_status, tenure(), || ready(addresses)),
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

/// What an engine tells: tables that it serves, and names that handshakes want certificates for.
type ToldByEngine = (mpsc::Receiver<Applied>, mpsc::Receiver<CertWish>);

/// The ways of what an engine tells.
fn told_by_engine() -> ((mpsc::Sender<Applied>, CertWishes), ToldByEngine) {
    let ((applied, control_applied), (wishes, acme_wishes)) = (mpsc::channel(APPLIED), cert_wishes::queue());
    ((applied, wishes), (control_applied, acme_wishes))
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
        apis::keep(store, settings, around),
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
    (served, cluster, changes): (watch::Receiver<Option<Arc<KeySet>>>, ClusterId, mpsc::Receiver<ChangeNote>),
    around: watch::Sender<Around>,
    tenure: Tenure,
) {
    if let Some(file) = file {
        let (status, ended) = (sources.status.clone(), sources.ended.clone());
        let snapshots = SnapshotSources { served, status, cluster, ended };
        let mut over = sources.ended.clone();
        let (mut tenancy, mut last) = (tenure.clone(), (tenure.clone(), over.clone()));
        let begins = async {
            tenancy.begins().await;
            turn::turn(file).await
        };
        let file = tokio::select! {
            file = begins => file,
            _ = over.wait_for(|over| *over) => return,
        };
        let snapshot = snapshot_keeper::keep(SnapshotFile::beside(&file), snapshots, around.clone());
        let (stop, stopped) = watch::channel(false);
        let journal = journal_keeper::keep(JournalFile::beside(&file), changes, stopped, around.clone());
        let state = state_keeper::keep(file, sources, around);
        let both = async {
            tokio::join!(Box::pin(state), Box::pin(snapshot));
        };
        // What is not yet written of the journal is known to this program only.
        let stopping = async {
            tokio::select! {
                _ = last.0.ends() => {}
                _ = last.1.wait_for(|over| *over) => {}
            }
            stop.send_replace(true);
        };
        tokio::join!(tenure.during(both), Box::pin(journal), stopping);
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
        recorder: Recorder::default(),
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

/// The admin pages, and HAProxy's.
fn pages(
    live: &LiveInputs,
    (workers, addresses): (usize, &Addresses),
    (hosts, told): (Hosts, (RequestsView, MetricNames, LostLines)),
    name: String,
) -> (Pages, Stats) {
    let pages = Pages::new(live, addresses.all().copied().collect(), hosts, told);
    let stats = Stats::new(&pages, name, workers, [addresses.http.len(), addresses.https.len()]);
    (pages, stats)
}

async fn show(
    (listener, socket, tenure): (Option<TcpListener>, Option<StatsListener>, Tenure),
    (pages, stats): (Pages, Stats),
    live: LiveInputs,
    (store, prefix): (Store, String),
) {
    let lines = tell_dropped(Arc::clone(&pages.requests.log));
    let socket = stats::serve(socket, stats.clone(), tenure.clone());
    let tools = async { tokio::join!(socket, lines) };
    let Some(listener) = listener else {
        tools.await;
        return;
    };
    let (hub, router) = (pages.hub.clone(), admin::router(pages, stats::router(stats)));
    let looking = Box::pin(collect(hub.clone(), live));
    tokio::join!(admin::serve(listener, router, tenure), looking, Box::pin(watch_fleet(hub, store, prefix)), tools);
}

/// Tells whoever waits for it that the first table is in use.
async fn announce_service(status: watch::Receiver<Status>, tenure: Tenure, ready: impl FnOnce()) {
    let mut served = status.clone();
    let once_served = async {
        if served.wait_for(|status| status.served).await.is_ok() {
            ready();
        }
    };
    tokio::join!(once_served, notify::run(status, tenure));
}
