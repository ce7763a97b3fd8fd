//! The daemon's times as comparable numbers. Reads no clock.

/// Nanoseconds since 1970 for an RFC 3339 time, such as `2024-05-07T09:30:00.123456789Z`. Docker writes the year 1 for
/// events that never happened; that is earlier than any other time.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let (time, offset) = split_offset(rest)?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    let in_range = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds(fraction)?))
}

/// The time, and its offset from UTC in seconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let at = text.rfind(['+', '-'])?;
    let (hours, minutes) = text[at + 1..].split_once(':')?;
    let ahead = number(hours)? * 3600 + number(minutes)? * 60;
    Some((&text[..at], if text[at..].starts_with('-') { -ahead } else { ahead }))
}

fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let mut parts = text.split(separator).map(number);
    let found = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(found)
}

fn number(text: &str) -> Option<i64> {
    let plain = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn nanoseconds(fraction: &str) -> Option<i64> {
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9.9}").parse().ok()
}

/// Days since 1970-01-01 in the Gregorian calendar. Years begin in March here, so that a leap day is the last day.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    // From 0000-03-01 to 1970-01-01 it is 719,468 days.
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_what_daemons_write() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-02T00:00:01.5Z", Some(86_401_500_000_000)),
            ("2024-02-29T12:00:00.123456789Z", Some(1_709_208_000_123_456_789)),
            ("2024-02-29T14:00:00.1234567891+02:00", Some(1_709_208_000_123_456_789)),
            ("2024-02-29T06:30:00-05:30", Some(1_709_208_000_000_000_000)),
            ("2000-12-31T23:59:60Z", Some(978_307_200_000_000_000)),
            ("0001-01-01T00:00:00Z", Some(i64::MIN)),
            ("", None),
            ("2024-02-29", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-02-29T12:00:00", None),
            ("2024-02-29T12:00:00.x1Z", None),
            ("2024-02-29T1200:00Z", None),
            ("+024-02-29T12:00:00Z", None),
            ("2024-02-29T12:00:00é+01:00", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
