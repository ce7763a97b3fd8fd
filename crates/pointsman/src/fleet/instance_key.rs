//! The key of an instance, and the words of its value that operators change while it serves: `drain` and `weight=N`. Waits
//! for nobody.

use pointsman_store::{Store, StoreError};
use pointsman_table::{KNOWN_KEYS, Protocol};

/// Whether to drain an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// It takes no new work.
    On,
    /// It takes new work.
    Off,
}

/// An instance's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceKey {
    /// In full.
    pub key: String,
    /// Of its service.
    pub protocol: Protocol,
    /// Its service.
    pub service: String,
    /// Its name.
    pub name: String,
}

impl InstanceKey {
    /// The places of an instance's key below this prefix: of `shop/web-1`, or of a key such as `tcp-services/db/db-1`.
    /// `None`: it is neither.
    pub fn places(prefix: &str, instance: &str) -> Option<Vec<Self>> {
        let parts: Vec<&str> = instance.split('/').filter(|part| !part.is_empty()).collect();
        let both = [Protocol::Http, Protocol::Tcp];
        let named = both.into_iter().find(|protocol| parts.len() > 2 && parts[0] == protocol.tree());
        let (service, name) = match &parts[usize::from(named.is_some())..] {
            [service, name] | [service, "upstreams", name] => (*service, *name),
            _ => return None,
        };
        // Directly below the service, a known name is a setting.
        let is_setting = KNOWN_KEYS.iter().any(|key| key.name == name);
        let folders = ["upstreams/", ""].into_iter().take(if is_setting { 1 } else { 2 });
        let protocols = both.into_iter().filter(|protocol| named.is_none_or(|named| named == *protocol));
        let place = |protocol: Protocol, below: &str| Self {
            key: format!("{prefix}/{protocol}/{service}/{below}{name}"),
            protocol,
            service: service.to_owned(),
            name: name.to_owned(),
        };
        Some(protocols.flat_map(|protocol| folders.clone().map(move |below| place(protocol, below))).collect())
    }

    /// Those of these places that the store has: one for HTTP and one for TCP at most.
    ///
    /// # Errors
    /// The store is unreachable, or refuses.
    pub async fn existing(store: &Store, places: Vec<Self>) -> Result<Vec<Self>, StoreError> {
        let mut found: Vec<Self> = Vec::new();
        for place in places {
            let is_found = found.last().is_some_and(|last| last.protocol == place.protocol);
            if !is_found && store.get(&place.key).await?.is_some() {
                found.push(place);
            }
        }
        Ok(found)
    }
}

/// The value with or without the word `drain`; `None` if nothing changes.
pub fn drained(value: &[u8], drain: Drain) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(value);
    let is_marked = text.split_whitespace().skip(1).any(|word| word == "drain");
    match drain {
        Drain::On if !is_marked => Some(format!("{} drain", text.trim()).into_bytes()),
        Drain::Off if is_marked => Some(without(&text, |word| word == "drain").into_bytes()),
        Drain::On | Drain::Off => None,
    }
}

/// The value with this weight; `None` if nothing changes.
pub fn weighed(value: &[u8], weight: u16) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(value);
    if weight_of(value) == Some(weight) {
        return None;
    }
    Some(format!("{} {WEIGHT}{weight}", without(&text, |word| word.starts_with(WEIGHT))).into_bytes())
}

/// The weight in a value, 1 if it has none; `None`: it is no weight.
pub fn weight_of(value: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(value);
    let word = text.split_whitespace().skip(1).find_map(|word| word.strip_prefix(WEIGHT));
    word.map_or(Some(1), |number| number.parse().ok())
}

const WEIGHT: &str = "weight=";

/// The words but those; the first one is the address, whatever it says.
fn without(text: &str, is_out: impl Fn(&str) -> bool) -> String {
    let kept = text.split_whitespace().enumerate().filter(|(at, word)| *at == 0 || !is_out(word));
    kept.map(|(_, word)| word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_drain() {
        let check = |value: &str, drain: Drain, expected: Option<&str>| {
            let changed = drained(value.as_bytes(), drain).map(|value| String::from_utf8(value).unwrap());
            assert_eq!(changed.as_deref(), expected, "{value} {drain:?}");
        };
        check("10.0.0.1:80", Drain::On, Some("10.0.0.1:80 drain"));
        check("10.0.0.1:80 weight=2\n", Drain::On, Some("10.0.0.1:80 weight=2 drain"));
        check("10.0.0.1:80 drain weight=2", Drain::On, None);
        check("10.0.0.1:80 drain weight=2", Drain::Off, Some("10.0.0.1:80 weight=2"));
        check("10.0.0.1:80", Drain::Off, None);
        check("drain", Drain::Off, None);
        check("drain", Drain::On, Some("drain drain"));
    }

    #[test]
    fn values_with_a_weight() {
        let check = |value: &str, weight: u16, expected: Option<&str>| {
            let changed = weighed(value.as_bytes(), weight).map(|value| String::from_utf8(value).unwrap());
            assert_eq!(changed.as_deref(), expected, "{value} {weight}");
        };
        check("10.0.0.1:80", 1, None);
        check("10.0.0.1:80", 0, Some("10.0.0.1:80 weight=0"));
        check("10.0.0.1:80 weight=2 drain\n", 3, Some("10.0.0.1:80 drain weight=3"));
        check("10.0.0.1:80 weight=2", 2, None);
        check("10.0.0.1:80 weight=x", 2, Some("10.0.0.1:80 weight=2"));
    }

    #[test]
    fn places_of_keys() {
        let keys = |instance: &str| -> Option<Vec<String>> {
            Some(InstanceKey::places("/p", instance)?.into_iter().map(|place| place.key).collect())
        };
        let own = |keys: &[&str]| Some(keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            keys("tcp-services/db/db-1"),
            own(&["/p/tcp-services/db/upstreams/db-1", "/p/tcp-services/db/db-1"])
        );
        assert_eq!(keys("a/port"), own(&["/p/services/a/upstreams/port", "/p/tcp-services/a/upstreams/port"]));
        assert_eq!(keys("a"), None);
    }
}
