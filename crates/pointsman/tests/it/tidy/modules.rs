//! The modules of one crate, and in which file a path ends, through every re-export on the way. Reads `use`, `mod` and
//! definitions as text: macros and what methods return are beyond it.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{Token, tokens};

/// More re-exports than this on the way to a name are a circle of them.
const HOPS: usize = 16;
/// What defines a name.
const DEFINING: &[&str] = &["struct", "enum", "union", "trait", "type", "fn", "const", "static", "macro_rules"];

/// A crate's modules; the first is its root.
pub(super) struct Modules<'t> {
    all: Vec<Module<'t>>,
}

/// One file.
pub(super) struct Module<'t> {
    /// Its path, as the sources were named.
    pub(super) file: &'t str,
    /// Its tokens without tests.
    pub(super) tokens: Vec<Token<'t>>,
    parent: usize,
    children: BTreeMap<&'t str, usize>,
    defined: BTreeSet<&'t str>,
    imports: Vec<Import<'t>>,
}

/// One name that a `use` brings in.
struct Import<'t> {
    /// What it is called here; `*` for everything.
    name: &'t str,
    path: Vec<&'t str>,
}

/// Where a path ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Module(usize),
    /// Something that this module defines.
    Item(usize),
}

/// A use of a name by another file.
pub(super) struct Tie<'t> {
    pub(super) user: &'t str,
    pub(super) used: &'t str,
    pub(super) name: &'t str,
}

impl<'t> Module<'t> {
    /// The names of the modules that it declares, tests left out.
    pub(super) fn children(&self) -> impl Iterator<Item = &'t str> {
        self.children.keys().copied()
    }
}

impl<'t> Modules<'t> {
    /// The modules that belong to this root file, of all these files (path and text).
    pub(super) fn new(root: &'t str, files: &'t BTreeMap<String, String>) -> Self {
        let mut modules = Self { all: Vec::new() };
        modules.add(root, 0, files);
        modules
    }

    /// Every module, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Module<'t>> {
        self.all.iter()
    }

    fn add(&mut self, file: &str, parent: usize, files: &'t BTreeMap<String, String>) -> usize {
        let (file, text) = files.get_key_value(file).unwrap_or_else(|| panic!("{file} is declared and not there"));
        let (id, tokens) = (self.all.len(), tokens(text));
        let (imports, defined) = (imports(&tokens), defined(&tokens));
        self.all.push(Module { file, parent, imports, defined, tokens: Vec::new(), children: BTreeMap::new() });
        for (name, place) in declared(&tokens) {
            let child = self.add(&child_file(file, name, place, files), id, files);
            self.all[id].children.insert(name, child);
        }
        self.all[id].tokens = tokens;
        id
    }

    /// Every use of what another file of the crate defines.
    pub(super) fn ties(&self) -> Vec<Tie<'t>> {
        let mut ties = Vec::new();
        for (id, module) in self.all.iter().enumerate() {
            let mut note = |ends: Vec<End>, name| {
                let items =
                    ends.into_iter().filter_map(|end| if let End::Item(used) = end { Some(used) } else { None });
                ties.extend(items.map(|used| Tie { user: module.file, used: self.all[used].file, name }));
            };
            for import in &module.imports {
                if import.name == "*" {
                    for name in self.globbed(id, import) {
                        note(self.global(id, import, name, HOPS), name);
                    }
                } else {
                    note(self.resolve(id, &import.path, HOPS), import.path.last().copied().unwrap_or_default());
                }
            }
            for path in paths(&module.tokens) {
                note(self.resolve(id, &path, HOPS), path.last().copied().unwrap_or_default());
            }
        }
        ties
    }

    /// The words of this file that a glob import could mean.
    fn globbed(&self, id: usize, import: &Import<'t>) -> Vec<&'t str> {
        let words = self.all[id].tokens.iter().filter_map(|token| match token {
            Token::Word(word) => Some(*word),
            _ => None,
        });
        let words: BTreeSet<_> = words.filter(|word| !self.global(id, import, word, HOPS).is_empty()).collect();
        words.into_iter().collect()
    }

    fn global(&self, id: usize, import: &Import<'t>, name: &str, hops: usize) -> Vec<End> {
        let Some(hops) = hops.checked_sub(1) else { return Vec::new() };
        let ends = self.resolve(id, &import.path, hops).into_iter();
        ends.flat_map(|end| if let End::Module(used) = end { self.named(used, name, hops) } else { Vec::new() })
            .collect()
    }

    /// Where a path ends that is written in this module; nothing if it leads out of the crate.
    fn resolve(&self, id: usize, path: &[&str], hops: usize) -> Vec<End> {
        let Some((first, rest)) = path.split_first() else { return vec![End::Module(id)] };
        let start = match *first {
            "crate" => vec![End::Module(0)],
            "self" => vec![End::Module(id)],
            "super" => vec![End::Module(self.all[id].parent)],
            name => self.named(id, name, hops),
        };
        start.into_iter().flat_map(|end| self.onward(end, rest, hops)).collect()
    }

    fn onward(&self, end: End, rest: &[&str], hops: usize) -> Vec<End> {
        match (end, rest.split_first()) {
            (End::Item(_), _) | (End::Module(_), None) => vec![end],
            (End::Module(id), Some((&"super", rest))) => self.onward(End::Module(self.all[id].parent), rest, hops),
            (End::Module(id), Some((name, rest))) => {
                let mut found = self.named(id, name, hops);
                // A name that is nowhere to be seen comes from a macro of that file.
                if found.is_empty() && !self.all[id].imports.iter().any(|import| import.name == *name) {
                    found.push(End::Item(id));
                }
                found.into_iter().flat_map(|end| self.onward(end, rest, hops)).collect()
            }
        }
    }

    /// What a name means within a module: a child, a definition, an import, in both of Rust's name spaces.
    fn named(&self, id: usize, name: &str, hops: usize) -> Vec<End> {
        let Some(hops) = hops.checked_sub(1) else { return Vec::new() };
        let module = &self.all[id];
        let mut ends: Vec<_> = module.children.get(name).map(|child| End::Module(*child)).into_iter().collect();
        if module.defined.contains(name) {
            ends.push(End::Item(id));
        }
        for import in module.imports.iter().filter(|import| import.name == name) {
            ends.extend(self.resolve(id, &import.path, hops));
        }
        if ends.is_empty() {
            let globs = module.imports.iter().filter(|import| import.name == "*");
            ends.extend(globs.flat_map(|import| self.global(id, import, name, hops)));
        }
        ends
    }
}

/// The file of a module that `file` declares.
fn child_file(file: &str, name: &str, place: Option<&str>, files: &BTreeMap<String, String>) -> String {
    let (folder, own) = file.rfind('/').map_or(("", file), |at| file.split_at(at + 1));
    if let Some(place) = place {
        return format!("{folder}{place}");
    }
    let folder = match own {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        own => format!("{folder}{}/", own.trim_end_matches(".rs")),
    };
    let flat = format!("{folder}{name}.rs");
    if files.contains_key(&flat) { flat } else { format!("{folder}{name}/mod.rs") }
}

/// `mod name;` with the `#[path]` in front of it, if there is one.
fn declared<'t>(tokens: &[Token<'t>]) -> Vec<(&'t str, Option<&'t str>)> {
    let (mut found, mut place) = (Vec::new(), None);
    for (at, window) in tokens.windows(3).enumerate() {
        match window {
            [Token::Word("path"), Token::Mark('='), Token::Text(text)] => place = Some(*text),
            [Token::Word("mod"), Token::Word(name), Token::Mark(';')] => found.push((*name, place.take())),
            [Token::Word("mod"), Token::Word(name), Token::Mark('{')]
                if at == 0 || tokens[at - 1] != Token::Mark('.') =>
            {
                panic!("mod {name} {{ … }} outside tests: a module has a file of its own")
            }
            _ => {}
        }
    }
    found
}

/// The names that a file defines outside every brace.
fn defined<'t>(tokens: &[Token<'t>]) -> BTreeSet<&'t str> {
    let (mut depth, mut found) = (0_i32, BTreeSet::new());
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('{' | '(' | '[') => depth += 1,
            Token::Mark('}' | ')' | ']') => depth -= 1,
            Token::Word(word) if depth == 0 && DEFINING.contains(word) => {
                let name = tokens[at + 1..].iter().find_map(|token| match token {
                    Token::Word(word) if !DEFINING.contains(word) && !matches!(*word, "mut" | "unsafe") => Some(*word),
                    _ => None,
                });
                found.extend(name);
            }
            _ => {}
        }
    }
    found
}

/// Everything that the `use`s of a file bring in.
fn imports<'t>(tokens: &[Token<'t>]) -> Vec<Import<'t>> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if tokens[at] == Token::Word("use") && !is_bound(tokens, at) {
            let end =
                tokens[at..].iter().position(|token| *token == Token::Mark(';')).map_or(tokens.len(), |end| at + end);
            tree(&tokens[at + 1..end], &[], &mut found);
        }
    }
    found
}

/// `impl Trait + use<'a>` is no import.
fn is_bound(tokens: &[Token], at: usize) -> bool {
    tokens.get(at + 1) == Some(&Token::Mark('<'))
}

/// One branch of a `use`, below what stands in front of it. A path from outside, `::http`, stays outside.
fn tree<'t>(tokens: &[Token<'t>], lead: &[&'t str], found: &mut Vec<Import<'t>>) {
    let (mut path, mut name) = (lead.to_vec(), None);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('{') => {
                let inner = &tokens[at + 1..tokens.len() - 1];
                return branches(inner).into_iter().for_each(|branch| tree(branch, &path, found));
            }
            Token::Mark(':') if at == 0 => return,
            Token::Mark('*') => name = Some("*"),
            Token::Word("as") => {
                name = tokens.get(at + 1).map(|token| if let Token::Word(word) = token { *word } else { "_" });
                break;
            }
            Token::Word("self") if !path.is_empty() => {}
            Token::Word(word) => path.push(word),
            _ => {}
        }
    }
    if let Some(name) = name.or(path.last().copied()) {
        found.push(Import { name, path });
    }
}

/// What stands between the commas of a group, groups within left whole.
fn branches<'a, 't>(tokens: &'a [Token<'t>]) -> Vec<&'a [Token<'t>]> {
    let mut depth = 0_i32;
    let between = tokens.split(|token| {
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth -= 1,
            _ => {}
        }
        depth == 0 && *token == Token::Mark(',')
    });
    between.filter(|branch| !branch.is_empty()).collect()
}

/// Every path of more than one word outside the `use`s.
fn paths<'t>(tokens: &[Token<'t>]) -> Vec<Vec<&'t str>> {
    let (mut found, mut at) = (Vec::new(), 0);
    let colons = |at: usize| tokens.get(at..at + 2) == Some(&[Token::Mark(':'), Token::Mark(':')]);
    while at < tokens.len() {
        let Token::Word(first) = tokens[at] else {
            // Behind colons without a word in front stands a path from outside, or the rest of a generic's.
            at += if colons(at) { 3 } else { 1 };
            continue;
        };
        if first == "use" && !is_bound(tokens, at) {
            at += tokens[at..].iter().position(|token| *token == Token::Mark(';')).unwrap_or(1);
            continue;
        }
        let mut path = vec![first];
        at += 1;
        while let (true, Some(Token::Word(word))) = (colons(at), tokens.get(at + 2)) {
            path.push(word);
            at += 3;
        }
        if path.len() > 1 {
            found.push(path);
        }
    }
    found
}
