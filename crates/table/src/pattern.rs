//! One `url_reg` expression, compiled within limits. Knows nothing of services; matching takes no lock.

use std::fmt::{Debug, Display, Formatter};
use std::hash::{Hash, Hasher};

use regex_automata::Input;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_syntax::hir::Hir;

use crate::effort::Effort;
use crate::literals::{self, Need};
use crate::value::Parsed;

/// How much of a response's body is searched for an expression, bytes.
pub const CHECKED_BODY: usize = 16 * 1024;
/// Longest expression, in bytes.
const LONGEST: usize = 4096;
/// Deepest nesting of groups: the parser and the compiler recurse.
const DEEPEST: u32 = 64;
/// Largest automaton before its states are built, in bytes. Bounds the time to compile.
const LARGEST: usize = 32 * 1024;
/// Largest automaton, in bytes, and what building it may take. Bounds memory, the time to compile, and the time per
/// byte of a request: it fits into a core's second cache. Usual expressions need 1 to 24 KiB.
const LARGEST_DENSE: usize = 64 * 1024;
/// What a cache reads at once, in bytes.
const LINE: usize = 64;

/// A regular expression searched for in path and query, in bytes, ASCII case ignored.
///
/// Equal and hashed by its text.
pub struct Pattern {
    text: Box<str>,
    /// All states built, so that every byte of a target costs the same, whatever the expression.
    dfa: Box<dense::DFA<Vec<u32>>>,
    /// Its memory, in what a cache reads at once.
    lines: usize,
    needs: Box<[Need]>,
}

impl Pattern {
    /// Compiles an expression; the error quotes the parser.
    pub(crate) fn new(text: &str) -> Parsed<Self> {
        if text.len() > LONGEST {
            return Err(format!("expected a regular expression of at most {LONGEST} bytes"));
        }
        let hir = parse(text)?;
        let dfa = Box::new(compile(&hir)?);
        let lines = dfa.memory_usage() / LINE;
        Ok(Self { text: text.into(), dfa, lines, needs: literals::needs(&hir) })
    }

    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The expression as parsed, for engines that must write it in another dialect. Parses it again.
    pub fn hir(&self) -> Hir {
        parse(&self.text).expect("it was parsed when it was made")
    }

    /// The automaton that also tells where its groups match.
    pub(crate) fn with_groups(&self) -> Parsed<NFA> {
        let settings = thompson::Config::new().utf8(false).nfa_size_limit(Some(LARGEST));
        let nfa = thompson::Compiler::new().configure(settings).build_from_hir(&self.hir());
        nfa.map_err(|error| format!("expected a smaller regular expression: {error}"))
    }

    /// Whether it matches anywhere in path and query, within the effort that is left.
    pub(crate) fn is_match(&self, target: &[u8], effort: &mut Effort) -> bool {
        let Ok(mut state) = self.dfa.start_state_forward(&Input::new(target)) else { return false };
        let within = effort.reach(target.len(), self.lines);
        for (seen, &byte) in (1..).zip(&target[..within]) {
            state = self.dfa.next_state(state, byte);
            if self.dfa.is_special_state(state) && !self.dfa.is_accel_state(state) {
                effort.pay((seen, seen), self.lines);
                return self.dfa.is_match_state(state);
            }
        }
        effort.pay((within, target.len()), self.lines);
        within == target.len() && self.dfa.is_match_state(self.dfa.next_eoi_state(state))
    }

    /// Whether it matches anywhere in these bytes, of which at most [`CHECKED_BODY`] are read.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let read = bytes.len().min(CHECKED_BODY);
        self.is_match(&bytes[..read], &mut Effort::default())
    }

    /// What every match contains: one literal of each need.
    pub(crate) fn needs(&self) -> &[Need] {
        &self.needs
    }
}

fn parse(text: &str) -> Parsed<Hir> {
    let mut parser = regex_syntax::ParserBuilder::new();
    parser.nest_limit(DEEPEST).utf8(false).unicode(false).case_insensitive(true);
    parser.build().parse(text).map_err(|error| format!("expected a regular expression: {}", reason(error)))
}

/// The parser's reason without its drawing, which takes several lines.
fn reason(error: regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        other => other.to_string().lines().last().unwrap_or_default().to_owned(),
    }
}

/// Accepts only expressions whose automaton can be built ahead. Otherwise each byte of a request costs as much
/// as the expression is long, or builds a state: `a[ab]{300}[^ab]` took 0.1 s for a target of 32 KiB.
fn compile(hir: &Hir) -> Parsed<dense::DFA<Vec<u32>>> {
    let settings =
        thompson::Config::new().utf8(false).nfa_size_limit(Some(LARGEST)).which_captures(WhichCaptures::None);
    let nfa = thompson::Compiler::new().configure(settings).build_from_hir(hir);
    let nfa = nfa.map_err(|error| format!("expected a smaller regular expression: {error}"))?;
    let settings = dense::Config::new()
        .start_kind(StartKind::Unanchored)
        .accelerate(false)
        .dfa_size_limit(Some(LARGEST_DENSE))
        .determinize_size_limit(Some(LARGEST_DENSE));
    dense::Builder::new().configure(settings).build_from_nfa(&nfa).map_err(|error| {
        format!(
            "expected a smaller regular expression, one that never holds a request up: {error}; begin it with ^ or shorten \
             what is repeated"
        )
    })
}

impl Display for Pattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Debug for Pattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(&self.text, f)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, target: &str, expected: bool) {
        let pattern = Pattern::new(text).unwrap();
        assert_eq!(pattern.is_match(target.as_bytes(), &mut Effort::default()), expected, "{text} in {target}");
    }

    #[test]
    fn searches_bytes_and_ignores_ascii_case() {
        check("^/app1/", "/APP1/x", true);
        check("^/app1/", "/x/app1/", false);
        check("/shop[0-9]+/cart", "/x/shop12/cart?q", true);
        check("id=7$", "/a?id=7", true);
        check("", "/", true);
        check("^/[a-z0-9_-]{1,64}/[a-z0-9_.-]{1,128}$", "/Team-1/file.tar.gz", true);
        check("^/([0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12})/?$", "/123E4567-e89b-12d3-a456-426614174000/", true);
        check("ü", "/ü", true);
        check("ü", "/Ü", false);
        check("(?u)[ü]", "/Ü", true);
        check("^/a.{20}b", &format!("/a{}b", "x".repeat(20)), true);
        check("^/a.{20}b", &format!("/a{}b", "x".repeat(19)), false);
    }

    #[test]
    fn hostile_ones_are_refused_in_words() {
        let refused = |text: &str, expected: &str| {
            let error = Pattern::new(text).err().unwrap_or_default();
            assert!(error.contains(expected) && !error.contains('\n'), "{text:.20}: {error} is not {expected}");
        };
        refused("(", "unclosed group");
        refused("[z-a]", "invalid character class range");
        refused("*", "repetition operator missing expression");
        refused(r"\p{Greek}", "Unicode not allowed here");
        refused("((a{1000}){1000}){1000}", "expected a smaller regular expression");
        refused("a[ab]{300}[^ab]", "never holds a request up");
        refused("a.{20}b", "begin it with ^ or shorten");
        refused(r"(?u)\bx", "Unicode word boundaries");
        refused(r"(?u)\w{1000}", "expected a smaller regular expression");
        refused(&"(".repeat(4000), "expected a regular expression: ");
        refused(&format!("{}{}", "(".repeat(100), ")".repeat(100)), "nest");
        refused(&"a".repeat(4097), "at most 4096 bytes");
        assert!(Pattern::new("(?:){4294967295}").is_ok());
    }
}
