//! Renders the files that HAProxy reads, and finds the owner of a line. Pure; writes nothing to disk.

use std::path::Path;
use std::sync::Arc;

use super::backend;
use super::clients::CLIENT_LIST;
use super::frontend::CERT_LIST;
use super::maps::MapName;
use super::model::{Backend, Desired, FOLDER, Owner, Part, SOCKET};
use super::names::{DEFAULT_CERT, cert_file};
use super::shape::Shape;
use super::{outbound, tickets};

/// The files of one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// `haproxy.cfg`.
    pub config: String,
    /// Maps, error pages, certificates.
    pub files: Vec<File>,
    /// Owners by their first line, counted from 1: ordered, each up to the next.
    owners: Vec<(usize, Option<Owner>)>,
}

/// A file that the configuration names.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// Its name below the folder: `hosts.map`, `errors/503.http`.
    pub name: Box<str>,
    /// Its content.
    pub bytes: Arc<[u8]>,
    /// Only we and HAProxy may read it.
    pub secret: bool,
}

/// A secret's content is not shown.
impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.bytes.len())
    }
}

impl Rendered {
    /// The owner of a line of `config`, counted from 1; `None`: ours, or there is no such line.
    pub fn owner(&self, line: usize) -> Option<&Owner> {
        let at = self.owners.partition_point(|(first, _)| *first <= line).checked_sub(1)?;
        self.owners[at].1.as_ref()
    }
}

/// Renders all files.
pub fn render(desired: &Desired, shape: &Shape) -> Rendered {
    let mut text = Text::default();
    let source = match desired.revision {
        // Keys in a folder that no balancer follows.
        0 => "the keys".to_owned(),
        revision => format!("revision {revision} of the keys"),
    };
    let head = format!("# Written by pointsman from {source}. Changes made here are lost.\n\n");
    text.ours(&head);
    for part in &desired.frame {
        match part.is_backends() {
            true => text.backends(desired, shape),
            false => text.frame(part, shape),
        }
    }
    Rendered { config: text.text, files: files(desired, shape), owners: text.owners }
}

/// The options of a spare backend: those of a service without special settings.
pub fn spare() -> Arc<[Part]> {
    backend::plain()
}

/// The name of a spare backend.
pub fn spare_name(number: usize) -> String {
    format!("spare:{number}")
}

/// The file of a certificate's OCSP response: HAProxy looks for it there.
pub fn staple_file(name: &str) -> String {
    format!("{}.ocsp", cert_file(name))
}

/// The configuration as it grows.
#[derive(Default)]
struct Text {
    text: String,
    lines: usize,
    owners: Vec<(usize, Option<Owner>)>,
}

impl Text {
    fn ours(&mut self, text: &str) {
        self.add(text, None);
    }

    fn part(&mut self, part: &Part) {
        self.add(&part.text, part.owner.as_ref());
    }

    fn add(&mut self, text: &str, owner: Option<&Owner>) {
        if self.owners.last().is_none_or(|(_, last)| last.as_ref() != owner) {
            self.owners.push((self.lines + 1, owner.cloned()));
        }
        self.lines += text.bytes().filter(|&byte| byte == b'\n').count();
        self.text.push_str(text);
    }

    fn frame(&mut self, part: &Part, shape: &Shape) {
        let socket = shape.socket.as_deref().unwrap_or(Path::new("")).to_string_lossy();
        let text = part.text.replace(FOLDER, &shape.folder.to_string_lossy()).replace(SOCKET, &socket);
        self.add(&text, part.owner.as_ref());
    }

    fn backends(&mut self, desired: &Desired, shape: &Shape) {
        for (name, backend) in &desired.backends {
            self.backend(name, backend, shape);
        }
        let options = if shape.spares > 0 { spare() } else { Arc::from([]) };
        for number in 1..=shape.spares {
            self.ours(&format!("backend {}\n", spare_name(number)));
            options.iter().for_each(|part| self.part(part));
            self.ours("\n");
        }
    }

    /// Lines without an owner of their own are the service's: HAProxy's complaints about them are reported under it.
    fn backend(&mut self, name: &str, backend: &Backend, shape: &Shape) {
        let service = Owner::Service(backend.protocol, backend.service.clone(), "");
        for section in &*backend.sections {
            self.part(section);
            self.ours("\n");
        }
        self.add(&format!("backend {name}\n"), Some(&service));
        for part in &*backend.options {
            self.add(&part.text, Some(part.owner.as_ref().unwrap_or(&service)));
        }
        for server in &backend.servers {
            self.add(&server.line().replace(FOLDER, &shape.folder.to_string_lossy()), Some(&service));
        }
        self.ours("\n");
    }
}

fn files(desired: &Desired, shape: &Shape) -> Vec<File> {
    let plain = |name: &str, text: String| File { name: name.into(), bytes: text.into_bytes().into(), secret: false };
    let maps = MapName::ALL.iter().rev().map(|name| plain(name.file(), desired.maps.text(*name)));
    let mut files: Vec<_> = maps.collect();
    let others = desired.files.iter().filter(|(name, _)| &***name != CLIENT_LIST);
    files.extend(others.map(|(name, bytes)| File {
        name: name.clone(),
        bytes: bytes.clone(),
        secret: name.starts_with(outbound::FILES),
    }));
    let asking = desired.files.get(CLIENT_LIST).map(|list| String::from_utf8_lossy(list));
    files.extend(asking.map(|list| plain(CLIENT_LIST, list.replace(FOLDER, &shape.folder.to_string_lossy()))));
    let certs = desired.certs.iter();
    files.extend(certs.map(|(name, pem)| File {
        name: cert_file(name).into(),
        bytes: [pem.as_str(), "\n"].concat().into_bytes().into(),
        secret: true,
    }));
    files.extend(desired.tickets.iter().map(|keys| File { secret: true, ..plain(tickets::FILE, keys.file()) }));
    if desired.ends_tls {
        files.push(plain(CERT_LIST, cert_list(desired, shape)));
    }
    files
}

/// HAProxy takes the first one for server names that no certificate covers.
fn cert_list(desired: &Desired, shape: &Shape) -> String {
    let mut names: Vec<_> = desired.certs.keys().collect();
    names.sort_by_key(|name| &***name != DEFAULT_CERT);
    names.into_iter().map(|name| format!("{}\n", shape.folder.join(cert_file(name)).display())).collect()
}
