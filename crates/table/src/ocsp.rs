//! An OCSP response (RFC 6960 §4.2), as far as it takes to send it along with a certificate: whether it says that this one is
//! good, and until when. Verifies no signature: clients do. Has no clock.

use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::value::Parsed;

/// A response for the certificate that it lies beside.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Staple {
    /// The response.
    pub der: Arc<[u8]>,
    /// The last second at which it counts, since the epoch.
    pub until: i64,
}

impl Debug for Staple {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "good until {}", self.until)
    }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const TIME: u8 = 0x18;
/// `[0]`, of more than one value and of one.
const FIRST: u8 = 0xa0;
const GOOD: u8 = 0x80;

impl Staple {
    /// Reads a response that should be about the certificate of this serial number.
    pub(crate) fn parse(der: &Arc<[u8]>, serial: &[u8]) -> Parsed<Self> {
        let unreadable = || "expected an OCSP response in DER".to_owned();
        let mut answers = answers(der).ok_or_else(unreadable)?;
        while !answers.0.is_empty() {
            let mut answer = answers.take(SEQUENCE).ok_or_else(unreadable)?;
            if significant(serial_of(&mut answer).ok_or_else(unreadable)?) != significant(serial) {
                continue;
            }
            if answer.take(GOOD).is_none() {
                return Err("the OCSP response does not say that the certificate is good; it is not sent".into());
            }
            let until = next_update(&mut answer);
            let until = until.ok_or("expected an OCSP response that says when the next one comes (nextUpdate)")?;
            return Ok(Self { der: Arc::clone(der), until });
        }
        Err("the OCSP response is about another certificate; it is not sent".into())
    }
}

/// The single answers in a response that succeeded.
fn answers(der: &[u8]) -> Option<Der<'_>> {
    let mut response = Der(der).take(SEQUENCE)?;
    if response.take(ENUMERATED)?.0 != [0] {
        return None;
    }
    let mut bytes = response.take(FIRST)?.take(SEQUENCE)?;
    bytes.next()?;
    let mut data = bytes.take(OCTETS)?.take(SEQUENCE)?.take(SEQUENCE)?;
    // The version, where it is not 1.
    data.take(FIRST);
    // Who answered, and when.
    data.next()?;
    data.take(TIME)?;
    data.take(SEQUENCE)
}

/// The serial number of the certificate that an answer is about.
fn serial_of<'a>(answer: &mut Der<'a>) -> Option<&'a [u8]> {
    let mut id = answer.take(SEQUENCE)?;
    id.take(SEQUENCE)?;
    id.take(OCTETS)?;
    id.take(OCTETS)?;
    Some(id.take(INTEGER)?.0)
}

/// What follows the status.
fn next_update(answer: &mut Der<'_>) -> Option<i64> {
    answer.take(TIME)?;
    let next = answer.take(FIRST)?;
    Some(ASN1Time::from_der(next.0).ok()?.1.timestamp())
}

/// Without zeros that only keep a number positive.
fn significant(serial: &[u8]) -> &[u8] {
    &serial[serial.iter().take_while(|byte| **byte == 0).count()..]
}

/// Bytes that hold one value of DER after the other (X.690 §8.1).
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value, if it has this tag; else nothing is taken.
    fn take(&mut self, tag: u8) -> Option<Der<'a>> {
        let mut ahead = *self;
        let (found, content) = ahead.next()?;
        (found == tag).then(|| *self = ahead)?;
        Some(Der(content))
    }

    /// The next value's tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let [tag, first, rest @ ..] = self.0 else { return None };
        let (length, rest) = match usize::from(*first) {
            length @ 0..=0x7f => (length, rest),
            form @ 0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(form - 0x80)?;
                (length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For serial number 1, good until 2126-01-01, and for 2, revoked. Made by `openssl ocsp`.
    const RESPONSE: &[u8] = include_bytes!("../tests/certificates/response.ocsp");

    #[track_caller]
    fn check(der: &[u8], serial: &[u8], expected: &str) {
        let said = match Staple::parse(&der.into(), serial) {
            Ok(staple) => format!("{staple:?}"),
            Err(advice) => format!("error: {advice}"),
        };
        assert!(said.starts_with(expected), "{said} is not {expected}");
    }

    #[test]
    fn a_response_is_for_its_certificate() {
        check(RESPONSE, &[1], "good until ");
        check(RESPONSE, &[0, 1], "good until ");
        check(RESPONSE, &[2], "error: the OCSP response does not say");
        check(RESPONSE, &[3], "error: the OCSP response is about another");
    }

    #[test]
    fn what_is_no_response() {
        for length in 0..RESPONSE.len().min(200) {
            check(&RESPONSE[..length], &[1], "error: expected an OCSP response in DER");
        }
        for der in [&b"\x30\x03\x0a\x01\x06"[..], b"-----BEGIN", b"\x30\x84\xff\xff\xff\xff"] {
            check(der, &[1], "error: expected an OCSP response in DER");
        }
    }
}
