//! Where each key's item lies: a flat table of 4 KiB units that grows and shrinks in place, a unit at a time.
//!
//! In: a key's hash, and a test of whether an item has that key. Out: the item's location. What must stay true: every
//! entry lies in the unit that its hash has now, in one of its two buckets there, or in the stash; an entry lies there
//! once. No call moves more than one unit's entries.
//!
//! ```text
//! hash 64:  high 30: place in the keyspace, unit = place × units / 2^30; its low 22 bits are the tag  | … | bucket 6
//! unit   :  64 buckets of 64 bytes; second bucket = first bucket xor (1 + tag mod 63)
//! ```
//!
//! Since places keep their order whatever the number of units, a scan that goes by place is not disturbed by growth.
//! From 256 units on, the places of a unit differ in their low 22 bits: an entry's place follows from its unit and its
//! tag, and entries move without a look at the items.
#![allow(unsafe_code, reason = "tags are compared four at a time")]

use std::ops::Range;

use super::KeyHash;
use super::memory::{Advice, HUGE_PAGE_BYTES, PAGE_BYTES, PageAdvice, RELEASED_BYTES, Reservation};

/// Entries of a bucket: one cache line.
const BUCKET_ENTRIES: usize = 8;
const BUCKETS: usize = 64;
/// Entries of a unit.
pub(super) const UNIT_ENTRIES: usize = BUCKETS * BUCKET_ENTRIES;

/// The table grows when more than this share of a unit is used in the mean.
/// Two choices and displacement fill a unit to 97 %; unequal units need the rest.
const LOAD_MAX: usize = UNIT_ENTRIES * 4 / 5;

/// With less than this a growth has lost its reason.
const LOAD_EASED: usize = LOAD_MAX * 7 / 8;

/// How a table changes its size.
#[derive(Clone, Copy, Debug)]
struct Steps {
    /// It grows by this share of itself: less would move every entry more often, more would leave more room unused.
    growth: usize,
    /// It shrinks by this share, when less than `load_min` of a unit is used in the mean.
    shrinkage: usize,
    load_min: usize,
}

/// To move the entries of a small table takes a look at each item, and the room is little: it does so less often.
const SMALL: Steps = Steps { growth: 2, shrinkage: 3, load_min: UNIT_ENTRIES * 3 / 10 };
const LARGE: Steps = Steps { growth: 16, shrinkage: 9, load_min: UNIT_ENTRIES * 9 / 20 };

impl Steps {
    const fn of(units: usize) -> Self {
        if units < UNITS_TOLD_APART { SMALL } else { LARGE }
    }
}

/// Changes of the table for each unit that migrates: a growth ends before the next begins.
const CHANGES_PER_UNIT: usize = 24;

/// Units whose pages are given back in one call.
const COOLED_UNITS: usize = RELEASED_BYTES / PAGE_BYTES;

/// A table smaller than that has small pages: the processor finds them, and large ones would be a waste.
const SMALL_PAGES_BYTES: usize = 16 * 1024 * 1024;

/// Entries displaced to make room for one, at most.
const DISPLACED_MAX: usize = 64;

const _: () = assert!(UNIT_ENTRIES * size_of::<u64>() == PAGE_BYTES);
const _: () = assert!(CHANGES_PER_UNIT < LOAD_MAX / LARGE.growth);
// A small table may have to grow by fewer units; and whatever its size, the next one has address space.
const _: () = assert!(CHANGES_PER_UNIT * UNITS_TOLD_APART < LOAD_MAX * COOLED_UNITS);
const _: () = assert!(LARGE.load_min * (SMALL.growth + 1) < LOAD_MAX * SMALL.growth);

/// One entry of the table.
///
/// | bits   | what      | meaning                                              |
/// |--------|-----------|------------------------------------------------------|
/// | 0..39  | location  | where the item's record lies; never 0                |
/// | 39     | is read   | whether it was read since it was written             |
/// | 40..42 | frequency | uses since it was first written or kept, at most 3   |
/// | 42..64 | tag       | the low bits of the key's place                      |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u64);

const LOCATION_BITS: u32 = 39;
const IS_READ: u64 = 1 << LOCATION_BITS;
const FREQUENCY_SHIFT: u32 = LOCATION_BITS + 1;
const TAG_SHIFT: u32 = FREQUENCY_SHIFT + 2;

/// What an entry has that no further read changes.
const WELL_READ: u64 = FREQUENCY_MAX << FREQUENCY_SHIFT | IS_READ;

/// The highest location that an entry can hold.
pub(super) const LOCATION_MAX: u64 = (1 << LOCATION_BITS) - 1;

/// The highest frequency.
pub(super) const FREQUENCY_MAX: u64 = 3;

impl Entry {
    fn new(hash: KeyHash, location: u64, frequency: u64) -> Self {
        debug_assert!(location > 0 && location <= LOCATION_MAX && frequency <= FREQUENCY_MAX);
        Self(tag_of(hash) << TAG_SHIFT | frequency << FREQUENCY_SHIFT | location)
    }

    /// Where the item's record lies.
    pub(super) fn location(self) -> u64 {
        self.0 & LOCATION_MAX
    }

    /// How often the item was used, up to [`FREQUENCY_MAX`].
    pub(super) fn frequency(self) -> u64 {
        self.0 >> FREQUENCY_SHIFT & FREQUENCY_MAX
    }

    /// Whether the item was read since it was written.
    pub(super) fn is_read(self) -> bool {
        self.0 & IS_READ != 0
    }

    /// The same with a use more.
    fn used(self) -> Self {
        Self(self.0 + (u64::from(self.frequency() < FREQUENCY_MAX) << FREQUENCY_SHIFT))
    }
}

const TAG_MASK: u64 = (1 << 22) - 1;

/// From so many units on, places of a unit differ in their tags.
const UNITS_TOLD_APART: usize = (PLACES >> 22) as usize;

fn tag_of(hash: KeyHash) -> u64 {
    place_of(hash) & TAG_MASK
}

/// A hash that leads to the same buckets as that of an entry with this tag, which lies in one of them, in a unit of so
/// many.
fn hash_of_entry(unit: usize, units: usize, bucket: usize, tag: u64) -> KeyHash {
    let first = ((unit as u64) << PLACE_BITS).div_ceil(units as u64);
    let place = first + (tag.wrapping_sub(first) & TAG_MASK);
    KeyHash(place << (u64::BITS - PLACE_BITS) | bucket as u64)
}

fn bucket_of(hash: KeyHash) -> usize {
    hash.0 as usize % BUCKETS
}

/// The other bucket of an entry with this tag; its own inverse.
fn other_bucket(bucket: usize, tag: u64) -> usize {
    bucket ^ (1 + tag as usize % (BUCKETS - 1))
}

/// Entries with a tag, as bits: without a branch for each, which could not be foretold.
#[inline]
fn candidates(words: &[u64; BUCKET_ENTRIES], tag: u64) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if tag != 0 {
        // SAFETY: needs a processor with SSE2; holds because every x86-64 has it.
        return unsafe { candidates_by_four(words, tag) };
    }
    let is_candidate = |word: u64| word >> TAG_SHIFT == tag && word != 0;
    (0..BUCKET_ENTRIES).fold(0, |bits, index| bits | u32::from(is_candidate(words[index])) << index)
}

/// The same, four entries at a time, for a tag that no empty entry has.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn candidates_by_four(words: &[u64; BUCKET_ENTRIES], tag: u64) -> u32 {
    use std::arch::x86_64 as sse;
    /// The upper halves of two pairs of words.
    const UPPER: i32 = 0b11_01_11_01;
    let wanted = sse::_mm_set1_epi32(tag as i32);
    let four = |first: usize| {
        let pair = |at: usize| {
            let pair: *const u64 = words[at..at + 2].as_ptr();
            // SAFETY: needs 16 bytes that may be read; holds because they were just sliced out.
            unsafe { sse::_mm_loadu_ps(pair.cast()) }
        };
        let upper = sse::_mm_castps_si128(sse::_mm_shuffle_ps::<UPPER>(pair(first), pair(first + 2)));
        let tags = sse::_mm_srli_epi32::<{ TAG_SHIFT as i32 - 32 }>(upper);
        sse::_mm_movemask_ps(sse::_mm_castsi128_ps(sse::_mm_cmpeq_epi32(tags, wanted))) as u32
    };
    four(0) | four(4) << 4
}

/// A key's place in the order of the table, which scans follow.
pub(super) fn place_of(hash: KeyHash) -> u64 {
    hash.0 >> (u64::BITS - PLACE_BITS)
}

/// Fewer would leave less of the tag to tell a large unit's keys apart; with more, a larger table would still need the
/// items to move their entries.
const PLACE_BITS: u32 = 30;

/// One more than the last place.
pub(super) const PLACES: u64 = 1 << PLACE_BITS;

/// Where an entry is, until the next change of the table: an index into its words, or into the stash beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(usize);

const STASH: usize = usize::MAX / 2;

/// The table.
#[derive(Debug)]
pub(super) struct Index {
    memory: Reservation,
    /// Units before the present change of size, and after it; equal when none is under way.
    units_old: usize,
    units_new: usize,
    /// Growing: units from here on have migrated. Shrinking: units before it have.
    frontier: usize,
    /// Changes since a unit last migrated, as far as they count.
    changes: usize,
    len: usize,
    /// Entries that found no room in their unit, with hashes that have their places; almost always empty.
    stash: Vec<(KeyHash, Entry)>,
    /// Entries of the unit that is migrating.
    moving: Vec<(KeyHash, Entry)>,
    /// Units from here back to those in use hold what a larger table has left; they are given back before it grows.
    stale_end: usize,
    /// Units from those in use to here are populated already, for the next growth.
    ready_end: usize,
    /// Entries moved by the last slice of a change of size.
    pub(super) moved: usize,
}

impl Index {
    /// An empty table that may grow to `entries_max`.
    ///
    /// # Errors
    /// When the address space cannot be reserved.
    pub(super) fn new(entries_max: usize) -> std::io::Result<Self> {
        // The next size must fit as well.
        let units_max = entries_max / LARGE.load_min + 2;
        Ok(Self {
            memory: Reservation::new(units_max * PAGE_BYTES)?,
            units_old: 1,
            units_new: 1,
            frontier: 1,
            changes: 0,
            len: 0,
            stash: Vec::new(),
            moving: Vec::with_capacity(UNIT_ENTRIES),
            stale_end: 0,
            ready_end: 0,
            moved: 0,
        })
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Memory that the table takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.units().max(self.stale_end).max(self.ready_end) * PAGE_BYTES
    }

    /// Memory that the larger table will take beyond that, which is to be there when this one is full. It becomes more
    /// with every entry, so that nothing else has to give way all at once.
    pub(super) fn growth_bytes(&self) -> usize {
        let Steps { growth, .. } = Steps::of(self.units());
        let units = (self.len * (growth + 1)).div_ceil(LOAD_MAX * growth);
        (units * PAGE_BYTES).saturating_sub(self.memory_bytes())
    }

    /// What is to be populated next, because the table will grow into it before long; it counts as taken.
    pub(super) fn populate(&mut self) -> Option<Range<usize>> {
        let (start, units) = (self.memory_bytes(), self.units());
        let Steps { growth, .. } = LARGE;
        let is_soon = self.len * (2 * growth + 1) > units * LOAD_MAX * 2 * growth;
        let is_short = is_soon && start < (units + units.div_ceil(growth)) * PAGE_BYTES;
        let is_wanted = start >= SMALL_PAGES_BYTES && self.stale_end <= units && is_short;
        let end = (start + 1).next_multiple_of(HUGE_PAGE_BYTES);
        if !is_wanted || end > self.memory.bytes().len() {
            return None;
        }
        self.ready_end = end / PAGE_BYTES;
        Some(start..end)
    }

    /// The bytes of the large page at `start` when it is to replace small ones, for the table has become large.
    pub(super) fn outgrown(&self, start: usize) -> Option<Range<usize>> {
        let is_wanted = self.units() * PAGE_BYTES >= 2 * SMALL_PAGES_BYTES && start < SMALL_PAGES_BYTES;
        is_wanted.then_some(start..start + HUGE_PAGE_BYTES)
    }

    /// Advice about some of the table's memory.
    pub(super) fn advice(&self, range: &Range<usize>, advice: Advice) -> PageAdvice {
        self.memory.advice(range, advice)
    }

    /// Units that are in use.
    fn units(&self) -> usize {
        self.units_old.max(self.units_new)
    }

    /// Removes all entries. The pages are given back by [`cool`](Self::cool).
    pub(super) fn clear(&mut self) {
        self.stale_end = self.units().max(self.stale_end).max(std::mem::take(&mut self.ready_end));
        self.memory.words_mut()[..UNIT_ENTRIES].fill(0);
        self.stash.clear();
        (self.units_old, self.units_new, self.frontier, self.changes, self.len) = (1, 1, 1, 0, 0);
    }

    /// Gives back some of the pages that are not in use any more; whether there are more.
    pub(super) fn cool(&mut self) -> bool {
        let end = self.stale_end.saturating_sub(COOLED_UNITS).max(self.units());
        if end < self.stale_end {
            self.memory.release(end * PAGE_BYTES..self.stale_end * PAGE_BYTES);
            self.stale_end = end;
        }
        self.stale_end > self.units()
    }

    /// The unit that a place has now.
    fn unit_of(&self, place: u64) -> usize {
        let old = ((place * self.units_old as u64) >> PLACE_BITS) as usize;
        let has_migrated = if self.units_new > self.units_old { old >= self.frontier } else { old < self.frontier };
        if has_migrated { ((place * self.units_new as u64) >> PLACE_BITS) as usize } else { old }
    }

    /// The words of a key's two buckets.
    #[inline]
    fn buckets(&self, hash: KeyHash) -> [usize; 2] {
        let unit = self.unit_of(place_of(hash)) * UNIT_ENTRIES;
        let (first, second) = (bucket_of(hash), other_bucket(bucket_of(hash), tag_of(hash)));
        [unit + first * BUCKET_ENTRIES, unit + second * BUCKET_ENTRIES]
    }

    /// Brings a key's buckets towards the processor.
    #[inline]
    pub(super) fn prefetch(&self, hash: KeyHash) {
        self.buckets(hash).iter().for_each(|first| self.memory.prefetch(first * size_of::<u64>()));
    }

    /// The location of the first entry that may be the key's, for prefetching its record.
    #[inline]
    pub(super) fn guess(&self, hash: KeyHash) -> Option<u64> {
        self.buckets(hash).iter().find_map(|first| {
            let words = self.bucket(*first);
            let candidates = candidates(words, tag_of(hash));
            (candidates != 0).then(|| Entry(words[candidates.trailing_zeros() as usize]).location())
        })
    }

    /// The words of the bucket that begins at word `first`.
    #[inline]
    fn bucket(&self, first: usize) -> &[u64; BUCKET_ENTRIES] {
        let words = &self.memory.words()[first..first + BUCKET_ENTRIES];
        words.try_into().expect("as many as a bucket has")
    }

    /// The slot of a key's entry; `is_it` looks at the item.
    #[inline(always)]
    pub(super) fn find(&self, hash: KeyHash, mut is_it: impl FnMut(u64) -> bool) -> Option<Slot> {
        let tag = tag_of(hash);
        for first in self.buckets(hash) {
            let words = self.bucket(first);
            let mut candidates = candidates(words, tag);
            while candidates != 0 {
                let index = candidates.trailing_zeros() as usize;
                if is_it(Entry(words[index]).location()) {
                    return Some(Slot(first + index));
                }
                candidates &= candidates - 1;
            }
        }
        if self.stash.is_empty() {
            return None;
        }
        let is_there = |other: KeyHash| place_of(other) == place_of(hash);
        let found = self.stash.iter().position(|(other, entry)| is_there(*other) && is_it(entry.location()));
        found.map(|index| Slot(STASH + index))
    }

    /// The entry at a slot.
    #[inline]
    pub(super) fn entry(&self, slot: Slot) -> Entry {
        match slot.0.checked_sub(STASH) {
            Some(index) => self.stash[index].1,
            None => Entry(self.memory.words()[slot.0]),
        }
    }

    fn write(&mut self, slot: Slot, entry: Entry) {
        match slot.0.checked_sub(STASH) {
            Some(index) => self.stash[index].1 = entry,
            None => self.memory.words_mut()[slot.0] = entry.0,
        }
    }

    /// Gives the item at a slot another location and frequency.
    pub(super) fn replace(&mut self, slot: Slot, location: u64, frequency: u64) {
        let kept = self.entry(slot).0 & !(LOCATION_MAX | FREQUENCY_MAX << FREQUENCY_SHIFT);
        self.write(slot, Entry(kept | frequency << FREQUENCY_SHIFT | location));
    }

    /// Counts a read of the item at a slot and returns its entry. Writes only while that changes something.
    #[inline]
    pub(super) fn touch(&mut self, slot: Slot) -> Entry {
        let entry = self.entry(slot);
        if entry.0 & WELL_READ != WELL_READ {
            self.write(slot, Entry(entry.used().0 | IS_READ));
        }
        entry
    }

    /// Counts a write of the item at a slot, which now lies at a location and was not read since.
    pub(super) fn renew(&mut self, slot: Slot, location: u64) {
        self.write(slot, Entry(self.entry(slot).used().0 & !(LOCATION_MAX | IS_READ) | location));
    }

    /// Takes note that the item at a slot counts as read, which is no use of its value.
    pub(super) fn mark_read(&mut self, slot: Slot) {
        self.write(slot, Entry(self.entry(slot).0 | IS_READ));
    }

    /// Removes the entry at a slot.
    pub(super) fn remove(&mut self, slot: Slot) {
        match slot.0.checked_sub(STASH) {
            Some(index) => _ = self.stash.swap_remove(index),
            None => self.memory.words_mut()[slot.0] = 0,
        }
        self.len -= 1;
        // A growth goes at the pace of what comes: where as much goes, it would cost several times what it has to.
        let is_needed = self.units_new > self.units_old && self.len >= self.units_old * LOAD_EASED;
        self.changes += usize::from(!is_needed);
    }

    /// Adds an entry for a key that has none.
    pub(super) fn insert(&mut self, hash: KeyHash, location: u64) {
        self.place(hash, Entry::new(hash, location, 0));
        self.len += 1;
        self.changes += 1;
    }

    fn place(&mut self, hash: KeyHash, entry: Entry) {
        match self.room(hash) {
            Some(word) => self.memory.words_mut()[word] = entry.0,
            None => self.stash.push((hash, entry)),
        }
    }

    /// An empty word in one of a key's buckets, displacing other entries within the unit if need be.
    fn room(&mut self, hash: KeyHash) -> Option<usize> {
        let buckets = self.buckets(hash);
        let free = |words: &[u64], first: usize| {
            words[first..first + BUCKET_ENTRIES].iter().position(|word| *word == 0).map(|index| first + index)
        };
        let words = self.memory.words_mut();
        // The first one while it is half empty, and then the emptier one, so that displacements stay rare.
        let used = |first: usize| words[first..first + BUCKET_ENTRIES].iter().filter(|word| **word != 0).count();
        let [first, second] = buckets;
        let used_first = used(first);
        let better = if used_first > BUCKET_ENTRIES / 2 && used(second) < used_first { second } else { first };
        if let Some(word) = free(words, better) {
            return Some(word);
        }
        // A walk: push an entry into its other bucket, and go on from there until a bucket has room.
        let mut path = [0; DISPLACED_MAX];
        let mut bucket = better;
        for step in 0..DISPLACED_MAX {
            let victim = bucket + step % BUCKET_ENTRIES;
            path[step] = victim;
            let unit = bucket / UNIT_ENTRIES * UNIT_ENTRIES;
            let number = (bucket - unit) / BUCKET_ENTRIES;
            bucket = unit + other_bucket(number, words[victim] >> TAG_SHIFT) * BUCKET_ENTRIES;
            if let Some(mut free) = free(words, bucket) {
                self.moved += step + 1;
                for &from in path[..=step].iter().rev() {
                    words[free] = words[from];
                    free = from;
                }
                return Some(free);
            }
            if path[..=step].contains(&(bucket + (step + 1) % BUCKET_ENTRIES)) {
                return None;
            }
        }
        None
    }

    /// Whether a change of size is under way.
    fn is_changing(&self) -> bool {
        self.units_old != self.units_new
    }

    /// Does a slice of a change of size when enough has changed: at most one unit moves. `prefetch` brings the item at
    /// a location towards the processor, `hash_of` hashes its key. Whether slots have changed their meaning.
    pub(super) fn step(&mut self, prefetch: impl Fn(u64), hash_of: impl Fn(u64) -> KeyHash) -> bool {
        self.moved = 0;
        if !self.is_changing() {
            self.begin_change();
        } else if self.changes >= CHANGES_PER_UNIT {
            self.changes = 0;
            self.migrate(prefetch, hash_of);
            return true;
        }
        false
    }

    fn begin_change(&mut self) {
        let units = self.units_old;
        let units_max = self.memory.bytes().len() / PAGE_BYTES;
        let Steps { growth, shrinkage, load_min } = Steps::of(units);
        if self.len > units * LOAD_MAX {
            let mut units_new = (units + units.div_ceil(growth)).min(units_max);
            // What it grows into must read as zero. A large table has room enough to wait for that.
            if units >= UNITS_TOLD_APART && units_new - units > COOLED_UNITS {
                if self.cool() {
                    return;
                }
            } else if units < self.stale_end {
                units_new = units_new.min(units + COOLED_UNITS);
                self.memory.release(units * PAGE_BYTES..units_new.min(self.stale_end) * PAGE_BYTES);
            }
            self.units_new = units_new;
            self.frontier = units;
        } else if units > 1 && self.len < units * load_min {
            self.units_new = units - (units / shrinkage).max(1);
            self.frontier = 0;
        }
        self.changes = 0;
    }

    /// Brings the units that a unit's entries will move to towards the processor.
    fn prefetch_targets(&self, unit: usize) {
        let new = |unit: usize| unit * self.units_new / self.units_old;
        let (first, last) = (new(unit), new(unit + 1).min(self.units_new - 1));
        let lines = (first * PAGE_BYTES..(last + 1) * PAGE_BYTES).step_by(BUCKET_ENTRIES * size_of::<u64>());
        lines.for_each(|line| self.memory.prefetch(line));
    }

    /// Moves the entries of the next unit, and ends the change after the last one.
    fn migrate(&mut self, prefetch: impl Fn(u64), hash_of: impl Fn(u64) -> KeyHash) {
        let is_growing = self.units_new > self.units_old;
        let unit = if is_growing { self.frontier - 1 } else { self.frontier };
        let range = unit * UNIT_ENTRIES..(unit + 1) * UNIT_ENTRIES;
        self.prefetch_targets(unit);
        let mut moving = std::mem::take(&mut self.moving);
        let words = &mut self.memory.words_mut()[range];
        let is_told_apart = self.units_old >= UNITS_TOLD_APART;
        for (index, word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
            let hash = hash_of_entry(unit, self.units_old, index / BUCKET_ENTRIES, word >> TAG_SHIFT);
            moving.push((hash, Entry(*word)));
        }
        words.fill(0);
        self.frontier = if is_growing { unit } else { unit + 1 };
        self.moved = moving.len() + self.stash.len();
        if !is_told_apart {
            moving.iter().for_each(|(_, entry)| prefetch(entry.location()));
            moving.iter_mut().for_each(|(hash, entry)| *hash = hash_of(entry.location()));
        }
        for (hash, entry) in moving.drain(..) {
            self.place(hash, entry);
        }
        self.moving = moving;
        let is_done = if is_growing { self.frontier == 0 } else { self.frontier == self.units_old };
        if is_done {
            let ready_end = if is_growing { 0 } else { std::mem::take(&mut self.ready_end) };
            self.stale_end = self.units().max(self.stale_end).max(ready_end);
            self.units_old = self.units_new;
            self.frontier = self.units_new;
        }
        for (hash, entry) in std::mem::take(&mut self.stash) {
            self.place(hash, entry);
        }
    }

    /// Shows the entries that may have places from `place` on, all of one unit, with their places where these can be
    /// told without a look at the item. Returns the first place beyond the unit.
    pub(super) fn unit_from(&self, place: u64, mut show: impl FnMut(Option<u64>, Entry)) -> u64 {
        let old = ((place * self.units_old as u64) >> PLACE_BITS) as usize;
        let unit = self.unit_of(place);
        // A unit of the size that the place goes by; the frontier is a boundary of the old size, and so of both.
        let has_migrated = if self.units_new > self.units_old { old >= self.frontier } else { old < self.frontier };
        let end = |unit: usize, units: usize| ((unit as u64 + 1) << PLACE_BITS).div_ceil(units as u64);
        let frontier_place = ((self.frontier as u64) << PLACE_BITS).div_ceil(self.units_old as u64);
        let next = match (has_migrated, self.units_new > self.units_old) {
            (false, _) => end(unit, self.units_old),
            (true, true) => end(unit, self.units_new),
            // What lies behind the frontier has not come into this unit yet.
            (true, false) => end(unit, self.units_new).min(frontier_place),
        };
        let words = &self.memory.words()[unit * UNIT_ENTRIES..(unit + 1) * UNIT_ENTRIES];
        let units = if has_migrated { self.units_new } else { self.units_old };
        for word in words.iter().filter(|word| **word != 0) {
            let hash = (units >= UNITS_TOLD_APART).then(|| hash_of_entry(unit, units, 0, word >> TAG_SHIFT));
            show(hash.map(place_of), Entry(*word));
        }
        self.stash.iter().for_each(|(hash, entry)| show(Some(place_of(*hash)), *entry));
        next
    }

    /// The first entry from a random word on, among a bounded number.
    pub(super) fn sample(&self, random: u64) -> Option<Entry> {
        let words = self.units() * UNIT_ENTRIES;
        let start = ((u128::from(random) * words as u128) >> 64) as usize;
        let found = self.memory.words()[start..words].iter().take(UNIT_ENTRIES).find(|word| **word != 0);
        found.map(|word| Entry(*word)).or_else(|| self.stash.first().map(|(_, entry)| *entry))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Random;
    use super::*;

    #[test]
    fn every_entry_is_found_while_the_table_grows_and_shrinks() {
        // Small, large, and small again.
        let entries = if cfg!(miri) { 600 } else { 130_000 };
        // Locations tell the hashes, as items tell their keys; a tag of zero is looked for in another way.
        let hash_of = |location: u64| match location % 7 {
            0 => KeyHash(location << (u64::BITS - PLACE_BITS + 22) | location),
            _ => KeyHash(Random(location).below(u64::MAX)),
        };
        let mut index = Index::new(entries as usize).unwrap();
        for location in 1..=entries {
            index.insert(hash_of(location), location);
            index.step(|_| {}, hash_of);
        }
        let find = |index: &Index, location| index.find(hash_of(location), |other| other == location);
        for location in 1..=entries {
            let slot = find(&index, location).expect("it was inserted");
            assert_eq!(index.touch(slot).location(), location);
            assert_eq!(find(&index, entries + location), None);
        }
        assert!(index.units() > 1 && index.len() as u64 == entries);
        for location in (1..=entries).filter(|location| location % 10 > 0) {
            let slot = find(&index, location).expect("it is still there");
            assert_eq!(index.entry(slot).frequency(), 1);
            index.remove(slot);
            index.step(|_| {}, hash_of);
        }
        let left = (1..=entries).filter(|location| find(&index, *location).is_some()).count();
        assert_eq!((left, index.len()), (entries as usize / 10, entries as usize / 10));
    }

    #[test]
    fn the_entries_of_a_small_table_hardly_ever_move() {
        let entries = if cfg!(miri) { 2_000 } else { 100_000 };
        let hash_of = |location: u64| KeyHash(Random(location).below(u64::MAX));
        let mut index = Index::new(entries as usize).unwrap();
        let mut moved = 0;
        for location in 1..=entries {
            index.insert(hash_of(location), location);
            index.step(|_| {}, hash_of);
            moved += index.moved as u64;
        }
        assert!(moved < 3 * entries, "{moved} moves of {entries} entries");
    }

    #[test]
    #[cfg_attr(miri, ignore = "many steps")]
    fn a_growth_goes_at_the_pace_of_what_comes_until_it_is_not_needed() {
        let hash_of = |location: u64| KeyHash(Random(location).below(u64::MAX));
        let mut index = Index::new(1_000_000).unwrap();
        let mut next = 0;
        let mut insert = |index: &mut Index| {
            next += 1;
            index.insert(hash_of(next), next);
            index.step(|_| {}, hash_of);
        };
        while index.units_old < 400 || !index.is_changing() {
            insert(&mut index);
        }
        let mut gone = 0;
        let mut remove = |index: &mut Index| {
            gone += 1;
            let slot = index.find(hash_of(gone), |location| location == gone).expect("it was inserted");
            index.remove(slot);
            index.step(|_| {}, hash_of);
        };
        let (units, steps) = (index.frontier, 100 * CHANGES_PER_UNIT);
        (0..steps).for_each(|_| {
            insert(&mut index);
            remove(&mut index);
        });
        assert_eq!(units - index.frontier, 100, "units migrated");
        while index.is_changing() && index.len() > 0 {
            remove(&mut index);
        }
        assert!(index.len() > index.units_new * LOAD_MAX / 2, "a growth went on until little was left");
    }

    #[test]
    #[cfg_attr(miri, ignore = "many steps")]
    fn a_table_that_was_large_does_not_wait_for_what_is_left_of_it() {
        let hash_of = |location: u64| KeyHash(Random(location).below(u64::MAX));
        let mut index = Index::new(60_000_000).unwrap();
        index.stale_end = 100_000;
        for location in 1..=120_000 {
            index.insert(hash_of(location), location);
            index.step(|_| {}, hash_of);
            if location % 16 == 0 {
                index.cool();
            }
            assert!(index.stash.len() < 8, "{} of {location} found no room", index.stash.len());
        }
    }
}
