//! Dates in UTC, as the formats write them. Reads no clock.

use std::io::Write as _;

use super::number;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY: u64 = 86_400_000;

/// A moment in parts.
struct Parts {
    year: u64,
    /// 1 to 12.
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millis: u64,
}

impl Parts {
    /// `at`: milliseconds since 1970. Days to dates as Howard Hinnant's `civil_from_days`, for years from 1970.
    fn of(at: u64) -> Self {
        let days = at / DAY + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
            hour: at % DAY / 3_600_000,
            minute: at / 60_000 % 60,
            second: at / 1_000 % 60,
            millis: at % 1_000,
        }
    }

    fn month_name(&self) -> &'static str {
        MONTHS[usize::try_from(self.month - 1).unwrap_or(0) % MONTHS.len()]
    }

    /// `28/Nov/2026:23:23:42`.
    fn day_and_time(&self, out: &mut Vec<u8>) {
        number::push_two(self.day, out);
        out.push(b'/');
        out.extend_from_slice(self.month_name().as_bytes());
        out.push(b'/');
        number::push(self.year, out);
        for part in [self.hour, self.minute, self.second] {
            out.push(b':');
            number::push_two(part, out);
        }
    }
}

/// `28/Nov/2026:23:23:42.537`, as HAProxy has it.
pub(super) fn haproxy(at: u64, out: &mut Vec<u8>) {
    let parts = Parts::of(at);
    parts.day_and_time(out);
    out.push(b'.');
    number::push_three(parts.millis, out);
}

/// `28/Nov/2026:23:23:42 +0000`, as Apache has it.
pub(super) fn apache(at: u64, out: &mut Vec<u8>) {
    let parts = Parts::of(at);
    parts.day_and_time(out);
    out.extend_from_slice(b" +0000");
}

/// `2026-11-28T23:23:42.537Z` (RFC 3339).
pub(super) fn rfc3339(at: u64, out: &mut Vec<u8>) {
    let Parts { year, month, day, hour, minute, second, millis } = Parts::of(at);
    // A vector takes all.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (at, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_795_908_222_537, "2026-11-28T23:23:42.537Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let mut out = Vec::new();
            rfc3339(at, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        haproxy(1_795_908_222_537, &mut ours);
        apache(1_795_908_222_537, &mut theirs);
        assert_eq!(ours, b"28/Nov/2026:23:23:42.537");
        assert_eq!(theirs, b"28/Nov/2026:23:23:42 +0000");
    }
}
