//! Sticky sessions by `cookie`, as HAProxy keeps them: which instance a client's cookie names, what that instance sees of
//! the cookie, and the cookie in the answer. Picks no instance and never waits.
//!
//! ```text
//! insert, rewrite   Cookie: NAME=INSTANCE[|LAST[|FIRST]]
//! prefix            Cookie: NAME=INSTANCE~VALUE
//! ```

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use pointsman_table::{Cookie, CookieFlag, CookieMode};
use pointsman_wire::{HeaderEdits, RequestHead, ResponseHead, quoted_list};

use super::reach::{cookie_pairs, cookie_value};
use crate::pool::view::{InstanceLive, ServiceLive};

const SET_COOKIE: &str = "Set-Cookie";
/// The letters of dates: each stands for six bits (RFC 4648 §4).
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// A date has five of them: a number of 30 bits.
const DATE: usize = 5;
/// The unit of dates, seconds since 1970.
const UNIT: u64 = 4;
/// Clocks of balancers may differ by so much, seconds: a date further ahead makes a cookie too old.
const AHEAD: u64 = 24 * 3600;

/// Tells seconds since 1970. Asked only where a date counts: most cookies have none.
type Today = fn() -> u64;

/// What a request's client sticks to.
#[derive(Debug)]
pub(super) struct Sticky {
    /// The number of the instance that its cookie names.
    pub(super) wanted: Option<u32>,
    dates: Dates,
    is_post: bool,
    /// Caches may keep the answer.
    is_safe: bool,
    /// What its client sent, and what became of the cookie in the answer, in HAProxy's letters (its Configuration Manual 2.6,
    /// §8.5).
    letters: Cell<[u8; 2]>,
}

/// The dates of a cookie, seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dates {
    last: Option<u64>,
    first: Option<u64>,
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "dates of cookies are those of clocks, for every balancer the same")]
pub(super) fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Reads a request's cookies. Also returns what the instance gets as `Cookie` instead, if not what the client sent.
/// `named`: the number of the instance that a value names.
#[cold]
pub(super) fn read(
    cookie: &Cookie,
    named: impl Fn(&[u8]) -> Option<u32>,
    head: &RequestHead<'_, '_>,
    today: Today,
) -> (Option<Box<Sticky>>, Option<Vec<u8>>) {
    let mut sticky = Sticky {
        wanted: None,
        dates: Dates::default(),
        is_post: head.method == "POST",
        is_safe: matches!(head.method, "GET" | "HEAD" | "OPTIONS" | "TRACE"),
        letters: Cell::new(*b"NN"),
    };
    let is_hidden = cookie.mode == Some(CookieMode::Insert) && cookie.has(CookieFlag::Indirect);
    let (mut kept, mut is_changed) = (Vec::<Vec<u8>>::new(), false);
    for piece in cookie_pairs(head) {
        let Some(value) = cookie_value(piece, &cookie.name) else {
            kept.push(piece.to_vec());
            continue;
        };
        let (id, rest) = sticky.take(cookie, value, today);
        if sticky.wanted.is_none() {
            sticky.wanted = named(id);
            sticky.came(if sticky.wanted.is_some() { b'V' } else { b'I' });
        }
        match rest {
            Some(rest) => kept.push([cookie.name.as_bytes(), b"=", rest].concat()),
            None if !is_hidden => kept.push(piece.to_vec()),
            None => {}
        }
        is_changed |= rest.is_some() || is_hidden;
    }
    (Some(Box::new(sticky)), is_changed.then(|| kept.join(&b"; "[..])))
}

/// The number of the instance with this value.
pub(super) fn named(live: &ServiceLive, id: &[u8]) -> Option<u32> {
    let index = live.cookies.as_ref()?.find(id)?;
    Some(live.instances.get(index)?.id)
}

impl Sticky {
    /// What its client sent, and what became of the cookie in the answer, in HAProxy's letters.
    pub(super) fn letters(&self) -> [u8; 2] {
        self.letters.get()
    }

    /// A value came that is valid, names no instance, or is too old. Of several, the first that is valid counts.
    fn came(&self, letter: u8) {
        let [before, set] = self.letters.get();
        if letter == b'V' || before == b'N' {
            self.letters.set([letter, set]);
        }
    }

    /// What becomes of the cookie in the answer. `stuck`: the instance is the one that its client sticks to.
    fn became(&self, letter: u8, stuck: bool) {
        let [came, _] = self.letters.get();
        self.letters.set([if came == b'V' && !stuck { b'D' } else { came }, letter]);
    }

    /// Takes a value: what names an instance in it, and, with `prefix`, the rest. Notes its dates. One that is too old
    /// names none.
    fn take<'v>(&mut self, cookie: &Cookie, value: &'v [u8], today: Today) -> (&'v [u8], Option<&'v [u8]>) {
        if cookie.mode == Some(CookieMode::Prefix) {
            let tilde = value.iter().position(|byte| *byte == b'~');
            return tilde.map_or((value, None), |at| (&value[..at], Some(&value[at + 1..])));
        }
        let mut parts = value.split(|byte| *byte == b'|');
        let id = parts.next().unwrap_or_default();
        let last = parts.next().and_then(date).or(self.dates.last);
        self.dates = Dates { last, first: parts.next().and_then(date).or(self.dates.first) };
        if let Some(over) = self.dates.over(cookie, today) {
            self.came(over);
            self.dates = Dates::default();
            return (b"", None);
        }
        (id, None)
    }

    /// The changes to an answer, with those of `base`. `None`: none but those.
    #[cold]
    pub(super) fn edits(
        &self,
        (live, instance): (&ServiceLive, &InstanceLive),
        head: &ResponseHead<'_, '_>,
        base: Option<&HeaderEdits>,
        today: Today,
    ) -> Option<HeaderEdits> {
        let cookie = live.service.cookie()?;
        let stuck = self.wanted == Some(instance.id);
        let is_ours = |line: &[u8]| cookie_value(first_pair(line).0, &cookie.name).is_some();
        // The instance's own lines may be removed by the service's keys, all of them.
        let is_without = base.is_some_and(|base| base.names().any(|name| name.eq_ignore_ascii_case(SET_COOKIE)));
        let is_set = !is_without && set_cookies(head).any(is_ours);
        let is_preserved = is_set && cookie.has(CookieFlag::Preserve);
        let is_rewritten = is_set && !is_preserved;
        let mut added = Vec::new();
        let inserts = !is_preserved && self.inserts(cookie, stuck, today);
        self.became(letter(cookie, (is_set, is_preserved, inserts), stuck), stuck);
        if is_rewritten {
            let value = value(live, instance);
            let become_of = |line: &[u8]| match is_ours(line) {
                true => rewritten(cookie, line, value.as_deref(), stuck),
                false => Some(line.to_vec()),
            };
            added.extend(set_cookies(head).filter_map(become_of).map(|line| (SET_COOKIE, line)));
        }
        if inserts {
            added.push((SET_COOKIE, self.line(cookie, value(live, instance).as_deref(), today()).into()));
            if cookie.has(CookieFlag::NoCache) && self.is_safe && !is_private(head) {
                added.push(("Cache-Control", b"private".to_vec()));
            }
        }
        if !is_rewritten && added.is_empty() {
            return None;
        }
        let mut edits = base.cloned().unwrap_or_default();
        if is_rewritten {
            edits.leave_out(SET_COOKIE);
        }
        added.iter().for_each(|(name, value)| edits.add(name, value));
        Some(edits)
    }

    /// Whether the answer sets our cookie: the client has none that names this instance, or its dates are to be renewed.
    fn inserts(&self, cookie: &Cookie, stuck: bool, today: Today) -> bool {
        let Dates { last, first } = self.dates;
        let is_renewed = (cookie.max_idle.is_some() || last.is_some()) && last.is_none_or(|last| last < today());
        let is_due = !stuck || is_renewed || cookie.max_life.is_some() != first.is_some();
        cookie.mode == Some(CookieMode::Insert) && is_due && (self.is_post || !cookie.has(CookieFlag::PostOnly))
    }

    /// The value of `Set-Cookie`. An instance without a value has the client forget the one that it has.
    fn line(&self, cookie: &Cookie, value: Option<&str>, now: u64) -> String {
        let mut line = format!("{}=", cookie.name);
        match value {
            None => line.push_str("; Expires=Thu, 01-Jan-1970 00:00:01 GMT"),
            Some(value) => {
                line.push_str(value);
                let today = now.div_ceil(UNIT) * UNIT;
                let last = cookie.max_idle.or(cookie.max_life).map(|_| today);
                let first = cookie.max_life.map(|_| self.dates.first.unwrap_or(today));
                for date in last.into_iter().chain(first) {
                    line.push('|');
                    line.extend(letters(date));
                }
            }
        }
        line.push_str("; path=/");
        cookie.domains.iter().for_each(|domain| line.extend(["; domain=", domain]));
        line.push_str(if cookie.has(CookieFlag::HttpOnly) { "; HttpOnly" } else { "" });
        line.push_str(if cookie.has(CookieFlag::Secure) { "; Secure" } else { "" });
        cookie.attributes.iter().for_each(|attribute| line.extend(["; ", attribute]));
        line
    }
}

impl Dates {
    /// Whether a cookie is too old, by `maxlife` (`O`) or `maxidle` (`E`).
    fn over(self, cookie: &Cookie, today: Today) -> Option<u8> {
        let is_over = |date: u64, most: u64| {
            let now = today();
            now.saturating_sub(date) > most || date.saturating_sub(now) > AHEAD
        };
        let over = |date: Option<u64>, most: Option<std::time::Duration>| {
            date.zip(most).is_some_and(|(date, most)| is_over(date, most.as_secs()))
        };
        let by_life = over(self.first, cookie.max_life).then_some(b'O');
        by_life.or_else(|| over(self.last, cookie.max_idle).then_some(b'E'))
    }
}

/// Reads a date. `None`: it is none.
fn date(text: &[u8]) -> Option<u64> {
    let bits = |letter: &u8| LETTERS.iter().position(|known| known == letter);
    let number = text.get(..DATE)?.iter().try_fold(0, |number, letter| Some((number << 6) | bits(letter)? as u64))?;
    (number > 0).then_some(number * UNIT)
}

/// Writes a date.
fn letters(date: u64) -> impl Iterator<Item = char> {
    let number = date / UNIT;
    (0..DATE).rev().map(move |place| char::from(LETTERS[(number >> (6 * place)) as usize % LETTERS.len()]))
}

/// What becomes of the cookie in an answer, in HAProxy's letters: inserted, updated, provided by the instance, rewritten,
/// deleted, or nothing.
fn letter(cookie: &Cookie, (is_set, is_preserved, inserts): (bool, bool, bool), stuck: bool) -> u8 {
    let is_left_out = cookie.mode == Some(CookieMode::Insert) || (stuck && cookie.has(CookieFlag::Indirect));
    match (inserts, is_set) {
        (true, _) if stuck => b'U',
        (true, _) => b'I',
        (false, false) => b'N',
        (false, true) if is_preserved || cookie.mode.is_none() => b'P',
        (false, true) if is_left_out => b'D',
        (false, true) => b'R',
    }
}

/// The value that names an instance, by the newest table that has it.
fn value(live: &ServiceLive, instance: &InstanceLive) -> Option<Box<str>> {
    let of = |live: &ServiceLive| {
        let index = live.place(instance.id)?;
        Some(live.cookies.as_ref()?.of_instance(index)?.into())
    };
    live.newest().and_then(|newest| of(&newest)).or_else(|| of(live))
}

/// The values of all `Set-Cookie` lines.
fn set_cookies<'h>(head: &'h ResponseHead<'_, '_>) -> impl Iterator<Item = &'h [u8]> {
    head.fields().filter(|header| header.name.eq_ignore_ascii_case("set-cookie")).map(|header| header.value)
}

/// The pair of a `Set-Cookie`, and its attributes.
fn first_pair(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|byte| *byte == b';');
    let (pair, attributes) = line.split_at(end.unwrap_or(line.len()));
    (pair.trim_ascii(), attributes)
}

/// What becomes of the instance's own cookie of that name. `None`: it is left out.
fn rewritten(cookie: &Cookie, line: &[u8], value: Option<&str>, stuck: bool) -> Option<Vec<u8>> {
    let (pair, attributes) = first_pair(line);
    let (name, own) = (cookie.name.as_bytes(), cookie_value(pair, &cookie.name)?);
    match (cookie.mode, value) {
        (Some(CookieMode::Insert), _) => None,
        _ if stuck && cookie.has(CookieFlag::Indirect) => None,
        (Some(CookieMode::Rewrite), Some(value)) => Some([name, b"=", value.as_bytes(), attributes].concat()),
        (Some(CookieMode::Prefix), Some(value)) => Some([name, b"=", value.as_bytes(), b"~", own, attributes].concat()),
        (Some(CookieMode::Rewrite | CookieMode::Prefix) | None, _) => Some(line.to_vec()),
    }
}

/// Whether no shared cache keeps the answer anyway.
fn is_private(head: &ResponseHead<'_, '_>) -> bool {
    let lines = head.fields().filter(|header| header.name.eq_ignore_ascii_case("cache-control"));
    let mut words = lines.flat_map(|line| quoted_list(line.value));
    let is_one =
        |word: &[u8]| [&b"private"[..], b"no-store", b"no-cache"].iter().any(|one| word.eq_ignore_ascii_case(one));
    words.any(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As HAProxy writes them (`s30tob64`).
    #[test]
    fn dates() {
        let written = |date: u64| letters(date).collect::<String>();
        assert_eq!((written(0), written(4), written(4 * 64)), ("AAAAA".into(), "AAAAB".into(), "AAABA".into()));
        assert_eq!(date(written(1_700_000_000).as_bytes()), Some(1_700_000_000));
        assert_eq!(date(b"AAABAxyz"), Some(256), "five letters count");
        for bad in ["", "AAAA", "AAAAA", "A=AAB", "AAA\u{e9}"] {
            assert_eq!(date(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn pairs() {
        let check = |pair: &str, value: Option<&str>| {
            assert_eq!(cookie_value(pair.as_bytes(), "SRV"), value.map(str::as_bytes), "{pair}");
        };
        check("SRV=a", Some("a"));
        check("SRV = a b", Some("a b"));
        check("SRV=", Some(""));
        check("SRV==", Some("="));
        check("SRVX=a", None);
        check("srv=a", None);
        check("SRV", None);
        check("", None);
    }
}
