//! Listeners and services as HAProxy's proxies: names, as the HAProxy engine gives them, and numbers, listeners first.
//! Knows no figures.

use std::sync::Arc;

use pointsman_table::{Bind, Instance, Protocol, Service, Table, plain_name};

use super::inputs::StatsAbout;

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// All addresses of HTTP services, without TLS.
    Http,
    /// Those with TLS.
    Https,
    /// An address of TCP services.
    Tcp(Bind),
}

/// The proxies of a table.
#[derive(Clone, Debug)]
pub(super) struct Proxies {
    pub(super) table: Arc<Table>,
    pub(super) fronts: Vec<(String, Front)>,
}

impl Proxies {
    /// Those of this table, on a balancer that listens there.
    pub(super) fn of(table: Arc<Table>, about: &StatsAbout) -> Self {
        let mut fronts = Vec::new();
        if about.http > 0 {
            fronts.push(("http".to_owned(), Front::Http));
        }
        if about.https > 0 || table.https().next().is_some() {
            fronts.push(("https".to_owned(), Front::Https));
        }
        let tcp =
            table.tcp().iter().map(|(bind, _)| (format!("tcp:{}:{}", bind.address, bind.port), Front::Tcp(*bind)));
        fronts.extend(tcp);
        Self { table, fronts }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.fronts.len() + self.table.services().len()
    }

    /// The number of the one at this place: HAProxy counts from 1.
    pub(super) fn number(place: usize) -> u32 {
        u32::try_from(place + 1).unwrap_or(u32::MAX)
    }

    /// The service at this place; `None`: a listener is there.
    pub(super) fn service(&self, place: usize) -> Option<&Arc<Service>> {
        self.table.services().get(place.checked_sub(self.fronts.len())?)
    }

    /// The number of the one that has this name, of the service that has it in the store, or of this number.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let front = self.fronts.iter().position(|(front, _)| front == name);
        let service = || Some(self.fronts.len() + find_service(&self.table, name)?);
        let number = || name.parse().ok().filter(|number| (1..=self.count()).contains(number)).map(|number| number - 1);
        front.or_else(service).or_else(number).map(Self::number)
    }
}

/// The backend of a service: `services:web`.
pub(super) fn backend(service: &Service) -> String {
    format!("{}:{}", service.protocol.tree(), plain_name(service.name.as_str()))
}

/// The place in the table of the service whose backend has this name. A bare name will do if HTTP and TCP do not both
/// have it.
pub(super) fn find_service(table: &Table, name: &str) -> Option<usize> {
    let place = |protocol: Protocol, name: &str| {
        let is_it = |service: &Arc<Service>| service.protocol == protocol && is_named(service.name.as_str(), name);
        table.services().iter().position(is_it)
    };
    let both = [Protocol::Http, Protocol::Tcp];
    for protocol in both {
        if let Some(rest) = name.strip_prefix(protocol.tree()).and_then(|rest| rest.strip_prefix(':')) {
            return place(protocol, rest);
        }
    }
    match both.map(|protocol| place(protocol, name)) {
        [Some(_), Some(_)] => None,
        [http, tcp] => http.or(tcp),
    }
}

/// The instance that this server is.
pub(super) fn find_instance<'s>(service: &'s Service, server: &str) -> Option<&'s Instance> {
    service.instances.iter().find(|instance| is_named(instance.name.as_str(), server))
}

/// Whether that is its name, or its name in HAProxy.
fn is_named(name: &str, wanted: &str) -> bool {
    // Most names are the same in both.
    name == wanted || (wanted.contains(':') && plain_name(name) == wanted)
}

#[cfg(test)]
mod tests {
    use pointsman_table::{KeySet, Limits, compile};

    use super::*;

    #[test]
    fn services_are_found_by_either_name() {
        let mut keys = KeySet::default();
        let all =
            ["services/web/a", "services/my shop/a", "services/both/a", "tcp-services/both/a", "tcp-services/db/a"];
        let more = ["services/web/default", "services/my shop/domain", "services/both/domain"];
        let ports = [("tcp-services/both/port", "1111"), ("tcp-services/db/port", "2222")];
        let entries = all.map(|key| (key, "h:1")).into_iter().chain(more.map(|key| (key, "true"))).chain(ports);
        keys.reset(1, entries.map(|(key, value)| (key.into(), value.as_bytes().into())));
        let table = compile(&keys, None, &Limits::default()).table;
        let found = |name: &str| find_service(&table, name).map(|at| backend(&table.services()[at]));
        for (name, expected) in [
            ("services:web", Some("services:web")),
            ("web", Some("services:web")),
            ("services:my:20shop", Some("services:my:20shop")),
            ("my shop", Some("services:my:20shop")),
            ("both", None),
            ("tcp-services:both", Some("tcp-services:both")),
            ("db", Some("tcp-services:db")),
            ("services:db", None),
            ("", None),
        ] {
            assert_eq!(found(name).as_deref(), expected, "{name}");
        }
    }
}
