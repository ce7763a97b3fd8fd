//! How long files and functions may be, and what each file begins with. Exceptions are the lists at the top.

use super::{none, sources};

/// Most lines of a file.
const FILE_LINES: usize = 600;
/// Most lines of a function.
const FUNCTION_LINES: usize = 70;
/// Files that may be longer, and why.
const LONG_FILES: &[(&str, usize)] = &[];
/// Functions that may be longer, and why.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

fn allowance(list: &[(&str, usize)], name: &str, usual: usize) -> usize {
    list.iter().find(|(exception, _)| *exception == name).map_or(usual, |(_, lines)| *lines)
}

#[test]
fn every_file_opens_with_what_it_owns() {
    let all = sources(&["crates", "bench", "fuzz"]);
    let bare = all.iter().filter(|source| !source.text.starts_with("//! "));
    none("files without a `//!` header", bare.map(|source| source.path.clone()).collect());
}

#[test]
fn files_stay_within_their_budget() {
    let all = sources(&["crates", "bench", "fuzz"]);
    let lines = all.iter().map(|source| (&source.path, source.text.lines().count()));
    let long = lines.filter(|(path, lines)| *lines > allowance(LONG_FILES, path, FILE_LINES));
    none("files too long", long.map(|(path, lines)| format!("{path}: {lines} lines")).collect());
}

#[test]
fn functions_stay_within_their_budget() {
    let all = sources(&["crates", "bench", "fuzz"]);
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
fn the_long_functions_are_found() {
    let text = "fn a() {\n    b();\n}\n\nimpl T {\n    pub(crate) async fn c<X>(\n        x: X,\n    ) {\n        d\n    }\n}\nfn e() {}\n";
    assert_eq!(functions(text).collect::<Vec<_>>(), [("a", 3), ("c", 5), ("e", 1)]);
}
