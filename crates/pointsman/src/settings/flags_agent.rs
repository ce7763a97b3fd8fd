//! The flags of the agent, as [`FLAGS`](super::FLAGS) has them.

use super::docker_host::DockerHost;
use super::flag::{Flag, Group, PLAIN};
use super::parse;

/// Where containers are listed.
pub(super) const DOCKER: Flag = Flag {
    name: "docker",
    value: "URL",
    group: Group::Agent,
    help: "Address of the Docker daemon: unix:///PATH or tcp://HOST:PORT",
    default: "unix:///var/run/docker.sock",
    legacy: &["DOCKER_HOST"],
    read: |draft, choice| {
        draft.agent.docker = DockerHost::parse(choice.text())?;
        Ok(())
    },
    ..PLAIN
};

/// Whose containers they are.
pub(super) const NODE: Flag = Flag {
    name: "node",
    value: "NAME",
    group: Group::Agent,
    help: "This machine's name: the prefix of its instances' names",
    default: "the name that Docker has for the machine",
    read: |draft, choice| {
        draft.agent.node = Some(parse::name(choice.text())?);
        Ok(())
    },
    ..PLAIN
};

/// Where balancers reach them.
pub(super) const HOST: Flag = Flag {
    name: "host",
    value: "IP",
    group: Group::Agent,
    help: "This machine's address as balancers see it: they reach containers there, by the published ports",
    default: "balancers reach containers by the containers' own addresses",
    read: |draft, choice| {
        let wrong = |_| format!("{:?} is not an address; write one such as 10.0.0.7", choice.text());
        draft.agent.host = Some(choice.text().parse().map_err(wrong)?);
        Ok(())
    },
    ..PLAIN
};

/// In which network they are reached.
pub(super) const NETWORK: Flag = Flag {
    name: "network",
    value: "NAME",
    group: Group::Agent,
    help: "The Docker network in which balancers reach containers that are in several",
    read: |draft, choice| {
        draft.agent.network = Some(choice.text().to_owned());
        Ok(())
    },
    ..PLAIN
};

/// How long keys outlive the agent.
pub(super) const TTL: Flag = Flag {
    name: "ttl",
    value: "TIME",
    group: Group::Agent,
    help: "How long the keys stay after the agent has stopped or died",
    default: "15s",
    read: |draft, choice| {
        draft.agent.ttl = parse::ttl(choice.text())?;
        Ok(())
    },
    ..PLAIN
};
