//! The map entries that a worker can have before its reload. Pure; `plan` decides everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::maps::{Lot, Maps, Route, backend_of};
use super::names::BackendName;
use super::pattern;
use super::running::Running;

/// The maps, with spares in place of the backends they serve. Scopes with a route to a backend that the worker lacks
/// stay as they are.
pub(super) fn reachable(running: &Running, desired: &Maps) -> Maps {
    let missing = |route: &Route| !running.backends.contains_key(running.name_of(&route.backend));
    let blocked = blocked(desired, missing);
    let stays = |scope: &str| blocked.contains(scope);
    // A host that stays points to its current scope, whose routes must stay too.
    let leads = [(&running.maps.hosts, &desired.hosts), (&running.maps.wildcards, &desired.wildcards)];
    let leads =
        leads.into_iter().flat_map(|(has, wanted)| wanted.iter().map(move |(key, scope)| (has.get(key), scope)));
    let held: BTreeSet<&str> = leads.filter(|(_, scope)| stays(scope)).filter_map(|(has, _)| Some(&**has?)).collect();
    let lead = |has: &BTreeMap<Box<str>, Arc<str>>, wanted: &BTreeMap<Box<str>, Arc<str>>| {
        let free = wanted.iter().filter(|(_, scope)| !blocked.contains(&***scope));
        let held = wanted.iter().filter(|(_, scope)| blocked.contains(&***scope));
        let kept = held.filter_map(|(key, _)| has.get_key_value(key));
        free.chain(kept).map(|(key, scope)| (key.clone(), scope.clone())).collect()
    };
    let routes = |has: &BTreeMap<Box<str>, Route>, wanted: &BTreeMap<Box<str>, Route>| {
        let free = wanted.iter().filter(|(key, _)| !blocked.contains(scope_of(key)));
        let new = free.map(|(key, route)| (key.clone(), translated(running, route)));
        let kept = has.iter().filter(|(key, _)| blocked.contains(scope_of(key)) || held.contains(scope_of(key)));
        // A held scope that other hosts want as well gets the wanted routes.
        kept.map(|(key, route)| (key.clone(), route.clone())).chain(new).collect()
    };
    let marks: Vec<_> = blocked.iter().chain(&held).map(|scope| pattern::lead(scope)).collect();
    let stays = |key: &str| marks.iter().any(|mark| key.starts_with(&**mark));
    let kept = running.maps.patterns.iter().filter(|(key, _)| stays(key)).cloned();
    let new = desired.patterns.iter().filter(|(key, route)| !missing(route) && !stays(key));
    let new = new.map(|(key, route)| (key.clone(), translated(running, route)));
    let sni = desired.sni.iter().filter(|(_, name)| running.backends.contains_key(*name));
    let sni = sni.map(|(key, name)| (key.clone(), name.clone())).collect();
    Maps {
        hosts: lead(&running.maps.hosts, &desired.hosts),
        wildcards: lead(&running.maps.wildcards, &desired.wildcards),
        paths: routes(&running.maps.paths, &desired.paths),
        patterns: kept.chain(new).collect(),
        rest: routes(&running.maps.rest, &desired.rest),
        sni,
        splits: splits(running, desired),
        answers: Arc::clone(&desired.answers),
    }
}

/// The shares that the worker can have. Those of a backend stay as they are while a side of it is missing.
fn splits(running: &Running, desired: &Maps) -> BTreeMap<Box<str>, Lot> {
    let real = |backend: &BackendName| running.name_of(backend).clone();
    let owner = |key: &str| real(&backend_of(key).into());
    let lacks = |lot: &Lot| lot.backends().into_iter().any(|backend| !running.backends.contains_key(&real(backend)));
    let held: BTreeSet<_> = desired.splits.iter().filter(|(_, lot)| lacks(lot)).map(|(key, _)| owner(key)).collect();
    let translated = |key: &str, lot: &Lot| {
        let name = key.split_once('|').map(|(_, name)| format!("|{name}")).unwrap_or_default();
        let lot = match lot {
            Lot::Named(backend) => Lot::Named(real(backend)),
            Lot::Shares { by, sides } => {
                let sides = sides.iter().map(|(end, backend)| (*end, real(backend))).collect();
                Lot::Shares { by: by.clone(), sides }
            }
        };
        (format!("{}{name}", owner(key)).into(), lot)
    };
    let kept = running.maps.splits.iter().filter(|(key, _)| held.contains(backend_of(key)));
    let kept = kept.map(|(key, lot)| (key.clone(), lot.clone()));
    let free = desired.splits.iter().filter(|(key, _)| !held.contains(&owner(key)));
    free.map(|(key, lot)| translated(key, lot)).chain(kept).collect()
}

fn translated(running: &Running, route: &Route) -> Route {
    Route { backend: running.name_of(&route.backend).clone(), ..route.clone() }
}

/// Scopes with a route to a backend that is missing.
fn blocked(maps: &Maps, missing: impl Fn(&Route) -> bool) -> BTreeSet<&str> {
    let routes = maps.paths.iter().chain(&maps.rest).filter(|(_, route)| missing(route));
    routes.map(|(key, _)| scope_of(key)).collect()
}

/// The scope that a key of `paths.map` or `rest.map` begins with.
fn scope_of(key: &str) -> &str {
    key.split_once('|').map_or(key, |(scope, _)| scope)
}
