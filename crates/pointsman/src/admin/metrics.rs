//! Prometheus' text format 0.0.4, or OpenMetrics with exemplars, written from a snapshot. Labels come from the keys, never
//! from a request, so the keys limit the number of series, and `roster` limits it further. An instance's counters appear after its first use.

mod families;
mod open;
mod roster;

use std::collections::{HashMap, HashSet};
use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pointsman_native::share_in_effect;
use pointsman_table::{ProblemKind, Protocol, Service, shown_lines};

use self::families::*;
pub use self::open::{OPEN_TYPE, wants_open};
use self::roster::MOST_LISTED;
pub use self::roster::{MetricNames, Named};
use super::view::protocol_word;
use crate::control::{ACME_OUTCOMES, AcmeReport, DEMAND_VERDICTS, Status};
use crate::logging::access::RequestsView;
use crate::sys;
use pointsman_engine::access::DROP_REASONS;
use pointsman_engine::exemplars::Exemplars;
use pointsman_engine::live::{InstanceStats, REASONS, ServiceStats, Snapshot, Totals};
use pointsman_engine::spans::SPAN_DROPS;
use pointsman_haproxy::ledger::Facts;
use pointsman_store::Condition;

/// The figures of this process.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    started: SystemTime,
    resident_bytes: u64,
    open_fds: u64,
    max_fds: u64,
    lost: Lost,
    /// Open, and refused so far.
    pages: (u64, u64),
}

/// What was lost of the logs, and what became of spans.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lost {
    log_lines: u64,
    access_log: [u64; DROP_REASONS.len()],
    spans_sent: u64,
    spans: [u64; SPAN_DROPS.len()],
}

impl Lost {
    /// `log_lines`: those that the log lost.
    pub fn of(log_lines: u64, requests: &RequestsView) -> Self {
        let RequestsView { log, spans, .. } = requests;
        Self { log_lines, access_log: log.dropped(), spans_sent: spans.sent(), spans: spans.dropped() }
    }
}

impl Process {
    /// Reads `/proc`; unreadable values are 0. `pages`: those that are open, and those that were refused.
    pub fn read(started: SystemTime, lost: Lost, pages: (u64, u64)) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            started,
            resident_bytes: resident_bytes(&status),
            open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |folder| folder.count() as u64),
            max_fds: sys::open_files_limit(),
            lost,
            pages,
        }
    }
}

fn resident_bytes(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The whole page; `haproxy` adds the HAProxy engine's metrics. `exemplars`: OpenMetrics, with these.
pub fn render(
    (status, named): (&Status, &Named),
    process: &Process,
    haproxy: Option<&Facts>,
    exemplars: Option<&Exemplars>,
) -> String {
    let snapshot = &named.snapshot;
    let mut page = Page { text: String::new(), exemplars };
    page.traffic(&snapshot.services);
    page.instances_up(status, named);
    page.weights(status, named);
    page.histories(&snapshot.services);
    page.panics(status, named);
    page.checks(&snapshot.services);
    page.latency(&snapshot.services);
    page.connections(snapshot);
    page.table(status, named);
    page.store(&status.condition);
    page.single(&STATUS_KEPT, u8::from(status.kept));
    haproxy.into_iter().for_each(|facts| page.haproxy(facts));
    page.process(process);
    if exemplars.is_some() {
        page.text.push_str(open::END);
    }
    page.text
}

/// The page under construction.
struct Page<'e> {
    text: String,
    /// The page is OpenMetrics, with these; `None`: text.
    exemplars: Option<&'e Exemplars>,
}

type Labels<'a> = [(&'a str, &'a str)];
type OfTotals = fn(&Totals) -> u64;

impl Page<'_> {
    fn family(&mut self, family: &Family) {
        let Family { name, kind, help } = family;
        // A counter of OpenMetrics is named without the end of its samples' names.
        let name = name.strip_suffix("_total").filter(|_| self.exemplars.is_some()).unwrap_or(name);
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
        self.text.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(&shown_lines(text).to_string(), &mut self.text);
            self.text.push('"');
        }
        self.line(format_args!("{} {value}", if labels.is_empty() { "" } else { "}" }));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("writing to a string never fails");
    }

    /// A family of one sample without labels.
    fn single(&mut self, family: &Family, value: impl Display) {
        self.family(family);
        self.sample(family.name, &[], value);
    }

    fn traffic(&mut self, services: &[ServiceStats]) {
        self.counts(services, REQUESTS, |s| s.totals.requests, |i| i.totals.requests);
        self.responses(services);
        self.counts(services, BYTES_IN, |s| s.totals.bytes_in, |i| i.totals.bytes_in);
        self.counts(services, BYTES_OUT, |s| s.totals.bytes_out, |i| i.totals.bytes_out);
        self.counts(services, RETRIES, |s| s.totals.retries, |i| i.totals.retries);
        self.each_used(services, ACTIVE, |instance| instance.totals.active);
        self.reasons(services);
        self.queued(services);
        self.refused(services, &SHED, |service| service.totals.shed);
        self.refused(services, &LIMITED, |service| service.totals.limited);
        self.compression(services);
        self.each_used(services, CONNECT_FAILURES, |instance| instance.totals.connect_failures);
        self.ejections(services);
    }

    /// A counter per instance. Work that reached no instance is counted with an empty instance, so that sums are right.
    fn counts(
        &mut self,
        services: &[ServiceStats],
        family: Family,
        whole: fn(&ServiceStats) -> u64,
        part: fn(&InstanceStats) -> u64,
    ) {
        self.family(&family);
        for service in services {
            for instance in service.instances.iter().filter(|instance| used(instance)) {
                self.sample(family.name, &labels(service, &instance.instance), part(instance));
            }
            let parts: u64 = service.instances.iter().map(part).sum();
            let rest = whole(service).saturating_sub(parts);
            if rest > 0 {
                self.sample(family.name, &labels(service, ""), rest);
            }
        }
    }

    fn each_used(&mut self, services: &[ServiceStats], family: Family, value: fn(&InstanceStats) -> u64) {
        self.family(&family);
        for (service, instance) in all(services).filter(|(_, instance)| used(instance)) {
            self.sample(family.name, &labels(service, &instance.instance), value(instance));
        }
    }

    /// Every instance of the services that are named, and others that are down; one that had no work yet counts as up.
    fn instances_up(&mut self, status: &Status, named: &Named) {
        let down = all(&named.snapshot.services).filter(|(_, instance)| !instance.up);
        let down: HashSet<_> = down.map(|(service, instance)| labels(service, &instance.instance)).collect();
        self.family(&INSTANCE_UP);
        for service in in_table(status, named) {
            for instance in &service.instances {
                let labels = label(service.protocol, service.name.as_str(), instance.name.as_str());
                self.sample(INSTANCE_UP.name, &labels, u8::from(!down.contains(&labels)));
            }
        }
        for (protocol, service, instance) in &named.down {
            self.sample(INSTANCE_UP.name, &label(*protocol, service, instance), 0);
        }
    }

    /// Every instance of the services that are named. With the native engine, `slow_start` is in it.
    fn weights(&mut self, status: &Status, named: &Named) {
        let rising =
            all(&named.snapshot.services).filter_map(|(service, one)| Some((labels(service, &one.instance), one.age?)));
        let rising: HashMap<_, _> = rising.collect();
        self.family(&WEIGHT);
        for service in in_table(status, named) {
            for instance in &service.instances {
                let labels = label(service.protocol, service.name.as_str(), instance.name.as_str());
                let percent = share_in_effect(rising.get(&labels).copied(), service.timeouts.slow_start);
                let weight = if instance.drain { 0 } else { instance.weight };
                self.sample(WEIGHT.name, &labels, f64::from(weight) * percent as f64 / 100.0);
            }
        }
    }

    /// When the states of used or checked instances began, and when they were checked and failed last.
    fn histories(&mut self, services: &[ServiceStats]) {
        let is_shown = |instance: &InstanceStats| used(instance) || instance.check.is_some() || !instance.up;
        let shown = || all(services).filter(|(_, instance)| is_shown(instance));
        let now = SystemTime::now();
        let at = |age: Duration| seconds(now.checked_sub(age).unwrap_or(UNIX_EPOCH)).round();
        self.family(&STATE_SINCE);
        for (service, instance, age) in shown().filter_map(|(service, one)| Some((service, one, one.lasts?))) {
            self.sample(STATE_SINCE.name, &labels(service, &instance.instance), at(age));
        }
        self.family(&CHECKED);
        for (service, instance, age) in
            shown().filter_map(|(service, one)| Some((service, one, one.check.as_ref()?.age?)))
        {
            self.sample(CHECKED.name, &labels(service, &instance.instance), at(age));
        }
        self.family(&LAST_ERROR);
        for (service, instance, (error, age)) in
            shown().filter_map(|(service, one)| Some((service, one, one.error.as_ref()?)))
        {
            let [protocol, name, instance] = labels(service, &instance.instance);
            self.sample(LAST_ERROR.name, &[protocol, name, instance, ("error", error)], at(*age));
        }
    }

    fn ejections(&mut self, services: &[ServiceStats]) {
        self.family(&EJECTIONS);
        for (service, instance) in all(services) {
            let [protocol, name, instance_label] = labels(service, &instance.instance);
            for (reason, count) in instance.ejections.iter().filter(|(_, count)| *count > 0) {
                self.sample(EJECTIONS.name, &[protocol, name, instance_label, ("reason", reason.as_str())], count);
            }
        }
    }

    /// Every service that is named and has `panic`.
    fn panics(&mut self, status: &Status, named: &Named) {
        self.family(&PANIC);
        for service in in_table(status, named).filter(|one| one.panic.is_some()) {
            let is_it =
                |stats: &&ServiceStats| (stats.protocol, &*stats.service) == (service.protocol, service.name.as_str());
            let panics = named.snapshot.services.iter().find(is_it).is_some_and(|stats| stats.panic);
            let [protocol, name, _] = label(service.protocol, service.name.as_str(), "");
            self.sample(PANIC.name, &[protocol, name], u8::from(panics));
        }
    }

    /// Every instance that is checked.
    fn checks(&mut self, services: &[ServiceStats]) {
        let checked =
            || all(services).filter_map(|(service, instance)| Some((service, instance, instance.check.as_ref()?)));
        self.family(&CHECK_UP);
        for (service, instance, check) in checked() {
            self.sample(CHECK_UP.name, &labels(service, &instance.instance), u8::from(check.up));
        }
        self.family(&CHECK_DURATION);
        for (service, instance, check) in checked() {
            self.sample(CHECK_DURATION.name, &labels(service, &instance.instance), check.took.as_secs_f64());
        }
    }

    fn responses(&mut self, services: &[ServiceStats]) {
        self.family(&RESPONSES);
        for service in services {
            for instance in service.instances.iter().filter(|instance| used(instance)) {
                self.classes(service, &instance.instance, instance.totals.responses);
            }
            let parts = |class: usize| service.instances.iter().map(|instance| instance.totals.responses[class]).sum();
            let rest = std::array::from_fn(|class| service.totals.responses[class].saturating_sub(parts(class)));
            self.classes(service, "", rest);
        }
    }

    fn classes(&mut self, service: &ServiceStats, instance: &str, counts: [u64; 5]) {
        const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let [protocol, name, instance] = labels(service, instance);
        for (code, count) in CODES.into_iter().zip(counts).filter(|(_, count)| *count > 0) {
            self.sample(RESPONSES.name, &[protocol, name, instance, ("code", code)], count);
        }
    }

    fn queued(&mut self, services: &[ServiceStats]) {
        self.family(&QUEUED);
        for service in services {
            let [protocol, name, _] = labels(service, "");
            self.sample(QUEUED.name, &[protocol, name], service.queued);
        }
    }

    /// Only reasons that occurred: HAProxy counts none.
    fn reasons(&mut self, services: &[ServiceStats]) {
        self.family(&RETRY_REASONS);
        for service in services {
            let [protocol, name, _] = labels(service, "");
            for (reason, count) in REASONS.into_iter().zip(service.totals.reasons).filter(|(_, count)| *count > 0) {
                self.sample(RETRY_REASONS.name, &[protocol, name, ("reason", reason)], count);
            }
        }
    }

    /// A counter of services, of those where it is not 0.
    fn refused(&mut self, services: &[ServiceStats], family: &Family, count: fn(&ServiceStats) -> u64) {
        self.family(family);
        for service in services.iter().filter(|service| count(service) > 0) {
            let [protocol, name, _] = labels(service, "");
            self.sample(family.name, &[protocol, name], count(service));
        }
    }

    fn compression(&mut self, services: &[ServiceStats]) {
        let compress = |service: &&ServiceStats| service.totals.compress_in + service.totals.compress_passed > 0;
        let columns: [(&Family, OfTotals); 3] = [
            (&COMPRESS_IN, |totals| totals.compress_in),
            (&COMPRESS_OUT, |totals| totals.compress_out),
            (&COMPRESS_PASSED, |totals| totals.compress_passed),
        ];
        for (family, value) in columns {
            self.family(family);
            for service in services.iter().filter(compress) {
                let [protocol, name, _] = labels(service, "");
                self.sample(family.name, &[protocol, name], value(&service.totals));
            }
        }
    }

    fn latency(&mut self, services: &[ServiceStats]) {
        self.family(&DURATION);
        for service in services.iter().filter(|service| service.latency.count > 0) {
            let [protocol, name, _] = labels(service, "");
            let sample = |page: &mut Self, suffix: &str, extra: &Labels<'_>, value: &dyn Display| {
                page.sample(&format!("{}{suffix}", DURATION.name), &[&[protocol, name], extra].concat(), value);
            };
            let of_service = self.exemplars.filter(|_| service.protocol == Protocol::Http);
            let told = of_service.map(|all| all.of(&service.service)).unwrap_or_default();
            let mut told = told.iter().map(|one| one.as_ref().map(open::shown).unwrap_or_default());
            let mut bucket = |page: &mut Self, bound: &str, count: u64| {
                let told = told.next().unwrap_or_default();
                sample(page, "_bucket", &[("le", bound)], &format_args!("{count}{told}"));
            };
            for (bound, count) in service.latency.buckets.iter().filter(|(bound, _)| bound.is_finite()) {
                // OpenMetrics has `1.0`.
                let bound = if self.exemplars.is_some() { format!("{bound:?}") } else { bound.to_string() };
                bucket(self, &bound, *count);
            }
            bucket(self, "+Inf", service.latency.count);
            sample(self, "_sum", &[], &service.latency.sum);
            sample(self, "_count", &[], &service.latency.count);
        }
    }

    fn connections(&mut self, snapshot: &Snapshot) {
        self.single(&CONNECTIONS_OPEN, snapshot.connections_open);
        self.single(&CONNECTIONS, snapshot.connections_total);
        self.single(&CONNECTIONS_EVICTED, snapshot.connections_evicted);
        self.single(&HTTP2_GLITCHES, snapshot.http2_glitches);
        self.single(&CONNECTIONS_REFUSED, snapshot.connections_refused);
        self.family(&FAULTS);
        for (fault, count) in &snapshot.faults {
            self.sample(FAULTS.name, &[("fault", fault)], count);
        }
        self.family(&HANDSHAKES);
        for (version, is_resumed, count) in &snapshot.handshakes {
            self.sample(HANDSHAKES.name, &[("version", version), ("resumed", &is_resumed.to_string())], count);
        }
    }

    fn table(&mut self, status: &Status, named: &Named) {
        let services = status.table.as_deref().map_or(&[][..], |table| table.services());
        let instances: usize = services.iter().map(|service| service.instances.len()).sum();
        self.single(&TABLE_REVISION, status.table.as_deref().map_or(0, pointsman_table::Table::revision));
        self.single(&TABLE_APPLIED, status.applied);
        self.single(&TABLE_SERVICES, services.len());
        self.single(&TABLE_INSTANCES, instances);
        self.single(&LAST_GOOD, status.table.as_deref().map_or(0, |table| table.last_good().count()));
        self.single(&STATE_KEPT, u8::from(status.around.state.is_none() && status.around.snapshot.is_none()));
        self.single(&SNAPSHOT_AGE, status.snapshot.map_or(0, |from| from.age().as_secs()));
        self.guard(status);
        self.single(&LAST_CHANGE, seconds(status.changed.unwrap_or(UNIX_EPOCH)));
        self.single(&COMPILE, status.compile.as_secs_f64());
        self.single(&SWAPS, status.swaps);
        self.single(&READY, u8::from(status.unready().is_none()));
        self.problems(status);
        self.certificates(status, named);
        self.acme(&status.around.acme, named);
        self.single(&UNNAMED, named.unnamed);
    }

    fn guard(&mut self, status: &Status) {
        let held = status.held.as_deref().map_or([0; 3], |held| [held.services.len(), held.instances.len(), held.keys]);
        self.family(&GUARD_HELD);
        for (what, count) in ["services", "instances", "keys"].into_iter().zip(held) {
            self.sample(GUARD_HELD.name, &[("what", what)], count);
        }
        self.single(&GUARD_HOLDS, status.holds);
    }

    /// All of them, or those that expire first.
    fn certificates(&mut self, status: &Status, named: &Named) {
        self.family(&CERTIFICATE_EXPIRES);
        let mut certs: Vec<_> = status.table.iter().flat_map(|table| table.certs()).collect();
        if named.is_short() {
            certs.sort_by_key(|(_, cert)| cert.not_after);
            certs.truncate(MOST_LISTED);
        }
        for (name, cert) in certs {
            self.sample(CERTIFICATE_EXPIRES.name, &[("certificate", name)], cert.not_after);
        }
    }

    /// All names that certificates by ACME are wanted for, or those of which a step is due first.
    fn acme(&mut self, acme: &AcmeReport, named: &Named) {
        let mut names: Vec<_> = acme.names.iter().collect();
        if named.is_short() {
            names.sort_by_key(|name| name.renew.or(name.due));
            names.truncate(MOST_LISTED);
        }
        self.family(&ACME_RENEW);
        for (name, renew) in names.iter().filter_map(|name| Some((name, name.renew?))) {
            self.sample(ACME_RENEW.name, &[("certificate", &name.certificate)], renew);
        }
        self.family(&ACME_NEXT);
        for name in names {
            self.sample(ACME_NEXT.name, &[("certificate", &name.certificate), ("step", name.next)], 1);
        }
        self.family(&ACME_NAMES);
        let issued = acme.names.iter().filter(|name| name.issued.is_some()).count();
        for (state, count) in [("issued", issued), ("missing", acme.names.len() - issued)] {
            self.sample(ACME_NAMES.name, &[("state", state)], count);
        }
        self.family(&ACME_ORDERS);
        for (outcome, count) in ACME_OUTCOMES.into_iter().zip(acme.outcomes) {
            self.sample(ACME_ORDERS.name, &[("outcome", outcome)], count);
        }
        self.family(&ACME_DEMANDS);
        for (outcome, count) in DEMAND_VERDICTS.into_iter().zip(acme.demands) {
            self.sample(ACME_DEMANDS.name, &[("outcome", outcome)], count);
        }
    }

    fn problems(&mut self, status: &Status) {
        self.family(&PROBLEMS);
        let mut counts: Vec<(ProblemKind, u64)> = KINDS.iter().map(|kind| (*kind, 0)).collect();
        for problem in status.problems() {
            match counts.iter_mut().find(|(kind, _)| *kind == problem.kind) {
                Some((_, count)) => *count += 1,
                None => counts.push((problem.kind, 1)),
            }
        }
        for (kind, count) in counts {
            self.sample(PROBLEMS.name, &[("kind", kind.as_str())], count);
        }
    }

    fn store(&mut self, condition: &Condition) {
        let (state, via) = match condition {
            Condition::Connecting { .. } => ("connecting", ""),
            Condition::Watching { via } => ("watching", via.as_str()),
            Condition::Lost { .. } => ("lost", ""),
        };
        self.single(&STORE_UP, u8::from(state == "watching"));
        self.family(&STORE_INFO);
        let reason = condition.outage().map_or("", |outage| outage.kind);
        self.sample(STORE_INFO.name, &[("state", state), ("via", via), ("reason", reason)], 1);
    }

    fn haproxy(&mut self, facts: &Facts) {
        self.family(&HAPROXY_INFO);
        self.sample(HAPROXY_INFO.name, &[("version", &facts.version)], 1);
        self.family(&HAPROXY_WORKERS);
        self.sample(HAPROXY_WORKERS.name, &[("state", "current")], u8::from(facts.serving));
        self.sample(HAPROXY_WORKERS.name, &[("state", "old")], facts.old_workers);
        self.family(&HAPROXY_RELOADS);
        self.sample(HAPROXY_RELOADS.name, &[("result", "ok")], facts.reloads);
        self.sample(HAPROXY_RELOADS.name, &[("result", "failed")], facts.failed_reloads);
        self.single(&HAPROXY_RELOAD, facts.last_reload.as_secs_f64());
        self.single(&HAPROXY_COMMANDS, facts.commands);
    }

    fn process(&mut self, process: &Process) {
        self.family(&BUILD_INFO);
        self.sample(BUILD_INFO.name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.single(&LOG_LOST_LINES, process.lost.log_lines);
        self.family(&ACCESS_LOG_DROPPED);
        for (reason, lines) in DROP_REASONS.iter().zip(process.lost.access_log) {
            self.sample(ACCESS_LOG_DROPPED.name, &[("reason", reason)], lines);
        }
        self.single(&SPANS_SENT, process.lost.spans_sent);
        self.family(&SPANS_DROPPED);
        for (reason, spans) in SPAN_DROPS.iter().zip(process.lost.spans) {
            self.sample(SPANS_DROPPED.name, &[("reason", reason)], spans);
        }
        self.single(&PAGES_OPEN, process.pages.0);
        self.single(&PAGES_REFUSED, process.pages.1);
        self.single(&RESIDENT, process.resident_bytes);
        self.single(&OPEN_FDS, process.open_fds);
        self.single(&MAX_FDS, process.max_fds);
        self.single(&START_TIME, seconds(process.started));
    }
}

/// The services of the table that are named.
fn in_table<'a>(status: &'a Status, named: &'a Named) -> impl Iterator<Item = &'a Service> {
    let services = status.table.iter().flat_map(|table| table.services()).map(|service| &**service);
    services.filter(|service| named.has(service.protocol, service.name.as_str()))
}

fn all(services: &[ServiceStats]) -> impl Iterator<Item = (&ServiceStats, &InstanceStats)> {
    services.iter().flat_map(|service| service.instances.iter().map(move |instance| (service, instance)))
}

/// Whether an instance has ever had work. Keeps the page small with 30,000 idle instances.
fn used(instance: &InstanceStats) -> bool {
    let Totals { requests, connect_failures, active, retries, .. } = instance.totals;
    requests + connect_failures + active + retries > 0
}

fn labels<'a>(service: &'a ServiceStats, instance: &'a str) -> [(&'a str, &'a str); 3] {
    label(service.protocol, &service.service, instance)
}

fn label<'a>(protocol: Protocol, service: &'a str, instance: &'a str) -> [(&'a str, &'a str); 3] {
    [("protocol", protocol_word(protocol)), ("service", service), ("instance", instance)]
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// The format has three escapes in label values: backslash, quote and line feed.
fn escape(text: &str, into: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => into.push_str("\\\\"),
            '"' => into.push_str("\\\""),
            '\n' => into.push_str("\\n"),
            other => into.push(other),
        }
    }
}

/// Kinds that are shown even at 0, so that an alert sees the first one.
const KINDS: &[ProblemKind] = &[
    ProblemKind::UnknownKey,
    ProblemKind::BadValue,
    ProblemKind::BadInstance,
    ProblemKind::NoRule,
    ProblemKind::Shadowed,
    ProblemKind::PortTaken,
    ProblemKind::TooManyPorts,
    ProblemKind::Loop,
    ProblemKind::Unresolved,
    ProblemKind::Denied,
    ProblemKind::Unsupported,
    ProblemKind::Listen,
    ProblemKind::Rejected,
    ProblemKind::Engine,
    ProblemKind::TwoApis,
    ProblemKind::ExpiresSoon,
    ProblemKind::NoCertificate,
    ProblemKind::NotValid,
    ProblemKind::State,
    ProblemKind::Held,
];

#[cfg(test)]
mod tests;
