//! How long a worker looks for work before it sleeps.
//!
//! In: how long spins lasted and what came of them, how long sleeps lasted. Out: the budget of the next spin. A spin
//! that finds work has saved a sleep: the CPU time of going to sleep and waking up, and the latency of the wake-up.
//! What must stay true: over a while, spins cost no more than [`SLEEP_WORTH_NS`] for each sleep that they save; a
//! worker that has nothing to do stops after two empty spins; no spin exceeds the setting, and zero means never.
//!
//! An account decides. A spin that hits adds what a sleep is worth, less the time it took; one that ends empty takes
//! away all of its time. While the account is above zero the worker spins. Below, it sleeps; after so many sleeps that
//! were short, a spin of what a sleep is worth finds out whether that has changed.

use std::time::Duration;

use crate::clock::Clock;

/// What is given for not having to sleep once. On a virtual machine a sleep and its wake-up cost 3 to 5 µs of CPU time
/// and 14 µs of latency (`cargo bench --bench compare -- --rows 1conn,OL20` with and without `--spin 0`).
const SLEEP_WORTH_NS: i64 = 10_000;

/// The account's lowest state: three or four trials have to hit before a worker spins again.
const ACCOUNT_NS_MIN: i64 = -3 * SLEEP_WORTH_NS;

/// Sleeps shorter than the longest spin, before a trial.
const SLEEPS_PER_TRIAL: u32 = 32;

/// Looks between two readings of the clock: about 0.5 µs.
const LOOKS: u32 = 32;

/// The adaptive budget of one worker.
#[derive(Debug)]
pub struct Spin {
    max_ns: u64,
    account_ns: i64,
    /// Short sleeps since the last trial that found nothing.
    short_sleeps: u32,
}

impl Spin {
    /// Spins up to `max`, and at first as long.
    pub fn new(max: Duration) -> Self {
        Self { max_ns: max.as_nanos() as u64, account_ns: SLEEP_WORTH_NS, short_sleeps: 0 }
    }

    pub(super) fn set_max(&mut self, max: Duration) {
        self.max_ns = max.as_nanos() as u64;
    }

    /// How long the next spin may last.
    pub fn budget_ns(&self) -> u64 {
        match self.account_ns {
            1.. => self.max_ns,
            _ if self.short_sleeps >= SLEEPS_PER_TRIAL => self.max_ns.min(SLEEP_WORTH_NS as u64),
            _ => 0,
        }
    }

    /// Looks until `is_ready` or the budget is spent; whether it was ready.
    pub fn until(&mut self, clock: &Clock, mut is_ready: impl FnMut() -> bool) -> bool {
        let (start_ns, budget_ns) = (clock.mono_ns(), self.budget_ns());
        let mut spent_ns = 0;
        loop {
            for _ in 0..LOOKS {
                if is_ready() {
                    self.enter(SLEEP_WORTH_NS - spent_ns as i64);
                    return true;
                }
                std::hint::spin_loop();
            }
            spent_ns = clock.mono_ns().saturating_sub(start_ns);
            if spent_ns >= budget_ns {
                self.enter(-(spent_ns as i64));
                self.short_sleeps = 0;
                return false;
            }
        }
    }

    fn enter(&mut self, amount_ns: i64) {
        // Two spins that end empty use up what the best of times have brought.
        let most_ns = 2 * self.max_ns as i64;
        self.account_ns = (self.account_ns + amount_ns).clamp(ACCOUNT_NS_MIN, most_ns.max(0));
    }

    /// The worker slept this long.
    pub fn slept(&mut self, slept_ns: u64) {
        if slept_ns < self.max_ns {
            self.short_sleeps = self.short_sleeps.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_micros(50);

    /// A spin that hits after so many looks, or never.
    fn spin(spin: &mut Spin, looks: Option<u32>) -> bool {
        let mut looked = 0;
        spin.until(&Clock::system(), || {
            looked += 1;
            Some(looked) == looks
        })
    }

    fn stop(worker: &mut Spin) {
        let empty = (0..).take_while(|_| worker.budget_ns() == 50_000 && !spin(worker, None)).count();
        assert!(empty <= 2, "{empty} empty spins");
        assert_eq!(worker.budget_ns(), 0);
    }

    #[test]
    fn spins_that_hit_go_on_and_empty_ones_end() {
        let mut worker = Spin::new(MAX);
        for _ in 0..100 {
            assert!(spin(&mut worker, Some(1)));
            assert_eq!(worker.budget_ns(), 50_000);
        }
        stop(&mut worker);
    }

    #[test]
    fn short_sleeps_lead_to_trials_and_trials_that_hit_to_spinning() {
        let mut worker = Spin::new(MAX);
        stop(&mut worker);
        (0..1000).for_each(|_| worker.slept(60_000));
        assert_eq!(worker.budget_ns(), 0, "a long sleep is no reason to spin");
        (0..SLEEPS_PER_TRIAL).for_each(|_| worker.slept(20_000));
        assert_eq!(worker.budget_ns(), SLEEP_WORTH_NS as u64);
        assert!(!spin(&mut worker, None));
        assert_eq!(worker.budget_ns(), 0, "a trial that fails is the only one for a while");
        (0..SLEEPS_PER_TRIAL).for_each(|_| worker.slept(20_000));
        let trials = (0..).take_while(|_| worker.budget_ns() < 50_000 && spin(&mut worker, Some(1))).count();
        assert_eq!(trials, 4);
    }

    #[test]
    fn hits_that_take_longer_than_a_sleep_is_worth_end_it() {
        let mut worker = Spin::new(Duration::from_millis(500));
        (0..10).for_each(|_| assert!(spin(&mut worker, Some(1))));
        let mut spins = 0;
        while worker.budget_ns() > 0 {
            // 50 µs or more each.
            assert!(spin(&mut worker, Some(200 * LOOKS)));
            spins += 1;
        }
        assert!(spins > 0);
    }

    #[test]
    fn a_zero_setting_never_spins() {
        let mut spin = Spin::new(Duration::ZERO);
        (0..1000).for_each(|_| spin.slept(10));
        assert_eq!(spin.budget_ns(), 0);
    }
}
