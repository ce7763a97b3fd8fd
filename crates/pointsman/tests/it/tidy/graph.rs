//! Which parts use which, and the circles among them. Knows nothing of source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Who uses whom, and what for.
#[derive(Default)]
pub(super) struct Graph {
    uses: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

/// Parts that stand above each other in turn.
pub(super) struct Circle {
    /// Ordered.
    pub(super) parts: Vec<String>,
    /// One line for each use within the circle.
    pub(super) ties: String,
}

impl Graph {
    /// `user` takes `name` from `used`. What a part takes from itself is nobody's business.
    pub(super) fn tie(&mut self, user: &str, used: &str, name: &str) {
        if user != used {
            let names = self.uses.entry(user.to_owned()).or_default().entry(used.to_owned()).or_default();
            names.insert(name.to_owned());
        }
    }

    /// Every circle, whole.
    pub(super) fn circles(&self) -> Vec<Circle> {
        let below: BTreeMap<_, _> = self.uses.keys().map(|part| (part.as_str(), self.below(part))).collect();
        let (mut circles, mut seen) = (Vec::new(), BTreeSet::new());
        for (part, all) in &below {
            if !all.contains(part) || seen.contains(part) {
                continue;
            }
            let parts: BTreeSet<_> =
                all.iter().copied().filter(|other| below.get(other).is_some_and(|all| all.contains(part))).collect();
            seen.extend(parts.iter().copied());
            circles.push(Circle { ties: self.ties(&parts), parts: parts.into_iter().map(str::to_owned).collect() });
        }
        circles
    }

    /// Everything that this part stands on, itself only if it stands on itself.
    fn below<'a>(&'a self, part: &'a str) -> BTreeSet<&'a str> {
        let (mut found, mut open) = (BTreeSet::new(), vec![part]);
        while let Some(part) = open.pop() {
            let used = self.uses.get(part).into_iter().flatten();
            open.extend(used.map(|(used, _)| used.as_str()).filter(|used| found.insert(*used)));
        }
        found
    }

    fn ties(&self, parts: &BTreeSet<&str>) -> String {
        let mut said = String::new();
        for user in parts {
            for (used, names) in self.uses.get(*user).into_iter().flatten() {
                if parts.contains(used.as_str()) {
                    let names: Vec<_> = names.iter().map(String::as_str).collect();
                    let _ = write!(said, "\n    {user} -> {used}: {}", names.join(", "));
                }
            }
        }
        said
    }
}

fn circles(ties: &[(&str, &str)]) -> Vec<String> {
    let mut graph = Graph::default();
    ties.iter().for_each(|(user, used)| graph.tie(user, used, "x"));
    graph.circles().into_iter().map(|circle| circle.parts.join(" ")).collect()
}

#[test]
fn circles_are_found_whole_and_once() {
    assert_eq!(circles(&[("a", "b"), ("b", "c"), ("a", "c")]), [""; 0]);
    assert_eq!(circles(&[("a", "a")]), [""; 0]);
    assert_eq!(circles(&[("a", "b"), ("b", "a"), ("b", "c"), ("z", "a")]), ["a b"]);
    assert_eq!(circles(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d")]), ["a b c", "d e"]);
}
