//! Suggests the word that was probably meant.

use pointsman_table::distance;

/// The candidate nearest to the word, if it is near enough to be a typo.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('_', "-");
    let most = word.len().div_ceil(3).min(3);
    let near = candidates.map(|candidate| (distance(&word, candidate), candidate));
    near.filter(|(distance, _)| *distance <= most).min().map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_what_was_meant() {
        let names = ["host", "store", "http", "etcd-api", "workers"];
        for (word, expected) in [
            ("stroe", Some("store")),
            ("stor", Some("store")),
            ("worker", Some("workers")),
            ("etcd_api", Some("etcd-api")),
            ("HTTP", Some("http")),
            ("htpt", Some("http")),
            ("banana", None),
        ] {
            assert_eq!(nearest(word, names.into_iter()), expected, "{word}");
        }
    }
}
