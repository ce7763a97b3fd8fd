//! Numbers and times as people read them, the same as on the page (`page/format.js`). Knows nothing of either.

use time::OffsetDateTime;

/// Stands for a figure that there is none of.
const NONE: &str = "–";

/// One digit after the point, none if it is 0.
fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.split_once('.') {
        Some((whole, part)) if part.bytes().all(|digit| digit == b'0') => whole.to_owned(),
        _ => text,
    }
}

/// A count or a rate: 0.3, 12.4, 1,980, 12.4k.
pub(super) fn num(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value < 0.01 => "<0.01".to_owned(),
        value if value < 1.0 => trimmed(value, 2),
        value if value < 100.0 => trimmed(value, 1),
        value if value < 10_000.0 => grouped(value.round() as u64),
        value if value < 1e6 => format!("{}k", trimmed(value / 1e3, 1)),
        value => format!("{}M", trimmed(value / 1e6, 1)),
    }
}

/// 1,980.
fn grouped(count: u64) -> String {
    match count {
        0..1000 => count.to_string(),
        _ => format!("{},{:03}", grouped(count / 1000), count % 1000),
    }
}

/// 1 problem, 2 problems.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count as u64), if count == 1 { "" } else { "s" })
}

/// Milliseconds: 0.4 ms, 12 ms, 1.2 s.
pub(super) fn ms(value: Option<f32>) -> String {
    match value.map(f64::from) {
        None => NONE.to_owned(),
        Some(value) if value < 10.0 => format!("{} ms", trimmed(value, 1)),
        Some(value) if value < 1000.0 => format!("{value:.0} ms"),
        Some(value) if value >= 10_000.0 => "≥10 s".to_owned(),
        Some(value) => format!("{} s", trimmed(value / 1000.0, 1)),
    }
}

/// Bytes: 1.2 kB.
pub(super) fn bytes(count: u64) -> String {
    let (unit, name) = match count {
        0..1_000 => (1.0, "B"),
        1_000..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    format!("{} {name}", trimmed(count as f64 / unit, 1))
}

/// A span in seconds: 12 s, 3 min, 2 h, 4 days.
pub(super) fn span(seconds: u64) -> String {
    let rounded = |unit: u64| (seconds + unit / 2) / unit;
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5_400 => format!("{} min", rounded(60)),
        5_400..129_600 => format!("{} h", rounded(3_600)),
        _ => format!("{} days", rounded(86_400)),
    }
}

/// A day: 2027-04-03. `at`: seconds since the epoch.
pub(super) fn day(at: i64) -> String {
    OffsetDateTime::from_unix_timestamp(at).map_or_else(|_| NONE.to_owned(), |at| at.date().to_string())
}

/// Bars for values, the last at the right; the highest has the full height. A gap for none.
pub(super) fn bars(values: impl ExactSizeIterator<Item = f32> + Clone, width: usize) -> String {
    let skipped = values.len().saturating_sub(width);
    let seen = values.skip(skipped);
    let most = seen.clone().fold(0.0_f32, f32::max);
    let bar = |value: f32| match (value / most * 8.0).ceil() as usize {
        _ if value <= 0.0 || most <= 0.0 => ' ',
        height => ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][height.clamp(1, 8) - 1],
    };
    let bars: String = seen.map(bar).collect();
    format!("{bars:>width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let numbers = [(0.0, "0"), (0.004, "<0.01"), (0.5, "0.50"), (12.0, "12"), (12.44, "12.4"), (980.2, "980")];
        for (value, expected) in numbers {
            assert_eq!(num(value), expected);
        }
        assert_eq!([1_980.0, 12_400.0, 2_500_000.0].map(num), ["1,980", "12.4k", "2.5M"]);
        let times = [None, Some(0.4), Some(12.0), Some(1200.0), Some(10_000.0)].map(ms);
        assert_eq!(times, ["–", "0.4 ms", "12 ms", "1.2 s", "≥10 s"]);
        assert_eq!([12, 180, 7_200, 345_600].map(span), ["12 s", "3 min", "2 h", "4 days"]);
        assert_eq!([999, 1_200, 5_000_000].map(bytes), ["999 B", "1.2 kB", "5 MB"]);
        assert_eq!(day(1_806_710_400), "2027-04-03");
        assert_eq!([plural(1, "problem"), plural(1_200, "problem")], ["1 problem", "1,200 problems"]);
    }

    #[test]
    fn bars_grow_to_the_right() {
        assert_eq!(bars([1.0, 0.0, 4.0, 8.0].into_iter(), 6), "  ▁ ▄█");
        assert_eq!(bars([9.0, 1.0, 1.0].into_iter(), 2), "██");
        assert_eq!(bars([0.0_f32; 0].into_iter(), 3), "   ");
    }
}
