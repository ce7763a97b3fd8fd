//! What a balancer says at its start, and its name.

use pointsman_store::Location;
use tracing::{info, warn};

use super::bound::Addresses;
use crate::commands::signals::Reload;
use crate::fleet::keeper::About;
use crate::settings::{Chosen, Engine, FLAGS, Group, Settings};
use crate::sys;

/// What is said of this balancer.
pub(super) fn about(settings: &Settings, addresses: &Addresses) -> About {
    About {
        name: settings.name.clone().unwrap_or_else(|| usual_name(addresses)),
        prefix: settings.store.prefix.clone(),
        engine: settings.engine.word(),
        listens: addresses.listens(),
    }
}

/// The default name: the port distinguishes two balancers on one machine.
fn usual_name(addresses: &Addresses) -> String {
    let port = addresses.http.first().map(|address| format!(":{}", address.port()));
    format!("{}{}", sys::host_name(), port.unwrap_or_default())
}

pub(super) fn announce(addresses: &Addresses) {
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

/// Settings that have no effect, each in a line.
pub(in crate::commands) fn idle(engine: Engine, chosen: &Chosen) -> Vec<String> {
    let given = |group, with| FLAGS.iter().filter(move |flag| flag.group == group && engine == with);
    let of_haproxy = given(Group::Haproxy, Engine::Native).filter_map(|flag| chosen.origin(flag.name));
    let of_haproxy =
        of_haproxy.map(|origin| format!("{origin} has no effect on the native engine; it is for --engine haproxy"));
    let of_native = given(Group::Native, Engine::Haproxy).filter_map(|flag| chosen.origin(flag.name));
    let of_native = of_native.map(|origin| {
        let page = if ["otlp", "exemplars"].iter().any(|word| origin.to_string().contains(word)) {
            "docs/engines.md"
        } else {
            "docs/logs.md"
        };
        format!("{origin} has no effect on the HAProxy engine, which logs as its configuration says; see {page}")
    });
    of_haproxy.chain(of_native).collect()
}

/// Logs that no store is named: as a warning in a container, where this is most often forgotten.
pub(super) fn tell_usual_store(settings: &Settings, reload: &Reload) {
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

pub(super) fn raise_open_files() {
    match sys::raise_open_files() {
        Ok(limit) => info!("up to {limit} open files"),
        Err(error) => warn!("cannot raise the limit on open files above {}: {error}", sys::open_files_limit()),
    }
}
