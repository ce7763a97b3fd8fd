//! Random keys and requests, from few enough values to collide: every engine chooses the same service, answers with the
//! same status, and sends the instance the same request.
//!
//! `POINTSMAN_TEST_SEED` repeats the run that a failure names.

use std::rc::Rc;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::engines::answer::Answer;
use crate::engines::rows::{Ask, Body};
use crate::engines::stage::{Cast, Scene, mark};
use crate::harness::{ENGINES, Site, span};

/// Time limit for shrinking a failure.
const SHRINKING: Duration = Duration::from_secs(40);

const SERVICES: &[&str] = &["a", "b", "c", "d", "Long-name_5.x"];
const HOSTS: &[&str] = &["a.test", "b.a.test", "*.a.test", "*.test", "*.b.a.test", "c.test"];
const PREFIXES: &[&str] = &["/", "/x", "/x/y", "/x/yy", "/xx", "/y/", "/x?q"];
const SEGMENTS: &[&str] = &["/", "/x", "/x/y", "/x/yy", "/y/"];
const PATTERNS: &[&str] =
    &["^/x", "y$", "/y/", "x|z", "^/x/y+$", "[^/]x", "^/[xy](/|$)", "\\?q", "X{2}", ".", "^/(?-i)X"];
const PRIORITIES: &[&str] = &["-1", "0", "1", "7"];

const ASKED_HOSTS: &[&str] = &[
    "a.test",
    "b.a.test",
    "x.b.a.test",
    "z.a.test",
    "A.Test:80",
    "c.test",
    "b.a.test.",
    "test",
    "x.y.c.test",
    "other",
];
const TARGETS: &[&str] = &[
    "/", "/x", "/x/", "/x/y", "/x/yy", "/x/y/z", "/xx", "/X", "/XX", "/y", "/y/", "/y/x", "/x?q", "/x?r=/y/", "/z",
    "/?q", "/xy", "//x", "/x//y",
];
const HEADERS: &[&str] = &[
    "X-One: 1",
    "X-Forwarded-For: 192.0.2.7",
    "X-Forwarded-Proto: https",
    "Connection: keep-alive",
    "Cookie: a=b",
    "TE: trailers",
    "Accept: */*",
];

/// Keys that change together, and the requests afterwards.
#[derive(Clone, Debug)]
struct Turn {
    changes: Vec<Change>,
    asks: Vec<Asked>,
}

#[derive(Clone, Debug)]
enum Change {
    Put { service: &'static str, key: &'static str, value: String },
    Remove { service: &'static str, key: Option<&'static str> },
}

#[derive(Clone, Debug)]
struct Asked {
    method: &'static str,
    host: &'static str,
    target: &'static str,
    headers: Vec<&'static str>,
    body: Option<&'static str>,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = (vec(change(), 1..14), vec(asked(), 25)).prop_map(|(changes, asks)| Turn { changes, asks });
    vec(turn, 1..5)
}

fn change() -> impl Strategy<Value = Change> {
    let service = || select(SERVICES);
    let put = (service(), setting()).prop_map(|(service, (key, value))| Change::Put { service, key, value });
    let keys = prop::option::of(select(KEYS));
    let remove = (service(), keys).prop_map(|(service, key)| Change::Remove { service, key });
    prop_oneof![8 => put, 1 => remove]
}

const KEYS: &[&str] = &[
    "domain",
    "path",
    "url_beg",
    "virtual_path",
    "keep_virtual_path",
    "url_reg",
    "priority",
    "match",
    "default",
    "one",
    "two",
];

fn setting() -> impl Strategy<Value = (&'static str, String)> {
    let list = |from: &'static [&'static str], most| subsequence(from, 1..=most).prop_map(|some| some.join(","));
    let one = |from: &'static [&'static str]| select(from).prop_map(str::to_owned);
    let key = |name: &'static str| move |value: String| (name, value);
    let instance = || one(&["@", "@", "@", "@ weight=3", "@ drain", "@ backup", "@ weight=0"]);
    prop_oneof![
        5 => list(HOSTS, 3).prop_map(key("domain")),
        2 => list(SEGMENTS, 2).prop_map(key("path")),
        2 => list(PREFIXES, 2).prop_map(key("url_beg")),
        2 => list(PREFIXES, 2).prop_map(key("virtual_path")),
        1 => one(&["true", "false"]).prop_map(key("keep_virtual_path")),
        3 => one(PATTERNS).prop_map(key("url_reg")),
        2 => one(PRIORITIES).prop_map(key("priority")),
        1 => one(&["any", "all"]).prop_map(key("match")),
        1 => one(&["true", "false"]).prop_map(key("default")),
        6 => instance().prop_map(key("one")),
        2 => instance().prop_map(key("two")),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let method = select(&["GET", "GET", "GET", "POST", "HEAD", "DELETE"]);
    let body = prop::option::weighted(0.2, select(&["hello", "x=y"]));
    let (host, target) = (select(ASKED_HOSTS), select(TARGETS));
    let headers = subsequence(HEADERS, 0..=2);
    (method, host, target, headers, body).prop_map(|(method, host, target, headers, body)| {
        let body = body.filter(|_| method != "HEAD");
        Asked { method, host, target, headers, body }
    })
}

impl Asked {
    fn ask(&self) -> Ask {
        Ask {
            times: 1,
            method: self.method.to_owned(),
            version: "1.1".to_owned(),
            host: Some(self.host.to_owned()),
            target: self.target.to_owned(),
            headers: self.headers.iter().map(|header| (*header).to_owned()).collect(),
            body: self.body.map_or(Body::None, |body| Body::Sized(body.to_owned())),
        }
    }
}

/// The engines on one store, and one backend per service.
struct Stage {
    site: Rc<Site>,
    scenes: Vec<Scene>,
    cast: Cast,
    marks: u32,
}

impl Stage {
    fn new() -> Self {
        let site = Rc::new(Site::new());
        let scenes = ENGINES.map(|engine| Scene::on(engine, Rc::clone(&site))).into();
        Self { site, scenes, cast: Cast::default(), marks: 0 }
    }

    /// Runs everything from empty keys; returns the first difference.
    fn play(&mut self, turns: &[Turn]) -> Result<(), String> {
        self.site.clear();
        for turn in turns {
            turn.changes.iter().for_each(|change| self.change(change));
            SERVICES.iter().for_each(|service| self.mend(service));
            for _ in 0..2 {
                self.marks += 1;
                let mark = mark(&self.site, self.marks);
                self.scenes.iter().for_each(|scene| scene.wait_mark(&mark));
            }
            turn.asks.iter().try_for_each(|asked| self.compare(asked))?;
        }
        Ok(())
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Put { service, key, value } => {
                let address = self.cast.address(&format!("@{service}"));
                self.site.put(&format!("services/{service}/{key}"), value.replace('@', &address));
            }
            Change::Remove { service, key } => {
                let key = key.map_or_else(|| format!("services/{service}"), |key| format!("services/{service}/{key}"));
                if self.site.folder().join(&key).exists() {
                    self.site.remove(&key);
                }
            }
        }
    }

    /// Gives a service a rule if it has none. Instead of a broken service, its last good form is served, which depends
    /// on how changes were grouped; that is not a difference between engines.
    fn mend(&self, service: &str) {
        let folder = self.site.folder().join("services").join(service);
        let default = std::fs::read_to_string(folder.join("default")).is_ok_and(|value| value.trim() == "true");
        let ruled =
            ["domain", "path", "url_beg", "virtual_path", "url_reg"].iter().any(|key| folder.join(key).exists());
        if folder.exists() && !ruled && !default {
            self.site.put(&format!("services/{service}/domain"), "c.test");
        }
    }

    fn compare(&mut self, asked: &Asked) -> Result<(), String> {
        let ask = asked.ask();
        let answers = self.scenes.iter_mut().map(|scene| Ok(scene.ask(&ask)?.remove(0)));
        let answers: Vec<Answer> =
            answers.collect::<std::io::Result<_>>().map_err(|error| format!("{asked:?}: {error}"))?;
        let differs = answers[1..].iter().find_map(|answer| answers[0].differs_from(answer));
        differs.map_or(Ok(()), |what| Err(format!("{asked:?}\n{what}")))
    }
}

#[test]
fn every_engine_does_the_same() {
    let seed = std::env::var("POINTSMAN_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand_seed);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut stage = Stage::new();
    let (start, mut cases) = (Instant::now(), 0);
    // A few cases on a busy machine, too.
    while start.elapsed() < span(25, 900) || cases < 5 {
        let mut tree = turns().new_tree(&mut runner).expect("nothing is filtered");
        cases += 1;
        if let Err(what) = stage.play(&tree.current()) {
            let (turns, what) = smaller(&mut stage, &mut tree, what);
            panic!("POINTSMAN_TEST_SEED={seed}, case {cases}: {what}\nafter {turns:#?}");
        }
    }
}

/// The smallest case that still fails, within the time limit.
fn smaller(stage: &mut Stage, tree: &mut impl ValueTree<Value = Vec<Turn>>, mut what: String) -> (Vec<Turn>, String) {
    let (start, mut failing) = (Instant::now(), tree.current());
    let mut more = tree.simplify();
    while more && start.elapsed() < SHRINKING {
        more = match stage.play(&tree.current()) {
            Err(other) => {
                (failing, what) = (tree.current(), other);
                tree.simplify()
            }
            Ok(()) => tree.complicate(),
        };
    }
    for turn in &mut failing {
        turn.asks.clear();
    }
    (failing, what)
}

/// Different for each call.
fn rand_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::from(now.subsec_nanos()) ^ (u64::from(std::process::id()) << 32)
}
