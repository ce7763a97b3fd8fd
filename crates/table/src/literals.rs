//! Finds literals that every match of an expression must contain, to rule most expressions out with one scan.

use regex_syntax::hir::{Class, Hir, HirKind};

/// Literals in lower case, of which a match contains at least one.
pub(crate) type Need = Box<[Box<[u8]>]>;

/// Shorter ones rule out too little: every target has a `/`.
const SHORTEST: usize = 2;
/// Longer ones rule out no more, and cost memory.
const LONGEST: usize = 32;
/// Most branches of an alternation that are followed.
const MOST_BRANCHES: usize = 8;

/// Everything that a match must contain. Any one of the needs will do as a filter.
pub(crate) fn needs(hir: &Hir) -> Box<[Need]> {
    let mut runs = Runs::default();
    runs.walk(hir);
    runs.end();
    runs.needs.into()
}

/// A walk over an expression from left to right.
#[derive(Default)]
struct Runs {
    needs: Vec<Need>,
    /// The literal that the walk is in.
    run: Vec<u8>,
}

impl Runs {
    // As deep as the parser let the expression nest.
    fn walk(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => self.run.extend(literal.0.to_ascii_lowercase()),
            HirKind::Class(class) => match letter(class) {
                Some(letter) => self.run.push(letter),
                None => self.end(),
            },
            HirKind::Capture(capture) => self.walk(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.walk(part)),
            HirKind::Repetition(repetition) => {
                self.end();
                if repetition.min > 0 {
                    self.walk(&repetition.sub);
                    self.end();
                }
            }
            HirKind::Alternation(branches) => {
                self.end();
                self.needs.extend(either(branches));
            }
        }
    }

    fn end(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run.len() >= SHORTEST {
            self.needs.push([run[..run.len().min(LONGEST)].into()].into());
        }
    }
}

/// What at least one branch must contain, if every branch needs something.
fn either(branches: &[Hir]) -> Option<Need> {
    if branches.len() > MOST_BRANCHES {
        return None;
    }
    let best = |branch| needs(branch).into_iter().max_by_key(shortest_literal);
    let all: Option<Vec<Need>> = branches.iter().map(best).collect();
    let all: Vec<_> = all?.into_iter().flatten().collect();
    (all.len() <= MOST_BRANCHES).then(|| all.into())
}

fn shortest_literal(need: &Need) -> usize {
    need.iter().map(|literal| literal.len()).min().unwrap_or(0)
}

/// The letter that a class of its two cases stands for: how `k` parses when ASCII case is ignored.
fn letter(class: &Class) -> Option<u8> {
    let Class::Bytes(class) = class else {
        return None;
    };
    match class.ranges() {
        [upper, lower] if upper.len() == 1 && lower.len() == 1 => {
            let (upper, lower) = (upper.start(), lower.start());
            (upper.is_ascii_uppercase() && upper.to_ascii_lowercase() == lower).then_some(lower)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;

    fn check(text: &str, expected: &str) {
        let pattern = Pattern::new(text).unwrap();
        let text_of = |need: &Need| {
            let literals: Vec<_> = need.iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
            literals.join("|")
        };
        let found: Vec<_> = pattern.needs().iter().map(text_of).collect();
        assert_eq!(found.join(" "), expected, "{text}");
    }

    #[test]
    fn literals_that_a_match_must_contain() {
        check("^/App1/", "/app1/");
        check("/shop[0-9]+/cart", "/shop /cart");
        check("/sh(op)s?/x", "/shop /x");
        check("(/abc)+d*/ef", "/abc /ef");
        check("(/foo|/bar(baz)?|/qux)/x", "foo|bar|qux /x");
        check("(/foo|.*)", "");
        check("(/foo[0-9]|bar/|.+-x)/", "/foo|bar/|-x");
        check("(?:ab)?c", "");
        check("^/[a-z]+$", "");
        check("a|b", "");
        check("(?u)kk", "");
        check("(?-i)KK", "kk");
        check("ü", "ü");
    }
}
