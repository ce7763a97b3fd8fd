//! inotify: which folders are watched, and the kernel's events as file events. Reads no file contents.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};

use super::files::is_passing;

/// Room for a few hundred events per read.
const BUFFER: usize = 32 << 10;
/// The approximate number of file events returned per look.
const AT_ONCE: usize = 4096;

/// A file event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FileEvent {
    /// Complete: written and closed, moved here, removed, or made as a folder or link.
    Changed(PathBuf),
    /// Any other event; the file may or may not be open for writing.
    Touched(PathBuf),
    /// Written to, not closed yet.
    Written(PathBuf),
    /// About to be written: just made, or renamed to a backup as editors do before they write the new version.
    Expected(PathBuf),
    /// The kernel's queue overflowed: events were lost.
    Overflow,
}

/// The source of kernel events.
pub(super) struct EventSource {
    events: EventStream<Box<[u8]>>,
}

/// The watched folders, by watch.
pub(super) struct Watches {
    kernel: inotify::Watches,
    paths: HashMap<WatchDescriptor, PathBuf>,
    folders: BTreeMap<PathBuf, WatchDescriptor>,
    /// The first of the two events of a rename.
    moved: Option<(u32, PathBuf)>,
}

/// A new pair without watches.
pub(super) fn open() -> io::Result<(EventSource, Watches)> {
    let inotify = Inotify::init()?;
    let kernel = inotify.watches();
    let watches = Watches { kernel, paths: HashMap::new(), folders: BTreeMap::new(), moved: None };
    let events = inotify.into_event_stream(vec![0; BUFFER].into())?;
    Ok((EventSource { events }, watches))
}

impl EventSource {
    /// Waits for an event, and returns the file events of it and of all others that are ready.
    pub(super) async fn look(&mut self, watches: &mut Watches) -> Vec<FileEvent> {
        let mut events = Vec::new();
        take(self.events.next().await, watches, &mut events);
        for _ in 1..AT_ONCE {
            let Some(event) = self.events.next().now_or_never() else {
                break;
            };
            take(event, watches, &mut events);
        }
        events
    }
}

fn take(event: Option<io::Result<EventOwned>>, watches: &mut Watches, events: &mut Vec<FileEvent>) {
    match event {
        Some(Ok(event)) => watches.see(&event, events),
        // An unreadable event may mean anything.
        Some(Err(_)) | None => events.push(FileEvent::Overflow),
    }
}

impl Watches {
    /// Watches a folder under this path. A folder that has vanished is not an error. A folder reached through two links
    /// is watched under the last one; the audit finds changes under the other.
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

    /// Removes the watches at and below a path that is no longer a folder, or is another one.
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

    /// Except if the same folder is now watched under a new path.
    fn drop_watch(&mut self, watch: WatchDescriptor, folder: &Path) {
        if self.paths.get(&watch).is_some_and(|path| path == folder) {
            self.paths.remove(&watch);
            // The kernel has removed it already if the folder was deleted.
            let _ = self.kernel.remove(watch);
        }
    }

    fn see(&mut self, event: &EventOwned, events: &mut Vec<FileEvent>) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            events.push(FileEvent::Overflow);
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
            None => events.push(FileEvent::Touched(folder)),
            Some(name) => {
                let path = folder.join(name);
                let passing = name.to_str().is_none_or(is_passing);
                events.extend(if passing { self.passing(event, folder, path) } else { self.named(event, path) });
            }
        }
    }

    fn named(&mut self, event: &EventOwned, path: PathBuf) -> Option<FileEvent> {
        let mask = event.mask;
        if mask.contains(EventMask::MOVED_FROM) {
            self.moved = Some((event.cookie, path.clone()));
        }
        if mask.contains(EventMask::MODIFY) {
            Some(FileEvent::Written(path))
        } else if mask.contains(EventMask::ATTRIB) {
            Some(FileEvent::Touched(path))
        } else if mask.contains(EventMask::CREATE) && !mask.contains(EventMask::ISDIR) && will_be_closed(&path) {
            Some(FileEvent::Expected(path))
        } else {
            Some(FileEvent::Changed(path))
        }
    }

    fn passing(&mut self, event: &EventOwned, folder: PathBuf, path: PathBuf) -> Option<FileEvent> {
        if !event.mask.intersects(EventMask::MOVED_TO | EventMask::CREATE) {
            return None;
        }
        if let Some((_, from)) = self.moved.take_if(|(cookie, _)| *cookie == event.cookie) {
            return (from.parent() == Some(&folder)).then_some(FileEvent::Expected(from));
        }
        // Such a name may be the target of links in this folder, as in a mounted ConfigMap.
        let is_link = fs::symlink_metadata(&path).is_ok_and(|about| about.is_symlink());
        is_link.then_some(FileEvent::Touched(folder))
    }
}

/// A new file is open for writing, except a hard or symbolic link, which is complete at once.
fn will_be_closed(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.nlink() == 1)
}
