//! The operator's URL that says which names may have certificates on demand: asked once for a name, and remembered for some
//! time. Asks for no certificate.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::client::{PlainClient, plain_client};
use super::order::Trouble;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(5);
/// How long an answer holds, and how long it holds that there was none.
const KEPT: Duration = Duration::from_secs(300);
const KEPT_FAILURE: Duration = Duration::from_secs(10);
/// Most names whose answers are kept.
const MOST: usize = 1024;

/// The operator's URL, whichever it is now, and its answers.
pub(super) struct Endpoint {
    /// Who vouches for it besides the system's authorities.
    ca: Option<PathBuf>,
    client: OnceCell<PlainClient>,
    answers: RefCell<Answered>,
}

/// What a URL said of names.
#[derive(Default)]
struct Answered {
    url: Box<str>,
    /// Whether a name is allowed, and until when that holds.
    names: BTreeMap<Box<str>, (bool, Instant)>,
}

impl Answered {
    /// What this URL said of the name.
    fn get(&mut self, url: &str, name: &str, now: Instant) -> Option<bool> {
        if *self.url != *url {
            *self = Self { url: url.into(), names: BTreeMap::new() };
        }
        self.names.get(name).filter(|(_, until)| now < *until).map(|(is_allowed, _)| *is_allowed)
    }

    /// Keeps what this URL said of the name, in place of what ends first if it is too much.
    fn keep(&mut self, url: &str, name: &str, is_allowed: bool, (now, until): (Instant, Instant)) {
        if *self.url != *url {
            return;
        }
        if self.names.len() >= MOST {
            self.names.retain(|_, (_, until)| now < *until);
        }
        if self.names.len() >= MOST {
            let first = self.names.iter().min_by_key(|(_, (_, until))| *until).map(|(name, _)| name.clone());
            if let Some(name) = first {
                self.names.remove(&name);
            }
        }
        self.names.insert(name.into(), (is_allowed, until));
    }
}

/// A URL without its query, which may hold a secret.
pub(super) fn bare(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

impl Endpoint {
    pub(super) fn new(ca: Option<PathBuf>) -> Self {
        Self { ca, client: OnceCell::new(), answers: RefCell::default() }
    }

    /// Whether this URL allows a certificate for the name: it answers 200. One that does not answer does not allow it.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) async fn allows(&self, url: &str, name: &str) -> Result<bool, Trouble> {
        let known = self.answers.borrow_mut().get(url, name, Instant::now());
        if let Some(is_allowed) = known {
            return Ok(is_allowed);
        }
        let asked = self.ask(url, name).await;
        let (is_allowed, holds) = match &asked {
            Ok(status) => (*status == StatusCode::OK, KEPT),
            Err(_) => (false, KEPT_FAILURE),
        };
        let now = Instant::now();
        self.answers.borrow_mut().keep(url, name, is_allowed, (now, now + holds));
        match asked {
            Ok(_) => Ok(is_allowed),
            Err(error) => {
                let place = bare(url);
                let said =
                    format!("config/acme/on_demand: {place} was asked for {name}, and did not answer: {error:#}");
                warn!("{said}");
                Err(Trouble::passing(said))
            }
        }
    }

    async fn ask(&self, url: &str, name: &str) -> anyhow::Result<StatusCode> {
        let sign = if url.contains('?') { '&' } else { '?' };
        let request = Request::get(format!("{url}{sign}domain={name}")).body(Empty::<Bytes>::new())?;
        let client = match self.client.get() {
            Some(client) => client,
            None => {
                let made = plain_client(self.ca.as_deref())?;
                self.client.get_or_init(|| made)
            }
        };
        let answer = timeout(WITHIN, client.request(request)).await;
        Ok(answer.map_err(|_| anyhow::anyhow!("not within {} s", WITHIN.as_secs()))??.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_some_time_and_few() {
        let (mut answered, now) = (Answered::default(), Instant::now());
        assert_eq!(answered.get("u", "a.test", now), None);
        answered.keep("u", "a.test", true, (now, now + KEPT));
        assert_eq!(answered.get("u", "a.test", now), Some(true));
        assert_eq!(answered.get("u", "a.test", now + KEPT), None);
        for number in 0..MOST {
            answered.keep("u", &format!("n{number}.test"), false, (now, now + 2 * KEPT));
        }
        assert_eq!(answered.names.len(), MOST);
        assert_eq!(answered.get("u", "a.test", now), None, "it ended first");
        assert_eq!(answered.get("u", "n0.test", now), Some(false));
        assert_eq!(answered.get("other", "n0.test", now), None, "another URL says for itself");
        answered.keep("u", "n0.test", true, (now, now + KEPT));
        assert_eq!(answered.get("other", "n0.test", now), None);
    }
}
