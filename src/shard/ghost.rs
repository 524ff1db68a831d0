//! Keys that were evicted not long ago, as fingerprints: who comes back soon was worth keeping.
//!
//! In: hashes of evicted keys. Out: whether a key was among the last ones, and which queue it had been in. What must
//! stay true: it takes two bytes for each key remembered; a wrong yes happens for one key in some thousands.

use std::io;
use std::ops::Range;

use super::KeyHash;
use super::log::Queue;
use super::memory::{PAGE_BYTES, RELEASED_BYTES, Reservation};

/// Fingerprints that push each other out, oldest first; two to a cache line.
const SET: usize = 16;

const SET_BYTES: usize = SET * size_of::<u16>();

/// The newest ones of a set and queue are recent: so many times a sixteenth of the cache were evicted since from there.
const RECENT: usize = 1;

/// A fingerprint, or the queue that its key was evicted from.
///
/// | bits  | what        | meaning                          |
/// |-------|-------------|----------------------------------|
/// | 0..15 | fingerprint | low bits of the hash; never 0    |
/// | 15    | queue       | 0 the small one, 1 the main one  |
const FINGERPRINT_MASK: u16 = (1 << 15) - 1;
const QUEUE_SHIFT: u32 = 15;

/// What is known of a key that was evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The queue that it was evicted from.
    pub(super) queue: Queue,
    /// Hardly anything was evicted since.
    pub(super) is_recent: bool,
}

/// The fingerprints.
#[derive(Debug)]
pub(super) struct Ghost {
    memory: Reservation,
    /// Sets in use.
    sets: usize,
    /// Sets that will be in use once they have pages.
    sets_next: usize,
    /// Bytes from here on belong to nobody; below it, beyond the sets, lies what a larger cache has left, or what the
    /// next sets have got so far.
    stale_end: usize,
}

impl Ghost {
    /// Room for the ghosts of a cache of `keys_max` keys.
    ///
    /// # Errors
    /// When the address space cannot be reserved.
    pub(super) fn new(keys_max: usize) -> io::Result<Self> {
        let memory = Reservation::new(Self::bytes_for(keys_max))?;
        Ok(Self { memory, sets: 0, sets_next: 0, stale_end: 0 })
    }

    /// Memory for a cache of so many keys: nine tenths of them are remembered.
    pub(super) fn bytes_for(keys: usize) -> usize {
        ((keys / 10 * 9).div_ceil(SET) * SET_BYTES).next_multiple_of(PAGE_BYTES)
    }

    /// Makes room for a cache of so many keys, unless it is about right already; [`warm`](Self::warm) does the work of
    /// growing. After a change what is remembered lies in other keys' sets, where it does no more harm than what
    /// belongs there.
    pub(super) fn fit(&mut self, keys: usize) {
        let sets = Self::bytes_for(keys).min(self.memory.bytes().len()) / SET_BYTES;
        if self.sets_next * 4 < sets * 3 || self.sets_next > sets * 2 {
            self.sets_next = sets;
            self.sets = self.sets.min(sets);
        }
    }

    /// Takes one of the pages that are still missing; no longer missing any, the new room is in use. Keys are evicted
    /// many at a time and lie anywhere, so that a first touch for each would make the first evictions slow.
    #[inline]
    pub(super) fn warm(&mut self) {
        if self.sets == self.sets_next {
            return;
        }
        if self.stale_end < self.sets_next * SET_BYTES {
            self.memory.bytes_mut()[self.stale_end] = 0;
            self.stale_end += PAGE_BYTES;
        }
        if self.stale_end >= self.sets_next * SET_BYTES {
            self.sets = self.sets_next;
        }
    }

    /// Gives back some of the pages that are not in use any more; whether there are more.
    pub(super) fn cool(&mut self) -> bool {
        let used = self.sets_next * SET_BYTES;
        let end = self.stale_end.saturating_sub(RELEASED_BYTES).max(used);
        if end < self.stale_end {
            self.memory.release(end..self.stale_end);
            self.stale_end = end;
        }
        self.stale_end > used
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.stale_end
    }

    /// The bytes of a key's set, and its fingerprint, which is never 0.
    fn place(&self, hash: KeyHash) -> (Range<usize>, u16) {
        let set = ((u128::from(hash.0) * self.sets as u128) >> 64) as usize;
        (set * SET_BYTES..(set + 1) * SET_BYTES, (hash.0 as u16 & FINGERPRINT_MASK).max(1))
    }

    /// Brings a key's set towards the processor.
    #[inline]
    pub(super) fn prefetch(&self, hash: KeyHash) {
        self.memory.prefetch(self.place(hash).0.start);
    }

    /// Remembers an evicted key and forgets the oldest of its set.
    pub(super) fn add(&mut self, hash: KeyHash, queue: Queue) {
        if self.sets == 0 {
            return;
        }
        let (range, fingerprint) = self.place(hash);
        let set = &mut self.memory.bytes_mut()[range];
        set.copy_within(size_of::<u16>().., 0);
        set[SET_BYTES - size_of::<u16>()..]
            .copy_from_slice(&(fingerprint | (queue as u16) << QUEUE_SHIFT).to_le_bytes());
    }

    /// What is known of a key if it was evicted not long ago; forgets it.
    pub(super) fn take(&mut self, hash: KeyHash) -> Option<Known> {
        if self.sets == 0 {
            return None;
        }
        let (range, fingerprint) = self.place(hash);
        let set = &self.memory.bytes()[range.clone()];
        let entry = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
        let index = set.chunks_exact(2).rposition(|bytes| entry(bytes) & FINGERPRINT_MASK == fingerprint)?;
        let queue = entry(&set[index * 2..]) >> QUEUE_SHIFT;
        let newer = set.chunks_exact(2).skip(index + 1).filter(|bytes| entry(bytes) >> QUEUE_SHIFT == queue).count();
        let set = &mut self.memory.bytes_mut()[range];
        set.copy_within(..index * size_of::<u16>(), size_of::<u16>());
        set[..size_of::<u16>()].fill(0);
        let queue = if queue == Queue::Main as u16 { Queue::Main } else { Queue::Small };
        Some(Known { queue, is_recent: newer < RECENT })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_keys_are_remembered_once() {
        let hash = |key: u64| KeyHash(key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ key << 40);
        let mut ghost = Ghost::new(10_000).unwrap();
        ghost.add(hash(1), Queue::Small);
        assert_eq!(ghost.take(hash(1)), None, "no room yet");
        ghost.fit(1_800);
        ghost.warm();
        (0..10_000).for_each(|key| ghost.add(hash(key), if key % 2 == 0 { Queue::Small } else { Queue::Main }));
        let last = ghost.take(hash(9_999));
        assert_eq!(last, Some(Known { queue: Queue::Main, is_recent: true }));
        let first = (9_000..9_100).filter(|key| ghost.take(hash(*key)).is_some_and(|known| known.is_recent)).count();
        assert!(first < 10, "{first} of those that were evicted first are called recent");
        let recent = (9_100..9_999).filter(|key| ghost.take(hash(*key)).is_some()).count();
        assert!(recent > 850, "{recent} of the last 899");
        let again = (9_000..10_000).filter(|key| ghost.take(hash(*key)).is_some()).count();
        assert!(again < 20, "{again} were taken already");
        let old = (0..5_000).filter(|key| ghost.take(hash(*key)).is_some()).count();
        assert!(old < 50, "{old} were forgotten long ago");
    }

    #[test]
    fn pages_come_and_go_in_slices() {
        let mut ghost = Ghost::new(1_000_000).unwrap();
        ghost.fit(1_000_000);
        ghost.add(KeyHash(1 << 63), Queue::Small);
        assert_eq!((ghost.memory_bytes(), ghost.take(KeyHash(1 << 63))), (0, None), "nothing is taken at once");
        ghost.warm();
        assert_eq!(ghost.memory_bytes(), PAGE_BYTES);
        (0..1_000).for_each(|_| ghost.warm());
        let bytes = ghost.memory_bytes();
        assert_eq!(bytes, Ghost::bytes_for(1_000_000));
        assert!(!ghost.cool() && ghost.memory_bytes() == bytes);
        ghost.fit(1_000);
        assert!(ghost.cool() && ghost.memory_bytes() == bytes - RELEASED_BYTES);
        while ghost.cool() {}
        assert_eq!(ghost.memory_bytes(), Ghost::bytes_for(1_000));
    }
}
