//! Limits how many lines each place in the code logs, whoever causes them: clients, instances, a machine out of
//! resources. Counts the lines left out, and logs the counts. Never limits `debug` and `trace`, which an operator has
//! asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber, warn};
use tracing_subscriber::layer::{Context, Layer};

/// Lines that one place may log at once: as many as one change of the keys may cause, and some more.
const BURST: u32 = 200;
/// Lines that one place may log per second in the long run.
const PER_SECOND: u32 = 50;
/// Minimum time between two reports of lines left out.
const REPORT: Duration = Duration::from_secs(10);

/// A limit for each place that logs.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Arc<Mutex<Budgets>>);

#[derive(Debug, Default)]
struct Budgets {
    known: HashMap<Identifier, LineBudget>,
    reported: Option<Instant>,
}

#[derive(Debug)]
struct LineBudget {
    target: &'static str,
    /// Lines that may be logged now.
    room: u32,
    refilled: Instant,
    left_out: u64,
}

impl LineBudget {
    fn new(metadata: &'static Metadata<'static>, now: Instant) -> Self {
        Self { target: metadata.target(), room: BURST, refilled: now, left_out: 0 }
    }

    fn admit(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.refilled).as_secs_f64();
        let more = (seconds * f64::from(PER_SECOND)).min(f64::from(BURST)) as u32;
        if more > 0 {
            self.room = (self.room + more).min(BURST);
            self.refilled = now;
        }
        let admitted = self.room > 0;
        if admitted {
            self.room -= 1;
        } else {
            self.left_out += 1;
        }
        admitted
    }
}

impl Pace {
    /// Logs the counts of lines left out, if that is due.
    pub(super) fn report(&self, now: Instant) {
        for (target, count) in self.due(now) {
            warn!("{count} more lines of {target} were left out: more than {PER_SECOND} a second");
        }
    }

    /// The places with lines left out since the last report.
    fn due(&self, now: Instant) -> Vec<(&'static str, u64)> {
        let mut places = self.places();
        if places.reported.is_some_and(|last| now.saturating_duration_since(last) < REPORT) {
            return Vec::new();
        }
        let left_out = places.known.values_mut().filter(|place| place.left_out > 0);
        let left_out: Vec<_> = left_out.map(|place| (place.target, std::mem::take(&mut place.left_out))).collect();
        if !left_out.is_empty() {
            places.reported = Some(now);
        }
        left_out
    }

    fn admits(&self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        if *metadata.level() > Level::INFO {
            return true;
        }
        let mut places = self.places();
        places.known.entry(metadata.callsite()).or_insert_with(|| LineBudget::new(metadata, now)).admit(now)
    }

    fn places(&self) -> MutexGuard<'_, Budgets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Pace {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.admits(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_place_that_logs_without_end_is_limited_and_its_lines_are_counted() {
        let pace = Pace::default();
        let lines = crate::logging::tests::Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(pace.clone()).with(layer), || {
            for number in 0..2 * BURST {
                warn!("flood {number}");
                tracing::debug!("asked for");
            }
            tracing::info!("another place");
        });
        let text = lines.text();
        let count = |words: &str| text.lines().filter(|line| line.contains(words)).count();
        let flood = count("flood");
        // On a slow machine, the budget grows while it logs.
        assert!((BURST as usize..2 * BURST as usize).contains(&flood), "{flood}");
        assert_eq!((count("asked for"), count("another place")), (2 * BURST as usize, 1));
        let left_out: u64 = pace.due(Instant::now()).iter().map(|(_, count)| count).sum();
        assert_eq!(left_out as usize, 2 * BURST as usize - flood);
        assert_eq!(pace.due(Instant::now()), []);
    }

    #[test]
    fn time_brings_room() {
        let start = Instant::now();
        let mut place = LineBudget { target: "here", room: 1, refilled: start, left_out: 0 };
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let admitted = [0, 0, 10, 19, 20, 20, 60, 60, 60].map(|moment| place.admit(at(moment)));
        assert_eq!(admitted, [true, false, false, false, true, false, true, true, false]);
        assert_eq!(place.left_out, 5);
        place.admit(at(1_000_000));
        assert_eq!(place.room, BURST - 1);
    }
}
