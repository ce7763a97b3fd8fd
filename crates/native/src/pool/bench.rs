//! Picking without an engine, for the bench. The engine does not use it.

use std::rc::Rc;
use std::sync::Arc;

use pointsman_engine::live::Registry;
use pointsman_table::Table;

use crate::pool::connections::Pools;
use crate::pool::pick::{Picked, Tried, pick};
use crate::pool::view::{Home, ServiceLive, View};

/// The first of several workers, picking instances of one service.
#[derive(Debug)]
pub struct PickBench {
    live: Rc<ServiceLive>,
    rng: fastrand::Rng,
}

impl PickBench {
    /// Picks among the instances of the table's first service. `None`: it has no service.
    pub fn new(table: Arc<Table>, workers: usize) -> Option<Self> {
        Self::fellows(table, workers)(0)
    }

    /// The workers of one engine, each for a thread of its own: they share turns and open work.
    pub fn fellows(table: Arc<Table>, workers: usize) -> impl Fn(usize) -> Option<Self> + Sync {
        let registry = Arc::new(Registry::new(workers, crate::FAULTS));
        move |worker| Self::of(Arc::clone(&table), Home::new(worker, Arc::clone(&registry), Pools::new(0)))
    }

    fn of(table: Arc<Table>, home: Home) -> Option<Self> {
        let live = Rc::clone(View::empty().next(table, &home, 0).service(0, &home)?);
        Some(Self { live, rng: fastrand::Rng::with_seed(7) })
    }

    /// Picks once. `now`: milliseconds, never less than before.
    pub fn pick(&mut self, key: Option<u64>, now: u64) -> Option<usize> {
        match pick(&self.live, key, Tried::default(), now, &mut self.rng) {
            Picked::One(index) => Some(index),
            Picked::Full | Picked::None => None,
        }
    }

    /// Records a failed connect to an instance.
    pub fn fail(&self, index: usize, now: u64) {
        self.live.instances[index].shared.health.failed(now);
    }

    /// Records a connect to an instance.
    pub fn connect(&self, index: usize) {
        self.live.instances[index].shared.health.succeeded(0);
    }
}
