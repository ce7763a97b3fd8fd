//! Schedules tests: those that measure time run alone, all others in parallel.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

thread_local! {
    // A test has its own thread, so a thread-local lock ends with the test.
    static TURN: RefCell<Turn> = const { RefCell::new(Turn::None) };
}

enum Turn {
    None,
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// Waits until no test has the machine to itself. Called by everything that starts a process.
pub(super) fn shared() {
    TURN.with_borrow_mut(|turn| {
        if matches!(turn, Turn::None) {
            *turn = Turn::Shared { _guard: MACHINE.read().unwrap_or_else(PoisonError::into_inner) };
        }
    });
}

/// Reserves the machine for this test. Must come first in a test that measures time.
pub(crate) fn alone() {
    TURN.with_borrow_mut(|turn| {
        *turn = Turn::None;
        *turn = Turn::Alone { _guard: MACHINE.write().unwrap_or_else(PoisonError::into_inner) };
    });
}
