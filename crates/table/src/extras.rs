//! Values of keys that engines honour or not, see [`crate::Abilities`]. Every value is judged, except what only HAProxy
//! can judge: `custom_settings`. Secrets are never printed.

use std::fmt::{Debug, Display, Formatter, Result};
use std::time::Duration;

use crate::model::HostPattern;

/// Keys parsed for engines that can honour them. Empty in most services.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// `dns`.
    pub dns: Option<Box<str>>,
    /// `cookie`. Only in tables for an engine with [`crate::Abilities::cookie`].
    pub cookie: Option<Cookie>,
    /// `basic_auth_secrets`: secret. Only in tables for an engine with [`crate::Abilities::basic_auth`].
    pub basic_auth_secrets: Option<UserList>,
    /// `health_check_uri`.
    pub health_check_uri: Option<Box<str>>,
    /// `health_check_port`.
    pub health_check_port: Option<u16>,
    /// `scheme`, when not `http`.
    pub scheme: Option<Box<str>>,
    /// `sni` host names.
    pub sni: Box<[HostPattern]>,
    /// `custom_settings`: lines as written, a line feed between them, no other control character but the tabulator.
    /// Only in tables for an engine with [`crate::Abilities::custom_settings`].
    pub custom_settings: Option<Box<str>>,
}

/// As derived, but the secrets stay secret.
impl Debug for Extras {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Extras")
            .field("dns", &self.dns)
            .field("cookie", &self.cookie)
            .field("basic_auth_secrets", &self.basic_auth_secrets)
            .field("health_check_uri", &self.health_check_uri)
            .field("health_check_port", &self.health_check_port)
            .field("scheme", &self.scheme)
            .field("sni", &self.sni)
            .field("custom_settings", &self.custom_settings)
            .finish()
    }
}

/// How clients stick to instances, in HAProxy's words (Configuration Manual, `cookie`). No word of it needs quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The cookie's name.
    pub name: Box<str>,
    /// Who sets the cookie; `None`: the instance does, and we only read it.
    pub mode: Option<CookieMode>,
    /// What else was asked for, each once.
    pub flags: Box<[CookieFlag]>,
    /// `domain`s, in order.
    pub domains: Box<[Box<str>]>,
    /// `maxidle`, whole seconds.
    pub max_idle: Option<Duration>,
    /// `maxlife`, whole seconds.
    pub max_life: Option<Duration>,
    /// `attr`s, in order: `SameSite=Strict`.
    pub attributes: Box<[Box<str>]>,
}

/// What the balancer does with the cookie.
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
    /// Not set again for a client that has it; not passed to the instance.
    Indirect,
    /// Responses that set it are not to be cached.
    NoCache,
    /// Set in responses to POST only.
    PostOnly,
    /// Kept if the instance sets it itself.
    Preserve,
    /// Out of scripts' reach.
    HttpOnly,
    /// Sent over TLS only.
    Secure,
    /// Values made of the instance's address and a key, `dynamic-cookie-key` among the custom settings.
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

/// What Kontena's load balancer does for an empty value.
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
        }
    }
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

/// Who may come in: HAProxy's user list (Configuration Manual, `userlist`). Names and passwords hold no control
/// character, but anything else, quotes and white space too; every group and user that is named is there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UserList {
    /// Groups, in order.
    pub groups: Box<[Group]>,
    /// Users, in order, at least one. Of two with one name the first counts.
    pub users: Box<[User]>,
}

/// A group of users.
#[derive(Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: Box<str>,
    /// Its users, as far as the group's own line names them.
    pub users: Box<[Box<str>]>,
}

/// A user.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: Box<str>,
    /// What proves it.
    pub password: Password,
    /// Groups, as far as the user's own line names them.
    pub groups: Box<[Box<str>]>,
}

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// `password`: hashed as crypt(3) does.
    Hash(Box<str>),
    /// `insecure-password`: as it is.
    Plain(Box<str>),
}

/// Nothing of it is ever printed.
impl Debug for UserList {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("hidden")
    }
}

/// Nothing of it is ever printed.
impl Debug for Group {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("hidden")
    }
}

/// Nothing of it is ever printed.
impl Debug for User {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("hidden")
    }
}

/// Nothing of it is ever printed.
impl Debug for Password {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("hidden")
    }
}
