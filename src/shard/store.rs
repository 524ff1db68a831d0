//! A straightforward store: items in numbered places, a hash table from key to place, expiries in order.
//!
//! In and out: see [`shard`](super). What must stay true: every occupied place is in the table exactly once, and in
//! the expiries exactly if its item has one; an item keeps its place as long as it lives, so that a scan by place
//! shows every item that is there throughout; `used_bytes` is the sum of [`Entry::memory_bytes`].

use std::collections::BTreeSet;

use ahash::RandomState;
use bytes::Bytes;
use hashbrown::HashTable;
use slab::Slab;

use super::{
    Expiry, Item, KeyHash, LARGE_VALUE_BYTES, NewValue, ShardOptions, ShardStats, Stored, TimeToLive, UnixMs, When,
};
use crate::config::Policy;

/// Items looked at for each eviction: the best of this many is evicted.
const SAMPLES: usize = 16;

/// Items expired, and items freed after a clear, in one call of [`Shard::maintain`].
const EXPIRE_PER_CALL: usize = 64;
const FREE_PER_CALL: usize = 256;

/// Bytes of an item beyond key and value: its place, its table slot, two allocations' headers.
const ITEM_OVERHEAD_BYTES: usize = size_of::<Entry>() + 5 + 32;

/// The access counter of a new item, as Redis starts its LFU counter, so that it is not the first to go.
const FREQUENCY_NEW: u8 = 5;

#[derive(Debug)]
enum Value {
    Small(Box<[u8]>),
    Large(Bytes),
}

impl Value {
    fn new(value: NewValue<'_>) -> Self {
        match value {
            NewValue::Shared(bytes) if bytes.len() >= LARGE_VALUE_BYTES => Value::Large(bytes.clone()),
            NewValue::Copied(bytes) if bytes.len() >= LARGE_VALUE_BYTES => Value::Large(Bytes::copy_from_slice(bytes)),
            NewValue::Shared(bytes) => Value::Small(bytes[..].into()),
            NewValue::Copied(bytes) => Value::Small(bytes.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Value::Small(bytes) => bytes,
            Value::Large(bytes) => bytes,
        }
    }
}

#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    value: Value,
    /// Zero: never.
    expires_at: UnixMs,
    version: u64,
    accessed_at: UnixMs,
    frequency: u8,
}

impl Entry {
    fn is_expired(&self, now: UnixMs) -> bool {
        self.expires_at != 0 && self.expires_at <= now
    }

    fn memory_bytes(&self) -> usize {
        self.key.len() + self.value.bytes().len() + ITEM_OVERHEAD_BYTES
    }

    fn item(&self) -> Item<'_> {
        Item {
            key: &self.key,
            value: self.value.bytes(),
            shared: match &self.value {
                Value::Large(bytes) => Some(bytes),
                Value::Small(_) => None,
            },
            expires_at: (self.expires_at != 0).then_some(self.expires_at),
            version: self.version,
            frequency: self.frequency,
            accessed_at: self.accessed_at,
            memory_bytes: self.memory_bytes(),
        }
    }
}

/// One worker's items.
#[derive(Debug)]
pub struct Shard {
    entries: Slab<Entry>,
    table: HashTable<u32>,
    expiries: BTreeSet<(UnixMs, u32)>,
    /// Entries of a cleared shard, being freed.
    garbage: Vec<Entry>,
    hasher: RandomState,
    budget_bytes: u64,
    policy: Policy,
    version_last: u64,
    random: u64,
    stats: ShardStats,
    /// Sum of all expiries, for the mean.
    expiry_sum: u128,
    now_seen: UnixMs,
}

impl Shard {
    /// An empty shard.
    pub fn new(options: ShardOptions) -> Self {
        let seed = options.seed;
        Self {
            entries: Slab::new(),
            table: HashTable::new(),
            expiries: BTreeSet::new(),
            garbage: Vec::new(),
            hasher: RandomState::with_seeds(seed, !seed, seed.rotate_left(17), seed.rotate_left(43)),
            budget_bytes: options.budget_bytes,
            policy: options.policy,
            version_last: 0,
            random: seed | 1,
            stats: ShardStats::default(),
            expiry_sum: 0,
            now_seen: 0,
        }
    }

    /// The hash that every look-up of `key` begins with.
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(self.hasher.hash_one(key))
    }

    /// Brings what a look-up of this hash will touch towards the cache. Never changes a result.
    pub fn prefetch(&self, _hash: KeyHash) {}

    fn find(&self, key: &[u8]) -> Option<usize> {
        let hash = self.hash(key).0;
        self.table.find(hash, |place| *self.entries[*place as usize].key == *key).map(|place| *place as usize)
    }

    fn find_live(&self, key: &[u8], now: UnixMs) -> Option<usize> {
        self.find(key).filter(|place| !self.entries[*place].is_expired(now))
    }

    /// Finds a key, removing it when its time has come.
    fn find_or_expire(&mut self, key: &[u8], now: UnixMs) -> Option<usize> {
        self.now_seen = now;
        let place = self.find(key)?;
        if !self.entries[place].is_expired(now) {
            return Some(place);
        }
        self.remove(place);
        self.stats.expired += 1;
        None
    }

    /// Looks a key up as a client's read: counts a hit or a miss and raises the item's frequency.
    pub fn get(&mut self, key: &[u8], now: UnixMs) -> Option<Item<'_>> {
        let Some(place) = self.find_or_expire(key, now) else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        let entry = &mut self.entries[place];
        entry.frequency = entry.frequency.saturating_add(1);
        entry.accessed_at = now;
        Some(self.entries[place].item())
    }

    /// Looks a key up without leaving a trace (`OBJECT`, `CLIENT NO-TOUCH`, conditions of writes).
    pub fn peek(&self, key: &[u8], now: UnixMs) -> Option<Item<'_>> {
        self.find_live(key, now).map(|place| self.entries[place].item())
    }

    /// Stores a value.
    pub fn set(&mut self, key: &[u8], value: NewValue<'_>, expiry: Expiry, when: When, now: UnixMs) -> Stored {
        let place = self.find_or_expire(key, now);
        let is_refused = match when {
            When::Always => false,
            When::Absent => place.is_some(),
            When::Present => place.is_none(),
        };
        if is_refused {
            return Stored::Refused;
        }
        let len = match value {
            NewValue::Copied(bytes) => bytes.len(),
            NewValue::Shared(bytes) => bytes.len(),
        };
        let old_bytes = place.map_or(0, |place| self.entries[place].memory_bytes());
        let needed = (key.len() + len + ITEM_OVERHEAD_BYTES).saturating_sub(old_bytes);
        if !self.make_room(needed as u64, place) {
            return Stored::OutOfMemory;
        }
        let replaced = place.is_some();
        let kept = place.map_or(0, |place| self.entries[place].expires_at);
        let expires_at = match expiry {
            Expiry::Never => 0,
            Expiry::Keep => kept,
            Expiry::At(at) => at,
        };
        match place {
            Some(place) => self.overwrite(place, Value::new(value), now),
            None => self.insert(key, Value::new(value), now),
        };
        let place = self.find(key).expect("just stored");
        self.change_expiry(place, expires_at);
        Stored::Done { replaced }
    }

    fn insert(&mut self, key: &[u8], value: Value, now: UnixMs) {
        self.version_last += 1;
        let entry = Entry {
            key: key.into(),
            value,
            expires_at: 0,
            version: self.version_last,
            accessed_at: now,
            frequency: FREQUENCY_NEW,
        };
        self.stats.used_bytes += entry.memory_bytes() as u64;
        self.stats.dataset_bytes += (entry.key.len() + entry.value.bytes().len()) as u64;
        self.stats.keys += 1;
        let place = self.entries.insert(entry) as u32;
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash = |place: &u32| hasher.hash_one(&*entries[*place as usize].key);
        self.table.insert_unique(hash(&place), place, hash);
    }

    fn overwrite(&mut self, place: usize, value: Value, now: UnixMs) {
        self.version_last += 1;
        let entry = &mut self.entries[place];
        let (old, new) = (entry.value.bytes().len() as u64, value.bytes().len() as u64);
        self.stats.used_bytes = self.stats.used_bytes - old + new;
        self.stats.dataset_bytes = self.stats.dataset_bytes - old + new;
        entry.value = value;
        entry.version = self.version_last;
        entry.accessed_at = now;
    }

    fn change_expiry(&mut self, place: usize, expires_at: UnixMs) {
        let entry = &mut self.entries[place];
        let old = std::mem::replace(&mut entry.expires_at, expires_at);
        if old != 0 {
            self.expiries.remove(&(old, place as u32));
            self.expiry_sum -= u128::from(old);
        }
        if expires_at != 0 {
            self.expiries.insert((expires_at, place as u32));
            self.expiry_sum += u128::from(expires_at);
        }
    }

    fn remove(&mut self, place: usize) {
        self.change_expiry(place, 0);
        let entry = self.entries.remove(place);
        let hash = self.hash(&entry.key).0;
        if let Ok(found) = self.table.find_entry(hash, |other| *other as usize == place) {
            found.remove();
        }
        self.stats.keys -= 1;
        self.stats.used_bytes -= entry.memory_bytes() as u64;
        self.stats.dataset_bytes -= (entry.key.len() + entry.value.bytes().len()) as u64;
    }

    /// Rewrites a value as `change` of the old one; its expiry stays.
    fn rewrite(&mut self, key: &[u8], now: UnixMs, change: impl FnOnce(&mut Vec<u8>)) -> Option<usize> {
        let old = self.find_or_expire(key, now).map(|place| self.entries[place].value.bytes());
        let mut bytes = old.unwrap_or_default().to_vec();
        change(&mut bytes);
        let len = bytes.len();
        let value = Bytes::from(bytes);
        match self.set(key, NewValue::Shared(&value), Expiry::Keep, When::Always, now) {
            Stored::Done { .. } => Some(len),
            Stored::Refused | Stored::OutOfMemory => None,
        }
    }

    /// Appends to a value, creating it if absent; its expiry stays. The new length, or `None` when out of memory.
    pub fn append(&mut self, key: &[u8], tail: &[u8], now: UnixMs) -> Option<usize> {
        self.rewrite(key, now, |value| value.extend_from_slice(tail))
    }

    /// Overwrites a value from `offset` on, padding with zero bytes; its expiry stays. The new length, or `None` when
    /// out of memory.
    pub fn set_range(&mut self, key: &[u8], offset: usize, bytes: &[u8], now: UnixMs) -> Option<usize> {
        self.rewrite(key, now, |value| {
            value.resize(value.len().max(offset + bytes.len()), 0);
            value[offset..offset + bytes.len()].copy_from_slice(bytes);
        })
    }

    /// Removes a key; whether it was there.
    pub fn delete(&mut self, key: &[u8], now: UnixMs) -> bool {
        let place = self.find_or_expire(key, now);
        place.into_iter().for_each(|place| self.remove(place));
        place.is_some()
    }

    /// When a key expires.
    pub fn time_to_live(&self, key: &[u8], now: UnixMs) -> TimeToLive {
        match self.find_live(key, now).map(|place| self.entries[place].expires_at) {
            None => TimeToLive::Missing,
            Some(0) => TimeToLive::Forever,
            Some(at) => TimeToLive::At(at),
        }
    }

    /// Sets or removes a key's expiry; a time not after `now` deletes the key. Whether the key was there.
    pub fn set_expiry(&mut self, key: &[u8], expires_at: Option<UnixMs>, now: UnixMs) -> bool {
        let Some(place) = self.find_or_expire(key, now) else { return false };
        match expires_at {
            Some(at) if at <= now => self.remove(place),
            _ => self.change_expiry(place, expires_at.unwrap_or(0)),
        }
        true
    }

    /// Shows some items, about `count`, and returns the cursor to go on with; 0 starts and ends. An item present from
    /// the first call to the last is shown at least once. Cursors stay below 2^48.
    pub fn scan(&mut self, cursor: u64, count: usize, now: UnixMs, show: &mut dyn FnMut(&Item<'_>)) -> u64 {
        let first = usize::try_from(cursor).unwrap_or(usize::MAX);
        let last = self.entries.capacity().min(first.saturating_add(count));
        for entry in (first..last).filter_map(|place| self.entries.get(place)) {
            if !entry.is_expired(now) {
                show(&entry.item());
            }
        }
        if last >= self.entries.capacity() { 0 } else { last as u64 }
    }

    /// Any one key.
    pub fn random_key(&mut self, now: UnixMs) -> Option<&[u8]> {
        let place = (0..SAMPLES).find_map(|_| self.sample().filter(|place| !self.entries[*place].is_expired(now)));
        let place =
            place.or_else(|| self.entries.iter().find(|(_, entry)| !entry.is_expired(now)).map(|(place, _)| place));
        place.map(|place| &*self.entries[place].key)
    }

    /// The first occupied place from a random one on, among a bounded number.
    fn sample(&mut self) -> Option<usize> {
        let capacity = self.entries.capacity();
        if self.entries.is_empty() {
            return None;
        }
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let start = (self.random >> 33) as usize % capacity;
        (start..capacity).take(64).find(|place| self.entries.contains(*place))
    }

    /// Number of keys, those past their expiry but not yet swept included.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Removes everything. What takes long is done in [`maintain`](Self::maintain).
    pub fn clear(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        self.garbage.extend(entries.into_iter().map(|(_, entry)| entry));
        self.table = HashTable::new();
        self.expiries = BTreeSet::new();
        self.expiry_sum = 0;
        self.stats.keys = 0;
        self.stats.used_bytes = 0;
        self.stats.dataset_bytes = 0;
    }

    /// One bounded slice of the work that is due: expiring, evicting ahead of need, freeing. Whether more is waiting.
    pub fn maintain(&mut self, now: UnixMs) -> bool {
        self.now_seen = now;
        for _ in 0..EXPIRE_PER_CALL {
            match self.expiries.first() {
                Some((at, place)) if *at <= now => {
                    self.remove(*place as usize);
                    self.stats.expired += 1;
                }
                _ => break,
            }
        }
        self.garbage.truncate(self.garbage.len().saturating_sub(FREE_PER_CALL));
        if self.garbage.is_empty() && self.garbage.capacity() > 0 {
            self.garbage = Vec::new();
        }
        let is_over = self.stats.used_bytes > self.budget_bytes && self.policy != Policy::NoEviction;
        let evicted = is_over && self.evict(None);
        let is_due = self.expiries.first().is_some_and(|(at, _)| *at <= now);
        is_due || evicted || !self.garbage.is_empty()
    }

    /// Evicts until `needed` more bytes fit; the item at `keep` stays.
    fn make_room(&mut self, needed: u64, keep: Option<usize>) -> bool {
        if needed > self.budget_bytes {
            return false;
        }
        while self.stats.used_bytes + needed > self.budget_bytes {
            if self.policy == Policy::NoEviction || !self.evict(keep) {
                return false;
            }
        }
        true
    }

    /// Evicts the best of a few candidates; false when there is none.
    fn evict(&mut self, keep: Option<usize>) -> bool {
        let mut best: Option<(u64, usize)> = None;
        for _ in 0..SAMPLES {
            let Some(place) = self.candidate() else { continue };
            let score = self.score(place);
            if Some(place) != keep && best.is_none_or(|(least, _)| score < least) {
                best = Some((score, place));
            }
        }
        let any = || self.entries.iter().map(|(place, _)| place).find(|place| Some(*place) != keep);
        let victim = match best {
            Some((_, place)) => Some(place),
            None if self.is_volatile() => {
                self.expiries.first().map(|(_, place)| *place as usize).filter(|p| Some(*p) != keep)
            }
            None => any(),
        };
        let Some(victim) = victim else { return false };
        self.remove(victim);
        self.stats.evicted += 1;
        true
    }

    fn is_volatile(&self) -> bool {
        use Policy::{VolatileLfu, VolatileLru, VolatileRandom, VolatileTtl};
        matches!(self.policy, VolatileLfu | VolatileLru | VolatileRandom | VolatileTtl)
    }

    fn candidate(&mut self) -> Option<usize> {
        let place = self.sample()?;
        (!self.is_volatile() || self.entries[place].expires_at != 0).then_some(place)
    }

    /// The lower, the sooner evicted.
    fn score(&self, place: usize) -> u64 {
        let entry = &self.entries[place];
        match self.policy {
            Policy::Cache | Policy::AllKeysLfu | Policy::VolatileLfu => {
                u64::from(entry.frequency) << 48 | entry.accessed_at & 0xFFFF_FFFF_FFFF
            }
            Policy::AllKeysLru | Policy::VolatileLru => entry.accessed_at,
            Policy::VolatileTtl => entry.expires_at,
            Policy::AllKeysRandom | Policy::VolatileRandom | Policy::NoEviction => 0,
        }
    }

    /// Changes the budget; shrinking happens in [`maintain`](Self::maintain).
    pub fn set_budget(&mut self, budget_bytes: u64) {
        self.budget_bytes = budget_bytes;
    }

    /// Changes the policy.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Counters and gauges, kept up to date; reading them costs nothing.
    pub fn stats(&self) -> ShardStats {
        let expires = self.expiries.len() as u64;
        let mean = if expires == 0 { 0 } else { (self.expiry_sum / u128::from(expires)) as u64 };
        ShardStats { expires, ttl_ms_mean: mean.saturating_sub(self.now_seen), ..self.stats }
    }

    /// Starts hits, misses, expired and evicted from zero (`CONFIG RESETSTAT`).
    pub fn reset_stats(&mut self) {
        let ShardStats { hits, misses, expired, evicted, .. } = &mut self.stats;
        (*hits, *misses, *expired, *evicted) = (0, 0, 0, 0);
    }
}
