//! The lower bound for proxies: a relay on bare epoll that parses nothing. One thread, one upstream connection per
//! client; when the backend closes, or the client, it closes both. So a client that opens a connection for each request
//! makes it open one to the backend for each.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use crate::sys::{self, Epoll, Interest};

struct Side {
    stream: TcpStream,
    other: usize,
    /// Bytes that did not fit into this side's socket yet.
    pending: Vec<u8>,
}

struct Relay {
    epoll: Epoll,
    to: SocketAddr,
    /// By descriptor number.
    sides: Vec<Option<Side>>,
    buffer: Vec<u8>,
}

/// Relays until killed.
pub(crate) fn run(listen: SocketAddr, to: SocketAddr) {
    let listener = sys::listen(listen).expect("the bench chose a free port");
    let epoll = Epoll::new().expect("the kernel has epoll");
    epoll.add(&listener, Interest::Read).expect("a listener can be watched");
    let door = usize::try_from(listener.as_raw_fd()).expect("descriptors are not negative");
    let mut relay = Relay { epoll, to, sides: Vec::new(), buffer: vec![0; 64 * 1024] };
    let mut ready = Vec::new();
    loop {
        relay.epoll.wait(&mut ready).expect("waiting on our own epoll");
        for &fd in &ready {
            if fd == door { relay.accept(&listener) } else { relay.step(fd) }
        }
    }
}

impl Relay {
    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((client, _)) = listener.accept() {
            if let Ok(upstream) = TcpStream::connect(self.to) {
                let (client_fd, upstream_fd) = (number(&client), number(&upstream));
                self.keep(client, upstream_fd);
                self.keep(upstream, client_fd);
            }
        }
    }

    fn keep(&mut self, stream: TcpStream, other: usize) {
        let fd = number(&stream);
        stream.set_nonblocking(true).expect("a socket can be");
        stream.set_nodelay(true).expect("a socket can be");
        self.epoll.add(&stream, Interest::Read).expect("a socket can be watched");
        if self.sides.len() <= fd {
            self.sides.resize_with(fd + 1, || None);
        }
        self.sides[fd] = Some(Side { stream, other, pending: Vec::new() });
    }

    fn step(&mut self, fd: usize) {
        let Some(Some(side)) = self.sides.get_mut(fd) else {
            return;
        };
        if !side.pending.is_empty() {
            return self.flush(fd);
        }
        let other = side.other;
        match side.stream.read(&mut self.buffer) {
            Ok(0) => self.close(fd, other),
            Ok(count) => self.pass(fd, other, count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.close(fd, other),
        }
    }

    fn pass(&mut self, from: usize, to: usize, count: usize) {
        let Some(Some(side)) = self.sides.get_mut(to) else {
            return;
        };
        let written = match side.stream.write(&self.buffer[..count]) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return self.close(from, to),
        };
        if written < count {
            side.pending.extend_from_slice(&self.buffer[written..count]);
            self.turn(to, Interest::Write);
            self.pause(from);
        }
    }

    /// Stops reading from a side until the other has accepted its bytes.
    fn pause(&mut self, fd: usize) {
        if let Some(Some(side)) = self.sides.get(fd) {
            let _ = self.epoll.remove(&side.stream);
        }
    }

    fn flush(&mut self, fd: usize) {
        let Some(Some(side)) = self.sides.get_mut(fd) else {
            return;
        };
        match side.stream.write(&side.pending) {
            Ok(written) => drop(side.pending.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                let other = side.other;
                return self.close(fd, other);
            }
        }
        let Some(Some(side)) = self.sides.get(fd) else {
            return;
        };
        if side.pending.is_empty() {
            let other = side.other;
            self.turn(fd, Interest::Read);
            if let Some(Some(side)) = self.sides.get(other) {
                let _ = self.epoll.add(&side.stream, Interest::Read);
            }
        }
    }

    fn turn(&self, fd: usize, interest: Interest) {
        if let Some(Some(side)) = self.sides.get(fd) {
            let _ = self.epoll.change(&side.stream, interest);
        }
    }

    fn close(&mut self, one: usize, other: usize) {
        for fd in [one, other] {
            if let Some(side) = self.sides.get_mut(fd) {
                *side = None;
            }
        }
    }
}

fn number(stream: &TcpStream) -> usize {
    usize::try_from(stream.as_raw_fd()).expect("descriptors are not negative")
}
