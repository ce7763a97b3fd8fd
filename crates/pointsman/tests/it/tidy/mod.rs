//! The house rules, held against the source itself. Exceptions are the lists at the top of each file, and nowhere else.
//!
//! | module | holds |
//! |---|---|
//! | `budgets` | the length of files and functions, and a header for each file |
//! | `floors` | who may use whom: no circles |
//! | `names` | a type name means one thing in a crate |
//! | `maps` | the maps name every module |
//! | `pages` | the pages name whatever operators meet |
//! | `monitoring` | what we ship for Prometheus and Grafana asks for what is documented |
//! | `code`, `modules`, `graph` | how source is read: tokens, paths to their definitions, circles |

mod budgets;
mod code;
mod floors;
mod graph;
mod maps;
mod modules;
mod monitoring;
mod names;
mod pages;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use monitoring::{Expression, expressions};

/// Every crate's folder, from the ground up, and its root file.
const CRATES: &[(&str, &str)] = &[
    ("crates/table", "lib.rs"),
    ("crates/wire", "lib.rs"),
    ("crates/engine", "lib.rs"),
    ("crates/native", "lib.rs"),
    ("crates/haproxy", "lib.rs"),
    ("crates/store", "lib.rs"),
    ("crates/pointsman", "lib.rs"),
    ("bench", "main.rs"),
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

/// Every Rust file of a crate's `src`, by its path below that.
fn texts(folder: &str) -> BTreeMap<String, String> {
    let src = format!("{folder}/src");
    let all = sources(&[&src]).into_iter();
    all.map(|source| (source.path[src.len() + 1..].to_owned(), source.text)).collect()
}
