//! Active checks of instances, on a thread of their own: what `health_check*` asks for, at its time, and what it says about
//! an instance's health. Serves nothing, and never waits for a worker.
//!
//! | module | owns |
//! |---|---|
//! | `plan` | what is to be checked: from tables to checks, each shared by all instances that ask for the same |
//! | `schedule` | when: a heap of times, and a bound on how many run at once |
//! | `probe` | one check: connecting, TLS, asking |
//! | `http1`, `http2` | what is asked, and what the response says |
//! | `said` | the outcome of a check, in words |
//! | `once` | all of a table asked once, for commands |

mod http1;
mod http2;
mod once;
mod plan;
mod probe;
mod said;
mod schedule;

use std::rc::Rc;
use std::sync::Arc;

use pointsman_engine::live::Registry;
use pointsman_table::Table;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::tls::Outbound;
pub use once::{Probed, probe_once};
use plan::ProbePlan;
use schedule::Schedule;

/// The most checks at once.
const MOST: u64 = 256;
/// The share of the descriptors for connections that checks may take at once.
const SHARE: u64 = 16;

/// What is to be checked.
type ProbeOrder = (Arc<Table>, Arc<Outbound>);

/// The thread of checks. It begins with the first table that asks for some, and ends with this.
#[derive(Debug)]
pub(crate) struct Prober {
    registry: Arc<Registry>,
    most: usize,
    orders: Option<watch::Sender<ProbeOrder>>,
}

impl Prober {
    /// `descriptors`: those for connections.
    pub(crate) fn new(registry: &Arc<Registry>, descriptors: u64) -> Self {
        let most = (descriptors / SHARE).clamp(1, MOST) as usize;
        Self { registry: Arc::clone(registry), most, orders: None }
    }

    /// Checks the instances of this table from now on.
    pub(crate) fn apply(&mut self, table: &Arc<Table>, outbound: &Arc<Outbound>) {
        let order = (Arc::clone(table), Arc::clone(outbound));
        match &self.orders {
            Some(orders) if !orders.is_closed() => drop(orders.send_replace(order)),
            _ if table.services().iter().any(|service| service.health_check.is_some()) => {
                self.orders = self.start(order);
            }
            _ => {}
        }
    }

    fn start(&self, order: ProbeOrder) -> Option<watch::Sender<ProbeOrder>> {
        let (sender, orders) = watch::channel(order);
        let (registry, most) = (Arc::clone(&self.registry), self.most);
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        let thread = std::thread::Builder::new().name("checks".to_owned()).spawn(move || match runtime() {
            Ok(runtime) => runtime.block_on(run(orders, registry, most)),
            Err(error) => tracing::error!("instances are not checked: {error}"),
        });
        // The next table tries again.
        thread.inspect_err(|error| tracing::error!("instances are not checked: {error}")).ok().map(|_| sender)
    }
}

/// Checks what the newest order says, until there are no more orders.
async fn run(mut orders: watch::Receiver<ProbeOrder>, registry: Arc<Registry>, most: usize) {
    let schedule = Rc::new(Schedule::new(most, Arc::clone(&registry)));
    let mut plan = ProbePlan::default();
    loop {
        let (table, outbound) = orders.borrow_and_update().clone();
        let new = plan.next(&table, &outbound, &registry);
        schedule.begin(new, plan.size(), Instant::now());
        drop((table, outbound));
        loop {
            tokio::select! {
                changed = orders.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = schedule.due() => schedule.start(Instant::now()),
            }
        }
    }
}
