//! `cookie`: the arguments of HAProxy's directive, as 2.4 knows them, and the value that names each instance. Parses and
//! prints them; picks no instance.

use std::fmt::{Display, Formatter, Result, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::instance::{Instance, Target};
use crate::names::ServiceName;
use crate::value::{self, Parsed};
use crate::words::words;
use crate::xxh64::xxh64;

/// The line of `custom_settings` that [`CookieFlag::Dynamic`] takes its key from.
const KEY_LINE: &str = "dynamic-cookie-key";

/// Longest name and attribute.
const LONGEST: usize = 256;
/// Longest life of a cookie, seconds: browsers keep none for longer than 400 days (RFC 6265bis §5.5).
const LONGEST_LIFE: u64 = 400 * 24 * 3600;

/// How clients stick to instances, in HAProxy's words (Configuration Manual, `cookie`). No word of it needs quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The cookie's name.
    pub name: Box<str>,
    /// How the cookie is set; `None`: the instance sets it, and we only read it.
    pub mode: Option<CookieMode>,
    /// Options without a value, each once.
    pub flags: Box<[CookieFlag]>,
    /// `domain`s, in order.
    pub domains: Box<[Box<str>]>,
    /// `maxidle`, whole seconds.
    pub max_idle: Option<Duration>,
    /// `maxlife`, whole seconds.
    pub max_life: Option<Duration>,
    /// `attr`s, in order: `SameSite=Strict`.
    pub attributes: Box<[Box<str>]>,
    /// The key of [`CookieFlag::Dynamic`], from `custom_settings`. Secret.
    pub key: Option<Key>,
}

/// The key that values are made with. Its text never shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Box<str>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("Key")
    }
}

/// How the balancer sets the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieMode {
    /// Sets one of its own.
    Insert,
    /// Puts the instance in front of the value that the instance set.
    Prefix,
    /// Replaces the value that the instance set.
    Rewrite,
}

/// A word of a cookie line that takes no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieFlag {
    /// Not set again for a client that has it, and not passed to the instance.
    Indirect,
    /// Responses that set it are not to be cached.
    NoCache,
    /// Set in responses to POST only.
    PostOnly,
    /// Kept if the instance sets it itself.
    Preserve,
    /// Hidden from scripts.
    HttpOnly,
    /// Sent over TLS only.
    Secure,
    /// Its value is made of the instance's address and a key: `dynamic-cookie-key` of `custom_settings`, or else the name
    /// of the service.
    Dynamic,
}

impl CookieMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Insert, Self::Prefix, Self::Rewrite];

    /// HAProxy's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Prefix => "prefix",
            Self::Rewrite => "rewrite",
        }
    }
}

impl CookieFlag {
    /// Every flag.
    pub const ALL: [Self; 7] =
        [Self::Indirect, Self::NoCache, Self::PostOnly, Self::Preserve, Self::HttpOnly, Self::Secure, Self::Dynamic];

    /// HAProxy's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Indirect => "indirect",
            Self::NoCache => "nocache",
            Self::PostOnly => "postonly",
            Self::Preserve => "preserve",
            Self::HttpOnly => "httponly",
            Self::Secure => "secure",
            Self::Dynamic => "dynamic",
        }
    }
}

/// The cookie that Kontena's load balancer uses for an empty value.
impl Default for Cookie {
    fn default() -> Self {
        Self {
            name: "KONTENA_SERVERID".into(),
            mode: Some(CookieMode::Insert),
            flags: [CookieFlag::Indirect, CookieFlag::NoCache].into(),
            domains: Box::default(),
            max_idle: None,
            max_life: None,
            attributes: Box::default(),
            key: None,
        }
    }
}

impl Cookie {
    /// Whether it has this flag.
    pub fn has(&self, flag: CookieFlag) -> bool {
        self.flags.contains(&flag)
    }

    /// Every value that names an instance; the first is the one to set. Both engines use the same values, which depend on
    /// nothing but the instance itself. An instance without a known address has none if they are made of addresses. Those of
    /// instances that come from `dns` always are.
    pub fn values(&self, service: &ServiceName, instance: &Instance) -> Vec<Box<str>> {
        if !self.has(CookieFlag::Dynamic) && !instance.is_of_dns() {
            return vec![plain_name(instance.name.as_str()).into()];
        }
        let key = self.key.as_ref().map_or_else(|| default_key(service).into(), |Key(key)| key.clone());
        let value = |address: &SocketAddr| hashed(&key, *address).into();
        match &instance.target {
            Target::Socket(address) => vec![value(address)],
            Target::Name(..) => instance.resolved.iter().map(value).collect(),
            Target::Unix(_) => Vec::new(),
        }
    }
}

/// The key of [`CookieFlag::Dynamic`] if no other is set: the name of the service's backend in HAProxy.
pub fn default_key(service: &ServiceName) -> String {
    format!("services:{}", plain_name(service.as_str()))
}

/// A name in the letters of HAProxy's names: letters, digits and `_ . -`. Any other byte is `:` and two hex digits.
pub fn plain_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-') {
            true => name.push(char::from(byte)),
            false => write!(name, ":{byte:02X}").expect("a string takes all"),
        }
    }
    name
}

/// HAProxy's value for a server: a hash of the key, the address and the port, the latter as 32 bits (`srv_set_dyncookie`).
fn hashed(key: &str, address: SocketAddr) -> String {
    let mut bytes = key.as_bytes().to_vec();
    match address.ip() {
        IpAddr::V4(ip) => bytes.extend(ip.octets()),
        IpAddr::V6(ip) => bytes.extend(ip.octets()),
    }
    bytes.extend(u32::from(address.port()).to_be_bytes());
    format!("{:016x}", xxh64(&bytes))
}

/// The key in `custom_settings`, as HAProxy takes it: the last one counts. Also whether there is nothing else in them.
pub(crate) fn key_in(settings: &str) -> (Option<Key>, bool) {
    let (mut key, mut is_alone) = (None, true);
    for line in settings.lines() {
        match words(line).as_deref() {
            Ok([]) => {}
            Ok([word, value]) if word == KEY_LINE => key = Some(Key(value.as_str().into())),
            Ok(_) | Err(_) => is_alone = false,
        }
    }
    (key, is_alone)
}

/// The arguments of HAProxy's `cookie`: `KONTENA_SERVERID insert indirect nocache`.
impl Display for Cookie {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&self.name)?;
        let mode = self.mode.map(CookieMode::as_str);
        mode.into_iter()
            .chain(self.flags.iter().map(|flag| flag.as_str()))
            .try_for_each(|word| write!(f, " {word}"))?;
        self.domains.iter().try_for_each(|domain| write!(f, " domain {domain}"))?;
        let waits = [("maxidle", self.max_idle), ("maxlife", self.max_life)];
        let mut waits = waits.into_iter().filter_map(|(word, wait)| Some((word, wait?.as_secs())));
        waits.try_for_each(|(word, seconds)| write!(f, " {word} {seconds}s"))?;
        self.attributes.iter().try_for_each(|attribute| write!(f, " attr {attribute}"))
    }
}

/// Parses one line, with or without the word `cookie` in front. An empty line is the default cookie.
pub(crate) fn parse(text: &str) -> Parsed<Cookie> {
    if text.lines().nth(1).is_some() {
        return Err("expected one line; further lines go into custom_settings".into());
    }
    let words = words(text).map_err(|wrong| format!("expected a cookie line, but it {wrong}"))?;
    let mut words = words.iter().map(String::as_str).peekable();
    words.next_if(|word| *word == "cookie");
    let Some(name) = words.next() else {
        return Ok(Cookie::default());
    };
    let mut cookie = Cookie { name: self::name(name)?, mode: None, flags: Box::default(), ..Cookie::default() };
    let mut flags = Vec::new();
    while let Some(word) = words.next() {
        match (mode(word), flag(word)) {
            (Some(mode), _) if cookie.mode.is_none_or(|have| have == mode) => cookie.mode = Some(mode),
            (Some(_), _) => return Err("expected one of insert, prefix and rewrite".into()),
            (None, Some(flag)) => flags.extend(Some(flag).filter(|flag| !flags.contains(flag))),
            (None, None) => option(&mut cookie, word, words.next())?,
        }
    }
    cookie.flags = flags.into();
    compatible(cookie)
}

fn mode(word: &str) -> Option<CookieMode> {
    CookieMode::ALL.into_iter().find(|mode| mode.as_str() == word)
}

fn flag(word: &str) -> Option<CookieFlag> {
    CookieFlag::ALL.into_iter().find(|flag| flag.as_str() == word)
}

fn name(word: &str) -> Parsed<Box<str>> {
    if mode(word).is_some() || flag(word).is_some() {
        return Err(format!("expected a cookie name before {word}"));
    }
    // RFC 6265 §4.1.1, without the characters that HAProxy wants in quotes.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!%&*+-.^_`|~".contains(&b);
    match (1..=LONGEST).contains(&word.len()) && word.bytes().all(plain) {
        true => Ok(word.into()),
        false => Err("expected a cookie name of letters, digits, - and _".into()),
    }
}

/// An option with a value.
fn option(cookie: &mut Cookie, word: &str, value: Option<&str>) -> Parsed<()> {
    let known = matches!(word, "domain" | "maxidle" | "maxlife" | "attr");
    let value = value.filter(|_| known).ok_or_else(|| match known {
        true => format!("expected a value after {word}"),
        false => "expected NAME and then insert, prefix or rewrite, indirect, nocache, postonly, preserve, httponly, \
                  secure, dynamic, domain NAME, maxidle TIME, maxlife TIME, attr VALUE"
            .into(),
    })?;
    match word {
        "domain" => push(&mut cookie.domains, domain(value)?),
        "maxidle" => only(&mut cookie.max_idle, word, seconds(value)?)?,
        "maxlife" => only(&mut cookie.max_life, word, seconds(value)?)?,
        _ => push(&mut cookie.attributes, attribute(value)?),
    }
    Ok(())
}

/// Sets a value that may be given once.
fn only(place: &mut Option<Duration>, word: &str, value: Duration) -> Parsed<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("expected {word} once, but it is given again")),
    }
}

fn push(list: &mut Box<[Box<str>]>, item: Box<str>) {
    *list = std::mem::take(list).into_iter().chain([item]).collect();
}

fn domain(text: &str) -> Parsed<Box<str>> {
    let name = value::host_name(text.strip_prefix('.').unwrap_or(text));
    name.map(|_| text.into()).map_err(|_| "expected a host name after domain".into())
}

/// HAProxy refuses control characters and semicolons; the others here would need quotes.
fn attribute(text: &str) -> Parsed<Box<str>> {
    let plain = |b: u8| b.is_ascii_graphic() && !b";\"'\\#$".contains(&b);
    match (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain) {
        true => Ok(text.into()),
        false => Err("expected one attribute after attr, such as SameSite=Strict, without ; or quotes".into()),
    }
}

/// HAProxy's time, seconds where no unit is given.
fn seconds(text: &str) -> Parsed<Duration> {
    let wrong = || "expected a time from 1 second to 400 days, such as 1800, 30m, 8h or 30d".to_owned();
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..unit].parse().map_err(|_| wrong())?;
    let factor = match &text[unit..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(wrong()),
    };
    let seconds = number.checked_mul(factor).filter(|seconds| (1..=LONGEST_LIFE).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// The combinations that HAProxy refuses.
fn compatible(cookie: Cookie) -> Parsed<Cookie> {
    let has = |flag| cookie.has(flag);
    let inserts = cookie.mode == Some(CookieMode::Insert);
    if cookie.mode == Some(CookieMode::Rewrite) && has(CookieFlag::Indirect) {
        return Err("expected rewrite or indirect, not both".into());
    }
    if has(CookieFlag::Preserve) && !inserts && !has(CookieFlag::Indirect) {
        return Err("expected preserve with insert or indirect".into());
    }
    Ok(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let said = parse(text).map_or_else(|advice| format!("error: {advice}"), |cookie| cookie.to_string());
        match expected.starts_with("error") {
            true => assert!(said.starts_with(expected), "{text:?}: {said} is not {expected}"),
            false => assert_eq!(said, expected, "{text:?}"),
        }
    }

    #[test]
    fn lines() {
        check("", "KONTENA_SERVERID insert indirect nocache");
        check("cookie", "KONTENA_SERVERID insert indirect nocache");
        check("SRV insert", "SRV insert");
        check("cookie  SRV  insert\tindirect nocache insert indirect", "SRV insert indirect nocache");
        check("cookie cookie prefix", "cookie prefix");
        check("JSESSIONID prefix nocache # java", "JSESSIONID prefix nocache");
        check("SRV", "SRV");
        check("'SRV' rewrite postonly", "SRV rewrite postonly");
        check("SRV insert preserve httponly secure dynamic", "SRV insert preserve httponly secure dynamic");
        check(
            "SRV insert maxidle 30m maxlife 8h domain .shop.test domain b.test attr SameSite=Lax attr \"Priority=High\"",
            "SRV insert domain .shop.test domain b.test maxidle 1800s maxlife 28800s attr SameSite=Lax attr Priority=High",
        );
        check("SRV insert maxlife 1", "SRV insert maxlife 1s");
        check("SRV insert maxlife 400d", "SRV insert maxlife 34560000s");
    }

    #[track_caller]
    fn values(cookie: &str, settings: &str, instance: &str, expected: &[&str]) {
        let cookie = Cookie { key: key_in(settings).0, ..parse(cookie).unwrap() };
        let instance = crate::instance::parse("web 1:a", instance, 80).unwrap();
        let values = cookie.values(&ServiceName("shop".into()), &instance);
        assert!(values.iter().map(|value| &**value).eq(expected.iter().copied()), "{values:?}");
    }

    /// As HAProxy 2.6 says them.
    #[test]
    fn values_of_instances() {
        values("SRV insert", "", "10.0.0.1", &["web:201:3Aa"]);
        values("SRV insert dynamic", "dynamic-cookie-key secret", "10.0.0.1:8080", &["c21c74e6897c9561"]);
        values("SRV insert dynamic", "dynamic-cookie-key secret", "[2001:db8::1]:8080", &["56373849104e3f72"]);
        values("SRV insert dynamic", "", "10.0.0.1:8080", &["d31cd2635f352a4f"]);
        values("SRV insert dynamic", "", "unix:/run/web.sock", &[]);
        values("SRV insert dynamic", "", "web.test", &[]);
    }

    #[test]
    fn values_of_instances_from_dns() {
        let instance = crate::instance::parse("10.0.0.1:8080", "10.0.0.1:8080", 80).unwrap();
        let values = |cookie| parse(cookie).unwrap().values(&ServiceName("shop".into()), &instance);
        assert_eq!(values("SRV insert"), values("SRV insert dynamic"));
    }

    #[test]
    fn keys_in_custom_settings() {
        let check = |text, key: Option<&str>, alone| {
            assert_eq!(key_in(text), (key.map(|key| Key(key.into())), alone), "{text}");
        };
        check("", None, true);
        check("dynamic-cookie-key a # b\n\n dynamic-cookie-key 'b c'", Some("b c"), true);
        check("option httplog\ndynamic-cookie-key a", Some("a"), false);
        check("dynamic-cookie-key\n\"", None, false);
        assert_eq!(format!("{:?}", key_in("dynamic-cookie-key hunter2").0), "Some(Key)");
    }

    #[test]
    fn bad_lines() {
        for (text, expected) in [
            ("insert", "expected a cookie name before insert"),
            ("cookie indirect", "expected a cookie name before indirect"),
            ("a;b insert", "expected a cookie name of letters"),
            ("$X insert", "expected a cookie name of letters"),
            ("\"$X\" insert", "expected a cookie line, but it uses a variable"),
            ("SRV insert rewrite", "expected one of insert, prefix and rewrite"),
            ("SRV rewrite indirect", "expected rewrite or indirect"),
            ("SRV preserve", "expected preserve with insert or indirect"),
            ("SRV insert forever", "expected NAME and then insert"),
            ("SRV insert expires 5", "expected NAME and then insert"),
            ("SRV insert domain", "expected a value after domain"),
            ("SRV insert domain a/b", "expected a host name after domain"),
            ("SRV insert maxidle 5x", "expected a time from 1 second"),
            ("SRV insert maxidle 0", "expected a time"),
            ("SRV insert maxlife 401d", "expected a time"),
            ("SRV insert maxlife 99999999999999999999d", "expected a time"),
            ("SRV insert maxidle 1h maxlife 1h maxidle 2h", "expected maxidle once, but it is given again"),
            ("SRV insert maxlife 1h maxlife 1h", "expected maxlife once"),
            ("SRV insert attr a;b", "expected one attribute after attr"),
            ("SRV insert attr 'a b'", "expected one attribute after attr"),
            ("SRV insert\noption x", "expected one line"),
            ("SRV insert\u{1}", "expected a cookie line, but it has a control character"),
        ] {
            check(text, &format!("error: {expected}"));
        }
    }
}
