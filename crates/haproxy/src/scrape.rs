//! Asks every worker for its statistics, those that finish their connections too, and enters them in the ledger.
//! Changes nothing in HAProxy.

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_table::{Protocol, ServiceName, Table};

use super::answers::Processes;
use super::ledger::Ledger;
use super::master::Master;
use super::names::{self, BackendName};
use super::running::Running;
use super::runtime::{Fault, Runtime};
use super::stats::{self, Names};

/// Finds the service that a worker's backend serves.
#[derive(Clone, Debug)]
pub struct ServiceLookup {
    table: Arc<Table>,
    /// Spare backend → the name of the backend that it stands in for.
    spares: BTreeMap<BackendName, BackendName>,
}

impl ServiceLookup {
    /// For the current worker.
    pub fn of(table: &Arc<Table>, running: &Running) -> Self {
        let spares = running.moved.iter().map(|(name, spare)| (spare.clone(), name.clone())).collect();
        Self { table: table.clone(), spares }
    }

    /// The name of the service's own backend; that of a spare is resolved.
    pub fn backend<'a>(&'a self, name: &'a BackendName) -> &'a BackendName {
        self.spares.get(name).unwrap_or(name)
    }

    fn service(&self, backend: &str) -> Option<(Protocol, ServiceName)> {
        let (protocol, name) = names::service_of(self.spares.get(backend).map_or(backend, |name| name))?;
        Some((protocol, self.table.service(protocol, &name)?.name.clone()))
    }
}

/// The workers to ask.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// The master, which passes questions on to old workers: they have no socket of their own any more.
    pub master: Master,
    /// The current worker.
    pub current: (u32, Runtime, ServiceLookup),
    /// Old workers.
    pub old: Vec<(u32, ServiceLookup)>,
    /// The current one drains: it has no socket of its own any more either, and is among the old ones.
    pub drains: bool,
}

impl Scrape {
    /// Asks all of them. Returns the old workers that have ended.
    pub async fn run(&self, ledger: &Ledger) -> Vec<u32> {
        let number = ledger.begin_scrape();
        let (pid, runtime, services) = &self.current;
        let mut complete = self.drains || enter(ledger, *pid, services, runtime.ask_one(stats::COMMAND).await);
        // The master does not answer for a moment during a reload.
        let Ok(processes) = self.master.processes().await else {
            ledger.end_scrape(number, false);
            return Vec::new();
        };
        let (live, gone): (Vec<_>, Vec<_>) = self.old.iter().partition(|(pid, _)| is_there(&processes, *pid));
        for (pid, services) in live {
            let answer = self.master.ask_worker(*pid, stats::COMMAND).await;
            complete &= enter(ledger, *pid, services, answer);
        }
        let gone: Vec<_> = gone.into_iter().map(|(pid, _)| *pid).collect();
        gone.iter().for_each(|pid| ledger.gone(*pid));
        let old = processes.workers.iter().filter(|worker| worker.old).count() as u64;
        ledger.note(|facts| facts.old_workers = old);
        ledger.end_scrape(number, complete);
        gone
    }
}

fn is_there(processes: &Processes, pid: u32) -> bool {
    processes.workers.iter().any(|worker| worker.pid == pid)
}

/// Enters an answer. Returns whether there was one that could be read.
fn enter(ledger: &Ledger, pid: u32, services: &ServiceLookup, answer: Result<String, Fault>) -> bool {
    let service = |backend: &str| services.service(backend);
    let instance = |server: &str| names::instance_of(server).map(Into::into);
    let entered = answer.map(|text| ledger.read(pid, &text, &Names { service: &service, instance: &instance }));
    match entered {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tracing::debug!("cannot read the statistics of HAProxy's worker {pid}: {error}"),
        Err(fault) => tracing::debug!("no statistics from HAProxy's worker {pid}: {fault}"),
    }
    false
}
