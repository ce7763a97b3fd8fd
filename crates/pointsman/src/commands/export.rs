//! `pointsman export`: prints every key in the form that `import`, `apply` and `plan` read. The same keys make the same text.

use std::io::Write;

use pointsman_store::{Store, StoreSettings};
use pointsman_table::is_secret;

use super::past::KeyScope;
use super::patience::{expect_folder, within};
use super::{Outcome, listing};
use crate::control::plural;

/// More of its help.
pub const HELP: &str = "\
The same keys make the same file, byte by byte. Secrets are left out, and named in comments.

Examples:
  (umask 077; pointsman export --secrets >lb.keys)
  pointsman export shop";

/// Prints the keys of `service`, or all, on `out`, and what is left out on `note`.
///
/// # Errors
/// The store is unreachable, or `out` is closed. A service without keys is [`Outcome::No`].
pub async fn export(
    settings: &StoreSettings,
    (service, secrets, leased): (Option<&str>, bool, bool),
    out: &mut dyn Write,
    note: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    expect_folder(settings, "exported")?;
    let mut listing = within(Store::open(settings)?.list(&settings.prefix)).await?;
    let scope = KeyScope::of(service, &settings.prefix);
    listing.entries.retain(|(key, _)| scope.has(key));
    listing.entries.sort_unstable();
    writeln!(out, "{}", listing::EXPORT)?;
    let (mut hidden, mut owned, mut shown, mut odd) = (0, 0, 0, Vec::new());
    for (key, value) in &listing.entries {
        let is_hidden = is_secret(key, &String::from_utf8_lossy(value));
        if !is_key(key) {
            odd.push(&**key);
        } else if listing.leased.contains(key) && !leased {
            owned += 1;
        } else if is_hidden && !secrets {
            hidden += 1;
            writeln!(out, "{}", listing::left_out_entry(key))?;
        } else {
            shown += usize::from(is_hidden);
            writeln!(out, "{}", listing::entry(key, value))?;
        }
    }
    out.flush()?;
    if hidden > 0 {
        writeln!(note, "{} left out; --secrets exports them, too", plural(hidden, "secret"))?;
    }
    if owned > 0 {
        writeln!(
            note,
            "{} under a lease left out, which `register` or the agent writes; --leased exports them, too",
            plural(owned, "key")
        )?;
    }
    if let Some(first) = odd.first() {
        let count = plural(odd.len(), "key");
        let first = pointsman_table::shown(first);
        writeln!(
            note,
            "{count} with an empty part, or with . or .. for one, left out, as no store takes them: {first}"
        )?;
    }
    if shown > 0 {
        writeln!(note, "{} in plain text: keep the file from others", plural(shown, "secret"))?;
    }
    match (listing.entries.is_empty(), service) {
        (true, Some(service)) => {
            writeln!(note, "pointsman: there is no key of {}", pointsman_table::shown(service))?;
            Ok(Outcome::No)
        }
        _ => Ok(Outcome::Yes),
    }
}

/// Whether a store takes a key of this name, relative to the prefix.
fn is_key(key: &str) -> bool {
    key.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_no_store_takes() {
        for (key, is) in [("services/a/x", true), ("services/a//x", false), ("services/../x", false), ("a/", false)] {
            assert_eq!(is_key(key), is, "{key}");
        }
    }
}
