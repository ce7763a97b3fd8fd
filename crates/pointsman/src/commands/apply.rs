//! `pointsman apply` and `import`: write the keys of a file as one change, or as they are. Read the file; `change` judges what
//! the keys mean.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use pointsman_store::{Store, StoreSettings};
use pointsman_table::shown;

use super::change::{self, Manner};
use super::patience::{full, within};
use super::proposal::{Proposal, is_below, is_marker, shown_key};
use super::{Outcome, listing};
use crate::control::plural;

/// More of its help.
pub const HELP: &str = "\
FILE is TOML, where nested tables are the parts of a key, or lines: all KEY VALUE, or all as
`ls -r --secrets` prints them: KEY = VALUE. Keys that hold their value already are left alone.
etcd v3 and a folder take up all keys at once, etcd v2 one after the other, rules and ports last.

Examples:
  pointsman apply shop.toml --dry-run
  pointsman apply shop.toml --prune services/shop --wait
      services/shop as in the file, and nothing else below it
  printf '[services.shop]\\ndomain = \"shop.test\"\\nweb-1 = \"10.0.0.7:8080\"\\n' | pointsman apply -";

/// More of its help.
pub const IMPORT_HELP: &str = "\
As `apply`, but for a restore: what a balancer could not use is written, too, with a warning, and
more keys than etcd takes at once in parts, rules and ports last. Keys under a lease are left to
their owners.

Examples:
  pointsman import lb.keys --dry-run
  pointsman import lb.keys --prune services --prune tcp-services --wait";

/// The arguments of `apply`, besides those of every edit.
#[derive(Clone, Debug, Args)]
pub struct FileChange {
    /// The file; - reads standard input
    file: PathBuf,
    /// Remove the keys below this key that the file does not name; repeatable
    #[arg(long, value_name = "KEY")]
    prune: Vec<String>,
    /// Print the difference and the problems, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Writes the keys of a file, and prints the difference on `out`.
///
/// # Errors
/// The file cannot be read or understood; the store is unreachable, or refuses.
pub async fn apply(
    settings: &StoreSettings,
    request: &FileChange,
    manner: Manner,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let (proposal, missing) = request.proposal(settings, manner.force)?;
    let manner = Manner { dry_run: request.dry_run, ..manner };
    let outcome = Box::pin(change::make(settings, &proposal, manner, Some(out), note)).await?;
    tell_missing(settings, &missing, note).await?;
    Ok(outcome)
}

/// Writes the keys of a file as they are, also those that no balancer could use, and prints the difference on `out`. Keys under a
/// lease stay with their owners.
///
/// # Errors
/// As [`apply`].
pub async fn import(
    settings: &StoreSettings,
    request: &FileChange,
    wait: Option<Duration>,
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let (mut proposal, missing) = request.proposal(settings, false)?;
    let listing = within(Store::open(settings)?.list(&settings.prefix)).await?;
    let leased = listing.leased.iter().map(|key| full(&settings.prefix, key));
    let kept = leased.filter(|key| proposal.puts.remove(key).is_some()).count();
    if kept > 0 {
        writeln!(note, "{} under a lease left as they are: their owners write them", plural(kept, "key"))?;
    }
    let manner = Manner { force: true, dry_run: request.dry_run, wait, in_parts: true };
    let outcome = Box::pin(change::make(settings, &proposal, manner, Some(out), note)).await?;
    tell_missing(settings, &missing, note).await?;
    Ok(outcome)
}

impl FileChange {
    /// A file that changes nothing else.
    pub(super) fn of(file: PathBuf) -> Self {
        Self { file, prune: Vec::new(), dry_run: true }
    }

    /// The change, and the full keys of secrets that are left out of the file.
    ///
    /// # Errors
    /// The file cannot be read or understood; all keys would be removed, and nobody said `force`.
    pub(super) fn proposal(&self, settings: &StoreSettings, force: bool) -> anyhow::Result<(Proposal, Vec<String>)> {
        let name = self.file.display();
        let text = read(&self.file).with_context(|| format!("reading {name}"))?;
        let mut proposal = Proposal::default();
        for (key, value) in keys(&text).with_context(|| name.to_string())? {
            let key = full(&settings.prefix, &key);
            // An older `ls` printed it.
            if is_marker(&settings.prefix, &key) {
                continue;
            }
            if proposal.puts.insert(key.clone(), value).is_some() {
                bail!("{name}: {key} is there twice");
            }
        }
        for place in &self.prune {
            // An empty variable in a script must not remove every service.
            if place.trim_matches('/').is_empty() {
                bail!("--prune: name a key, such as services/shop");
            }
            let place = full(&settings.prefix, place);
            // Nor must a script before the pipe that fails and prints nothing.
            if !force && !proposal.puts.keys().any(|key| is_below(key, &place)) {
                bail!("--prune {place}: the file has no key below it, so all would be removed; --force does so");
            }
            proposal.prune.push(place);
        }
        let missing: Vec<_> = listing::left_out(&text).iter().map(|key| full(&settings.prefix, key)).collect();
        proposal.kept.extend(missing.iter().cloned());
        Ok((proposal, missing))
    }
}

/// Says which secrets the file left out, and the store does not have.
async fn tell_missing(settings: &StoreSettings, missing: &[String], note: &mut dyn Write) -> anyhow::Result<()> {
    let store = Store::open(settings)?;
    for key in missing {
        if within(store.get(key)).await?.is_none() {
            let key = shown(shown_key(&settings.prefix, key)).to_string();
            writeln!(
                note,
                "warning: {key} is missing: the file leaves its secret out, and the store has none; set it"
            )?;
        }
    }
    Ok(())
}

fn read(file: &Path) -> io::Result<String> {
    match file == Path::new("-") {
        true => io::read_to_string(io::stdin().lock().by_ref()),
        false => std::fs::read_to_string(file),
    }
}

/// The keys of a TOML document or of lines, as written.
fn keys(text: &str) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    // A byte order mark, which editors on Windows write.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if listing::is_export(text) {
        return listing::read(text);
    }
    match text.parse() {
        Ok(table) => {
            let mut keys = Vec::new();
            tables(String::new(), table, &mut keys)?;
            Ok(keys)
        }
        Err(error) if !listing::is_lines(text) => Err(error.into()),
        Err(_) => listing::read(text),
    }
}

/// The keys of a table and of its nested tables.
fn tables(place: String, table: toml::Table, keys: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    for (name, value) in BTreeMap::from_iter(table) {
        let key = if place.is_empty() { name } else { format!("{place}/{name}") };
        let value = match value {
            toml::Value::Table(table) => {
                tables(key, table, keys)?;
                continue;
            }
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(is) => is.to_string(),
            toml::Value::Datetime(_) | toml::Value::Array(_) => {
                bail!("{key}: expected a text, a number or a boolean; a list is one text, such as \"a.test, b.test\"")
            }
        };
        keys.push((key, value.into_bytes()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let said = match keys(text) {
            Ok(keys) => {
                let entry = |(key, value): &(String, Vec<u8>)| format!("{key}={}", String::from_utf8_lossy(value));
                keys.iter().map(entry).collect::<Vec<_>>().join("; ")
            }
            Err(error) => format!("! {error}"),
        };
        assert!(said == want || want.starts_with('!') && said.contains(&want[1..]), "{text}: {said} is not {want}");
    }

    #[test]
    fn files() {
        check("", "");
        check("# nothing\n\n", "");
        check(
            "[services.shop]\ndomain = \"shop.test\"\nport = 80\n",
            "services/shop/domain=shop.test; services/shop/port=80",
        );
        check("services.shop.default = true", "services/shop/default=true");
        check(
            "[services.shop]\n\"timeout/server\" = '5s'\ntimeout.connect = '1s'",
            "services/shop/timeout/connect=1s; services/shop/timeout/server=5s",
        );
        check("\"services/a/cookie\" = ''", "services/a/cookie=");
        check("[\"services/a\"]\n\"web-1\" = '10.0.0.1 weight=2'", "services/a/web-1=10.0.0.1 weight=2");
        check("\"/q\".x = 1", "/q/x=1");
        check("services.shop.path=\"/cart\"", "services/shop/path=/cart");
        check("services.shop.\"timeout/server\" = '5s'", "services/shop/timeout/server=5s");
        check("services.shop.path = /cart", "!TOML parse error at line 1");
        check("\u{feff}services/a/port 80", "services/a/port=80");
        check("\u{feff}services.a.port = 80", "services/a/port=80");
        let listed = "config/\nservices/\nservices/a/\nservices/a/cookie = \nservices/a/path = /a=b/\n";
        check(listed, "services/a/cookie=; services/a/path=/a=b/");
        check("services/a/path /x/", "services/a/path=/x/");
        check("services/a/x = (secret; --secrets shows it)", "!line 1: `ls` hid the value of services/a/x");
        check("services/a/x = \"a\\nb\"", "services/a/x=a\nb");
        check("services/a/custom_settings acl x path = /y\n", "services/a/custom_settings=acl x path = /y");
        check("services/a/url_reg = a=\\d+", "services/a/url_reg=a=\\d+");
        check("[services.a]\ndomain = ['a', 'b']", "!expected a text");
        check("[services.a]\ndomain = a.test", "!TOML parse error at line 2");
        check(
            "# mine\nservices/a/domain a.test\n\nservices/a/1  10.0.0.1:80 weight=2 \n",
            "services/a/domain=a.test; services/a/1=10.0.0.1:80 weight=2",
        );
        check("services/a/domain a.test\nservices/a/port", "!line 2 has no value");
    }
}
