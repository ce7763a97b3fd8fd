//! Calls that no library wraps. The one module of the program with `unsafe`; each use states its reason.

#![expect(unsafe_code, reason = "each function says why its call is sound")]

use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

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
