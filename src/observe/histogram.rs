//! Times as counts in buckets, each at most an eighth wider than its beginning.
//!
//! In: nanoseconds, from the one thread that owns a [`Histogram`]. Out: a [`Distribution`], of one or of several added
//! up: quantiles, and how many were at most so long. What must stay true: recording is a load and a store, no
//! read-modify-write; readers may see a time in its bucket and not yet in the sum.

use std::sync::atomic::{AtomicU64, Ordering};

use super::add;

/// Bits of a time below its highest one that its bucket tells.
const SUB_BITS: u32 = 3;
const SUBS: u64 = 1 << SUB_BITS;

/// Longer times count as 2^37 ns, more than two minutes.
const BITS_MAX: u32 = 37;

const BUCKETS: usize = ((BITS_MAX - SUB_BITS + 1) as usize) << SUB_BITS;

/// The bucket of a time.
fn bucket_of(ns: u64) -> usize {
    if ns < SUBS {
        return ns as usize;
    }
    let shift = ns.ilog2() - SUB_BITS;
    let bucket = (u64::from(shift) * SUBS + (ns >> shift)) as usize;
    bucket.min(BUCKETS - 1)
}

/// The longest time of a bucket.
fn longest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUBS * 2 {
        return bucket;
    }
    let shift = bucket / SUBS - 1;
    ((bucket % SUBS + SUBS + 1) << shift) - 1
}

/// Times recorded by one thread.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Records a time that stands for `weight` of them. Only the owning thread may call it.
    pub fn record(&self, ns: u64, weight: u64) {
        add(&self.counts[bucket_of(ns)], weight);
        add(&self.sum_ns, ns.saturating_mul(weight));
    }

    /// Forgets everything. Only the owning thread may call it.
    pub fn clear(&self) {
        self.counts.iter().chain([&self.sum_ns]).for_each(|value| value.store(0, Ordering::Relaxed));
    }
}

/// Times of one or of several histograms.
#[derive(Clone, Debug)]
pub struct Distribution {
    counts: Vec<u64>,
    /// All times added up, nanoseconds.
    pub sum_ns: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], sum_ns: 0 }
    }
}

impl Distribution {
    /// Adds what a histogram has now.
    pub fn add(&mut self, histogram: &Histogram) {
        self.counts.iter_mut().zip(&histogram.counts).for_each(|(sum, count)| *sum += count.load(Ordering::Relaxed));
        self.sum_ns = self.sum_ns.wrapping_add(histogram.sum_ns.load(Ordering::Relaxed));
    }

    /// What was recorded since it was `earlier`; all of it when the histograms were cleared in between.
    #[must_use]
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        if self.count() < earlier.count() {
            return self.clone();
        }
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, before)| now.saturating_sub(*before));
        Distribution { counts: counts.collect(), sum_ns: self.sum_ns.saturating_sub(earlier.sum_ns) }
    }

    /// How many times were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many were at most so long, to the width of a bucket.
    pub fn count_within(&self, ns: u64) -> u64 {
        self.counts.iter().enumerate().take_while(|(bucket, _)| longest_of(*bucket) <= ns).map(|(_, count)| count).sum()
    }

    /// The time that this share of them (0 to 1) does not exceed; 0 when there are none.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let wanted = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        self.counts.iter().position(reaches).map_or(0, longest_of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_follow_each_other() {
        for bucket in 0..BUCKETS - 1 {
            let longest = longest_of(bucket);
            assert_eq!((bucket_of(longest), bucket_of(longest + 1)), (bucket, bucket + 1), "{longest}");
            assert!(longest_of(bucket + 1) - longest <= longest / 8 + 1, "{longest}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let (one, other) = (Histogram::default(), Histogram::default());
        (1..=900).for_each(|us| one.record(us * 1000, 1));
        other.record(5_000_000, 100);
        let mut both = Distribution::default();
        both.add(&one);
        both.add(&other);
        assert_eq!((both.count(), both.sum_ns), (1000, 900 * 901 / 2 * 1000 + 500_000_000));
        for (share, us) in [(0.5, 500), (0.9, 900), (0.99, 5000), (1.0, 5000)] {
            let found = both.quantile_ns(share) / 1000;
            assert!((us..us + us / 8 + 1).contains(&found), "{share}: {found}");
        }
        assert_eq!(both.count_within(1_100_000), 900);
        let earlier = both.clone();
        one.record(7_000, 3);
        let mut later = Distribution::default();
        later.add(&one);
        later.add(&other);
        let between = later.since(&earlier);
        assert_eq!((between.count(), between.sum_ns, between.quantile_ns(0.5)), (3, 21_000, 7167));
        assert_eq!(earlier.since(&later).count(), 1000, "cleared in between");
        one.clear();
        let mut cleared = Distribution::default();
        cleared.add(&one);
        assert_eq!((cleared.count(), cleared.quantile_ns(0.5)), (0, 0));
    }
}
