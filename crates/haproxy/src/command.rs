//! Commands for the runtime socket, as data, with their wording and the answers that mean success (HAProxy Management
//! Guide, chapter 9.3). Sends nothing.

use std::net::IpAddr;
use std::path::Path;

use super::maps::MapName;
use super::model::Server;
use super::names::BackendName;
use super::runtime::word;

/// One change that a worker can take while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A new server, put to work at once.
    AddServer(BackendName, Box<Server>),
    /// Where a server is.
    SetAddress(BackendName, Box<str>, IpAddr, u16),
    /// A server's weight; 0 takes no new work.
    SetWeight(BackendName, Box<str>, u16),
    /// A server's most connections; 0 is no limit.
    SetMaxConnections(BackendName, Box<str>, u32),
    /// Takes a server out, for good: what runs there goes on.
    Retire(BackendName, Box<str>),
    /// Puts a server back to work that was to leave.
    Return(BackendName, Box<str>),
    /// One entry of a map that was not there.
    AddEntry(MapName, Box<str>, String),
    /// Another value for an entry of a map.
    SetEntry(MapName, Box<str>, String),
    /// An entry of a map is gone.
    DeleteEntry(MapName, Box<str>),
    /// All entries of a map, in order, exchanged at once.
    ReplaceMap(MapName, Vec<(Box<str>, String)>),
    /// Another certificate under the same name.
    SetCertificate(Box<str>, std::sync::Arc<str>),
}

impl Command {
    /// The lines to send. Maps and certificates are named by their paths below the folder. Those of [`Command::ReplaceMap`]
    /// and [`Command::SetCertificate`] are transactions, see `apply`.
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
            Self::ReplaceMap(..) | Self::SetCertificate(..) => Vec::new(),
        }
    }
}

/// A server is added in maintenance and without its checks.
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
