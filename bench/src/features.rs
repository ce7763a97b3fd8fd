//! What features cost a small request: Pointsman with them over Pointsman without them, in alternating turns.

use std::fs;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::collector;
use crate::drive::{Load, cpu_time, resident, turn};
use crate::http::{micros, rounds};
use crate::logins;
use crate::options::Options;
use crate::peers::{self, HOST, Peer, Workplace};
use crate::report::{Report, median};

/// What is known of instances, and done for those that fail.
const CARE: &[(&str, &str)] = &[
    ("health_check", "http"),
    ("health_check_interval", "1s"),
    ("cookie", "SRV insert indirect"),
    ("retries", "2 on=connect,reset,502,503"),
    ("limit/requests", "1000"),
    ("eject", "errors=5"),
];
/// Ten filters.
const FILTERS: &[(&str, &str)] = &[
    ("deny", "192.0.2.0/24"),
    ("allow", "private"),
    ("rate_limit", "1000000/s"),
    ("max_body", "1MiB"),
    ("method", "GET,POST"),
    ("rewrite", "/api /v2"),
    ("request_headers", "set X-Client {client_ip}\nremove X-Debug"),
    ("response_headers", "set X-Served-By {service}\nremove Server"),
    ("cors", "https://app.test"),
    ("request_id", "true"),
];
/// Small requests.
const SMALL: Load<'static> = Load { connections: 64, path: "/", close: false, script: None };
/// CPU per request with [`CARE`] over without, at most.
const CARE_COST: f64 = 1.06;
/// The same of [`FILTERS`].
const FILTERS_COST: f64 = 1.15;
/// The same of a line of the access log.
const LOG_COST: f64 = 1.08;
/// The same of spans of one request in a hundred.
const TRACES_COST: f64 = 1.08;

/// Pages of `--admin` that browsers have open.
const PAGES: usize = 20;
/// CPU per request with them over without, at most.
const PAGES_COST: f64 = 1.02;

/// Clients, each with a rate of its own.
const CLIENTS: usize = 1_000_000;
/// Memory that their rates take, at most, MB.
const CLIENTS_MEMORY: f64 = 64.0;

/// Instances that are checked every ten seconds.
const CHECKED: usize = 10_000;
/// Of a core, at most.
const CHECKS_COST: f64 = 0.05;
/// For all of them to be checked once, seconds.
const EVERY: u64 = 10;

/// Measures everything.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    type Part = fn(&Options, &mut Report) -> io::Result<()>;
    let parts: [(&str, Part); 8] = [
        ("care for instances", |options, report| keyed(options, report, ("care for instances", CARE, CARE_COST))),
        ("ten filters", |options, report| keyed(options, report, ("ten filters", FILTERS, FILTERS_COST))),
        ("access log", access_log),
        ("traces", traces),
        ("open pages", open_pages),
        ("rates of clients", rates),
        ("checks", checks),
        // The slowest: hashes are computed when nothing else is to be done.
        ("bad logins", logins::measure),
    ];
    for (name, part) in parts {
        if let Err(error) = part(options, report) {
            report.fail(name, &error);
        }
    }
}

/// A service with these keys over one without.
fn keyed(options: &Options, report: &mut Report, (name, keys, target): (&str, &[(&str, &str)], f64)) -> io::Result<()> {
    let place = Workplace::new("features")?;
    let backend = peers::responder()?;
    let with = folder(&place, "with", backend.address, keys)?;
    let without = folder(&place, "without", backend.address, &[])?;
    let with = peers::pointsman("with", &options.pointsman, &with)?;
    let without = peers::pointsman("without", &options.pointsman, &without)?;
    // As a client that keeps its cookie.
    let script = place.path().join("cookie.lua");
    fs::write(&script, "wrk.headers['Cookie'] = 'SRV=bench-0'\n")?;
    let load = Load { script: Some(&script), ..SMALL };
    compare(options, report, name, (&with, &without), (load, Some(target)))
}

/// A line for each request over none, with Pointsman and its peers.
fn access_log(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("log")?;
    let to = peers::responder()?;
    let keys = folder(&place, "keys", to.address, &[])?;
    let file = place.path().join("access.log");
    let logging = |name: &'static str, flags: &[&str]| -> io::Result<Peer> {
        let store = ["--store", &*keys.to_string_lossy(), "--prefix", "/"];
        peers::pointsman_of(name, &options.pointsman, &place.path().join(name), &[&store, flags].concat())
    };
    let with = logging("logging", &["--access-log", &file.to_string_lossy(), "--access-log-format", "httplog"])?;
    let without = logging("silent", &[])?;
    compare(options, report, "access log", (&with, &without), (SMALL, Some(LOG_COST)))?;
    drop((with, without));
    let (with, without) = (haproxy(&place, to.address, true)?, haproxy(&place, to.address, false)?);
    compare(options, report, "access log, HAProxy", (&with, &without), (SMALL, None))?;
    drop((with, without));
    let (with, without) = (nginx(&place, to.address, true)?, nginx(&place, to.address, false)?);
    compare(options, report, "access log, nginx", (&with, &without), (SMALL, None))
}

/// Spans of some requests, and of all, over none. What the collector costs is not in it.
fn traces(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("traces")?;
    let to = peers::responder()?;
    let keys = folder(&place, "keys", to.address, &[])?;
    let collector = format!("http://{}", collector::start()?);
    let store = ["--store", &*keys.to_string_lossy(), "--prefix", "/"];
    let run = |name: &'static str, flags: &[&str]| {
        peers::pointsman_of(name, &options.pointsman, &place.path().join(name), &[&store, flags].concat())
    };
    let rows = [("traces of 1 %", "0.01", Some(TRACES_COST)), ("traces of 100 %", "1", None)];
    for (name, share, target) in rows {
        let with = run("traced", &["--otlp", &collector, "--otlp-sample", share])?;
        let without = run("untraced", &[])?;
        compare(options, report, name, (&with, &without), (SMALL, target))?;
    }
    Ok(())
}

/// Pages that follow what happens, over none.
fn open_pages(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("pages")?;
    let to = peers::responder()?;
    let (watched, alone) = (folder(&place, "watched", to.address, &[])?, folder(&place, "alone", to.address, &[])?);
    let (with, admin) = peers::with_pages("watched", &options.pointsman, &watched)?;
    let without = peers::pointsman("alone", &options.pointsman, &alone)?;
    let streams = (0..PAGES).map(|_| follow(admin)).collect::<io::Result<Vec<_>>>()?;
    let compared = compare(options, report, "20 open pages", (&with, &without), (SMALL, Some(PAGES_COST)));
    for (stream, reader) in streams {
        stream.shutdown(Shutdown::Both)?;
        let received = reader.join().map_err(|_| io::Error::other("a page's reader ended"))??;
        if received == 0 {
            return Err(io::Error::other("a page got nothing"));
        }
    }
    compared
}

/// Follows what a page shows, as a browser does. Returns the connection, and what counts the bytes until its end.
fn follow(admin: SocketAddr) -> io::Result<(TcpStream, JoinHandle<io::Result<u64>>)> {
    let mut stream = TcpStream::connect(admin)?;
    stream.write_all(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut reading = stream.try_clone()?;
    Ok((stream, thread::spawn(move || io::copy(&mut reading, &mut io::sink()))))
}

fn haproxy(place: &Workplace, to: SocketAddr, logs: bool) -> io::Result<Peer> {
    let address = peers::free_address()?;
    let template = include_str!("../configs/haproxy.cfg").replace("@reuse@", "safe");
    let logging = "defaults\n  log stdout format raw local0\n  option httplog";
    let template = if logs { template.replace("defaults", logging) } else { template };
    let file = peers::configure(place, &format!("haproxy-{logs}.cfg"), &template, address, to)?;
    peers::haproxy_with(address, &file, &[])
}

fn nginx(place: &Workplace, to: SocketAddr, logs: bool) -> io::Result<Peer> {
    let address = peers::free_address()?;
    let template = include_str!("../configs/nginx.conf").replace("nginx.pid", &format!("nginx-{logs}.pid"));
    let template = if logs { template.replace("access_log off", "access_log @home@/nginx.log") } else { template };
    let name = format!("nginx-{logs}.conf");
    let file = peers::configure(place, &name, &template, address, to)?;
    peers::nginx_with(address, place, &file)
}

fn compare(
    options: &Options,
    report: &mut Report,
    name: &str,
    (with, without): (&Peer, &Peer),
    (load, target): (Load<'_>, Option<f64>),
) -> io::Result<()> {
    let rounds = rounds(&[with, without], &load, options.rounds, options.turn)?;
    let cost = |column: usize| median(rounds.iter().map(|round| micros(round[column])).collect());
    report.note(format!("{name}, on: CPU per request"), cost(0), "us");
    report.note(format!("{name}, off: CPU per request"), cost(1), "us");
    let ratio = median(rounds.iter().map(|round| micros(round[0]) / micros(round[1])).collect());
    match target {
        Some(target) => report.hold(format!("{name}: on / off"), ratio, "x", target),
        None => report.note(format!("{name}: on / off"), ratio, "x"),
    }
    Ok(())
}

/// A service of one instance with these keys too.
fn folder(place: &Workplace, name: &str, to: SocketAddr, keys: &[(&str, &str)]) -> io::Result<PathBuf> {
    let folder = place.path().join(name);
    peers::write_service(&folder, "bench", HOST, &[to])?;
    for (key, value) in keys {
        let file = folder.join("services/bench").join(key);
        fs::create_dir_all(file.parent().ok_or_else(|| io::Error::other("a key without a folder"))?)?;
        fs::write(file, value)?;
    }
    Ok(folder)
}

/// Memory for the rates of a million clients.
fn rates(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("rates")?;
    let backend = peers::responder()?;
    let keys = folder(&place, "keys", backend.address, &[("rate_limit", "100/m by=header:X-User")])?;
    let peer = peers::pointsman("rates", &options.pointsman, &keys)?;
    let before = resident(peer.id())?;
    let script = clients(&place)?;
    let start = Instant::now();
    let spent = turn(&peer, &Load { script: Some(&script), ..SMALL }, Duration::from_secs(seconds(options)))?;
    let after = resident(peer.id())?.saturating_sub(before);
    report.note("rates of clients: CPU per request", micros(spent), "us");
    report.note("rates of clients: at work for", start.elapsed().as_secs_f64(), "s");
    report.hold("memory for the rates of 1,000,000 clients", after as f64 / 1e6, "MB", CLIENTS_MEMORY);
    Ok(())
}

/// Enough for a million requests.
fn seconds(options: &Options) -> u64 {
    if options.quick { 2 } else { 60 }
}

/// A wrk script whose requests name a million clients in turn.
fn clients(place: &Workplace) -> io::Result<PathBuf> {
    let path = place.path().join("clients.lua");
    let lua = format!(
        "local n = 0\nfunction request()\n  n = (n + 1) % {CLIENTS}\n  \
         return 'GET / HTTP/1.1\\r\\nHost: {HOST}\\r\\nX-User: user-' .. n .. '\\r\\n\\r\\n'\nend\n"
    );
    fs::write(&path, lua)?;
    Ok(path)
}

/// CPU of the program while it checks ten thousand instances.
fn checks(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("checks")?;
    let backend = peers::responder_everywhere()?;
    let keys = place.path().join("keys");
    for number in 0..CHECKED {
        let name = format!("s{number}");
        let own = [127, 1, (number / 250) as u8, (number % 250 + 1) as u8];
        peers::write_service(&keys, &name, &format!("{name}.test"), &[(own, backend.address.port()).into()])?;
        checked(&keys, &name)?;
    }
    let peer = peers::pointsman("checks", &options.pointsman, &keys)?;
    // The first of them come soon after the start.
    thread::sleep(Duration::from_secs(EVERY));
    let span = Duration::from_secs(if options.quick { EVERY } else { 3 * EVERY });
    let before = cpu_time(&peer)?;
    thread::sleep(span);
    let spent = cpu_time(&peer)?.saturating_sub(before);
    report.hold("checks of 10,000 instances, of a core", spent.as_secs_f64() / span.as_secs_f64(), "", CHECKS_COST);
    Ok(())
}

fn checked(keys: &Path, service: &str) -> io::Result<()> {
    let folder = keys.join("services").join(service);
    fs::write(folder.join("health_check"), "http")?;
    fs::write(folder.join("health_check_interval"), format!("{EVERY}s"))
}
