//! A backend that answers each request as a script says, by its number, and counts what is at work.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What is answered to the request of this number, counted from 0 over all connections, with this request line. Empty: the
/// connection ends.
type Script = dyn Fn(usize, &str) -> Vec<u8> + Send + Sync;

/// A scripted backend.
pub(crate) struct Scripted {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    lines: Mutex<Vec<String>>,
    active: AtomicUsize,
    most: AtomicUsize,
}

/// Serves each connection on a thread of its own. Ends with the tests.
pub(crate) fn listening(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
    let (address, serve) = (listener.local_addr().expect("bound"), Arc::new(serve));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

impl Scripted {
    /// Starts one.
    pub(crate) fn new(script: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let seen = Arc::<Seen>::default();
        let known = Arc::clone(&seen);
        Self { address: listening(move |stream| drop(serve(stream, &known, &script))), seen }
    }

    /// One that always answers this status, with its name as the body.
    pub(crate) fn saying(status: u16, name: &'static str) -> Self {
        Self::new(move |_, _| answer(status, name))
    }

    /// Its address as an instance's value.
    pub(crate) fn instance(&self) -> String {
        self.address.to_string()
    }

    /// The lines of the requests that it read, in their order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen.lines.lock().expect("no panic while held").clone()
    }

    /// How many requests it read.
    pub(crate) fn requests(&self) -> usize {
        self.seen.lines.lock().expect("no panic while held").len()
    }

    /// The most requests that were at work at once.
    pub(crate) fn most(&self) -> usize {
        self.seen.most.load(Ordering::Acquire)
    }
}

/// A whole answer.
pub(crate) fn answer(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The next request's head; `None`: there is none.
pub(crate) fn request_head(input: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let (mut head, mut line) = (String::new(), String::new());
    while line != "\r\n" {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        head += &line;
    }
    Ok(Some(head))
}

fn serve(stream: TcpStream, seen: &Seen, script: &Script) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    loop {
        let Some(head) = request_head(&mut input)? else { return Ok(()) };
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        io::copy(&mut input.by_ref().take(length.unwrap_or(0)), &mut io::sink())?;
        let line = head.lines().next().unwrap_or_default().to_owned();
        let number = {
            let mut lines = seen.lines.lock().expect("no panic while held");
            lines.push(line.clone());
            lines.len() - 1
        };
        let active = seen.active.fetch_add(1, Ordering::AcqRel) + 1;
        seen.most.fetch_max(active, Ordering::AcqRel);
        let answer = script(number, &line);
        seen.active.fetch_sub(1, Ordering::AcqRel);
        if answer.is_empty() {
            return Ok(());
        }
        output.write_all(&answer)?;
    }
}
