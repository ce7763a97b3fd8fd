//! Reads the store once and compiles the keys, for commands that answer and exit. Publishes nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use pointsman_native::certificate_fault;
use pointsman_table::{Change, Compiled, KeySet, Limits, Names, Problem, ProblemKind, Table, compile};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use super::apis;
use crate::certs::CertSources;
use crate::control::{Defaults, local};
use crate::fleet::{listeners, members};
use crate::names::{HostNames, Lookup, follow};
use crate::settings::{Engine, Settings};
use crate::state::{Kept, StateFile};
use pointsman_store::{Listing, Store};

/// Longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(10);

/// The balancers that keys are judged for.
pub(super) struct Standpoint {
    own: Vec<SocketAddr>,
    local: Vec<IpAddr>,
    engine: Engine,
}

impl Standpoint {
    /// A balancer with these settings, on this machine.
    pub(super) fn of_settings(settings: &Settings) -> Self {
        let own = settings.http.iter().chain(&settings.https).chain(&settings.admin).copied().collect();
        Self { own, local: local::addresses(), engine: settings.engine }
    }

    /// The live balancers; if none is, or if this user may not read the status, one with these settings. The engine is
    /// theirs, if all have the same, unless the settings name one.
    pub(super) async fn of_fleet(settings: &Settings, names_engine: bool) -> anyhow::Result<Self> {
        let store = Store::open(&settings.store)?;
        let members = timeout(PATIENCE, members(&store, &settings.store.prefix)).await;
        let members = members.ok().and_then(Result::ok).unwrap_or_default();
        let own = listeners(&members);
        let by_settings = Self::of_settings(settings);
        if own.is_empty() {
            return Ok(by_settings);
        }
        let all_haproxy = members.iter().all(|member| member.engine == Engine::Haproxy.word());
        let engine = if all_haproxy && !names_engine { Engine::Haproxy } else { settings.engine };
        // They may be on other machines, and name the addresses of those.
        Ok(Self { own, local: Vec::new(), engine })
    }

    /// The engine that the keys are for.
    pub(super) fn engine(&self) -> Engine {
        self.engine
    }
}

/// The keys at one revision, compiled as those balancers would.
///
/// # Errors
/// The store is unreachable.
pub(super) async fn compiled(settings: &Settings, standpoint: Standpoint) -> anyhow::Result<Compiled> {
    read(settings, standpoint, false).await
}

/// As [`compiled`], with the addresses of host names, as far as they can be looked up in time.
///
/// # Errors
/// The store is unreachable.
pub(super) async fn resolved(settings: &Settings, standpoint: Standpoint) -> anyhow::Result<Compiled> {
    read(settings, standpoint, true).await
}

async fn read(settings: &Settings, standpoint: Standpoint, looks_up: bool) -> anyhow::Result<Compiled> {
    let kept = kept(settings);
    let store = Store::open(&settings.store)?.remembering(kept.api);
    let answer = timeout(PATIENCE, store.list(&settings.store.prefix)).await;
    let listing = answer.with_context(|| format!("the store does not answer within {PATIENCE:?}"))??;
    let mut entries = listing.entries;
    Defaults::new(settings.health_uri.as_deref(), settings.accept_proxy.as_deref()).fill(&mut entries);
    let mut key_set = KeySet::default();
    key_set.reset(listing.revision, entries);
    let (limits, of_folder) = limits(settings, standpoint).await?;
    let before = Table::recall(kept.memory, &limits);
    let mut compiled = compile(&key_set, Some(&before), &limits);
    if looks_up {
        compiled = with_addresses(compiled, &settings.resolvers, (&key_set, &before), limits).await;
    }
    let certs = compiled.table.certs().iter().filter_map(|(name, _)| rejected_cert(&compiled.table, name));
    compiled.problems.extend(certs);
    let ignored = timeout(PATIENCE, store.ignored_now()).await;
    let ignored = ignored.ok().and_then(Result::ok).flatten();
    compiled.problems.extend(ignored.map(|api| apis::problem(api, &settings.store.prefix)));
    compiled.problems.extend(of_folder);
    Ok(compiled)
}

/// A certificate that no handshake could use.
pub(super) fn rejected_cert(table: &Table, name: &str) -> Option<Problem> {
    let why = certificate_fault(table.certs().get(name)?.pem.as_str())?;
    Some(table.tree_problem(ProblemKind::Rejected, &format!("certs/{name}"), format!("{why}; it is not used")))
}

/// The keys compiled as they are, and as they would be after these changes.
///
/// # Errors
/// The certificates of `--certs` cannot be read.
pub(super) async fn planned(
    settings: &Settings,
    standpoint: Standpoint,
    (listing, changes): (Listing, Vec<Change>),
) -> anyhow::Result<[Compiled; 2]> {
    let (limits, _) = limits(settings, standpoint).await?;
    let mut entries = listing.entries;
    Defaults::new(settings.health_uri.as_deref(), settings.accept_proxy.as_deref()).fill(&mut entries);
    let mut key_set = KeySet::default();
    key_set.reset(listing.revision, entries);
    let recalled = Table::recall(kept(settings).memory, &limits);
    let before = compile(&key_set, Some(&recalled), &limits);
    key_set.apply(listing.revision, changes);
    let after = compile(&key_set, Some(&before.table), &limits);
    Ok([before, after])
}

/// What those balancers judge keys by, and what is wrong with the certificates of a folder.
async fn limits(settings: &Settings, standpoint: Standpoint) -> anyhow::Result<(Limits, Option<Problem>)> {
    let sources = CertSources::new(settings);
    let (certs, of_folder) = tokio::task::spawn_blocking(move || sources.read()).await?;
    let limits = Limits {
        prefix: settings.store.prefix.as_str().into(),
        own: standpoint.own.into(),
        usual_https: settings.usual_https.clone(),
        local: standpoint.local.into(),
        // The number of descriptors of a running balancer is not known here.
        listeners: None,
        capabilities: standpoint.engine.capabilities(),
        places: settings.places.clone(),
        certs,
        ..Limits::default()
    };
    Ok((limits, of_folder))
}

/// Compiles again with every answer, until there is one for each name: records name further names.
async fn with_addresses(
    mut compiled: Compiled,
    servers: &[SocketAddr],
    (key_set, before): (&KeySet, &Table),
    mut limits: Limits,
) -> Compiled {
    let (wanted, names_wanted) = watch::channel(HostNames::default());
    let (found, mut names) = watch::channel(Arc::default());
    let all_known = async {
        let mut known = Arc::<Names>::default();
        while !compiled.names.iter().all(|name| known.contains_key(name)) {
            wanted.send_replace(Arc::new(compiled.names.clone()));
            if names.changed().await.is_err() {
                break;
            }
            known = Arc::clone(&names.borrow_and_update());
            limits.names = Some(Arc::clone(&known));
            compiled = compile(key_set, Some(before), &limits);
        }
    };
    tokio::select! {
        () = follow(Lookup::new(servers), names_wanted, found) => {}
        _ = timeout(PATIENCE, all_known) => {}
    }
    compiled
}

/// The state that a balancer with these settings has kept, if this user may read it.
fn kept(settings: &Settings) -> Kept {
    let Some(folder) = &settings.state else { return Kept::default() };
    StateFile::new(folder, &settings.store).read().unwrap_or_else(|error| {
        warn!("--state: what the balancer keeps in {} is not considered: {error}", folder.display());
        Kept::default()
    })
}
