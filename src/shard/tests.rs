//! The shard against a model: what it returns is what was stored, whatever moves beneath.
//!
//! Without pressure the results are equal; under pressure a key has its right value or none, and the budget holds.

use std::collections::HashMap;

use super::*;

const MIB: u64 = 1 << 20;

fn shard(budget_bytes: u64, policy: Policy) -> Shard {
    Shard::new(options(budget_bytes, policy))
}

fn options(budget_bytes: u64, policy: Policy) -> ShardOptions {
    ShardOptions { budget_bytes, address_bytes: u64::MAX, policy, huge_pages: false, seed: 7 }
}

/// A sequence of numbers that looks random.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ mixed >> 31
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    value: Vec<u8>,
    expires_at: UnixMs,
}

/// A shard and what it should hold.
struct Twins {
    shard: Shard,
    model: HashMap<Vec<u8>, Known>,
    now: UnixMs,
    may_evict: bool,
}

impl Twins {
    fn new(budget_bytes: u64, policy: Policy) -> Self {
        let may_evict = policy != Policy::NoEviction;
        Self { shard: shard(budget_bytes, policy), model: HashMap::new(), now: 1_700_000_000_000, may_evict }
    }

    fn sweep(&mut self) {
        let now = self.now;
        self.model.retain(|_, known| known.expires_at == 0 || known.expires_at > now);
    }

    fn check(&mut self, key: &[u8]) {
        let item = self
            .shard
            .peek(key, self.now)
            .map(|item| Known { value: item.value.to_vec(), expires_at: item.expires_at.unwrap_or(0) });
        let known = self.model.get(key);
        if item.is_none() && self.may_evict {
            self.model.remove(key);
        } else {
            assert_eq!(item.as_ref(), known, "{}", key.escape_ascii());
        }
    }

    /// One random operation on one of `keys` keys.
    fn step(&mut self, random: &mut Random, keys: u64, len_max: u64) {
        self.now += random.below(3);
        self.sweep();
        let key = format!("key:{}", random.below(keys)).into_bytes();
        self.check(&key);
        let len = if random.below(50) == 0 { random.below(len_max) } else { random.below(60) };
        let value = vec![random.next() as u8; len as usize];
        let expires_at = match random.below(4) {
            0 => self.now + 1 + random.below(2_000),
            1 if random.below(30) == 0 => 1 << 50,
            _ => 0,
        };
        match random.below(12) {
            0..5 => self.set(&key, &value, expires_at, random),
            5 => {
                let had = self.model.remove(&key).is_some();
                assert_eq!(self.shard.delete(&key, self.now), had);
            }
            6 => {
                let at = (expires_at != 0).then_some(expires_at);
                let has = self.shard.set_expiry(&key, at, self.now);
                assert_eq!(has, self.model.contains_key(&key));
                self.model.get_mut(&key).into_iter().for_each(|known| known.expires_at = expires_at);
            }
            7 => self.append(&key, &value),
            8 => {
                let mut expected = self.model.get(&key).map_or(Vec::new(), |known| known.value.clone());
                let offset = random.below(40) as usize;
                expected.resize(expected.len().max(offset + value.len()), 0);
                expected[offset..offset + value.len()].copy_from_slice(&value);
                if self.shard.set_range(&key, offset, &value, self.now).is_some() {
                    self.model.entry(key.clone()).or_insert(Known { value: Vec::new(), expires_at: 0 }).value =
                        expected;
                }
            }
            9 => _ = self.shard.maintain(self.now),
            _ => {
                let got = self.shard.get(&key, self.now).map(|item| item.value.to_vec());
                assert_eq!(got, self.model.get(&key).map(|known| known.value.clone()));
            }
        }
        self.check(&key);
    }

    fn set(&mut self, key: &[u8], value: &[u8], expires_at: UnixMs, random: &mut Random) {
        let when = [When::Always, When::Absent, When::Present][random.below(3) as usize];
        let expiry = if random.below(5) == 0 {
            Expiry::Keep
        } else if expires_at == 0 {
            Expiry::Never
        } else {
            Expiry::At(expires_at)
        };
        let old = self.model.get(key);
        let expires_at = match expiry {
            Expiry::Keep => old.map_or(0, |known| known.expires_at),
            _ => expires_at,
        };
        let is_refused = match when {
            When::Always => false,
            When::Absent => old.is_some(),
            When::Present => old.is_none(),
        };
        match self.shard.set(key, NewValue::Copied(value), expiry, when, self.now) {
            Stored::Refused => assert!(is_refused),
            Stored::Done { replaced } => {
                assert!(!is_refused);
                assert_eq!(replaced, old.is_some());
                self.model.insert(key.to_vec(), Known { value: value.to_vec(), expires_at });
            }
            Stored::OutOfMemory => assert!(!is_refused),
        }
    }

    fn append(&mut self, key: &[u8], value: &[u8]) {
        if self.shard.append(key, value, self.now).is_some() {
            let known = self.model.entry(key.to_vec()).or_insert(Known { value: Vec::new(), expires_at: 0 });
            known.value.extend_from_slice(value);
        }
    }

    /// Everything, one by one and as scans show it, and the sums.
    fn check_all(&mut self) {
        self.sweep();
        let mut shown: Vec<Vec<u8>> = Vec::new();
        let mut cursor = 0;
        loop {
            cursor = self.shard.scan(cursor, 10, self.now, &mut |item| shown.push(item.key.to_vec()));
            if cursor == 0 {
                break;
            }
        }
        shown.sort();
        let count = shown.len();
        shown.dedup();
        assert_eq!(shown.len(), count, "nothing moved during the scan, so nothing was shown twice");
        let keys: Vec<Vec<u8>> = self.model.keys().cloned().collect();
        keys.iter().for_each(|key| self.check(key));
        let mut keys: Vec<Vec<u8>> = self.model.keys().cloned().collect();
        keys.sort();
        assert_eq!(shown, keys);
        let stats = self.shard.stats();
        assert!(stats.keys as usize >= keys.len());
        let bytes: usize = self.model.iter().map(|(key, known)| key.len() + known.value.len()).sum();
        assert!(stats.dataset_bytes >= bytes as u64);
        if stats.keys as usize == keys.len() {
            assert_eq!(stats.dataset_bytes, bytes as u64);
            assert_eq!(stats.expires as usize, self.model.values().filter(|known| known.expires_at != 0).count());
        }
    }
}

const STEPS: u64 = if cfg!(miri) { 300 } else { 60_000 };

#[test]
fn without_pressure_it_holds_what_was_stored() {
    for (seed, keys) in [(1, 50), (2, 3_000), (3, 30_000)] {
        let mut twins = Twins::new(u64::MAX, Policy::NoEviction);
        let mut random = Random(seed);
        for step in 0..STEPS {
            twins.step(&mut random, keys, 40_000);
            if step % 9_973 == 0 {
                twins.check_all();
            }
        }
        twins.check_all();
        twins.shard.clear();
        twins.model.clear();
        twins.check_all();
        while twins.shard.maintain(twins.now) {}
        (0..STEPS / 4).for_each(|_| twins.step(&mut random, keys, 40_000));
        twins.check_all();
    }
}

#[test]
fn under_pressure_a_key_has_its_value_or_none_and_the_budget_holds() {
    for (index, (_, policy)) in Policy::NAMES.iter().enumerate() {
        let budget = 4 * MIB;
        let mut twins = Twins::new(budget, *policy);
        let mut random = Random(index as u64);
        for step in 0..STEPS {
            twins.step(&mut random, 100_000, 100_000);
            if step % 64 == 0 {
                twins.shard.maintain(twins.now);
            }
            let used = twins.shard.stats().used_bytes;
            // A change of expiry is never refused: it may open a segment for each class and queue.
            assert!(used <= budget + 14 * 8192, "{policy:?}: {used} bytes after {step} steps");
        }
        twins.check_all();
    }
}

/// Distinct keys with values of their own, far more than fit.
fn churn(shard: &mut Shard, from: u64, to: u64, len: usize, expires_at: impl Fn(u64) -> UnixMs) {
    for key in from..to {
        let expiry = match expires_at(key) {
            0 => Expiry::Never,
            at => Expiry::At(at),
        };
        let value = vec![key as u8; len];
        let stored = shard.set(&key.to_be_bytes(), NewValue::Copied(&value), expiry, When::Always, 1_000);
        assert_eq!(stored, Stored::Done { replaced: false });
    }
}

#[test]
fn a_full_cache_stays_full_of_live_items() {
    let mut cache = shard(8 * MIB, Policy::Cache);
    churn(&mut cache, 0, 200_000, 32, |_| 0);
    for round in 1..10 {
        churn(&mut cache, round * 200_000, (round + 1) * 200_000, 32, |_| 0);
        let stats = cache.stats();
        let held = stats.dataset_bytes + stats.keys * 20;
        assert!(held * 100 >= stats.used_bytes * 90, "{held} of {} after {round} rounds", stats.used_bytes);
        assert!(stats.used_bytes <= 8 * MIB);
    }
}

#[test]
fn no_more_large_items_go_than_have_to() {
    let mut cache = shard(64 * MIB, Policy::Cache);
    let value = Bytes::from(vec![1; 1 << 20]);
    for key in 0..500_u32 {
        let stored = cache.set(&key.to_be_bytes(), NewValue::Shared(&value), Expiry::Never, When::Always, 1_000);
        assert_eq!(stored, Stored::Done { replaced: false });
        cache.maintain(1_000);
        assert!(u64::from(key) < 60 || cache.len() >= 60, "{} items of 1 MiB in 64 MiB after {key}", cache.len());
    }
}

#[test]
fn one_item_takes_the_room_of_as_much_as_itself() {
    // Bytes of the items that are there, of the new one.
    for (len, new) in [(10_000_000, 10_000_000), (300_000, 4_000_000), (20_000, 100_000_000)] {
        let mut shard = shard(256 * MIB, Policy::Cache);
        let values = [Bytes::from(vec![1; len]), Bytes::from(vec![1; new])];
        let mut number = 0_u64;
        while shard.stats().evicted == 0 {
            let value = Bytes::from(values[0].to_vec());
            shard.set(&number.to_le_bytes(), NewValue::Shared(&value), Expiry::Never, When::Always, 1);
            shard.maintain(1);
            number += 1;
        }
        while shard.maintain(1) {}
        let before = shard.stats();
        let stored = shard.set(b"new", NewValue::Shared(&values[1]), Expiry::Never, When::Always, 1);
        assert_eq!(stored, Stored::Done { replaced: false });
        let gone = (shard.stats().evicted - before.evicted) * len as u64;
        assert!(gone <= new as u64 + 3 * len as u64, "{gone} bytes went for {new} with items of {len}");
        while shard.maintain(1) {}
        assert!(shard.stats().used_bytes <= 256 * MIB, "{}", shard.stats().used_bytes / MIB);
    }
}

#[test]
fn what_was_deleted_is_room_and_no_more_than_that() {
    let mut shard = shard(256 * MIB, Policy::NoEviction);
    let set = |shard: &mut Shard, number: u64| {
        let value = Bytes::from(vec![1; 10_000_000]);
        shard.set(&number.to_le_bytes(), NewValue::Shared(&value), Expiry::Never, When::Always, 1)
    };
    let count = (0..).find(|number| set(&mut shard, *number) == Stored::OutOfMemory).unwrap();
    (0..count).for_each(|number| assert!(shard.delete(&number.to_le_bytes(), 1)));
    let again = (0..).find(|number| set(&mut shard, *number) == Stored::OutOfMemory).unwrap();
    assert_eq!(again, count);
    assert!(shard.stats().used_bytes <= 256 * MIB);
}

#[test]
fn a_clear_of_many_large_items_takes_a_time_that_is_theirs() {
    let mut shard = shard(u64::MAX, Policy::Cache);
    let value = Bytes::from(vec![1; LARGE_VALUE_BYTES]);
    for number in 0..20_000_u64 {
        shard.set(&number.to_le_bytes(), NewValue::Shared(&value), Expiry::Never, When::Always, 1);
    }
    shard.clear();
    let calls = (0..).find(|_| !shard.maintain(1)).unwrap();
    assert!(calls < 20_000 / 16 + 200, "{calls}");
    assert!(shard.stats().used_bytes < 4 * MIB, "{}", shard.stats().used_bytes);
    shard.set(b"key", NewValue::Copied(b"value"), Expiry::Never, When::Always, 1);
    assert_eq!(shard.random_key(1), Some(&b"key"[..]));
}

#[test]
fn overwriting_with_other_sizes_leaves_little_behind() {
    // Without a budget, segments are large, and some may be dead before it pays to clean up.
    for (budget, percent) in [(u64::MAX, 55), (32 * MIB, 70)] {
        let (mut cache, mut random) = (shard(budget, Policy::Cache), Random(1));
        for _ in 0..300_000 {
            let (key, value) = (random.below(50_000).to_be_bytes(), vec![0; random.below(400) as usize]);
            let is_due = budget == u64::MAX && cache.needs_cleaning();
            cache.set(&key, NewValue::Copied(&value), Expiry::Never, When::Always, 1_000);
            assert!(!is_due || cache.work.records > 0, "cleaning was put off, which is not ahead of need");
        }
        let stats = cache.stats();
        let held = stats.dataset_bytes + stats.keys * 20;
        assert!(held * 100 >= stats.used_bytes * percent, "{held} of {}", stats.used_bytes);
        assert!(stats.keys > 49_000, "hardly anything had to go: {}", stats.keys);
    }
}

#[test]
fn what_may_evict_refuses_nothing_that_fits() {
    // Values that grow leave dead records in every segment: much is gathered at the moment when room runs short.
    let (budget, rounds) = if cfg!(miri) { (4 * MIB, 1) } else { (58 * MIB, 6) };
    for seed in [1, 4] {
        for policy in [Policy::Cache, Policy::AllKeysLru, Policy::AllKeysRandom] {
            let mut cache = Shard::new(ShardOptions { seed, ..options(budget, policy) });
            let keys = budget / 1600;
            for number in 0..keys * rounds {
                let value = vec![0; 16 + (number * 400 / keys) as usize % 4_000];
                let key = (number % keys).to_be_bytes();
                let stored = cache.set(&key, NewValue::Copied(&value), Expiry::Never, When::Always, 1_000);
                assert_ne!(stored, Stored::OutOfMemory, "{policy:?}, seed {seed}, after {number}");
                if number % 128 == 0 {
                    cache.maintain(1_000);
                }
            }
            // What one call may not do any more the next ones do.
            assert!(cache.stats().used_bytes <= budget + budget / 128, "{policy:?}: {:?}", cache.stats());
            while cache.maintain(1_000) {}
            assert!(cache.stats().used_bytes <= budget, "{policy:?}: {:?}", cache.stats());
        }
    }
}

#[test]
fn used_items_stay_and_others_go() {
    for policy in [Policy::Cache, Policy::AllKeysLru, Policy::AllKeysLfu] {
        let mut cache = shard(4 * MIB, policy);
        churn(&mut cache, 0, 10_000, 32, |_| 0);
        for round in 1..40 {
            for key in 0..10_000_u64 {
                cache.get(&key.to_be_bytes(), 1_000);
            }
            churn(&mut cache, round * 10_000, (round + 1) * 10_000, 32, |_| 0);
        }
        let left = (0..10_000_u64).filter(|key| cache.peek(&key.to_be_bytes(), 1_000).is_some()).count();
        assert!(left > 9_900, "{policy:?}: {left} of 10,000 used items are left");
    }
}

#[test]
fn only_items_with_an_expiry_go_under_a_volatile_policy() {
    for policy in [Policy::VolatileLru, Policy::VolatileLfu, Policy::VolatileTtl, Policy::VolatileRandom] {
        let mut cache = shard(4 * MIB, policy);
        churn(&mut cache, 0, 10_000, 32, |_| 0);
        churn(&mut cache, 10_000, 200_000, 32, |key| 1_000_000 + key);
        let left = (0..10_000_u64).filter(|key| cache.peek(&key.to_be_bytes(), 1_000).is_some()).count();
        assert_eq!(left, 10_000, "{policy:?}");
        assert!(cache.stats().evicted > 100_000);
    }
}

/// Index entries that one call may move, and records that it may look at.
const MOVED_MAX: usize = 1024;
const LOOKED_AT_MAX: usize = 64;

#[test]
fn no_call_does_more_than_a_slice() {
    // Room for about half of what comes; none of it expires, or all of it in two bursts.
    let count = 400_000;
    for (budget, ttl) in [(u64::MAX, 0), (16 * MIB, 0), (u64::MAX, 1_000), (16 * MIB, 1_000)] {
        let mut cache = shard(budget, Policy::Cache);
        let (mut moved, mut looked_at, mut calls) = (0, 0, 0);
        let mut see = |cache: &Shard| {
            (moved, looked_at) = (cache.index.moved.max(moved), cache.work.records.max(looked_at));
            calls += 1;
        };
        for key in 0..count {
            // Half of the items live to the end of the first half, the others to the end of the second.
            let now = 10_000 + key / (count / 2) * ttl;
            let expiry = if ttl == 0 { Expiry::Never } else { Expiry::At(now + ttl) };
            let value = NewValue::Copied(&[7; 32]);
            cache.set(format!("key:{key:012}").as_bytes(), value, expiry, When::Always, now);
            see(&cache);
            if key % 16 == 0 {
                cache.maintain(now);
                see(&cache);
            }
        }
        cache.set_budget(budget.min(4 * MIB));
        let end = 10_000 + 2 * ttl;
        for now in end.. {
            let has_more = cache.maintain(now);
            see(&cache);
            if !has_more && (ttl == 0 || cache.len() == 0) {
                break;
            }
        }
        for key in 0..count {
            cache.delete(format!("key:{key:012}").as_bytes(), end);
            see(&cache);
        }
        assert!(calls > count);
        assert!((300..=MOVED_MAX).contains(&moved), "{moved} entries moved in one call");
        assert!(looked_at <= LOOKED_AT_MAX, "{looked_at} records looked at in one call");
        let is_looking = ttl != 0 || budget != u64::MAX;
        assert!(!is_looking || looked_at > 8, "{looked_at} records: the bound was never near");
    }
}

#[test]
#[cfg_attr(miri, ignore = "many steps")]
fn no_pipeline_brings_much_more_work_than_others() {
    const PIPELINE: usize = 32;
    let (mut cache, mut sums) = (shard(64 * MIB, Policy::Cache), Vec::new());
    let (mut looked_at, mut moved) = (0, 0);
    for key in 0..3_000_000_u64 {
        cache.set(&key.to_le_bytes(), NewValue::Copied(&[7; 64]), Expiry::Never, When::Always, 1);
        (looked_at, moved) = (looked_at + cache.work.records, moved + cache.index.moved);
        if key % PIPELINE as u64 == 0 {
            sums.push((looked_at, moved));
            (looked_at, moved) = (0, 0);
            cache.maintain(1);
        }
    }
    assert!(cache.stats().evicted > 2_000_000);
    // Evicting takes a record for each item that comes, and some of it is ahead of need; a unit or two migrate.
    let mut at_most = |part: fn(&(usize, usize)) -> usize| {
        sums.sort_unstable_by_key(part);
        part(&sums[sums.len() - sums.len() / 1_000])
    };
    let (looked_at, moved) = (at_most(|sum| sum.0), at_most(|sum| sum.1));
    assert!((PIPELINE..4 * PIPELINE).contains(&looked_at), "{looked_at} records looked at for {PIPELINE} items");
    assert!((300..1_000).contains(&moved), "{moved} entries moved for {PIPELINE} items");
}

#[test]
fn what_has_expired_goes_without_being_asked_for() {
    let mut cache = shard(u64::MAX, Policy::NoEviction);
    churn(&mut cache, 0, 100_000, 32, |key| if key % 2 == 0 { 2_000 + key % 7 } else { 0 });
    assert_eq!(cache.stats().expires, 50_000);
    for now in 2_010..12_000 {
        cache.maintain(now);
        if cache.len() == 50_000 {
            break;
        }
    }
    let stats = cache.stats();
    assert_eq!((stats.keys, stats.expires, stats.expired), (50_000, 0, 50_000));
}

#[test]
fn a_clear_gives_memory_back() {
    let mut cache = shard(u64::MAX, Policy::NoEviction);
    churn(&mut cache, 0, 200_000, 100, |_| 0);
    let large = Bytes::from(vec![1; 1 << 20]);
    for key in 0..20_u32 {
        let key = key.to_be_bytes();
        cache.set(&key, NewValue::Shared(&large), Expiry::Never, When::Always, 1_000);
    }
    assert!(cache.stats().used_bytes > 40 * MIB);
    cache.clear();
    assert_eq!(cache.len(), 0);
    let slices = (0..10_000).take_while(|_| cache.maintain(1_000)).count();
    assert!(slices > 10, "it is done in slices");
    assert!(cache.stats().used_bytes < 6 * MIB, "{}", cache.stats().used_bytes);
    churn(&mut cache, 0, 200_000, 100, |_| 0);
    assert_eq!(cache.len(), 200_000);
}

#[test]
fn lowering_the_budget_shrinks_in_slices() {
    let mut cache = shard(64 * MIB, Policy::Cache);
    churn(&mut cache, 0, 300_000, 100, |_| 0);
    let before = cache.stats();
    assert!(before.used_bytes > 32 * MIB);
    cache.set_budget(8 * MIB);
    assert_eq!(cache.stats().keys, before.keys);
    while cache.maintain(1_000) {}
    let after = cache.stats();
    assert!(after.used_bytes <= 8 * MIB && after.keys > 20_000, "{after:?}");
}

#[test]
fn a_budget_far_from_the_first_is_used_all_the_same() {
    let mut cache = shard(1024 * MIB, Policy::Cache);
    churn(&mut cache, 0, 300_000, 100, |_| 0);
    let large = Bytes::from(vec![1; 1 << 20]);
    (0..20_u32).for_each(|key| {
        cache.set(&key.to_be_bytes(), NewValue::Shared(&large), Expiry::Never, When::Always, 1_000);
    });
    let before = cache.stats();
    assert!(before.used_bytes > 50 * MIB, "{before:?}");
    cache.resize(4 * MIB);
    assert_eq!(cache.stats().keys + cache.stats().evicted, before.keys);
    let slices = (0..10_000).take_while(|_| cache.maintain(1_000)).count();
    let after = cache.stats();
    assert!(slices > 100 && after.used_bytes < 4 * MIB, "{slices} {after:?}");
    churn(&mut cache, 0, 300_000, 100, |_| 0);
    let after = cache.stats();
    assert!(after.used_bytes <= 4 * MIB + MIB / 8 && after.keys > 20_000, "{after:?}");
    // Back again, with what it holds; and empty.
    cache.resize(1024 * MIB);
    assert!(cache.stats().keys == after.keys && cache.log.segment_bytes() < 1 << 20);
    // What fits stays where the segments are not far too large.
    let mut small = shard(1024 * MIB, Policy::Cache);
    churn(&mut small, 0, 1_000, 100, |_| 0);
    small.resize(12 * MIB);
    while small.maintain(1_000) {}
    assert_eq!(small.len(), 1_000);
    cache.clear();
    cache.resize(512 * MIB);
    assert_eq!(cache.log.segment_bytes(), 1 << 20);
}

/// Stores a value of 1 MiB or so, which has to be accepted.
fn set_large(cache: &mut Shard, key: u64, bytes: usize) {
    let value = Bytes::from(vec![1; bytes]);
    let stored = cache.set(&key.to_be_bytes(), NewValue::Shared(&value), Expiry::Never, When::Always, 1_000);
    assert!(matches!(stored, Stored::Done { .. }), "{key}: {stored:?}");
}

#[test]
fn what_is_only_to_be_given_back_refuses_and_displaces_nothing() {
    for large in [false, true] {
        let mut cache = shard(256 * MIB, Policy::Cache);
        match large {
            false => churn(&mut cache, 0, 2_000_000, 100, |_| 0),
            true => (0..25).for_each(|key| set_large(&mut cache, key, 10 << 20)),
        }
        assert!(cache.stats().used_bytes > 200 * MIB);
        cache.resize(2 * MIB);
        for key in 0..1_000_u64 {
            churn(&mut cache, key, key + 1, 100, |_| 0);
            cache.maintain(1_000);
        }
        assert_eq!(cache.len(), 1_000, "large: {large}");
    }
    let mut cache = shard(256 * MIB, Policy::Cache);
    (0..25).for_each(|key| set_large(&mut cache, key, 10 << 20));
    cache.clear();
    (0..10).for_each(|key| set_large(&mut cache, key, 10 << 20));
    assert_eq!(cache.len(), 10);
}

#[test]
fn what_is_on_its_way_changes_nothing() {
    let mut cache = shard(64 * MIB, Policy::Cache);
    (0..100).for_each(|key| set_large(&mut cache, key, if key % 2 == 0 { 100 } else { 20_000 }));
    cache.delete(&1_u64.to_be_bytes(), 1_000);
    let before = cache.stats();
    // More than go together, and some that are not there.
    let hashes: Vec<_> = (0_u64..120).map(|key| cache.hash(&key.to_be_bytes())).collect();
    cache.prefetch(&hashes);
    cache.prefetch(&[]);
    assert_eq!(format!("{:?}", cache.stats()), format!("{before:?}"));
}

#[test]
fn large_items_displace_small_ones_within_the_budget() {
    let budget = 64 * MIB;
    let mut cache = shard(budget, Policy::Cache);
    churn(&mut cache, 0, 600_000, 100, |_| 0);
    for key in 0..128 {
        set_large(&mut cache, 1 << 40 | key, 1 << 20);
        cache.maintain(1_000);
        let used = cache.stats().used_bytes;
        assert!(used < budget + budget / 16 + MIB, "{key}: {used}");
    }
}

#[test]
fn large_items_that_are_not_asked_for_go_before_small_ones_that_are() {
    let mut cache = shard(64 * MIB, Policy::Cache);
    let hot = 100_000_u64;
    churn(&mut cache, 0, hot, 100, |_| 0);
    for round in 0..400 {
        (0..hot).step_by(if round % 10 == 0 { 1 } else { 100 }).for_each(|key| {
            cache.get(&key.to_be_bytes(), 1_000);
        });
        set_large(&mut cache, 1 << 40 | round, 1 << 20);
        while cache.maintain(1_000) {}
    }
    let left = (0..hot).filter(|key| cache.peek(&key.to_be_bytes(), 1_000).is_some()).count();
    assert!(left > 95_000, "{left} of {hot}");
}

#[test]
fn a_large_value_that_is_replaced_again_and_again_takes_the_room_of_a_few() {
    let mut cache = shard(u64::MAX, Policy::NoEviction);
    for _ in 0..100 {
        set_large(&mut cache, 1, 1 << 20);
        cache.maintain(1_000);
        assert!(cache.stats().used_bytes < 5 * MIB, "{}", cache.stats().used_bytes);
    }
}

#[test]
fn another_policy_spares_what_was_about_to_go() {
    for (policy, lost_max) in [(Policy::NoEviction, 0), (Policy::VolatileLru, 0), (Policy::AllKeysRandom, u64::MAX)] {
        let mut cache = shard(8 * MIB, Policy::AllKeysLru);
        churn(&mut cache, 0, 100_000, 100, |_| 0);
        let evicted = cache.stats().evicted;
        cache.set_policy(policy);
        for key in 200_000..201_000_u64 {
            cache.set(&key.to_be_bytes(), NewValue::Copied(&[1; 100]), Expiry::Never, When::Always, 1_000);
            cache.maintain(1_000);
        }
        assert!(evicted > 0 && cache.stats().evicted - evicted <= lost_max, "{policy:?}");
    }
}

#[test]
fn a_far_lower_budget_takes_nothing_that_must_not_be_evicted() {
    for (policy, keys) in [(Policy::NoEviction, 20_000), (Policy::VolatileLru, 10_000)] {
        let mut cache = shard(1024 * MIB, policy);
        churn(&mut cache, 0, 20_000, 100, |key| if key % 2 == 0 { 0 } else { 100_000 });
        cache.resize(MIB);
        (0..10_000).take_while(|_| cache.maintain(1_000)).count();
        assert_eq!(cache.stats().keys, keys, "{policy:?}");
    }
}

#[test]
fn a_scan_shows_whatever_stays_while_the_table_grows_and_shrinks() {
    let mut cache = shard(u64::MAX, Policy::NoEviction);
    let stays = 5_000;
    churn(&mut cache, 0, stays, 8, |_| 0);
    let mut seen = std::collections::HashSet::new();
    let (mut cursor, mut next, mut gone) = (0, stays, stays);
    let mut calls = 0_u64;
    loop {
        cursor = cache.scan(cursor, 10, 1_000, &mut |item| _ = seen.insert(item.key.to_vec()));
        if cursor == 0 {
            break;
        }
        calls += 1;
        // Grow for a while, then shrink, again and again.
        if (calls / 40).is_multiple_of(2) {
            churn(&mut cache, next, next + 300, 8, |_| 0);
            next += 300;
        } else {
            (gone..next.min(gone + 400)).for_each(|key| assert!(cache.delete(&key.to_be_bytes(), 1_000)));
            gone = next.min(gone + 400);
        }
    }
    assert!(calls > 200, "{calls} calls");
    let missed = (0..stays).filter(|key| !seen.contains(&key.to_be_bytes()[..])).count();
    assert_eq!(missed, 0);
}

#[test]
fn look_ups_touch_the_right_item() {
    let items: u64 = if cfg!(miri) { 500 } else { 300_000 };
    let mut shard = shard(u64::MAX, Policy::Cache);
    for number in 0..items {
        shard.set(&number.to_le_bytes(), NewValue::Copied(b""), Expiry::Never, When::Always, 1);
    }
    let mut wrong = 0;
    for number in 0..2 * items {
        let (shard, key) = (&shard, number.to_le_bytes());
        shard.index.find(shard.hash(&key), |location| {
            let is_it = shard.log.record(location).key == key;
            wrong += u64::from(!is_it);
            is_it
        });
    }
    assert!(wrong <= 2 * items / 50, "{wrong} wrong items touched by {} look-ups", 2 * items);
}

#[test]
fn a_cache_whose_items_were_all_used_makes_room_for_new_ones() {
    let (budget, items) = if cfg!(miri) { (MIB, 1_000) } else { (64 * MIB, 700_000) };
    for policy in [Policy::Cache, Policy::AllKeysLru, Policy::AllKeysLfu] {
        let mut cache = shard(budget, policy);
        churn(&mut cache, 0, items, 32, |_| 0);
        for key in (0..items).cycle().take(items as usize * 3) {
            cache.get(&key.to_be_bytes(), 1_000);
        }
        let mut peak_bytes = 0;
        for key in items..3 * items {
            let stored = cache.set(&key.to_be_bytes(), NewValue::Copied(&[7; 32]), Expiry::Never, When::Always, 1_000);
            assert_eq!(stored, Stored::Done { replaced: false });
            peak_bytes = cache.stats().used_bytes.max(peak_bytes);
        }
        assert!(peak_bytes * 100 <= budget * 104, "{policy:?}: {peak_bytes} of {budget} bytes");
    }
}

#[test]
fn what_has_expired_at_once_goes_at_once() {
    let mut cache = shard(u64::MAX, Policy::Cache);
    // Segments of long-lived items lie before those of the others.
    churn(&mut cache, 0, 100_000, 32, |_| 80_000_000);
    churn(&mut cache, 100_000, 200_000, 32, |_| 2_000);
    let slices = (0..100_000).take_while(|_| cache.maintain(2_000)).count();
    assert_eq!(cache.len(), 100_000, "after {slices} slices, within a millisecond");
}

#[test]
fn a_clock_that_steps_back_loses_nothing() {
    let mut cache = shard(u64::MAX, Policy::Cache);
    churn(&mut cache, 0, 10_000, 32, |_| 2_000);
    // Its segment is being emptied when the time is earlier again.
    cache.maintain(2_000);
    let left = cache.len();
    assert!(left < 10_000, "some have expired");
    (0..10_000).for_each(|_| _ = cache.maintain(1_500));
    assert_eq!((cache.len(), cache.stats().evicted), (left, 0));
}

#[test]
fn with_few_addresses_items_are_evicted_long_before_the_budget_is_used_up() {
    for budget in [1 << 40, u64::MAX] {
        let mut cache = Shard::new(ShardOptions { address_bytes: 32 * MIB, ..options(budget, Policy::Cache) });
        let most = cache.budget_max();
        assert!((7 * MIB..8 * MIB).contains(&most), "a quarter, but for what may be held beyond it: {most}");
        // Everything is stored, large or small, and raising the budget changes nothing.
        churn(&mut cache, 0, 300_000, 64, |_| 0);
        cache.set_budget(budget / 2);
        churn(&mut cache, 300_000, 301_000, 40_000, |_| 0);
        cache.resize(budget);
        churn(&mut cache, 400_000, 700_000, 64, |_| 0);
        assert!(cache.stats().evicted > 500_000, "{:?}", cache.stats());
        assert!(cache.used_bytes() <= most + most / 32 && cache.room_bytes() == most, "{:?}", cache.stats());
    }
}

/// A log is cleared without a look at its segments, again and again, and while others of them are free.
#[test]
fn what_was_cleared_is_filled_again_and_given_back() {
    let mut cache = shard(2 * MIB, Policy::Cache);
    churn(&mut cache, 0, 100, 64, |_| 0);
    // Its segments stay as small as that.
    cache.resize(64 * MIB);
    for round in 1..20 {
        let from = round * 10_000_000;
        churn(&mut cache, from, from + 40_000 * (round % 7), 500, |key| key % 2 * 2_000);
        if round % 3 == 0 {
            (0..1000 * round).for_each(|_| _ = cache.maintain(1_000));
        }
        let held = cache.used_bytes();
        cache.clear();
        assert_eq!((cache.len(), cache.get(&from.to_be_bytes(), 1_000).is_some()), (0, false));
        assert!(cache.used_bytes() <= held, "what is to be given back counts until it was");
        if round % 5 == 0 {
            cache.clear();
        }
    }
    // Policies that look for segments themselves find none that was cleared.
    for policy in [Policy::VolatileTtl, Policy::AllKeysRandom] {
        cache.set_policy(policy);
        churn(&mut cache, 0, 200_000, 500, |_| 2_000);
        assert!(cache.stats().evicted > 0 && cache.used_bytes() < 66 * MIB, "{:?}", cache.stats());
        cache.clear();
        while cache.maintain(3_000) {}
        assert!(cache.used_bytes() < 4 * MIB, "{} bytes", cache.used_bytes());
    }
}

#[test]
fn where_nothing_may_be_evicted_room_is_what_does_not_live() {
    let mut cache = shard(4 * MIB, Policy::NoEviction);
    let room = cache.room_bytes();
    assert_eq!(room, 4 * MIB);
    churn(&mut cache, 0, 30_000, 64, |_| 0);
    assert!(cache.room_bytes() < 2 * MIB, "{} bytes", cache.room_bytes());
    // What is freed in slices later has no part in it.
    cache.clear();
    assert_eq!(cache.room_bytes(), room);
    cache.set_policy(Policy::Cache);
    churn(&mut cache, 0, 100, 64, |_| 0);
    assert_eq!(cache.room_bytes(), cache.budget_max(), "the others can go");
}
