//! CRC-32C (Castagnoli; RFC 4960, appendix B). Bit by bit, without a table: a header has a few hundred bytes, and a
//! connection has one.

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum of these bytes, one part after the other.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().copied().flatten();
    !bytes.fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| divided(crc)))
}

/// One bit further. Without a branch: which bits are set is chance.
fn divided(crc: u32) -> u32 {
    (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of the catalogue of CRCs, and RFC 3720, appendix B.4.
    #[test]
    fn published_values() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        let rows: [(&[u8], u32); 6] = [
            (b"", 0),
            (b"123456789", 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
        ];
        for (bytes, expected) in rows {
            assert_eq!(crc32c(&[bytes]), expected, "{bytes:?}");
            let (first, second) = bytes.split_at(bytes.len() / 3);
            assert_eq!(crc32c(&[first, second]), expected, "in parts: {bytes:?}");
        }
    }
}
