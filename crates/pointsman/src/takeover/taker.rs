//! The new program's side: takes what the old one hands over, says when it serves, and hears what the old one counts until
//! it ends. Opens no address itself.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use pointsman_engine::inherited::GivenSocket;
use pointsman_engine::live::{CarriedCounts, Earlier, HealthBefore};
use pointsman_engine::tickets::TicketSecrets;
use rustix::process::geteuid;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use super::frames::{FrameStream, MOST_DESCRIPTORS};
use super::messages::{Claimant, FORMAT, GiverWord, HaproxyBefore, Offered, TakeoverAsk, TakerWord};
use super::spot::{ANSWER, SHORT, connect, of_process, pid_of};
use crate::control::{Status, plural};

/// How long the old program may take to hand over, once it has begun.
const OFFER: Duration = Duration::from_secs(30);
/// Longest message of the old program, bytes: its keys.
const LONGEST: usize = 1 << 29;
/// Longest silence of an old program that drains: it tells its counts every second, or less often if there are many.
const SILENCE: Duration = Duration::from_secs(120);

/// What was handed over.
#[derive(Debug)]
pub(super) struct TakenOver {
    /// The listening sockets.
    pub sockets: Vec<GivenSocket>,
    /// What it would have written into its state file; empty: nothing.
    pub state: Vec<u8>,
    /// What it would have written as its snapshot; empty: nothing.
    pub keys: Vec<u8>,
    /// What it had counted.
    pub counts: CarriedCounts,
    /// What it knew of the health of instances.
    pub health: HealthBefore,
    /// The secrets that it made session tickets with.
    pub tickets: TicketSecrets,
    /// Its HAProxy.
    pub haproxy: Option<HaproxyBefore>,
    /// The conversation with it.
    pub predecessor: Predecessor,
}

/// The old program, while it drains.
#[derive(Debug)]
pub struct Predecessor {
    frames: FrameStream,
    pid: Option<u32>,
    version: String,
    sockets: usize,
    revision: u64,
    began: Instant,
}

/// Takes over from the program that serves with this state folder; `None`: there is none.
///
/// # Errors
/// It does not hand over: it is of another id, user or version, it is ending, or it hangs.
pub(super) async fn take(state: &Path, prefix: &str, engine: &str) -> anyhow::Result<Option<TakenOver>> {
    let began = Instant::now();
    let folder = state.display().to_string();
    let stream = connect(state).await.with_context(|| format!("--takeover: cannot reach the program at {folder}"))?;
    let Some(stream) = stream else { return Ok(None) };
    let pid = pid_of(&stream);
    let who = format!("the program{} at --state {folder}", of_process(pid));
    let (owner, own) = (stream.peer_cred().context("--takeover")?.uid(), geteuid().as_raw());
    if owner != own && owner != 0 {
        bail!("--takeover: {who} runs as user {owner}, this one as user {own}; start this one as user {owner}");
    }
    let mut frames = FrameStream::new(stream);
    let claimant = Claimant {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        prefix: prefix.to_owned(),
        engine: engine.to_owned(),
    };
    let asked = async {
        frames.say(&TakeoverAsk::Take(claimant)).await?;
        frames.hear(LONGEST).await
    };
    let offered = match timeout(ANSWER, asked).await {
        Ok(Ok(Some(GiverWord::Offer(offered)))) => *offered,
        Ok(Ok(Some(GiverWord::Refused { why }))) => bail!("--takeover: {who} does not hand over: {why}"),
        Ok(Ok(Some(_))) => {
            bail!("--takeover: {who} is of another version; stop it, and start this one without --takeover")
        }
        Ok(Ok(None)) => return Ok(None),
        Ok(Err(error)) => bail!("--takeover: {who}: {error}"),
        Err(_) => bail!(
            "--takeover: {who} does not answer within {ANSWER:?}: it hangs, and holds the listening sockets. End it, and start \
             this one again"
        ),
    };
    let taken = timeout(OFFER, rest(frames, offered, (pid, began))).await;
    let taken = taken.map_err(|_| anyhow!("--takeover: {who} did not hand over within {OFFER:?}"))?;
    taken.with_context(|| format!("--takeover: {who} did not hand over")).map(Some)
}

/// What comes after the offer: state, keys, sockets.
async fn rest(
    mut frames: FrameStream,
    offered: Offered,
    (pid, began): (Option<u32>, Instant),
) -> anyhow::Result<TakenOver> {
    let cut_short = "it ended meanwhile";
    let state = frames.receive(LONGEST).await?.context(cut_short)?;
    let keys = frames.receive(LONGEST).await?.context(cut_short)?;
    for _ in offered.sockets.chunks(MOST_DESCRIPTORS) {
        frames.receive(SHORT).await?.context(cut_short)?;
    }
    let mut sockets = Vec::new();
    for note in &offered.sockets {
        let listener = TcpListener::from(frames.descriptor().context("it sent fewer sockets than it said")?);
        sockets.push(GivenSocket { listener, role: note.role, stays: note.stays });
    }
    let tickets = offered.secrets();
    let Offered { version, revision, counts, health, haproxy, .. } = offered;
    let predecessor = Predecessor { frames, pid, version, sockets: sockets.len(), revision, began };
    Ok(TakenOver { sockets, state, keys, counts, health, tickets, haproxy, predecessor })
}

impl Predecessor {
    /// Tells it that this program cannot serve.
    pub async fn failed(self, why: &anyhow::Error) {
        let word = TakerWord::Failed { why: format!("{why:#}") };
        // It notices the end of the connection anyway.
        let _ = timeout(ANSWER, self.frames.say(&word)).await;
    }

    /// Waits until this program serves, and has the old one stop accepting. If that has died meanwhile, this one serves
    /// alone.
    ///
    /// # Errors
    /// The old program serves on: this one must end.
    pub async fn relieve(&mut self, mut status: watch::Receiver<Status>) -> Result<(), String> {
        let served = status.wait_for(|status| status.served);
        let heard = tokio::select! {
            biased;
            heard = self.frames.hear(SHORT) => Some(heard),
            _ = served => None,
        };
        match heard {
            Some(Ok(Some(GiverWord::Withdrawn { why }))) => return Err(why),
            Some(_) => {
                warn!("the program before this one{} ended before this one served", of_process(self.pid));
                let _ = status.wait_for(|status| status.served).await;
                return Ok(());
            }
            None => {}
        }
        let released = async {
            self.frames.say(&TakerWord::Serving).await?;
            self.frames.hear::<GiverWord>(SHORT).await
        };
        match timeout(ANSWER, released).await {
            Ok(Ok(Some(GiverWord::Withdrawn { why }))) => return Err(why),
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None) | Err(_)) => warn!("the program before this one{} has ended", of_process(self.pid)),
            Err(_) => warn!(
                "the program before this one{} does not say that it stopped accepting: it hangs. End it",
                of_process(self.pid)
            ),
        }
        info!(
            "took over from process {} (pointsman {}): {} of revision {}, serving after {:.1?}",
            self.pid.map_or_else(|| "of another container".to_owned(), |pid| pid.to_string()),
            self.version,
            plural(self.sockets, "socket"),
            self.revision,
            self.began.elapsed()
        );
        Ok(())
    }

    /// Hears what it counts, until it ends.
    pub async fn follow(mut self, earlier: &Earlier) {
        let why = loop {
            match timeout(SILENCE, self.frames.hear(LONGEST)).await {
                Ok(Ok(Some(GiverWord::Counts { counts }))) => earlier.tell(*counts),
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None)) => break "has ended".to_owned(),
                Ok(Err(error)) => break format!("has ended: {error}"),
                Err(_) => break format!("said nothing for {SILENCE:?}; its last counts are kept"),
            }
        };
        info!("the program before this one{} {why}", of_process(self.pid));
        earlier.end();
    }
}
