//! Turns a watch's responses into changes, one step per response. Pure; never waits or sends.
//!
//! ```text
//! response ──step──> Created                     the watch is open
//!                    Changes [(revision, ...)]   whole revisions, in order
//!                    Relist  why                 this history cannot be followed further: list everything
//!                    Retry   why                 the watch is over; open another from `revision + 1`
//! ```

use pointsman_table::Change;

use super::keys::Folder;
use super::list::Position;
use super::messages::{EventKind, KeyValue, WatchEvent, WatchResponse};

/// The progress of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watching {
    /// Everything up to here has been seen.
    pub(super) seen: Position,
    folder: Folder,
    /// A revision that may still get more fragments.
    held: Option<Revision>,
}

/// The changes of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revision {
    pub(super) number: u64,
    pub(super) changes: Vec<Change>,
}

/// The meaning of a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The watch is open.
    Created,
    /// New changes; empty for a progress report.
    Changes(Vec<Revision>),
    /// List everything again; the reason.
    Relist(String),
    /// Open the watch again; the reason etcd ended it.
    Retry(String),
}

impl Watching {
    /// A watch of `folder` that has seen everything up to `seen`.
    pub(super) fn new(folder: Folder, seen: Position) -> Self {
        Self { seen, folder, held: None }
    }

    /// Takes the next response.
    pub(super) fn step(mut self, response: WatchResponse) -> (Self, Step) {
        let step = match Position::new(response.header) {
            Some(now) if now.cluster != self.seen.cluster => Step::Relist("another cluster answers".to_owned()),
            _ if response.canceled => canceled(&response),
            // We ask a member for its cluster's revision before we watch it, so the member cannot be behind that
            // revision.
            Some(now) if now.revision < self.seen.revision => {
                Step::Retry(format!("it went back from revision {} to {}", self.seen.revision, now.revision))
            }
            _ if response.created => Step::Created,
            Some(now) if response.events.is_empty() && !response.fragment && self.held.is_none() => {
                self.seen.revision = self.seen.revision.max(now.revision);
                Step::Changes(Vec::new())
            }
            _ => Step::Changes(self.take(response)),
        };
        (self, step)
    }

    /// Groups events by revision. Holds back the last group while more fragments of it may follow.
    fn take(&mut self, response: WatchResponse) -> Vec<Revision> {
        let Self { seen, folder, held } = self;
        let mut whole = Vec::new();
        for (number, change) in response.events.into_iter().filter_map(|event| read(folder, *seen, event)) {
            match &mut *held {
                Some(held) if held.number == number => held.changes.extend(change),
                held => whole.extend(held.replace(Revision { number, changes: change.into_iter().collect() })),
            }
        }
        if !response.fragment {
            whole.extend(held.take());
        }
        if let Some(last) = whole.last() {
            seen.revision = last.number;
        }
        whole
    }
}

/// The event's revision and change; no change if the key is not one of ours. `None` for an event seen before: etcd is
/// known to repeat events after a reconnect.
fn read(folder: &Folder, seen: Position, event: WatchEvent) -> Option<(u64, Option<Change>)> {
    let KeyValue { key, mod_revision, value, .. } = event.kv?;
    let number = u64::try_from(mod_revision).ok().filter(|number| *number > seen.revision)?;
    let change = folder.relative_or_say(&key).map(|key| match EventKind::try_from(event.kind) {
        Ok(EventKind::Delete) => Change::Delete { key },
        _ => Change::Put { key, value: value.into() },
    });
    Some((number, change))
}

fn canceled(response: &WatchResponse) -> Step {
    if response.compact_revision != 0 {
        return Step::Relist(format!("its history before revision {} is compacted", response.compact_revision));
    }
    match response.cancel_reason.trim_start_matches("etcdserver: ") {
        "" => Step::Retry("it ended the watch without a reason".to_owned()),
        reason => Step::Retry(format!("it ended the watch: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::ResponseHeader;
    use super::*;

    fn put(revision: i64, key: &str) -> WatchEvent {
        let kv = KeyValue { key: key.into(), mod_revision: revision, value: b"v".to_vec(), lease: 0 };
        WatchEvent { kind: EventKind::Put.into(), kv: Some(kv), prev_kv: None }
    }

    fn delete(revision: i64, key: &str) -> WatchEvent {
        WatchEvent { kind: EventKind::Delete.into(), ..put(revision, key) }
    }

    fn response(revision: i64, events: Vec<WatchEvent>) -> WatchResponse {
        let header = Some(ResponseHeader { cluster_id: 1, revision });
        WatchResponse { header, events, ..WatchResponse::default() }
    }

    fn fragment(events: Vec<WatchEvent>) -> WatchResponse {
        WatchResponse { fragment: true, ..response(99, events) }
    }

    fn describe(step: &Step) -> String {
        match step {
            Step::Created => "created".to_owned(),
            Step::Changes(revisions) => revisions.iter().map(describe_revision).collect::<Vec<_>>().join(" "),
            Step::Relist(why) => format!("relist: {why}"),
            Step::Retry(why) => format!("retry: {why}"),
        }
    }

    fn describe_revision(revision: &Revision) -> String {
        let changes = revision.changes.iter().map(|change| match change {
            Change::Put { key, .. } => format!("+{key}"),
            Change::Delete { key } | Change::DeleteTree { key } => format!("-{key}"),
        });
        format!("{}[{}]", revision.number, changes.collect::<Vec<_>>().join(" "))
    }

    /// Passes responses to a watch of `/x` that has seen cluster 1 up to revision 10.
    fn check(responses: Vec<WatchResponse>, want: &[&str], seen: u64) {
        let mut watching = Watching::new(Folder::new("/x"), Position { cluster: 1, revision: 10 });
        let mut got = Vec::new();
        for response in responses {
            let step;
            (watching, step) = watching.step(response);
            got.push(describe(&step));
        }
        assert_eq!((got, watching.seen.revision), (want.iter().map(|&want| want.to_owned()).collect(), seen));
    }

    #[test]
    fn revisions_come_whole() {
        check(vec![response(11, vec![put(11, "/x/a")])], &["11[+a]"], 11);
        check(vec![response(11, vec![put(11, "/x/a"), delete(11, "/x/b")])], &["11[+a -b]"], 11);
        check(vec![response(14, vec![put(11, "/x/a"), put(13, "/x/a"), put(13, "/x/b")])], &["11[+a] 13[+a +b]"], 13);
    }

    #[test]
    fn fragments_are_joined() {
        let check = |parts: Vec<WatchResponse>, want: &[&str]| check(parts, want, 12);
        check(vec![fragment(vec![put(12, "/x/a")]), response(12, vec![put(12, "/x/b")])], &["", "12[+a +b]"]);
        check(
            vec![
                fragment(vec![put(11, "/x/a"), put(12, "/x/b")]),
                fragment(vec![put(12, "/x/c")]),
                response(12, vec![]),
            ],
            &["11[+a]", "", "12[+b +c]"],
        );
        check(vec![fragment(vec![put(11, "/x/a")]), response(12, vec![put(12, "/x/b")])], &["", "11[+a] 12[+b]"]);
    }

    #[test]
    fn what_was_seen_or_is_not_ours_is_left_out() {
        check(vec![response(11, vec![put(9, "/x/a"), put(10, "/x/a"), put(11, "/x/b")])], &["11[+b]"], 11);
        check(vec![response(11, vec![put(11, "/x//"), put(11, "/x/b")])], &["11[+b]"], 11);
        check(vec![response(11, vec![put(11, "/x//")])], &["11[]"], 11);
        check(vec![response(11, vec![WatchEvent::default()])], &[""], 10);
    }

    #[test]
    fn progress_moves_the_point_of_return() {
        check(vec![response(20, vec![])], &[""], 20);
        check(vec![response(9, vec![])], &["retry: it went back from revision 10 to 9"], 10);
        let created = WatchResponse { created: true, ..response(9, vec![]) };
        check(vec![created], &["retry: it went back from revision 10 to 9"], 10);
        check(vec![fragment(vec![put(12, "/x/a")]), fragment(vec![])], &["", ""], 10);
    }

    #[test]
    fn ends() {
        let canceled = |compact_revision, reason: &str| WatchResponse {
            canceled: true,
            created: true,
            compact_revision,
            cancel_reason: reason.to_owned(),
            ..response(20, vec![])
        };
        let elsewhere = ResponseHeader { cluster_id: 2, revision: 20 };
        check(vec![WatchResponse { created: true, ..response(20, vec![]) }], &["created"], 10);
        check(vec![canceled(15, "")], &["relist: its history before revision 15 is compacted"], 10);
        check(vec![canceled(0, "etcdserver: no leader")], &["retry: it ended the watch: no leader"], 10);
        check(vec![canceled(0, "")], &["retry: it ended the watch without a reason"], 10);
        let response = WatchResponse { header: Some(elsewhere), ..response(20, vec![put(20, "/x/a")]) };
        check(vec![response], &["relist: another cluster answers"], 10);
    }
}
