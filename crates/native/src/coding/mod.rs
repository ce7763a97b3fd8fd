//! Content codings (RFC 9110 §8.4.1): which of ours a client accepts, and bytes in them. Knows no message and no service.
//!
//! | module | owns |
//! |---|---|
//! | `accepted` | what `Accept-Encoding` says |
//! | `encoder` | bytes in, coded bytes out |

pub(crate) mod accepted;
pub(crate) mod encoder;

/// The codings that we write, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// As `Content-Encoding` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}
