//! The collector: looks once a second while a page is open, and takes the points of the graphs always. Serves nothing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::time::{MissedTickBehavior, interval};

use super::hub::{LiveHub, Look};
use super::inputs::LiveInputs;
use super::pulse::{Counted, Pulse};
use super::rows::{DownInstance, MOST_ROWS, Rows};
use super::told::{Message, Meta, Now, Part, ProblemBook, acme, certificates, json};

use crate::control::{AcmeName, epoch_millis};
use pointsman_engine::live::Sums;
use pointsman_table::Protocol;

/// Between two looks.
const PACE: Duration = Duration::from_secs(1);
/// A page that comes so soon after a look gets what was seen then.
const SOON: Duration = Duration::from_millis(1200);
/// After a longer pause than this, counters are no rates.
const PAUSE: Duration = Duration::from_secs(5);

/// Works until dropped.
pub async fn collect(hub: LiveHub, inputs: LiveInputs) {
    let mut collector = LiveCollector { hub, inputs, seen: None, past: None };
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let hub = collector.hub.clone();
        tokio::select! {
            _ = ticks.tick() => collector.tick().await,
            () = hub.came() => collector.greet().await,
        }
    }
}

struct LiveCollector {
    hub: LiveHub,
    inputs: LiveInputs,
    /// `None` while nobody looks.
    seen: Option<SeenByPages>,
    /// When the last point of the graphs was taken.
    past: Option<Instant>,
}

/// What open pages know.
#[derive(Default)]
struct SeenByPages {
    at: Option<Instant>,
    rows: Rows,
    pulses: [Pulse; 2],
    meta: Part,
    problems: ProblemBook,
    down: Vec<DownInstance>,
    certificates: Part,
    acme: Part,
    acme_names: Option<Arc<[AcmeName]>>,
    generation: Option<u64>,
    fleet: Part,
    edits: Option<u64>,
    now: String,
}

impl LiveCollector {
    async fn tick(&mut self) {
        let point = self.point().await;
        if !self.hub.has_viewers() {
            (self.seen, ()) = (None, self.hub.keep(None));
            return;
        }
        self.look(point).await;
    }

    /// A page came: at once, if that costs nothing.
    async fn greet(&mut self) {
        let is_soon = |seen: &SeenByPages| seen.at.is_some_and(|at| at.elapsed() < SOON);
        match &self.seen {
            Some(seen) if is_soon(seen) => self.hub.send(None, || self.full(seen)),
            _ => self.look(None).await,
        }
    }

    /// The point of the graphs that is due, as JSON.
    async fn point(&mut self) -> Option<String> {
        let step = self.hub.past.step();
        let is_due = self.past.is_none_or(|last| last.elapsed() + PACE / 4 >= step);
        if !is_due {
            return None;
        }
        let sums = self.inputs.figures.sums().await;
        let now = Instant::now();
        let span = self.past.replace(now).map_or(step, |last| now.duration_since(last));
        let point = self.hub.past.take(epoch_millis(SystemTime::now()) / 1000, &sums, span)?;
        Some(json(&point))
    }

    async fn look(&mut self, point: Option<String>) {
        let snapshot = self.inputs.figures.snapshot().await;
        let facts = self.inputs.figures.haproxy();
        let (status, at) = (self.inputs.status.borrow().clone(), Instant::now());
        let mut seen = self.seen.take().unwrap_or_default();
        let span = seen.at.map(|last| at.duration_since(last)).filter(|span| *span < PAUSE);
        // The first page waits for all rows.
        let most_rows = if seen.at.is_none() { usize::MAX } else { MOST_ROWS };
        seen.at = Some(at);
        let problems = seen.problems.news(&status).map(str::to_owned);
        let mut message = Message::new(epoch_millis(SystemTime::now())).part("past", point.as_deref());
        if let Some(table) = &status.table {
            seen.rows.take(table, &snapshot, &seen.problems.counts, span);
            seen.pulses_take(&[Protocol::Http, Protocol::Tcp].map(|protocol| Sums::of(&snapshot, protocol)), span);
            if seen.generation != Some(table.generation()) {
                seen.generation = Some(table.generation());
                message = message.part("certificates", seen.certificates.news(&certificates(table)));
            }
            let names = &status.around.acme.names;
            if seen.acme_names.as_ref().is_none_or(|known| !Arc::ptr_eq(known, names)) {
                seen.acme_names = Some(Arc::clone(names));
                message = message.part("acme", seen.acme.news(&acme(names)));
            }
            let [up, all] = seen.rows.up;
            seen.now = json(&Now::new(&seen.pulses, &snapshot, [up, all, seen.rows.down_count]));
            message = message.part("now", Some(&seen.now));
        }
        let rows = seen.rows.news(most_rows);
        let rows = (!rows.is_empty()).then(|| json(&rows));
        let down = (seen.down != seen.rows.down).then(|| {
            seen.down.clone_from(&seen.rows.down);
            json(&seen.down)
        });
        // The first page gets all of them in its full message.
        let (changes, edits) = self.inputs.timeline.since(seen.edits.unwrap_or(u64::MAX));
        seen.edits = Some(edits);
        let changes = (!changes.is_empty()).then(|| json(&changes));
        let message = message
            .part("meta", seen.meta.news(&Meta::new(&self.inputs, &status, facts)))
            .part("problems", problems.as_deref())
            .part("down", down.as_deref())
            .part("rows", rows.as_deref())
            .part("changes", changes.as_deref())
            .part("fleet", seen.fleet.news(&self.hub.fleet.view()));
        self.hub.keep(Some(Arc::new(Look { at, snapshot })));
        self.hub.send(Some(&message.end()), || self.full(&seen));
        self.seen = Some(seen);
    }

    /// Everything, for a page that was just opened.
    fn full(&self, seen: &SeenByPages) -> Bytes {
        let (changes, _) = self.inputs.timeline.since(0);
        Message::new(epoch_millis(SystemTime::now()))
            .part("full", Some("true"))
            .part("meta", seen.meta.last())
            .part("now", Some(&*seen.now).filter(|now| !now.is_empty()))
            .part("problems", seen.problems.part.last())
            .part("down", Some(&json(&seen.down)))
            .part("certificates", seen.certificates.last())
            .part("acme", seen.acme.last())
            .part("fleet", seen.fleet.last())
            .part("changes", Some(&json(&changes)))
            .part("rows", Some(&json(&seen.rows.all())))
            .end()
    }
}

impl SeenByPages {
    fn pulses_take(&mut self, sums: &[Sums; 2], span: Option<Duration>) {
        for (pulse, sums) in self.pulses.iter_mut().zip(sums) {
            let counted = Counted::new(&sums.totals, sums.latency);
            match span {
                Some(span) => pulse.beat(counted, span),
                None => *pulse = Pulse::from(counted),
            }
        }
    }
}
