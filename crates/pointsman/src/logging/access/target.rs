//! The destinations of the access log by name. Opens none.

use std::fmt::{self, Display};
use std::io;
use std::path::PathBuf;

/// Where lines of the access log go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// To the end of this file.
    File(PathBuf),
    /// To standard output.
    Stdout,
    /// To standard error, beside the log.
    Stderr,
    /// To syslog over UDP: `HOST:PORT`.
    Udp(String),
    /// To syslog over TCP: `HOST:PORT`.
    Tcp(String),
    /// To syslog at this Unix socket, in datagrams.
    Unix(PathBuf),
}

/// How syslog's lines are framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyslogForm {
    /// RFC 5424.
    #[default]
    Rfc5424,
    /// RFC 3164, the older one.
    Rfc3164,
}

/// Lines that could not be written.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

impl LogTarget {
    /// Parses a destination. `None`: `off`.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        Ok(Some(match text {
            "off" => return Ok(None),
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            _ => match text.strip_prefix("syslog:") {
                Some(address) => Self::syslog(address)?,
                None if text == "syslog" => return Err(no_address(text)),
                None => Self::File(PathBuf::from(text)),
            },
        }))
    }

    fn syslog(address: &str) -> Result<Self, String> {
        if address.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(address)));
        }
        let (is_tcp, address) = match address.strip_prefix("tcp:") {
            Some(address) => (true, address),
            None => (false, address.strip_prefix("udp:").unwrap_or(address)),
        };
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        match (port, is_tcp) {
            (Some(Ok(1..)), true) => Ok(Self::Tcp(address.to_owned())),
            (Some(Ok(1..)), false) => Ok(Self::Udp(address.to_owned())),
            _ => Err(no_address(address)),
        }
    }
}

fn no_address(text: &str) -> String {
    format!(
        "{text:?} is no address of syslog; write syslog:10.0.0.5:514 (UDP), syslog:tcp:10.0.0.5:601 or syslog:/dev/log"
    )
}

impl Display for LogTarget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "{}", path.display()),
            Self::Stdout => write!(out, "stdout"),
            Self::Stderr => write!(out, "stderr"),
            Self::Udp(address) => write!(out, "syslog:{address}"),
            Self::Tcp(address) => write!(out, "syslog:tcp:{address}"),
            Self::Unix(path) => write!(out, "syslog:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for text in ["/var/log/a.log", "stdout", "stderr", "syslog:h:514", "syslog:tcp:[::1]:601", "syslog:/dev/log"] {
            assert_eq!(LogTarget::parse(text).unwrap().unwrap().to_string(), text);
        }
        assert_eq!(LogTarget::parse("syslog:udp:h:514"), Ok(Some(LogTarget::Udp("h:514".into()))));
        assert_eq!(LogTarget::parse("off"), Ok(None));
        for text in ["syslog", "syslog:", "syslog:h", "syslog:tcp:h:0", "syslog::514", "syslog:h:70000"] {
            assert!(LogTarget::parse(text).is_err(), "{text}");
        }
    }
}
