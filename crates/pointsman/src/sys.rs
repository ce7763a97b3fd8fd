//! What we ask of the operating system beyond files and sockets. Safe wrappers only.

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use rustix::system::uname;

/// Whether the program runs as root.
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Raises the limit on open files to the most this process may have, and says how many that is.
///
/// # Errors
/// The system refuses.
pub fn raise_open_files() -> std::io::Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// The limit on open files in force.
pub fn open_files_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The name of this machine, or of this container.
pub fn host_name() -> String {
    let name = uname().nodename().to_string_lossy().replace('/', "-");
    if name.is_empty() { "localhost".to_owned() } else { name }
}
