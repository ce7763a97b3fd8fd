//! The signals of `pointsman run`: drain, stop, read the settings again. Ends nothing itself: whoever serves watches the
//! phase.

use pointsman_engine::Phase;
use pointsman_engine::access::LogQueue;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::control::Status;
use crate::logging::Logging;
use crate::notify;
use crate::settings::{Chosen, CommandLine, Environment, Host};

/// The signals that the balancer handles.
pub(super) struct Signals {
    terminate: Signal,
    user: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            user: signal(SignalKind::user_defined1())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn heed(mut self, phase: watch::Sender<Phase>, status: watch::Sender<Status>, mut reload: Reload) {
        loop {
            let wanted = tokio::select! {
                _ = self.terminate.recv() => Phase::Drain,
                _ = self.user.recv() => Phase::Drain,
                _ = self.interrupt.recv() => interrupted(*phase.borrow()),
                _ = self.hangup.recv() => {
                    if !reload.attended {
                        let ready = notify::is_ready(&status.borrow());
                        if ready { notify::reloading(|| reload.again()) } else { reload.again() }
                        continue;
                    }
                    Phase::Drain
                }
            };
            if *phase.borrow() < wanted {
                match wanted {
                    Phase::Halt => info!("stopping at once"),
                    _ => info!("draining: finishing open requests and connections, then exiting"),
                }
                status.send_modify(|status| status.phase = wanted);
                phase.send_replace(wanted);
            }
        }
    }
}

/// The first interrupt drains; a second one stops at once.
fn interrupted(phase: Phase) -> Phase {
    match phase {
        Phase::Serve => Phase::Drain,
        Phase::Drain | Phase::Halt => Phase::Halt,
    }
}

/// The inputs for reading the settings again.
pub struct Reload {
    /// The command line, which does not change.
    pub given: CommandLine,
    /// The environment, which does not change.
    pub environment: Environment,
    /// The machine.
    pub host: Host,
    /// The settings chosen at start.
    pub chosen: Chosen,
    /// The log; its filter can change.
    pub logging: Logging,
    /// The access log; its files can be opened again.
    pub access: LogQueue,
    /// The filter when none is given.
    pub default_log: &'static str,
    /// Interactive: HUP means that the terminal closed; exit.
    pub attended: bool,
}

impl Reload {
    /// Reads the settings again, and applies those that can change while serving.
    pub(super) fn again(&mut self) {
        self.access.reopen();
        match self.read() {
            Ok(()) => {}
            Err(error) => warn!("read the settings again, and kept the old ones: {error:#}"),
        }
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let chosen = Chosen::gather(&self.given, &self.environment, self.host)?;
        let settings = chosen.settings(&self.environment, self.host)?;
        self.logging.change(settings.log.as_deref().unwrap_or(self.default_log))?;
        let later: Vec<_> = self.chosen.differences(&chosen).into_iter().filter(|name| *name != "log").collect();
        match later.as_slice() {
            [] => info!("read the settings again; nothing needs a restart"),
            some => warn!("read the settings again; restart to apply {}", some.join(", ")),
        }
        Ok(())
    }
}
