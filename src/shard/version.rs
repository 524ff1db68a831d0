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

    /// Changes expiry (0: never) and attributes of a key's item, which keeps its value; whether there is one.
    pub fn change(&mut self, key: &[u8], now: UnixMs, change: impl FnOnce(&mut UnixMs, &mut Attributes<'_>)) -> bool {
        self.work = super::evict::Work::default();
        let hash = self.hash(key);
        let Some(slot) = self.find_or_expire(hash, key, now) else { return false };
        let found = self.found(self.index.entry(slot).location());
        let (mut expires_at, mut attributes) = (found.expires_at, Attributes::unpack(found.extras));
        change(&mut expires_at, &mut attributes);
        let packed = attributes.pack();
        self.alter(hash, slot, expires_at, &packed, now);
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
