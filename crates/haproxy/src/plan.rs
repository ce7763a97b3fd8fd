//! The smallest change that makes a worker serve another table: commands, or a reload. Pure; asks and sends nothing.
//!
//! ```text
//! new and changed servers -> map entries that point to them -> entries to delete -> servers to retire
//! ```
//! In this order no request is ever routed to a backend that is not ready. What needs a reload stays as it is until
//! then, and everything else changes at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::{Display, Formatter};
use std::sync::Arc;

use super::command::Command;
use super::maps::{MapName, Maps};
use super::model::{Address, Backend, Desired, Server};
use super::names::{self, BackendName};
use super::reach::reachable;
use super::running::{Pool, Running};

/// The steps to take.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Commands, in order.
    pub commands: Vec<Command>,
    /// Why the rest needs a reload; empty if there is no rest.
    pub reload: BTreeSet<Reason>,
}

/// A change that a running worker cannot take.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Listeners, global settings, defaults or the template's own text.
    Frame,
    /// An error page or another file.
    Files,
    /// A certificate was added or removed.
    Certificates,
    /// A new backend that no spare can serve.
    NewBackend(BackendName),
    /// Another option of a backend.
    Options(BackendName),
    /// Servers of a backend that is not `elastic`.
    Servers(BackendName),
    /// Commands failed: nobody knows what the worker runs.
    Unknown,
    /// Few spare backends are left.
    Spares,
}

/// For the log: `the servers of services:web`.
impl Display for Reason {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Frame => f.write_str("listeners or global settings"),
            Self::Files => f.write_str("an error page, an OCSP response or what clients are asked for"),
            Self::Certificates => f.write_str("certificates"),
            Self::NewBackend(name) => write!(f, "the new backend {name}"),
            Self::Options(name) => write!(f, "the options of {name}"),
            Self::Servers(name) => write!(f, "the servers of {name}"),
            Self::Unknown => f.write_str("commands that failed"),
            Self::Spares => f.write_str("few spare backends are left"),
        }
    }
}

/// Plans the way from what runs to what is desired. Changes `running` to what will run after the commands.
pub fn plan(running: &mut Running, desired: &Desired) -> Plan {
    let mut planner = Planner { running, plan: Plan::default(), last: Vec::new() };
    planner.frame(desired);
    planner.backends(desired);
    planner.certificates(desired);
    planner.tickets(desired);
    planner.maps(desired);
    planner.plan.commands.append(&mut planner.last);
    planner.plan
}

/// Plans for a worker that is about to be replaced: only changes of servers in backends that it has. Anything else
/// would disappear for a moment: its successor was made without it and has to catch up.
pub fn plan_for_last_moments(running: &mut Running, desired: &Desired) -> Vec<Command> {
    let mut planner = Planner { running, plan: Plan::default(), last: Vec::new() };
    for (name, backend) in changed(&planner.running.planned.backends, &desired.backends) {
        if planner.running.backends.contains_key(planner.running.name_of(&name)) {
            planner.backend(name, backend);
        }
    }
    planner.plan.commands.append(&mut planner.last);
    planner.plan.commands
}

struct Planner<'a> {
    running: &'a mut Running,
    plan: Plan,
    /// Commands after all others: servers to retire.
    last: Vec<Command>,
}

impl Planner<'_> {
    fn reload(&mut self, reason: Reason) {
        self.plan.reload.insert(reason);
    }

    fn order(&mut self, command: Command) {
        self.plan.commands.push(command);
    }

    fn frame(&mut self, desired: &Desired) {
        if self.running.frame != desired.frame {
            self.reload(Reason::Frame);
        }
        if self.running.files != desired.files {
            self.reload(Reason::Files);
        }
    }

    fn certificates(&mut self, desired: &Desired) {
        if !self.running.certs.keys().eq(desired.certs.keys()) {
            return self.reload(Reason::Certificates);
        }
        for (name, pem) in &desired.certs {
            if self.running.certs.get(name) != Some(pem) {
                self.order(Command::SetCertificate(name.clone(), pem.clone()));
                self.running.certs.insert(name.clone(), pem.clone());
            }
        }
    }

    fn tickets(&mut self, desired: &Desired) {
        // Where they come or go, the frame differs.
        if let (Some(has), Some(wanted)) = (&mut self.running.tickets, &desired.tickets)
            && has != wanted
        {
            has.clone_from(wanted);
            self.order(Command::SetTicketKeys(wanted.clone()));
        }
    }

    fn backends(&mut self, desired: &Desired) {
        for (name, backend) in changed(&self.running.planned.backends, &desired.backends) {
            self.backend(name, backend);
        }
        for name in gone(&self.running.planned.backends, &desired.backends) {
            self.empty(&name);
        }
    }

    /// Changes one backend as far as commands can, and notes whether that was all.
    fn backend(&mut self, name: BackendName, backend: Arc<Backend>) {
        let real = self.running.name_of(&name).clone();
        let reasons = self.plan.reload.len();
        match self.running.backends.contains_key(&real) {
            true => self.change(&real, &backend),
            false => self.settle(&name, &backend),
        }
        let done = self.plan.reload.len() == reasons;
        self.running.planned.backends.insert(name, done.then_some(backend));
    }

    /// Gives a new service a spare backend, if one fits.
    fn settle(&mut self, name: &BackendName, backend: &Backend) {
        let fits = |pool: &Pool| pool.options == backend.options && backend.elastic && backend.sections.is_empty();
        let spare = self.running.free.last().filter(|spare| self.running.backends.get(*spare).is_some_and(fits));
        let known = backend.servers.iter().all(|server| server.is_literal());
        match spare.cloned() {
            Some(spare) if known => {
                self.running.free.pop();
                self.running.moved.insert(name.clone(), spare.clone());
                self.running.planned.maps = None;
                self.servers(&spare, &backend.servers, true);
            }
            _ => self.reload(Reason::NewBackend(name.clone())),
        }
    }

    fn change(&mut self, real: &BackendName, backend: &Backend) {
        let Some(pool) = self.running.backends.get(real) else { return };
        let same_options = pool.options == backend.options && pool.sections == backend.sections;
        let same_servers = same_servers(pool, &backend.servers);
        let both = pool.elastic && backend.elastic;
        if !same_options {
            self.reload(Reason::Options(real.clone()));
        }
        if !same_servers {
            self.servers(real, &backend.servers, both);
        }
    }

    /// Changes a backend's servers as far as commands can. Servers are added and removed only if it is `elastic` before
    /// and after: HAProxy would refuse a server with a cookie once the one that it replaces was gone.
    fn servers(&mut self, real: &BackendName, wanted: &[Server], elastic: bool) {
        let Some(mut pool) = self.running.backends.remove(real) else { return };
        let before = std::mem::replace(&mut pool.elastic, elastic);
        for server in wanted {
            self.server(real, &mut pool, server);
        }
        pool.elastic = before;
        let gone: Vec<_> =
            pool.servers.keys().filter(|name| !wanted.iter().any(|w| w.name == **name)).cloned().collect();
        for name in gone {
            self.retire(real, &mut pool, name);
        }
        self.running.backends.insert(real.clone(), pool);
    }

    fn server(&mut self, real: &BackendName, pool: &mut Pool, wanted: &Server) {
        let Some(mut has) = pool.servers.remove(&wanted.name) else {
            return self.add(real, pool, wanted);
        };
        self.adjust(real, pool.elastic, &mut has, wanted);
        if has.is_like(wanted) || !pool.elastic || !wanted.is_literal() {
            return self.keep(real, pool, has, wanted);
        }
        // Not a changed address: connections to the old one would go on being used.
        self.leave(real, pool, has);
        self.add(real, pool, wanted);
    }

    /// Keeps a server; whatever commands cannot change in it needs a reload.
    fn keep(&mut self, real: &BackendName, pool: &mut Pool, mut has: Server, wanted: &Server) {
        if let (Address::Socket(..), &Address::Socket(ip, port)) = (&has.address, &wanted.address)
            && has.address != wanted.address
        {
            self.order(Command::SetAddress(real.clone(), has.name.clone(), ip, port));
            has.address = wanted.address.clone();
        }
        if !has.is_like(wanted) {
            self.reload(Reason::Servers(real.clone()));
        }
        pool.servers.insert(wanted.name.clone(), has);
    }

    /// Adds a server, or puts back one that was to be deleted.
    fn add(&mut self, real: &BackendName, pool: &mut Pool, wanted: &Server) {
        let same = |server: &&Server| server.address == wanted.address && server.options == wanted.options;
        let left = pool.leaving.values().filter(|server| names::turn_of(&server.name).0 == &*wanted.name);
        if let Some(name) = left.into_iter().find(same).map(|server| server.name.clone())
            && let Some(mut back) = pool.leaving.remove(&name)
        {
            self.last.retain(|command| *command != Command::Retire(real.clone(), name.clone()));
            self.order(Command::Return(real.clone(), name));
            self.adjust(real, pool.elastic, &mut back, wanted);
            return self.keep(real, pool, back, wanted);
        }
        if !pool.elastic || !wanted.is_literal() {
            return self.reload(Reason::Servers(real.clone()));
        }
        let turns = (1..).map(|turn| names::again(&wanted.name, turn));
        let name = turns.into_iter().find(|name| !pool.leaving.contains_key(name));
        let server = Server { name: name.unwrap_or_else(|| wanted.name.clone()), ..wanted.clone() };
        self.order(Command::AddServer(real.clone(), Box::new(server.clone())));
        pool.servers.insert(wanted.name.clone(), server);
    }

    /// Changes weight and limit of a server in place.
    fn adjust(&mut self, real: &BackendName, elastic: bool, has: &mut Server, wanted: &Server) {
        let name = (real.clone(), has.name.clone());
        let weight = wanted.effective_weight();
        let same = has.effective_weight() == weight;
        // A backend that is not elastic takes no weights at run time.
        if !same && elastic {
            self.order(Command::SetWeight(name.0.clone(), name.1.clone(), weight));
        }
        if same || elastic {
            (has.weight, has.drain) = (wanted.weight, wanted.drain);
        }
        if has.max_connections != wanted.max_connections {
            self.order(Command::SetMaxConnections(name.0, name.1, wanted.max_connections));
            has.max_connections = wanted.max_connections;
        }
    }

    fn retire(&mut self, real: &BackendName, pool: &mut Pool, name: Box<str>) {
        if let Some(server) = pool.servers.remove(&name) {
            self.leave(real, pool, server);
        }
    }

    /// Takes a server out of service; its connections go on.
    fn leave(&mut self, real: &BackendName, pool: &mut Pool, server: Server) {
        self.last.push(Command::Retire(real.clone(), server.name.clone()));
        pool.leaving.insert(server.name.clone(), server);
    }

    /// Empties a backend whose service is gone. It stays, unused, until the next reload.
    fn empty(&mut self, name: &BackendName) {
        let real = self.running.name_of(name).clone();
        self.servers(&real, &[], false);
        self.running.moved.remove(name);
        self.running.planned.backends.remove(name);
        self.running.planned.maps = None;
    }

    fn maps(&mut self, desired: &Desired) {
        if self.running.planned.maps.as_ref().is_some_and(|maps| Arc::ptr_eq(maps, &desired.maps)) {
            return;
        }
        self.running.planned.maps = Some(desired.maps.clone());
        if self.running.moved.is_empty() && self.running.maps == *desired.maps {
            return;
        }
        let mut wanted = reachable(self.running, &desired.maps);
        let is_read = |file| self.running.frame.iter().any(|part| part.text.contains(file));
        // HAProxy has no map that no rule reads. With the rule, the reload brings the entries.
        if !wanted.splits.is_empty() && !is_read(MapName::Splits.file()) {
            wanted.splits.clear();
        }
        let has = std::mem::take(&mut self.running.maps);
        for name in MapName::ALL {
            self.grow(name, &has, &wanted);
        }
        for name in MapName::ALL.into_iter().rev() {
            self.shrink(name, &has, &wanted);
        }
        self.running.maps = wanted;
    }

    fn grow(&mut self, name: MapName, has: &Maps, wanted: &Maps) {
        if has.is_same(wanted, name) {
            return;
        }
        let wanted = wanted.entries(name);
        if name == MapName::Patterns {
            // Expressions are tried in order, so their map is replaced as a whole.
            let all = wanted.into_iter().map(|(key, value)| (key.into(), value)).collect();
            return self.order(Command::ReplaceMap(name, all));
        }
        let before: HashMap<_, _> = has.entries(name).into_iter().collect();
        for (key, value) in wanted {
            match before.get(key) {
                Some(old) if *old == value => {}
                Some(_) => self.order(Command::SetEntry(name, key.into(), value)),
                None => self.order(Command::AddEntry(name, key.into(), value)),
            }
        }
    }

    fn shrink(&mut self, name: MapName, has: &Maps, wanted: &Maps) {
        if name == MapName::Patterns || has.is_same(wanted, name) {
            return;
        }
        let stays: HashSet<_> = wanted.entries(name).into_iter().map(|(key, _)| key).collect();
        for (key, _) in has.entries(name).into_iter().filter(|(key, _)| !stays.contains(key)) {
            self.order(Command::DeleteEntry(name, key.into()));
        }
    }
}

/// Backends that changed since the last plan, or that it could not finish. Unchanged ones are recognized by pointer.
fn changed(
    planned: &BTreeMap<BackendName, Option<Arc<Backend>>>,
    desired: &BTreeMap<BackendName, Arc<Backend>>,
) -> Vec<(BackendName, Arc<Backend>)> {
    let mut planned = planned.iter().peekable();
    let mut is_as_planned = |name: &BackendName, backend: &Arc<Backend>| {
        while planned.next_if(|(before, _)| !Arc::ptr_eq(before, name) && *before < name).is_some() {}
        let same = planned.next_if(|(before, _)| Arc::ptr_eq(before, name) || *before == name);
        same.is_some_and(|(_, now)| now.as_ref().is_some_and(|now| Arc::ptr_eq(now, backend)))
    };
    let changed = desired.iter().filter(|(name, backend)| !is_as_planned(name, backend));
    changed.map(|(name, backend)| (name.clone(), backend.clone())).collect()
}

/// Backends of the last plan that are no longer wanted.
fn gone(
    planned: &BTreeMap<BackendName, Option<Arc<Backend>>>,
    desired: &BTreeMap<BackendName, Arc<Backend>>,
) -> Vec<BackendName> {
    let same = planned.len() == desired.len();
    let gone = planned.keys().filter(|name| !desired.contains_key(*name));
    if same { Vec::new() } else { gone.cloned().collect() }
}

/// Whether the servers are exactly those wanted.
fn same_servers(pool: &Pool, wanted: &[Server]) -> bool {
    pool.servers.len() == wanted.len()
        && wanted.iter().all(|server| pool.servers.get(&server.name).is_some_and(|has| has.is_like(server)))
}

#[cfg(test)]
mod tests;
