//! One worker's items: the index finds them, the log holds them, large ones have allocations of their own.
//!
//! In and out: see [`shard`](super). What must stay true: every entry of the index has a live record, and the other way
//! round; a large item's number stands in exactly one live record; `used_bytes` counts what items and tables hold.

use std::io;

use ahash::RandomState;
use bytes::Bytes;
use slab::Slab;

use super::ahead::Ahead;
use super::attributes::{Attributes, Packed, View, is_hidden, is_seen};
use super::balance::{Balance, Keeping};
use super::evict::{Owed, Shortage, Victim, Walk, Work};
use super::ghost::Ghost;
use super::index::{Index, LOCATION_MAX, Slot};
use super::large::{Alive, Large, Source};
use super::log::{Draft, EXPIRY_MAX, Log, Record};
use super::memory::{self, RELEASED_BYTES};
use super::queues::Queues;
use super::shadow::Shadow;
use super::{Expiry, Item, KeyHash, NewValue, ShardOptions, ShardStats, Stored, TimeToLive, UnixMs, Usage, When};
use crate::config::Policy;

/// Address space for the log when the budget is unlimited, and at least; for the index about half of it.
const RESERVE_BYTES: usize = if cfg!(miri) { 8 << 20 } else { 256 << 30 };

/// Address space for the log at least.
const RESERVE_BYTES_MIN: usize = 2 << 20;

/// The log's share of the address space, where that has a limit: beside it are the index, large values and buffers.
const RESERVE_SHARE: u64 = 4;

/// Bytes of a small item beyond key and value and expiry: its header, and its share of a large index at its mean load.
const SMALL_OVERHEAD_BYTES: usize = 4 + 11;

/// Large items of a cleared shard that are freed in one call, and their bytes: the allocator gives few of them back.
const FREED_PER_CALL: usize = 64;
const FREED_BYTES_PER_CALL: u64 = 4 * RELEASED_BYTES as u64;

/// One worker's items.
#[derive(Debug)]
pub struct Shard {
    pub(super) index: Index,
    pub(super) log: Log,
    pub(super) ghost: Ghost,
    pub(super) larges: Slab<Large>,
    /// Large items of a cleared shard, being freed.
    pub(super) garbage: Vec<slab::IntoIter<Large>>,
    /// Bytes of these.
    pub(super) garbage_bytes: u64,
    /// Bytes of their values, and of those that are gone but still being sent.
    pub(super) alive: Alive,
    /// Bytes of large items but for their values, those of the garbage included.
    pub(super) large_own_bytes: u64,
    /// Bytes of large items that are there, by queue.
    pub(super) large_bytes_of: [u64; 2],
    pub(super) hasher: RandomState,
    /// What was asked for, as far as the address space is enough for it.
    pub(super) budget_bytes: u64,
    /// Whether anything was asked for.
    pub(super) is_limited: bool,
    pub(super) address_bytes: u64,
    pub(super) policy: Policy,
    pub(super) queues: Queues,
    pub(super) victim: Option<Victim>,
    pub(super) walk: Walk,
    pub(super) ahead: Ahead,
    pub(super) keeping: Keeping,
    pub(super) shadow: Shadow,
    pub(super) balance: Balance,
    pub(super) work: Work,
    /// As far as was known when that last changed; and whether it may have changed since.
    pub(super) shortage: Shortage,
    pub(super) is_stale: bool,
    pub(super) owed: Owed,
    random: u64,
    /// Changes whenever slots may have changed their meaning.
    pub(super) moves: u64,
    pub(super) stats: ShardStats,
    /// Items without a value, which are there for leases only.
    hidden: u64,
    /// Sum of all expiries, for the mean.
    expiry_sum: u128,
    pub(super) now_seen: UnixMs,
    /// The count of the version given last.
    pub(super) version: u64,
    pub(super) seed: u64,
    /// When everything is to be removed (memcached's `flush_all` with a delay).
    pub(super) clear_at: UnixMs,
    /// What this one has taken the place of, cleared, while its memory is given back.
    pub(super) former: Option<Box<Shard>>,
}

/// What is known of an item from its record.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    shared: Option<&'a Bytes>,
    pub(super) expires_at: UnixMs,
    pub(super) memory_bytes: usize,
    pub(super) extras: &'a [u8],
}

impl<'a> Found<'a> {
    #[inline]
    pub(super) fn at(log: &'a Log, larges: &'a Slab<Large>, location: u64) -> Self {
        let record = log.record(location);
        if !record.is_large {
            let Record { key, value, expires_at, extras, .. } = record;
            let memory_bytes = record.len + SMALL_OVERHEAD_BYTES;
            return Found { key, value, shared: None, expires_at, memory_bytes, extras };
        }
        // A dead record's number may be vacant or stand for another item.
        match larges.get(record.number()) {
            Some(large) => Found {
                key: &large.key,
                value: &large.value,
                shared: (large.value.len() >= log.large_value_bytes).then_some(&large.value),
                expires_at: large.expires_at,
                memory_bytes: large.memory_bytes() as usize,
                extras: &large.extras,
            },
            None => Found { key: &[], value: &[], shared: None, expires_at: 0, memory_bytes: 0, extras: &[] },
        }
    }

    pub(super) fn value(&self) -> &'a [u8] {
        self.value
    }

    pub(super) fn is_expired(&self, now: UnixMs) -> bool {
        self.expires_at != 0 && self.expires_at <= now
    }
}

impl Shard {
    /// An empty shard.
    ///
    /// # Panics
    /// Where [`try_new`](Self::try_new) fails.
    pub fn new(options: ShardOptions) -> Self {
        Self::try_new(options).expect("address space for a shard")
    }

    /// An empty shard.
    ///
    /// # Errors
    /// ENOMEM when not even the address space for a small shard is to be had.
    pub fn try_new(options: ShardOptions) -> io::Result<Self> {
        let seed = options.seed;
        let budget = usize::try_from(options.budget_bytes).unwrap_or(usize::MAX);
        let reserve_bytes = RESERVE_BYTES.max(if budget == usize::MAX { 0 } else { budget.saturating_mul(2) });
        let most = LOCATION_MAX.min(options.address_bytes / RESERVE_SHARE) as usize;
        let mut reserve_bytes = reserve_bytes.min(most).max(RESERVE_BYTES_MIN);
        let (log, index, ghost) = loop {
            let log = Log::new(options.budget_bytes.min(reserve_bytes as u64), reserve_bytes);
            // An item takes 15 bytes at least, and hardly ever less than 32.
            let items_max = reserve_bytes / 32;
            match (log, Index::new(items_max), Ghost::new(items_max)) {
                (Ok(log), Ok(index), Ok(ghost)) => break (log, index, ghost),
                // The address space is shared with others: less will do.
                _ if reserve_bytes > RESERVE_BYTES_MIN => reserve_bytes /= 2,
                (Err(error), ..) | (_, Err(error), _) | (_, _, Err(error)) => return Err(error),
            }
        };
        let mut shard = Self {
            index,
            log,
            ghost,
            larges: Slab::new(),
            garbage: Vec::new(),
            garbage_bytes: 0,
            alive: Alive::default(),
            large_own_bytes: 0,
            large_bytes_of: [0; 2],
            hasher: RandomState::with_seeds(seed, !seed, seed.rotate_left(17), seed.rotate_left(43)),
            budget_bytes: 0,
            is_limited: false,
            address_bytes: options.address_bytes,
            policy: options.policy,
            queues: Queues::new(),
            victim: None,
            walk: Walk::default(),
            ahead: Ahead::new(options.huge_pages),
            keeping: Keeping::default(),
            shadow: Shadow::new(false),
            balance: Balance::default(),
            work: Work::default(),
            shortage: Shortage::None,
            is_stale: true,
            owed: Owed::default(),
            random: seed | 1,
            moves: 0,
            stats: ShardStats::default(),
            hidden: 0,
            expiry_sum: 0,
            now_seen: 0,
            version: 0,
            seed,
            clear_at: UnixMs::MAX,
            former: None,
        };
        shard.set_budget(options.budget_bytes);
        Ok(shard)
    }

    /// The hash that every look-up of `key` begins with.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(self.hasher.hash_one(key))
    }

    /// Brings the index entries and items of some keys towards the processor: what would be waited for one after the
    /// other arrives together. Never changes a result.
    #[inline]
    pub fn prefetch(&self, hashes: &[KeyHash]) {
        hashes.iter().for_each(|hash| self.index.prefetch(*hash));
        let locations = hashes.iter().filter_map(|hash| self.index.guess(*hash));
        locations.clone().for_each(|location| self.log.prefetch(location));
        if !self.larges.is_empty() {
            self.prefetch_larges(locations);
        }
    }

    /// The same for what large items have elsewhere: all their numbers first, so that the processor need not wait for
    /// one before it asks for the next.
    fn prefetch_larges(&self, locations: impl Iterator<Item = u64>) {
        let mut numbers = locations.filter_map(|location| self.log.large_number(location));
        let mut some = [0; 16];
        loop {
            let count = some.iter_mut().zip(&mut numbers).map(|(place, number)| *place = number).count();
            for large in some[..count].iter().filter_map(|number| self.larges.get(*number)) {
                memory::prefetch(large.key.as_ptr());
                memory::prefetch(large.value.as_ptr());
            }
            if count < some.len() {
                return;
            }
        }
    }

    pub(super) fn hash_at(&self, location: u64) -> KeyHash {
        self.hash(self.found(location).key)
    }

    /// The item whose record lies at a location.
    #[inline]
    pub(super) fn found(&self, location: u64) -> Found<'_> {
        Found::at(&self.log, &self.larges, location)
    }

    #[inline]
    pub(super) fn item(&self, location: u64) -> Item<'_> {
        let Found { key, value, shared, expires_at, extras, .. } = self.found(location);
        Item { key, value, shared, expires_at: (expires_at != 0).then_some(expires_at), extras }
    }

    #[inline]
    fn find(&self, hash: KeyHash, key: &[u8]) -> Option<Slot> {
        self.index.find(hash, |location| match self.log.key(location) {
            Some(other) => other == key,
            None => self.found(location).key == key,
        })
    }

    pub(super) fn find_live(&self, key: &[u8], view: View, now: UnixMs) -> Option<Slot> {
        let slot = self.find(self.hash(key), key)?;
        let found = self.found(self.index.entry(slot).location());
        (!found.is_expired(now) && is_seen(found.extras, view)).then_some(slot)
    }

    /// Whether the item of a slot is there, to somebody with that view.
    #[inline]
    pub(super) fn is_seen(&self, slot: Slot, view: View) -> bool {
        let location = self.index.entry(slot).location();
        !self.log.may_have_extras(location) || is_seen(self.found(location).extras, view)
    }

    /// Finds a key, removing it when its time has come.
    #[inline]
    pub(super) fn find_or_expire(&mut self, hash: KeyHash, key: &[u8], now: UnixMs) -> Option<Slot> {
        self.now_seen = now;
        let slot = self.find(hash, key)?;
        self.unless_expired(slot, now)
    }

    /// The slot of an item, which is removed if its time has come.
    #[inline]
    fn unless_expired(&mut self, slot: Slot, now: UnixMs) -> Option<Slot> {
        let location = self.index.entry(slot).location();
        if !self.log.may_expire(location) || !self.found(location).is_expired(now) {
            return Some(slot);
        }
        self.remove(slot);
        self.stats.expired += 1;
        None
    }

    /// Looks a key up as a client's read: counts a hit or a miss and raises the item's frequency.
    #[inline]
    pub fn get(&mut self, key: &[u8], now: UnixMs) -> Option<Item<'_>> {
        self.get_as(View::Values, key, now)
    }

    /// The same for somebody who may see items without a value.
    #[inline]
    pub fn get_as(&mut self, view: View, key: &[u8], now: UnixMs) -> Option<Item<'_>> {
        self.now_seen = now;
        let hash = self.hash(key);
        let found = self.find(hash, key);
        // The usual case: an item that is nothing but a key and a value.
        if let Some(slot) = found
            && self.log.is_plain(self.index.entry(slot).location())
            && !self.shadow.sees(hash)
        {
            self.stats.hits += 1;
            let location = self.index.touch(slot).location();
            let (key, value) = self.log.plain(location);
            return Some(Item { key, value, shared: None, expires_at: None, extras: &[] });
        }
        self.get_found(hash, found, view, now)
    }

    /// Goes on with whatever has been found for a client's read.
    fn get_found(&mut self, hash: KeyHash, found: Option<Slot>, view: View, now: UnixMs) -> Option<Item<'_>> {
        let slot = found.and_then(|slot| self.unless_expired(slot, now));
        let Some(slot) = slot.filter(|slot| self.is_seen(*slot, view)) else {
            self.stats.misses += 1;
            if self.shadow.sees(hash) {
                self.shadow_read(hash, None, now);
            }
            return None;
        };
        self.stats.hits += 1;
        let location = self.index.touch(slot).location();
        if self.shadow.sees(hash) {
            self.shadow_read(hash, Some(location), now);
        }
        Some(self.item(location))
    }

    /// Looks a key up without leaving a trace (`OBJECT`, `CLIENT NO-TOUCH`, conditions of writes).
    pub fn peek(&self, key: &[u8], now: UnixMs) -> Option<Item<'_>> {
        self.peek_as(View::Values, key, now)
    }

    /// The same for somebody who may see items without a value.
    pub fn peek_as(&self, view: View, key: &[u8], now: UnixMs) -> Option<Item<'_>> {
        self.find_live(key, view, now).map(|slot| self.item(self.index.entry(slot).location()))
    }

    /// What a key's item takes and how it is used, without leaving a trace.
    pub fn usage(&self, key: &[u8], now: UnixMs) -> Option<Usage> {
        let entry = self.index.entry(self.find_live(key, View::All, now)?);
        let segment = self.log.segment_of(entry.location());
        let written_at = self.log.segments[segment as usize].opened_at;
        Some(Usage {
            frequency: entry.frequency() as u8,
            is_read: entry.is_read(),
            accessed_at: if entry.frequency() > 0 { self.now_seen } else { written_at },
            memory_bytes: self.found(entry.location()).memory_bytes,
        })
    }

    /// Stores a value; what the item carried beside it is dropped.
    #[inline]
    pub fn set(&mut self, key: &[u8], value: NewValue<'_>, expiry: Expiry, when: When, now: UnixMs) -> Stored {
        self.store(key, (value, &[]), expiry, when, now)
    }

    /// Stores a value with packed attributes.
    pub(super) fn store(
        &mut self,
        key: &[u8],
        (value, extras): (NewValue<'_>, &[u8]),
        expiry: Expiry,
        when: When,
        now: UnixMs,
    ) -> Stored {
        self.work = Work::default();
        let hash = self.hash(key);
        self.ghost.prefetch(hash);
        let slot = self.find_or_expire(hash, key, now);
        let present = slot.filter(|slot| self.is_seen(*slot, View::Values));
        let is_refused = match when {
            When::Always => false,
            When::Absent => present.is_some(),
            When::Present => present.is_none(),
        };
        if is_refused {
            return Stored::Refused;
        }
        let expires_at = match expiry {
            Expiry::Never => 0,
            Expiry::Keep => present.map_or(0, |slot| self.found(self.index.entry(slot).location()).expires_at),
            // The epoch itself has passed like any other time.
            Expiry::At(at) => at.max(1),
        };
        let replaced = present.is_some();
        let is_stored = slot.is_some_and(|slot| self.overwrite(slot, value.bytes(), extras, expires_at))
            || self.write(hash, slot, (key, Source::New(value), extras), expires_at, (false, now));
        let bytes = key.len() + value.bytes().len();
        if self.shadow.sees(hash) && is_stored {
            self.shadow_write(hash, bytes, expires_at, replaced, now);
        }
        self.catch_up(bytes as u64, now);
        if is_stored { Stored::Done { replaced } } else { Stored::OutOfMemory }
    }

    /// Overwrites a small value in place when it has the same shape.
    fn overwrite(&mut self, slot: Slot, value: &[u8], extras: &[u8], expires_at: UnixMs) -> bool {
        let location = self.index.entry(slot).location();
        let record = self.log.record(location);
        let has_same_shape = !record.is_large
            && record.value.len() == value.len()
            && record.extras.len() == extras.len()
            && (record.expires_at == 0) == (expires_at == 0)
            && expires_at <= EXPIRY_MAX;
        if has_same_shape {
            let old = record.expires_at;
            self.log.overwrite(location, value);
            if !extras.is_empty() {
                self.overwrite_extras(location, extras);
            }
            if old != expires_at {
                self.log.overwrite_expiry(location, expires_at);
                self.account_expiry(old, expires_at);
            }
            self.index.renew(slot, location);
        }
        has_same_shape
    }

    /// Writes an item anew; false when there is no room. `slot` is the key's, if it has one. An urgent one has changed
    /// its shape only.
    fn write(
        &mut self,
        hash: KeyHash,
        slot: Option<Slot>,
        (key, value, extras): (&[u8], Source<'_>, &[u8]),
        expires_at: UnixMs,
        (is_urgent, now): (bool, UnixMs),
    ) -> bool {
        let moves = self.moves;
        let is_large = key.len() + value.bytes().len() >= self.log.large_bytes_min() || expires_at > EXPIRY_MAX;
        let queue = match slot {
            Some(slot) => self.log.queue_of(self.index.entry(slot).location()),
            None => self.queue_of_new(hash, key.len() + value.bytes().len() + SMALL_OVERHEAD_BYTES),
        };
        let mut number = [0; 4];
        if is_large {
            if !is_urgent && !self.make_room((key.len() + value.bytes().len()) as u64, now) {
                return false;
            }
            let value = value.to_large(&self.alive);
            let large = Large { key: key.into(), value, expires_at, extras: extras.into() };
            self.large_own_bytes += large.own_bytes();
            number = (self.larges.insert(large) as u32).to_le_bytes();
        }
        let draft = Draft {
            key: if is_large { &[] } else { key },
            value: if is_large { &number } else { value.bytes() },
            expires_at: expires_at.min(EXPIRY_MAX),
            is_large,
            extras: if is_large { &[] } else { extras },
        };
        let Some(location) = self.append_record(&draft, queue, is_urgent, now) else {
            if is_large {
                let large = self.larges.remove(u32::from_le_bytes(number) as usize);
                self.large_own_bytes -= large.own_bytes();
            }
            return false;
        };
        if is_large {
            let bytes = self.larges[u32::from_le_bytes(number) as usize].memory_bytes();
            self.large_bytes_of[self.log.queue_of(location) as usize] += bytes;
        }
        // Making room may have moved entries, or evicted the one that is replaced.
        let slot = if self.moves == moves { slot } else { self.find(hash, key) };
        slot.into_iter().for_each(|slot| self.forget(self.index.entry(slot).location()));
        match slot {
            Some(slot) if is_urgent => self.index.replace(slot, location, self.index.entry(slot).frequency()),
            Some(slot) => self.index.renew(slot, location),
            None => self.index.insert(hash, location),
        }
        self.stats.dataset_bytes += (key.len() + value.bytes().len()) as u64;
        self.account_expiry(0, expires_at);
        self.hidden += u64::from(is_hidden(extras));
        true
    }

    /// Overwrites the attributes of a small item with ones of the same length.
    fn overwrite_extras(&mut self, location: u64, extras: &[u8]) {
        self.account_hidden(is_hidden(self.found(location).extras), is_hidden(extras));
        self.log.overwrite_extras(location, extras);
    }

    fn account_hidden(&mut self, old: bool, new: bool) {
        self.hidden = self.hidden + u64::from(new) - u64::from(old);
    }

    fn account_expiry(&mut self, old: UnixMs, new: UnixMs) {
        self.stats.expires = self.stats.expires + u64::from(new != 0) - u64::from(old != 0);
        self.expiry_sum = self.expiry_sum + u128::from(new) - u128::from(old);
    }

    /// Gives up the record at a location, and what belongs to it, but not its entry.
    pub(super) fn forget(&mut self, location: u64) {
        let found = self.found(location);
        let (expires_at, dataset_bytes) = (found.expires_at, found.key.len() + found.value.len());
        let was_hidden = is_hidden(found.extras);
        self.account_expiry(expires_at, 0);
        self.account_hidden(was_hidden, false);
        self.stats.dataset_bytes -= dataset_bytes as u64;
        let record = self.log.record(location);
        let (len, number) = (record.len, record.is_large.then(|| record.number()));
        if let Some(number) = number {
            let large = self.larges.remove(number);
            self.large_bytes_of[self.log.queue_of(location) as usize] -= large.memory_bytes();
            self.large_own_bytes -= large.own_bytes();
        }
        self.log.kill(location, len);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.forget(self.index.entry(slot).location());
        self.index.remove(slot);
    }

    /// Rewrites a value as `change` of the old one, whose length becomes what `len_of` says; its expiry, client flags
    /// and content type stay.
    fn rewrite(
        &mut self,
        (key, view): (&[u8], View),
        now: UnixMs,
        len_of: impl Fn(usize) -> usize,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Option<usize> {
        self.work = Work::default();
        let hash = self.hash(key);
        let slot = self.find_or_expire(hash, key, now).filter(|slot| self.is_seen(*slot, view));
        let location = slot.map(|slot| self.index.entry(slot).location());
        let old = location.map(|location| self.found(location));
        let extras = old.map_or(Attributes::default(), |old| Attributes::unpack(old.extras)).of_changed_value().pack();
        let len = len_of(old.map_or(0, |old| old.value.len()));
        let expiry = match old.map_or(0, |old| old.expires_at) {
            0 => Expiry::Never,
            at => Expiry::At(at),
        };
        let mut bytes = Vec::new();
        if len < self.log.large_bytes_min() {
            bytes.reserve_exact(len);
            bytes.extend_from_slice(old.map_or(&[], |old| old.value));
        } else {
            // What does not fit is not to be held for a moment either. Room may be made of the old item.
            let old = old.map(|old| old.shared.cloned().unwrap_or_else(|| Bytes::copy_from_slice(old.value)));
            if !self.make_room((key.len() + len) as u64, now) {
                return None;
            }
            bytes.reserve_exact(len);
            bytes.extend_from_slice(&old.unwrap_or_default());
        }
        change(&mut bytes);
        let value = Bytes::from(bytes);
        match self.store(key, (NewValue::Shared(&value), &extras), expiry, When::Always, now) {
            Stored::Done { .. } => Some(len),
            Stored::Refused | Stored::OutOfMemory => None,
        }
    }

    /// Appends to a value, creating it if absent; its expiry stays. The new length, or `None` when out of memory.
    pub fn append(&mut self, key: &[u8], tail: &[u8], now: UnixMs) -> Option<usize> {
        self.append_as(View::Values, key, tail, now)
    }

    /// The same for somebody who may see items without a value.
    pub fn append_as(&mut self, view: View, key: &[u8], tail: &[u8], now: UnixMs) -> Option<usize> {
        self.rewrite((key, view), now, |len| len + tail.len(), |value| value.extend_from_slice(tail))
    }

    /// Puts bytes before a value, creating it if absent; its expiry stays. The new length, or `None` when out of
    /// memory.
    pub fn prepend_as(&mut self, view: View, key: &[u8], head: &[u8], now: UnixMs) -> Option<usize> {
        let change = |value: &mut Vec<u8>| drop(value.splice(..0, head.iter().copied()));
        self.rewrite((key, view), now, |len| len + head.len(), change)
    }

    /// Overwrites a value from `offset` on, padding with zero bytes; its expiry stays. The new length, or `None` when
    /// out of memory.
    pub fn set_range(&mut self, key: &[u8], offset: usize, bytes: &[u8], now: UnixMs) -> Option<usize> {
        let end = offset + bytes.len();
        self.rewrite(
            (key, View::Values),
            now,
            |len| len.max(end),
            |value| {
                value.resize(value.len().max(end), 0);
                value[offset..end].copy_from_slice(bytes);
            },
        )
    }

    /// Removes a key; whether it was there.
    pub fn delete(&mut self, key: &[u8], now: UnixMs) -> bool {
        self.delete_as(View::Values, key, now)
    }

    /// The same for somebody who may see items without a value. What is not seen is removed all the same.
    pub fn delete_as(&mut self, view: View, key: &[u8], now: UnixMs) -> bool {
        self.work = Work::default();
        let hash = self.hash(key);
        let slot = self.find_or_expire(hash, key, now);
        let was_seen = slot.is_some_and(|slot| self.is_seen(slot, view));
        slot.into_iter().for_each(|slot| self.remove(slot));
        if self.shadow.sees(hash) {
            self.shadow_change(hash, None, now);
        }
        self.catch_up(0, now);
        was_seen
    }

    /// When a key expires.
    pub fn time_to_live(&self, key: &[u8], now: UnixMs) -> TimeToLive {
        match self
            .find_live(key, View::Values, now)
            .map(|slot| self.found(self.index.entry(slot).location()).expires_at)
        {
            None => TimeToLive::Missing,
            Some(0) => TimeToLive::Forever,
            Some(at) => TimeToLive::At(at),
        }
    }

    /// Sets or removes a key's expiry, for which its item counts as read; a time not after `now` deletes the key.
    /// Whether the key was there.
    pub fn set_expiry(&mut self, key: &[u8], expires_at: Option<UnixMs>, now: UnixMs) -> bool {
        self.set_expiry_as(View::Values, key, expires_at, now)
    }

    /// The same for somebody who may see items without a value.
    pub fn set_expiry_as(&mut self, view: View, key: &[u8], expires_at: Option<UnixMs>, now: UnixMs) -> bool {
        self.work = Work::default();
        let hash = self.hash(key);
        let slot = self.find_or_expire(hash, key, now).filter(|slot| self.is_seen(*slot, view));
        let Some(slot) = slot else { return false };
        let is_over = expires_at.is_some_and(|at| at <= now);
        if self.shadow.sees(hash) {
            self.shadow_change(hash, if is_over { None } else { Some(expires_at.unwrap_or(0)) }, now);
        }
        if is_over {
            self.remove(slot);
            self.catch_up(0, now);
            return true;
        }
        self.index.mark_read(slot);
        let extras = Packed::copy_of(self.found(self.index.entry(slot).location()).extras);
        self.alter(hash, slot, expires_at.unwrap_or(0), &extras, now);
        true
    }

    /// Changes an item's expiry and packed attributes; its value stays.
    pub(super) fn alter(&mut self, hash: KeyHash, slot: Slot, expires_at: UnixMs, extras: &[u8], now: UnixMs) {
        let location = self.index.entry(slot).location();
        let record = self.log.record(location);
        let found = self.found(location);
        let (old, is_large) = (found.expires_at, record.is_large);
        let fits = (expires_at <= EXPIRY_MAX || is_large) && found.extras.len() == extras.len();
        if fits && (record.expires_at == 0) == (expires_at == 0) {
            if is_large {
                let large = &mut self.larges[record.number()];
                large.expires_at = expires_at;
                let was_hidden = is_hidden(&large.extras);
                large.extras.copy_from_slice(extras);
                self.account_hidden(was_hidden, is_hidden(extras));
            } else if !extras.is_empty() {
                self.overwrite_extras(location, extras);
            }
            if expires_at != 0 {
                self.log.overwrite_expiry(location, expires_at.min(EXPIRY_MAX));
            }
            self.account_expiry(old, expires_at);
            return;
        }
        // Another shape: written anew, even beyond the budget, for the client is told that it is done.
        let (key, copy) = (found.key.to_vec(), record.value.to_vec());
        let value = if is_large {
            Source::Held(self.larges[record.number()].value.clone())
        } else {
            Source::New(NewValue::Copied(&copy))
        };
        self.write(hash, Some(slot), (&key, value, extras), expires_at, (true, now));
        self.catch_up(key.len() as u64, now);
    }

    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The low bits of such a sequence are poor.
        self.random ^ self.random >> 29
    }

    /// Number of keys with a value, those past their expiry but not yet swept included.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.index.len() - self.hidden as usize
    }

    /// Removes everything. What takes long is done in [`maintain`](Self::maintain).
    pub fn clear(&mut self) {
        self.index.clear();
        self.log.clear();
        self.shadow.clear();
        self.ghost.fit(0);
        if !self.larges.is_empty() {
            self.garbage.push(std::mem::take(&mut self.larges).into_iter());
        }
        self.garbage_bytes += self.large_bytes_of.iter().sum::<u64>();
        self.ahead.restart();
        self.queues.clear();
        self.victim = None;
        self.large_bytes_of = [0; 2];
        self.moves += 1;
        self.clear_at = UnixMs::MAX;
        (self.hidden, self.expiry_sum) = (0, 0);
        (self.stats.expires, self.stats.dataset_bytes) = (0, 0);
    }

    /// Frees some large items of a cleared shard; what came free, or `None` when there are no more.
    pub(super) fn free_garbage(&mut self) -> Option<u64> {
        let larges = self.garbage.last_mut()?;
        let (mut freed, mut count) = (0, 0);
        while count < FREED_PER_CALL && freed < FREED_BYTES_PER_CALL {
            let Some((_, large)) = larges.next() else { break };
            freed += large.freed_bytes();
            self.large_own_bytes -= large.own_bytes();
            self.garbage_bytes -= large.memory_bytes();
            count += 1;
        }
        if count == 0 {
            self.garbage.pop();
        }
        Some(freed)
    }

    /// Everything that is held, in bytes.
    pub(super) fn used_bytes(&self) -> u64 {
        let tables = self.index.memory_bytes() + self.ghost.memory_bytes() + self.shadow.memory_bytes();
        let larges = self.large_own_bytes + self.alive.bytes();
        self.log.memory_bytes() + tables as u64 + larges + self.former_bytes()
    }

    /// Counters and gauges, kept up to date; reading them costs next to nothing.
    pub fn stats(&self) -> ShardStats {
        let expires = u128::from(self.stats.expires);
        let mean = self.expiry_sum.checked_div(expires).unwrap_or(0) as u64;
        ShardStats {
            keys: self.len() as u64,
            used_bytes: self.used_bytes(),
            ttl_ms_mean: mean.saturating_sub(self.now_seen),
            simulated_misses: self.shadow.misses(),
            ..self.stats
        }
    }

    /// Starts hits, misses, expired and evicted from zero (`CONFIG RESETSTAT`).
    pub fn reset_stats(&mut self) {
        let ShardStats { hits, misses, expired, evicted, .. } = &mut self.stats;
        (*hits, *misses, *expired, *evicted) = (0, 0, 0, 0);
        self.shadow.reset_misses();
    }
}
