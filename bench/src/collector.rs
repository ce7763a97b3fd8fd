//! A collector of OTLP over HTTP that takes everything and keeps nothing.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Starts one, which ends with the program.
///
/// # Errors
/// There is no port.
pub(crate) fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(serve(stream)));
        }
    });
    Ok(address)
}

fn serve(stream: TcpStream) -> io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while input.read_line(&mut line)? > 0 {
        if let Some(told) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = told.trim().parse().map_err(io::Error::other)?;
        }
        if line == "\r\n" {
            io::copy(&mut input.by_ref().take(length), &mut io::sink())?;
            output.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        line.clear();
    }
    Ok(())
}
