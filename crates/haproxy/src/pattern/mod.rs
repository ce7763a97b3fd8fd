//! Translates a `url_reg` into PCRE for a map of HAProxy, so that it matches exactly what the table's own matcher does.
//! Never matches anything itself.
//!
//! The text holds no white space. Every byte of a literal except letters and digits is written as `\xNN`, so that PCRE
//! takes none for an operator. Targets hold neither line ends nor bytes beyond ASCII: HAProxy refuses both.

mod cost;
mod segments;

use std::fmt::Write;

use pointsman_table::Pattern;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use segments::{Segment, ranges};

/// Largest count of a repetition (pcre2limits).
const MOST_REPEATS: u32 = 65_535;
/// Largest compiled expression, with a margin (pcre2limits: 64 KiB where links take two bytes).
const LARGEST: usize = 60_000;
/// Longest text: it must fit twice into HAProxy's smallest usual buffer, 16 KiB.
const LONGEST: usize = 8000;
/// The advice where an expression would hold HAProxy up.
const TOO_SLOW: &str = "expected a regular expression that PCRE, which HAProxy uses, never tries in more ways than a few for \
                        each byte of a target; nest no repetitions, repeat only what differs from what follows, or begin it \
                        with ^; the native engine takes it as it is";

/// An expression that PCRE takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expression(String);

impl Expression {
    /// The expression over `<scope>\n<target>`.
    pub fn over(&self, scope: &str) -> String {
        lead(scope) + &self.0
    }
}

/// The beginning of every expression over this scope, and of no other.
pub fn lead(scope: &str) -> String {
    let mut writer = Writer::default();
    writer.push_str("\\A");
    scope.bytes().for_each(|byte| writer.byte(byte));
    writer.push_str("\\n");
    writer.text
}

/// The expression for PCRE, or one sentence on why HAProxy cannot have it.
pub fn translate(pattern: &Pattern) -> Result<Expression, String> {
    translate_hir(&pattern.hir())
}

/// The expression with its groups, to be searched for in a text without line ends, or why HAProxy cannot have it.
pub fn with_groups(pattern: &Pattern) -> Result<String, String> {
    let hir = pattern.hir();
    translate_hir(&hir)?;
    let mut writer = Writer { text: String::new(), keeps_groups: true };
    writer.write(&hir)?;
    Ok(writer.text)
}

fn translate_hir(hir: &Hir) -> Result<Expression, String> {
    let segments = segments::split(hir);
    let mut writer = Writer::default();
    for (at, segment) in segments.iter().enumerate() {
        writer.segment(segment, at + 1 == segments.len())?;
    }
    match writer.text.len() {
        _ if size(hir) > LARGEST => Err("expected a regular expression that PCRE compiles to less than 60 KB".into()),
        LONGEST.. => Err(format!("expected a regular expression of less than {LONGEST} bytes as PCRE writes it")),
        _ if !cost::is_proportional(&segments) => Err(TOO_SLOW.to_owned()),
        _ => Ok(Expression(writer.text)),
    }
}

#[derive(Default)]
struct Writer {
    text: String,
    /// Groups stay groups, and the text begins where the expression's does.
    keeps_groups: bool,
}

impl Writer {
    /// Any text may follow a segment, so that the first match found is as good as any if all are of one length: PCRE
    /// need not look for another.
    fn segment(&mut self, segment: &Segment, is_last: bool) -> Result<(), String> {
        let is_atomic = segment.is_fixed && !is_last;
        self.push_str(if is_atomic { "(?>" } else { "" });
        self.push_str(if segment.is_searched { "[^\\n]*?" } else { "" });
        segment.parts.iter().try_for_each(|part| self.write(part))?;
        self.push_str(if is_atomic { ")" } else { "" });
        Ok(())
    }

    // Recursion is bounded: the parser limits nesting.
    fn write(&mut self, hir: &Hir) -> Result<(), String> {
        match hir.kind() {
            HirKind::Empty => {}
            HirKind::Literal(literal) => literal.0.iter().for_each(|&byte| self.byte(byte)),
            HirKind::Class(class) => self.class(class),
            HirKind::Look(Look::Start | Look::StartLF | Look::StartCRLF) if self.keeps_groups => self.push_str("\\A"),
            HirKind::Look(look) => self.push_str(look_text(*look)),
            HirKind::Repetition(repetition) => self.repetition(repetition)?,
            HirKind::Capture(capture) if self.keeps_groups => {
                self.push_str("(");
                self.write(&capture.sub)?;
                self.push_str(")");
            }
            HirKind::Capture(capture) => self.write(&capture.sub)?,
            HirKind::Concat(parts) => parts.iter().try_for_each(|part| self.write(part))?,
            HirKind::Alternation(branches) => self.alternation(branches)?,
        }
        Ok(())
    }

    fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn byte(&mut self, byte: u8) {
        match byte.is_ascii_alphanumeric() {
            true => self.text.push(char::from(byte)),
            false => write!(self.text, "\\x{byte:02x}").expect("a string takes all"),
        }
    }

    fn class(&mut self, class: &Class) {
        let ranges = ranges(class);
        if ranges.is_empty() {
            return self.push_str("(?!)");
        }
        self.push_str("[");
        for (start, end) in ranges {
            self.byte(start);
            if start < end {
                self.push_str("-");
                self.byte(end);
            }
        }
        self.push_str("]");
    }

    fn repetition(&mut self, repetition: &Repetition) -> Result<(), String> {
        let Repetition { min, max, greedy, sub } = repetition;
        if *min.max(&max.unwrap_or(0)) > MOST_REPEATS {
            return Err(format!("expected at most {MOST_REPEATS} repetitions"));
        }
        match is_one_byte(sub) {
            true => self.write(sub)?,
            false => self.group(|writer| writer.write(sub))?,
        }
        match (min, max) {
            (0, None) => self.push_str("*"),
            (1, None) => self.push_str("+"),
            (0, Some(1)) => self.push_str("?"),
            (min, None) => self.push_str(&format!("{{{min},}}")),
            (min, Some(max)) => self.push_str(&format!("{{{min},{max}}}")),
        }
        if !greedy {
            self.push_str("?");
        }
        Ok(())
    }

    fn alternation(&mut self, branches: &[Hir]) -> Result<(), String> {
        self.group(|writer| {
            for (at, branch) in branches.iter().enumerate() {
                writer.push_str(if at == 0 { "" } else { "|" });
                writer.write(branch)?;
            }
            Ok(())
        })
    }

    fn group(&mut self, inner: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        self.push_str("(?:");
        inner(self)?;
        self.push_str(")");
        Ok(())
    }
}

fn is_one_byte(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.len() == 1,
        HirKind::Class(class) => !ranges(class).is_empty(),
        _ => false,
    }
}

/// A target has no line ends, so a line's start and end are the target's; not `$`, which also matches before a final
/// line end. In ASCII, word boundaries are the same with Unicode and without.
fn look_text(look: Look) -> &'static str {
    match look {
        Look::Start | Look::StartLF | Look::StartCRLF => "(?<=\\n)",
        Look::End | Look::EndLF | Look::EndCRLF => "\\z",
        Look::WordAscii | Look::WordUnicode => "\\b",
        Look::WordAsciiNegate | Look::WordUnicodeNegate => "\\B",
        Look::WordStartAscii | Look::WordStartUnicode => "(?<!\\w)(?=\\w)",
        Look::WordEndAscii | Look::WordEndUnicode => "(?<=\\w)(?!\\w)",
        Look::WordStartHalfAscii | Look::WordStartHalfUnicode => "(?<!\\w)",
        Look::WordEndHalfAscii | Look::WordEndHalfUnicode => "(?!\\w)",
    }
}

/// Upper bound of PCRE's compiled size in bytes: it copies groups with a count.
fn size(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty => 0,
        HirKind::Literal(literal) => 2 * literal.0.len(),
        HirKind::Class(_) => 34,
        HirKind::Look(_) => 20,
        HirKind::Capture(capture) => size(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(size).fold(0, usize::saturating_add),
        HirKind::Alternation(branches) => {
            branches.iter().map(|branch| size(branch).saturating_add(3)).fold(6, usize::saturating_add)
        }
        HirKind::Repetition(repetition) => {
            let once = size(&repetition.sub).saturating_add(10);
            let times = repetition.max.unwrap_or(repetition.min).max(1) as usize;
            if is_one_byte(&repetition.sub) { once } else { once.saturating_mul(times) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses as the table does.
    fn translated(text: &str) -> Result<String, String> {
        let mut parser = regex_syntax::ParserBuilder::new();
        let hir = parser.utf8(false).unicode(false).case_insensitive(true).build().parse(text).unwrap();
        translate_hir(&hir).map(|expression| expression.0)
    }

    #[test]
    fn expressions_as_pcre() {
        let check = |text: &str, expected: &str| assert_eq!(translated(text).as_deref(), Ok(expected), "{text}");
        check("^/a1", r"\x2f[Aa]1");
        check("/1", r"[^\n]*?\x2f1");
        check("1$", r"[^\n]*?1\z");
        check("(?m:^)1(?m:$)", r"(?<=\n)1\z");
        check("2|^1", r"[^\n]*?(?:2|(?<=\n)1)");
        check("^(?:12)*3+?4{2,5}5{3,}(?:6?)??$", r"(?:12)*3+?4{2,5}5{3,}(?:6?)??\z");
        check("^(?-i:[a-c-]|é)", r"(?:[\x2da-c]|\xc3\xa9)");
        check("^(?u:[1-é])", r"[1-\x7f]");
        check("^(?u:[é-ü])*$", r"(?:(?!))*\z");
        check(r"^\b1\B2", r"\b1\B2");
        check(r"^\b{start}1\b{end}", r"(?<!\w)(?=\w)1(?<=\w)(?!\w)");
        check(r"^\b{start-half}1\b{end-half}", r"(?<!\w)1(?!\w)");
        check("^(?:)", "");
    }

    #[test]
    fn what_decides_nothing_is_left_out() {
        let check = |text: &str, expected: &str| assert_eq!(translated(text).as_deref(), Ok(expected), "{text}");
        check(".*1.*", r"[^\n]*?1");
        check("(.+1.*)", r"(?>[^\n]*?[\x00-\x09\x0b-\xff])[^\n]*?1");
        check("1*2{2,5}3?", r"[^\n]*?2{2,2}");
        check("[^/]*/1+", r"[^\n]*?\x2f1");
        check("^1*2+.*$", "1*2");
        check("^1.*2.*3$", r"(?>1)(?>[^\n]*?2)[^\n]*?3\z");
        check("1[2-4].*5?(6|7)", r"(?>[^\n]*?1[2-4])[^\n]*?[6-7]");
        check(".*", "");
    }

    #[test]
    fn what_would_hold_haproxy_up_is_refused() {
        let check = |text: &str, is_taken: bool| {
            let found = translated(text);
            assert_eq!(found.is_ok(), is_taken, "{text}: {found:?}");
            assert!(is_taken || found.unwrap_err().contains("nest no repetitions"), "{text}");
        };
        for slow in [
            "^/(a+)+$",
            "^/(a*)*b",
            "^/(a|aa)+$",
            "^(a|[ab]x?)*[0-9]$",
            "^/([a-z0-9]+[-_.]?)+$",
            "^(a|ab|b){50}c",
            "^(a?){40}b",
            "^/[a-z]*[a-z]*[0-9]$",
            "^[ab]{0,3000}[ab]{0,3000}c",
            "a[^x]*a[^x]*[0-9]",
            "id=[^&]*x",
            "(select|union).*from",
            "^/[a-z]*x[a-z]*[0-9]$",
        ] {
            check(slow, false);
        }
        for fast in [
            "^/app1/",
            "/shop/.*cart",
            "^/.*/edit$",
            "^/a/.*b.*c.*/d$",
            r"\.(png|jpe?g|gif|css|js|woff2?)(\?.*)?$",
            r"\.(foo|foobar)$",
            "^/[a-z0-9_-]{1,64}/[a-z0-9_.-]{1,128}$",
            "^/([0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12})/?$",
            "^/api/v[0-9]+/(users|groups|orders)/[0-9]+(/.*)?$",
            "(foo|bar|baz).*qux",
            "(get|set|put).*(from|into|table)",
            "/(?:en|de|fr|es|it)(?:-[a-z]{2})?/",
            "^/[a-z]+(-[a-z]+)*$",
            "^/([^/]+/)*edit$",
            "^/(.*/)?edit$",
            "^(/[a-z0-9-]+)+/?$",
            "/[^/]*x",
            "[0-9]+/x",
            "[?&]id=[0-9]+(&|$)",
            "^/(a|b)+[^c]x$",
            r"\bword\b",
        ] {
            check(fast, true);
        }
    }

    #[test]
    fn beyond_what_pcre_takes() {
        let check = |text: &str, expected: &str| {
            let error = translated(text).unwrap_err();
            assert!(error.contains(expected), "{text:.40}: {error}");
        };
        check("^1{65536}", "at most 65535 repetitions");
        check("^(?:[12]x){1000}", "less than 60 KB");
        check(&".".repeat(1500), "less than 8000 bytes");
    }

    #[test]
    fn the_scope_is_part_of_the_expression() {
        assert_eq!(translate_hir(&Hir::empty()).unwrap().over("@a.b~"), r"\A\x40a\x2eb\x7e\n");
    }
}
