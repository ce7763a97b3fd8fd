//! Reads files as keys: names, contents, and the tree below a folder. Never writes, never watches.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// etcd's own limit for a request is 1.5 MiB.
const LARGEST: u64 = 1 << 20;
/// Deeper than any key; stops at folders that links make endless.
const DEEPEST: usize = 64;
/// Maximum number of folders in a walk: if each folder has two links to the next one, there are 2^depth of them.
const MOST_FOLDERS: usize = 100_000;
/// An empty file younger than this may have been opened by a shell that has not written yet.
const FRESH: Duration = Duration::from_millis(250);

/// Files that cannot be read, by their path in the folder, and why not.
pub type Unreadable = BTreeMap<Box<str>, String>;

/// The content of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A key's value.
    Value(Box<[u8]>),
    /// A file just made or emptied: a writer may be about to fill it.
    Fresh,
    /// Exists, but cannot be read.
    Unreadable(String),
}

/// The content of a file with this value: a text is a line, other bytes are themselves. Reading takes the line's end away.
pub(super) fn content_of(value: &[u8]) -> Vec<u8> {
    let end: &[u8] = if std::str::from_utf8(value).is_ok() { b"\n" } else { b"" };
    [value, end].concat()
}

/// The files and folders below a path. Keys are relative to the folder passed to `walk`.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files, and folders that cannot be read.
    pub(super) files: Vec<(Box<str>, Content)>,
    /// Folders.
    pub(super) folders: Vec<Box<str>>,
}

/// Whether a file name is a temporary or backup file of an editor or of ours.
pub(super) fn is_passing(name: &str) -> bool {
    name.starts_with('.')
        || name.ends_with('~')
        || [".bak", ".tmp", ".swp", ".swx"].iter().any(|end| name.ends_with(end))
        || (name.starts_with('#') && name.ends_with('#'))
}

/// A folder or link on the way, which can be watched.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen<'a> {
    Folder(&'a Path),
    Link(&'a Path),
}

/// Reads a path: nothing, one file, or a folder and everything below it. `key` is its relative key. Calls `see` before
/// reading each folder and each link, so that a watch set there misses nothing.
pub(super) fn walk(path: &Path, key: &str, see: &mut dyn FnMut(Seen<'_>)) -> Found {
    walk_at_most(MOST_FOLDERS, path, key, see)
}

fn walk_at_most(most: usize, path: &Path, key: &str, see: &mut dyn FnMut(Seen<'_>)) -> Found {
    // A partial walk must find the same keys as a whole one, so it also stops at links to the parent folders.
    let depth = if key.is_empty() { 0 } else { key.split('/').count() };
    let above = path.ancestors().skip(1).take(depth).filter_map(|path| fs::metadata(path).ok());
    let around = above.map(|about| identity(&about)).collect();
    let mut walk = Walk { see, around, most, entered: 0, found: Found::default() };
    let is_link = fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink());
    walk.visit(path, key, is_link);
    walk.found
}

fn identity(about: &Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

struct Walk<'a> {
    see: &'a mut dyn FnMut(Seen<'_>),
    /// Device and inode of the parent folders; one that appears again below itself is a loop.
    around: Vec<(u64, u64)>,
    most: usize,
    /// Folders entered so far.
    entered: usize,
    found: Found,
}

impl Walk<'_> {
    fn visit(&mut self, path: &Path, key: &str, is_link: bool) {
        if is_link {
            (self.see)(Seen::Link(path));
        }
        match fs::metadata(path) {
            Ok(about) if about.is_dir() => self.folder(path, key, &about),
            Ok(about) if about.is_file() => self.file(path, key),
            // Devices, sockets and pipes are not keys.
            Ok(_) => {}
            Err(error) => self.unreadable(key, &error),
        }
    }

    fn folder(&mut self, path: &Path, key: &str, about: &Metadata) {
        let identity = identity(about);
        if self.around.contains(&identity) || self.around.len() >= DEEPEST {
            return;
        }
        if self.entered == self.most {
            let why = format!("more than {} folders, counting each link to one; it is not read", self.most);
            self.found.files.push((key.into(), Content::Unreadable(why)));
            return;
        }
        self.entered += 1;
        if !key.is_empty() {
            self.found.folders.push(key.into());
        }
        (self.see)(Seen::Folder(path));
        self.around.push(identity);
        if let Err(error) = self.children(path, key) {
            self.unreadable(key, &error);
        }
        self.around.pop();
    }

    fn children(&mut self, path: &Path, key: &str) -> io::Result<()> {
        for child in fs::read_dir(path)? {
            let child = child?;
            let Ok(name) = child.file_name().into_string() else {
                continue;
            };
            if !is_passing(&name) {
                let below = if key.is_empty() { name } else { format!("{key}/{name}") };
                let is_link = child.file_type().is_ok_and(|kind| kind.is_symlink());
                self.visit(&child.path(), &below, is_link);
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, key: &str) {
        match read(path) {
            Ok(content) => self.found.files.push((key.into(), content)),
            Err(error) => self.unreadable(key, &error),
        }
    }

    /// A path that vanished before it could be read does not exist; any other error keeps the key's last value.
    fn unreadable(&mut self, key: &str, error: &io::Error) {
        if !is_missing(error) {
            self.found.files.push((key.into(), Content::Unreadable(error.to_string())));
        }
    }
}

/// Whether the error means that the path does not exist.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Reads one file.
pub(super) fn read(path: &Path) -> io::Result<Content> {
    // If a pipe replaces the file meanwhile, opening it must not wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut value = Vec::new();
    (&file).take(LARGEST + 1).read_to_end(&mut value)?;
    if value.len() as u64 > LARGEST {
        return Ok(Content::Unreadable(format!("larger than {} MiB", LARGEST >> 20)));
    }
    if value.is_empty() && is_fresh(&file) {
        return Ok(Content::Fresh);
    }
    // Editors end a text with it. Of what is no text, such as an OCSP response in DER, it is a byte like others.
    if value.last() == Some(&b'\n') && str::from_utf8(&value).is_ok() {
        value.pop();
    }
    Ok(Content::Value(value.into()))
}

fn is_fresh(file: &File) -> bool {
    let modified = file.metadata().and_then(|about| about.modified());
    modified.is_ok_and(|modified| {
        // A time in the future means that the clock was set back, not that the file is new.
        SystemTime::now().duration_since(modified).is_ok_and(|age| age < FRESH)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_names() {
        for name in
            [".domain.swp", "domain~", "domain.tmp", "#domain#", ".domain.tmp-7", "..data", "a.swx", "domain.bak"]
        {
            assert!(is_passing(name), "{name}");
        }
        for name in ["domain", "a.b", "tmp", "bak", "a.bak.b", "web-1", "#1", "4913", "~x"] {
            assert!(!is_passing(name), "{name}");
        }
    }

    fn found(folder: &Path) -> Vec<String> {
        let mut found: Vec<_> = walk(folder, "", &mut |_| {})
            .files
            .into_iter()
            .map(|(key, content)| match content {
                Content::Value(value) => format!("{key}={}", String::from_utf8_lossy(&value)),
                Content::Fresh => format!("{key} fresh"),
                Content::Unreadable(why) => format!("{key}: {why}"),
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn walks() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/one"), "1\n").unwrap();
        fs::write(at("a/two"), "2\n\n").unwrap();
        fs::write(at("a/two~"), "old").unwrap();
        fs::write(at("der"), b"0\x82\n").unwrap();
        fs::write(at("empty"), "").unwrap();
        fs::write(at("large"), vec![b'x'; LARGEST as usize + 1]).unwrap();
        std::os::unix::fs::symlink("a/two", at("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        std::os::unix::fs::symlink("..", at("a/loop")).unwrap();
        let want = ["a/b/one=1", "a/two=2\n", "der=0\u{fffd}\n", "empty fresh", "large: larger than 1 MiB", "link=2\n"];
        assert_eq!(found(folder.path()), want);
    }

    #[test]
    fn links_that_fork_do_not_make_a_walk_endless() {
        let folder = tempfile::tempdir().unwrap();
        let at = |level: usize, name: &str| folder.path().join(level.to_string()).join(name);
        for level in 0..30 {
            fs::create_dir(at(level, "")).unwrap();
            for name in ["a", "b"] {
                std::os::unix::fs::symlink(format!("../{}", level + 1), at(level, name)).unwrap();
            }
        }
        fs::create_dir(at(30, "")).unwrap();
        let found = walk_at_most(100, folder.path(), "", &mut |_| {});
        assert_eq!(found.folders.len(), 99, "the first one is the root");
        let beyond = found.files.iter().filter(|(_, content)| matches!(content, Content::Unreadable(_))).count();
        assert!((1..200).contains(&beyond), "{beyond}");
    }
}
