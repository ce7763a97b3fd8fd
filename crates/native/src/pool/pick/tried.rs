//! Which instances a request has tried. Picks none.

/// Which instances a request has tried. More than 128 are not remembered: no request tries that many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried {
    bits: u128,
    count: u32,
}

impl Tried {
    pub(crate) fn add(&mut self, index: usize) {
        self.count += 1;
        self.bits |= 1u128.checked_shl(index as u32).unwrap_or(0);
    }

    pub(crate) fn count(self) -> u32 {
        self.count
    }

    pub(super) fn has(self, index: usize) -> bool {
        self.bits & 1u128.checked_shl(index as u32).unwrap_or(0) != 0
    }
}
