//! One broken route among a hundred on etcd: whether the others are still served, still follow changes, and survive a
//! restart.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::etcd::{EtcdStage, KeyReader, READERS};
use crate::options::Options;
use crate::peers::Workplace;
use crate::probe::Probe;
use crate::report::Report;
use crate::store::host;

/// Services that are not broken.
const SERVICES: usize = 100;
/// How long anything may take before it counts as not happening. At that size, changes take milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of the others.
pub(super) struct Aftermath {
    /// What is broken.
    pub(super) what: &'static str,
    /// For whom.
    pub(super) reader: KeyReader,
    /// Whether the others are still served.
    pub(super) served: bool,
    /// Whether traffic follows a change of another.
    pub(super) follows: bool,
    /// Whether the others are served after a restart.
    pub(super) restarts: bool,
}

/// A way to break a route: the keys for each reader.
type Breakage = (&'static str, fn(KeyReader) -> (&'static str, &'static str));

const BREAKAGES: [Breakage; 2] = [
    ("a rule that cannot be parsed", |reader| match reader {
        KeyReader::Pointsman => ("services/bad/url_reg", "("),
        KeyReader::Traefik => ("http/routers/bad/rule", "Host("),
    }),
    ("a priority that is no number", |reader| match reader {
        KeyReader::Pointsman => ("services/bad/priority", "high"),
        KeyReader::Traefik => ("http/routers/bad/priority", "high"),
    }),
];

/// Breaks a route in each way, for each reader.
pub(super) fn measure(traefik: &Path, options: &Options, report: &mut Report) -> Vec<Aftermath> {
    let mut all = Vec::new();
    for breakage in BREAKAGES {
        for reader in READERS {
            match outcome(breakage, reader, traefik, options) {
                Ok(outcome) => {
                    let goes_on = outcome.served && outcome.follows && outcome.restarts;
                    let name = format!("{}, {}: all else goes on", outcome.what, reader.name());
                    report.note(name, f64::from(u8::from(goes_on)), "");
                    all.push(outcome);
                }
                Err(error) => report.fail(&format!("{}, {}", breakage.0, reader.name()), &error),
            }
        }
    }
    all
}

fn outcome((what, key): Breakage, reader: KeyReader, traefik: &Path, options: &Options) -> io::Result<Aftermath> {
    let place = Workplace::new("peers-broken")?;
    let stage = EtcdStage::new(&place, reader, SERVICES)?;
    let peer = stage.start(traefik, options, &place)?;
    let mut probe = Probe::new(peer.address);
    probe.wait(&host(SERVICES - 1), b'a')?;
    let (key, value) = key(reader);
    stage.put(&[broken_route(reader), (key.to_owned(), value.to_owned())])?;
    stage.change(1)?;
    let follows = probe.wait_within(&host(1), b'b', PATIENCE).is_ok();
    let served = (2..SERVICES).all(|service| probe.wait_within(&host(service), b'a', PATIENCE).is_ok());
    drop(peer);
    let restarted = Workplace::new("peers-restarted")?;
    let again = stage.start(traefik, options, &restarted)?;
    let restarts = Probe::new(again.address).wait_within(&host(2), b'a', PATIENCE).is_ok();
    Ok(Aftermath { what, reader, served, follows, restarts })
}

/// What the broken route leads to, which is sound.
fn broken_route(reader: KeyReader) -> (String, String) {
    let (key, value) = match reader {
        KeyReader::Pointsman => ("services/bad/bad-1", "127.0.0.1:9"),
        KeyReader::Traefik => ("http/routers/bad/service", "s0"),
    };
    (key.to_owned(), value.to_owned())
}
