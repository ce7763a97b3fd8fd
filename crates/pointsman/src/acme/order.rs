//! The certificate of one name, from the wish for it to its renewal. Pure: a step takes what happened and says what is to
//! be done. Every step is written to the store before the next is taken, so that another balancer can go on with it.
//!
//! ```text
//! Idle ─open─> Opened ─look: pending─> Answering ─every balancer answers, tell─> Told ─look: ready─> Signing ─look─┐
//!  ^ ^            └─look: ready, it was ours before─────────────────────────────────────────────────────^  │      │
//!  │ └──the authority refuses, at any step: later, and later─────────────────────────────────────────────── finalize,
//!  └────────────────────────────────────────────────────────────────────────────────────────────────────── fetch <┘
//! ```

use pointsman_table::ChallengeKind;
use serde::{Deserialize, Serialize};

/// Seconds between two looks at an order, at first. Later it is a tenth of the time that it has taken.
const LOOK: i64 = 1;
/// Seconds that an authority may take to check an answer, and to sign.
const CHECKS: i64 = 180;
const SIGNS: i64 = 900;
/// Seconds until the next try after so many failures of one name in a row. Let's Encrypt lets a name fail five times an hour.
const AFTER_REFUSAL: [i64; 7] = [60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600];
/// How many of these are skipped for a name that only handshakes want, until it has a certificate, how often it is tried, and
/// how often it is looked at if it leads elsewhere. It is never forgotten within the hour in which it counts as a new one.
const SKIPPED_ON_DEMAND: u32 = 3;
const TRIES_ON_DEMAND: u32 = 2;
const LOOKS_ON_DEMAND: u32 = 9;
/// The same if the authority cannot be reached or does not say why.
pub(super) const AFTER_OUTAGE: [i64; 7] = [2, 5, 15, 30, 60, 300, 900];
/// The same if the name leads elsewhere: nobody is bothered by looking again.
const AFTER_MISS: [i64; 9] = [5, 15, 30, 60, 120, 300, 600, 1800, 3600];
/// Seconds by which the clocks of two balancers may differ.
pub(super) const CLOCKS: i64 = 300;
/// Outages in a row after which an order is given up for a new one.
const GIVEN_UP: u32 = 12;
/// Seconds for which an order without a certificate is kept when nobody wants one any more.
const RESTS: i64 = 7 * 24 * 3600;

/// The certificate of one name: what is in the store about it, besides the certificate itself. Secret: it may hold a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CertOrder {
    /// The leader that wrote it, by the number of its term. An earlier leader writes no more.
    pub(crate) term: u64,
    /// Counts what was written.
    pub(crate) version: u64,
    /// How far it is.
    #[serde(flatten)]
    pub(crate) stage: OrderStage,
    /// The directory of the authority that has the order, if there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) directory: String,
    /// When the next step is due, in seconds since the epoch.
    pub(crate) due: i64,
    /// When a handshake wanted it, in seconds since the epoch, if none but handshakes do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) on_demand: Option<i64>,
    /// Refusals in a row, and outages in a row.
    #[serde(default)]
    pub(crate) refusals: u32,
    #[serde(default)]
    pub(crate) outages: u32,
    /// How often in a row the name led elsewhere, so that nothing was asked.
    #[serde(default)]
    pub(crate) misses: u32,
    /// The last failure, until a step succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<OrderFailure>,
    /// The last certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issued: Option<IssuedFacts>,
}

/// How far an order is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
pub(crate) enum OrderStage {
    /// There is no order.
    #[default]
    Idle,
    /// The authority has taken it.
    Opened {
        /// The order's URL.
        url: String,
    },
    /// Balancers or the name server answer the challenge. The authority does not know yet.
    Answering {
        url: String,
        #[serde(flatten)]
        challenge: Challenge,
    },
    /// The authority asks for the answer.
    Told {
        url: String,
        #[serde(flatten)]
        challenge: Challenge,
        since: i64,
    },
    /// The authority has what it needs to sign, or will get it.
    Signing { url: String, key: String, since: i64 },
}

/// A challenge, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) token: String,
    /// What balancers say, the certificate that they show and its key, or the value of the TXT record.
    pub(crate) answer: String,
    /// How it is answered.
    #[serde(default, with = "ChallengeWord")]
    pub(crate) kind: ChallengeKind,
}

/// How the store names kinds of challenges.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ChallengeKind", rename_all = "lowercase")]
enum ChallengeWord {
    Http,
    Tls,
    Dns,
}

/// A failure in words: the authority's own, if it gave any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OrderFailure {
    pub(crate) said: String,
    /// In seconds since the epoch.
    pub(crate) at: i64,
}

/// What is known of a certificate that was issued. Times are in seconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IssuedFacts {
    pub(crate) from: i64,
    pub(crate) until: i64,
    pub(crate) issuer: String,
    /// When a new one is asked for.
    pub(crate) renew: i64,
    /// How the authority calls it (RFC 9773 §4.1), if it has such a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// The directory of the authority.
    pub(crate) directory: String,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OrderAction {
    /// Order a certificate, in place of the one of this id.
    Open { replaces: Option<String> },
    /// Ask when to renew the certificate of this id.
    Consult { id: String },
    /// Look how far the order is. `keyed`: its key is made.
    Look { url: String, keyed: bool },
    /// Once the challenge is answered everywhere, tell the authority.
    Tell { url: String, challenge: Challenge },
    /// Ask for the signature.
    Finalize { url: String, key: String },
    /// Fetch the certificate, and keep it.
    Fetch { url: String, key: String },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OrderEvent {
    Opened {
        url: String,
        /// Of the authority.
        directory: String,
    },
    /// When to renew, at the authority's wish, and when to ask again.
    Consulted {
        window: Option<(i64, i64)>,
        again: i64,
    },
    Seen(Sight),
    Told,
    Finalized,
    /// The certificate is in the store. It has no time to be renewed yet.
    Kept {
        facts: IssuedFacts,
        window: Option<(i64, i64)>,
    },
    Failed(Trouble),
}

/// How far the authority is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// It waits for the answer to this challenge.
    Pending(Challenge),
    /// It asks for the answer.
    Checking,
    /// It waits for the request to sign. `key`: one to sign, if none was made.
    Ready { key: Option<String> },
    /// It signs.
    Signing,
    /// It has signed.
    Signed,
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) said: String,
    pub(crate) kind: TroubleKind,
    /// How long the authority wants us to wait, seconds.
    pub(crate) wait: Option<i64>,
}

/// What a failure means for the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TroubleKind {
    /// The step may succeed later.
    Passing,
    /// The authority refuses: the order is over.
    Refusal,
    /// The name leads elsewhere: nothing was asked.
    Elsewhere,
    /// The operator wants no certificate for the name any more: nothing was asked, and nothing is wrong.
    Unwanted,
}

impl Trouble {
    /// A step that may succeed later.
    pub(crate) fn passing(said: impl Into<String>) -> Self {
        Self { said: said.into(), kind: TroubleKind::Passing, wait: None }
    }

    /// An order that is over.
    pub(crate) fn refusal(said: impl Into<String>) -> Self {
        Self { said: said.into(), kind: TroubleKind::Refusal, wait: None }
    }

    /// A name that the operator does not want a certificate for any more.
    pub(crate) fn unwanted(said: impl Into<String>) -> Self {
        Self { said: said.into(), kind: TroubleKind::Unwanted, wait: None }
    }

    /// A name that leads elsewhere.
    pub(crate) fn elsewhere(said: impl Into<String>) -> Self {
        Self { said: said.into(), kind: TroubleKind::Elsewhere, wait: None }
    }
}

impl CertOrder {
    /// For a name that has none: due at once.
    pub(crate) fn wished(now: i64) -> Self {
        Self { due: now, ..Self::default() }
    }

    /// For a name that a handshake wants one for.
    pub(crate) fn on_demand(now: i64) -> Self {
        Self { on_demand: Some(now), ..Self::wished(now) }
    }

    /// Whether there is a certificate that still counts.
    pub(crate) fn is_live(&self, now: i64) -> bool {
        self.issued.as_ref().is_some_and(|issued| now < issued.until)
    }

    /// Whether it is forgotten instead of tried again: only handshakes wanted it, and the authority keeps refusing, or the name
    /// keeps leading elsewhere.
    pub(crate) fn is_hopeless(&self, now: i64) -> bool {
        let is_tried = self.refusals >= TRIES_ON_DEMAND || self.misses >= LOOKS_ON_DEMAND;
        self.on_demand.is_some() && self.stage == OrderStage::Idle && is_tried && !self.is_live(now)
    }

    /// Whether it is of no more use, if no certificate is wanted for the name.
    pub(crate) fn is_over(&self, now: i64) -> bool {
        let is_known = self.on_demand.is_some() || self.issued.is_some();
        let is_done = self.stage == OrderStage::Idle && is_known;
        !self.is_live(now) && (is_done || self.due.saturating_add(RESTS) <= now)
    }

    /// Gives up an order that another authority has than this one.
    pub(crate) fn leave_other(&mut self, directory: &str) {
        if self.stage != OrderStage::Idle && !self.directory.is_empty() && self.directory != directory {
            self.stage = OrderStage::Idle;
        }
    }

    /// The same, to be renewed now, or gone on with: an operator wants it.
    pub(crate) fn renewed(mut self, now: i64) -> Self {
        self.version = self.version.saturating_add(1);
        (self.due, self.refusals, self.misses) = (now, 0, 0);
        if let Some(issued) = &mut self.issued {
            issued.renew = now;
        }
        self
    }

    /// The same with a certificate from elsewhere, which is renewed in its time.
    pub(crate) fn imported(self, facts: IssuedFacts) -> Self {
        let renew = usual_renewal(facts.from, facts.until, 0.0);
        let issued = Some(IssuedFacts { renew, ..facts });
        let (term, version) = (self.term, self.version.saturating_add(1));
        Self { term, version, due: renew, issued, on_demand: self.on_demand, ..Self::default() }
    }

    /// What is done next, for people.
    pub(crate) fn next_word(&self) -> &'static str {
        match (&self.stage, &self.issued) {
            (OrderStage::Idle, Some(_)) => "renew",
            (OrderStage::Idle, None) => "order",
            (OrderStage::Opened { .. }, _) => "ordered",
            (OrderStage::Answering { .. } | OrderStage::Told { .. }, _) => "being checked",
            (OrderStage::Signing { .. }, _) => "being signed",
        }
    }

    /// When that is done, unless it is under way. A question when to renew is nothing that people wait for.
    pub(crate) fn next_due(&self) -> Option<i64> {
        let renew = self.issued.as_ref().filter(|_| self.failure.is_none()).map_or(self.due, |issued| issued.renew);
        (self.stage == OrderStage::Idle).then_some(renew)
    }

    /// When the next step is due; at once if what is known was written while the clock was ahead, perhaps by years.
    pub(crate) fn due_by(&self, now: i64) -> i64 {
        let failed = self.failure.as_ref().is_some_and(|failure| failure.at > now.saturating_add(CLOCKS));
        let begun = match self.stage {
            OrderStage::Told { since, .. } | OrderStage::Signing { since, .. } => since > now.saturating_add(CLOCKS),
            OrderStage::Idle | OrderStage::Opened { .. } | OrderStage::Answering { .. } => false,
        };
        if failed || begun { now } else { self.due }
    }

    /// The URL of the order, if there is one.
    fn url(&self) -> Option<&String> {
        match &self.stage {
            OrderStage::Idle => None,
            OrderStage::Opened { url }
            | OrderStage::Answering { url, .. }
            | OrderStage::Told { url, .. }
            | OrderStage::Signing { url, .. } => Some(url),
        }
    }

    /// The challenge that is to be answered.
    pub(crate) fn challenge(&self) -> Option<&Challenge> {
        match &self.stage {
            OrderStage::Answering { challenge, .. } | OrderStage::Told { challenge, .. } => Some(challenge),
            OrderStage::Idle | OrderStage::Opened { .. } | OrderStage::Signing { .. } => None,
        }
    }

    /// What is to be done once it is due, by whoever comes to it.
    pub(crate) fn next(&self, now: i64) -> OrderAction {
        if let Some(url) = self.url() {
            let keyed = matches!(self.stage, OrderStage::Signing { .. });
            return OrderAction::Look { url: url.clone(), keyed };
        }
        let id = self.issued.as_ref().and_then(|issued| issued.id.clone());
        match (&self.issued, id) {
            (Some(issued), Some(id)) if now < issued.renew => OrderAction::Consult { id },
            // An authority may refuse the second order that replaces a certificate, or have made the first without a word.
            (_, id) => OrderAction::Open { replaces: id.filter(|_| self.refusals == 0 && self.outages == 0) },
        }
    }

    /// Takes what happened. `chance`: from 0 to 1. `None`: nothing is to be done until it is due.
    pub(crate) fn step(mut self, event: OrderEvent, now: i64, chance: f64) -> (Self, Option<OrderAction>) {
        self.due = now;
        match self.advance(event, now, chance) {
            Ok(action) => {
                self.outages = 0;
                (self, action)
            }
            Err(trouble) => {
                self.fail(trouble, now, chance);
                (self, None)
            }
        }
    }

    fn advance(&mut self, event: OrderEvent, now: i64, chance: f64) -> Result<Option<OrderAction>, Trouble> {
        match event {
            OrderEvent::Failed(trouble) => return Err(trouble),
            OrderEvent::Opened { url, directory } => {
                self.misses = 0;
                self.directory = directory;
                self.stage = OrderStage::Opened { url: url.clone() };
                return Ok(Some(OrderAction::Look { url, keyed: false }));
            }
            OrderEvent::Consulted { window, again } => {
                if let (Some(issued), Some(window)) = (&mut self.issued, window) {
                    issued.renew = within(window, issued.renew, chance);
                }
                let renew = self.issued.as_ref().map_or(now, |issued| issued.renew);
                (self.due, self.failure) = (renew.min(again), None);
            }
            OrderEvent::Told => return self.see(Sight::Checking, now),
            OrderEvent::Finalized => return self.see(Sight::Signing, now),
            OrderEvent::Seen(sight) => return self.see(sight, now),
            OrderEvent::Kept { facts, window } => self.keep(facts, window, now, chance)?,
        }
        Ok(None)
    }

    /// Takes how far the authority is.
    fn see(&mut self, sight: Sight, now: i64) -> Result<Option<OrderAction>, Trouble> {
        let url = self.url().cloned().unwrap_or_default();
        match (&self.stage, sight) {
            (OrderStage::Told { since, .. }, Sight::Pending(_) | Sight::Checking) => {
                self.due = wait(now, *since, CHECKS, "check the answer")?;
                Ok(None)
            }
            (OrderStage::Opened { .. } | OrderStage::Answering { .. }, Sight::Pending(challenge)) => {
                self.stage = OrderStage::Answering { url: url.clone(), challenge: challenge.clone() };
                Ok(Some(OrderAction::Tell { url, challenge }))
            }
            (OrderStage::Answering { challenge, .. }, Sight::Checking) => {
                self.stage = OrderStage::Told { url, challenge: challenge.clone(), since: now };
                self.due = now.saturating_add(LOOK);
                Ok(None)
            }
            (OrderStage::Signing { key, .. }, Sight::Ready { .. }) => {
                Ok(Some(OrderAction::Finalize { url, key: key.clone() }))
            }
            (_, Sight::Ready { key: Some(key) }) => {
                self.stage = OrderStage::Signing { url: url.clone(), key: key.clone(), since: now };
                Ok(Some(OrderAction::Finalize { url, key }))
            }
            (OrderStage::Signing { since, .. }, Sight::Signing) => {
                self.due = wait(now, *since, SIGNS, "sign")?;
                Ok(None)
            }
            (OrderStage::Signing { key, .. }, Sight::Signed) => Ok(Some(OrderAction::Fetch { url, key: key.clone() })),
            _ => Err(Trouble::refusal("the order is further than what is known of it; a new one is made")),
        }
    }

    /// Takes a new certificate.
    ///
    /// # Errors
    /// It is to be renewed already. It serves, but another one is not ordered at once, as that would be so, too.
    fn keep(&mut self, facts: IssuedFacts, window: Option<(i64, i64)>, now: i64, chance: f64) -> Result<(), Trouble> {
        let usual = usual_renewal(facts.from, facts.until, chance);
        let renew = window.map_or(usual, |window| within(window, usual, chance));
        // An authority that has a name for it may call for an earlier renewal.
        let asks = facts.id.is_some();
        self.due = if asks { renew.min(now.saturating_add(CONSULT)) } else { renew };
        self.issued = Some(IssuedFacts { renew, ..facts });
        self.stage = OrderStage::Idle;
        if renew <= now {
            return Err(Trouble::refusal(
                "the certificate that was issued is to be renewed already; check the clock of this machine",
            ));
        }
        (self.refusals, self.outages, self.failure) = (0, 0, None);
        Ok(())
    }

    fn fail(&mut self, trouble: Trouble, now: i64, chance: f64) {
        let Trouble { said, kind, wait } = trouble;
        let ladder = match kind {
            TroubleKind::Refusal => {
                self.refusals = self.refusals.saturating_add(1);
                self.stage = OrderStage::Idle;
                // Nobody set a name that a handshake wants: it may well lead elsewhere.
                let skipped = if self.on_demand.is_some() && self.issued.is_none() { SKIPPED_ON_DEMAND } else { 0 };
                rung(&AFTER_REFUSAL, self.refusals + skipped)
            }
            TroubleKind::Passing => {
                self.outages = self.outages.saturating_add(1);
                if self.outages >= GIVEN_UP {
                    self.stage = OrderStage::Idle;
                }
                rung(&AFTER_OUTAGE, self.outages)
            }
            TroubleKind::Elsewhere => {
                self.misses = self.misses.saturating_add(1);
                rung(&AFTER_MISS, self.misses)
            }
            TroubleKind::Unwanted => {
                // It serves until it expires, and nobody waits for another.
                let until = self.issued.as_mut().map_or(now, |issued| {
                    issued.renew = issued.until;
                    issued.until
                });
                (self.due, self.failure) = (until.min(now.saturating_add(CONSULT)), None);
                return;
            }
        };
        // Ten thousand names that fail together do not come back together.
        let spread = (ladder as f64 * 0.2 * chance) as i64;
        self.due = now.saturating_add(wait.unwrap_or_default().max(ladder + spread));
        self.failure = Some(OrderFailure { said, at: now });
    }
}

/// Seconds between two questions when to renew, unless the authority says.
pub(super) const CONSULT: i64 = 6 * 3600;

/// When to look again, unless the authority takes too long.
fn wait(now: i64, since: i64, longest: i64, what: &str) -> Result<i64, Trouble> {
    let took = now.saturating_sub(since);
    // One that began in the future began while the clock was wrong.
    match took > longest || took < -CLOCKS {
        true => Err(Trouble::refusal(format!("the authority did not {what} within {longest} s"))),
        false => Ok(now.saturating_add(LOOK.max(took / 10))),
    }
}

pub(super) fn rung(ladder: &[i64], count: u32) -> i64 {
    let at = (count.max(1) as usize - 1).min(ladder.len() - 1);
    ladder[at]
}

/// At two thirds of the life, or a little earlier, so that certificates of one day are not renewed in one moment.
fn usual_renewal(from: i64, until: i64, chance: f64) -> i64 {
    let life = (until - from).max(0);
    from + life * 2 / 3 - (life as f64 * chance / 20.0) as i64
}

/// A moment of the window (RFC 9773 §4.2), unless the one that was drawn before lies in it.
fn within((start, end): (i64, i64), drawn: i64, chance: f64) -> i64 {
    match (start..=end).contains(&drawn) {
        true => drawn,
        false => start + ((end - start).max(0) as f64 * chance) as i64,
    }
}

#[cfg(test)]
#[path = "order_tests.rs"]
mod tests;
