//! Items with attributes: stored with them, versioned when asked for, leased, emptied at a time.
//!
//! In: keys, values and [`Attributes`]. Out: versions, and whether it was done. What must stay true: versions only
//! grow, over restarts too, so that one handed out earlier never fits a later state by chance; a plain item is
//! rewritten with a version at most once for each state that somebody asked about.

use super::attributes::{Attributes, View};
use super::{Expiry, NewValue, Shard, Stored, UnixMs, When};

/// A version.
///
/// | bits   | meaning                                                                                        |
/// |--------|------------------------------------------------------------------------------------------------|
/// | 0..14  | of the shard's seed, so that versions of two shards are hardly ever the same                   |
/// | 14..64 | a count, which begins at the time: milliseconds, times 256, since that many in one are no rush |
const SHARD_BITS: u32 = 14;
const COUNTS_PER_MS: u64 = 256;

impl Shard {
    /// A version that no item has had.
    pub fn next_version(&mut self, now: UnixMs) -> u64 {
        self.version = (self.version + 1).max(now.saturating_mul(COUNTS_PER_MS));
        self.version << SHARD_BITS | self.seed & ((1 << SHARD_BITS) - 1)
    }

    /// About when a version was given.
    pub fn versioned_at(version: u64) -> UnixMs {
        (version >> SHARD_BITS) / COUNTS_PER_MS
    }

    /// The version of a key's item, which gets one if it has none.
    pub fn version(&mut self, view: View, key: &[u8], now: UnixMs) -> Option<u64> {
        let item = self.peek_as(view, key, now)?;
        let attributes = item.attributes();
        if attributes.version != 0 {
            return Some(attributes.version);
        }
        let version = self.next_version(now);
        self.change(key, now, |_, attributes| attributes.version = version);
        Some(version)
    }

    /// Stores a value with attributes, whatever was there.
    pub fn put(
        &mut self,
        key: &[u8],
        value: NewValue<'_>,
        expiry: Expiry,
        attributes: &Attributes<'_>,
        now: UnixMs,
    ) -> Stored {
        if *attributes == Attributes::default() {
            return self.set(key, value, expiry, When::Always, now);
        }
        self.store(key, (value, &attributes.pack()), expiry, When::Always, now)
    }

    /// The same for a value that follows from the one that is there: when it is as long, and so only changed, an item
    /// that was read still counts as read.
    pub fn put_changed(
        &mut self,
        key: &[u8],
        value: &[u8],
        expiry: Expiry,
        attributes: &Attributes<'_>,
        now: UnixMs,
    ) -> Stored {
        let was_read = self.find_live(key, View::All, now).is_some_and(|slot| {
            let entry = self.index.entry(slot);
            entry.is_read() && self.found(entry.location()).value.len() == value.len()
        });
        let stored = self.put(key, NewValue::Copied(value), expiry, attributes, now);
        let slot = if was_read { self.find_live(key, View::All, now) } else { None };
        slot.into_iter().for_each(|slot| self.index.mark_read(slot));
        stored
    }

    /// Changes expiry (0: never) and attributes of a key's item, which keeps its value; whether there is one.
    pub fn change(&mut self, key: &[u8], now: UnixMs, change: impl FnOnce(&mut UnixMs, &mut Attributes<'_>)) -> bool {
        self.work = super::evict::Work::default();
        let hash = self.hash(key);
        let Some(slot) = self.find_or_expire(hash, key, now) else { return false };
        let found = self.found(self.index.entry(slot).location());
        let (mut expires_at, mut attributes) = (found.expires_at, Attributes::unpack(found.extras));
        change(&mut expires_at, &mut attributes);
        let (packed, has_moved) = (attributes.pack(), expires_at != found.expires_at);
        self.alter(hash, slot, expires_at, &packed, now);
        if has_moved && self.shadow.sees(hash) {
            self.shadow_change(hash, Some(expires_at), now);
        }
        true
    }

    /// Removes everything at a time to come.
    pub fn clear_at(&mut self, at: UnixMs) {
        self.clear_at = at;
    }

    /// Does what is due at this time: before the first request of a tick.
    #[inline]
    pub fn begin(&mut self, now: UnixMs) {
        if now >= self.clear_at {
            self.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{LARGE_VALUE_BYTES, Presence, ShardOptions};
    use super::*;
    use crate::config::Settings;

    const NOW: UnixMs = 2_000_000_000_000;

    fn set(shard: &mut Shard, key: &[u8], value: &[u8]) {
        shard.set(key, NewValue::Copied(value), Expiry::Keep, When::Always, NOW);
    }

    #[test]
    fn every_change_of_a_value_is_another_version() {
        let mut shard = Shard::new(ShardOptions::new(&Settings::default(), 1, 5));
        for len in [3, 300, LARGE_VALUE_BYTES + 1] {
            let (value, other) = (vec![b'v'; len], vec![b'w'; len]);
            let mut last = 0;
            let mut is_new = |shard: &mut Shard| {
                let version = shard.version(View::Values, b"k", NOW).unwrap();
                assert_eq!(shard.version(View::Values, b"k", NOW), Some(version), "asking changes nothing");
                std::mem::replace(&mut last, version) < version
            };
            set(&mut shard, b"k", &value);
            assert!(is_new(&mut shard));
            set(&mut shard, b"k", &other);
            assert!(is_new(&mut shard), "same length, {len}");
            shard.append(b"k", b"x", NOW);
            assert!(is_new(&mut shard));
            shard.set_range(b"k", 0, b"y", NOW);
            assert!(is_new(&mut shard));
            shard.set_expiry(b"k", Some(NOW + 1000), NOW);
            assert!(!is_new(&mut shard), "an expiry is no value");
            assert_eq!(shard.peek(b"k", NOW).and_then(|item| item.expires_at), Some(NOW + 1000));
            shard.delete(b"k", NOW);
            assert_eq!(shard.version(View::Values, b"k", NOW), None);
        }
        assert_eq!(shard.stats().dataset_bytes, 0);
    }

    #[test]
    fn what_has_no_value_is_there_for_those_who_ask_for_it() {
        let mut shard = Shard::new(ShardOptions::new(&Settings::default(), 1, 5));
        let rows = [
            (Presence::Value, [true, true, true]),
            (Presence::Vivified, [false, true, true]),
            (Presence::Awaited, [false, false, true]),
            (Presence::Absent, [false, false, true]),
        ];
        for (presence, expected) in rows {
            let attributes = Attributes { presence, flags: 7, ..Attributes::default() };
            shard.put(b"k", NewValue::Copied(b""), Expiry::At(NOW + 10), &attributes, NOW);
            let seen = [View::Values, View::Memcache, View::All].map(|view| shard.peek_as(view, b"k", NOW).is_some());
            assert_eq!(seen, expected, "{presence:?}");
            assert_eq!(shard.len(), usize::from(expected[0]), "{presence:?}");
            let mut shown = 0;
            shard.scan(0, 100, NOW, &mut |_| shown += 1);
            assert_eq!((shown == 1, shard.random_key(NOW).is_some()), (expected[0], expected[0]), "{presence:?}");
            let stored = shard.set(b"k", NewValue::Copied(b"v"), Expiry::Never, When::Absent, NOW);
            assert_eq!(stored == Stored::Refused, expected[0], "{presence:?}");
            assert_eq!(shard.len(), 1, "{presence:?}");
            // In place, and in another shape.
            for change in [
                Attributes { presence, ..Attributes::default() },
                Attributes { presence: Presence::Absent, ..Attributes::default() },
                Attributes { presence, flags: 7, ..Attributes::default() },
            ] {
                shard.change(b"k", NOW, |_, attributes| *attributes = change);
                assert_eq!(shard.len(), usize::from(change.presence == Presence::Value), "{presence:?} {change:?}");
            }
            assert!(shard.delete_as(View::All, b"k", NOW) && shard.len() == 0, "{presence:?}");
        }
    }

    #[test]
    fn everything_goes_at_its_time() {
        let mut shard = Shard::new(ShardOptions::new(&Settings::default(), 1, 5));
        set(&mut shard, b"k", b"v");
        shard.clear_at(NOW + 5);
        shard.begin(NOW + 4);
        assert!(shard.peek(b"k", NOW + 4).is_some());
        shard.begin(NOW + 5);
        assert!(shard.peek(b"k", NOW + 5).is_none());
        set(&mut shard, b"k", b"v");
        shard.begin(NOW + 6);
        assert!(shard.peek(b"k", NOW + 6).is_some());
    }
}
