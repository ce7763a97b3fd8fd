//! The HAProxy at work and everything it takes to replace what it runs: a configuration that it accepts is found, written,
//! moved in and loaded. Knows nothing of pace, and keeps no table.
//!
//! ```text
//! desire ─> render ─> write ─> haproxy -c ─> move in ─> reload, or start
//!   ^                              │                        │
//!   └── hold back who is to blame ─┴────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::{Bind, Problem, ProblemKind, Table};

use super::census::Census;
use super::check::{self, CheckFault, check};
use super::complaint::Complaint;
use super::desire::desire;
use super::folder::{Folder, FolderFault, Generation};
use super::frame::STATES;
use super::hold::{Blame, Refusals, Served};
use super::ledger::Ledger;
use super::master::Master;
use super::model::{Addresses, Desired, Held, Owner};
use super::names::{self, BackendName};
use super::ports::Closed;
use super::process::{self, Launch, Process, ProcessFault};
use super::program::Program;
use super::render::{self, Rendered, render};
use super::running::Running;
use super::runtime::Runtime;
use super::shape::Shape;
use super::states;

/// How often services are held back and HAProxy asked again before giving up.
const MOST_ROUNDS: usize = 16;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Order {
    /// The table.
    pub table: Arc<Table>,
    /// What HAProxy serves now: what is held back serves on in that form.
    pub served: Served,
    /// What is known to be refused.
    pub refusals: Refusals,
    /// Addresses of names.
    pub addresses: Addresses,
    /// Ports that the worker has already.
    pub open: BTreeSet<Bind>,
    /// The socket of the worker that is to be replaced.
    pub old: Option<Runtime>,
    /// Services that live in spare backends of that worker, by the names of their own.
    pub moved: BTreeMap<BackendName, BackendName>,
    /// All workers, to be asked a last time before they are replaced.
    pub census: Option<Census>,
}

/// What runs now.
#[derive(Debug)]
pub struct Fresh {
    /// What the new worker was started with.
    pub running: Running,
    /// Its shape.
    pub shape: Shape,
    /// Its socket.
    pub runtime: Runtime,
    /// Its process.
    pub pid: u32,
    /// Where its master takes commands.
    pub master: Master,
    /// What it serves.
    pub served: Served,
    /// What of the keys it does not.
    pub problems: Vec<Problem>,
}

/// Why what ran before runs on.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Nothing can be made of the keys, for reasons that are among the problems.
    #[error("{}", in_words(.0))]
    Template(Vec<Problem>),
    /// HAProxy refuses it, and none of the keys is to blame.
    #[error("HAProxy refuses its configuration: {}", complaints_in_words(.0))]
    Refused(Vec<(Option<Owner>, Complaint)>),
    /// HAProxy cannot be asked.
    #[error(transparent)]
    Check(#[from] CheckFault),
    /// Files cannot be written.
    #[error(transparent)]
    Folder(#[from] FolderFault),
    /// HAProxy does not start or does not take it.
    #[error(transparent)]
    Process(ProcessFault),
}

fn in_words(problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.advice.as_ref()).collect::<Vec<_>>().join("; ")
}

fn complaints_in_words(complaints: &[(Option<Owner>, Complaint)]) -> String {
    complaints.iter().map(|(_, complaint)| complaint.words.as_str()).collect::<Vec<_>>().join("; ")
}

impl Trouble {
    /// As problems, under the settings that are to blame.
    pub fn problems(&self, table: &Table) -> Vec<Problem> {
        let whole = || table.tree_problem(ProblemKind::Engine, "", format!("{self}; what ran before runs on"));
        let Self::Refused(complaints) = self else {
            return match self {
                Self::Template(problems) => problems.clone(),
                _ => vec![whole()],
            };
        };
        let setting = |(owner, complaint): &(Option<Owner>, Complaint)| match owner {
            Some(Owner::Setting(name)) => {
                let advice = format!("HAProxy refuses it: {}; what ran before runs on", complaint.words);
                Some(Problem::of_setting(ProblemKind::Engine, name, advice))
            }
            _ => None,
        };
        let settings: Vec<_> = complaints.iter().filter_map(setting).collect();
        if settings.is_empty() { vec![whole()] } else { settings }
    }
}

/// HAProxy, its files and its listening sockets.
#[derive(Debug)]
pub struct Plant {
    /// The program.
    pub program: Arc<Program>,
    /// Its folder.
    pub folder: Folder,
    /// The sockets that it inherits.
    pub sockets: Arc<[TcpListener]>,
    /// What does not depend on the keys; folder and socket are those of each generation.
    pub shape: Shape,
    /// HAProxy, while it runs.
    pub process: Option<Process>,
    /// The generation that serves.
    pub current: Option<Generation>,
    /// Where everything is counted.
    pub ledger: Arc<Ledger>,
    /// For how long work that is on its way may go on when a whole HAProxy is replaced.
    pub grace: Duration,
}

/// A configuration that HAProxy says it accepts.
struct Candidate {
    generation: Generation,
    shape: Shape,
    desired: Desired,
    rendered: Rendered,
    held: Held,
    problems: Vec<Problem>,
}

impl Plant {
    /// Finds a configuration that HAProxy accepts, and has it run. What is refused on the way is held back, in `order`;
    /// so are ports that cannot be opened, in `closed`.
    ///
    /// # Errors
    /// See [`Trouble`]. What ran before runs on.
    pub async fn renew(&mut self, order: &mut Order, closed: &mut Closed) -> Result<Fresh, Trouble> {
        for _ in 0..MOST_ROUNDS {
            *closed = Closed::probe(&order.table, &order.open);
            let Some(candidate) = self.candidate(order, closed)? else { continue };
            let complaints = self.judge(&candidate).await?;
            if complaints.is_empty() {
                match self.load(&candidate, order).await {
                    Ok((pid, master)) => return Ok(taken(candidate, order, pid, master)),
                    Err(ProcessFault::Refused(complaints)) => self.blame(order, &candidate, complaints)?,
                    Err(fault) => return Err(Trouble::Process(fault)),
                }
            } else {
                self.blame(order, &candidate, complaints)?;
            }
        }
        Err(Trouble::Refused(Vec::new()))
    }

    /// The next candidate, written out; `None` if more had to be held back, so that it must be made again.
    fn candidate(&mut self, order: &mut Order, closed: &Closed) -> Result<Option<Candidate>, Trouble> {
        let mut held = order.refusals.held(&order.table);
        closed.hold(&order.table, &order.served, &mut held);
        let generation = self.folder.next_generation();
        let shape =
            Shape { folder: generation.folder.clone(), socket: Some(generation.socket.clone()), ..self.shape.clone() };
        let (desired, problems) = desire(&order.table, &held, &order.addresses, &shape);
        if order.refusals.confine(&order.table, &order.served, &problems) {
            return Ok(None);
        }
        if desired.frame.is_empty() {
            return Err(Trouble::Template(problems));
        }
        let rendered = render(&desired, &shape);
        let config = [(super::folder::CONFIG, rendered.config.as_bytes(), true)];
        let files = rendered.files.iter().map(|file| (&*file.name, &*file.bytes, file.secret));
        self.sweep();
        self.folder.write(&generation, config.into_iter().chain(files))?;
        Ok(Some(Candidate { generation, shape, desired, rendered, held, problems }))
    }

    async fn judge(&self, candidate: &Candidate) -> Result<Vec<Complaint>, Trouble> {
        Ok(check(&self.program, &candidate.generation.config(), &self.sockets, check::DEADLINE).await?)
    }

    /// Has a configuration run, by a reload or by starting another HAProxy.
    async fn load(&mut self, candidate: &Candidate, order: &Order) -> Result<(u32, Master), ProcessFault> {
        keep_states(candidate, order).await;
        if let Some(census) = &order.census {
            census.take(&self.ledger).await;
        }
        self.folder.activate(&candidate.generation).map_err(cannot_start)?;
        let loaded = self.reload_or_start(&Runtime::new(&candidate.generation.socket)).await;
        match (&loaded, &self.current) {
            (Ok(_), _) => self.current = Some(candidate.generation.clone()),
            // A HAProxy that is started again later must find what worked.
            (Err(_), Some(current)) => self.folder.activate(current).map_err(cannot_start)?,
            (Err(_), None) => {}
        }
        self.sweep();
        loaded
    }

    /// The worker's process, and where its master takes commands.
    async fn reload_or_start(&mut self, runtime: &Runtime) -> Result<(u32, Master), ProcessFault> {
        match self.process.take() {
            Some(process) if process.is_intact() => self.reload(process, runtime).await,
            worn => {
                let started = self.start(runtime).await;
                match started {
                    Ok((process, pid)) => {
                        // Both listen meanwhile, so that nobody is turned away.
                        worn.into_iter().for_each(|worn| drop(tokio::spawn(worn.stop(self.grace))));
                        let master = process.master().clone();
                        self.process = Some(process);
                        Ok((pid, master))
                    }
                    Err(fault) => {
                        self.process = worn;
                        Err(fault)
                    }
                }
            }
        }
    }

    async fn reload(&mut self, mut process: Process, runtime: &Runtime) -> Result<(u32, Master), ProcessFault> {
        let verdict = process.reload(runtime, process::DEADLINE).await;
        let master = process.master().clone();
        if !matches!(verdict, Err(ProcessFault::Died { .. })) {
            self.process = Some(process);
        }
        Ok((verdict?.pid, master))
    }

    async fn start(&mut self, runtime: &Runtime) -> Result<(Process, u32), ProcessFault> {
        let (master, pid_file) = self.folder.master();
        let launch = Launch {
            program: &self.program,
            config: &self.folder.config(),
            master: &master,
            pid_file: &pid_file,
            sockets: &self.sockets,
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

    /// Finds out who is to blame and holds them back.
    fn blame(&self, order: &mut Order, candidate: &Candidate, complaints: Vec<Complaint>) -> Result<(), Trouble> {
        let owned: Vec<_> =
            complaints.into_iter().map(|told| (owner(&candidate.rendered, &told, order), told)).collect();
        let blame = |(owner, told): &(Option<Owner>, Complaint)| {
            Some(Blame { owner: owner.clone()?, words: told.words.as_str().into() })
        };
        let blames: Vec<_> = owned.iter().filter_map(blame).collect();
        if order.refusals.blame(&order.table, &order.served, &blames) { Ok(()) } else { Err(Trouble::Refused(owned)) }
    }

    /// Removes the files of all generations but the one that serves.
    fn sweep(&self) {
        self.folder.sweep(&self.current.iter().map(|current| current.number).collect::<Vec<_>>());
    }
}

fn taken(candidate: Candidate, order: &Order, pid: u32, master: Master) -> Fresh {
    let Candidate { generation, shape, desired, held, problems, .. } = candidate;
    let spares = (1..=shape.spares).map(|number| render::spare_name(number).into()).collect();
    let spares = if desired.has_backends() { spares } else { Vec::new() };
    Fresh {
        running: Running::rendered(&desired, spares, &render::spare()),
        shape,
        runtime: Runtime::new(generation.socket),
        pid,
        master,
        served: Served { table: order.table.clone(), held },
        problems,
    }
}

fn cannot_start(fault: FolderFault) -> ProcessFault {
    ProcessFault::CannotStart(std::io::Error::other(fault))
}

/// Whose a complaint is: by its line, by the certificate or by the proxy that it names.
fn owner(rendered: &Rendered, told: &Complaint, order: &Order) -> Option<Owner> {
    if let Some(owner) = told.line.and_then(|line| rendered.owner(line)) {
        return Some(owner.clone());
    }
    if let Some(name) = order.table.certs().keys().find(|name| told.words.contains(&render::cert_file(name))) {
        return Some(Owner::Cert(name.clone()));
    }
    let (protocol, name) = names::service_of(told.proxy.as_deref()?)?;
    let service = order.table.service(protocol, &name)?;
    Some(Owner::Service(protocol, service.name.clone(), ""))
}

/// Health goes over to the next worker. Without it that starts with every server up, as at the first start.
async fn keep_states(candidate: &Candidate, order: &Order) {
    let path = candidate.generation.folder.join(STATES);
    let shown = match &order.old {
        Some(old) => old.ask_one("show servers state").await.map_err(|fault| fault.to_string()),
        None => Ok(String::new()),
    };
    let carried = shown.map(|shown| states::carry(&shown, &candidate.desired, &order.moved));
    let kept = carried.and_then(|states| std::fs::write(&path, states).map_err(|error| error.to_string()));
    if let Err(error) = kept {
        tracing::warn!("the states of servers do not survive this reload: {error}");
    }
}
