//! Asks every worker for its statistics, those that finish their connections too, and enters them in the ledger. Changes
//! nothing in HAProxy.

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

/// Whose a worker's backends are.
#[derive(Clone, Debug)]
pub struct Tenants {
    table: Arc<Table>,
    /// From a spare's name to the backend's that lives there.
    spares: BTreeMap<BackendName, BackendName>,
}

impl Tenants {
    /// Those of the worker that serves.
    pub fn of(table: &Arc<Table>, running: &Running) -> Self {
        let spares = running.moved.iter().map(|(name, spare)| (spare.clone(), name.clone())).collect();
        Self { table: table.clone(), spares }
    }

    /// The name of a backend's service, whichever backend it lives in.
    pub fn backend<'a>(&'a self, name: &'a BackendName) -> &'a BackendName {
        self.spares.get(name).unwrap_or(name)
    }

    fn service(&self, backend: &str) -> Option<(Protocol, ServiceName)> {
        let (protocol, name) = names::service_of(self.spares.get(backend).map_or(backend, |name| name))?;
        Some((protocol, self.table.service(protocol, &name)?.name.clone()))
    }
}

/// Everybody to be asked.
#[derive(Clone, Debug)]
pub struct Census {
    /// The master, who passes questions on to workers that have no socket any more.
    pub master: Master,
    /// The worker that serves.
    pub current: (u32, Runtime, Tenants),
    /// Earlier workers.
    pub old: Vec<(u32, Tenants)>,
}

impl Census {
    /// Asks all of them. Returns the processes that there are no more.
    pub async fn take(&self, ledger: &Ledger) -> Vec<u32> {
        let number = ledger.begin();
        let (pid, runtime, tenants) = &self.current;
        let mut complete = enter(ledger, *pid, tenants, runtime.ask_one(stats::COMMAND).await);
        // The master does not answer for a moment during a reload.
        let Ok(processes) = self.master.processes().await else {
            ledger.renewed(number, false);
            return Vec::new();
        };
        let (live, gone): (Vec<_>, Vec<_>) = self.old.iter().partition(|(pid, _)| is_there(&processes, *pid));
        for (pid, tenants) in live {
            let answer = self.master.ask_worker(*pid, stats::COMMAND).await;
            complete &= enter(ledger, *pid, tenants, answer);
        }
        let gone: Vec<_> = gone.into_iter().map(|(pid, _)| *pid).collect();
        gone.iter().for_each(|pid| ledger.gone(*pid));
        let old = processes.workers.iter().filter(|worker| worker.old).count() as u64;
        ledger.note(|facts| facts.old_workers = old);
        ledger.renewed(number, complete);
        gone
    }
}

fn is_there(processes: &Processes, pid: u32) -> bool {
    processes.workers.iter().any(|worker| worker.pid == pid)
}

/// Whether there was an answer that could be entered.
fn enter(ledger: &Ledger, pid: u32, tenants: &Tenants, answer: Result<String, Fault>) -> bool {
    let service = |backend: &str| tenants.service(backend);
    let instance = |server: &str| names::instance_of(server).map(Into::into);
    let entered = answer.map(|text| ledger.read(pid, &text, &Names { service: &service, instance: &instance }));
    match entered {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tracing::debug!("the statistics of HAProxy's worker {pid} cannot be read: {error}"),
        Err(fault) => tracing::debug!("HAProxy's worker {pid} gives no statistics: {fault}"),
    }
    false
}
