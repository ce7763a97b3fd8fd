//! The store: whether it answers, by which API, and whether there is anything below the prefix.

use std::collections::BTreeSet;
use std::time::Duration;

use pointsman_store::{Api, Location, Store, StoreError, StoreSettings};
use pointsman_table::distance;
use tokio::time::timeout;

use super::observation::Observation;
use crate::admin::source::SourceView;
use crate::control::plural;

const SUBJECT: &str = "store";
/// Other prefixes that are named.
const MOST: usize = 3;

/// Whether the store was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreReach {
    Read,
    Away,
}

pub(super) async fn look(settings: &StoreSettings, within: Duration) -> (Vec<Observation>, StoreReach) {
    if let Location::Directory(folder) = &settings.location
        && !folder.exists()
    {
        let what = format!(
            "there is no folder {} yet; a balancer makes it, unless it served keys from there before",
            folder.display()
        );
        let remedy = format!("mkdir -p {}; or mount it", folder.display());
        return (vec![Observation::note(SUBJECT, what, remedy)], StoreReach::Away);
    }
    let store = match Store::open(settings) {
        Ok(store) => store,
        Err(error) => return (vec![unread(settings, &error)], StoreReach::Away),
    };
    let listed = timeout(within, store.list(&settings.prefix)).await;
    let listing = match listed {
        Ok(Ok(listing)) => listing,
        Ok(Err(error)) => return (vec![unread(settings, &error)], StoreReach::Away),
        Err(_) => {
            let what = format!("{} does not answer within {within:?}", SourceView::new(settings));
            return (vec![Observation::wrong(SUBJECT, what, reach(settings))], StoreReach::Away);
        }
    };
    let count = listing.entries.len();
    let is_etcd = matches!(settings.location, Location::Etcd(_));
    let settled = timeout(within, store.settle(settings)).await.ok().and_then(Result::ok);
    let api = match settled.map(|settled| settled.api).filter(|_| is_etcd) {
        Some(Api::V2) => ", by the v2 API of etcd",
        Some(Api::V3) => ", by the v3 API of etcd",
        Some(Api::Auto) | None => "",
    };
    let keys = plural(count, "key");
    let mut all = vec![Observation::ok(SUBJECT, format!("{} answers{api}: {keys}", SourceView::new(settings)))];
    if count == 0 {
        let whole = timeout(within, store.list("")).await.ok().and_then(Result::ok).unwrap_or_default();
        let others = prefixes(whole.entries.iter().map(|(key, _)| &**key));
        all.push(empty(&settings.prefix, &others));
    }
    (all, StoreReach::Read)
}

/// What to type to see for oneself.
fn reach(settings: &StoreSettings) -> String {
    match &settings.location {
        Location::Etcd(urls) => {
            let url = urls.first().map(String::as_str).unwrap_or_default();
            format!("curl -sS {}/health; is etcd up, and its port open from here?", url.trim_end_matches('/'))
        }
        Location::Directory(folder) => format!("ls -la {}", folder.display()),
    }
}

fn unread(settings: &StoreSettings, error: &StoreError) -> Observation {
    let remedy = match error {
        StoreError::Refused { .. } => "give --etcd-user NAME:PASSWORD of a user who may read the prefix".to_owned(),
        StoreError::BadSettings { .. } => "correct the setting, then run doctor again".to_owned(),
        _ => reach(settings),
    };
    Observation::wrong(SUBJECT, error.to_string(), remedy)
}

/// The prefixes of these keys of a whole store that look like a balancer's.
fn prefixes<'k>(keys: impl Iterator<Item = &'k str>) -> BTreeSet<String> {
    let trees = ["services/", "tcp-services/", "config/", "certs/"];
    let prefix = |key: &str| {
        let at = trees.iter().filter_map(|tree| match key.starts_with(tree) {
            true => Some(0),
            false => key.find(&format!("/{tree}")),
        });
        let place = key[..at.min()?].trim_matches('/').to_owned();
        (!place.starts_with('_')).then(|| format!("/{place}"))
    };
    keys.filter_map(prefix).collect()
}

fn empty(prefix: &str, others: &BTreeSet<String>) -> Observation {
    let own = if prefix.is_empty() { "/" } else { prefix };
    let mut near: Vec<_> = others.iter().filter(|other| *other != own).collect();
    near.sort_by_key(|other| distance(other, own));
    match near.first() {
        None => Observation::note(
            SUBJECT,
            format!("there is no key below {own} yet: every request gets 503"),
            "pointsman set services/shop/domain shop.test services/shop/web-1 127.0.0.1:9000",
        ),
        Some(nearest) => {
            let named: Vec<_> = near.iter().take(MOST).map(|other| other.as_str()).collect();
            Observation::wrong(
                SUBJECT,
                format!("there is no key below {own}, but there are some below {}", named.join(", ")),
                format!("give --prefix {nearest}, if that is meant"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::observation::check;
    use super::*;

    #[test]
    fn other_prefixes_are_found() {
        let keys = [
            "haproxy-a/services/x/domain",
            "/kontena/haproxy/lb/tcp-services/t/port",
            "_pointsman/x/config/a",
            "other",
            "services/y/port",
        ];
        let found: Vec<_> = prefixes(keys.into_iter()).into_iter().collect();
        assert_eq!(found, ["/", "/haproxy-a", "/kontena/haproxy/lb"]);
    }

    #[test]
    fn an_empty_prefix_names_the_one_that_was_meant() {
        let others = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        check(
            &[empty("/haproxy-b", &others(&[]))],
            &["note: there is no key below /haproxy-b yet: every request gets 503 | pointsman set"],
        );
        check(
            &[empty("/haproxy-prod", &others(&["/", "/haproxy-test", "/haproxy-prdo", "/haproxy-prod"]))],
            &[
                "wrong: there is no key below /haproxy-prod, but there are some below /haproxy-prdo, /haproxy-test, / | give --prefix /haproxy-prdo",
            ],
        );
    }
}
