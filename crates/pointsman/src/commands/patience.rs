//! Shared by the commands that edit the store: how long they wait for it, and the full key of an argument. Edits nothing.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::timeout;

use pointsman_store::{Location, StoreError, StoreSettings};

/// Longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(20);

/// The store's answer, if it comes in time.
pub(super) async fn within<T>(work: impl Future<Output = Result<T, StoreError>>) -> anyhow::Result<T> {
    let done = timeout(PATIENCE, work).await;
    Ok(done.with_context(|| format!("the store does not answer within {PATIENCE:?}"))??)
}

/// That the folder of the store is there. `run` creates it; for a reader, a typo must not pass for an empty store.
pub(super) fn expect_folder(settings: &StoreSettings, undone: &str) -> anyhow::Result<()> {
    match &settings.location {
        Location::Directory(file) if file.is_file() => {
            let file = file.display();
            bail!(
                "--store: {file} is a file, and keys are files in a folder; `pointsman apply {file} --dry-run` judges a file"
            )
        }
        Location::Directory(folder) if !folder.is_dir() => {
            bail!("--store: there is no folder {}; nothing was {undone}", folder.display())
        }
        Location::Directory(_) | Location::Etcd(_) => Ok(()),
    }
}

/// The full key: a key without a leading slash is below the prefix. Final slashes are ignored.
pub(super) fn full(prefix: &str, key: &str) -> String {
    let trimmed = key.trim_end_matches('/');
    match key {
        "" => prefix.to_owned(),
        key if key.starts_with('/') => trimmed.to_owned(),
        _ => format!("{prefix}/{trimmed}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_keys() {
        for (prefix, key, want) in [
            ("/p", "", "/p"),
            ("/p", "services/a", "/p/services/a"),
            ("/p", "services/", "/p/services"),
            ("/p", "/q/a/", "/q/a"),
            ("/p", "/", ""),
            ("", "", ""),
            ("", "services", "/services"),
        ] {
            assert_eq!(full(prefix, key), want, "{prefix:?} {key:?}");
        }
    }
}
