//! `split/<service>`, `split_by` and `mirror/<service>`: other services that take a share of a service's requests, or
//! get copies of them. Draws no lots.

use crate::names::ServiceName;
use crate::reader::Reader;
use crate::value::{self, Parsed};

/// One percent, in the unit of shares.
const PERCENT: u32 = 100;
/// All of it: shares are hundredths of a percent.
pub const WHOLE: u32 = 100 * PERCENT;
/// The greatest share: sums of all keys of a service fit in 32 bits by far.
const MOST: u32 = 10_000 * PERCENT;

/// The services among which a service's requests are split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Those that take a share, ordered by name, and their shares.
    pub sides: Box<[(ServiceName, u32)]>,
    /// The service's own share: what is left of 100 %, or its own `split/<service>`.
    pub own: u32,
    /// `split_by`: who stays on which side.
    pub by: SplitBy,
}

/// `split_by`: what decides about a request's side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SplitBy {
    /// Each request anew.
    #[default]
    Chance,
    /// The client's address.
    Client,
    /// The value of this cookie, which may be the name of a side; without it, chance.
    Cookie(Box<str>),
    /// The value of this header, likewise.
    Header(Box<str>),
}

impl Split {
    /// Reads the keys of the service of this name: `None` if no share is set.
    pub(crate) fn read(reader: &mut Reader<'_>, name: &ServiceName) -> Option<Self> {
        let by = reader.read("split_by", SplitBy::parse).unwrap_or_default();
        let (own, sides): (Vec<_>, Vec<_>) = shares(reader, "split/").into_iter().partition(|(side, _)| side == name);
        let taken: u32 = sides.iter().map(|(_, share)| share).sum();
        let own = own.first().map_or(WHOLE.saturating_sub(taken), |(_, share)| *share);
        (!sides.is_empty()).then(|| Self { sides: sides.into(), own, by })
    }

    /// The sum of all shares.
    pub fn total(&self) -> u32 {
        self.own + self.sides.iter().map(|(_, share)| share).sum::<u32>()
    }

    /// The side that has this point of `0..total()`; `None`: the service itself. The first side begins at 0, so that whoever
    /// is on it stays there when its share grows.
    pub fn at(&self, mut point: u32) -> Option<&ServiceName> {
        self.sides.iter().find_map(|(side, share)| {
            let is_it = point < *share;
            point = point.saturating_sub(*share);
            is_it.then_some(side)
        })
    }

    /// The side of this name.
    pub fn side(&self, name: &[u8]) -> Option<&ServiceName> {
        self.sides.iter().map(|(side, _)| side).find(|side| side.as_str().as_bytes() == name)
    }
}

impl SplitBy {
    fn parse(text: &str) -> Parsed<Self> {
        let token = |name: &str| value::is_token(name).then(|| name.into());
        match text.split_once(':') {
            None if text == "client" => Some(Self::Client),
            Some(("cookie", name)) => token(name).map(Self::Cookie),
            Some(("header", name)) => token(name).map(Self::Header),
            _ => None,
        }
        .ok_or_else(|| "expected client, cookie:NAME or header:NAME; without the key, chance decides".into())
    }
}

/// The key's value, as an operator writes it.
impl std::fmt::Display for SplitBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Chance => f.write_str("chance"),
            Self::Client => f.write_str("client"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

/// Reads `mirror/<service>`: who gets copies, ordered by name, and of which share of the requests.
pub(crate) fn mirrors(reader: &mut Reader<'_>) -> Box<[(ServiceName, u32)]> {
    let mut mirrors = shares(reader, "mirror/");
    mirrors.iter_mut().for_each(|(_, share)| *share = (*share).min(WHOLE));
    mirrors.into()
}

/// The keys of this folder that have a share above 0, ordered by name.
fn shares(reader: &mut Reader<'_>, folder: &str) -> Vec<(ServiceName, u32)> {
    let raw = reader.raw;
    let keys = raw.iter().filter_map(|(key, _)| Some((key, key.strip_prefix(folder)?)));
    let named = keys.filter(|(_, name)| !name.is_empty() && !name.contains('/'));
    let read = named.filter_map(|(key, name)| Some((ServiceName(name.into()), reader.read(key, share)?)));
    read.filter(|(_, share)| *share > 0).collect()
}

/// A share as text: `5%`, `0.25%`.
pub fn shown_share(share: u32) -> String {
    let (percent, rest) = (share / PERCENT, share % PERCENT);
    match rest {
        0 => format!("{percent}%"),
        rest if rest.is_multiple_of(10) => format!("{percent}.{}%", rest / 10),
        rest => format!("{percent}.{rest:02}%"),
    }
}

/// `5`, `5%` or `0.25%`.
fn share(text: &str) -> Parsed<u32> {
    let number = text.strip_suffix('%').map_or(text, str::trim_end);
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let parsed = || {
        if !value::is_number(whole) || !value::is_number(part) || part.len() > 2 {
            return None;
        }
        let part = part.parse::<u32>().ok()? * if part.len() == 1 { 10 } else { 1 };
        whole.parse::<u32>().ok()?.checked_mul(PERCENT)?.checked_add(part).filter(|share| *share <= MOST)
    };
    parsed().ok_or_else(|| "expected a share of the requests: a number with up to two decimals, 10%".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn shares_and_ways() {
        for (text, parsed, shown) in [
            ("5", 500, "5%"),
            ("5%", 500, "5%"),
            ("0.25 %", 25, "0.25%"),
            ("12.5%", 1250, "12.5%"),
            ("0.05", 5, "0.05%"),
        ] {
            assert_eq!(share(text), Ok(parsed), "{text}");
            assert_eq!(shown_share(parsed), shown);
        }
        for wrong in ["", "%", "-1", "1.234", ".5", "5.", "ten", "10001", "99999999999"] {
            check(share(wrong), "error: expected a share");
        }
        for text in ["client", "cookie:side", "header:X-Side"] {
            assert_eq!(SplitBy::parse(text).map(|by| by.to_string()).as_deref(), Ok(text));
        }
        for wrong in ["", "chance", "cookie", "cookie:", "header:a b", "query:x"] {
            check(SplitBy::parse(wrong), "error: expected client");
        }
    }

    #[test]
    fn who_is_on_a_side_stays_there_when_its_share_grows() {
        let split = |share| Split {
            sides: [(ServiceName("canary".into()), share)].into(),
            own: WHOLE - share,
            by: SplitBy::Client,
        };
        let on = |share| (0..WHOLE).filter(|point| split(share).at(*point).is_some()).collect::<Vec<_>>();
        assert_eq!(on(500).len(), 500);
        assert!(on(500).iter().all(|point| on(1_000).contains(point)));
    }
}
