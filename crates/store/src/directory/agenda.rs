//! Schedules which paths to read again, and when: files being written wait until they are closed. Pure: the time is an
//! argument.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::watches::FileEvent;

/// Events that arrive together are handled together: after this much quiet,
const QUIET: Duration = Duration::from_millis(2);
/// or this long after the first.
const PATIENCE: Duration = Duration::from_millis(20);
/// A file that is still open this long after its first unread write is read anyway, however often it is written.
const UNCLOSED: Duration = Duration::from_secs(30);
/// A new file, or one that an editor renamed to a backup, is read after this time even if it is not written.
const EXPECTED: Duration = Duration::from_secs(1);
/// An empty file without a write for this long counts as empty.
pub(super) const FRESH: Duration = Duration::from_millis(500);

/// The paths to read again.
#[derive(Debug, Default)]
pub(super) struct ReadSchedule {
    changed: BTreeSet<PathBuf>,
    /// Files that are being written.
    written: BTreeMap<PathBuf, Hold>,
    overflow: bool,
    first: Option<Instant>,
    last: Option<Instant>,
}

/// A file that is being written.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// The first unread write.
    since: Instant,
    /// Do not read before this time, unless the file is closed first.
    until: Instant,
}

/// The paths to read now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Read at and below these paths.
    pub(super) paths: BTreeSet<PathBuf>,
    /// Read everything with new watches, because events were lost.
    pub(super) everything: bool,
}

impl ReadSchedule {
    /// Records a file event.
    pub(super) fn note(&mut self, event: FileEvent, now: Instant) {
        match event {
            FileEvent::Changed(path) => {
                self.written.remove(&path);
                self.change(path, now);
            }
            FileEvent::Touched(path) => self.change(path, now),
            FileEvent::Written(path) => self.hold(path, now, UNCLOSED),
            FileEvent::Expected(path) => self.hold(path, now, EXPECTED),
            FileEvent::Overflow => {
                self.overflow = true;
                self.stamp(now);
            }
        }
    }

    /// Does not read this path for `span`, unless it is closed first; for [`UNCLOSED`] in all.
    pub(super) fn hold(&mut self, path: PathBuf, now: Instant, span: Duration) {
        let since = self.written.get(&path).map_or(now, |hold| hold.since);
        self.written.insert(path, Hold { since, until: (now + span).min(since + UNCLOSED) });
    }

    /// Whether this path waits to be closed.
    pub(super) fn holds(&self, path: &Path) -> bool {
        self.written.contains_key(path)
    }

    /// When the next work is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let settled = self.first.zip(self.last).map(|(first, last)| (last + QUIET).min(first + PATIENCE));
        settled.into_iter().chain(self.written.values().map(|hold| hold.until)).min()
    }

    /// The work due by now.
    pub(super) fn take(&mut self, now: Instant) -> Due {
        if self.due().is_none_or(|due| due > now) {
            return Due::default();
        }
        let over: Vec<PathBuf> =
            self.written.iter().filter(|(_, hold)| hold.until <= now).map(|(path, _)| path.clone()).collect();
        for path in over {
            self.written.remove(&path);
            self.changed.insert(path);
        }
        (self.first, self.last) = (None, None);
        let everything = std::mem::take(&mut self.overflow);
        if everything {
            // The lost events may include the closing of these files.
            self.written.clear();
        }
        let written = &self.written;
        let mut paths = std::mem::take(&mut self.changed);
        paths.retain(|path| !written.contains_key(path));
        Due { paths, everything }
    }

    fn change(&mut self, path: PathBuf, now: Instant) {
        self.changed.insert(path);
        self.stamp(now);
    }

    fn stamp(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each step is a time in ms and the file event at that time: `+f` closed, `~f` being written, `^f` expected, `.f`
    /// touched, `!` overflow, `?` take the work. `want` lists the work of each `?`.
    fn check(steps: &[(u64, &str)], want: &[&str]) {
        let start = Instant::now();
        let mut schedule = ReadSchedule::default();
        let mut got = Vec::new();
        for (at, step) in steps {
            let now = start + Duration::from_millis(*at);
            let path = PathBuf::from(&step[1..]);
            match &step[..1] {
                "+" => schedule.note(FileEvent::Changed(path), now),
                "~" => schedule.note(FileEvent::Written(path), now),
                "^" => schedule.note(FileEvent::Expected(path), now),
                "." => schedule.note(FileEvent::Touched(path), now),
                "!" => schedule.note(FileEvent::Overflow, now),
                _ => got.push(describe(&schedule.take(now))),
            }
        }
        assert_eq!(got, want, "{steps:?}");
    }

    fn describe(work: &Due) -> String {
        let paths: Vec<_> = work.paths.iter().map(|path| path.to_string_lossy()).collect();
        format!("{}{}", if work.everything { "!" } else { "" }, paths.join(","))
    }

    #[test]
    fn waits_for_what_is_being_written() {
        check(&[(0, "?")], &[""]);
        check(&[(0, "+a"), (1, "?"), (2, "?"), (3, "?")], &["", "a", ""]);
        check(&[(0, "+a"), (1, "+b"), (2, "?"), (3, "?")], &["", "a,b"]);
        check(&[(0, "~a"), (100, "?"), (100, "+a"), (102, "?")], &["", "a"]);
        check(&[(0, "~a"), (0, ".a"), (5, "?")], &[""]);
        check(&[(0, "~a"), (29_999, "?"), (30_000, "?")], &["", "a"]);
        check(&[(0, "~a"), (20_000, "~a"), (29_999, "?"), (30_000, "?"), (60_000, "?")], &["", "a", ""]);
        check(&[(0, "~a"), (29_000, "^a"), (29_500, "~a"), (30_000, "?"), (30_001, "~a"), (60_001, "?")], &["a", "a"]);
        check(&[(0, "+a"), (0, "~a"), (5, "?"), (7, "+a"), (9, "?")], &["", "a"]);
        check(&[(0, "+a"), (0, "^a"), (5, "?"), (1000, "?")], &["", "a"]);
        check(&[(0, "^a"), (3, "~a"), (1500, "?"), (1600, "+a"), (1602, "?")], &["", "a"]);
        check(&[(0, "~a"), (0, "!"), (2, "?"), (40_000, "?")], &["!", ""]);
    }

    #[test]
    fn never_waits_for_ever() {
        let busy: Vec<(u64, &str)> = (0..20).map(|at| (at, "+a")).chain([(20, "?")]).collect();
        check(&busy, &["a"]);
    }
}
