//! The journal: which keys changed and when, for `pointsman history` and `rollback`. Its format, reading and writing it; decides
//! nothing. It holds no secret: of those, and of very long values, only that there was one.
//!
//! ```text
//! STATE/memory/<hash>.journal    lines: a checksum, 16 hexadecimal digits, a space, and one object of JSON
//! STATE/memory/<hash>.journal.1  the one before it
//! ```
//!
//! A file begins with the store and prefix that it is of. At 4 MiB the next one is begun. A line whose checksum is wrong is left
//! out, and what comes before it is not complete from then on.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pointsman_table::{KeyChange, is_secret};
use serde::{Deserialize, Serialize};

use super::{MOST_FILES, StateFile, expect_file, fnv};

/// The file's ending.
const ENDING: &str = "journal";
/// The ending of the file before it.
const OLDER: &str = "journal.1";
/// Most bytes of a file, but for the last lines that are written at once.
const LARGEST: u64 = 4 << 20;
/// A longer file is not ours.
const LONGEST: u64 = 64 << 20;
/// Longest value that is kept, in bytes.
const LONGEST_VALUE: usize = 16 << 10;
/// Digits of a checksum.
const DIGITS: usize = 16;
/// Bytes of a digest that are shown.
const SHORT: usize = 6;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalLine {
    /// The store and the prefix.
    Of {
        /// etcd's endpoints, or the folder.
        store: Vec<String>,
        /// The prefix.
        prefix: String,
    },
    /// Nobody knows what was before: these keys were seen for the first time.
    Begin {
        /// Milliseconds since the epoch.
        at: u64,
        /// The store's revision; of a folder, the number of the last change.
        revision: u64,
        /// The etcd cluster; 0 if it is not known.
        cluster: u64,
        /// How many keys there are.
        keys: usize,
    },
    /// So many changes are missing here.
    Lost {
        /// How many.
        changes: usize,
    },
    /// A key changed.
    Change(JournalChange),
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalChange {
    /// When this balancer saw it, in milliseconds since the epoch.
    pub at: u64,
    /// The store's revision; of a folder, the number of the change.
    pub revision: u64,
    /// Relative to the prefix.
    pub key: String,
    /// The value before; `None`: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<JournalValue>,
    /// The value since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<JournalValue>,
}

/// What is kept of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JournalValue {
    /// All of it.
    Text(String),
    /// All of it: it is no text.
    Base64(String),
    /// Nothing but these words, as it is secret or long.
    Untold(String),
}

impl JournalValue {
    /// What is kept of a value of this key.
    pub fn of(key: &str, value: &[u8]) -> Self {
        match std::str::from_utf8(value) {
            _ if is_secret(key, &String::from_utf8_lossy(value)) => Self::Untold(secret(value)),
            _ if value.len() > LONGEST_VALUE => Self::Untold(long(value)),
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(value)),
        }
    }

    /// The value, if it is kept.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Base64(text) => STANDARD.decode(text).ok(),
            Self::Untold(_) => None,
        }
    }
}

/// A secret in words. A short digest tells keys of certificates apart; of a password it would help who guesses it.
pub(crate) fn secret(value: &[u8]) -> String {
    match String::from_utf8_lossy(value).contains("-----BEGIN") {
        true => format!("secret, sha256 {}", short_digest(value)),
        false => "secret".to_owned(),
    }
}

fn long(value: &[u8]) -> String {
    format!("{} bytes, sha256 {}", value.len(), short_digest(value))
}

fn short_digest(value: &[u8]) -> String {
    digest(&SHA256, value).as_ref().iter().take(SHORT).map(|byte| format!("{byte:02x}")).collect()
}

/// What was read of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalRead {
    /// Every change, oldest first.
    pub changes: Vec<JournalChange>,
    /// From this one on, none is missing.
    pub complete_from: usize,
    /// The keys at this revision and later can be told from the keys now; `None`: there is no journal.
    pub begin: Option<u64>,
    /// When it begins, in milliseconds since the epoch.
    pub begin_at: u64,
    /// Lines that cannot be used.
    pub damaged: usize,
    /// Changes that were not written.
    pub lost: usize,
    /// The etcd cluster; 0 if it is not known.
    pub cluster: u64,
}

impl JournalRead {
    fn take(&mut self, text: &[u8]) {
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match line_of(line) {
                Some(JournalLine::Of { .. }) => {}
                Some(JournalLine::Begin { at, revision, cluster, .. }) => {
                    if cluster != self.cluster && cluster != 0 && self.cluster != 0 {
                        self.changes.clear();
                    }
                    self.cluster = if cluster == 0 { self.cluster } else { cluster };
                    self.begins_anew(at, Some(revision));
                }
                Some(JournalLine::Lost { changes }) => {
                    self.lost += changes;
                    self.begins_anew(0, None);
                }
                Some(JournalLine::Change(change)) => {
                    if self.begin.is_none() {
                        (self.begin, self.begin_at) = (Some(change.revision), change.at);
                    }
                    self.changes.push(change);
                }
                None => {
                    self.damaged += 1;
                    self.begins_anew(0, None);
                }
            }
        }
    }

    fn begins_anew(&mut self, at: u64, revision: Option<u64>) {
        (self.begin, self.begin_at, self.complete_from) = (revision, at, self.changes.len());
    }

    /// The last value of each key that changed, as far as the record is complete; `None`: it was removed.
    pub fn newest(&self) -> HashMap<String, Option<JournalValue>> {
        let complete = self.changes[self.complete_from..].iter();
        complete.map(|change| (change.key.clone(), change.after.clone())).collect()
    }

    /// Orders the complete part by the store's revisions, each change of a key once: earlier versions wrote the journal from two
    /// programs at a time.
    pub fn in_order(&mut self) {
        let mut seen = HashSet::new();
        let mut complete = self.changes.split_off(self.complete_from);
        complete.sort_by_key(|change| change.revision);
        complete.retain(|change| seen.insert((change.revision, change.key.clone())));
        self.changes.extend(complete);
    }

    /// The highest number of a change.
    pub fn last(&self) -> u64 {
        self.changes.iter().map(|change| change.revision).max().unwrap_or(0).max(self.begin.unwrap_or(0))
    }
}

/// The line with its checksum, and without its end.
fn checked(line: &JournalLine) -> String {
    let text = serde_json::to_string(line).expect("text and numbers");
    format!("{:0DIGITS$x} {text}", fnv(text.bytes()))
}

fn line_of(line: &[u8]) -> Option<JournalLine> {
    let line = std::str::from_utf8(line).ok()?;
    let (sum, text) = line.split_once(' ')?;
    if format!("{:0DIGITS$x}", fnv(text.bytes())) != sum {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// The files with one balancer's journal.
#[derive(Clone, Debug)]
pub struct JournalFile(StateFile);

impl JournalFile {
    /// The files beside this one, for the same store and prefix.
    pub fn beside(file: &StateFile) -> Self {
        Self(StateFile { path: file.path.with_extension(ENDING), ..file.clone() })
    }

    /// The newer file's path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Whether the store has no revisions, so that changes are numbered in the journal.
    pub fn counts(&self) -> bool {
        self.0.is_folder
    }

    fn older(&self) -> PathBuf {
        self.0.path.with_extension(OLDER)
    }

    /// Reads both files; the journal of this prefix under another name, if endpoints of the store have changed.
    ///
    /// # Errors
    /// A file cannot be read. A missing one is empty.
    pub fn read(&self) -> io::Result<JournalRead> {
        let found = if self.path().exists() || self.older().exists() { None } else { self.elsewhere() };
        let file = found.map_or_else(|| self.clone(), |path| Self(StateFile { path, ..self.0.clone() }));
        let mut read = JournalRead::default();
        for path in [file.older(), file.0.path.clone()] {
            match fs::metadata(&path) {
                Ok(about) => expect_file(&about, LONGEST)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            read.take(&fs::read(&path)?);
        }
        Ok(read)
    }

    /// The newest journal of this prefix whose store shares an endpoint.
    fn elsewhere(&self) -> Option<PathBuf> {
        let is_journal = |path: &PathBuf| path.extension().is_some_and(|end| end == ENDING) && *path != self.0.path;
        let is_ours = |path: &PathBuf| {
            let about = fs::metadata(path).ok().filter(|about| expect_file(about, LONGEST).is_ok());
            let text = about.and_then(|_| fs::read(path).ok()).unwrap_or_default();
            match text.split(|byte| *byte == b'\n').next().and_then(line_of) {
                Some(JournalLine::Of { store, prefix }) => {
                    prefix == self.0.prefix && store.iter().any(|one| self.0.store.contains(one))
                }
                _ => false,
            }
        };
        let found = self.0.files().filter(is_journal).take(MOST_FILES).filter(is_ours);
        found.max_by_key(|path| fs::metadata(path).and_then(|about| about.modified()).ok())
    }

    /// Adds lines, and begins the next file where this one is full. After an error the file is as it was.
    ///
    /// # Errors
    /// The folder cannot be made, or the file cannot be written.
    pub fn add(&self, lines: &[JournalLine]) -> io::Result<()> {
        let path = self.path();
        DirBuilder::new().recursive(true).mode(0o700).create(path.parent().expect("a file is in a folder"))?;
        if !path.exists()
            && let Some(former) = self.elsewhere()
        {
            // Endpoints of the store have changed.
            let _ = fs::rename(former.with_extension(OLDER), self.older());
            fs::rename(former, path)?;
        }
        let about = fs::metadata(path).ok();
        about.iter().try_for_each(|about| expect_file(about, u64::MAX))?;
        if about.is_some_and(|about| about.len() >= LARGEST) {
            fs::rename(path, self.older())?;
        }
        let mut file = OpenOptions::new().append(true).read(true).create(true).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        let text = self.text(length, ends_whole(path, length)?, lines);
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        if written.is_err() {
            // A part of a line would be a damaged one.
            let _ = file.set_len(length);
        }
        written
    }

    fn text(&self, length: u64, is_whole: bool, lines: &[JournalLine]) -> String {
        let of = JournalLine::Of { store: self.0.store.clone(), prefix: self.0.prefix.clone() };
        let first = (length == 0).then_some(&of);
        let lines = first.into_iter().chain(lines).map(|line| checked(line) + "\n");
        // The machine may have stopped within the last line.
        (!is_whole).then(|| "\n".to_owned()).into_iter().chain(lines).collect()
    }
}

/// Whether the file ends with a whole line.
fn ends_whole(path: &Path, length: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let mut last = [b'\n'];
    if length > 0 {
        File::open(path)?.read_exact_at(&mut last, length - 1)?;
    }
    Ok(last == [b'\n'])
}

impl JournalChange {
    /// What is kept of a change.
    pub fn of(at: u64, revision: u64, change: &KeyChange) -> Self {
        let value = |value: &Option<Box<[u8]>>| value.as_ref().map(|value| JournalValue::of(&change.key, value));
        let (before, after) = (value(&change.before), value(&change.after));
        Self { at, revision, key: change.key.clone(), before, after }
    }

    /// The change from the value that the journal has, if it has one; `None`: the journal has this change.
    pub fn after(self, noted: Option<Option<JournalValue>>) -> Option<Self> {
        let Some(noted) = noted else { return Some(self) };
        let is_told = !matches!(self.after, Some(JournalValue::Untold(_)));
        let is_noted = is_told && noted == self.after;
        (!is_noted).then_some(Self { before: noted, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::settings;

    fn journal(folder: &Path, urls: &[&str], prefix: &str) -> JournalFile {
        JournalFile::beside(&StateFile::new(folder, &settings(urls, prefix)))
    }

    fn change(revision: u64, key: &str, value: &[u8]) -> JournalLine {
        let change = KeyChange { key: key.to_owned(), before: None, after: Some(value.into()) };
        JournalLine::Change(JournalChange::of(1_000 + revision, revision, &change))
    }

    fn begin(revision: u64, cluster: u64) -> JournalLine {
        JournalLine::Begin { at: 7, revision, cluster, keys: 3 }
    }

    fn revisions(read: &JournalRead) -> Vec<u64> {
        read.changes.iter().map(|change| change.revision).collect()
    }

    #[test]
    fn what_is_added_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let one = journal(folder.path(), &["http://a:1"], "/x");
        assert_eq!(one.read().unwrap(), JournalRead::default());
        one.add(&[begin(4, 1), change(5, "services/a/domain", b"a.test"), change(6, "config/x", b"\xff\n")]).unwrap();
        one.add(&[
            change(7, "certs/c", b"-----BEGIN PRIVATE KEY-----"),
            change(8, "services/a/basic_auth_secrets", b"hunter2"),
        ])
        .unwrap();
        let read = one.read().unwrap();
        assert_eq!((revisions(&read), read.begin, read.complete_from), (vec![5, 6, 7, 8], Some(4), 0));
        let values: Vec<_> = read.changes.iter().filter_map(|change| change.after.as_ref()?.bytes()).collect();
        assert_eq!(values, [b"a.test".to_vec(), b"\xff\n".to_vec()]);
        let text = fs::read_to_string(one.path()).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("PRIVATE"), "{text}");
        assert!(text.contains("secret, sha256 "), "{text}");
        // Another endpoint of the same store; another prefix.
        let two = journal(folder.path(), &["http://a:1", "http://b:1"], "/x");
        assert_eq!(revisions(&two.read().unwrap()), [5, 6, 7, 8]);
        two.add(&[change(9, "config/x", b"1")]).unwrap();
        assert_eq!(revisions(&two.read().unwrap()), [5, 6, 7, 8, 9]);
        assert!(!one.path().exists());
        assert_eq!(journal(folder.path(), &["http://a:1"], "/y").read().unwrap(), JournalRead::default());
    }

    #[test]
    fn what_the_journal_has_is_not_noted_again() {
        let text = |text: &str| Some(JournalValue::Text(text.to_owned()));
        let change = |before: Option<JournalValue>, after: Option<JournalValue>| {
            let key = "services/a/domain".to_owned();
            JournalChange { at: 1, revision: 2, key, before, after }
        };
        let seen = change(text("a"), text("c"));
        assert_eq!(seen.clone().after(None), Some(seen.clone()));
        assert_eq!(seen.clone().after(Some(text("c"))), None);
        assert_eq!(seen.clone().after(Some(text("b"))), Some(change(text("b"), text("c"))));
        assert_eq!(seen.after(Some(None)), Some(change(None, text("c"))));
        let secret = Some(JournalValue::Untold("secret".to_owned()));
        assert!(change(None, secret.clone()).after(Some(secret)).is_some(), "it may be another one");
    }

    #[test]
    fn damaged_lines_are_left_out_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let one = journal(folder.path(), &["http://a:1"], "/x");
        one.add(&[begin(4, 1), change(5, "config/x", b"1"), change(6, "config/x", b"2")]).unwrap();
        let text = fs::read(one.path()).unwrap();
        fs::write(one.path(), &text[..text.len() - 9]).unwrap();
        one.add(&[change(7, "config/x", b"3")]).unwrap();
        let read = one.read().unwrap();
        assert_eq!((revisions(&read), read.damaged, read.begin, read.complete_from), (vec![5, 7], 1, Some(7), 1));
        fs::write(one.path(), b"\xff\xfe\n\0\0\0").unwrap();
        assert_eq!(one.read().unwrap().damaged, 2);
    }

    #[test]
    fn it_is_bounded_and_says_where_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        let one = journal(folder.path(), &["http://a:1"], "/x");
        let value = vec![b'x'; LONGEST_VALUE];
        for revision in 0..1_000 {
            one.add(&[change(revision, "config/x", &value)]).unwrap();
        }
        let length = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(length(one.path()) + length(&one.older()) <= 2 * LARGEST + (1 << 16));
        let read = one.read().unwrap();
        assert!(read.begin.is_some_and(|begin| begin > 0 && begin == read.changes[0].revision), "{:?}", read.begin);
        assert_eq!((read.last(), read.damaged), (999, 0));
        // A longer value is not kept; another cluster has another history.
        one.add(&[begin(3, 1), change(4, "config/x", &[value, b"x".to_vec()].concat()), begin(2, 9)]).unwrap();
        let read = one.read().unwrap();
        assert_eq!((read.changes.len(), read.begin), (0, Some(2)));
    }
}
