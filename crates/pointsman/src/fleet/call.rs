//! Waits until every live balancer is as far as is wished, or says who is not. Changes nothing.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::member::folder;
use super::roll::{Roll, Verdict, Wish};
use pointsman_store::{Condition, Store, StoreError, StoreSettings};

/// How waiting ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every one of so many.
    All(usize),
    /// Nobody is there to be waited for.
    Nobody,
    /// These are not, a line each, after all the time there was.
    Late(Vec<String>),
    /// These vanished without a word: dead, or cut off from the store and serving old keys.
    Lost(Vec<String>),
    /// The store could not be followed in that time.
    Unknown(String),
}

/// A roll call of the balancers of a prefix, begun.
pub struct Call {
    store: Store,
    roll: Roll,
}

impl Call {
    /// Of the balancers that read the settings' prefix.
    ///
    /// # Errors
    /// The store's settings are of no use, or it cannot be reached.
    pub async fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let settled = Store::open(settings)?.settle(settings).await?;
        let store = Store::open(&StoreSettings { prefix: folder(&settings.prefix), ..settled })?;
        Ok(Self { store, roll: Roll::default() })
    }

    /// Waits for so long at most.
    pub async fn wait(&mut self, wish: &Wish, patience: Duration) -> Outcome {
        let (sender, mut updates) = mpsc::channel(16);
        let (condition, state) = watch::channel(Condition::Connecting { error: None });
        let deadline = Instant::now() + patience;
        let roll = &mut self.roll;
        let waiting = async {
            loop {
                match timeout_at(deadline, updates.recv()).await {
                    Ok(Some(update)) => roll.take(update, wish),
                    Ok(None) | Err(_) => return over(roll, wish, &state.borrow()),
                }
                if !roll.is_over(wish) {
                    continue;
                }
                match roll.verdict(wish) {
                    Verdict::All(count) => return Outcome::All(count),
                    Verdict::Lost(names) => return Outcome::Lost(names),
                    Verdict::Not(late) if late.is_empty() => return Outcome::Nobody,
                    Verdict::Not(_) => {}
                }
            }
        };
        tokio::select! {
            outcome = waiting => outcome,
            () = self.store.follow(sender, condition) => Outcome::Unknown("the store is not followed".to_owned()),
        }
    }
}

/// What is to be said when the time is over.
fn over(roll: &Roll, wish: &Wish, condition: &Condition) -> Outcome {
    match (condition, roll.verdict(wish)) {
        (Condition::Lost { error } | Condition::Connecting { error: Some(error) }, _) => {
            Outcome::Unknown(error.clone())
        }
        (_, _) if !roll.is_called() => Outcome::Unknown("the store does not answer".to_owned()),
        (_, Verdict::All(count)) => Outcome::All(count),
        (_, Verdict::Lost(names)) => Outcome::Lost(names),
        (_, Verdict::Not(late)) if late.is_empty() => Outcome::Nobody,
        (_, Verdict::Not(late)) => Outcome::Late(late),
    }
}
