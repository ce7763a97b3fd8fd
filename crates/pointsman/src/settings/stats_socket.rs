//! The value of `--stats-socket`: the words of HAProxy's `stats socket`, so that a line of haproxy.cfg can be taken over. Binds nothing.

use std::path::PathBuf;

const SHAPE: &str =
    "write PATH [mode MODE] [level user|operator|admin], such as \"/run/pointsman/stats.sock mode 660 level admin\"";

/// A socket for HAProxy's tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsSocket {
    /// Its file.
    pub path: PathBuf,
    /// The file's rights, as `chmod` takes them.
    pub mode: u32,
    /// What its clients may do.
    pub level: StatsLevel,
}

/// What clients of the socket may do, each more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatsLevel {
    /// Read statistics.
    User,
    /// Read everything.
    Operator,
    /// Change servers, which are keys.
    Admin,
}

impl StatsLevel {
    /// HAProxy's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// `PATH [mode MODE] [level LEVEL]`.
pub(super) fn parse(text: &str) -> Result<StatsSocket, String> {
    let wrong = |what: String| format!("{what}; {SHAPE}");
    let mut words = text.split_ascii_whitespace();
    let path = words.next().filter(|path| path.starts_with(['/', '.'])).map(PathBuf::from);
    let path = path.ok_or_else(|| wrong(format!("{text:?} does not begin with the path of a file")))?;
    let mut socket = StatsSocket { path, mode: 0o600, level: StatsLevel::Operator };
    while let Some(word) = words.next() {
        match (word, words.next().unwrap_or_default()) {
            ("mode", mode) => {
                let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o777);
                socket.mode = mode.ok_or_else(|| wrong("mode takes a number as chmod does".to_owned()))?;
            }
            ("level", "user") => socket.level = StatsLevel::User,
            ("level", "operator") => socket.level = StatsLevel::Operator,
            ("level", "admin") => socket.level = StatsLevel::Admin,
            ("level", other) => return Err(wrong(format!("{other:?} is not a level"))),
            _ => return Err(wrong(format!("{word:?} is not known"))),
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_haproxy_cfg() {
        let read = |text: &str| {
            parse(text).map(|StatsSocket { path, mode, level }| format!("{} {mode:o} {level:?}", path.display()))
        };
        for (text, expected) in [
            ("/run/s", Ok("/run/s 600 Operator")),
            ("/run/s mode 660 level admin", Ok("/run/s 660 Admin")),
            ("./s level user", Ok("./s 600 User")),
            ("", Err("does not begin with")),
            ("run/s", Err("does not begin with")),
            ("/run/s mode 888", Err("as chmod does")),
            ("/run/s level root", Err("\"root\" is not a level")),
            ("/run/s user haproxy", Err("\"user\" is not known")),
        ] {
            match (read(text), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{text}"),
                (Err(error), Err(expected)) => {
                    assert!(error.contains(expected) && error.contains("write PATH"), "{error}")
                }
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }
}
