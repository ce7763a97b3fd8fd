//! The parts of a page's message besides the list of services, each as JSON: the balancer itself, problems, certificates,
//! the fleet. A part is sent when it differs from what was sent before. No secrets.

use std::sync::Arc;

use pointsman_engine::live::Snapshot;
use pointsman_haproxy::ledger::Facts;
use pointsman_store::Condition;
use pointsman_table::{Problem, Table, shown};
use serde::Serialize;

use super::inputs::LiveInputs;
use super::rows::ProblemCounts;
use crate::admin::acme::AcmeNameView;
use crate::admin::view::{CertificateView, ProblemView, TableView};
use crate::control::{AcmeName, Around, Status, epoch_millis};

/// Most problems sent to a page; `/api/problems` has all.
const MOST_PROBLEMS: usize = 300;
/// Most certificates sent, those that expire first.
const MOST_CERTIFICATES: usize = 500;

/// A part as it was last sent.
#[derive(Debug, Default)]
pub(super) struct Part {
    json: String,
}

impl Part {
    /// The part as JSON, if it is another than before.
    pub(super) fn news(&mut self, value: &impl Serialize) -> Option<&str> {
        let json = json(value);
        if json == self.json {
            return None;
        }
        self.json = json;
        Some(&self.json)
    }

    /// What was sent last.
    pub(super) fn last(&self) -> Option<&str> {
        Some(&*self.json).filter(|json| !json.is_empty())
    }
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("text and numbers")
}

/// A message under construction: one JSON object in an event (HTML Standard, Server-sent events).
#[derive(Debug)]
pub(super) struct Message {
    text: String,
}

impl Message {
    /// `at`: milliseconds since the epoch.
    pub(super) fn new(at: u64) -> Self {
        Self { text: format!("data: {{\"at\":{at}") }
    }

    pub(super) fn part(mut self, name: &str, json: Option<&str>) -> Self {
        if let Some(json) = json {
            self.text.push_str(&format!(",\"{name}\":{json}"));
        }
        self
    }

    pub(super) fn end(mut self) -> bytes::Bytes {
        self.text.push_str("}\n\n");
        self.text.into()
    }
}

/// The balancer itself.
#[derive(Debug, Serialize)]
pub(super) struct Meta<'a> {
    version: &'static str,
    name: &'a str,
    engine: &'a str,
    haproxy: Option<HaproxyFacts>,
    started: u64,
    prefix: &'a str,
    store: &'a [String],
    /// `connecting`, `watching` or `lost`.
    state: &'static str,
    since: u64,
    via: Option<String>,
    error: Option<String>,
    revision: u64,
    applied: u64,
    changed: Option<u64>,
    unready: Option<&'static str>,
    /// Whether the store holds this balancer's status.
    kept: bool,
    services: usize,
}

#[derive(Debug, Serialize)]
struct HaproxyFacts {
    version: String,
    old_workers: u64,
    reloads: u64,
    failed_reloads: u64,
}

impl<'a> Meta<'a> {
    pub(super) fn new(pages: &'a LiveInputs, status: &Status, facts: Option<Facts>) -> Self {
        let (state, via, error) = match &status.condition {
            Condition::Connecting { error } => ("connecting", None, error.as_ref().map(ToString::to_string)),
            Condition::Watching { via } => ("watching", Some(via.clone()), None),
            Condition::Lost { error } => ("lost", None, Some(error.to_string())),
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            name: &pages.about.name,
            engine: pages.about.engine,
            haproxy: facts.map(|facts| HaproxyFacts {
                version: facts.version,
                old_workers: facts.old_workers,
                reloads: facts.reloads,
                failed_reloads: facts.failed_reloads,
            }),
            started: epoch_millis(pages.started),
            prefix: &pages.source.prefix,
            store: &pages.source.store,
            state,
            since: epoch_millis(status.since),
            via: via.map(|via| shown(&via).to_string()),
            error: error.map(|error| shown(&error).to_string()),
            revision: status.table.as_deref().map_or(0, Table::revision),
            applied: status.applied,
            changed: status.changed.map(epoch_millis),
            unready: status.unready(),
            kept: status.kept,
            services: status.table.as_deref().map_or(0, |table| table.services().len()),
        }
    }
}

/// All problems of a moment: the first of them, and how many each service has.
#[derive(Debug, Default)]
pub(super) struct ProblemBook {
    seen: Option<([Arc<[Problem]>; 3], Around)>,
    pub(super) counts: ProblemCounts,
    pub(super) part: Part,
}

#[derive(Debug, Serialize)]
struct ProblemsPart {
    count: usize,
    list: Vec<ProblemView>,
}

impl ProblemBook {
    /// The part, if it is another than before.
    pub(super) fn news(&mut self, status: &Status) -> Option<&str> {
        let lists = [&status.found, &status.expiring, &status.refused].map(Arc::clone);
        let is_same = self.seen.as_ref().is_some_and(|(seen, around)| {
            seen.iter().zip(&lists).all(|(seen, list)| Arc::ptr_eq(seen, list)) && *around == status.around
        });
        if is_same {
            return None;
        }
        self.seen = Some((lists, status.around.clone()));
        self.counts.clear();
        for service in status.problems().filter_map(|problem| problem.service.as_ref()) {
            *self.counts.entry(service.clone()).or_default() += 1;
        }
        let list = status.problems().take(MOST_PROBLEMS).map(ProblemView::from).collect();
        self.part.news(&ProblemsPart { count: status.problems().count(), list })
    }
}

/// The certificates, those that expire first at the top.
pub(super) fn certificates(table: &Table) -> Vec<CertificateView> {
    let mut certificates = TableView::certificates_of(table);
    certificates.truncate(MOST_CERTIFICATES);
    certificates
}

/// Names that certificates by ACME are wanted for: those that fail first, then those of which a step is due first.
pub(super) fn acme(names: &[AcmeName]) -> Vec<AcmeNameView> {
    let mut names: Vec<_> = names.iter().collect();
    names.sort_by_key(|name| (name.error.is_none(), name.due));
    names.truncate(MOST_CERTIFICATES);
    names.into_iter().map(AcmeNameView::from).collect()
}

/// What the head of the page shows, as an array: per second HTTP requests, TCP connections, 4xx, 5xx, bytes in, bytes
/// out; p50 and p99 in milliseconds; open work, open client connections; instances that take work, all, and down.
#[derive(Debug, Serialize)]
pub(super) struct Now(
    pub(super) [f32; 6],
    pub(super) Option<f32>,
    pub(super) Option<f32>,
    pub(super) u64,
    pub(super) u64,
    pub(super) [u64; 3],
);

impl Now {
    pub(super) fn new([http, tcp]: &[super::pulse::Pulse; 2], snapshot: &Snapshot, [up, all, down]: [u64; 3]) -> Self {
        let [requests, e4, e5, bytes_in, bytes_out] = http.rates();
        let [connections, _, _, tcp_in, tcp_out] = tcp.rates();
        let active = snapshot.services.iter().map(|service| service.totals.active).sum();
        let rates = [requests, connections, e4, e5, bytes_in + tcp_in, bytes_out + tcp_out];
        Self(rates, http.percentile(0.5), http.percentile(0.99), active, snapshot.connections_open, [up, all, down])
    }
}
