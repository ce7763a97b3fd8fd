//! Reads and edits single files. Reads and edits that respect others' leases are in `beside`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::files::{self, Content, Unreadable};
use crate::error::StoreError;
use crate::model::{ASIDE, Edit, Listing, Location, StoreSettings, check_key};

/// The folder for the keys below [`ASIDE`].
const HIDDEN: &str = ".pointsman";

/// A folder as a store.
#[derive(Clone, Debug)]
pub struct Directory {
    pub(super) root: PathBuf,
    pub(super) prefix: String,
    pub(super) audit: Duration,
    /// When a follower of this store last saw something removed.
    pub(super) removal: Arc<Mutex<Option<Instant>>>,
}

impl Directory {
    /// Takes the settings. Accesses no file.
    pub fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let Location::Directory(root) = &settings.location else {
            return Err(StoreError::BadSettings { what: "a directory store needs the path of a folder".to_owned() });
        };
        let root = std::path::absolute(root).map_err(failed(root))?;
        Ok(Self { root, prefix: settings.prefix.clone(), audit: settings.audit, removal: Arc::default() })
    }

    /// A folder of files, to be followed with [`Directory::follow_files`].
    ///
    /// # Errors
    /// The path is empty.
    pub fn of_files(folder: &Path, audit: Duration) -> Result<Self, StoreError> {
        let root = std::path::absolute(folder).map_err(failed(folder))?;
        Ok(Self { root, prefix: String::new(), audit, removal: Arc::default() })
    }

    /// The files of the folder now, by their path in it, and those that cannot be read. Blocks. The empty path is the folder.
    pub fn read_files(&self) -> (Listing, Unreadable) {
        let (mut listing, mut unreadable) = (Listing::default(), Unreadable::new());
        if let Err(error) = fs::metadata(&self.root) {
            unreadable.insert("".into(), error.to_string());
        }
        for (path, content) in files::walk(&self.root, "", &mut |_| {}).files {
            match content {
                Content::Value(bytes) => listing.entries.push((path, bytes)),
                Content::Fresh => listing.entries.push((path, Box::default())),
                Content::Unreadable(why) => drop(unreadable.insert(path, why)),
            }
        }
        (listing, unreadable)
    }

    /// Fails if something other than a folder has the path of the store or of a parent folder: the store can then never
    /// exist. A missing folder may still appear.
    ///
    /// # Errors
    /// [`StoreError::Files`].
    pub fn check_root(&self) -> Result<(), StoreError> {
        let failed = |why: &str| StoreError::Files { path: self.root.clone(), why: why.to_owned() };
        match fs::metadata(&self.root) {
            Ok(about) if !about.is_dir() => Err(failed("the store is to be a folder, and this is a file")),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(failed("the store is to be a folder, and a part of its path is a file"))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Makes the store's folder if it is missing.
    ///
    /// # Errors
    /// As [`Directory::check_root`], or the folder cannot be made.
    pub fn make_root(&self) -> Result<(), StoreError> {
        self.check_root()?;
        fs::create_dir_all(&self.root).map_err(|error| StoreError::Files {
            path: self.root.clone(),
            why: format!("cannot make the store's folder: {error}"),
        })
    }

    /// The value of a full key, if it has one.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.file(key)?;
        let key = key.to_owned();
        blocking(move || match files::read(&path) {
            Ok(Content::Value(value)) => Ok(Some(value.into_vec())),
            Ok(Content::Fresh) => Ok(Some(Vec::new())),
            Ok(Content::Unreadable(why)) => Err(StoreError::Files { path, why }),
            Err(error) if files::is_missing(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(is_directory(&key)),
            Err(error) => Err(failed(&path)(error)),
        })
        .await
    }

    /// Sets a full key: readers see the old value or the new one, never a part of it. Returns 0.
    pub async fn put(&self, key: &str, value: &[u8]) -> Result<u64, StoreError> {
        let path = self.file(key)?;
        let (line, folder) = (files::content_of(value), is_directory(key));
        blocking(move || match path.is_dir() {
            true => Err(folder),
            false => replace(&path, &line).map_err(failed(&path)),
        })
        .await?;
        Ok(0)
    }

    /// Makes these edits in this order, after all new values are written beside their files: errors occur before
    /// anything changes, and followers see all edits at once, unless the machine stops in between.
    pub async fn commit(&self, edits: &[Edit]) -> Result<(), StoreError> {
        let place = |edit: &Edit| self.file(edit.key()).map(|path| (path, edit.clone()));
        let edits = edits.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        blocking(move || commit(&edits)).await
    }

    /// Deletes a full key, with everything below it if `recursive`.
    pub async fn delete(&self, key: &str, recursive: bool) -> Result<(), StoreError> {
        let path = self.file(key)?;
        let key = key.to_owned();
        blocking(move || remove(&path, &key, recursive)).await
    }

    /// Makes a folder, with its parents.
    pub async fn mkdir(&self, key: &str) -> Result<(), StoreError> {
        let path = self.file(key)?;
        blocking(move || fs::create_dir_all(&path).map_err(failed(&path))).await
    }

    /// Keys below [`ASIDE`] are in a folder that followers of keys skip.
    pub(super) fn path(&self, key: &str) -> PathBuf {
        match key.strip_prefix(ASIDE).filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            Some(rest) => self.root.join(HIDDEN).join(rest.trim_matches('/')),
            None => self.root.join(key.trim_matches('/')),
        }
    }

    /// The path of an editable key: no segment is a name that readers skip.
    pub(crate) fn file(&self, key: &str) -> Result<PathBuf, StoreError> {
        check_key(key)?;
        match key.split('/').find(|part| files::is_passing(part)) {
            None => Ok(self.path(key)),
            Some(part) => Err(bad_key(
                key,
                &format!("a file named {part} looks like an editor's temporary file and is never read"),
            )),
        }
    }
}

/// Runs blocking file work on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("file work does not panic")
}

/// Writes a file and creates its parent folders.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    replace_in_folder(path, content)
}

/// Writes a file in an existing folder.
pub(super) fn replace_in_folder(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, content, |file| as_before(path, file))
}

/// Gives a file that will replace another its rights and, as far as we may, its owner: whoever could read the value still can,
/// and nobody else.
fn as_before(path: &Path, file: &File) -> io::Result<()> {
    let Ok(about) = fs::metadata(path) else { return Ok(()) };
    if file.metadata()?.mode() != about.mode() {
        file.set_permissions(about.permissions())?;
    }
    let _ = std::os::unix::fs::fchown(file, Some(about.uid()), Some(about.gid()));
    Ok(())
}

/// The same; `prepare` gets the new file while it is empty.
pub(super) fn replace_with(
    path: &Path,
    content: &[u8],
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let passing = passing(path);
    let written = write(&passing, content, prepare).and_then(|()| fs::rename(&passing, path));
    if written.is_err() {
        // Readers skip the leftover in any case.
        let _ = fs::remove_file(&passing);
        return written;
    }
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// The file beside this one that holds its next content; readers skip it.
fn passing(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp-{}", std::process::id()))
}

fn commit(edits: &[(PathBuf, Edit)]) -> Result<(), StoreError> {
    let staged = edits.iter().try_for_each(|(path, edit)| stage(path, edit));
    let done = staged.and_then(|()| edits.iter().try_for_each(|(path, edit)| take_effect(path, edit)));
    if done.is_err() {
        edits.iter().for_each(|(path, _)| drop(fs::remove_file(passing(path))));
        return done;
    }
    let folders: BTreeSet<_> =
        edits.iter().filter_map(|(path, _)| path.parent()).filter(|path| path.is_dir()).collect();
    let sync = |folder: &Path| File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder));
    folders.into_iter().try_for_each(sync)
}

fn stage(path: &Path, edit: &Edit) -> Result<(), StoreError> {
    match edit {
        _ if path.is_dir() => Err(is_directory(edit.key())),
        Edit::Put { value, .. } => {
            let staged = fs::create_dir_all(path.parent().unwrap_or(path))
                .and_then(|()| write(&passing(path), &files::content_of(value), |file| as_before(path, file)));
            staged.map_err(failed(path))
        }
        Edit::Delete { .. } => Ok(()),
    }
}

fn take_effect(path: &Path, edit: &Edit) -> Result<(), StoreError> {
    let done = match edit {
        Edit::Put { .. } => fs::rename(passing(path), path),
        Edit::Delete { .. } => match fs::remove_file(path) {
            Err(error) if files::is_missing(&error) => Ok(()),
            other => other,
        },
    };
    done.map_err(failed(path))
}

fn write(path: &Path, content: &[u8], prepare: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let mut file = File::create(path)?;
    prepare(&file)?;
    file.write_all(content)?;
    file.sync_all()
}

fn remove(path: &Path, key: &str, recursive: bool) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() && !recursive => return Err(is_directory(key)),
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if files::is_missing(&error) => Err(StoreError::NoSuchKey { key: key.to_owned() }),
        other => other.map_err(failed(path)),
    }
}

pub(super) fn failed(path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |error| StoreError::Files { path: path.to_owned(), why: error.to_string() }
}

fn is_directory(key: &str) -> StoreError {
    bad_key(key, "is a directory")
}

fn bad_key(key: &str, why: &str) -> StoreError {
    StoreError::BadKey { key: key.to_owned(), why: why.to_owned() }
}
