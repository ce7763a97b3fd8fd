//! Waits until every live balancer has reached the goal, or lists those that have not. Changes nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_table::{LOOKED_UP, shown, without_revision};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::member::folder;
use super::roll::{Balancers, Goal, Verdict};
use pointsman_store::{Condition, Store, StoreError, StoreSettings};

/// The result of the wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitOutcome {
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
pub struct FleetWait {
    store: Store,
    balancers: Balancers,
}

impl FleetWait {
    /// For the balancers that follow the settings' prefix.
    ///
    /// # Errors
    /// The store's settings are invalid, or it cannot be reached.
    pub async fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let settled = Store::open(settings)?.settle(settings).await?;
        let store = Store::open(&StoreSettings { prefix: folder(&settings.prefix), ..settled })?;
        Ok(Self { store, balancers: Balancers::default() })
    }

    /// The problems that balancers report with these full keys, and how many report each.
    pub fn problems_with(&self, keys: &[String]) -> BTreeMap<Cow<'_, str>, usize> {
        let mut problems = BTreeMap::new();
        let lines = self.balancers.members().flat_map(|member| &member.problem_lines);
        for line in lines.filter(|line| keys.iter().any(|key| is_about(line, key))) {
            *problems.entry(without_revision(line)).or_default() += 1;
        }
        problems
    }

    /// What guards hold of these full keys, which were removed with everything below them, and how many balancers report each.
    pub fn holds(&self, removed: &[String]) -> BTreeMap<Cow<'_, str>, usize> {
        let mut holds = BTreeMap::new();
        for member in self.balancers.members().filter(|member| member.held.is_some()) {
            for line in member.problem_lines.iter().filter(|line| removed.iter().any(|key| holds_back(line, key))) {
                *holds.entry(without_revision(line)).or_default() += 1;
            }
        }
        holds
    }

    /// Waits for at most `patience`.
    pub async fn wait(&mut self, goal: &Goal, patience: Duration) -> WaitOutcome {
        let (sender, mut updates) = mpsc::channel(16);
        let (condition, state) = watch::channel(Condition::Connecting { error: None });
        let deadline = Instant::now() + patience;
        let balancers = &mut self.balancers;
        let waiting = async {
            loop {
                match timeout_at(deadline, updates.recv()).await {
                    Ok(Some(update)) => balancers.take(update, goal),
                    Ok(None) | Err(_) => return over(balancers, goal, &state.borrow()),
                }
                if !balancers.is_over(goal) {
                    continue;
                }
                match balancers.verdict(goal) {
                    Verdict::All(count) => return WaitOutcome::All(count),
                    Verdict::Lost(names) => return WaitOutcome::Lost(names),
                    Verdict::Not(late) if late.is_empty() => return WaitOutcome::Nobody,
                    Verdict::Not(_) => {}
                }
            }
        };
        tokio::select! {
            outcome = waiting => outcome,
            () = self.store.follow(sender, condition) => WaitOutcome::Unknown("following the store ended".to_owned()),
        }
    }
}

/// Whether a problem's line is about this key. A name that is still being looked up is not a problem yet.
fn is_about(line: &str, key: &str) -> bool {
    let rest = line.strip_prefix(&*shown(key).to_string());
    rest.is_some_and(|rest| rest.starts_with(" = ") || rest.starts_with(": ")) && !line.contains(LOOKED_UP)
}

/// Whether this line is the guard's, about what `key` was a part of, or about a part of it.
fn holds_back(line: &str, key: &str) -> bool {
    let (place, key) = (line.split(": ").next().unwrap_or(line), shown(key).to_string());
    let is_in = |one: &str, other: &str| {
        let one = one.trim_end_matches('/');
        other.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    line.contains("`pointsman guard release`") && (is_in(place, &key) || is_in(&key, place))
}

/// The result when the time is over.
fn over(balancers: &Balancers, goal: &Goal, condition: &Condition) -> WaitOutcome {
    match (condition, balancers.verdict(goal)) {
        (Condition::Lost { error } | Condition::Connecting { error: Some(error) }, _) => {
            WaitOutcome::Unknown(error.to_string())
        }
        (_, _) if !balancers.is_called() => WaitOutcome::Unknown("the store does not answer".to_owned()),
        (_, Verdict::All(count)) => WaitOutcome::All(count),
        (_, Verdict::Lost(names)) => WaitOutcome::Lost(names),
        (_, Verdict::Not(late)) if late.is_empty() => WaitOutcome::Nobody,
        (_, Verdict::Not(late)) => WaitOutcome::Late(late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_about_what_was_removed() {
        let rest = "were taken away at once; until `pointsman guard release` lets the change in";
        for (place, key, is_held) in [
            ("/p", "/p/services/shop/web-1", true),
            ("/", "/services/shop", true),
            ("/p/services/shop", "/p/services/shop/web-1", true),
            ("/p/services/shop", "/p/services", true),
            ("/p/services/shop", "/p/services/shopping/web-1", false),
            ("/p/services/shop", "/p/services/other", false),
        ] {
            assert_eq!(holds_back(&format!("{place}: 5 of 8 instances, more than 50%, {rest}"), key), is_held, "{key}");
        }
        assert!(!holds_back("/p/services/shop: there is no rule", "/p/services/shop/domain"));
    }
}
