//! The state that the balancer keeps over a restart, in one file for each store and prefix below `--state`: the file's
//! format, reading and writing it. Decides nothing: `keeper` decides when to write, `control` and the store decide
//! what.
//!
//! ```text
//! STATE/memory/<hash>.json     format 1: store, prefix, etcd_api, services, config, certs, down; only its owner can read it
//! STATE/memory/<hash>.json.bad a file that could not be used
//! STATE/memory/<hash>.snapshot the keys that were served: see `snapshot`
//! STATE/memory/<hash>.journal  which keys changed, and when: see `journal`
//! STATE/memory/<hash>.lock     locked by the program that writes them: see `turn`
//! ```
//!
//! This file is for what keys cannot say: settings that were good once, health, the API. The snapshot holds the keys.

pub mod journal;
pub mod journal_keeper;
pub mod keeper;
mod reconcile;
pub mod snapshot;
pub mod snapshot_keeper;
pub mod turn;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pointsman_engine::live::DownBefore;
use pointsman_store::{Api, Location, StoreSettings};
use pointsman_table::{Memory, Protocol, ServiceMemory};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

/// The version of the file's format. A file with a later version is set aside.
const FORMAT: u32 = 1;
/// The version of the keys' meaning. Kept keys with a later version are not used; the rest of the file is.
const MEANING: u32 = 1;
/// For how long, in seconds, an instance that was down is taken to be so after a restart.
const DOWN_FOR: u64 = 60;
/// A longer file is not ours.
const LONGEST: u64 = 256 << 20;
/// Maximum number of files searched for the one of a store whose endpoints have changed.
const MOST_FILES: usize = 256;
/// A draft this old was left by a balancer that died; another may still be writing a younger one.
const OLD_DRAFT: Duration = Duration::from_secs(600);

/// The kept state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// etcd's API for this prefix, if `auto` has chosen one that held keys.
    pub api: Option<Api>,
    /// Last good settings.
    pub memory: Memory,
    /// The instances that active checks found down when it was written.
    pub down: Vec<DownRecord>,
    /// When that was, in seconds since the epoch.
    pub down_at: u64,
}

/// An instance that active checks found down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownRecord {
    /// `services` or `tcp-services`.
    tree: String,
    service: String,
    instance: String,
    /// Its address.
    target: String,
}

impl Kept {
    /// The instances that were down, unless that was too long ago.
    pub fn down_before(&self, now: u64) -> DownBefore {
        let is_recent = now.checked_sub(self.down_at).is_some_and(|age| age <= DOWN_FOR);
        let one = |down: &DownRecord| {
            let protocol = [Protocol::Http, Protocol::Tcp].into_iter().find(|one| one.tree() == down.tree)?;
            Some(((protocol, down.service.clone(), down.instance.clone()), down.target.clone()))
        };
        self.down.iter().filter(|_| is_recent).filter_map(one).collect()
    }

    /// Sets the instances that are down now.
    pub fn with_down(self, down: DownBefore, now: u64) -> Self {
        let one = |((protocol, service, instance), target): ((Protocol, String, String), String)| DownRecord {
            tree: protocol.tree().to_owned(),
            service,
            instance,
            target,
        };
        let down_at = if down.is_empty() { 0 } else { now };
        Self { down: down.into_iter().map(one).collect(), down_at, ..self }
    }
}

/// The file with one balancer's kept state.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    store: Vec<String>,
    /// The store is a folder.
    is_folder: bool,
    prefix: String,
    /// Keeps other programs out as long as a copy of this is in use, by a write in the background, too.
    _lock: Option<Arc<File>>,
}

/// Keys with their values. When written, they are those of the table: there may be many.
type Texts<'t> = BTreeMap<Cow<'t, str>, Cow<'t, str>>;

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Record<'t> {
    format: u32,
    meaning: u32,
    /// The version that wrote it, for people.
    version: String,
    /// etcd's endpoints, or the folder.
    store: Vec<String>,
    prefix: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etcd_api: Option<String>,
    #[serde(default)]
    services: Vec<ServiceRecord<'t>>,
    #[serde(default)]
    config: Texts<'t>,
    #[serde(default)]
    certs: Texts<'t>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    down: Vec<DownRecord>,
    #[serde(default, skip_serializing_if = "is_zero")]
    down_at: u64,
}

#[derive(Serialize, Deserialize)]
struct ServiceRecord<'t> {
    /// `services` or `tcp-services`.
    tree: String,
    name: String,
    revision: u64,
    keys: Texts<'t>,
}

impl<'t> ServiceRecord<'t> {
    fn new(service: &'t ServiceMemory) -> Self {
        Self {
            tree: service.protocol.tree().to_owned(),
            name: service.name.to_string(),
            revision: service.revision,
            keys: texts(&service.keys),
        }
    }
}

impl StateFile {
    /// The file for this store and prefix, below the folder of `--state`.
    pub fn new(state: &Path, settings: &StoreSettings) -> Self {
        let mut store = match &settings.location {
            Location::Etcd(urls) => urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
            Location::Directory(folder) => vec![folder.display().to_string()],
        };
        store.sort();
        let parts = store.iter().chain([&settings.prefix]).flat_map(|part| part.bytes().chain([0]));
        let path = state.join("memory").join(format!("{:016x}.json", fnv(parts)));
        let is_folder = matches!(settings.location, Location::Directory(_));
        Self { path, store, is_folder, prefix: settings.prefix.clone(), _lock: None }
    }

    /// The state kept last, if any. A balancer whose endpoints have changed, perhaps there and back, finds the newest
    /// file that shares an endpoint with it.
    ///
    /// # Errors
    /// The file of this name cannot be read or used.
    pub fn read(&self) -> io::Result<Kept> {
        match self.own() {
            Ok(own) => Ok(self.newest(Some(own))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(self.newest(None)),
            Err(error) => Err(error),
        }
    }

    /// As [`StateFile::read`]; a file of this name that can never be used is set aside, with a warning.
    pub fn take(&self) -> Kept {
        self.read().unwrap_or_else(|error| {
            self.complain(&error);
            self.newest(None)
        })
    }

    /// What another program of this store and prefix kept, from the text that it would have written; `None`: it cannot be
    /// used.
    pub fn given(text: &[u8]) -> Option<Kept> {
        let record: Record<'static> = serde_json::from_slice(text).ok()?;
        (record.format == FORMAT).then(|| record.into())
    }

    fn newest(&self, own: Option<FoundFile>) -> Kept {
        let newest = own.into_iter().chain(self.others()).max_by_key(|found| found.modified);
        newest.map(|found| found.record.into()).unwrap_or_default()
    }

    fn own(&self) -> io::Result<FoundFile> {
        let found = FoundFile::read(self.path.clone())?;
        if found.record.is_of(self) { Ok(found) } else { Err(unusable("it is of another store")) }
    }

    /// Sets the file aside, unless the error may pass and the next start can use it.
    fn complain(&self, error: &io::Error) {
        let aside = self.path.with_extension("json.bad");
        let moved = match error.kind() {
            io::ErrorKind::InvalidData => match fs::rename(&self.path, &aside) {
                Ok(()) => format!("it is now {}", aside.display()),
                Err(error) => format!("it cannot be moved away: {error}"),
            },
            _ => "it stays there".to_owned(),
        };
        warn!(
            "{}: what was kept there cannot be used: {error}; {moved}. Services whose keys are bad now are not served",
            self.path.display()
        );
    }

    /// Files of other names for this prefix that share an endpoint.
    fn others(&self) -> impl Iterator<Item = FoundFile> {
        let files = self.files().filter(|path| path.extension().is_some_and(|end| end == "json") && *path != self.path);
        files.take(MOST_FILES).filter_map(|path| FoundFile::read(path).ok()).filter(|found| found.record.is_of(self))
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let folder = self.path.parent().and_then(|folder| fs::read_dir(folder).ok());
        folder.into_iter().flatten().filter_map(|file| Some(file.ok()?.path()))
    }

    /// Removes the files that a file just written replaces: those of other endpoints, and drafts of balancers that
    /// died.
    fn tidy(&self) {
        let stem = self.path.with_extension("");
        let is_draft = |path: &PathBuf| {
            path.extension().is_some_and(|end| end == "tmp") && path.with_extension("").with_extension("") == stem
        };
        let age = |path: &PathBuf| fs::metadata(path).ok()?.modified().ok()?.elapsed().ok();
        let drafts = self.files().filter(is_draft).filter(|path| age(path).is_some_and(|age| age > OLD_DRAFT));
        for path in self.others().map(|found| found.path).chain(drafts) {
            if let Err(error) = fs::remove_file(&path) {
                debug!("{}: {error}", path.display());
            }
        }
    }

    /// The file's content for this state.
    pub fn text(&self, kept: &Kept) -> Vec<u8> {
        let api = kept.api.and_then(|api| match api {
            Api::Auto => None,
            Api::V2 => Some("2".to_owned()),
            Api::V3 => Some("3".to_owned()),
        });
        let record = Record {
            format: FORMAT,
            meaning: MEANING,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: self.store.clone(),
            prefix: self.prefix.clone(),
            etcd_api: api,
            services: kept.memory.services.iter().map(ServiceRecord::new).collect(),
            config: texts(&kept.memory.config),
            certs: texts(&kept.memory.certs),
            down: kept.down.clone(),
            down_at: kept.down_at,
        };
        let mut text = serde_json::to_vec_pretty(&record).expect("text and numbers");
        text.push(b'\n');
        text
    }

    /// Replaces the file in one step: after a crash or on a full disk it is the old one or the new one.
    fn write(&self, text: &[u8]) -> io::Result<()> {
        let folder = self.path.parent().expect("a file is in a folder");
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // A file system may know no locks: then two balancers of one prefix may write at once.
        let draft = self.path.with_extension(format!("{}.tmp", fastrand::u32(..)));
        let written = Self::write_draft(&draft, text).and_then(|()| fs::rename(&draft, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written.and_then(|()| File::open(folder)?.sync_all())
    }

    fn write_draft(draft: &Path, text: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
        file.write_all(text)?;
        file.sync_all()
    }
}

/// A file and its content.
struct FoundFile {
    path: PathBuf,
    modified: SystemTime,
    record: Record<'static>,
}

impl FoundFile {
    /// # Errors
    /// `InvalidData` for content that can never be used; others may pass.
    fn read(path: PathBuf) -> io::Result<Self> {
        let about = fs::metadata(&path)?;
        expect_file(&about, LONGEST)?;
        let record: Record<'static> = serde_json::from_slice(&fs::read(&path)?).map_err(unusable)?;
        match record.format {
            FORMAT => Ok(Self { path, modified: about.modified()?, record }),
            other => Err(unusable(format!("its format is {other}, this version knows {FORMAT}"))),
        }
    }
}

/// Reading something else may never end.
fn expect_file(about: &Metadata, longest: u64) -> io::Result<()> {
    match about.is_file() {
        false => Err(io::Error::other("it is no regular file")),
        true if about.len() > longest => Err(unusable(format!("it has {} bytes", about.len()))),
        true => Ok(()),
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn unusable(why: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// FNV-1a: the standard library's hash may change with the compiler, and a file's name must not.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

impl Record<'_> {
    fn is_of(&self, file: &StateFile) -> bool {
        self.prefix == file.prefix && self.store.iter().any(|one| file.store.contains(one))
    }
}

impl From<Record<'_>> for Kept {
    fn from(record: Record<'_>) -> Self {
        let api = match record.etcd_api.as_deref() {
            Some("2") => Some(Api::V2),
            Some("3") => Some(Api::V3),
            _ => None,
        };
        if record.meaning > MEANING {
            return Self { api, ..Self::default() };
        }
        let services = record.services.into_iter().filter_map(|service| {
            let protocol = [Protocol::Http, Protocol::Tcp].into_iter().find(|one| one.tree() == service.tree)?;
            let ServiceRecord { name, revision, keys, .. } = service;
            Some(ServiceMemory { protocol, name: name.into(), revision, keys: entries(keys) })
        });
        let (config, certs) = (entries(record.config), entries(record.certs));
        let memory = Memory { services: services.collect(), config, certs };
        Self { api, memory, down: record.down, down_at: record.down_at }
    }
}

/// Good values are text; other values belong to keys that nobody reads.
fn texts<V: AsRef<[u8]>>(entries: &[(Box<str>, V)]) -> Texts<'_> {
    let texts = entries.iter().filter_map(|(key, value)| Some((&**key, str::from_utf8(value.as_ref()).ok()?)));
    texts.map(|(key, value)| (key.into(), value.into())).collect()
}

fn entries<V: From<Vec<u8>>>(texts: Texts<'_>) -> Vec<(Box<str>, V)> {
    texts.into_iter().map(|(key, value)| (key.into(), value.into_owned().into_bytes().into())).collect()
}

#[cfg(test)]
mod tests;
