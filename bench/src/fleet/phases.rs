//! What is done to a fleet, one thing after another: it starts, idles, is changed, is changed in a burst, and dies in part.

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pointsman::fleet::keeper::TTL;
use pointsman_store::{Api, StoreSettings};

use super::command::SetCommand;
use super::crowd::Crowd;
use super::gauge::{Reading, Spent};
use crate::drive::{self, resident};
use crate::options::Options;
use crate::peers::Peer;
use crate::report::{Report, quantile};

/// Changes of which the times are taken.
const CHANGES: u32 = 60;
/// Between one and the next.
const PAUSE: Duration = Duration::from_millis(200);
/// Changes of a burst.
const BURST: u32 = 50;
/// For whatever is under way to end.
const SETTLE: Duration = Duration::from_secs(4);
/// For a fleet to come up, at most.
const PATIENCE: Duration = Duration::from_secs(120);
/// The parts of a change that is waited for, one after another.
const PARTS: [&str; 4] = [
    "until etcd has the change",
    "from there until the last balancer is told",
    "from there until it serves",
    "from there until that is known",
];
/// The key that changes.
const KEY: &str = "services/shop/shop-1";

/// A fleet and its etcd.
struct Fleet<'f> {
    balancers: usize,
    crowd: Crowd,
    command: SetCommand<'f>,
    etcd: &'f Peer,
    api: Api,
    report: &'f mut Report,
}

/// Measures a fleet of this size.
pub(super) fn run(
    balancers: usize,
    settings: &StoreSettings,
    etcd: &Peer,
    options: &Options,
    report: &mut Report,
) -> io::Result<()> {
    let command = SetCommand::new(settings)?;
    command.set("services/shop/domain", "shop.test")?;
    command.set(KEY, &address(0))?;
    let crowd = Crowd::new(settings.clone());
    let mut fleet = Fleet { balancers, crowd, command, etcd, api: settings.api, report };
    fleet.start()?;
    sleep(SETTLE);
    let idle = fleet.idle(options.idle)?;
    fleet.barrier(&idle)?;
    sleep(SETTLE);
    fleet.burst(&idle)?;
    sleep(SETTLE);
    fleet.death()
}

impl Fleet<'_> {
    fn note(&mut self, what: &str, value: f64, unit: &'static str) {
        self.report.note(format!("{} balancers, {what}", self.balancers), value, unit);
    }

    /// Status keys written: all keys written, without the bench's own. etcd counts API 2's as entries of its log only.
    fn writes(&self, spent: &Spent, own: u32) -> f64 {
        let all = if self.api == Api::V2 { spent.proposals } else { spent.puts };
        all - f64::from(own)
    }

    fn start(&mut self) -> io::Result<()> {
        let before = Reading::take(self.etcd)?;
        self.crowd.start(self.balancers);
        let took = self.command.listed(self.balancers, PATIENCE)?;
        let spent = before.until_now(self.etcd)?;
        self.note("start: until all are listed", took.as_secs_f64() * 1e3, "ms");
        self.note("start: CPU of etcd", spent.cpu, "ms");
        self.note("start: log entries of each", spent.proposals / self.balancers as f64, "");
        Ok(())
    }

    /// Nothing changes: leases are renewed.
    fn idle(&mut self, span: Duration) -> io::Result<Spent> {
        let (before, delivered) = (Reading::take(self.etcd)?, self.crowd.delivered());
        let ours = drive::cpu_time_of(std::process::id())?;
        sleep(span);
        let spent = before.until_now(self.etcd)?;
        let ours = (drive::cpu_time_of(std::process::id())? - ours).as_secs_f64() * 1e3;
        let told = self.crowd.delivered() - delivered;
        self.note("idle: CPU of etcd", spent.cpu / spent.seconds, "ms/s");
        self.note("idle: CPU of all balancers", ours / spent.seconds, "ms/s");
        self.note("idle: log entries", spent.proposals / spent.seconds, "/s");
        self.note("idle: log written through", spent.fsyncs / spent.seconds, "/s");
        self.note("idle: bytes over gRPC", spent.kilobytes / spent.seconds, "kB/s");
        self.note("idle: memory of etcd", resident(self.etcd.id())? as f64 / 1e6, "MB");
        let name = format!("{} balancers, idle: updates delivered", self.balancers);
        self.report.hold(name, told as f64, "", 0.0);
        Ok(spent)
    }

    /// `set --wait`, again and again.
    fn barrier(&mut self, idle: &Spent) -> io::Result<()> {
        let (before, delivered) = (Reading::take(self.etcd)?, self.crowd.delivered());
        let (mut times, mut parts, mut failed) = (Vec::new(), [const { Vec::new() }; 4], 0_u32);
        for number in 1..=CHANGES {
            match self.command.set_and_wait(KEY, &address(number), self.balancers) {
                Ok([start, set, over]) => {
                    let (told, served) = self.crowd.last();
                    times.push(millis(start, over));
                    for (part, [from, to]) in
                        parts.iter_mut().zip([[start, set], [set, told], [told, served], [served, over]])
                    {
                        part.push(millis(from, to));
                    }
                }
                Err(error) => {
                    eprintln!("change {number}: {error}");
                    failed += 1;
                }
            }
            sleep(PAUSE);
        }
        let spent = before.until_now(self.etcd)?;
        let all = self.balancers as f64 * f64::from(CHANGES);
        let told = (self.crowd.delivered() - delivered) as f64 / all;
        self.note("barrier: changes that not all were found to serve", f64::from(failed), "");
        self.note("barrier: etcd's threads waited for a core, a change", spent.waited / f64::from(CHANGES), "ms");
        self.note("barrier: median", quantile(times.clone(), 0.5), "ms");
        self.note("barrier: p99", quantile(times, 0.99), "ms");
        for (what, part) in PARTS.into_iter().zip(parts) {
            self.note(&format!("barrier: {what}, median"), quantile(part, 0.5), "ms");
        }
        self.note(
            "barrier: CPU of etcd for a change",
            net(spent.cpu, &spent, idle, idle.cpu) / f64::from(CHANGES),
            "ms",
        );
        let bytes = net(spent.kilobytes, &spent, idle, idle.kilobytes);
        self.note("barrier: bytes over gRPC for a change", bytes / f64::from(CHANGES), "kB");
        self.note("barrier: one write of the log", spent.fsyncing / spent.fsyncs, "ms");
        let writes = net(self.writes(&spent, CHANGES), &spent, idle, self.writes(idle, 0));
        self.note("barrier: status writes for a change, of each", writes / all, "");
        let name = format!("{} balancers, barrier: updates for a change, to each", self.balancers);
        self.report.hold(name, told, "", 1.0);
        Ok(())
    }

    fn burst(&mut self, idle: &Spent) -> io::Result<()> {
        let before = Reading::take(self.etcd)?;
        let start = Instant::now();
        let last = self.command.set_all(KEY, (1..=BURST).map(|number| address(CHANGES + number)))?;
        let changed = start.elapsed();
        self.command.wait(last, self.balancers)?;
        let served = start.elapsed();
        let spent = before.until_now(self.etcd)?;
        self.note("burst: 50 changes", changed.as_secs_f64() * 1e3, "ms");
        self.note("burst: until all serve the last, from there", (served - changed).as_secs_f64() * 1e3, "ms");
        self.note("burst: CPU of etcd", net(spent.cpu, &spent, idle, idle.cpu), "ms");
        let writes = net(self.writes(&spent, BURST), &spent, idle, self.writes(idle, 0));
        self.note("burst: status writes of each", writes / self.balancers as f64, "");
        Ok(())
    }

    /// A tenth of them.
    fn death(&mut self) -> io::Result<()> {
        let dead = self.balancers / 10;
        self.crowd.kill(dead);
        let took = self.command.listed(self.balancers - dead, TTL * 3)?;
        let name = format!("{} balancers, death of a tenth: until none counts", self.balancers);
        // etcd looks for leases that have ended twice a second.
        self.report.hold(name, took.as_secs_f64(), "s", TTL.as_secs_f64() + 1.0);
        Ok(())
    }
}

/// What is left of a cost when that of idling for as long is taken off.
fn net(cost: f64, spent: &Spent, idle: &Spent, idle_cost: f64) -> f64 {
    cost - idle_cost / idle.seconds * spent.seconds
}

/// Milliseconds from one moment to another, which may be before it.
fn millis(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1e3 - from.saturating_duration_since(to).as_secs_f64() * 1e3
}

fn address(number: u32) -> String {
    format!("10.1.1.{}:8080", number + 1)
}
