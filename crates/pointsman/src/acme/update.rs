//! Changes TXT records by dynamic updates of DNS (RFC 2136), signed with TSIG (RFC 8945), over TCP. Keeps no connection and
//! never tries again.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hickory_resolver::proto::op::update_message::{append, delete_by_rdata};
use hickory_resolver::proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType, TSigner};
use hickory_resolver::proto::serialize::binary::BinEncodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::authority::now;
use super::hook::{Turn, record};
use super::order::Trouble;
use crate::settings::DnsUpdates;

/// How long one change may take.
const WITHIN: Duration = Duration::from_secs(20);
/// Seconds that others may keep the record.
const TTL: u32 = 60;
/// Seconds by which the server's clock may differ from ours, as all programs have it.
const FUDGE: u16 = 300;
/// The longest file with a key, bytes.
const LONGEST_KEY: u64 = 16 * 1024;

impl DnsUpdates {
    /// Sets or removes the record of a name.
    ///
    /// # Errors
    /// The key cannot be read, or the server does not take the change.
    pub(super) async fn change(&self, turn: Turn, name: &str, value: &str) -> Result<(), Trouble> {
        let done = timeout(WITHIN, self.try_change(turn, name, value)).await;
        let done = done.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", WITHIN.as_secs())));
        done.map_err(|error| {
            let word = if turn == Turn::Present { "set" } else { "removed" };
            let server = self.server;
            Trouble::passing(format!("{} cannot be {word} at the name server {server}: {error:#}", record(name)))
        })
    }

    async fn try_change(&self, turn: Turn, name: &str, value: &str) -> anyhow::Result<()> {
        let signer = self.key.as_deref().map(signer).transpose()?;
        let owner = Name::from_ascii(record(name))?;
        let mut stream = TcpStream::connect(self.server).await?;
        let zone = match &self.zone {
            Some(zone) => Name::from_ascii(format!("{}.", zone.trim_end_matches('.')))?,
            None => zone_of(&mut stream, &owner).await?,
        };
        if !zone.zone_of(&owner) {
            bail!("it is not in the zone {zone} of --acme-dns-zone");
        }
        let text = Record::from_rdata(owner, TTL, RData::TXT(TXT::new(vec![value.to_owned()])));
        let mut update = match turn {
            Turn::Present => append(text.into(), zone, false, false),
            Turn::CleanUp => delete_by_rdata(text.into(), zone, false),
        };
        let verifier = match &signer {
            Some(signer) => update.finalize(signer, now().unsigned_abs())?,
            None => None,
        };
        let answer = talk(&mut stream, &update).await?;
        let plain = Message::from_vec(&answer).context("its answer is none")?;
        if plain.response_code != ResponseCode::NoError {
            bail!("it refuses: {}{}", plain.response_code, advice(plain.response_code));
        }
        if let Some(mut verifier) = verifier {
            verifier.verify(&answer).context("its answer is not signed with the key of --acme-dns-key")?;
        }
        Ok(())
    }
}

/// What an operator can do about it.
fn advice(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NotAuth | ResponseCode::BADKEY | ResponseCode::BADSIG => {
            "; check the key's name, algorithm and secret in --acme-dns-key, and --acme-dns-zone"
        }
        ResponseCode::BADTIME => "; its clock and ours differ by more than five minutes",
        ResponseCode::Refused => "; allow this key to update TXT records of the zone there",
        ResponseCode::NotZone => "; set --acme-dns-zone to the zone that it has",
        _ => "",
    }
}

/// The zone that a name is in, as the server says: the owner of the SOA record in its answer (RFC 2308 §3).
async fn zone_of(stream: &mut TcpStream, name: &Name) -> anyhow::Result<Name> {
    let mut question = Message::query();
    question.metadata.op_code = OpCode::Query;
    question.add_query(Query::query(name.clone(), RecordType::SOA));
    let answer = Message::from_vec(&talk(stream, &question).await?).context("its answer is none")?;
    let mut records = answer.answers.iter().chain(&answer.authorities);
    let soa = records.find(|record| record.record_type() == RecordType::SOA);
    match soa {
        Some(soa) => Ok(soa.name.clone()),
        None => bail!("it does not say in which zone that is ({}); set --acme-dns-zone", answer.response_code),
    }
}

/// Sends a message and reads the answer, each after its length (RFC 1035 §4.2.2).
async fn talk(stream: &mut TcpStream, message: &Message) -> anyhow::Result<Vec<u8>> {
    let bytes = message.to_bytes()?;
    let length = u16::try_from(bytes.len())?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    match answer.get(..2) == bytes.get(..2) {
        true => Ok(answer),
        false => bail!("its answer is to another question"),
    }
}

/// What signs with the key of a file.
fn signer(file: &Path) -> anyhow::Result<TSigner> {
    let shown = file.display();
    let length = std::fs::metadata(file).with_context(|| format!("--acme-dns-key {shown}"))?.len();
    if length > LONGEST_KEY {
        bail!("--acme-dns-key {shown}: too long for a key");
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("--acme-dns-key {shown}"))?;
    let (algorithm, name, secret) = key(&text).with_context(|| {
        format!("--acme-dns-key {shown}: expected ALGORITHM:NAME:SECRET, or the key as tsig-keygen writes it; algorithms are hmac-sha256, hmac-sha384 and hmac-sha512")
    })?;
    Ok(TSigner::new(secret, algorithm, Name::from_ascii(name)?, FUDGE)?)
}

/// `hmac-sha256:NAME:SECRET` as knsupdate and dig take it, or the clause of BIND's configuration:
/// `key "NAME" { algorithm hmac-sha256; secret "SECRET"; };`.
fn key(text: &str) -> Option<(TsigAlgorithm, String, Vec<u8>)> {
    let text: String =
        text.lines().filter(|line| !line.trim_start().starts_with(['#', '/'])).collect::<Vec<_>>().join(" ");
    let (algorithm, name, secret) = match text.trim().strip_prefix("key") {
        Some(clause) => {
            let (name, body) = clause.split_once('{')?;
            let value = |word: &str| {
                body.split(';')
                    .find_map(|part| Some(part.trim().strip_prefix(word)?.trim().trim_matches('"').to_owned()))
            };
            (value("algorithm")?, name.trim().trim_matches('"').to_owned(), value("secret")?)
        }
        None => {
            let mut parts = text.trim().splitn(3, ':').map(|part| part.trim().to_owned());
            (parts.next()?, parts.next()?, parts.next()?)
        }
    };
    let algorithm = match &*algorithm.to_ascii_lowercase() {
        "hmac-sha256" => TsigAlgorithm::HmacSha256,
        "hmac-sha384" => TsigAlgorithm::HmacSha384,
        "hmac-sha512" => TsigAlgorithm::HmacSha512,
        _ => return None,
    };
    let secret = STANDARD.decode(secret).ok().filter(|secret| !secret.is_empty())?;
    (!name.is_empty()).then_some((algorithm, name, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_both_forms() {
        let bind = "// made by tsig-keygen\nkey \"up.test\" {\n\talgorithm hmac-sha512;\n\tsecret \"c2VjcmV0\";\n};\n";
        for (text, expected) in [
            ("hmac-sha256:up.test:c2VjcmV0\n", "hmac-sha256 up.test"),
            ("# knot\nHMAC-SHA384:up.test.:c2VjcmV0", "hmac-sha384 up.test."),
            (bind, "hmac-sha512 up.test"),
            ("hmac-md5:up.test:c2VjcmV0", "none"),
            ("hmac-sha256:up.test:!", "none"),
            ("hmac-sha256::c2VjcmV0", "none"),
            ("key up.test { secret \"c2VjcmV0\"; };", "none"),
            ("c2VjcmV0", "none"),
        ] {
            let read = key(text).map(|(algorithm, name, secret)| {
                assert_eq!(secret, b"secret");
                format!("{} {name}", algorithm.to_name())
            });
            assert_eq!(read.as_deref().unwrap_or("none"), expected, "{text}");
        }
    }
}
