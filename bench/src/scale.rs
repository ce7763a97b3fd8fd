//! The cost of 10,000 services compared with 10: CPU per request, and memory.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::drive::{Load, resident};
use crate::http::{micros, rounds};
use crate::options::Options;
use crate::peers::{self, Peer, Workplace};
use crate::report::{Report, median};

/// Services of the large table.
const MANY: usize = 10_000;
/// Instances per service for the memory figure.
const INSTANCES: usize = 3;

/// CPU per request at 64 connections, with requests spread over all services.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    if let Err(error) = compare(options, report) {
        report.fail("scale", &error);
    }
}

fn compare(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("scale")?;
    let backend = peers::responder()?;
    let few = started(&options.pointsman, &place, "10 services", 10, &[backend.address])?;
    let many = started(&options.pointsman, &place, "10,000 services", MANY, &[backend.address])?;
    let (script_few, script_many) = (script(&place, 10)?, script(&place, MANY)?);
    let (mut costs, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let cost = |peer: &Peer, script: &Path| -> io::Result<f64> {
            let load = Load { connections: 64, path: "/", close: false, script: Some(script) };
            Ok(micros(rounds(&[peer], &load, 1, options.turn)?[0][0]))
        };
        let (one, other) = (cost(&few, &script_few)?, cost(&many, &script_many)?);
        costs.push(other);
        ratios.push(other / one);
    }
    report.note("10,000 services: CPU per request", median(costs), "us");
    report.hold("10,000 services / 10 services", median(ratios), "x", 1.05);
    Ok(())
}

/// Resident memory with 10,000 services of three instances.
pub(crate) fn measure_memory(options: &Options, report: &mut Report) {
    match memory_of(&options.pointsman) {
        Ok(megabytes) => report.hold("resident memory, 10,000 services of 3 instances", megabytes, "MB", 60.0),
        Err(error) => report.fail("memory", &error),
    }
}

/// Resident memory of a program at 10,000 services of three instances, MB.
///
/// # Errors
/// When it does not come up.
pub(crate) fn memory_of(program: &Path) -> io::Result<f64> {
    let place = Workplace::new("memory")?;
    let instances: Vec<SocketAddr> = (1..=INSTANCES).map(address).collect();
    let peer = started(program, &place, "memory", MANY, &instances)?;
    Ok(resident(peer.id())? as f64 / 1e6)
}

fn address(number: usize) -> SocketAddr {
    (Ipv4Addr::new(10, 9, 8, u8::try_from(number).unwrap_or(u8::MAX)), 8080).into()
}

fn started(
    program: &Path,
    place: &Workplace,
    name: &'static str,
    services: usize,
    instances: &[SocketAddr],
) -> io::Result<Peer> {
    let keys = place.path().join(format!("keys-{services}"));
    for number in 0..services {
        peers::write_service(&keys, &format!("s{number}"), &format!("s{number}.test"), instances)?;
    }
    peers::pointsman(name, program, &keys)
}

/// A wrk script that requests the services in an order that caches cannot predict.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn script(place: &Workplace, services: usize) -> io::Result<PathBuf> {
    let path = place.path().join(format!("spread-{services}.lua"));
    let lua = format!(
        "local requests, place = {{}}, 0\n\
         function init()\n  for n = 0, {services} - 1 do\n    \
         local headers = {{ Host = 's' .. (n * 7919 % {services}) .. '.test', Connection = wrk.headers['Connection'] }}\n    \
         requests[n] = wrk.format('GET', '/', headers)\n  end\nend\n\
         function request()\n  place = (place + 1) % {services}\n  return requests[place]\nend\n"
    );
    fs::write(&path, lua)?;
    Ok(path)
}
