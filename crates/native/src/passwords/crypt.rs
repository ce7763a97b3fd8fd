//! crypt(3): whether a password matches a hash. Pure. The table has judged the hashes.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use md5::{Digest as _, Md5};
use sha_crypt::{PasswordVerifier as _, ShaCrypt};

/// How often `$1$` hashes.
const MD5_ROUNDS: usize = 1_000;
/// The digits of crypt(5), each of six bits.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether a password matches a hash: `$1$`, `$5$`, `$6$`, `$2a$`, `$2b$` or `$2y$`.
pub(super) fn verify(hash: &str, password: &[u8]) -> bool {
    match hash.split('$').collect::<Vec<_>>().as_slice() {
        [_, "1", salt, sum] => verify_slices_are_equal(&md5(password, salt.as_bytes()), sum.as_bytes()).is_ok(),
        [_, "5" | "6", ..] => ShaCrypt::default().verify_password(password, hash).is_ok(),
        _ => bcrypt::verify(password, hash).unwrap_or(false),
    }
}

/// The sum of `$1$`, as FreeBSD's crypt(3) and glibc's compute it.
fn md5(password: &[u8], salt: &[u8]) -> [u8; 22] {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Md5::new().chain_update(password).chain_update(b"$1$").chain_update(salt);
    for at in (0..password.len()).step_by(16) {
        first.update(&inner[..(password.len() - at).min(16)]);
    }
    let mut length = password.len();
    while length > 0 {
        // By the bits of the length: a zero, or the password's first byte.
        first.update(if length & 1 == 1 { &[0][..] } else { &password[..1] });
        length >>= 1;
    }
    let mut sum = first.finalize();
    for round in 0..MD5_ROUNDS {
        let (is_odd, mut next) = (round % 2 == 1, Md5::new());
        next.update(if is_odd { password } else { &sum[..] });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if is_odd { &sum[..] } else { password });
        sum = next.finalize();
    }
    digits(&sum)
}

/// The sum's bytes in the order of `$1$`, six bits a digit, the lowest first.
fn digits(sum: &[u8]) -> [u8; 22] {
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    let mut digits = [0; 22];
    let groups = ORDER.iter().map(|group| group.iter().fold(0, |bits, at| (bits << 8) | usize::from(sum[*at])));
    for (group, bits) in groups.chain([usize::from(sum[11])]).enumerate() {
        for (place, digit) in digits.iter_mut().skip(group * 4).take(4).enumerate() {
            *digit = DIGITS[(bits >> (6 * place)) & 63];
        }
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by crypt(3) of libxcrypt 4.4.
    #[test]
    fn hashes_that_others_made() {
        for (hash, password) in [
            ("$1$saltsalt$4px9i58NU2Z2/vZOUlGjq.", "x"),
            ("$1$saltsalt$9xy1btjgzLYfb7hivXtC//", "secret"),
            ("$1$saltsalt$5Jhcit4zN9UlGiA0txPkO0", ""),
            ("$1$saltsalt$aCVSrsmWuSmN1Ddbl24yU0", "a longer password, of more than sixteen letters"),
            ("$1$saltsalt$VReRfkQ8Hs1aayf/oxMkG/", "pässwörd"),
            ("$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA", "secret"),
            (
                "$5$saltsalt$KYvd0y8.AfHMNyGCbN.e1vo8FecR/3vuw7jKC.ZmbW9",
                "a longer password, of more than sixteen letters",
            ),
            (
                "$6$saltsaltsaltsalt$nozu4aSZ9tvfyqr8kV.PwuNYpJaa6RCOb1XRcivY.S4HEWnm/pcZbgbhIR2EeRNbUrMigQuyF/KzM9qzoEvpz0",
                "x",
            ),
            (
                "$6$saltsaltsaltsalt$ZoazQmGR9bC6QrJYR3tzNWcqLcufy5crjHpWJDgzT7.T1AcGT7.bjOq387RVyRrJnBux4dyLiO1lh8TYvVlJf/",
                "",
            ),
            (
                "$6$saltsaltsaltsalt$0OIGPDuiRPKNh88M0FmGG9U7BYCvo0nHRIKXtLm6h.s3IpT2dycI8djpM2Nhd7bEUCkEMhwvDfAYRqNrQ0Qc8/",
                "pässwörd",
            ),
            (
                "$6$rounds=1234$abc$O3ZOa0XiEWN0HewyM3s5mh16Zs29hmX3DWLNjonHRN//nTlr0lwJJMRhAJl66.NpDwazhmHN3f756IRDgrSzs.",
                "secret",
            ),
            (
                "$6$rounds=1234$abc$6My1cdSSfwSfkZsnjjEk7qvysb0VlxLnbJJCJkVaynD7IaYfS0xY04BOE7rBgexV.bsBuhEtDDTND2gOXWiyS1",
                "a longer password, of more than sixteen letters",
            ),
            ("$5$rounds=1000$./Z$IoV.PSI2F6z0t5k4.RYDY5xXlHVErJHK0L8NTHoBsYC", "x"),
            ("$5$rounds=1000$./Z$xa5cbcAsBXQrOHwt/.AMq04ZNrSVYiUPd8/a.7f6xr0", ""),
            ("$5$rounds=1000$./Z$6nS274Wlu0KlfatJsN2zgwNEtOGkcZZZLHc/OKjKcS9", "pässwörd"),
            ("$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "secret"),
            (
                "$2a$04$abcdefghijklmnopqrstuudx2eLxSj6KPCRtHSKStn7lm9.9VU2U.",
                "a longer password, of more than sixteen letters",
            ),
            ("$2b$05$abcdefghijklmnopqrstuuhKF09ZYWwH2zP/0fwE1X8e/Q1YNx/hO", "x"),
            ("$2b$05$abcdefghijklmnopqrstuu0oImNDIy4flhldV9YqunRgBAePKmw7m", ""),
            ("$2b$05$abcdefghijklmnopqrstuuZVEMa1pjhlynBQ1qXmSvGBJpN9h1w8G", "pässwörd"),
            ("$2y$04$ABCDEFGHIJKLMNOPQRSTUux/yVoHLb2P5.QxxfIdIyVUJvRQqUe5S", "secret"),
            (
                "$2y$04$ABCDEFGHIJKLMNOPQRSTUuDTrl54nLFcuDp4PU7NtIkIy5lWEcFEi",
                "a longer password, of more than sixteen letters",
            ),
            ("$1$a$TYcRT0JumNkKBBlirG1X4/", "x"),
            ("$1$a$41c8gzdxX5iFFuqkeAdoe0", "secret"),
            ("$1$a$8CfZSfErbeskipdhZHtvu.", ""),
            ("$1$a$U8wFjVDZC4PEqPDKkddOp0", "a longer password, of more than sixteen letters"),
            ("$1$a$E98LgktP6GDXLUgXJ7bs8/", "pässwörd"),
        ] {
            assert!(verify(hash, password.as_bytes()), "{hash} {password}");
            assert!(!verify(hash, format!("{password}x").as_bytes()), "{hash}: one more letter");
        }
    }
}
