//! One kept HTTP/1.1 connection: a request, then its answer. Knows answers with a `Content-Length` only.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For an answer, at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
pub(crate) struct Talk<S = TcpStream>(S);

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
}

impl<S: Read + Write> Talk<S> {
    /// On an open connection.
    pub(crate) fn over(stream: S) -> Self {
        Self(stream)
    }

    /// The connection.
    pub(crate) fn into_inner(self) -> S {
        self.0
    }

    /// The status of the answer to a request, which is read to its end.
    ///
    /// # Errors
    /// Those of the connection, and an answer of no known length.
    pub(crate) fn ask(&mut self, request: &str) -> io::Result<u16> {
        Ok(self.answer(request)?.status)
    }

    /// The whole answer to a request.
    ///
    /// # Errors
    /// Those of the connection, and an answer of no known length.
    pub(crate) fn answer(&mut self, request: &str) -> io::Result<WholeAnswer> {
        self.0.write_all(request.as_bytes())?;
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let count = self.0.read(&mut piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&piece[..count]);
            if let Some(answer) = read(&bytes)? {
                return Ok(answer);
            }
        }
    }
}

/// An answer.
pub(crate) struct WholeAnswer {
    /// Its status.
    pub(crate) status: u16,
    /// Its head, without the empty line.
    pub(crate) head: String,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

/// The answer, once it is there.
fn read(bytes: &[u8]) -> io::Result<Option<WholeAnswer>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields
        .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .find_map(|(_, value)| value.trim().parse::<usize>().ok());
    match (status, length) {
        (Some(status), Some(length)) => {
            let body = bytes.get(end + 4..end + 4 + length);
            Ok(body.map(|body| WholeAnswer { status, body: body.to_vec(), head }))
        }
        _ => Err(io::Error::other(format!("no status or no length: {head}"))),
    }
}
