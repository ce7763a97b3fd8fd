//! Cuts an expression at the places where any text may be, and leaves out repetitions that decide nothing there. Writes
//! and matches nothing.
//!
//! An expression is only asked whether it matches, so `x*` beside a place where any text may be matches what nothing
//! does, and `x{2,9}` what `x{2}` does.

use regex_syntax::hir::{Class, Hir, HirKind, Look, LookSet, Repetition};

/// The bytes that a target holds, as far as [`ranges`] of a class that takes any of them must reach.
const ANY: (u8, u8) = (b'!', b'~');

/// The part of an expression between two places where any text may be.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) parts: Vec<Hir>,
    /// Any text may come before it; otherwise it is at a target's start.
    pub(super) is_searched: bool,
    /// Every match is as long as every other, so that the first one found leaves most of the target to what follows.
    pub(super) is_fixed: bool,
}

/// The segments of an expression, in order. None: it matches every target.
pub(super) fn split(hir: &Hir) -> Vec<Segment> {
    let mut parts = Vec::new();
    flatten(hir, &mut parts);
    let is_searched = !starts(hir);
    if parts.first().is_some_and(|first| matches!(first.kind(), HirKind::Look(Look::Start))) {
        parts.remove(0);
    }
    let mut cut = Cut { segments: Vec::new(), open: Vec::new(), is_searched };
    parts.into_iter().for_each(|part| cut.add(part));
    cut.close();
    cut.segments
}

/// Whether the expression matches at a target's start only. Line starts count: a target has no line ends.
fn starts(hir: &Hir) -> bool {
    let first: LookSet = hir.properties().look_set_prefix();
    [Look::Start, Look::StartLF, Look::StartCRLF].into_iter().any(|look| first.contains(look))
}

// As deep as the parser let the expression nest.
fn flatten(hir: &Hir, parts: &mut Vec<Hir>) {
    match hir.kind() {
        HirKind::Concat(inner) => inner.iter().for_each(|part| flatten(part, parts)),
        HirKind::Capture(capture) => flatten(&capture.sub, parts),
        _ => parts.push(hir.clone()),
    }
}

/// An expression while it is cut.
struct Cut {
    segments: Vec<Segment>,
    open: Vec<Hir>,
    is_searched: bool,
}

impl Cut {
    fn add(&mut self, part: Hir) {
        match part.kind() {
            HirKind::Repetition(repetition) if is_any_text(repetition) => {
                self.open.push(least(repetition));
                self.open.retain(|part| !matches!(part.kind(), HirKind::Empty));
                self.close();
                self.is_searched = true;
            }
            _ => self.open.push(part),
        }
    }

    /// Ends the segment: any text may follow, for a match is not asked where it ends.
    fn close(&mut self) {
        let mut parts = std::mem::take(&mut self.open);
        // The text before a target's end is any.
        if self.is_searched && parts.iter().all(is_end) {
            return;
        }
        trim_end(&mut parts);
        if self.is_searched {
            parts.reverse();
            trim_end(&mut parts);
            parts.reverse();
        }
        if parts.is_empty() {
            return;
        }
        let is_fixed = parts.iter().all(|part| {
            let properties = part.properties();
            properties.minimum_len() == properties.maximum_len()
        });
        self.segments.push(Segment { parts, is_searched: self.is_searched, is_fixed });
    }
}

/// Shortens repetitions at the end to the least that they take.
fn trim_end(parts: &mut Vec<Hir>) {
    while let Some(HirKind::Repetition(repetition)) = parts.last().map(Hir::kind) {
        let least = least(repetition);
        parts.pop();
        if !matches!(least.kind(), HirKind::Empty) {
            parts.push(least);
            return;
        }
    }
}

/// The repetition with no more than it must take.
fn least(repetition: &Repetition) -> Hir {
    let Repetition { min, greedy, sub, .. } = repetition.clone();
    Hir::repetition(Repetition { min, max: Some(min), greedy, sub })
}

fn is_any_text(repetition: &Repetition) -> bool {
    repetition.max.is_none() && is_any(&repetition.sub)
}

/// Whether it takes any one byte that a target holds.
pub(super) fn is_any(hir: &Hir) -> bool {
    let HirKind::Class(class) = hir.kind() else { return false };
    ranges(class).into_iter().any(|(start, end)| start <= ANY.0 && ANY.1 <= end)
}

/// Whether it matches at a target's end, and takes nothing.
pub(super) fn is_end(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Empty | HirKind::Look(Look::End | Look::EndLF | Look::EndCRLF))
}

/// The byte ranges of a class; of a Unicode class, only those that a target can hold.
pub(super) fn ranges(class: &Class) -> Vec<(u8, u8)> {
    match class {
        Class::Bytes(class) => class.ranges().iter().map(|range| (range.start(), range.end())).collect(),
        Class::Unicode(class) => {
            let ascii = class.ranges().iter().filter(|range| range.start().is_ascii());
            ascii.map(|range| (range.start() as u8, range.end().min('\x7f') as u8)).collect()
        }
    }
}
