//! The past of the keys: what etcd remembers, and what the journal of this machine's balancer says beside and before that.
//! Changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;

use anyhow::{Context, bail};
use pointsman_store::{Api, Listing, Location, PastChange, Store, StoreError, StoreSettings};
use pointsman_table::{BARRIER, is_instance_key, is_secret, shown};
use time::OffsetDateTime;

use super::patience::{expect_folder, within};
use crate::control::plural;
use crate::settings::Settings;
use crate::state::StateFile;
use crate::state::journal::{JournalChange, JournalFile, JournalRead, JournalValue, secret};

/// Most changes that are looked at.
const MOST: usize = 10_000;
/// Longest value shown, in characters.
const LONGEST_SHOWN: usize = 160;

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PastEntry {
    /// The store's revision; of a folder, the number that the journal gave it.
    pub(super) revision: u64,
    /// When a balancer saw it, in milliseconds since the epoch.
    pub(super) at: Option<u64>,
    /// Relative to the prefix.
    pub(super) key: String,
    pub(super) before: PastValue,
    pub(super) after: PastValue,
    /// 0: none.
    pub(super) lease: u64,
}

/// A value of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PastValue {
    /// There was none.
    Nothing,
    /// This one.
    Told(Vec<u8>),
    /// One that nobody keeps; in words.
    Untold(String),
}

impl PastValue {
    fn of_store(value: Option<Box<[u8]>>) -> Self {
        value.map_or(Self::Nothing, |value| Self::Told(value.into_vec()))
    }

    fn of_journal(value: Option<&JournalValue>) -> Self {
        match value {
            None => Self::Nothing,
            Some(JournalValue::Untold(words)) => Self::Untold(words.clone()),
            Some(told) => told.bytes().map_or_else(|| Self::Untold("damaged".to_owned()), Self::Told),
        }
    }

    /// For people: a secret is never shown, a long value is cut. `None`: there is none.
    pub(super) fn shown(&self, key: &str) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Untold(words) => Some(format!("({words})")),
            Self::Told(value) => Some(shown_value(key, value)),
        }
    }

    fn is(&self, value: Option<&Vec<u8>>) -> bool {
        match self {
            Self::Nothing => value.is_none(),
            Self::Told(told) => value == Some(told),
            Self::Untold(_) => value.is_some(),
        }
    }
}

/// A value for people, without a secret.
pub(super) fn shown_value(key: &str, value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    if is_secret(key, &text) {
        return format!("({})", secret(value));
    }
    let escaped = shown(&text).to_string();
    match escaped.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}…", &escaped[..end]),
        None => escaped,
    }
}

impl PastEntry {
    /// `~ services/shop/domain = shop.test -> shpo.test`.
    pub(super) fn words(&self) -> String {
        let key = shown(&self.key);
        match (self.before.shown(&self.key), self.after.shown(&self.key)) {
            (Some(before), Some(after)) => format!("~ {key} = {before} -> {after}"),
            (None, Some(after)) => format!("+ {key} = {after}"),
            (Some(before), None) => format!("- {key} = {before}"),
            (None, None) => format!("- {key}"),
        }
    }

    /// Whether it only writes the same value again.
    fn is_idle(&self) -> bool {
        self.before == self.after && !matches!(self.after, PastValue::Untold(_))
    }

    fn of_journal(change: &JournalChange) -> Self {
        Self {
            revision: change.revision,
            at: Some(change.at),
            key: change.key.clone(),
            before: PastValue::of_journal(change.before.as_ref()),
            after: PastValue::of_journal(change.after.as_ref()),
            lease: 0,
        }
    }
}

/// Milliseconds since the epoch as `2026-11-30 02:58:01`, UTC.
pub(super) fn moment(at: u64) -> String {
    let moment = i64::try_from(at / 1000).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.map_or_else(
        || at.to_string(),
        |moment| format!("{} {:02}:{:02}:{:02}", moment.date(), moment.hour(), moment.minute(), moment.second()),
    )
}

/// Which keys are meant.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyScope(Vec<String>);

impl KeyScope {
    /// `shop`: the HTTP and the TCP service of this name; `config`, `certs` or a key with a slash: it and what is below it;
    /// nothing: every key.
    pub(super) fn of(name: Option<&str>, prefix: &str) -> Self {
        let Some(name) = name.map(|name| name.trim_end_matches('/')).filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let relative = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name);
        match relative {
            "config" | "certs" | "services" | "tcp-services" => Self(vec![relative.to_owned()]),
            key if key.contains('/') => Self(vec![key.to_owned()]),
            service => Self(vec![format!("services/{service}"), format!("tcp-services/{service}")]),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        let is_in =
            |place: &String| key.strip_prefix(&**place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        key != BARRIER && (self.0.is_empty() || self.0.iter().any(is_in))
    }
}

/// The keys at one revision.
#[derive(Debug, Default)]
pub(super) struct KeysAt {
    /// Relative keys.
    pub(super) values: BTreeMap<String, Vec<u8>>,
    /// Those under a lease, as far as that is known.
    pub(super) leased: BTreeSet<String>,
    /// Keys whose values at that revision are not known, and why.
    pub(super) unknown: BTreeMap<String, String>,
}

impl From<&Listing> for KeysAt {
    fn from(listing: &Listing) -> Self {
        Self {
            values: listing.entries.iter().map(|(key, value)| (key.to_string(), value.to_vec())).collect(),
            leased: listing.leased.iter().map(ToString::to_string).collect(),
            unknown: BTreeMap::new(),
        }
    }
}

/// What is known of the keys' past.
pub(super) struct KeyPast {
    /// With the API decided.
    pub(super) settings: StoreSettings,
    store: Store,
    /// The keys below the prefix now. Its revision is that of the journal for a folder.
    pub(super) now: Listing,
    journal: JournalRead,
    /// The journal's file, or why there is none.
    file: Result<JournalFile, String>,
    /// Whether the revisions are the journal's own.
    is_folder: bool,
    /// What differs from the journal's newest values: it changed while no balancer wrote the journal, or just now.
    unseen: Vec<PastEntry>,
}

impl KeyPast {
    /// Reads the keys and the journal.
    ///
    /// # Errors
    /// The store is unreachable.
    pub(super) async fn read(settings: &Settings) -> anyhow::Result<Self> {
        expect_folder(&settings.store, "read")?;
        let settled = within(Store::open(&settings.store)?.settle(&settings.store)).await?;
        let store = Store::open(&settled)?;
        let mut now = within(store.list(&settled.prefix)).await?;
        now.entries.sort_unstable();
        let file = settings.state.as_ref().map(|state| JournalFile::beside(&StateFile::new(state, &settings.store)));
        let (mut journal, file) = match file {
            None => (JournalRead::default(), Err("there is no --state".to_owned())),
            Some(file) => match file.read() {
                Ok(read) => (read, Ok(file)),
                Err(error) => (JournalRead::default(), Err(format!("{}: {error}", file.path().display()))),
            },
        };
        let is_folder = matches!(settled.location, Location::Directory(_));
        if is_folder {
            let unseen = unseen(&journal, &now, journal.last() + 1);
            now.revision = journal.last() + u64::from(!unseen.is_empty());
        } else {
            journal.in_order();
        }
        // etcd v3 has a record of its own.
        let is_journal_alone = is_folder || settled.api == Api::V2;
        let unseen = if is_journal_alone { unseen(&journal, &now, now.revision) } else { Vec::new() };
        Ok(Self { settings: settled, store, now, journal, file, is_folder, unseen })
    }

    /// The changes after this revision, oldest first, and what there is to say of them.
    ///
    /// # Errors
    /// The store is unreachable.
    pub(super) async fn changes(&self, since: u64) -> anyhow::Result<(Vec<PastEntry>, Vec<String>)> {
        let told = within(self.store.past(&self.settings.prefix, since, MOST)).await?;
        let mut notes = Vec::new();
        let (entries, begin) = match told {
            Some(told) => {
                if told.begin > since && told.begin > 0 {
                    notes.push(format!("etcd's record begins after revision {}", told.begin));
                }
                let times: HashMap<u64, u64> =
                    self.journal.changes.iter().map(|change| (change.revision, change.at)).collect();
                let entry = |change: PastChange| PastEntry {
                    revision: change.revision,
                    at: times.get(&change.revision).copied(),
                    key: change.key.into(),
                    before: PastValue::of_store(change.before),
                    after: PastValue::of_store(change.after),
                    lease: change.lease,
                };
                (told.changes.into_iter().map(entry).collect::<Vec<_>>(), told.begin)
            }
            None => (Vec::new(), u64::MAX),
        };
        let earlier = self.journal.changes.iter().filter(|change| (since + 1..=begin).contains(&change.revision));
        let mut all: Vec<_> = earlier.map(PastEntry::of_journal).collect();
        self.tell_journal(begin, since, &mut notes);
        all.extend(entries);
        if !self.unseen.is_empty() {
            all.extend(self.unseen.iter().filter(|entry| entry.revision > since).cloned());
            let count = plural(self.unseen.len(), "change");
            notes.push(format!(
                "{count} since the journal's last line, perhaps while no balancer ran; nobody knows when"
            ));
        }
        all.retain(|entry| entry.key != BARRIER && !entry.is_idle());
        Ok((all, notes))
    }

    fn tell_journal(&self, begin: u64, since: u64, notes: &mut Vec<String>) {
        let (damaged, lost) = (self.journal.damaged, self.journal.lost);
        match (&self.file, self.journal.begin) {
            (Err(why), _) => notes.push(format!("no journal of a balancer can be read, so there are no times: {why}")),
            (Ok(file), None) => notes.push(format!(
                "there is no journal of a balancer, so there are no times: {}; --state names its folder",
                file.path().display()
            )),
            (Ok(_), Some(first)) if begin > since && first > since => notes
                .push(format!("the journal begins at {} UTC, with revision {first}", moment(self.journal.begin_at))),
            (Ok(_), Some(_)) => {}
        }
        if damaged > 0 {
            notes.push(format!("{} of the journal damaged and left out", plural(damaged, "line")));
        }
        if lost > 0 {
            notes.push(format!("the journal lacks {}, which could not be written", plural(lost, "change")));
        }
    }

    /// Whether what these keys have now can be told later, once they are changed.
    pub(super) fn keeps<'k>(&self, mut keys: impl Iterator<Item = (&'k str, &'k [u8])>) -> bool {
        let is_journal_alone = self.is_folder || self.settings.api == Api::V2;
        let is_kept = |(key, value)| {
            let is_told = !matches!(JournalValue::of(key, value), JournalValue::Untold(_));
            is_told && (self.is_folder || !is_instance_key(key, value))
        };
        !is_journal_alone || self.journal.begin.is_some() && keys.all(is_kept)
    }

    /// Whether the key scope names something that there is, or was, as far as anybody knows.
    pub(super) fn knows(&self, scope: &KeyScope, entries: &[PastEntry], then: &KeysAt) -> bool {
        let is_now = self.now.entries.iter().any(|(key, _)| scope.has(key));
        let was = self.journal.changes.iter().any(|change| scope.has(&change.key));
        let is_then = then.values.keys().chain(then.unknown.keys()).any(|key| scope.has(key));
        is_now || was || is_then || entries.iter().any(|entry| scope.has(&entry.key))
    }

    /// The keys below the prefix at this revision.
    ///
    /// # Errors
    /// Nobody knows them any more, or not yet; the store is unreachable.
    pub(super) async fn keys_at(&self, revision: u64) -> anyhow::Result<KeysAt> {
        let now = self.now.revision;
        if revision > now {
            let what = if self.is_folder { "the journal's last change is" } else { "the store is at revision" };
            bail!("revision {revision} has not come yet: {what} {now}");
        }
        if revision == 0 && !self.is_folder {
            bail!("revision 0: etcd counts from 1; name a revision that `pointsman history` lists");
        }
        if revision == now {
            return Ok(KeysAt::from(&self.now));
        }
        let prefix = &self.settings.prefix;
        let (base, from, why) = match within(self.store.list_at(prefix, revision)).await {
            Ok(Some(listing)) => return Ok(KeysAt::from(&listing)),
            Ok(None) => (KeysAt::from(&self.now), now, "this store does not remember its past".to_owned()),
            Err(error) if is_compacted(&error) => {
                let told = within(self.store.past(prefix, revision, MOST)).await?.unwrap_or_default();
                // etcd knows the changes after a revision that it no longer has the keys of.
                let begin = told.begin.max(revision + 1);
                let listing = within(self.store.list_at(prefix, begin)).await?.unwrap_or_default();
                let why = format!("it is compacted: etcd remembers the keys since revision {begin}");
                (KeysAt::from(&listing), begin, why)
            }
            Err(error) => return Err(error),
        };
        self.walk_back(base, from, revision).with_context(|| format!("revision {revision}: {why}"))
    }

    /// Takes back what the journal says was changed after `to`, up to `from`.
    fn walk_back(&self, mut keys: KeysAt, from: u64, to: u64) -> anyhow::Result<KeysAt> {
        match (&self.file, self.journal.begin) {
            (Err(why), _) => bail!("no journal of a balancer can be read: {why}"),
            (Ok(file), None) => {
                bail!("there is no journal of a balancer: {}; --state names its folder", file.path().display())
            }
            (Ok(_), Some(begin)) if begin > to => {
                bail!("the journal begins at {} UTC, with revision {begin}", moment(self.journal.begin_at))
            }
            (Ok(_), Some(_)) => {}
        }
        let known = keys.values.clone();
        self.unseen.iter().filter(|entry| entry.revision > to).for_each(|entry| keys.take_back(entry.clone()));
        let complete = &self.journal.changes[self.journal.complete_from..];
        for change in complete.iter().rev().filter(|change| change.revision > to && change.revision <= from) {
            keys.take_back(PastEntry::of_journal(change));
        }
        if !self.is_folder {
            keys.doubt_instances(&known);
        }
        Ok(keys)
    }
}

/// The keys whose values are not the journal's newest ones.
fn unseen(journal: &JournalRead, now: &Listing, revision: u64) -> Vec<PastEntry> {
    let values: HashMap<&str, &[u8]> = now.entries.iter().map(|(key, value)| (&**key, &**value)).collect();
    let newest: BTreeMap<_, _> = journal.newest().into_iter().collect();
    let differs = |(key, noted): (String, Option<JournalValue>)| {
        let value = values.get(&*key).copied();
        let is_same = noted == value.map(|value| JournalValue::of(&key, value));
        let (before, after) = (PastValue::of_journal(noted.as_ref()), PastValue::of_store(value.map(Box::from)));
        (!is_same).then_some(PastEntry { revision, at: None, key, before, after, lease: 0 })
    };
    newest.into_iter().filter_map(differs).collect()
}

impl KeysAt {
    /// The journal does not tell leases: an instance that comes from it alone may have been its owner's, who is gone.
    fn doubt_instances(&mut self, known: &BTreeMap<String, Vec<u8>>) {
        let is_doubtful = |key: &String, value: &Vec<u8>| !known.contains_key(key) && is_instance_key(key, value);
        let (doubtful, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.values).into_iter().partition(|(key, value)| is_doubtful(key, value));
        self.values = kept.into_iter().collect();
        for (key, value) in doubtful {
            let value = shown_value(&key, &value);
            let why = format!(
                "it may have been under a lease, which the journal does not tell; if it was not: pointsman set {key} '{value}'"
            );
            self.unknown.insert(key, why);
        }
    }

    fn take_back(&mut self, PastEntry { key, before, after, .. }: PastEntry) {
        let is_known = !self.unknown.contains_key(&key);
        let value = self.values.get(&key);
        let is_so = after.is(value) || before.is(value);
        if is_known && !is_so {
            self.unknown.insert(key.clone(), "it was changed while no balancer wrote the journal".to_owned());
        }
        match before {
            PastValue::Nothing => {
                self.values.remove(&key);
                self.unknown.remove(&key);
            }
            PastValue::Told(value) => {
                self.unknown.remove(&key);
                self.values.insert(key, value);
            }
            PastValue::Untold(words) => {
                self.values.remove(&key);
                self.unknown.insert(key, format!("its value then is not kept: {words}"));
            }
        }
    }
}

fn is_compacted(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Compacted { .. }))
}

/// Writes notes, a line each.
pub(super) fn tell(notes: &[String], note: &mut dyn Write) -> anyhow::Result<()> {
    notes.iter().try_for_each(|line| writeln!(note, "note: {}", shown(line)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_meant_by_its_name() {
        for (name, key, is_in) in [
            (None, "services/a/x", true),
            (None, "barrier", false),
            (Some("a"), "services/a/x", true),
            (Some("a"), "tcp-services/a/x", true),
            (Some("a"), "services/ab/x", false),
            (Some("a"), "config/a", false),
            (Some("config"), "config/a", true),
            (Some("/p/services/a/"), "services/a/x", true),
            (Some("services/a/x"), "services/a/x", true),
            (Some("services/a"), "tcp-services/a/x", false),
        ] {
            assert_eq!(KeyScope::of(name, "/p").has(key), is_in, "{name:?} {key}");
        }
    }

    #[test]
    fn changes_are_taken_back() {
        let told = |value: &str| PastValue::Told(value.into());
        let entry = |key: &str, before: PastValue, after: PastValue| PastEntry {
            revision: 1,
            at: None,
            key: key.to_owned(),
            before,
            after,
            lease: 0,
        };
        let values = [("a", "2"), ("b", "1"), ("c", "9"), ("s", "x")];
        let values = values.map(|(key, value)| (key.to_owned(), value.into()));
        let mut keys = KeysAt { values: values.into(), ..KeysAt::default() };
        keys.take_back(entry("a", told("1"), told("2")));
        keys.take_back(entry("a", PastValue::Nothing, told("1")));
        // It was taken back already; it was changed without a record; its value is not kept.
        keys.take_back(entry("b", told("1"), told("2")));
        keys.take_back(entry("c", PastValue::Untold("secret".to_owned()), told("2")));
        keys.take_back(entry("s", PastValue::Untold("secret".to_owned()), PastValue::Untold("secret".to_owned())));
        keys.take_back(entry("d", told("d"), PastValue::Nothing));
        let left: Vec<_> =
            keys.values.iter().map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value))).collect();
        assert_eq!(left, ["b=1", "d=d"]);
        assert_eq!(keys.unknown.keys().collect::<Vec<_>>(), ["c", "s"]);
    }

    #[test]
    fn what_no_balancer_saw_is_a_change_of_now() {
        let change = |key: &str, after: &str| JournalChange {
            at: 1,
            revision: 3,
            key: key.to_owned(),
            before: None,
            after: Some(JournalValue::Text(after.to_owned())),
        };
        let journal = JournalRead {
            changes: vec![
                change("services/a/domain", "a"),
                change("services/a/path", "/x"),
                change("services/b/path", "/"),
            ],
            begin: Some(1),
            ..JournalRead::default()
        };
        let entry = |key: &str, value: &str| (key.into(), value.as_bytes().into());
        let entries = vec![entry("services/a/domain", "b"), entry("services/a/path", "/x")];
        let now = Listing { entries, ..Listing::default() };
        let words: Vec<_> = unseen(&journal, &now, 4).iter().map(PastEntry::words).collect();
        assert_eq!(words, ["~ services/a/domain = a -> b", "- services/b/path = /"]);
    }

    #[test]
    fn an_instance_of_the_journal_alone_is_not_written_for_ever() {
        let values = [("services/a/web-1", "h:1"), ("services/a/upstreams/r", "h:2"), ("services/a/domain", "a.test")];
        let values = values.map(|(key, value)| (key.to_owned(), value.into()));
        let mut keys = KeysAt { values: values.into(), ..KeysAt::default() };
        keys.doubt_instances(&BTreeMap::from([("services/a/web-1".to_owned(), Vec::new())]));
        assert_eq!(keys.values.keys().collect::<Vec<_>>(), ["services/a/domain", "services/a/web-1"]);
        assert!(keys.unknown["services/a/upstreams/r"].ends_with("pointsman set services/a/upstreams/r 'h:2'"));
    }

    #[test]
    fn what_is_shown_is_no_secret_and_short() {
        assert_eq!(shown_value("services/a/basic_auth_secrets", b"ann hunter2"), "(secret)");
        assert!(shown_value("certs/a", b"-----BEGIN CERTIFICATE-----").starts_with("(secret, sha256 "));
        assert_eq!(shown_value("services/a/domain", &[b'x'; 500]).chars().count(), LONGEST_SHOWN + 1);
        assert_eq!(moment(1_795_908_222_537), "2026-11-28 23:23:42");
    }
}
