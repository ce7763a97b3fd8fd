//! Holds back a change that takes too much away at once: what was served is served on until an operator releases it, its
//! keys come back, or its time is over. Pure: time is an argument. `losses` of `table` counts.
//!
//! ```text
//! keys ─judge─> nothing lost, or little: served as they are
//!         └──> Hold{before} ─> keys and what they lost of `before` ──┬─ every key is back
//!                                        ^                           ├─ the rest is little, and nothing came back for 10 s
//!                                        └───── further changes ─────┼─ --guard-hold is over
//!                                                                    └─ released
//! ```
//!
//! "At once" is against what was served up to [`WINDOW`] and a second before, so leases that end one by one in a second or
//! two are one loss.

use std::time::{Duration, SystemTime};

use pointsman_store::Update;
use pointsman_table::{
    Change, KeySet, Losses, Percent, Problem, ProblemKind, Protocol, ServedOn, ServiceName, losses, serve_on,
    served_since,
};
use tokio::time::Instant;

use super::expiry::utc;
use super::plural;
use super::status::HeldBack;

/// Losses within this time are counted together.
const WINDOW: Duration = Duration::from_secs(5);
/// While keys come back, those that are left are held for this long after the last one that came.
const SETTLED: Duration = Duration::from_secs(10);

/// How much may be taken away at once, unless keys say otherwise, and for how long more is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardSettings {
    /// The share; `None`: everything.
    pub share: Option<Percent>,
    /// How long it is held.
    pub hold: Duration,
}

/// Why a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldEnd {
    Returned,
    Settled,
    Over,
    Released,
}

impl HoldEnd {
    /// A line of the log.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Returned => "the guard holds nothing any more: every key is back",
            Self::Settled => "the guard holds nothing any more: most keys are back, and the rest is taken to be gone",
            Self::Over => "the guard holds nothing any more: --guard-hold is over, and the store's keys are served",
            Self::Released => "the guard holds nothing any more: released, and the store's keys are served",
        }
    }
}

/// What may be lost, and what is held.
#[derive(Debug)]
pub(super) struct Guard {
    settings: GuardSettings,
    /// What losses are counted against, since when.
    before: Option<(KeySet, Instant)>,
    /// What takes its place when it is old enough.
    next: Option<KeySet>,
    hold: Option<Hold>,
    ended: Option<HoldEnd>,
    /// Whether an update since the last judgement took anything away.
    may_lose: bool,
    /// How many holds there were.
    holds: u64,
}

#[derive(Debug)]
struct Hold {
    before: KeySet,
    losses: Losses,
    until: Instant,
    times: (SystemTime, SystemTime),
    revision: u64,
    on: ServedOn,
    /// When a key came back last, while the rest is too little to be held by itself.
    settling: Option<Instant>,
}

impl Guard {
    pub(super) fn new(settings: GuardSettings) -> Self {
        Self { settings, before: None, next: None, hold: None, ended: None, may_lose: false, holds: 0 }
    }

    /// These keys are served. Call it before they can be lost.
    pub(super) fn note(&mut self, now: Instant, keys: &KeySet) {
        match (&self.before, &self.hold) {
            (None, _) => self.before = Some((keys.clone(), now)),
            (Some(_), None) => self.next = Some(keys.clone()),
            // What is held is known; what has another value since is served on with that.
            (Some(_), Some(_)) => {
                if let Some(hold) = &mut self.hold {
                    hold.before = served_since(&hold.before, keys, false);
                }
            }
        }
    }

    /// Whether it knows nothing that could be lost.
    pub(super) fn is_new(&self) -> bool {
        self.before.is_none()
    }

    /// An update came.
    pub(super) fn take(&mut self, update: &Update) {
        self.may_lose |= match update {
            Update::Reset { .. } => true,
            Update::Changes { changes, .. } => changes.iter().any(|change| match change {
                // An instance without a value is none.
                Change::Put { value, .. } => value.trim_ascii().is_empty(),
                Change::Delete { .. } | Change::DeleteTree { .. } => true,
            }),
        };
    }

    /// Judges the store's keys. What to serve is in [`Guard::held`], if anything is held, else it is these keys.
    pub(super) fn judge(&mut self, now: Instant, clock: SystemTime, keys: &KeySet) {
        let may_lose = std::mem::take(&mut self.may_lose);
        if let Some(hold) = self.hold.take() {
            match hold.go_on((now, clock), keys, self.settings) {
                Ok(hold) => self.hold = Some(hold),
                Err(end) => self.end(now, keys, end),
            }
            return;
        }
        let is_old = self.before.as_ref().is_some_and(|(_, since)| now >= *since + WINDOW);
        if let Some(next) = self.next.take_if(|_| is_old) {
            self.before = Some((next, now));
        }
        let Some((before, _)) = self.before.as_ref().filter(|_| may_lose) else { return };
        let Some(losses) = losses(before, keys, self.settings.share) else { return };
        // Counted against what was served then, and served as it was last.
        let newest = self.next.as_ref().map(|next| served_since(before, next, true));
        let before = newest.unwrap_or_else(|| before.clone());
        let on = serve_on(&before, keys, &losses, &before);
        let lasts = self.settings.hold;
        self.holds += 1;
        self.hold = Some(Hold {
            before,
            losses,
            until: now + lasts,
            times: (clock, clock + lasts),
            revision: keys.revision(),
            on,
            settling: None,
        });
    }

    /// Lets in what is held.
    pub(super) fn release(&mut self, now: Instant, keys: &KeySet) -> bool {
        let was_held = self.hold.take().is_some();
        if was_held {
            self.end(now, keys, HoldEnd::Released);
        }
        was_held
    }

    fn end(&mut self, now: Instant, keys: &KeySet, end: HoldEnd) {
        self.before = Some((keys.clone(), now));
        self.next = None;
        self.ended = Some(end);
    }

    /// Why the last hold ended, once.
    pub(super) fn ended(&mut self) -> Option<HoldEnd> {
        self.ended.take()
    }

    /// When to judge again, even if no key changes.
    pub(super) fn due(&self) -> Option<Instant> {
        let hold = self.hold.as_ref()?;
        Some(hold.settling.map_or(hold.until, |since| hold.until.min(since + SETTLED)))
    }

    /// What is served instead of the store's keys.
    pub(super) fn held(&self) -> Option<&KeySet> {
        self.hold.as_ref().map(|hold| &hold.on.keys)
    }

    /// How many changes were held so far.
    pub(super) fn holds(&self) -> u64 {
        self.holds
    }

    /// What is held, in words. `prefix`: of the keys.
    pub(super) fn shown(&self, prefix: &str) -> Option<HeldBack> {
        let hold = self.hold.as_ref()?;
        let (since, until) = hold.times;
        Some(HeldBack {
            since,
            until,
            keys: hold.on.held,
            services: hold.on.services.clone(),
            instances: hold.on.instances.clone(),
            problems: hold.problems(prefix),
        })
    }
}

impl Hold {
    fn go_on(
        self,
        (now, clock): (Instant, SystemTime),
        keys: &KeySet,
        GuardSettings { share, hold: lasts }: GuardSettings,
    ) -> Result<Self, HoldEnd> {
        if now >= self.until {
            return Err(HoldEnd::Over);
        }
        let lost = losses(&self.before, keys, share);
        let settling = match (&lost, self.settling) {
            (Some(_), _) => None,
            (None, since) => Some(since.unwrap_or(now)),
        };
        let was_of_services = matches!(self.losses, Losses::Services(_));
        let losses = together(self.losses, lost);
        // Much more is lost: it gets the whole time.
        let (until, times) = match was_of_services && matches!(losses, Losses::Table { .. }) {
            true => (now + lasts, (self.times.0, clock + lasts)),
            false => (self.until, self.times),
        };
        let on = serve_on(&self.before, keys, &losses, &self.on.keys);
        if on.held == 0 {
            return Err(HoldEnd::Returned);
        }
        let settling = settling.map(|since| if on.held < self.on.held { now } else { since });
        match settling.is_some_and(|since| now >= since + SETTLED) {
            true => Err(HoldEnd::Settled),
            false => Ok(Self { losses, on, settling, until, times, ..self }),
        }
    }

    fn problems(&self, prefix: &str) -> Vec<Problem> {
        let until = utc(seconds(self.times.1));
        let rest = format!(
            "were taken away at once, at revision {}; they are served on until their keys come back, until {until}, \
             or until `pointsman guard release` lets the change in",
            self.revision
        );
        let one = |key: &str, service: Option<(Protocol, ServiceName)>, what: String, share: Percent| {
            let key = format!("{prefix}{key}");
            let advice = format!("{what}, more than {share}, {rest}").into();
            Problem { key: key.into(), value: None, kind: ProblemKind::Held, service, advice }
        };
        match &self.losses {
            Losses::Table { services, instances, share } => {
                let what = format!(
                    "{} of {} and {} of {}",
                    services.lost,
                    plural(services.had, "service"),
                    instances.lost,
                    plural(instances.had, "instance")
                );
                let key = if prefix.is_empty() { "/" } else { "" };
                vec![one(key, None, what, *share)]
            }
            Losses::Services(all) => {
                let of = |(protocol, name, lost, share): &(Protocol, ServiceName, _, Percent)| {
                    let pointsman_table::Shortfall { lost, had } = *lost;
                    let what = format!("{lost} of {}", plural(had, "instance"));
                    one(&format!("/{protocol}/{name}"), Some((*protocol, name.clone())), what, *share)
                };
                all.iter().map(of).collect()
            }
        }
    }
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}

/// What is held once more is lost: never less than before, as keys come back one by one.
fn together(held: Losses, more: Option<Losses>) -> Losses {
    match (held, more) {
        (Losses::Services(mut held), Some(Losses::Services(more))) => {
            held.retain(|(protocol, name, ..)| !more.iter().any(|(p, n, ..)| (p, n) == (protocol, name)));
            held.extend(more);
            held.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
            Losses::Services(held)
        }
        (Losses::Services(_), Some(more @ Losses::Table { .. })) => more,
        // The most that was lost is what is told: a text that changes with each key would be told each time.
        (held, Some(more)) if most(&more) > most(&held) => more,
        (held, _) => held,
    }
}

/// How much the table lost; nothing if only services did.
fn most(losses: &Losses) -> usize {
    match losses {
        Losses::Table { services, instances, .. } => services.lost + instances.lost,
        Losses::Services(_) => 0,
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
