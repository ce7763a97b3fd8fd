//! A balancer's status, in the form of its status key, and the folder of these keys. Plain data.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use pointsman_store::ASIDE;
use pointsman_table::{Answers, Protocol, ServiceName, Table};
use serde::{Deserialize, Serialize};

use crate::admin::view::protocol_word;
use crate::control::HeldBack;

/// Problems listed in full; the rest is only counted.
const MOST_PROBLEMS: usize = 20;
/// Maximum number of services listed that are served with last good settings.
const MOST_LAST_GOOD: usize = 100;
/// Maximum number of challenges listed.
const MOST_ANSWERS: usize = 64;
/// Maximum length of a problem's text, in characters.
const LONGEST_PROBLEM: usize = 400;
/// Maximum number of instances listed with their open requests.
const MOST_LEAVING: usize = 1000;

/// The folder of the status keys of the balancers that follow this prefix.
pub fn folder(prefix: &str) -> String {
    format!("{ASIDE}{prefix}/balancers")
}

/// The phase of a balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Takes connections.
    #[default]
    Serving,
    /// Takes no connections, finishes what runs, and no longer follows keys.
    Draining,
    /// Ends at once.
    Stopped,
}

/// A balancer's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Its name, the last segment of the key.
    #[serde(skip)]
    pub name: String,
    /// `0.1.0`.
    pub version: String,
    /// `native` or `haproxy`.
    pub engine: String,
    /// Its phase.
    pub stage: Stage,
    /// Where it listens itself. TCP services cannot have these ports, and no instance can be there.
    pub listens: Listens,
    /// The store's revision that it serves.
    pub revision: u64,
    /// The number in the key `barrier` that it serves, for stores without revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barrier: Option<u64>,
    /// The reason that it has lost the store, if it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The challenges of authorities that it answers: their tokens, the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// What its guard holds, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldCount>,
    /// The number of instances that are down, or with HAProxy in maintenance.
    pub down: usize,
    /// The certificate that expires first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<CertificateExpiry>,
    /// The number of its problems.
    pub problems: usize,
    /// The first of them, one line each.
    pub problem_lines: Vec<String>,
    /// Services that are served with their last good settings, because their keys are bad: the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub last_good: Vec<LastGoodService>,
    /// Instances that get no new work: drained by their keys, or removed but with open requests. For a draining
    /// balancer, every instance with open requests.
    pub leaving: Vec<Leaving>,
    /// There are more of them than listed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Draining, but a connected client may still begin a request.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub begins: bool,
}

/// The addresses that a balancer listens on itself, not for a TCP service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listens {
    /// For HTTP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<SocketAddr>,
    /// For HTTPS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub https: Vec<SocketAddr>,
    /// For the admin pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    /// The addresses of its machine that others may use, if it listens on all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machine: Vec<IpAddr>,
}

impl Listens {
    /// All of them. One on every address of the machine is there, and with each of these too.
    pub fn all(&self) -> impl Iterator<Item = SocketAddr> {
        self.named().flat_map(|listener| {
            let wide = if listener.ip().is_unspecified() { &*self.machine } else { &[] };
            let same = wide.iter().filter(move |ip| ip.is_ipv4() || listener.is_ipv6());
            std::iter::once(listener).chain(same.map(move |ip| SocketAddr::new(*ip, listener.port())))
        })
    }

    /// Takes the addresses of its machine, if it listens on all of them.
    #[must_use]
    pub fn on(mut self, machine: Vec<IpAddr>) -> Self {
        let is_wide = self.named().any(|listener| listener.ip().is_unspecified());
        // A machine with containers has many link-local addresses.
        let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let others = machine.into_iter().filter(|ip| !ip.is_loopback() && !is_link_local(ip));
        self.machine = others.filter(|_| is_wide).collect();
        self
    }

    fn named(&self) -> impl Iterator<Item = SocketAddr> {
        self.http.iter().chain(&self.https).chain(&self.admin).copied()
    }
}

/// What a guard holds: keys that are served and that the store no longer has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCount {
    /// Services of which the store has no key left.
    pub services: usize,
    /// Instances.
    pub instances: usize,
    /// All keys.
    pub keys: usize,
    /// Since when, in seconds since the epoch.
    pub since: u64,
    /// Until when at most, in seconds since the epoch.
    pub until: u64,
}

impl From<&HeldBack> for HeldCount {
    fn from(held: &HeldBack) -> Self {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            services: held.services.len(),
            instances: held.instances.len(),
            keys: held.keys,
            since: seconds(held.since),
            until: seconds(held.until),
        }
    }
}

/// When a certificate expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateExpiry {
    /// Its name.
    pub certificate: String,
    /// Seconds since the epoch.
    pub at: i64,
}

/// A service that is served with its last good settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGoodService {
    /// `http` or `tcp`.
    pub protocol: String,
    /// The service.
    pub service: String,
    /// The revision that the settings are from.
    pub revision: u64,
}

/// An instance that gets no new work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Leaving {
    /// `http` or `tcp`.
    pub protocol: String,
    /// The service.
    pub service: String,
    /// The instance.
    pub instance: String,
    /// Its open requests or connections on this balancer.
    pub active: u64,
}

/// The services that are served with last good settings.
pub fn last_good(table: &Table) -> impl Iterator<Item = LastGoodService> {
    let service = |(protocol, name, revision): (Protocol, &ServiceName, u64)| LastGoodService {
        protocol: protocol_word(protocol).to_owned(),
        service: name.to_string(),
        revision,
    };
    table.last_good().map(service)
}

impl Member {
    /// Reads a status key. An unreadable value, perhaps of a later version, counts as an empty status.
    pub fn read(name: &str, value: &[u8]) -> Self {
        Self { name: name.to_owned(), ..serde_json::from_slice(value).unwrap_or_default() }
    }

    /// The value of the status key.
    pub fn text(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers")
    }

    /// Takes the problems, up to the limits.
    pub fn tell<T: ToString>(&mut self, problems: impl Iterator<Item = T>) {
        for problem in problems {
            self.problems += 1;
            if self.problem_lines.len() < MOST_PROBLEMS {
                self.problem_lines.push(problem.to_string().chars().take(LONGEST_PROBLEM).collect());
            }
        }
    }

    /// Lists the services that are served with last good settings, up to the limit.
    pub fn list_last_good(&mut self, table: &Table) {
        self.last_good = last_good(table).take(MOST_LAST_GOOD).collect();
    }

    /// Whether it answers this challenge, as far as it lists them.
    pub fn lists_answer(&self, token: &str) -> bool {
        self.answers.len() >= MOST_ANSWERS || self.answers.iter().any(|known| known == token)
    }

    /// Lists the challenges that it answers, up to the limit.
    pub fn list_answers(&mut self, answers: &Answers) {
        self.answers = answers.tokens().take(MOST_ANSWERS).map(ToString::to_string).collect();
    }

    /// Drops the excess from the list, instances without open requests first.
    pub fn shorten(&mut self) {
        if self.leaving.len() > MOST_LEAVING {
            self.leaving.sort_by_key(|leaving| std::cmp::Reverse(leaving.active));
            self.leaving.truncate(MOST_LEAVING);
            self.more = true;
        }
    }

    /// Whether an unlisted instance may have open requests.
    pub fn is_unsure(&self) -> bool {
        self.more && self.leaving.iter().all(|leaving| leaving.active > 0)
    }

    /// The open requests or connections of this instance on this balancer.
    pub fn active(&self, protocol: &str, service: &str, instance: &str) -> u64 {
        let same = |leaving: &&Leaving| {
            leaving.protocol == protocol && leaving.service == service && leaving.instance == instance
        };
        self.leaving.iter().filter(same).map(|leaving| leaving.active).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_on_each_of_its_machine() {
        let listens = |http: &str| Listens { http: vec![http.parse().unwrap()], ..Listens::default() };
        let machine = ["127.0.0.1", "10.0.0.1", "fe80::1", "fd00::1"].map(|ip| ip.parse().unwrap());
        for (http, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "0.0.0.0:80 10.0.0.1:80"),
            ("[::]:80", "[::]:80 10.0.0.1:80 [fd00::1]:80"),
        ] {
            let all: Vec<_> = listens(http).on(machine.into()).all().map(|address| address.to_string()).collect();
            assert_eq!(all.join(" "), expected);
        }
    }

    #[test]
    fn a_status_survives_its_key() {
        let mut member = Member { name: "a".to_owned(), revision: 7, stage: Stage::Draining, ..Member::default() };
        member.tell((0..30).map(|number| format!("{number}{}", "é".repeat(1000))));
        let read = Member::read("a", &member.text());
        assert_eq!((read.problems, read.problem_lines.len()), (30, MOST_PROBLEMS));
        assert_eq!(read, member);
        assert_eq!(Member::read("b", b"nonsense"), Member { name: "b".to_owned(), ..Member::default() });
        assert_eq!(Member::read("b", br#"{"revision":3,"later":[1]}"#).revision, 3);
    }
}
