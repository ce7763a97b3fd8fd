//! Python with the packages of `tests/requirements.txt`, in an environment below `target/`.

use std::process::Command;
use std::sync::OnceLock;

use super::finish;

/// What every script has, and what it imports `os`, `sys` and `time` for. `home` is a folder that the test shares.
pub(crate) const COMMON: &str = "
def pattern(count): return (bytes(range(251)) * (count // 251 + 1))[:count]
def say(*words, sep=' '): print(*words, sep=sep, flush=True)
def wait_file(name):
    until = time.monotonic() + 30
    while not os.path.exists(os.path.join(home, name)):
        assert time.monotonic() < until, name
        time.sleep(0.002)
";

/// Its interpreter. The first call may install it.
#[track_caller]
pub(crate) fn python() -> Command {
    static PATH: OnceLock<String> = OnceLock::new();
    let made = || finish(&mut Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/venv"))).ok().trim().to_owned();
    Command::new(PATH.get_or_init(made))
}
