//! `pointsman certs import`: takes over the certificates of certbot, acme.sh or Traefik, so that balancers serve them now
//! and renew them in time. Reads files; what is in the store and lives longer stays.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_native::certificate_fault;
use pointsman_store::{Store, StoreError};
use pointsman_table::{Cert, shown};
use serde_json::Value;

use super::Outcome;
use super::patience::within;
use crate::acme::{CertOrder, IssuedFacts, cert_key, folder, order_key};
use crate::control::expiry::day;
use crate::control::plural;
use crate::settings::Settings;

/// The longest file that is read, bytes: Traefik's with thousands of certificates has a few MiB.
const LONGEST: u64 = 64 << 20;

/// A certificate that was found, with its key in the same text, and where.
struct FoundCert {
    from: PathBuf,
    pem: String,
}

/// Imports all certificates of a folder, or of Traefik's file. One that cannot be taken is named, and is [`Outcome::No`].
///
/// # Errors
/// There are none, a file cannot be read, or the store is unreachable.
pub(super) async fn import(settings: &Settings, place: &Path, note: &mut dyn Write) -> anyhow::Result<Outcome> {
    let found = found(place)?;
    if found.is_empty() {
        bail!(
            "{}: no certificates of certbot (NAME/fullchain.pem), acme.sh (NAME/fullchain.cer) or Traefik (acme.json) are there",
            place.display()
        );
    }
    let (store, folder) = (Store::open(&settings.store)?, folder(&settings.store.prefix));
    let (mut taken, mut outcome) = (0, Outcome::Yes);
    for FoundCert { from, pem } in found {
        let from = shown(&from.display().to_string()).to_string();
        let fault = certificate_fault(&pem).map(str::to_owned);
        let cert = match Cert::parse(&pem).and_then(|cert| fault.map_or(Ok(cert), Err)) {
            Ok(cert) => cert,
            Err(why) => {
                writeln!(note, "{from}: {}", shown(&why))?;
                outcome = Outcome::No;
                continue;
            }
        };
        if cert.names.is_empty() || cert.names.iter().any(|name| name.starts_with("*.")) {
            let names = cert.names.join(",");
            writeln!(note, "{from}: {} is not renewed by http-01; write it below certs/", shown(&names))?;
            outcome = Outcome::No;
            continue;
        }
        for name in &cert.names {
            match take(&store, &folder, name, &cert).await? {
                true => {
                    writeln!(note, "{name}: until {}, from {from}", day(cert.not_after))?;
                    taken += 1;
                }
                false => writeln!(note, "{name}: the store has one that lives as long")?,
            }
        }
    }
    writeln!(note, "imported certificates for {}", plural(taken, "name"))?;
    Ok(outcome)
}

/// Keeps a certificate for one of its names, unless there is one that lives as long.
async fn take(store: &Store, folder: &str, name: &str, cert: &Cert) -> anyhow::Result<bool> {
    let key = order_key(folder, name);
    let known = within(store.get(&key)).await?.and_then(|text| serde_json::from_slice::<CertOrder>(&text).ok());
    let known = known.unwrap_or_default();
    if known.issued.as_ref().is_some_and(|issued| issued.until >= cert.not_after) {
        return Ok(false);
    }
    let facts =
        IssuedFacts { from: cert.not_before, until: cert.not_after, issuer: cert.issuer(), ..IssuedFacts::default() };
    let order = serde_json::to_vec(&known.imported(facts))?;
    within(keep(store, &cert_key(folder, name), cert.pem.as_str().as_bytes())).await?;
    within(keep(store, &key, &order)).await?;
    Ok(true)
}

/// Sets a key; a new one is for the owner's eyes only.
async fn keep(store: &Store, key: &str, value: &[u8]) -> Result<(), StoreError> {
    if store.create(key, value).await? {
        return Ok(());
    }
    store.amend(key, |_| Some(value.to_vec())).await.map(drop)
}

/// All certificates that are there, the last of a name last.
fn found(place: &Path) -> anyhow::Result<Vec<FoundCert>> {
    if place.is_file() {
        return of_traefik(place);
    }
    let live = place.join("live");
    let place = if live.is_dir() { &live } else { place };
    let listed = fs::read_dir(place).with_context(|| place.display().to_string())?;
    let mut folders: Vec<_> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.sort();
    let mut all = Vec::new();
    for path in folders {
        if path.is_dir() {
            all.extend(of_folder(&path)?);
        } else if path.file_name().is_some_and(|name| name == "acme.json") {
            all.extend(of_traefik(&path)?);
        }
    }
    Ok(all)
}

/// The certificate of a folder of certbot or acme.sh, if it is one.
fn of_folder(folder: &Path) -> anyhow::Result<Option<FoundCert>> {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = name.strip_suffix("_ecc").unwrap_or(&name);
    for (chain, key) in [("fullchain.pem", "privkey.pem".to_owned()), ("fullchain.cer", format!("{plain}.key"))] {
        let chain = folder.join(chain);
        if chain.is_file() {
            let pem = format!("{}\n{}\n", read(&chain)?.trim_end(), read(&folder.join(key))?.trim_end());
            return Ok(Some(FoundCert { from: chain, pem }));
        }
    }
    Ok(None)
}

/// The certificates of Traefik's `acme.json`: of version 2 and 3 by resolver, of version 1 without.
fn of_traefik(file: &Path) -> anyhow::Result<Vec<FoundCert>> {
    let wrong = || format!("{}: expected Traefik's acme.json", file.display());
    let text: Value = serde_json::from_str(&read(file)?).with_context(wrong)?;
    let resolvers = text.as_object().with_context(wrong)?.values();
    let lists = resolvers.chain([&text]).filter_map(|resolver| resolver.get("Certificates")?.as_array());
    let decoded = |cert: &Value, names: [&str; 2]| {
        let text = names.iter().find_map(|name| cert.get(name)?.as_str())?;
        String::from_utf8(STANDARD.decode(text).ok()?).ok()
    };
    let all = lists.flatten().map(|cert| {
        let chain = decoded(cert, ["certificate", "Certificate"]).unwrap_or_default();
        let key = decoded(cert, ["key", "Key"]).unwrap_or_default();
        FoundCert { from: file.to_owned(), pem: format!("{}\n{}\n", chain.trim_end(), key.trim_end()) }
    });
    Ok(all.collect())
}

fn read(file: &Path) -> anyhow::Result<String> {
    let length = fs::metadata(file).with_context(|| file.display().to_string())?.len();
    if length > LONGEST {
        bail!("{}: too long for certificates", file.display());
    }
    fs::read_to_string(file).with_context(|| file.display().to_string())
}
