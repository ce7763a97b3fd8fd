//! One kept HTTP/1.1 connection: a request, then its answer. Knows answers with a `Content-Length` only.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For an answer, at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
pub(crate) struct Talk(TcpStream);

impl Talk {
    /// Opens one.
    ///
    /// # Errors
    /// Errors of the connection.
    pub(crate) fn to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// The status of the answer to a request, which is read to its end.
    ///
    /// # Errors
    /// Those of the connection, and an answer of no known length.
    pub(crate) fn ask(&mut self, request: &str) -> io::Result<u16> {
        self.0.write_all(request.as_bytes())?;
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let count = self.0.read(&mut piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(&piece[..count]);
            if let Some((status, length)) = read(&answer)?
                && answer.len() >= length
            {
                return Ok(status);
            }
        }
    }
}

/// The status, and the length of head and body, once the head is there.
fn read(answer: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .find_map(|(_, value)| value.trim().parse::<usize>().ok());
    match (status, length) {
        (Some(status), Some(length)) => Ok(Some((status, end + 4 + length))),
        _ => Err(io::Error::other(format!("no status or no length: {head}"))),
    }
}
