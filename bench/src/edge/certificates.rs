//! 10,000 certificates: the time until they serve, memory, and the time until a changed one serves.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;

use super::secure::{client, connect};
use crate::drive::resident;
use crate::options::{Options, Visit};
use crate::peers::{self, HOST, Peer, Workplace};
use crate::report::{Report, median};

/// Certificates.
const MANY: usize = 10_000;
/// Until the last one serves, at most, seconds.
const LOADED: f64 = 2.0;
/// Memory that they take, at most, MB.
const MEMORY: f64 = 30.0;
/// Until a changed one serves, at most, milliseconds.
const SWAPPED: f64 = 20.0;
/// Certificates that are changed, one after the other.
const SWAPS: usize = 9;
/// For anything to be served, at most.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two handshakes that look what is served.
const PAUSE: Duration = Duration::from_millis(1);
/// How long the program has to come to rest.
const REST: Duration = Duration::from_millis(1_500);

/// The kind of a key.
#[derive(Clone, Copy)]
pub(crate) enum KeyKind {
    /// On the curve P-256.
    Ecdsa,
    /// Of 2048 bits.
    Rsa,
}

/// A certificate for a host, signed by itself, and its key, as PEM.
///
/// # Errors
/// If openssl cannot make it.
pub(crate) fn make(place: &Workplace, kind: KeyKind, host: &str) -> io::Result<String> {
    let (certificate, key) = (place.path().join("new.crt"), place.path().join("new.key"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-days", "365", "-subj", "/CN=version-0"]);
    command.args(["-addext", &format!("subjectAltName=DNS:{host}")]);
    match kind {
        KeyKind::Ecdsa => command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        KeyKind::Rsa => command.args(["-newkey", "rsa:2048"]),
    };
    let output = command.arg("-keyout").arg(&key).arg("-out").arg(&certificate).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("openssl: {}", String::from_utf8_lossy(&output.stderr))));
    }
    Ok(fs::read_to_string(certificate)? + &fs::read_to_string(key)?)
}

/// Measures them.
///
/// # Errors
/// If the program does not serve them.
pub(super) fn measure(options: &Options, to: SocketAddr, place: &Workplace, report: &mut Report) -> io::Result<()> {
    let template = Template::new(&make(place, KeyKind::Ecdsa, &host(0))?)?;
    let (mut loads, mut grown, mut swaps) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds.min(3) {
        let (few, many) = (place.path().join(format!("few-{round}")), place.path().join(format!("many-{round}")));
        let one = Served::start(&options.pointsman, &few, to, &template, 1)?;
        let all = Served::start(&options.pointsman, &many, to, &template, MANY)?;
        loads.push(all.took.saturating_sub(one.took).as_secs_f64());
        thread::sleep(REST);
        grown.push((all.memory()? - one.memory()?) / 1e6);
        for number in 0..SWAPS {
            swaps.push(all.swap(&template, number * 1_009 % MANY)?.as_secs_f64() * 1e3);
        }
    }
    report.hold("10,000 certificates: until the last one serves", median(loads), "s", LOADED);
    report.hold("10,000 certificates: until a changed one serves", median(swaps), "ms", SWAPPED);
    report.hold("10,000 certificates: resident memory", median(grown), "MB", MEMORY);
    Ok(())
}

/// The host of a certificate by its number. All have the same length.
fn host(number: usize) -> String {
    format!("c{number:05}.test")
}

/// A certificate of which others are copies for other hosts. Their signatures are wrong: nobody verifies them.
struct Template {
    certificate: Vec<u8>,
    key: String,
}

impl Template {
    fn new(pem: &str) -> io::Result<Self> {
        let (certificate, key) = pem.split_once("-----END CERTIFICATE-----").ok_or(io::ErrorKind::InvalidData)?;
        let lines = certificate.lines().filter(|line| !line.starts_with('-'));
        let certificate = STANDARD.decode(lines.collect::<String>()).map_err(io::Error::other)?;
        Ok(Self { certificate, key: key.trim_start().to_owned() })
    }

    /// As DER.
    fn copy(&self, number: usize, version: u8) -> Vec<u8> {
        let mut copy = self.certificate.clone();
        replace(&mut copy, host(0).as_bytes(), host(number).as_bytes());
        // In the subject, and in the issuer.
        for _ in 0..2 {
            replace(&mut copy, b"version-0", format!("version-{version}").as_bytes());
        }
        copy
    }

    fn pem(&self, certificate: &[u8]) -> String {
        let text = STANDARD.encode(certificate);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n{}", lines.join("\n"), self.key)
    }
}

/// Replaces the first of some bytes by as many others.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let found = bytes.windows(old.len()).position(|some| some == old);
    let at = found.expect("openssl wrote it");
    bytes[at..at + old.len()].copy_from_slice(new);
}

/// Pointsman with certificates.
struct Served {
    peer: Peer,
    secure: SocketAddr,
    certs: PathBuf,
    client: Arc<ClientConfig>,
    /// From its start until its last certificate served.
    took: Duration,
}

impl Served {
    fn start(program: &Path, keys: &Path, to: SocketAddr, template: &Template, count: usize) -> io::Result<Self> {
        let (certs, secure) = (keys.join("certs"), peers::free_address()?);
        peers::write_service(keys, "bench", HOST, &[to])?;
        fs::create_dir_all(&certs)?;
        for number in 0..count {
            fs::write(certs.join(format!("c{number:05}")), template.pem(&template.copy(number, 0)))?;
        }
        let (store, https) = (keys.to_string_lossy(), secure.to_string());
        let flags = ["--store", &store, "--prefix", "/", "--https", &https];
        let start = Instant::now();
        let peer = peers::pointsman_of("Pointsman", program, &keys.with_extension("state"), &flags)?;
        let client = Arc::new(client("http/1.1", Visit::First)?);
        let mut served = Self { peer, secure, certs, client, took: Duration::ZERO };
        served.wait(count - 1, &template.copy(count - 1, 0))?;
        served.took = start.elapsed();
        Ok(served)
    }

    fn memory(&self) -> io::Result<f64> {
        Ok(resident(self.peer.id())? as f64)
    }

    /// Writes another certificate; the time until a handshake shows it.
    fn swap(&self, template: &Template, number: usize) -> io::Result<Duration> {
        let certificate = template.copy(number, 1);
        // Renamed, so that nobody reads a part of it.
        let (new, file) = (self.certs.join(".new"), self.certs.join(format!("c{number:05}")));
        fs::write(&new, template.pem(&certificate))?;
        let start = Instant::now();
        fs::rename(&new, &file)?;
        self.wait(number, &certificate)?;
        Ok(start.elapsed())
    }

    /// Waits until a handshake shows this certificate.
    fn wait(&self, number: usize, certificate: &[u8]) -> io::Result<()> {
        let (start, host) = (Instant::now(), host(number));
        while start.elapsed() < PATIENCE {
            // Without a table yet, a handshake fails.
            let shown = connect(self.secure, &host, &self.client).ok();
            let shown = shown.and_then(|stream| Some(stream.conn.peer_certificates()?.first()?.to_vec()));
            if shown.is_some_and(|shown| shown == certificate) {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(io::Error::other(format!("the certificate of {host} is not served")))
    }
}
