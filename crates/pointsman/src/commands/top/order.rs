//! The order of the services: by a column, or what hurts first. Draws nothing.

use std::cmp::Ordering;

use super::model::{TopModel, TopRow};

/// What services are ordered by. Figures: the highest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Hurts,
    Name,
    Up,
    Rate,
    E4,
    E5,
    P50,
    P99,
    Open,
    Queue,
}

/// In the order of the columns.
const SORTS: [Sort; 10] =
    [Sort::Hurts, Sort::Name, Sort::Up, Sort::Rate, Sort::E4, Sort::E5, Sort::P50, Sort::P99, Sort::Open, Sort::Queue];

impl Sort {
    /// The one after it, or before it.
    pub(super) fn turned(self, step: isize) -> Self {
        let at = SORTS.iter().position(|one| *one == self).unwrap_or(0);
        SORTS[at.wrapping_add_signed(step.rem_euclid(SORTS.len() as isize)) % SORTS.len()]
    }

    /// As in "sorted by ...".
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Hurts => "what hurts",
            Self::Name => "name",
            Self::Up => "share of instances up",
            Self::Rate => "requests",
            Self::E4 => "4xx",
            Self::E5 => "5xx",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Open => "open requests",
            Self::Queue => "queue",
        }
    }

    fn compare(self, a: &TopRow, b: &TopRow) -> Ordering {
        let (one, other) = (&a.figures, &b.figures);
        let time = |value: Option<f32>| value.unwrap_or(-1.0);
        match self {
            Self::Hurts => hurts(b).cmp(&hurts(a)),
            Self::Name => a.name().cmp(b.name()),
            Self::Up => share(a).total_cmp(&share(b)),
            Self::Rate => other.3[0].total_cmp(&one.3[0]),
            Self::E4 => other.3[1].total_cmp(&one.3[1]),
            Self::E5 => other.3[2].total_cmp(&one.3[2]),
            Self::P50 => time(other.4).total_cmp(&time(one.4)),
            Self::P99 => time(other.5).total_cmp(&time(one.5)),
            Self::Open => other.6.cmp(&one.6),
            Self::Queue => other.7.cmp(&one.7),
        }
    }
}

/// Instances that take work, of all.
fn share(row: &TopRow) -> f64 {
    f64::from(row.figures.1) / f64::from(row.instances.max(1))
}

/// How much a service hurts: its state, then its 5xx, then its queue, then its p99. Figures count by powers of two, so
/// that rows which are about the same do not change places.
fn hurts(row: &TopRow) -> impl Ord + use<> {
    let steps = |value: f64| (value.max(0.0) + 1.0).log2() as u32;
    // Below this, no latency hurts.
    let slow = row.figures.5.map_or(0.0, |p99| f64::from(p99) / 250.0);
    let e5 = if row.is_failing() { f64::from(row.figures.3[2]) * 10.0 } else { 0.0 };
    (row.severity(), steps(e5), steps(row.figures.7 as f64), steps(slow))
}

/// The services that match all words of the filter, in order.
pub(super) fn ordered(model: &TopModel, filter: &str, sort: Sort, is_reversed: bool) -> Vec<u32> {
    let words = filter.to_lowercase();
    let words: Vec<_> = words.split_whitespace().collect();
    let mut rows: Vec<_> =
        model.rows.iter().filter(|(_, row)| words.iter().all(|word| row.text.contains(word))).collect();
    rows.sort_by(|(_, a), (_, b)| {
        let order = sort.compare(a, b);
        let order = if is_reversed { order.reverse() } else { order };
        order.then_with(|| a.key.cmp(&b.key))
    });
    rows.into_iter().map(|(number, _)| *number).collect()
}
