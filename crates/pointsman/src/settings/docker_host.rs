//! The daemon's address, in the format of `DOCKER_HOST`.

use std::fmt::{Display, Formatter, Result as Written};

/// Docker's default socket.
const SOCKET: &str = "/var/run/docker.sock";
/// Docker's port without TLS.
const PORT: u16 = 2375;

/// The daemon's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerHost {
    /// At a Unix socket, by its path.
    Unix(String),
    /// At `HOST:PORT`, without TLS.
    Tcp(String),
}

impl DockerHost {
    /// Reads `unix:///run/docker.sock`, `tcp://10.0.0.1:2375`, or the path of a socket. The error says what is
    /// expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no place of a Docker daemon; write unix://PATH or tcp://HOST:PORT");
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') {
            return Ok(Self::Unix(path.to_owned()));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let rest = rest.trim_end_matches('/');
        match scheme {
            "tcp" | "http" if !rest.is_empty() && !rest.contains('/') => Ok(Self::Tcp(with_port(rest))),
            "https" | "ssh" | "npipe" | "fd" => Err(format!("{}; {scheme} is not supported", wrong())),
            _ => Err(wrong()),
        }
    }
}

fn with_port(address: &str) -> String {
    let named = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if named && !address.ends_with(']') { address.to_owned() } else { format!("{address}:{PORT}") }
}

impl Default for DockerHost {
    fn default() -> Self {
        Self::Unix(SOCKET.to_owned())
    }
}

/// In the form that `parse` reads: `unix:///var/run/docker.sock`.
impl Display for DockerHost {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        match self {
            Self::Unix(path) => write!(f, "unix://{path}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_reads() {
        for (text, expected) in [
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("/run/x.sock", "unix:///run/x.sock"),
            ("tcp://10.0.0.1:2375", "tcp://10.0.0.1:2375"),
            ("tcp://docker.test/", "tcp://docker.test:2375"),
            ("http://[::1]:1", "tcp://[::1]:1"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("ssh://me@there", "ssh is not supported"),
            ("https://there:2376", "https is not supported"),
            ("tcp://", "write unix://PATH or tcp://HOST:PORT"),
            ("tcp://a/b", "write unix://PATH"),
            ("unix://x", "write unix://PATH"),
            ("docker.sock", "write unix://PATH"),
            ("", "write unix://PATH"),
        ] {
            let said = DockerHost::parse(text).map_or_else(|error| error, |host| host.to_string());
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
