//! Rates of counters, from one look at them to the next.
//!
//! In: counters and the time. Out: growth per second. Nothing is measured while nobody looks.

use std::sync::Mutex;

/// Looks closer together than this see the same rate.
const INTERVAL_NS_MIN: u64 = 100_000_000;

/// How fast `N` counters grow.
#[derive(Debug)]
pub struct Rates<const N: usize> {
    last: Mutex<Sample<N>>,
}

#[derive(Debug)]
struct Sample<const N: usize> {
    at_ns: u64,
    counters: [u64; N],
    per_second: [f64; N],
}

impl<const N: usize> Default for Rates<N> {
    fn default() -> Self {
        Self { last: Mutex::new(Sample { at_ns: 0, counters: [0; N], per_second: [0.0; N] }) }
    }
}

impl<const N: usize> Rates<N> {
    /// The growth per second since the previous look (since the start at first), given the counters' present values
    /// and monotonic time.
    ///
    /// # Panics
    /// Never: the lock is not held while anything can panic.
    pub fn look(&self, at_ns: u64, counters: [u64; N]) -> [f64; N] {
        let mut last = self.last.lock().expect("no panic while held");
        let interval_ns = at_ns.saturating_sub(last.at_ns);
        if interval_ns >= INTERVAL_NS_MIN {
            let seconds = interval_ns as f64 / 1e9;
            let growth = |index: usize| counters[index].saturating_sub(last.counters[index]) as f64;
            let per_second = std::array::from_fn(|index| growth(index) / seconds);
            *last = Sample { at_ns, counters, per_second };
        }
        last.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_growth_over_time_and_holds_between_close_looks() {
        let rates = Rates::default();
        assert_eq!(rates.look(1_000_000_000, [50]), [50.0]);
        assert_eq!(rates.look(1_050_000_000, [900]), [50.0], "too close");
        assert_eq!(rates.look(3_000_000_000, [150]), [50.0]);
        assert_eq!(rates.look(4_000_000_000, [0]), [0.0], "counters were reset");
    }
}
