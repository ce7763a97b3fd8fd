//! What etcd has done and cost so far: its own metrics, and the kernel's accounts.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::admin::ask;
use crate::drive;
use crate::peers::Peer;

/// A moment of etcd's.
pub(super) struct Reading {
    at: Instant,
    cpu: Duration,
    waited: Duration,
    /// Samples of one name are added up.
    metrics: BTreeMap<String, f64>,
}

/// What came between two moments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    /// Seconds that passed.
    pub(super) seconds: f64,
    /// CPU time, milliseconds.
    pub(super) cpu: f64,
    /// Time that its threads waited for a core, milliseconds together: little on a quiet machine.
    pub(super) waited: f64,
    /// Entries of the raft log that were applied.
    pub(super) proposals: f64,
    /// Times that the log was written through to the disk.
    pub(super) fsyncs: f64,
    /// How long that took, milliseconds together.
    pub(super) fsyncing: f64,
    /// Keys that were put.
    pub(super) puts: f64,
    /// Bytes to and from clients over gRPC, thousands.
    pub(super) kilobytes: f64,
}

impl Reading {
    /// Now.
    pub(super) fn take(etcd: &Peer) -> io::Result<Self> {
        // HTTP/1.0: an answer in chunks would have their sizes between its lines.
        let page = ask(etcd.address, "GET /metrics HTTP/1.0\r\nHost: etcd\r\n\r\n")?;
        let mut metrics = BTreeMap::new();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let name = name.split('{').next().unwrap_or_default();
            *metrics.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap_or(0.0);
        }
        Ok(Self { at: Instant::now(), cpu: drive::cpu_time(etcd)?, waited: drive::wait_time_of(etcd.id())?, metrics })
    }

    /// From this moment on.
    pub(super) fn until_now(&self, etcd: &Peer) -> io::Result<Spent> {
        let now = Self::take(etcd)?;
        let more = |name: &str| now.metric(name) - self.metric(name);
        Ok(Spent {
            seconds: (now.at - self.at).as_secs_f64(),
            cpu: (now.cpu - self.cpu).as_secs_f64() * 1e3,
            waited: (now.waited - self.waited).as_secs_f64() * 1e3,
            proposals: more("etcd_server_proposals_applied_total"),
            fsyncs: more("etcd_disk_wal_fsync_duration_seconds_count"),
            fsyncing: more("etcd_disk_wal_fsync_duration_seconds_sum") * 1e3,
            puts: more("etcd_debugging_mvcc_put_total"),
            kilobytes: (more("etcd_network_client_grpc_sent_bytes_total")
                + more("etcd_network_client_grpc_received_bytes_total"))
                / 1e3,
        })
    }

    fn metric(&self, name: &str) -> f64 {
        self.metrics.get(name).copied().unwrap_or(0.0)
    }
}
