//! inotify: which folders are watched, and what the kernel says of them as sights. Reads no file's content.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};

use super::files::is_passing;

/// Room for a few hundred events a read.
const BUFFER: usize = 32 << 10;
/// How many sights one look returns, about.
const AT_ONCE: usize = 4096;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Complete: written and closed, moved here, removed, made as a folder or a link.
    Changed(PathBuf),
    /// Something about it, while it may or may not be being written.
    Touched(PathBuf),
    /// Written to and not closed yet.
    Written(PathBuf),
    /// About to be written: just made, or renamed to a backup as editors do before they write it anew.
    Expected(PathBuf),
    /// The kernel's queue was full: anything may have happened.
    Overflow,
}

/// The kernel's side: where events come from.
pub(super) struct Eyes {
    events: EventStream<Box<[u8]>>,
}

/// Our side: which folder each watch is on.
pub(super) struct Watches {
    kernel: inotify::Watches,
    paths: HashMap<WatchDescriptor, PathBuf>,
    folders: BTreeMap<PathBuf, WatchDescriptor>,
    /// A rename shows as two events; this is the first of them.
    moved: Option<(u32, PathBuf)>,
}

/// A new pair with nothing watched.
pub(super) fn open() -> io::Result<(Eyes, Watches)> {
    let inotify = Inotify::init()?;
    let kernel = inotify.watches();
    let watches = Watches { kernel, paths: HashMap::new(), folders: BTreeMap::new(), moved: None };
    let events = inotify.into_event_stream(vec![0; BUFFER].into())?;
    Ok((Eyes { events }, watches))
}

impl Eyes {
    /// Waits for an event, and returns what it and those that are there as well say.
    pub(super) async fn look(&mut self, watches: &mut Watches) -> Vec<Sight> {
        let mut sights = Vec::new();
        take(self.events.next().await, watches, &mut sights);
        for _ in 1..AT_ONCE {
            let Some(event) = self.events.next().now_or_never() else {
                break;
            };
            take(event, watches, &mut sights);
        }
        sights
    }
}

fn take(event: Option<io::Result<EventOwned>>, watches: &mut Watches, sights: &mut Vec<Sight>) {
    match event {
        Some(Ok(event)) => watches.see(&event, sights),
        // What cannot be seen may be anything.
        Some(Err(_)) | None => sights.push(Sight::Overflow),
    }
}

impl Watches {
    /// Watches a folder, from now on under this path. One that has vanished meanwhile is no error. One that is
    /// reached by two links is watched under the last; what changes under the other is left to the audit.
    pub(super) fn add(&mut self, folder: &Path) -> io::Result<()> {
        let mask = WatchMask::CREATE
            | WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        match self.kernel.add(folder, mask) {
            Ok(watch) => self.remember(folder, watch),
            Err(error) if super::files::is_missing(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn remember(&mut self, folder: &Path, watch: WatchDescriptor) {
        self.paths.insert(watch.clone(), folder.to_owned());
        let before = self.folders.insert(folder.to_owned(), watch.clone());
        if let Some(before) = before.filter(|before| *before != watch) {
            self.drop_watch(before, folder);
        }
    }

    /// Ends the watches at and below a path that is no folder any more, or another one.
    pub(super) fn forget(&mut self, path: &Path) {
        let gone: Vec<PathBuf> = self
            .folders
            .range(path.to_owned()..)
            .map(|(folder, _)| folder)
            .take_while(|folder| folder.starts_with(path))
            .cloned()
            .collect();
        for folder in gone {
            if let Some(watch) = self.folders.remove(&folder) {
                self.drop_watch(watch, &folder);
            }
        }
    }

    /// Unless the same folder is watched under a new path by now.
    fn drop_watch(&mut self, watch: WatchDescriptor, folder: &Path) {
        if self.paths.get(&watch).is_some_and(|path| path == folder) {
            self.paths.remove(&watch);
            // The kernel has dropped it already if the folder was deleted.
            let _ = self.kernel.remove(watch);
        }
    }

    fn see(&mut self, event: &EventOwned, sights: &mut Vec<Sight>) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            sights.push(Sight::Overflow);
        }
        if event.mask.contains(EventMask::IGNORED) {
            if let Some(folder) = self.paths.remove(&event.wd) {
                self.folders.remove(&folder);
            }
            return;
        }
        let Some(folder) = self.paths.get(&event.wd).cloned() else {
            return;
        };
        match &event.name {
            None => sights.push(Sight::Touched(folder)),
            Some(name) => {
                let path = folder.join(name);
                let passing = name.to_str().is_none_or(is_passing);
                sights.extend(if passing { self.passing(event, folder, path) } else { self.named(event, path) });
            }
        }
    }

    fn named(&mut self, event: &EventOwned, path: PathBuf) -> Option<Sight> {
        let mask = event.mask;
        if mask.contains(EventMask::MOVED_FROM) {
            self.moved = Some((event.cookie, path.clone()));
        }
        if mask.contains(EventMask::MODIFY) {
            Some(Sight::Written(path))
        } else if mask.contains(EventMask::ATTRIB) {
            Some(Sight::Touched(path))
        } else if mask.contains(EventMask::CREATE) && !mask.contains(EventMask::ISDIR) && will_be_closed(&path) {
            Some(Sight::Expected(path))
        } else {
            Some(Sight::Changed(path))
        }
    }

    fn passing(&mut self, event: &EventOwned, folder: PathBuf, path: PathBuf) -> Option<Sight> {
        if !event.mask.intersects(EventMask::MOVED_TO | EventMask::CREATE) {
            return None;
        }
        if let Some((_, from)) = self.moved.take_if(|(cookie, _)| *cookie == event.cookie) {
            return (from.parent() == Some(&folder)).then_some(Sight::Expected(from));
        }
        // A link of such a name may be what links in this folder lead through, as in a mounted ConfigMap.
        let is_link = fs::symlink_metadata(&path).is_ok_and(|about| about.is_symlink());
        is_link.then_some(Sight::Touched(folder))
    }
}

/// A new file is open for writing, except if it is a link, hard or symbolic: those are complete at once.
fn will_be_closed(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.nlink() == 1)
}
