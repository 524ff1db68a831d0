//! What half or twice the memory would bring: three small caches that see one key in so many and hold no values.
//!
//! In: look-ups and writes of keys whose hash ends in enough zero bits. Out: how many look-ups a cache of half, the
//! same and twice the memory would have missed. Each runs the shard's own policy on that share of the memory. What must
//! stay true: a key that is not seen costs one comparison; memory is bounded, about a 56th of the budget and 502 KiB
//! (350 KiB were seen, and deletions can leave places in queues behind), and counted; nothing else here changes what
//! the shard does.
//!
//! One key in 16 is seen at first; whenever the largest of the three remembers too many, half of the keys are left out
//! from then on, until the shard is emptied or its policy changes. One of the three at a time does so, in five calls,
//! each of which takes 20 to 40 µs. What is left out: segments, pages being cleaned up, how the share of the small
//! queue would adapt (it is the shard's own), and items larger than the sample's share of the memory, which all three
//! miss. Where nothing is evicted, or only what expires, there is nothing to tell.
//! Source: Waldspurger, Park, Garthwaite, Ahmad, "Efficient MRC Construction with SHARDS" (FAST 2015), and "Cache
//! Modeling and Optimization using Miniature Simulations" (ATC 2017) by most of the same.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::balance::Keeping;
use super::{KeyHash, Shard, UnixMs};
use crate::config::Policy;

/// Zero bits at the end of a hash that is seen, at first: one in 16.
const BITS_START: u32 = 4;

/// Keys that one of the caches remembers at most, those that it has evicted included, but for one a call while the
/// others leave keys out: then its map has 4096 places and no more room. And bytes of the budget for each.
const KEYS_MAX: u64 = 4096 / 8 * 7;
const KEYS_BEYOND: u64 = (HALVES.len() * THINNING_STEPS) as u64;
const BUDGET_PER_KEY: u64 = 8192;

/// Bytes that the three caches take at most for each key that one may remember.
const BYTES_PER_KEY: u64 = 144;

/// Memory of each in halves of the shard's.
const HALVES: [u64; 3] = [1, 2, 4];

/// Bytes of an item beyond key and value: its header, its share of index, ghosts and ends of segments.
const OVERHEAD_BYTES: u64 = 20;

/// While less than this part of the memory is used, reads are not simulated.
const NEEDLESS: u64 = 4;

/// Items looked at for each one that comes, whether they have expired.
const WALKED: usize = 2;

/// Uses that are counted, as in the index.
const HITS_MAX: u8 = 3;

/// A time as the caches hold it: in units of 64 ms, modulo 2^32, so that what lies within four years can be compared.
fn moment(at: UnixMs) -> u32 {
    (at >> 6) as u32
}

/// Expiries are never later than in two years.
const EXPIRY_MS_MAX: u64 = 2 * 365 * 86_400_000;

/// The same for an expiry; 0 for never.
fn expiry(expires_at: UnixMs, now: UnixMs) -> u32 {
    match expires_at {
        0 => 0,
        at => moment(at.min(now + EXPIRY_MS_MAX)).wrapping_add(1).max(1),
    }
}

/// Where a key of a simulated cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Small,
    Main,
    GhostOfSmall,
    GhostOfMain,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u32,
    expires: u32,
    /// That of its present place in a queue.
    stamp: u32,
    /// Zero bits at the end of its hash.
    zeros: u8,
    hits: u8,
    place: Place,
}

impl Entry {
    fn is_held(&self) -> bool {
        matches!(self.place, Place::Small | Place::Main)
    }

    /// Accounts for its going: bytes held by queue, and the number of ghosts.
    fn leave(&self, bytes: &mut [u64; 2], ghosts: &mut usize) {
        match self.place {
            Place::Small => bytes[SMALL] -= u64::from(self.bytes),
            Place::Main => bytes[MAIN] -= u64::from(self.bytes),
            Place::GhostOfSmall | Place::GhostOfMain => *ghosts -= 1,
        }
    }

    fn is_expired(&self, now: u32) -> bool {
        self.expires != 0 && now.wrapping_sub(self.expires).cast_signed() >= 0
    }
}

/// Keys are parts of hashes already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u32(&mut self, key: u32) {
        // The map takes its tag from the highest bits.
        self.0 = u64::from(key) << 32 | u64::from(key);
    }
}

/// An item that comes to a simulated cache.
#[derive(Clone, Copy)]
struct Coming {
    key: u32,
    zeros: u8,
    bytes: u32,
    expires: u32,
}

/// What a simulated cache has in common with the shard.
#[derive(Clone, Copy)]
struct Rules {
    policy: Policy,
    small_percent: u64,
    now: u32,
}

/// One simulated cache.
#[derive(Debug)]
struct Simulated {
    /// Zero bits at the end of a hash that it sees.
    bits: u32,
    entries: HashMap<u32, Entry, BuildHasherDefault<AsItIs>>,
    /// Small queue, main queue, ghosts: keys with the stamps that they had when they came there. One whose entry has
    /// another is not there any more.
    queues: [VecDeque<(u32, u32)>; 3],
    /// Held in the small queue and in the main queue.
    bytes: [u64; 2],
    ghosts: usize,
    stamp: u32,
    keeping: Keeping,
    walked: usize,
    /// Steps that are left of leaving keys out.
    thinning: usize,
}

/// The calls in which a cache leaves half of its keys out: first the keys, then their room in the map, and in each of
/// the queues.
const THINNING_STEPS: usize = 2 + GHOSTS + 1;

/// Numbers of the queues; the first two are those of `bytes`.
const SMALL: usize = 0;
const MAIN: usize = 1;
const GHOSTS: usize = 2;

impl Simulated {
    fn new() -> Self {
        Self {
            bits: BITS_START,
            entries: HashMap::default(),
            queues: Default::default(),
            bytes: [0; 2],
            ghosts: 0,
            stamp: 0,
            keeping: Keeping::default(),
            walked: 0,
            thinning: 0,
        }
    }

    /// Whether a look-up finds its key.
    fn read(&mut self, key: u32, now: u32) -> bool {
        match self.entries.get_mut(&key) {
            Some(entry) if entry.is_held() && !entry.is_expired(now) => {
                entry.hits = HITS_MAX.min(entry.hits + 1);
                true
            }
            Some(entry) if entry.is_held() => {
                self.remove(key);
                false
            }
            _ => false,
        }
    }

    /// A write: of an item that is there, which `is_used` by it or not, or of one that comes.
    fn write(&mut self, coming: Coming, is_used: bool, capacity: u64, rules: Rules) {
        match self.entries.get_mut(&coming.key) {
            Some(entry) if entry.is_held() => {
                let queue = if entry.place == Place::Small { SMALL } else { MAIN };
                self.bytes[queue] = self.bytes[queue] + u64::from(coming.bytes) - u64::from(entry.bytes);
                (entry.bytes, entry.expires) = (coming.bytes, coming.expires);
                entry.hits = HITS_MAX.min(entry.hits + u8::from(is_used));
            }
            _ if u64::from(coming.bytes) > capacity => {}
            _ => self.insert(coming, rules),
        }
        (0..WALKED).for_each(|_| self.walk(rules.now));
        while self.bytes.iter().sum::<u64>() > capacity && self.evict(rules) {}
    }

    fn insert(&mut self, coming: Coming, rules: Rules) {
        let ghost = self.entries.get(&coming.key).map(|entry| entry.place);
        self.remove(coming.key);
        let queue = match (rules.policy, ghost) {
            (Policy::AllKeysLru, _) => MAIN,
            (_, Some(Place::GhostOfSmall)) if self.keeping.is_dense(1, coming.bytes as usize) => MAIN,
            _ => SMALL,
        };
        let Coming { key, zeros, bytes, expires } = coming;
        self.push(key, queue, Entry { bytes, expires, stamp: 0, zeros, hits: 0, place: Place::Small });
    }

    /// Puts an entry that has no place at the end of a queue.
    fn push(&mut self, key: u32, queue: usize, entry: Entry) {
        self.stamp = self.stamp.wrapping_add(1);
        let place = match (queue, entry.place) {
            (SMALL, _) => Place::Small,
            (MAIN, _) => Place::Main,
            (_, Place::Small) => Place::GhostOfSmall,
            (_, _) => Place::GhostOfMain,
        };
        match self.bytes.get_mut(queue) {
            Some(bytes) => *bytes += u64::from(entry.bytes),
            None => self.ghosts += 1,
        }
        self.queues[queue].push_back((key, self.stamp));
        self.entries.insert(key, Entry { stamp: self.stamp, place, ..entry });
        if self.queues[queue].len() > 2 * self.entries.len() + 16 {
            self.tidy(queue);
        }
    }

    /// Takes an entry out, whatever its place.
    fn remove(&mut self, key: u32) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        entry.leave(&mut self.bytes, &mut self.ghosts);
        Some(entry)
    }

    /// The oldest of a queue, taken out.
    fn pop(&mut self, queue: usize) -> Option<(u32, Entry)> {
        while let Some((key, stamp)) = self.queues[queue].pop_front() {
            if self.entries.get(&key).is_some_and(|entry| entry.stamp == stamp) {
                return self.remove(key).map(|entry| (key, entry));
            }
        }
        None
    }

    /// Judges one item, as the shard does (see [`evict`](super::evict)); false when there is none.
    fn evict(&mut self, rules: Rules) -> bool {
        let [small, main] = self.bytes;
        let has_small_share = small * 100 >= (small + main) * rules.small_percent;
        let order = if has_small_share { [SMALL, MAIN] } else { [MAIN, SMALL] };
        let Some((key, entry)) = order.into_iter().find_map(|queue| self.pop(queue)) else { return false };
        if entry.is_expired(rules.now) {
            return true;
        }
        let (hits, bytes) = (u64::from(entry.hits), entry.bytes as usize);
        self.keeping.see(hits, bytes);
        let has_ghosts = matches!(rules.policy, Policy::Cache | Policy::AllKeysLfu);
        let is_kept = match rules.policy {
            Policy::AllKeysRandom => false,
            _ => hits > 0 && (!has_ghosts || self.keeping.is_dense(hits, bytes)),
        };
        if is_kept {
            let hits = if entry.place == Place::Main { entry.hits - 1 } else { 0 };
            self.push(key, MAIN, Entry { hits, ..entry });
        } else if has_ghosts {
            self.push(key, GHOSTS, entry);
            while self.ghosts > (self.entries.len() - self.ghosts) / 10 * 9 && self.pop(GHOSTS).is_some() {}
        }
        true
    }

    /// Looks whether one more item has expired.
    fn walk(&mut self, now: u32) {
        self.walked = self.walked.wrapping_add(1);
        let queue = &self.queues[self.walked % 2];
        let next = queue.get((self.walked / 2) % queue.len().max(1)).copied();
        let is_over = |(key, _): &(u32, u32)| self.entries[key].is_held() && self.entries[key].is_expired(now);
        if let Some((key, _)) = next.filter(|(key, _)| self.entries.contains_key(key)).filter(is_over) {
            self.remove(key);
        }
    }

    /// Leaves out half of the keys from now on: the first of [`THINNING_STEPS`] steps, or the next.
    fn thin(&mut self) {
        match self.thinning.checked_sub(1) {
            None => {
                self.bits += 1;
                let Self { bits, entries, bytes, ghosts, .. } = self;
                entries.retain(|_, entry| {
                    let stays = u32::from(entry.zeros) >= *bits;
                    if !stays {
                        entry.leave(bytes, ghosts);
                    }
                    stays
                });
                self.thinning = THINNING_STEPS;
            }
            Some(queue @ 0..=GHOSTS) => self.tidy(queue),
            Some(_) => self.entries.shrink_to_fit(),
        }
        self.thinning -= 1;
    }

    /// Drops places in a queue that nobody has any more.
    fn tidy(&mut self, queue: usize) {
        let (entries, queue) = (&self.entries, &mut self.queues[queue]);
        queue.retain(|(key, stamp)| entries.get(key).is_some_and(|entry| entry.stamp == *stamp));
        queue.shrink_to(queue.len() * 5 / 4);
    }

    fn memory_bytes(&self) -> usize {
        // For each place of the map a byte beside the pair, and an eighth of the places stays free.
        let map = self.entries.capacity() * 8 / 7 * (size_of::<(u32, Entry)>() + 1);
        map + self.queues.iter().map(VecDeque::capacity).sum::<usize>() * size_of::<(u32, u32)>()
    }
}

/// The three caches.
#[derive(Debug)]
pub(super) struct Shadow {
    /// These bits of a hash are zero if it is seen by one of them.
    mask: u64,
    caches: [Simulated; HALVES.len()],
    /// Look-ups that each would have missed, those of keys that are not seen included.
    misses: [u64; HALVES.len()],
    memory_bytes: usize,
}

/// No hash but one is seen.
const OFF: u64 = u64::MAX;

impl Shadow {
    /// Empty caches, which see nothing while they have nothing to tell.
    pub(super) fn new(is_on: bool) -> Self {
        let mask = if is_on { (1 << BITS_START) - 1 } else { OFF };
        Self { mask, caches: std::array::from_fn(|_| Simulated::new()), misses: [0; HALVES.len()], memory_bytes: 0 }
    }

    fn is_on(&self) -> bool {
        self.mask != OFF
    }

    /// Whether a key is seen.
    #[inline]
    pub(super) fn sees(&self, hash: KeyHash) -> bool {
        hash.0 & self.mask == 0
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    pub(super) fn misses(&self) -> [u64; HALVES.len()] {
        self.misses
    }

    pub(super) fn reset_misses(&mut self) {
        self.misses = [0; HALVES.len()];
    }

    /// Forgets all items; what was counted stays.
    pub(super) fn clear(&mut self) {
        *self = Self { misses: self.misses, ..Self::new(self.is_on()) };
    }

    /// Keeps to its memory: when a cache remembers too many it leaves keys out, then the others do, a step in a call.
    fn settle(&mut self, keys_max: u64) {
        let most = self.caches.iter().map(|cache| cache.bits).max();
        let lags = |cache: &Simulated| Some(cache.bits) < most;
        let is_full = |cache: &Simulated| cache.entries.len() as u64 > keys_max;
        let place = |is_next: &dyn Fn(&Simulated) -> bool| self.caches.iter().position(is_next);
        let next = place(&|cache| cache.thinning > 0).or_else(|| place(&lags)).or_else(|| place(&is_full));
        if let Some(index) = next {
            self.caches[index].thin();
            self.mask = self.caches.iter().map(|cache| (1 << cache.bits) - 1).min().unwrap_or(OFF);
        }
        self.memory_bytes = self.caches.iter().map(Simulated::memory_bytes).sum();
    }
}

/// The part of a hash that stands for a key, which the sample is not chosen by.
fn part(hash: KeyHash) -> u32 {
    (hash.0 >> 32) as u32
}

impl Shard {
    /// Whether simulated caches can tell anything.
    fn has_shadow(&self) -> bool {
        self.is_limited && self.policy != Policy::NoEviction && !self.policy.is_volatile()
    }

    fn shadow_keys_max(&self) -> u64 {
        (self.budget_bytes / BUDGET_PER_KEY).min(KEYS_MAX).saturating_sub(KEYS_BEYOND)
    }

    /// Begins with empty caches, or ends with them, when there has come to be something to tell, or nothing.
    pub(super) fn fit_shadow(&mut self) {
        if self.shadow.is_on() != self.has_shadow() {
            self.shadow = Shadow::new(self.has_shadow());
        }
    }

    /// Memory that the simulated caches may still take.
    pub(super) fn shadow_growth_bytes(&self) -> u64 {
        let most = if self.has_shadow() { self.shadow_keys_max() * BYTES_PER_KEY } else { 0 };
        most.saturating_sub(self.shadow.memory_bytes() as u64)
    }

    /// A client has looked a key up that is seen; `location` is the item's, if it was there.
    #[cold]
    pub(super) fn shadow_read(&mut self, hash: KeyHash, location: Option<u64>, now: UnixMs) {
        if !self.has_shadow() {
            return;
        }
        let zeros = hash.0.trailing_zeros();
        // What a miss of a key that a cache sees stands for.
        let weights = self.shadow.caches.each_ref().map(|cache| if zeros < cache.bits { 0 } else { 1 << cache.bits });
        if self.used_bytes() < self.budget_bytes / NEEDLESS {
            // Half the memory, too, would hold whatever there is.
            let share = u64::from(location.is_none());
            let misses = self.shadow.misses.iter_mut().zip(weights);
            return misses.for_each(|(misses, weight)| *misses += weight * share);
        }
        let key = part(hash);
        let was_found = [0, 1, 2].map(|index: usize| {
            zeros < self.shadow.caches[index].bits || self.shadow.caches[index].read(key, moment(now))
        });
        for (misses, (was_found, weight)) in self.shadow.misses.iter_mut().zip(was_found.into_iter().zip(weights)) {
            *misses += if was_found { 0 } else { weight };
        }
        // Whoever would have missed what was there would have written it anew.
        if let Some(location) = location
            && was_found.contains(&false)
        {
            let found = self.found(location);
            let (bytes, expires_at) = (found.key.len() + found.value().len(), found.expires_at);
            self.shadow_write(hash, bytes, expires_at, false, now);
        }
    }

    /// An item was written whose key is seen; `is_used`: one that was there already.
    #[cold]
    pub(super) fn shadow_write(&mut self, hash: KeyHash, bytes: usize, expires_at: UnixMs, is_used: bool, now: UnixMs) {
        if !self.has_shadow() {
            return;
        }
        let held = self.stats.dataset_bytes + OVERHEAD_BYTES * self.index.len() as u64;
        let available = held + self.budget_bytes.saturating_sub(self.used_bytes());
        let rules = Rules { policy: self.policy, small_percent: self.balance.small_percent(), now: moment(now) };
        let coming = Coming {
            key: part(hash),
            zeros: hash.0.trailing_zeros() as u8,
            bytes: u32::try_from(bytes as u64 + OVERHEAD_BYTES).unwrap_or(u32::MAX),
            expires: expiry(expires_at, now),
        };
        for (cache, halves) in self.shadow.caches.iter_mut().zip(HALVES) {
            if u32::from(coming.zeros) >= cache.bits {
                cache.write(coming, is_used, (available >> cache.bits) / 2 * halves, rules);
            }
        }
        self.shadow.settle(self.shadow_keys_max());
    }

    /// An item is gone, or its expiry has changed, whose key is seen.
    #[cold]
    pub(super) fn shadow_change(&mut self, hash: KeyHash, expires_at: Option<UnixMs>, now: UnixMs) {
        let key = part(hash);
        for cache in &mut self.shadow.caches {
            match expires_at {
                None => {
                    cache.remove(key);
                }
                Some(at) => cache.entries.get_mut(&key).into_iter().for_each(|entry| entry.expires = expiry(at, now)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_distr::Distribution;

    use super::super::{Expiry, NewValue, ShardOptions, When};
    use super::*;
    use crate::observe::miss_ratios;

    const MIB: u64 = 1 << 20;

    fn shard(budget_bytes: u64, policy: Policy) -> Shard {
        Shard::new(ShardOptions { budget_bytes, address_bytes: u64::MAX, policy, huge_pages: false, seed: 7 })
    }

    /// Reads keys, and writes those that are not there.
    fn replay(shard: &mut Shard, keys: impl Iterator<Item = u32>, ttl_ms: u64) {
        let value = [b'v'; 1000];
        for (number, key) in keys.enumerate() {
            let (now, key) = (1_000_000 + number as u64 / 10, key.to_be_bytes());
            if shard.get(&key, now).is_none() {
                let expiry = if ttl_ms == 0 { Expiry::Never } else { Expiry::At(now + ttl_ms) };
                let len = 50 + key[3] as usize * 3;
                shard.set(&key, NewValue::Copied(&value[..len]), expiry, When::Always, now);
            }
            if number % 16 == 0 {
                shard.maintain(now);
            }
        }
    }

    fn zipf(keys: f64, count: usize) -> impl Iterator<Item = u32> {
        let zipf = rand_distr::Zipf::new(keys, 0.9).expect("a valid exponent");
        let mut random = rand::rngs::SmallRng::seed_from_u64(3);
        (0..count).map(move |_| zipf.sample(&mut random) as u32)
    }

    fn ratio(shard: &Shard) -> f64 {
        let stats = shard.stats();
        stats.misses as f64 / (stats.hits + stats.misses) as f64
    }

    #[test]
    #[cfg_attr(miri, ignore = "millions of steps")]
    fn what_it_says_of_other_memory_is_what_other_memory_does() {
        const ERROR_MAX: f64 = 0.03;
        for (policy, ttl_ms) in [(Policy::Cache, 0), (Policy::Cache, 8_000), (Policy::AllKeysLru, 0)] {
            let run = |budget| {
                let mut shard = shard(budget, policy);
                replay(&mut shard, zipf(60_000.0, 300_000), ttl_ms);
                shard
            };
            let [half, same, double] = [3 * MIB, 6 * MIB, 12 * MIB].map(run);
            let stats = same.stats();
            let said = miss_ratios(stats.hits, stats.misses, stats.simulated_misses).expect("it has seen some");
            for (said, real) in said.iter().zip([ratio(&half), ratio(&same), ratio(&double)]) {
                assert!((said - real).abs() < ERROR_MAX, "{policy:?}, {ttl_ms} ms: {said:.4}, really {real:.4}");
            }
            assert!(ratio(&half) > ratio(&double) + 2.0 * ERROR_MAX, "there is something to tell");
            assert!(same.shadow.memory_bytes() > 0);
        }
    }

    #[test]
    fn it_is_silent_where_memory_does_not_decide() {
        let rows = [(u64::MAX, Policy::Cache), (2 * MIB, Policy::NoEviction), (2 * MIB, Policy::VolatileLru)];
        for (budget, policy) in rows {
            let mut shard = shard(budget, policy);
            replay(&mut shard, 0..2_000, 0);
            assert_eq!((shard.stats().simulated_misses, shard.shadow.memory_bytes()), ([0; 3], 0), "{policy:?}");
        }
    }

    #[test]
    fn what_was_told_of_another_policy_or_budget_is_forgotten() {
        for (policy, budget, back) in [
            (Policy::NoEviction, 2 * MIB, Policy::Cache),
            (Policy::AllKeysLru, 2 * MIB, Policy::Cache),
            (Policy::Cache, u64::MAX, Policy::Cache),
        ] {
            let mut shard = shard(2 * MIB, Policy::Cache);
            replay(&mut shard, 0..60_000, 0);
            assert_ne!(shard.stats().simulated_misses, [0; 3]);
            shard.set_policy(policy);
            shard.set_budget(budget);
            assert_eq!((shard.stats().simulated_misses, shard.shadow.memory_bytes()), ([0; 3], 0), "{policy:?}");
            shard.set_policy(back);
            shard.set_budget(2 * MIB);
            replay(&mut shard, 100_000..160_000, 0);
            assert_ne!(shard.stats().simulated_misses, [0; 3], "{policy:?}");
        }
    }

    #[test]
    fn an_expiry_that_slides_slides_in_all_three() {
        let mut shard = shard(MIB, Policy::Cache);
        let (ttl_ms, later) = (10_000, 1_008_000);
        replay(&mut shard, 0..2_000, ttl_ms);
        for key in 0..2_000_u32 {
            assert!(shard.change(&key.to_be_bytes(), later, |expires_at, _| *expires_at = later + ttl_ms));
        }
        shard.reset_stats();
        (0..2_000_u32).for_each(|key| assert!(shard.get(&key.to_be_bytes(), later + ttl_ms / 2).is_some()));
        assert_eq!(shard.stats().simulated_misses[1..], [0; 2]);
    }

    #[test]
    fn what_is_removed_is_missed_by_all_three() {
        let mut shard = shard(8 * MIB, Policy::Cache);
        let misses = |shard: &mut Shard| {
            shard.reset_stats();
            for key in 0..4_000_u32 {
                shard.get(&key.to_be_bytes(), 2_000_000);
            }
            shard.stats().simulated_misses
        };
        replay(&mut shard, 0..4_000, 0);
        assert_eq!(misses(&mut shard), [0; 3]);
        (0..2_000_u32).for_each(|key| assert!(shard.delete(&key.to_be_bytes(), 2_000_000)));
        (2_000..3_000_u32).for_each(|key| assert!(shard.set_expiry(&key.to_be_bytes(), Some(1), 2_000_000)));
        let [half, same, double] = misses(&mut shard);
        assert!((2_500..3_500).contains(&same) && half == same && double == same, "{half} {same} {double}");
        shard.clear();
        assert_eq!(shard.shadow.memory_bytes(), 0);
    }

    #[test]
    #[cfg_attr(miri, ignore = "millions of steps")]
    fn one_cache_at_a_time_leaves_keys_out() {
        let mut shard = shard(64 * MIB, Policy::Cache);
        let bits = |shard: &Shard| shard.shadow.caches.each_ref().map(|cache| cache.bits);
        let mut before = bits(&shard);
        for key in 0..300_000_u32 {
            shard.set(&key.to_be_bytes(), NewValue::Copied(b"value"), Expiry::Never, When::Always, 1_000);
            let after = bits(&shard);
            let changed = before.iter().zip(after).filter(|(before, after)| **before != *after).count();
            assert!(changed <= 1, "{before:?} {after:?}");
            before = after;
            let thinning = shard.shadow.caches.iter().filter(|cache| cache.thinning > 0).count();
            assert!(thinning <= 1, "{thinning} caches leave keys out at once");
            let left: usize = shard.shadow.caches.iter().map(|cache| cache.thinning).sum();
            assert!(changed == 0 || left == THINNING_STEPS - 1, "{left} steps are left after the first");
        }
        assert!(before[0] > BITS_START + 1 && before.iter().all(|bits| *bits == before[0]), "{before:?}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "millions of steps")]
    fn its_memory_is_bounded_and_planned_for() {
        for budget in [MIB, 3 * MIB, 50 * MIB] {
            let mut shard = shard(budget, Policy::Cache);
            let most = shard.shadow_growth_bytes();
            assert!(most <= budget / 56);
            let mut peak = 0;
            for round in 0..20_u32 {
                // Items become smaller: more of them fit.
                let value = vec![b'v'; 2_000 >> (round / 2)];
                for key in 0..(budget / 600) as u32 {
                    let key = (key * 20 + round).to_be_bytes();
                    shard.set(&key, NewValue::Copied(&value), Expiry::Never, When::Always, 1_000);
                    peak = peak.max(shard.shadow.memory_bytes() as u64);
                }
            }
            assert!(peak <= most && peak > most / 3, "budget {budget}: {peak} bytes, planned {most}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "millions of steps")]
    fn what_is_remembered_is_bounded() {
        let mut cache = Simulated::new();
        let rules = Rules { policy: Policy::Cache, small_percent: 10, now: 5 };
        for number in 0..200_000_u32 {
            let key = number.wrapping_mul(0x9e37_79b9) % 5_000;
            cache.read(key, 5);
            let coming = Coming { key, zeros: 4, bytes: 100, expires: if key % 3 == 0 { 6 } else { 0 } };
            cache.write(coming, false, 50_000, rules);
            if number % 7 == 0 {
                cache.remove(key);
            }
            let held: u64 = cache.bytes.iter().sum();
            assert!(held <= 50_000 && cache.entries.len() <= 950, "{held} bytes, {} entries", cache.entries.len());
            assert!(cache.queues.iter().all(|queue| queue.len() <= 2 * 950 + 17));
        }
        let held = |place: fn(&Entry) -> bool| cache.entries.values().filter(|entry| place(entry)).count();
        assert_eq!(cache.ghosts, held(|entry| !entry.is_held()));
        assert_eq!(cache.bytes.iter().sum::<u64>(), 100 * held(Entry::is_held) as u64);
    }
}
