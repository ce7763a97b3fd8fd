//! inotify: which folders are watched, and the kernel's events as file events. Reads no file contents.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use futures_util::{FutureExt, StreamExt};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};

use super::files::{Seen, is_missing, is_passing};
use super::links;

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

/// The paths and links that a watched folder's events concern.
#[derive(Debug, Default)]
struct Interest {
    /// The paths under which the folder was reached: links may lead to it too.
    folders: BTreeSet<PathBuf>,
    /// A name in it that leads to a link's target, and that link's path.
    links: BTreeSet<(OsString, PathBuf)>,
    /// The folder's path.
    at: PathBuf,
}

/// The first half of a rename: its cookie (inotify(7)), the folder's watch, and the paths that the name had.
struct Renamed {
    cookie: u32,
    watch: WatchDescriptor,
    paths: Vec<PathBuf>,
}

/// The watched folders, by watch.
pub(super) struct Watches {
    kernel: inotify::Watches,
    interests: HashMap<WatchDescriptor, Interest>,
    folders: BTreeMap<PathBuf, WatchDescriptor>,
    /// The watches of the folders that a link leads through.
    links: BTreeMap<PathBuf, Vec<WatchDescriptor>>,
    /// The first of the two events of a rename.
    moved: Option<Renamed>,
    /// Whether a key or a folder was removed since this was asked last.
    removal: bool,
}

/// A new pair without watches.
pub(super) fn open() -> io::Result<(EventSource, Watches)> {
    let inotify = Inotify::init()?;
    let kernel = inotify.watches();
    let (interests, folders, links) = (HashMap::new(), BTreeMap::new(), BTreeMap::new());
    let watches = Watches { kernel, interests, folders, links, moved: None, removal: false };
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
    /// Watches a folder under this path, or the places that a link leads through. A path that has vanished is not an
    /// error.
    pub(super) fn add(&mut self, seen: Seen<'_>) -> io::Result<()> {
        match seen {
            Seen::Folder(folder) => self.add_folder(folder),
            Seen::Link(link) => self.add_link(link),
        }
    }

    fn add_folder(&mut self, folder: &Path) -> io::Result<()> {
        let Some(watch) = self.watch(folder)? else { return Ok(()) };
        self.interest(&watch, folder).folders.insert(folder.to_owned());
        let before = self.folders.insert(folder.to_owned(), watch.clone());
        if let Some(before) = before.filter(|before| *before != watch) {
            self.leave(&before, |interest| interest.folders.retain(|known| known != folder));
        }
        Ok(())
    }

    fn add_link(&mut self, link: &Path) -> io::Result<()> {
        let before = self.links.remove(link).unwrap_or_default();
        for watch in &before {
            if let Some(interest) = self.interests.get_mut(watch) {
                interest.links.retain(|(_, known)| known != link);
            }
        }
        let mut added = Ok(());
        let mut now = Vec::new();
        for (folder, name) in links::places(link) {
            match self.watch(&folder) {
                Ok(Some(watch)) => {
                    self.interest(&watch, &folder).links.insert((name, link.to_owned()));
                    now.push(watch);
                }
                // Somebody else's folder: the audit finds the changes in it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Ok(None) => {}
                Err(error) => added = Err(error),
            }
        }
        self.links.insert(link.to_owned(), now);
        before.iter().for_each(|watch| self.leave(watch, |_| ()));
        added
    }

    /// The kernel's watch of a folder: the same for each path to it. `None` if it has vanished.
    fn watch(&mut self, folder: &Path) -> io::Result<Option<WatchDescriptor>> {
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
            Ok(watch) => Ok(Some(watch)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn interest(&mut self, watch: &WatchDescriptor, at: &Path) -> &mut Interest {
        let interest = self.interests.entry(watch.clone()).or_default();
        at.clone_into(&mut interest.at);
        interest
    }

    /// Whether a key or a folder was removed since this was asked last.
    pub(super) fn saw_removal(&mut self) -> bool {
        std::mem::take(&mut self.removal)
    }

    /// Removes the watches at and below a path that is no longer a folder, or is another one.
    pub(super) fn forget(&mut self, path: &Path) {
        for folder in below(&self.folders, path) {
            if let Some(watch) = self.folders.remove(&folder) {
                self.leave(&watch, |interest| interest.folders.retain(|known| *known != folder));
            }
        }
        for link in below(&self.links, path) {
            for watch in self.links.remove(&link).unwrap_or_default() {
                self.leave(&watch, |interest| interest.links.retain(|(_, known)| *known != link));
            }
        }
    }

    /// Applies `change` to an interest, and ends the watch if nothing is left of the interest.
    fn leave(&mut self, watch: &WatchDescriptor, change: impl FnOnce(&mut Interest)) {
        let Some(interest) = self.interests.get_mut(watch) else { return };
        change(interest);
        if interest.folders.is_empty() && interest.links.is_empty() {
            self.interests.remove(watch);
            // The kernel has removed it already if the folder was deleted.
            let _ = self.kernel.remove(watch.clone());
        }
    }

    fn see(&mut self, event: &EventOwned, events: &mut Vec<FileEvent>) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            events.push(FileEvent::Overflow);
        }
        if event.mask.contains(EventMask::IGNORED) {
            if let Some(Interest { folders, links, .. }) = self.interests.remove(&event.wd) {
                folders.iter().for_each(|folder| drop(self.folders.remove(folder)));
                // These links must be resolved again.
                events.extend(links.into_iter().map(|(_, link)| FileEvent::Touched(link)));
            }
            return;
        }
        let Some(Interest { folders, links, at }) = self.interests.get(&event.wd) else { return };
        let (folders, links, at) = (folders.clone(), links.clone(), at.clone());
        let is_passing_name = event.name.as_ref().is_some_and(|name| name.to_str().is_none_or(is_passing));
        self.removal |= !is_passing_name && event.mask.intersects(EventMask::DELETE | EventMask::DELETE_SELF);
        if is_passing_name && event.mask.contains(EventMask::MOVED_TO) {
            events.extend(self.put_aside(event).into_iter().map(FileEvent::Expected));
        }
        for folder in folders {
            events.extend(self.in_folder(event, folder));
        }
        for (name, link) in links {
            events.extend(match &event.name {
                None => Some(FileEvent::Touched(link)),
                Some(changed) if *changed == name => self.named(event, &at.join(&name), link),
                Some(_) => None,
            });
        }
    }

    fn in_folder(&mut self, event: &EventOwned, folder: PathBuf) -> Option<FileEvent> {
        let Some(name) = event.name.as_deref() else { return Some(FileEvent::Touched(folder)) };
        let path = folder.join(name);
        match OsStr::to_str(name).is_none_or(is_passing) {
            true => passing(event, folder, &path),
            false => self.named(event, &path, path.clone()),
        }
    }

    /// The file event for `path`, if the event is about the file `at`.
    fn named(&mut self, event: &EventOwned, at: &Path, path: PathBuf) -> Option<FileEvent> {
        let mask = event.mask;
        if mask.contains(EventMask::MOVED_FROM) {
            self.took_away(event, &path);
        }
        if mask.contains(EventMask::MODIFY) {
            Some(FileEvent::Written(path))
        } else if mask.contains(EventMask::ATTRIB) {
            Some(FileEvent::Touched(path))
        } else if mask.contains(EventMask::CREATE) && !mask.contains(EventMask::ISDIR) && will_be_closed(at) {
            Some(FileEvent::Expected(path))
        } else {
            Some(FileEvent::Changed(path))
        }
    }

    fn took_away(&mut self, event: &EventOwned, path: &Path) {
        let moved = self.moved.take().filter(|moved| moved.cookie == event.cookie);
        let mut paths = moved.map(|moved| moved.paths).unwrap_or_default();
        paths.push(path.to_owned());
        self.moved = Some(Renamed { cookie: event.cookie, watch: event.wd.clone(), paths });
    }

    /// The paths of a file that was renamed to a backup in the same folder.
    fn put_aside(&mut self, event: &EventOwned) -> Vec<PathBuf> {
        let moved = self.moved.take_if(|moved| moved.cookie == event.cookie);
        moved.filter(|moved| moved.watch == event.wd).map(|moved| moved.paths).unwrap_or_default()
    }
}

/// A name that is no key may be the target of links in this folder, as in a mounted ConfigMap.
fn passing(event: &EventOwned, folder: PathBuf, path: &Path) -> Option<FileEvent> {
    if !event.mask.intersects(EventMask::MOVED_TO | EventMask::CREATE) {
        return None;
    }
    let is_link = fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink());
    is_link.then_some(FileEvent::Touched(folder))
}

/// The paths at and below this one.
fn below<T>(map: &BTreeMap<PathBuf, T>, path: &Path) -> Vec<PathBuf> {
    let from = map.range(path.to_owned()..).map(|(known, _)| known);
    from.take_while(|known| known.starts_with(path)).cloned().collect()
}

/// A new file is open for writing, except a hard or symbolic link, which is complete at once.
fn will_be_closed(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.nlink() == 1)
}
