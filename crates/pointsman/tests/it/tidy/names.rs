//! A type name means one thing in a crate.

use std::collections::BTreeMap;

use super::code::Token;
use super::modules::Modules;
use super::{CRATES, none, texts};

/// What makes a type.
const KINDS: &[&str] = &["struct", "enum", "union", "type", "trait"];
/// Names that still mean two things, by crate.
const KNOWN_TWICE: &[(&str, &[&str])] = &[];

#[test]
fn a_type_name_means_one_thing_in_a_crate() {
    let mut complaints = Vec::new();
    for (folder, root) in CRATES {
        let files = texts(folder);
        let modules = Modules::new(root, &files);
        let mut homes = BTreeMap::<_, Vec<_>>::new();
        for module in modules.iter() {
            for name in types(&module.tokens) {
                homes.entry(name).or_default().push(module.file);
            }
        }
        let twice: BTreeMap<_, _> = homes.into_iter().filter(|(_, files)| files.len() > 1).collect();
        let known: Vec<_> = KNOWN_TWICE.iter().filter(|(of, _)| of == folder).flat_map(|(_, names)| *names).collect();
        let news = twice.iter().filter(|(name, _)| !known.contains(name));
        complaints.extend(news.map(|(name, files)| format!("{folder}: {name} in {}", files.join(", "))));
        let gone = known.iter().filter(|name| !twice.contains_key(**name));
        complaints.extend(gone.map(|name| format!("{folder}: {name} means one thing now; strike it from KNOWN_TWICE")));
    }
    none("type names that mean two things", complaints);
}

/// The types that a file defines, wherever in it, those that belong to a trait left out.
fn types<'t>(tokens: &[Token<'t>]) -> Vec<&'t str> {
    let mut depth = 0_i32;
    let defined = tokens.windows(2).filter_map(|window| {
        match window[0] {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth -= 1,
            _ => {}
        }
        match window {
            [Token::Word(kind), Token::Word(name)] if KINDS.contains(kind) && (depth == 0 || *kind != "type") => {
                Some(*name)
            }
            _ => None,
        }
    });
    defined.collect()
}

#[test]
fn types_are_found() {
    let text = "pub struct A<T>(T); enum B { C } type D = u8; trait E { type F; } impl E for B { type F = u8; } fn f() { struct G; }";
    assert_eq!(types(&super::code::tokens(text)), ["A", "B", "D", "E", "G"]);
}
