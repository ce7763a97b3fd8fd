//! confd's way with HAProxy: the whole configuration from a template with one ACL a service, checked, and another HAProxy
//! that takes over (`-sf`). confd's own watching and rendering is left out, so it is measured as faster than it is.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::store::host;
use crate::peers::{self, Peer, Workplace};

/// What of a service the template writes.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// Its instances.
    pub(super) instances: Vec<SocketAddr>,
    /// A timeout of its own.
    pub(super) timeout: Option<&'static str>,
}

/// HAProxy, and those before it that still finish.
pub(super) struct Confd {
    /// What is to be served; the number is the name.
    pub(super) services: Vec<Service>,
    address: SocketAddr,
    file: PathBuf,
    /// The last one serves.
    started: Vec<Peer>,
}

impl Confd {
    /// Serves as many services, each of one instance.
    pub(super) fn start(place: &Workplace, services: usize, instance: SocketAddr) -> io::Result<Self> {
        let service = Service { instances: vec![instance], timeout: None };
        let (address, file) = (peers::free_address()?, place.path().join("confd.cfg"));
        let mut confd = Self { services: vec![service; services], address, file, started: Vec::new() };
        confd.apply()?;
        Ok(confd)
    }

    /// The HAProxy that serves.
    pub(super) fn peer(&self) -> &Peer {
        self.started.last().expect("one was started")
    }

    /// Serves what `services` are now.
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
