//! The rows of listeners, services and instances: HAProxy's FRONTEND, BACKEND and servers. Counts nothing; what is not
//! counted stays empty.

use pointsman_engine::live::{CheckedNow, InstanceStats, ServiceStats, Sums, Totals, sent_again};
use pointsman_native::share_in_effect;
use pointsman_table::{Bind, HealthCheck, Instance, Protocol, Service, Table, plain_name};

use super::checked::{self, CheckCode};
use super::look::{ServicePace, StatsLook};
use super::proxies::{Front, Proxies, backend};
use super::row::{StatColumn as Column, StatKind, StatRow, gauge};
use crate::sys;

/// The fault of requests that no service takes, which are answered with 503.
const NO_ROUTE: &str = "no_route";
/// The fault of requests that are none.
const BAD_REQUEST: &str = "bad_request";

/// What rows are made from.
pub(super) struct StatScene<'a> {
    pub(super) proxies: &'a Proxies,
    pub(super) look: &'a StatsLook,
    /// HAProxy counts repeated attempts without their reasons.
    pub(super) is_haproxy: bool,
}

/// Most client connections: what keys say, else half of the descriptors, as each may need a second one.
pub(super) fn most_connections(table: &Table) -> u32 {
    table.config().max_connections.map_or_else(|| gauge(sys::open_files_limit() / 2), Into::into)
}

impl StatScene<'_> {
    /// Hands the rows of the proxy at this place over: of a service its instances, then itself.
    pub(super) fn rows(&self, place: usize, take: &mut dyn FnMut(&StatRow<'_>)) {
        let number = Proxies::number(place);
        if let Some((name, front)) = self.proxies.fronts.get(place) {
            return take(&self.frontend((name, number), *front));
        }
        let Some(service) = self.proxies.service(place) else { return };
        let (name, known) = (backend(service), self.look.service(service.protocol, service.name.as_str()));
        let mut farm = Farm::default();
        for (at, instance) in service.instances.iter().enumerate() {
            let known = known.and_then(|(stats, pace)| of_instance(instance, stats, pace));
            let (stats, rate) = known.unzip();
            farm.add(instance, ServerStanding::of(instance, stats), stats, service);
            let svname = plain_name(instance.name.as_str());
            let mut row = StatRow::new(StatKind::Server, (&name, number), (&svname, Proxies::number(at)));
            row.set(Column::Rate, rate.flatten());
            self.server(&mut row, service, instance, stats);
            take(&row);
        }
        let mut row = StatRow::new(StatKind::Backend, (&name, number), ("BACKEND", 0));
        farm.fill(&mut row, service);
        self.backend(&mut row, service, known);
        take(&row);
    }

    fn frontend<'r>(&self, proxy: (&'r str, u32), front: Front) -> StatRow<'r> {
        let mut row = StatRow::new(StatKind::Frontend, proxy, ("FRONTEND", 0));
        row.set(Column::Status, "OPEN");
        row.set(Column::Mode, mode(if matches!(front, Front::Tcp(_)) { Protocol::Tcp } else { Protocol::Http }));
        match front {
            Front::Http => self.http(&mut row),
            // Nobody counts apart what comes over TLS: it is part of `http`.
            Front::Https => {}
            Front::Tcp(bind) => self.tcp(&mut row, bind),
        }
        row
    }

    /// All HTTP services, those over TLS too, and the requests that no service took.
    fn http(&self, row: &mut StatRow<'_>) {
        let StatsLook { snapshot, sums: [http, tcp], .. } = self.look;
        let fault =
            |name: &str| snapshot.faults.iter().find(|(fault, _)| *fault == name).map_or(0, |(_, count)| *count);
        let unrouted = fault(NO_ROUTE);
        let Sums { totals, .. } = http;
        let mut responses = totals.responses;
        responses[4] += unrouted;
        row.responses(responses);
        row.set(Column::Scur, gauge(snapshot.connections_open.saturating_sub(tcp.totals.active)));
        row.set(Column::Slim, most_connections(&self.proxies.table));
        let connections = snapshot.connections_total.saturating_sub(tcp.totals.requests);
        row.set(Column::Stot, connections);
        row.set(Column::ConnTot, connections);
        row.set(Column::BytesIn, totals.bytes_in);
        row.set(Column::BytesOut, totals.bytes_out);
        row.set(Column::Ereq, fault(BAD_REQUEST));
        row.set(Column::ReqTot, totals.requests + unrouted);
        row.set(Column::ReqRate, self.look.requests);
        row.set(Column::CompIn, totals.compress_in);
        row.set(Column::CompOut, totals.compress_out);
        if tcp.totals.requests + tcp.totals.active == 0 {
            row.set(Column::Rate, self.look.connections);
            row.set(Column::ConnRate, self.look.connections);
        }
    }

    /// The services at an address. One that listens at others too does not say what came where.
    fn tcp(&self, row: &mut StatRow<'_>, bind: Bind) {
        row.set(Column::Slim, most_connections(&self.proxies.table));
        let here = self.proxies.table.services().iter().map(|service| &**service);
        let here: Vec<_> = here.filter(|service| binds(service).contains(&bind)).collect();
        if here.iter().any(|service| binds(service).len() > 1) {
            return;
        }
        let known = || here.iter().filter_map(|service| self.look.service(Protocol::Tcp, service.name.as_str()));
        let totals = known().fold(Totals::default(), |sum, (stats, _)| sum.plus(&stats.totals));
        let rate = known().map(|(_, pace)| pace.rate).try_fold(0, |sum, rate| Some(sum + rate?));
        row.set(Column::Scur, gauge(totals.active));
        row.set(Column::Stot, totals.requests);
        row.set(Column::ConnTot, totals.requests);
        row.set(Column::BytesIn, totals.bytes_in);
        row.set(Column::BytesOut, totals.bytes_out);
        row.set(Column::Rate, rate);
        row.set(Column::ConnRate, rate);
    }

    fn server(&self, row: &mut StatRow<'_>, service: &Service, instance: &Instance, stats: Option<&InstanceStats>) {
        self.counts(row, service, &stats.map(|stats| stats.totals).unwrap_or_default());
        row.set(Column::Slim, instance.max_connections.map(u32::from));
        let (standing, check) = (ServerStanding::of(instance, stats), stats.and_then(|stats| stats.check.as_ref()));
        row.set(Column::Status, standing.words(service.health_check.as_deref(), check));
        row.set(Column::Weight, weight_now(instance, stats, service));
        row.set(Column::Uweight, u32::from(instance.weight));
        row.set(Column::Act, u32::from(!instance.backup));
        row.set(Column::Bck, u32::from(instance.backup));
        row.set(Column::Lastchg, stats.and_then(|stats| stats.lasts).map(|lasts| gauge(lasts.as_secs())));
        let share = share_in_effect(stats.and_then(|stats| stats.age), service.timeouts.slow_start);
        row.set(Column::Throttle, (share < 100).then(|| gauge(share)));
        row.set(Column::Addr, instance.target.to_string());
        if let Some(asks) = service.health_check.as_deref() {
            check_columns(row, instance, asks, check);
        }
    }

    fn backend<'r>(&self, row: &mut StatRow<'r>, service: &'r Service, known: Option<(&ServiceStats, &ServicePace)>) {
        let totals = known.map(|(stats, _)| stats.totals).unwrap_or_default();
        self.counts(row, service, &totals);
        row.set(Column::Qcur, gauge(known.map_or(0, |(stats, _)| stats.queued)));
        row.set(Column::Slim, service.bounds.as_ref().and_then(|bounds| bounds.requests).map(u32::from));
        row.set(Column::Rate, known.and_then(|(_, pace)| pace.rate));
        row.set(Column::Ttime, known.and_then(|(_, pace)| pace.mean));
        row.set(Column::Algo, service.balance.to_string());
        row.set(Column::Cookie, service.cookie().map(|cookie| &*cookie.name));
        if service.protocol == Protocol::Http {
            row.set(Column::CompIn, totals.compress_in);
            row.set(Column::CompOut, totals.compress_out);
        }
    }

    /// What services and instances have in common.
    fn counts(&self, row: &mut StatRow<'_>, service: &Service, totals: &Totals) {
        row.set(Column::Scur, gauge(totals.active));
        row.set(Column::Stot, totals.requests);
        row.set(Column::BytesIn, totals.bytes_in);
        row.set(Column::BytesOut, totals.bytes_out);
        row.set(Column::Econ, totals.connect_failures);
        match self.is_haproxy {
            true => row.set(Column::Wretr, totals.retries),
            false => {
                let again = sent_again(totals.reasons);
                row.set(Column::Wretr, again);
                row.set(Column::Wredis, totals.retries.saturating_sub(again));
            }
        }
        row.set(Column::Mode, mode(service.protocol));
        if service.protocol == Protocol::Http {
            row.responses(totals.responses);
            row.set(Column::ReqTot, totals.requests);
        }
    }
}

fn binds(service: &Service) -> &[Bind] {
    service.tcp().map(|entry| &*entry.binds).unwrap_or_default()
}

fn mode(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
    }
}

/// The figures of an instance; `None`: it had no work yet.
pub(super) fn of_instance<'l>(
    instance: &Instance,
    stats: &'l ServiceStats,
    pace: &ServicePace,
) -> Option<(&'l InstanceStats, Option<u32>)> {
    let name = instance.name.as_str();
    let at = stats.instances.binary_search_by(|one| one.instance.as_str().cmp(name)).ok()?;
    Some((&stats.instances[at], pace.instances.get(at).copied().flatten()))
}

/// Its weight, while `slow_start` reduces it too.
fn weight_now(instance: &Instance, stats: Option<&InstanceStats>, service: &Service) -> u32 {
    let share = share_in_effect(stats.and_then(|stats| stats.age), service.timeouts.slow_start);
    gauge((u64::from(instance.weight) * share).div_ceil(100))
}

/// Whether an instance gets work, in HAProxy's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerStanding {
    Up,
    /// It is up, and takes no new work.
    Draining,
    /// By checks, or ejected for its failures.
    Down,
    /// With the HAProxy engine: its name does not resolve, for instance.
    Maintenance,
}

impl ServerStanding {
    pub(super) fn of(instance: &Instance, stats: Option<&InstanceStats>) -> Self {
        match stats.and_then(|stats| stats.apart.as_ref()).map(|apart| apart.state) {
            Some("maintenance") => Self::Maintenance,
            Some(_) => Self::Down,
            None if instance.drain => Self::Draining,
            None => Self::Up,
        }
    }

    /// The column `status`: `UP`, or `UP 1/3` if so many more checks must fail until it is down.
    fn words(self, asks: Option<&HealthCheck>, check: Option<&CheckedNow>) -> String {
        let in_row = check.map_or(0, |check| check.streak);
        match (self, asks) {
            (Self::Up, None) => "no check".to_owned(),
            (Self::Up, Some(asks)) if in_row > 0 => format!("UP {}/{}", asks.fall.saturating_sub(in_row), asks.fall),
            (Self::Up, Some(_)) => "UP".to_owned(),
            (Self::Draining, _) => "DRAIN".to_owned(),
            (Self::Down, Some(asks)) if in_row > 0 && check.is_some_and(|check| !check.up) => {
                format!("DOWN {in_row}/{}", asks.rise)
            }
            (Self::Down, _) => "DOWN".to_owned(),
            (Self::Maintenance, _) => "MAINT".to_owned(),
        }
    }
}

/// The code of the last check of an instance that is checked.
pub(super) fn check_code(instance: &Instance, check: Option<&CheckedNow>) -> CheckCode {
    check.map_or(CheckCode::Initializing, |check| {
        // Of the last check, not of the state: the first that fail change nothing yet.
        let is_passed = check.up == (check.streak == 0);
        CheckCode::of(&check.said, is_passed, instance.tls)
    })
}

/// HAProxy's counter of checks: from 0, long down, to `rise + fall - 1`, long up.
pub(super) fn check_health(asks: &HealthCheck, check: Option<&CheckedNow>) -> u32 {
    match check {
        Some(check) if !check.up => check.streak,
        check => (asks.rise + asks.fall - 1).saturating_sub(check.map_or(0, |check| check.streak)),
    }
}

fn check_columns(row: &mut StatRow<'_>, instance: &Instance, asks: &HealthCheck, check: Option<&CheckedNow>) {
    row.set(Column::CheckRise, asks.rise);
    row.set(Column::CheckFall, asks.fall);
    // There was none yet; and the HAProxy engine does not tell what its checks said.
    let Some(check) = check else { return };
    let (status, description, _) = check_code(instance, Some(check)).facts();
    row.set(Column::CheckHealth, check_health(asks, Some(check)));
    row.set(Column::CheckStatus, status);
    row.set(Column::CheckDesc, description);
    row.set(Column::CheckCode, checked::status(&check.said));
    row.set(Column::CheckDuration, u64::try_from(check.took.as_millis()).unwrap_or(u64::MAX));
    row.set(Column::LastChk, check.said.clone());
}

/// The instances of a service that get work: the ordinary ones or, if none of those does, the backups.
#[derive(Debug, Default)]
struct Farm {
    /// How many, and their weight: of the ordinary ones, of the backups.
    up: [(u32, u32); 2],
}

impl Farm {
    fn add(&mut self, instance: &Instance, standing: ServerStanding, stats: Option<&InstanceStats>, service: &Service) {
        if standing == ServerStanding::Up {
            let (count, weight) = &mut self.up[usize::from(instance.backup)];
            *count += 1;
            *weight += weight_now(instance, stats, service);
        }
    }

    fn fill(&self, row: &mut StatRow<'_>, service: &Service) {
        let [(act, weight), (bck, spare)] = self.up;
        let weight = if weight > 0 { weight } else { spare };
        let is_up = weight > 0 || service.instances.is_empty();
        row.set(Column::Status, if is_up { "UP" } else { "DOWN" });
        row.set(Column::Weight, weight);
        row.set(Column::Act, act);
        row.set(Column::Bck, bck);
    }
}
