//! Every engine gives the same answers for the same keys: rows of data, one check. Intended differences are named in
//! `docs/engines.md`.

pub(crate) mod answer;
pub(crate) mod rows;
pub(crate) mod stage;

use std::collections::BTreeMap;

use answer::Answer;
use rows::{Action, Ask, Check, Expected, Who};
use stage::{Cast, Scene};

use crate::harness::{ENGINES, Engine, wait};

/// The files with rows.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("hosts.txt", include_str!("engines/hosts.txt")),
    ("paths.txt", include_str!("engines/paths.txt")),
    ("expressions.txt", include_str!("engines/expressions.txt")),
    ("precedence.txt", include_str!("engines/precedence.txt")),
    ("messages.txt", include_str!("engines/messages.txt")),
    ("cookies.txt", include_str!("engines/cookies.txt")),
    ("instances.txt", include_str!("engines/instances.txt")),
    ("config.txt", include_str!("engines/config.txt")),
    ("tcp.txt", include_str!("engines/tcp.txt")),
    ("changes.txt", include_str!("engines/changes.txt")),
    ("rewriting.txt", include_str!("engines/rewriting.txt")),
    ("splits.txt", include_str!("engines/splits.txt")),
    ("passwords.txt", include_str!("engines/passwords.txt")),
    ("compression.txt", include_str!("engines/compression.txt")),
    ("haproxy.txt", include_str!("engines/haproxy.txt")),
];

#[test]
fn there_are_enough_rows() {
    let sections = FILES.iter().flat_map(|(name, text)| rows::sections(name, text));
    let asks = |action: &Action| matches!(action, Action::Ask(..) | Action::Wait(..) | Action::Connect { .. });
    let rows = sections.flat_map(|section| section.steps).filter(|step| asks(&step.action)).count();
    assert!(rows >= 300, "{rows} rows");
}

#[test]
fn hosts() {
    check("hosts.txt");
}

#[test]
fn paths() {
    check("paths.txt");
}

#[test]
fn expressions() {
    check("expressions.txt");
}

#[test]
fn precedence() {
    check("precedence.txt");
}

#[test]
fn messages() {
    check("messages.txt");
}

#[test]
fn instances() {
    check("instances.txt");
}

#[test]
fn cookies() {
    check("cookies.txt");
}

#[test]
fn rewriting() {
    check("rewriting.txt");
}

#[test]
fn splits() {
    check("splits.txt");
}

#[test]
fn compression() {
    check("compression.txt");
}

#[test]
fn config() {
    check("config.txt");
}

#[test]
fn tcp() {
    check("tcp.txt");
}

#[test]
fn changes() {
    check("changes.txt");
}

#[test]
fn passwords() {
    check("passwords.txt");
}

#[test]
fn what_only_haproxy_does() {
    check_with("haproxy.txt", &[Engine::HaProxy]);
}

/// Runs a file's rows on every engine; fails with all differences.
#[track_caller]
fn check(file: &str) {
    check_with(file, &ENGINES);
}

#[track_caller]
fn check_with(file: &str, engines: &[Engine]) {
    let (_, text) = FILES.iter().find(|(name, _)| *name == file).expect("it is listed");
    let mut stage = Stage { cast: Cast::default(), scenes: engines.iter().copied().map(Scene::new).collect() };
    let mut failures = Vec::new();
    for section in rows::sections(file, text) {
        stage.scenes.iter_mut().for_each(Scene::clear);
        for step in section.steps {
            failures.extend(stage.play(&step.action).into_iter().map(|what| format!("{}\n    {what}", step.place)));
        }
    }
    assert!(failures.is_empty(), "{} rows failed:\n{}", failures.len(), failures.join("\n"));
}

struct Stage {
    scenes: Vec<Scene>,
    cast: Cast,
}

impl Stage {
    /// Runs one line on every engine; returns the differences.
    fn play(&mut self, action: &Action) -> Vec<String> {
        match action {
            Action::Put(keys) => keys.iter().for_each(|(key, value)| self.put(key, value)),
            Action::Remove(key) => self.scenes.iter_mut().for_each(|scene| scene.remove(key)),
            Action::Hold(ask) => self.scenes.iter_mut().for_each(|scene| {
                scene.settle();
                scene.hold(ask, &self.cast);
            }),
            Action::Ask(ask, expected) => return self.ask(ask, expected),
            Action::Wait(ask, expected) => wait(&format!("{ask:?}"), || self.ask(ask, expected).is_empty()),
            Action::Connect { port, send, expected } => return self.connect(port, send, expected),
        }
        Vec::new()
    }

    fn put(&mut self, key: &str, value: &str) {
        for scene in &mut self.scenes {
            let place = |word: &str| match word.strip_suffix(',').unwrap_or(word).rsplit_once('%') {
                _ if word.starts_with('@') => self.cast.address(word),
                Some((before, name)) if key.starts_with("tcp-") => format!("{before}{},", scene.port(name)),
                _ => word.to_owned(),
            };
            let value: Vec<_> = value.split(' ').map(place).collect();
            scene.put(key, &value.join(" "));
        }
    }

    fn ask(&mut self, ask: &Ask, expected: &Expected) -> Vec<String> {
        let (mut failures, mut first) = (Vec::new(), None);
        for scene in &mut self.scenes {
            scene.settle();
            let judged = scene.ask(ask).map_err(|error| error.to_string()).and_then(|answers| {
                judge(scene, ask, expected, &answers)?;
                Ok(answers)
            });
            match judged {
                Err(what) => failures.push(format!("{:?}: {what}", scene.engine)),
                Ok(answers) if ask.times == 1 && expected.differs.is_none() => {
                    let answer = &answers[0];
                    let differs = first.as_ref().and_then(|first: &Answer| first.differs_from(answer));
                    failures.extend(differs.map(|what| format!("the engines differ: {what}")));
                    first = first.or_else(|| Some(answer.clone()));
                }
                Ok(_) => {}
            }
        }
        failures
    }

    fn connect(&mut self, port: &str, send: &str, expected: &str) -> Vec<String> {
        for scene in &mut self.scenes {
            scene.settle();
            // A listening port belongs to the machine, so it may close a moment later.
            let what = format!("{expected} from {:?}", scene.engine);
            wait(&what, || scene.connect(port, send) == expected);
        }
        Vec::new()
    }
}

fn judge(scene: &Scene, ask: &Ask, expected: &Expected, answers: &[Answer]) -> Result<(), String> {
    let differs = expected.differs.as_ref().filter(|difference| scene.engine.differs(&difference.name));
    let other = differs.map_or(&[][..], |difference| &difference.statuses);
    for answer in answers {
        let response = &answer.response;
        let right =
            if other.is_empty() { response.status == expected.status } else { other.contains(&response.status) };
        ensure(right, || format!("status {}: {}", response.status, response.text()))?;
        if differs.is_none() {
            expected.checks.iter().try_for_each(|check| holds(check, answer))?;
        }
    }
    if !other.is_empty() {
        return Ok(());
    }
    who(&expected.who, answers)?;
    path(ask, expected, &answers[0])
}

fn ensure(good: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(what()) }
}

/// The method never changes, and the target only as the row says.
fn path(ask: &Ask, expected: &Expected, answer: &Answer) -> Result<(), String> {
    let Some(got) = &answer.got else {
        return ensure(expected.path.is_none(), || "the instance does not tell the path".to_owned());
    };
    let target = expected.path.as_deref().unwrap_or(&ask.target).replace("{n}", "0");
    let right = (got.method == ask.method) && (got.target == target);
    ensure(right, || format!("at the instance it was {} {}", got.method, got.target))
}

fn who(who: &Who, answers: &[Answer]) -> Result<(), String> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for answer in answers {
        *counts.entry(answer.backend().unwrap_or("-")).or_default() += 1;
    }
    let good = match who {
        Who::Nobody => counts.keys().eq(&["-"]),
        Who::One(name) => counts.keys().eq(&[name]),
        Who::Same => counts.len() == 1 && !counts.contains_key("-"),
        Who::Every(names) => names.iter().all(|name| counts.contains_key(&**name)) && counts.len() == names.len(),
        Who::Counts(wanted) => {
            wanted.iter().all(|(name, count)| counts.get(&**name) == Some(count)) && counts.len() == wanted.len()
        }
    };
    ensure(good, || format!("answered by {counts:?}"))
}

fn holds(check: &Check, answer: &Answer) -> Result<(), String> {
    let got = |name: &str| answer.got.as_ref().and_then(|got| got.header(name));
    let good = match check {
        Check::Got(name, value) => got(name) == Some(value),
        Check::NotGot(name) => answer.got.is_some() && got(name).is_none(),
        Check::Body(body) => answer.got.as_ref().is_some_and(|got| got.body == *body),
        Check::Sent(name, value) => answer.response.header(name) == Some(value),
        Check::NotSent(name) => answer.response.header(name).is_none(),
        Check::Says(words) => answer.response.text().contains(words.as_str()),
    };
    ensure(good, || format!("no {check:?} in {}{}", answer.response.head, answer.response.text()))
}
