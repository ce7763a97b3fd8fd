//! Version 2: binary (`proxy-protocol.txt`, section 2.2). Never reads a header that announces more than its limit.
//!
//! ```text
//! signature (12) │ version, command │ family, transport │ length (2) │ addresses │ TLVs: type, length (2), value
//! ```

use std::net::IpAddr;

use super::crc32c::crc32c;
use super::header::{BadProxyHeader, ProxyHeader, ProxyOrigin, ProxyVersion, may_begin};

pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Up to the length.
const FIXED: usize = 16;
/// The most bytes of addresses and TLVs. A few hundred are usual; a client's certificate fits too.
const MAX_BLOCK: usize = 4096;
/// The longest header, of either version.
pub const MAX_PROXY_HEADER: usize = FIXED + MAX_BLOCK;

pub(super) const LOCAL: u8 = 0x20;
pub(super) const PROXY: u8 = 0x21;

pub(super) const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
/// Type and length.
const TLV_HEAD: usize = 3;
/// Section 2.2.5.
const MAX_UNIQUE_ID: usize = 128;

/// What follows the length.
#[derive(Clone, Copy, Debug)]
enum Block {
    /// Nothing that is read. LOCAL: "discard the protocol block"; unspecified: nothing tells where addresses end and
    /// TLVs begin.
    Skipped(ProxyOrigin),
    Inet,
    Inet6,
    Unix,
}

impl Block {
    /// The length of its addresses.
    fn addresses(self) -> usize {
        match self {
            Block::Skipped(_) => 0,
            Block::Inet => 12,
            Block::Inet6 => 36,
            Block::Unix => 216,
        }
    }
}

/// Parses a buffer that begins with `\r`.
pub(super) fn parse(buffer: &[u8]) -> Result<Option<ProxyHeader<'_>>, BadProxyHeader> {
    if !may_begin(buffer, SIGNATURE) {
        return Err(BadProxyHeader::Signature);
    }
    let fixed = &buffer[buffer.len().min(SIGNATURE.len())..buffer.len().min(FIXED)];
    let Some(block) = block(fixed)? else { return Ok(None) };
    let Some(length) = length(fixed, block)? else { return Ok(None) };
    match buffer.get(..FIXED + length) {
        Some(header) => read(header, block).map(Some),
        None => Ok(None),
    }
}

/// From the two bytes behind the signature, as far as received.
fn block(fixed: &[u8]) -> Result<Option<Block>, BadProxyHeader> {
    match *fixed {
        [] | [LOCAL | PROXY] => Ok(None),
        // The family of LOCAL "is ignored", whatever it is.
        [LOCAL, _, ..] => Ok(Some(Block::Skipped(ProxyOrigin::Local))),
        [PROXY, kind, ..] => judge_kind(kind).map(Some),
        [other, ..] if other >> 4 == PROXY >> 4 => Err(BadProxyHeader::Command),
        [..] => Err(BadProxyHeader::Version),
    }
}

fn judge_kind(kind: u8) -> Result<Block, BadProxyHeader> {
    match (kind >> 4, kind & 0xf) {
        (4.., _) => Err(BadProxyHeader::Family),
        (_, 3..) => Err(BadProxyHeader::Transport),
        (0, _) | (_, 0) => Ok(Block::Skipped(ProxyOrigin::Unknown)),
        (1, _) => Ok(Block::Inet),
        (2, _) => Ok(Block::Inet6),
        (3, _) => Ok(Block::Unix),
    }
}

/// The block's length, judged by its first byte if only that is there.
fn length(fixed: &[u8], block: Block) -> Result<Option<usize>, BadProxyHeader> {
    let (high, low) = match *fixed {
        [_, _, high] => (high, None),
        [_, _, high, low] => (high, Some(low)),
        _ => return Ok(None),
    };
    let least = usize::from(u16::from_be_bytes([high, low.unwrap_or(0)]));
    match low {
        _ if least > MAX_BLOCK => Err(BadProxyHeader::TooLong),
        None => Ok(None),
        Some(_) if least < block.addresses() => Err(BadProxyHeader::TooShort),
        Some(_) => Ok(Some(least)),
    }
}

/// Reads a complete header.
fn read(header: &[u8], block: Block) -> Result<ProxyHeader<'_>, BadProxyHeader> {
    let addresses = &header[FIXED..][..block.addresses()];
    let origin = match block {
        Block::Skipped(origin) => return Ok(with(header, origin, Tlvs::default())),
        Block::Inet => ends::<4>(addresses).ok_or(BadProxyHeader::TooShort)?,
        Block::Inet6 => ends::<16>(addresses).ok_or(BadProxyHeader::TooShort)?,
        Block::Unix => ProxyOrigin::Unix,
    };
    Ok(with(header, origin, Tlvs::read(header, FIXED + addresses.len())?))
}

fn with<'b>(header: &'b [u8], origin: ProxyOrigin, tlvs: Tlvs<'b>) -> ProxyHeader<'b> {
    let Tlvs { authority, unique_id, .. } = tlvs;
    ProxyHeader { len: header.len(), version: ProxyVersion::V2, origin, authority, unique_id }
}

/// Two addresses of this many bytes, and two ports.
fn ends<const N: usize>(bytes: &[u8]) -> Option<ProxyOrigin>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, _) = rest.split_first_chunk()?;
    Some(ProxyOrigin::Ip {
        source: (*source, u16::from_be_bytes(*source_port)).into(),
        destination: (*destination, u16::from_be_bytes(*destination_port)).into(),
    })
}

/// The TLVs that are read; all others are skipped.
#[derive(Clone, Copy, Debug, Default)]
struct Tlvs<'b> {
    authority: Option<&'b [u8]>,
    unique_id: Option<&'b [u8]>,
    checksum: Option<&'b [u8]>,
}

impl<'b> Tlvs<'b> {
    /// From a whole header, whose TLVs begin `at`.
    fn read(header: &'b [u8], mut at: usize) -> Result<Self, BadProxyHeader> {
        let mut tlvs = Tlvs::default();
        while at < header.len() {
            let (kind, value) = tlv(&header[at..]).ok_or(BadProxyHeader::Tlv)?;
            at += TLV_HEAD;
            match kind {
                AUTHORITY => once(&mut tlvs.authority, value)?,
                UNIQUE_ID if value.len() > MAX_UNIQUE_ID => return Err(BadProxyHeader::UniqueId),
                UNIQUE_ID => once(&mut tlvs.unique_id, value)?,
                CRC32C => {
                    once(&mut tlvs.checksum, value)?;
                    check(header, at, value)?;
                }
                _ => {}
            }
            at += value.len();
        }
        Ok(tlvs)
    }
}

/// The first TLV: its type and its value.
fn tlv(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk()?;
    Some((kind, rest.get(..usize::from(u16::from_be_bytes([high, low])))?))
}

/// The document says nothing of a TLV that comes twice; two readers could take either.
fn once<'b>(slot: &mut Option<&'b [u8]>, value: &'b [u8]) -> Result<(), BadProxyHeader> {
    if slot.replace(value).is_some() { Err(BadProxyHeader::RepeatedTlv) } else { Ok(()) }
}

/// Section 2.2.3: the checksum is that of the whole header, with zeros in its own place.
fn check(header: &[u8], at: usize, sent: &[u8]) -> Result<(), BadProxyHeader> {
    let sent = sent.try_into().map(u32::from_be_bytes).map_err(|_| BadProxyHeader::Checksum)?;
    let computed = crc32c(&[&header[..at], &[0; 4], &header[at + 4..]]);
    if sent == computed { Ok(()) } else { Err(BadProxyHeader::Checksum) }
}
