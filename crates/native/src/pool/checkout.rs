//! Checks out an instance with a connection to it, for one request or one TCP connection. Picks, waits for room, reuses
//! or connects, and goes to another instance when one does not take the connection. May be dropped at any moment: the place in the queue and the slot go to the next request.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pointsman_engine::live::{Needs, Reason, RetryReason};
use pointsman_table::Protocol;

use super::announced::{Announced, ForClient, OpenFor};
use super::connect::{Unconnected, connect};
use super::dials::{DialNote, Dials};
use super::judge::{approach, ejections, failed, succeeded};
use super::link::Link;
use super::pick::{Picked, Tried, pick};
use super::queue::{Look, Turns, at_once, in_turn};
use super::view::{Connected, Home, InstanceLive, Reached, ServiceLive, Way};
use crate::fault::{Fault, Repeat, Side};
use crate::net::deadline::{Deadline, TICK};
use crate::net::stream::Stream;
use crate::net::watch::Guard;

/// How many instances a request may try, if its service does not say.
pub(crate) const TRIES: u32 = 4;
/// A request that must not be repeated only reuses a connection that was idle for less, milliseconds: one idle for
/// longer may be closing right now, and nobody could tell whether the request was lost with it.
const FRESH: u64 = 500;
/// The same for a request that may be repeated: no limit but the pool's own.
const ANY_AGE: u64 = u64::MAX;
/// How long a request waits for other workers to close idle connections to an instance at its `maxconn`. They do so at
/// once; the limit is for one that is stuck.
const GIVE_UP: Duration = Duration::from_secs(1);
/// How often another worker may take the slot, between the pick and our attempt to take it, before all count as full.
const LOST: usize = 4;

/// An instance that works for us, with the connection to it. Dropping it updates the instance's counters.
#[derive(Debug)]
pub(crate) struct Checkout {
    /// Declared before `hold`: the connection is closed before another request can have the instance's slot.
    pub(crate) link: Link,
    hold: Hold,
    /// The way that the connection took.
    way: Rc<Way>,
    /// The connection has answered a request before: it may turn out to be closed.
    pub(crate) reused: bool,
    /// How many requests the instance had answered at checkout.
    answers: u32,
    /// How often it had been ejected for its answers, if the service has `eject`.
    pub(crate) ejections: u16,
    /// It is logged in for this client.
    pub(crate) private: bool,
    /// What the connection was set up with besides the keys.
    opened_for: Option<Rc<OpenFor>>,
}

/// An instance counted as at work.
#[derive(Debug)]
pub(crate) struct Hold {
    /// The form of the service from which the instance was picked.
    live: Rc<ServiceLive>,
    instance: Rc<InstanceLive>,
    index: usize,
    /// Its `maxconn`, if it has one: a slot of it is taken.
    limit: Option<NonZeroU32>,
}

impl Hold {
    /// Counts an instance as at work. `None`: it has no slot left.
    fn take(live: &Rc<ServiceLive>, index: usize) -> Option<Self> {
        let (instance, limit) = (&live.instances[index], live.service.instances[index].max_connections);
        if limit.is_some_and(|limit| !instance.shared.slots.take(limit)) {
            return None;
        }
        instance.begin();
        if live.service.bounded.is_some() {
            live.turns().open();
        }
        Some(Self { live: Rc::clone(live), instance: Rc::clone(instance), index, limit })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.instance.end();
        if self.live.service.bounded.is_some() {
            self.live.turns().close();
        }
        if self.limit.is_some() {
            self.instance.shared.slots.give();
            self.live.room().call();
        }
    }
}

impl Checkout {
    fn new(hold: Hold, (link, way): Connected, reused: bool, opened_for: Option<Rc<OpenFor>>) -> Self {
        let (answers, ejections) = (hold.instance.answers.get(), ejections(&hold.live, &hold.instance));
        Self { hold, link, way, reused, answers, ejections, private: false, opened_for }
    }

    /// Whether it began with a PROXY header, which names one client.
    pub(crate) fn is_announced(&self) -> bool {
        self.way.pool.via.proxied.is_some()
    }

    /// Ends the work and keeps a connection that began with a PROXY header for the same client. An instance with a
    /// `maxconn` may serve one connection at a time: another client would wait for this one.
    pub(crate) fn keep_announced(self, own: &Announced, now: u64) {
        let Self { link: Link::Http1(stream), way, hold, opened_for, .. } = self else { return };
        if let (Some(opened_for), None) = (opened_for, hold.limit) {
            own.keep(&hold.instance, (stream, way), opened_for, now);
        }
    }

    /// The connection and the instance.
    pub(crate) fn parts(&mut self) -> (&mut Link, Reached<'_>) {
        (&mut self.link, Reached { live: &self.hold.instance, way: &self.way })
    }

    /// The form of the service that it is of.
    pub(crate) fn live(&self) -> &Rc<ServiceLive> {
        &self.hold.live
    }

    /// The instance.
    pub(crate) fn instance(&self) -> &Rc<InstanceLive> {
        &self.hold.instance
    }

    /// Ends the work and keeps the connection for the next request. One that is shared is kept in any case.
    pub(crate) fn keep(self, home: &Home, now: u64) {
        let Self { link: Link::Http1(stream), way, hold, .. } = self else { return };
        if hold.limit.is_none() && hold.instance.limited.get() {
            // It got a `maxconn` meanwhile, and this connection has no place in it.
            return;
        }
        let limited = hold.limit.map(|_| (&hold.instance.shared.slots, home.id));
        home.pools.keep(&way.pool, stream, now, limited);
    }

    /// Counts a failure of the instance, if the fault shows that it did not answer. It shows nothing if other requests
    /// were answered meanwhile, as the instance may only have a slow endpoint; nor if a reused connection closed before
    /// a byte, as the instance may have closed it while it was idle. `silent`: no byte came.
    pub(crate) fn unanswered(&self, fault: Fault, silent: bool, now: u64) {
        let judged = match fault {
            Fault::NoAnswer => !(self.reused && silent),
            Fault::RequestTimeout => silent,
            fault => matches!(fault, Fault::ServerTimeout | Fault::BadResponse(_) | Fault::InstanceTls),
        };
        if judged && self.answers == self.hold.instance.answers.get() {
            failed(&self.hold.live, &self.hold.instance, fault, Reason::Unanswered, now);
        }
        if let (Link::Http2(call), Fault::ServerTimeout) = (&self.link, fault) {
            // Nobody else closes a connection whose other end is gone without a word.
            call.retire_connection();
        }
    }
}

/// What a checkout needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want<'g> {
    /// The key for hashing balances.
    pub(crate) key: Option<u64>,
    /// The number of the instance that its client sticks to: it takes work for it even while it drains.
    pub(crate) stuck_to: Option<u32>,
    /// Which connections may be reused.
    pub(crate) reuse: Reuse,
    /// What a connection is set up with besides the keys; `None`: nothing, as usual.
    pub(crate) for_client: Option<&'g ForClient<'g>>,
    /// How many instances may have been tried when it gives up.
    pub(crate) tries: u32,
    /// Watches the client: one that half-closed goes behind the others in the queue.
    pub(crate) guard: &'g Guard<'g>,
    /// Where new connections are noted; `None`: nowhere, as usual.
    pub(crate) dials: Option<&'g Dials>,
}

impl Want<'_> {
    /// What its connection is opened for.
    fn opened_for(&self) -> Option<Rc<OpenFor>> {
        self.for_client.map(|client| Rc::clone(&client.open_for))
    }
}

/// Which idle connections may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// None: TCP services, and requests that are sent again.
    Never,
    /// Only one that was idle for a moment, at most `FRESH`: requests that must not be repeated.
    Fresh,
    /// Any.
    Any,
}

/// Checks out an instance of the service.
///
/// # Errors
/// [`Fault::NoInstance`], [`Fault::Full`], or the fault of the last instance tried.
pub(crate) async fn checkout(
    home: &Home,
    live: &Rc<ServiceLive>,
    want: Want<'_>,
    tried: &mut Tried,
    deadline: &Deadline,
) -> Result<Checkout, Fault> {
    match checkout_at_once(home, live, want, tried, deadline.now()) {
        Ok(checkout) => Ok(checkout),
        // Boxed, as few requests wait or need a new connection: otherwise every one would hold the memory for it.
        Err(held) => Box::pin(search(home, live, want, tried, deadline, held)).await,
    }
}

/// Checks out an instance that needs no wait: one with a pooled connection. Else the instance whose turn it is, if any, for
/// [`search`].
pub(crate) fn checkout_at_once(
    home: &Home,
    live: &Rc<ServiceLive>,
    want: Want<'_>,
    tried: &mut Tried,
    now: u64,
) -> Result<Checkout, Option<Hold>> {
    if tried.count() >= want.tries {
        return Err(None);
    }
    let held = at_once(live, || look(home, live, want, *tried, now)).flatten().ok_or(None)?;
    let checkout = pooled(home, held, want, now).map_err(Some)?;
    tried.returning = true;
    Ok(checkout)
}

/// Goes from instance to instance until one takes the connection. `held`: the first of them, without a pooled connection.
///
/// # Errors
/// As [`checkout`].
pub(crate) async fn search(
    home: &Home,
    live: &Rc<ServiceLive>,
    want: Want<'_>,
    tried: &mut Tried,
    deadline: &Deadline,
    mut held: Option<Hold>,
) -> Result<Checkout, Fault> {
    let mut last = Fault::NoInstance;
    let mut refused = None;
    while tried.count() < want.tries {
        let hold = match held.take() {
            Some(first) => Err(first),
            None => {
                tried.spent.queued = u16::try_from(live.room().queued()).unwrap_or(u16::MAX);
                tried.spent.is_connecting = false;
                let since = moment();
                let held = hold(home, live, want, *tried, deadline).await;
                tried.spent.queue += millis_since(since);
                match held? {
                    Some(hold) => pooled(home, hold, want, deadline.now()),
                    None => break,
                }
            }
        };
        if let Some(refused) = refused.take() {
            tried.spent.redispatches = tried.spent.redispatches.saturating_add(1);
            redispatched(refused);
        }
        tried.returning = true;
        let hold = match hold {
            Ok(checkout) => return Ok(checkout),
            Err(hold) => hold,
        };
        tried.spent.is_connecting = true;
        let since = moment();
        let connected = new_connection(home, hold, want, deadline).await;
        tried.spent.connect += millis_since(since);
        if let Some(dials) = want.dials {
            let (instance, fault) = match &connected {
                Ok(checkout) => (checkout.instance(), None),
                Err((fault, instance)) => (instance, Some(*fault)),
            };
            dials.add(DialNote { instance: Rc::clone(instance), began: since, ended: moment(), fault });
        }
        match connected {
            Ok(checkout) => return Ok(checkout),
            Err((fault, instance)) if fault.facts().repeat == Repeat::Elsewhere => {
                tried.add(instance.id);
                (last, refused) = (fault, Some(instance));
            }
            Err((fault, _)) => return Err(fault),
        }
    }
    Err(last)
}

#[expect(clippy::disallowed_methods, reason = "requests that wait or connect are few")]
fn moment() -> Instant {
    Instant::now()
}

fn millis_since(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX)
}

/// Counts a redispatch: an instance did not take the connection, so the request goes to another.
#[cold]
fn redispatched(from: Rc<InstanceLive>) {
    from.counters().retried(RetryReason::Connect);
}

/// Opens a connection to a held instance. On failure: the fault and the instance.
async fn new_connection(
    home: &Home,
    hold: Hold,
    want: Want<'_>,
    deadline: &Deadline,
) -> Result<Checkout, (Fault, Rc<InstanceLive>)> {
    make_place(home, &hold, deadline).await;
    let open_for = want.for_client.map(|client| &*client.open_for);
    let connected = match connect(home, &hold.live, hold.index, open_for, deadline).await {
        // Idle connections hold descriptors that this request needs more.
        Err(Unconnected { fault: Fault::Exhausted, .. }) => {
            if home.free_descriptors() == 0 {
                // Those of other workers are closed by then.
                tokio::time::sleep(2 * TICK).await;
            }
            connect(home, &hold.live, hold.index, open_for, deadline).await
        }
        connected => connected,
    };
    match connected {
        Ok(connected) => {
            // With HTTP, an answer is expected as well.
            if hold.live.service.protocol == Protocol::Tcp {
                succeeded(&hold.live, &hold.instance, deadline.now());
            }
            Ok(Checkout::new(hold, connected, false, want.opened_for()))
        }
        Err(Unconnected { fault, is_anothers }) => {
            if !is_anothers {
                connect_failed(&hold, fault, deadline.now());
            }
            Err((fault, Rc::clone(&hold.instance)))
        }
    }
}

/// Takes an idle connection to a held instance: a pooled one, the client's own, or a place on a shared one. Gives the hold
/// back if there is none.
fn pooled(home: &Home, hold: Hold, want: Want<'_>, now: u64) -> Result<Checkout, Hold> {
    approach(&hold.live, &hold.instance, now);
    let limit = match want.reuse {
        Reuse::Never => return Err(hold),
        Reuse::Fresh => FRESH,
        Reuse::Any => ANY_AGE,
    };
    let pooled = match want.for_client {
        None => hold.instance.take_idle(home, now, limit, None),
        Some(client) => idle_for(home, &hold, client, now, limit),
    };
    // One that is shared is known to be open, and to take requests.
    match pooled.or_else(|| hold.instance.share()) {
        Some(pooled) => Ok(Checkout::new(hold, pooled, true, want.opened_for())),
        None => Err(hold),
    }
}

/// An idle connection that was opened for the same.
#[cold]
fn idle_for(home: &Home, hold: &Hold, client: &ForClient<'_>, now: u64, limit: u64) -> Option<Connected> {
    let ForClient { open_for, own } = client;
    let pooled = hold.instance.take_idle(home, now, limit, open_for.host.as_deref());
    pooled.or_else(|| {
        let (stream, way) = own.as_ref()?.take(&hold.instance, open_for, now, limit)?;
        Some((Link::Http1(stream), way))
    })
}

/// Has idle connections closed, of this worker or others, if with the new one they would exceed the `maxconn`: an
/// instance that serves one connection at a time would never get to the new one.
async fn make_place(home: &Home, hold: &Hold, deadline: &Deadline) {
    let (Some(limit), slots) = (hold.limit, &hold.instance.shared.slots) else { return };
    if slots.is_over(limit) {
        home.pools.give_up(slots, limit);
        let fit = slots.fit(limit, |worker| home.registry.asked(worker).ask(slots, limit));
        // In time or not, the connection is tried.
        let _ = deadline.within(GIVE_UP, fit).await;
    }
}

/// Records that an instance did not take a connection.
fn connect_failed(hold: &Hold, fault: Fault, now: u64) {
    hold.instance.counters().connect_failures.add(1);
    if fault.facts().side == Side::Instance {
        failed(&hold.live, &hold.instance, fault, Reason::Connect, now);
    }
}

/// Picks an instance and counts it as at work, after waiting while all are at their `maxconn`. `None`: there is none.
async fn hold(
    home: &Home,
    live: &Rc<ServiceLive>,
    want: Want<'_>,
    tried: Tried,
    deadline: &Deadline,
) -> Result<Option<Hold>, Fault> {
    let is_particular = tried.count() > 0 || want.stuck_to.is_some();
    let needs = if is_particular { Needs::Some } else { Needs::Any };
    let turns = Turns { live, guard: want.guard, tried, needs };
    in_turn(&turns, deadline, || look(home, live, want, tried, deadline.now())).await
}

/// Picks among the instances of the newest table, or else of the request's own table.
fn look(home: &Home, live: &Rc<ServiceLive>, want: Want<'_>, tried: Tried, now: u64) -> Look<Hold> {
    let key = want.key;
    if let Some(id) = want.stuck_to {
        match look_at(live, id, tried, now) {
            Look::None => {}
            found => return found,
        }
    }
    if let Some(newest) = live.newest() {
        match look_among(home, &newest, key, tried, now) {
            Look::None => {}
            found => return found,
        }
    }
    look_among(home, live, key, tried, now)
}

/// The instance that a client sticks to, unless it is gone, down, full while it is half-open, or tried already.
#[cold]
fn look_at(live: &Rc<ServiceLive>, id: u32, tried: Tried, now: u64) -> Look<Hold> {
    let newest = live.newest();
    let live = newest.as_ref().unwrap_or(live);
    match live.place(id) {
        Some(index) if !tried.has(id) && live.instances[index].shared.health.down_until() <= now => {
            match Hold::take(live, index) {
                Some(hold) => Look::One(hold),
                None if live.instances[index].shared.health.is_sound() => Look::Full,
                None => Look::None,
            }
        }
        Some(_) | None => Look::None,
    }
}

fn look_among(home: &Home, live: &Rc<ServiceLive>, key: Option<u64>, tried: Tried, now: u64) -> Look<Hold> {
    for _ in 0..LOST {
        match home.with_rng(|rng| pick(live, key, tried, now, rng)) {
            Picked::None => return Look::None,
            Picked::Full => return Look::Full,
            Picked::One(index) => {
                if let Some(hold) = Hold::take(live, index) {
                    return Look::One(hold);
                }
            }
        }
    }
    Look::Full
}

/// A connection that is logged in for one client and serves no other. Idle: its instance does not count as at work.
#[derive(Debug)]
pub(crate) struct Private {
    instance: Rc<InstanceLive>,
    stream: Stream,
    way: Rc<Way>,
    opened_for: Option<Rc<OpenFor>>,
}

impl Checkout {
    /// Ends the work and keeps the connection for the next request of the same client. One that is shared belongs to
    /// nobody, and gets no more requests.
    pub(crate) fn keep_private(self) -> Option<Private> {
        let Self { hold, link, way, opened_for, .. } = self;
        match link {
            Link::Http1(stream) => Some(Private { instance: Rc::clone(&hold.instance), stream, way, opened_for }),
            Link::Http2(call) => {
                call.retire_connection();
                None
            }
        }
    }
}

impl Private {
    /// Its instance's index in a service. `None`: it is not of this service, or takes no new work.
    pub(crate) fn index(&self, live: &ServiceLive) -> Option<usize> {
        let index = live.instances.iter().position(|instance| Rc::ptr_eq(instance, &self.instance))?;
        (live.service.instances[index].takes_work() && self.way.is_current()).then_some(index)
    }

    /// Whether it is still open, and was opened for the same.
    pub(crate) fn serves(&self, client: Option<&ForClient<'_>>) -> bool {
        self.opened_for.as_ref() == client.map(|client| &client.open_for) && self.stream.is_quiet()
    }

    /// Checks its instance out again, after waiting while that is at its `maxconn`.
    ///
    /// # Errors
    /// [`Fault::Full`].
    pub(crate) async fn checkout(
        self,
        live: &Rc<ServiceLive>,
        index: usize,
        guard: &Guard<'_>,
        deadline: &Deadline,
    ) -> Result<Checkout, Fault> {
        let turns = Turns { live, guard, tried: Tried::default(), needs: Needs::Some };
        let look = || Hold::take(live, index).map_or(Look::Full, Look::One);
        // It looks for this instance alone, so there is one.
        let hold = in_turn(&turns, deadline, look).await?.ok_or(Fault::NoInstance)?;
        let connected = (Link::Http1(self.stream), self.way);
        Ok(Checkout { private: true, ..Checkout::new(hold, connected, true, self.opened_for) })
    }
}
