//! The known labels: every key of a service, and the labels for containers only. Does not check values.

use std::sync::LazyLock;

use pointsman_table::{KNOWN_KEYS, Protocol, Tree};

use crate::settings::suggest;

/// The prefix of all our labels.
pub(super) const PREFIX: &str = "pointsman.";

/// Labels about the container. With several services, they apply to each service that does not set its own.
pub(super) const OF_CONTAINER: &[&str] = &["enable", "id", "network", "name", "weight", "maxconn", "backup", "tls"];

/// Labels about one service that are not keys of it.
const OF_SERVICE: &[&str] = &["service", "mode", "internal_port"];

/// A label's name below [`PREFIX`], such as `timeout.connect`, and its key, `timeout/connect`; longest first, so that
/// `timeout.connect` is never read as the `connect` of a service.
static FORMS: LazyLock<Vec<(String, &'static str)>> = LazyLock::new(|| {
    let keys = KNOWN_KEYS.iter().filter(|key| matches!(key.tree, Tree::Http | Tree::Tcp) && !key.name.contains('<'));
    let all = keys.map(|key| key.name).chain(OF_CONTAINER.iter().copied()).chain(OF_SERVICE.iter().copied());
    let mut forms: Vec<_> = all.map(|name| (name.replace('/', "."), name)).collect();
    forms.sort_unstable_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    forms.dedup();
    forms
});

/// Splits a label's name below [`PREFIX`] into the part before the key, which may be empty, and the key.
pub(super) fn split(label: &str) -> Option<(&str, &'static str)> {
    let found = |(form, name): &(String, &'static str)| match label.strip_suffix(form.as_str())? {
        "" => Some(("", *name)),
        before => before.strip_suffix('.').filter(|before| !before.is_empty()).map(|before| (before, *name)),
    };
    FORMS.iter().find_map(found)
}

/// Whether a service of this protocol has this key.
pub(super) fn is_key(protocol: Protocol, name: &str) -> bool {
    let tree = match protocol {
        Protocol::Http => Tree::Http,
        Protocol::Tcp => Tree::Tcp,
    };
    KNOWN_KEYS.iter().any(|key| key.tree == tree && key.name == name)
}

/// The closest known label to a misspelt one, without prefix and service.
pub(super) fn nearest(word: &str) -> Option<String> {
    static DASHED: LazyLock<Vec<String>> =
        LazyLock::new(|| FORMS.iter().map(|(form, _)| form.replace('_', "-")).collect());
    suggest::nearest(word, DASHED.iter().map(String::as_str)).map(|meant| meant.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_labels_apart() {
        for (label, expected) in [
            ("port", Some(("", "port"))),
            ("timeout.connect", Some(("", "timeout/connect"))),
            ("shop.port", Some(("shop", "port"))),
            ("shop.timeout.connect", Some(("shop", "timeout/connect"))),
            ("timeout.port", Some(("timeout", "port"))),
            ("a.b.port", Some(("a.b", "port"))),
            ("shop.internal_port", Some(("shop", "internal_port"))),
            ("service", Some(("", "service"))),
            ("health_check_port", Some(("", "health_check_port"))),
            (".port", None),
            ("xport", None),
            ("connect", None),
            ("timeout", None),
            ("timeout/connect", None),
            ("<instance>", None),
            ("Port", None),
            ("", None),
        ] {
            assert_eq!(split(label), expected, "{label}");
        }
    }

    #[test]
    fn every_key_of_a_service_is_a_label() {
        for key in KNOWN_KEYS.iter().filter(|key| matches!(key.tree, Tree::Http | Tree::Tcp)) {
            let label = key.name.replace('/', ".");
            assert_eq!(split(&label).is_some(), !key.name.contains('<'), "{label}");
        }
    }

    #[test]
    fn finds_what_was_meant() {
        for (word, expected) in [
            ("typo", None),
            ("domian", Some("domain")),
            ("Domain", Some("domain")),
            ("internal-port", Some("internal_port")),
            ("timeout.conect", Some("timeout.connect")),
            ("virtual_host", Some("virtual_hosts")),
            ("enabled", Some("enable")),
        ] {
            assert_eq!(nearest(word).as_deref(), expected, "{word}");
        }
    }
}
