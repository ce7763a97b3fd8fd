//! The files that HAProxy reads, below the state folder. Each generation is a folder of its own, written once and never
//! changed; `haproxy.cfg` is a link to the active one, replaced in one step. So no HAProxy ever reads half of a change,
//! even after a crash or on a full disk.
//!
//! ```text
//! STATE/haproxy/haproxy.cfg -> 7/haproxy.cfg          what the master loads
//!               6/  7/                                 haproxy.cfg, maps, certs/, errors/
//!               6.sock  7.sock  master-1.sock          command sockets, unless their paths are too long
//!               master-1.pid                           the process of a master
//! STATE/haproxy-2/                                     the same, of a program that took over while the first drains
//! ```

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::process::geteuid;

/// The configuration's name, in each generation and above them.
pub const CONFIG: &str = "haproxy.cfg";
/// `sun_path` holds 108 bytes with the zero at the end, and HAProxy opens a socket as `PATH.PID.tmp` before it renames
/// it.
const SOCKET_PATH_LIMIT: usize = 107 - ".4194304.tmp".len();
/// Most folders of HAProxies that drain at the same time.
const MOST_FOLDERS: usize = 64;
/// The longest name of a socket of ours.
const SOCKET_NAME_LIMIT: usize = "/master-9999999.sock".len();

/// Why files cannot be written. HAProxy serves on unchanged.
#[derive(Debug, thiserror::Error)]
pub enum FolderFault {
    /// The system's: no space, no permission, read-only.
    #[error("cannot write {path}: {error}")]
    CannotWrite {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The operator's: a path that HAProxy's configuration cannot hold.
    #[error("HAProxy cannot use files below {path}: choose a --state of letters, digits and any of / . _ + @ -")]
    BadPath {
        /// The folder.
        path: PathBuf,
    },
    /// Somebody else's: other users could reach the folder for sockets.
    #[error("{path} belongs to somebody else or is open to others: remove it, or choose a shorter --state")]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// Ours: a file that would lie outside of the generation's folder.
    #[error("{name:?} is not the name of a file")]
    BadName {
        /// Its name.
        name: Box<str>,
    },
}

/// The folder of one HAProxy engine.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    sockets: PathBuf,
    newest: u64,
    masters: u64,
}

/// One set of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number, higher than any before it.
    pub number: u64,
    /// Its folder: `Shape::folder`.
    pub folder: PathBuf,
    /// The command socket of its worker: `Shape::socket`.
    pub socket: PathBuf,
}

impl Generation {
    /// Its configuration, to be checked before it is activated.
    pub fn config(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }
}

impl Folder {
    /// Opens the engine's folder below the state folder, and makes it if need be.
    ///
    /// # Errors
    /// See [`FolderFault`].
    pub fn open(state: &Path) -> Result<Self, FolderFault> {
        Self::open_named(state, "haproxy")
    }

    fn open_named(state: &Path, name: &str) -> Result<Self, FolderFault> {
        let root = std::path::absolute(state.join(name)).map_err(at(state))?;
        if !root.as_os_str().as_encoded_bytes().iter().all(|byte| is_plain(*byte)) {
            return Err(FolderFault::BadPath { path: root });
        }
        make_private(&root)?;
        let numbers = numbers(&root).map_err(at(&root))?;
        let newest = numbers.into_iter().max().unwrap_or(0);
        Ok(Self { sockets: sockets_for(&root)?, root, newest, masters: 0 })
    }

    /// Opens another one while other programs use theirs: `haproxy-2`, or the first that nobody uses.
    ///
    /// # Errors
    /// See [`FolderFault`].
    pub fn beside(state: &Path, is_in_use: impl Fn(&Path) -> bool) -> Result<Self, FolderFault> {
        let names =
            std::iter::once("haproxy".to_owned()).chain((2..=MOST_FOLDERS).map(|number| format!("haproxy-{number}")));
        let free = names.map(|name| (state.join(&name), name)).find(|(folder, _)| !is_in_use(folder));
        let (_, name) = free.ok_or_else(|| FolderFault::CannotWrite {
            path: state.to_owned(),
            error: io::Error::other(format!("{MOST_FOLDERS} HAProxies of earlier programs still drain there")),
        })?;
        Self::open_named(state, &name)
    }

    /// The folders of other HAProxies below the state folder.
    pub fn others(&self, state: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(state).into_iter().flatten().flatten();
        let is_one = |name: &str| name == "haproxy" || name.starts_with("haproxy-");
        let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_one));
        let folders = named.filter_map(|entry| std::path::absolute(entry.path()).ok());
        folders.filter(|folder| *folder != self.root && folder.is_dir()).collect()
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The path that the master loads.
    pub fn config(&self) -> PathBuf {
        self.root.join(CONFIG)
    }

    /// The command socket and the pid file for another master.
    pub fn master(&mut self) -> (PathBuf, PathBuf) {
        self.masters += 1;
        let name = format!("master-{}", self.masters);
        (self.sockets.join(format!("{name}.sock")), self.root.join(format!("{name}.pid")))
    }

    /// The next generation. Nothing of it is written yet.
    pub fn next_generation(&mut self) -> Generation {
        self.newest += 1;
        let number = self.newest;
        let socket = self.sockets.join(format!("{number}.sock"));
        Generation { number, folder: self.root.join(number.to_string()), socket }
    }

    /// Writes a generation's files: name, bytes, and whether they are secret. On failure all of it is removed.
    ///
    /// # Errors
    /// See [`FolderFault`].
    pub fn write<'a>(
        &self,
        generation: &Generation,
        files: impl IntoIterator<Item = (&'a str, &'a [u8], bool)>,
    ) -> Result<(), FolderFault> {
        let folder = &generation.folder;
        let written = make_private(folder).and_then(|()| {
            files.into_iter().try_for_each(|(name, bytes, secret)| write_file(folder, name, bytes, secret))
        });
        if written.is_err() {
            self.remove(generation.number);
        }
        written
    }

    /// Makes the master's next load read this generation, in one step.
    ///
    /// # Errors
    /// See [`FolderFault`].
    pub fn activate(&self, generation: &Generation) -> Result<(), FolderFault> {
        let (link, config) = (self.root.join("haproxy.cfg.new"), self.config());
        // Left by a crash, perhaps.
        let _ = fs::remove_file(&link);
        symlink(Path::new(&generation.number.to_string()).join(CONFIG), &link).map_err(at(&link))?;
        fs::rename(&link, &config).map_err(at(&config))
    }

    /// Removes all generations except these, with the sockets of their workers. A worker reads its files only when it
    /// starts, and old workers are asked through their master.
    pub fn sweep(&self, keep: &[u64]) {
        let numbers = numbers(&self.root).unwrap_or_default();
        numbers.into_iter().filter(|number| !keep.contains(number)).for_each(|number| self.remove(number));
    }

    fn remove(&self, number: u64) {
        // What cannot be removed now is removed by a later sweep.
        let _ = fs::remove_dir_all(self.root.join(number.to_string()));
        let _ = fs::remove_file(self.sockets.join(format!("{number}.sock")));
    }
}

/// A fault at this path.
fn at(path: &Path) -> impl Fn(io::Error) -> FolderFault + '_ {
    |error| FolderFault::CannotWrite { path: path.to_owned(), error }
}

/// Bytes that need no quotes in the configuration and end no word of a command or option list.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._+@-".contains(&byte)
}

fn make_private(folder: &Path) -> Result<(), FolderFault> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))
}

fn write_file(folder: &Path, name: &str, bytes: &[u8], secret: bool) -> Result<(), FolderFault> {
    if name.is_empty() || !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(FolderFault::BadName { name: name.into() });
    }
    let path = folder.join(name);
    make_private(path.parent().unwrap_or(folder))?;
    let mode = if secret { 0o600 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(at(&path))?;
    file.write_all(bytes).map_err(at(&path))
}

/// The generations in the folder.
fn numbers(root: &Path) -> io::Result<Vec<u64>> {
    let names = fs::read_dir(root)?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}

/// The folder for sockets: `root`, or a short one elsewhere if their paths would be too long.
fn sockets_for(root: &Path) -> Result<PathBuf, FolderFault> {
    if root.as_os_str().len() + SOCKET_NAME_LIMIT <= SOCKET_PATH_LIMIT {
        return Ok(root.to_owned());
    }
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    let name = format!("pointsman-{}-{:016x}", geteuid().as_raw(), hasher.finish());
    let folder = runtime_folder(std::env::var_os("XDG_RUNTIME_DIR").as_deref()).join(name);
    make_private(&folder)?;
    let found = fs::symlink_metadata(&folder).map_err(at(&folder))?;
    // Anybody may make folders in /tmp: our sockets must not go into somebody else's.
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(FolderFault::NotOurs { path: folder });
    }
    Ok(folder)
}

fn runtime_folder(given: Option<&OsStr>) -> PathBuf {
    let fits = |folder: &&Path| folder.is_absolute() && folder.is_dir() && folder.as_os_str().len() < 32;
    given.map(Path::new).filter(fits).unwrap_or(Path::new("/tmp")).to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(folder: &Folder) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    fn write(folder: &mut Folder, config: &str) -> Generation {
        let generation = folder.next_generation();
        let files = [(CONFIG, config.as_bytes(), false), ("hosts.map", b"a b\n", false), ("certs/x.pem", b"key", true)];
        folder.write(&generation, files).unwrap();
        generation
    }

    #[test]
    fn generations_are_written_moved_in_and_swept() {
        let state = TempDir::new().unwrap();
        let mut folder = Folder::open(state.path()).unwrap();
        let (first, second) = (write(&mut folder, "one"), write(&mut folder, "two"));
        assert_eq!([mode(folder.path()), mode(&first.folder), mode(&first.folder.join("certs"))], [0o700; 3]);
        assert_eq!(mode(&first.folder.join("certs/x.pem")), 0o600);
        assert!(!folder.config().exists());
        for (generation, config) in [(&first, "one"), (&second, "two"), (&first, "one")] {
            folder.activate(generation).unwrap();
            assert_eq!(fs::read_to_string(folder.config()).unwrap(), config);
        }
        fs::write(&second.socket, "").unwrap();
        folder.sweep(&[first.number]);
        assert_eq!(names(&folder), ["1", "haproxy.cfg"]);
        // Another run goes on counting: what the one before left may still be in use.
        assert_eq!(Folder::open(state.path()).unwrap().next_generation().number, 2);
        assert_eq!(folder.next_generation().number, 3);
    }

    #[test]
    fn what_cannot_be_written_is_told_and_leaves_nothing() {
        let state = TempDir::new().unwrap();
        let mut folder = Folder::open(state.path()).unwrap();
        let served = write(&mut folder, "served");
        folder.activate(&served).unwrap();
        let long = "x".repeat(300);
        for (name, expected) in [
            (long.as_str(), "File name too long"),
            (CONFIG, "File exists"),
            ("../escape", "is not the name of a file"),
            ("/etc/passwd", "is not the name of a file"),
            ("", "is not the name of a file"),
        ] {
            let next = folder.next_generation();
            let said = folder.write(&next, [(CONFIG, &b"x"[..], false), (name, b"y", false)]).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
            assert!(!next.folder.exists());
        }
        assert_eq!(fs::read_to_string(folder.config()).unwrap(), "served");
        let file = state.path().join("file");
        fs::write(&file, "").unwrap();
        let said = Folder::open(&file).unwrap_err().to_string();
        assert!(said.starts_with("cannot write ") && said.contains("file/haproxy: Not a directory"), "{said}");
        let said = Folder::open(&state.path().join("a, b")).unwrap_err().to_string();
        assert!(said.contains("choose a --state"), "{said}");
    }

    #[test]
    fn sockets_of_a_deep_folder_are_elsewhere() {
        let state = TempDir::new().unwrap();
        let deep = state.path().join("d".repeat(80));
        let mut folder = Folder::open(&deep).unwrap();
        let generation = folder.next_generation();
        let home = generation.socket.parent().unwrap().to_owned();
        assert!(generation.socket.as_os_str().len() <= SOCKET_PATH_LIMIT && home != folder.path());
        assert_eq!(mode(&home), 0o700);
        assert_eq!(Folder::open(&deep).unwrap().sockets, home);
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Folder::open(&deep), Err(FolderFault::NotOurs { .. })));
        fs::remove_dir(&home).unwrap();
    }
}
