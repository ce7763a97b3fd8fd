//! Waits until every live balancer has reached the goal, or lists those that have not. Changes nothing.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::member::folder;
use super::roll::{Roll, Verdict, Wish};
use pointsman_store::{Condition, Store, StoreError, StoreSettings};

/// The result of the wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All balancers have reached it; their number.
    All(usize),
    /// There are no balancers.
    Nobody,
    /// The time is over and these have not, one line each.
    Late(Vec<String>),
    /// These disappeared without signing off: dead, or cut off from the store and serving old keys.
    Lost(Vec<String>),
    /// The store could not be followed in that time.
    Unknown(String),
}

/// A wait for the balancers of a prefix.
pub struct Call {
    store: Store,
    roll: Roll,
}

impl Call {
    /// For the balancers that follow the settings' prefix.
    ///
    /// # Errors
    /// The store's settings are invalid, or it cannot be reached.
    pub async fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let settled = Store::open(settings)?.settle(settings).await?;
        let store = Store::open(&StoreSettings { prefix: folder(&settings.prefix), ..settled })?;
        Ok(Self { store, roll: Roll::default() })
    }

    /// Waits for at most `patience`.
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
            () = self.store.follow(sender, condition) => Outcome::Unknown("following the store ended".to_owned()),
        }
    }
}

/// The result when the time is over.
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
