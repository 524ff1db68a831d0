//! What is asked next, and when: seeded random choices.
//!
//! In: a plan and a seed. Out: requests (kind and key), and the times of a Poisson process. What must stay true: the
//! times do not depend on what the server does; that is what makes an open loop.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Exp1, Zipf};

use super::plan::{KeyChoice, Operation, Plan};
use super::trace::Trace;

/// What one request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Its kind.
    pub operation: Operation,
    /// The number of its first key; a multi-get draws the others.
    pub key: u32,
}

/// Chooses requests.
#[derive(Debug)]
pub(super) struct Draw {
    random: SmallRng,
    keys: Keys,
    /// Kinds with the sum of the weights up to and including each.
    mix: Vec<(Operation, u32)>,
    weight: u32,
}

#[derive(Debug)]
enum Keys {
    Uniform(u32),
    Zipf(Zipf<f64>),
    Trace(Arc<Trace>, usize),
}

impl Draw {
    /// Choices of `plan` for one thread of the generator.
    pub(super) fn new(plan: &Plan, thread: u64) -> Self {
        let last = (plan.keys - 1) as u32;
        let keys = match &plan.key_choice {
            KeyChoice::Uniform => Keys::Uniform(last),
            KeyChoice::Zipf(exponent) => match Zipf::new(plan.keys as f64, *exponent) {
                Ok(zipf) => Keys::Zipf(zipf),
                // Refused when the option was read.
                Err(_) => Keys::Uniform(last),
            },
            // Threads begin at different places, so that they do not ask for the same keys at the same time.
            KeyChoice::Trace(trace) => {
                Keys::Trace(trace.clone(), trace.requests.len() / plan.threads * thread as usize)
            }
        };
        let mut weight = 0;
        let mix = plan.mix.iter().map(|(operation, share)| {
            weight += share;
            (*operation, weight)
        });
        let mix = mix.collect();
        let random = SmallRng::seed_from_u64(plan.seed.wrapping_add(thread.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        Self { random, keys, mix, weight }
    }

    /// The next request.
    #[inline]
    pub(super) fn request(&mut self) -> Request {
        let operation = match self.mix[..] {
            [(only, _)] => only,
            _ => {
                let wanted = self.random.random_range(0..self.weight);
                let found = self.mix.iter().find(|(_, sum)| wanted < *sum);
                found.map_or(Operation::Get, |(operation, _)| *operation)
            }
        };
        Request { operation, key: self.key() }
    }

    /// The next key.
    #[inline]
    pub(super) fn key(&mut self) -> u32 {
        match &mut self.keys {
            Keys::Uniform(last) => self.random.random_range(0..=*last),
            Keys::Zipf(zipf) => zipf.sample(&mut self.random) as u32 - 1,
            Keys::Trace(trace, next) => {
                let key = trace.requests[*next];
                *next = (*next + 1) % trace.requests.len();
                key
            }
        }
    }
}

/// Times at which requests arrive: exponential gaps, so that any two moments are as likely to see one.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    random: SmallRng,
    gap_ns: f64,
    next_ns: f64,
}

impl Arrivals {
    /// `rate` arrivals a second from time 0.
    pub(super) fn new(rate: f64, seed: u64) -> Self {
        let mut arrivals = Self { random: SmallRng::seed_from_u64(seed), gap_ns: 1e9 / rate, next_ns: 0.0 };
        arrivals.advance();
        arrivals
    }

    /// When the next one is due, nanoseconds.
    #[inline]
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Goes on to the one after it.
    #[inline]
    pub(super) fn advance(&mut self) {
        let gap: f64 = Exp1.sample(&mut self.random);
        self.next_ns += gap * self.gap_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_poisson() {
        let mut arrivals = Arrivals::new(50_000.0, 7);
        let mut gaps = Vec::new();
        let mut last = 0.0;
        let mut per_window = vec![0u32; 1000];
        while arrivals.next_ns < 1e9 {
            gaps.push(arrivals.next_ns - last);
            last = arrivals.next_ns;
            per_window[(arrivals.next_ns / 1e6) as usize] += 1;
            arrivals.advance();
        }
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((19_600.0..20_400.0).contains(&mean), "mean gap {mean} ns, 20,000 expected");
        assert!((0.97..1.03).contains(&(variance.sqrt() / mean)), "the gaps' deviation is their mean");
        let count = per_window.iter().sum::<u32>() as f64 / 1000.0;
        let spread = per_window.iter().map(|n| (f64::from(*n) - count).powi(2)).sum::<f64>() / 1000.0;
        assert!((0.85..1.15).contains(&(spread / count)), "counts per millisecond: variance {spread}, mean {count}");
    }

    #[test]
    fn zipf_has_its_head() {
        let plan = Plan { key_choice: KeyChoice::Zipf(0.99), keys: 10_000, ..Plan::default() };
        let mut draw = Draw::new(&plan, 0);
        let draws = 400_000;
        let mut counts = vec![0u32; 10_000];
        (0..draws).for_each(|_| counts[draw.key() as usize] += 1);
        let harmonic: f64 = (1..=10_000).map(|rank| 1.0 / f64::from(rank).powf(0.99)).sum();
        for rank in [1, 2, 3, 10, 100] {
            let expected = f64::from(draws) / f64::from(rank).powf(0.99) / harmonic;
            let seen = f64::from(counts[rank as usize - 1]);
            let tolerance = 4.0 * expected.sqrt() + 0.01 * expected;
            assert!((seen - expected).abs() < tolerance, "key {rank}: {seen} times, {expected} expected");
        }
    }

    #[test]
    fn every_key_is_drawn_alike_when_uniform() {
        let mut draw = Draw::new(&Plan { keys: 10, ..Plan::default() }, 0);
        let mut counts = [0u32; 10];
        (0..100_000).for_each(|_| counts[draw.key() as usize] += 1);
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_mix_is_kept_and_a_trace_is_followed() {
        let trace = Arc::new(Trace { requests: vec![2, 0, 1], sizes: vec![1; 3], details: vec![] });
        let mix = vec![(Operation::Get, 3), (Operation::Increment, 1)];
        let plan = Plan { key_choice: KeyChoice::Trace(trace), mix, ..Plan::default() };
        let mut draw = Draw::new(&plan, 0);
        let requests: Vec<Request> = (0..30_000).map(|_| draw.request()).collect();
        let gets = requests.iter().filter(|request| request.operation == Operation::Get).count();
        assert!((22_000..23_000).contains(&gets), "{gets}");
        assert!(requests.chunks(3).all(|three| three.iter().map(|request| request.key).eq([2, 0, 1])));
    }
}
