//! Stores that the bench writes keys to: a folder, and etcd over its JSON gateway.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::admin::ask;
use crate::peers::{self, Peer, Workplace};

/// The prefix of the keys in etcd.
const PREFIX: &str = "/bench";
/// Maximum keys per etcd transaction.
const TRANSACTION: usize = 120;

/// A store of our own.
pub(crate) enum Store {
    /// Keys are files.
    Folder(PathBuf),
    /// etcd, API 3.
    Etcd(Peer),
}

impl Store {
    /// An empty folder.
    pub(crate) fn folder(place: &Workplace, name: &str) -> io::Result<Self> {
        let folder = place.path().join(name);
        fs::create_dir_all(&folder)?;
        Ok(Self::Folder(folder))
    }

    /// A new etcd.
    pub(crate) fn etcd(place: &Workplace) -> io::Result<Self> {
        Ok(Self::Etcd(peers::etcd(place)?))
    }

    /// The flags that make Pointsman read it.
    pub(crate) fn flags(&self) -> [String; 4] {
        let (store, prefix) = match self {
            Self::Folder(folder) => (folder.display().to_string(), "/"),
            Self::Etcd(etcd) => (format!("http://{}", etcd.address), PREFIX),
        };
        ["--store".to_owned(), store, "--prefix".to_owned(), prefix.to_owned()]
    }

    /// Writes services with a host and one instance each.
    pub(crate) fn fill(&self, services: usize, instance: SocketAddr) -> io::Result<()> {
        let keys: Vec<_> = (0..services)
            .flat_map(|n| [(format!("services/s{n}/domain"), host(n)), (instance_key(n, 0), instance.to_string())])
            .collect();
        self.put(&keys)
    }

    /// Writes keys.
    pub(crate) fn put(&self, keys: &[(String, String)]) -> io::Result<()> {
        match self {
            Self::Folder(folder) => keys.iter().try_for_each(|(key, value)| {
                // Written to another file and renamed, so that readers never see a partial one.
                let (file, new) = (folder.join(key), folder.join(".new"));
                fs::create_dir_all(file.parent().unwrap_or(folder))?;
                fs::write(&new, value)?;
                fs::rename(&new, &file)
            }),
            Self::Etcd(etcd) => put_all(etcd.address, PREFIX, keys),
        }
    }

    /// Deletes a key.
    pub(crate) fn delete(&self, key: String) -> io::Result<()> {
        match self {
            Self::Folder(folder) => fs::remove_file(folder.join(key)),
            Self::Etcd(etcd) => transact(etcd.address, PREFIX, &[(key, String::new())], "DeleteRange"),
        }
    }
}

/// The key of an instance, by the numbers of its service and of itself.
pub(crate) fn instance_key(service: usize, number: usize) -> String {
    format!("services/s{service}/s{service}-{number}")
}

/// Writes keys below a prefix of etcd.
pub(crate) fn put_all(etcd: SocketAddr, prefix: &str, keys: &[(String, String)]) -> io::Result<()> {
    keys.chunks(TRANSACTION).try_for_each(|some| transact(etcd, prefix, some, "Put"))
}

fn transact(etcd: SocketAddr, prefix: &str, keys: &[(String, String)], what: &str) -> io::Result<()> {
    let operation = |(key, value): &(String, String)| {
        let key = STANDARD.encode(format!("{prefix}/{key}"));
        let value = match what {
            "Put" => format!(",\"value\":\"{}\"", STANDARD.encode(value)),
            _ => String::new(),
        };
        format!("{{\"request{what}\":{{\"key\":\"{key}\"{value}}}}}")
    };
    let operations: Vec<_> = keys.iter().map(operation).collect();
    let body = format!("{{\"success\":[{}]}}", operations.join(","));
    let length = body.len();
    let head =
        format!("POST /v3/kv/txn HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    let answer = ask(etcd, &(head + &body))?;
    if answer.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(io::Error::other(format!("etcd: {answer}"))) }
}

/// The host of a service by its number, as in wrk's scripts.
pub(crate) fn host(number: usize) -> String {
    format!("s{number}.test")
}
