//! Finds where a body ends, from the framing headers (RFC 9112 §6). Refuses headers that two readers could understand
//! differently.

use crate::fields::{Fields, Seen, list};
use crate::head::{BodyLength, Version};

/// Framing headers that are invalid or ambiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadFraming {
    /// A Content-Length that is not plain digits, or above 2^63 - 1, which many readers could not hold.
    #[error("Content-Length is not a number of bytes")]
    ContentLength,
    /// More than one Content-Length, even if they agree.
    #[error("there are several Content-Length headers")]
    SeveralContentLengths,
    /// Both Content-Length and Transfer-Encoding.
    #[error("there are both Content-Length and Transfer-Encoding")]
    TwoLengths,
    /// A Transfer-Encoding that is not exactly one `chunked`.
    #[error("Transfer-Encoding is not exactly `chunked`")]
    TransferEncoding,
    /// A valid list of transfer codings that ends with `chunked` and contains another coding.
    #[error("a transfer coding other than `chunked` is not supported")]
    UnsupportedCoding,
    /// HTTP/1.0 has no transfer codings (RFC 9112 §6.1).
    #[error("there is a Transfer-Encoding in an HTTP/1.0 message")]
    CodingInHttp10,
}

impl BadFraming {
    /// The response status for such a request.
    pub(crate) fn status(self) -> u16 {
        match self {
            BadFraming::UnsupportedCoding => 501,
            BadFraming::ContentLength
            | BadFraming::SeveralContentLengths
            | BadFraming::TwoLengths
            | BadFraming::TransferEncoding
            | BadFraming::CodingInHttp10 => 400,
        }
    }
}

/// The length that the headers declare; `BodyLength::None` if they declare none.
pub(crate) fn declared(fields: &Fields<'_>, version: Version) -> Result<BodyLength, BadFraming> {
    match (fields.coding, fields.length) {
        (Seen::Never, Seen::Never) => Ok(BodyLength::None),
        (Seen::Never, Seen::Once(value)) => content_length(value).map(BodyLength::Length),
        (Seen::Never, Seen::Often) => Err(BadFraming::SeveralContentLengths),
        (_, Seen::Once(_) | Seen::Often) => Err(BadFraming::TwoLengths),
        (_, Seen::Never) if version == Version::Http10 => Err(BadFraming::CodingInHttp10),
        (Seen::Once(value), Seen::Never) if value.eq_ignore_ascii_case(b"chunked") => Ok(BodyLength::Chunked),
        (Seen::Once(value), Seen::Never) => Err(judge_codings(value)),
        (Seen::Often, Seen::Never) => Err(BadFraming::TransferEncoding),
    }
}

pub(crate) fn content_length(value: &[u8]) -> Result<u64, BadFraming> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let number = value.iter().try_fold(0u64, |number, &byte| number.checked_mul(10)?.checked_add(digit(byte)?));
    let fits = |number: &u64| !value.is_empty() && i64::try_from(*number).is_ok();
    number.filter(fits).ok_or(BadFraming::ContentLength)
}

/// RFC 9112 §6.1: an unsupported coding gets 501; §6.3: one that leaves the body's end unknown gets 400.
fn judge_codings(value: &[u8]) -> BadFraming {
    const OTHERS: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];
    let known = |coding: &[u8]| OTHERS.iter().any(|other| coding.eq_ignore_ascii_case(other));
    let mut codings = list(value);
    let mut others = codings.by_ref().skip_while(|coding| known(coding));
    let last = others.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    if last && others.next().is_none() && !value.ends_with(b",") && !value.starts_with(b",") {
        BadFraming::UnsupportedCoding
    } else {
        BadFraming::TransferEncoding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length_is_plain_digits() {
        let rows: [(&str, Option<u64>); 14] = [
            ("0", Some(0)),
            ("42", Some(42)),
            ("007", Some(7)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("18446744073709551616", None),
            ("99999999999999999999999", None),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("5, 5", None),
            ("0x5", None),
            ("5 5", None),
            ("5.0", None),
        ];
        for (value, expected) in rows {
            assert_eq!(content_length(value.as_bytes()).ok(), expected, "{value}");
        }
    }

    #[test]
    fn codings_are_unsupported_or_malformed() {
        let rows = [
            ("gzip, chunked", BadFraming::UnsupportedCoding),
            ("gzip,deflate , Chunked", BadFraming::UnsupportedCoding),
            ("gzip", BadFraming::TransferEncoding),
            ("identity", BadFraming::TransferEncoding),
            ("chunked, chunked", BadFraming::TransferEncoding),
            ("chunked,", BadFraming::TransferEncoding),
            ("chunked, gzip", BadFraming::TransferEncoding),
            ("xchunked", BadFraming::TransferEncoding),
            ("", BadFraming::TransferEncoding),
        ];
        for (value, expected) in rows {
            assert_eq!(judge_codings(value.as_bytes()), expected, "{value}");
        }
    }
}
