//! Asks a proxy for a service until a certain backend answers.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::talk::Talk;

/// Deadline for an answer of the backend.
const PATIENCE: Duration = Duration::from_secs(60);
/// The shortest pause between two probes.
const PAUSE: Duration = Duration::from_micros(200);
/// The pause grows to this part of the wait, so that probes cost the proxy little.
const PART: u32 = 20;

/// A connection that probes which backend answers.
pub(crate) struct Probe {
    proxy: SocketAddr,
    talk: Option<Talk>,
}

impl Probe {
    /// Through this proxy.
    pub(crate) fn new(proxy: SocketAddr) -> Self {
        Self { proxy, talk: None }
    }

    /// Waits until the backend of that name answers for a host.
    ///
    /// # Errors
    /// If it does not within a minute.
    pub(crate) fn wait(&mut self, host: &str, name: u8) -> io::Result<()> {
        self.wait_within(host, name, PATIENCE)
    }

    /// As `wait`, with another deadline.
    ///
    /// # Errors
    /// If it does not within that time.
    pub(crate) fn wait_within(&mut self, host: &str, name: u8, patience: Duration) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < patience {
            match self.ask(host) {
                Ok(answer) if answer == Some(name) => return Ok(()),
                Ok(_) => {}
                // HAProxy closes connections when it is replaced.
                Err(_) => self.talk = None,
            }
            thread::sleep(PAUSE.max(start.elapsed() / PART));
        }
        Err(io::Error::other(format!("{host} is not answered by {}", char::from(name))))
    }

    /// The last byte of the answer for a host: the name of the backend, if it was the backend that answered.
    fn ask(&mut self, host: &str) -> io::Result<Option<u8>> {
        let talk = match self.talk.take() {
            Some(talk) => talk,
            None => Talk::to(self.proxy)?,
        };
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Ok(self.talk.insert(talk).answer(&request)?.body.last().copied())
    }
}
