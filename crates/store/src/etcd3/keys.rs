//! Maps keys: a prefix to a range of etcd's key space, and full keys to relative ones.

use crate::model::ASIDE;

/// The bytes of a full key in etcd. Keys below [`ASIDE`] lose their leading slash, so that they lie outside the range
/// of every prefix, even `/`.
pub(super) fn raw(key: &str) -> Vec<u8> {
    let aside = key.strip_prefix(ASIDE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if aside { key.as_bytes()[1..].to_vec() } else { key.as_bytes().to_vec() }
}

/// The full key of these bytes, if it is one of ours.
pub(super) fn full(raw: &[u8]) -> Option<String> {
    let key = std::str::from_utf8(raw).ok()?;
    let aside = key.strip_prefix(&ASIDE[1..]).is_some_and(|rest| rest.starts_with('/'));
    if aside { Some(format!("/{key}")) } else { key.starts_with('/').then(|| key.to_owned()) }
}

/// A folder in etcd's flat key space: all keys that start with its name and a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    /// With a trailing slash, so that `/haproxy-x` never matches `/haproxy-x1/...`.
    start: Box<str>,
}

impl Folder {
    /// `name` is a full key with or without trailing slashes; empty for everything that starts with a slash.
    pub(super) fn new(name: &str) -> Self {
        let raw = String::from_utf8(raw(name.trim_end_matches('/'))).expect("whole text, or less its first slash");
        Self { start: format!("{raw}/").into() }
    }

    /// The folder's name with its slash.
    pub(super) fn name(&self) -> &str {
        &self.start
    }

    /// First key of the range.
    pub(super) fn start(&self) -> Vec<u8> {
        self.start.as_bytes().to_vec()
    }

    /// First key after the range: the name with its slash replaced by the byte after it.
    pub(super) fn end(&self) -> Vec<u8> {
        let mut end = self.start();
        end.pop();
        end.push(b'/' + 1);
        end
    }

    /// The key relative to the folder; `None` if it cannot be ours: not UTF-8, or with a leading or trailing slash.
    pub(super) fn relative(&self, key: &[u8]) -> Option<Box<str>> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(&*self.start)?;
        let whole = !key.is_empty() && !key.starts_with('/') && !key.ends_with('/');
        whole.then(|| key.into())
    }

    /// The same, but logs an ignored key.
    pub(super) fn relative_or_say(&self, key: &[u8]) -> Option<Box<str>> {
        let relative = self.relative(key);
        if relative.is_none() {
            tracing::warn!(
                "ignoring the key {:?}: not UTF-8, or with a leading or trailing slash",
                String::from_utf8_lossy(key)
            );
        }
        relative
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |name: &str, start: &str, end: &str| {
            let folder = Folder::new(name);
            assert_eq!((folder.start(), folder.end()), (start.into(), end.into()), "{name:?}");
        };
        check("/haproxy-x", "/haproxy-x/", "/haproxy-x0");
        check("/haproxy-x/", "/haproxy-x/", "/haproxy-x0");
        check("/kontena/haproxy/lb", "/kontena/haproxy/lb/", "/kontena/haproxy/lb0");
        check("", "/", "0");
        check("/", "/", "0");
        check("/_pointsman/haproxy-x/balancers", "_pointsman/haproxy-x/balancers/", "_pointsman/haproxy-x/balancers0");
        check("/_pointsman", "_pointsman/", "_pointsman0");
        check("/_pointsmans", "/_pointsmans/", "/_pointsmans0");
    }

    #[test]
    fn keys_and_their_bytes() {
        for (key, bytes) in [("/a/b", "/a/b"), ("/_pointsman/a", "_pointsman/a"), ("/_pointsmans/a", "/_pointsmans/a")]
        {
            assert_eq!((raw(key), full(bytes.as_bytes()).as_deref()), (bytes.into(), Some(key)));
        }
        assert_eq!(full(b"a/b"), None);
    }

    #[test]
    fn relative_keys() {
        let check = |name: &str, key: &[u8], want: Option<&str>| {
            assert_eq!(Folder::new(name).relative(key).as_deref(), want, "{name:?} {key:?}");
        };
        check("/x", b"/x/services/shop/domain", Some("services/shop/domain"));
        check("/x", b"/x1/services/shop/domain", None);
        check("/x", b"/x", None);
        check("/x", b"/x/", None);
        check("/x", b"/x/services/", None);
        check("/x", b"/x//services", None);
        check("/x", b"/x/a\xff", None);
        check("", b"/services/shop/domain", Some("services/shop/domain"));
        check("", b"services/shop/domain", None);
    }
}
