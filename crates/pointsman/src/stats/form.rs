//! Rows as HAProxy writes them: CSV (Management Guide, section 9.1), typed lines (9.2) and JSON. Knows no figures.

use std::fmt::Write;

use super::row::{AFTER_FIXED, END_OF_FIXED, FILLED, HEADER, StatRow, StatValue, tags};

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StatForm {
    #[default]
    Csv,
    Typed,
    Json,
}

impl StatForm {
    /// The form that a word names: `typed`, `json`.
    pub(super) fn named(word: &str) -> Option<Self> {
        match word {
            "typed" => Some(Self::Typed),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// What comes before the first row.
    pub(super) fn head(self) -> &'static str {
        match self {
            Self::Csv => HEADER,
            Self::Typed => "",
            Self::Json => "[",
        }
    }

    /// What comes after the last row.
    pub(super) fn foot(self) -> &'static str {
        match self {
            Self::Csv | Self::Typed => "",
            Self::Json => "]\n",
        }
    }

    /// Writes a row; `is_first` of those that are written.
    pub(super) fn row(self, row: &StatRow<'_>, is_first: bool, out: &mut String) {
        match self {
            Self::Csv => csv(row, out),
            Self::Typed => typed(row, out),
            Self::Json => {
                out.push_str(if is_first { "" } else { "," });
                json(row, out);
            }
        }
    }
}

/// Every value is followed by a comma, as in HAProxy.
fn csv(row: &StatRow<'_>, out: &mut String) {
    let mut place = 0;
    for ((column, ..), value) in FILLED.iter().zip(&row.values) {
        commas(column - place, out);
        match value {
            StatValue::Empty => {}
            StatValue::Unsigned32(number) => decimal(u64::from(*number), out),
            StatValue::Unsigned64(number) => decimal(*number, out),
            StatValue::Text(text) => quoted(text, out),
        }
        out.push(',');
        place = column + 1;
    }
    commas(END_OF_FIXED - place, out);
    out.push_str("-,");
    commas(AFTER_FIXED, out);
    out.push('\n');
}

fn commas(count: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(',', count));
}

/// Most of all fields are numbers: this takes a third of the time of the standard library's formatting.
fn decimal(mut number: u64, out: &mut String) {
    let (mut digits, mut start) = ([0; 20], 20);
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend(digits[start..].iter().map(|digit| char::from(*digit)));
}

/// In quotes if it is ambiguous. A control character, such as a line feed, would end the row.
fn quoted(text: &str, out: &mut String) {
    let is_ambiguous = text.contains(['"', ',']);
    let marks = if is_ambiguous { "\"" } else { "" };
    out.push_str(marks);
    for character in text.chars() {
        match character {
            '"' => out.push_str("\"\""),
            other => out.push(if other.is_control() { ' ' } else { other }),
        }
    }
    out.push_str(marks);
}

/// `S.5.1.17.status.1:SGP:str:UP`.
fn typed(row: &StatRow<'_>, out: &mut String) {
    let (letter, iid, sid) = (row.kind.letter(), row.iid, row.sid);
    for (at, ((place, name, _), value)) in FILLED.iter().zip(&row.values).enumerate() {
        if *value != StatValue::Empty {
            let tags = tags(row.kind, at);
            write!(out, "{letter}.{iid}.{sid}.{place}.{name}.1:{tags}:").expect(TAKES_ALL);
            typed_value(value, out);
        }
    }
}

/// The end of a typed line: type and value.
pub(super) fn typed_value(value: &StatValue<'_>, out: &mut String) {
    match value {
        StatValue::Empty => Ok(()),
        StatValue::Unsigned32(number) => writeln!(out, "u32:{number}"),
        StatValue::Unsigned64(number) => writeln!(out, "u64:{number}"),
        StatValue::Text(text) => writeln!(out, "str:{}", text.replace(char::is_control, " ")),
    }
    .expect(TAKES_ALL);
}

/// A string takes whatever is written to it.
pub(super) const TAKES_ALL: &str = "a String takes whatever is written";

/// An array of objects, one for each value.
fn json(row: &StatRow<'_>, out: &mut String) {
    out.push('[');
    let (word, iid, sid) = (row.kind.word(), row.iid, row.sid);
    let filled = FILLED.iter().zip(&row.values).enumerate().filter(|(_, (_, value))| **value != StatValue::Empty);
    for (count, (at, ((place, name, _), value))) in filled.enumerate() {
        out.push_str(if count > 0 { "," } else { "" });
        write!(out, "{{\"objType\":\"{word}\",\"proxyId\":{iid},\"id\":{sid},").expect(TAKES_ALL);
        json_field((*place, name), tags(row.kind, at), value, out);
    }
    out.push(']');
}

/// A field from its name on, and the closing brace.
pub(super) fn json_field((place, name): (usize, &str), tags: &str, value: &StatValue<'_>, out: &mut String) {
    let word = |at: usize| in_words(&tags[at..=at]);
    let (origin, nature) = (word(0), nature(&tags[1..2]));
    let scope = if tags.ends_with('S') { "Service" } else { "Process" };
    write!(
        out,
        "\"field\":{{\"pos\":{place},\"name\":\"{name}\"}},\"processNum\":1,\
         \"tags\":{{\"origin\":\"{origin}\",\"nature\":\"{nature}\",\"scope\":\"{scope}\"}},\"value\":"
    )
    .expect(TAKES_ALL);
    match value {
        StatValue::Empty => write!(out, "null}}"),
        StatValue::Unsigned32(number) => write!(out, "{{\"type\":\"u32\",\"value\":{number}}}}}"),
        StatValue::Unsigned64(number) => write!(out, "{{\"type\":\"u64\",\"value\":{number}}}}}"),
        StatValue::Text(text) => {
            let text = serde_json::Value::from(&**text);
            write!(out, "{{\"type\":\"str\",\"value\":{text}}}}}")
        }
    }
    .expect(TAKES_ALL);
}

/// The origin of a value.
fn in_words(letter: &str) -> &'static str {
    match letter {
        "M" => "Metric",
        "S" => "Status",
        "K" => "Key",
        "C" => "Config",
        "P" => "Product",
        _ => "Unknown",
    }
}

fn nature(letter: &str) -> &'static str {
    match letter {
        "A" => "Age",
        "a" => "Avg",
        "C" => "Counter",
        "D" => "Duration",
        "G" => "Gauge",
        "L" => "Limit",
        "M" => "Max",
        "N" => "Name",
        "O" => "Output",
        "R" => "Rate",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::{StatColumn, StatKind};
    use super::*;

    fn sample() -> StatRow<'static> {
        let mut row = StatRow::new(StatKind::Server, ("services:web", 5), ("web-1", 1));
        row.set(StatColumn::Stot, u64::MAX);
        row.set(StatColumn::Status, "UP 1/3");
        row.set(StatColumn::Act, 1_u32);
        row.set(StatColumn::LastChk, "got \"a\",\nthen b");
        row
    }

    fn written(form: StatForm) -> String {
        let mut out = String::new();
        form.row(&sample(), true, &mut out);
        out
    }

    #[test]
    fn as_haproxy_writes_them() {
        let line = written(StatForm::Csv);
        let start = "services:web,web-1,,,,,,18446744073709551615,,,,,,,,,,UP 1/3,,1,,,,,,,1,5,1,,,,2,";
        assert!(line.starts_with(start), "{line}");
        assert!(line.contains(",\"got \"\"a\"\", then b\","), "{line}");
        assert!(line.ends_with(",-,,,,,,,,,,,,,,,,,,,,,,,,,\n"), "{line}");
        let plain = line.replace("\"got \"\"a\"\", then b\"", "");
        assert_eq!(plain.matches(',').count(), HEADER.matches(',').count());
        let line = written(StatForm::Typed);
        for part in ["S.5.1.0.pxname.1:KNS:str:services:web\n", "S.5.1.19.act.1:SGP:u32:1\n"] {
            assert!(line.contains(part), "{line}");
        }
        let json: serde_json::Value = serde_json::from_str(&written(StatForm::Json)).unwrap();
        assert_eq!(json[2]["field"]["name"], "stot");
        assert_eq!(json[2]["tags"]["nature"], "Counter");
        assert_eq!(json[2]["value"]["value"], u64::MAX);
        assert_eq!(json[3]["value"], serde_json::json!({"type": "str", "value": "UP 1/3"}));
    }
}
