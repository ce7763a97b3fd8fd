//! Judges PEM (RFC 7468) without cryptography: complete blocks, valid base64, complete DER, a certificate and one key
//! without a passphrase. Its errors never quote the text: it is secret.

use std::fmt::{Debug, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::value::Parsed;

/// The label of a certificate's block.
const CERTIFICATE: &str = "CERTIFICATE";

/// One block.
struct Block<'a> {
    label: &'a str,
    /// Base64, without white space.
    body: String,
}

/// Longest text, in bytes: more than any chain needs, and what a folder's file may have.
const LONGEST: usize = 1 << 20;

/// Certificates, and the key of the first where one is asked for.
#[derive(Debug)]
pub(crate) struct Pem {
    /// Rewritten: its blocks only, no empty line, a line feed after each line.
    pub(crate) text: Box<str>,
    /// The certificates in DER, in their order, each with the number of its block.
    pub(crate) chain: Vec<(usize, Vec<u8>)>,
}

/// Blocks of PEM, without anything between them. May share its memory with the value that it was read from. Secret: it
/// may hold a private key.
#[derive(Clone)]
pub struct PemText(
    /// Text, perhaps with white space at its end.
    Arc<[u8]>,
);

impl PemText {
    /// Its lines, without a line feed after the last.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.significant()).expect("it was made from text")
    }

    /// The same text, in the memory of the value that it was read from if it is that value.
    pub(crate) fn kept_in(self, value: &Arc<[u8]>) -> Self {
        if self.significant() == value.trim_ascii_end() { Self(Arc::clone(value)) } else { self }
    }

    fn significant(&self) -> &[u8] {
        self.0.trim_ascii_end()
    }
}

impl From<&str> for PemText {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl PartialEq for PemText {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.significant() == other.significant()
    }
}

impl Eq for PemText {}

impl Hash for PemText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.significant().hash(state);
    }
}

impl Debug for PemText {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("PemText")
    }
}

/// Reads a certificate chain and its key.
pub(crate) fn chain_and_key(text: &str) -> Parsed<Pem> {
    if text.len() > LONGEST {
        return Err(format!("expected a certificate of at most {} MiB", LONGEST >> 20));
    }
    let blocks = blocks(text)?;
    let mut chain = Vec::new();
    for (number, block) in (1..).zip(&blocks) {
        let der = block.judge().map_err(|wrong| format!("expected PEM, but block {number} {wrong}"))?;
        chain.extend((block.label == CERTIFICATE).then_some((number, der)));
    }
    let keys = blocks.iter().filter(|block| block.is_key()).count();
    match chain.is_empty() {
        true => Err("expected a certificate too: a block that begins with -----BEGIN CERTIFICATE-----".into()),
        false if keys == 0 => Err("expected the certificate's private key too, in the same value".into()),
        false if keys > 1 => Err("expected one private key, that of the first certificate".into()),
        false => Ok(Pem { text: blocks.iter().map(Block::written).collect::<String>().into(), chain }),
    }
}

/// Reads the certificates of authorities: nothing else may be there.
pub(crate) fn authorities(text: &str) -> Parsed<Pem> {
    if text.len() > LONGEST {
        return Err(format!("expected certificates of at most {} MiB", LONGEST >> 20));
    }
    let blocks = blocks(text)?;
    let mut chain = Vec::new();
    for (number, block) in (1..).zip(&blocks) {
        if block.is_key() {
            return Err(format!(
                "expected certificates of authorities only, but block {number} is a {}: the key of an authority must \
                 stay with the authority",
                block.kind()
            ));
        }
        if block.label != CERTIFICATE {
            return Err(format!("expected certificates of authorities only, but block {number} is a {}", block.kind()));
        }
        let der = block.judge().map_err(|wrong| format!("expected PEM, but block {number} {wrong}"))?;
        if X509Certificate::from_der(&der).is_err() {
            return Err(format!("expected PEM, but block {number} is no X.509 certificate, or cannot be read"));
        }
        chain.push((number, der));
    }
    match chain.is_empty() {
        true => Err("expected certificates: blocks that begin with -----BEGIN CERTIFICATE-----".into()),
        false => Ok(Pem { text: blocks.iter().map(Block::written).collect::<String>().into(), chain }),
    }
}

/// The blocks of a text; text between them is explanatory (RFC 7468 §2).
fn blocks(text: &str) -> Parsed<Vec<Block<'_>>> {
    let mut lines = text.lines().map(str::trim);
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        if let Some(label) = boundary(line, "-----BEGIN ") {
            let block = Block::read(label, &mut lines);
            blocks.push(block.ok_or_else(|| format!("expected PEM, but block {} has no end", blocks.len() + 1))?);
        }
    }
    Ok(blocks)
}

fn boundary<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

impl<'a> Block<'a> {
    /// `None`: it does not end, or another block's end comes first.
    fn read(label: &'a str, lines: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut body = String::new();
        for line in lines {
            match boundary(line, "-----END ") {
                Some(end) => return (end == label).then_some(Self { label, body }),
                None => body.extend(line.split_ascii_whitespace()),
            }
        }
        None
    }

    /// What it is, without quoting it: a label may hold anything.
    fn kind(&self) -> &'static str {
        if self.is_key() { "private key" } else { "block of another kind" }
    }

    fn is_key(&self) -> bool {
        self.label == "PRIVATE KEY" || self.label.ends_with(" PRIVATE KEY")
    }

    /// Its bytes.
    fn judge(&self) -> Result<Vec<u8>, &'static str> {
        // PKCS #8 says so in the label, the older form (RFC 1421) in a header.
        if self.is_key() && (self.label.starts_with("ENCRYPTED") || self.body.contains("ENCRYPTED")) {
            return Err("is a private key with a passphrase; remove the passphrase");
        }
        let bytes = decoded(&self.body).ok_or("is not base64")?;
        // Parameters (`EC PARAMETERS`) are of many forms; certificates and keys are sequences.
        if (self.is_key() || self.label == CERTIFICATE) && !is_one_sequence(&bytes) {
            return Err("is truncated, or is no certificate or key in DER");
        }
        Ok(bytes)
    }

    /// In lines of 64 characters (RFC 7468 §2).
    fn written(&self) -> String {
        let lines = self.body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
        format!("-----BEGIN {0}-----\n{1}-----END {0}-----\n", self.label, lines.collect::<String>())
    }
}

/// The bytes of base64 (RFC 4648 §4) with padding and without white space.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for digit in digits.bytes() {
        bits = bits << 6 | u32::from(sextet(digit)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Some(bytes)
}

fn sextet(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// Whether these bytes are exactly one complete DER sequence (X.690 §8.1).
fn is_one_sequence(bytes: &[u8]) -> bool {
    let [0x30, first, rest @ ..] = bytes else {
        return false;
    };
    match usize::from(*first) {
        length @ 0..=0x7f => rest.len() == length,
        form @ 0x81..=0x84 if rest.len() >= form - 0x80 => {
            let (length, content) = rest.split_at(form - 0x80);
            length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)) == content.len()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a DER sequence of 200 bytes, and a whole one of three zeros, in base64.
    const LONG: &str = "MIHI";
    const SHORT: &str = "MAMAAAA=";

    fn block(label: &str, body: &str) -> String {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    fn long() -> String {
        format!("{LONG}{}AAA=", "A".repeat(264))
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let said = chain_and_key(text).map_or_else(|advice| format!("error: {advice}"), |pem| pem.text.into());
        assert!(said.starts_with(expected), "{text}: {said} is not {expected}");
        assert!(!said.starts_with("error") || !said.contains("hunter2"), "{said} tells a secret");
    }

    #[test]
    fn good() {
        let certificate = block("CERTIFICATE", SHORT);
        for key in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"].map(|label| block(label, SHORT)) {
            check(&format!("{certificate}{key}"), &format!("{certificate}{key}"));
            check(&format!("{key}{certificate}{certificate}"), &format!("{key}{certificate}{certificate}"));
        }
        let parameters = block("EC PARAMETERS", "BggqhkjOPQMBBw==");
        let all = format!("{parameters}{certificate}{}", block("EC PRIVATE KEY", SHORT));
        check(&all, &all);
    }

    #[test]
    fn is_rewritten() {
        let (certificate, key) = (block("CERTIFICATE", SHORT), block("PRIVATE KEY", SHORT));
        let plain = format!("{certificate}{key}");
        check(&format!("subject=CN = a\n\n{certificate}\n\nBag Attributes: x\n{key}\n"), &plain);
        check(&plain.replace('\n', "\r\n"), &plain);
        check(&plain.replace(SHORT, "  MAMA\n\n AAA=\t"), &plain);
        let one_line = format!("{}{key}", block("CERTIFICATE", &long()));
        let lines = chain_and_key(&one_line).unwrap().text;
        assert!(lines.lines().all(|line| line.len() <= 64 && !line.is_empty()) && lines.ends_with("-\n"));
        check(&lines, &lines);
    }

    #[test]
    fn bad() {
        let (certificate, key) = (block("CERTIFICATE", SHORT), block("PRIVATE KEY", SHORT));
        let both = |certificate: &str, key: &str| format!("{certificate}{key}");
        let rows = [
            ("x".repeat(LONGEST + 1), "expected a certificate of at most 1 MiB"),
            (String::new(), "expected a certificate too"),
            ("hunter2".into(), "expected a certificate too"),
            (key.clone(), "expected a certificate too"),
            (certificate.clone(), "expected the certificate's private key too"),
            (both(&certificate, &key.repeat(2)), "expected one private key"),
            (
                both(&certificate, "-----BEGIN PRIVATE KEY-----\nMAMAAAA=\nhunter2"),
                "expected PEM, but block 2 has no end",
            ),
            (both("-----BEGIN CERTIFICATE-----\nMAMAAAA=\n", &key), "expected PEM, but block 1 has no end"),
            (both(&block("CERTIFICATE", "hunter2!"), &key), "expected PEM, but block 1 is not base64"),
            (both(&block("CERTIFICATE", ""), &key), "expected PEM, but block 1 is not base64"),
            (both(&block("CERTIFICATE", "MAMAAAA"), &key), "expected PEM, but block 1 is not base64"),
            (both(&block("CERTIFICATE", "MAMA=AA="), &key), "expected PEM, but block 1 is not base64"),
            (both(&block("CERTIFICATE", "MAMAAA=="), &key), "expected PEM, but block 1 is truncated"),
            (both(&certificate, &block("PRIVATE KEY", "b3BlbnNzaC1r")), "expected PEM, but block 2 is truncated"),
            (
                both(&block("CERTIFICATE", &long().replacen("AAAA", "", 1)), &key),
                "expected PEM, but block 1 is truncated",
            ),
            (
                both(&certificate, &block("ENCRYPTED PRIVATE KEY", SHORT)),
                "expected PEM, but block 2 is a private key with a",
            ),
            (
                both(&certificate, &block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nMAMAAAA=")),
                "expected PEM, but block 2 is a private key with a passphrase",
            ),
        ];
        for (text, advice) in rows {
            check(&text, &format!("error: {advice}"));
        }
    }
}
