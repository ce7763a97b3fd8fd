//! Whether every live balancer is as far as is wished, and who is not. Pure: takes what a follower of the status keys
//! tells.
//!
//! A balancer that vanishes without having said that it ends may serve old keys still, cut off from the store: whoever
//! waits for it is told so, and not that all is well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pointsman_table::Change;

use super::member::{Member, Stage};
use crate::control::plural;
use pointsman_store::Update;

/// What is wished of every balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// To serve at least this.
    pub point: Point,
    /// To have no work left for this instance: protocol, service, instance.
    pub idle: Option<(String, String, String)>,
}

/// A moment of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// The store's revision.
    Revision(u64),
    /// A number in the key `barrier`.
    Barrier(u64),
}

/// Who is there, and who was.
#[derive(Clone, Debug, Default)]
pub struct Roll {
    members: BTreeMap<String, Member>,
    lost: BTreeSet<String>,
    called: bool,
}

/// How far they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of them, so many.
    All(usize),
    /// Some are not, or nobody is there: who, and why.
    Not(Vec<String>),
    /// Some have vanished before they were: who.
    Lost(Vec<String>),
}

impl Roll {
    /// Takes what a follower of the folder of status keys tells. `wish` says whose vanishing matters.
    pub fn take(&mut self, update: Update, wish: &Wish) {
        match update {
            Update::Reset { entries, .. } => {
                self.called = true;
                let now: BTreeSet<_> = entries.iter().map(|(name, _)| name.to_string()).collect();
                let gone: Vec<_> = self.members.keys().filter(|name| !now.contains(*name)).cloned().collect();
                gone.iter().for_each(|name| self.gone(name, wish));
                entries.iter().for_each(|(name, value)| self.here(name, value));
            }
            Update::Changes { changes, .. } => changes.into_iter().for_each(|change| match change {
                Change::Put { key, value } => self.here(&key, &value),
                Change::Delete { key } => self.gone(&key, wish),
                Change::DeleteTree { .. } => {
                    let all: Vec<_> = self.members.keys().cloned().collect();
                    all.iter().for_each(|name| self.gone(name, wish));
                }
            }),
        }
    }

    /// A folder that lies deeper is that of another prefix.
    fn here(&mut self, name: &str, value: &[u8]) {
        if !name.contains('/') {
            self.lost.remove(name);
            self.members.insert(name.to_owned(), Member::read(name, value));
        }
    }

    fn gone(&mut self, name: &str, wish: &Wish) {
        if let Some(member) = self.members.remove(name)
            && member.stage == Stage::Serving
            && lag(&member, wish).is_some()
        {
            self.lost.insert(name.to_owned());
        }
    }

    /// Everybody who is there.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Whether the folder was read at all.
    pub fn is_called(&self) -> bool {
        self.called
    }

    /// Whether there is nothing more to wait for: all of them are, nobody is there, or some have vanished. Unlike the
    /// verdict this names nobody, so that it may be asked whenever one of a thousand has spoken.
    pub fn is_over(&self, wish: &Wish) -> bool {
        !self.lost.is_empty() || !self.members.values().any(|member| lag(member, wish).is_some())
    }

    /// How far they are.
    pub fn verdict(&self, wish: &Wish) -> Verdict {
        if !self.lost.is_empty() {
            return Verdict::Lost(self.lost.iter().cloned().collect());
        }
        let late = self.members.values().filter_map(|member| Some((member, lag(member, wish)?)));
        let late = late.map(|(member, lag)| format!("{} {lag}", member.name));
        let late: Vec<_> = late.collect();
        match late.is_empty() && self.called && !self.members.is_empty() {
            true => Verdict::All(self.members.len()),
            false => Verdict::Not(late),
        }
    }
}

/// Why a balancer is not as far as is wished.
enum Lag<'w> {
    /// It serves this revision.
    Revision(u64),
    /// It does not serve the value of `barrier`.
    Barrier,
    /// It has so many requests or connections open to this instance.
    Work { protocol: &'w str, service: &'w str, instance: &'w str, active: u64 },
    /// It is ending, and may still begin something.
    Begins,
    /// It has more to tell of than it can.
    Unsure,
}

impl fmt::Display for Lag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revision(revision) => write!(f, "is still at revision {revision}"),
            Self::Barrier => write!(f, "does not serve the change yet"),
            Self::Work { protocol, service, instance, active } => {
                let noun = if *protocol == "tcp" { "connection" } else { "request" };
                write!(f, "still has {} to {service}/{instance}", plural(*active as usize, noun))
            }
            Self::Begins => write!(f, "is draining, and its open connections may still send requests"),
            Self::Unsure => write!(f, "has more drained instances than its status can list"),
        }
    }
}

fn lag<'w>(member: &Member, wish: &'w Wish) -> Option<Lag<'w>> {
    let serves = match &wish.point {
        Point::Revision(revision) => member.revision >= *revision,
        Point::Barrier(barrier) => member.barrier.is_some_and(|served| served >= *barrier),
    };
    // One that drains takes no new work and follows no keys: it only has to finish what it has.
    if !serves && member.stage == Stage::Serving {
        return Some(match &wish.point {
            Point::Revision(_) => Lag::Revision(member.revision),
            Point::Barrier(_) => Lag::Barrier,
        });
    }
    let (protocol, service, instance) = wish.idle.as_ref()?;
    match member.active(protocol, service, instance) {
        0 if member.begins => Some(Lag::Begins),
        0 if member.is_unsure() => Some(Lag::Unsure),
        0 => None,
        active => Some(Lag::Work { protocol, service, instance, active }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::member::Leaving;
    use super::*;

    fn member(line: &str) -> (Box<str>, Box<[u8]>) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        let mut member = Member::default();
        for word in words {
            match word.split_once('=').unwrap() {
                ("r", number) => member.revision = number.parse().unwrap(),
                ("b", barrier) => member.barrier = Some(barrier.parse().unwrap()),
                ("begins", _) => member.begins = true,
                ("stage", "draining") => member.stage = Stage::Draining,
                (instance, active) => member.leaving.push(Leaving {
                    protocol: "http".to_owned(),
                    service: "shop".to_owned(),
                    instance: instance.to_owned(),
                    active: active.parse().unwrap(),
                }),
            }
        }
        (name.into(), member.text().into())
    }

    /// What is said after these: the first are listed, `;` separates what changes then, `-` is gone.
    fn check(lines: &str, wish: &Wish, expected: &str) {
        let mut roll = Roll::default();
        let mut steps = lines.split(';');
        let entries = steps.next().unwrap_or_default().split(',').filter(|line| !line.trim().is_empty());
        roll.take(Update::Reset { revision: 1, entries: entries.map(member).collect() }, wish);
        for step in steps {
            let change = match step.trim().strip_prefix('-') {
                Some(name) => Change::Delete { key: name.into() },
                None => {
                    let (key, value) = member(step);
                    Change::Put { key, value }
                }
            };
            roll.take(Update::Changes { revision: 2, changes: vec![change] }, wish);
        }
        let said = match roll.verdict(wish) {
            Verdict::All(count) => format!("all {count}"),
            Verdict::Not(late) => format!("not {}", late.join(", ")),
            Verdict::Lost(names) => format!("lost {}", names.join(", ")),
        };
        assert_eq!(said, expected, "{lines}");
        let is_open = matches!(roll.verdict(wish), Verdict::Not(late) if !late.is_empty());
        assert_eq!(roll.is_over(wish), !is_open, "{lines}");
    }

    #[test]
    fn verdicts() {
        let five = Wish { point: Point::Revision(5), idle: None };
        check("", &five, "not ");
        check("a r=5, b r=6", &five, "all 2");
        check("a r=5, b r=4", &five, "not b is still at revision 4");
        check("a r=5, b r=4; b r=5", &five, "all 2");
        check("a r=5, b r=4 stage=draining", &five, "all 2");
        check("a r=5, b r=4; -b", &five, "lost b");
        check("a r=5, b r=4; -b; b r=5", &five, "all 2");
        check("a r=5, b r=5; -b", &five, "all 1");
        check("a r=5, b r=4; b r=4 stage=draining; -b", &five, "all 1");
        check("a r=5, c/x r=1", &five, "all 1");
        check("a r=4; -a", &five, "lost a");
        let barrier = Wish { point: Point::Barrier(7), idle: None };
        check("a r=1 b=8, b r=9 b=6", &barrier, "not b does not serve the change yet");
        let idle = Wish { idle: Some(("http".into(), "shop".into(), "web-1".into())), ..five };
        check("a r=5 web-1=0, b r=5 web-2=3", &idle, "all 2");
        check(
            "a r=5, b r=4 stage=draining begins=1",
            &idle,
            "not b is draining, and its open connections may still send requests",
        );
        check("a r=5 web-1=2, b r=5", &idle, "not a still has 2 requests to shop/web-1");
        check("a r=4 web-1=2, b r=4 stage=draining web-1=1; a r=5", &idle, "not b still has 1 request to shop/web-1");
    }
}
