//! Finds a configuration that HAProxy accepts, writes it and has it loaded, by a reload or a start. Never decides when;
//! keeps no table and no running HAProxy: both come with each attempt.
//!
//! ```text
//! desire ─> render ─> write ─> haproxy -c ─> activate ─> reload, or start
//!   ^                              │                        │
//!   └─ hold back offending service ┴────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::{Bind, Problem, ProblemKind, Service, Table};

use super::check::{self, CheckFault, check};
use super::clients;
use super::complaint::Complaint;
use super::desire::desire;
use super::exclude::Excluded;
use super::folder::{Folder, FolderFault, Generation};
use super::frame::STATES;
use super::hold::{Blame, Served};
use super::ledger::Ledger;
use super::model::{Addresses, Desired, Held, Owner};
use super::names::{self, BackendName};
use super::process::{self, Former, Launch, Process, ProcessFault};
use super::program::Program;
use super::render::{self, Rendered, render};
use super::running::Running;
use super::runtime::Runtime;
use super::scrape::Scrape;
use super::shape::Shape;
use super::states;
use super::tickets::TicketKeys;

/// How often an attempt excludes what was refused and asks HAProxy again before it gives up.
const MOST_ROUNDS: usize = 16;

/// What to load.
#[derive(Clone, Debug)]
pub struct Order {
    /// The table.
    pub table: Arc<Table>,
    /// What HAProxy serves now: services that are held back keep this form.
    pub served: Served,
    /// What is held back; the attempt adds to it.
    pub excluded: Excluded,
    /// Addresses of names.
    pub addresses: Addresses,
    /// The keys of session tickets.
    pub tickets: Option<TicketKeys>,
    /// The worker that serves now; `None` at a start.
    pub current: Option<Current>,
}

/// What the next worker takes over from the current one.
#[derive(Clone, Debug)]
pub struct Current {
    /// The ports that it has open.
    pub open: BTreeSet<Bind>,
    /// Its socket.
    pub runtime: Runtime,
    /// Backend name → the spare backend that serves it.
    pub moved: BTreeMap<BackendName, BackendName>,
    /// Asks all workers for their figures a last time before they are replaced.
    pub scrape: Scrape,
}

/// A worker that serves the order.
#[derive(Debug)]
pub struct Loaded {
    /// HAProxy, reloaded or started.
    pub process: Process,
    /// What the worker was started with.
    pub running: Running,
    /// Its shape.
    pub shape: Shape,
    /// Its socket.
    pub runtime: Runtime,
    /// Its process.
    pub pid: u32,
    /// What it serves.
    pub served: Served,
    /// Keys that it cannot honour.
    pub problems: Vec<Problem>,
}

/// Why an attempt failed. What ran before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadFault {
    /// The template fails, for reasons that are among the problems.
    #[error("{}", in_words(.0))]
    Template(Vec<Problem>),
    /// HAProxy refuses the configuration, and no service is to blame.
    #[error("HAProxy refuses its configuration: {}", complaints_in_words(.0))]
    Refused(Vec<(Option<Owner>, Complaint)>),
    /// HAProxy could not check it.
    #[error(transparent)]
    Check(#[from] CheckFault),
    /// Files cannot be written.
    #[error(transparent)]
    Folder(#[from] FolderFault),
    /// HAProxy did not start or did not load it.
    #[error(transparent)]
    Process(ProcessFault),
}

fn in_words(problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.advice.as_ref()).collect::<Vec<_>>().join("; ")
}

/// HAProxy's words, but for those about the keys of a service or a certificate: they may quote a secret, and are in the
/// problem of that key, without it.
fn complaints_in_words(complaints: &[(Option<Owner>, Complaint)]) -> String {
    let words = |(owner, complaint): &(Option<Owner>, Complaint)| match owner {
        Some(Owner::Service(protocol, name, key)) => {
            format!("{protocol}/{name}/{key}").trim_end_matches('/').to_owned()
        }
        Some(Owner::Cert(name)) => format!("certs/{name}"),
        Some(Owner::Bind(_) | Owner::Setting(_)) | None => complaint.words.clone(),
    };
    complaints.iter().map(words).collect::<Vec<_>>().join("; ")
}

impl ReloadFault {
    /// The problems, under the settings that are to blame.
    pub fn problems(&self, table: &Table) -> Vec<Problem> {
        let whole = || {
            table.tree_problem(ProblemKind::Engine, "", format!("{self}; the previous configuration stays in force"))
        };
        let Self::Refused(complaints) = self else {
            return match self {
                Self::Template(problems) => problems.clone(),
                _ => vec![whole()],
            };
        };
        let setting = |(owner, complaint): &(Option<Owner>, Complaint)| match owner {
            Some(Owner::Setting(name)) => {
                let advice =
                    format!("HAProxy refuses it: {}; the previous configuration stays in force", complaint.words);
                Some(Problem::of_setting(ProblemKind::Engine, name, advice))
            }
            _ => None,
        };
        let settings: Vec<_> = complaints.iter().filter_map(setting).collect();
        if settings.is_empty() { vec![whole()] } else { settings }
    }
}

/// What every attempt needs: the program, its files and its listening sockets.
#[derive(Debug)]
pub struct Reloader {
    /// The program.
    pub program: Arc<Program>,
    /// Its folder.
    pub folder: Folder,
    /// The sockets that it inherits.
    pub sockets: Arc<[TcpListener]>,
    /// What does not depend on the keys; each generation has its own folder and socket.
    pub shape: Shape,
    /// The last generation that served: the one to start again.
    pub current: Option<Generation>,
    /// Where figures go.
    pub ledger: Arc<Ledger>,
    /// How long a HAProxy that is replaced as a whole may finish its work.
    pub grace: Duration,
    /// The HAProxy of the program before, until ours serves.
    pub former: Option<Former>,
}

/// A configuration, written out.
struct WrittenConfig {
    generation: Generation,
    shape: Shape,
    desired: Desired,
    rendered: Rendered,
    held: Held,
    problems: Vec<Problem>,
}

impl Reloader {
    /// One that has loaded nothing yet.
    pub fn new(
        (program, folder): (Program, Folder),
        sockets: Arc<[TcpListener]>,
        shape: Shape,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            program: Arc::new(program),
            folder,
            sockets,
            shape,
            current: None,
            ledger,
            grace: Duration::ZERO,
            former: None,
        }
    }

    /// What HAProxy, and this engine, refuse of a table. Loads nothing and opens no port.
    ///
    /// # Errors
    /// HAProxy could not be asked.
    pub async fn examine(&mut self, table: &Arc<Table>) -> Result<Vec<Problem>, ReloadFault> {
        let mut order = Order {
            table: table.clone(),
            served: Served::nothing(),
            excluded: Excluded::default(),
            addresses: Addresses::new(),
            tickets: None,
            current: None,
        };
        match self.acceptable(&mut order).await {
            Ok(unsupported) => {
                Ok(order.excluded.problems(table).chain(unsupported).collect::<BTreeSet<_>>().into_iter().collect())
            }
            Err(fault @ (ReloadFault::Template(_) | ReloadFault::Refused(_))) => {
                Ok(order.excluded.problems(table).chain(fault.problems(table)).collect())
            }
            Err(fault) => Err(fault),
        }
    }

    /// Holds back what HAProxy refuses until it accepts the rest. Returns the keys that it cannot honour.
    async fn acceptable(&mut self, order: &mut Order) -> Result<Vec<Problem>, ReloadFault> {
        for _ in 0..MOST_ROUNDS {
            let Some(candidate) = self.candidate(order)? else { continue };
            let complaints = self.check(&candidate).await?;
            if complaints.is_empty() {
                return Ok(candidate.problems);
            }
            blame(order, &candidate, complaints)?;
        }
        Err(ReloadFault::Refused(Vec::new()))
    }

    /// Finds a configuration that HAProxy accepts and loads it into `process`, or starts HAProxy. What is refused on
    /// the way is held back in `order`. `process` is taken on success, and after a fault holds what still runs.
    ///
    /// # Errors
    /// See [`ReloadFault`]. What ran before stays in force.
    pub async fn attempt(&mut self, process: &mut Option<Process>, order: &mut Order) -> Result<Loaded, ReloadFault> {
        for _ in 0..MOST_ROUNDS {
            let mut open = order.current.as_ref().map(|current| current.open.clone()).unwrap_or_default();
            open.extend(self.former.iter().flat_map(|former| &former.open).map(bind));
            order.excluded.probe(&order.table, &open);
            let Some(candidate) = self.candidate(order)? else { continue };
            let mut complaints = self.check(&candidate).await?;
            if complaints.is_empty() {
                match self.load(process, &candidate, order).await {
                    Ok((process, pid)) => return Ok(loaded(candidate, order, process, pid)),
                    Err(ProcessFault::Refused(refused)) => complaints = refused,
                    Err(fault) => return Err(ReloadFault::Process(fault)),
                }
            }
            blame(order, &candidate, complaints)?;
        }
        Err(ReloadFault::Refused(Vec::new()))
    }

    /// The next candidate, written out; `None` if more had to be held back, so that it must be made again.
    fn candidate(&mut self, order: &mut Order) -> Result<Option<WrittenConfig>, ReloadFault> {
        let held = order.excluded.held(&order.table, &order.served);
        let generation = self.folder.next_generation();
        let shape = Shape {
            folder: generation.folder.clone(),
            socket: Some(generation.socket.clone()),
            tickets: order.tickets.clone(),
            ..self.shape.clone()
        };
        let (desired, problems) = desire(&order.table, &held, &order.addresses, &shape);
        if order.excluded.refusals.confine(&order.table, &order.served, &problems) {
            return Ok(None);
        }
        if desired.frame.is_empty() {
            return Err(ReloadFault::Template(problems));
        }
        let rendered = render(&desired, &shape);
        let config = [(super::folder::CONFIG, rendered.config.as_bytes(), true)];
        let files = rendered.files.iter().map(|file| (&*file.name, &*file.bytes, file.secret));
        self.sweep();
        self.folder.write(&generation, config.into_iter().chain(files))?;
        Ok(Some(WrittenConfig { generation, shape, desired, rendered, held, problems }))
    }

    async fn check(&self, candidate: &WrittenConfig) -> Result<Vec<Complaint>, ReloadFault> {
        Ok(check(&self.program, &candidate.generation.config(), &self.sockets, check::DEADLINE).await?)
    }

    /// Loads an accepted configuration. Returns HAProxy and the worker's process.
    async fn load(
        &mut self,
        process: &mut Option<Process>,
        candidate: &WrittenConfig,
        order: &Order,
    ) -> Result<(Process, u32), ProcessFault> {
        keep_states(candidate, (order.current.as_ref(), self.former.as_ref())).await;
        if let Some(current) = &order.current {
            current.scrape.run(&self.ledger).await;
        }
        self.folder.activate(&candidate.generation).map_err(cannot_start)?;
        let loaded = self.reload_or_start(process, &Runtime::new(&candidate.generation.socket)).await;
        match (&loaded, &self.current) {
            (Ok(_), _) => {
                self.current = Some(candidate.generation.clone());
                self.former = None;
            }
            // A HAProxy that is started again later must find the files that worked.
            (Err(_), Some(current)) => self.folder.activate(current).map_err(cannot_start)?,
            (Err(_), None) => {}
        }
        self.sweep();
        loaded
    }

    async fn reload_or_start(
        &mut self,
        process: &mut Option<Process>,
        runtime: &Runtime,
    ) -> Result<(Process, u32), ProcessFault> {
        let worn = match process.take() {
            Some(intact) if intact.is_intact() => return reload(intact, process, runtime).await,
            worn => worn,
        };
        match self.start(runtime).await {
            Ok(started) => {
                // Both listen meanwhile, so that no client is turned away.
                worn.into_iter().for_each(|worn| drop(tokio::spawn(worn.stop(self.grace))));
                Ok(started)
            }
            Err(fault) => {
                *process = worn;
                Err(fault)
            }
        }
    }

    async fn start(&mut self, runtime: &Runtime) -> Result<(Process, u32), ProcessFault> {
        let (master, pid_file) = self.folder.master();
        let launch = Launch {
            program: &self.program,
            config: &self.folder.config(),
            master: &master,
            pid_file: &pid_file,
            sockets: &self.sockets,
            former: self.former.as_ref().map(|former| &*former.runtime),
        };
        let mut process = Process::start(&launch)?;
        match process.ready(runtime, process::DEADLINE).await {
            Ok(info) => Ok((process, info.pid)),
            Err(fault) => {
                process.kill().await;
                Err(fault)
            }
        }
    }

    /// Removes the files of all generations but the one that serves.
    fn sweep(&self) {
        self.folder.sweep(&self.current.iter().map(|current| current.number).collect::<Vec<_>>());
    }
}

/// Reloads HAProxy; if that fails and it still runs, it stays in `kept`.
async fn reload(
    mut process: Process,
    kept: &mut Option<Process>,
    runtime: &Runtime,
) -> Result<(Process, u32), ProcessFault> {
    match process.reload(runtime, process::DEADLINE).await {
        Ok(info) => Ok((process, info.pid)),
        Err(fault) => {
            *kept = Some(process).filter(|_| !matches!(fault, ProcessFault::Died { .. }));
            Err(fault)
        }
    }
}

/// Finds the services that the complaints are about and holds them back.
fn blame(order: &mut Order, candidate: &WrittenConfig, complaints: Vec<Complaint>) -> Result<(), ReloadFault> {
    let owned: Vec<_> = complaints.into_iter().map(|told| (owner(&candidate.rendered, &told, order), told)).collect();
    let blame = |(owner, told): &(Option<Owner>, Complaint)| {
        Some(Blame { owner: owner.clone()?, words: told.words.as_str().into() })
    };
    let blames: Vec<_> = owned.iter().filter_map(blame).collect();
    let new = order.excluded.refusals.blame(&order.table, &order.served, &blames);
    if new { Ok(()) } else { Err(ReloadFault::Refused(owned)) }
}

fn loaded(candidate: WrittenConfig, order: &Order, process: Process, pid: u32) -> Loaded {
    let WrittenConfig { generation, shape, desired, held, problems, .. } = candidate;
    let spares = (1..=shape.spares).map(|number| render::spare_name(number).into()).collect();
    let spares = if desired.has_backends() { spares } else { Vec::new() };
    Loaded {
        process,
        running: Running::rendered(&desired, spares, &render::spare()),
        shape,
        runtime: Runtime::new(generation.socket),
        pid,
        served: Served { table: order.table.clone(), held },
        problems,
    }
}

fn bind(address: &SocketAddr) -> Bind {
    Bind { address: address.ip(), port: address.port() }
}

fn cannot_start(fault: FolderFault) -> ProcessFault {
    ProcessFault::CannotStart(std::io::Error::other(fault))
}

/// The owner of what a complaint is about: by its line, the certificate or the proxy that it names.
fn owner(rendered: &Rendered, told: &Complaint, order: &Order) -> Option<Owner> {
    if let Some(owner) = told.line.and_then(|line| rendered.owner(line)) {
        return Some(owner.clone());
    }
    if let Some(name) = order.table.certs().keys().find(|name| told.words.contains(&names::cert_file(name))) {
        return Some(Owner::Cert(name.into()));
    }
    let names_authorities =
        |service: &&Arc<Service>| service.client_auth().is_some_and(|auth| told.words.contains(&*clients::file(auth)));
    if let Some(service) = order.table.services().iter().find(names_authorities) {
        return Some(Owner::Service(service.protocol, service.name.clone(), "client_ca"));
    }
    let (protocol, name) = names::service_of(told.proxy.as_deref()?)?;
    let service = order.table.service(protocol, &name)?;
    Some(Owner::Service(protocol, service.name.clone(), ""))
}

/// Hands the health of servers to the next worker. Without it that starts with every server up, as at the first start.
async fn keep_states(candidate: &WrittenConfig, (current, former): (Option<&Current>, Option<&Former>)) {
    let path = candidate.generation.folder.join(STATES);
    let states = match (current, former) {
        (Some(current), _) => {
            let shown = current.runtime.ask_one("show servers state").await;
            shown
                .map(|shown| states::carry(&shown, &candidate.desired, &current.moved))
                .map_err(|fault| fault.to_string())
        }
        (None, Some(former)) => {
            let shown = Runtime::new(&former.runtime).ask_one("show servers state").await;
            shown
                .map(|shown| states::carry(&shown, &candidate.desired, &BTreeMap::new()))
                .map_err(|fault| fault.to_string())
        }
        (None, None) => Ok(states::carry("", &candidate.desired, &BTreeMap::new())),
    };
    let kept = states.and_then(|states| std::fs::write(&path, states).map_err(|error| error.to_string()));
    if let Err(error) = kept {
        tracing::warn!("the health of servers is lost at this reload: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_whole_quotes_no_certificate() {
        let complaint = |words: &str| Complaint { line: None, proxy: None, bind: None, words: words.to_owned() };
        let fault = ReloadFault::Refused(vec![
            (Some(Owner::Cert("a".into())), complaint("hunter2")),
            (None, complaint("out of memory")),
        ]);
        let expected = "HAProxy refuses its configuration: certs/a; out of memory";
        assert_eq!(fault.to_string(), expected);
    }
}
