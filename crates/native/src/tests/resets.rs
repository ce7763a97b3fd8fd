//! Which connections the engine ended by a reset. Unix sockets have no resets, so they are noted here.

use std::cell::RefCell;
use std::path::PathBuf;

use tokio::net::UnixStream;

thread_local! {
    static NOTED: RefCell<Vec<Option<PathBuf>>> = const { RefCell::new(Vec::new()) };
}

/// Notes that this connection will end by a reset: one to an instance by its path, a client's without one.
pub(crate) fn note(stream: &UnixStream) {
    let path = stream.peer_addr().ok().and_then(|address| address.as_pathname().map(PathBuf::from));
    NOTED.with_borrow_mut(|noted| noted.push(path));
}

/// Removes one note of a connection to this path; returns whether there was one.
pub(super) fn take(path: Option<PathBuf>) -> bool {
    NOTED.with_borrow_mut(|noted| {
        let place = noted.iter().position(|of| *of == path);
        place.inspect(|place| drop(noted.remove(*place))).is_some()
    })
}

/// Forgets all; returns how many there were.
pub(super) fn clear() -> usize {
    NOTED.with_borrow_mut(|noted| std::mem::take(noted).len())
}
