//! How long a worker looks for work before it sleeps.
//!
//! Spinning saves the wake-up: with one connection it halves the median latency and lowers the CPU time per request.
//! It is worth its CPU only while it succeeds, so the budget doubles when a spin hits and halves when it ends empty; a
//! sleep that ends sooner than a spin could have lasted raises it again. It never exceeds the setting, and zero means
//! never.

use std::time::Duration;

use crate::clock::Clock;

/// A budget below this is not worth a spin; growing starts here.
const BUDGET_NS_MIN: u64 = 2_000;

/// Looks between two readings of the clock.
const LOOKS: u32 = 32;

/// The adaptive budget of one worker.
#[derive(Debug)]
pub struct Spin {
    budget_ns: u64,
    max_ns: u64,
}

impl Spin {
    /// Spins up to `max`, and at first as long.
    pub fn new(max: Duration) -> Self {
        let max_ns = max.as_nanos() as u64;
        Self { budget_ns: max_ns, max_ns }
    }

    pub(super) fn set_max(&mut self, max: Duration) {
        self.max_ns = max.as_nanos() as u64;
        self.budget_ns = self.budget_ns.min(self.max_ns);
    }

    /// How long the next spin may last.
    pub fn budget_ns(&self) -> u64 {
        self.budget_ns
    }

    /// Looks until `is_ready` or the budget is spent; whether it was ready.
    pub fn until(&mut self, clock: &Clock, mut is_ready: impl FnMut() -> bool) -> bool {
        let end_ns = clock.now().mono_ns + self.budget_ns;
        loop {
            for _ in 0..LOOKS {
                if is_ready() {
                    self.budget_ns = (self.budget_ns * 2).min(self.max_ns);
                    return true;
                }
                std::hint::spin_loop();
            }
            if clock.now().mono_ns >= end_ns {
                self.budget_ns = if self.budget_ns / 2 < BUDGET_NS_MIN { 0 } else { self.budget_ns / 2 };
                return false;
            }
        }
    }

    /// The worker slept this long: had it spun instead, would it have hit?
    pub fn slept(&mut self, slept_ns: u64) {
        if slept_ns < self.max_ns {
            self.budget_ns = (self.budget_ns * 2).clamp(BUDGET_NS_MIN.min(self.max_ns), self.max_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_follows_success() {
        let clock = Clock::system();
        let mut spin = Spin::new(Duration::from_micros(50));
        assert!(!spin.until(&clock, || false));
        assert_eq!(spin.budget_ns(), 25_000);
        assert!(spin.until(&clock, || true));
        assert_eq!(spin.budget_ns(), 50_000);
        while spin.budget_ns() > 0 {
            assert!(!spin.until(&clock, || false));
        }
        spin.slept(60_000);
        assert_eq!(spin.budget_ns(), 0, "a long sleep is no reason to spin");
        spin.slept(10_000);
        assert_eq!(spin.budget_ns(), BUDGET_NS_MIN);
    }

    #[test]
    fn a_zero_setting_never_spins() {
        let mut spin = Spin::new(Duration::ZERO);
        spin.slept(10);
        assert_eq!(spin.budget_ns(), 0);
    }
}
