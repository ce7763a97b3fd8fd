//! A minimal Debian: made once, kept as a tar.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use crate::support::{Finished, cache, finish, has, is_root, run, skip};

/// The image's name.
pub(crate) const IMAGE: &str = "pointsman-under-test-debian";
/// Its packages besides the essential ones.
const PACKAGES: &str = "adduser,haproxy,systemd,systemd-sysv";

/// The tar; if it cannot be made, prints the reason.
pub(crate) fn tar() -> Option<PathBuf> {
    // One test makes it, the others wait.
    static MAKING: Mutex<()> = Mutex::new(());
    let _guard = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let tar = cache().join("debian.tar");
    if tar.exists() {
        return Some(tar);
    }
    if !is_root() || !has("debootstrap") {
        skip("debootstrap is not there, or we are not root");
        return None;
    }
    match make(&tar) {
        Ok(()) => Some(tar),
        Err(why) => {
            skip(&why);
            None
        }
    }
}

fn make(tar: &Path) -> Result<(), String> {
    let (home, draft) = (TempDir::new().expect("a temporary folder"), tar.with_extension("draft"));
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("debootstrap");
    command.env("PATH", path).args(["--variant=minbase", "--include", PACKAGES, "bookworm"]);
    let made = finish(command.arg(home.path()));
    if made.code != Some(0) {
        let last = made.stdout.lines().chain(made.stderr.lines()).last().unwrap_or_default().to_owned();
        return Err(format!("debootstrap: {last}"));
    }
    let archives = home.path().join("var/cache/apt/archives");
    for entry in fs::read_dir(archives).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
    finish(Command::new("tar").arg("-C").arg(home.path()).arg("-cf").arg(&draft).arg(".")).ok();
    fs::rename(draft, tar).expect("the same folder");
    Ok(())
}

/// The unpacked Debian, which a test may change. Nothing in it reaches the machine's network or processes.
pub(crate) struct Root(TempDir);

impl Root {
    /// A fresh one.
    pub(crate) fn new() -> Option<Self> {
        let tar = tar()?;
        let home = TempDir::new().expect("a temporary folder");
        finish(Command::new("tar").arg("-C").arg(home.path()).arg("-xpf").arg(tar)).ok();
        let root = Self(home);
        let there = root.sh("true");
        if there.code != Some(0) {
            skip(&format!("no root of our own can be entered here: {}", there.stderr));
            return None;
        }
        Some(root)
    }

    /// Copies a file to its /root.
    pub(crate) fn bring(&self, file: &Path) {
        run("cp", &[&file.to_string_lossy(), &self.0.path().join("root").to_string_lossy()]).ok();
    }

    /// Runs a shell script in it. Processes that it starts end with it.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Finished {
        let enter = "ip link set lo up && mount -t proc proc \"$1/proc\" && exec chroot \"$1\" sh -euc \"$2\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", enter, "sh"]);
        command.arg(self.0.path()).arg(script).env_clear().env("LC_ALL", "C.UTF-8");
        finish(command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
    }
}
