//! Which instance a key goes to, for hashing balances: the same at all balancers of a fleet, and in all versions. Knows no
//! health and no load.
//!
//! Rendezvous hashing: every instance draws a number from the key and its name, and the lowest wins. So one that comes or
//! goes moves only its own keys. Many instances are put into groups by their names; a group draws for all of its weight,
//! then the instances of the best group draw. So a key costs less than a hundred draws among a thousand instances.
//! Between [`FEW`] and `FEW + BLEND` instances, more and more keys go by groups: no number of instances is a step at which
//! most keys move. But one that comes or goes moves keys of others there, as it moves the border and the weight of its
//! group: 1.6 times its own keys with 34 instances, 2.4 with 64, 3.5 with 96.

use std::cell::OnceCell;

use twox_hash::XxHash3_64;

/// So many instances need no groups.
const FEW: u64 = 32;
/// With so many more, all keys go by groups.
const BLEND: u64 = 64;
/// Groups are told apart by so many bits, the first of what a name hashes to.
const GROUP_BITS: u32 = 5;
/// Makes the numbers of groups differ from those of names.
const GROUP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Makes the choice of the method differ from all draws.
const METHOD: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// So many draws are compared at once.
const TOGETHER: usize = 32;

/// Keys as numbers: XXH3-64, with seed 0.
pub fn hash_key(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// Instances that keys are spread over.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    /// Ordered by group.
    members: Box<[Drawer]>,
    /// `place` is the index here.
    groups: Box<[Drawer]>,
    /// The members of each group.
    ranges: Box<[(u32, u32)]>,
}

/// Whoever draws: an instance, or a group.
#[derive(Clone, Copy, Debug)]
struct Drawer {
    salt: u64,
    /// One by its weight: the more weight, the lower its draws.
    inverse: f64,
    /// The instance's place in the caller's list.
    place: u32,
}

impl Rendezvous {
    /// Spreads keys over instances with these names and weights above 0.
    pub fn new<'a>(instances: impl Iterator<Item = (&'a str, u64)>) -> Self {
        let draws = |(place, (name, weight)): (usize, (&str, u64))| {
            let salt = hash_key(name.as_bytes());
            (weight, Drawer { salt, inverse: 1.0 / weight as f64, place: place as u32 })
        };
        let mut members: Vec<_> = instances.enumerate().map(draws).collect();
        members.sort_by_key(|(_, drawer)| drawer.salt);
        let (groups, ranges) = if members.len() as u64 > FEW { grouped(&members) } else { Default::default() };
        let members = members.into_iter().map(|(_, drawer)| drawer).collect();
        Self { members, groups: groups.into(), ranges: ranges.into() }
    }

    /// The place of the instance that the key goes to: among those that fit, if not all do.
    pub fn pick(&self, key: u64, fits: impl Fn(usize) -> bool) -> Option<usize> {
        if !self.goes_by_groups(key) {
            return lowest(&self.members, key, &fits);
        }
        let mut full = 0u64;
        loop {
            let group = lowest(&self.groups, key, &|n| full & (1 << n) == 0)?;
            let (first, end) = self.ranges[group];
            match lowest(&self.members[first as usize..end as usize], key, &fits) {
                Some(place) => return Some(place),
                None => full |= 1 << group,
            }
        }
    }

    fn goes_by_groups(&self, key: u64) -> bool {
        let beyond = (self.members.len() as u64).saturating_sub(FEW);
        beyond > 0 && ((mix(key ^ METHOD) >> 32) * BLEND) >> 32 < beyond
    }
}

/// The groups, and where their members are.
fn grouped(members: &[(u64, Drawer)]) -> (Vec<Drawer>, Vec<(u32, u32)>) {
    let (mut groups, mut ranges, mut first) = (Vec::new(), Vec::new(), 0);
    for chunk in members.chunk_by(|(_, a), (_, b)| number(a) == number(b)) {
        let weight: u64 = chunk.iter().map(|(weight, _)| weight).sum();
        let salt = mix(number(&chunk[0].1) ^ GROUP);
        groups.push(Drawer { salt, inverse: 1.0 / weight as f64, place: groups.len() as u32 });
        let end = first + chunk.len() as u32;
        ranges.push((first, end));
        first = end;
    }
    (groups, ranges)
}

/// The number of its group.
fn number(drawer: &Drawer) -> u64 {
    drawer.salt >> (u64::BITS - GROUP_BITS)
}

/// The place of who draws the lowest number, of those that fit: each one's is exponentially distributed, with its weight
/// as the rate.
fn lowest(drawers: &[Drawer], key: u64, fits: &impl Fn(usize) -> bool) -> Option<usize> {
    let mut best: Option<(u32, Draw)> = None;
    for chunk in drawers.chunks(TOGETHER) {
        let (mut bounds, mut least) = ([f64::INFINITY; TOGETHER], f64::INFINITY);
        for (bound, drawer) in bounds.iter_mut().zip(chunk).filter(|(_, drawer)| fits(drawer.place as usize)) {
            *bound = Draw::of(drawer, key).bound();
            least = if *bound < least { *bound } else { least };
        }
        let bounds = &bounds[..chunk.len()];
        let Some(first) = bounds.iter().position(|bound| *bound == least && bound.is_finite()) else { continue };
        // Whoever is above this is not the lowest: almost always all others.
        let most = Draw::of(&chunk[first], key).most();
        for (drawer, _) in chunk.iter().zip(bounds).filter(|(_, bound)| **bound <= most) {
            let draw = Draw::of(drawer, key);
            if best.as_ref().is_none_or(|(_, least)| draw.is_lower(least)) {
                best = Some((drawer.place, draw));
            }
        }
    }
    best.map(|(place, _)| place as usize)
}

/// What somebody drew. The logarithm costs most, and is taken only where it decides.
struct Draw {
    /// 53 bits, from 0 to less than 1.
    share: f64,
    inverse: f64,
    number: OnceCell<f64>,
}

impl Draw {
    fn of(drawer: &Drawer, key: u64) -> Self {
        // As a signed number: those become floats in one instruction.
        let bits = (mix(key ^ drawer.salt) >> 11) as i64;
        Self { share: bits as f64 / (1u64 << 53) as f64, inverse: drawer.inverse, number: OnceCell::new() }
    }

    fn is_lower(&self, least: &Self) -> bool {
        if self.inverse == least.inverse {
            return self.share < least.share;
        }
        self.bound() < least.number() && self.number() < least.number()
    }

    fn number(&self) -> f64 {
        *self.number.get_or_init(|| minus_ln_of_rest(self.share) * self.inverse)
    }

    /// At most the number: the logarithm is never less than the share.
    fn bound(&self) -> f64 {
        self.share * self.inverse
    }

    /// At least the number, and near it where the share is small: `-ln(1 - x) <= x / (1 - x)`. What rounding may lose is
    /// added.
    fn most(&self) -> f64 {
        self.bound() / (1.0 - self.share) * (1.0 + 1e-9)
    }
}

/// `-ln(1 - draw)`. Of IEEE 754's basic operations only: those of a C library differ from machine to machine.
fn minus_ln_of_rest(draw: f64) -> f64 {
    let (mut rest, mut halvings) = (1.0 - draw, 0.0);
    let mut part = draw;
    while rest < 0.5 {
        rest *= 2.0;
        part = 1.0 - rest;
        halvings += 1.0;
    }
    // -ln(1 - x) = 2 artanh(x / (2 - x)), and x is at most 1/2.
    let z = part / (2.0 - part);
    let square = z * z;
    let series = (0..8).rev().fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    halvings * std::f64::consts::LN_2 + 2.0 * z * series
}

/// Spreads every bit over all of them: the finalizer of MurmurHash3, by Austin Appleby.
fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("web-{n}")).collect()
    }

    fn even(names: &[String]) -> Rendezvous {
        Rendezvous::new(names.iter().map(|name| (name.as_str(), 1)))
    }

    fn key(n: usize) -> u64 {
        hash_key(format!("user-{n}").as_bytes())
    }

    /// The instance of each of these keys.
    fn homes_of(names: &[String], keys: usize) -> Vec<&str> {
        let spread = even(names);
        (0..keys).map(|n| names[spread.pick(key(n), |_| true).unwrap()].as_str()).collect()
    }

    #[test]
    fn keys_are_hashed_as_everywhere() {
        // From the reference implementation, by Python's xxhash.
        assert_eq!(hash_key(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash_key(b"a"), 0xe6c6_32b6_1e96_4e1f);
        assert_eq!(hash_key(b"/index.html"), 0xaa8f_18ab_73b5_f828);
        assert_eq!(hash_key(&[192, 0, 2, 1]), 0x2c1c_901e_ed9a_dc4a);
        assert_eq!(hash_key(b"user-17"), 0x7d94_013a_7349_7c81);
    }

    #[test]
    fn no_version_moves_keys() {
        // Written down from another program that does the same.
        let few = Rendezvous::new([("one", 1), ("three", 3), ("two", 1)].into_iter());
        let homes: String = (0..12).map(|n| few.pick(key(n), |_| true).unwrap().to_string()).collect();
        assert_eq!(homes, "011110111112");
        assert_eq!(
            homes_of(&names(200), 8),
            ["web-104", "web-94", "web-198", "web-166", "web-47", "web-153", "web-18", "web-112"]
        );
    }

    #[test]
    fn one_that_goes_moves_little_more_than_its_own_keys() {
        const KEYS: usize = 4_000;
        for count in [2, 3, 5, 10, 31, 32, 33, 34, 50, 64, 95, 96, 97, 200, 1_000] {
            let all = names(count);
            let before = homes_of(&all, KEYS);
            for gone in [0, count / 2, count - 1] {
                let mut left = all.clone();
                let name = left.remove(gone);
                let after = homes_of(&left, KEYS);
                let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
                let most = KEYS / count + KEYS / 20;
                assert!(moved <= most, "{moved} of {KEYS} keys, {most} at most, when {name} of {count} goes");
                let own = before.iter().filter(|home| **home == name).count();
                assert!(count > FEW as usize || moved == own, "{moved}, its own are {own} of {count}");
            }
        }
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        const KEYS: usize = 200_000;
        for count in [3, 16, 70, 200] {
            let names = names(count);
            let weight = |n: usize| [1, 4, 256, 50][n % 4];
            let spread = Rendezvous::new(names.iter().enumerate().map(|(n, name)| (name.as_str(), weight(n))));
            let mut taken = vec![0usize; count];
            (0..KEYS).for_each(|n| taken[spread.pick(key(n), |_| true).unwrap()] += 1);
            let total: u64 = (0..count).map(weight).sum();
            for (n, taken) in taken.iter().enumerate() {
                let expected = KEYS as f64 * weight(n) as f64 / total as f64;
                // Five standard deviations.
                let off = (*taken as f64 - expected).abs();
                assert!(off <= 5.0 * expected.sqrt() + 5.0, "{n} of {count} has {taken}, not {expected:.0}");
            }
        }
    }

    #[test]
    fn those_that_do_not_fit_are_passed_over_and_move_nothing_else() {
        for count in [5, 100] {
            let names = names(count);
            let spread = even(&names);
            for n in 0..2_000 {
                let home = spread.pick(key(n), |_| true).unwrap();
                let next = spread.pick(key(n), |place| place != home).unwrap();
                assert_ne!(home, next);
                assert_eq!(spread.pick(key(n), |place| place != (home + 1) % count), Some(home));
                assert_eq!(spread.pick(key(n), |place| place == 3), Some(3));
                assert_eq!(spread.pick(key(n), |_| false), None);
            }
        }
        assert_eq!(even(&[]).pick(1, |_| true), None);
    }

    #[test]
    fn the_lowest_of_all_numbers_is_found() {
        for (count, heaviest) in [(1, 1), (31, 1), (33, 256), (100, 3)] {
            let drawers: Vec<Drawer> = (0..count)
                .map(|n| Drawer {
                    salt: hash_key(&[n as u8]),
                    inverse: 1.0 / f64::from(n % heaviest + 1),
                    place: n as u32,
                })
                .collect();
            for n in 0..5_000 {
                let fits = |place: usize| n % 3 == 0 || place % 5 != n % 5;
                let numbers = drawers.iter().filter(|drawer| fits(drawer.place as usize)).map(|drawer| {
                    let draw = Draw::of(drawer, key(n));
                    (draw.number(), drawer.place as usize)
                });
                let naive = numbers.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, place)| place);
                assert_eq!(lowest(&drawers, key(n), &fits), naive, "key {n} of {count}");
            }
        }
    }

    #[test]
    fn the_logarithm_is_exact_enough() {
        for n in 0..10_000 {
            let draw = f64::from(n) / 10_000.0;
            let (ours, exact) = (minus_ln_of_rest(draw), -(-draw).ln_1p());
            assert!((ours - exact).abs() <= 1e-8 * exact, "{ours}, not {exact}");
            assert!(ours >= draw);
            let drawn = Draw { share: draw, inverse: 0.3, number: OnceCell::new() };
            assert!(drawn.bound() <= drawn.number() && drawn.number() <= drawn.most());
        }
    }
}
