//! confd's way with HAProxy: the whole configuration from a template with one ACL per service, a check, and a new
//! HAProxy that takes over (`-sf`). confd's own watching and rendering is omitted, so the figures favour confd.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::peers::{self, Peer, Workplace};
use crate::store::host;

/// The template's data for a service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// Its instances.
    pub(super) instances: Vec<SocketAddr>,
    /// Its own timeout, if any.
    pub(super) timeout: Option<&'static str>,
}

/// HAProxy, and older processes that still finish.
pub(super) struct Confd {
    /// The services; the index is the name.
    pub(super) services: Vec<Service>,
    address: SocketAddr,
    file: PathBuf,
    /// The last one serves.
    started: Vec<Peer>,
}

impl Confd {
    /// Serves this many services, each with one instance.
    pub(super) fn start(place: &Workplace, services: usize, instance: SocketAddr) -> io::Result<Self> {
        let service = Service { instances: vec![instance], timeout: None };
        let (address, file) = (peers::free_address()?, place.path().join("confd.cfg"));
        let mut confd = Self { services: vec![service; services], address, file, started: Vec::new() };
        confd.apply()?;
        Ok(confd)
    }

    /// The serving HAProxy.
    pub(super) fn peer(&self) -> &Peer {
        self.started.last().expect("at least one was started")
    }

    /// Applies the current `services`.
    pub(super) fn apply(&mut self) -> io::Result<()> {
        fs::write(&self.file, self.text())?;
        let check = Command::new("haproxy").args(["-c", "-q", "-f"]).arg(&self.file).stderr(Stdio::null()).status()?;
        if !check.success() {
            return Err(io::Error::other("HAProxy refuses the template's configuration"));
        }
        self.started.retain_mut(|peer| !peer.has_ended());
        let before: Vec<String> = self.started.last().map(|peer| peer.id().to_string()).into_iter().collect();
        let mut arguments = if before.is_empty() { Vec::new() } else { vec!["-sf"] };
        arguments.extend(before.iter().map(String::as_str));
        self.started.push(peers::haproxy_with(self.address, &self.file, &arguments)?);
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = format!(
            "global\n  nbthread 1\n  maxconn 8000\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  option forwardfor\n\
             frontend http-in\n  bind {}\n",
            self.address
        );
        for number in 0..self.services.len() {
            let _ = writeln!(text, "  acl host_s{number} hdr(host) -i {}", host(number));
        }
        for number in 0..self.services.len() {
            let _ = writeln!(text, "  use_backend s{number}_backend if host_s{number}");
        }
        for (number, service) in self.services.iter().enumerate() {
            let _ = writeln!(text, "backend s{number}_backend\n  balance roundrobin");
            let _ = service.timeout.map(|timeout| writeln!(text, "  timeout server {timeout}"));
            for (place, instance) in service.instances.iter().enumerate() {
                let _ = writeln!(text, "  server s{number}-{place} {instance}");
            }
        }
        text
    }
}
