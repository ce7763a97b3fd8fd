//! Sockets that the service manager opened for this program (socket activation, sd_listen_fds(3)).

use std::net::TcpListener;

use pointsman_engine::inherited::GivenSocket;
use pointsman_engine::sys::passed_descriptors;
use rustix::net::{AddressFamily, SocketType, sockopt};
use tracing::{info, warn};

use crate::settings::Environment;

/// Most sockets that are taken.
const MOST: usize = 1024;

/// The sockets that were passed to this process, each logged. Called once, before anything else is opened.
pub(super) fn passed(environment: &Environment) -> Vec<GivenSocket> {
    let number = |name: &str| environment.get(name).and_then(|text| text.parse::<u32>().ok());
    let is_ours = number("LISTEN_PID") == Some(std::process::id());
    let count = number("LISTEN_FDS").filter(|_| is_ours).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    if count == 0 {
        return Vec::new();
    }
    let names: Vec<_> = environment.get("LISTEN_FDNAMES").map(|names| names.split(':').collect()).unwrap_or_default();
    let mut sockets = Vec::new();
    for (number, descriptor) in passed_descriptors(count.min(MOST)).into_iter().enumerate() {
        let name = names.get(number).copied().unwrap_or("unnamed");
        let is_tcp = sockopt::socket_acceptconn(&descriptor).unwrap_or(false)
            && sockopt::socket_type(&descriptor) == Ok(SocketType::STREAM)
            && matches!(sockopt::socket_domain(&descriptor), Ok(AddressFamily::INET | AddressFamily::INET6));
        let listener = TcpListener::from(descriptor);
        match listener.local_addr() {
            Ok(address) if is_tcp => {
                info!("the service manager opened {address} ({name})");
                sockets.push(GivenSocket { listener, role: None, stays: true });
            }
            _ => warn!("the service manager passed {name}, which is not a listening TCP socket; it is not used"),
        }
    }
    sockets
}
