//! Bounds the time of PCRE for an expression. PCRE backtracks, so the ways to match are counted: `^/(a+)+$` has 2^n of
//! them for a target of n bytes. Upper bounds; runs nothing.

use regex_syntax::hir::{Hir, HirKind, Repetition};

use super::segments::{Segment, is_any, is_end, ranges};

/// Longest target, in bytes.
const LONGEST: f64 = 32_768.0;
/// Steps that an expression may take for each byte of the target. One takes about a nanosecond.
const STEPS: f64 = 128.0;

/// Whether PCRE needs time in proportion to the target, whatever that is.
pub(super) fn is_proportional(segments: &[Segment]) -> bool {
    let (mut ways, mut steps) = (1.0, 0.0);
    for (at, segment) in segments.iter().enumerate() {
        let is_last = at + 1 == segments.len();
        let cost = of_segment(segment, is_last);
        steps += ways * cost.steps;
        ways *= if segment.is_fixed { 1.0 } else { cost.ways };
    }
    steps <= STEPS * LONGEST
}

/// The cost of matching a part.
#[derive(Clone, Copy)]
struct Cost {
    /// The ways to match it from one place.
    ways: f64,
    /// Steps for all of them.
    steps: f64,
}

/// What may follow a part.
#[derive(Clone, Copy)]
struct Next {
    /// The bytes that may be next.
    bytes: Bytes,
    /// Nothing but the end of the target or of the expression follows.
    is_end: bool,
}

/// A set of ASCII characters.
type Bytes = u128;

fn of_segment(segment: &Segment, is_last: bool) -> Cost {
    let next = Next { bytes: if is_last { 0 } else { Bytes::MAX }, is_end: is_last };
    let within = |longest| Counter { longest }.sequence(&segment.parts, next);
    let once = within(LONGEST);
    match segment.is_searched {
        false => once,
        // Each byte is within few searches only.
        true if is_apart(&segment.parts) => {
            let searches: f64 = segment.parts.iter().map(leaves).sum();
            Cost { ways: LONGEST * once.ways, steps: searches * once.steps + LONGEST * within(1.0).steps }
        }
        true => Cost { ways: LONGEST * once.ways, steps: LONGEST * (1.0 + once.steps) },
    }
}

/// Whether no match can begin inside a repetition of another match.
fn is_apart(parts: &[Hir]) -> bool {
    let first = match parts[0].kind() {
        HirKind::Literal(literal) => byte_set(literal.0[0], literal.0[0]),
        HirKind::Class(_) => all(&parts[0]),
        _ => return false,
    };
    parts.iter().all(|part| first & repeated(part) == 0)
}

/// All bytes that the repetitions in a part may take.
fn repeated(hir: &Hir) -> Bytes {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Literal(_) | HirKind::Class(_) => 0,
        HirKind::Capture(capture) => repeated(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => union(parts.iter().map(repeated)),
        HirKind::Repetition(repetition) if repetition.max == Some(1) => repeated(&repetition.sub),
        HirKind::Repetition(repetition) => all(&repetition.sub),
    }
}

/// Counts for targets of so many bytes.
struct Counter {
    longest: f64,
}

// Recursion is bounded: the parser limits nesting.
impl Counter {
    fn of(&self, hir: &Hir, next: Next) -> Cost {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => Cost { ways: 1.0, steps: 1.0 },
            HirKind::Literal(literal) => Cost { ways: 1.0, steps: literal.0.len() as f64 },
            HirKind::Capture(capture) => self.of(&capture.sub, next),
            HirKind::Concat(parts) => self.sequence(parts, next),
            HirKind::Alternation(branches) => self.alternation(branches, next),
            HirKind::Repetition(repetition) => self.repetition(repetition, next),
        }
    }

    fn sequence(&self, parts: &[Hir], mut next: Next) -> Cost {
        // From the end: what follows all must be known first.
        let mut costs = Vec::with_capacity(parts.len());
        for part in parts.iter().rev() {
            costs.push(self.of(part, next));
            next = before(part, next);
        }
        let nothing = Cost { ways: 1.0, steps: 0.0 };
        costs
            .iter()
            .rev()
            .fold(nothing, |sum, cost| Cost { ways: sum.ways * cost.ways, steps: sum.steps + sum.ways * cost.steps })
    }

    /// The next byte decides between branches that begin differently.
    fn alternation(&self, branches: &[Hir], next: Next) -> Cost {
        let (mut seen, mut overlap) = (0, false);
        let mut sum = Cost { ways: 0.0, steps: 0.0 };
        let mut most = 1.0_f64;
        for branch in branches {
            let first = before(branch, next).bytes;
            overlap |= first & seen != 0;
            seen |= first;
            let cost = self.of(branch, next);
            sum = Cost { ways: sum.ways + cost.ways, steps: sum.steps + cost.steps };
            most = most.max(cost.ways);
        }
        Cost { ways: if overlap { sum.ways } else { most }, ..sum }
    }

    fn repetition(&self, repetition: &Repetition, next: Next) -> Cost {
        let Repetition { min, max, sub, .. } = repetition;
        if max.is_none() && is_any(sub) && next.is_end {
            // It always gets there: a match, after which nothing else is tried.
            return Cost { ways: 1.0, steps: 1.0 };
        }
        let (first, is_nullable) = first(sub);
        let most = max.map_or(self.longest, f64::from).min(self.longest);
        let may_leave = is_nullable || first & next.bytes != 0;
        if most <= 1.0 {
            let once = self.of(sub, next);
            let ways = if may_leave { once.ways + 1.0 } else { once.ways };
            return Cost { ways, steps: once.steps + 1.0 };
        }
        let once = self.of(sub, Next { bytes: next.bytes | first, is_end: false });
        if once.ways > 1.0 || is_nullable {
            let ways = once.ways.max(2.0).powf(most);
            return Cost { ways, steps: ways * once.steps };
        }
        let ways = if may_leave { (most - f64::from(*min) + 1.0).max(1.0) } else { 1.0 };
        // There is one way only, so no byte is looked at by more than all parts.
        Cost { ways, steps: (most * once.steps).min(self.longest * leaves(sub)) }
    }
}

/// What may come at this part, if `next` may follow it.
fn before(part: &Hir, next: Next) -> Next {
    let (first, is_nullable) = first(part);
    let bytes = if is_nullable { first | next.bytes } else { first };
    Next { bytes, is_end: next.is_end && is_end(part) }
}

/// The bytes that a part may begin with, and whether it matches nothing at all, too.
fn first(hir: &Hir) -> (Bytes, bool) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => (0, true),
        HirKind::Literal(literal) => (byte_set(literal.0[0], literal.0[0]), false),
        HirKind::Class(_) => (all(hir), false),
        HirKind::Capture(capture) => first(&capture.sub),
        HirKind::Concat(parts) => parts.iter().fold((0, true), |(bytes, is_open), part| {
            let (more, is_nullable) = first(part);
            if is_open { (bytes | more, is_nullable) } else { (bytes, false) }
        }),
        HirKind::Alternation(branches) => {
            branches.iter().map(first).fold((0, false), |all, branch| (all.0 | branch.0, all.1 | branch.1))
        }
        HirKind::Repetition(repetition) => {
            let (bytes, is_nullable) = first(&repetition.sub);
            (bytes, is_nullable || repetition.min == 0)
        }
    }
}

/// All bytes that a part may take.
fn all(hir: &Hir) -> Bytes {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => union(literal.0.iter().map(|&byte| byte_set(byte, byte))),
        HirKind::Class(class) => union(ranges(class).into_iter().map(|(start, end)| byte_set(start, end))),
        HirKind::Capture(capture) => all(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => union(parts.iter().map(all)),
        HirKind::Repetition(repetition) => all(&repetition.sub),
    }
}

/// How many of its parts take bytes.
fn leaves(hir: &Hir) -> f64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(_) => 1.0,
        HirKind::Literal(literal) => literal.0.len() as f64,
        HirKind::Capture(capture) => leaves(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(leaves).sum(),
        HirKind::Repetition(repetition) => 1.0 + leaves(&repetition.sub),
    }
}

/// The ASCII characters of a range.
fn byte_set(start: u8, end: u8) -> Bytes {
    (start..=end.min(127)).fold(0, |all, byte| all | 1 << byte)
}

fn union(sets: impl Iterator<Item = Bytes>) -> Bytes {
    sets.fold(0, |all, set| all | set)
}
