//! Which keys are ours: a prefix as a range of etcd's key space, and full keys as relative ones.

/// A folder in etcd's flat key space: everything that starts with its name and a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    /// With a slash at the end, so that `/haproxy-x` never holds `/haproxy-x1/...`.
    start: Box<str>,
}

impl Folder {
    /// `name` is a full key with or without slashes at its end; empty for everything that starts with a slash.
    pub(super) fn new(name: &str) -> Self {
        Self { start: format!("{}/", name.trim_end_matches('/')).into() }
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

    /// The key below the folder, or nothing where it cannot be one of ours: not UTF-8, or with a slash at an end.
    pub(super) fn relative(&self, key: &[u8]) -> Option<Box<str>> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(&*self.start)?;
        let whole = !key.is_empty() && !key.starts_with('/') && !key.ends_with('/');
        whole.then(|| key.into())
    }

    /// The same, with a line in the log for a key that is left out.
    pub(super) fn relative_or_say(&self, key: &[u8]) -> Option<Box<str>> {
        let relative = self.relative(key);
        if relative.is_none() {
            tracing::warn!("ignoring the key {:?}: not UTF-8, or with a slash at an end", String::from_utf8_lossy(key));
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
