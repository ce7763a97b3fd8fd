//! Syslog: each line in a frame of RFC 5424 or RFC 3164, over UDP, TCP (RFC 6587 §3.4.1) or a Unix socket. Waits for the
//! other end only for a moment.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use super::target::{LogTarget, SyslogForm, Unwritten};
use crate::sys;

/// Facility local0, severity informational (RFC 5424 §6.2.1): 16 * 8 + 6. As HAProxy's usual `log ... local0`.
const PRIORITY: u32 = 134;
/// How long the other end may take to accept a connection, or a line.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest line, bytes; the rest is cut off. Receivers take 2,048 at least (RFC 5424 §6.1), and 8 KiB as a rule.
const LONGEST: usize = 8 * 1024;

/// Where lines go, as long as it is open.
#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Unix(UnixDatagram),
}

/// A syslog server.
#[derive(Debug)]
pub(super) struct Syslog {
    target: LogTarget,
    form: SyslogForm,
    host: String,
    socket: Option<Socket>,
}

impl Syslog {
    pub(super) fn new(target: LogTarget, form: SyslogForm) -> Self {
        Self { target, form, host: sys::host_name(), socket: None }
    }

    pub(super) fn close(&mut self) {
        self.socket = None;
    }

    /// Sends lines, each in a frame of its own.
    ///
    /// # Errors
    /// From one of them on, they could not be sent.
    pub(super) fn write(&mut self, text: &[u8]) -> Result<(), Unwritten> {
        let mut left = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        while let Some(line) = left.next() {
            if let Err(error) = self.send(line) {
                self.socket = None;
                return Err(Unwritten { lines: 1 + left.count() as u64, error });
            }
        }
        Ok(())
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        let now = SystemTime::now();
        let frame = frame(self.form, now.into(), &self.host, std::process::id(), line);
        let socket = match &mut self.socket {
            Some(socket) => socket,
            closed @ None => closed.insert(open(&self.target)?),
        };
        match socket {
            // Nobody may listen for a while: an earlier line's refusal says nothing about this one.
            Socket::Udp(socket) => match socket.send(&frame) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => socket.send(&frame).map(drop),
                sent => sent.map(drop),
            },
            Socket::Unix(socket) => socket.send(&frame).map(drop),
            Socket::Tcp(stream) => stream.write_all(&[format!("{} ", frame.len()).as_bytes(), &frame].concat()),
        }
    }
}

fn open(target: &LogTarget) -> io::Result<Socket> {
    match target {
        LogTarget::Tcp(address) => {
            let stream = TcpStream::connect_timeout(&resolve(address)?, PATIENCE)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(Socket::Tcp(stream))
        }
        LogTarget::Udp(address) => {
            let address = resolve(address)?;
            let own = match address {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            };
            let socket = UdpSocket::bind(own)?;
            socket.connect(address)?;
            Ok(Socket::Udp(socket))
        }
        LogTarget::Unix(path) => datagrams(path),
        LogTarget::File(path) => datagrams(path),
        LogTarget::Stdout | LogTarget::Stderr => Err(ErrorKind::Unsupported.into()),
    }
}

fn datagrams(path: &Path) -> io::Result<Socket> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(Socket::Unix(socket))
}

fn resolve(address: &str) -> io::Result<SocketAddr> {
    address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other(format!("{address} has no address")))
}

/// A line in its frame.
fn frame(form: SyslogForm, now: OffsetDateTime, host: &str, process: u32, line: &[u8]) -> Vec<u8> {
    let line = &line[..line.len().min(LONGEST)];
    let (day, hour, minute, second) = (now.day(), now.hour(), now.minute(), now.second());
    let head = match form {
        SyslogForm::Rfc5424 => {
            let (year, month, millis) = (now.year(), u8::from(now.month()), now.millisecond());
            let date = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z");
            format!("<{PRIORITY}>1 {date} {host} pointsman {process} - - ")
        }
        SyslogForm::Rfc3164 => {
            let month = &now.month().to_string()[..3];
            format!("<{PRIORITY}>{month} {day:>2} {hour:02}:{minute:02}:{second:02} {host} pointsman[{process}]: ")
        }
    };
    [head.as_bytes(), line].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let now = OffsetDateTime::from_unix_timestamp_nanos(1_795_908_222_537_000_000).unwrap();
        for (form, expected) in [
            (SyslogForm::Rfc5424, "<134>1 2026-11-28T23:23:42.537Z lb pointsman 7 - - a line"),
            (SyslogForm::Rfc3164, "<134>Nov 28 23:23:42 lb pointsman[7]: a line"),
        ] {
            assert_eq!(String::from_utf8(frame(form, now, "lb", 7, b"a line")).unwrap(), expected);
        }
        assert!(frame(SyslogForm::Rfc5424, now, "lb", 7, &[b'x'; 100_000]).len() < LONGEST + 100);
    }
}
