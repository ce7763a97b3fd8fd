//! What a set of keys lost against an earlier one, whether that is more than may go at once, and how the lost keys are
//! served on. Knows no time: its caller says what was earlier.
//!
//! ```text
//! losses(before, now) -> None: it may pass | Some(Losses) ─┐
//!                        serve_on(before, now, &Losses) <──┘ -> ServedOn{keys: now, and what it lost of before}
//! ```
//!
//! Instances are counted service by service: one that came under another name makes up for one that went, in the same
//! service only. So a rolling deploy loses nothing, and another program's keys make up for none of ours.

use std::sync::Arc;

use crate::eject::{Percent, panic};
use crate::key_set::{Change, KeySet, Services};
use crate::keys::{Part, classify};
use crate::names::{InstanceName, Protocol, ServiceName};
use crate::raw::RawKeys;

/// Fewer lost services, or instances, are never too many.
const LEAST: usize = 10;
/// The key of a service, and of `config/`.
const KEY: &str = "guard";

/// How many of how many are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortfall {
    /// Those that are gone.
    pub lost: usize,
    /// Those that there were.
    pub had: usize,
}

impl Shortfall {
    fn passes(self, share: Percent) -> bool {
        self.lost >= LEAST && share.is_passed_by(self.lost, self.had)
    }

    fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.had += other.had;
    }
}

/// More than may be taken away at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Losses {
    /// Of all services together.
    Table {
        /// Services of which no key is left.
        services: Shortfall,
        /// Instances.
        instances: Shortfall,
        /// The share that may go.
        share: Percent,
    },
    /// Of these services, each for itself, ordered.
    Services(Vec<(Protocol, ServiceName, Shortfall, Percent)>),
}

impl Losses {
    /// Whether lost keys of this service are served on.
    fn concerns(&self, protocol: Protocol, name: &ServiceName) -> bool {
        match self {
            Self::Table { .. } => true,
            Self::Services(all) => all.iter().any(|(of, other, ..)| (*of, other) == (protocol, name)),
        }
    }
}

/// A value of `guard`: a share from 1% to 100%; `None` is `off`.
///
/// # Errors
/// It is neither; the error says what is expected.
pub fn guard_share(text: &str) -> Result<Option<Percent>, String> {
    panic(text)
}

/// What `now` lost of `before`, if that is more than `usual` or the keys `guard` let go at once. A service with
/// `guard = off` counts nowhere. `None` for `usual` is `off`.
pub fn losses(before: &KeySet, now: &KeySet, usual: Option<Percent>) -> Option<Losses> {
    let of_config = own(now.config()).or_else(|| own(before.config()));
    let usual = of_config.unwrap_or(usual);
    let (mut services, mut instances) = (Shortfall::default(), Shortfall::default());
    let (mut short, mut same) = (Vec::new(), Vec::new());
    for protocol in [Protocol::Http, Protocol::Tcp] {
        // Both are ordered: cheaper than looking each up.
        let mut current = now.services(protocol).iter().peekable();
        for (name, had) in before.services(protocol) {
            while current.next_if(|(other, _)| *other < name).is_some() {}
            let has = current.next_if(|(other, _)| *other == name).map(|(_, keys)| keys);
            if has.is_some_and(|has| Arc::ptr_eq(has, had)) {
                same.push((protocol, had));
                continue;
            }
            let share = service_share(has, had);
            if share == Some(None) {
                continue;
            }
            services.add(Shortfall { lost: usize::from(has.is_none()), had: 1 });
            let (had, has_count) = (count(protocol, had), has.map_or(0, |has| count(protocol, has)));
            let shortfall = Shortfall { lost: had.saturating_sub(has_count), had };
            instances.add(shortfall);
            let share = share.flatten().or(usual);
            if let Some(share) = share.filter(|share| has.is_some() && shortfall.passes(*share)) {
                short.push((protocol, name.clone(), shortfall, share));
            }
        }
    }
    if services.lost >= LEAST || instances.lost >= LEAST {
        // Only now, as there may be very many that did not change.
        for (protocol, keys) in same.into_iter().filter(|(_, keys)| own(keys) != Some(None)) {
            services.had += 1;
            instances.had += count(protocol, keys);
        }
        if let Some(share) = usual.filter(|share| services.passes(*share) || instances.passes(*share)) {
            return Some(Losses::Table { services, instances, share });
        }
    }
    (!short.is_empty()).then_some(Losses::Services(short))
}

/// The value of a key `guard` that is set and good.
fn own(keys: &RawKeys) -> Option<Option<Percent>> {
    let text = std::str::from_utf8(keys.get(KEY)?).ok()?.trim();
    guard_share(text).ok()
}

/// The present share of a service, else the one that it had.
fn service_share(has: Option<&Arc<RawKeys>>, had: &RawKeys) -> Option<Option<Percent>> {
    has.and_then(|has| own(has)).or_else(|| own(had))
}

fn is_instance(protocol: Protocol, key: &str, value: &[u8]) -> bool {
    matches!(classify(protocol, key, value), Part::Direct(_) | Part::Upstream(_))
}

fn count(protocol: Protocol, keys: &RawKeys) -> usize {
    keys.iter().filter(|(key, value)| is_instance(protocol, key, value)).count()
}

/// Keys with those that they lost.
#[derive(Clone, Debug, Default)]
pub struct ServedOn {
    /// What to serve.
    pub keys: KeySet,
    /// How many of these keys the store no longer has.
    pub held: usize,
    /// The services of which the store has no key left.
    pub services: Vec<(Protocol, ServiceName)>,
    /// The instances that the store no longer has, ordered by service.
    pub instances: Vec<(Protocol, ServiceName, InstanceName)>,
}

/// The keys of `before` with the values that were served since. `whole`: and with the keys that came since.
pub fn served_since(before: &KeySet, served: &KeySet, whole: bool) -> KeySet {
    let mut all = before.clone();
    for protocol in [Protocol::Http, Protocol::Tcp] {
        for (name, raw) in served.services(protocol).iter() {
            let old = before.services(protocol).get(name);
            if old.is_some_and(|old| Arc::ptr_eq(old, raw)) {
                continue;
            }
            let is_taken = |key: &str| whole || old.is_some_and(|old| old.get(key).is_some());
            let path = |key: &str| format!("{}/{}/{key}", protocol.tree(), name.as_str()).into();
            let taken = raw.iter().filter(|(key, _)| is_taken(key));
            all.apply(before.revision(), taken.map(|(key, value)| Change::Put { key: path(key), value: value.into() }));
        }
    }
    all
}

/// The keys of `now`, and those of `before` that it lost, as far as `losses` goes. What `now` has goes first. Where a service
/// has as many instances as before, those that went are gone. `last`: what was served last, so that a service that stays
/// the same is not compiled again.
pub fn serve_on(before: &KeySet, now: &KeySet, losses: &Losses, last: &KeySet) -> ServedOn {
    let mut on = ServedOn { keys: now.clone(), ..ServedOn::default() };
    for protocol in [Protocol::Http, Protocol::Tcp] {
        for (name, had) in before.services(protocol).iter().filter(|(name, _)| losses.concerns(protocol, name)) {
            let has = now.services(protocol).get(name);
            let is_same = has.is_some_and(|has| Arc::ptr_eq(has, had));
            if is_same || service_share(has, had) == Some(None) {
                continue;
            }
            on.service(protocol, name, (had, has, last.services(protocol).get(name)));
        }
    }
    if matches!(losses, Losses::Table { .. }) {
        on.shared(before, last);
    }
    on
}

/// The keys of a service: before, now, and as served last.
type ServiceKeys<'k> = (&'k Arc<RawKeys>, Option<&'k Arc<RawKeys>>, Option<&'k Arc<RawKeys>>);

impl ServedOn {
    fn service(&mut self, protocol: Protocol, name: &ServiceName, (had, has, last): ServiceKeys<'_>) {
        let is_made_up = has.is_some_and(|has| count(protocol, has) >= count(protocol, had));
        let is_lost = |(key, value): &(&str, &[u8])| {
            let is_gone = !value.trim_ascii().is_empty() && has.is_none_or(|has| is_unset(has, key));
            is_gone && !(is_made_up && is_instance(protocol, key, value))
        };
        let lost: Vec<_> = had.iter().filter(is_lost).collect();
        if lost.is_empty() {
            return;
        }
        self.held += lost.len();
        let named = lost.iter().filter_map(|(key, value)| match classify(protocol, key, value) {
            Part::Direct(instance) | Part::Upstream(instance) => Some(InstanceName(instance.into())),
            _ => None,
        });
        self.instances.extend(named.map(|instance| (protocol, name.clone(), instance)));
        let keys = match has {
            None => {
                self.services.push((protocol, name.clone()));
                Arc::clone(had)
            }
            Some(has) => together(has, &lost, last),
        };
        self.services_of(protocol).insert(name.clone(), keys);
    }

    fn services_of(&mut self, protocol: Protocol) -> &mut Services {
        match protocol {
            Protocol::Http => &mut self.keys.http,
            Protocol::Tcp => &mut self.keys.tcp,
        }
    }

    /// The configuration, and certificates.
    fn shared(&mut self, before: &KeySet, last: &KeySet) {
        let has = Arc::clone(&self.keys.config);
        let lost: Vec<_> = before.config().iter().filter(|(key, _)| is_unset(&has, key)).collect();
        if !lost.is_empty() {
            self.held += lost.len();
            self.keys.config = together(&has, &lost, Some(last.config()));
        }
        let has = Arc::clone(&self.keys.certs);
        for (name, value) in before.certs().iter().filter(|(name, _)| has.get(name).is_none()) {
            self.held += 1;
            Arc::make_mut(&mut self.keys.certs).insert(name, Arc::clone(value));
        }
    }
}

fn is_unset(keys: &RawKeys, key: &str) -> bool {
    keys.get(key).is_none_or(|value| value.trim_ascii().is_empty())
}

/// The keys that are there and those that were lost; the last ones, if these are the same.
fn together(has: &RawKeys, lost: &[(&str, &[u8])], last: Option<&Arc<RawKeys>>) -> Arc<RawKeys> {
    let all = has.iter().chain(lost.iter().copied()).map(|(key, value)| (key.into(), value.into()));
    let all = RawKeys::collect(all.collect());
    match last.filter(|last| ***last == all) {
        Some(last) => Arc::clone(last),
        None => Arc::new(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys in words: `shop:12` is the service `shop` with a domain and 12 instances, `tcp-services/db:1` likewise;
    /// everything else is `KEY=VALUE`.
    fn keys(words: &str) -> KeySet {
        let mut entries: Vec<(Box<str>, Box<[u8]>)> = Vec::new();
        let mut put = |key: String, value: &str| entries.push((key.into(), value.as_bytes().into()));
        for word in words.split_whitespace() {
            if let Some((key, value)) = word.split_once('=') {
                put(key.to_owned(), value);
                continue;
            }
            let (name, count) = word.split_once(':').unwrap();
            let (from, to) = count.split_once("..").unwrap_or(("0", count));
            let place = if name.contains('/') { name.to_owned() } else { format!("services/{name}") };
            if place.starts_with("services/") {
                put(format!("{place}/domain"), "a.test");
            } else {
                put(format!("{place}/port"), "1");
            }
            for number in from.parse::<usize>().unwrap()..to.parse().unwrap() {
                put(format!("{place}/upstreams/i{number}"), "10.0.0.1:80");
            }
        }
        let mut keys = KeySet::default();
        keys.reset(1, entries);
        keys
    }

    #[test]
    fn what_was_served_since_goes_before() {
        let (before, served) = (keys("a:2 b:1"), keys("a:1..3 services/a/upstreams/i1=10.0.0.2:80 c:1"));
        let all = |set: &KeySet| {
            let services = set.services(Protocol::Http).iter();
            let lines =
                services.flat_map(|(name, raw)| raw.iter().map(move |(key, value)| (name.to_string(), key, value)));
            let one =
                |(name, key, value): (String, &str, &[u8])| format!("{name}/{key}={}", String::from_utf8_lossy(value));
            lines.map(one).filter(|line| line.contains("upstreams")).collect::<Vec<_>>()
        };
        let a = ["a/upstreams/i0=10.0.0.1:80", "a/upstreams/i1=10.0.0.2:80"];
        let b = "b/upstreams/i0=10.0.0.1:80";
        assert_eq!(all(&served_since(&before, &served, false)), [a[0], a[1], b]);
        let whole = [a[0], a[1], "a/upstreams/i2=10.0.0.1:80", b, "c/upstreams/i0=10.0.0.1:80"];
        assert_eq!(all(&served_since(&before, &served, true)), whole);
    }

    /// What changed from one set to the other, as a store says it: what did not change is shared.
    fn later(before: &KeySet, words: &str) -> KeySet {
        let mut now = before.clone();
        let entries = keys(words);
        now.reset(2, entries.entries().map(|(key, value)| (key.into(), value.into())).collect::<Vec<_>>());
        now
    }

    /// `services S/T instances I/J`, or `shop I/J, ...`; empty if it may pass.
    fn shown(losses: Option<Losses>) -> String {
        match losses {
            None => String::new(),
            Some(Losses::Table { services: s, instances: i, share }) => {
                format!("services {}/{} instances {}/{} over {share}", s.lost, s.had, i.lost, i.had)
            }
            Some(Losses::Services(all)) => {
                let one = |(_, name, lost, share): &(Protocol, ServiceName, Shortfall, Percent)| {
                    format!("{name} {}/{} over {share}", lost.lost, lost.had)
                };
                all.iter().map(one).collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// Of these keys, what is too much to lose.
    fn check(before: &str, now: &str, expected: &str) {
        let usual = guard_share("50%").unwrap();
        let had = keys(before);
        assert_eq!(shown(losses(&had, &later(&had, now), usual)), expected, "{before} -> {now}");
        assert_eq!(shown(losses(&had, &keys(now), usual)), expected, "{before} -> {now}, nothing shared");
    }

    #[test]
    fn ordinary_operations_pass() {
        let twelve = "a:3 b:3 c:3 d:3 e:3 f:3 g:3 h:3 i:3 j:3 k:3 l:3";
        for (before, now) in [
            ("", ""),
            ("", "a:20"),
            ("a:20", "a:20"),
            // A service with all of its instances.
            (twelve, "b:3 c:3 d:3 e:3 f:3 g:3 h:3 i:3 j:3 k:3 l:3"),
            ("a:12 b:13", "b:13"),
            // A rolling deploy: others take their places, in one service.
            ("a:10", "a:10..20"),
            ("a:20", "a:10..20"),
            ("a:9", "a:0"),
            ("a:9 b:9", "a:0 b:9"),
            // All small: nine services.
            ("a:1 b:1 c:1 d:1 e:1 f:1 g:1 h:1 i:1", ""),
            ("a:100", "a:50"),
            ("a:100", "a:51"),
        ] {
            check(before, now, "");
        }
    }

    #[test]
    fn too_much_at_once_is_held() {
        let twelve = "a:0 b:0 c:0 d:0 e:0 f:0 g:0 h:0 i:0 j:0 k:0 l:0";
        for (before, now, expected) in [
            ("a:10", "", "services 1/1 instances 10/10 over 50%"),
            ("a:4 b:4 c:4", "", "services 3/3 instances 12/12 over 50%"),
            ("a:4 b:4 c:4", "x:4 y:4 z:4", "services 3/3 instances 12/12 over 50%"),
            (twelve, "a:0 b:0", "services 10/12 instances 0/0 over 50%"),
            (twelve, "a:0 b:0 c:0", ""),
            ("a:100", "a:49", "services 0/1 instances 51/100 over 50%"),
            ("a:20 b:100", "a:8 b:100", "a 12/20 over 50%"),
            ("a:20 tcp-services/b:100", "a:20 tcp-services/b:10", "services 0/2 instances 90/120 over 50%"),
            ("a:20 tcp-services/b:30 c:100", "a:20 tcp-services/b:10 c:100", "b 20/30 over 50%"),
        ] {
            check(before, now, expected);
        }
    }

    #[test]
    fn keys_say_how_much() {
        for (before, now, expected) in [
            ("a:100 config/guard=off", "", ""),
            ("a:100 config/guard=off", "config/guard=off", ""),
            ("a:100 config/guard=20%", "a:79 config/guard=20%", "services 0/1 instances 21/100 over 20%"),
            // The wiped value counts, and the present one before it.
            ("a:100 config/guard=20%", "a:79", "services 0/1 instances 21/100 over 20%"),
            ("a:100 config/guard=20%", "a:79 config/guard=50%", ""),
            ("a:100 config/guard=half", "a:79 config/guard=half", ""),
            ("a:20 b:100 services/a/guard=off", "a:0 b:100 services/a/guard=off", ""),
            ("a:20 b:100 services/a/guard=off", "b:40", "services 0/1 instances 60/100 over 50%"),
            ("a:20 b:100 services/a/guard=90%", "a:3 b:100 services/a/guard=90%", ""),
            ("a:20 b:100 services/a/guard=10%", "a:10 b:100 services/a/guard=10%", "a 10/20 over 10%"),
            (
                "a:20 b:100 config/guard=off services/a/guard=10%",
                "a:1 b:1 config/guard=off services/a/guard=10%",
                "a 19/20 over 10%",
            ),
        ] {
            check(before, now, expected);
        }
    }

    /// What is served on after `before` became `now`: the keys without instances, and how many instances are held.
    fn served(before: &str, now: &str) -> (String, usize) {
        let before = keys(before);
        let now = later(&before, now);
        let losses = losses(&before, &now, guard_share("50%").unwrap()).expect("too much");
        let on = serve_on(&before, &now, &losses, &KeySet::default());
        let again = serve_on(&before, &now, &losses, &on.keys);
        let same = |name: &ServiceName| Arc::ptr_eq(&on.keys.http[name], &again.keys.http[name]);
        assert!(on.keys.http.keys().all(same), "nothing is compiled again");
        assert_eq!(on.keys.len(), now.len() + on.held);
        let keys = on.keys.entries().map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value)));
        (keys.filter(|key| !key.contains("/upstreams/")).collect::<Vec<_>>().join(" "), on.instances.len())
    }

    #[test]
    fn what_is_gone_is_served_on_beside_what_is_new() {
        for (before, now, expected, instances) in [
            ("a:10 config/retries=1 certs/x=pem", "", "services/a/domain=a.test config/retries=1 certs/x=pem", 10),
            ("a:10 b:10", "c:1", "services/a/domain=a.test services/b/domain=a.test services/c/domain=a.test", 20),
            // A key that is there goes first.
            ("a:10 services/a/port=1", "services/a/port=2", "services/a/domain=a.test services/a/port=2", 10),
            ("a:20 b:9", "a:1 b:10..19", "services/a/domain=a.test services/b/domain=a.test", 19),
            ("a:20 services/b/guard=off services/b/port=1", "", "services/a/domain=a.test", 20),
        ] {
            assert_eq!(served(before, now), (expected.to_owned(), instances), "{before} -> {now}");
        }
    }

    #[test]
    fn only_the_service_that_lost_too_much_is_held() {
        let (keys, instances) = served("a:20 b:100 services/b/port=1 config/retries=1", "a:1 b:99");
        assert_eq!((keys.as_str(), instances), ("services/a/domain=a.test services/b/domain=a.test", 19));
    }
}
