//! Reads and edits that respect leases: listings omit keys whose owner has ended, edits take the owners' lock.

use std::time::{SystemTime, UNIX_EPOCH};

use super::files::{self, Content};
use super::lease;
use super::store::{Directory, blocking, failed};
use crate::error::StoreError;
use crate::model::{ASIDE, Amended, Listing};

impl Directory {
    /// Everything below a full key; nothing if the folder does not exist. Below [`ASIDE`], keys whose owner has ended
    /// are omitted.
    pub async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let folder = self.path(prefix);
        let mut found = blocking(move || files::walk(&folder, "", &mut |_| {})).await;
        if prefix.starts_with(ASIDE) {
            let store = self.clone();
            let orphaned = blocking(move || lease::orphaned(&store)).await;
            found.files.retain(|(key, _)| !orphaned.contains(&format!("{prefix}/{key}")));
        }
        let mut listing = Listing { directories: found.folders, ..Listing::default() };
        for (key, content) in found.files {
            match content {
                Content::Value(value) => listing.entries.push((key, value)),
                Content::Fresh => listing.entries.push((key, Box::default())),
                Content::Unreadable(why) => {
                    return Err(StoreError::Files { path: self.path(&format!("{prefix}/{key}")), why });
                }
            }
        }
        // The listed path may itself be a file; it is not below itself.
        listing.entries.retain(|(key, _)| !key.is_empty());
        listing.entries.sort_unstable();
        listing.directories.sort_unstable();
        let store = self.clone();
        let leased = blocking(move || lease::leased(&store)).await;
        let below = |key: &String| Some(key.strip_prefix(prefix)?.strip_prefix('/')?.into());
        listing.leased = leased.iter().filter_map(below).collect();
        Ok(listing)
    }

    /// Replaces a value with the result of `change`, under the lock for edits of leased keys.
    pub async fn amend(
        &self,
        key: &str,
        change: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Option<Amended>, StoreError> {
        let store = self.clone();
        let _alone = blocking(move || lease::alone(&store)).await?;
        let value = self.get(key).await?.ok_or_else(|| StoreError::NoSuchKey { key: key.to_owned() })?;
        match change(&value) {
            None => Ok(Some(Amended::Same)),
            Some(value) => self.put(key, &value).await.map(|revision| Some(Amended::At(revision))),
        }
    }

    /// Sets a key that does not exist, in a file for the folder's owner only; `false`: it does, and stays as it is.
    pub async fn create(&self, key: &str, value: &[u8]) -> Result<bool, StoreError> {
        let (path, store) = (self.file(key)?, self.clone());
        let line = files::content_of(value);
        blocking(move || {
            let _alone = lease::alone(&store)?;
            match path.symlink_metadata() {
                Ok(_) => Ok(false),
                Err(error) if files::is_missing(&error) => {
                    lease::make_private(&store, &path, &line).map(|()| true).map_err(failed(&path))
                }
                Err(error) => Err(failed(&path)(error)),
            }
        })
        .await
    }

    /// Raises the number in a key and returns it: to one that was never there, even if the file was lost meanwhile or is an older
    /// one, as long as the clock does not go back.
    pub async fn count(&self, key: &str) -> Result<u64, StoreError> {
        let store = self.clone();
        let _alone = blocking(move || lease::alone(&store)).await?;
        let before = self.get(key).await?.and_then(|value| String::from_utf8(value).ok()?.trim().parse::<u64>().ok());
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let next = before.unwrap_or(0).max(u64::try_from(millis).unwrap_or(0)).saturating_add(1);
        self.put(key, next.to_string().as_bytes()).await?;
        Ok(next)
    }
}
