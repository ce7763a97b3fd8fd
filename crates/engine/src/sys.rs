//! Calls that no library wraps. The one module of the program with `unsafe`; each use states its reason.

#![expect(unsafe_code, reason = "each function says why its call is sound")]

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::ioctl::{Getter, Opcode, ioctl};

/// The first descriptor that a service manager passes: `SD_LISTEN_FDS_START` of sd_listen_fds(3).
const FIRST_PASSED: RawFd = 3;
/// Whether the passed descriptors were taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// `SIOCOUTQ` of tcp(7) and unix(7); it has the number of `TIOCOUTQ` (asm-generic/ioctls.h).
const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;

/// Bytes written to a connection and not acknowledged (TCP) or not read (Unix sockets) yet; 0 if unknown.
pub fn unacknowledged(connection: impl AsFd) -> usize {
    // SAFETY: this opcode writes one `int` (tcp(7), "ioctls"), for which `Getter` has room; the descriptor is borrowed,
    // so it stays open during the call.
    let count = unsafe { ioctl(connection, Getter::<SIOCOUTQ, libc::c_int>::new()) };
    count.ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

/// Returns freed memory of this thread to the operating system. Takes about 0.1 ms per MB.
pub fn give_memory_back() {
    // SAFETY: `mi_collect` frees nothing that is in use, and may be called at any time on any thread; without mimalloc
    // as the allocator it finds nothing.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// The descriptors that a service manager passed to this program: so many from number 3 on (sd_listen_fds(3)), each closed
/// on exec from now on. The second call gets none. The caller has made sure that they were passed to this process, and has
/// not used these numbers.
pub fn passed_descriptors(count: usize) -> Vec<OwnedFd> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let numbers = (FIRST_PASSED..).take(count);
    let take = |number: RawFd| {
        // SAFETY: borrowed for this call only, which fails if nothing is open under the number.
        let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).ok()?;
        // SAFETY: it is open; it was passed to this process, so nothing else here owns it; and `TAKEN` sees to it that it is
        // taken once.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        fcntl_setfd(&descriptor, flags | FdFlags::CLOEXEC).ok()?;
        Some(descriptor)
    };
    numbers.filter_map(take).collect()
}
