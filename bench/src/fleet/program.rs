//! `pointsman set --wait` as an operator runs it: the program itself, with twenty balancers that are programs too. Unlike
//! in `phases`, the command's own start counts.

use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::peers::{self, Peer, Workplace};
use crate::report::{Report, quantile};

/// The prefix of the keys that the balancers read.
pub(super) const PREFIX: &str = "/haproxy-bench";
/// Balancers.
const BALANCERS: usize = 20;
/// Changes, back to back.
const CHANGES: usize = 100;
/// For 99 of 100 of them, milliseconds.
const MOST: f64 = 50.0;
/// For all balancers to be listed, at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures it.
pub(super) fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    let place = Workplace::new("fleet-program")?;
    let etcd = peers::etcd(&place)?;
    let (url, api) = (format!("http://{}", etcd.address), options.api.to_string());
    let store = ["--store", &url, "--etcd-api", &api, "--prefix", PREFIX];
    let balancers = balancers(options, &place, &store)?;
    let mut took = Vec::new();
    for number in 0..CHANGES {
        let (start, value) = (Instant::now(), format!("a{number}.test"));
        let said = pointsman(options, &["set", "services/a/domain", &value, "--wait"], &store)?;
        took.push(start.elapsed().as_secs_f64() * 1e3);
        if !said.contains(&format!("{BALANCERS} balancers are")) {
            return Err(io::Error::other(said));
        }
    }
    drop(balancers);
    report.note("set --wait, 20 programs: median", quantile(took.clone(), 0.5), "ms");
    report.hold("set --wait, 20 programs: p99", quantile(took, 0.99), "ms", MOST);
    Ok(())
}

/// Starts them, and waits until all are listed.
fn balancers(options: &Options, place: &Workplace, store: &[&str]) -> io::Result<Vec<Peer>> {
    let start = |number: usize| {
        let name = format!("b{number}");
        let flags = [store, &["--name", &name]].concat();
        peers::pointsman_of("a balancer", &options.pointsman, &place.path().join(&name), &flags)
    };
    let all = (0..BALANCERS).map(start).collect::<io::Result<Vec<_>>>()?;
    let start = Instant::now();
    while pointsman(options, &["status"], store)?.matches("serving").count() < BALANCERS {
        if start.elapsed() > PATIENCE {
            return Err(io::Error::other("not all balancers are listed"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(all)
}

/// What a command says.
fn pointsman(options: &Options, words: &[&str], store: &[&str]) -> io::Result<String> {
    let output = Command::new(&options.pointsman).args(words).args(store).stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}
