//! 200 services written to etcd back to back: how long each takes from its last key to its first answer.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::options::Options;
use crate::peers::{self, Workplace};
use crate::report::{Report, median, quantile};
use crate::talk::Talk;

/// Services of a burst.
const SERVICES: usize = 200;
/// For 99 of 100 of them, milliseconds.
const MOST: f64 = 50.0;
/// For all of them to answer, at most.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the keys begin.
const PREFIX: &str = "/haproxy-burst";

/// Measures bursts with each API of etcd.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    for api in [2, 3] {
        if let Err(error) = measure_with(api, options, report) {
            report.fail(&format!("burst, API {api}"), &error);
        }
    }
}

fn measure_with(api: u8, options: &Options, report: &mut Report) -> io::Result<()> {
    let (mut medians, mut highs) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let took = round(api, options)?;
        medians.push(quantile(took.clone(), 0.5));
        highs.push(quantile(took, 0.99));
    }
    report.note(format!("burst of 200 services, API {api}: last key to answer, median"), median(medians), "ms");
    report.hold(format!("burst of 200 services, API {api}: last key to answer, p99"), median(highs), "ms", MOST);
    Ok(())
}

/// What each service took in one burst, milliseconds.
fn round(api: u8, options: &Options) -> io::Result<Vec<f64>> {
    let place = Workplace::new("burst")?;
    let (etcd, backend) = (peers::etcd(&place)?, peers::responder()?);
    let (url, api_flag) = (format!("http://{}", etcd.address), api.to_string());
    let flags = ["--store", &url, "--etcd-api", &api_flag, "--prefix", PREFIX];
    let balancer = peers::pointsman_of("Pointsman", &options.pointsman, &place.path().join("state"), &flags)?;
    let (written, to_ask) = channel();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(api, etcd.address, backend.address, written));
        let took = follow(balancer.address, &to_ask);
        writer.join().map_err(|_| io::Error::other("the writer ended"))??;
        took
    })
}

/// Writes every service, and tells its number and when its last key was written.
fn write(api: u8, etcd: SocketAddr, instance: SocketAddr, written: Sender<(usize, Instant)>) -> io::Result<()> {
    let mut talk = Talk::to(etcd)?;
    for number in 0..SERVICES {
        for (key, value) in [("domain", host(number)), ("one", instance.to_string())] {
            let status = talk.ask(&put(api, &format!("{PREFIX}/services/s{number}/{key}"), &value))?;
            if status >= 300 {
                return Err(io::Error::other(format!("etcd: {status}")));
            }
        }
        let _ = written.send((number, Instant::now()));
    }
    Ok(())
}

/// Asks for every written service in turn until it answers.
fn follow(balancer: SocketAddr, written: &Receiver<(usize, Instant)>) -> io::Result<Vec<f64>> {
    let (mut talk, start) = (Talk::to(balancer)?, Instant::now());
    let (mut pending, mut took) = (Vec::new(), Vec::new());
    while took.len() < SERVICES {
        if start.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("{} of {SERVICES} services answer", took.len())));
        }
        pending.extend(written.try_iter());
        let mut left = Vec::new();
        for (number, since) in pending {
            match talk.ask(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(number)))? {
                200 => took.push(since.elapsed().as_secs_f64() * 1e3),
                _ => left.push((number, since)),
            }
        }
        pending = left;
    }
    Ok(took)
}

fn host(number: usize) -> String {
    format!("s{number}.test")
}

/// The request that writes a key. What is in its values needs no escape in a form.
fn put(api: u8, key: &str, value: &str) -> String {
    let (line, kind, body) = match api {
        2 => (format!("PUT /v2/keys{key}"), "application/x-www-form-urlencoded", format!("value={value}")),
        _ => {
            let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
            let body = format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}");
            ("POST /v3/kv/put".to_owned(), "application/json", body)
        }
    };
    let length = body.len();
    format!("{line} HTTP/1.1\r\nHost: etcd\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
}
