//! A directory store in a temporary folder, written as operators do: a key is a file, renamed into place.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

/// Keys in files. The threads of a test share it by reference.
pub(crate) struct Site {
    home: TempDir,
    written: AtomicU64,
}

impl Site {
    /// An empty store.
    pub(crate) fn new() -> Self {
        let home = TempDir::new().expect("a temporary folder");
        std::fs::create_dir_all(home.path().join("keys")).expect("inside our own folder");
        std::fs::create_dir_all(home.path().join("drafts")).expect("inside our own folder");
        Self { home, written: AtomicU64::new(0) }
    }

    /// A store with these keys.
    pub(crate) fn with(keys: &[(&str, &str)]) -> Self {
        let site = Self::new();
        for (key, value) in keys {
            site.put(key, value);
        }
        site
    }

    /// The store's folder; its keys have no prefix.
    pub(crate) fn folder(&self) -> PathBuf {
        self.home.path().join("keys")
    }

    /// A folder for the test's other files; removed with the store.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a key.
    pub(crate) fn put(&self, key: &str, value: impl AsRef<str>) {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let draft = self.home.path().join("drafts").join(number.to_string());
        let file = self.folder().join(key);
        std::fs::create_dir_all(file.parent().expect("below the folder")).expect("a folder for the key");
        std::fs::write(&draft, format!("{}\n", value.as_ref())).expect("a draft");
        std::fs::rename(&draft, &file).expect("the same file system");
    }

    /// Removes a key, or a folder with everything in it.
    pub(crate) fn remove(&self, key: &str) {
        let path = self.folder().join(key);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.unwrap_or_else(|error| panic!("cannot remove {key}: {error}"));
    }

    /// Removes every key. Names that begin with a dot are not keys: a balancer keeps its status there.
    pub(crate) fn clear(&self) {
        for entry in std::fs::read_dir(self.folder()).expect("our own folder") {
            let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                self.remove(&name);
            }
        }
    }
}
