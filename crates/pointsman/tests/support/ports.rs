//! Ports for programs that must know them before they bind them.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Below the kernel's range for port 0 (`net.ipv4.ip_local_port_range`), so that the kernel gives none of these to
/// another program.
const PORTS: std::ops::Range<u32> = 16_000..32_000;

/// A port that nothing listens on, different for each call.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    loop {
        let place = start.wrapping_add(NEXT.fetch_add(1, Relaxed)) % (PORTS.end - PORTS.start);
        let port = u16::try_from(PORTS.start + place).expect("within the range");
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}
