//! All that is known of the balancer, put together from its messages. Reads no clock, draws nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::message::{
    ChangeTold, DownTold, FiguresTold, FleetTold, LiveMessage, MetaTold, NamesTold, NowTold, PointTold, ProblemsTold,
    ServiceTold,
};
use crate::admin::view::{CertificateView, InstanceView};

/// Most changes kept, as the balancer does.
const MOST_CHANGES: usize = 400;
/// Points of the graphs that are kept; one every five seconds.
const MOST_POINTS: usize = 240;
/// Rates of a service that its row shows.
const TRAIL: usize = 16;
/// Rates of instances are those of so many answers.
const ANSWERS: usize = 5;

/// The connection to the balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing was heard yet.
    #[default]
    Connecting,
    Live,
    /// It broke, and is tried again.
    Lost(String),
    /// The balancer has too many pages open; it is asked again.
    Refused(String),
}

/// What is known of the balancer.
#[derive(Clone, Debug, Default)]
pub(super) struct TopModel {
    /// Where the balancer is asked.
    pub(super) asked: String,
    pub(super) link: Link,
    /// The balancer's time, in milliseconds since the epoch.
    pub(super) now: u64,
    /// The time of the last message; 0: none came.
    pub(super) heard: u64,
    pub(super) meta: MetaTold,
    pub(super) figures: Option<NowTold>,
    pub(super) problems: ProblemsTold,
    pub(super) down: Vec<DownTold>,
    pub(super) certificates: Vec<CertificateView>,
    pub(super) fleet: FleetTold,
    /// Newest first.
    pub(super) changes: Vec<ChangeTold>,
    pub(super) rows: HashMap<u32, TopRow>,
    /// Counts services that came or went.
    pub(super) names: u64,
    pub(super) past: VecDeque<PointTold>,
    /// The service that is looked at.
    pub(super) open: OpenService,
}

/// One service in the list.
#[derive(Clone, Debug, Default)]
pub(super) struct TopRow {
    /// `http/shop`.
    pub(super) key: String,
    pub(super) rule: String,
    /// What the filter searches, in lower case.
    pub(super) text: String,
    pub(super) instances: u32,
    pub(super) drained: u32,
    pub(super) figures: FiguresTold,
    /// The last rates of requests, oldest first.
    pub(super) trail: VecDeque<f32>,
}

/// The answers about one service.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenService {
    /// Oldest first.
    pub(super) answers: VecDeque<ServiceTold>,
    /// There is no such service.
    pub(super) is_gone: bool,
}

/// How much a service needs somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Well,
    /// A problem with its keys, or no instance is meant to work.
    Problem,
    /// It works in part.
    Hurt,
    /// No instance takes work.
    Down,
}

impl TopRow {
    /// `shop`, without its protocol.
    pub(super) fn name(&self) -> &str {
        self.key.split_once('/').map_or(&*self.key, |(_, name)| name)
    }

    pub(super) fn is_tcp(&self) -> bool {
        self.key.starts_with("tcp/")
    }

    /// So many answers are 5xx that somebody should look.
    pub(super) fn is_failing(&self) -> bool {
        let [rate, _, e5] = self.figures.3;
        e5 >= 0.1 && e5 > rate * 0.02
    }

    pub(super) fn severity(&self) -> Severity {
        let FiguresTold(_, up, down, .., problems, flags) = self.figures;
        match () {
            () if up == 0 && self.drained < self.instances => Severity::Down,
            () if self.instances == 0 || down > 0 || flags & 1 > 0 || self.is_failing() => Severity::Hurt,
            () if problems > 0 || flags & 2 > 0 || up == 0 => Severity::Problem,
            () => Severity::Well,
        }
    }
}

impl TopModel {
    /// Takes a message.
    pub(super) fn take(&mut self, message: LiveMessage) {
        if message.full {
            self.begin();
        }
        let LiveMessage { at, meta, now, problems, down, certificates, fleet, changes, rows, past, .. } = message;
        put(&mut self.meta, meta);
        put(&mut self.problems, problems);
        put(&mut self.down, down);
        put(&mut self.certificates, certificates);
        put(&mut self.fleet, fleet);
        self.figures = now.or_else(|| self.figures.take());
        self.names += u64::from(message.full || !rows.names.is_empty() || !rows.gone.is_empty());
        for number in rows.gone {
            self.rows.remove(&number);
        }
        rows.names.into_iter().for_each(|names| self.name(names));
        for figures in rows.figures {
            if let Some(row) = self.rows.get_mut(&figures.0) {
                row.figures = figures;
            }
        }
        self.rows.values_mut().for_each(TopRow::beat);
        self.change(changes);
        self.past.extend(past);
        self.trim();
        (self.link, self.heard, self.now) = (Link::Live, at, at);
    }

    /// The balancer was found anew, and tells everything.
    fn begin(&mut self) {
        let kept = std::mem::take(self);
        *self = Self { asked: kept.asked, names: kept.names, past: kept.past, open: kept.open, ..Self::default() };
    }

    fn name(&mut self, NamesTold(number, key, rule, searched, instances, drained): NamesTold) {
        let text = format!("{key} {rule} {searched}").to_lowercase();
        let row = self.rows.entry(number).or_default();
        (row.key, row.rule, row.text, row.instances, row.drained) = (key, rule, text, instances, drained);
    }

    fn change(&mut self, changes: Vec<ChangeTold>) {
        if changes.is_empty() {
            return;
        }
        let all = self.changes.drain(..).chain(changes);
        let all: BTreeMap<_, _> = all.map(|change| (change.number, change)).collect();
        self.changes = all.into_values().rev().take(MOST_CHANGES).collect();
    }

    /// Takes the points of the time before.
    pub(super) fn remember(&mut self, points: Vec<PointTold>) {
        self.past = points.into();
        self.trim();
    }

    fn trim(&mut self) {
        self.past.drain(..self.past.len().saturating_sub(MOST_POINTS));
    }

    /// Takes an answer about the service that is looked at; `None`: there is none.
    pub(super) fn inspect(&mut self, answer: Option<ServiceTold>) {
        self.open.is_gone = answer.is_none();
        self.open.answers.extend(answer);
        self.open.answers.drain(..self.open.answers.len().saturating_sub(ANSWERS));
    }

    /// The row of a service.
    pub(super) fn row(&self, key: &str) -> Option<&TopRow> {
        self.rows.values().find(|row| row.key == key)
    }

    /// Seconds since a moment of the balancer, which is in milliseconds.
    pub(super) fn ago(&self, at: u64) -> u64 {
        self.now.saturating_sub(at) / 1000
    }

    /// A balancer serves older keys than another. Followers of a folder count for themselves.
    pub(super) fn is_behind(&self, revision: u64) -> bool {
        let is_folder = self.meta.via.as_deref().is_some_and(|via| via.starts_with("folder"));
        !is_folder && self.fleet.members.iter().any(|member| member.revision > revision)
    }
}

impl TopRow {
    fn beat(&mut self) {
        let rate = self.figures.3[0];
        if rate > 0.0 || !self.trail.is_empty() {
            self.trail.push_back(rate);
            self.trail.drain(..self.trail.len().saturating_sub(TRAIL));
        }
    }
}

impl OpenService {
    /// Requests and 5xx of an instance, per second, between the first answer and the last.
    pub(super) fn rates(&self, instance: &InstanceView) -> Option<[f64; 2]> {
        let (first, last) = (self.answers.front()?, self.answers.back()?);
        let seconds = last.at.checked_sub(first.at).filter(|span| *span > 0)? as f64 / 1000.0;
        let before = first.service.instances.iter().find(|one| one.name == instance.name)?;
        let e5 = |one: &InstanceView| one.responses.get("5xx").copied().unwrap_or(0);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Some([rate(instance.requests, before.requests), rate(e5(instance), e5(before))])
    }
}

fn put<T>(place: &mut T, news: Option<T>) {
    if let Some(news) = news {
        *place = news;
    }
}
