//! Passing listening sockets to children: each is open in the child under the number that it has here. Owns nothing;
//! never leaves a socket open for children that were not meant, and never passes on our own settings.

use std::ffi::OsStr;
use std::io;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_setfd};
use tokio::process::{Child, Command};

/// One start at a time: the second must not close to children what the first is passing on.
static STARTING: Mutex<()> = Mutex::new(());

/// How variables begin that are for Pointsman: settings, and how to reach the service manager.
const OURS: [&str; 4] = ["POINTSMAN_", "ETCD", "NOTIFY_", "WATCHDOG_"];

/// Starts the command with these sockets open in it. They are open to other children only for the moment of the start.
pub(super) fn spawn(command: &mut Command, sockets: &[TcpListener]) -> io::Result<Child> {
    // HAProxy expands variables in its configuration, which has operators' lines from the keys: ours hold passwords.
    // Nor may it speak to the service manager in our place.
    let secret = |name: &OsStr| OURS.iter().any(|ours| name.as_encoded_bytes().starts_with(ours.as_bytes()));
    std::env::vars_os().map(|(name, _)| name).filter(|name| secret(name)).for_each(|name| {
        command.env_remove(name);
    });
    let _guard = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let opened = sockets.iter().try_for_each(|socket| fcntl_setfd(socket, FdFlags::empty()));
    // Comes back only once the child runs the program: from then on the flag is its own.
    let child = opened.map_err(io::Error::from).and_then(|()| command.spawn());
    for socket in sockets {
        fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    }
    child
}
