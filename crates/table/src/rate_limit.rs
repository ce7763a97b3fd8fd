//! `rate_limit`: how many requests a client, or a service, may send in which time. Counts nothing.

use std::fmt::{Display, Formatter};
use std::time::Duration;

use crate::value::{self, Parsed};

/// The most requests of a period, and of a burst.
const MOST: usize = 1_000_000;

/// How many requests are let in, and for whom they are counted: the generic cell rate algorithm (ITU-T I.371), which never
/// lets in more than `burst` at once, nor, from then on, more than `count` in a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests in a period.
    pub count: u32,
    /// A second, a minute or an hour.
    pub period: Duration,
    /// How many may come at once: `count` if the key does not say.
    pub burst: u32,
    /// For whom they are counted.
    pub by: RateBy,
}

/// For whom requests are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RateBy {
    /// For each client's address; of IPv6, for each network of 64 bits, which is what one customer has (RFC 6177).
    #[default]
    Client,
    /// For all clients together.
    Service,
    /// For each value of this header; requests without it, for each client.
    Header(Box<str>),
}

impl RateLimit {
    /// `100/s burst=20 by=header:X-Key`.
    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        let mut words = text.split_whitespace();
        let (count, period) = words.next().and_then(rate).ok_or_else(expected)?;
        let mut limit = Self { count, period, burst: count, by: RateBy::Client };
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some(("burst", burst)) => limit.burst = number(burst).ok_or_else(expected)?,
                Some(("by", by)) => limit.by = RateBy::parse(by).ok_or_else(expected)?,
                _ => return Err(expected()),
            }
            value::once(word, words.clone())?;
        }
        Ok(limit)
    }

    /// From one request to the next at this rate, nanoseconds: at least 1,000.
    pub fn interval(&self) -> u64 {
        u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX) / u64::from(self.count.max(1))
    }
}

fn expected() -> String {
    format!(
        "expected a rate such as 100/s, 30/m or 500/h (at most {MOST}), then burst=N and by=client, service or header:NAME"
    )
}

fn number(text: &str) -> Option<u32> {
    value::within(text, 1, MOST).ok().and_then(|number| u32::try_from(number).ok())
}

fn rate(word: &str) -> Option<(u32, Duration)> {
    let (count, unit) = word.split_once('/')?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some((number(count)?, Duration::from_secs(seconds)))
}

impl RateBy {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "client" => Some(Self::Client),
            None if text == "service" => Some(Self::Service),
            Some(("header", name)) if value::is_token(name) => Some(Self::Header(name.into())),
            _ => None,
        }
    }
}

/// The key's value, as an operator writes it.
impl Display for RateLimit {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)?;
        if self.burst != self.count {
            write!(f, " burst={}", self.burst)?;
        }
        match &self.by {
            RateBy::Client => f.write_str(" by=client"),
            RateBy::Service => f.write_str(" by=service"),
            RateBy::Header(name) => write!(f, " by=header:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn rates() {
        for (text, shown, interval) in [
            ("100/s", "100/s by=client", 10_000_000),
            ("30/m by=service", "30/m by=service", 2_000_000_000),
            ("3600/h  burst=5 by=header:X-Key", "3600/h burst=5 by=header:X-Key", 1_000_000_000),
            ("1000000/s burst=1", "1000000/s burst=1 by=client", 1_000),
        ] {
            let limit = RateLimit::parse(text).unwrap();
            assert_eq!((limit.to_string().as_str(), limit.interval()), (shown, interval));
        }
        for wrong in
            ["", "100", "0/s", "100/d", "1000001/s", "-1/s", "1/s burst=0", "1/s by=cookie", "1/s by=header:", "1/s 5"]
        {
            check(RateLimit::parse(wrong), "error: expected a rate");
        }
        check(RateLimit::parse("1/s burst=1 by=client burst=2"), "error: expected burst once, but it is given again");
        check(RateLimit::parse("1/s by=client by=service"), "error: expected by once");
    }
}
