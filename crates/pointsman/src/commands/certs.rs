//! `pointsman certs`: lists the certificates of a prefix, those below `certs/` and those by ACME, and has one renewed.
//! Reads the store only, whatever balancers there are.

use std::cell::Cell;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use pointsman_native::certificate_fault;
use pointsman_store::{Amended, Store};
use pointsman_table::{Cert, shown};
use serde::Serialize;

use super::Outcome;
use super::certs_import::import;
use super::certs_revoke::revoke;
use super::patience::within;
use super::routes::aligned;
use crate::acme::{CertBook, CertOrder, OrderStage, folder, order_key};
use crate::control::expiry::{day, utc};
use crate::settings::Settings;

/// A day, in seconds.
const DAY: i64 = 86_400;

/// One certificate, or a name that has none yet.
#[derive(Serialize)]
struct CertRow {
    /// The name that it is for, and all names of a certificate below `certs/`.
    names: Vec<String>,
    /// The key that holds it, `acme`, or `on-demand` if only handshakes wanted it.
    source: String,
    /// When it expires, in seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
    issuer: String,
    /// What is done next, for a certificate by ACME.
    next: String,
    /// When, in seconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<i64>,
    /// The last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Lists all certificates, renews or revokes one (`renew`, `revoke` and its name) or takes over those of others (`import` and
/// the place). `reason`: why it is revoked.
///
/// # Errors
/// The store is unreachable, `out` or `note` is closed, or there is no such certificate.
pub async fn certs(
    settings: &Settings,
    (action, reason): (Option<(String, String)>, String),
    json: bool,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    match action {
        None => Box::pin(list(settings, json, out)).await,
        Some((action, place)) if action == "import" => Box::pin(import(settings, place.as_ref(), note)).await,
        Some((action, name)) if action == "revoke" => Box::pin(revoke(settings, &name, &reason, note)).await,
        // The only other one.
        Some((_, name)) => Box::pin(renew(settings, &name, note)).await,
    }
}

/// Lists all certificates. A name that has none is [`Outcome::No`].
async fn list(settings: &Settings, json: bool, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let (store, prefix) = (Store::open(&settings.store)?, &settings.store.prefix);
    let own = within(store.list(&format!("{prefix}/certs"))).await?;
    let ours = within(store.list(&folder(prefix))).await?;
    let mut book = CertBook::default();
    book.reset(ours.entries);
    let mut rows: Vec<_> = own.entries.iter().map(|(name, pem)| own_row(name, pem)).collect();
    rows.extend(book.orders.iter().map(|(name, order)| issued_row(name, order)));
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
    } else if rows.is_empty() {
        writeln!(out, "there are no certificates; docs/acme.md tells how to have them issued")?;
    } else {
        write!(out, "{}", written(&rows))?;
    }
    out.flush()?;
    Ok(if rows.iter().all(|row| row.expires.is_some()) { Outcome::Yes } else { Outcome::No })
}

/// Has the certificate of a name renewed now.
async fn renew(settings: &Settings, name: &str, note: &mut dyn Write) -> anyhow::Result<Outcome> {
    let (store, name) = (Store::open(&settings.store)?, name.to_ascii_lowercase());
    let key = order_key(&folder(&settings.store.prefix), &name);
    let known = within(store.get(&key)).await?;
    if known.is_none() {
        bail!("there is no certificate by ACME for {}; `pointsman certs` lists all", shown(&name));
    }
    let (now, is_begun) = (now(), Cell::new(false));
    let due = |old: &[u8]| {
        let order: CertOrder = serde_json::from_slice(old).ok()?;
        is_begun.set(order.stage != OrderStage::Idle);
        serde_json::to_vec(&order.renewed(now)).ok()
    };
    let name = shown(&name);
    match within(store.amend(&key, due)).await? {
        Amended::At(_) if is_begun.get() => {
            writeln!(note, "the order for {name} is on its way, and is gone on with now")?
        }
        Amended::At(_) => writeln!(note, "the certificate for {name} will be renewed now")?,
        Amended::Same => bail!("the order for {name} cannot be read: another version of Pointsman may have written it"),
    }
    Ok(Outcome::Yes)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}

/// A certificate below `certs/`.
fn own_row(name: &str, pem: &[u8]) -> CertRow {
    let cert = std::str::from_utf8(pem).map_err(|_| "it is no text".to_owned()).and_then(Cert::parse);
    let (cert, error) = match cert {
        Ok(cert) => {
            let fault = certificate_fault(cert.pem.as_str());
            (Some(cert), fault.map(|why| format!("{why}; it is not used")))
        }
        Err(error) => (None, Some(error)),
    };
    CertRow {
        names: cert.as_ref().map(|cert| cert.names.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        source: format!("certs/{name}"),
        expires: cert.as_ref().map(|cert| cert.not_after),
        issuer: cert.as_ref().map(Cert::issuer).unwrap_or_default(),
        next: "yours to renew".to_owned(),
        due: None,
        error,
    }
}

fn issued_row(name: &str, order: &CertOrder) -> CertRow {
    CertRow {
        names: vec![name.to_owned()],
        source: if order.on_demand.is_some() { "on-demand" } else { "acme" }.to_owned(),
        expires: order.issued.as_ref().map(|issued| issued.until),
        issuer: order.issued.as_ref().map(|issued| issued.issuer.clone()).unwrap_or_default(),
        next: order.next_word().to_owned(),
        due: order.next_due(),
        error: order.failure.as_ref().map(|failure| failure.said.clone()),
    }
}

fn written(rows: &[CertRow]) -> String {
    let mut lines = vec![["NAME", "SOURCE", "DAYS", "EXPIRES", "ISSUER", "NEXT"].map(str::to_owned)];
    let mut errors = String::new();
    for row in rows {
        let names = if row.names.is_empty() { "-".to_owned() } else { row.names.join(",") };
        let days = row.expires.map_or("-".to_owned(), |at| ((at - now()) / DAY).to_string());
        let expires = row.expires.map_or("-".to_owned(), day);
        let next = row.due.map_or(row.next.clone(), |at| format!("{} {}", row.next, utc(at)));
        let issuer = if row.issuer.is_empty() { "-".to_owned() } else { row.issuer.clone() };
        if let Some(error) = &row.error {
            errors.push_str(&format!("{}: {}\n", shown(&names), shown(error)));
        }
        lines.push([names, row.source.clone(), days, expires, issuer, next]);
    }
    format!("{}{errors}", aligned(lines))
}
