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
        let registry = Arc::new(Registry::new(workers, crate::FAULTS));
        let home = Home::new(0, registry, Pools::new(0));
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
        self.live.instances[index].shared.health.succeeded();
    }
}
