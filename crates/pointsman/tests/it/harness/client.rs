//! An HTTP/1.1 client that trusts nothing: sends exact bytes, and checks every length that it receives.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Deadline for a single read.
const READ: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Connection {
    reader: BufReader<TcpStream>,
}

/// A response, read completely.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// The whole head, as received.
    pub(crate) head: String,
    /// The body, decoded.
    pub(crate) body: Vec<u8>,
    /// The trailer section, as received.
    pub(crate) trailers: String,
}

impl Response {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether the connection closes after it.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// First value of a header, by case-insensitive name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        field(self.head.lines().skip(1), name)
    }

    /// First value of a trailer, by case-insensitive name.
    pub(crate) fn trailer(&self, name: &str) -> Option<&str> {
        field(self.trailers.lines(), name)
    }
}

fn field<'t>(lines: impl Iterator<Item = &'t str>, name: &str) -> Option<&'t str> {
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

impl Connection {
    /// Connects; fails the test if it cannot.
    #[track_caller]
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// Connects.
    pub(crate) fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, READ)?;
        stream.set_read_timeout(Some(READ))?;
        stream.set_write_timeout(Some(READ))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Ends it by a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(self.stream()).set_linger(Some(Duration::ZERO)).expect("an open socket");
    }

    /// The socket below.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends exactly these bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Half-closes the connection: nothing more will be sent.
    pub(crate) fn finish_sending(&self) {
        let _ = self.stream().shutdown(Shutdown::Write);
    }

    /// Sends a request without a body, kept alive, and reads the response.
    pub(crate) fn request(&mut self, method: &str, host: &str, target: &str) -> io::Result<Response> {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))?;
        self.response(method)
    }

    /// Reads one response; skips interim ones (1xx except 101).
    pub(crate) fn response(&mut self, method: &str) -> io::Result<Response> {
        loop {
            let response = self.any_response(method)?;
            if !(100..200).contains(&response.status) || response.status == 101 {
                return Ok(response);
            }
        }
    }

    /// Reads one response, which may be an interim one.
    pub(crate) fn any_response(&mut self, method: &str) -> io::Result<Response> {
        let head = self.read_head()?;
        let status = status_of(&head)?;
        let mut response = Response { status, head, ..Response::default() };
        if method != "HEAD" && !(100..200).contains(&status) && ![204, 304].contains(&status) {
            self.read_body(&mut response)?;
        }
        Ok(response)
    }

    /// Reads a head, including the final empty line.
    pub(crate) fn read_head(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if self.reader.read_until(b'\n', &mut head)? == 0 {
                let head = String::from_utf8_lossy(&head);
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the end after {head:?}")));
            }
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    fn read_body(&mut self, response: &mut Response) -> io::Result<()> {
        let chunked = response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        let length = response.header("content-length").map(str::parse::<usize>);
        match (chunked, length) {
            (true, None) => self.read_chunks(response),
            (false, Some(Ok(length))) => {
                response.body.resize(length, 0);
                self.reader.read_exact(&mut response.body)
            }
            (false, None) => self.reader.read_to_end(&mut response.body).map(drop),
            _ => Err(invalid(format!("a length that can be read two ways: {}", response.head))),
        }
    }

    fn read_chunks(&mut self, response: &mut Response) -> io::Result<()> {
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let size =
                usize::from_str_radix(line.trim_end(), 16).map_err(|_| invalid(format!("chunk size {line:?}")))?;
            if size == 0 {
                return self.read_trailers(response);
            }
            let start = response.body.len();
            response.body.resize(start + size + 2, 0);
            self.reader.read_exact(&mut response.body[start..])?;
            if !response.body.ends_with(b"\r\n") {
                return Err(invalid("a chunk that does not end with its size".to_owned()));
            }
            response.body.truncate(start + size);
        }
    }

    fn read_trailers(&mut self, response: &mut Response) -> io::Result<()> {
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            match line.as_str() {
                "\r\n" => return Ok(()),
                "" => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => response.trailers.push_str(&line),
            }
        }
    }

    /// Reads exactly this many bytes.
    pub(crate) fn read_bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads the available bytes, up to `most`; 0 bytes mean the end.
    pub(crate) fn read_some(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; most];
        let count = self.reader.read(&mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Reads until the other side closes or resets; returns the bytes.
    pub(crate) fn read_rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.reader.read_to_end(&mut rest);
        rest
    }

    /// Whether the other side has closed and there are no more bytes.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.read_some(1) {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
}

/// The head of a request to upgrade to WebSocket (RFC 6455 §4.1).
pub(crate) fn websocket(target: &str, host: &str) -> String {
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket";
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{upgrade}\r\n{key}\r\n\r\n")
}

/// One GET on a new connection.
pub(crate) fn get(address: SocketAddr, host: &str, target: &str) -> io::Result<Response> {
    let mut connection = Connection::try_open(address)?;
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))?;
    connection.response("GET")
}

/// [`get`] that must get 200.
#[track_caller]
pub(crate) fn get_ok(address: SocketAddr, host: &str, target: &str) -> Response {
    let response = get(address, host, target).unwrap_or_else(|error| panic!("{host}{target}: {error}"));
    assert_eq!(response.status, 200, "{host}{target}: {}{}", response.head, response.text());
    response
}

fn status_of(head: &str) -> io::Result<u16> {
    let mut words = head.split(' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.trim_end().parse().ok());
    match (version.starts_with("HTTP/1."), status) {
        (true, Some(status)) => Ok(status),
        _ => Err(invalid(format!("not a status line: {head:?}"))),
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
