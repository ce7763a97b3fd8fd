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
use hickory_resolver::proto::rr::rdata::tsig::{TsigAlgorithm, TsigError};
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
/// The most aliases that are followed.
const MOST_ALIASES: usize = 8;
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
        let named = Name::from_ascii(record(name))?;
        let set = self.zone.as_deref().map(|zone| Name::from_ascii(format!("{}.", zone.trim_end_matches('.'))));
        let set = set.transpose()?;
        // Another connection: a server that takes updates only may close it.
        let seen = match self.look_up(&named).await {
            Err(_) if set.is_some() => RecordPlace { owner: named.clone(), zone: None },
            seen => seen?,
        };
        let owner = seen.owner;
        let zone = match set.filter(|set| set.zone_of(&owner)).or(seen.zone) {
            Some(zone) if zone.zone_of(&owner) => zone,
            _ if owner != named => bail!("it is an alias of {owner} (CNAME), which is in no zone of this server"),
            _ => bail!("it is in no zone of this server, or not in that of --acme-dns-zone"),
        };
        let mut stream = TcpStream::connect(self.server).await?;
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
            // The header says no more than that it does not believe us (RFC 8945 §5.2).
            let of_key = plain.signature().and_then(|signature| signature.data.error.as_ref());
            let code = of_key.map_or(plain.response_code, |error| match error {
                TsigError::BadSig => ResponseCode::BADSIG,
                TsigError::BadKey => ResponseCode::BADKEY,
                TsigError::BadTime => ResponseCode::BADTIME,
                _ => plain.response_code,
            });
            bail!("it refuses: {code}{}", advice(code));
        }
        if let Some(mut verifier) = verifier {
            verifier.verify(&answer).context("its answer is not signed with the key of --acme-dns-key")?;
        }
        Ok(())
    }

    /// Where the records of a name belong.
    async fn look_up(&self, name: &Name) -> anyhow::Result<RecordPlace> {
        let mut stream = TcpStream::connect(self.server).await?;
        let mut question = Message::query();
        question.metadata.op_code = OpCode::Query;
        question.add_query(Query::query(name.clone(), RecordType::SOA));
        let answer = Message::from_vec(&talk(&mut stream, &question).await?).context("its answer is none")?;
        let seen = seen(&answer, name);
        match seen.zone.is_none() && seen.owner == *name && self.zone.is_none() {
            true => bail!("it does not say in which zone that is ({}); set --acme-dns-zone", answer.response_code),
            false => Ok(seen),
        }
    }
}

/// Where a record belongs, as the server says.
struct RecordPlace {
    /// Its name, behind aliases.
    owner: Name,
    /// The zone that it is in, if it has one.
    zone: Option<Name>,
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

/// Where the records of a name belong, by the answer to a question for its SOA record: the end of a chain of aliases, and the
/// owner of the SOA record (RFC 2308 §3).
fn seen(answer: &Message, name: &Name) -> RecordPlace {
    let mut owner = name.clone();
    for _ in 0..MOST_ALIASES {
        let alias = answer.answers.iter().filter(|record| record.name == owner).find_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        });
        let Some(target) = alias else { break };
        owner = target;
    }
    let mut records = answer.answers.iter().chain(&answer.authorities);
    let soa = records.find(|record| record.record_type() == RecordType::SOA && record.name.zone_of(&owner));
    RecordPlace { zone: soa.map(|soa| soa.name.clone()), owner }
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
    use hickory_resolver::proto::rr::rdata::{CNAME, SOA};

    use super::*;

    #[test]
    fn records_belong_where_aliases_end() {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let alias = |from: &str, to: &str| Record::from_rdata(name(from), 60, RData::CNAME(CNAME(name(to))));
        let soa = |zone: &str| {
            let data = SOA::new(name("ns.test."), name("root.test."), 1, 60, 60, 60, 60);
            Record::from_rdata(name(zone), 60, RData::SOA(data))
        };
        let check = |answers: Vec<Record>, authority: Option<Record>, expected: &str| {
            let mut answer = Message::query();
            answer.answers = answers;
            answer.authorities.extend(authority);
            let RecordPlace { owner, zone } = seen(&answer, &name("_acme-challenge.a.test."));
            assert_eq!(format!("{owner} in {}", zone.map_or("none".to_owned(), |zone| zone.to_string())), expected);
        };
        check(vec![], Some(soa("a.test.")), "_acme-challenge.a.test. in a.test.");
        check(vec![], None, "_acme-challenge.a.test. in none");
        let first = alias("_acme-challenge.a.test.", "a.acme.test.");
        check(vec![first.clone()], Some(soa("acme.test.")), "a.acme.test. in acme.test.");
        // The server has the first zone only.
        check(vec![first.clone()], Some(soa("a.test.")), "a.acme.test. in none");
        let second = alias("a.acme.test.", "x.a.test.");
        check(vec![first, second], Some(soa("a.test.")), "x.a.test. in a.test.");
        // Round in circles.
        let round = [alias("_acme-challenge.a.test.", "b."), alias("b.", "_acme-challenge.a.test.")];
        check(round.to_vec(), None, "_acme-challenge.a.test. in none");
    }

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
