//! Chance that a seed repeats.

/// A small generator of its own: the seed alone reproduces a run (xorshift64*).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn from_environment() -> Self {
        let seed = std::env::var("IN_MEM_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or(0x5EED_0001);
        println!("seed: IN_MEM_SEED={seed}");
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }
}
