//! Keeps operators' raw lines within the section that they are written into. Judges nothing else in them: HAProxy does,
//! and names the line.

use super::words;

/// Words that begin a section, in any HAProxy from 2.4 on. A line that begins with one would end our section.
const SECTIONS: &[&str] = &[
    "acme",
    "backend",
    "cache",
    "crt-store",
    "defaults",
    "fcgi-app",
    "frontend",
    "global",
    "healthcheck",
    "http-errors",
    "listen",
    "log-forward",
    "log-profile",
    "mailers",
    "namespace_list",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
];

/// The lines, trimmed, without empty ones.
///
/// # Errors
/// One sentence for each line that cannot be used, with its number from 1.
pub fn lines(text: &str) -> Result<Vec<&str>, Vec<String>> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        match judge(line) {
            Ok(()) if line.is_empty() => {}
            Ok(()) => good.push(line),
            Err(advice) => bad.push(format!("line {number} {advice}")),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

fn judge(line: &str) -> Result<(), String> {
    let word = words::first(line).map_err(|error| format!("has {error}"))?;
    let word = String::from_utf8_lossy(&word);
    match &*word {
        word if SECTIONS.contains(&word) => {
            Err(format!("begins a section ({word}); only lines that belong into one section can be used"))
        }
        // Conditions such as `.if` affect the lines behind them (§2.4).
        word if word.starts_with('.') => Err(format!("is a directive ({word}); these cannot be used here")),
        _ => Ok(()),
    }
}

/// Whether any of the lines begins with one of these words.
pub fn mentions(lines: &[&str], words: &[&str]) -> bool {
    let begins = |line: &&str| words::first(line).is_ok_and(|first| words.iter().any(|word| word.as_bytes() == first));
    lines.iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[&str], &str>) {
        match (lines(text), expected) {
            (Ok(lines), Ok(expected)) => assert_eq!(lines, expected, "{text:?}"),
            (Err(bad), Err(expected)) => assert!(bad.join("; ").starts_with(expected), "{text:?}: {bad:?}"),
            (said, _) => panic!("{text:?}: {said:?} is not {expected:?}"),
        }
    }

    #[test]
    fn lines_stay_as_they_are() {
        check("  http-request deny\r\n\n\toption httplog  \n", Ok(&["http-request deny", "option httplog"]));
        check("# a comment\nmaxconn 5", Ok(&["# a comment", "maxconn 5"]));
        check("stats uri /stats # frontend", Ok(&["stats uri /stats # frontend"]));
        check("no option httplog", Ok(&["no option httplog"]));
        check("default_backend x", Ok(&["default_backend x"]));
        check("http-request set-header X \"$HOME\"", Ok(&["http-request set-header X \"$HOME\""]));
    }

    #[test]
    fn no_line_ends_its_section() {
        for section in SECTIONS {
            check(section, Err("line 1 begins a section"));
        }
        check("maxconn 1\nfrontend x", Err("line 2 begins a section (frontend)"));
        check("'list'en x", Err("line 1 begins a section (listen)"));
        check("\"\\x62ackend\"", Err("line 1 begins a section (backend)"));
        check(".if 1", Err("line 1 is a directive (.if)"));
        check("\\x2ealert", Err("line 1 is a directive (.alert)"));
        check("\"$X\" y", Err("line 1 has a variable in its first word"));
        check("a\u{1}b", Err("line 1 has a control character in it"));
        check("a\rb", Err("line 1 has a control character in it"));
        check("'a", Err("line 1 has a quote that is not closed"));
        check(
            "frontend a\nok\n.endif",
            Err("line 1 begins a section (frontend); only lines that belong into one section can be used; line 3 is"),
        );
    }
}
