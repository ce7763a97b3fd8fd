//! The wrapped command: started, signalled, and reaped as by an init process. Knows nothing of the store.

use std::process::Command;

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Signals that are forwarded at once.
const PASSED_ON: [Signal; 4] = [Signal::HUP, Signal::USR1, Signal::USR2, Signal::WINCH];
/// Signals that end the command after draining it.
const STOPS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];

/// An event of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEvent {
    /// It has ended, with this shell exit status.
    Ended(u8),
    /// We received this signal, so the command is to be drained and ended with it.
    Stop(Signal),
}

/// The running command.
pub struct Child {
    pid: Pid,
    name: String,
    reaped: Stream,
    passed_on: Vec<(Signal, Stream)>,
    stops: Vec<(Signal, Stream)>,
}

impl Child {
    /// Starts the command, with our own stdout and stderr.
    ///
    /// # Errors
    /// The program does not exist or cannot be started; [`refusal`] gives the shell's exit status for that.
    pub fn start(command: &[String]) -> anyhow::Result<Self> {
        let (name, arguments) = command.split_first().context("no command")?;
        let listen = |signals: &[Signal]| -> anyhow::Result<Vec<_>> {
            signals.iter().map(|kind| Ok((*kind, signal(SignalKind::from_raw(kind.as_raw()))?))).collect()
        };
        // Before the start, so that no signal is missed.
        let reaped = signal(SignalKind::child())?;
        let (passed_on, stops) = (listen(&PASSED_ON)?, listen(&STOPS)?);
        // The command must not see the store's password.
        let child = Command::new(name)
            .args(arguments)
            .env_remove("POINTSMAN_ETCD_USER")
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let pid = Pid::from_raw(child.id().cast_signed()).context("the process has no id")?;
        Ok(Self { pid, name: name.clone(), reaped, passed_on, stops })
    }

    /// The program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Sends a signal. Ignores that the process may have ended.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
    }

    /// The next event. Meanwhile forwards other signals and reaps orphans. Cancel-safe: dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> ChildEvent {
        loop {
            // It may have ended before this call.
            if let Some(status) = self.bury() {
                return ChildEvent::Ended(status);
            }
            tokio::select! {
                _ = self.reaped.recv() => {}
                signal = any(&mut self.passed_on) => self.signal(signal),
                signal = any(&mut self.stops) => return ChildEvent::Stop(signal),
            }
        }
    }

    /// Reaps every ended process: the command, and orphans that we inherited as process 1 of a container.
    fn bury(&self) -> Option<u8> {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.pid {
                return Some(code(status));
            }
        }
        None
    }
}

/// The shell's exit status for a command that could not be started.
pub fn refusal(error: &anyhow::Error) -> u8 {
    let missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    if error.downcast_ref().is_some_and(missing) { 127 } else { 126 }
}

/// The first of these signals to arrive.
async fn any(streams: &mut [(Signal, Stream)]) -> Signal {
    let each = streams.iter_mut().map(|(signal, stream)| {
        let signal = *signal;
        Box::pin(async move {
            stream.recv().await;
            signal
        })
    });
    futures_util::future::select_all(each).await.0
}

/// The shell's exit status: the command's own status, or 128 plus the signal that ended it.
fn code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
