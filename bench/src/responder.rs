//! A backend with negligible cost: answers as soon as a request head ends, and closes if the request says so. Requests
//! must have no body.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use crate::sys::{self, Epoll, Interest};

/// Body bytes of a normal response.
pub(crate) const SMALL: usize = 12;
/// Begins a request for its own head: the answer's body is what arrived.
const HEAD: &[u8] = b"GET /head ";
/// The field of a request after which the connection closes, as wrk writes it.
const CLOSE: &[u8] = b"Connection: close\r\n";
/// Body bytes of a large response, at `/large`.
pub(crate) const LARGE: usize = 1 << 20;

/// What it answers.
struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
    /// As `small`, to a request that closes.
    last: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    /// How many bytes of `\r\n\r\n` the input has matched.
    matched: usize,
    /// Whether the current request is for the large response.
    large: bool,
    /// Whether the connection closes once `pending` is written.
    closing: bool,
    pending: Vec<u8>,
}

struct Responder {
    epoll: Epoll,
    /// By descriptor number.
    peers: Vec<Option<Client>>,
    buffer: Vec<u8>,
    answers: Answers,
}

/// Answers until killed, with bodies that repeat its name.
pub(crate) fn run(listen: SocketAddr, name: u8) {
    let listener = sys::listen(listen).expect("the bench chose a free port");
    let epoll = Epoll::new().expect("the kernel has epoll");
    epoll.add(&listener, Interest::Read).expect("a listener can be watched");
    let door = usize::try_from(listener.as_raw_fd()).expect("descriptors are not negative");
    let answer = |length, field| answer(field, &vec![name; length]);
    let answers =
        Answers { small: answer(SMALL, ""), large: answer(LARGE, ""), last: answer(SMALL, "Connection: close\r\n") };
    let mut responder = Responder { epoll, peers: Vec::new(), buffer: vec![0; 64 * 1024], answers };
    let mut ready = Vec::new();
    loop {
        responder.epoll.wait(&mut ready).expect("waiting on our own epoll");
        for &fd in &ready {
            if fd == door { responder.accept(&listener) } else { responder.step(fd) }
        }
    }
}

fn answer(field: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{field}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

impl Responder {
    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            let fd = usize::try_from(stream.as_raw_fd()).expect("descriptors are not negative");
            stream.set_nonblocking(true).expect("a socket can be");
            stream.set_nodelay(true).expect("a socket can be");
            self.epoll.add(&stream, Interest::Read).expect("a socket can be watched");
            if self.peers.len() <= fd {
                self.peers.resize_with(fd + 1, || None);
            }
            self.peers[fd] = Some(Client { stream, matched: 0, large: false, closing: false, pending: Vec::new() });
        }
    }

    fn step(&mut self, fd: usize) {
        let Some(Some(peer)) = self.peers.get_mut(fd) else {
            return;
        };
        let was_writing = !peer.pending.is_empty();
        let alive = if was_writing { peer.flush() } else { peer.read(&mut self.buffer, &self.answers) };
        let writing = !peer.pending.is_empty();
        if !alive {
            self.peers[fd] = None;
        } else if writing != was_writing {
            let interest = if writing { Interest::Write } else { Interest::Read };
            let _ = self.epoll.change(&peer.stream, interest);
        }
    }
}

impl Client {
    /// Reads once and answers every head that ends in the input; `false` when the connection is over.
    fn read(&mut self, buffer: &mut [u8], answers: &Answers) -> bool {
        let count = match self.stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let input = &buffer[..count];
        if input.starts_with(HEAD) {
            self.pending = answer("", input);
            return self.flush();
        }
        if input.starts_with(b"GET /large ") {
            self.large = true;
        }
        self.closing |= input.windows(CLOSE.len()).any(|bytes| bytes == CLOSE);
        for &byte in input {
            self.matched =
                if byte == b"\r\n\r\n"[self.matched] { self.matched + 1 } else { usize::from(byte == b'\r') };
            if self.matched == 4 {
                self.matched = 0;
                self.pending.extend_from_slice(match (std::mem::take(&mut self.large), self.closing) {
                    (true, _) => &answers.large,
                    (false, true) => &answers.last,
                    (false, false) => &answers.small,
                });
            }
        }
        self.flush()
    }

    /// Writes as much as the socket accepts; `false` when the connection is over.
    fn flush(&mut self) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        match self.stream.write(&self.pending) {
            Ok(written) => self.pending.drain(..written),
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        !(self.closing && self.pending.is_empty())
    }
}
