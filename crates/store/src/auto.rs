//! Detects which etcd API holds the prefix, and checks again while the one in use is empty. Reads no keys.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::chosen::Chosen;
use crate::error::StoreError;
use crate::etcd2::{Etcd2, Holding};
use crate::etcd3::Etcd3;
use crate::model::{Api, Condition, StoreSettings, Update};

/// How often the other API is checked while the one in use holds nothing.
const LOOK: Duration = Duration::from_secs(1);
/// While v2 is in use, v3 is checked at every 15th of these, to warn a user who writes to v3.
const LOOKS_BESIDE: u32 = 15;

/// etcd with an automatic choice of API: v3 if the server has it, unless only v2 holds the prefix.
pub struct Auto {
    v2: Etcd2,
    v3: Etcd3,
    /// The followed API, if any. Edits go there too.
    followed: Mutex<Option<Choice>>,
}

/// One of the two APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    V2,
    V3,
}

impl Auto {
    /// Takes the settings. Opens no connection.
    pub fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        Ok(Self { v2: Etcd2::new(settings)?, v3: Etcd3::new(settings)?, followed: Mutex::new(None) })
    }

    /// Follows the chosen API; switches when only the other one holds the prefix.
    pub async fn follow(&self, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) {
        let mut before = None;
        let Some(mut choice) = self.first_choice(&updates, &condition).await else {
            return;
        };
        loop {
            announce(choice, before);
            *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = Some(choice);
            tokio::select! {
                () = self.follow_one(choice, updates.clone(), condition.clone()) => return,
                other = self.better_than(choice) => (before, choice) = (Some(choice), other),
            }
        }
    }

    /// The API for edits.
    pub(crate) async fn choose(&self) -> Result<Chosen<'_>, StoreError> {
        let followed = *self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let choice = match followed {
            Some(choice) => choice,
            None => self.decide().await?,
        };
        Ok(match choice {
            Choice::V2 => Chosen::Etcd2(&self.v2),
            Choice::V3 => Chosen::Etcd3(&self.v3),
        })
    }

    /// The followed API, if any.
    pub(crate) fn followed(&self) -> Option<Api> {
        let followed = *self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.map(|choice| match choice {
            Choice::V2 => Api::V2,
            Choice::V3 => Api::V3,
        })
    }

    async fn follow_one(&self, choice: Choice, updates: mpsc::Sender<Update>, condition: watch::Sender<Condition>) {
        match choice {
            Choice::V2 => Box::pin(self.v2.follow(updates, condition)).await,
            Choice::V3 => Box::pin(self.v3.follow(updates, condition)).await,
        }
    }

    /// Retries until a server answers or the receiver is dropped.
    async fn first_choice(
        &self,
        updates: &mpsc::Sender<Update>,
        condition: &watch::Sender<Condition>,
    ) -> Option<Choice> {
        let mut rng = fastrand::Rng::new();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut told = None;
        loop {
            let error = match self.decide().await {
                Ok(choice) => return Some(choice),
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

    async fn decide(&self) -> Result<Choice, StoreError> {
        let (v3, v2) = tokio::join!(self.v3.probe(), self.v2.probe());
        match (v3, v2) {
            (Ok(v3), Ok(Holding::Directory)) if !v3.holds_prefix => Ok(Choice::V2),
            (Ok(_), _) => Ok(Choice::V3),
            (Err(StoreError::NotSupported { .. }), Ok(Holding::Directory | Holding::Absent)) => Ok(Choice::V2),
            (Err(StoreError::Refused { .. }), Ok(Holding::Directory)) => Ok(Choice::V2),
            (Err(error), _) => Err(error),
        }
    }

    /// Returns once the API in use holds nothing and the other one holds the prefix.
    async fn better_than(&self, choice: Choice) -> Choice {
        let (mut looks, mut told) = (0_u32, false);
        loop {
            sleep(LOOK).await;
            looks = looks.wrapping_add(1);
            match choice {
                Choice::V3 if self.only_v2_holds().await => return Choice::V2,
                Choice::V2 if self.v2.is_empty() && self.v3_holds().await => return Choice::V3,
                Choice::V2 if !told && looks % LOOKS_BESIDE == 0 && !self.v2.is_empty() && self.v3_holds().await => {
                    warn_of_both();
                    told = true;
                }
                Choice::V2 | Choice::V3 => {}
            }
        }
    }

    async fn v3_holds(&self) -> bool {
        self.v3.probe().await.is_ok_and(|probe| probe.holds_prefix)
    }

    async fn only_v2_holds(&self) -> bool {
        let v3_is_empty = self.v3.probe().await.is_ok_and(|probe| !probe.holds_prefix);
        v3_is_empty && self.v2.probe().await.is_ok_and(|holding| holding == Holding::Directory)
    }
}

/// A few keys in v3 must not hide a whole tree in v2 while it is being served. v3 has priority at the next start.
fn warn_of_both() {
    warn!(
        "both APIs of etcd hold keys below the prefix. Pointsman follows v2 now, but the next start and all edits use v3: \
         set --etcd-api to 2 or 3"
    );
}

fn announce(choice: Choice, before: Option<Choice>) {
    let why = if before.is_some() { "now only this API holds the prefix" } else { "chosen" };
    match choice {
        Choice::V2 => info!("etcd API v2: {why}"),
        Choice::V3 => info!("etcd API v3: {why}"),
    }
}
