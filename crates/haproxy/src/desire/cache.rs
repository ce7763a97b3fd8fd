//! Keeps the backends and maps of the last table, so that only what changed is made again. Decides nothing: the result
//! is the same without it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use pointsman_table::{Answers, Networks, Service, Timeouts};

use super::super::backend::BackendBuilder;
use super::super::maps::Maps;
use super::super::model::{Addresses, Backend};
use super::super::names::BackendName;
use super::super::routing;
use super::super::version::Version;

/// Everything made for the last table.
#[derive(Debug, Default)]
pub struct Cache {
    /// What every backend depends on besides its service.
    basis: Option<(Timeouts, Networks, Addresses, Version)>,
    /// Ordered as in the table.
    backends: Vec<Made>,
    /// The maps, and the services that they were made from.
    maps: Option<(Vec<Arc<Service>>, Arc<Maps>)>,
}

/// A service and its backend.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) service: Arc<Service>,
    pub(super) name: BackendName,
    pub(super) backend: Arc<Backend>,
}

impl Cache {
    /// Takes the backends out, if what all of them depend on is unchanged. [`Cache::keep`] puts the next ones in.
    pub(super) fn take(&mut self, builder: &BackendBuilder<'_>) -> Cached {
        let same = self.basis.as_ref().is_some_and(|(timeouts, trusted, addresses, version)| {
            *timeouts == builder.config.timeouts
                && *trusted == builder.config.trusted_proxies
                && addresses == builder.addresses
                && *version == builder.shape.version
        });
        let mut made = std::mem::take(&mut self.backends);
        if !same {
            made.clear();
            let config = builder.config;
            let trusted = config.trusted_proxies.clone();
            self.basis = Some((config.timeouts, trusted, builder.addresses.clone(), builder.shape.version));
        }
        Cached(made.into_iter().peekable())
    }

    /// Keeps these backends, in the table's order.
    pub(super) fn keep(&mut self, made: Vec<Made>) {
        self.backends = made;
    }

    /// The maps for these services.
    pub(super) fn maps(&mut self, services: &[Arc<Service>], sni: &Sni, answers: &Arc<Answers>) -> Arc<Maps> {
        if let Some((before, maps)) = &mut self.maps
            && maps.sni == *sni
            && maps.answers == *answers
            && before.len() == services.len()
            && before.iter().zip(services).all(|(before, now)| is_routed_alike(before, now))
        {
            services.clone_into(before);
            return maps.clone();
        }
        let maps = Arc::new(Maps { sni: sni.clone(), answers: Arc::clone(answers), ..routing::maps(services) });
        self.maps = Some((services.to_vec(), maps.clone()));
        maps
    }
}

/// The map of TLS server names.
type Sni = BTreeMap<Box<str>, BackendName>;

fn is_routed_alike(before: &Arc<Service>, now: &Arc<Service>) -> bool {
    let alike = || before.policy == now.policy && before.custom_settings == now.custom_settings;
    let takes = || before.may_take_work() == now.may_take_work();
    let same = || before.entry == now.entry && before.is_empty() == now.is_empty() && takes() && alike();
    Arc::ptr_eq(before, now) || order(before, now).is_eq() && same()
}

fn order(one: &Service, other: &Service) -> Ordering {
    (one.protocol, &one.name).cmp(&(other.protocol, &other.name))
}

/// The last backends, service by service.
pub(super) struct Cached(Peekable<IntoIter<Made>>);

impl Cached {
    /// The backend of this very service. Ask in the table's order.
    pub(super) fn of(&mut self, service: &Arc<Service>) -> Option<Made> {
        while let Some(made) = self.0.peek() {
            if Arc::ptr_eq(&made.service, service) {
                return self.0.next();
            }
            if order(&made.service, service).is_gt() {
                return None;
            }
            self.0.next();
        }
        None
    }
}
