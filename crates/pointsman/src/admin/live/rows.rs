//! The services as the page's list shows them: one row each, and which rows changed. Sends nothing, reads no clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pointsman_engine::live::{InstanceStats, ServiceStats, Snapshot};
use pointsman_table::{Instance, Protocol, Service, ServiceName, Table};
use serde::Serialize;

use super::pulse::{Counted, Pulse};
use crate::admin::instance::InstanceView;
use crate::admin::view::{RuleView, protocol_word};

/// Most rows of figures in one message: with 10,000 busy services each is sent every few seconds.
pub(super) const MOST_ROWS: usize = 2500;
/// Most instances of a service that the page can search for.
const MOST_SEARCHED: usize = 32;
/// Most hosts and paths of a rule that a row names.
const MOST_NAMED: usize = 4;
/// Most instances listed that are down.
const MOST_DOWN: usize = 200;

/// What a row says that only a new table changes, as an array: its number, `http/shop`, the rule, the instances' names
/// and addresses, how many instances it has, how many of them are drained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct RowNames(u32, String, String, String, usize, usize);

/// A row's figures, as an array: its number, instances that take work, instances down; requests, 4xx and 5xx per second;
/// p50 and p99 in milliseconds; open work, queue, problems; 1: in panic, 2: last good settings, 3: both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct RowFigures(u32, u32, u32, [f32; 3], Option<f32>, Option<f32>, u64, u64, u32, u8);

/// What changed in the list.
#[derive(Debug, Default, Serialize)]
pub(super) struct RowsUpdate {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<RowNames>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    figures: Vec<RowFigures>,
    /// The numbers of rows that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<u32>,
}

impl RowsUpdate {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.figures.is_empty() && self.gone.is_empty()
    }
}

/// An instance that is down, and why.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DownInstance {
    /// `http/shop`.
    service: String,
    name: String,
    target: String,
    state: String,
    why: Option<String>,
    /// The last failure, if `why` does not say it.
    error: Option<String>,
    since: Option<u64>,
}

/// Since when is counted from now, and may differ by a second from look to look.
impl PartialEq for DownInstance {
    fn eq(&self, other: &Self) -> bool {
        let facts = |one: &Self| (one.service.clone(), one.name.clone(), one.state.clone(), one.why.clone());
        facts(self) == facts(other) && (&self.target, &self.error) == (&other.target, &other.error)
    }
}

/// How many problems a service has.
pub(super) type ProblemCounts = HashMap<(Protocol, ServiceName), u32>;

/// All rows, in the table's order.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<ServiceRow>,
    /// The number of the next new row.
    next: u32,
    gone: Vec<u32>,
    /// Where the next message goes on, if one could not take all rows.
    cursor: usize,
    generation: Option<u64>,
    /// Instances that take work, and all.
    pub(super) up: [u64; 2],
    pub(super) down: Vec<DownInstance>,
    /// How many are down, those listed and the rest.
    pub(super) down_count: u64,
}

#[derive(Debug)]
struct ServiceRow {
    service: Arc<Service>,
    names: RowNames,
    /// The names were sent.
    told: bool,
    pulse: Option<Pulse>,
    now: RowFigures,
    sent: Option<RowFigures>,
}

impl Rows {
    /// Takes the state of this moment, `span` after the last one; `None`: there is none that it could be compared with.
    pub(super) fn take(
        &mut self,
        table: &Table,
        snapshot: &Snapshot,
        problems: &ProblemCounts,
        span: Option<Duration>,
    ) {
        if self.generation != Some(table.generation()) {
            self.generation = Some(table.generation());
            self.follow(table);
        }
        let known = snapshot.services.iter();
        let known: HashMap<_, _> = known.map(|stats| ((stats.protocol, stats.service.as_str()), stats)).collect();
        let last_good: HashMap<_, _> =
            table.last_good().map(|(protocol, name, revision)| ((protocol, name), revision)).collect();
        (self.up, self.down_count) = ([0, 0], 0);
        self.down.clear();
        for row in &mut self.rows {
            let service = Arc::clone(&row.service);
            let stats = known.get(&(service.protocol, service.name.as_str())).copied();
            let standing = Standing::of(&service, stats);
            self.up[0] += u64::from(standing.up);
            self.up[1] += service.instances.len() as u64;
            self.down_count += u64::from(standing.down);
            if standing.down > 0 && self.down.len() < MOST_DOWN {
                let room = MOST_DOWN - self.down.len();
                self.down.extend(stats.into_iter().flat_map(|stats| down(&service, stats)).take(room));
            }
            let count = problems.get(&(service.protocol, service.name.clone())).copied().unwrap_or(0);
            let is_last_good = last_good.contains_key(&(service.protocol, &service.name));
            row.take(stats, &standing, (count, is_last_good), span);
        }
    }

    /// Keeps the rows of services that stay.
    fn follow(&mut self, table: &Table) {
        let old = self.rows.drain(..).map(|row| ((row.service.protocol, row.service.name.clone()), row));
        let mut old: HashMap<_, _> = old.collect();
        for service in table.services() {
            let row = match old.remove(&(service.protocol, service.name.clone())) {
                Some(row) => row.renewed(service),
                None => {
                    self.next += 1;
                    ServiceRow::new(self.next, service)
                }
            };
            self.rows.push(row);
        }
        self.gone.extend(old.into_values().filter(|row| row.told).map(|row| row.names.0));
    }

    /// What was not sent yet: `most` rows of it.
    pub(super) fn news(&mut self, most: usize) -> RowsUpdate {
        let mut update = RowsUpdate { gone: std::mem::take(&mut self.gone), ..RowsUpdate::default() };
        let count = self.rows.len();
        let start = if self.cursor < count { self.cursor } else { 0 };
        self.cursor = 0;
        for at in (start..count).chain(0..start) {
            let row = &mut self.rows[at];
            if row.told && row.sent == Some(row.now) {
                continue;
            }
            if update.figures.len() >= most {
                self.cursor = at;
                break;
            }
            if !row.told {
                update.names.push(row.names.clone());
                row.told = true;
            }
            update.figures.push(row.now);
            row.sent = Some(row.now);
        }
        update
    }

    /// Everything that was sent, for a page that was just opened.
    pub(super) fn all(&self) -> RowsUpdate {
        let told = || self.rows.iter().filter(|row| row.told);
        let names = told().map(|row| row.names.clone()).collect();
        RowsUpdate { names, figures: told().filter_map(|row| row.sent).collect(), gone: Vec::new() }
    }
}

impl ServiceRow {
    fn new(number: u32, service: &Arc<Service>) -> Self {
        let now = RowFigures(number, 0, 0, [0.0; 3], None, None, 0, 0, 0, 0);
        let names = names(number, service);
        Self { service: Arc::clone(service), names, told: false, pulse: None, now, sent: None }
    }

    fn renewed(self, service: &Arc<Service>) -> Self {
        if Arc::ptr_eq(&self.service, service) {
            return self;
        }
        let names = names(self.names.0, service);
        let told = self.told && names == self.names;
        Self { service: Arc::clone(service), names, told, ..self }
    }

    fn take(
        &mut self,
        stats: Option<&ServiceStats>,
        standing: &Standing,
        (problems, is_last_good): (u32, bool),
        span: Option<Duration>,
    ) {
        let counted = stats.map_or(Counted::default(), |stats| Counted::new(&stats.totals, stats.latency.counts()));
        match (&mut self.pulse, span) {
            (Some(pulse), Some(span)) => pulse.beat(counted, span),
            // It had no work when all others were looked at.
            (pulse @ None, Some(span)) => pulse.insert(Pulse::silent()).beat(counted, span),
            (pulse, None) => *pulse = Some(Pulse::from(counted)),
        }
        let pulse = self.pulse.unwrap_or_default();
        let [requests, e4, e5, ..] = pulse.rates();
        let panic = self.service.panic.is_some() && stats.is_some_and(|stats| stats.panic);
        let (active, queued) = stats.map_or((0, 0), |stats| (stats.totals.active, stats.queued));
        let flags = u8::from(panic) + 2 * u8::from(is_last_good);
        let (p50, p99) = (pulse.percentile(0.5), pulse.percentile(0.99));
        let rates = [requests, e4, e5];
        self.now =
            RowFigures(self.names.0, standing.up, standing.down, rates, p50, p99, active, queued, problems, flags);
    }
}

/// How many instances of a service take work, and how many are down.
#[derive(Debug, Default)]
struct Standing {
    up: u32,
    down: u32,
}

impl Standing {
    fn of(service: &Service, stats: Option<&ServiceStats>) -> Self {
        let mut standing = Self::default();
        for instance in service.instances.iter().filter(|instance| !is_drained(instance)) {
            let is_down = stats.and_then(|stats| of_instance(stats, instance)).is_some_and(|one| one.apart.is_some());
            let count = if is_down { &mut standing.down } else { &mut standing.up };
            *count += 1;
        }
        standing
    }
}

fn is_drained(instance: &Instance) -> bool {
    instance.drain || instance.weight == 0
}

fn of_instance<'s>(stats: &'s ServiceStats, instance: &Instance) -> Option<&'s InstanceStats> {
    let name = instance.name.as_str();
    let at = stats.instances.binary_search_by(|one| one.instance.as_str().cmp(name)).ok()?;
    stats.instances.get(at)
}

fn down(service: &Service, stats: &ServiceStats) -> Vec<DownInstance> {
    let each = service.instances.iter().filter(|instance| !is_drained(instance));
    let down = each.filter_map(|instance| {
        let one = of_instance(stats, instance).filter(|one| one.apart.is_some())?;
        let mut view = InstanceView::new(instance);
        view.add(one, service.timeouts.slow_start);
        let InstanceView { name, target, state, why, last_error, since, .. } = view;
        Some(DownInstance { service: key(service), name, target, state, why, error: last_error, since })
    });
    down.collect()
}

/// `http/shop`.
fn key(service: &Service) -> String {
    format!("{}/{}", protocol_word(service.protocol), service.name)
}

fn names(number: u32, service: &Service) -> RowNames {
    let searched = service.instances.iter().take(MOST_SEARCHED);
    let searched: Vec<_> = searched.map(|instance| format!("{} {}", instance.name, instance.target)).collect();
    let drained = service.instances.iter().filter(|instance| is_drained(instance)).count();
    RowNames(number, key(service), rule(&RuleView::new(service)), searched.join(" "), service.instances.len(), drained)
}

/// `shop.test, www.shop.test /cart`.
fn rule(rule: &RuleView) -> String {
    let some = |all: &[String]| {
        let named = all.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        match all.len().saturating_sub(MOST_NAMED) {
            0 => named,
            more => format!("{named} +{more}"),
        }
    };
    let paths: Vec<_> = rule.paths.iter().map(|path| path.split_once('=').map_or(&**path, |(_, path)| path)).collect();
    let paths: Vec<_> = paths.into_iter().map(str::to_owned).collect();
    let default = if rule.default { "everything else" } else { "" };
    let parts = [some(&rule.listen), some(&rule.hosts), some(&paths), rule.conditions.clone(), default.to_owned()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use pointsman_engine::live::Registry;
    use pointsman_table::{KeySet, Limits, compile};

    use super::*;

    fn table(keys: &[(String, &str)], before: Option<&Table>) -> Arc<Table> {
        let mut key_set = KeySet::default();
        key_set.reset(1, keys.iter().map(|(key, value)| ((**key).into(), value.as_bytes().into())));
        compile(&key_set, before, &Limits::default()).table
    }

    #[test]
    fn only_what_changed_is_told() {
        let keys = |names: &[&'static str]| -> Vec<(String, &'static str)> {
            let each = names
                .iter()
                .flat_map(|name| [(format!("services/{name}/domain"), *name), (format!("services/{name}/one"), "h:1")]);
            each.collect()
        };
        let (mut rows, problems, second) = (Rows::default(), ProblemCounts::new(), Some(Duration::from_secs(1)));
        let first = table(&keys(&["a", "b"]), None);
        let registry = Registry::new(1, &[]);
        rows.take(&first, &registry.snapshot(), &problems, None);
        let RowsUpdate { names, figures, gone } = rows.news(MOST_ROWS);
        assert_eq!((names.len(), figures.len(), gone.len()), (2, 2, 0));
        assert_eq!(names[0], RowNames(1, "http/a".into(), "a".into(), "one h:1".into(), 1, 0));
        rows.take(&first, &registry.snapshot(), &problems, second);
        assert!(rows.news(MOST_ROWS).is_empty());
        let shared = registry.instance(&first.services()[0], &first.services()[0].instances[0]);
        (0..10).for_each(|_| shared.workers[0].requests.add(1));
        rows.take(&first, &registry.snapshot(), &problems, second);
        let RowsUpdate { names, figures, .. } = rows.news(MOST_ROWS);
        assert!(names.is_empty() && figures.len() == 1 && figures[0].3[0] > 1.0, "{figures:?}");
        let second_table = table(&keys(&["a", "c"]), Some(&first));
        rows.take(&second_table, &registry.snapshot(), &problems, second);
        let RowsUpdate { names, gone, .. } = rows.news(MOST_ROWS);
        assert_eq!((names.iter().map(|names| &*names.1).collect::<Vec<_>>(), gone), (vec!["http/c"], vec![2]));
        assert_eq!(rows.all().names.len(), 2);
    }

    #[test]
    fn many_rows_take_turns() {
        let keys = (0..MOST_ROWS + 10).flat_map(|number| {
            [(format!("services/s{number}/one"), "h:1"), (format!("services/s{number}/default"), "true")]
        });
        let table = table(&keys.collect::<Vec<_>>(), None);
        let (mut rows, problems) = (Rows::default(), ProblemCounts::new());
        rows.take(&table, &Snapshot::default(), &problems, None);
        assert_eq!(
            [rows.news(MOST_ROWS), rows.news(MOST_ROWS), rows.news(MOST_ROWS)].map(|update| update.figures.len()),
            [MOST_ROWS, 10, 0]
        );
        assert_eq!(rows.all().names.len(), MOST_ROWS + 10);
    }
}
