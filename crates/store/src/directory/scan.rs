//! One piece of file work for the follower: set watches, read paths again, say what is there. Blocks; holds no state
//! but the watches it is lent.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::{self, Found};
use super::watches::Watches;

/// The store's folder and, in or at it, the prefix's.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) root: PathBuf,
    pub(super) folder: PathBuf,
}

/// Which folder the root is: another one may come to stand at the same path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// Whether anything is in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stock {
    Empty,
    Some,
}

/// What one path was found to be.
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
    /// Why not everything is watched.
    pub(super) blind: Option<String>,
}

impl Place {
    /// The root as it is now, and whether anything is at the prefix; else why there is no root.
    pub(super) fn look(&self) -> Result<(Identity, Stock), String> {
        let about = fs::metadata(&self.root).map_err(|error| error.to_string())?;
        if !about.is_dir() {
            return Err("not a folder".to_owned());
        }
        // What is kept aside is no key, and may have been put there by ourselves.
        let is_key = |entry: io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| !files::is_passing(&entry.file_name().to_string_lossy()))
        };
        let stocked = fs::read_dir(&self.folder).is_ok_and(|mut entries| entries.any(is_key));
        let identity = Identity { device: about.dev(), inode: about.ino() };
        Ok((identity, if stocked { Stock::Some } else { Stock::Empty }))
    }

    /// What to read when something happened at this path: itself below the prefix; the whole prefix if around it.
    pub(super) fn concerns(&self, path: &Path) -> Option<PathBuf> {
        if path.starts_with(&self.folder) {
            return Some(path.to_owned());
        }
        self.folder.starts_with(path).then(|| self.folder.clone())
    }

    /// The relative key of a path below the prefix. A name that is not UTF-8 is no key.
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

/// Reads these paths again. Whatever is a folder by now is watched before it is read.
pub(super) fn scan(place: &Place, mut watches: Option<&mut Watches>, paths: &BTreeSet<PathBuf>) -> Scan {
    let mut scan = Scan::default();
    for path in paths {
        let Some(key) = place.key(path) else { continue };
        let mut watch = |folder: &Path| {
            if let Some(Err(error)) = watches.as_mut().map(|watches| watches.add(folder)) {
                scan.blind.get_or_insert(format!("{}: {error}", folder.display()));
            }
        };
        if key.is_empty() {
            place.around().for_each(&mut watch);
        }
        let found = files::walk(path, &key, &mut watch);
        if !path.is_dir()
            && let Some(watches) = watches.as_mut()
        {
            watches.forget(path);
        }
        scan.readings.push(Reading { key, found });
    }
    scan
}
