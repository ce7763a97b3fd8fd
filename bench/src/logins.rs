//! What guessed passwords of one service cost the requests of another: the time of an answer, with a hundred bad logins a second
//! and without.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::drive::{Background, Load};
use crate::options::Options;
use crate::peers::{self, HOST, Workplace};
use crate::report::{Report, quantile};
use crate::talk::Talk;

/// Bad logins a second, each on a connection of its own.
const LOGINS: u64 = 100;
/// The host of the service that asks for passwords.
const ASKING: &str = "login.test";
/// The hashes that guesses are compared with, by name.
const HASHES: [(&str, &str); 2] = [
    ("$6$", "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1"),
    ("$2y$", "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"),
];
/// The 99th percentile of others with them over without, at most.
const COST: f64 = 1.5;
/// What is at work besides.
const BESIDE: Load<'static> = Load { connections: 16, path: "/", close: false, script: None };

/// Measures each kind of hash.
pub(crate) fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    for (name, hash) in HASHES {
        let (with, without) = compared(options, hash)?;
        report.note(format!("p99 of others, {LOGINS} bad logins/s ({name})"), with, "us");
        report.note(format!("p99 of others, none ({name})"), without, "us");
        report.hold(format!("p99 of others, bad logins ({name}): on / off"), with / without, "x", COST);
    }
    Ok(())
}

/// The 99th percentiles, microseconds: with bad logins, and without.
fn compared(options: &Options, hash: &str) -> io::Result<(f64, f64)> {
    let place = Workplace::new("logins")?;
    let backend = peers::responder()?;
    let keys = place.path().join("keys");
    peers::write_service(&keys, "bench", HOST, &[backend.address])?;
    peers::write_service(&keys, "login", ASKING, &[backend.address])?;
    std::fs::write(keys.join("services/login/basic_auth_secrets"), format!("user ann password {hash}\n"))?;
    let peer = peers::pointsman("logins", &options.pointsman, &keys)?;
    let load = Background::start(peer.address, &BESIDE)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        without.extend(answers(peer.address, options.turn)?);
        let (address, is_over) = (peer.address, &AtomicBool::new(false));
        let measured = thread::scope(|scope| {
            (0..LOGINS).for_each(|number| drop(scope.spawn(move || guess(address, number, is_over))));
            let measured = answers(peer.address, options.turn);
            is_over.store(true, Ordering::Relaxed);
            measured
        });
        with.extend(measured?);
    }
    load.stop()?;
    Ok((quantile(with, 0.99), quantile(without, 0.99)))
}

/// How long answers take, microseconds, one after another for so long.
fn answers(address: SocketAddr, span: Duration) -> io::Result<Vec<f64>> {
    let (mut talk, start, mut took) = (Talk::to(address)?, Instant::now(), Vec::new());
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    while start.elapsed() < span {
        let asked = Instant::now();
        talk.ask(&request)?;
        took.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    Ok(took)
}

/// Guesses once a second, another password each time. What becomes of it does not matter.
fn guess(address: SocketAddr, number: u64, is_over: &AtomicBool) {
    // All of them spread over the second.
    thread::sleep(Duration::from_millis(number * 1_000 / LOGINS));
    let mut talk = Talk::to(address);
    for guess in 0_u64.. {
        let start = Instant::now();
        let login = STANDARD.encode(format!("ann:{number}-{guess}"));
        let request = format!("GET / HTTP/1.1\r\nHost: {ASKING}\r\nAuthorization: Basic {login}\r\n\r\n");
        if talk.as_mut().map_or(true, |talk| talk.ask(&request).is_err()) {
            talk = Talk::to(address);
        }
        while start.elapsed() < Duration::from_secs(1) {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}
