//! What a program starts with: what another one hands over, or the service manager passes; or nothing.

use std::path::Path;
use std::time::SystemTime;

use pointsman_engine::inherited::Inherited;
use pointsman_engine::live::{CarriedCounts, HealthBefore};
use pointsman_engine::tickets::TicketSecrets;
use pointsman_table::Problem;
use tracing::{info, warn};

use super::messages::HaproxyBefore;
use super::passed::passed;
use super::taker::{Predecessor, TakenOver, take};
use crate::control::Standby;
use crate::settings::Environment;
use crate::state::snapshot::SnapshotFile;
use crate::state::{Kept, StateFile};

/// What this program starts with.
#[derive(Debug, Default)]
pub struct Before {
    /// Listening sockets.
    pub inherited: Inherited,
    /// The state file's text, from a program that hands over; empty: none.
    state: Vec<u8>,
    /// The bytes of a snapshot; empty: none.
    keys: Vec<u8>,
    /// What was counted.
    pub counts: Option<CarriedCounts>,
    /// The health of instances.
    pub health: HealthBefore,
    /// The secrets of session tickets.
    pub tickets: Option<TicketSecrets>,
    /// The HAProxy of the program that hands over.
    pub haproxy: Option<HaproxyBefore>,
    /// That program.
    pub predecessor: Option<Predecessor>,
}

impl Before {
    /// Takes over with `--takeover`, if a program serves; else takes what the service manager passed.
    ///
    /// # Errors
    /// There is a program, and it does not hand over.
    pub async fn gather(
        (state, prefix, engine): (Option<&Path>, &str, &str),
        environment: &Environment,
        takeover: bool,
    ) -> anyhow::Result<Self> {
        let passed = passed(environment);
        let taken = match (takeover, state) {
            (false, _) => None,
            (true, None) => {
                anyhow::bail!("--takeover needs a folder for --state: the program that serves listens there")
            }
            (true, Some(state)) => {
                let taken = take(state, prefix, engine).await?;
                if taken.is_none() {
                    info!("there is no program to take over from at --state {}", state.display());
                }
                taken
            }
        };
        let Some(taken) = taken else { return Ok(Self { inherited: Inherited::new(passed), ..Self::default() }) };
        let TakenOver { mut sockets, state, keys, counts, health, tickets, haproxy, predecessor } = taken;
        sockets.extend(passed);
        let inherited = Inherited::new(sockets);
        inherited.expect(haproxy.iter().flat_map(|haproxy| haproxy.open.iter().copied()));
        let (counts, tickets, predecessor) = (Some(counts), Some(tickets), Some(predecessor));
        Ok(Self { inherited, state, keys, counts, health, tickets, haproxy, predecessor })
    }

    /// What was kept: by the program that hands over, else in the file.
    pub fn kept(&mut self, file: Option<&StateFile>) -> Kept {
        match StateFile::given(&std::mem::take(&mut self.state)) {
            Some(kept) => kept,
            None => file.map(StateFile::take).unwrap_or_default(),
        }
    }

    /// The keys that were served: by the program that hands over, else by the snapshot.
    pub fn standby(&mut self, file: Option<&StateFile>) -> (Option<Standby>, Option<Problem>) {
        let Some(file) = file.map(SnapshotFile::beside) else { return (None, None) };
        let keys = std::mem::take(&mut self.keys);
        match (keys.is_empty(), file.given(&keys, SystemTime::now())) {
            (false, Ok(standby)) => (Some(standby), None),
            (false, Err(error)) => {
                warn!("the keys that were handed over cannot be used: {error}");
                file.take()
            }
            (true, _) => file.take(),
        }
    }

    /// Tells the program that hands over, if there is one, that this one cannot serve.
    pub async fn failed(mut self, why: &anyhow::Error) {
        if let Some(predecessor) = self.predecessor.take() {
            predecessor.failed(why).await;
        }
    }
}
