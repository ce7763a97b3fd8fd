//! Reports to the service manager by sd_notify(3): ready, reloading, stopping, a status line, and watchdog signals.
//! Does nothing if `NOTIFY_SOCKET` is unset; never fails the program.

use std::future::pending;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tracing::{debug, info};

use crate::control::{Status, plural, serving};
use crate::tenure::Tenure;
use pointsman_engine::Phase;
use pointsman_store::Condition;

/// Minimum time between two status lines that differ only in their text.
const PACE: Duration = Duration::from_secs(1);

/// How long a message may wait for a manager that does not read: the loop that publishes tables waits too.
const ROUTINE: Duration = Duration::from_millis(1);
/// The same for a message that the manager acts on.
const NEWS: Duration = Duration::from_secs(1);

/// The state that the manager acts on; the status line is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ManagerState {
    Starting,
    Ready,
    Stopping,
}

impl ManagerState {
    fn of(status: &Status) -> Self {
        match status.phase {
            Phase::Drain | Phase::Halt => Self::Stopping,
            Phase::Serve if status.served => Self::Ready,
            Phase::Serve => Self::Starting,
        }
    }
}

/// Follows a balancer in its turn, and sends watchdog signals.
pub async fn run(status: watch::Receiver<Status>, tenure: Tenure) {
    let both = async {
        tokio::join!(follow(status), watchdog());
    };
    tenure.during(both).await;
}

/// Follows a balancer: ready once its first table is in use, stopping once it drains, always with a status line.
async fn follow(mut status: watch::Receiver<Status>) {
    let mut said = (ManagerState::Starting, String::new());
    loop {
        let now = {
            let status = status.borrow_and_update();
            (ManagerState::of(&status), words(&status))
        };
        if now == said {
            if status.changed().await.is_err() {
                return;
            }
            continue;
        }
        let change = now.0 > said.0;
        let state = match now.0 {
            ManagerState::Ready if change => Some(NotifyState::Ready),
            ManagerState::Stopping if change => Some(NotifyState::Stopping),
            ManagerState::Starting | ManagerState::Ready | ManagerState::Stopping => None,
        };
        tell(state.into_iter().chain([NotifyState::Status(&now.1)]));
        said = now;
        // The loop's next turn notices a closed channel.
        let _ = timeout(PACE, status.wait_for(|status| ManagerState::of(status) != said.0)).await;
    }
}

/// The status line, as `systemctl status` shows it.
fn words(status: &Status) -> String {
    let text = match (&status.table, status.phase, &status.condition) {
        (_, Phase::Drain | Phase::Halt, _) => status.unready().unwrap_or_default().to_owned(),
        (None, _, Condition::Connecting { error: Some(error) } | Condition::Lost { error }) => {
            format!("waiting for the store: {error}")
        }
        (None, ..) => "waiting for the store".to_owned(),
        (Some(table), ..) => {
            let problems = Some(status.problems().count()).filter(|count| *count > 0);
            let problems = problems.map(|count| format!(", {}", plural(count, "problem"))).unwrap_or_default();
            let lost = status.store_lost().map(|lost| format!("; {lost}")).unwrap_or_default();
            format!("{}{problems}{lost}", serving(table))
        }
    };
    // A line break would start another message.
    text.replace(char::is_control, " ")
}

/// Reports ready with this status line, for commands that serve no table.
pub fn ready(words: &str) {
    tell([NotifyState::Ready, NotifyState::Status(words)]);
}

/// Reports stopping.
pub fn stopping(words: &str) {
    tell([NotifyState::Stopping, NotifyState::Status(words)]);
}

/// Reports that this process is the service from now on. Called by the process that was: the manager heeds only that one.
pub fn hand_over(pid: u32) {
    tell([NotifyState::MainPid(pid)]);
}

/// Whether the state that the manager knows, or will know at once, is ready.
pub fn is_ready(status: &Status) -> bool {
    ManagerState::of(status) == ManagerState::Ready
}

/// Handles HUP and reports when that begins and ends. Call it only when ready, because its end reports ready again.
pub fn reloading(read: impl FnOnce()) {
    // From version 253 on, systemd requires the time to match the reload with its signal.
    let begins = NotifyState::monotonic_usec_now().map(|time| [NotifyState::Reloading, time]);
    begins.into_iter().for_each(tell);
    read();
    tell([NotifyState::Ready]);
}

/// Sends watchdog signals at twice the rate that the manager requires, if it does. They come from the thread that reads
/// the store and publishes tables.
pub async fn watchdog() {
    let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero()) else {
        return pending().await;
    };
    info!("sending watchdog signals to the service manager, which waits {patience:?} for each");
    let mut ticks = interval(patience / 2);
    loop {
        ticks.tick().await;
        tell([NotifyState::Watchdog]);
    }
}

fn tell<'s>(states: impl IntoIterator<Item = NotifyState<'s>>) {
    let states: Vec<_> = states.into_iter().collect();
    if let Err(error) = send(&states) {
        debug!("cannot tell the service manager: {error}");
    }
}

/// As `sd_notify::notify`, but does not wait forever for a manager that does not read.
fn send(states: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let is_routine = |state: &NotifyState<'_>| matches!(state, NotifyState::Status(_) | NotifyState::Watchdog);
    let patience = if states.iter().all(is_routine) { ROUTINE } else { NEWS };
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(patience))?;
    socket.send_to(text.as_bytes(), path).map(drop)
}

#[cfg(test)]
mod tests {
    use pointsman_store::Outage;
    use pointsman_table::{Problem, ProblemKind, Table};

    use super::*;

    #[test]
    fn lines_of_status() {
        let serving = || Status { table: Some(Table::empty()), served: true, ..Status::new() };
        let lost = || Condition::Lost { error: Outage::new("failed", "reset\nREADY=1") };
        let problem = Problem {
            key: "/services/a/port".into(),
            value: None,
            kind: ProblemKind::BadValue,
            service: None,
            advice: "write a number".into(),
        };
        for (status, stage, expected) in [
            (Status::new(), ManagerState::Starting, "waiting for the store"),
            (
                Status { condition: lost(), ..Status::new() },
                ManagerState::Starting,
                "waiting for the store: reset READY=1",
            ),
            (Status { served: false, ..serving() }, ManagerState::Starting, "serving 0 services, 0 instances"),
            (serving(), ManagerState::Ready, "serving 0 services, 0 instances"),
            (
                Status { condition: lost(), found: [problem].into(), ..serving() },
                ManagerState::Ready,
                "serving 0 services, 0 instances, 1 problem; the store is lost, serving its last keys: reset READY=1",
            ),
            (
                Status { phase: Phase::Drain, ..serving() },
                ManagerState::Stopping,
                "draining: finishing open requests and connections, then exiting",
            ),
        ] {
            assert_eq!((ManagerState::of(&status), words(&status).as_str()), (stage, expected));
        }
    }
}
