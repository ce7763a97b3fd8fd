//! Pages asked for over HTTP: Pointsman's admin pages, and whoever else answers and closes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Waits until Pointsman's admin page reports ready.
///
/// # Errors
/// If it does not within a minute.
pub(crate) fn wait_ready(admin: SocketAddr) -> io::Result<()> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if is_ready(admin).unwrap_or(false) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(io::Error::other("pointsman does not become ready"))
}

fn is_ready(admin: SocketAddr) -> io::Result<bool> {
    Ok(page(admin, "/readyz")?.starts_with("HTTP/1.1 200 "))
}

fn page(admin: SocketAddr, path: &str) -> io::Result<String> {
    ask(admin, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
}

/// Sends one request, and reads until the other side closes.
///
/// # Errors
/// Errors of the connection.
pub(crate) fn ask(address: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The sum of a metric's samples.
///
/// # Errors
/// Errors of the connection.
pub(crate) fn metric(admin: SocketAddr, name: &str) -> io::Result<f64> {
    let page = page(admin, "/metrics")?;
    let samples = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    Ok(samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}
