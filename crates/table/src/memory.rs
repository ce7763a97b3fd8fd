//! What to keep of a table over a restart, and a table recalled from what was kept. Opens no file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use crate::compile::compile;
use crate::key_set::KeySet;
use crate::keys::{Part, classify};
use crate::last_good::LastGood;
use crate::limits::Limits;
use crate::names::{Protocol, ServiceName};
use crate::problem::{Problem, ProblemKind};
use crate::table::Table;

/// What to keep over a restart. Secret: it may hold passwords and private keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The settings of every service that is served, without its instances.
    pub services: Vec<ServiceMemory>,
    /// Keys relative to `config/`.
    pub config: Vec<(Box<str>, Box<[u8]>)>,
    /// Keys relative to `certs/`.
    pub certs: Vec<(Box<str>, Arc<[u8]>)>,
}

/// Counts only: the rest may be secret.
impl Debug for Memory {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { services, config, certs } = self;
        write!(f, "{} services, {} keys of config, {} of certs", services.len(), config.len(), certs.len())
    }
}

/// The last good settings of one service.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceMemory {
    /// HTTP or TCP.
    pub protocol: Protocol,
    /// Its name.
    pub name: Box<str>,
    /// The first revision with these settings, as far as is known.
    pub revision: u64,
    /// Keys relative to the service.
    pub keys: Vec<(Box<str>, Box<[u8]>)>,
}

impl Table {
    /// What to keep over a restart.
    pub fn memory(&self) -> Memory {
        let services = self.forms.iter().filter_map(|form| {
            let LastGood { revision, raw } = form.good.as_ref()?;
            let is_setting = |&(key, value): &(&str, &[u8])| classify(form.protocol, key, value) == Part::Setting;
            let keys = raw.iter().filter(is_setting).map(owned).collect();
            Some(ServiceMemory { protocol: form.protocol, name: form.name.as_str().into(), revision: *revision, keys })
        });
        let certs = self.basis.certs.good.iter();
        Memory {
            services: services.collect(),
            config: self.basis.config.good.iter().map(owned).collect(),
            certs: certs.map(|(name, value)| (name.into(), Arc::clone(value))).collect(),
        }
    }

    /// What to keep over a restart while an engine serves older forms: `former` has those of the services and certificates
    /// that it rejects, by its `problems`. `None`: it has not judged this table yet, and may reject anything.
    pub fn memory_beside<'p>(&self, former: Memory, problems: Option<&'p [Problem]>) -> Memory {
        let mut memory = self.memory();
        let rejecting = || problems.into_iter().flatten().filter(|problem| holds_back(problem));
        let keys: BTreeSet<_> = rejecting().map(|problem| &*problem.key).collect();
        let of_problem =
            |problem: &'p Problem| problem.service.as_ref().map(|(protocol, name)| (*protocol, name.as_str()));
        let services: BTreeSet<_> = rejecting().filter_map(of_problem).collect();
        let of_service = |service: &ServiceMemory| (service.protocol, service.name.clone());
        let mut forms: BTreeMap<_, _> = former.services.into_iter().map(|form| (of_service(&form), form)).collect();
        for service in &mut memory.services {
            if problems.is_none() || services.contains(&(service.protocol, &*service.name)) {
                *service = forms.remove(&of_service(service)).unwrap_or_else(|| service.clone());
            }
        }
        let mut certs: BTreeMap<_, _> = former.certs.into_iter().collect();
        for (name, value) in &mut memory.certs {
            if problems.is_none() || keys.contains(&*format!("{}/certs/{name}", self.basis.limits.prefix)) {
                *value = certs.remove(name).unwrap_or_else(|| Arc::clone(value));
            }
        }
        memory
    }

    /// Services that are served with their last good settings because their keys are bad now, and the revision of these
    /// settings.
    pub fn last_good(&self) -> impl Iterator<Item = (Protocol, &ServiceName, u64)> {
        let kept = self.forms.iter().filter(|form| form.judged.settings.is_none());
        kept.filter_map(|form| Some((form.protocol, &form.name, form.good.as_ref()?.revision)))
    }

    /// The table before the first one after a restart, of generation 0: `compile` takes last good settings from it, and
    /// engines the forms of what they reject. It must not be served, as it has no instances. What is not good by these
    /// limits is left out.
    pub fn recall(memory: Memory, limits: &Limits) -> Arc<Self> {
        let Memory { services, config, certs } = memory;
        let below = |tree: String| move |(key, value): (Box<str>, _)| (format!("{tree}/{key}").into(), value);
        let mut entries: Vec<(Box<str>, Box<[u8]>)> = config.into_iter().map(below("config".to_owned())).collect();
        let certs = certs.into_iter().map(|(name, value)| (name, Box::from(&*value)));
        entries.extend(certs.map(below("certs".to_owned())));
        let mut revisions = Vec::with_capacity(services.len());
        for ServiceMemory { protocol, name, revision, keys } in services {
            entries.extend(keys.into_iter().map(below(format!("{}/{name}", protocol.tree()))));
            revisions.push(((protocol, name), revision));
        }
        revisions.sort();
        let mut keys = KeySet::default();
        keys.reset(0, entries);
        let mut table = compile(&keys, None, limits).table;
        // Nobody else has this table or its forms yet.
        if let Some(table) = Arc::get_mut(&mut table) {
            table.generation = 0;
            for form in table.forms.iter_mut().filter_map(Arc::get_mut) {
                let of = |((protocol, name), _): &((Protocol, Box<str>), u64)| {
                    (*protocol, &**name).cmp(&(form.protocol, form.name.as_str()))
                };
                let known = revisions.binary_search_by(of).map_or(0, |at| revisions[at].1);
                form.good = form.good.take().map(|good| LastGood { revision: known, ..good });
            }
        }
        table
    }
}

/// Whether something serves in an older form because of a problem. Of `client_ca`, the newest form is served, without what
/// cannot be used of it.
fn holds_back(problem: &Problem) -> bool {
    problem.kind == ProblemKind::Rejected && problem.key.rsplit('/').next() != Some("client_ca")
}

fn owned((key, value): (&str, &[u8])) -> (Box<str>, Box<[u8]>) {
    (key.into(), value.into())
}
