//! `pointsman certs revoke`: leaves the request in the store for the balancer that leads, and waits for what becomes of it.
//! Asks no authority itself: it needs neither its address nor its account.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use pointsman_store::{Store, StoreError};
use pointsman_table::shown;
use tokio::time::{Instant, sleep};

use super::Outcome;
use super::patience::within;
use crate::acme::{CertOrder, Revocation, cert_key, folder, order_key, revoke_key};
use crate::settings::Settings;

/// How long to wait for a balancer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look.
const LOOK: Duration = Duration::from_millis(200);

/// Has the certificate of a name revoked and replaced. One that no balancer has seen to in a minute is [`Outcome::No`].
///
/// # Errors
/// There is no such certificate, it is not ours to revoke, the authority refuses, or the store is unreachable.
pub(super) async fn revoke(
    settings: &Settings,
    name: &str,
    reason: &str,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let (store, folder, name) =
        (Store::open(&settings.store)?, folder(&settings.store.prefix), name.to_ascii_lowercase());
    let words = shown(&name).to_string();
    let order = within(store.get(&order_key(&folder, &name))).await?;
    let order = order.and_then(|text| serde_json::from_slice::<CertOrder>(&text).ok());
    let Some(issued) = order.and_then(|order| order.issued) else {
        bail!("there is no certificate by ACME for {words}; `pointsman certs` lists all");
    };
    if issued.directory.is_empty() {
        bail!(
            "the certificate for {words} was imported, and another account ordered it: have the program that did revoke it, \
             and then `pointsman certs renew {words}`"
        );
    }
    let pem = within(store.get(&cert_key(&folder, &name))).await?;
    let pem = pem.with_context(|| format!("the store does not have the certificate for {words}"))?;
    let revocation = Revocation::of(&pem, &issued.directory, reason)
        .map_err(|why| anyhow!("the certificate for {words} in the store is none: {why}"))?;
    let key = revoke_key(&folder, &name);
    within(leave(&store, &key, &serde_json::to_vec(&revocation)?)).await?;
    let (start, mut failure) = (Instant::now(), "no balancer has taken it up".to_owned());
    while start.elapsed() < PATIENCE {
        let Some(text) = within(store.get(&key)).await? else {
            writeln!(
                note,
                "the certificate for {words} is revoked ({reason}); one with a new key is ordered, and the old one serves until \
                 that is there"
            )?;
            return Ok(Outcome::Yes);
        };
        if let Ok(Revocation { failure: Some(said), is_refused, .. }) = serde_json::from_slice(&text) {
            if is_refused {
                within(store.delete(&key, false)).await?;
                bail!("the certificate for {words} is not revoked: {}", shown(&said));
            }
            failure = said;
        }
        sleep(LOOK).await;
    }
    writeln!(note, "the certificate for {words} is not revoked yet, and that is tried on: {}", shown(&failure))?;
    Ok(Outcome::No)
}

/// Sets a key.
async fn leave(store: &Store, key: &str, value: &[u8]) -> Result<(), StoreError> {
    if store.create(key, value).await? {
        return Ok(());
    }
    store.amend(key, |_| Some(value.to_vec())).await.map(drop)
}
