//! Python with the packages of `tests/requirements.txt`, in an environment below `target/`.

use std::process::Command;
use std::sync::OnceLock;

use super::finish;

/// Its interpreter. The first call may install it.
#[track_caller]
pub(crate) fn python() -> Command {
    static PATH: OnceLock<String> = OnceLock::new();
    let made = || finish(&mut Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/venv"))).ok().trim().to_owned();
    Command::new(PATH.get_or_init(made))
}
