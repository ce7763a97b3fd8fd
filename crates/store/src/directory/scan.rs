//! One unit of file work for the follower: sets watches, reads paths, returns the result. Blocks; has no state except
//! the watches that it borrows.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::{self, Found, Seen};
use super::watches::Watches;

/// The store's folder and, in it or equal to it, the prefix's folder.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) root: PathBuf,
    pub(super) folder: PathBuf,
}

/// Identifies the root folder: another folder may be mounted or moved to the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// Whether a folder is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    Empty,
    Some,
}

/// The reading of one path.
#[derive(Debug)]
pub(super) struct Reading {
    /// Relative key of the path; empty for the prefix itself.
    pub(super) key: String,
    pub(super) found: Found,
}

/// The outcome of a scan.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) readings: Vec<Reading>,
    /// Why some folders are not watched.
    pub(super) blind: Option<String>,
}

impl Place {
    /// The root's current identity, and whether the prefix's folder is empty; otherwise the reason why there is no
    /// root.
    pub(super) fn look(&self) -> Result<(Identity, Contents), String> {
        let about = fs::metadata(&self.root).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "there is no such folder; mount it, or make it with mkdir".to_owned(),
            _ => error.to_string(),
        })?;
        if !about.is_dir() {
            return Err("not a folder".to_owned());
        }
        // Our own hidden folder is not a key.
        let is_key = |entry: io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| !files::is_passing(&entry.file_name().to_string_lossy()))
        };
        let holds_keys = fs::read_dir(&self.folder).is_ok_and(|mut entries| entries.any(is_key));
        let identity = Identity { device: about.dev(), inode: about.ino() };
        Ok((identity, if holds_keys { Contents::Some } else { Contents::Empty }))
    }

    /// The path to read after an event at this path: the path itself if it is below the prefix, the whole prefix if it
    /// is a parent.
    pub(super) fn concerns(&self, path: &Path) -> Option<PathBuf> {
        if path.starts_with(&self.folder) {
            return Some(path.to_owned());
        }
        self.folder.starts_with(path).then(|| self.folder.clone())
    }

    /// The relative key of a path below the prefix. A name that is not UTF-8 is not a key.
    pub(super) fn key(&self, path: &Path) -> Option<String> {
        path.strip_prefix(&self.folder).ok()?.to_str().map(str::to_owned)
    }

    /// The path of a relative key.
    pub(super) fn path(&self, key: &str) -> PathBuf {
        if key.is_empty() { self.folder.clone() } else { self.folder.join(key) }
    }

    fn around(&self) -> impl Iterator<Item = &Path> {
        self.folder.ancestors().skip(1).take_while(|path| path.starts_with(&self.root))
    }
}

/// Reads these paths again. Watches each folder before reading it.
pub(super) fn scan(place: &Place, mut watches: Option<&mut Watches>, paths: &BTreeSet<PathBuf>) -> Scan {
    let mut scan = Scan::default();
    for path in paths {
        let Some(key) = place.key(path) else { continue };
        if !path.is_dir()
            && let Some(watches) = watches.as_mut()
        {
            watches.forget(path);
        }
        let mut watch = |seen: Seen<'_>| {
            let (Seen::Folder(at) | Seen::Link(at)) = seen;
            if let Some(Err(error)) = watches.as_mut().map(|watches| watches.add(seen)) {
                scan.blind.get_or_insert(format!("{}: {error}", at.display()));
            }
        };
        if key.is_empty() {
            place.around().map(Seen::Folder).for_each(&mut watch);
        }
        let found = files::walk(path, &key, &mut watch);
        scan.readings.push(Reading { key, found });
    }
    scan
}
