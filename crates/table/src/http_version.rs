//! `protocol`: the version of HTTP that a service's instances speak. Connects to nothing.

use std::fmt::{Display, Formatter};

use crate::value::Parsed;

/// What the instances of an HTTP service speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, with prior knowledge, or agreed upon by ALPN over TLS.
    Http2,
}

impl HttpVersion {
    /// The key's value: `h2`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "h2",
        }
    }

    pub(crate) fn parse(text: &str) -> Parsed<Self> {
        let found = [Self::Http1, Self::Http2].into_iter().find(|version| version.as_str() == text);
        found.ok_or_else(|| "expected http1 or h2".into())
    }
}

impl Display for HttpVersion {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
