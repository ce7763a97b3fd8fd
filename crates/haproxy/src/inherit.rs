//! Starts children that inherit listening sockets, each under the number that it has here. Owns nothing; never leaks a
//! socket to other children, and never passes on our own settings.

use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::process::{Child, Command};

/// One start at a time: two would undo each other's close-on-exec flags.
static STARTING: Mutex<()> = Mutex::new(());

/// Prefixes of variables for Pointsman alone: its settings, and how to reach the service manager.
const OURS: [&str; 5] = ["POINTSMAN_", "ETCD", "LISTEN_", "NOTIFY_", "WATCHDOG_"];

/// Starts the command with these sockets open in it. Other children could inherit them only during the start.
pub(super) fn spawn(command: &mut Command, sockets: &[TcpListener]) -> io::Result<Child> {
    // HAProxy expands variables in operators' lines from the keys, and ours hold passwords. Nor may it talk to the
    // service manager in our place.
    let secret = |name: &OsStr| OURS.iter().any(|ours| name.as_encoded_bytes().starts_with(ours.as_bytes()));
    std::env::vars_os().map(|(name, _)| name).filter(|name| secret(name)).for_each(|name| {
        command.env_remove(name);
    });
    let _guard = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = sockets.iter().try_for_each(|socket| fcntl_setfd(socket, FdFlags::empty()));
    // Returns only once the child runs the program: from then on our flags no longer matter to it.
    let child = opened.map_err(io::Error::from).and_then(|()| command.spawn());
    for socket in sockets {
        fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    }
    child
}
