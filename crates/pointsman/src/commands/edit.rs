//! `pointsman set`, `get`, `ls`, `rm`, `mkdir`: keys as an operator names them. `change` judges what a key means.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use pointsman_table::{is_secret, shown};

use super::change::{self, Manner, expect_readers};
use super::patience::{expect_folder, full, within};
use super::proposal::{Proposal, is_marker, shown_key};
use super::{Outcome, fleet, listing};
use crate::control::plural;
use crate::settings::duration;
use pointsman_store::{Listing, Made, Store, StoreError, StoreSettings};

/// The options of `ls`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Show all levels, not only the first.
    pub recursive: bool,
    /// Show values too, as `key = value`.
    pub values: bool,
    /// Show secret values too.
    pub secrets: bool,
}

/// The arguments of `set` or `plan` with its flags first, and its keys and values after `--`: a value may begin with hyphens, as
/// a private key does, and no message may repeat it. A key never begins with a hyphen, so such a word in place of a key
/// is a flag, perhaps misspelt.
pub(super) fn values_apart(command: &clap::Command, arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.get(1).and_then(|word| word.to_str()).filter(|name| matches!(*name, "set" | "plan"));
    let Some(set) = name.and_then(|name| command.find_subcommand(name)) else { return arguments };
    let (mut flags, mut words, mut only_words) = (arguments[..2].to_vec(), Vec::new(), false);
    let mut rest = arguments[2..].iter().cloned();
    while let Some(word) = rest.next() {
        let text = word.to_str().filter(|_| !only_words).unwrap_or_default();
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let name = name.strip_prefix("--").unwrap_or_default();
        let flag = set.get_arguments().find(|flag| flag.get_long().is_some_and(|long| long == name));
        match flag {
            Some(flag) => {
                let has_more = value.is_none() && flag.get_action().takes_values() && !flag.is_require_equals_set();
                flags.push(word);
                flags.extend(if has_more { rest.next() } else { None });
            }
            None if text == "--" => only_words = true,
            None if matches!(text, "-h" | "--help") => flags.push(word),
            None if words.len() % 2 == 0 && text.starts_with("--") && !text.starts_with("---") => flags.push(word),
            None => words.push(word),
        }
    }
    let dashes = (!words.is_empty()).then(|| "--".into());
    flags.into_iter().chain(dashes).chain(words).collect()
}

/// Sets keys to values, which alternate in `words`. For the value `-`, reads standard input to its end, without one
/// final newline. The outcome is [`Outcome::No`] if a balancer of this prefix could not use a value, or if `manner`
/// says to wait and not every balancer serves the change in time. A dry run prints the difference on `out`.
///
/// # Errors
/// Wrong usage; the store is unreachable, or refuses.
pub async fn set(
    settings: &StoreSettings,
    words: &[String],
    manner: Manner,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    // What follows is a key, unless it is a time that was meant for --wait.
    let is_time = manner.wait.and(words.last()).is_some_and(|word| duration(word).is_ok());
    let proposal = pairs(settings, words, is_time)?;
    let out = if manner.dry_run { Some(out) } else { None };
    Box::pin(change::make(settings, &proposal, manner, out, note)).await
}

/// The change of keys and values in turns.
///
/// # Errors
/// Wrong usage.
pub(super) fn pairs(settings: &StoreSettings, words: &[String], is_time: bool) -> anyhow::Result<Proposal> {
    let mut proposal = Proposal::default();
    let (pairs, []) = words.as_chunks::<2>() else {
        let more = if is_time { "and --wait=TIME" } else { "and a value with spaces in quotes" };
        bail!("the last key has no value; write KEY VALUE in turns, {more}");
    };
    if pairs.iter().filter(|[_, value]| value == "-").count() > 1 {
        bail!("only one value can be read from standard input");
    }
    for (number, [key, value]) in (1..).zip(pairs) {
        // Do not show it: if a value was forgotten, this may be a private key.
        if key.starts_with('-') || key.contains(char::is_control) {
            bail!("key {number} is not a key; write KEY VALUE in turns");
        }
        if key.trim_matches('/').is_empty() {
            bail!("key {number} is empty; name one, such as services/shop/domain");
        }
        let value = match value.as_str() {
            "-" => read(&mut io::stdin().lock())?,
            value => value.as_bytes().to_vec(),
        };
        let key = full(&settings.prefix, key);
        if proposal.puts.insert(key.clone(), value).is_some() {
            bail!("{key} is there twice");
        }
    }
    Ok(proposal)
}

/// Waits, if asked to, until every balancer serves the change that was just written.
async fn served(
    settings: &StoreSettings,
    (revision, removed): (u64, String),
    wait: Option<Duration>,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    match wait {
        Some(patience) => Box::pin(fleet::served(settings, revision, (&[], &[removed]), patience, note)).await,
        None => Ok(Outcome::Yes),
    }
}

/// Prints a key's value and a newline.
///
/// # Errors
/// The store is unreachable, or the key is a directory. No such key is [`Outcome::No`], with a line on `note`.
pub async fn get(
    settings: &StoreSettings,
    key: &str,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let full = named(settings, key)?;
    expect_folder(settings, "read")?;
    let value = match within(Store::open(settings)?.get(&full)).await {
        Ok(Some(value)) => value,
        Ok(None) => return missing(&full, note),
        Err(error) if is_directory(&error) => bail!("{key} is a folder; `pointsman ls {key}` lists its keys"),
        Err(error) => return Err(error),
    };
    out.write_all(&value)?;
    writeln!(out)?;
    out.flush()?;
    Ok(Outcome::Yes)
}

/// Lists the keys below a key, directories with a final slash; the key itself if there are none below it.
/// Keys are printed in the form that the next command takes: below the prefix, unless `key` began with a slash.
///
/// # Errors
/// The store is unreachable. No such key is [`Outcome::No`], with a line on `note`.
pub async fn ls(
    settings: &StoreSettings,
    key: &str,
    view: View,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    expect_folder(settings, "listed")?;
    let store = Store::open(settings)?;
    let place = full(&settings.prefix, key);
    let mut listing = within(store.list(&place)).await?;
    listing.entries.retain(|(key, _)| !is_marker(&settings.prefix, &format!("{place}/{key}")));
    let shown = key.trim_end_matches('/');
    if !listing.entries.is_empty() || !listing.directories.is_empty() || place == settings.prefix || place.is_empty() {
        print(&listing, shown, (key.starts_with('/'), &settings.prefix), view, out)?;
        out.flush()?;
        return Ok(Outcome::Yes);
    }
    match within(store.get(&place)).await {
        Ok(None) => missing(&place, note),
        Ok(Some(value)) => {
            line(out, shown, &settings.prefix, Some(&*value), view)?;
            out.flush()?;
            Ok(Outcome::Yes)
        }
        // An empty directory.
        Err(error) if is_bad_key(&error) => Ok(Outcome::Yes),
        Err(error) => Err(error),
    }
}

/// Removes a key; with `recursive`, a directory and everything below it. `manner` says how long to wait until every
/// balancer serves the change; if one does not, the outcome is [`Outcome::No`]. A dry run prints the keys on `out`.
///
/// # Errors
/// The store is unreachable, or the key is a directory and `recursive` is not set. No such key is [`Outcome::No`], with
/// a line on `note`.
pub async fn rm(
    settings: &StoreSettings,
    key: &str,
    recursive: bool,
    manner: Manner,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    // `rm -r "$key"` with an empty variable must not remove every service.
    if key.trim_matches('/').is_empty() {
        bail!("name a key: rm does not remove everything");
    }
    let key = full(&settings.prefix, key);
    expect_readers(&settings.prefix, &key, manner.wait)?;
    let store = Store::open(settings)?;
    if manner.dry_run {
        return show_removal((&store, &settings.prefix), &key, recursive, out, note).await;
    }
    match within(store.delete(&key, recursive)).await {
        Err(error) if !recursive && is_directory(&error) => Err(not_alone(&store, &settings.prefix, &key).await),
        Err(error) if matches!(error.downcast_ref(), Some(StoreError::NoSuchKey { .. })) => missing(&key, note),
        other => served(settings, (other?, key), manner.wait, note).await,
    }
}

/// Prints the keys that a removal would remove.
async fn show_removal(
    (store, prefix): (&Store, &str),
    key: &str,
    recursive: bool,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let below = within(store.list(key)).await?;
    let is_folder = !below.entries.is_empty() || !below.directories.is_empty();
    if is_folder && !recursive {
        return Err(not_alone(store, prefix, key).await);
    }
    let mut entries: Vec<_> =
        below.entries.iter().map(|(name, value)| (format!("{key}/{name}"), value.to_vec())).collect();
    match within(store.get(key)).await {
        Ok(None) if !is_folder => return missing(key, note),
        Ok(value) => entries.extend(value.map(|value| (key.to_owned(), value))),
        Err(error) if is_directory(&error) => {}
        Err(error) => return Err(error),
    }
    let view = View { values: true, ..View::default() };
    for (key, value) in &entries {
        write!(out, "- ")?;
        line(out, shown_key(prefix, key), prefix, Some(value), view)?;
    }
    out.flush()?;
    writeln!(note, "dry run, nothing was removed: {}", plural(entries.len(), "key"))?;
    Ok(Outcome::Yes)
}

/// A directory is removed only if that is asked for.
async fn not_alone(store: &Store, prefix: &str, key: &str) -> anyhow::Error {
    let shown = shown(shown_key(prefix, key));
    match within(store.list(key)).await.map_or(0, |below| below.entries.len()) {
        0 => anyhow::anyhow!("{shown} is an empty folder; rm -r removes it"),
        count => anyhow::anyhow!("{shown} is a folder; rm -r removes it with {}", plural(count, "key")),
    }
}

/// Creates a directory. Says on `note` if the store has none.
///
/// # Errors
/// The store is unreachable, or refuses.
pub async fn mkdir(settings: &StoreSettings, key: &str, note: &mut dyn Write) -> anyhow::Result<()> {
    let key = named(settings, key)?;
    if within(Store::open(settings)?.mkdir(&key)).await? == Made::Nothing {
        writeln!(note, "{key}: nothing to create: etcd v3 has no directories")?;
    }
    Ok(())
}

fn read(input: &mut dyn Read) -> anyhow::Result<Vec<u8>> {
    let mut value = Vec::new();
    input.read_to_end(&mut value).context("reading the value from standard input")?;
    if value.last() == Some(&b'\n') {
        value.pop();
    }
    Ok(value)
}

fn is_bad_key(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::BadKey { .. }))
}

fn is_directory(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::BadKey { why, .. }) if why.starts_with("is a directory"))
}

/// A key that was named: an empty variable of a script is none.
fn named(settings: &StoreSettings, key: &str) -> anyhow::Result<String> {
    if key.trim_matches('/').is_empty() {
        bail!("the key is empty; name one, such as services/shop/domain");
    }
    Ok(full(&settings.prefix, key))
}

fn missing(key: &str, note: &mut dyn Write) -> anyhow::Result<Outcome> {
    let error = StoreError::NoSuchKey { key: key.to_owned() };
    writeln!(note, "pointsman: {error}")?;
    Ok(Outcome::No)
}

fn print(
    listing: &Listing,
    place: &str,
    (absolute, prefix): (bool, &str),
    view: View,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let base = match place {
        "" if !absolute => String::new(),
        place => format!("{place}/"),
    };
    let mut lines: BTreeSet<(String, Option<&[u8]>)> = BTreeSet::new();
    let directories = listing.directories.iter().map(|key| (&**key, None));
    let keys = listing.entries.iter().map(|(key, value)| (&**key, Some(&**value)));
    for (key, value) in directories.chain(keys) {
        for (end, _) in key.match_indices('/').take(if view.recursive { usize::MAX } else { 1 }) {
            lines.insert((format!("{base}{}/", &key[..end]), None));
        }
        match value {
            _ if !view.recursive && key.contains('/') => {}
            None => drop(lines.insert((format!("{base}{key}/"), None))),
            Some(value) => drop(lines.insert((format!("{base}{key}"), Some(value)))),
        }
    }
    lines.iter().try_for_each(|(key, value)| line(out, key, prefix, *value, view))
}

fn line(out: &mut dyn Write, key: &str, prefix: &str, value: Option<&[u8]>, view: View) -> anyhow::Result<()> {
    let Some(value) = value.filter(|_| view.values) else {
        return Ok(writeln!(out, "{}", shown(key))?);
    };
    let hidden = !view.secrets && is_secret(shown_key(prefix, key), &String::from_utf8_lossy(value));
    let line = if hidden { listing::hidden_entry(key) } else { listing::entry(key, value) };
    Ok(writeln!(out, "{line}")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_store::{Api, Location};

    /// Runs one command line on a directory store; returns its output, notes and error.
    async fn run(settings: &StoreSettings, line: &str) -> String {
        let (mut out, mut note) = (Vec::new(), Vec::new());
        let words: Vec<&str> = line.split(' ').collect();
        let key = words.get(1).copied().unwrap_or("");
        let given: Vec<_> = words[1..].iter().map(|word| (*word).to_owned()).collect();
        let view = View { recursive: line.contains("-r"), values: line.contains("-v"), secrets: false };
        let key = if key.starts_with('-') { "" } else { key };
        let yes = Ok(Outcome::Yes);
        let outcome = match words[0] {
            "set" => set(settings, &given, Manner::default(), &mut out, &mut note).await,
            "get" => get(settings, key, &mut out, &mut note).await,
            "ls" => ls(settings, key, view, &mut out, &mut note).await,
            "rm" => {
                let manner = Manner { dry_run: line.ends_with("-n"), ..Manner::default() };
                rm(settings, key, view.recursive, manner, &mut out, &mut note).await
            }
            _ => mkdir(settings, key, &mut note).await.and(yes),
        };
        let said = String::from_utf8(out).unwrap().replace('\n', " ");
        let note = String::from_utf8(note).unwrap();
        match outcome {
            Ok(Outcome::Yes | Outcome::Status(_)) => format!("{said}{note}"),
            Ok(Outcome::No) => format!("{said}no: {note}"),
            Err(error) => format!("{said}! {error:#}"),
        }
    }

    /// What each command line on one folder says.
    async fn check(lines: &[(&str, &str)]) {
        let folder = tempfile::tempdir().unwrap();
        let settings = StoreSettings {
            location: Location::Directory(folder.path().to_owned()),
            api: Api::Auto,
            prefix: "/p".to_owned(),
            user: None,
            ca: None,
            identity: None,
            audit: Duration::from_secs(60),
        };
        for (line, want) in lines {
            assert_eq!(run(&settings, line).await, *want, "{line}");
        }
    }

    #[tokio::test]
    async fn commands() {
        check(&[
            ("ls", ""),
            ("get services/a/domain", "no: pointsman: /p/services/a/domain: there is no such key\n"),
            ("set services/a/domain a.test", ""),
            ("set services/a/1 10.0.0.1:80", ""),
            ("set /q/x y", ""),
            (
                "set services/a/2 10.0.0.2:80 services/a/3",
                "! the last key has no value; write KEY VALUE in turns, and a value with spaces in quotes",
            ),
            (
                "set services/a/2 10.0.0.2 60s",
                "! the last key has no value; write KEY VALUE in turns, and a value with spaces in quotes",
            ),
            ("set services/a/2 10.0.0.2 ---BEGIN x", "! key 2 is not a key; write KEY VALUE in turns"),
            ("set services/a/2 - services/a/3 -", "! only one value can be read from standard input"),
            ("set services/a/2 x services/a/2 y", "! /p/services/a/2 is there twice"),
            ("mkdir services/b", ""),
            ("get services/a/domain", "a.test "),
            ("get /p/services/a/domain", "a.test "),
            ("get services", "! services is a folder; `pointsman ls services` lists its keys"),
            ("get ", "! the key is empty; name one, such as services/shop/domain"),
            ("mkdir ", "! the key is empty; name one, such as services/shop/domain"),
            ("set  x", "! key 1 is empty; name one, such as services/shop/domain"),
            (
                "set /p/barrier x",
                "! /p/barrier: `wait` and --wait write this key, to see how far each balancer is; name another",
            ),
            ("ls", "services/ "),
            ("ls services", "services/a/ services/b/ "),
            ("ls services/a", "services/a/1 services/a/domain "),
            ("ls services/a -v", "services/a/1 = 10.0.0.1:80 services/a/domain = a.test "),
            ("ls services/b", ""),
            ("ls services/a/1", "services/a/1 "),
            ("ls services/a/1 -v", "services/a/1 = 10.0.0.1:80 "),
            ("ls -r", "services/ services/a/ services/a/1 services/a/domain services/b/ "),
            (
                "ls / -r -v",
                "/p/ /p/services/ /p/services/a/ /p/services/a/1 = 10.0.0.1:80 /p/services/a/domain = a.test \
                            /p/services/b/ /q/ /q/x = y ",
            ),
            ("ls /q", "/q/x "),
            ("ls services/c", "no: pointsman: /p/services/c: there is no such key\n"),
            ("ls /../etc", "! /../etc: not a key: no part of it may be empty, . or .."),
            ("ls services/a", "services/a/1 services/a/domain "),
        ])
        .await;
    }

    #[tokio::test]
    async fn removals() {
        check(&[
            ("set services/a/domain a.test services/a/1 10.0.0.1:80", ""),
            ("mkdir services/b", ""),
            ("rm services/c", "no: pointsman: /p/services/c: there is no such key\n"),
            ("rm services/a", "! services/a is a folder; rm -r removes it with 2 keys"),
            ("rm services/b", "! services/b is an empty folder; rm -r removes it"),
            ("rm services/a -n", "! services/a is a folder; rm -r removes it with 2 keys"),
            ("rm services/c -n", "no: pointsman: /p/services/c: there is no such key\n"),
            (
                "rm services/a -r -n",
                "- services/a/1 = 10.0.0.1:80 - services/a/domain = a.test dry run, nothing was removed: 2 keys\n",
            ),
            ("rm services/a/1 -n", "- services/a/1 = 10.0.0.1:80 dry run, nothing was removed: 1 key\n"),
            ("rm services/a/1", ""),
            ("rm services/a -r", ""),
            ("rm / -r", "! name a key: rm does not remove everything"),
            ("rm  -r", "! name a key: rm does not remove everything"),
            ("ls -r", "services/ services/b/ "),
        ])
        .await;
    }

    #[test]
    fn reads_a_value() {
        for (input, want) in [("x", "x"), ("x\n", "x"), ("x\n\n", "x\n"), ("", "")] {
            assert_eq!(read(&mut input.as_bytes()).unwrap(), want.as_bytes());
        }
    }
}
