//! A map that says what a shard should return, and operations made from bytes, for whoever comes up with the bytes.

use std::collections::HashMap;

use corering::config::Policy;
use corering::shard::{Attributes, Expiry, NewValue, Shard, ShardOptions, Stored, TimeToLive, When};

/// Bytes that an operation is made from.
const OPERATION_BYTES: usize = 6;

/// What a change of an expiry may take beyond the budget: it is never refused.
const BESIDE_BYTES: u64 = 256 * 1024;

/// Room is made ahead of need: the share of the budget that may be free when an item is evicted.
const AHEAD_SHARE: u64 = 8;

const WHEN: [When; 3] = [When::Always, When::Absent, When::Present];

#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    value: Vec<u8>,
    /// 0: never.
    expires_at: u64,
    /// Since it was written.
    is_read: bool,
}

struct Twins {
    shard: Shard,
    model: HashMap<[u8; 2], Known>,
    policy: Policy,
    budget_bytes: u64,
    now: u64,
    evicted: u64,
}

/// Makes a shard and operations from `bytes`, and checks each outcome. The first two bytes say the policy and the
/// budget.
///
/// # Panics
/// When an outcome is not what it should be.
pub(crate) fn check(bytes: &[u8]) {
    let [policy, mib, operations @ ..] = bytes else { return };
    let policy = Policy::NAMES[usize::from(*policy) % Policy::NAMES.len()].1;
    let budget_bytes = budget_bytes(*mib);
    let shard = Shard::new(ShardOptions { budget_bytes, address_bytes: u64::MAX, policy, huge_pages: false, seed: 1 });
    let mut twins = Twins { shard, model: HashMap::new(), policy, budget_bytes, now: 1_000_000, evicted: 0 };
    for operation in operations.chunks_exact(OPERATION_BYTES) {
        twins.step(operation.try_into().expect("chunks of that size"));
    }
    twins.check_all();
}

fn budget_bytes(mib: u8) -> u64 {
    if mib.is_multiple_of(5) { u64::MAX } else { u64::from(mib % 5) << 20 }
}

impl Twins {
    fn step(&mut self, operation: [u8; OPERATION_BYTES]) {
        let [kind, high, low, len, fill, time] = operation;
        let key = [high % 16, low];
        self.now += u64::from(time);
        self.check_key(key);
        // Most values are short, some have allocations of their own.
        let len = if len < 240 { usize::from(len) } else { usize::from(len - 239) * 3_000 };
        let value = vec![fill; len];
        let expires_at = match fill % 6 {
            0 | 3 => self.now + 1 + u64::from(fill) * 10,
            // Later than a record can say.
            1 if fill > 250 => 1 << 50,
            _ => 0,
        };
        let used_bytes = self.shard.stats().used_bytes;
        // What is appended to is stored anew as a whole.
        let bytes = self.model.get(&key).map_or(0, |known| known.value.len()) + len;
        self.operate(kind, key, value, expires_at, usize::from(time));
        self.check_key(key);
        let stats = self.shard.stats();
        assert!(stats.used_bytes <= self.budget_bytes.saturating_add(BESIDE_BYTES), "{} bytes", stats.used_bytes);
        let is_short = used_bytes + bytes as u64 + self.budget_bytes / AHEAD_SHARE >= self.budget_bytes;
        assert!(
            stats.evicted == self.evicted || is_short,
            "evicted for {bytes} bytes with {used_bytes} of {} used",
            self.budget_bytes
        );
        self.evicted = stats.evicted;
    }

    fn operate(&mut self, kind: u8, key: [u8; 2], value: Vec<u8>, expires_at: u64, offset: usize) {
        match kind % 12 {
            0..4 => self.set(key, value, expires_at, WHEN[usize::from(kind) % WHEN.len()]),
            4 => assert_eq!(self.shard.delete(&key, self.now), self.model.remove(&key).is_some()),
            5 => {
                let at = (expires_at != 0).then_some(expires_at);
                assert_eq!(self.shard.set_expiry(&key, at, self.now), self.model.contains_key(&key));
                let known = self.model.get_mut(&key);
                known.into_iter().for_each(|known| (known.expires_at, known.is_read) = (expires_at, true));
            }
            6 => {
                let whole = [self.value_of(key), value.clone()].concat();
                if let Some(len) = self.shard.append(&key, &value, self.now) {
                    self.rewritten(key, whole, len);
                }
            }
            7 => {
                let mut whole = self.value_of(key);
                whole.resize(whole.len().max(offset + value.len()), 0);
                whole[offset..offset + value.len()].copy_from_slice(&value);
                if let Some(len) = self.shard.set_range(&key, offset, &value, self.now) {
                    self.rewritten(key, whole, len);
                }
            }
            8 => _ = self.shard.maintain(self.now),
            9 if value.first() == Some(&255) => {
                self.shard.clear();
                self.model.clear();
            }
            9 if value.first() == Some(&254) => self.resize(budget_bytes(offset as u8)),
            9 => {
                let found = self.shard.random_key(self.now).map(<[u8]>::to_vec);
                assert!(found.is_none_or(|key| self.model.contains_key(&key[..])), "a key that is not there");
            }
            10 if offset % 2 == 1 => self.change(key, &value),
            _ => {
                let found = self.shard.get(&key, self.now).map(|item| item.value.to_vec());
                assert_eq!(found, self.model.get(&key).map(|known| known.value.clone()));
                self.model.get_mut(&key).into_iter().for_each(|known| known.is_read = true);
            }
        }
    }

    fn set(&mut self, key: [u8; 2], value: Vec<u8>, expires_at: u64, when: When) {
        let old = self.model.get(&key);
        let (expiry, expires_at) = match (value.first(), expires_at) {
            (Some(0..50), _) => (Expiry::Keep, old.map_or(0, |known| known.expires_at)),
            (_, 0) => (Expiry::Never, 0),
            (_, at) => (Expiry::At(at), at),
        };
        let is_refused = match when {
            When::Always => false,
            When::Absent => old.is_some(),
            When::Present => old.is_none(),
        };
        match self.shard.set(&key, NewValue::Copied(&value), expiry, when, self.now) {
            Stored::Refused => assert!(is_refused),
            Stored::OutOfMemory => assert!(!is_refused && self.may_lack()),
            Stored::Done { replaced } => {
                assert_eq!((is_refused, replaced), (false, old.is_some()));
                self.model.insert(key, Known { value, expires_at, is_read: false });
            }
        }
    }

    /// Stores a value that follows from the present one, or is as long and something else, with its expiry.
    fn change(&mut self, key: [u8; 2], value: &[u8]) {
        let Some(old) = self.model.get(&key).cloned() else { return };
        let value = if value.len().is_multiple_of(2) { vec![b'c'; old.value.len()] } else { value.to_vec() };
        let expiry = if old.expires_at == 0 { Expiry::Never } else { Expiry::At(old.expires_at) };
        let attributes = Attributes { flags: value.len() as u32 % 3, ..Attributes::default() };
        let is_read = old.is_read && old.value.len() == value.len();
        if self.shard.put_changed(&key, &value, expiry, &attributes, self.now) != Stored::OutOfMemory {
            self.model.insert(key, Known { value, is_read, ..old });
        }
    }

    fn resize(&mut self, budget_bytes: u64) {
        if self.policy == Policy::NoEviction || self.policy.is_volatile() {
            // It may hold more than a lower budget.
            return;
        }
        self.budget_bytes = self.budget_bytes.min(budget_bytes);
        self.shard.resize(budget_bytes);
        while self.shard.maintain(self.now) {}
        let keys: Vec<[u8; 2]> = self.model.keys().copied().collect();
        keys.into_iter().for_each(|key| self.check_key(key));
        self.budget_bytes = budget_bytes;
        self.evicted = self.shard.stats().evicted;
    }

    fn value_of(&self, key: [u8; 2]) -> Vec<u8> {
        self.model.get(&key).map_or(Vec::new(), |known| known.value.clone())
    }

    fn rewritten(&mut self, key: [u8; 2], whole: Vec<u8>, len: usize) {
        assert_eq!(len, whole.len());
        let known = self.model.entry(key).or_default();
        (known.value, known.is_read) = (whole, false);
    }

    fn may_lack(&self) -> bool {
        self.budget_bytes != u64::MAX
    }

    /// The key's item is what the model has; or it was evicted, which the model learns.
    fn check_key(&mut self, key: [u8; 2]) {
        let now = self.now;
        if self.model.get(&key).is_some_and(|known| known.expires_at != 0 && known.expires_at <= now) {
            self.model.remove(&key);
        }
        let time_to_live = self.shard.time_to_live(&key, now);
        let Some(item) = self.shard.peek(&key, now) else {
            assert_eq!(time_to_live, TimeToLive::Missing);
            if let Some(known) = self.model.remove(&key) {
                let may_go = self.policy != Policy::NoEviction && (!self.policy.is_volatile() || known.expires_at != 0);
                assert!(may_go && self.may_lack(), "{key:?} is lost");
            }
            return;
        };
        let expires_at = item.expires_at.unwrap_or(0);
        let is_read = self.shard.usage(&key, now).is_some_and(|usage| usage.is_read);
        let found = Known { value: item.value.to_vec(), expires_at, is_read };
        assert_eq!(Some(&found), self.model.get(&key), "{key:?}");
        assert_eq!(time_to_live, if expires_at == 0 { TimeToLive::Forever } else { TimeToLive::At(expires_at) });
    }

    /// A scan shows every item once, and the sums are right.
    fn check_all(&mut self) {
        let keys: Vec<[u8; 2]> = self.model.keys().copied().collect();
        keys.into_iter().for_each(|key| self.check_key(key));
        let (mut shown, mut cursor) = (Vec::new(), 0);
        loop {
            cursor = self.shard.scan(cursor, 10, self.now, &mut |item| shown.push(item.key.to_vec()));
            if cursor == 0 {
                break;
            }
        }
        shown.sort_unstable();
        let mut keys: Vec<Vec<u8>> = self.model.keys().map(|key| key.to_vec()).collect();
        keys.sort_unstable();
        assert_eq!(shown, keys);
        let stats = self.shard.stats();
        assert!(stats.keys as usize >= keys.len());
        if stats.keys as usize == keys.len() {
            let bytes: usize = self.model.values().map(|known| known.value.len() + size_of::<[u8; 2]>()).sum();
            assert_eq!(stats.dataset_bytes, bytes as u64);
            assert_eq!(stats.expires as usize, self.model.values().filter(|known| known.expires_at != 0).count());
        }
    }
}
