//! Calls that no library wraps, and the allocator. The one module of the program with `unsafe`; each use states its reason.

#![expect(unsafe_code, reason = "each function says why its call is sound")]

use std::alloc::{GlobalAlloc, Layout};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::ioctl::{Getter, Opcode, ioctl};

/// Blocks of at least this size are aligned to it: mimalloc's `MI_MAX_ALIGN_SIZE`.
const ALIGNED: usize = 16;
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

/// mimalloc, for a program's `#[global_allocator]`. Unlike the crate of that name it asks for an alignment only where
/// blocks do not have it anyway: asked for one, mimalloc often takes a long way, and allocates more for sizes whose class is no
/// power of two.
#[derive(Debug)]
pub struct Allocator;

impl Allocator {
    /// Whether a block of this size is aligned as it must be without being asked for.
    const fn is_aligned(size: usize, layout: Layout) -> bool {
        layout.align() <= ALIGNED && layout.align() <= size
    }
}

// SAFETY: mimalloc's functions do what this trait asks for (its manual, "Extended Functions" and "Aligned Allocation"):
// they never unwind, return null or a block of at least the size, whose address is a multiple of the alignment; blocks of
// all of them are freed and reallocated alike. Blocks of 16 bytes and more are aligned to 16 bytes, smaller ones to 8
// bytes, so that the short way serves where `is_aligned` says so.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size is allowed, and the alignment of a layout is a power of two.
        unsafe {
            match Self::is_aligned(size, layout) {
                true => libmimalloc_sys::mi_malloc(size),
                false => libmimalloc_sys::mi_malloc_aligned(size, align),
            }
        }
        .cast()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        unsafe {
            match Self::is_aligned(size, layout) {
                true => libmimalloc_sys::mi_zalloc(size),
                false => libmimalloc_sys::mi_zalloc_aligned(size, align),
            }
        }
        .cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the caller passes a block of this allocator that is in use.
        unsafe { libmimalloc_sys::mi_free(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above, and any size is allowed.
        unsafe {
            match Self::is_aligned(size, layout) {
                true => libmimalloc_sys::mi_realloc(block.cast(), size),
                false => libmimalloc_sys::mi_realloc_aligned(block.cast(), size, layout.align()),
            }
        }
        .cast()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_keep_what_they_hold() {
        for align in (0..=12).map(|power| 1usize << power) {
            for size in (1..=200).chain([1_000, 1_024, 1_032, 4_000, 70_000]) {
                let layout = Layout::from_size_align(size, align).unwrap();
                let larger = Layout::from_size_align(2 * size + 3, align).unwrap();
                // SAFETY: no size is 0; each block is used within its size and freed once, with its layout.
                unsafe {
                    let zeroed = Allocator.alloc_zeroed(layout);
                    assert!(zeroed.addr().is_multiple_of(align), "{layout:?}");
                    assert!((0..size).all(|at| *zeroed.add(at) == 0), "{layout:?}");
                    let block = Allocator.alloc(layout);
                    assert!(block.addr().is_multiple_of(align), "{layout:?}");
                    block.write_bytes(7, size);
                    let block = Allocator.realloc(block, layout, larger.size());
                    assert!(block.addr().is_multiple_of(align), "{larger:?}");
                    assert!((0..size).all(|at| *block.add(at) == 7), "{larger:?}");
                    let small = Layout::from_size_align(3, align).unwrap();
                    let block = Allocator.realloc(block, larger, small.size());
                    assert!(block.addr().is_multiple_of(align), "{small:?}");
                    assert!((0..size.min(3)).all(|at| *block.add(at) == 7), "{small:?}");
                    Allocator.dealloc(block, small);
                    Allocator.dealloc(zeroed, layout);
                }
            }
        }
    }
}
