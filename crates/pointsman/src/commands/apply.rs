//! `pointsman apply`: writes the keys of a file as one change. Reads the file; `change` judges what the keys mean.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use pointsman_store::StoreSettings;

use super::change::{self, Manner};
use super::patience::full;
use super::proposal::{Proposal, is_below, is_marker};
use super::{Outcome, listing};

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
        // An older `ls` printed it.
        if is_marker(&settings.prefix, &key) {
            continue;
        }
        if proposal.puts.insert(key.clone(), value.into_bytes()).is_some() {
            bail!("{name}: {key} is there twice");
        }
    }
    for place in &request.prune {
        // An empty variable in a script must not remove every service.
        if place.trim_matches('/').is_empty() {
            bail!("--prune: name a key, such as services/shop");
        }
        let place = full(&settings.prefix, place);
        // Nor must a script before the pipe that fails and prints nothing.
        if !manner.force && !proposal.puts.keys().any(|key| is_below(key, &place)) {
            bail!("--prune {place}: the file has no key below it, so all would be removed; --force does so");
        }
        proposal.prune.push(place);
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

/// The keys of a TOML document or of lines, as written.
fn keys(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    // A byte order mark, which editors on Windows write.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
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
