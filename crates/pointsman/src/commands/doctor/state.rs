//! The folder of `--state`: whether it can be written, has room, and is closed to others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use super::observation::Observation;

const SUBJECT: &str = "state";
/// Bytes of room: a snapshot of very many keys, twice.
const LITTLE: u64 = 64 << 20;

/// What is seen of the folder.
#[derive(Clone, Debug)]
struct StateFolder {
    folder: PathBuf,
    /// The folder itself, or the nearest that is there.
    nearest: PathBuf,
    is_writable: bool,
    /// Bytes that are free; `None`: not told.
    free: Option<u64>,
    /// The mode of the folder with secrets in it, if that is there.
    mode: Option<u32>,
}

pub(super) fn look(folder: &Path) -> Vec<Observation> {
    let nearest = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned();
    let memory = folder.join("memory");
    let writable = |path: &Path| access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    judge(&StateFolder {
        is_writable: nearest.is_dir() && writable(&nearest) && (!memory.exists() || writable(&memory)),
        free: statvfs(&nearest).ok().map(|about| about.f_bavail.saturating_mul(about.f_frsize)),
        mode: fs::metadata(&memory).ok().map(|about| about.permissions().mode() & 0o777),
        folder: folder.to_owned(),
        nearest,
    })
}

fn judge(StateFolder { folder, nearest, is_writable, free, mode }: &StateFolder) -> Vec<Observation> {
    let (name, near) = (folder.display(), nearest.display());
    if nearest.is_file() {
        let remedy = format!("mv {near} elsewhere, or give --state DIR");
        return vec![Observation::wrong(SUBJECT, format!("{near} is a file, not a folder"), remedy)];
    }
    if !is_writable {
        let what = format!("{near} cannot be written: last good settings and the snapshot are lost at a restart");
        let remedy = format!("chown it to the balancer's user, mount a volume at {name}, or give --state DIR");
        return vec![Observation::wrong(SUBJECT, what, remedy)];
    }
    let mut all = Vec::new();
    if let Some(free) = free.filter(|free| *free < LITTLE) {
        let what = format!("only {} MiB are free in {near}", free >> 20);
        all.push(Observation::wrong(SUBJECT, what, format!("df -h {near}; make room: the snapshot is written there")));
    }
    if let Some(mode) = mode.filter(|mode| mode & 0o077 != 0) {
        let what =
            format!("others may look into {name}/memory (mode {mode:o}), which holds certificates' keys and passwords");
        all.push(Observation::note(SUBJECT, what, format!("chmod 700 {name}/memory")));
    }
    if all.is_empty() {
        let verb = if folder == nearest { "can be written" } else { "can be made" };
        all.push(Observation::ok(SUBJECT, format!("{name} {verb}, and has room")));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::observation::check;
    use super::*;

    #[test]
    fn the_folder_must_be_writable_roomy_and_closed() {
        let good = StateFolder {
            folder: "/s".into(),
            nearest: "/s".into(),
            is_writable: true,
            free: Some(1 << 40),
            mode: Some(0o700),
        };
        check(&judge(&good), &["ok: /s can be written"]);
        check(&judge(&StateFolder { nearest: "/".into(), mode: None, ..good.clone() }), &["ok: /s can be made"]);
        check(&judge(&StateFolder { is_writable: false, ..good.clone() }), &["wrong: /s cannot be written"]);
        check(
            &judge(&StateFolder { free: Some(5 << 20), ..good.clone() }),
            &["wrong: only 5 MiB are free in /s | df -h /s"],
        );
        check(&judge(&StateFolder { mode: Some(0o755), ..good }), &["note: others may look into /s/memory (mode 755)"]);
    }

    #[test]
    fn a_real_folder_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let [seen] = look(&folder.path().join("a/b")).try_into().unwrap();
        assert!(seen.what.contains("can be made"), "{seen:?}");
        fs::write(folder.path().join("a"), "").unwrap();
        let [seen] = look(&folder.path().join("a/b")).try_into().unwrap();
        assert!(seen.what.ends_with("a is a file, not a folder"), "{seen:?}");
    }
}
