//! Finds the address at which balancers reach a container. Never guesses: if there is a choice and nobody has made it,
//! it reports that.

use std::net::{IpAddr, SocketAddr};

use super::complaint::{Complaint, ComplaintKind};
use super::container::Container;
use super::offer::AgentDefaults;

/// The label that names a network.
const NETWORK: &str = "pointsman.network";

/// The address for the container's `port`. `network` is the label that names a network, and its value.
pub(super) fn of(
    container: &Container,
    defaults: &AgentDefaults,
    network: Option<(&str, &str)>,
    port: u16,
) -> Result<SocketAddr, Complaint> {
    let (label, value) = network.map_or((NETWORK, None), |(label, value)| (label, Some(value)));
    let complain = |advice: String| Complaint::new(ComplaintKind::NoAddress, container, label, value, advice);
    if container.host_network {
        return on_the_host(defaults, value, port).map_err(complain);
    }
    if let Some(name) = value {
        return in_network(container, name).map(|ip| SocketAddr::new(ip, port)).map_err(complain);
    }
    let bindings = container.published.get(&port).filter(|bindings| !bindings.is_empty());
    let unreached = match defaults.host.zip(bindings) {
        Some((host, bindings)) => match bindings.iter().find(|binding| reaches(host, binding.ip())) {
            Some(binding) => return Ok(SocketAddr::new(host, binding.port())),
            None => Some(unreached(host, port, bindings)),
        },
        None => None,
    };
    match defaults.network.as_deref().filter(|name| container.networks.contains_key(*name)) {
        Some(name) => in_network(container, name),
        None => unreached.map_or_else(|| only_network(container), Err),
    }
    .map(|ip| SocketAddr::new(ip, port))
    .map_err(complain)
}

/// A container in the host's network has the host's address.
fn on_the_host(defaults: &AgentDefaults, network: Option<&str>, port: u16) -> Result<SocketAddr, String> {
    if network.is_some_and(|name| name != "host") {
        return Err("it uses the host's network (--network host) and no other; leave the label out".to_owned());
    }
    let host = defaults.host.ok_or("it uses the host's network; set the agent's --host to the machine's address")?;
    Ok(SocketAddr::new(host, port))
}

/// Whether a connection to `host` reaches a listener on `binding`: the wildcard address of the same family, or exactly
/// this address. Only this machine reaches 127.0.0.1, by that address.
fn reaches(host: IpAddr, binding: IpAddr) -> bool {
    binding == host || (binding.is_unspecified() && binding.is_ipv4() == host.is_ipv4())
}

fn unreached(host: IpAddr, port: u16, bindings: &[SocketAddr]) -> String {
    let bindings: Vec<_> = bindings.iter().map(ToString::to_string).collect();
    let bindings = bindings.join(", ");
    format!(
        "its port {port} is published only at {bindings}, which --host {host} does not reach; publish it there, or \
         name a network with this label or --network"
    )
}

fn in_network(container: &Container, name: &str) -> Result<IpAddr, String> {
    match container.networks.get(name) {
        Some(Some(ip)) => Ok(*ip),
        Some(None) => Err(format!("it has no address in the network {name:?}")),
        None => Err(format!("it is not attached to the network {name:?}; it is attached to {}", names(container))),
    }
}

fn only_network(container: &Container) -> Result<IpAddr, String> {
    let mut addresses = container.networks.values().flatten();
    match (addresses.next(), addresses.next()) {
        (Some(ip), None) => Ok(*ip),
        (Some(_), Some(_)) => {
            Err(format!("it is attached to {}; name one with this label or the agent's --network", names(container)))
        }
        (None, _) => {
            Err("it has no address of its own; if it shares another container's network, put the labels on that \
                          container"
                .to_owned())
        }
    }
}

fn names(container: &Container) -> String {
    if container.networks.is_empty() {
        return "none".to_owned();
    }
    container.networks.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `facts` are words: `host` (the host's network), `NET=IP`, `NET=` and `PORT>IP:PORT` of the container,
    /// `label=NET`, `--host=IP` and `--network=NET`. The container's port is 80.
    fn check(facts: &str, expected: &str) {
        let (mut container, mut defaults, mut label) = (Container::default(), AgentDefaults::default(), None);
        for fact in facts.split_whitespace() {
            match fact.split_once(['=', '>']) {
                None => container.host_network = true,
                Some(("label", name)) => label = Some((NETWORK, name)),
                Some(("--host", ip)) => defaults.host = Some(ip.parse().unwrap()),
                Some(("--network", name)) => defaults.network = Some(name.to_owned()),
                Some((port, address)) if fact.contains('>') => {
                    container.published.entry(port.parse().unwrap()).or_default().push(address.parse().unwrap());
                }
                Some((name, ip)) => drop(container.networks.insert(name.to_owned(), ip.parse().ok())),
            }
        }
        let said =
            of(&container, &defaults, label, 80).map_or_else(|complaint| complaint.to_string(), |at| at.to_string());
        assert!(said.contains(expected), "{facts}: {said} has no {expected}");
    }

    #[test]
    fn a_label_names_the_network() {
        check("a=10.0.0.1 b=10.1.0.1 label=b", "10.1.0.1:80");
        check("a=10.0.0.1 b=10.1.0.1 label=b --network=a --host=192.0.2.1 80>0.0.0.0:8080", "10.1.0.1:80");
        check(
            "a=10.0.0.1 b=10.1.0.1 label=c",
            r#"pointsman.network = "c": no address: it is not attached to the network"#,
        );
        check("a=10.0.0.1 b=10.1.0.1 label=c", "attached to a, b");
        check("label=c", "attached to none");
        check("a= label=a", "it has no address in the network");
        check("a=fd00::1 label=a", "[fd00::1]:80");
    }

    #[test]
    fn a_published_port_is_reached_on_the_host() {
        check("a=10.0.0.1 --host=192.0.2.1 80>0.0.0.0:8080", "192.0.2.1:8080");
        check("a=10.0.0.1 --host=192.0.2.1 80>192.0.2.1:8080 80>127.0.0.1:9090", "192.0.2.1:8080");
        check("a=10.0.0.1 --host=2001:db8::1 80>0.0.0.0:8080 80>[::]:8081", "[2001:db8::1]:8081");
        check("a=10.0.0.1 --host=127.0.0.1 80>127.0.0.1:8080", "127.0.0.1:8080");
        check("a=10.0.0.1 b=10.1.0.1 --network=b --host=192.0.2.1 80>0.0.0.0:8080", "192.0.2.1:8080");
        // Another port is published, this one is not.
        check("a=10.0.0.1 --host=192.0.2.1 81>0.0.0.0:8080", "10.0.0.1:80");
        // Without --host, the machine's address is unknown.
        check("a=10.0.0.1 80>0.0.0.0:8080", "10.0.0.1:80");
    }

    #[test]
    fn a_port_published_for_others_is_not_used() {
        check(
            "a=10.0.0.1 --host=192.0.2.1 80>127.0.0.1:8080",
            "pointsman.network: no address: its port 80 is published only at 127",
        );
        check("a=10.0.0.1 --host=192.0.2.1 80>[::]:8080", "published only at [::]:8080");
        check("a=10.0.0.1 --network=a --host=192.0.2.1 80>127.0.0.1:8080", "10.0.0.1:80");
        check("a=10.0.0.1 --network=b --host=192.0.2.1 80>127.0.0.1:8080", "no address");
    }

    #[test]
    fn of_several_networks_one_must_be_named() {
        check("a=10.0.0.1", "10.0.0.1:80");
        check("a=10.0.0.1 b=", "10.0.0.1:80");
        check("a=10.0.0.1 b=10.1.0.1", "attached to a, b; name one with this label or the agent's --network");
        check("a=10.0.0.1 b=10.1.0.1 --network=a", "10.0.0.1:80");
        check("a=10.0.0.1 b=10.1.0.1 --network=c", "attached to a, b");
        check("a=10.0.0.1 b= --network=b", "it has no address in the network");
        check("", "it has no address of its own");
        check("none=", "it has no address of its own");
    }

    #[test]
    fn the_machines_network_is_where_the_machine_is() {
        check("host host= --host=192.0.2.1", "192.0.2.1:80");
        check("host host= label=host --host=192.0.2.1", "192.0.2.1:80");
        check("host host=", "set the agent's --host");
        check("host host= label=a --host=192.0.2.1", "leave the label out");
    }
}
