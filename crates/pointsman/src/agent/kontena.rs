//! Kontena's labels and environment: for a container linked to a load balancer, the same keys that Kontena's agent
//! wrote.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use pointsman_table::Protocol;

use super::complaint::{Complaint, ComplaintKind};
use super::container::Container;
use super::offer::{AgentDefaults, Offer};
use super::options::{self, Options};
use super::{address, name, port};

/// The balancer that a container is linked to: `lb`, or `stack/lb`.
pub(super) const BALANCER: &str = "io.kontena.load_balancer.name";
const SERVICE: &str = "io.kontena.service.name";
const STACK: &str = "io.kontena.stack.name";
const NAME: &str = "io.kontena.container.name";
const TYPE: &str = "io.kontena.container.type";
const OVERLAY: &str = "io.kontena.container.overlay_cidr";
const MODE: (&str, &str) = ("io.kontena.load_balancer.mode", "KONTENA_LB_MODE");
const PORT: (&str, &str) = ("io.kontena.load_balancer.internal_port", "KONTENA_LB_INTERNAL_PORT");
const HEALTH_URI: &str = "io.kontena.health_check.uri";
const HEALTH_PORT: &str = "io.kontena.health_check.port";
/// The prefix of Kontena's balancers' keys.
const TREE: &str = "/kontena/haproxy";
/// The default that Kontena's agent wrote, also for TCP services, so that their balancer's own default, `leastconn`,
/// was never used. After a migration from Kontena, connections are spread as before.
const BALANCE: &str = "roundrobin";
/// The port where Kontena's balancer listened for a TCP service without a port.
const EXTERNAL_PORT: &str = "5000";

/// The offer in Kontena's labels: at most one service.
pub(super) fn offer(container: &Container, defaults: &AgentDefaults, complaints: &mut Vec<Complaint>) -> Option<Offer> {
    // A service's volumes are in a separate container with the same labels.
    let volumes = container.label(TYPE) == Some("volume");
    let balancer = container.labels.get(BALANCER).filter(|_| !volumes)?;
    let address = socket(container, defaults);
    match (prefix(container, balancer.trim()), protocol(container), service(container), instance(container), address) {
        (Ok(prefix), Ok(protocol), Ok(service), Ok(instance), Ok(address)) => {
            let value = options::value(container, address, Options::default());
            let settings = settings(container, protocol);
            Some(Offer { prefix, protocol, service, instance, value, settings })
        }
        (prefix, protocol, service, instance, address) => {
            let faults = [prefix.err(), protocol.err(), service.err(), instance.err(), address.err()];
            complaints.extend(faults.into_iter().flatten());
            None
        }
    }
}

fn bad(container: &Container, label: &str, value: &str, advice: &str) -> Complaint {
    Complaint::new(ComplaintKind::BadLabel, container, label, Some(value), advice)
}

/// A label's value, else a variable's; and the name of the one used.
fn either<'a>(container: &'a Container, (label, variable): (&'a str, &'a str)) -> Option<(&'a str, &'a str)> {
    let labelled = container.label(label).map(|value| (label, value));
    labelled.or_else(|| variable_of(container, variable).map(|value| (variable, value)))
}

/// A variable's value; `None` if it is empty, which means not set.
fn variable_of<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container.env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn protocol(container: &Container) -> Result<Protocol, Complaint> {
    match either(container, MODE) {
        None | Some((_, "http")) => Ok(Protocol::Http),
        Some((_, "tcp")) => Ok(Protocol::Tcp),
        Some((label, value)) => Err(bad(container, label, value, "expected http or tcp")),
    }
}

fn prefix(container: &Container, balancer: &str) -> Result<String, Complaint> {
    match balancer.split('/').find_map(name::fault) {
        Some(_) => Err(bad(container, BALANCER, balancer, "expected a balancer's name: lb, or stack/lb")),
        None => Ok(format!("{TREE}/{balancer}")),
    }
}

/// `STACK-SERVICE`. Containers that Kontena did not start lack these labels; they use Compose's service name, or else
/// the container's name without its number.
fn service(container: &Container) -> Result<String, Complaint> {
    let (label, service) = match container.label(SERVICE) {
        Some(service) => match container.label(STACK).filter(|stack| *stack != "null") {
            Some(stack) => (STACK, format!("{stack}-{service}")),
            None => (SERVICE, service.to_owned()),
        },
        None => {
            let composed = container.label("com.docker.compose.service");
            (SERVICE, composed.unwrap_or_else(|| name::without_number(&container.name)).to_owned())
        }
    };
    match name::fault(&service) {
        Some(advice) => Err(bad(container, label, &service, advice)),
        None => Ok(service),
    }
}

fn instance(container: &Container) -> Result<String, Complaint> {
    let instance = container.label(NAME).unwrap_or(&container.name);
    match name::fault(instance) {
        Some(advice) => Err(bad(container, NAME, instance, advice)),
        None => Ok(instance.to_owned()),
    }
}

/// Kontena's own network, if the container has an address there.
fn socket(container: &Container, defaults: &AgentDefaults) -> Result<SocketAddr, Complaint> {
    let port = match either(container, PORT) {
        Some((label, value)) => port::given(container, label, value)?,
        None => port::USUAL,
    };
    let Some(overlay) = container.label(OVERLAY) else { return address::of(container, defaults, None, port) };
    let ip = overlay.split('/').next().unwrap_or_default().parse::<IpAddr>();
    let wrong = |_| bad(container, OVERLAY, overlay, "expected an address, such as 10.81.128.6/16");
    ip.map(|ip| SocketAddr::new(ip, port)).map_err(wrong)
}

fn settings(container: &Container, protocol: Protocol) -> BTreeMap<String, String> {
    let mut settings: BTreeMap<String, String> = BTreeMap::new();
    let mut set =
        |key: &str, value: Option<&str>| settings.extend(value.map(|value| (key.to_owned(), value.to_owned())));
    let variable = |name| variable_of(container, name);
    set("balance", Some(variable("KONTENA_LB_BALANCE").unwrap_or(BALANCE)));
    set("custom_settings", variable("KONTENA_LB_CUSTOM_SETTINGS"));
    set("health_check_port", container.label(HEALTH_PORT));
    if protocol == Protocol::Tcp {
        set("external_port", Some(variable("KONTENA_LB_EXTERNAL_PORT").unwrap_or(EXTERNAL_PORT)));
        return settings;
    }
    let (hosts, path) = (variable("KONTENA_LB_VIRTUAL_HOSTS"), variable("KONTENA_LB_VIRTUAL_PATH"));
    set("virtual_hosts", hosts);
    // A service without hosts and path gets every request that no other service matches.
    set("virtual_path", path.or_else(|| hosts.is_none().then_some("/")));
    set("keep_virtual_path", variable("KONTENA_LB_KEEP_VIRTUAL_PATH"));
    // Empty means Kontena's own cookie, absent means no cookie.
    let even_empty = |name| container.env.get(name).map(|value| value.trim());
    set("cookie", even_empty("KONTENA_LB_COOKIE"));
    // Empty must not open the service, as it did not with Kontena's.
    set("basic_auth_secrets", even_empty("KONTENA_LB_BASIC_AUTH_SECRETS"));
    set("health_check_uri", container.label(HEALTH_URI));
    settings
}
