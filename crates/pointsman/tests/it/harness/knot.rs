//! Debian's Knot DNS: a real name server with one zone, which takes signed updates of TXT records (RFC 2136).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::process::Process;
use super::{free_port, wait};

/// A running server.
pub(crate) struct Knot {
    home: TempDir,
    pub(crate) address: SocketAddr,
    process: Process,
}

impl Knot {
    /// The key that it takes updates with.
    pub(crate) const KEY: &str = "hmac-sha256:up.test:c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";

    /// With this zone.
    #[track_caller]
    pub(crate) fn start(zone: &str) -> Self {
        let home = TempDir::new().expect("a temporary folder");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let folder = home.path().display().to_string();
        let [algorithm, name, secret] = Self::KEY.split(':').collect::<Vec<_>>()[..] else { unreachable!() };
        let config = format!(
            "server:\n    rundir: \"{folder}\"\n    listen: 127.0.0.1@{port}\n\
             database:\n    storage: \"{folder}\"\n    journal-db-max-size: 20M\n    timer-db-max-size: 10M\n    kasp-db-max-size: 10M\n\
             log:\n  - target: stderr\n    any: info\n\
             key:\n  - id: {name}\n    algorithm: {algorithm}\n    secret: {secret}\n\
             acl:\n  - id: up\n    key: {name}\n    action: update\n    update-type: TXT\n\
             zone:\n  - domain: {zone}\n    storage: \"{folder}\"\n    file: zone\n    acl: up\n",
            port = address.port(),
        );
        let records = format!(
            "{zone}. 60 IN SOA ns.{zone}. admin.{zone}. 1 3600 600 86400 1\n{zone}. 60 IN NS ns.{zone}.\nns.{zone}. 60 IN A 127.0.0.1\n"
        );
        std::fs::write(home.path().join("knot.conf"), config).expect("our own folder");
        std::fs::write(home.path().join("zone"), records).expect("our own folder");
        let mut process = Process::start(Command::new("knotd").arg("-c").arg(home.path().join("knot.conf")));
        process.wait_log("server started");
        wait("Knot", || std::net::TcpStream::connect(address).is_ok());
        Self { home, address, process }
    }

    /// A file with this text, for `--acme-dns-key`.
    pub(crate) fn key(&self, text: &str) -> PathBuf {
        let file = self.home.path().join("key");
        std::fs::write(&file, text).expect("our own folder");
        file
    }

    /// What it has said since it was started.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Its zone, as it writes it to its file after every change.
    pub(crate) fn zone(&self) -> String {
        std::fs::read_to_string(self.home.path().join("zone")).unwrap_or_default()
    }
}
