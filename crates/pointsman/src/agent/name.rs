//! Names of services and instances: one segment of a key.

/// The reason that a name is invalid, if it is.
pub(super) fn fault(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("expected a name"),
        "." | ".." => Some("expected a name other than . and .."),
        _ if name.contains('/') => Some("expected a name without a slash"),
        _ if name.chars().any(char::is_control) => Some("expected a name without control characters"),
        _ if name.trim() != name => Some("expected a name without white space at its ends"),
        _ => None,
    }
}

/// A container's name without the `-1` that distinguishes it from its replicas.
pub(super) fn without_number(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((stem, number)) if !stem.is_empty() && number.parse::<u32>().is_ok() => stem,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment() {
        for good in ["a", "a.b", "..a", "a b", "ü"] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["", ".", "..", "a/b", "/", "a\nb", "a\0", " a", "a\u{85}"] {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_taken_off() {
        for (name, expected) in [("web-1", "web"), ("web", "web"), ("web-x", "web-x"), ("-1", "-1"), ("a-b-12", "a-b")]
        {
            assert_eq!(without_number(name), expected);
        }
    }
}
