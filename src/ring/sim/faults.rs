//! What goes wrong in a simulation, how often, and the random numbers that decide when.
//!
//! Every decision of a simulation is drawn from one [`Random`], in the order in which things happen, so that a seed
//! says everything about a run.

use std::time::Duration;

/// A small generator (SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is above zero.
    pub fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "nothing is below zero");
        (self.bits() % end as u64) as usize
    }

    /// True with this probability. Draws nothing for a probability of zero.
    pub fn chance(&mut self, probability: f64) -> bool {
        // 53 bits are what a double holds exactly.
        probability > 0.0 && ((self.bits() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// A duration up to `max`, in nanoseconds.
    pub(super) fn nanos_up_to(&mut self, max: Duration) -> u64 {
        self.bits() % (max.as_nanos() as u64 + 1)
    }
}

/// Probabilities of what may go wrong, each for one step of one operation.
#[derive(Clone, Debug)]
pub struct Faults {
    /// A receive takes fewer bytes than there are, down to one.
    pub short_receive: f64,
    /// ENOBUFS although a buffer is free.
    pub buffers_exhausted: f64,
    /// A multishot operation ends with a completion that is otherwise as usual.
    pub multishot_end: f64,
    /// An operation makes its next step later, by at most [`delay_max`](Self::delay_max).
    pub delay: f64,
    /// The longest delay.
    pub delay_max: Duration,
    /// The operation that makes the next step is any rather than the oldest. Steps of one operation stay in order.
    pub reorder: f64,
    /// A send moves fewer bytes than the peer has room for, down to one, and is then tried again.
    pub partial_send: f64,
    /// A send that has moved some of its bytes completes with them.
    pub short_send: f64,
    /// The peer takes nothing for a while, at most [`stall_max`](Self::stall_max).
    pub stall: f64,
    /// The longest stall.
    pub stall_max: Duration,
    /// The peer resets the connection.
    pub reset: f64,
    /// A reset takes bytes away that were under way, in either direction.
    pub reset_loses_bytes: f64,
    /// EMFILE on an accept.
    pub descriptors_exhausted: f64,
    /// EINTR or EAGAIN where the kernel may return them.
    pub interrupted: f64,
    /// A cancellation finds its target finished (ENOENT) or beyond stopping (EALREADY).
    pub late_cancel: f64,
}

impl Faults {
    /// Nothing goes wrong, nothing is late.
    pub const fn none() -> Self {
        Faults {
            short_receive: 0.0,
            buffers_exhausted: 0.0,
            multishot_end: 0.0,
            delay: 0.0,
            delay_max: Duration::ZERO,
            reorder: 0.0,
            partial_send: 0.0,
            short_send: 0.0,
            stall: 0.0,
            stall_max: Duration::ZERO,
            reset: 0.0,
            reset_loses_bytes: 0.0,
            descriptors_exhausted: 0.0,
            interrupted: 0.0,
            late_cancel: 0.0,
        }
    }

    /// Everything goes wrong often, except that a reset stays rare enough for most connections to live.
    pub const fn harsh() -> Self {
        Faults {
            short_receive: 0.4,
            buffers_exhausted: 0.1,
            multishot_end: 0.1,
            delay: 0.3,
            delay_max: Duration::from_micros(200),
            reorder: 0.5,
            partial_send: 0.4,
            short_send: 0.2,
            stall: 0.02,
            stall_max: Duration::from_millis(2),
            reset: 0.001,
            reset_loses_bytes: 0.5,
            descriptors_exhausted: 0.1,
            interrupted: 0.05,
            late_cancel: 0.3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_come_as_often_as_they_say() {
        let mut random = Random::new(1);
        for probability in [0.0, 0.001, 0.1, 0.5, 1.0] {
            let hits = (0..100_000).filter(|_| random.chance(probability)).count() as f64 / 100_000.0;
            assert!((hits - probability).abs() < 0.01, "{probability}: {hits}");
        }
    }
}
