//! Reads the store once and compiles the keys, for commands that answer and exit. Publishes nothing.

use std::time::Duration;

use anyhow::Context;
use pointsman_table::{Compiled, KeySet, Limits, compile};
use tokio::time::timeout;

use crate::control::{Defaults, local};
use crate::settings::Settings;
use pointsman_store::Store;

/// Longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(10);

/// The keys at one revision, compiled as `run` would.
///
/// # Errors
/// The store is unreachable.
pub(super) async fn compiled(settings: &Settings) -> anyhow::Result<Compiled> {
    let store = Store::open(&settings.store)?;
    let answer = timeout(PATIENCE, store.list(&settings.store.prefix)).await;
    let listing = answer.with_context(|| format!("the store does not answer within {PATIENCE:?}"))??;
    let mut entries = listing.entries;
    Defaults::new(settings.health_uri.as_deref()).fill(&mut entries);
    let mut key_set = KeySet::default();
    key_set.reset(listing.revision, entries);
    let limits = Limits {
        prefix: settings.store.prefix.as_str().into(),
        own: settings.http.iter().chain(&settings.https).chain(&settings.admin).copied().collect(),
        local: local::addresses().into(),
        // How many descriptors a running balancer has is not known here.
        listeners: None,
        capabilities: settings.engine.capabilities(),
        places: settings.places.clone(),
        ..Limits::default()
    };
    Ok(compile(&key_set, None, &limits))
}
