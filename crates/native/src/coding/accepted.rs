//! Reads `Accept-Encoding` (RFC 9110 §12.5.3).

use super::Coding;

/// The weight of an item without one, thousandths.
const WHOLE: u16 = 1_000;

/// What a client accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The best of our codings for it. `None`: it accepts none, or likes none more than bytes as they are.
    pub(crate) coding: Option<Coding>,
    /// It wants no bytes as they are: `identity;q=0`, or `*;q=0`.
    pub(crate) refuses_plain: bool,
}

/// The weights of a client's items, thousandths. `None`: it does not name them.
#[derive(Default)]
struct Weights {
    zstd: Option<u16>,
    brotli: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    others: Option<u16>,
}

impl Accepted {
    /// Reads the lines of the header. Of codings that the client likes as much, the best is taken, see [`Coding`]. `*` stands
    /// for gzip, which everybody reads, as far as the others are not named.
    pub(crate) fn of<'b>(lines: impl Iterator<Item = &'b [u8]>) -> Self {
        let mut weights = Weights::default();
        lines.flat_map(|line| line.split(|byte| *byte == b',')).for_each(|item| weights.add(item));
        let Weights { zstd, brotli, gzip, identity, others } = weights;
        let ours = [(Coding::Zstd, zstd), (Coding::Brotli, brotli), (Coding::Gzip, gzip.or(others))];
        let least = identity.unwrap_or(0).max(1);
        let liked = ours.iter().filter_map(|(coding, weight)| weight.map(|weight| (*coding, weight)));
        let best = liked.filter(|(_, weight)| *weight >= least).rev().max_by_key(|(_, weight)| *weight);
        Self { coding: best.map(|(coding, _)| coding), refuses_plain: identity.or(others) == Some(0) }
    }
}

impl Weights {
    fn add(&mut self, item: &[u8]) {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let place = match () {
            () if is("zstd") => &mut self.zstd,
            () if is("br") => &mut self.brotli,
            () if is("gzip") || is("x-gzip") => &mut self.gzip,
            () if is("identity") => &mut self.identity,
            () if is("*") => &mut self.others,
            () => return,
        };
        // A weight that is none counts as the lowest, and so does the lower of two.
        let weight = parts.next().map_or(WHOLE, |part| weight(part).unwrap_or(0));
        *place = Some(place.map_or(weight, |known| known.min(weight)));
    }
}

/// The weight that a parameter tells, thousandths (RFC 9110 §12.4.2).
fn weight(part: &[u8]) -> Option<u16> {
    let (name, value) = part.split_at_checked(2)?;
    let (whole, fraction) = value.split_first()?;
    let digits = match fraction {
        [] => &[],
        [b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let places = [100, 10, 1].iter().zip(digits);
    let thousandths: u16 = places.map(|(unit, digit)| unit * u16::from(digit - b'0')).sum();
    match whole {
        _ if !name.eq_ignore_ascii_case(b"q=") => None,
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(WHOLE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_that_a_client_accepts() {
        for (lines, expected) in [
            ("", ""),
            ("gzip", "gzip"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip, deflate, br", "br"),
            ("GZIP;Q=0.5 , BR ; q=0.5", "br"),
            ("zstd;q=0.1, br;q=0.2, gzip;q=0.3", "gzip"),
            ("zstd;q=0, gzip;q=0.001", "gzip"),
            ("gzip|br", "br"),
            ("x-gzip", "gzip"),
            ("deflate, compress", ""),
            ("gzip;q=0", ""),
            ("gzip;q=0.000", ""),
            ("gzip;q=1.000", "gzip"),
            ("gzip;q=1.001", ""),
            ("gzip;q=0.1234", ""),
            ("gzip;q=", ""),
            ("gzip;q=x", ""),
            ("gzip;level=1", ""),
            ("gzip;q=0, gzip", ""),
            ("*", "gzip"),
            ("*, br;q=0.5", "gzip"),
            ("*;q=0.4, br;q=0.5", "br"),
            ("gzip;q=0, *", ""),
            ("identity", ""),
            ("identity, gzip", "gzip"),
            ("identity;q=0.5, gzip;q=0.4", ""),
            ("identity;q=0.5, gzip;q=0.4, zstd;q=0.6", "zstd"),
            ("identity;q=0", " plain refused"),
            ("identity;q=0, gzip;q=0.1", "gzip plain refused"),
            ("*;q=0", " plain refused"),
            ("*;q=0, br", "br plain refused"),
            ("*;q=0, identity;q=0.1, br", "br"),
            (",, ;q=1, gzip,", "gzip"),
        ] {
            let accepted = Accepted::of(lines.split('|').map(str::as_bytes));
            let name = accepted.coding.map(Coding::name).unwrap_or_default();
            let refused = if accepted.refuses_plain { " plain refused" } else { "" };
            assert_eq!(format!("{name}{refused}"), expected, "{lines}");
        }
    }
}
