//! Holds back a change that takes too much away at once: what was served is served on until an operator releases it, its
//! keys come back, or its time is over. Pure: time is an argument. `losses` of `table` counts.
//!
//! ```text
//! keys ─judge─> nothing lost, or little: served as they are
//!         └──> Hold{before} ─> keys and what they lost of `before` ──┬─ every key is back
//!                                        ^                           ├─ the rest is little, and nothing came back for 10 s
//!                                        └───── further changes,  ───┼─ --guard-hold is over; while the store is away,
//!                                               further losses       │  its time stands still
//!                                                                    └─ released
//! ```
//!
//! "At once" is against what the store had at any time of the last [`WINDOW`] (and up to a second before), so leases that end
//! one by one are one loss. What comes during a hold is guarded in the same way, by a
//! hold of its own.

use std::collections::VecDeque;
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
/// Most holds at a time. Each is a loss of ten or more.
const MOST: usize = 8;

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
    /// The store's keys, and since when they were these: those of the last [`WINDOW`] before each loss, oldest first, and the
    /// newest.
    past: VecDeque<(Instant, KeySet)>,
    /// One for each loss that was too much, oldest first.
    holds: Vec<Hold>,
    /// What is served with all of them, if there are several.
    joined: Option<ServedOn>,
    ended: Option<HoldEnd>,
    /// Whether an update since the last judgement took anything away, and since the last keys of `past`.
    may_lose: bool,
    may_have_lost: bool,
    /// Since when the store is not read.
    away: Option<Instant>,
    /// How many holds there were.
    count: u64,
}

#[derive(Debug)]
struct Hold {
    before: KeySet,
    losses: Losses,
    began: Instant,
    until: Instant,
    times: (SystemTime, SystemTime),
    revision: u64,
    on: ServedOn,
    /// When a key came back last, while the rest is too little to be held by itself.
    settling: Option<Instant>,
}

impl Guard {
    pub(super) fn new(settings: GuardSettings) -> Self {
        Self {
            settings,
            past: VecDeque::new(),
            holds: Vec::new(),
            joined: None,
            ended: None,
            may_lose: false,
            may_have_lost: false,
            away: None,
            count: 0,
        }
    }

    /// The store has these keys. Call it before they can be lost.
    pub(super) fn note(&mut self, now: Instant, keys: &KeySet) {
        match self.past.back_mut().filter(|_| !self.may_have_lost) {
            // They have whatever these had.
            Some((_, newest)) => newest.clone_from(keys),
            None => self.past.push_back((now, keys.clone())),
        }
        self.may_have_lost = false;
        self.forget(now);
        // What is held is known; what has another value since is served on with that.
        for hold in &mut self.holds {
            hold.before = served_since(&hold.before, keys, false);
        }
    }

    /// Forgets keys that others replaced before the window.
    fn forget(&mut self, now: Instant) {
        while self.past.get(1).is_some_and(|(since, _)| now >= *since + WINDOW) {
            self.past.pop_front();
        }
    }

    /// Whether it knows nothing that could be lost.
    pub(super) fn is_new(&self) -> bool {
        self.past.is_empty()
    }

    /// An update came.
    pub(super) fn take(&mut self, update: &Update) {
        let may_lose = match update {
            Update::Reset { .. } => true,
            Update::Changes { changes, .. } => changes.iter().any(|change| match change {
                // An instance without a value is none.
                Change::Put { value, .. } => value.trim_ascii().is_empty(),
                Change::Delete { .. } | Change::DeleteTree { .. } => true,
            }),
        };
        self.may_lose |= may_lose;
        self.may_have_lost |= may_lose;
    }

    /// Whether the store is being read. While it is not, nobody knows whether keys came back: the time of a hold stands still.
    pub(super) fn reading(&mut self, now: Instant, is_read: bool) {
        match (self.away, is_read) {
            (None, false) => self.away = Some(now),
            (Some(since), true) => {
                self.away = None;
                for hold in &mut self.holds {
                    hold.postpone(now.saturating_duration_since(since.max(hold.began)));
                }
            }
            (None, true) | (Some(_), false) => {}
        }
    }

    /// Judges the store's keys. What to serve is in [`Guard::held`], if anything is held, else it is these keys.
    pub(super) fn judge(&mut self, now: Instant, clock: SystemTime, keys: &KeySet) {
        let may_lose = std::mem::take(&mut self.may_lose);
        self.forget(now);
        self.go_on((now, clock), keys);
        self.join();
        let hold = if may_lose { self.new_hold((now, clock), keys) } else { None };
        let Some(hold) = hold else { return };
        if self.is_further(now, &hold) {
            self.count += 1;
            // Whoever loses so often has the first keys served on no longer.
            if self.holds.len() == MOST {
                self.holds.remove(0);
            }
            self.holds.push(hold);
            self.join();
        }
        self.restart(now, keys);
    }

    /// A hold of what the store lost of the keys of the last [`WINDOW`], if that was too much.
    fn new_hold(&self, (now, clock): (Instant, SystemTime), keys: &KeySet) -> Option<Hold> {
        let share = self.settings.share;
        let (then, lost) = self.past.iter().find_map(|(_, then)| Some((then, losses(then, keys, share)?)))?;
        // Counted against what the store had then, and served as it was last.
        let newest = self.past.back().map(|(_, newest)| served_since(then, newest, true));
        let before = newest.unwrap_or_else(|| then.clone());
        Some(Hold::new((now, clock), (before, keys), lost, self.settings.hold))
    }

    /// Whether this is more than the rest of a loss that is held.
    fn is_further(&self, now: Instant, hold: &Hold) -> bool {
        let (Some(newest), Some(on)) = (self.holds.last(), self.on()) else { return true };
        now > newest.began + WINDOW || serve_on(&hold.before, &on.keys, &hold.losses, &on.keys).held > 0
    }

    /// What was held goes on, or ends.
    fn go_on(&mut self, (now, clock): (Instant, SystemTime), keys: &KeySet) {
        let is_away = self.away.is_some();
        let mut ends = Vec::new();
        for hold in std::mem::take(&mut self.holds) {
            match hold.go_on((now, clock), keys, self.settings, is_away) {
                Ok(hold) => self.holds.push(hold),
                Err(end) => ends.push(end),
            }
        }
        if let Some(end) = ends.pop() {
            // What came back may be lost again at once.
            self.note(now, keys);
            self.ended = Some(end).filter(|_| self.holds.is_empty());
        }
    }

    /// What is served with several holds: the keys of the store, and what each of them lost.
    fn join(&mut self) {
        let [first, others @ ..] = self.holds.as_slice() else { return self.joined = None };
        if others.is_empty() {
            return self.joined = None;
        }
        let last = self.joined.take().map_or_else(|| first.on.keys.clone(), |on| on.keys);
        let all = others.iter().fold(first.on.clone(), |all, hold| {
            let on = serve_on(&hold.before, &all.keys, &hold.losses, &last);
            ServedOn {
                keys: on.keys,
                held: all.held + on.held,
                services: [all.services, on.services].concat(),
                instances: [all.instances, on.instances].concat(),
            }
        });
        self.joined = Some(all);
    }

    fn on(&self) -> Option<&ServedOn> {
        self.joined.as_ref().or_else(|| Some(&self.holds.first()?.on))
    }

    /// Lets in what is held.
    pub(super) fn release(&mut self) -> bool {
        let was_held = !std::mem::take(&mut self.holds).is_empty();
        if was_held {
            self.ended = Some(HoldEnd::Released);
        }
        self.join();
        was_held
    }

    /// What was lost so far is dealt with.
    fn restart(&mut self, now: Instant, keys: &KeySet) {
        self.past = VecDeque::from([(now, keys.clone())]);
        self.may_have_lost = false;
    }

    /// Why the last hold ended, once.
    pub(super) fn ended(&mut self) -> Option<HoldEnd> {
        self.ended.take()
    }

    /// When to judge again, even if no key changes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.holds.iter().filter(|_| self.away.is_none()).map(Hold::due).min()
    }

    /// What is served instead of the store's keys.
    pub(super) fn held(&self) -> Option<&KeySet> {
        self.on().map(|on| &on.keys)
    }

    /// How many changes were held so far.
    pub(super) fn holds(&self) -> u64 {
        self.count
    }

    /// What is held, in words. `prefix`: of the keys.
    pub(super) fn shown(&self, prefix: &str) -> Option<HeldBack> {
        let on = self.on()?;
        Some(HeldBack {
            since: self.holds.iter().map(|hold| hold.times.0).min()?,
            until: self.holds.iter().map(|hold| hold.times.1).max()?,
            keys: on.held,
            services: on.services.clone(),
            instances: on.instances.clone(),
            problems: self.holds.iter().flat_map(|hold| hold.problems(prefix)).collect(),
        })
    }
}

impl Hold {
    /// Of what was taken away of the keys before, for so long.
    fn new(
        (now, clock): (Instant, SystemTime),
        (before, keys): (KeySet, &KeySet),
        losses: Losses,
        lasts: Duration,
    ) -> Self {
        let on = serve_on(&before, keys, &losses, &before);
        Self {
            before,
            losses,
            began: now,
            until: now + lasts,
            times: (clock, clock + lasts),
            revision: keys.revision(),
            on,
            settling: None,
        }
    }

    /// When to judge it again, even if no key changes.
    fn due(&self) -> Instant {
        self.settling.map_or(self.until, |since| self.until.min(since + SETTLED))
    }

    fn go_on(
        self,
        (now, clock): (Instant, SystemTime),
        keys: &KeySet,
        GuardSettings { share, hold: lasts }: GuardSettings,
        is_away: bool,
    ) -> Result<Self, HoldEnd> {
        if !is_away && now >= self.until {
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
        match settling.is_some_and(|since| !is_away && now >= since + SETTLED) {
            true => Err(HoldEnd::Settled),
            false => Ok(Self { losses, on, settling, until, times, ..self }),
        }
    }

    /// The store was away for so long.
    fn postpone(&mut self, by: Duration) {
        self.until += by;
        self.times.1 += by;
        self.settling = self.settling.map(|since| since + by);
    }

    fn problems(&self, prefix: &str) -> Vec<Problem> {
        let until = utc(seconds(self.times.1));
        let rest = format!(
            "were taken away at once, at revision {}; they are served on until their keys come back, until {until} \
             (later, if the store is away meanwhile), or until `pointsman guard release` lets the change in",
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
