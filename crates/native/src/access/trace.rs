//! The trace of one request: whether it is sampled, and the attempts of one that is. Sends nothing.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pointsman_wire::{RequestHead, Trust};

use super::parent::{TraceParent, trace_state};
use crate::fault::Fault;
use crate::net::peer::Peer;
use crate::pool::dials::Dials;
use crate::pool::view::InstanceLive;

/// The most attempts that are kept of one request.
const MOST_ATTEMPTS: usize = 32;

/// What becomes of a request's trace.
#[derive(Debug)]
pub(crate) enum Course {
    /// It goes on as the client says; nothing of it is recorded.
    Passed(Option<TraceParent>),
    /// It goes on as an untrusted client says, without its flag that it is recorded: nothing of it is, and nobody behind us is to
    /// record whatever anybody asks for.
    Cleared(TraceParent),
    /// It begins here, and nothing of it is recorded.
    Made(TraceParent),
    /// It is recorded.
    Sampled(Box<Trace>),
}

impl Course {
    /// What those behind us are told instead of what the client said; `None`: that.
    pub(crate) fn told(&self) -> Option<TraceParent> {
        match self {
            Self::Passed(_) => None,
            Self::Cleared(own) | Self::Made(own) => Some(*own),
            Self::Sampled(trace) => Some(trace.own),
        }
    }

    /// The id of the trace; 0: there is none.
    pub(super) fn id(&self) -> u128 {
        match self {
            Self::Passed(parent) => parent.map_or(0, |parent| parent.trace),
            Self::Cleared(own) | Self::Made(own) => own.trace,
            Self::Sampled(trace) => trace.own.trace,
        }
    }
}

/// The trace of a request that is recorded.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The trace, and the span of the request.
    pub(crate) own: TraceParent,
    /// The span of the client; 0: none.
    pub(super) above: u64,
    pub(super) state: Arc<str>,
    began: Instant,
    /// When that was, nanoseconds since 1970.
    at: u64,
    /// The path that instances are sent; `None`: it goes to no instance.
    pub(crate) sent: Option<Box<str>>,
    pub(super) attempts: RefCell<Vec<Attempt>>,
    pub(crate) dials: Dials,
}

/// One attempt at an instance.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) span: u64,
    pub(super) instance: Rc<InstanceLive>,
    pub(super) began: Instant,
    pub(super) ended: Option<Instant>,
    /// The status of its answer.
    pub(super) status: Option<u16>,
    pub(super) fault: Option<Fault>,
}

#[expect(clippy::disallowed_methods, reason = "only of requests that are recorded")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Decides what becomes of a request's trace. `share`: of requests whose caller has not decided. `draw`: 0 to 1. As with
/// OpenTelemetry's `parentbased_traceidratio`, a caller decides for those below it; here, if it is trusted at all.
pub(super) fn course(
    (head, peer): (&RequestHead<'_, '_>, &Peer),
    began: Option<Instant>,
    share: f64,
    draw: impl FnOnce() -> f64,
) -> Course {
    let parent = TraceParent::of(head);
    let decided = parent.filter(|_| peer.trust != Trust::Nothing).map(|parent| parent.sampled);
    let sampled = decided.unwrap_or_else(|| draw() < share);
    match parent {
        Some(parent) if sampled => {
            let own = TraceParent { span: fastrand::u64(1..), sampled, ..parent };
            Course::Sampled(Box::new(Trace::new((own, parent.span), trace_state(head), began)))
        }
        Some(parent) if parent.sampled => Course::Cleared(TraceParent { sampled, ..parent }),
        Some(parent) => Course::Passed(Some(parent)),
        None => {
            let own = TraceParent { trace: fastrand::u128(1..), span: fastrand::u64(1..), sampled };
            match sampled {
                true => Course::Sampled(Box::new(Trace::new((own, 0), String::new(), began))),
                false => Course::Made(own),
            }
        }
    }
}

impl Trace {
    fn new((own, above): (TraceParent, u64), state: String, began: Option<Instant>) -> Self {
        let now = now();
        let began = began.unwrap_or(now);
        #[expect(clippy::disallowed_methods, reason = "the date of a span")]
        let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from((date - now.saturating_duration_since(began)).as_nanos()).unwrap_or(0);
        let (attempts, dials) = (RefCell::default(), Dials::default());
        Self { own, above, state: state.into(), began, at, sent: None, attempts, dials }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// A moment, nanoseconds since 1970.
    pub(super) fn date(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.began).as_nanos();
        self.at.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// Begins an attempt, unless no instance took it; returns the id of its span.
    pub(crate) fn attempt(&self, instance: Option<&Rc<InstanceLive>>) -> Option<u64> {
        let mut began = now();
        for dial in self.dials.take() {
            match dial.fault {
                None => began = dial.began,
                fault => self.add(Attempt {
                    span: fastrand::u64(1..),
                    instance: dial.instance,
                    began: dial.began,
                    ended: Some(dial.ended),
                    status: None,
                    fault,
                }),
            }
        }
        let (span, instance) = (fastrand::u64(1..), Rc::clone(instance?));
        self.add(Attempt { span, instance, began, ended: None, status: None, fault: None });
        Some(span)
    }

    fn add(&self, attempt: Attempt) {
        let mut attempts = self.attempts.borrow_mut();
        if attempts.len() < MOST_ATTEMPTS {
            attempts.push(attempt);
        }
    }

    /// The answer to the last attempt has come.
    pub(super) fn answered(&self, status: u16) {
        if let Some(last) = self.attempts.borrow_mut().last_mut() {
            last.status = Some(status);
        }
    }

    /// The last attempt ended.
    pub(super) fn ended(&self, fault: Option<Fault>) {
        if let Some(last) = self.attempts.borrow_mut().last_mut().filter(|last| last.ended.is_none()) {
            (last.ended, last.fault) = (Some(now()), fault);
        }
    }
}
