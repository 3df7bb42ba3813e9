//! The one seam for randomness: a small, fast, seedable generator (xorshift64*, Vigna 2014). Not for secrets.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher};

/// A pseudo-random generator. The same seed gives the same sequence on every platform.
#[derive(Debug, Clone)]
pub struct Rng(u64);

thread_local! {
    /// What simulations draw from.
    static SIMULATED: RefCell<Option<Rng>> = const { RefCell::new(None) };
}

/// From now on this thread's [`Rng::from_entropy`] follows `seed`: a simulation can be repeated.
pub fn simulate(seed: u64) {
    SIMULATED.replace(Some(Rng::seeded(seed)));
}

impl Rng {
    /// A generator with a fixed seed (0 is replaced, since xorshift cannot leave it).
    pub fn seeded(seed: u64) -> Rng {
        // One splitmix64 step spreads small seeds over the whole state.
        let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Rng((z ^ (z >> 31)).max(1))
    }

    /// A generator seeded from the standard library's per-process hash keys, or, on a thread that simulates, from
    /// the seed it was given.
    pub fn from_entropy() -> Rng {
        let simulated = SIMULATED.with_borrow_mut(|rng| rng.as_mut().map(Rng::next_u64));
        let seed = || std::collections::hash_map::RandomState::new().build_hasher().finish();
        Rng::seeded(simulated.unwrap_or_else(seed))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut x = self.0;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in `0..bound`; 0 when `bound` is 0. The bias is below 2⁻⁴⁰ for bounds under 2²⁴.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_sequence_and_bounds_hold() {
        let (mut a, mut b) = (Rng::seeded(7), Rng::seeded(7));
        for _ in 0..1000 {
            let x = a.below(10);
            assert_eq!(x, b.below(10));
            assert!(x < 10);
        }
        assert_eq!(Rng::seeded(0).below(0), 0);
        assert_ne!(Rng::seeded(1).next_u64(), Rng::seeded(2).next_u64());
    }
}
