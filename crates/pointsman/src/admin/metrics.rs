//! Prometheus' text format 0.0.4, written from a snapshot. Labels come from the keys, never from a request, so the keys
//! limit the number of series. An instance's counters appear after its first use.

use std::collections::{HashMap, HashSet};
use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pointsman_native::share_in_effect;
use pointsman_table::{ProblemKind, Protocol, shown_lines};

use super::view::protocol_word;
use crate::control::Status;
use crate::sys;
use pointsman_engine::access::DROP_REASONS;
use pointsman_engine::live::{InstanceStats, REASONS, ServiceStats, Snapshot, Totals};
use pointsman_haproxy::ledger::Facts;
use pointsman_store::Condition;

/// One metric: name, type, help. docs/metrics.md has a row for each.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "counter", help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: "gauge", help }
}

/// The figures of this process.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    started: SystemTime,
    resident_bytes: u64,
    open_fds: u64,
    max_fds: u64,
    log_lost_lines: u64,
    access_log_dropped: [u64; DROP_REASONS.len()],
    /// Open, and refused so far.
    pages: (u64, u64),
}

impl Process {
    /// Reads `/proc`; unreadable values are 0. `pages`: those that are open, and those that were refused.
    pub fn read(
        started: SystemTime,
        (log_lost_lines, access_log_dropped): (u64, [u64; DROP_REASONS.len()]),
        pages: (u64, u64),
    ) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            started,
            resident_bytes: resident_bytes(&status),
            open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |folder| folder.count() as u64),
            max_fds: sys::open_files_limit(),
            log_lost_lines,
            access_log_dropped,
            pages,
        }
    }
}

fn resident_bytes(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The whole page; `haproxy` adds the HAProxy engine's metrics.
pub fn render(status: &Status, snapshot: &Snapshot, process: &Process, haproxy: Option<&Facts>) -> String {
    let mut page = Page::default();
    page.traffic(&snapshot.services);
    page.instances_up(status, &snapshot.services);
    page.weights(status, &snapshot.services);
    page.histories(&snapshot.services);
    page.panics(status, &snapshot.services);
    page.checks(&snapshot.services);
    page.latency(&snapshot.services);
    page.connections(snapshot);
    page.table(status);
    page.store(&status.condition);
    page.single(&STATUS_KEPT, u8::from(status.kept));
    haproxy.into_iter().for_each(|facts| page.haproxy(facts));
    page.process(process);
    page.text
}

/// The page under construction.
#[derive(Default)]
struct Page {
    text: String,
}

type Labels<'a> = [(&'a str, &'a str)];

impl Page {
    fn family(&mut self, family: &Family) {
        let Family { name, kind, help } = family;
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
        self.shed(services);
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

    /// Every instance of the table; one that had no work yet counts as up.
    fn instances_up(&mut self, status: &Status, services: &[ServiceStats]) {
        let down = all(services).filter(|(_, instance)| !instance.up);
        let down: HashSet<_> = down.map(|(service, instance)| labels(service, &instance.instance)).collect();
        self.family(&INSTANCE_UP);
        for service in status.table.iter().flat_map(|table| table.services()) {
            for instance in &service.instances {
                let labels = label(service.protocol, service.name.as_str(), instance.name.as_str());
                self.sample(INSTANCE_UP.name, &labels, u8::from(!down.contains(&labels)));
            }
        }
    }

    /// Every instance of the table. With the native engine, `slow_start` is in it.
    fn weights(&mut self, status: &Status, services: &[ServiceStats]) {
        let rising = all(services).filter_map(|(service, one)| Some((labels(service, &one.instance), one.age?)));
        let rising: HashMap<_, _> = rising.collect();
        self.family(&WEIGHT);
        for service in status.table.iter().flat_map(|table| table.services()) {
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

    /// Every service of the table that has `panic`.
    fn panics(&mut self, status: &Status, services: &[ServiceStats]) {
        self.family(&PANIC);
        for service in status.table.iter().flat_map(|table| table.services()).filter(|one| one.panic.is_some()) {
            let is_it =
                |stats: &&ServiceStats| (stats.protocol, &*stats.service) == (service.protocol, service.name.as_str());
            let panics = services.iter().find(is_it).is_some_and(|stats| stats.panic);
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

    fn shed(&mut self, services: &[ServiceStats]) {
        self.family(&SHED);
        for service in services.iter().filter(|service| service.totals.shed > 0) {
            let [protocol, name, _] = labels(service, "");
            self.sample(SHED.name, &[protocol, name], service.totals.shed);
        }
    }

    fn latency(&mut self, services: &[ServiceStats]) {
        self.family(&DURATION);
        for service in services.iter().filter(|service| service.latency.count > 0) {
            let [protocol, name, _] = labels(service, "");
            let sample = |page: &mut Self, suffix: &str, extra: &Labels<'_>, value: &dyn Display| {
                page.sample(&format!("{}{suffix}", DURATION.name), &[&[protocol, name], extra].concat(), value);
            };
            for (bound, count) in service.latency.buckets.iter().filter(|(bound, _)| bound.is_finite()) {
                sample(self, "_bucket", &[("le", &bound.to_string())], count);
            }
            sample(self, "_bucket", &[("le", "+Inf")], &service.latency.count);
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

    fn table(&mut self, status: &Status) {
        let services = status.table.as_deref().map_or(&[][..], |table| table.services());
        let instances: usize = services.iter().map(|service| service.instances.len()).sum();
        self.single(&TABLE_REVISION, status.table.as_deref().map_or(0, pointsman_table::Table::revision));
        self.single(&TABLE_APPLIED, status.applied);
        self.single(&TABLE_SERVICES, services.len());
        self.single(&TABLE_INSTANCES, instances);
        self.single(&LAST_GOOD, status.table.as_deref().map_or(0, |table| table.last_good().count()));
        self.single(&STATE_KEPT, u8::from(status.around.state.is_none()));
        self.single(&LAST_CHANGE, seconds(status.changed.unwrap_or(UNIX_EPOCH)));
        self.single(&COMPILE, status.compile.as_secs_f64());
        self.single(&SWAPS, status.swaps);
        self.single(&READY, u8::from(status.unready().is_none()));
        self.problems(status);
        self.certificates(status);
    }

    fn certificates(&mut self, status: &Status) {
        self.family(&CERTIFICATE_EXPIRES);
        for (name, cert) in status.table.iter().flat_map(|table| table.certs()) {
            self.sample(CERTIFICATE_EXPIRES.name, &[("certificate", name)], cert.not_after);
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
        self.single(&LOG_LOST_LINES, process.log_lost_lines);
        self.family(&ACCESS_LOG_DROPPED);
        for (reason, lines) in DROP_REASONS.iter().zip(process.access_log_dropped) {
            self.sample(ACCESS_LOG_DROPPED.name, &[("reason", reason)], lines);
        }
        self.single(&PAGES_OPEN, process.pages.0);
        self.single(&PAGES_REFUSED, process.pages.1);
        self.single(&RESIDENT, process.resident_bytes);
        self.single(&OPEN_FDS, process.open_fds);
        self.single(&MAX_FDS, process.max_fds);
        self.single(&START_TIME, seconds(process.started));
    }
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

const REQUESTS: Family = counter("pointsman_requests_total", "Requests (HTTP) or connections (TCP), by instance.");
const RESPONSES: Family = counter("pointsman_responses_total", "Responses, by status class.");
const BYTES_IN: Family = counter("pointsman_bytes_in_total", "Bytes from clients.");
const BYTES_OUT: Family = counter("pointsman_bytes_out_total", "Bytes to clients.");
const RETRIES: Family =
    counter("pointsman_retries_total", "Requests sent again, and failed connects that went to another instance.");
const RETRY_REASONS: Family = counter("pointsman_retries_by_reason_total", "The same, by reason.");
const SHED: Family =
    counter("pointsman_shed_total", "Requests answered 503 because all places or instances were taken.");
const ACTIVE: Family = gauge("pointsman_active", "Open requests (HTTP) or connections (TCP).");
const QUEUED: Family = gauge(
    "pointsman_queued",
    "Requests (HTTP) or connections (TCP) that wait for an instance below its maxconn, or for a place.",
);
const CONNECT_FAILURES: Family =
    counter("pointsman_connect_failures_total", "Connections to an instance that were refused or timed out.");
const EJECTIONS: Family = counter("pointsman_ejections_total", "Ejections of an instance, by reason.");
const PANIC: Family =
    gauge("pointsman_panic", "1 while too few instances of the service are healthy, and all are used (panic).");
const INSTANCE_UP: Family = gauge("pointsman_instance_up", "1 while the instance is up, 0 while it is down.");
const WEIGHT: Family = gauge("pointsman_instance_weight", "Weight of the instance now, with slow_start and drain.");
const STATE_SINCE: Family = gauge(
    "pointsman_instance_state_since_seconds",
    "Time since which the instance is up or down, in seconds since the epoch.",
);
const CHECKED: Family = gauge(
    "pointsman_instance_checked_seconds",
    "Time of the instance's last active check, in seconds since the epoch.",
);
const LAST_ERROR: Family = gauge(
    "pointsman_instance_last_error_seconds",
    "Time of the instance's last failure, in seconds since the epoch, and the fault or status.",
);
const CHECK_UP: Family =
    gauge("pointsman_instance_check_up", "1 while active checks let the instance have work, 0 while they do not.");
const CHECK_DURATION: Family =
    gauge("pointsman_instance_check_duration_seconds", "How long the instance's last active check took.");
const DURATION: Family = Family {
    name: "pointsman_request_duration_seconds",
    kind: "histogram",
    help: "Time from a request's head to the end of its response.",
};
const CONNECTIONS_OPEN: Family = gauge("pointsman_connections_open", "Open client connections.");
const CONNECTIONS: Family = counter("pointsman_connections_total", "Client connections accepted.");
const CONNECTIONS_EVICTED: Family =
    counter("pointsman_connections_evicted_total", "Idle client connections closed to make room for others.");
const HTTP2_GLITCHES: Family =
    counter("pointsman_http2_glitches_total", "Points for HTTP/2 frames of clients that move nothing.");
const CONNECTIONS_REFUSED: Family =
    counter("pointsman_connections_refused_total", "Client connections refused because of the limit.");
const FAULTS: Family = counter("pointsman_faults_total", "Local replies and cut connections, by fault.");
const HANDSHAKES: Family = counter(
    "pointsman_tls_handshakes_total",
    "TLS handshakes of clients, by version and whether a session was resumed.",
);
const TABLE_REVISION: Family = gauge("pointsman_table_revision", "Store revision of the newest table.");
const TABLE_APPLIED: Family =
    gauge("pointsman_table_applied_revision", "Store revision of the table that the engine serves.");
const TABLE_SERVICES: Family = gauge("pointsman_table_services", "Services in the table.");
const TABLE_INSTANCES: Family = gauge("pointsman_table_instances", "Instances in the table.");
const LAST_GOOD: Family =
    gauge("pointsman_last_good_services", "Services served with their last good settings, because their keys are bad.");
const STATE_KEPT: Family =
    gauge("pointsman_state_kept", "0 while the balancer's own file below --state cannot be written.");
const LAST_CHANGE: Family =
    gauge("pointsman_last_change_timestamp_seconds", "Time of the last table change; 0 before the first.");
const COMPILE: Family = gauge("pointsman_config_compile_seconds", "Duration of the last compile.");
const SWAPS: Family = counter("pointsman_swaps_total", "Tables published.");
const READY: Family = gauge("pointsman_ready", "1 while /readyz answers 200.");
const PROBLEMS: Family = gauge("pointsman_problems", "Problems with the keys, by kind.");
const CERTIFICATE_EXPIRES: Family = gauge(
    "pointsman_certificate_expires_seconds",
    "Time at which the certificate expires, in seconds since the epoch.",
);
const STORE_UP: Family = gauge("pointsman_store_up", "1 while the store is watched.");
const STORE_INFO: Family =
    gauge("pointsman_store_info", "State of the connection to the store, its name, and the last error's kind.");
const STATUS_KEPT: Family =
    gauge("pointsman_status_kept", "1 while the store has this balancer's status, for `pointsman status` and --wait.");
const HAPROXY_INFO: Family = gauge("pointsman_haproxy_info", "Version of the HAProxy in use.");
const HAPROXY_WORKERS: Family =
    gauge("pointsman_haproxy_workers", "HAProxy workers: `current` accepts connections, `old` ones finish theirs.");
const HAPROXY_RELOADS: Family = counter("pointsman_haproxy_reloads_total", "Reloads of HAProxy, by result.");
const HAPROXY_RELOAD: Family = gauge("pointsman_haproxy_reload_seconds", "Duration of the last reload.");
const HAPROXY_COMMANDS: Family =
    counter("pointsman_haproxy_commands_total", "Commands that changed the running HAProxy.");
const BUILD_INFO: Family = gauge("pointsman_build_info", "Version of Pointsman.");
const LOG_LOST_LINES: Family =
    counter("pointsman_log_lost_lines_total", "Lines of the log that were lost because nobody read them in time.");
const ACCESS_LOG_DROPPED: Family =
    counter("pointsman_access_log_dropped_total", "Lines of the access log that were dropped.");
const PAGES_OPEN: Family = gauge("pointsman_pages_open", "Open pages of the balancer in browsers.");
const PAGES_REFUSED: Family = counter("pointsman_pages_refused_total", "Pages refused because too many were open.");
const RESIDENT: Family = gauge("process_resident_memory_bytes", "Resident memory in bytes.");
const OPEN_FDS: Family = gauge("process_open_fds", "Open file descriptors.");
const MAX_FDS: Family = gauge("process_max_fds", "Limit on open file descriptors.");
const START_TIME: Family = gauge("process_start_time_seconds", "Start time of the process, seconds since the epoch.");

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
    ProblemKind::NotValid,
    ProblemKind::State,
];

#[cfg(test)]
mod tests;
