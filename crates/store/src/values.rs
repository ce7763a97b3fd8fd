//! Reads the values of many keys, for stores that return them one by one. Knows no store.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::error::StoreError;

/// Reads the values of keys, one request each, `at_once` in parallel. Omits keys that no longer exist.
pub(crate) async fn values<F>(
    keys: Vec<String>,
    at_once: usize,
    get: impl Fn(String) -> F,
) -> Result<BTreeMap<String, Vec<u8>>, StoreError>
where
    F: Future<Output = Result<Option<Vec<u8>>, StoreError>>,
{
    let get = &get;
    let read = keys.into_iter().map(|key| async move { Ok::<_, StoreError>((key.clone(), get(key).await?)) });
    let read: Vec<_> = stream::iter(read).buffer_unordered(at_once).try_collect().await?;
    Ok(read.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}
