//! How many bytes a connection has sent that the other side has not acknowledged. The one module with `unsafe`.

#![expect(
    unsafe_code,
    reason = "no library wraps this call: SIOCOUTQ of tcp(7), and of unix(7) for bytes not read yet"
)]

use std::os::fd::AsFd;

use rustix::ioctl::{Getter, ioctl};

/// The call's number: `SIOCOUTQ` is `TIOCOUTQ` (asm-generic/ioctls.h).
const SIOCOUTQ: rustix::ioctl::Opcode = libc::TIOCOUTQ as rustix::ioctl::Opcode;

/// Bytes that were written and not acknowledged, bytes. 0 when the kernel does not tell.
pub(crate) fn unacknowledged(connection: impl AsFd) -> usize {
    // SAFETY: this opcode writes one `int` (tcp(7), "ioctls"), which is what `Getter` makes room for; the descriptor is
    // borrowed, so that it is open for as long as the call lasts.
    let count = unsafe { ioctl(connection, Getter::<SIOCOUTQ, libc::c_int>::new()) };
    count.ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}
