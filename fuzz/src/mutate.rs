//! Inputs near to known ones, the same on every machine: for the minute when nobody can wait for a fuzzer. Finds no new
//! paths by itself, as a fuzzer does.

/// What is put in now and then: where parsers take turns.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b"\t",
    b" ",
    b":",
    b";",
    b",",
    b"=",
    b"/",
    b"..",
    b"%00",
    b"0",
    b"-1",
    b"f",
    b"ffffffffffffffff",
    b"18446744073709551616",
    b"\xff",
    b"\xc3\xa9",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"true",
    b"\n",
    b"chunked",
    b"*",
];

/// Each seed as it is, and then so many mutants of them.
pub(crate) fn each(seeds: &[Vec<u8>], mutants: usize, run: impl Fn(&[u8])) {
    assert!(!seeds.is_empty(), "no seeds");
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    seeds.iter().for_each(|seed| tried(seed, &run));
    for _ in 0..mutants {
        let mut bytes = chance.of(seeds).clone();
        for _ in 0..=chance.below(4) {
            mutate(&mut bytes, seeds, &mut chance);
        }
        tried(&bytes, &run);
    }
}

fn tried(bytes: &[u8], run: impl Fn(&[u8])) {
    let told = Told(bytes);
    run(bytes);
    drop(told);
}

/// Prints the input if it makes the target panic.
struct Told<'b>(&'b [u8]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input: b\"{}\"", self.0.escape_ascii());
        }
    }
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    let (from, to) = chance.range(bytes.len());
    match chance.below(7) {
        0 if from < bytes.len() => bytes[from] ^= 1 << chance.below(8),
        1 if from < bytes.len() => bytes[from] = chance.of(&[0, b' ', b'\n', b'0', b'9', 0x7f, 0x80, 0xff]).to_owned(),
        2 => drop(bytes.drain(from..to)),
        3 => bytes.truncate(from),
        4 => drop(bytes.splice(from..from, chance.of(TOKENS).iter().copied())),
        5 => {
            let again = bytes[from..to].to_vec();
            bytes.splice(from..from, again);
        }
        _ => {
            let other = chance.of(seeds);
            let (start, end) = chance.range(other.len());
            bytes.splice(from..to, other[start..end].iter().copied());
        }
    }
}

/// Numbers that look like chance (xorshift64*) and are always the same.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap_or_default() % limit.max(1)
    }

    /// A short range within so many bytes.
    fn range(&mut self, length: usize) -> (usize, usize) {
        let from = self.below(length + 1);
        (from, length.min(from + self.below(16)))
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}
