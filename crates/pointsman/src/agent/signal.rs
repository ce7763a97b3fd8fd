//! Docker's names and numbers of signals. Sends none.

/// `SIGTERM`, the default stop signal of a container.
pub(super) const TERM: u8 = 15;
/// `SIGKILL`, which no process survives.
pub(super) const KILL: u8 = 9;

/// The numbers on Linux, except on Alpha, MIPS and SPARC, where Docker does not run.
const NAMES: &[(&str, u8)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", KILL),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", TERM),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
    ("RTMAX", 64),
];

/// The number of `15`, `TERM`, `SIGTERM` or `SIGRTMIN+3`.
pub(super) fn parse(text: &str) -> Option<u8> {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let (name, step) = match name.find(['+', '-']) {
        Some(at) => (&name[..at], name[at..].parse::<i16>().ok()?),
        None => (name, 0),
    };
    let (_, number) = NAMES.iter().find(|(known, _)| *known == name)?;
    let real_time = step == 0 || name.starts_with("RT");
    u8::try_from(i16::from(*number) + step).ok().filter(|number| real_time && (1..=64).contains(number))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn knows_names_and_numbers() {
        for (text, expected) in [
            ("15", Some(15)),
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("SIGQUIT", Some(3)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGWINCH", Some(28)),
            ("RTMAX+1", None),
            ("TERM+1", None),
            ("RTMIN+x", None),
            ("0", None),
            ("65", None),
            ("", None),
            ("SIGNOSUCH", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
