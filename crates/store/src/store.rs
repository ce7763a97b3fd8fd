//! One interface to all stores: following, and single reads and edits. Leases are in `lease`.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::warn;

use crate::auto::Auto;
use crate::choice::{Both, Choice};
use crate::chosen::Chosen;
use crate::directory::Directory;
use crate::error::StoreError;
use crate::etcd2::{Etcd2, Holding};
use crate::etcd3::Etcd3;
use crate::model::{
    Amended, Api, ClusterId, Condition, Edit, HistoryPoint, Listing, Location, Made, PastChanges, StoreSettings,
    Update, check_key,
};

/// How many times `amend` retries when another client writes the value in between.
const AMENDMENTS: usize = 8;
/// Time between two attempts to detect the store's API.
const SETTLE: Duration = Duration::from_millis(500);

/// An open store, to follow or to edit.
pub enum Store {
    /// etcd, whichever API holds the prefix.
    Auto(Box<Auto>),
    /// etcd v2.
    Etcd2(Etcd2),
    /// etcd v3.
    Etcd3(Etcd3),
    /// A folder.
    Directory(Directory),
}

impl Store {
    /// Takes the settings. Opens nothing: later calls show whether the store can be reached.
    pub fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        Ok(match (&settings.location, settings.api) {
            (Location::Directory(_), _) => Self::Directory(Directory::new(settings)?),
            (Location::Etcd(_), Api::Auto) => Self::Auto(Box::new(Auto::new(settings)?)),
            (Location::Etcd(_), Api::V2) => Self::Etcd2(Etcd2::new(settings)?),
            (Location::Etcd(_), Api::V3) => Self::Etcd3(Etcd3::new(settings)?),
        })
    }

    /// Fails if the store can never exist, because something other than a folder has its path. Asks no server.
    ///
    /// # Errors
    /// [`StoreError::Files`].
    pub fn check_place(&self) -> Result<(), StoreError> {
        match self {
            Self::Directory(store) => store.check_root(),
            Self::Auto(_) | Self::Etcd2(_) | Self::Etcd3(_) => Ok(()),
        }
    }

    /// Creates the folder of a directory store if it is missing.
    ///
    /// # Errors
    /// [`StoreError::Files`].
    pub fn make_place(&self) -> Result<(), StoreError> {
        match self {
            Self::Directory(store) => store.make_root(),
            Self::Auto(_) | Self::Etcd2(_) | Self::Etcd3(_) => Ok(()),
        }
    }

    /// The same, with the etcd API that was chosen before; only used if the API is chosen automatically. A choice
    /// recorded in the store takes precedence.
    #[must_use]
    pub fn remembering(self, api: Option<Api>) -> Self {
        match self {
            Self::Auto(store) => Self::Auto(Box::new(store.remembering(api))),
            other => other,
        }
    }

    /// The API of etcd, once it is chosen.
    pub fn api(&self) -> watch::Receiver<Option<Api>> {
        let fixed = |api| watch::channel(api).1;
        match self {
            Self::Auto(store) => store.made(),
            Self::Etcd2(_) => fixed(Some(Api::V2)),
            Self::Etcd3(_) => fixed(Some(Api::V3)),
            Self::Directory(_) => fixed(None),
        }
    }

    /// The cluster that is followed.
    pub fn cluster(&self) -> ClusterId {
        match self {
            Self::Auto(store) => store.cluster(),
            Self::Etcd2(store) => store.cluster.clone(),
            Self::Etcd3(store) => store.cluster.clone(),
            Self::Directory(_) => ClusterId::default(),
        }
    }

    /// The other API of etcd, while a follower sees keys in it. They are not served.
    pub fn ignored(&self) -> watch::Receiver<Option<Api>> {
        match self {
            Self::Auto(store) => store.ignored(),
            Self::Etcd2(_) | Self::Etcd3(_) | Self::Directory(_) => watch::channel(None).1,
        }
    }

    /// The other API of etcd, if it holds keys. They are not served.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn ignored_now(&self) -> Result<Option<Api>, StoreError> {
        match self {
            Self::Auto(store) => Box::pin(store.ignored_now()).await,
            Self::Etcd2(_) | Self::Etcd3(_) | Self::Directory(_) => Ok(None),
        }
    }

    /// Remembers in etcd which API an operator has chosen, for balancers, agents and edits that choose by themselves.
    ///
    /// # Errors
    /// Any error of the store. A server that has only one API remembers nothing.
    pub async fn remember(settings: &StoreSettings) -> Result<(), StoreError> {
        let (Some(choice), Location::Etcd(_)) = (Choice::of(settings.api), &settings.location) else { return Ok(()) };
        let both = Both::new(Etcd2::new(settings)?, Etcd3::new(settings)?, &settings.prefix);
        let (v3, v2) = tokio::join!(both.v3.probe(), both.v2.probe());
        match (v3, v2) {
            (Ok(_), Ok(Holding::Absent | Holding::Directory)) => both.remember(choice, true).await,
            (Ok(_), Ok(Holding::Unsupported)) | (Err(StoreError::NotSupported { .. }), _) => Ok(()),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
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

    /// Sets a full key that does not exist; in a folder, only the folder's owner may read it. `false`: it exists, and stays as
    /// it is.
    ///
    /// # Errors
    /// [`StoreError::BadKey`]; any error of the store.
    pub async fn create(&self, key: &str, value: &[u8]) -> Result<bool, StoreError> {
        check_key(key)?;
        match self.resolve().await? {
            Chosen::Etcd2(store) => store.create(key, value).await,
            Chosen::Etcd3(store) => Box::pin(store.create(key, value)).await,
            Chosen::Directory(store) => store.create(key, value).await,
        }
    }

    /// Whether followers would see a key of this name.
    ///
    /// # Errors
    /// [`StoreError::BadKey`]; any error of the store.
    pub async fn check_name(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        match self.resolve().await? {
            Chosen::Etcd2(store) => store.check_visible(key),
            Chosen::Etcd3(_) => Ok(()),
            Chosen::Directory(store) => store.file(key).map(drop),
        }
    }

    /// Checks, without writing, whether the store can keep the values of these edits.
    ///
    /// # Errors
    /// [`StoreError::BadKey`]; the store is unreachable.
    pub async fn check_values(&self, edits: &[Edit]) -> Result<(), StoreError> {
        match self.resolve().await? {
            Chosen::Etcd2(_) => edits.iter().try_for_each(Etcd2::check_value),
            Chosen::Etcd3(_) | Chosen::Directory(_) => Ok(()),
        }
    }

    /// Checks, without writing, whether the store could take these edits at once. Returns a warning if that depends on
    /// the server's settings.
    ///
    /// # Errors
    /// [`StoreError::BadKey`]; any error of the store.
    pub async fn check_commit(&self, edits: &[Edit]) -> Result<Option<String>, StoreError> {
        match self.resolve().await? {
            Chosen::Etcd3(_) => Etcd3::check_commit(edits),
            Chosen::Etcd2(_) | Chosen::Directory(_) => Ok(None),
        }
    }

    /// Makes all these edits, each of a different key. etcd v3 makes them in one transaction. A folder gets all new
    /// values beside their files first, then all edits in this order without a pause. etcd v2 makes them one by one in
    /// this order: after an error, the earlier edits stay. A key to delete may be missing. Returns the store's revision
    /// afterwards (0 for a directory store).
    ///
    /// # Errors
    /// [`StoreError::BadKey`]; any error of the store.
    pub async fn commit(&self, edits: &[Edit]) -> Result<u64, StoreError> {
        edits.iter().try_for_each(|edit| check_key(edit.key()))?;
        match self.resolve().await? {
            Chosen::Etcd2(store) => store.commit(edits).await,
            Chosen::Etcd3(store) => Box::pin(store.commit(edits)).await,
            Chosen::Directory(store) => store.commit(edits).await.map(|()| 0),
        }
    }

    /// As [`Store::commit`], if no key below `place` has changed since it was listed; `None`: one has, and nothing is done.
    /// etcd v3 looks and writes at once; the others look first, and then write.
    ///
    /// # Errors
    /// [`StoreError::BadKey`]; any error of the store.
    pub async fn commit_over(&self, edits: &[Edit], place: &str, listed: &Listing) -> Result<Option<u64>, StoreError> {
        edits.iter().try_for_each(|edit| check_key(edit.key()))?;
        if let Chosen::Etcd3(store) = self.resolve().await? {
            return Box::pin(store.commit_over(edits, place, listed.revision)).await;
        }
        let now = self.list(place).await?;
        match now.entries == listed.entries {
            true => Box::pin(self.commit(edits)).await.map(Some),
            false => Ok(None),
        }
    }

    /// Everything below a full key at an earlier revision; `None`: this store does not remember.
    ///
    /// # Errors
    /// [`StoreError::Compacted`]; any error of the store.
    pub async fn list_at(&self, place: &str, revision: u64) -> Result<Option<Listing>, StoreError> {
        match self.resolve().await? {
            Chosen::Etcd3(store) => Box::pin(store.list_at(place, revision)).await.map(Some),
            Chosen::Etcd2(_) | Chosen::Directory(_) => Ok(None),
        }
    }

    /// The changes below a full key after this revision, the last `most` of them; `None`: this store does not remember.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn past(&self, place: &str, since: u64, most: usize) -> Result<Option<PastChanges>, StoreError> {
        match self.resolve().await? {
            Chosen::Etcd3(store) => Box::pin(store.past(place, since, most)).await.map(Some),
            Chosen::Etcd2(_) | Chosen::Directory(_) => Ok(None),
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

    /// Writes a new value to a marker key. Returns a position; a follower that reaches it has seen all
    /// earlier changes.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn advance(&self, key: &str) -> Result<HistoryPoint, StoreError> {
        check_key(key)?;
        let value = format!("{:016x}", fastrand::u64(..));
        Ok(match self.resolve().await? {
            Chosen::Etcd2(store) => HistoryPoint::Revision(store.put(key, value.as_bytes()).await?),
            Chosen::Etcd3(store) => HistoryPoint::Revision(Box::pin(store.put(key, value.as_bytes())).await?),
            Chosen::Directory(store) => HistoryPoint::Count(store.count(key).await?),
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
    pub(crate) fn in_use(&self) -> Option<Api> {
        match self {
            Self::Auto(store) => store.followed(),
            Self::Etcd2(_) | Self::Etcd3(_) | Self::Directory(_) => None,
        }
    }

    pub(crate) async fn resolve(&self) -> Result<Chosen<'_>, StoreError> {
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
