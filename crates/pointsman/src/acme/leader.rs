//! Takes the steps of all orders, as long as this balancer holds the prefix's lease for it. What it does is in the store
//! before it does the next: another balancer goes on where it ends.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pointsman_engine::Phase;
use pointsman_store::lease::{Edit, LeaseOutcome, Owner};
use pointsman_store::tenure::{LeaseHolder, LeaseState};
use pointsman_store::{Amended, Store, StoreError};
use pointsman_table::{AcmeNames, AcmeTerms, Cert, ChallengeKind};
use tokio::sync::{Mutex, OnceCell, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::authority::{Authority, NewCert, again, is_account_gone, now};
use super::book::{CertBook, Probe, cert_key, order_key, probe_key};
use super::check::leads_here;
use super::due::Candidates;
use super::endpoint::Endpoint;
use super::hook::{self, Turn};
use super::order::{CONSULT, CertOrder, Challenge, OrderAction, OrderEvent, Trouble, TroubleKind};
use crate::control::{Around, Status};
use crate::fleet::{self, Stage};
use crate::names::Lookup;
use crate::settings::AcmeSettings;

/// How long another balancer waits before it takes over from a leader that died.
const TTL: Duration = Duration::from_secs(10);
/// How often others look whether there is a leader.
const LOOK: Duration = Duration::from_millis(500);
/// How long to leave it to another process that has our name.
const NAMESAKE: Duration = Duration::from_secs(30);
/// Orders that are worked at together.
const MOST_JOBS: usize = 16;
/// Orders that are open at an authority together: some limit what is pending.
const MOST_OPEN: usize = 64;
/// How long the authority is not told of an answer that some balancer does not give yet.
const EVERYWHERE: Duration = Duration::from_secs(10);
const ASK_FLEET: Duration = Duration::from_millis(50);
/// How long a step that is done is tried to be written by who leads no more.
const LAST_WORDS: Duration = Duration::from_secs(90);
pub(super) const RETRY: Duration = Duration::from_millis(500);
/// How long a balancer waits that leads and cannot read or write the store.
const RETRY_TERM: Duration = Duration::from_secs(2);
/// How long a name is left alone whose order another leader has written.
const LEFT_ALONE: Duration = Duration::from_secs(5);
/// The longest time for which no new order is made because an authority limits one, seconds.
const LONGEST_HOLD: i64 = 15 * 60;
/// How long the leader rests after a look for what is due, in times of what the look took: ten thousand names take no more
/// of the thread than a few.
const REST: u32 = 10;
/// The longest rest: a look may take long because the machine stood still.
const LONGEST_REST: Duration = Duration::from_secs(2);
/// The longest sleep: somebody may set the clock.
const LONGEST: Duration = Duration::from_secs(60);

/// What a leader works with.
pub(super) struct Leader<'a> {
    pub(super) store: &'a Store,
    /// Of balancers: whom to wait for.
    pub(super) prefix: &'a str,
    /// Where all of this is kept.
    pub(super) folder: &'a str,
    /// This balancer's name.
    pub(super) name: &'a str,
    /// Who vouches for the authority besides the system's authorities, and what changes DNS.
    pub(super) settings: AcmeSettings,
    /// How names are looked up.
    pub(super) lookup: RefCell<Lookup>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) book: &'a watch::Sender<CertBook>,
    /// Where outcomes are counted.
    pub(super) around: &'a watch::Sender<Around>,
    /// Who says which names handshakes may want certificates for.
    pub(super) endpoint: &'a Endpoint,
}

impl Leader<'_> {
    /// Leads whenever it can, until the balancer drains.
    pub(super) async fn run(self) {
        loop {
            let owner = Owner::new("acme", &format!("{}\0{}", self.prefix, self.name));
            let holder = LeaseHolder::new(self.store, owner, TTL);
            tokio::select! {
                () = holder.run() => sleep(NAMESAKE).await,
                () = self.campaign(&holder) => {
                    holder.release(RETRY).await;
                    return;
                }
            }
        }
    }

    /// Ends when the balancer drains.
    async fn campaign(&self, holder: &LeaseHolder<'_>) {
        let (mut state, mut told) = (holder.state(), None);
        while !self.is_draining() {
            let held = match state.wait_for(|state| matches!(state, LeaseState::Held { .. })).await.as_deref() {
                Ok(LeaseState::Held { term }) => *term,
                Ok(LeaseState::Awaited { .. } | LeaseState::Replaced) => continue,
                Err(_) => return,
            };
            if self.elected(holder).await
                && let Some(term) = self.begin(&mut told).await
            {
                info!("this balancer asks for certificates now, in term {term}");
                let work = Work::new(self, term);
                work.run(&mut state, held).await;
            }
            sleep(LOOK).await;
        }
    }

    fn is_draining(&self) -> bool {
        self.status.borrow().phase != Phase::Serve
    }

    /// Whether this balancer leads: the key is its own.
    async fn elected(&self, holder: &LeaseHolder<'_>) -> bool {
        let put = Edit::Put { key: format!("{}/leader", self.folder), value: self.name.as_bytes().to_vec() };
        matches!(holder.apply(std::slice::from_ref(&put)).await.pop(), Some(Ok(LeaseOutcome::Done(_))))
    }

    /// Reads what the last leader wrote, and counts the terms of all leaders. `None`: the store fails.
    /// `told`: the last failure, which is not logged again.
    async fn begin(&self, told: &mut Option<StoreError>) -> Option<u64> {
        match self.try_begin().await {
            Ok(term) => {
                *told = None;
                Some(term)
            }
            Err(error) => {
                if told.as_ref() != Some(&error) {
                    warn!("this balancer would ask for certificates, and cannot: {error}");
                    *told = Some(error);
                }
                sleep(RETRY_TERM).await;
                None
            }
        }
    }

    async fn try_begin(&self) -> Result<u64, StoreError> {
        let listing = self.store.list(self.folder).await?;
        self.book.send_modify(|book| book.reset(listing.entries));
        // A store may come back as it was some terms ago: what balancers know of orders goes on.
        let known = self.book.borrow().orders.values().map(|order| order.term).max().unwrap_or(0);
        let key = format!("{}/term", self.folder);
        let term = Cell::new(0);
        let next = |last: Option<&[u8]>| {
            let last = last.and_then(|last| std::str::from_utf8(last).ok()?.trim().parse().ok()).unwrap_or(0);
            term.set(known.max(last).saturating_add(1));
            term.get().to_string().into_bytes()
        };
        match self.store.amend(&key, |last| Some(next(Some(last)))).await {
            Err(StoreError::NoSuchKey { .. }) => self.store.create(&key, &next(None)).await.map(drop)?,
            counted => counted.map(drop)?,
        }
        Ok(term.get())
    }
}

/// One term of a leader.
pub(super) struct Work<'a> {
    pub(super) leader: &'a Leader<'a>,
    pub(super) term: u64,
    /// Names that are worked at.
    busy: RefCell<BTreeSet<Box<str>>>,
    /// The names that certificates are wanted for.
    pub(super) wanted: RefCell<Rc<AcmeNames>>,
    /// Those that only handshakes want.
    pub(super) on_demand: RefCell<BTreeSet<Box<str>>>,
    authority: Mutex<Option<Rc<Authority>>>,
    /// What balancers answer to show that a name leads to them, in this term.
    probe: OnceCell<Probe>,
    /// No new orders before, in seconds since the epoch: the authority limits us.
    hold: Cell<i64>,
    /// Since when this balancer leads no more.
    over: Cell<Option<Instant>>,
}

impl<'a> Work<'a> {
    fn new(leader: &'a Leader<'a>, term: u64) -> Self {
        Self {
            leader,
            term,
            busy: RefCell::default(),
            wanted: RefCell::default(),
            on_demand: RefCell::default(),
            authority: Mutex::new(None),
            probe: OnceCell::new(),
            hold: Cell::new(0),
            over: Cell::new(None),
        }
    }

    /// Works at what is due until the lease is lost or the balancer drains.
    async fn run(&self, state: &mut watch::Receiver<LeaseState>, held: u64) {
        let (mut status, mut book) = (self.leader.status.clone(), self.leader.book.subscribe());
        let mut jobs = FuturesUnordered::new();
        let (mut table, mut next_look) = (None, Instant::now());
        let leads = |state: &LeaseState| *state == LeaseState::Held { term: held };
        while leads(&state.borrow()) && !self.leader.is_draining() {
            let newest = status.borrow_and_update().table.clone();
            if newest.as_ref().map(Arc::as_ptr) != table.as_ref().map(Arc::as_ptr) {
                *self.wanted.borrow_mut() =
                    Rc::new(newest.as_ref().map(|table| table.acme_names()).unwrap_or_default());
                table = newest;
            }
            let begun = Instant::now();
            let mut pause = next_look.saturating_duration_since(begun);
            if pause.is_zero() {
                book.mark_unchanged();
                if let Some(table) = &table {
                    let book = self.leader.book.borrow();
                    *self.on_demand.borrow_mut() = book.on_demand(&self.wanted.borrow(), table, now());
                }
                pause = self.begin_due(|name| jobs.push(self.work_at(name)), jobs.len());
                next_look = Instant::now() + (begun.elapsed() * REST).min(LONGEST_REST);
            }
            tokio::select! {
                Some(name) = jobs.next() => {
                    self.busy.borrow_mut().remove(&name);
                }
                Ok(()) = status.changed() => {}
                Ok(()) = book.changed() => {}
                Ok(()) = state.changed() => {}
                () = sleep(pause) => {}
            }
        }
        self.over.set(Some(Instant::now()));
        let _ = timeout(LAST_WORDS, async { while jobs.next().await.is_some() {} }).await;
    }

    /// Begins what is due. Returns how long nothing else is.
    fn begin_due(&self, mut begin: impl FnMut(Box<str>), running: usize) -> Duration {
        let room = MOST_JOBS.saturating_sub(running);
        if room == 0 {
            // The end of a job wakes us. Ten thousand names are not looked at until then.
            return LONGEST;
        }
        let (book, mut busy) = (self.leader.book.borrow(), self.busy.borrow_mut());
        let (wanted, on_demand) = (Rc::clone(&self.wanted.borrow()), self.on_demand.borrow());
        let candidates = Candidates { book: &book, wanted: &wanted, on_demand: &on_demand, busy: &busy };
        let (due, next) = candidates.due((now(), self.hold.get()), (room, MOST_OPEN));
        for name in due {
            busy.insert(name.clone());
            begin(name);
        }
        next.map_or(LONGEST, |next| next.min(LONGEST))
    }

    /// Works at one name until that has to wait. Returns the name.
    async fn work_at(&self, name: Box<str>) -> Box<str> {
        let (revocation, order) = {
            let book = self.leader.book.borrow();
            let revocation = book.revocations.get(&name).filter(|revocation| revocation.is_due(now())).cloned();
            (revocation, book.orders.get(&name).cloned())
        };
        let is_wanted = self.wanted.borrow().contains_key(&name);
        match (revocation, order.or_else(|| is_wanted.then(|| CertOrder::wished(now())))) {
            (Some(revocation), _) => Box::pin(self.revoke(&name, revocation)).await,
            (None, Some(order)) if self.is_forgotten(&name, &order) => self.forget(&name).await,
            (None, Some(order)) => self.drive(&name, order).await,
            // Only a handshake wanted it, and it is gone.
            (None, None) => {}
        }
        name
    }

    /// Takes the steps of one name's order until it has to wait.
    async fn drive(&self, name: &str, mut order: CertOrder) {
        let mut before = order.challenge().cloned();
        if let Ok(terms) = self.terms() {
            order.leave_other(&terms.directory);
        }
        let mut action = Some(order.next(now()));
        while let Some(to_do) = action.take() {
            if self.over.get().is_some() || !self.is_wanted(name) {
                break;
            }
            let event = Box::pin(self.perform(name, to_do)).await;
            self.count(&event);
            self.tell(name, &order, &event);
            (order, action) = order.step(event, now(), fastrand::f64());
            (order.term, order.version) = (self.term, order.version.saturating_add(1));
            if !self.save(&order_key(self.leader.folder, name), &order).await {
                sleep(LEFT_ALONE).await;
                break;
            }
            self.leader.book.send_modify(|book| book.note(name, order.clone()));
            let after = order.challenge().cloned();
            if let Some(challenge) = before.filter(|before| after.as_ref() != Some(before)) {
                self.clean_up(name, &challenge).await;
            }
            before = after;
        }
    }

    /// Removes the TXT record of a challenge, if it has one.
    pub(super) async fn clean_up(&self, name: &str, challenge: &Challenge) {
        if challenge.kind == ChallengeKind::Dns
            && let Err(trouble) = hook::change(&self.leader.settings, Turn::CleanUp, name, &challenge.answer).await
        {
            warn!("certificate for {name}: the TXT record may be left: {}", trouble.said);
        }
    }

    /// Takes one step.
    async fn perform(&self, name: &str, action: OrderAction) -> OrderEvent {
        match self.attempt(name, action).await {
            Ok(event) => event,
            Err(trouble) => {
                if let Some(wait) = trouble.wait {
                    self.hold.set(self.hold.get().max(now().saturating_add(wait.min(LONGEST_HOLD))));
                }
                OrderEvent::Failed(trouble)
            }
        }
    }

    /// Forgets an account that its authority does not know, unless another job has done so.
    async fn forget_account(&self, of: &Rc<Authority>) {
        let mut known = self.authority.lock().await;
        if known.as_ref().is_some_and(|known| Rc::ptr_eq(known, of)) {
            *known = None;
            of.forget(self.leader.store, self.leader.folder).await;
        }
    }

    async fn attempt(&self, name: &str, action: OrderAction) -> Result<OrderEvent, Trouble> {
        if matches!(action, OrderAction::Open { .. }) {
            self.check_allowed(name).await?;
            self.check(name).await?;
        }
        let authority = self.authority().await?;
        let done = self.ask(&authority, name, action).await;
        if done.as_ref().is_err_and(is_account_gone) {
            self.forget_account(&authority).await;
        }
        done
    }

    async fn ask(&self, authority: &Authority, name: &str, action: OrderAction) -> Result<OrderEvent, Trouble> {
        Ok(match action {
            OrderAction::Open { replaces } => {
                let replaces = replaces.filter(|_| self.is_issued_by(authority, name));
                let url = again(|| authority.order(name, replaces.as_deref())).await?;
                OrderEvent::Opened { url, directory: authority.directory().to_owned() }
            }
            OrderAction::Consult { .. } if !self.is_issued_by(authority, name) => {
                OrderEvent::Consulted { window: None, again: i64::MAX }
            }
            OrderAction::Consult { id } => {
                let asked = authority.consult(&id).await.unwrap_or_else(|trouble| {
                    // Nothing is wrong with the certificate (RFC 9773 §4.3.3).
                    debug!("certificate for {name}: when to renew it is not known: {}", trouble.said);
                    None
                });
                let (window, again) = asked.map_or((None, CONSULT), |(window, again)| (Some(window), again));
                OrderEvent::Consulted { window, again: now().saturating_add(again) }
            }
            OrderAction::Look { url, keyed } => {
                let kind = self.kind(name)?;
                OrderEvent::Seen(again(|| authority.look(&url, keyed, kind)).await?)
            }
            OrderAction::Tell { url, challenge } => {
                match challenge.kind {
                    ChallengeKind::Dns => {
                        hook::change(&self.leader.settings, Turn::Present, name, &challenge.answer).await?;
                    }
                    ChallengeKind::Http | ChallengeKind::Tls => {
                        if let Some(late) = self.everywhere(&challenge.token).await {
                            warn!(
                                "certificate for {name}: the authority is told although not every balancer answers it: {late}"
                            );
                        }
                    }
                }
                again(|| authority.tell(&url, challenge.kind)).await?;
                OrderEvent::Told
            }
            OrderAction::Finalize { url, key } => {
                again(|| authority.finalize(&url, name, &key)).await?;
                OrderEvent::Finalized
            }
            OrderAction::Fetch { url, key } => {
                let new = again(|| authority.fetch(&url, name, &key)).await?;
                self.write(&cert_key(self.leader.folder, name), &new).await?;
                OrderEvent::Kept { facts: new.facts, window: new.window }
            }
        })
    }

    /// Whether the certificate of a name is of this authority, and not of one that the keys named before.
    fn is_issued_by(&self, authority: &Authority, name: &str) -> bool {
        let book = self.leader.book.borrow();
        let issued = book.orders.get(name).and_then(|order| order.issued.as_ref());
        issued.is_some_and(|issued| authority.is_at(&issued.directory))
    }

    fn terms(&self) -> Result<AcmeTerms, Trouble> {
        match &self.leader.status.borrow().table {
            Some(table) => Ok(table.config().acme.clone()),
            None => Err(Trouble::passing("the store was not read yet")),
        }
    }

    /// How the authority is shown that a name is ours.
    fn kind(&self, name: &str) -> Result<ChallengeKind, Trouble> {
        let chosen = self.wanted.borrow().get(name).copied();
        chosen.map_or_else(|| Ok(self.terms()?.challenge), Ok)
    }

    /// Whether a name leads to the balancers, if the keys want that checked.
    async fn check(&self, name: &str) -> Result<(), Trouble> {
        let is_asked_there = self.kind(name)? == ChallengeKind::Http;
        let Some(port) = self.terms()?.check.filter(|_| is_asked_there) else { return Ok(()) };
        let probe = self.probe.get_or_try_init(|| self.make_probe()).await?;
        let lookup = {
            let mut lookup = self.leader.lookup.borrow_mut();
            lookup.refresh();
            lookup.clone()
        };
        leads_here(&lookup, (name, port), probe).await
    }

    /// An answer of this term that balancers give, written for them.
    async fn make_probe(&self) -> Result<Probe, Trouble> {
        let token = format!("pointsman-{:032x}", fastrand::u128(..));
        let probe = Probe { term: self.term, answer: format!("{token}.{:032x}", fastrand::u128(..)), token };
        let text = serde_json::to_vec(&probe).map_err(|error| Trouble::passing(error.to_string()))?;
        let is_later = |old: &[u8]| serde_json::from_slice::<Probe>(old).is_ok_and(|old| old.term > self.term);
        let written = self.put(&probe_key(self.leader.folder), &text, is_later).await;
        match written.map_err(|error| Trouble::passing(format!("the store cannot be written: {error}")))? {
            false => Err(Trouble::passing("another balancer asks for certificates now")),
            true => {
                self.leader.book.send_modify(|book| book.probe = Some(probe.clone()));
                // A balancer that is late may be the one that the name leads to: then it is checked again.
                self.everywhere(&probe.token).await;
                Ok(probe)
            }
        }
    }

    /// The authority on the terms of the keys, with our account.
    pub(super) async fn authority(&self) -> Result<Rc<Authority>, Trouble> {
        let terms = self.terms()?;
        let mut known = self.authority.lock().await;
        match &*known {
            Some(authority) if authority.is_of(&terms) => Ok(Rc::clone(authority)),
            _ => {
                let (store, folder) = (self.leader.store, self.leader.folder);
                let ca = self.leader.settings.ca.as_deref();
                let opened = Rc::new(again(|| Authority::open(store, folder, &terms, ca)).await?);
                // Another authority has other limits.
                self.hold.set(0);
                *known = Some(Rc::clone(&opened));
                Ok(opened)
            }
        }
    }

    /// Waits until every balancer of the prefix answers this, for some time. Returns those that do not.
    async fn everywhere(&self, token: &str) -> Option<String> {
        let start = Instant::now();
        loop {
            let late = match fleet::members(self.leader.store, self.leader.prefix).await {
                Ok(members) => {
                    let serving = members.iter().filter(|member| member.stage == Stage::Serving);
                    let late: Vec<_> = serving
                        .filter(|member| !member.lists_answer(token))
                        .map(|member| member.name.clone())
                        .collect();
                    if late.is_empty() && !members.is_empty() {
                        return None;
                    }
                    late.join(", ")
                }
                Err(error) => error.to_string(),
            };
            if start.elapsed() >= EVERYWHERE {
                return Some(late);
            }
            sleep(ASK_FLEET).await;
        }
    }

    /// Writes an order. `false`: another leader has written it since; this one leads no more.
    pub(super) async fn save(&self, key: &str, order: &CertOrder) -> bool {
        let Ok(text) = serde_json::to_vec(order) else { return false };
        let is_later = |old: &[u8]| {
            serde_json::from_slice::<CertOrder>(old)
                .is_ok_and(|old| (old.term, old.version) > (order.term, order.version))
        };
        let mut is_told = false;
        loop {
            let error = match self.put(key, &text, is_later).await {
                Ok(is_written) => return is_written,
                Err(error) => error,
            };
            if !std::mem::replace(&mut is_told, true) {
                warn!("{key}: the order cannot be written, and no further step is taken until it can: {error}");
            }
            if self.over.get().is_some_and(|since| since.elapsed() >= LAST_WORDS) {
                return false;
            }
            sleep(RETRY).await;
        }
    }

    /// Sets a certificate, unless there is a later one: another leader may have fetched it.
    async fn write(&self, key: &str, new: &NewCert) -> Result<(), Trouble> {
        let is_later = |old: &[u8]| {
            let old = std::str::from_utf8(old).ok().and_then(|old| Cert::parse(old).ok());
            old.is_some_and(|old| old.not_before > new.facts.from && old.not_after > new.facts.until)
        };
        let written = self.put(key, new.pem.as_bytes(), is_later).await;
        written.map(drop).map_err(|error| Trouble::passing(format!("the store does not take the certificate: {error}")))
    }

    /// Sets a key whether it exists or not; `false`: what is there is to be kept. A new one is for the owner's eyes only.
    async fn put(&self, key: &str, value: &[u8], keep: impl Fn(&[u8]) -> bool) -> Result<bool, StoreError> {
        let store = self.leader.store;
        loop {
            let kept = Cell::new(false);
            let amended = store.amend(key, |old| {
                kept.set(keep(old));
                (!kept.get()).then(|| value.to_vec())
            });
            match amended.await {
                Ok(Amended::At(_) | Amended::Same) => return Ok(!kept.get()),
                Err(StoreError::NoSuchKey { .. }) => {
                    if store.create(key, value).await? {
                        return Ok(true);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Counts how a step ended, if it ended an order or a try.
    fn count(&self, event: &OrderEvent) {
        let outcome = match event {
            OrderEvent::Kept { .. } => 0,
            OrderEvent::Failed(Trouble { kind: TroubleKind::Refusal, .. }) => 1,
            OrderEvent::Failed(Trouble { kind: TroubleKind::Passing, .. }) => 2,
            OrderEvent::Failed(Trouble { kind: TroubleKind::Elsewhere, .. }) => 3,
            OrderEvent::Failed(Trouble { kind: TroubleKind::Unwanted, .. })
            | OrderEvent::Opened { .. }
            | OrderEvent::Consulted { .. }
            | OrderEvent::Seen(_)
            | OrderEvent::Told
            | OrderEvent::Finalized => return,
        };
        self.leader.around.send_modify(|around| around.acme.outcomes[outcome] += 1);
    }

    /// Logs what an operator looks for.
    fn tell(&self, name: &str, order: &CertOrder, event: &OrderEvent) {
        match event {
            OrderEvent::Kept { facts, .. } => {
                let until = crate::control::expiry::utc(facts.until);
                info!("certificate for {name} issued by {}, until {until}", facts.issuer);
            }
            OrderEvent::Failed(trouble) if trouble.kind == TroubleKind::Unwanted => {
                info!("certificate for {name}: not renewed: {}", trouble.said);
            }
            OrderEvent::Failed(trouble) => {
                let is_news = order.failure.as_ref().is_none_or(|last| last.said != trouble.said);
                if is_news {
                    warn!("certificate for {name}: {}", trouble.said);
                }
            }
            OrderEvent::Opened { .. } => info!("certificate for {name}: ordered"),
            OrderEvent::Consulted { .. } | OrderEvent::Seen(_) | OrderEvent::Told | OrderEvent::Finalized => {}
        }
    }
}
