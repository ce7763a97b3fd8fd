//! Requests to the daemon, each with a deadline. Keeps no state.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{Stream, StreamExt};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::event;
use super::roster::{Inspection, Job, RosterEvent, has_labels};
use crate::agent::container::Container;
use crate::agent::moment;
use crate::settings::DockerHost;
use pointsman_store::error::chain;

/// More than any daemon remembers; we stop reading if a daemon sends more.
const MOST_REMEMBERED: usize = 10_000;

/// A client of a daemon; bollard opens a connection per request.
#[derive(Clone)]
pub(super) struct Client {
    docker: Docker,
    deadline: Duration,
}

/// The answering daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) id: String,
    pub(super) node: String,
    /// Its clock, in nanoseconds since 1970.
    pub(super) now: Option<i64>,
}

/// The daemon's event stream.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<EventMessage, Error>> + Send>>;

impl Client {
    /// Connects to the daemon and agrees on an API version.
    pub(super) async fn connect(host: &DockerHost, deadline: Duration) -> Result<Self, String> {
        let seconds = deadline.as_secs().max(1);
        let docker = match host {
            DockerHost::Unix(path) => Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION),
            DockerHost::Tcp(address) => Docker::connect_with_http(address, seconds, API_DEFAULT_VERSION),
        };
        let docker = docker.map_err(|error| chain(&error))?;
        let docker = within(deadline, docker.negotiate_version()).await.map_err(|failure| failure.why)?;
        Ok(Self { docker, deadline })
    }

    /// The daemon's identity.
    pub(super) async fn daemon(&self) -> Result<Daemon, String> {
        let info = within(self.deadline, self.docker.info()).await.map_err(|failure| failure.why)?;
        Ok(Daemon {
            // A daemon without an id counts as the same one as long as its address stays the same.
            id: info.id.unwrap_or_default(),
            node: info.name.unwrap_or_default(),
            now: info.system_time.as_deref().and_then(moment::parse),
        })
    }

    /// The events between two times, as far back as the daemon remembers: 256 events of all kinds.
    pub(super) async fn history(&self, since: i64, until: i64) -> Result<Vec<EventMessage>, String> {
        let options = EventsOptionsBuilder::new().filters(&event::filters());
        let options = options.since(&seconds(since)).until(&seconds(until)).build();
        let mut events = Box::pin(self.docker.events(Some(options)).take(MOST_REMEMBERED));
        let all = async {
            let mut found = Vec::new();
            while let Some(message) = events.next().await {
                found.push(message?);
            }
            Ok(found)
        };
        within(self.deadline, all).await.map_err(|failure| failure.why)
    }

    /// All events from `since` on; without it, from now on.
    pub(super) fn events(&self, since: Option<i64>) -> Events {
        let options = EventsOptionsBuilder::new().filters(&event::filters());
        let options = match since {
            Some(at) => options.since(&seconds(at)),
            None => options,
        };
        Box::pin(self.docker.events(Some(options.build())))
    }

    /// Ends when the daemon no longer answers, and returns the reason.
    pub(super) async fn heartbeat(self, every: Duration) -> String {
        loop {
            sleep(every).await;
            if let Err(failure) = within(self.deadline, self.docker.ping()).await {
                return failure.why;
            }
        }
    }

    /// Runs one job. A failed inspection of one container is not an error; a failed list is.
    pub(super) async fn run(self, job: Job) -> Result<RosterEvent, String> {
        match job {
            Job::List => self.list().await,
            Job::Inspect(id) => Ok(self.inspect(id).await),
        }
    }

    async fn list(&self) -> Result<RosterEvent, String> {
        let answer = within(self.deadline, self.docker.list_containers(None)).await.map_err(|failure| failure.why)?;
        let (mut ours, mut strangers) = (Vec::new(), BTreeSet::new());
        for summary in answer {
            let Some(id) = summary.id.filter(|id| !id.is_empty()) else { continue };
            match has_labels(summary.labels.unwrap_or_default().keys()) {
                true => ours.push(id),
                false => drop(strangers.insert(id)),
            }
        }
        Ok(RosterEvent::Listed { ours, strangers })
    }

    async fn inspect(&self, id: String) -> RosterEvent {
        let answer = match within(self.deadline, self.docker.inspect_container(&id, None)).await {
            Ok(answer) => Inspection::Is(Box::new(Container::from_inspect(answer))),
            Err(failure) if failure.gone => Inspection::Gone,
            Err(failure) => {
                warn!(container = %id, "cannot inspect a container: {}", failure.why);
                Inspection::Failed
            }
        };
        RosterEvent::Inspected(id, answer)
    }
}

/// A time in seconds, as the daemon expects it.
fn seconds(at: i64) -> String {
    format!("{}.{:09}", at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000))
}

/// A failed request.
struct Failure {
    why: String,
    /// The container does not exist.
    gone: bool,
}

async fn within<T>(deadline: Duration, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    match timeout(deadline, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let gone = matches!(error, Error::DockerResponseServerError { status_code: 404, .. });
            Err(Failure { why: chain(&error), gone })
        }
        Err(_) => Err(Failure { why: format!("no answer within {deadline:?}"), gone: false }),
    }
}
