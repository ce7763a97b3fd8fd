//! The old program's side: hands over to a new one that asks, or starts that one, and then tells what it counts until it
//! has drained. Serves on if anything fails before the new one serves.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pointsman_engine::Phase;
use pointsman_engine::inherited::{GivenSocket, Inherited, LendRequest, ListenerRole};
use pointsman_engine::tickets::TicketSecrets;
use pointsman_store::{Api, ClusterId};
use pointsman_table::KeySet;
use rustix::fs::fstat;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::frames::{FrameStream, MOST_DESCRIPTORS};
use super::messages::{
    Claimant, FORMAT, GiverWord, HaproxyBefore, Offered, SocketNote, TakeoverAsk, TakerWord, encoded,
};
use super::spot::{ANSWER, SHORT, Spot, is_of_us, of_process, pid_of};
use super::successor::Successor;
use crate::admin::Figures;
use crate::control::{Status, epoch_millis, plural};
use crate::notify;
use crate::state::StateFile;
use crate::state::keeper::kept_now;
use crate::state::snapshot::SnapshotFile;
use crate::tenure::Heir;

/// Most connections at once.
const MOST: usize = 8;
/// How long a new program may take from the offer until it serves.
const SERVES: Duration = Duration::from_secs(60);
/// The shortest time between two messages of counts, and the share of the time that they take.
const TELL: Duration = Duration::from_secs(1);
const SHARE: u32 = 20;
/// The pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Where everything is that is handed over.
#[derive(Debug)]
pub struct GiverInputs {
    /// The prefix of the keys: a program of another one must not take over.
    pub prefix: String,
    /// The engine: its name.
    pub engine: &'static str,
    /// The table in use, and the phase.
    pub status: watch::Sender<Status>,
    /// To the engine.
    pub phase: watch::Sender<Phase>,
    /// Asks the engine for its sockets.
    pub lend: mpsc::Sender<LendRequest>,
    /// The socket of the admin pages.
    pub admin: Option<OwnedFd>,
    /// Sockets that the service manager keeps open.
    pub inherited: Inherited,
    /// The counters and the health of instances.
    pub figures: Figures,
    /// The secrets of session tickets.
    pub tickets: watch::Receiver<TicketSecrets>,
    /// The state file, which is not written but for the form.
    pub state: Option<StateFile>,
    /// etcd's API.
    pub api: watch::Receiver<Option<Api>>,
    /// The keys as served.
    pub served: watch::Receiver<Option<Arc<KeySet>>>,
    /// The cluster that they come from.
    pub cluster: ClusterId,
    /// Whether the program before this one has ended.
    pub is_last: watch::Receiver<bool>,
    /// Who has taken over.
    pub handed: watch::Sender<Option<Heir>>,
    /// Whether this program has drained.
    pub ended: watch::Receiver<bool>,
}

/// The question may take so many milliseconds to arrive.
const ON_THE_WAY: u64 = 500;

/// Hands over to new programs.
#[derive(Debug)]
pub(super) struct Giver {
    inputs: GiverInputs,
    successor: Successor,
    /// A new program is being told, or started.
    giving: Cell<bool>,
    launching: Cell<bool>,
    /// How long the program that is being started may take until it serves; zero: none is.
    within: Cell<Duration>,
    /// It took too long, and is ended: it must not take over any more.
    is_late: watch::Sender<bool>,
    /// Why the last new program failed, if it said so.
    failure: RefCell<Option<String>>,
}

impl Giver {
    /// For this program.
    pub(super) fn new(inputs: GiverInputs) -> Self {
        Self {
            inputs,
            successor: Successor::of_this_program(),
            giving: Cell::new(false),
            launching: Cell::new(false),
            within: Cell::new(Duration::ZERO),
            is_late: watch::Sender::new(false),
            failure: RefCell::new(None),
        }
    }

    /// Answers who connects, until this program has ended, and tells the last counts then.
    pub(super) async fn run(mut self, spot: Spot) {
        let admin = self.inputs.admin.take();
        let (mut ended, mut handed) = (self.inputs.ended.clone(), self.inputs.handed.subscribe());
        let admin = RefCell::new(admin);
        let mut guests = FuturesUnordered::new();
        let mut spot = Some(spot);
        loop {
            tokio::select! {
                accepted = accept(spot.as_ref()), if guests.len() < MOST => guests.push(self.attend(accepted, &admin)),
                Some(()) = guests.next() => {}
                // The successor listens in its place.
                _ = handed.wait_for(Option::is_some), if spot.is_some() => drop(spot.take()),
                _ = ended.wait_for(|ended| *ended) => break,
            }
        }
        spot.into_iter().for_each(Spot::remove);
        // Each has deadlines.
        while guests.next().await.is_some() {}
    }

    async fn attend(&self, stream: UnixStream, admin: &RefCell<Option<OwnedFd>>) {
        if !is_of_us(&stream) {
            return;
        }
        let pid = pid_of(&stream);
        let mut frames = FrameStream::new(stream);
        let Ok(Ok(Some(ask))) = timeout(ANSWER, frames.hear(SHORT)).await else { return };
        let refused = match ask {
            TakeoverAsk::Take(claimant) => self.give(&mut frames, &claimant, pid, admin).await.err(),
            TakeoverAsk::Upgrade { within, until, prefix } => match self.asked((within, until), prefix).await {
                Ok(pid) => {
                    let _ = timeout(ANSWER, frames.say(&GiverWord::Upgraded { pid })).await;
                    None
                }
                Err(why) => {
                    warn!("not upgraded; this program serves on: {why}");
                    Some(why)
                }
            },
        };
        if let Some(why) = refused {
            let _ = timeout(ANSWER, frames.say(&GiverWord::Refused { why })).await;
        }
    }

    /// Hands over. The error is for a program that was told nothing yet.
    async fn give(
        &self,
        frames: &mut FrameStream,
        claimant: &Claimant,
        pid: Option<u32>,
        admin: &RefCell<Option<OwnedFd>>,
    ) -> Result<(), String> {
        let began = Instant::now();
        self.may_take(claimant)?;
        if self.giving.replace(true) {
            return Err("another program is taking over".to_owned());
        }
        if !self.launching.get() {
            // Another one that was started by hand.
            self.is_late.send_replace(false);
        }
        let given = self.offer(frames, admin).await;
        let outcome = match given {
            Ok(count) => Ok((count, self.hear_that_it_serves(frames).await)),
            Err(why) => Err(why),
        };
        self.giving.set(false);
        let (count, served) = outcome?;
        if let Err(why) = served {
            warn!("the new program{} does not take over; this one serves on: {why}", of_process(pid));
            *self.failure.borrow_mut() = Some(why.clone());
            let _ = timeout(ANSWER, frames.say(&GiverWord::Withdrawn { why })).await;
            return Ok(());
        }
        admin.take();
        self.hand_over(Heir { pid });
        let _ = timeout(ANSWER, frames.say(&GiverWord::Released)).await;
        info!(
            "process {} (pointsman {}) took over: {} in {:.1?}; draining: finishing open requests and connections, then exiting",
            pid.map_or_else(|| "of another container".to_owned(), |pid| pid.to_string()),
            claimant.version,
            plural(count, "socket"),
            began.elapsed()
        );
        self.tell_counts(frames).await;
        Ok(())
    }

    fn may_take(&self, claimant: &Claimant) -> Result<(), String> {
        let GiverInputs { prefix, engine, status, .. } = &self.inputs;
        let Claimant { format, version, prefix: wanted, engine: other } = claimant;
        if *format != FORMAT {
            return Err(format!(
                "pointsman {version} speaks format {format} of the takeover, this one format {FORMAT}; stop this one, and start \
                 the other without --takeover"
            ));
        }
        if prefix != wanted {
            return Err(format!(
                "it serves the keys below {}, the new one would serve those below {}: give each id its own --state, or stop \
                 the old one",
                shown_prefix(prefix),
                shown_prefix(wanted)
            ));
        }
        if engine != other {
            return Err(format!(
                "it runs the {engine} engine, the new one the {other} engine: stop it, and start the new one"
            ));
        }
        let status = status.borrow();
        match (status.phase, status.served) {
            (Phase::Serve, true) => Ok(()),
            (Phase::Serve, false) => Err("it serves nothing yet".to_owned()),
            (Phase::Drain | Phase::Halt, _) => Err("it is ending".to_owned()),
        }
    }

    /// Sends everything; returns the number of sockets.
    async fn offer(&self, frames: &FrameStream, admin: &RefCell<Option<OwnedFd>>) -> Result<usize, String> {
        let sockets = self.sockets(admin).await?;
        let written = timeout(ANSWER, self.written()).await;
        let (state, keys) = written.map_err(|_| format!("its --state was not read within {ANSWER:?}"))?;
        let GiverInputs { status, figures, tickets, .. } = &self.inputs;
        let haproxy = figures.haproxy().map(|facts| HaproxyBefore { runtime: facts.runtime, open: facts.open });
        let counts = figures.carried().await;
        let offered = Offered {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: status.borrow().applied,
            sockets: sockets.iter().map(|one| SocketNote { role: one.role, stays: one.stays }).collect(),
            counts,
            health: figures.registry().map(|registry| registry.health()).unwrap_or_default(),
            tickets: encoded(&tickets.borrow()),
            haproxy,
        };
        let sending = async {
            frames.say(&GiverWord::Offer(Box::new(offered))).await?;
            frames.send(&state, &[]).await?;
            frames.send(&keys, &[]).await?;
            for batch in sockets.chunks(MOST_DESCRIPTORS) {
                let batch: Vec<BorrowedFd<'_>> = batch.iter().map(|one| one.listener.as_fd()).collect();
                frames.send(b"sockets", &batch).await?;
            }
            Ok(())
        };
        let sent: Result<std::io::Result<()>, _> = timeout(ANSWER, sending).await;
        match sent {
            Ok(Ok(())) => Ok(sockets.len()),
            Ok(Err(error)) => Err(format!("cannot hand over: {error}")),
            Err(_) => Err(format!("the new program did not take what was handed over within {ANSWER:?}")),
        }
    }

    /// Copies of all listening sockets, each once however many workers accept from it.
    async fn sockets(&self, admin: &RefCell<Option<OwnedFd>>) -> Result<Vec<GivenSocket>, String> {
        let (sender, receiver) = oneshot::channel();
        let silent = || "its engine does not answer".to_owned();
        let asked = async {
            self.inputs.lend.send(sender).await.ok()?;
            receiver.await.ok()
        };
        let lent = timeout(ANSWER, asked).await.ok().flatten().ok_or_else(silent)?;
        let cannot = |error: std::io::Error| format!("cannot copy the listening sockets: {error}");
        let mut all = self.inputs.inherited.copies().map_err(cannot)?;
        all.extend(lent.map_err(cannot)?);
        if let Some(admin) = &*admin.borrow() {
            let listener = admin.try_clone().map_err(cannot)?.into();
            all.push(GivenSocket { listener, role: Some(ListenerRole::Admin), stays: false });
        }
        let mut seen = BTreeSet::new();
        all.retain(|one| fstat(&one.listener).is_ok_and(|about| seen.insert(about.st_ino)));
        Ok(all)
    }

    /// What the state file and the snapshot would be now.
    async fn written(&self) -> (Vec<u8>, Vec<u8>) {
        let GiverInputs { status, figures, state, api, served, cluster, .. } = &self.inputs;
        let Some(file) = state.clone() else { return Default::default() };
        let (status, api, cluster) = (status.borrow().clone(), *api.borrow(), cluster.get());
        let served = served.borrow().clone();
        let down = figures.registry().map(|registry| registry.down_by_checks()).unwrap_or_default();
        let written = spawn_blocking(move || {
            let state = kept_now(&file, &status, api, down).unwrap_or_default();
            let keys = served.and_then(|keys| SnapshotFile::beside(&file).encoded(&keys, cluster).ok());
            (state, keys.unwrap_or_default())
        });
        written.await.unwrap_or_default()
    }

    /// Waits until the new program serves. The error says why it does not, or why it must not.
    async fn hear_that_it_serves(&self, frames: &mut FrameStream) -> Result<(), String> {
        let (mut phase, mut is_late) = (self.inputs.phase.subscribe(), self.is_late.subscribe());
        let within = SERVES.max(self.within.get());
        tokio::select! {
            biased;
            _ = is_late.wait_for(|is_late| *is_late) => Err("it took too long, and was ended".to_owned()),
            heard = timeout(within, frames.hear(SHORT)) => match heard {
                Ok(Ok(Some(TakerWord::Serving))) => Ok(()),
                Ok(Ok(Some(TakerWord::Failed { why }))) => Err(why),
                Ok(Ok(None)) => Err("it ended before it served; its last lines in the log say why".to_owned()),
                Ok(Err(error)) => Err(format!("it ended before it served: {error}")),
                Err(_) => Err(format!("it did not serve within {within:?}")),
            },
            _ = phase.wait_for(|phase| *phase >= Phase::Drain) => Err("this program is being stopped".to_owned()),
        }
    }

    /// From now on the new program is this balancer.
    fn hand_over(&self, heir: Heir) {
        let GiverInputs { status, phase, handed, .. } = &self.inputs;
        if let Some(pid) = heir.pid {
            notify::hand_over(pid);
        }
        handed.send_replace(Some(heir));
        status.send_modify(|status| status.phase = Phase::Drain);
        phase.send_replace(Phase::Drain);
    }

    /// Tells what was counted, every second, and once more at the end. The program before this one tells its last counts
    /// first.
    async fn tell_counts(&self, frames: &FrameStream) {
        let GiverInputs { figures, status, ended, is_last, .. } = &self.inputs;
        let (mut ended, mut is_last) = (ended.clone(), is_last.clone());
        let mut pause = TELL;
        loop {
            let is_over = tokio::select! {
                _ = ended.wait_for(|ended| *ended) => true,
                () = sleep(pause) => false,
            };
            if is_over {
                let drain = status.borrow().table.as_ref().map_or(ANSWER, |table| table.config().timeouts.drain);
                let _ = timeout(drain, is_last.wait_for(|is_last| *is_last)).await;
            }
            let began = Instant::now();
            let counts = Box::new(figures.carried().await);
            let told = timeout(ANSWER, frames.say(&GiverWord::Counts { counts })).await;
            if is_over || !matches!(told, Ok(Ok(()))) {
                return;
            }
            pause = TELL.max(began.elapsed() * SHARE);
        }
    }

    /// Upgrades, unless the asker means another balancer, or waits no longer.
    async fn asked(&self, (within, until): (u64, u64), prefix: Option<String>) -> Result<u32, String> {
        let own = &self.inputs.prefix;
        if let Some(other) = prefix.filter(|prefix| prefix != own) {
            return Err(format!(
                "it serves the keys below {}, not those below {}; leave out --id and --prefix, or name the other one's --state",
                shown_prefix(own),
                shown_prefix(&other)
            ));
        }
        let left = until.checked_sub(epoch_millis(SystemTime::now()));
        let within = match (until, left) {
            (0, _) => within,
            (_, Some(left)) if left + ON_THE_WAY >= within => within,
            (_, Some(left)) => left,
            (_, None) => return Err("who asked for the upgrade waits no longer".to_owned()),
        };
        self.upgrade(Duration::from_millis(within)).await
    }

    /// Starts the program that is at our path now, and waits until it serves. Returns its process.
    async fn upgrade(&self, within: Duration) -> Result<u32, String> {
        if self.launching.replace(true) {
            return Err("an upgrade is under way".to_owned());
        }
        self.within.set(within);
        self.is_late.send_replace(false);
        let outcome = self.launch(within).await;
        self.within.set(Duration::ZERO);
        self.launching.set(false);
        outcome
    }

    async fn launch(&self, within: Duration) -> Result<u32, String> {
        if self.inputs.status.borrow().phase != Phase::Serve {
            return Err("this program is ending".to_owned());
        }
        *self.failure.borrow_mut() = None;
        let launched = self.successor.start().await?;
        let pid = launched.pid;
        info!("started process {pid}, which takes over");
        let mut handed = self.inputs.handed.subscribe();
        let ended = tokio::select! {
            biased;
            Ok(heir) = handed.wait_for(Option::is_some) => return Ok(heir.and_then(|heir| heir.pid).unwrap_or(pid)),
            () = launched.ended() => true,
            () = sleep(within) => false,
        };
        if !ended {
            self.is_late.send_replace(true);
            // Whoever asked hears of it first.
            tokio::spawn(launched.end());
            return Err(format!("the new program (process {pid}) did not serve within {within:?}, and was ended"));
        }
        Err(match self.failure.take() {
            Some(why) => format!("the new program (process {pid}) does not serve: {why}"),
            None => format!("the new program (process {pid}) ended; its last lines in the log say why"),
        })
    }
}

fn shown_prefix(prefix: &str) -> String {
    if prefix.is_empty() { "/".to_owned() } else { prefix.to_owned() }
}

async fn accept(spot: Option<&Spot>) -> UnixStream {
    let Some(spot) = spot else { return std::future::pending().await };
    loop {
        match spot.accept().await {
            Ok(stream) => return stream,
            Err(error) => {
                warn!("the takeover socket cannot accept: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}
