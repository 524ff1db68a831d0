//! What the policy learns from how items are used: how much use an item of its size must have had to be kept, and how
//! the memory is divided between the small queue and the main queue.
//!
//! In: items that are judged, and keys that come back soon after they were evicted. Out: a threshold and a share. What
//! must stay true: with equal sizes every item that was used is kept; the share stays within its bounds.

use super::log::Queue;

/// How slowly the means of hits and bytes follow.
const MEAN_OF: f32 = 1024.0;

/// How much use an item must have had to be kept, by its size.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Hits per byte of the mean item.
    density_mean: f32,
    bytes_mean: f32,
}

impl Keeping {
    pub(super) fn see(&mut self, hits: u64, bytes: usize) {
        self.density_mean += (hits as f32 / bytes as f32 - self.density_mean) / MEAN_OF;
        self.bytes_mean += (bytes as f32 - self.bytes_mean) / MEAN_OF;
    }

    /// Whether an item has as many hits for each byte as the mean item; of equal items, all that were used have.
    pub(super) fn is_dense(&self, hits: u64, bytes: usize) -> bool {
        /// What a running mean of equal sizes may be above them.
        const ROUNDING: f32 = 0.98;
        hits as f32 >= bytes as f32 * self.density_mean.min(ROUNDING / self.bytes_mean)
    }
}

/// The share of the small queue to begin with, and its bounds; per cent.
const SHARE_START: u64 = 10;
const SHARE_MIN: u64 = 5;
const SHARE_MAX: u64 = 80;

/// The small queue grows only when it loses so many times as many: what it takes from the main queue was used more.
const GROWTH_RATIO: u64 = 3;

/// Keys that come back before the share moves by a per cent, at least; and items of the cache for each of them.
const RETURNS_MIN: u64 = 100;
const ITEMS_PER_RETURN: u64 = 256;

/// How the memory is divided between the queues. A key that comes back soon after its eviction would have been a hit,
/// had its queue been a little larger.
/// Source: the S3-FIFO paper (see [`evict`](super::evict)) looks at an adaptive share and finds a static one hard to
/// beat. With recorded requests that are mostly recent ones (`mooncake-conversation`) a tenth misses 5 % more than LRU,
/// this 1 %; `cargo bench --bench hitratio`.
#[derive(Debug)]
pub(super) struct Balance {
    small_percent: u64,
    /// Keys that came back soon, by the queue that they had been evicted from.
    returns: [u64; 2],
}

impl Default for Balance {
    fn default() -> Self {
        Self { small_percent: SHARE_START, returns: [0; 2] }
    }
}

impl Balance {
    /// The small queue's share of the memory, per cent.
    pub(super) fn small_percent(&self) -> u64 {
        self.small_percent
    }

    /// A key came back soon after it was evicted from `queue`, in a cache of `items`.
    pub(super) fn see_return(&mut self, queue: Queue, items: usize) {
        self.returns[queue as usize] += 1;
        let [small, main] = self.returns;
        if small + main < RETURNS_MIN.max(items as u64 / ITEMS_PER_RETURN) {
            return;
        }
        if small > main * GROWTH_RATIO {
            self.small_percent = SHARE_MAX.min(self.small_percent + 1);
        } else if main > small {
            self.small_percent = SHARE_MIN.max(self.small_percent - 1);
        }
        self.returns = [0; 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_items_all_that_were_used_are_kept() {
        let mut keeping = Keeping::default();
        (0..10_000_u64).for_each(|number| keeping.see(number % 4, 100));
        assert!(keeping.is_dense(1, 100));
        (0..10_000_u64).for_each(|number| keeping.see(1, if number % 2 == 0 { 100 } else { 10_000 }));
        assert!(keeping.is_dense(1, 100) && !keeping.is_dense(1, 10_000) && !keeping.is_dense(3, 100_000));
    }

    #[test]
    fn the_queue_that_loses_more_grows_within_bounds() {
        let mut balance = Balance::default();
        for number in 0..RETURNS_MIN * 10 {
            balance.see_return(if number % 3 == 0 { Queue::Main } else { Queue::Small }, 0);
        }
        assert_eq!(balance.small_percent(), SHARE_START, "twice as many do not move it");
        (0..RETURNS_MIN).for_each(|_| balance.see_return(Queue::Small, 0));
        assert_eq!(balance.small_percent(), SHARE_START + 1);
        (0..RETURNS_MIN * 100).for_each(|_| balance.see_return(Queue::Small, 0));
        assert_eq!(balance.small_percent(), SHARE_MAX);
        (0..RETURNS_MIN * 100).for_each(|_| balance.see_return(Queue::Main, 0));
        assert_eq!(balance.small_percent(), SHARE_MIN);
    }
}
