//! Backends below HTTP: one that plays a script of bytes, whatever the request, and a TCP echo.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;

/// What a scripted backend does after its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Reads the next request and plays the script again.
    Again,
    /// Closes gracefully.
    Close,
    /// Resets.
    Reset,
    /// Keeps the connection open and sends nothing more.
    Hang,
    /// Repeats the last bytes of the script.
    Forever,
}

/// A scripted backend: reads a request head, sends these bytes, then acts as `then` says.
pub(crate) struct Raw {
    address: SocketAddr,
    heads: Arc<AtomicUsize>,
}

impl Raw {
    /// Starts one.
    pub(crate) fn answering(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
        let address = listener.local_addr().expect("bound");
        let heads = Arc::new(AtomicUsize::new(0));
        let (bytes, counter) = (Arc::new(bytes.into()), Arc::clone(&heads));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (bytes, counter) = (Arc::clone(&bytes), Arc::clone(&counter));
                std::thread::spawn(move || drop(play(stream, &bytes, then, &counter)));
            }
        });
        Self { address, heads }
    }

    /// Its address as an instance's value.
    pub(crate) fn instance(&self) -> String {
        self.address.to_string()
    }

    /// The number of request heads read.
    pub(crate) fn heads(&self) -> usize {
        self.heads.load(Ordering::Acquire)
    }
}

/// A backend that keeps connections and asks a script what to answer: the bytes for its Nth request.
pub(crate) fn raw_answers(answer: impl Fn(usize) -> Vec<u8> + Send + Sync + 'static) -> Raw {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
    let address = listener.local_addr().expect("bound");
    let (answer, heads) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&heads);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, counter) = (Arc::clone(&answer), Arc::clone(&counter));
            std::thread::spawn(move || drop(answer_all(stream, &*answer, &counter)));
        }
    });
    Raw { address, heads }
}

fn answer_all(stream: TcpStream, answer: &dyn Fn(usize) -> Vec<u8>, heads: &AtomicUsize) -> io::Result<()> {
    let mut output = stream.try_clone()?;
    output.set_nodelay(true)?;
    let mut input = BufReader::new(stream);
    loop {
        read_head(&mut input)?;
        output.write_all(&answer(heads.fetch_add(1, Ordering::AcqRel)))?;
    }
}

fn play(stream: TcpStream, bytes: &[u8], then: Then, heads: &AtomicUsize) -> io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    loop {
        read_head(&mut input)?;
        heads.fetch_add(1, Ordering::Release);
        output.write_all(bytes)?;
        match then {
            Then::Again => {}
            Then::Close => return output.shutdown(Shutdown::Both),
            Then::Reset => return reset(&output),
            Then::Hang => return io::copy(&mut input, &mut io::sink()).map(drop),
            Then::Forever => loop {
                output.write_all(bytes.split_at(bytes.len().saturating_sub(16)).1)?;
            },
        }
    }
}

fn read_head(input: &mut impl BufRead) -> io::Result<()> {
    let mut line = Vec::new();
    while line != b"\r\n" {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Turns the coming close into a reset, after a pause for the peer to read what was written.
fn reset(stream: &TcpStream) -> io::Result<()> {
    std::thread::sleep(Duration::from_millis(50));
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// A TCP echo server; sends `<name>` first if it has a name. Half-closes after the last echoed byte.
pub(crate) fn echo_tcp(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(echo(stream, name)));
        }
    });
    address
}

fn echo(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(name.as_bytes())?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        stream.write_all(&buffer[..count])?;
    }
}
