//! Commands for the runtime socket, as data, with their wording and the answers that mean success (HAProxy Management
//! Guide, chapter 9.3). Sends nothing.

use std::net::IpAddr;
use std::path::Path;

use pointsman_table::PemText;

use super::maps::MapName;
use super::model::Server;
use super::names::BackendName;
use super::runtime::word;
use super::tickets::TicketKeys;

/// One change that a running worker can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Adds a server, which gets work at once.
    AddServer(BackendName, Box<Server>),
    /// Changes a server's address.
    SetAddress(BackendName, Box<str>, IpAddr, u16),
    /// Changes a server's weight; with 0 it gets no new work.
    SetWeight(BackendName, Box<str>, u16),
    /// Changes a server's connection limit; 0 is no limit.
    SetMaxConnections(BackendName, Box<str>, u32),
    /// Takes a server out of service for good; its connections go on.
    Retire(BackendName, Box<str>),
    /// Puts a server back into service that was to be deleted.
    Return(BackendName, Box<str>),
    /// Adds an entry to a map.
    AddEntry(MapName, Box<str>, String),
    /// Changes the value of a map's entry.
    SetEntry(MapName, Box<str>, String),
    /// Deletes an entry of a map.
    DeleteEntry(MapName, Box<str>),
    /// Replaces all entries of a map at once, in this order.
    ReplaceMap(MapName, Vec<(Box<str>, String)>),
    /// Replaces the certificate of a name.
    SetCertificate(Box<str>, PemText),
    /// Replaces the keys of session tickets.
    SetTicketKeys(TicketKeys),
}

impl Command {
    /// The lines to send. Maps and certificates are named by their paths below the folder. None for
    /// [`Command::ReplaceMap`] and [`Command::SetCertificate`], which are transactions, nor for
    /// [`Command::SetTicketKeys`], whose words are secret: see `apply`.
    pub fn lines(&self, folder: &Path) -> Vec<String> {
        let map = |name: &MapName| folder.join(name.file()).display().to_string();
        match self {
            Self::AddServer(backend, server) => add_server(backend, server),
            Self::SetAddress(backend, server, ip, port) => {
                vec![format!("set server {backend}/{server} addr {ip} port {port}")]
            }
            Self::SetWeight(backend, server, weight) => vec![format!("set server {backend}/{server} weight {weight}")],
            Self::SetMaxConnections(backend, server, most) => {
                vec![format!("set maxconn server {backend}/{server} {most}")]
            }
            Self::Retire(backend, server) => vec![format!("set server {backend}/{server} state maint")],
            Self::Return(backend, server) => vec![format!("set server {backend}/{server} state ready")],
            Self::AddEntry(name, key, value) => vec![format!("add map {} {} {value}", map(name), word(key))],
            Self::SetEntry(name, key, value) => vec![format!("set map {} {} {value}", map(name), word(key))],
            Self::DeleteEntry(name, key) => vec![format!("del map {} {}", map(name), word(key))],
            Self::ReplaceMap(..) | Self::SetCertificate(..) | Self::SetTicketKeys(..) => Vec::new(),
        }
    }
}

/// HAProxy adds a server in maintenance and without checks: both are switched on afterwards.
fn add_server(backend: &BackendName, server: &Server) -> Vec<String> {
    let name = format!("{backend}/{}", server.name);
    let words: Vec<_> = server.words().iter().map(|text| word(text).into_owned()).collect();
    let mut lines = vec![format!("add server {name} {}", words.join(" "))];
    if server.check {
        lines.push(format!("enable health {name}"));
    }
    lines.push(format!("set server {name} state ready"));
    lines
}
