//! The command that was given: started, signalled, and waited for as an init would. Knows nothing of the store.

use std::process::Command;

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Signals that are passed on as they come.
const PASSED_ON: [Signal; 4] = [Signal::HUP, Signal::USR1, Signal::USR2, Signal::WINCH];
/// Signals that end the command, and that drain it first.
const STOPS: [Signal; 3] = [Signal::TERM, Signal::INT, Signal::QUIT];

/// What can happen around a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has ended: what the shell would say of that.
    Ended(u8),
    /// It is to be ended with this signal.
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
    /// Starts it. What it writes goes where ours does.
    ///
    /// # Errors
    /// There is no such program, or it cannot be started; [`refusal`] says what a shell's status for that is.
    pub fn start(command: &[String]) -> anyhow::Result<Self> {
        let (name, arguments) = command.split_first().context("no command")?;
        let listen = |signals: &[Signal]| -> anyhow::Result<Vec<_>> {
            signals.iter().map(|kind| Ok((*kind, signal(SignalKind::from_raw(kind.as_raw()))?))).collect()
        };
        // Before it is started, so that nothing that happens to it is missed.
        let reaped = signal(SignalKind::child())?;
        let (passed_on, stops) = (listen(&PASSED_ON)?, listen(&STOPS)?);
        // The password for the store is none of its business.
        let child = Command::new(name)
            .args(arguments)
            .env_remove("POINTSMAN_ETCD_USER")
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let pid = Pid::from_raw(child.id().cast_signed()).context("a process without an id")?;
        Ok(Self { pid, name: name.clone(), reaped, passed_on, stops })
    }

    /// Its program.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Sends it a signal. One that is gone meanwhile is no error.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(self.pid, signal);
    }

    /// The next thing that matters; signals that do not are passed on meanwhile, and orphans buried. Nothing is lost when
    /// the future is dropped.
    pub async fn next(&mut self) -> Event {
        loop {
            // It may have ended before anybody asked.
            if let Some(status) = self.bury() {
                return Event::Ended(status);
            }
            tokio::select! {
                _ = self.reaped.recv() => {}
                signal = any(&mut self.passed_on) => self.signal(signal),
                signal = any(&mut self.stops) => return Event::Stop(signal),
            }
        }
    }

    /// Takes note of every process that has ended: ours, and those that became ours as the first of a container.
    fn bury(&self) -> Option<u8> {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.pid {
                return Some(code(status));
            }
        }
        None
    }
}

/// What a shell's exit status is for a command that could not be started.
pub fn refusal(error: &anyhow::Error) -> u8 {
    let missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    if error.downcast_ref().is_some_and(missing) { 127 } else { 126 }
}

/// The first of these signals that comes.
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

/// As a shell says it: the command's own status, or 128 and the signal that ended it.
fn code(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
