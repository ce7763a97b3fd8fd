//! Pointsman and Traefik on one etcd (API 3), each with its own keys, by number of services.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::drive::{Load, cpu_time, resident, turn};
use crate::http::micros;
use crate::options::Options;
use crate::peers::{self, Peer, Workplace};
use crate::probe::Probe;
use crate::report::{Report, median};
use crate::scale;
use crate::store::{host, instance_key, put_all};

/// Numbers of services.
const SIZES: [usize; 3] = [100, 1_000, 10_000];
/// Most changes of one kind, and fewest, whatever they take.
const MOST: usize = 30;
const FEWEST: usize = 3;
/// What the changes of one kind may take, roughly.
const BUDGET: Duration = Duration::from_secs(20);
/// The same in a quick run.
const QUICK: Duration = Duration::from_secs(3);
/// How long a process has to come to rest.
const REST: Duration = Duration::from_millis(1_500);

/// Who reads the keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyReader {
    Pointsman,
    Traefik,
}

/// Both of them.
pub(super) const READERS: [KeyReader; 2] = [KeyReader::Pointsman, KeyReader::Traefik];

/// The figures of one of them.
pub(super) struct EtcdFigures {
    /// Services.
    pub(super) services: usize,
    /// Of whom.
    pub(super) reader: KeyReader,
    /// From its start until the last service answers, ms.
    pub(super) start: f64,
    /// From the commit of a change until traffic follows, ms.
    pub(super) follow: f64,
    /// CPU of a change, ms.
    pub(super) change: f64,
    /// CPU of a request at 64 connections, microseconds.
    pub(super) request: f64,
    /// Resident memory at the end, MB.
    pub(super) memory: f64,
}

/// Measures both at every size.
pub(super) fn measure(traefik: &Path, options: &Options, report: &mut Report) -> Vec<EtcdFigures> {
    let mut all = Vec::new();
    for services in SIZES {
        for reader in READERS {
            match measure_one(reader, services, traefik, options, report) {
                Ok(figures) => {
                    figures.tell(report);
                    all.push(figures);
                }
                Err(error) => report.fail(&format!("{services} services on etcd: {}", reader.name()), &error),
            }
        }
    }
    all
}

fn measure_one(
    reader: KeyReader,
    services: usize,
    traefik: &Path,
    options: &Options,
    report: &mut Report,
) -> io::Result<EtcdFigures> {
    let place = Workplace::new("peers-etcd")?;
    let stage = EtcdStage::new(&place, reader, services)?;
    let begun = Instant::now();
    let peer = stage.start(traefik, options, &place)?;
    let mut probe = Probe::new(peer.address);
    probe.wait(&host(services - 1), b'a')?;
    let start = begun.elapsed().as_secs_f64() * 1e3;
    thread::sleep(REST);
    let mut changes = Changes { stage: &stage, peer: &peer, probe, number: 0 };
    let budget = if options.quick { QUICK } else { BUDGET };
    let waits = changes.followed(budget)?;
    let longest = waits.iter().copied().max().unwrap_or_default();
    let change = changes.paid(budget, longest)?;
    let script = scale::script(&place, services)?;
    let load = Load { connections: 64, path: "/", close: false, script: Some(&script) };
    let costs = (0..options.rounds).map(|_| Ok(micros(turn(&peer, &load, options.turn)?)));
    let request = costs.collect::<io::Result<_>>().map(median).unwrap_or_else(|error| {
        report.fail(&format!("{services} services on etcd, {}: requests", reader.name()), &error);
        f64::NAN
    });
    let memory = resident(peer.id())? as f64 / f64::from(1 << 20);
    let follow = median(waits.iter().map(|wait| wait.as_secs_f64() * 1e3).collect());
    Ok(EtcdFigures { services, reader, start, follow, change, request, memory })
}

impl EtcdFigures {
    fn tell(&self, report: &mut Report) {
        let name = format!("{} services on etcd, {}", self.services, self.reader.name());
        report.note(format!("{name}: start until serving"), self.start, "ms");
        report.note(format!("{name}: commit to traffic"), self.follow, "ms");
        report.note(format!("{name}: CPU per change"), self.change, "ms");
        report.note(format!("{name}: CPU per request"), self.request, "us");
        report.note(format!("{name}: resident"), self.memory, "MB");
    }
}

impl KeyReader {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pointsman => "Pointsman",
            Self::Traefik => "Traefik",
        }
    }

    /// What its keys begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Pointsman => "/bench",
            Self::Traefik => "traefik",
        }
    }

    /// The key of a service's instance.
    fn instance(self, service: usize, to: SocketAddr) -> (String, String) {
        match self {
            Self::Pointsman => (instance_key(service, 0), to.to_string()),
            Self::Traefik => (format!("http/services/s{service}/loadBalancer/servers/0/url"), format!("http://{to}")),
        }
    }

    /// The keys that lead a host to a service.
    fn route(self, service: usize) -> Vec<(String, String)> {
        let host = host(service);
        match self {
            Self::Pointsman => vec![(format!("services/s{service}/domain"), host)],
            Self::Traefik => vec![
                (format!("http/routers/s{service}/rule"), format!("Host(`{host}`)")),
                (format!("http/routers/s{service}/service"), format!("s{service}")),
            ],
        }
    }
}

/// etcd with the keys of one reader, and two backends, `a` and `b`. All services are at `a`.
pub(super) struct EtcdStage {
    reader: KeyReader,
    services: usize,
    etcd: Peer,
    backends: [Peer; 2],
}

impl EtcdStage {
    /// With so many services.
    pub(super) fn new(place: &Workplace, reader: KeyReader, services: usize) -> io::Result<Self> {
        let backends = [peers::responder_named("a")?, peers::responder_named("b")?];
        let stage = Self { reader, services, etcd: peers::etcd(place)?, backends };
        let to = stage.backends[0].address;
        let keys = (0..services).flat_map(|service| {
            let mut keys = reader.route(service);
            keys.push(reader.instance(service, to));
            keys
        });
        stage.put(&keys.collect::<Vec<_>>())?;
        Ok(stage)
    }

    /// Starts the reader.
    pub(super) fn start(&self, traefik: &Path, options: &Options, place: &Workplace) -> io::Result<Peer> {
        let etcd = self.etcd.address;
        match self.reader {
            KeyReader::Pointsman => {
                let flags = ["--store", &format!("http://{etcd}"), "--etcd-api", "3", "--prefix", self.reader.prefix()];
                peers::pointsman_of("Pointsman", &options.pointsman, &place.path().join("state"), &flags)
            }
            KeyReader::Traefik => peers::traefik_of(traefik, etcd, place),
        }
    }

    /// Moves a service to backend `b`.
    pub(super) fn change(&self, service: usize) -> io::Result<()> {
        self.put(&[self.reader.instance(service, self.backends[1].address)])
    }

    /// Writes keys of the reader.
    pub(super) fn put(&self, keys: &[(String, String)]) -> io::Result<()> {
        put_all(self.etcd.address, self.reader.prefix(), keys)
    }
}

/// Changes, each to another service.
struct Changes<'c> {
    stage: &'c EtcdStage,
    peer: &'c Peer,
    probe: Probe,
    number: usize,
}

impl Changes<'_> {
    fn next_service(&mut self) -> usize {
        self.number += 1;
        self.number * 7919 % self.stage.services
    }

    /// How long traffic takes to follow each change, from the moment that etcd has it.
    fn followed(&mut self, budget: Duration) -> io::Result<Vec<Duration>> {
        let (start, mut waits) = (Instant::now(), Vec::new());
        while waits.len() < FEWEST || (waits.len() < MOST && start.elapsed() < budget) {
            let service = self.next_service();
            self.probe.wait(&host(service), b'a')?;
            self.stage.change(service)?;
            let committed = Instant::now();
            self.probe.wait(&host(service), b'b')?;
            waits.push(committed.elapsed());
        }
        Ok(waits)
    }

    /// CPU of a change in ms. Nothing is asked meanwhile, as requests cost too.
    fn paid(&mut self, budget: Duration, longest: Duration) -> io::Result<f64> {
        let pause = longest.mul_f64(1.5) + Duration::from_millis(50);
        let (start, before) = (Instant::now(), cpu_time(self.peer)?);
        let (mut changes, mut last) = (0, 0);
        while changes < FEWEST || (changes < MOST && start.elapsed() < budget) {
            last = self.next_service();
            self.stage.change(last)?;
            thread::sleep(pause);
            changes += 1;
        }
        self.probe.wait(&host(last), b'b')?;
        Ok((cpu_time(self.peer)? - before).as_secs_f64() * 1e3 / changes as f64)
    }
}
