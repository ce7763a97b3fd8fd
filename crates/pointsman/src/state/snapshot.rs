//! The snapshot: the raw keys that were served, for a start without the store. Its format, reading and writing it; decides
//! nothing. Secret, as certificates' keys are in it: only its owner can read it.
//!
//! ```text
//! STATE/memory/<hash>.snapshot      "pointsman snapshot 1\n", one line of JSON (store, prefix, cluster, revision, keys),
//!                                   then each key: its length and its value's (4 bytes, little endian), key, value;
//!                                   then the checksum of all that, 16 hexadecimal digits
//! STATE/memory/<hash>.snapshot.bad  one that could not be used: the last of this name, for a week
//! ```
//!
//! The file's time of change says when the store was known to hold these keys.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pointsman_table::{KeySet, Problem, ProblemKind};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::{LONGEST, MOST_FILES, StateFile, expect_file, fnv, unusable};
use crate::control::Standby;

/// The first word of the file, before the number of its format.
const MARK: &str = "pointsman snapshot ";
/// The format's version. A file with another one is set aside.
const FORMAT: u32 = 1;
/// Digits of the checksum.
const DIGITS: usize = 16;
/// How long a file that could not be used is kept for people to look at.
const BAD_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// The file's ending.
const ENDING: &str = "snapshot";

/// What the file says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Heading {
    /// The version that wrote it, for people.
    version: String,
    /// etcd's endpoints, or the folder.
    store: Vec<String>,
    prefix: String,
    /// etcd's cluster id; 0 if it is not known.
    #[serde(default)]
    cluster: u64,
    revision: u64,
    /// The number of keys.
    keys: usize,
}

/// The file with one balancer's snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotFile(StateFile);

impl SnapshotFile {
    /// The file beside this one, for the same store and prefix.
    pub fn beside(file: &StateFile) -> Self {
        Self(StateFile { path: file.path.with_extension(ENDING), ..file.clone() })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The newest snapshot of this store and prefix, if there is one; as for the state file, endpoints may have changed. One
    /// that cannot be used is set aside, with a problem.
    pub fn take(&self) -> (Option<Standby>, Option<Problem>) {
        let newest = self.others().filter_map(|path| self.read(&path).ok()).max_by_key(|standby| standby.at);
        match self.read(self.path()) {
            Ok(standby) => (newest.into_iter().chain([standby]).max_by_key(|standby| standby.at), None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (newest, None),
            Err(error) => (newest, Some(self.set_aside(&error))),
        }
    }

    /// Sets the file aside, unless the error may pass and the next start can use it.
    fn set_aside(&self, error: &io::Error) -> Problem {
        let aside = self.path().with_extension("snapshot.bad");
        let moved = match error.kind() {
            io::ErrorKind::InvalidData => match fs::rename(self.path(), &aside) {
                Ok(()) => format!("it is kept for a week as {}", aside.display()),
                Err(error) => format!("it cannot be moved away: {error}"),
            },
            _ => "it stays there".to_owned(),
        };
        self.sweep(SystemTime::now());
        let path = self.path().display();
        let advice = format!(
            "{path}: the snapshot cannot be used: {error}; {moved}. Nothing is served before the store is read"
        );
        warn!("{advice}");
        Problem::of_setting(ProblemKind::State, "state", advice)
    }

    /// Snapshots of other names: of stores with other endpoints, or prefixes.
    fn others(&self) -> impl Iterator<Item = PathBuf> {
        let is_other = |path: &PathBuf| path.extension().is_some_and(|end| end == ENDING) && *path != self.0.path;
        self.0.files().filter(is_other).take(MOST_FILES)
    }

    fn read(&self, path: &Path) -> io::Result<Standby> {
        let about = fs::metadata(path)?;
        expect_file(&about, LONGEST)?;
        self.given(&fs::read(path)?, about.modified()?)
    }

    /// What these bytes of such a file hold. `at`: when the store was known to hold these keys.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn given(&self, bytes: &[u8], at: SystemTime) -> io::Result<Standby> {
        let (heading, entries) = decoded(bytes)?;
        let Heading { store, prefix, cluster, revision, .. } = heading;
        if prefix != self.0.prefix || !store.iter().any(|one| self.0.store.contains(one)) {
            return Err(unusable("it is of another store or prefix"));
        }
        let mut keys = KeySet::default();
        keys.reset(revision, entries);
        Ok(Standby { keys, at, cluster })
    }

    /// Replaces the file in one step: after a crash or on a full disk it is the old one or the new one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, keys: &KeySet, cluster: u64) -> io::Result<()> {
        self.0.write(&self.encoded(keys, cluster)?)
    }

    /// The store still holds the keys that were written last.
    ///
    /// # Errors
    /// The file's time cannot be set.
    pub fn renew(&self) -> io::Result<()> {
        File::options().write(true).open(self.path())?.set_modified(SystemTime::now())
    }

    /// Removes the snapshots that this one replaces: of the same prefix, with other endpoints of its store.
    pub fn tidy(&self) {
        self.others().filter(|path| self.read(path).is_ok()).for_each(|path| remove(&path));
    }

    /// Removes files that could not be used and were set aside long before `now`: they hold secrets, too.
    pub fn sweep(&self, now: SystemTime) {
        let is_old = |path: &PathBuf| {
            let set_aside =
                fs::metadata(path).map(|about| UNIX_EPOCH + Duration::from_secs(about.ctime().max(0).cast_unsigned()));
            set_aside.is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > BAD_FOR))
        };
        let set_aside = self.0.files().filter(|path| path.extension().is_some_and(|end| end == "bad"));
        set_aside.filter(is_old).for_each(|path| remove(&path));
    }

    /// The file's bytes for these keys.
    ///
    /// # Errors
    /// A key or value has more than 4 GiB.
    pub fn encoded(&self, keys: &KeySet, cluster: u64) -> io::Result<Vec<u8>> {
        let heading = Heading {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: self.0.store.clone(),
            prefix: self.0.prefix.clone(),
            cluster,
            revision: keys.revision(),
            keys: keys.len(),
        };
        let mut bytes = format!("{MARK}{FORMAT}\n").into_bytes();
        serde_json::to_writer(&mut bytes, &heading)?;
        bytes.push(b'\n');
        for (key, value) in keys.entries() {
            for length in [key.len(), value.len()] {
                let length = u32::try_from(length).map_err(unusable)?;
                bytes.extend(length.to_le_bytes());
            }
            bytes.extend(key.as_bytes());
            bytes.extend(value);
        }
        let sum = fnv(bytes.iter().copied());
        write!(bytes, "{sum:0DIGITS$x}")?;
        Ok(bytes)
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        debug!("{}: {error}", path.display());
    }
}

/// Keys and values.
type Entries = Vec<(Box<str>, Box<[u8]>)>;

/// Checks the file whole before any of it is used.
fn decoded(bytes: &[u8]) -> io::Result<(Heading, Entries)> {
    let (mark, _) = line(bytes).ok_or_else(|| unusable("it is cut short"))?;
    let format = mark.strip_prefix(MARK).ok_or_else(|| unusable("it is no snapshot"))?;
    if format != FORMAT.to_string() {
        return Err(unusable(format!("its format is {format}, this version knows {FORMAT}")));
    }
    let (content, sum) = bytes.split_at(bytes.len().saturating_sub(DIGITS));
    if format!("{:0DIGITS$x}", fnv(content.iter().copied())).as_bytes() != sum {
        return Err(unusable("its checksum is wrong, so it is damaged"));
    }
    let (_, rest) = line(content).ok_or_else(|| unusable("it is cut short"))?;
    let (heading, mut rest) = line(rest).ok_or_else(|| unusable("it is cut short"))?;
    let heading: Heading = serde_json::from_str(heading).map_err(unusable)?;
    let mut entries = Entries::new();
    while !rest.is_empty() {
        let (entry, later) = entry(rest).ok_or_else(|| unusable("it is cut short"))?;
        entries.push(entry);
        rest = later;
    }
    match entries.len() == heading.keys {
        true => Ok((heading, entries)),
        false => Err(unusable("it has another number of keys than it says")),
    }
}

/// The first line, and the rest.
fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

type Entry = (Box<str>, Box<[u8]>);

/// The first key with its value, and the rest.
fn entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (key_length, bytes) = bytes.split_first_chunk()?;
    let (value_length, bytes) = bytes.split_first_chunk()?;
    let length = |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).ok();
    let (key, bytes) = bytes.split_at_checked(length(key_length)?)?;
    let (value, bytes) = bytes.split_at_checked(length(value_length)?)?;
    Some(((std::str::from_utf8(key).ok()?.into(), value.into()), bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::state::tests::settings;

    fn file(folder: &Path, urls: &[&str], prefix: &str) -> SnapshotFile {
        SnapshotFile::beside(&StateFile::new(folder, &settings(urls, prefix)))
    }

    fn keys() -> KeySet {
        let mut keys = KeySet::default();
        let pairs: [(&str, &[u8]); 6] = [
            ("services/a/domain", b"\xff\n\0"),
            ("tcp-services/a/one", b"h:1"),
            ("services/b", b"x"),
            ("config/retries", b""),
            ("certs/x", b"pem"),
            ("stray", b"y"),
        ];
        keys.reset(7, pairs.map(|(key, value)| (key.into(), value.into())));
        keys
    }

    fn texts(keys: &KeySet) -> Vec<(String, Vec<u8>)> {
        keys.entries().map(|(key, value)| (key, value.to_vec())).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let one = file(folder.path(), &["http://a:1"], "/x");
        assert!(matches!(one.take(), (None, None)));
        one.write(&keys(), 42).unwrap();
        let (Some(read), None) = one.take() else { panic!("it is there") };
        assert_eq!((read.cluster, read.keys.revision(), texts(&read.keys)), (42, 7, texts(&keys())));
        assert_eq!(fs::metadata(one.path()).unwrap().permissions().mode() & 0o777, 0o600);
        // With other endpoints of the store; another prefix, and another store.
        let two = file(folder.path(), &["http://b:1", "http://a:1"], "/x");
        assert_eq!(two.take().0.unwrap().keys.revision(), 7);
        assert!(file(folder.path(), &["http://a:1"], "/y").take().0.is_none());
        assert!(file(folder.path(), &["http://c:1"], "/x").take().0.is_none());
        two.write(&keys(), 42).unwrap();
        two.tidy();
        assert!(two.path().exists() && !one.path().exists());
    }

    #[test]
    fn damage_is_noticed_and_nothing_of_it_used() {
        let folder = tempfile::tempdir().unwrap();
        let file_of = |prefix| file(folder.path(), &["http://a:1"], prefix);
        let (one, other) = (file_of("/x"), file_of("/y"));
        let good = one.encoded(&keys(), 42).unwrap();
        let with = |from: &str, to: &str| {
            let text = good.iter().map(|byte| char::from(*byte)).collect::<String>().replacen(from, to, 1);
            text.chars().map(|c| c as u8).collect::<Vec<_>>()
        };
        let mut cases: Vec<_> = (0..good.len()).map(|end| (good[..end].to_vec(), "")).collect();
        cases.extend((0..good.len()).map(|at| {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            (flipped, "")
        }));
        cases.push(([&good[..], b"x"].concat(), "checksum"));
        cases.push((with("snapshot 1", "snapshot 2"), "its format is 2, this version knows 1"));
        cases.push((other.encoded(&keys(), 42).unwrap(), "of another store or prefix"));
        for (bytes, expected) in cases {
            fs::create_dir_all(one.path().parent().unwrap()).unwrap();
            fs::write(one.path(), &bytes).unwrap();
            let (standby, problem) = one.take();
            let problem = problem.expect("it is said").to_string();
            assert!(standby.is_none() && problem.contains(expected), "{problem}");
            assert!(!one.path().exists(), "it is set aside");
        }
        let aside = one.path().with_extension("snapshot.bad");
        let of_state = one.path().with_extension("json.bad");
        fs::write(&of_state, "x").unwrap();
        one.write(&keys(), 42).unwrap();
        let days = |count: u64| SystemTime::now() + Duration::from_secs(count * 24 * 3600);
        one.sweep(days(6));
        assert!(aside.exists() && of_state.exists());
        one.sweep(days(8));
        assert!(!aside.exists() && !of_state.exists() && one.path().exists(), "one of each name, for a week");
    }

    #[test]
    fn a_renewed_snapshot_is_young() {
        let folder = tempfile::tempdir().unwrap();
        let one = file(folder.path(), &["http://a:1"], "/x");
        one.write(&keys(), 42).unwrap();
        let then = SystemTime::now() - Duration::from_secs(500);
        File::options().write(true).open(one.path()).unwrap().set_modified(then).unwrap();
        let age = || one.take().0.unwrap().at.elapsed().unwrap().as_secs();
        assert!(age() >= 500);
        one.renew().unwrap();
        assert!(age() < 400);
    }
}
