//! A server that answers like etcd v2, with whatever a test wants it to say: an older state, another key, no end.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The server. Its threads end with it.
pub(crate) struct FakeEtcd {
    address: SocketAddr,
    said: Arc<Said>,
}

#[derive(Default)]
struct Said {
    list: Mutex<List>,
    /// The answer to the poll that waits.
    poll: Mutex<Option<(u16, String)>>,
    lists: AtomicUsize,
    ended: AtomicBool,
}

#[derive(Clone, Default)]
struct List {
    index: u64,
    status: u16,
    /// `None`: a body that never ends.
    body: Option<String>,
}

impl Drop for FakeEtcd {
    fn drop(&mut self) {
        self.said.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl FakeEtcd {
    /// A server without keys.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let said = Arc::new(Said::default());
        let shared = said.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let said = shared.clone();
                if said.ended.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::spawn(move || talk(stream, &said));
            }
        });
        Self { address, said }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, it is at this index and lists this.
    pub(crate) fn list(&self, index: u64, body: &str) {
        *self.lock() = List { index, status: 200, body: Some(body.to_owned()) };
    }

    /// The same at the present index, with this status.
    pub(crate) fn list_as(&self, status: u16, body: &str) {
        let index = self.lock().index;
        *self.lock() = List { index, status, body: Some(body.to_owned()) };
    }

    /// From now on, its lists never end.
    pub(crate) fn list_without_end(&self) {
        self.lock().body = None;
    }

    /// Ends the poll that waits, or the next one, with this.
    pub(crate) fn answer_poll(&self, status: u16, body: &str) {
        *self.said.poll.lock().expect("no panic while held") = Some((status, body.to_owned()));
    }

    /// How often it was asked for a list.
    pub(crate) fn lists(&self) -> usize {
        self.said.lists.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, List> {
        self.said.list.lock().expect("no panic while held")
    }
}

fn talk(stream: TcpStream, said: &Said) {
    let mut reader = BufReader::new(&stream);
    while let Ok(Some(target)) = request(&mut reader) {
        let list = said.list.lock().expect("no panic while held").clone();
        let answered = match target.as_str() {
            target if target.contains("wait=true") => poll(&stream, said, list.index),
            target if target.contains("recursive=true") => {
                said.lists.fetch_add(1, Ordering::Relaxed);
                match &list.body {
                    Some(body) => answer(&stream, list.status, list.index, body),
                    None => without_end(&stream, list.index),
                }
            }
            "/v2/members/leader" => answer(&stream, 200, list.index, "{}"),
            // No status is kept here.
            _ => answer(&stream, 500, list.index, r#"{"errorCode":300,"message":"Raft Internal Error"}"#),
        };
        if answered.is_err() {
            return;
        }
    }
}

/// The next request's target; its body is thrown away.
fn request(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap_or(0),
            Some(_) => {}
            None => break,
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    Ok(first.split(' ').nth(1).map(str::to_owned))
}

fn answer(mut stream: &TcpStream, status: u16, index: u64, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} Said\r\nX-Etcd-Index: {index}\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn without_end(mut stream: &TcpStream, index: u64) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nX-Etcd-Index: {index}\r\nConnection: close\r\n\r\n")?;
    let blank = vec![b' '; 1 << 20];
    loop {
        stream.write_all(&blank)?;
    }
}

/// The head at once, as etcd does; the body when the test says so.
fn poll(mut stream: &TcpStream, said: &Said, index: u64) -> io::Result<()> {
    let take = || said.poll.lock().expect("no panic while held").take();
    let mut ready = take();
    if let Some((status, body)) = ready.take() {
        return answer(stream, status, index, &body);
    }
    // A body is announced in chunks. If it is an error after all, it comes with the next poll.
    write!(stream, "HTTP/1.1 200 OK\r\nX-Etcd-Index: {index}\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    while !said.ended.load(Ordering::Relaxed) {
        match take() {
            Some((200, body)) => return write!(stream, "{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            Some(error) => {
                *said.poll.lock().expect("no panic while held") = Some(error);
                // An empty body: etcd ends polls so when it stops.
                return write!(stream, "0\r\n\r\n");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}
