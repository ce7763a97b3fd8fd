//! Calls to the operating system beyond files and sockets. Safe wrappers only.

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use rustix::system::uname;

/// Whether the program runs as root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Raises this process's limit on open files to its maximum, and returns it.
///
/// # Errors
/// The system refuses.
pub fn raise_open_files() -> std::io::Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// The current limit on open files.
pub fn open_files_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The host name of this machine or container.
pub fn host_name() -> String {
    let name = uname().nodename().to_string_lossy().replace('/', "-");
    if name.is_empty() { "localhost".to_owned() } else { name }
}
