//! The stores. The balancer follows them, the commands edit them. Does not know what a key means.

mod auto;
pub mod backoff;
pub mod directory;
pub mod error;
pub mod etcd2;
pub mod etcd3;
mod known;
pub mod lease;
pub mod tenure;
pub mod tls;

pub use auto::Auto;
pub use directory::Directory;
pub use error::StoreError;
pub use etcd2::Etcd2;
pub use etcd3::Etcd3;

use std::path::PathBuf;
use std::time::Duration;

use pointsman_table::Change;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::warn;

/// Balancers and agents keep their own keys below this, such as their status. It lies outside every watched prefix, so
/// these keys never wake a balancer: in etcd v3 they have no leading slash, in v2 the underscore hides them, in a
/// folder they are below `.pointsman`.
pub const ASIDE: &str = "/_pointsman";
/// How many times `amend` retries when another client writes the value in between.
const AMENDMENTS: usize = 8;
/// Time between two attempts to detect the store's API.
const SETTLE: Duration = Duration::from_millis(500);

/// An open store, to follow or to edit.
pub enum Store {
    /// etcd, whichever API holds the prefix.
    Auto(Auto),
    /// etcd v2.
    Etcd2(Etcd2),
    /// etcd v3.
    Etcd3(Etcd3),
    /// A folder.
    Directory(Directory),
}

impl Store {
    /// Takes the settings. Opens nothing: later calls find out whether the store can be reached.
    pub fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        Ok(match (&settings.location, settings.api) {
            (Location::Directory(_), _) => Self::Directory(Directory::new(settings)?),
            (Location::Etcd(_), Api::Auto) => Self::Auto(Auto::new(settings)?),
            (Location::Etcd(_), Api::V2) => Self::Etcd2(Etcd2::new(settings)?),
            (Location::Etcd(_), Api::V3) => Self::Etcd3(Etcd3::new(settings)?),
        })
    }

    /// Sends the prefix's keys and then every change, through any outage, until the receiver is dropped.
    pub async fn follow(&self, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) {
        match self {
            Self::Auto(store) => Box::pin(store.follow(updates, condition)).await,
            Self::Etcd2(store) => Box::pin(store.follow(updates, condition)).await,
            Self::Etcd3(store) => Box::pin(store.follow(updates, condition)).await,
            Self::Directory(store) => Box::pin(store.follow(updates, condition)).await,
        }
    }

    /// Everything below a full key, which need not exist. The empty key lists the whole store.
    pub async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        if !prefix.is_empty() {
            check_key(prefix)?;
        }
        match self.resolve().await? {
            Chosen::Etcd2(store) => store.list(prefix).await,
            Chosen::Etcd3(store) => Box::pin(store.list(prefix)).await,
            Chosen::Directory(store) => store.list(prefix).await,
        }
    }

    /// The value of a full key, if it has one. A directory is an error.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.resolve().await? {
            Chosen::Etcd2(store) => store.get(key).await,
            Chosen::Etcd3(store) => Box::pin(store.get(key)).await,
            Chosen::Directory(store) => store.get(key).await,
        }
    }

    /// Sets a full key. Returns the store's revision afterwards (0 for a directory store, which has none).
    pub async fn put(&self, key: &str, value: &[u8]) -> Result<u64, StoreError> {
        check_key(key)?;
        match self.resolve().await? {
            Chosen::Etcd2(store) => store.put(key, value).await,
            Chosen::Etcd3(store) => Box::pin(store.put(key, value)).await,
            Chosen::Directory(store) => store.put(key, value).await,
        }
    }

    /// Deletes a full key, with everything below it if `recursive`. Returns the store's revision afterwards (0 for a
    /// directory store). Fails if the key does not exist, or if it is a directory and `recursive` is false.
    pub async fn delete(&self, key: &str, recursive: bool) -> Result<u64, StoreError> {
        match self.resolve().await? {
            Chosen::Etcd2(store) => store.delete(key, recursive).await,
            Chosen::Etcd3(store) => Box::pin(delete_v3(store, key, recursive)).await,
            Chosen::Directory(store) => store.delete(key, recursive).await.map(|()| 0),
        }
    }

    /// Replaces the value of a full key with the result of `change`; `None` leaves it unchanged. The key keeps its
    /// owner and its lease.
    ///
    /// # Errors
    /// [`StoreError::NoSuchKey`]; any error of the store.
    pub async fn amend(&self, key: &str, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<Amended, StoreError> {
        for _ in 0..AMENDMENTS {
            let amended = match self.resolve().await? {
                Chosen::Etcd2(store) => store.amend(key, &change).await?,
                Chosen::Etcd3(store) => Box::pin(store.amend(key, &change)).await?,
                Chosen::Directory(store) => store.amend(key, &change).await?,
            };
            if let Some(amended) = amended {
                return Ok(amended);
            }
        }
        Err(StoreError::BadKey { key: key.to_owned(), why: "it changes all the time; try again".to_owned() })
    }

    /// Writes a new value to a key that nobody reads. Returns a position; a follower that reaches it has seen all
    /// earlier changes.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn advance(&self, key: &str) -> Result<Moment, StoreError> {
        check_key(key)?;
        let value = format!("{:016x}", fastrand::u64(..));
        Ok(match self.resolve().await? {
            Chosen::Etcd2(store) => Moment::Revision(store.put(key, value.as_bytes()).await?),
            Chosen::Etcd3(store) => Moment::Revision(Box::pin(store.put(key, value.as_bytes())).await?),
            Chosen::Directory(store) => Moment::Count(store.count(key).await?),
        })
    }

    /// Makes a directory and its parents, if the store has directories.
    pub async fn mkdir(&self, key: &str) -> Result<Made, StoreError> {
        match self.resolve().await? {
            Chosen::Etcd2(store) => store.mkdir(key).await.map(|_| Made::Directory),
            Chosen::Etcd3(_) => Ok(Made::Nothing),
            Chosen::Directory(store) => store.mkdir(key).await.map(|()| Made::Directory),
        }
    }

    /// The same settings with the API decided: the API that holds this prefix, for other prefixes too.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn settle(&self, settings: &StoreSettings) -> Result<StoreSettings, StoreError> {
        let api = match self.resolve().await? {
            Chosen::Etcd2(_) => Api::V2,
            Chosen::Etcd3(_) => Api::V3,
            Chosen::Directory(_) => Api::Auto,
        };
        Ok(StoreSettings { api, ..settings.clone() })
    }

    /// As [`Store::settle`], but waits until the store answers; logs each new error once.
    pub async fn settled(&self, settings: &StoreSettings) -> StoreSettings {
        let mut told = None;
        loop {
            match self.settle(settings).await {
                Ok(settled) => return settled,
                Err(error) if told.as_ref() != Some(&error) => {
                    warn!("waiting for the store: {error}");
                    told = Some(error);
                }
                Err(_) => {}
            }
            sleep(SETTLE).await;
        }
    }

    /// The followed API, if it was detected and may change.
    fn in_use(&self) -> Option<Api> {
        match self {
            Self::Auto(store) => store.followed(),
            Self::Etcd2(_) | Self::Etcd3(_) | Self::Directory(_) => None,
        }
    }

    async fn resolve(&self) -> Result<Chosen<'_>, StoreError> {
        match self {
            Self::Auto(store) => Box::pin(store.choose()).await,
            Self::Etcd2(store) => Ok(Chosen::Etcd2(store)),
            Self::Etcd3(store) => Ok(Chosen::Etcd3(store)),
            Self::Directory(store) => Ok(Chosen::Directory(store)),
        }
    }
}

/// In v3 a directory is only a shared key prefix, so deleting it without `recursive` finds nothing.
async fn delete_v3(store: &Etcd3, key: &str, recursive: bool) -> Result<u64, StoreError> {
    match store.delete(key, recursive).await {
        Err(StoreError::NoSuchKey { key }) if !recursive && !store.list(&key).await?.entries.is_empty() => {
            Err(StoreError::BadKey { key, why: "is a directory".to_owned() })
        }
        other => other,
    }
}

/// A store with a decided API.
enum Chosen<'a> {
    Etcd2(&'a Etcd2),
    Etcd3(&'a Etcd3),
    Directory(&'a Directory),
}

/// A position in a store's history; a follower can tell whether it has passed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The store's revision.
    Revision(u64),
    /// The counter in the written key, for stores without revisions; it only grows.
    Count(u64),
}

/// The result of `amend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amended {
    /// The value was replaced at this revision (0 if the store has none).
    At(u64),
    /// The value already was as it should be.
    Same,
}

/// The result of `mkdir`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The directory exists.
    Directory,
    /// Nothing to do: in etcd v3 a directory is only a shared key prefix.
    Nothing,
}

/// Everything below a key at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The store's revision.
    pub revision: u64,
    /// Keys relative to the listed key, and their values; ordered by key.
    pub entries: Vec<(Box<str>, Box<[u8]>)>,
    /// Directories relative to the listed key, in stores with real directories.
    pub directories: Vec<Box<str>>,
}

/// A message from a store to the control loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// All keys at one revision; replaces all earlier keys. The revision may be lower than the last one.
    Reset {
        /// The store's revision.
        revision: u64,
        /// Keys relative to the prefix, and values.
        entries: Vec<(Box<str>, Box<[u8]>)>,
    },
    /// All changes of one revision, in order. An etcd transaction is one such update.
    Changes {
        /// The store's revision after the changes.
        revision: u64,
        /// The changes.
        changes: Vec<Change>,
    },
}

/// The state of the connection to the store, for the admin interface and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Not reached yet since the start.
    Connecting {
        /// The error of the last attempt.
        error: Option<String>,
    },
    /// Listed and watched.
    Watching {
        /// The store's name: `etcd v3 at http://127.0.0.1:2379`.
        via: String,
    },
    /// Was watched, now unreachable; the last keys stay in use.
    Lost {
        /// The error of the last attempt.
        error: String,
    },
}

/// The location of the keys and how to access them.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Which store.
    pub location: Location,
    /// Which etcd API.
    pub api: Api,
    /// `/haproxy-haproxy-1`, without a trailing slash; empty for `/`.
    pub prefix: String,
    /// User name and password for etcd.
    pub user: Option<(String, String)>,
    /// PEM file of the certificate authority that signs etcd's certificate.
    pub ca: Option<PathBuf>,
    /// PEM files of our certificate and key for etcd.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How often the keys are listed again and compared (default 3 min, jittered).
    pub audit: Duration,
}

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// etcd, by URL (`http://` or `https://`, with a port, without a path).
    Etcd(Vec<String>),
    /// Files in this folder are the keys; the prefix is a sub-folder path, as in etcd.
    Directory(PathBuf),
}

/// Which etcd API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// v3 if the server has it, unless only v2 holds the prefix.
    Auto,
    /// v2 over HTTP.
    V2,
    /// v3 over gRPC.
    V3,
}

/// A full key is `/` and segments valid in every store: none of them is empty, `.` or `..`.
pub(crate) fn check_key(key: &str) -> Result<(), StoreError> {
    let proper = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains('\0');
    match key.strip_prefix('/') {
        Some(rest) if rest.split('/').all(proper) => Ok(()),
        _ => Err(StoreError::BadKey {
            key: key.to_owned(),
            why: "not a key: it starts with a slash and no part of it is empty, . or ..".to_owned(),
        }),
    }
}
