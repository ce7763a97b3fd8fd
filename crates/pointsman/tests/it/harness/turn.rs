//! Who may run beside whom: tests that measure time run alone, all others share the machine.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

thread_local! {
    // A test has a thread of its own, so what its thread holds ends with the test.
    static TURN: RefCell<Turn> = const { RefCell::new(Turn::None) };
}

enum Turn {
    None,
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// Waits until no test has the machine to itself. Called by whatever starts a process.
pub(super) fn shared() {
    TURN.with_borrow_mut(|turn| {
        if matches!(turn, Turn::None) {
            *turn = Turn::Shared { _guard: MACHINE.read().unwrap_or_else(PoisonError::into_inner) };
        }
    });
}

/// Takes the machine for this test alone. First thing in a test that measures time.
pub(crate) fn alone() {
    TURN.with_borrow_mut(|turn| {
        *turn = Turn::None;
        *turn = Turn::Alone { _guard: MACHINE.write().unwrap_or_else(PoisonError::into_inner) };
    });
}
