//! Compares what a worker reports with what it should run, and makes the commands that repair it. Pure; asks and sends
//! nothing.
//!
//! Somebody may have changed a server by hand, a worker may have restored an older state, a command may have had no
//! effect. The worker's report counts; our own record only saves asking.

use std::collections::{HashMap, HashSet};

use super::answers::ServerState;
use super::command::Command;
use super::maps::MapName;
use super::model::{Address, Server};
use super::names::BackendName;
use super::running::{Pool, Running};

/// Servers as a worker sees them, by backend and name.
type Seen<'a> = HashMap<(&'a str, &'a str), &'a ServerState>;

/// Commands that repair the servers, and the backends that need a reload.
pub fn servers(running: &Running, states: &[ServerState]) -> (Vec<Command>, Vec<BackendName>) {
    let all = running.backends.iter();
    servers_of(all, states)
}

/// The same for some backends only.
pub fn servers_of<'a>(
    backends: impl Iterator<Item = (&'a BackendName, &'a Pool)>,
    states: &[ServerState],
) -> (Vec<Command>, Vec<BackendName>) {
    let seen: Seen<'_> = states.iter().map(|state| ((&*state.backend, &*state.server), state)).collect();
    let (mut commands, mut beyond) = (Vec::new(), Vec::new());
    for (name, pool) in backends {
        for server in pool.servers.values() {
            match seen.get(&(&**name, &*server.name)) {
                Some(seen) => commands.extend(mend(name, pool, server, seen)),
                None if pool.elastic && server.is_literal() => {
                    commands.push(Command::AddServer(name.clone(), Box::new(server.clone())));
                }
                None => beyond.push(name.clone()),
            }
        }
    }
    (commands, beyond)
}

fn mend(backend: &BackendName, pool: &Pool, server: &Server, seen: &ServerState) -> Vec<Command> {
    let name = || (backend.clone(), server.name.clone());
    let mut commands = Vec::new();
    if let Address::Socket(ip, port) = server.address
        && (seen.address.parse().ok(), seen.port) != (Some(ip), port)
    {
        let (backend, server) = name();
        commands.push(Command::SetAddress(backend, server, ip, port));
    }
    if seen.weight != server.effective_weight() && pool.elastic {
        let (backend, name) = name();
        commands.push(Command::SetWeight(backend, name, server.effective_weight()));
    }
    // HAProxy itself puts a server into maintenance while its name has no address.
    if (seen.maintenance || seen.drain) && !matches!(server.address, Address::Name(..)) {
        let (backend, server) = name();
        commands.push(Command::Return(backend, server));
    }
    commands
}

/// Commands that retire servers which are not in the table. Only in `elastic` backends, where all servers are ours:
/// elsewhere they may come from `custom_settings` or a `server-template`.
pub fn strangers(running: &Running, states: &[ServerState]) -> Vec<Command> {
    let stranger = |state: &&ServerState| {
        let pool = running.backends.get(&*state.backend);
        !state.maintenance
            && pool.is_some_and(|pool| pool.elastic && !pool.servers.values().any(|server| server.name == state.server))
    };
    let strangers = states.iter().filter(stranger);
    strangers.map(|state| Command::Retire((&*state.backend).into(), state.server.clone())).collect()
}

/// Commands that bring one map back to what it should be. `seen` is in the worker's order.
pub fn map(running: &Running, name: MapName, seen: &[(&str, &str)]) -> Vec<Command> {
    let wanted = running.maps.entries(name);
    if name == MapName::Patterns {
        let same =
            wanted.len() == seen.len() && wanted.iter().zip(seen).all(|((k, v), (key, value))| k == key && v == value);
        let all = wanted.into_iter().map(|(key, value)| (key.into(), value)).collect();
        return if same { Vec::new() } else { vec![Command::ReplaceMap(name, all)] };
    }
    let has: HashMap<&str, &str> = seen.iter().copied().collect();
    let mut commands = Vec::new();
    for (key, value) in &wanted {
        match has.get(key) {
            Some(old) if old == value => {}
            Some(_) => commands.push(Command::SetEntry(name, (*key).into(), value.clone())),
            None => commands.push(Command::AddEntry(name, (*key).into(), value.clone())),
        }
    }
    let stays: HashSet<&str> = wanted.iter().map(|(key, _)| *key).collect();
    let gone = seen.iter().filter(|(key, _)| !stays.contains(key));
    commands.extend(gone.map(|(key, _)| Command::DeleteEntry(name, (*key).into())));
    commands
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::answers;
    use super::super::desire::tests::desired_of;
    use super::*;

    /// Commands about a server that is in `show servers state` and not in the keys.
    fn about_a_stranger(more: &str) -> usize {
        let desired = desired_of(&["services/web/domain = a", "services/web/one = 10.0.0.1:80", more]);
        let running = Running::rendered(&desired, Vec::new(), &Arc::default());
        let states = "1\n# be_name srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_port\n\
                      services:web own 10.0.0.9 2 0 1 1 80\n";
        strangers(&running, &answers::servers(states)).len()
    }

    #[test]
    fn servers_that_operators_wrote_are_no_strangers() {
        assert_eq!(about_a_stranger("services/web/balance = leastconn"), 1);
        assert_eq!(about_a_stranger("services/web/custom_settings = server own 10.0.0.9:80"), 0);
        assert_eq!(about_a_stranger("services/web/dns = web.test"), 0);
    }
}
