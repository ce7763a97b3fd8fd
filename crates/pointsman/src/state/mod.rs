//! What the balancer keeps over a restart, in one file for each store and prefix below `--state`: the form of that file,
//! reading and writing it. Decides nothing: `keeper` says when, `control` and the store what.
//!
//! ```text
//! STATE/memory/<hash>.json     format 1: store, prefix, etcd_api, services, config, certs; only its owner can read it
//! STATE/memory/<hash>.json.bad a file that could not be used
//! ```

pub mod keeper;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use pointsman_store::{Api, Location, StoreSettings};
use pointsman_table::{Memory, Protocol, ServiceMemory};
use serde::{Deserialize, Serialize};
use tracing::warn;

/// The form of the file. A file of a later form is set aside.
const FORMAT: u32 = 1;
/// What the keys mean. Kept keys of a later meaning are not used; the rest of the file is.
const MEANING: u32 = 1;
/// A longer file is none of ours.
const LONGEST: u64 = 256 << 20;
/// Most files looked through for one of a store whose endpoints have changed.
const MOST_FILES: usize = 256;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// etcd's API for this prefix, if `auto` has chosen one that held keys.
    pub api: Option<Api>,
    /// Last good settings.
    pub memory: Memory,
}

/// Where one balancer keeps it.
#[derive(Clone, Debug)]
pub struct StateFile {
    path: PathBuf,
    store: Vec<String>,
    prefix: String,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Record {
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
    services: Vec<ServiceRecord>,
    #[serde(default)]
    config: BTreeMap<String, String>,
    #[serde(default)]
    certs: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct ServiceRecord {
    /// `services` or `tcp-services`.
    tree: String,
    name: String,
    revision: u64,
    keys: BTreeMap<String, String>,
}

impl StateFile {
    /// The file for this store and prefix, below the folder of `--state`.
    pub fn new(state: &Path, settings: &StoreSettings) -> Self {
        let mut store = match &settings.location {
            Location::Etcd(urls) => urls.iter().map(|url| url.trim_end_matches('/').to_owned()).collect(),
            Location::Directory(folder) => vec![folder.display().to_string()],
        };
        store.sort();
        let mut hasher = DefaultHasher::new();
        (&store, &settings.prefix).hash(&mut hasher);
        let path = state.join("memory").join(format!("{:016x}.json", hasher.finish()));
        Self { path, store, prefix: settings.prefix.clone() }
    }

    /// What was kept, if anything. A balancer whose endpoints have changed finds the file that shares one with it.
    ///
    /// # Errors
    /// The file cannot be read or used.
    pub fn read(&self) -> io::Result<Kept> {
        match record(&self.path) {
            Ok(record) if record.prefix == self.prefix && record.shares(&self.store) => Ok(record.into()),
            Ok(_) => Err(io::Error::other("it is of another store")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(self.of_older_endpoints().unwrap_or_default()),
            Err(error) => Err(error),
        }
    }

    /// As [`StateFile::read`]; a file that cannot be used is set aside, with a warning.
    pub fn take(&self) -> Kept {
        let error = match self.read() {
            Ok(kept) => return kept,
            Err(error) => error,
        };
        let aside = self.path.with_extension("json.bad");
        let moved = match fs::rename(&self.path, &aside) {
            Ok(()) => format!("it is now {}", aside.display()),
            Err(error) => format!("it cannot be moved away: {error}"),
        };
        warn!(
            "{}: what was kept there cannot be used: {error}; {moved}. Services whose keys are bad now are not served",
            self.path.display()
        );
        Kept::default()
    }

    fn of_older_endpoints(&self) -> Option<Kept> {
        let files = fs::read_dir(self.path.parent()?).ok()?.filter_map(|file| Some(file.ok()?.path()));
        let ours = files.filter(|path| path.extension().is_some_and(|end| end == "json")).take(MOST_FILES);
        let records = ours.filter_map(|path| record(&path).ok());
        records.into_iter().find(|record| record.prefix == self.prefix && record.shares(&self.store)).map(Kept::from)
    }

    /// The file's content for this.
    fn text(&self, kept: &Kept) -> Vec<u8> {
        let api = kept.api.and_then(|api| match api {
            Api::Auto => None,
            Api::V2 => Some("2".to_owned()),
            Api::V3 => Some("3".to_owned()),
        });
        let service = |service: &ServiceMemory| ServiceRecord {
            tree: service.protocol.tree().to_owned(),
            name: service.name.to_string(),
            revision: service.revision,
            keys: texts(&service.keys),
        };
        let record = Record {
            format: FORMAT,
            meaning: MEANING,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: self.store.clone(),
            prefix: self.prefix.clone(),
            etcd_api: api,
            services: kept.memory.services.iter().map(service).collect(),
            config: texts(&kept.memory.config),
            certs: texts(&kept.memory.certs),
        };
        let mut text = serde_json::to_vec_pretty(&record).expect("text and numbers");
        text.push(b'\n');
        text
    }

    /// Replaces the file in one step: after a crash or on a full disk it is the old one or the new one.
    fn write(&self, text: &[u8]) -> io::Result<()> {
        let folder = self.path.parent().expect("a file is in a folder");
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // Two balancers of one prefix on a machine may write at once.
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

fn record(path: &Path) -> io::Result<Record> {
    let length = fs::metadata(path)?.len();
    if length > LONGEST {
        return Err(io::Error::other(format!("it has {length} bytes")));
    }
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    match record.format {
        FORMAT => Ok(record),
        other => Err(io::Error::other(format!("its format is {other}, this version knows {FORMAT}"))),
    }
}

impl Record {
    fn shares(&self, store: &[String]) -> bool {
        self.store.iter().any(|one| store.contains(one))
    }
}

impl From<Record> for Kept {
    fn from(record: Record) -> Self {
        let api = match record.etcd_api.as_deref() {
            Some("2") => Some(Api::V2),
            Some("3") => Some(Api::V3),
            _ => None,
        };
        if record.meaning > MEANING {
            return Self { api, memory: Memory::default() };
        }
        let services = record.services.into_iter().filter_map(|service| {
            let protocol = [Protocol::Http, Protocol::Tcp].into_iter().find(|one| one.tree() == service.tree)?;
            let ServiceRecord { name, revision, keys, .. } = service;
            Some(ServiceMemory { protocol, name: name.into(), revision, keys: entries(keys) })
        });
        let (config, certs) = (entries(record.config), entries(record.certs));
        Self { api, memory: Memory { services: services.collect(), config, certs } }
    }
}

/// Good values are text; others are of keys that nobody reads.
fn texts(entries: &[(Box<str>, Box<[u8]>)]) -> BTreeMap<String, String> {
    let text = |(key, value): &(Box<str>, Box<[u8]>)| Some((key.to_string(), std::str::from_utf8(value).ok()?.into()));
    entries.iter().filter_map(text).collect()
}

fn entries(texts: BTreeMap<String, String>) -> Vec<(Box<str>, Box<[u8]>)> {
    texts.into_iter().map(|(key, value)| (key.into(), value.into_bytes().into())).collect()
}

#[cfg(test)]
mod tests;
