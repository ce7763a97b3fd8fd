//! The house rules, held against the source itself. Exceptions are the lists at the top, and nowhere else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Most lines of a file.
const FILE_LINES: usize = 600;
/// Most lines of a function.
const FUNCTION_LINES: usize = 70;
/// Files that may be longer, and why.
const LONG_FILES: &[(&str, usize)] = &[];
/// Functions that may be longer, and why.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];
/// What table and wire, which are pure, must never name.
const IMPURE: &[&str] =
    &["std::net::Tcp", "std::net::Udp", "std::fs", "std::io", "std::time::Instant", "std::thread", "tokio"];
/// The only crates that table and wire may depend on.
const PURE_CRATES: &[&str] = &[
    "aho-corasick",
    "foldhash",
    "httparse",
    "memchr",
    "proptest",
    "regex",
    "regex-automata",
    "regex-syntax",
    "thiserror",
];

/// A source file.
struct Source {
    /// Its path below the root of the repository.
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file below these folders.
fn sources(folders: &[&str]) -> Vec<Source> {
    let (mut found, root) = (Vec::new(), root());
    let mut folders: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("readable").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("text");
                let path = path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
                found.push(Source { path, text });
            }
        }
    }
    found
}

/// Fails with every complaint at once.
#[track_caller]
fn none(what: &str, complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{what}:\n  {}", complaints.join("\n  "));
}

fn allowance(list: &[(&str, usize)], name: &str, usual: usize) -> usize {
    list.iter().find(|(exception, _)| *exception == name).map_or(usual, |(_, lines)| *lines)
}

#[test]
fn every_file_opens_with_what_it_owns() {
    let all = sources(&["crates", "bench"]);
    let bare = all.iter().filter(|source| !source.text.starts_with("//! "));
    none("files without a `//!` header", bare.map(|source| source.path.clone()).collect());
}

#[test]
fn files_stay_within_their_budget() {
    let all = sources(&["crates", "bench"]);
    let lines = all.iter().map(|source| (&source.path, source.text.lines().count()));
    let long = lines.filter(|(path, lines)| *lines > allowance(LONG_FILES, path, FILE_LINES));
    none("files too long", long.map(|(path, lines)| format!("{path}: {lines} lines")).collect());
}

#[test]
fn functions_stay_within_their_budget() {
    let all = sources(&["crates", "bench"]);
    let functions =
        all.iter().flat_map(|source| functions(&source.text).map(move |(name, lines)| (source, name, lines)));
    let long = functions.filter_map(|(source, name, lines)| {
        let name = format!("{}: {name}", source.path);
        (lines > allowance(LONG_FUNCTIONS, &name, FUNCTION_LINES)).then(|| format!("{name}: {lines} lines"))
    });
    none("functions too long", long.collect());
}

/// The functions of formatted source, each with its lines from `fn` to the brace that stands below it.
fn functions(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let starts: Vec<_> = lines.iter().enumerate().filter_map(|(at, line)| Some((at, function_name(line)?))).collect();
    starts.into_iter().filter_map(move |(at, name)| {
        let indent = &lines[at][..lines[at].len() - lines[at].trim_start().len()];
        if lines[at].ends_with([';', '}']) {
            return Some((name, 1));
        }
        let closes = |rest: &str| rest == "}" || (rest.starts_with(')') && rest.ends_with(';'));
        let length = lines[at..].iter().position(|line| line.strip_prefix(indent).is_some_and(closes))?;
        Some((name, length + 1))
    })
}

fn function_name(line: &str) -> Option<&str> {
    let words = line.trim_start();
    let lead = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe "];
    let plain = lead.iter().fold(words, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
    let name = plain.strip_prefix("fn ")?;
    name.split(['(', '<']).next()
}

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
fn every_module_is_on_the_map() {
    let map = read("ARCHITECTURE.md");
    let mut missing = Vec::new();
    for folder in ["crates/table/src", "crates/wire/src", "crates/pointsman/src", "bench/src"] {
        for entry in fs::read_dir(root().join(folder)).expect("a crate has sources") {
            let name = entry.expect("readable").file_name().to_string_lossy().replace(".rs", "");
            if !["lib", "main"].contains(&name.as_str()) && !map.contains(&format!("`{name}`")) {
                missing.push(format!("{folder}/{name}"));
            }
        }
    }
    none("modules that ARCHITECTURE.md does not name in its code map", missing);
    assert!(map.lines().count() <= 200, "ARCHITECTURE.md has {} lines", map.lines().count());
}

/// The text between quotes after each of these marks.
fn quoted_after<'t>(text: &'t str, mark: &'t str) -> impl Iterator<Item = &'t str> {
    quoted_after_with(text, mark, '"')
}

fn quoted_after_with<'t>(text: &'t str, mark: &'t str, quote: char) -> impl Iterator<Item = &'t str> {
    text.split(mark).skip(1).filter_map(move |rest| rest.split(quote).next())
}

#[track_caller]
fn documented<'n>(page: &str, names: impl Iterator<Item = &'n str>, form: impl Fn(&str) -> String) {
    let (text, mut count) = (read(page), 0);
    let missing = names.inspect(|_| count += 1).filter(|name| !text.contains(&form(name))).map(str::to_owned).collect();
    none(&format!("not in {page}"), missing);
    assert!(count > 0, "nothing was found that {page} should document");
}

#[test]
fn every_flag_is_documented() {
    let flags = read("crates/pointsman/src/settings/flags.rs");
    documented("docs/settings.md", quoted_after(&flags, "name: \"").filter(|name| !name.is_empty()), |name| {
        format!("`--{name}")
    });
}

#[test]
fn every_key_is_documented() {
    let names = pointsman_table::KNOWN_KEYS.iter().map(|key| key.name);
    // `config/timeout/connect`, `head`, `client`: keys of one folder may share its name on the page.
    let last = names.filter_map(|name| name.rsplit('/').next()).filter(|name| !name.starts_with('<'));
    documented("docs/keys.md", last, |name| format!("{name}`"));
}

#[test]
fn every_problem_is_documented() {
    let problems = read("crates/table/src/problem.rs");
    documented("docs/keys.md", quoted_after(&problems, " => \""), |name| format!("`{name}`"));
}

#[test]
fn every_complaint_is_documented() {
    let complaints = read("crates/pointsman/src/agent/complaint.rs");
    documented("docs/agent.md", quoted_after(&complaints, " => \""), |name| format!("`{name}`"));
}

#[test]
fn every_label_of_the_agent_is_documented() {
    let labels = ["enable", "id", "network", "name", "weight", "maxconn", "backup", "tls", "service", "mode"];
    let known = read("crates/pointsman/src/agent/known.rs");
    assert!(labels.iter().all(|name| known.contains(&format!("\"{name}\""))));
    documented("docs/agent.md", labels.into_iter(), |name| format!("`pointsman.{name}`"));
    let kontena = read("crates/pointsman/src/agent/kontena.rs");
    let names = ["\"KONTENA_LB_", "\"io.kontena."];
    for mark in names {
        let found: Vec<_> = quoted_after(&kontena, mark).filter(|name| !name.starts_with("container.type")).collect();
        documented("docs/agent.md", found.into_iter(), |name| format!("`{}{name}`", &mark[1..]));
    }
}

#[test]
fn every_metric_is_documented() {
    let source = read("crates/pointsman/src/admin/metrics.rs");
    let marks = ["counter(\"", "gauge(\"", "name: \""];
    let names = marks.iter().flat_map(|mark| quoted_after(&source, mark)).filter(|name| name.starts_with("pointsman_"));
    documented("docs/metrics.md", names, |name| format!("`{name}`"));
}

#[test]
fn every_difference_between_engines_is_documented_and_used() {
    let page = read("docs/engines.md");
    let (_, table) = page.split_once("## What differs").expect("a section of that name");
    let listed: BTreeSet<_> = quoted_after_with(table, "\n| `", '`').collect();
    let mut used = BTreeSet::new();
    let tests = sources(&["crates/pointsman/tests/it"]);
    for source in &tests {
        used.extend(quoted_after(&source.text, ".differs(\"").filter(|name| !name.contains('\\')));
    }
    for (_, rows) in crate::engines::FILES {
        used.extend(rows.split(" ~").skip(1).filter_map(|rest| rest.split_whitespace().next()));
    }
    let missing = used.difference(&listed).map(|name| format!("{name}: not in docs/engines.md"));
    let idle = listed.difference(&used).map(|name| format!("{name}: in docs/engines.md, and no test needs it"));
    none("differences between engines", missing.chain(idle).collect());
    assert!(listed.len() > 10);
}

#[test]
fn the_long_functions_are_found() {
    let text = "fn a() {\n    b();\n}\n\nimpl T {\n    pub(crate) async fn c<X>(\n        x: X,\n    ) {\n        d\n    }\n}\nfn e() {}\n";
    assert_eq!(functions(text).collect::<Vec<_>>(), [("a", 3), ("c", 5), ("e", 1)]);
}
