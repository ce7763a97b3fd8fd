//! Whether every live balancer has reached the goal; lists those that have not. Pure: takes the updates of a follower
//! of the status keys.
//!
//! A balancer that disappears without signing off may still serve old keys, cut off from the store. The wait then fails
//! instead of reporting success.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pointsman_table::Change;

use super::member::{Member, Stage};
use crate::control::plural;
use pointsman_store::Update;

/// The goal for every balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    /// It serves at least this point.
    pub point: Point,
    /// It has no open requests for this instance: protocol, service, instance.
    pub idle: Option<(String, String, String)>,
}

/// A point in the history of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// The store's revision.
    Revision(u64),
    /// A number in the key `barrier`.
    Barrier(u64),
}

/// The live balancers, and those that disappeared.
#[derive(Clone, Debug, Default)]
pub struct Balancers {
    members: BTreeMap<String, Member>,
    lost: BTreeSet<String>,
    called: bool,
}

/// How far the balancers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All have reached the goal; their number.
    All(usize),
    /// Some have not, with the reason for each; empty if there are no balancers.
    Not(Vec<String>),
    /// Some disappeared before they had reached it.
    Lost(Vec<String>),
}

impl Balancers {
    /// Takes an update of a follower of the status keys. A balancer that disappears before it has reached `goal` is
    /// lost.
    pub fn take(&mut self, update: Update, goal: &Goal) {
        match update {
            Update::Reset { entries, .. } => {
                self.called = true;
                let now: BTreeSet<_> = entries.iter().map(|(name, _)| name.to_string()).collect();
                let gone: Vec<_> = self.members.keys().filter(|name| !now.contains(*name)).cloned().collect();
                gone.iter().for_each(|name| self.gone(name, goal));
                entries.iter().for_each(|(name, value)| self.here(name, value));
            }
            Update::Changes { changes, .. } => changes.into_iter().for_each(|change| match change {
                Change::Put { key, value } => self.here(&key, &value),
                Change::Delete { key } => self.gone(&key, goal),
                Change::DeleteTree { .. } => {
                    let all: Vec<_> = self.members.keys().cloned().collect();
                    all.iter().for_each(|name| self.gone(name, goal));
                }
            }),
        }
    }

    /// A deeper folder belongs to another prefix.
    fn here(&mut self, name: &str, value: &[u8]) {
        if !name.contains('/') {
            self.lost.remove(name);
            self.members.insert(name.to_owned(), Member::read(name, value));
        }
    }

    fn gone(&mut self, name: &str, goal: &Goal) {
        if let Some(member) = self.members.remove(name)
            && member.stage == Stage::Serving
            && lag(&member, goal).is_some()
        {
            self.lost.insert(name.to_owned());
        }
    }

    /// All live balancers.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Whether the folder has been read.
    pub fn is_called(&self) -> bool {
        self.called
    }

    /// Whether the wait is over: all have reached the goal, there are no balancers, or some have disappeared. Cheaper
    /// than the verdict because it lists no names, so it can run at each status of a thousand balancers.
    pub fn is_over(&self, goal: &Goal) -> bool {
        !self.lost.is_empty() || !self.members.values().any(|member| lag(member, goal).is_some())
    }

    /// The verdict.
    pub fn verdict(&self, goal: &Goal) -> Verdict {
        if !self.lost.is_empty() {
            return Verdict::Lost(self.lost.iter().cloned().collect());
        }
        let late = self.members.values().filter_map(|member| Some((member, lag(member, goal)?)));
        let late = late.map(|(member, lag)| format!("{} {lag}", member.name));
        let late: Vec<_> = late.collect();
        match late.is_empty() && self.called && !self.members.is_empty() {
            true => Verdict::All(self.members.len()),
            false => Verdict::Not(late),
        }
    }
}

/// The reason that a balancer has not reached the goal.
enum Lag<'w> {
    /// It serves an older revision.
    Revision(u64),
    /// It does not serve the value of `barrier` yet.
    Barrier,
    /// It has this many open requests or connections to the instance.
    Work { protocol: &'w str, service: &'w str, instance: &'w str, active: u64 },
    /// It is draining, and a client may still begin a request.
    Begins,
    /// It has more instances with open requests than its status lists.
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

fn lag<'w>(member: &Member, goal: &'w Goal) -> Option<Lag<'w>> {
    let serves = match &goal.point {
        Point::Revision(revision) => member.revision >= *revision,
        Point::Barrier(barrier) => member.barrier.is_some_and(|served| served >= *barrier),
    };
    // A draining balancer takes no new work and follows no keys: it only has to finish its open requests.
    if !serves && member.stage == Stage::Serving {
        return Some(match &goal.point {
            Point::Revision(_) => Lag::Revision(member.revision),
            Point::Barrier(_) => Lag::Barrier,
        });
    }
    let (protocol, service, instance) = goal.idle.as_ref()?;
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

    /// The verdict after these statuses: `,` separates the first listing, `;` later changes, `-` means disappeared.
    fn check(lines: &str, goal: &Goal, expected: &str) {
        let mut balancers = Balancers::default();
        let mut steps = lines.split(';');
        let entries = steps.next().unwrap_or_default().split(',').filter(|line| !line.trim().is_empty());
        balancers.take(Update::Reset { revision: 1, entries: entries.map(member).collect() }, goal);
        for step in steps {
            let change = match step.trim().strip_prefix('-') {
                Some(name) => Change::Delete { key: name.into() },
                None => {
                    let (key, value) = member(step);
                    Change::Put { key, value }
                }
            };
            balancers.take(Update::Changes { revision: 2, changes: vec![change] }, goal);
        }
        let said = match balancers.verdict(goal) {
            Verdict::All(count) => format!("all {count}"),
            Verdict::Not(late) => format!("not {}", late.join(", ")),
            Verdict::Lost(names) => format!("lost {}", names.join(", ")),
        };
        assert_eq!(said, expected, "{lines}");
        let is_open = matches!(balancers.verdict(goal), Verdict::Not(late) if !late.is_empty());
        assert_eq!(balancers.is_over(goal), !is_open, "{lines}");
    }

    #[test]
    fn verdicts() {
        let five = Goal { point: Point::Revision(5), idle: None };
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
        let barrier = Goal { point: Point::Barrier(7), idle: None };
        check("a r=1 b=8, b r=9 b=6", &barrier, "not b does not serve the change yet");
        let idle = Goal { idle: Some(("http".into(), "shop".into(), "web-1".into())), ..five };
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
