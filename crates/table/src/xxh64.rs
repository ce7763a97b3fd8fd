//! XXH64 of short texts, with the seed 0 (xxHash specification, version 0.1.1). Not for secrets.

const PRIMES: [u64; 5] =
    [0x9E37_79B1_85EB_CA87, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0x85EB_CA77_C2B2_AE63, 0x27D4_EB2F_1656_67C5];

/// The hash of these bytes.
pub(crate) fn xxh64(bytes: &[u8]) -> u64 {
    let [one, two, three, four, five] = PRIMES;
    let mut stripes = bytes.chunks_exact(32);
    let mut hash = if bytes.len() < 32 { five } else { of_stripes(&mut stripes) };
    hash = hash.wrapping_add(bytes.len() as u64);
    let mut lanes = stripes.remainder().chunks_exact(8);
    for lane in &mut lanes {
        hash = (hash ^ round(0, number(lane))).rotate_left(27).wrapping_mul(one).wrapping_add(four);
    }
    let mut halves = lanes.remainder().chunks_exact(4);
    for half in &mut halves {
        hash = (hash ^ number(half).wrapping_mul(one)).rotate_left(23).wrapping_mul(two).wrapping_add(three);
    }
    for byte in halves.remainder() {
        hash = (hash ^ u64::from(*byte).wrapping_mul(five)).rotate_left(11).wrapping_mul(one);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(two);
    hash = (hash ^ (hash >> 29)).wrapping_mul(three);
    hash ^ (hash >> 32)
}

fn of_stripes<'b>(stripes: &mut impl Iterator<Item = &'b [u8]>) -> u64 {
    let [one, two, _, four, _] = PRIMES;
    let mut sums = [one.wrapping_add(two), two, 0, one.wrapping_neg()];
    for stripe in stripes {
        for (sum, lane) in sums.iter_mut().zip(stripe.chunks_exact(8)) {
            *sum = round(*sum, number(lane));
        }
    }
    let turned = sums.iter().zip([1, 7, 12, 18]).map(|(sum, by)| sum.rotate_left(by));
    let start = turned.fold(0, u64::wrapping_add);
    sums.iter().fold(start, |hash, sum| (hash ^ round(0, *sum)).wrapping_mul(one).wrapping_add(four))
}

fn round(sum: u64, lane: u64) -> u64 {
    let [one, two, ..] = PRIMES;
    sum.wrapping_add(lane.wrapping_mul(two)).rotate_left(31).wrapping_mul(one)
}

/// Bytes, the least first, as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the reference implementation says.
    #[test]
    fn hashes() {
        for (text, expected) in HASHES {
            assert_eq!(xxh64(text.as_bytes()), *expected, "{text}");
        }
    }

    const HASHES: &[(&str, u64)] = &[
        ("", 0xEF46_DB37_51D8_E999),
        ("a", 0xD24E_C4F1_A98C_6E5B),
        ("abc", 0x44BC_2CF5_AD77_0999),
        ("abcdefgh", 0x3AD3_5177_5B46_34B7),
        ("abcdefghijklmnopqrstuvwxyz012345", 0xBF2C_D639_B414_3B80),
        ("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-._+", 0x5E51_8893_B4EA_016E),
    ];
}
