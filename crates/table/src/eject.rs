//! `eject` and `panic`: when an instance is ejected for its answers, and when too few are left to leave any out. Judges
//! no answer.

use std::fmt::{Display, Formatter};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::value::{self, Parsed};

const SHAPE: &str = "expected errors=5 and, if wanted, for=10s, at_most=50% and outliers; or off";
/// Most errors in a row.
const MOST_ERRORS: usize = 1_000;
const SECONDS: u128 = 1_000;

/// `eject`: an instance is ejected after so many errors in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eject {
    /// How many answers in a row must be 5xx or broken.
    pub errors: NonZeroU32,
    /// Duration of the first ejection.
    pub lasts: Duration,
    /// The most of the service's instances that may be ejected at once.
    pub at_most: Percent,
    /// Whether instances are also compared with their peers.
    pub outliers: bool,
}

/// A share of instances: 1 to 100 percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u8);

/// Too few instances are healthy to leave any out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panic {
    /// It is about backups, as no other instance is healthy.
    pub backups: bool,
    /// How many are healthy.
    pub healthy: usize,
    /// How many there are.
    pub count: usize,
}

impl Percent {
    /// How many of `count` this is, rounded down.
    pub fn of(self, count: usize) -> usize {
        count * usize::from(self.0) / 100
    }

    /// Whether `part` of `count` is less than this share.
    pub fn exceeds(self, part: usize, count: usize) -> bool {
        part * 100 < count * usize::from(self.0)
    }

    /// Whether `part` of `count` is more than this share.
    pub fn is_passed_by(self, part: usize, count: usize) -> bool {
        part * 100 > count * usize::from(self.0)
    }

    fn parse(text: &str) -> Parsed<Self> {
        let percent = text.strip_suffix('%').and_then(|text| value::within(text, 1, 100).ok());
        let percent = percent.and_then(|percent| u8::try_from(percent).ok());
        percent.map(Self).ok_or_else(|| "expected a share from 1% to 100%".into())
    }
}

impl Eject {
    /// How many of `count` instances may be ejected at once: one at least, but never an only instance.
    pub fn most(&self, count: usize) -> usize {
        if count < 2 { 0 } else { self.at_most.of(count).max(1) }
    }

    fn parse(text: &str) -> Parsed<Self> {
        let (mut errors, mut lasts, mut at_most, mut outliers) = (None, None, None, false);
        let mut words = text.split_ascii_whitespace();
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some(("errors", text)) => errors = Some(count(text)?),
                Some(("for", text)) => lasts = Some(value::duration(text)?),
                Some(("at_most", text)) => at_most = Some(Percent::parse(text)?),
                None if word == "outliers" => outliers = true,
                _ => return Err(SHAPE.into()),
            }
            value::once(word, words.clone())?;
        }
        Ok(Self {
            errors: errors.ok_or(SHAPE)?,
            lasts: lasts.unwrap_or(Duration::from_secs(10)),
            at_most: at_most.unwrap_or(Percent(50)),
            outliers,
        })
    }
}

fn count(text: &str) -> Parsed<NonZeroU32> {
    let count = value::within(text, 1, MOST_ERRORS)?;
    u32::try_from(count).ok().and_then(NonZeroU32::new).ok_or_else(|| SHAPE.into())
}

/// As the key's value is written, with its defaults: `errors=5 for=10s at_most=50%`.
impl Display for Eject {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "errors={} for=", self.errors)?;
        match self.lasts.as_millis() {
            lasts if lasts % SECONDS == 0 => write!(f, "{}s", lasts / SECONDS)?,
            lasts => write!(f, "{lasts}ms")?,
        }
        write!(f, " at_most={}", self.at_most)?;
        if self.outliers { f.write_str(" outliers") } else { Ok(()) }
    }
}

impl Display for Percent {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// A value that may be `off`, so that a service can do without what is the default for all.
pub(crate) type OrOff<T> = Parsed<Option<T>>;

/// The value of `eject`.
pub(crate) fn eject(text: &str) -> OrOff<Eject> {
    if text == "off" { Ok(None) } else { Eject::parse(text).map(Some) }
}

/// The value of `panic`, and of `guard`.
pub(crate) fn panic(text: &str) -> OrOff<Percent> {
    match text {
        "off" => Ok(None),
        text => Percent::parse(text).map(Some).map_err(|advice| format!("{advice}, or off")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{KeySet, Limits, Service, Table, compile};

    fn shown(parsed: OrOff<impl Display>) -> String {
        match parsed {
            Ok(Some(value)) => value.to_string(),
            Ok(None) => "off".to_owned(),
            Err(advice) => format!("error: {advice}"),
        }
    }

    #[test]
    fn values() {
        for (text, expected) in [
            ("errors=5", "errors=5 for=10s at_most=50%"),
            ("outliers  at_most=20% for=1m errors=3", "errors=3 for=60s at_most=20% outliers"),
            ("errors=1000 for=250ms", "errors=1000 for=250ms at_most=50%"),
            ("off", "off"),
        ] {
            assert_eq!(shown(eject(text)), expected, "{text}");
        }
        for wrong in [
            "5",
            "errors",
            "errors=0",
            "errors=1001",
            "errors=-1",
            "for=10s",
            "outliers",
            "errors=5 at_most=0%",
            "errors=5 at_most=101%",
            "errors=5 at_most=50",
            "errors=5 for=10",
            "errors=5 for=0s",
            "errors=5 off",
            "errors=5, for=10s",
            "Errors=5",
        ] {
            assert!(shown(eject(wrong)).starts_with("error: expected "), "{wrong}: {}", shown(eject(wrong)));
        }
        for (twice, name) in [
            ("errors=5 errors=5", "errors"),
            ("errors=5 for=1s outliers for=2s", "for"),
            ("errors=5 outliers outliers", "outliers"),
        ] {
            assert_eq!(shown(eject(twice)), format!("error: expected {name} once, but it is given again"));
        }
        assert_eq!([shown(panic("50%")), shown(panic("off"))], ["50%", "off"]);
        for wrong in ["0%", "101%", "50", "0.5", "%", "half"] {
            assert_eq!(shown(panic(wrong)), "error: expected a share from 1% to 100%, or off");
        }
    }

    #[test]
    fn a_service_goes_before_the_default_and_follows_it() {
        let mut key_set = KeySet::default();
        let mut last: Option<Arc<Table>> = None;
        let mut check = |keys: &[(&str, &str)], expected: &str, problems: usize| {
            let all = [("services/s/default", "true"), ("services/s/a", "h:1"), ("tcp-services/t/port", "9")];
            let all = all.iter().chain(keys).map(|(key, value)| ((*key).into(), value.as_bytes().into()));
            key_set.reset(1, all);
            let compiled = compile(&key_set, last.as_deref(), &Limits::default());
            let of = |service: &Arc<Service>| {
                let words =
                    [service.eject.map(|eject| eject.to_string()), service.panic.map(|panic| panic.to_string())];
                words.map(Option::unwrap_or_default).join(" ")
            };
            let found: Vec<_> = compiled.table.services().iter().map(of).collect();
            assert_eq!(found.join(", "), expected, "{keys:?}");
            assert_eq!(compiled.problems.len(), problems, "{:?}", compiled.problems);
            last = Some(compiled.table);
        };
        check(&[], " ,  ", 0);
        check(&[("config/eject", "errors=5"), ("config/panic", "20%")], "errors=5 for=10s at_most=50% 20%,  20%", 0);
        check(&[("config/eject", "errors=x")], "errors=5 for=10s at_most=50% ,  ", 1);
        let own = [("config/eject", "errors=5"), ("services/s/eject", "off"), ("tcp-services/t/panic", "10%")];
        check(&own, " ,  10%", 0);
        check(
            &[("services/s/eject", "errors=2 for=1s"), ("services/s/panic", "off")],
            "errors=2 for=1s at_most=50% ,  ",
            0,
        );
    }

    #[test]
    fn panic_is_of_the_instances_that_serve() {
        let mut key_set = KeySet::default();
        let keys = ["a", "b", "c", "d"].map(|name| (format!("services/s/{name}"), "h:1"));
        let more = [("x", "h:1 backup"), ("y", "h:1 backup"), ("default", "true"), ("panic", "50%")];
        let more = more.map(|(key, value)| (format!("services/s/{key}"), value));
        let all = keys.into_iter().chain(more).map(|(key, value)| (key.into(), value.as_bytes().into()));
        key_set.reset(1, all);
        let table = compile(&key_set, None, &Limits::default()).table;
        let service = &table.services()[0];
        let check = |healthy: &str, takes_work: &str, expected: Option<(bool, usize, usize)>| {
            let is_in = |names: &str, index: usize| names.contains(service.instances[index].name.as_str());
            let panic = service.in_panic(|index| is_in(takes_work, index), |index| is_in(healthy, index));
            let found = panic.map(|panic| (panic.backups, panic.healthy, panic.count));
            assert_eq!(found, expected, "healthy: {healthy}");
        };
        check("abcdxy", "abcdxy", None);
        check("abxy", "abcdxy", None);
        check("axy", "abcdxy", Some((false, 1, 4)));
        check("axy", "abxy", None);
        check("xy", "abcdxy", None);
        check("x", "abcdxy", None);
        check("", "abcdxy", None);
    }

    #[test]
    fn shares_of_instances() {
        let most = |share: &str, count| eject(&format!("errors=1 at_most={share}")).unwrap().unwrap().most(count);
        for (share, count, expected) in
            [("50%", 4, 2), ("50%", 3, 1), ("1%", 10, 1), ("100%", 3, 3), ("100%", 1, 0), ("50%", 2, 1), ("50%", 0, 0)]
        {
            assert_eq!(most(share, count), expected, "{share} of {count}");
        }
        for (part, count, expected) in [(1, 4, true), (2, 4, false), (1, 3, true), (0, 1, true), (0, 0, false)] {
            assert_eq!(Percent(50).exceeds(part, count), expected, "{part} of {count}");
        }
    }
}
