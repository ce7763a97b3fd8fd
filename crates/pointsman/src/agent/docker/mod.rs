//! Follows the Docker daemon of this machine. Reports its containers; does not decide what to do about them.
//!
//! | module | owns |
//! |---|---|
//! | `roster` | the known containers and the next request: pure |
//! | `event` | interprets the daemon's events: pure |
//! | `client` | requests and answers |

mod client;
mod event;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod roster;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tracing::{info, warn};

use self::client::{Client, Daemon, Events};
use self::roster::{Roster, RosterEvent};
use super::container::Container;
use crate::settings::DockerHost;
use pointsman_store::backoff::{Backoff, jitter};
use pointsman_store::error::chain;
use pointsman_store::{Condition, Outage};

/// The daemon's address, and the timing of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerSettings {
    /// The daemon's address.
    pub host: DockerHost,
    /// The deadline for an answer (default 10 s).
    pub deadline: Duration,
    /// How often to ping the daemon, because its event stream is silent while nothing happens (default 3 s).
    pub ping: Duration,
    /// How often to list everything again, whatever the events said (default 3 min, jittered).
    pub audit: Duration,
}

impl DockerSettings {
    /// The defaults for a daemon.
    pub fn new(host: DockerHost) -> Self {
        Self { host, deadline: Duration::from_secs(10), ping: Duration::from_secs(3), audit: Duration::from_secs(180) }
    }
}

/// The known state of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Containers {
    /// Its id, which stays the same as long as it keeps its data; empty before the first complete view.
    pub daemon: String,
    /// Its machine's name.
    pub node: String,
    /// Its running or paused containers with labels of ours, by id. While the daemon is unreachable, these are the last
    /// known ones: containers go on without it.
    pub containers: BTreeMap<String, Container>,
    /// The state of the connection. While [`Condition::Connecting`], `containers` is not valid yet.
    pub condition: Condition,
}

impl Default for Containers {
    fn default() -> Self {
        Self {
            daemon: String::new(),
            node: String::new(),
            containers: BTreeMap::new(),
            condition: Condition::Connecting { error: None },
        }
    }
}

/// How far back a starting agent looks for stop signals, in nanoseconds: the longest time that a container may take to
/// stop and still be recognised as stopping.
const STOPS_WITHIN: i64 = 600_000_000_000;

/// The receivers were dropped.
struct ReceiverDropped;

/// The reason that a connection ended.
enum End {
    ReceiverDropped,
    Lost(String),
}

/// Follows the daemon through any outage, until the receivers are dropped. The first view with containers is complete.
pub async fn follow(settings: DockerSettings, out: watch::Sender<Containers>) {
    let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let follower = Follower {
        settings,
        out,
        backoff,
        rng: fastrand::Rng::new(),
        daemon: String::new(),
        roster: Roster::default(),
        since: None,
        said: None,
    };
    let Err(ReceiverDropped) = follower.run().await;
}

struct Follower {
    settings: DockerSettings,
    out: watch::Sender<Containers>,
    backoff: Backoff,
    rng: fastrand::Rng,
    /// The daemon that the roster belongs to.
    daemon: String,
    roster: Roster,
    /// The time of the last known event.
    since: Option<i64>,
    /// The last logged reason why it is unreachable.
    said: Option<String>,
}

impl Follower {
    async fn run(mut self) -> Result<std::convert::Infallible, ReceiverDropped> {
        loop {
            match Box::pin(self.connection()).await {
                End::ReceiverDropped => return Err(ReceiverDropped),
                End::Lost(why) => self.lose(why),
            }
            let pause = self.backoff.next(&mut self.rng);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.out.closed() => return Err(ReceiverDropped),
            }
        }
    }

    fn lose(&mut self, why: String) {
        if self.said.as_ref() != Some(&why) {
            let holds = match self.out.borrow().condition {
                Condition::Connecting { .. } => "waiting for it",
                Condition::Watching { .. } | Condition::Lost { .. } => "keeping what was last seen",
            };
            warn!("Docker at {} is out of reach, {holds}: {why}", self.settings.host);
        }
        let outage = Outage::new("unreachable", &why);
        self.out.send_if_modified(|view| {
            let condition = match &view.condition {
                Condition::Connecting { .. } => Condition::Connecting { error: Some(outage) },
                Condition::Watching { .. } | Condition::Lost { .. } => Condition::Lost { error: outage },
            };
            std::mem::replace(&mut view.condition, condition.clone()) != condition
        });
        self.said = Some(why);
    }

    /// One connection, from start to end.
    async fn connection(&mut self) -> End {
        let out = self.out.clone();
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = out.closed() => return End::ReceiverDropped,
        };
        match opened {
            Ok((client, daemon, events)) => self.watch(client, &daemon, events).await,
            Err(why) => End::Lost(why),
        }
    }

    async fn open(&mut self) -> Result<(Client, Daemon, Events), String> {
        let client = Client::connect(&self.settings.host, self.settings.deadline).await?;
        let daemon = client.daemon().await?;
        if daemon.id != self.daemon {
            (self.roster, self.since) = (Roster::default(), None);
            self.daemon.clone_from(&daemon.id);
        }
        self.roster.step(RosterEvent::Connected);
        self.catch_up(&client, &daemon).await;
        // Subscribe to events from a time before the list, so that none is missed in between: the daemon does not tell
        // when its event stream starts. Repeated events do no harm.
        self.since = daemon.now;
        let events = client.events(self.since);
        Ok((client, daemon, events))
    }

    /// Reads the events missed while disconnected or before the start, because the list does not tell which containers
    /// were asked to stop. Otherwise a stopping container would get work again until it has ended.
    async fn catch_up(&mut self, client: &Client, daemon: &Daemon) {
        let Some(now) = daemon.now else { return };
        let since = self.since.unwrap_or(now.saturating_sub(STOPS_WITHIN));
        match client.history(since, now).await {
            Ok(past) => {
                past.into_iter().filter_map(event::read).for_each(|past| self.roster.step(RosterEvent::Happened(past)))
            }
            Err(why) => warn!("cannot read Docker's past events: {why}"),
        }
    }

    async fn watch(&mut self, client: Client, daemon: &Daemon, mut events: Events) -> End {
        let mut jobs = JoinSet::new();
        let mut heartbeat = std::pin::pin!(client.clone().heartbeat(self.settings.ping));
        let mut tick = pulse(self.settings.ping);
        let mut audit = pulse(jitter(self.settings.audit, 0.8..1.2, &mut self.rng));
        loop {
            while let Some(job) = self.roster.next_job() {
                jobs.spawn(client.clone().run(job));
            }
            self.tell(daemon);
            let event = tokio::select! {
                message = events.next() => match message {
                    Some(Ok(message)) => {
                        self.since = self.since.max(message.time_nano);
                        event::read(message).map(RosterEvent::Happened)
                    }
                    Some(Err(error)) => return End::Lost(chain(&error)),
                    None => return End::Lost("it closed the event stream".to_owned()),
                },
                Some(done) = jobs.join_next() => match done {
                    Ok(Ok(event)) => Some(event),
                    Ok(Err(why)) => return End::Lost(why),
                    Err(error) => return End::Lost(error.to_string()),
                },
                why = &mut heartbeat => return End::Lost(why),
                _ = tick.tick() => Some(RosterEvent::Tick),
                _ = audit.tick() => Some(RosterEvent::Audit),
                () = self.out.closed() => return End::ReceiverDropped,
            };
            event.into_iter().for_each(|event| self.roster.step(event));
        }
    }

    /// Publishes changes.
    fn tell(&mut self, daemon: &Daemon) {
        let watching = matches!(self.out.borrow().condition, Condition::Watching { .. });
        let Some(containers) = self.roster.changes() else { return };
        if !watching {
            let have = match containers.len() {
                1 => "1 container has".to_owned(),
                count => format!("{count} containers have"),
            };
            info!("following Docker at {}: {have} our labels", self.settings.host);
            self.backoff.reset();
            self.said = None;
        }
        let condition = Condition::Watching { via: format!("Docker at {}", self.settings.host) };
        let view = Containers { daemon: daemon.id.clone(), node: daemon.node.clone(), containers, condition };
        self.out.send_if_modified(|now| std::mem::replace(now, view.clone()) != view);
    }
}

/// Ticks at this interval, the first time after one interval; does not make up for missed ticks.
fn pulse(every: Duration) -> tokio::time::Interval {
    let mut interval = interval_at(Instant::now() + every, every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
