//! Debian's Pebble: an ACME server for tests, which checks names for real, at a port and with a name server of ours.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::dns::NameServer;
use super::process::Process;
use super::{Authority, finish, free_port, wait};

/// A running server, and everything that it needs.
pub(crate) struct Pebble {
    home: TempDir,
    authority: Authority,
    names: NameServer,
    /// Where it and its management listen.
    address: SocketAddr,
    management: SocketAddr,
    /// Where it looks for the answers to challenges of the kind http-01.
    http_port: u16,
    /// The same for tls-alpn-01.
    tls_port: u16,
    /// Seconds that its certificates live.
    life: u64,
    /// How long it thinks before it checks a name, at most, seconds.
    pause: u32,
    process: Option<Process>,
}

impl Pebble {
    /// Whose certificates live for five years, and that refuses half of the nonces. Names are of this name server.
    #[track_caller]
    pub(crate) fn start(names: &NameServer) -> Self {
        Self::pausing(names, 157_766_400, 0)
    }

    /// The same with certificates that live for so many seconds, and so many seconds of thought before a name is checked.
    #[track_caller]
    pub(crate) fn pausing(names: &NameServer, life: u64, pause: u32) -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut pebble = Self {
            home: TempDir::new().expect("a temporary folder"),
            authority: Authority::new(),
            names: names.clone(),
            address: loopback(free_port()),
            management: loopback(free_port()),
            http_port: free_port(),
            tls_port: free_port(),
            life,
            pause,
            process: None,
        };
        pebble.resume();
        pebble
    }

    /// Starts it again, with nothing in its memory.
    #[track_caller]
    pub(crate) fn resume(&mut self) {
        let cert = self.authority.issue("pebble", "DNS:localhost,IP:127.0.0.1");
        let config = serde_json::json!({ "pebble": {
            "listenAddress": self.address.to_string(),
            "managementListenAddress": self.management.to_string(),
            "certificate": cert,
            "privateKey": cert,
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "certificateValidityPeriod": self.life,
        }});
        let file = self.home.path().join("pebble.json");
        std::fs::write(&file, config.to_string()).expect("our own folder");
        let mut command = Command::new("pebble");
        command.arg("-config").arg(&file).args(["-dnsserver", &self.names.flag()]);
        command.env("PEBBLE_WFE_NONCEREJECT", "50").env("PEBBLE_AUTHZREUSE", "0");
        // Its store takes a lock for reading twice, and hangs for ever if somebody comes to write in between: on one core that
        // is rare.
        command.env("GOMAXPROCS", "1");
        match self.pause {
            0 => command.env("PEBBLE_VA_NOSLEEP", "1"),
            pause => command.env("PEBBLE_VA_SLEEPTIME", pause.to_string()),
        };
        let mut process = Process::start(&mut command);
        process.wait_log("ACME directory available at");
        self.process = Some(process);
        wait("Pebble", || std::net::TcpStream::connect(self.address).is_ok());
    }

    /// Ends it.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// The URL of its directory.
    pub(crate) fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// The file of the authority that vouches for its own certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.authority.file()
    }

    /// Where balancers must listen for HTTP, on any address.
    pub(crate) fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Where balancers must listen for HTTPS.
    pub(crate) fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// What it has said since it was started.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }

    /// What it says of the certificate with this serial number, in hexadecimal digits.
    #[track_caller]
    pub(crate) fn status(&self, serial: &str) -> String {
        let url = format!("https://{}/cert-status-by-serial/{serial}", self.management);
        finish(Command::new("curl").args(["-s", "--insecure", &url])).ok()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many orders it took, and how many certificates it issued.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let log = self.log();
        let count = |words: &str| log.lines().filter(|line| line.contains(words)).count();
        (count("Added order"), count("Issued certificate serial"))
    }
}
