//! Which keys changed between two tables, in words, for the log. Never shows a secret; judges nothing.

use std::cmp::Ordering;
use std::fmt::{Display, Formatter};
use std::sync::Arc;

use crate::certs::CertKeys;
use crate::form::Form;
use crate::instance::{self, Instance};
use crate::keys::is_secret;
use crate::keys::{Part, classify};
use crate::name_map::NameChange;
use crate::names::Protocol;
use crate::raw::RawKeys;
use crate::shown::shown;
use crate::table::Table;

/// Most changes that are named of one service.
const MOST_WORDS: usize = 8;
/// Longest value shown, in bytes.
const LONGEST_VALUE: usize = 80;
/// Longest value of a [`KeyDiff`], in characters.
const LONGEST_SHOWN: usize = 160;
/// Stands in for the port of instances that are compared and not used.
const ANY_PORT: u16 = 1;

/// A service or tree whose keys differ between two tables. Its text is one line, not escaped:
/// `services/shop: +web-3, weight of web-1 1 -> 2, domain a.test -> b.test`.
#[derive(Debug)]
pub struct TableDiff<'t> {
    place: DiffPlace<'t>,
    keys: DiffKeys<'t>,
}

/// One key that differs between two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDiff {
    /// The key, relative to the prefix: `services/shop/domain`. Escaped, as the values are.
    pub key: String,
    /// The value before, cut if it is long; `None`: there was none, or it is secret.
    pub before: Option<String>,
    /// The value after.
    pub after: Option<String>,
    /// Values are not shown, because one of them is secret.
    pub is_secret: bool,
    /// What became of the key.
    pub fate: Fate,
}

/// The keys of a place before and after.
#[derive(Clone, Copy, Debug)]
enum DiffKeys<'t> {
    Raw(Option<&'t RawKeys>, Option<&'t RawKeys>),
    Certs(&'t CertKeys, &'t CertKeys),
}

/// What became of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It has keys now.
    Added,
    /// Other keys than before.
    Changed,
    /// It has none any more.
    Removed,
}

#[derive(Clone, Copy, Debug)]
enum DiffPlace<'t> {
    Service(Protocol, &'t str),
    Config,
    /// Every value is secret.
    Certs,
}

/// Everything that differs: services in their order, then `config/` and `certs/`.
pub fn differences<'t>(before: &'t Table, after: &'t Table) -> Vec<TableDiff<'t>> {
    let config = TableDiff::of(DiffPlace::Config, &before.basis.config.raw, &after.basis.config.raw);
    let certs = DiffKeys::Certs(&before.basis.certs.raw, &after.basis.certs.raw);
    let certs = TableDiff { place: DiffPlace::Certs, keys: certs }.unless_same();
    services(before, after).into_iter().chain([config, certs].into_iter().flatten()).collect()
}

/// Both lists have the same order.
fn services<'t>(before: &'t Table, after: &'t Table) -> Vec<TableDiff<'t>> {
    let (mut old, mut new) = (before.forms.iter().peekable(), after.forms.iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => (old.protocol, &old.name).cmp(&(new.protocol, &new.name)),
        };
        let gone = if order.is_le() { old.next() } else { None };
        let come = if order.is_ge() { new.next() } else { None };
        found.extend(match (gone, come) {
            (Some(gone), Some(come)) => TableDiff::of(place(come), &gone.raw, &come.raw),
            (gone, come) => gone.or(come).map(|form| TableDiff {
                place: place(form),
                keys: DiffKeys::Raw(gone.map(|form| &*form.raw), come.map(|form| &*form.raw)),
            }),
        });
    }
}

fn place(form: &Form) -> DiffPlace<'_> {
    DiffPlace::Service(form.protocol, form.name.as_str())
}

impl<'t> TableDiff<'t> {
    fn of(place: DiffPlace<'t>, before: &'t RawKeys, after: &'t RawKeys) -> Option<Self> {
        let same = std::ptr::eq(before, after) || before == after;
        let it = Self { place, keys: DiffKeys::Raw(Some(before), Some(after)) };
        if same { None } else { it.unless_same() }
    }

    /// Spaces around a value are no change.
    fn unless_same(self) -> Option<Self> {
        (!self.words().is_empty()).then_some(self)
    }

    /// What became of it.
    pub fn fate(&self) -> Fate {
        match self.keys {
            DiffKeys::Raw(None, _) => Fate::Added,
            DiffKeys::Raw(_, None) => Fate::Removed,
            DiffKeys::Raw(..) | DiffKeys::Certs(..) => Fate::Changed,
        }
    }

    /// Each key that differs, in the order of the keys, and no secret.
    pub fn keys(&self) -> Vec<KeyDiff> {
        let each = match self.keys {
            DiffKeys::Raw(before, after) => differing(before, after),
            DiffKeys::Certs(before, after) => {
                let changes = before.changes(after, Arc::eq).into_iter();
                changes.map(|change| (change.name, bytes(change.before), bytes(change.after))).collect()
            }
        };
        each.into_iter().filter_map(|(key, before, after)| self.key(key, before, after)).collect()
    }

    /// `None`: an empty value came or went.
    fn key(&self, key: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> Option<KeyDiff> {
        let (before, after) = (set(key, before), set(key, after));
        let fate = match (before, after) {
            (None, None) => return None,
            (None, Some(_)) => Fate::Added,
            (Some(_), None) => Fate::Removed,
            (Some(_), Some(_)) => Fate::Changed,
        };
        let text = |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned());
        let (before, after) = (text(before), text(after));
        let is_certs = matches!(self.place, DiffPlace::Certs);
        let is_secret = is_certs || [&before, &after].into_iter().flatten().any(|value| is_secret(key, value));
        let value = |value: Option<String>| value.filter(|_| !is_secret).map(|value| short(&value));
        let key = shown(&format!("{}/{key}", self.place)).to_string();
        Some(KeyDiff { key, before: value(before), after: value(after), is_secret, fate })
    }

    /// Each change in words, in the order of the keys.
    fn words(&self) -> Vec<String> {
        let (before, after) = match self.keys {
            DiffKeys::Raw(before, after) => (before, after),
            DiffKeys::Certs(before, after) => return certs(before, after),
        };
        differing(before, after).into_iter().flat_map(|change| self.change(change)).collect()
    }

    fn change(&self, (key, before, after): (&str, Option<&[u8]>, Option<&[u8]>)) -> Vec<String> {
        let protocol = match self.place {
            DiffPlace::Service(protocol, _) => protocol,
            DiffPlace::Config | DiffPlace::Certs => return setting(key, before, after, false).into_iter().collect(),
        };
        let part = |value: Option<&[u8]>| value.map_or(Part::Nothing, |value| classify(protocol, key, value));
        let name = key.strip_prefix("upstreams/").unwrap_or(key);
        let is_instance = |part: &Part<'_>| matches!(part, Part::Direct(_) | Part::Upstream(_));
        match (part(before), part(after)) {
            (Part::Nothing, new) if is_instance(&new) => vec![format!("+{name}")],
            (old, Part::Nothing) if is_instance(&old) => vec![format!("-{name}")],
            (old, new) if is_instance(&old) && is_instance(&new) => instance(name, before, after),
            _ => setting(key, before, after, false).into_iter().collect(),
        }
    }
}

/// The tree or folder: `services/shop`, `config`.
impl Display for DiffPlace<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(protocol, name) => write!(f, "{protocol}/{name}"),
            Self::Config => f.write_str("config"),
            Self::Certs => f.write_str("certs"),
        }
    }
}

impl Display for TableDiff<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.place.fmt(f)?;
        match self.fate() {
            Fate::Added => f.write_str(" added")?,
            Fate::Changed => {}
            Fate::Removed => return f.write_str(" removed"),
        }
        let words = self.words();
        for (index, word) in words.iter().take(MOST_WORDS).enumerate() {
            write!(f, "{}{word}", if index == 0 { ": " } else { ", " })?;
        }
        match words.len().saturating_sub(MOST_WORDS) {
            0 => Ok(()),
            more => write!(f, ", {more} more"),
        }
    }
}

/// A key and its values before and after.
type Differing<'t> = (&'t str, Option<&'t [u8]>, Option<&'t [u8]>);

/// The keys whose values differ, in their order.
fn differing<'t>(before: Option<&'t RawKeys>, after: Option<&'t RawKeys>) -> Vec<Differing<'t>> {
    let keys = |raw: Option<&'t RawKeys>| raw.into_iter().flat_map(RawKeys::iter);
    let value = |raw: Option<&'t RawKeys>, key: &str| raw.and_then(|raw| raw.get(key));
    let mut names: Vec<&str> = keys(before).chain(keys(after)).map(|(key, _)| key).collect();
    names.sort_unstable();
    names.dedup();
    let changes = names.into_iter().map(|key| (key, value(before, key), value(after, key)));
    changes.filter(|(_, before, after)| before != after).collect()
}

fn bytes(value: Option<&Arc<[u8]>>) -> Option<&[u8]> {
    value.map(|value| &**value)
}

/// Escaped, and cut if it is long.
fn short(value: &str) -> String {
    let escaped = shown(value).to_string();
    match escaped.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}…", &escaped[..end]),
        None => escaped,
    }
}

fn certs(before: &CertKeys, after: &CertKeys) -> Vec<String> {
    let changes = before.changes(after, Arc::eq);
    let word =
        |change: NameChange<'_, Arc<[u8]>>| setting(change.name, bytes(change.before), bytes(change.after), true);
    changes.into_iter().filter_map(word).collect()
}

/// A key that is no instance: `domain = a.test`, `domain a.test -> b.test`, `domain removed`.
fn setting(key: &str, before: Option<&[u8]>, after: Option<&[u8]>, is_hidden: bool) -> Option<String> {
    let text = |value: &[u8]| if is_hidden { None } else { shown_value(key, value) };
    Some(match (set(key, before), set(key, after)) {
        (None, None) => return None,
        (None, Some(new)) => match text(new) {
            Some(new) => format!("{key} = {new}"),
            None => format!("{key} set"),
        },
        (Some(_), None) => format!("{key} removed"),
        (Some(old), Some(new)) => match (text(old), text(new)) {
            (Some(old), Some(new)) => format!("{key} {old} -> {new}"),
            _ => format!("{key} changed"),
        },
    })
}

/// `None`: an empty value, which is as good as none.
fn set<'v>(key: &str, value: Option<&'v [u8]>) -> Option<&'v [u8]> {
    value.map(<[u8]>::trim_ascii).filter(|value| !value.is_empty() || key == "cookie")
}

/// Quoted where it could be taken for more than one; `None`: too long for a line, or a secret.
fn shown_value(key: &str, value: &[u8]) -> Option<String> {
    let is_fit = |text: &&str| text.len() <= LONGEST_VALUE && !is_secret(key, text);
    let text = std::str::from_utf8(value).ok().filter(is_fit)?;
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b",\"".contains(&byte));
    Some(if is_plain { text.to_owned() } else { format!("{text:?}") })
}

/// What changed of an instance: `weight of web-1 1 -> 2`.
fn instance(name: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> Vec<String> {
    let parsed = |value: Option<&[u8]>| -> Option<(String, Instance)> {
        let text = std::str::from_utf8(value?).ok()?;
        let address = text.split_ascii_whitespace().next()?.to_owned();
        Some((address, instance::parse(name, text, ANY_PORT).ok()?))
    };
    let (Some((old_address, old)), Some((new_address, new))) = (parsed(before), parsed(after)) else {
        return setting(name, before, after, false).into_iter().collect();
    };
    let most = |instance: &Instance| instance.max_connections.map_or("none".to_owned(), |most| most.to_string());
    let on = |is_on: bool| if is_on { "on" } else { "off" }.to_owned();
    let parts = [
        ("address", old_address, new_address),
        ("weight", old.weight.to_string(), new.weight.to_string()),
        ("maxconn", most(&old), most(&new)),
        ("backup", on(old.backup), on(new.backup)),
        ("drain", on(old.drain), on(new.drain)),
        ("tls", on(old.tls), on(new.tls)),
    ];
    let parts = parts.into_iter().filter(|(_, old, new)| old != new);
    let shown = |(what, old, new): (&str, String, String)| match what {
        // A misspelt secret may look like an instance: its value is the address then.
        "address" if is_secret(name, "") => format!("address of {name} changed"),
        _ => format!("{what} of {name} {old} -> {new}"),
    };
    parts.map(shown).collect()
}
