//! What may use what: crates, the files and folders of each crate, and the pure crates in the world. Exceptions are the
//! lists at the top.

use std::collections::BTreeMap;
use std::fs;

use super::graph::{Circle, Graph};
use super::modules::Modules;
use super::{CRATES, none, read, root, sources, texts};

/// The crates of ours that each crate may depend on, from the ground up.
const FLOORS: &[(&str, &[&str])] = &[
    ("table", &[]),
    ("wire", &[]),
    ("engine", &["table"]),
    ("native", &["table", "wire", "engine"]),
    // Of `wire` it takes the form of an answer, so that both engines' errors read the same.
    ("haproxy", &["table", "wire", "engine"]),
    ("store", &["table"]),
    ("pointsman", &["table", "wire", "engine", "native", "haproxy", "store"]),
];
/// Circles that still exist: the crate, and every file or folder of the circle.
const KNOWN_CIRCLES: &[(&str, &str)] = &[];

/// What table and wire, which are pure, must never name.
const IMPURE: &[&str] =
    &["std::net::Tcp", "std::net::Udp", "std::fs", "std::io", "std::time::Instant", "std::thread", "tokio"];
/// The only crates that table and wire may depend on.
const PURE_CRATES: &[&str] = &[
    "aho-corasick",
    "foldhash",
    "httparse",
    "ipnet",
    "memchr",
    "proptest",
    "regex",
    "regex-automata",
    "regex-syntax",
    "thiserror",
    "twox-hash",
    "x509-parser",
];

#[test]
fn table_and_wire_are_pure() {
    let mut complaints = Vec::new();
    for source in sources(&["crates/table/src", "crates/wire/src"]) {
        let code = source.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code.take_while(|line| !line.contains("#[cfg(test)]")) {
            complaints.extend(
                IMPURE.iter().filter(|word| line.contains(*word)).map(|word| format!("{}: {word}", source.path)),
            );
        }
    }
    for manifest in ["crates/table/Cargo.toml", "crates/wire/Cargo.toml"] {
        let text = read(manifest);
        let names = dependencies(&text).filter(|name| !PURE_CRATES.contains(name));
        complaints.extend(names.map(|name| format!("{manifest}: {name}")));
    }
    none("table and wire do no IO", complaints);
}

fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut within = false;
    manifest.lines().filter_map(move |line| {
        if line.starts_with('[') {
            within = line.contains("dependencies");
            return None;
        }
        within.then(|| line.split(['.', ' ', '=']).next()).flatten().filter(|name| !name.is_empty())
    })
}

#[test]
fn crates_depend_on_what_stands_below_them() {
    let folders = fs::read_dir(root().join("crates")).expect("crates");
    let mut names: Vec<_> =
        folders.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let mut listed: Vec<_> = FLOORS.iter().map(|(name, _)| *name).collect();
    listed.sort_unstable();
    assert_eq!(names, listed, "FLOORS lists every crate");
    let mut complaints = Vec::new();
    for (name, allowed) in FLOORS {
        let manifest = read(&format!("crates/{name}/Cargo.toml"));
        let ours = dependencies(&manifest).filter_map(|name| name.strip_prefix("pointsman-"));
        complaints.extend(ours.filter(|used| !allowed.contains(used)).map(|used| format!("{name} uses {used}")));
    }
    none("crates that use what does not stand below them", complaints);
}

#[test]
fn no_circle_of_modules() {
    let mut complaints = Vec::new();
    for (folder, root) in CRATES {
        let files = texts(folder);
        let known = KNOWN_CIRCLES.iter().filter(|(of, _)| of == folder).map(|(_, parts)| *parts);
        complaints.extend(judge(folder, &circles(root, &files), &known.collect::<Vec<_>>()));
    }
    none("circles: move what both sides need below them", complaints);
}

/// The uses of a crate's files, and of its folders as far as files are no circles already.
fn circles(root: &str, files: &BTreeMap<String, String>) -> Vec<Circle> {
    let folder = |file: &str| file.split_once('/').map_or_else(|| file.to_owned(), |(folder, _)| format!("{folder}/"));
    let (mut of_files, mut of_folders) = (Graph::default(), Graph::default());
    for tie in Modules::new(root, files).ties() {
        of_files.tie(tie.user, tie.used, tie.name);
        of_folders.tie(&folder(tie.user), &folder(tie.used), tie.name);
    }
    let mut circles = of_files.circles();
    circles
        .extend(of_folders.circles().into_iter().filter(|circle| circle.parts.iter().any(|part| part.ends_with('/'))));
    circles
}

fn judge(folder: &str, circles: &[Circle], known: &[&str]) -> Vec<String> {
    let news = circles.iter().filter(|circle| !known.contains(&circle.parts.join(" ").as_str()));
    let gone = known.iter().filter(|parts| !circles.iter().any(|circle| circle.parts.join(" ") == **parts));
    let news = news.map(|circle| format!("{folder}: {}{}", circle.parts.join(" "), circle.ties));
    news.chain(gone.map(|parts| format!("{folder}: {parts} is a circle no more: strike it from KNOWN_CIRCLES")))
        .collect()
}

/// Says which circles this made-up crate has; files are `name: text` lines.
#[track_caller]
fn check(files: &[(&str, &str)], expected: &[&str]) {
    let all = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let found = circles("lib.rs", &all);
    assert_eq!(found.iter().map(|circle| circle.parts.join(" ")).collect::<Vec<_>>(), expected, "{files:?}");
}

#[test]
fn circles_are_seen_however_they_are_written() {
    let row = |a: &str, b: &str, circles: &[&str]| {
        let lib = "mod a; mod b; pub use a::A; pub use self::b::{self as other, *};";
        check(&[("lib.rs", lib), ("a.rs", a), ("b.rs", b)], circles);
    };
    let (a, b) = ("use crate::b::B; pub struct A;", "pub struct B;");
    row(a, b, &[]);
    row(a, "use super::a::A; pub struct B;", &["a.rs b.rs"]);
    row(a, "use crate::{a::A as Other, b}; pub struct B;", &["a.rs b.rs"]);
    row(a, "pub struct B; fn f() { crate::a::f() }", &["a.rs b.rs"]);
    row(a, "use super::a; pub struct B; fn f() { a::f::<u8>() }", &["a.rs b.rs"]);
    // Behind a re-export, by name and by glob.
    row(a, "use crate::A; pub struct B;", &["a.rs b.rs"]);
    row("use crate::B; pub struct A;", "use crate::A; pub struct B;", &["a.rs b.rs"]);
    row("use crate::*; pub struct A; fn f(_: B) {}", "use crate::A; pub struct B;", &["a.rs b.rs"]);
    row("pub struct A; fn f() -> crate::other::B {}", "use crate::A; pub struct B;", &["a.rs b.rs"]);
    // What the tests take does not count, and neither do comments, strings and crates from outside.
    row(a, "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }", &[]);
    row(a, "// crate::a::A\npub struct B; const C: &str = \"crate::a::A\"; use ::a::A;", &[]);
    // What the root hands on from outside is not the root's.
    check(&[("lib.rs", "mod a; use a::A; pub use http::H;"), ("a.rs", "use crate::H; pub struct A;")], &[]);
}

#[test]
fn circles_between_parent_and_child_and_between_folders() {
    let parent = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b; use b::B; pub struct A;"),
        ("a/b.rs", "use super::A; pub struct B;"),
    ];
    check(&parent, &["a/b.rs a/mod.rs"]);
    let root = [("lib.rs", "mod a; use a::A; pub struct L;"), ("a.rs", "use crate::L; pub struct A;")];
    check(&root, &["a.rs lib.rs"]);
    // No file stands above itself here, and yet neither folder stands above the other.
    let folders = [
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "pub mod x; pub mod y;"),
        ("a/x.rs", "use crate::b::x::X;"),
        ("a/y.rs", "pub struct Y;"),
        ("b/mod.rs", "pub mod x; pub mod y;"),
        ("b/x.rs", "pub struct X;"),
        ("b/y.rs", "use crate::a::y::Y;"),
    ];
    check(&folders, &["a/ b/"]);
}
