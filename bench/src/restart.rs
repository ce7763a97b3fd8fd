//! What clients see of a new program: the longest gap of an upgrade, and the time until a start serves.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::admin::ask;
use crate::options::Options;
use crate::peers::{self, HOST, PROXY_CORE, Peer, Workplace};
use crate::report::{Report, median};
use crate::store::{Store, host, instance_key};
use crate::sys;

/// Upgrades, one after another.
const UPGRADES: usize = 10;
/// The longest time without an answer, milliseconds.
const GAP: f64 = 100.0;
/// The pause between two requests: about 400 a second.
const PAUSE: Duration = Duration::from_millis(2);
/// Services of the starts.
const SERVICES: usize = 10_000;
/// Until the first answer, seconds.
const START: f64 = 1.0;
/// Kills at random moments of a burst of changes.
const KILLS: usize = 100;
/// The longest time until the program is killed.
const LIFE: u64 = 300;
/// For anything, at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures everything.
pub(crate) fn measure(options: &Options, report: &mut Report) {
    for engine in ["native", "haproxy"] {
        if let Err(error) = upgrades(engine, options, report) {
            report.fail(&format!("upgrades, {engine}"), &error);
        }
    }
    if let Err(error) = snapshot(options, report) {
        report.fail("start from a snapshot", &error);
    }
    if let Err(error) = kills(options, report) {
        report.fail("kills", &error);
    }
}

/// Clients that open a connection for each request, while one program after another takes over.
fn upgrades(engine: &'static str, options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("upgrades")?;
    let (backend, keys, state) = (peers::responder()?, place.path().join("keys"), place.path().join("state"));
    peers::write_service(&keys, "bench", HOST, &[backend.address])?;
    let flags = ["--store", &*keys.to_string_lossy(), "--prefix", "/", "--engine", engine];
    let first = peers::pointsman_of("Pointsman", &options.pointsman, &state, &flags)?;
    let (times, is_over) = (if options.quick { 2 } else { UPGRADES }, AtomicBool::new(false));
    let mut last = None;
    let seen = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask_until(first.address, &is_over));
        let upgraded = (0..times).try_for_each(|_| {
            last = Some(upgrade(&options.pointsman, &state)?);
            std::thread::sleep(Duration::from_secs(1));
            Ok::<_, io::Error>(())
        });
        is_over.store(true, Ordering::Relaxed);
        let seen = asking.join().map_err(|_| io::Error::other("the client ended"))?;
        upgraded.map(|()| seen)
    });
    last.into_iter().for_each(end);
    let Seen { longest, failed } = seen?;
    report.hold(format!("{times} upgrades, {engine}: longest gap"), longest.as_secs_f64() * 1e3, "ms", GAP);
    report.hold(format!("{times} upgrades, {engine}: failed requests"), failed as f64, "", 0.0);
    Ok(())
}

/// What a client saw.
struct Seen {
    /// Between two answers.
    longest: Duration,
    failed: usize,
}

fn ask_until(address: SocketAddr, is_over: &AtomicBool) -> Seen {
    let (mut seen, mut last) = (Seen { longest: Duration::ZERO, failed: 0 }, Instant::now());
    while !is_over.load(Ordering::Relaxed) {
        if answers(address, HOST) {
            seen.longest = seen.longest.max(last.elapsed());
            last = Instant::now();
        } else {
            seen.failed += 1;
        }
        std::thread::sleep(PAUSE);
    }
    seen
}

fn answers(address: SocketAddr, host: &str) -> bool {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    ask(address, &request).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

/// The process that serves now.
fn upgrade(program: &Path, state: &Path) -> io::Result<u32> {
    let told = Command::new(program).args(["upgrade", "--state"]).arg(state).output()?;
    let text = String::from_utf8_lossy(&told.stderr);
    let process = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    process.filter(|_| told.status.success()).ok_or_else(|| io::Error::other(text.into_owned()))
}

/// Ends a process that is nobody's child. HAProxy ends with it.
fn end(process: u32) {
    let (start, folder) = (Instant::now(), PathBuf::from(format!("/proc/{process}")));
    while folder.exists() && start.elapsed() < Duration::from_secs(5) {
        sys::interrupt(process);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A start while etcd is away.
fn snapshot(options: &Options, report: &mut Report) -> io::Result<()> {
    let (place, backend) = (Workplace::new("snapshot")?, peers::responder()?);
    let store = Store::etcd(&place)?;
    store.fill(SERVICES, backend.address)?;
    let (flags, state) = (store.flags(), place.path().join("state"));
    let (first, _) = start(options, &state, &flags)?;
    kept(&state)?;
    drop(first);
    drop(store);
    let mut took = Vec::new();
    for _ in 0..options.rounds {
        took.push(start(options, &state, &flags)?.1.as_secs_f64());
    }
    report.hold(format!("start from a snapshot of {SERVICES} services"), median(took), "s", START);
    Ok(())
}

/// Starts after kills at random moments, while keys change.
fn kills(options: &Options, report: &mut Report) -> io::Result<()> {
    let (place, backend) = (Workplace::new("kills")?, peers::responder()?);
    let store = Store::etcd(&place)?;
    store.fill(SERVICES, backend.address)?;
    let (flags, state) = (store.flags(), place.path().join("state"));
    let (is_over, times) = (AtomicBool::new(false), if options.quick { 5 } else { KILLS });
    let took = std::thread::scope(|scope| {
        let changing = scope.spawn(|| change_until(&store, backend.address, &is_over));
        let took = kill_again_and_again(times, || start(options, &state, &flags));
        is_over.store(true, Ordering::Relaxed);
        changing.join().map_err(|_| io::Error::other("the writer ended"))??;
        took
    })?;
    report.note(format!("start after one of {times} kills in a burst, median"), median(took.clone()), "s");
    let slowest = took.into_iter().fold(0.0, f64::max);
    report.hold(format!("start after one of {times} kills in a burst, slowest"), slowest, "s", START);
    Ok(())
}

fn kill_again_and_again(times: usize, start: impl Fn() -> io::Result<(Peer, Duration)>) -> io::Result<Vec<f64>> {
    let mut took = Vec::new();
    for number in 0..times as u64 {
        let (peer, time) = start()?;
        took.push(time.as_secs_f64());
        // No pattern that the program's own pace could have.
        std::thread::sleep(Duration::from_millis(number * 7919 % LIFE));
        drop(peer);
    }
    Ok(took)
}

/// Instances come and go, the last service excepted.
fn change_until(store: &Store, to: SocketAddr, is_over: &AtomicBool) -> io::Result<()> {
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let service = number % (SERVICES - 1);
        store.put(&[(instance_key(service, 1 + number % 2), to.to_string())])?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Starts the program, and measures until the last service answers.
fn start(options: &Options, state: &Path, flags: &[String]) -> io::Result<(Peer, Duration)> {
    let (address, began) = (peers::free_address()?, Instant::now());
    let (program, state, http) = (options.pointsman.to_string_lossy(), state.to_string_lossy(), address.to_string());
    let mut command = vec![&*program, "run", "--workers", "1", "--admin", "off", "--state", &state, "--http", &http];
    command.extend(flags.iter().map(String::as_str));
    let peer = Peer::start("Pointsman", address, PROXY_CORE, &command)?;
    let wanted = host(SERVICES - 1);
    while !answers(address, &wanted) {
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other("it does not serve"));
        }
        std::thread::sleep(PAUSE);
    }
    Ok((peer, began.elapsed()))
}

/// Waits until the snapshot is there and grows no more.
fn kept(state: &Path) -> io::Result<()> {
    let (began, mut last) = (Instant::now(), (0, Instant::now()));
    while began.elapsed() < PATIENCE {
        let size = size(state).unwrap_or(0);
        if size != last.0 {
            last = (size, Instant::now());
        }
        if size > 0 && last.1.elapsed() > Duration::from_secs(3) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(io::Error::other("there is no snapshot"))
}

fn size(state: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(state.join("memory"))? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "snapshot") {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}
