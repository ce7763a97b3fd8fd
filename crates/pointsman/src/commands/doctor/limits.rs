//! Limits of the system: open files, the backlog, ports for connections to instances, and conntrack.

use std::fs;
use std::num::NonZeroU32;

use pointsman_table::Table;

use super::observation::Observation;
use crate::settings::{Engine, Settings};
use crate::sys;

const SUBJECT: &str = "limits";
/// Fewer open files are few for any balancer: each request takes two.
const FEW_FILES: u64 = 8192;
/// Descriptors besides those of connections.
const OTHER_FILES: u64 = 200;
/// What a balancer asks for with `listen`.
const BACKLOG: u64 = 4096;
/// Fewer local ports are few for connections to one instance.
const FEW_PORTS: u64 = 10_000;
/// In hundredths of conntrack's table.
const FULL: u64 = 80;

/// What the system allows; `None`: it does not tell, as in some containers.
#[derive(Clone, Copy, Debug, Default)]
struct Allowed {
    files: u64,
    somaxconn: Option<u64>,
    ports: Option<(u64, u64)>,
    /// Used, and at most.
    conntrack: Option<(u64, u64)>,
}

pub(super) fn look(settings: &Settings, table: Option<&Table>) -> Vec<Observation> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
    let pair = |text: String| {
        let mut numbers = text.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    let allowed = Allowed {
        // As the balancer does at its start.
        files: sys::raise_open_files().unwrap_or_else(|_| sys::open_files_limit()),
        somaxconn: number("/proc/sys/net/core/somaxconn"),
        ports: fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok().and_then(pair),
        conntrack: number("/proc/sys/net/netfilter/nf_conntrack_count")
            .zip(number("/proc/sys/net/netfilter/nf_conntrack_max")),
    };
    let most = table.and_then(|table| table.config().max_connections);
    let sockets = match settings.engine {
        Engine::Native => settings.workers.get(),
        Engine::Haproxy => 1,
    };
    let listeners = table.map_or(0, |table| table.tcp().len()) + settings.http.len() + settings.https.len();
    judge(allowed, most, u64::try_from(listeners * sockets).unwrap_or(u64::MAX))
}

/// `most`: `config/limit/connections`. `listeners`: sockets that listen.
fn judge(allowed: Allowed, most: Option<NonZeroU32>, listeners: u64) -> Vec<Observation> {
    let Allowed { files, somaxconn, ports, conntrack } = allowed;
    let mut all: Vec<_> = open_files(files, most, listeners).into_iter().collect();
    if let Some(backlog) = somaxconn.filter(|backlog| *backlog < BACKLOG) {
        let what = format!("only {backlog} connections may wait to be accepted: bursts of clients are dropped");
        all.push(Observation::note(SUBJECT, what, format!("sysctl -w net.core.somaxconn={BACKLOG}")));
    }
    if let Some((first, last)) = ports.filter(|(first, last)| last.saturating_sub(*first) < FEW_PORTS) {
        let what = format!("only {} local ports for connections to each instance", last.saturating_sub(first) + 1);
        all.push(Observation::note(SUBJECT, what, "sysctl -w net.ipv4.ip_local_port_range='15000 64999'"));
    }
    if let Some((used, most)) = conntrack.filter(|(used, most)| used.saturating_mul(100) >= FULL * most) {
        let what =
            format!("conntrack knows {used} of at most {most} connections; when it is full, new ones are dropped");
        all.push(Observation::wrong(
            SUBJECT,
            what,
            format!("sysctl -w net.netfilter.nf_conntrack_max={}", most.saturating_mul(4)),
        ));
    }
    if all.is_empty() {
        all.push(Observation::ok(
            SUBJECT,
            format!("up to {files} open files; backlog, local ports and conntrack have room"),
        ));
    }
    all
}

fn open_files(files: u64, most: Option<NonZeroU32>, listeners: u64) -> Option<Observation> {
    let remedy = "LimitNOFILE=1048576 in the unit, --ulimit nofile=1048576 for docker run, or ulimit -n 1048576";
    // Each may hold one to an instance.
    let needed = most.map(|most| 2 * u64::from(most.get()) + listeners + OTHER_FILES);
    match (most, needed) {
        (Some(most), Some(needed)) if files < needed => {
            let what =
                format!("{files} open files are too few for config/limit/connections = {most}, which needs {needed}");
            Some(Observation::wrong(SUBJECT, what, remedy))
        }
        _ if files < listeners + OTHER_FILES => {
            let needed = listeners + OTHER_FILES;
            let what = format!("{files} open files are too few to serve: {needed} are needed besides connections");
            Some(Observation::wrong(SUBJECT, what, remedy))
        }
        _ if files < FEW_FILES => {
            let what =
                format!("only {files} open files: about {} requests at once", files.saturating_sub(OTHER_FILES) / 2);
            Some(Observation::note(SUBJECT, what, remedy))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::observation::check;
    use super::*;

    #[test]
    fn limits_are_compared_with_what_is_needed() {
        let good =
            Allowed { files: 1 << 20, somaxconn: Some(4096), ports: Some((32768, 60999)), conntrack: Some((5, 65536)) };
        check(&judge(good, None, 4), &["ok: up to 1048576 open files"]);
        check(&judge(Allowed { files: 1 << 20, ..Allowed::default() }, None, 4), &["ok:"]);
        check(
            &judge(Allowed { files: 1024, ..good }, None, 4),
            &["note: only 1024 open files: about 412 requests at once | LimitNOFILE"],
        );
        check(
            &judge(Allowed { files: 64, ..good }, None, 4),
            &["wrong: 64 open files are too few to serve: 204 are needed besides connections | LimitNOFILE"],
        );
        let most = NonZeroU32::new(10_000);
        check(
            &judge(Allowed { files: 20_000, ..good }, most, 4),
            &["wrong: 20000 open files are too few for config/limit/connections = 10000, which needs 20204"],
        );
        check(&judge(Allowed { files: 21_000, ..good }, most, 4), &["ok:"]);
        check(
            &judge(Allowed { somaxconn: Some(128), ..good }, None, 4),
            &[
                "note: only 128 connections may wait to be accepted: bursts of clients are dropped | sysctl -w net.core.somaxconn=4096",
            ],
        );
        check(&judge(Allowed { ports: Some((60000, 60999)), ..good }, None, 4), &["note: only 1000 local ports"]);
        check(
            &judge(Allowed { conntrack: Some((60_000, 65_536)), ..good }, None, 4),
            &["wrong: conntrack knows 60000 of at most 65536"],
        );
    }
}
