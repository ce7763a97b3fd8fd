//! The maps: each names every module of its folder, and nothing else.

use std::collections::BTreeSet;

use super::modules::{Module, Modules};
use super::{CRATES, none, read, texts};

/// Crates whose root has no map yet.
const UNMAPPED: &[&str] = &[];

#[test]
fn every_folder_has_a_map_of_its_modules() {
    let mut complaints = Vec::new();
    for (folder, root) in CRATES {
        let files = texts(folder);
        for module in Modules::new(root, &files).iter() {
            let map = map(&files[module.file]);
            let must = module.file == *root && !UNMAPPED.contains(folder);
            if must || !map.is_empty() {
                complaints
                    .extend(differences(module, &map).map(|what| format!("{folder}/src/{}: {what}", module.file)));
            }
            if module.file == *root && !map.is_empty() && UNMAPPED.contains(folder) {
                complaints.push(format!("{folder} has a map now: strike it from UNMAPPED"));
            }
        }
    }
    none("maps that are not of their folder", complaints);
}

fn differences<'a>(module: &'a Module<'_>, map: &'a BTreeSet<&str>) -> impl Iterator<Item = String> {
    let modules: BTreeSet<_> = module.children().collect();
    let missing: Vec<_> = modules.difference(map).map(|name| format!("does not name `{name}`")).collect();
    let gone = map.difference(&modules).map(|name| format!("names `{name}`, which is not there"));
    missing.into_iter().chain(gone.collect::<Vec<_>>())
}

/// The names in the first column of the header's table: of modules, or of files.
fn map(text: &str) -> BTreeSet<&str> {
    let header = text.lines().map_while(|line| line.strip_prefix("//!"));
    let rows = header.filter_map(|line| line.trim().strip_prefix("| `"));
    rows.filter_map(|row| row.split(" |").next())
        .flat_map(|cell| cell.split(['`', ',', ' ']))
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn maps_are_read() {
    let text = "//! A.\n//!\n//! | module | owns |\n//! |---|---|\n//! | `a`, `b_c` | `x` |\n//! | `d` | y |\n\nmod a; // | `e` |\n";
    assert_eq!(map(text), BTreeSet::from(["a", "b_c", "d"]));
    assert_eq!(map("//! A.\n//! ```text\n//! | a |\n//! ```\nuse x;\n"), BTreeSet::new());
}

#[test]
fn every_module_is_on_the_map() {
    let map = read("ARCHITECTURE.md");
    let mut missing = Vec::new();
    for (folder, root) in CRATES {
        let files = texts(folder);
        let modules = Modules::new(root, &files);
        let top = modules.iter().find(|module| module.file == *root).expect("a crate has a root");
        let names = top.children().filter(|name| !map.contains(&format!("`{name}`")));
        missing.extend(names.map(|name| format!("{folder}/src: {name}")));
    }
    none("modules that ARCHITECTURE.md does not name in its code map", missing);
    assert!(map.lines().count() <= 200, "ARCHITECTURE.md has {} lines", map.lines().count());
}
