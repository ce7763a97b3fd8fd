//! Instances that come from `dns`: one for each address, or for each record and address. Looks nothing up, and judges no
//! address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::discovery::Dns;
use crate::instance::{Instance, Target};
use crate::limits::{Names, Record};
use crate::names::InstanceName;

/// The advice about a name whose first answer is still awaited.
pub const LOOKED_UP: &str = "the name is being looked up";

/// Most instances that a service has from `dns`: each record may name many addresses.
const MOST_FOUND: usize = 1_024;

/// The heaviest weight of an instance.
const HEAVIEST: u32 = 256;

/// What a name stands for now.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    /// The address is the name, so that the state of each stays its own however answers are ordered.
    pub(crate) instances: BTreeMap<SocketAddr, Instance>,
    /// The names to look up.
    pub(crate) names: Vec<Box<str>>,
    /// What is wrong; of many names behind one key, with the first that fails.
    pub(crate) trouble: Option<String>,
}

/// Finds the instances that a name stands for. `before`: those of the service until now.
pub(crate) fn find(dns: &Dns, port: u16, names: &Names, before: &[Instance]) -> Finding {
    let mut finding = Finding::default();
    let is_known = match dns {
        Dns::Name(name) => {
            let addresses = finding.addresses(names, name);
            for ip in addresses.iter().flatten() {
                finding.insert(SocketAddr::new(*ip, port), 1, false);
            }
            addresses.is_some()
        }
        Dns::Srv(_) => finding.of_records(dns, names),
    };
    if !is_known {
        finding.stay(before);
    }
    finding
}

/// RFC 6761 §6.3: `localhost` is loopback, whatever a name server says.
pub(crate) fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// The weight of a record as one of an instance: as it is if all are small enough, else in proportion.
fn scaled(record: &Record, heaviest: u16) -> u16 {
    let most = u32::from(heaviest).max(HEAVIEST);
    let weight = u32::from(record.weight) * HEAVIEST / most;
    u16::try_from(weight.max(1)).unwrap_or(1)
}

impl Finding {
    /// The instances of SRV records (RFC 2782): those of the lowest priority serve, the others are their backups. Returns
    /// whether every address is known.
    fn of_records(&mut self, dns: &Dns, names: &Names) -> bool {
        let asked = dns.to_string();
        self.names.push(asked.as_str().into());
        let Some(answer) = names.get(&*asked) else {
            self.unknown();
            return false;
        };
        if let Some(why) = &answer.failure {
            self.unresolved(&asked, why, answer.records.is_empty());
        }
        let lowest = answer.records.iter().map(|record| record.priority).min();
        let heaviest = answer.records.iter().map(|record| record.weight).max().unwrap_or_default();
        let mut is_known = true;
        for record in &answer.records {
            let addresses = self.addresses(names, &record.target);
            is_known &= addresses.is_some();
            for ip in addresses.iter().flatten() {
                let address = SocketAddr::new(*ip, record.port);
                self.insert(address, scaled(record, heaviest), Some(record.priority) > lowest);
            }
        }
        is_known
    }

    /// The addresses of a host name. `None`: it is being looked up for the first time.
    fn addresses(&mut self, names: &Names, name: &str) -> Option<Box<[IpAddr]>> {
        if is_localhost(name) {
            return Some([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into());
        }
        self.names.push(name.into());
        let Some(answer) = names.get(name) else {
            self.unknown();
            return None;
        };
        if let Some(why) = &answer.failure {
            self.unresolved(name, why, answer.addresses.is_empty());
        }
        Some(answer.addresses.clone())
    }

    /// Records are ordered by priority: the first of an address counts.
    fn insert(&mut self, address: SocketAddr, weight: u16, backup: bool) {
        if self.instances.len() >= MOST_FOUND {
            return;
        }
        self.instances.entry(address).or_insert_with(|| Instance {
            name: InstanceName(address.to_string().into()),
            target: Target::Socket(address),
            resolved: Box::default(),
            weight,
            max_connections: None,
            backup,
            drain: false,
            tls: false,
        });
    }

    /// Until all is known, those that came from a name before stay.
    fn stay(&mut self, before: &[Instance]) {
        for instance in before.iter().filter(|instance| instance.is_of_dns()) {
            if let Target::Socket(address) = instance.target {
                self.instances.entry(address).or_insert_with(|| instance.clone());
            }
        }
    }

    fn unknown(&mut self) {
        self.trouble.get_or_insert_with(|| format!("{LOOKED_UP}; until it is known, its instances stay as they were"));
    }

    fn unresolved(&mut self, name: &str, why: &str, is_empty: bool) {
        let meanwhile = if is_empty { "it adds no instance until it does" } else { "its last instances serve on" };
        self.trouble.get_or_insert_with(|| format!("{name} does not resolve: {why}; {meanwhile}"));
    }
}
