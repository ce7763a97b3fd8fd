//! `rewrite`: another path for requests on their way to instances. Knows no request.

use std::fmt::{Debug, Display, Formatter};

use regex_automata::Input;
use regex_automata::nfa::thompson::backtrack::{self, BoundedBacktracker};
use regex_automata::util::primitives::PatternID;

use crate::effort::{Effort, TooLong};
use crate::pattern::Pattern;
use crate::text::{Piece, Placeholder, Text};
use crate::value::{self, Parsed};

const SHAPE: &str = "expected lines PREFIX REPLACEMENT or ~EXPRESSION REPLACEMENT, such as /old/ /new/";
/// How many groups a text can name.
const GROUPS: usize = 9;
/// Memory for one search for groups, bytes; with it the time is bounded: each place of the path is tried once for each
/// state of the automaton.
const LARGEST_SEARCH: usize = 128 * 1024;

/// Lines, of which the first that matches a path counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite(Box<[RewriteLine]>);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewriteLine {
    /// What a path must match.
    pub paths: Paths,
    /// The new path, or the beginning of it.
    pub replacement: Text,
}

/// Paths that a line is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paths {
    /// Those with this prefix, which is replaced; the rest stays.
    Prefix(Box<str>),
    /// Those in which this expression is found; they are replaced as a whole.
    Expression(Box<Groups>),
}

/// An expression that also tells where its groups match. Equal by its text.
#[derive(Clone)]
pub struct Groups {
    pattern: std::sync::Arc<Pattern>,
    search: BoundedBacktracker,
}

/// A path that matches a line.
#[derive(Clone, Copy, Debug)]
pub struct PathMatch<'r, 'p> {
    /// The new path, or the beginning of it.
    pub replacement: &'r Text,
    /// The groups of the expression, from the first.
    pub groups: [&'p str; GROUPS],
    /// What follows.
    pub rest: &'p str,
}

impl Rewrite {
    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines = lines.map(RewriteLine::parse).collect::<Parsed<Vec<_>>>()?;
        if lines.is_empty() { Err(SHAPE.into()) } else { Ok(Self(lines.into())) }
    }

    /// The lines, in order.
    pub fn lines(&self) -> &[RewriteLine] {
        &self.0
    }

    /// The line that a path without a query matches.
    ///
    /// # Errors
    /// The path is longer than the expression may be searched in.
    pub fn find<'p>(&self, path: &'p str) -> Result<Option<PathMatch<'_, 'p>>, TooLong> {
        self.0.iter().find_map(|line| line.try_match(path).transpose()).transpose()
    }
}

impl RewriteLine {
    fn parse(line: &str) -> Parsed<Self> {
        let (what, replacement) = line.split_once(char::is_whitespace).ok_or(SHAPE)?;
        let (paths, groups) = match what.strip_prefix('~') {
            Some(expression) => {
                let (groups, count) = Groups::parse(expression)?;
                (Paths::Expression(Box::new(groups)), count)
            }
            None => match value::prefix(what)? {
                prefix if prefix.contains(['?', '#']) => return Err("expected a prefix without a query".into()),
                prefix => (Paths::Prefix(prefix), 0),
            },
        };
        let replacement = Text::parse(replacement.trim_start(), groups)?;
        check(&replacement)?;
        Ok(Self { paths, replacement })
    }

    fn try_match<'p>(&self, path: &'p str) -> Result<Option<PathMatch<'_, 'p>>, TooLong> {
        let replacement = &self.replacement;
        match &self.paths {
            Paths::Prefix(prefix) => {
                let rest = path.strip_prefix(&**prefix);
                Ok(rest.map(|rest| PathMatch { replacement, groups: [""; GROUPS], rest }))
            }
            Paths::Expression(groups) => {
                Ok(groups.find(path)?.map(|groups| PathMatch { replacement, groups, rest: "" }))
            }
        }
    }
}

/// The result must be a path, whatever a request says.
fn check(replacement: &Text) -> Parsed<()> {
    let is_path = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'\\');
    for piece in replacement.pieces() {
        match piece {
            Piece::Literal(text) if !text.bytes().all(is_path) => {
                return Err("expected a path without white space, ?, # and backslashes; the query is kept".into());
            }
            Piece::Placeholder(Placeholder::Path | Placeholder::Query | Placeholder::Uri | Placeholder::Instance) => {
                return Err(
                    "expected no {path}, {query}, {uri} or {instance}: what a prefix leaves and the query are kept; \
                            an expression has groups"
                        .into(),
                );
            }
            Piece::Literal(_) | Piece::Placeholder(_) => {}
        }
    }
    match replacement.pieces() {
        [Piece::Literal(text), ..] if text.starts_with('/') => Ok(()),
        [Piece::Placeholder(Placeholder::Capture(_)), ..] => Ok(()),
        _ => Err("expected a replacement that starts with / or with a group".into()),
    }
}

impl Groups {
    /// An expression, and how many groups it has that a text can name.
    fn parse(text: &str) -> Parsed<(Self, usize)> {
        let pattern = Pattern::new(text)?;
        let nfa = pattern.with_groups()?;
        let count = nfa.group_info().group_len(PatternID::ZERO).saturating_sub(1);
        let settings = backtrack::Config::new().visited_capacity(LARGEST_SEARCH);
        let search = BoundedBacktracker::builder().configure(settings).build_from_nfa(nfa);
        let search = search.map_err(|error| format!("expected another regular expression: {error}"))?;
        Ok((Self { pattern: pattern.into(), search }, count.min(GROUPS)))
    }

    /// The expression as written.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    fn find<'p>(&self, path: &'p str) -> Result<Option<[&'p str; GROUPS]>, TooLong> {
        if !self.pattern.is_match(path.as_bytes(), &mut Effort::default()) {
            return Ok(None);
        }
        let (mut cache, mut found) = (self.search.create_cache(), self.search.create_captures());
        self.search.try_captures(&mut cache, Input::new(path), &mut found).map_err(|_| TooLong)?;
        let group =
            |number: usize| found.get_group(number).and_then(|at| path.get(at.start..at.end)).unwrap_or_default();
        Ok(found.is_match().then(|| std::array::from_fn(|index| group(index + 1))))
    }
}

impl PartialEq for Groups {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for Groups {}

impl Debug for Groups {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(&self.pattern, f)
    }
}

/// As it was written, in one line.
impl Display for Rewrite {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (number, RewriteLine { paths, replacement }) in self.0.iter().enumerate() {
            f.write_str(if number == 0 { "" } else { ", " })?;
            match paths {
                Paths::Prefix(prefix) => write!(f, "{prefix} {replacement}")?,
                Paths::Expression(groups) => write!(f, "~{} {replacement}", groups.pattern)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text, the groups that count and the rest.
    #[track_caller]
    fn matched(lines: &str, path: &str) -> Option<String> {
        let rewrite = Rewrite::parse(lines).unwrap();
        let found = rewrite.find(path).unwrap()?;
        let groups: Vec<_> = found.groups.into_iter().filter(|group| !group.is_empty()).collect();
        Some(format!("{} {} {}", found.replacement, groups.join(","), found.rest))
    }

    #[test]
    fn the_first_line_that_matches_counts() {
        let lines = "/old/ /new/\n~^/user/([0-9]+)(/.*)?$ /u/{1}{2}\n/ /rest/";
        assert_eq!(matched(lines, "/old/a"), Some("/new/  a".into()));
        assert_eq!(matched(lines, "/user/12/x"), Some("/u/{1}{2} 12,/x ".into()));
        assert_eq!(matched(lines, "/USER/12"), Some("/u/{1}{2} 12 ".into()), "case is ignored as in url_reg");
        assert_eq!(matched(lines, "/user/x"), Some("/rest/  user/x".into()));
        assert_eq!(matched("/a /b", "/x"), None);
    }

    #[test]
    fn what_becomes_no_path_is_refused() {
        for (bad, expected) in [
            ("", "expected lines"),
            ("/old", "expected lines"),
            ("old /new", "expected a prefix that starts with /"),
            ("/a?b /new", "expected a prefix without a query"),
            ("/old new", "starts with /"),
            ("/old {host}", "starts with /"),
            ("/old /a?b", "without white space, ?"),
            ("/old /a b", "without white space, ?"),
            ("/old /x{query}", "expected no {path}"),
            ("~( /x", "unclosed group"),
            ("~a[ab]{300}[^ab] /x", "never holds a request up"),
            ("~^/(a) /{2}", "the expression has 1 groups"),
            ("/old /{1}", "the expression has 0 groups"),
            ("/old /x{nobody}", "unknown placeholder"),
        ] {
            let error = Rewrite::parse(bad).expect_err(bad);
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }

    #[test]
    fn long_paths_have_a_bound() {
        let rewrite = Rewrite::parse("~^/([a-z]{1,32}/){1,4}x /y").unwrap();
        assert!(rewrite.find("/ab/x").unwrap().is_some());
        assert!(rewrite.find(&format!("/ab/x{}", "y".repeat(30_000))).is_err());
        assert!(rewrite.find(&"/".repeat(30_000)).unwrap().is_none(), "what does not match costs little");
    }
}
