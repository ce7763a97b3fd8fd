//! Chooses between etcd's two APIs: the one that was chosen before, or the first that holds keys below the prefix. A
//! choice stays while the process runs; `choice` remembers it for others. Reads no keys.
//!
//! ```text
//! decide ─remembered, or v3 holds keys──────────────> Made ─> follow it, look whether the other holds keys too
//!   └─neither is known to─> Open: follow both ─first key─┘
//! ```

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{debug, info};

use crate::backoff::Backoff;
use crate::choice::{Both, Choice};
use crate::chosen::Chosen;
use crate::error::StoreError;
use crate::etcd2::{Etcd2, Holding};
use crate::etcd3::{Etcd3, Probe};
use crate::model::{Api, ClusterId, Condition, StoreSettings, Update};
use crate::side::{Side, as_reset, has_keys};

/// How often to look whether the other API holds keys.
const LOOK: Duration = Duration::from_secs(1);
/// If the answer rarely changes, or costs a whole list (v2), the next look waits this many times as long.
const SELDOM: u32 = 15;

/// etcd with an automatic choice of API.
pub struct Auto {
    both: Box<Both>,
    /// The choice that was passed to this process.
    told: Option<Choice>,
    /// The followed API, if any. Edits go there too.
    followed: Mutex<Option<Choice>>,
    /// The choice, once it is made.
    made: watch::Sender<Option<Api>>,
    /// The other API, while it holds keys that are not served.
    ignored: watch::Sender<Option<Api>>,
}

/// The state of the choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Made(Choice),
    /// Neither API is known to hold keys. Edits go to this one.
    Open(Choice),
}

/// The content of the API that is not followed.
enum Beside {
    Nothing,
    Keys,
    /// The server does not have that API, or does not let us see.
    Unseen,
}

impl Auto {
    /// Takes the settings. Opens no connection.
    pub fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        // Both are of one cluster.
        let (mut v2, v3) = (Etcd2::new(settings)?, Etcd3::new(settings)?);
        v2.cluster = v3.cluster.clone();
        Ok(Self {
            both: Box::new(Both::new(v2, v3, &settings.prefix)),
            told: None,
            followed: Mutex::new(None),
            made: watch::Sender::new(None),
            ignored: watch::Sender::new(None),
        })
    }

    /// The same, with an earlier choice. A choice recorded in the store takes precedence.
    pub(crate) fn remembering(self, api: Option<Api>) -> Self {
        Self { told: api.and_then(Choice::of), ..self }
    }

    /// Follows the chosen API, or both until one of them holds a key.
    pub async fn follow(&self, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) {
        match self.first_decision(&updates, &condition).await {
            None => {}
            Some(Decision::Made(choice)) => {
                self.make(choice);
                tokio::select! {
                    () = self.follow_one(choice, updates, condition) => {}
                    never = self.look_beside(choice) => match never {},
                }
            }
            Some(Decision::Open(preferred)) => Box::pin(self.follow_both(preferred, updates, condition)).await,
        }
    }

    /// The API for edits.
    pub(crate) async fn choose(&self) -> Result<Chosen<'_>, StoreError> {
        let choice = match self.current() {
            Some(choice) => choice,
            None => match self.decide().await? {
                Decision::Made(choice) | Decision::Open(choice) => choice,
            },
        };
        Ok(match choice {
            Choice::V2 => Chosen::Etcd2(&self.both.v2),
            Choice::V3 => Chosen::Etcd3(&self.both.v3),
        })
    }

    /// The followed API, if any.
    pub(crate) fn followed(&self) -> Option<Api> {
        self.current().map(Choice::api)
    }

    /// The choice, once it is made.
    pub(crate) fn made(&self) -> watch::Receiver<Option<Api>> {
        self.made.subscribe()
    }

    /// The other API, while it holds keys that are not served.
    pub(crate) fn ignored(&self) -> watch::Receiver<Option<Api>> {
        self.ignored.subscribe()
    }

    /// The cluster that is followed.
    pub(crate) fn cluster(&self) -> ClusterId {
        self.both.v3.cluster.clone()
    }

    /// As [`Auto::ignored`], but without a follower.
    pub(crate) async fn ignored_now(&self) -> Result<Option<Api>, StoreError> {
        let (Decision::Made(choice) | Decision::Open(choice)) = self.decide().await?;
        let holds = matches!(self.beside(choice).await, Beside::Keys);
        Ok(holds.then(|| choice.other().api()))
    }

    fn current(&self) -> Option<Choice> {
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prefer(&self, choice: Choice) {
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = Some(choice);
    }

    fn make(&self, choice: Choice) {
        match choice {
            Choice::V2 => info!("etcd API v2: chosen"),
            Choice::V3 => info!("etcd API v3: chosen"),
        }
        self.prefer(choice);
        self.made.send_replace(Some(choice.api()));
    }

    async fn follow_one(&self, choice: Choice, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) {
        match choice {
            Choice::V2 => Box::pin(self.both.v2.follow(updates, condition)).await,
            Choice::V3 => Box::pin(self.both.v3.follow(updates, condition)).await,
        }
    }

    /// Retries until a server answers or the receiver is dropped.
    async fn first_decision(
        &self,
        updates: &mpsc::Sender<Update>,
        condition: &watch::Sender<Condition>,
    ) -> Option<Decision> {
        let mut rng = fastrand::Rng::new();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut told = None;
        loop {
            let error = match self.decide().await {
                Ok(decision) => return Some(decision),
                Err(error) => error,
            };
            condition.send_replace(Condition::Connecting { error: Some((&error).into()) });
            if told.as_ref() != Some(&error) {
                debug!("store: {error}; retrying");
                told = Some(error);
            }
            tokio::select! {
                () = sleep(backoff.next(&mut rng)) => {}
                () = updates.closed() => return None,
            }
        }
    }

    async fn decide(&self) -> Result<Decision, StoreError> {
        let (v3, v2) = tokio::join!(self.both.v3.probe(), self.both.v2.probe());
        let remembered = match (&v3, &v2) {
            (Ok(_), Ok(Holding::Absent | Holding::Directory)) => self.both.remembered().await?.or(self.told),
            _ => self.told,
        };
        match remembered {
            Some(choice) => kept(choice, v3, v2),
            None => by_keys(v3, v2),
        }
    }

    /// Follows both until one of them has a key, then that one for good.
    async fn follow_both(
        &self,
        mut preferred: Choice,
        updates: mpsc::Sender<Update>,
        condition: watch::Sender<Condition>,
    ) {
        info!("neither API of etcd holds keys below the prefix: the first one that does is used");
        self.prefer(preferred);
        let (mut v2, to_v2, tell_v2) = Side::new();
        let (mut v3, to_v3, tell_v3) = Side::new();
        let mut follow_v2 = Box::pin(self.both.v2.follow(to_v2, tell_v2));
        let mut follow_v3 = Box::pin(self.both.v3.follow(to_v3, tell_v3));
        let mut look = Box::pin(self.preferred(preferred));
        let mut served = false;
        let (choice, update) = loop {
            let (choice, update) = tokio::select! {
                () = &mut follow_v2 => return,
                () = &mut follow_v3 => return,
                () = updates.closed() => return,
                update = v2.next() => (Choice::V2, update),
                update = v3.next() => (Choice::V3, update),
                now = &mut look => {
                    preferred = now;
                    look = Box::pin(self.preferred(now));
                    (now, None)
                }
            };
            let side = if preferred == Choice::V2 { &v2 } else { &v3 };
            side.show(&condition);
            match update {
                Some(update) if has_keys(&update) => break (choice, update),
                // The first empty listing makes the balancer ready; later ones change nothing.
                Some(update) if choice == preferred && !served => {
                    served = true;
                    if updates.send(update).await.is_err() {
                        return;
                    }
                }
                Some(_) | None => {}
            }
        };
        self.make(choice);
        if updates.send(as_reset(update)).await.is_err() {
            return;
        }
        let relay = async {
            match choice {
                Choice::V2 => v2.relay(follow_v2, &updates, &condition).await,
                Choice::V3 => v3.relay(follow_v3, &updates, &condition).await,
            }
        };
        tokio::select! {
            () = relay => {}
            never = self.look_beside(choice) => match never {},
        }
    }

    /// Where edits go while neither API holds keys: an operator may have made the directory in v2.
    async fn preferred(&self, before: Choice) -> Choice {
        sleep(LOOK).await;
        let (Decision::Made(choice) | Decision::Open(choice)) = self.decide().await.unwrap_or(Decision::Open(before));
        self.prefer(choice);
        choice
    }

    /// Remembers the choice in the store, and tells whether the other API holds keys.
    async fn look_beside(&self, choice: Choice) -> Infallible {
        let (mut is_noted, mut looks) = (false, 0_u32);
        loop {
            let beside = self.beside(choice).await;
            let (holds, pause) = match beside {
                Beside::Nothing => (false, LOOK),
                Beside::Keys if choice == Choice::V2 => (true, LOOK),
                Beside::Keys => (true, LOOK * SELDOM),
                Beside::Unseen => (false, LOOK * SELDOM),
            };
            let ignored = holds.then(|| choice.other().api());
            self.ignored.send_if_modified(|was| std::mem::replace(was, ignored) != ignored);
            // Where there is only one API, there is nothing to remember.
            if !is_noted && !matches!(beside, Beside::Unseen) && looks % SELDOM == 0 {
                let noted = self.both.remember(choice, false).await;
                is_noted = noted.inspect_err(|error| debug!("cannot remember the choice of API: {error}")).is_ok();
            }
            looks = looks.wrapping_add(1);
            sleep(pause).await;
        }
    }

    async fn beside(&self, choice: Choice) -> Beside {
        match choice.other() {
            Choice::V3 => match self.both.v3.probe().await {
                Ok(Probe { holds_prefix: true, .. }) => Beside::Keys,
                Ok(Probe { holds_prefix: false, .. }) => Beside::Nothing,
                Err(_) => Beside::Unseen,
            },
            Choice::V2 => match self.both.v2.probe().await {
                Ok(Holding::Directory) if self.v2_has_keys().await => Beside::Keys,
                Ok(Holding::Directory | Holding::Absent) => Beside::Nothing,
                Ok(Holding::Unsupported) | Err(_) => Beside::Unseen,
            },
        }
    }

    /// Whether v2 holds keys. Empty directories do not count.
    async fn v2_has_keys(&self) -> bool {
        let listing = self.both.v2.list(self.both.v2.prefix()).await;
        listing.is_ok_and(|listing| !listing.entries.is_empty())
    }
}

type Probed = (Result<Probe, StoreError>, Result<Holding, StoreError>);

/// A choice that was made stays, even if that API holds nothing now, or is gone.
fn kept(
    choice: Choice,
    v3: Result<Probe, StoreError>,
    v2: Result<Holding, StoreError>,
) -> Result<Decision, StoreError> {
    match (choice, v3, v2) {
        (Choice::V3, v3, _) => v3.map(|_| Decision::Made(Choice::V3)),
        (Choice::V2, Ok(_), Ok(Holding::Unsupported)) => Err(StoreError::BadSettings {
            what: "the keys were in etcd's API v2, which this server no longer has; move them to v3, then set \
                   --etcd-api 3"
                .to_owned(),
        }),
        (Choice::V2, _, v2) => v2.map(|_| Decision::Made(Choice::V2)),
    }
}

fn by_keys(v3: Result<Probe, StoreError>, v2: Result<Holding, StoreError>) -> Result<Decision, StoreError> {
    let probed: Probed = (v3, v2);
    match probed {
        // A passing error, such as a leader election: the keys may be in the API that cannot answer now.
        (Err(error), _) | (_, Err(error)) if !error.is_denial() => Err(error),
        (Ok(Probe { holds_prefix: true, .. }), _) => Ok(Decision::Made(Choice::V3)),
        (Ok(_) | Err(StoreError::Refused { .. }), Ok(Holding::Directory)) => Ok(Decision::Open(Choice::V2)),
        (Ok(_), _) => Ok(Decision::Open(Choice::V3)),
        (Err(StoreError::NotSupported { .. }), Ok(Holding::Directory | Holding::Absent)) => {
            Ok(Decision::Open(Choice::V2))
        }
        (Err(error), _) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_that_cannot_answer_now_is_not_passed_over() {
        let endpoint = || "http://a:1".to_owned();
        let failed = || StoreError::Failed { endpoint: endpoint(), why: "no leader".to_owned() };
        let refused = || StoreError::Refused { endpoint: endpoint(), why: "no role".to_owned() };
        let absent = || StoreError::NotSupported { endpoint: endpoint(), api: "v2", why: String::new(), hint: "" };
        let v3 = |holds_prefix| Ok(Probe { version: "3.5.0".to_owned(), holds_prefix });
        for holds in [true, false] {
            assert_eq!(by_keys(v3(holds), Err(failed())), Err(failed()));
        }
        assert_eq!(by_keys(Err(failed()), Ok(Holding::Directory)), Err(failed()));
        assert_eq!(by_keys(Err(refused()), Err(failed())), Err(failed()));
        for denial in [refused(), absent()] {
            assert_eq!(by_keys(v3(true), Err(denial.clone())), Ok(Decision::Made(Choice::V3)));
            assert_eq!(by_keys(v3(false), Err(denial)), Ok(Decision::Open(Choice::V3)));
        }
        // An earlier choice needs no answer from the other API.
        assert_eq!(kept(Choice::V3, v3(false), Err(failed())), Ok(Decision::Made(Choice::V3)));
    }
}
