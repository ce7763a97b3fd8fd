//! How often a request is sent, how long it may take, and how many are at work at once: `retries`, `timeout/request`,
//! `limit/requests`, `limit/queue` and `timeout/queue` of an HTTP service, and the same below `config/`. Counts nothing.

use std::fmt::{Display, Formatter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::capabilities::Capabilities;
use crate::reader::Reader;
use crate::value::{self, Parsed};

/// The most attempts that may follow the first.
pub const MOST_RETRIES: u32 = 10;
/// The longest queue.
const LONGEST_QUEUE: usize = 65_536;
/// The share of retries in a service's requests, if the key names none, per cent.
const USUAL_BUDGET: u32 = 20;
/// Statuses that may be retried: those that HAProxy's `retry-on` knows too.
const STATUSES: [u16; 8] = [404, 408, 425, 500, 501, 502, 503, 504];
/// What is retried if the key does not say.
const USUAL: [Cause; 5] = [Cause::Connect, Cause::Reset, Cause::Status(502), Cause::Status(503), Cause::Status(504)];
const SHAPE: &str = "expected a number from 0 to 10, then on=CAUSE,... and budget=SHARE if they are wanted, such as \
                     2 on=connect,reset,503 budget=20%; all causes, non_idempotent too, go after on=";
const CAUSES: &str = "expected causes after on=: connect, reset, timeout, non_idempotent, 404, 408, 425 and 500 to 504, \
                      comma separated";
const SHARE: &str = "expected budget= and a share from 1% to 100%";

/// What bounds the requests of one service, with the configuration's defaults already in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// `retries`; `None`: as without the key.
    pub retries: Option<Retries>,
    /// `timeout/request`: from the head to the answer's end.
    pub request: Option<Duration>,
    /// `limit/requests`: at work at once.
    pub requests: Option<NonZeroU32>,
    /// `limit/queue`: waiting at once.
    pub queue: Option<u32>,
    /// `timeout/queue`: how long each may wait; `None`: as long as connecting may take.
    pub queue_wait: Option<Duration>,
}

/// When a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How many attempts may follow the first.
    pub times: u32,
    /// The share of retries in the service's requests, per cent.
    pub budget: u32,
    causes: u16,
}

/// Why a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Connect,
    Reset,
    Timeout,
    NonIdempotent,
    Status(u16),
}

impl Retries {
    /// After a connection that could not be made.
    pub fn on_connect(&self) -> bool {
        self.has(Cause::Connect)
    }

    /// After a connection that broke before a whole head of an answer.
    pub fn on_reset(&self) -> bool {
        self.has(Cause::Reset)
    }

    /// After `timeout/server` without a whole head of an answer.
    pub fn on_timeout(&self) -> bool {
        self.has(Cause::Timeout)
    }

    /// Also requests that may have been acted on and whose method is not idempotent.
    pub fn is_of_all_methods(&self) -> bool {
        self.has(Cause::NonIdempotent)
    }

    /// After an answer with this status.
    pub fn on_status(&self, status: u16) -> bool {
        self.has(Cause::Status(status))
    }

    /// The statuses after which a request is sent again.
    pub fn statuses(&self) -> impl Iterator<Item = u16> {
        let all = *self;
        STATUSES.into_iter().filter(move |status| all.on_status(*status))
    }

    fn has(&self, cause: Cause) -> bool {
        self.causes & cause.bit() != 0
    }

    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        let mut words = text.split_ascii_whitespace();
        let times = words.next().and_then(|word| value::within(word, 0, MOST_RETRIES as usize).ok()).ok_or(SHAPE)?;
        let (mut causes, mut budget) = (None, None);
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some(("on", list)) => causes = Some(value::list(list, Cause::parse)?),
                Some(("budget", share)) => budget = Some(percent(share)?),
                _ => return Err(SHAPE.into()),
            }
            value::once(word, words.clone())?;
        }
        let causes = causes.unwrap_or_else(|| USUAL.to_vec());
        Ok(Self {
            times: times as u32,
            budget: budget.unwrap_or(USUAL_BUDGET),
            causes: causes.into_iter().fold(0, |bits, cause| bits | cause.bit()),
        })
    }
}

/// As the key is written: `2 on=connect,503 budget=20%`.
impl Display for Retries {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let named = [Cause::Connect, Cause::Reset, Cause::Timeout, Cause::NonIdempotent];
        let causes = named.into_iter().chain(STATUSES.map(Cause::Status)).filter(|cause| self.has(*cause));
        let causes: Vec<_> = causes.map(|cause| cause.to_string()).collect();
        write!(f, "{} on={} budget={}%", self.times, causes.join(","), self.budget)
    }
}

impl Cause {
    fn bit(self) -> u16 {
        let place = match self {
            Self::Connect => Some(0),
            Self::Reset => Some(1),
            Self::Timeout => Some(2),
            Self::NonIdempotent => Some(3),
            Self::Status(status) => STATUSES.iter().position(|known| *known == status).map(|place| 4 + place),
        };
        place.map_or(0, |place| 1 << place)
    }

    fn parse(text: &str) -> Parsed<Self> {
        match text {
            "connect" => Ok(Self::Connect),
            "reset" => Ok(Self::Reset),
            "timeout" => Ok(Self::Timeout),
            "non_idempotent" => Ok(Self::NonIdempotent),
            _ => {
                let status = text.parse().ok().filter(|status| STATUSES.contains(status) && text.len() == 3);
                status.map(Self::Status).ok_or_else(|| CAUSES.into())
            }
        }
    }
}

impl Bounds {
    /// Without those whose keys the engine does not honour.
    pub(crate) fn honoured(self, mut is_honoured: impl FnMut(&'static str) -> bool) -> Self {
        Self {
            request: self.request.filter(|_| is_honoured("timeout/request")),
            requests: self.requests.filter(|_| is_honoured("limit/requests")),
            queue: self.queue.filter(|_| is_honoured("limit/queue")),
            ..self
        }
    }

    /// Key and value of each that bounds something.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        let pairs = [
            ("retries", self.retries.map(|retries| retries.to_string())),
            ("timeout/request", self.request.map(wait)),
            ("limit/requests", self.requests.map(|most| most.to_string())),
            ("limit/queue", self.queue.map(|most| most.to_string())),
            ("timeout/queue", self.queue_wait.map(wait)),
        ];
        pairs.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

fn wait(wait: Duration) -> String {
    match wait.as_millis() {
        millis if millis % 1_000 == 0 => format!("{}s", millis / 1_000),
        millis => format!("{millis}ms"),
    }
}

impl Display for Cause {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Reset => f.write_str("reset"),
            Self::Timeout => f.write_str("timeout"),
            Self::NonIdempotent => f.write_str("non_idempotent"),
            Self::Status(status) => status.fmt(f),
        }
    }
}

fn percent(text: &str) -> Parsed<u32> {
    let share = text.strip_suffix('%').and_then(|number| value::within(number, 1, 100).ok());
    Ok(share.ok_or(SHARE)? as u32)
}

/// A value, or `off`, which takes back what `config/` says for all services.
fn unless_off<T>(text: &str, parse: impl FnOnce(&str) -> Parsed<T>) -> Parsed<Option<T>> {
    match text {
        "off" => Ok(None),
        _ => parse(text).map(Some).map_err(|advice| format!("{advice}, or off")),
    }
}

/// What the keys of one service, or of `config/`, say: `None` where they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnBounds {
    retries: Option<Retries>,
    request: Option<Option<Duration>>,
    requests: Option<Option<NonZeroU32>>,
    queue: Option<u32>,
    queue_wait: Option<Duration>,
}

impl OwnBounds {
    /// Reads those keys that the engine honours; `None`: none is set.
    pub(crate) fn read(reader: &mut Reader<'_>, capabilities: Capabilities) -> Option<Box<Self>> {
        let mut keys = HonouredKeys { reader, capabilities };
        let own = Self {
            retries: keys.read("retries", Retries::parse),
            request: keys.read("timeout/request", request),
            requests: keys.read("limit/requests", requests),
            queue: keys.read("limit/queue", queue),
            queue_wait: keys.read("timeout/queue", value::duration),
        };
        (own != Self::default()).then(|| Box::new(own))
    }

    /// A service's own, and the configuration's defaults; `None`: nothing is bounded.
    pub(crate) fn over(own: Option<&Self>, defaults: &Bounds) -> Option<Arc<Bounds>> {
        let bounds = match own {
            None => defaults.clone(),
            Some(own) => Bounds {
                retries: own.retries.or(defaults.retries),
                request: own.request.unwrap_or(defaults.request),
                requests: own.requests.unwrap_or(defaults.requests),
                queue: own.queue.or(defaults.queue),
                queue_wait: own.queue_wait.or(defaults.queue_wait),
            },
        };
        (bounds != Bounds::default()).then(|| Arc::new(bounds))
    }
}

pub(crate) fn request(text: &str) -> Parsed<Option<Duration>> {
    unless_off(text, value::duration)
}

pub(crate) fn requests(text: &str) -> Parsed<Option<NonZeroU32>> {
    unless_off(text, value::count)
}

pub(crate) fn queue(text: &str) -> Parsed<u32> {
    value::within(text, 0, LONGEST_QUEUE).map(|length| length as u32)
}

struct HonouredKeys<'a, 'r> {
    reader: &'a mut Reader<'r>,
    capabilities: Capabilities,
}

impl HonouredKeys<'_, '_> {
    fn read<T>(&mut self, key: &str, parse: fn(&str) -> Parsed<T>) -> Option<T> {
        if self.capabilities.honours(key) { self.reader.read(key, parse) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::check;

    #[test]
    fn values() {
        let shown = |text: &str| Retries::parse(text).map(|retries| retries.to_string());
        for (text, expected) in [
            ("2", "2 on=connect,reset,502,503,504 budget=20%"),
            ("0", "0 on=connect,reset,502,503,504 budget=20%"),
            ("3 on=503,connect", "3 on=connect,503 budget=20%"),
            ("1  budget=100%  on=reset,non_idempotent,404,425", "1 on=reset,non_idempotent,404,425 budget=100%"),
            ("10 on=timeout", "10 on=timeout budget=20%"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(expected), "{text}");
        }
        for wrong in ["", "11", "-1", "two", "on=503", "2 3", "2 at=3", "2 non_idempotent"] {
            check(shown(wrong), "error: expected a number from 0 to 10");
        }
        check(shown("2 on=503 on=504"), "error: expected on once, but it is given again");
        check(shown("2 budget=20% on=503 budget=1%"), "error: expected budget once");
        for wrong in ["2 on=", "2 on=,"] {
            check(shown(wrong), "error: expected at least one");
        }
        for wrong in ["2 on=200", "2 on=505", "2 on=0503", "2 on=reset,quick", "2 on=+503"] {
            check(shown(wrong), "error: expected causes after on=");
        }
        for wrong in ["2 budget=20", "2 budget=0%", "2 budget=101%", "2 budget=x%"] {
            check(shown(wrong), "error: expected budget= and a share");
        }
    }

    #[test]
    fn a_service_may_take_back_what_the_configuration_says() {
        let defaults = Bounds {
            request: Some(Duration::from_secs(30)),
            requests: NonZeroU32::new(9),
            queue_wait: Some(Duration::from_millis(1_500)),
            ..Bounds::default()
        };
        let lines = |own: &OwnBounds| {
            let bounds = OwnBounds::over(Some(own), &defaults);
            bounds
                .map(|bounds| bounds.lines().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" "))
        };
        let own = OwnBounds::default();
        assert_eq!(lines(&own).as_deref(), Some("timeout/request=30s limit/requests=9 timeout/queue=1500ms"));
        assert_eq!(OwnBounds::over(Some(&own), &Bounds::default()), None);
        assert_eq!(OwnBounds::over(None, &Bounds::default()), None);
        let off = OwnBounds { request: request("off").ok(), requests: requests("off").ok(), ..own };
        assert_eq!(lines(&off).as_deref(), Some("timeout/queue=1500ms"));
        check(request("0s"), "error: expected a duration longer than 0, or off");
        check(requests("0"), "error: expected a number from 1 to 4294967295, or off");
        check(queue("0"), "0");
        check(queue("65537"), "error");
    }
}
