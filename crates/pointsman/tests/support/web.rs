//! A web server for containers: one static program without dependencies, built by `rustc` on first use.
//!
//! `web` serves until TERM, and then finishes open requests. Environment: `NAME`, its response, and `PORT` (80). `/`
//! answers with the name; `/bytes/N` with that many bytes; `/count` with the number of requests so far; `/slow?ms=N`
//! after that time; `/health` with 200, but with 503 from `/sick` until `/well`; `/env?NAME` with a variable of the
//! environment. `web check URL` requests the URL and exits with 0 or 1; `web exit` does so at once.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::{sleep, spawn};
use std::time::Duration;

static STOPPING: AtomicBool = AtomicBool::new(false);
static SICK: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Open requests.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// How often a waiting thread checks whether to stop.
const BEAT: Duration = Duration::from_millis(10);
const TERM: i32 = 15;

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

extern "C" fn stop(_: i32) {
    STOPPING.store(true, SeqCst);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve(),
        ["check", url] => std::process::exit(i32::from(!check(url))),
        ["exit"] => {}
        _ => std::process::exit(2),
    }
}

fn serve() {
    // SAFETY: the handler only stores to an atomic.
    unsafe { signal(TERM, stop) };
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(80);
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
    listener.set_nonblocking(true).expect("a socket");
    while !STOPPING.load(SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => drop(spawn(move || client(stream))),
            Err(_) => sleep(BEAT),
        }
    }
    // Also serves connections that the kernel has already accepted.
    while let Ok((stream, _)) = listener.accept() {
        spawn(move || client(stream));
    }
    drop(listener);
    sleep(BEAT * 10);
    while AT_WORK.load(SeqCst) > 0 {
        sleep(BEAT);
    }
}

/// The requests of one connection, one after another.
fn client(stream: TcpStream) {
    let prepared = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(BEAT)));
    let (Ok(()), Ok(mut writer)) = (prepared, stream.try_clone()) else { return };
    let mut reader = BufReader::new(stream);
    while begins(&mut reader) {
        AT_WORK.fetch_add(1, SeqCst);
        let target = head(&mut reader);
        let answered = target.is_some_and(|target| answer(&mut writer, &target).is_ok());
        AT_WORK.fetch_sub(1, SeqCst);
        if !answered {
            return;
        }
    }
}

/// Waits for the first byte of a request; `false` when it is time to stop.
fn begins(reader: &mut BufReader<TcpStream>) -> bool {
    loop {
        match reader.fill_buf() {
            Ok(bytes) => return !bytes.is_empty(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if STOPPING.load(SeqCst) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
}

/// Reads a head, and a body with a length; returns the request's target.
fn head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    reader.get_ref().set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.trim_end().split_once(':') {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.trim().parse().ok()?,
            Some(_) => {}
        }
    }
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
    reader.get_ref().set_read_timeout(Some(BEAT)).ok()?;
    first.split(' ').nth(1).map(str::to_owned)
}

fn answer(writer: &mut TcpStream, target: &str) -> std::io::Result<()> {
    let count = COUNT.fetch_add(1, SeqCst) + 1;
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut status = "200 OK";
    if let Some(count) = path.strip_prefix("/bytes/").and_then(|count| count.parse::<usize>().ok()) {
        return respond(writer, status, &(0..count).map(|place| (place % 251) as u8).collect::<Vec<_>>());
    }
    let body = match path {
        "/count" => count.to_string(),
        "/env" => variable(query),
        "/slow" => {
            let wait = query.strip_prefix("ms=").and_then(|text| text.parse().ok()).unwrap_or(1000);
            sleep(Duration::from_millis(wait));
            variable("NAME")
        }
        "/sick" | "/well" => {
            SICK.store(path == "/sick", SeqCst);
            String::new()
        }
        "/health" if SICK.load(SeqCst) => {
            status = "503 Service Unavailable";
            "sick".to_owned()
        }
        _ => variable("NAME"),
    };
    respond(writer, status, body.as_bytes())
}

fn respond(writer: &mut TcpStream, status: &str, body: &[u8]) -> std::io::Result<()> {
    let close = if STOPPING.load(SeqCst) { "Connection: close\r\n" } else { "" };
    let mut answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{close}\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    writer.write_all(&answer)
}

/// Whether a URL such as `http://127.0.0.1:80/health` answers 200.
fn check(url: &str) -> bool {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if address.contains(':') { address.to_owned() } else { format!("{address}:80") };
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line)
    };
    ask().is_ok_and(|line| line.split(' ').nth(1) == Some("200"))
}
