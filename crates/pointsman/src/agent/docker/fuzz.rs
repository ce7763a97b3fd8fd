//! Fuzz target for the daemon's answers; only built for fuzzing and tests. No input may cause a panic.

use bollard::models::{ContainerInspectResponse, EventMessage};

use super::event;
use crate::agent::container::Container;
use crate::agent::offer::AgentDefaults;
use crate::agent::wanted::wanted;

/// Reads JSON as an event and as the inspection of a container, and computes the keys that its labels ask for.
pub fn run(input: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<EventMessage>(input) {
        let _ = event::read(message);
    }
    if let Ok(answer) = serde_json::from_slice::<ContainerInspectResponse>(input) {
        let container = Container::from_inspect(answer);
        let defaults = AgentDefaults { prefix: Some("/p".to_owned()), ..AgentDefaults::default() };
        let _ = wanted([&container], &defaults);
    }
}

#[cfg(test)]
#[path = "../../../../../fuzz/src/mutate.rs"]
mod mutate;

#[cfg(test)]
mod tests {
    const MUTANTS: usize = 60_000;
    const SEEDS: &[&str] = &[
        r#"{"Type":"container","Action":"kill","Actor":{"ID":"c1","Attributes":{"signal":"15"}},"timeNano":3000000001}"#,
        r#"{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1"}},"time":4}"#,
        r#"{"Id":"abc","Created":"1970-01-01T00:00:01Z","Name":"/web-1","State":{"Status":"running","Running":true,
            "StartedAt":"1970-01-01T00:00:02.5Z","Health":{"Status":"healthy"}},"HostConfig":{"NetworkMode":"default"},
            "Config":{"Env":["KONTENA_LB_MODE=tcp","KONTENA_LB_EXTERNAL_PORT=90"],"ExposedPorts":{"80/tcp":{}},
            "Labels":{"pointsman.port":"80","pointsman.domain":"a.test","pointsman.api.mode":"tcp","io.kontena.x":"y"}},
            "NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"32768"}]},
            "Networks":{"bridge":{"IPAddress":"172.17.0.2","GlobalIPv6Address":"fd00::2"}}}}"#,
    ];

    #[test]
    fn docker() {
        let seeds: Vec<_> = SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).collect();
        super::mutate::each(&seeds, MUTANTS, super::run);
    }
}
