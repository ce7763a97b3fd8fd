//! `pointsman apply`: many keys from a file as one change. Reads the file; what the keys mean is for `change` to judge.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use pointsman_store::StoreSettings;

use super::Outcome;
use super::change::{self, Manner, Proposal};
use super::patience::full;

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
    let name = request.file.display();
    let text = read(&request.file).with_context(|| format!("reading {name}"))?;
    let mut proposal = Proposal::default();
    for (key, value) in keys(&text).with_context(|| name.to_string())? {
        let key = full(&settings.prefix, &key);
        if proposal.puts.insert(key.clone(), value.into_bytes()).is_some() {
            bail!("{name}: {key} is there twice");
        }
    }
    for place in &request.prune {
        // An empty variable in a script must not remove every service.
        if place.trim_matches('/').is_empty() {
            bail!("--prune: name a key, such as services/shop");
        }
        proposal.prune.push(full(&settings.prefix, place));
    }
    let manner = Manner { dry_run: request.dry_run, ..manner };
    Box::pin(change::make(settings, &proposal, manner, Some(out), note)).await
}

fn read(file: &Path) -> io::Result<String> {
    match file == Path::new("-") {
        true => io::read_to_string(io::stdin().lock().by_ref()),
        false => std::fs::read_to_string(file),
    }
}

/// The keys of a TOML document or of lines `KEY VALUE`, as they are written. A line's key has a slash; TOML has one only
/// in quotes.
fn keys(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let lines = || text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let first = lines().next().and_then(|(line, _)| line.split_whitespace().next()).unwrap_or_default();
    if first.starts_with(['[', '"', '\'']) || !first.contains('/') {
        let mut keys = Vec::new();
        tables(String::new(), text.parse()?, &mut keys)?;
        return Ok(keys);
    }
    let pair = |(line, number): (&str, usize)| match line.split_once(char::is_whitespace) {
        Some((key, value)) => Ok((key.to_owned(), value.trim().to_owned())),
        None => bail!("line {number}: {line} has no value; write KEY VALUE"),
    };
    lines().map(pair).collect()
}

/// The keys of a table and of those in it.
fn tables(place: String, table: toml::Table, keys: &mut Vec<(String, String)>) -> anyhow::Result<()> {
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
        keys.push((key, value));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let said = match keys(text) {
            Ok(keys) => keys.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("; "),
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
        check("[services.a]\ndomain = ['a', 'b']", "!expected a text");
        check("[services.a]\ndomain = a.test", "!TOML parse error at line 2");
        check(
            "# mine\nservices/a/domain a.test\n\nservices/a/1  10.0.0.1:80 weight=2 \n",
            "services/a/domain=a.test; services/a/1=10.0.0.1:80 weight=2",
        );
        check("services/a/domain a.test\nservices/a/port", "!line 2: services/a/port has no value");
    }
}
