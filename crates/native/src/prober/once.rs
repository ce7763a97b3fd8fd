//! Every instance of a table asked once, as its checks would ask it: for commands. Judges no health.

use std::rc::Rc;
use std::sync::Arc;

use pointsman_table::{Instance, Protocol, Service, Table};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use super::plan::{Check, key};
use super::probe::probe;
use super::said::CheckFailure;
use crate::pool::via::Setup;
use crate::tls::Outbound;

/// The most at once.
const AT_ONCE: usize = 64;

/// What an instance said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probed {
    /// HTTP or TCP.
    pub protocol: Protocol,
    /// Its service.
    pub service: String,
    /// Its name.
    pub instance: String,
    /// Its address.
    pub target: String,
    /// Whether its check passed.
    pub passed: bool,
    /// What was asked and what came of it: `GET /health got 503`.
    pub said: String,
}

/// Asks every instance that takes work and has checks, each within its timeout; ordered by service and name.
pub async fn probe_once(table: &Table) -> Vec<Probed> {
    let outbound = Outbound::default().next(table);
    let places = Rc::new(Semaphore::new(AT_ONCE));
    let all = async {
        let mut asked = JoinSet::new();
        for service in table.services().iter().filter(|service| service.health_check.is_some()) {
            for instance in service.instances.iter().filter(|instance| instance.takes_work()) {
                let (service, instance) = (Arc::clone(service), instance.clone());
                let (places, outbound) = (Rc::clone(&places), Arc::clone(&outbound));
                asked.spawn_local(async move {
                    let _place = places.acquire().await;
                    ask(&service, instance, &outbound).await
                });
            }
        }
        asked.join_all().await
    };
    let mut probed: Vec<_> = LocalSet::new().run_until(all).await.into_iter().flatten().collect();
    probed.sort_unstable();
    probed
}

/// `None`: it has no checks.
async fn ask(service: &Service, instance: Instance, outbound: &Outbound) -> Option<Probed> {
    let asks = service.health_check.as_deref()?;
    let outcome = match key(service, &instance, &Setup::new(service, outbound)) {
        None => Err(CheckFailure::of("failed: its name has no address")),
        Some(key) => Box::pin(probe(&Check::new(key))).await,
    };
    let (passed, said) = match outcome {
        Ok(said) => (true, said.into_owned()),
        Err(CheckFailure::Instance(said)) => (false, said.into_owned()),
        Err(CheckFailure::Ours(error)) => (false, format!("was not made: {error}")),
    };
    Some(Probed {
        protocol: service.protocol,
        service: service.name.to_string(),
        instance: instance.name.to_string(),
        target: instance.target.to_string(),
        passed,
        said: format!("{} {said}", asks.way),
    })
}
