//! The maps that requests are routed by, as data, and how their entries read in HAProxy's files. Knows no rules and
//! writes no file; `routing` says what each map holds and how a request is looked up.

use std::collections::BTreeMap;
use std::sync::Arc;

use pointsman_table::Answers;

use super::names::BackendName;

/// Marks the ids of scopes that have expressions.
pub(super) const HAS_PATTERNS: char = '~';
/// The key in `hosts.map` that leads to the scope of services that take any host.
pub(super) const ANY_HOST: &str = "*";
/// The key in `rest.map` of the service that takes what no other takes. No scope has this id: those in `rest.map` end
/// with [`HAS_PATTERNS`].
pub(super) const DEFAULT: &str = "@default";

/// One map, by its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapName {
    /// `hosts.map`.
    Hosts,
    /// `wildcards.map`.
    Wildcards,
    /// `paths.map`.
    Paths,
    /// `patterns.map`.
    Patterns,
    /// `rest.map`.
    Rest,
    /// `sni.map`.
    Sni,
    /// `splits.map`.
    Splits,
    /// `answers.map`.
    Answers,
}

impl MapName {
    /// All maps, targets before the entries that point to them: the reverse of the order in which a request meets them.
    pub const ALL: [Self; 8] =
        [Self::Answers, Self::Splits, Self::Sni, Self::Rest, Self::Patterns, Self::Paths, Self::Wildcards, Self::Hosts];

    /// The file's name. Each file exists even if the map is empty, so that entries can be added at run time.
    pub fn file(self) -> &'static str {
        match self {
            Self::Hosts => "hosts.map",
            Self::Wildcards => "wildcards.map",
            Self::Paths => "paths.map",
            Self::Patterns => "patterns.map",
            Self::Rest => "rest.map",
            Self::Sni => "sni.map",
            Self::Splits => "splits.map",
            Self::Answers => "answers.map",
        }
    }
}

/// The target of a request: the value in a map, `services:web|5|0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The backend.
    pub backend: BackendName,
    /// Bytes to cut off the front of path and query.
    pub strip: u32,
    /// The service's priority. Not its rank among the others, which would change with them.
    pub level: i64,
}

impl Route {
    fn value(&self) -> String {
        format!("{}|{}|{}", self.backend, self.strip, level(self.level))
    }
}

/// A value in `splits.map`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lot {
    /// How the requests of a backend are split. Its key is the backend.
    Shares {
        /// `chance`, `client`, `cookie:NAME` or `header:NAME`.
        by: Box<str>,
        /// The end of each side's share, out of 2^32, and the backend that takes it.
        sides: Box<[(u64, BackendName)]>,
    },
    /// The backend of a side that a cookie or header names. Its key is the backend, `|` and that name.
    Named(BackendName),
}

impl Lot {
    /// The backends that it leads to.
    pub(super) fn backends(&self) -> Vec<&BackendName> {
        match self {
            Self::Shares { sides, .. } => sides.iter().map(|(_, backend)| backend).collect(),
            Self::Named(backend) => vec![backend],
        }
    }

    fn value(&self) -> String {
        match self {
            Self::Shares { by, sides } => {
                let sides = sides.iter().map(|(end, backend)| format!("|{end}|{backend}"));
                std::iter::once(by.to_string()).chain(sides).collect()
            }
            Self::Named(backend) => backend.to_string(),
        }
    }
}

/// The backend whose requests an entry of `splits.map` is about.
pub(super) fn backend_of(key: &str) -> &str {
    key.split_once('|').map_or(key, |(backend, _)| backend)
}

/// A priority as text that sorts like the number: HAProxy's `sub` is wrong about negative numbers (in 2.6, -1 minus 2
/// is the largest number), its `strcmp` is right.
fn level(priority: i64) -> String {
    match priority {
        0 => "0".into(),
        1.. => format!("p{priority:019}"),
        _ => format!("-{:019}", priority.abs_diff(i64::MIN)),
    }
}

/// All maps, entry by entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// `hosts.map`: host to scope.
    pub hosts: BTreeMap<Box<str>, Arc<str>>,
    /// `wildcards.map`: domain to the scope of the names below it.
    pub wildcards: BTreeMap<Box<str>, Arc<str>>,
    /// `paths.map`: scope and prefix to route; the longest prefix wins.
    pub paths: BTreeMap<Box<str>, Route>,
    /// `patterns.map`: expressions over scope and target, best first. The only map whose order matters.
    pub patterns: Vec<(Box<str>, Route)>,
    /// `rest.map`: scope to the route of any path, in scopes whose expressions are tried first.
    pub rest: BTreeMap<Box<str>, Route>,
    /// `sni.map`: listening address and TLS server name to the backend of a TCP service.
    pub sni: BTreeMap<Box<str>, BackendName>,
    /// `splits.map`: backends whose requests are split.
    pub splits: BTreeMap<Box<str>, Lot>,
    /// `answers.map`: paths that authorities ask for, and what they get.
    pub answers: Arc<Answers>,
}

impl Maps {
    /// Keys and values of one map, in order.
    pub fn entries(&self, name: MapName) -> Vec<(&str, String)> {
        fn routes<'m>(map: impl IntoIterator<Item = (&'m Box<str>, &'m Route)>) -> Vec<(&'m str, String)> {
            map.into_iter().map(|(key, route)| (&**key, route.value())).collect()
        }
        fn names(map: &BTreeMap<Box<str>, Arc<str>>) -> Vec<(&str, String)> {
            map.iter().map(|(key, name)| (&**key, name.to_string())).collect()
        }
        match name {
            MapName::Hosts => names(&self.hosts),
            MapName::Wildcards => names(&self.wildcards),
            MapName::Paths => routes(&self.paths),
            MapName::Patterns => routes(self.patterns.iter().map(|(key, route)| (key, route))),
            MapName::Rest => routes(&self.rest),
            MapName::Sni => names(&self.sni),
            MapName::Answers => {
                self.answers.bodies.iter().map(|(path, answer)| (&**path, answer.to_string())).collect()
            }
            MapName::Splits => self.splits.iter().map(|(key, lot)| (&**key, lot.value())).collect(),
        }
    }

    /// The file of one map: a line `key value` for each entry.
    pub fn text(&self, name: MapName) -> String {
        let mut text = String::new();
        for (key, value) in self.entries(name) {
            text.extend([key, " ", &value, "\n"]);
        }
        text
    }

    /// Whether one map is the same in both.
    pub fn is_same(&self, other: &Self, name: MapName) -> bool {
        match name {
            MapName::Hosts => self.hosts == other.hosts,
            MapName::Wildcards => self.wildcards == other.wildcards,
            MapName::Paths => self.paths == other.paths,
            MapName::Patterns => self.patterns == other.patterns,
            MapName::Rest => self.rest == other.rest,
            MapName::Sni => self.sni == other.sni,
            MapName::Splits => self.splits == other.splits,
            MapName::Answers => self.answers == other.answers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_as_priorities() {
        let ascending = [i64::MIN, i64::MIN + 1, -10, -9, -1, 0, 1, 2, 10, i64::MAX];
        let levels = ascending.map(level);
        assert!(levels.is_sorted_by(|a, b| a < b), "{levels:?}");
    }
}
