//! From keys to a table and its problems. Never fails: one service's bad keys touch no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::basis::Basis;
use crate::form::{Draft, Form};
use crate::key_set::KeySet;
use crate::keys::{is_tree, resembling_tree};
use crate::limits::Limits;
use crate::names::{Protocol, ServiceName};
use crate::placing::World;
use crate::problem::{Problem, ProblemKind, Report};
use crate::raw::RawKeys;
use crate::routing::{Difference, PortRouting, Routing, WebRouting};
use crate::table::Table;
use crate::targets;
use crate::wishes;

/// The outcome: always a table, and every problem with the keys.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What to serve.
    pub table: Arc<Table>,
    /// All problems, ordered by key.
    pub problems: Vec<Problem>,
    /// The host names of instances, served or not: what [`Limits::names`] should know.
    pub names: BTreeSet<Box<str>>,
}

/// Compiles the keys. `previous` gives last good forms and everything that did not change.
///
/// The cost: a pointer comparison a service, compiling the services that changed, and a new index if rules changed.
pub fn compile(keys: &KeySet, previous: Option<&Table>, limits: &Limits) -> Compiled {
    let nothing;
    let old = match previous {
        Some(table) => table,
        None => {
            nothing = Table::default();
            &nothing
        }
    };
    let basis = Basis::new(keys, &old.basis, limits);
    let mut drafts = drafts(keys, old, &basis.limits, basis.stale);
    let implied = targets::implied(&drafts);
    add_implied(&mut drafts, &implied, old, &basis);
    let targets = targets::named(&drafts);
    drafts.iter_mut().for_each(|draft| draft.settle(&targets));
    let difference = Difference::between(&drafts, &old.forms, basis.stale || basis.rebound(&old.basis));
    let ports = PortRouting::new(&drafts, &old.routing.ports, &basis.limits, &difference);
    let forms = finish(drafts, old, &basis, &ports, keys.revision());
    let web = WebRouting::new(&forms, &old.forms, &old.routing.web, &basis.limits, &difference);
    let routing = Routing { web, ports };
    let problems = problems(keys, &basis, &routing, &forms);
    let names = forms.iter().flat_map(|form| form.names.iter().cloned()).collect();
    let table = Table::new(old.generation() + 1, keys.revision(), basis, routing, forms);
    Compiled { table: Arc::new(table), problems, names }
}

/// All services, their settings judged, ordered by protocol and name.
fn drafts<'a>(keys: &'a KeySet, old: &'a Table, limits: &Limits, stale: bool) -> Vec<Draft<'a>> {
    let mut forms = old.forms.iter().peekable();
    let mut drafts = Vec::with_capacity(old.forms.len());
    for protocol in [Protocol::Http, Protocol::Tcp] {
        for (name, raw) in keys.services(protocol) {
            while forms.next_if(|form| (form.protocol, &form.name) < (protocol, name)).is_some() {}
            let form = forms.next_if(|form| (form.protocol, &form.name) == (protocol, name));
            drafts.extend(Draft::new((protocol, name), raw, form, limits, stale));
        }
    }
    drafts
}

/// Adds the services that stand for servers which other services only name.
fn add_implied<'a>(
    drafts: &mut Vec<Draft<'a>>,
    implied: &'a BTreeMap<ServiceName, Arc<RawKeys>>,
    old: &'a Table,
    basis: &Basis,
) {
    for (name, raw) in implied {
        let place = (Protocol::Http, name);
        let form =
            old.forms.binary_search_by(|form| (form.protocol, &form.name).cmp(&place)).ok().map(|at| &old.forms[at]);
        let at = drafts.partition_point(|draft| (draft.protocol, draft.name) < place);
        if let Some(draft) = Draft::new(place, raw, form, &basis.limits, basis.stale) {
            drafts.insert(at, draft);
        }
    }
}

fn finish(drafts: Vec<Draft<'_>>, old: &Table, basis: &Basis, ports: &PortRouting, revision: u64) -> Box<[Arc<Form>]> {
    let world = World {
        limits: &basis.limits,
        revision,
        listening: &ports.listening,
        defaults: &basis.config.value,
        moved: !Arc::ptr_eq(&ports.listening, &old.routing.ports.listening),
        retimed: basis.retimed(&old.basis),
        renamed: basis.renamed(&old.basis),
    };
    drafts.into_iter().map(|draft| draft.finish(&world)).collect()
}

fn problems(keys: &KeySet, basis: &Basis, routing: &Routing, forms: &[Arc<Form>]) -> Vec<Problem> {
    // Those of servers that a key names by URL are told with that key.
    let of_services = forms.iter().filter(|form| !form.name.is_implied()).flat_map(|form| &form.problems);
    let clashes = routing.web.clashes.iter().chain(&*routing.ports.clashes);
    let of_all = of_services.chain(basis.problems()).chain(clashes);
    let between = targets::problems(forms, &basis.limits);
    let uncertified = wishes::problems(forms, &basis.config.value.acme, &basis.limits);
    let mut problems: Vec<_> =
        of_all.cloned().chain(between).chain(uncertified).chain(elsewhere(keys, &basis.limits)).collect();
    problems.sort();
    problems
}

/// Problems with keys that belong nowhere. A whole tree is one problem, as it may be another program's.
fn elsewhere(keys: &KeySet, limits: &Limits) -> Box<[Problem]> {
    let mut strays = Report::of_tree(&limits.prefix, "").hiding_values();
    let mut trees = BTreeSet::new();
    for (key, _) in keys.strays().iter().filter(|(_, value)| !value.is_empty()) {
        let tree = key.split('/').next().unwrap_or_default();
        if is_tree(tree) {
            strays.add(ProblemKind::UnknownKey, key, None, "the service has no name; expected <tree>/<service>/<key>");
        } else if trees.insert(tree) {
            strays.add(ProblemKind::UnknownKey, tree, None, unknown_tree(tree));
        }
    }
    strays.finish()
}

fn unknown_tree(tree: &str) -> String {
    match resembling_tree(tree) {
        Some(meant) => format!("no balancer reads this key or those below it; did you mean {meant}?"),
        None => "no balancer reads this key or those below it; keep other programs' keys below another prefix".into(),
    }
}
