//! Which instance the cookie or the key of a request leads to, for operators who ask. Takes no turn, and changes nothing.

use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::time::Duration;

use pointsman_table::{Balance, Cookie, Protocol, Rendezvous, Service, hash_key};
use pointsman_wire::{HeadLimits, MAX_HEADERS, RequestHead, parse_request};

use super::reach::{cookie, path, url_param};
use super::sticky;
use crate::pool::pick::{best, key_of_address, share_in_effect};
use crate::pool::values::CookieValues;

/// A request or a TCP connection to foresee.
#[derive(Clone, Copy, Debug)]
pub struct Foretold<'a> {
    /// The method.
    pub method: &'a str,
    /// Host and port; may be empty.
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Names and values.
    pub headers: &'a [(String, String)],
    /// The client's address, if it is known.
    pub client: Option<IpAddr>,
}

/// What is known of an instance now.
#[derive(Clone, Copy, Debug)]
pub struct InstanceNow {
    /// Whether it may get work.
    pub up: bool,
    /// Whether nothing is held against it.
    pub sound: bool,
    /// Its open requests or connections.
    pub open: u64,
    /// How long ago it began to get work, for `slow_start`; `None`: at no time that counts.
    pub age: Option<Duration>,
}

/// Where a request goes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// What leads to the instance: `balance uri`, `cookie SRV`.
    pub by: String,
    /// The key, or the cookie's value; `None`: the request has none.
    pub key: Option<String>,
    /// The instance; `None`: nothing leads to one.
    pub instance: Option<String>,
    /// The reasons, a sentence each.
    pub why: Vec<String>,
}

/// Follows the cookie or the key of a request. `None`: the service has neither `cookie` nor a hashing balance. `now`: of
/// each of the service's instances, in their order.
pub fn foresee(service: &Service, now: &[InstanceNow], asked: Foretold<'_>) -> Option<Foreseen> {
    let bytes = written(&asked);
    let mut space = [MaybeUninit::uninit(); MAX_HEADERS];
    let limits = HeadLimits { bytes: bytes.len(), headers: MAX_HEADERS };
    let head = match service.protocol {
        Protocol::Http => parse_request(&bytes, limits, &mut space).ok().flatten(),
        Protocol::Tcp => None,
    };
    let mut why = Vec::new();
    let by_cookie = head.as_ref().zip(service.cookie()).map(|(head, cookie)| stuck((service, now), cookie, head));
    let before = match by_cookie {
        Some(foreseen) if foreseen.instance.is_some() || !service.balance.is_hashed() => return Some(foreseen),
        before => before,
    };
    why.extend(before.into_iter().flat_map(|before| before.why));
    if !service.balance.is_hashed() {
        return None;
    }
    let by = format!("balance {}", service.balance);
    let Some((key, shown)) = key(&service.balance, head.as_ref(), asked.client) else {
        why.push(match service.balance {
            Balance::Source => "the client's address decides, and is not given".to_owned(),
            _ => "the request has no key, so instances take turns".to_owned(),
        });
        return Some(Foreseen { by, key: None, instance: None, why });
    };
    let instance = by_key((service, now), key, &mut why).map(|index| service.instances[index].name.to_string());
    Some(Foreseen { by, key: Some(shown), instance, why })
}

/// The request's head.
fn written(asked: &Foretold<'_>) -> Vec<u8> {
    let Foretold { method, host, target, headers, .. } = asked;
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
    let others = headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("host"));
    others.for_each(|(name, value)| text.extend([name, ": ", value, "\r\n"]));
    text.push_str("\r\n");
    text.into_bytes()
}

/// As [`super::reach::key`], and the key for people.
fn key(balance: &Balance, head: Option<&RequestHead<'_, '_>>, client: Option<IpAddr>) -> Option<(u64, String)> {
    let bytes = match balance {
        Balance::Source => return client.map(|client| (key_of_address(client), client.to_string())),
        Balance::Uri => path(&head?.target).as_bytes(),
        Balance::Header(name) => head?.header(name)?,
        Balance::UrlParam(name) => url_param(&head?.target, name)?.as_bytes(),
        Balance::Cookie(name) => cookie(head?, name)?,
        Balance::RoundRobin
        | Balance::StaticRoundRobin
        | Balance::LeastConnections
        | Balance::First
        | Balance::Random
        | Balance::PowerOfTwo => return None,
    };
    Some((hash_key(bytes), String::from_utf8_lossy(bytes).into_owned()))
}

/// Where a client's cookie leads.
fn stuck((service, now): (&Service, &[InstanceNow]), own: &Cookie, head: &RequestHead<'_, '_>) -> Foreseen {
    let by = format!("cookie {}", own.name);
    let Some(value) = cookie(head, &own.name) else {
        return Foreseen { why: vec![format!("the request has no {by}")], by, key: None, instance: None };
    };
    let key = Some(String::from_utf8_lossy(value).into_owned());
    let values = CookieValues::of(service);
    let named = |id: &[u8]| values.as_ref()?.find(id).and_then(|index| u32::try_from(index).ok());
    let (sticky, _) = sticky::read(own, named, head, sticky::today);
    let index = sticky.and_then(|sticky| sticky.wanted).and_then(|index| usize::try_from(index).ok());
    let Some((index, instance)) = index.and_then(|index| Some((index, service.instances.get(index)?))) else {
        return Foreseen { why: vec![format!("the {by} names no instance of the service")], by, key, instance: None };
    };
    let name = instance.name.to_string();
    if !now[index].up {
        return Foreseen { why: vec![format!("the {by} names {name}, which is down")], by, key, instance: None };
    }
    let mut why = Vec::new();
    if !instance.takes_work() {
        why.push("it takes no new clients, and keeps those that it has".to_owned());
    }
    if instance.max_connections.is_some_and(|most| now[index].open >= u64::from(most.get())) {
        why.push("it is at its maxconn: the request waits for a place".to_owned());
    }
    Foreseen { by, key, instance: Some(name), why }
}

/// The index of the instance that a key goes to.
fn by_key((service, now): (&Service, &[InstanceNow]), key: u64, why: &mut Vec<String>) -> Option<usize> {
    let takes_work = |index: usize| service.instances[index].takes_work();
    let (indices, is_up) = best(service, takes_work, |index| now[index].up, |index| now[index].sound);
    let percent = |index: usize| share_in_effect(now[index].age, service.timeouts.slow_start);
    let weight = |index: &u32| u64::from(service.instances[*index as usize].weight) * percent(*index as usize);
    let weights: Vec<_> = indices.iter().map(weight).collect();
    let name = |index: &u32| service.instances[*index as usize].name.as_str();
    let keyed = Rendezvous::new(indices.iter().map(name).zip(weights.iter().copied()));
    let at = |place: usize| indices[place] as usize;
    let has_room = |index: usize| {
        let most = service.instances[index].max_connections.filter(|_| is_up);
        most.is_none_or(|most| now[index].open < u64::from(most.get()))
    };
    let (units, opened) = (weights.iter().sum::<u64>(), now.iter().map(|one| one.open).sum::<u64>() + 1);
    let is_within = |place: usize| {
        let bound = |percent: u16| now[at(place)].open * units * 100 < opened * u64::from(percent) * weights[place];
        service.bounded.is_none_or(bound)
    };
    let picked = keyed.pick(key, |place| has_room(at(place)) && is_within(place));
    let picked = picked.or_else(|| keyed.pick(key, |place| has_room(at(place))))?;
    if let Some(home) = home(service, key).filter(|home| *home != at(picked)) {
        let place = indices.iter().position(|index| *index as usize == home);
        let reason = match place {
            None => "is down".to_owned(),
            Some(_) if !has_room(home) => "is at its maxconn".to_owned(),
            Some(place) if !is_within(place) => "has its share of the open work (bounded)".to_owned(),
            Some(_) => "has not its full weight yet (slow_start), or another one has".to_owned(),
        };
        why.push(format!("the key's own instance, {}, {reason}", service.instances[home].name));
    }
    if weights.iter().any(|one| *one != weights[0]) {
        let share = weights[picked] as f64 * 100.0 / units.max(1) as f64;
        why.push(format!("by weight, it has {share:.0}% of the keys"));
    }
    Some(at(picked))
}

/// The instance that a key goes to while all work.
fn home(service: &Service, key: u64) -> Option<usize> {
    let serves = |index: &usize| service.instances[*index].takes_work() && !service.instances[*index].backup;
    let ordinary: Vec<usize> = (0..service.instances.len()).filter(serves).collect();
    let drawer = |index: &usize| (service.instances[*index].name.as_str(), u64::from(service.instances[*index].weight));
    let place = Rendezvous::new(ordinary.iter().map(drawer)).pick(key, |_| true);
    place.map(|place| ordinary[place])
}
