//! How soon traffic follows a change: from just before an instance's key is written to the first response from its new
//! address.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::confd::Confd;
use super::store::{Store, host, instance_key};
use crate::options::Options;
use crate::peers::{self, Peer, Workplace};
use crate::report::{Report, median};
use crate::responder::SMALL;

/// Services.
const SERVICES: usize = 1_000;
/// Changes, over services in an order without neighbours.
const CHANGES: usize = 300;
/// Fewer changes for confd, because each takes long.
const CONFD_CHANGES: usize = 30;
/// Deadline for a change to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two probes.
const PAUSE: Duration = Duration::from_micros(200);

pub(super) fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("haproxy-follow")?;
    let backends = [peers::responder_named("a")?, peers::responder_named("b")?];
    for (name, store) in [("folder", Store::folder(&place, "keys")?), ("etcd v3", Store::etcd(&place)?)] {
        store.fill(SERVICES, backends[0].address)?;
        let flags = store.flags();
        let flags = flags.each_ref().map(String::as_str);
        let (driven, _) = peers::driven(&options.pointsman, &place.path().join("state"), &flags)?;
        let waits = waits(CHANGES, driven.address, &backends, |service, to| {
            store.put(&[(instance_key(service, 0), to.to_string())])
        })?;
        report.note(format!("1,000 services, {name}: traffic follows, median"), median(waits.clone()), "ms");
        report.hold(format!("1,000 services, {name}: traffic follows, 99 of 100"), percentile(waits, 99), "ms", 50.0);
    }
    let mut confd = Confd::start(&place, SERVICES, backends[0].address)?;
    let waits = waits(CONFD_CHANGES, confd.peer().address, &backends, |service, to| {
        confd.services[service].instances = vec![to];
        confd.apply()
    })?;
    report.note("1,000 services, confd: traffic follows, median", median(waits.clone()), "ms");
    report.note("1,000 services, confd: traffic follows, 99 of 100", percentile(waits, 99), "ms");
    Ok(())
}

/// Moves one service after another from the first backend to the second; returns the duration of each in milliseconds.
fn waits(
    changes: usize,
    proxy: SocketAddr,
    backends: &[Peer; 2],
    mut move_to: impl FnMut(usize, SocketAddr) -> io::Result<()>,
) -> io::Result<Vec<f64>> {
    let mut probe = Probe { proxy, stream: None };
    let mut waits = Vec::new();
    for number in 0..changes {
        let service = number * 7919 % SERVICES;
        probe.wait(service, b'a')?;
        let start = Instant::now();
        move_to(service, backends[1].address)?;
        probe.wait(service, b'b')?;
        waits.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(waits)
}

fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// A connection that probes which backend answers.
struct Probe {
    proxy: SocketAddr,
    stream: Option<TcpStream>,
}

impl Probe {
    fn wait(&mut self, service: usize, name: u8) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            match self.ask(service) {
                Ok(answer) if answer == name => return Ok(()),
                Ok(_) => std::thread::sleep(PAUSE),
                // HAProxy closes connections when it is replaced.
                Err(_) => self.stream = None,
            }
        }
        Err(io::Error::other(format!("service {service} is not answered by {}", char::from(name))))
    }

    /// The name of the backend that answers for a service.
    fn ask(&mut self, service: usize) -> io::Result<u8> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.proxy)?,
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let stream = self.stream.insert(stream);
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(service)).as_bytes())?;
        let (mut buffer, mut filled) = ([0; 2048], 0);
        loop {
            let count = stream.read(&mut buffer[filled..])?;
            filled += count;
            let answer = &buffer[..filled];
            let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
            match head {
                Some(end) if filled >= end + 4 + SMALL => return Ok(answer[filled - 1]),
                _ if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }
}
