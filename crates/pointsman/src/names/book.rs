//! The known addresses of each name, and which names are due for a lookup. Pure: time is an argument; looks nothing up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pointsman_table::{Names, Record, Resolved};
use tokio::time::Instant;

/// An answer holds at least this long, whatever its TTL says.
const SHORTEST: Duration = Duration::from_secs(1);
/// And no longer than this.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest pause after failures of a name that has addresses; the first is a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The same for a name that never had addresses: there may be many, just misspelt.
const LONGEST_PAUSE_OF_UNKNOWN: Duration = Duration::from_secs(30);
/// This many failures in a row move a name that has addresses to the lane of failing names.
const FAILURES_OF_LIVING: u32 = 3;
/// Most addresses or records of a name that are kept: as many as a service can have instances from `dns`.
const MOST_ANSWERS: usize = 1_024;

/// How names are queued: those that fail must not hold up the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Names that are new, or were answered lately.
    Sound,
    /// All other names.
    Failing,
}

impl Lane {
    /// Most lookups at once. Each takes two descriptors, for IPv4 and IPv6 addresses.
    fn most(self) -> usize {
        match self {
            Self::Sound => 32,
            Self::Failing => 16,
        }
    }
}

/// A name to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) name: Box<str>,
    pub(super) lane: Lane,
    /// Whether its name servers get their full time. Other names must not wait for one that fails; but the second
    /// lookup of a name that has addresses is patient, so that a slow name server does not count as a failure.
    pub(super) patient: bool,
}

/// The addresses of a name, and how long they hold.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) addresses: Vec<IpAddr>,
    /// Those of `srv:NAME`.
    pub(super) records: Vec<Record>,
    pub(super) ttl: Duration,
}

/// Why there are no addresses.
#[derive(Clone, Debug)]
pub(super) enum Unfound {
    /// The name servers say that there are none.
    Denied(Box<str>),
    /// They say nothing, or that they cannot tell.
    Silent(Box<str>),
    /// They tell these of one family, and cannot tell those of the other.
    Partly(Located, Box<str>),
}

impl Unfound {
    /// The reason, in words.
    pub(super) fn why(self) -> Box<str> {
        match self {
            Self::Denied(why) | Self::Silent(why) | Self::Partly(_, why) => why,
        }
    }
}

/// All wanted names.
#[derive(Debug, Default)]
pub(super) struct Book {
    wanted: BTreeSet<Box<str>>,
    /// One for each name that is wanted, due or being looked up.
    states: BTreeMap<Box<str>, NameState>,
    sound: LookupQueue,
    failing: LookupQueue,
    /// Something was learnt or forgotten since the last [`Book::news`].
    changed: bool,
}

/// The state of a name.
#[derive(Debug, Default)]
struct NameState {
    resolved: Option<Resolved>,
    /// Failures in a row.
    failures: u32,
}

/// Names of one lane, by when each is due, and how many are being looked up.
#[derive(Debug, Default)]
struct LookupQueue {
    due: BTreeSet<(Instant, Box<str>)>,
    asked: usize,
}

impl Book {
    /// Takes the names that are wanted from now on.
    pub(super) fn want(&mut self, names: &BTreeSet<Box<str>>, now: Instant) {
        let is_known = |name| self.states.get::<str>(name).is_some_and(|state| state.resolved.is_some());
        self.changed |= self.wanted.symmetric_difference(names).any(|name| is_known(name));
        self.wanted.clone_from(names);
        for name in names {
            if !self.states.contains_key(name) {
                self.states.insert(name.clone(), NameState::default());
                self.sound.due.insert((now, name.clone()));
            }
        }
    }

    /// The names to look up now, as far as there is room.
    pub(super) fn ask(&mut self, now: Instant) -> Vec<Ask> {
        let Self { wanted, states, sound, failing, .. } = self;
        let sound = sound.take(now, Lane::Sound, wanted, states);
        sound.into_iter().chain(failing.take(now, Lane::Failing, wanted, states)).collect()
    }

    /// When the next name is due, among those that there is room for.
    pub(super) fn due(&self) -> Option<Instant> {
        let next = |queue: &LookupQueue, lane: Lane| {
            let (due, _) = queue.due.first().filter(|_| queue.asked < lane.most())?;
            Some(*due)
        };
        next(&self.sound, Lane::Sound).into_iter().chain(next(&self.failing, Lane::Failing)).min()
    }

    /// Takes the answer to an [`Ask`].
    pub(super) fn take(&mut self, name: &str, lane: Lane, answer: Result<Located, Unfound>, now: Instant) {
        self.queue(lane).asked -= 1;
        let Some(state) = self.states.get_mut(name) else { return };
        let before = state.resolved.clone();
        let pause = state.take(answer);
        self.changed |= before != state.resolved;
        let lane = state.lane();
        self.queue(lane).due.insert((now + pause, name.into()));
    }

    /// The machine's own files changed: every name is due.
    pub(super) fn refresh(&mut self, now: Instant) {
        for queue in [&mut self.sound, &mut self.failing] {
            queue.due = std::mem::take(&mut queue.due).into_iter().map(|(due, name)| (due.min(now), name)).collect();
        }
    }

    /// The known addresses of a name.
    pub(super) fn known(&self, name: &str) -> Option<Resolved> {
        self.states.get(name)?.resolved.clone()
    }

    /// All known names, if one changed since the last call.
    pub(super) fn news(&mut self) -> Option<Arc<Names>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let known = self.wanted.iter().filter_map(|name| Some((name.clone(), self.known(name)?)));
        Some(Arc::new(known.collect()))
    }

    fn queue(&mut self, lane: Lane) -> &mut LookupQueue {
        match lane {
            Lane::Sound => &mut self.sound,
            Lane::Failing => &mut self.failing,
        }
    }
}

impl LookupQueue {
    fn take(
        &mut self,
        now: Instant,
        lane: Lane,
        wanted: &BTreeSet<Box<str>>,
        states: &mut BTreeMap<Box<str>, NameState>,
    ) -> Vec<Ask> {
        let mut asks = Vec::new();
        while self.asked < lane.most()
            && let Some((due, _)) = self.due.first()
            && *due <= now
            && let Some((_, name)) = self.due.pop_first()
        {
            // An unwanted name is forgotten only now: it might have been wanted again before.
            if !wanted.contains(&name) {
                states.remove(&name);
                continue;
            }
            let failures = states.get(&name).map_or(0, |state| state.failures);
            self.asked += 1;
            asks.push(Ask { name, lane, patient: lane == Lane::Failing || failures == 1 });
        }
        asks
    }
}

impl NameState {
    fn lane(&self) -> Lane {
        let is_known = |resolved: &Resolved| !resolved.addresses.is_empty() || !resolved.records.is_empty();
        let has_addresses = self.resolved.as_ref().is_some_and(is_known);
        match self.failures {
            0 => Lane::Sound,
            failures if has_addresses && failures < FAILURES_OF_LIVING => Lane::Sound,
            _ => Lane::Failing,
        }
    }

    /// Takes an answer. Returns how long it holds.
    fn take(&mut self, answer: Result<Located, Unfound>) -> Duration {
        match answer {
            Ok(Located { addresses, records, ttl }) if !addresses.is_empty() || !records.is_empty() => {
                self.failures = 0;
                let addresses = ordered(addresses.iter().map(IpAddr::to_canonical));
                self.resolved = Some(Resolved { addresses, records: ordered(records), failure: None });
                ttl.clamp(SHORTEST, LONGEST)
            }
            Ok(_) => self.fail(Unfound::Denied("it has no address".into())),
            Err(Unfound::Partly(part, why)) => self.take_part(part, why),
            Err(failure) => self.fail(failure),
        }
    }

    /// Takes the addresses of one family, and keeps those that are known of the other.
    fn take_part(&mut self, part: Located, why: Box<str>) -> Duration {
        let is_told = |address: &IpAddr| part.addresses.iter().any(|told| told.is_ipv4() == address.is_ipv4());
        let known = self.resolved.iter().flat_map(|resolved| &resolved.addresses).copied();
        let kept: Vec<_> = known.filter(|address| !is_told(address)).collect();
        match &mut self.resolved {
            Some(resolved) if !kept.is_empty() => {
                let told = part.addresses.iter().map(IpAddr::to_canonical);
                resolved.addresses = ordered(kept.into_iter().chain(told));
                self.fail(Unfound::Silent(why))
            }
            _ => self.take(Ok(part)),
        }
    }

    fn fail(&mut self, failure: Unfound) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let Resolved { addresses, records, .. } = self.resolved.take().unwrap_or_default();
        let is_unknown = addresses.is_empty() && records.is_empty();
        // A single lost question is asked again before the failure is reported.
        let longest = if is_unknown { LONGEST_PAUSE_OF_UNKNOWN } else { LONGEST_PAUSE };
        let failure = match failure {
            Unfound::Silent(_) if self.failures == 1 && !is_unknown => None,
            failure => Some(failure.why()),
        };
        self.resolved = Some(Resolved { addresses, records, failure });
        SHORTEST.saturating_mul(2u32.saturating_pow(self.failures - 1)).min(longest)
    }
}

/// Sorted, because name servers rotate the order of their answers.
fn ordered<T: Ord>(answers: impl IntoIterator<Item = T>) -> Box<[T]> {
    let answers: BTreeSet<_> = answers.into_iter().collect();
    answers.into_iter().take(MOST_ANSWERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<Box<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    fn asked(book: &mut Book, now: Instant) -> Vec<String> {
        book.ask(now).into_iter().map(|ask| format!("{} {:?}", ask.name, ask.lane)).collect()
    }

    fn addresses(last: &[u8], ttl: u64) -> Result<Located, Unfound> {
        let addresses = last.iter().map(|last| [10, 0, 0, *last].into()).collect();
        Ok(Located { addresses, records: Vec::new(), ttl: Duration::from_secs(ttl) })
    }

    fn silent() -> Result<Located, Unfound> {
        Err(Unfound::Silent("no answer".into()))
    }

    /// `[10.0.0.1] no answer`
    fn known(book: &Book, name: &str) -> String {
        let known = book.known(name).unwrap_or_default();
        format!("{:?} {}", known.addresses, known.failure.unwrap_or_default())
    }

    #[test]
    fn an_answer_holds_for_its_time_within_bounds() {
        let start = Instant::now();
        for (ttl, expected) in [(0, 1), (1, 1), (20, 20), (86_400, 60)] {
            let mut book = Book::default();
            book.want(&names(&["a"]), start);
            assert_eq!(asked(&mut book, start), ["a Sound"]);
            assert_eq!(asked(&mut book, start), [""; 0], "once at a time");
            book.take("a", Lane::Sound, addresses(&[2, 1], ttl), start);
            assert_eq!(known(&book, "a"), "[10.0.0.1, 10.0.0.2] ");
            assert_eq!(book.due(), Some(start + Duration::from_secs(expected)), "{ttl}");
        }
    }

    #[test]
    fn the_last_addresses_stay() {
        let start = Instant::now();
        let mut book = Book::default();
        book.want(&names(&["a", "b"]), start);
        assert_eq!(book.ask(start).len(), 2);
        book.take("a", Lane::Sound, addresses(&[1], 5), start);
        book.take("b", Lane::Sound, silent(), start);
        assert_eq!((known(&book, "a"), known(&book, "b")), ("[10.0.0.1] ".to_owned(), "[] no answer".to_owned()));
        assert_eq!(book.news().unwrap().len(), 2);
        let later = start + Duration::from_secs(5);
        assert_eq!(asked(&mut book, later), ["a Sound", "b Failing"]);
        book.take("a", Lane::Sound, silent(), later);
        assert_eq!(known(&book, "a"), "[10.0.0.1] ", "one lost question is no news");
        assert!(book.news().is_none());
        let later = later + Duration::from_secs(1);
        assert_eq!(asked(&mut book, later), ["a Sound"]);
        book.take("a", Lane::Sound, silent(), later);
        assert_eq!(known(&book, "a"), "[10.0.0.1] no answer");
        book.take("b", Lane::Failing, Err(Unfound::Denied("no such name".into())), later);
        assert_eq!(known(&book, "b"), "[] no such name");
        book.want(&names(&["b"]), later);
        assert!(book.news().unwrap().keys().map(|name| &**name).eq(["b"]));
    }

    #[test]
    fn half_an_answer_takes_nothing_away() {
        let mut now = Instant::now();
        let mut book = Book::default();
        book.want(&names(&["a"]), now);
        let located = |addresses: &[&str]| Located {
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            records: Vec::new(),
            ttl: Duration::from_secs(5),
        };
        let partly = |address| Err(Unfound::Partly(located(&[address]), "SERVFAIL".into()));
        for (answer, expected) in [
            (partly("10.0.0.1"), "[10.0.0.1] "),
            (partly("10.0.0.2"), "[10.0.0.2] "),
            (Ok(located(&["10.0.0.2", "fd00::2"])), "[10.0.0.2, fd00::2] "),
            (partly("fd00::3"), "[10.0.0.2, fd00::3] "),
            (partly("fd00::3"), "[10.0.0.2, fd00::3] SERVFAIL"),
            (Ok(located(&["fd00::3"])), "[fd00::3] "),
        ] {
            let Ask { lane, .. } = book.ask(now).remove(0);
            book.take("a", lane, answer, now);
            assert_eq!(known(&book, "a"), expected);
            now = book.due().unwrap();
        }
    }

    #[test]
    fn a_name_that_comes_back_is_still_known_and_asked_for_once() {
        let start = Instant::now();
        let mut book = Book::default();
        book.want(&names(&["a"]), start);
        assert_eq!(asked(&mut book, start), ["a Sound"]);
        book.take("a", Lane::Sound, addresses(&[1], 10), start);
        assert_eq!(book.news().unwrap().len(), 1);
        for _ in 0..3 {
            book.want(&names(&[]), start);
            assert!(book.news().unwrap().is_empty());
            book.want(&names(&["a"]), start);
            assert_eq!(book.news().unwrap().len(), 1, "its addresses are not forgotten at once");
        }
        let later = start + Duration::from_secs(10);
        assert_eq!(asked(&mut book, later), ["a Sound"], "by one chain of questions");
        book.want(&names(&[]), later);
        book.want(&names(&["a"]), later);
        assert_eq!(asked(&mut book, later), [""; 0], "while it is asked for, too");
        book.take("a", Lane::Sound, addresses(&[1], 10), later);
        book.want(&names(&[]), later);
        assert_eq!(asked(&mut book, later + Duration::from_secs(10)), [""; 0]);
        assert_eq!((book.due(), book.known("a")), (None, None), "forgotten in the end");
    }

    #[test]
    fn a_living_name_may_fail_before_it_waits_for_the_dead() {
        let mut now = Instant::now();
        let mut book = Book::default();
        book.want(&names(&["a"]), now);
        let mut answer = addresses(&[1], 1);
        for expected in ["a Sound", "a Sound", "a Sound patient", "a Sound", "a Failing patient"] {
            let Ask { name, lane, patient } = book.ask(now).remove(0);
            let heard = format!("{name} {lane:?}{}", if patient { " patient" } else { "" });
            assert_eq!(heard, expected);
            book.take("a", lane, std::mem::replace(&mut answer, silent()), now);
            now = book.due().unwrap();
        }
    }

    /// However many names fail, a name that resolves is looked up on time.
    #[test]
    fn names_that_fail_hold_up_nobody() {
        let start = Instant::now();
        let mut book = Book::default();
        let dead: Vec<_> = (0..500).map(|number| format!("dead-{number}")).collect();
        let mut all = names(&["zzz"]);
        all.extend(dead.iter().map(|name| name.clone().into()));
        book.want(&all, start);
        let mut now = start;
        while book.known("zzz").is_none() {
            let asks = book.ask(now);
            assert!(asks.len() <= 48, "{} at once", asks.len());
            now += Duration::from_secs(1);
            for Ask { name, lane, .. } in asks {
                let answer = if &*name == "zzz" { addresses(&[1], 1) } else { silent() };
                book.take(&name, lane, answer, now);
            }
        }
        assert!(now - start <= Duration::from_secs(17), "{:?}", now - start);
        now += Duration::from_secs(1);
        assert!(asked(&mut book, now).contains(&"zzz Sound".to_owned()), "from then on it waits for none of them");
    }
}
