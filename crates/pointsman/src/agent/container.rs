//! The facts about one container, from the daemon's answer. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bollard::models::{
    ContainerConfig, ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, EndpointSettings,
    HealthStatusEnum, NetworkSettings,
};

use super::{moment, signal};

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Docker's id, 64 hexadecimal digits.
    pub id: String,
    /// Its name, without Docker's leading slash.
    pub name: String,
    /// Its creation, in nanoseconds since 1970 on the daemon's clock.
    pub created: i64,
    /// Its last start, on the same clock.
    pub started: i64,
    /// Its labels, including those of its image.
    pub labels: BTreeMap<String, String>,
    /// The part of its environment that begins with `KONTENA_LB_`.
    pub env: BTreeMap<String, String>,
    /// The networks it is attached to, and its address there, if any: IPv4, else IPv6.
    pub networks: BTreeMap<String, Option<IpAddr>>,
    /// Whether it uses the host's network (`--network host`).
    pub host_network: bool,
    /// The host addresses where its TCP ports are published, by the port inside.
    pub published: BTreeMap<u16, Vec<SocketAddr>>,
    /// The TCP ports that it or its image exposes, including published ones.
    pub exposed: BTreeSet<u16>,
    /// The state of its process.
    pub state: State,
    /// The result of its health check.
    pub health: Health,
    /// The number of its stop signal.
    pub stop_signal: u8,
    /// Whether that signal, or `SIGKILL`, was sent since its last start. Not in the daemon's answer; events tell.
    pub stopping: bool,
}

/// The state of a container's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// No process: created, restarting, exited, being removed.
    Stopped,
}

/// The result of a container's health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No health check.
    None,
    /// Not passed yet.
    Starting,
    /// Passed.
    Healthy,
    /// Failed.
    Unhealthy,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            id: String::new(),
            name: String::new(),
            created: 0,
            started: 0,
            labels: BTreeMap::new(),
            env: BTreeMap::new(),
            networks: BTreeMap::new(),
            host_network: false,
            published: BTreeMap::new(),
            exposed: BTreeSet::new(),
            state: State::Running,
            health: Health::None,
            stop_signal: signal::TERM,
            stopping: false,
        }
    }
}

impl Container {
    /// Takes the daemon's answer. Missing or invalid fields count as absent.
    pub fn from_inspect(answer: ContainerInspectResponse) -> Self {
        let ContainerInspectResponse { id, name, created, state, host_config, config, network_settings, .. } = answer;
        let (state, config) = (state.unwrap_or_default(), config.unwrap_or_default());
        let network = network_settings.unwrap_or_default();
        let published = published(&network);
        Self {
            id: id.unwrap_or_default(),
            name: name.unwrap_or_default().trim_start_matches('/').to_owned(),
            created: created.as_deref().and_then(moment::parse).unwrap_or_default(),
            started: state.started_at.as_deref().and_then(moment::parse).unwrap_or_default(),
            env: kontena_environment(&config),
            host_network: host_config.and_then(|host| host.network_mode).as_deref() == Some("host"),
            exposed: exposed(&config, &network),
            published,
            state: State::from(&state),
            health: Health::from(&state),
            stop_signal: config.stop_signal.as_deref().and_then(signal::parse).unwrap_or(signal::TERM),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            networks: network.networks.unwrap_or_default().into_iter().map(attachment).collect(),
            stopping: false,
        }
    }

    /// Whether it may get new work.
    pub fn takes_work(&self) -> bool {
        let healthy = matches!(self.health, Health::None | Health::Healthy);
        self.state == State::Running && healthy && !self.stopping
    }

    /// A label's value, trimmed; `None` if it is empty.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

impl From<&ContainerState> for State {
    fn from(state: &ContainerState) -> Self {
        // For a container that waits for its restart, Docker reports `running` too.
        let away = state.restarting == Some(true) || state.dead == Some(true);
        let status = state.status.unwrap_or(ContainerStateStatusEnum::EMPTY);
        match (away, state.paused == Some(true)) {
            (true, _) => Self::Stopped,
            (false, true) => Self::Paused,
            (false, false) if state.running == Some(true) => Self::Running,
            (false, false) if state.running.is_none() && status == ContainerStateStatusEnum::RUNNING => Self::Running,
            (false, false) => Self::Stopped,
        }
    }
}

impl From<&ContainerState> for Health {
    fn from(state: &ContainerState) -> Self {
        match state.health.as_ref().and_then(|health| health.status) {
            None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) => Self::None,
            Some(HealthStatusEnum::STARTING) => Self::Starting,
            Some(HealthStatusEnum::HEALTHY) => Self::Healthy,
            Some(HealthStatusEnum::UNHEALTHY) => Self::Unhealthy,
        }
    }
}

fn kontena_environment(config: &ContainerConfig) -> BTreeMap<String, String> {
    let lines = config.env.iter().flatten().filter(|line| line.starts_with("KONTENA_LB_"));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The port of `80/tcp`, or of `80`.
fn tcp_port(text: &str) -> Option<u16> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    port.parse().ok().filter(|port| *port > 0 && protocol == "tcp")
}

fn exposed(config: &ContainerConfig, network: &NetworkSettings) -> BTreeSet<u16> {
    let published = network.ports.iter().flat_map(|ports| ports.keys());
    config.exposed_ports.iter().flatten().chain(published).filter_map(|text| tcp_port(text)).collect()
}

fn published(network: &NetworkSettings) -> BTreeMap<u16, Vec<SocketAddr>> {
    let mut found: BTreeMap<u16, Vec<SocketAddr>> = BTreeMap::new();
    for (inside, bindings) in network.ports.iter().flatten() {
        for binding in bindings.iter().flatten() {
            let ip = match binding.host_ip.as_deref().unwrap_or_default() {
                "" => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                text => text.parse().ok(),
            };
            let port = binding.host_port.as_deref().and_then(|text| text.parse().ok()).filter(|port| *port > 0);
            if let (Some(inside), Some(ip), Some(port)) = (tcp_port(inside), ip, port) {
                found.entry(inside).or_default().push(SocketAddr::new(ip, port));
            }
        }
    }
    found.values_mut().for_each(|addresses| addresses.sort_unstable());
    found
}

fn attachment((name, settings): (String, EndpointSettings)) -> (String, Option<IpAddr>) {
    let addresses = [settings.ip_address, settings.global_ipv6_address];
    let ip = addresses.into_iter().flatten().find_map(|text| text.parse::<IpAddr>().ok());
    (name, ip.filter(|ip| !ip.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Container {
        Container::from_inspect(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn takes_what_the_daemon_says() {
        let container = read(
            r#"{"Id": "abc", "Created": "1970-01-01T00:00:01Z", "Name": "/web-1",
                "State": {"Status": "running", "Running": true, "Paused": false, "Restarting": false,
                          "StartedAt": "1970-01-01T00:00:02Z", "Health": {"Status": "starting"}},
                "HostConfig": {"NetworkMode": "default"},
                "Config": {"Env": ["PATH=/bin", "KONTENA_LB_MODE=tcp", "KONTENA_LB_COOKIE=", "KONTENA_LB_X=a=b", "odd"],
                           "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "StopSignal": "SIGQUIT",
                           "Labels": {"pointsman.port": "80"}},
                "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "::", "HostPort": "32768"},
                                                         {"HostIp": "0.0.0.0", "HostPort": "32768"}],
                                              "81/tcp": null, "53/udp": [{"HostIp": "", "HostPort": "53"}]},
                                    "Networks": {"bridge": {"IPAddress": "172.17.0.2"},
                                                 "six": {"IPAddress": "", "GlobalIPv6Address": "fd00::2"},
                                                 "none": {"IPAddress": ""}}}}"#,
        );
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        assert_eq!(
            container,
            Container {
                id: "abc".to_owned(),
                name: "web-1".to_owned(),
                created: 1_000_000_000,
                started: 2_000_000_000,
                labels: [("pointsman.port", "80")].map(pair).into(),
                env: [("KONTENA_LB_MODE", "tcp"), ("KONTENA_LB_COOKIE", ""), ("KONTENA_LB_X", "a=b")].map(pair).into(),
                networks: [("bridge", Some("172.17.0.2")), ("six", Some("fd00::2")), ("none", None)]
                    .map(|(name, ip)| (name.to_owned(), ip.map(|ip| ip.parse().unwrap())))
                    .into(),
                published: [(80, vec!["0.0.0.0:32768".parse().unwrap(), "[::]:32768".parse().unwrap()])].into(),
                exposed: [80, 81].into(),
                health: Health::Starting,
                stop_signal: 3,
                ..Container::default()
            }
        );
    }

    #[test]
    fn takes_an_answer_that_says_little() {
        assert_eq!(read("{}"), Container { state: State::Stopped, ..Container::default() });
        let odd = read(
            r#"{"Name": "", "Created": "soon", "State": {"StartedAt": ""}, "Config": {"StopSignal": "SIGNOSUCH",
                "ExposedPorts": {"": {}, "0/tcp": {}, "70000/tcp": {}, "x/tcp": {}}},
                "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "here", "HostPort": "1"}, {"HostPort": ""}, {}]},
                                    "Networks": {"a": {"IPAddress": "invalid IP"}}}}"#,
        );
        let networks = [("a".to_owned(), None)].into();
        assert_eq!(odd, Container { state: State::Stopped, networks, exposed: [80].into(), ..Container::default() });
    }

    #[test]
    fn tells_states_apart() {
        for (state, expected) in [
            (r#"{"Status": "running", "Running": true}"#, State::Running),
            (r#"{"Status": "running"}"#, State::Running),
            (r#"{"Status": "paused", "Running": true, "Paused": true}"#, State::Paused),
            (r#"{"Status": "restarting", "Running": true, "Restarting": true}"#, State::Stopped),
            (r#"{"Status": "exited", "Running": false}"#, State::Stopped),
            (r#"{"Status": "dead", "Dead": true}"#, State::Stopped),
            (r#"{"Status": "created"}"#, State::Stopped),
        ] {
            assert_eq!(read(&format!(r#"{{"State": {state}}}"#)).state, expected, "{state}");
        }
        let host = read(r#"{"HostConfig": {"NetworkMode": "host"}}"#);
        assert!(host.host_network);
    }

    #[test]
    fn takes_work_only_while_it_runs_well() {
        let takes = |state, health, stopping| Container { state, health, stopping, ..<_>::default() }.takes_work();
        assert!(takes(State::Running, Health::None, false));
        assert!(takes(State::Running, Health::Healthy, false));
        assert!(!takes(State::Running, Health::Starting, false));
        assert!(!takes(State::Running, Health::Unhealthy, false));
        assert!(!takes(State::Paused, Health::None, false));
        assert!(!takes(State::Running, Health::None, true));
    }
}
