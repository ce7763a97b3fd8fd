//! HAProxy's master, through its own socket: lists workers, passes on commands, reloads. At every start and reload the
//! master re-executes itself and its socket is missing for a moment: that is waited out here.

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use super::answers::{Processes, processes};
use super::runtime::{Fault, Runtime, shorten};

/// How long the master's socket may be missing.
const AWAY: Duration = Duration::from_secs(5);
/// How often to try it meanwhile.
const TICK: Duration = Duration::from_millis(10);

/// The master's socket.
#[derive(Clone, Debug)]
pub struct Master {
    socket: Runtime,
    pid: Pid,
}

/// A master's answer to `reload`.
pub(super) enum Verdict {
    /// The new worker has taken over.
    Loaded,
    /// The old worker stays; HAProxy's output says why.
    Refused(String),
}

impl Master {
    pub(super) fn new(path: &Path, pid: Pid) -> Self {
        Self { socket: Runtime::new(path), pid }
    }

    /// Every worker. Returns only once the master takes commands, so that a `reload` sent next is not lost.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn processes(&self) -> Result<Processes, Fault> {
        // Without `quit` it keeps the connection open.
        let answer = self.insist("show proc;quit").await?;
        processes(&answer).ok_or_else(|| Fault::Closed {
            path: self.socket.path().to_owned(),
            command: "show proc".into(),
            answer: shorten(answer.trim()),
        })
    }

    /// Asks one worker through the master: an old worker has no socket of its own any more.
    ///
    /// # Errors
    /// The master does not answer.
    pub async fn ask_worker(&self, pid: u32, command: &str) -> Result<String, Fault> {
        self.socket.ask_to_the_end(&format!("@!{pid} {command};quit")).await
    }

    /// Tells it to load its configuration again. From 2.7 on it answers how that went; before, this waits for ever.
    pub(super) async fn reload(&self, deadline: Duration) -> Result<Verdict, Fault> {
        // A command sent while it re-executes itself is lost.
        if let Err(fault) = self.processes().await {
            tracing::warn!(%fault, "HAProxy's master does not answer; sending it SIGUSR2 to reload");
            return match kill_process(self.pid, Signal::USR2) {
                Ok(()) => pending().await,
                Err(_) => Err(fault),
            };
        }
        let socket = self.socket.clone().with_deadline(deadline);
        match socket.ask_to_the_end("reload").await {
            Ok(answer) if answer.starts_with("Success=1") => Ok(Verdict::Loaded),
            Ok(answer) if answer.starts_with("Success=0") => Ok(Verdict::Refused(answer)),
            // It re-executes itself without an answer: the caller sees the outcome elsewhere.
            Ok(_) | Err(Fault::Closed { .. }) => pending().await,
            Err(fault) => Err(fault),
        }
    }

    /// Asks again while the socket is missing.
    async fn insist(&self, line: &str) -> Result<String, Fault> {
        let mut last = None;
        let answered = timeout(AWAY, async {
            loop {
                match self.socket.ask_to_the_end(line).await {
                    Ok(answer) if !answer.trim().is_empty() => return answer,
                    Ok(_) => {}
                    Err(fault) => last = Some(fault),
                }
                sleep(TICK).await;
            }
        });
        let answered = answered.await;
        let silent = || Fault::Silent { path: self.socket.path().into(), command: line.into(), after: AWAY };
        answered.map_err(|_| last.unwrap_or_else(silent))
    }
}
