//! Going through the items: from one to the next, and to any one of them.
//!
//! In: a cursor, or a wish for a random key. Out: items. What must stay true: an item that is there all the time is
//! shown at least once, however the index grows and shrinks meanwhile; each call does a bounded amount of work.

use super::attributes::{View, is_seen};
use super::index::{PLACES, place_of};
use super::{Item, KeyHash, Shard, UnixMs};

/// Units of the index that one call of [`Shard::scan`] looks at, at most.
const SCANNED_UNITS_MAX: usize = 16;

/// Random looks for a random key, before a search; and units of the index that this looks at, at most: all that is
/// there may have expired.
const SAMPLES: usize = 16;
const UNITS_SEARCHED_MAX: usize = 64;

impl Shard {
    /// Shows some items, about `count`, and returns the cursor to go on with; 0 starts and ends. An item present from
    /// the first call to the last is shown at least once. Cursors stay below 2^48.
    pub fn scan(&mut self, cursor: u64, count: usize, now: UnixMs, show: &mut dyn FnMut(&Item<'_>)) -> u64 {
        let mut place = cursor;
        let mut shown = 0;
        for _ in 0..SCANNED_UNITS_MAX {
            if place >= PLACES {
                return 0;
            }
            let mut entries = Vec::new();
            let next = self.index.unit_from(place, |other, entry| {
                let other = other.unwrap_or_else(|| place_of(self.hash_at(entry.location())));
                entries.push((other, entry.location()));
            });
            entries.retain(|(other, _)| (place..next).contains(other));
            // In the order of places, so that a call can end within a unit.
            entries.sort_unstable();
            let mut before = None;
            for (other, location) in entries {
                if shown >= count && before.is_some_and(|before| before != other) {
                    return other;
                }
                before = Some(other);
                shown += 1;
                let item = self.item(location);
                if item.expires_at.is_none_or(|at| at > now) && is_seen(item.extras, View::Values) {
                    show(&item);
                }
            }
            place = next;
            if shown >= count {
                break;
            }
        }
        if place >= PLACES { 0 } else { place }
    }

    /// Any one key; `None` when none was found where it was looked for.
    pub fn random_key(&mut self, now: UnixMs) -> Option<&[u8]> {
        let sampled = (0..SAMPLES).find_map(|_| {
            let random = self.next_random();
            let location = self.index.sample(random)?.location();
            self.is_value(location, now).then_some(location)
        });
        let mut place = place_of(KeyHash(self.next_random()));
        let location = sampled.or_else(|| {
            (0..UNITS_SEARCHED_MAX).find_map(|_| {
                let mut found = None;
                place = self.index.unit_from(place, |_, entry| {
                    found = found.or(self.is_value(entry.location(), now).then_some(entry.location()));
                }) % PLACES;
                found
            })
        });
        location.map(|location| self.found(location).key)
    }

    fn is_value(&self, location: u64, now: UnixMs) -> bool {
        let found = self.found(location);
        !found.is_expired(now) && is_seen(found.extras, View::Values)
    }
}
