//! epoll, a deep backlog, signals and child processes, with as little unsafe code as possible. Sockets stay std's.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The events to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Bytes to read, or the end.
    Read,
    /// Room to write.
    Write,
}

/// An epoll instance, level-triggered.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// A new one.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointer is passed, and the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor; nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 256] })
    }

    /// Starts watching a descriptor.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub(crate) fn add(&self, fd: &impl AsRawFd, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), interest)
    }

    /// Changes the watched events.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub(crate) fn change(&self, fd: &impl AsRawFd, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), interest)
    }

    /// Stops watching a descriptor.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub(crate) fn remove(&self, fd: &impl AsRawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), Interest::Read)
    }

    fn control(&self, operation: i32, fd: RawFd, interest: Interest) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::Write => libc::EPOLLOUT,
        };
        let token = u64::try_from(fd).map_err(io::Error::other)?;
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
        // SAFETY: `event` lives through the call, which only reads it.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits without a timeout for events; returns the ready descriptors.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub(crate) fn wait(&mut self, ready: &mut Vec<usize>) -> io::Result<()> {
        let room = i32::try_from(self.events.len()).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `room` events into the buffer of that length.
        let count = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, -1) };
        let Ok(count) = usize::try_from(count) else {
            return Err(io::Error::last_os_error());
        };
        ready.clear();
        ready.extend(self.events[..count].iter().filter_map(|event| usize::try_from(event.u64).ok()));
        Ok(())
    }
}

/// A non-blocking listener with a backlog for thousands of clients that connect at once; std's own holds 128.
///
/// # Errors
/// Errors of the kernel.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // SAFETY: no pointer is passed; listening again on a listening socket only changes its backlog.
    let result = unsafe { libc::listen(listener.as_raw_fd(), 4096) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(listener) }
}

/// Sends SIGINT.
pub(crate) fn interrupt(id: u32) {
    if let Ok(id) = i32::try_from(id) {
        // SAFETY: no pointer is passed. The process is a child that was not waited for, so no other process has its id.
        unsafe { libc::kill(id, libc::SIGINT) };
    }
}

/// All descendants of a process.
///
/// # Errors
/// If `/proc` cannot be read.
pub(crate) fn descendants(id: u32) -> io::Result<Vec<u32>> {
    let ids = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = ids.filter_map(|id| Some((id, parent(id)?))).collect();
    let mut found = vec![id];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        at += 1;
    }
    found.remove(0);
    Ok(found)
}

/// Field 4 of proc_pid_stat(5), the second after the name in brackets.
fn parent(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
