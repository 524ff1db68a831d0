//! When the map of the slots is replaced: the new one is taken up, and items of slots that were lost are dropped.
//!
//! In: a map with another epoch. Out: a shard without items that belong elsewhere, emptied in slices. What must stay
//! true: a slot that comes back begins empty, for what it held may have been changed elsewhere since.

use super::Core;
use crate::cluster::{Map, SLOTS};
use crate::command::slot::slot_of;

/// Items looked at in one tick.
const ITEMS_PER_TICK: usize = 64;

/// What of the shard belongs elsewhere.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Where the search for them goes on.
    cursor: Option<u64>,
    /// A slot was lost once, so there may be some: also from requests that other workers sent by an earlier map.
    may_exist: bool,
}

impl Leftovers {
    /// Whether the search is under way.
    pub(super) fn is_searched(&self) -> bool {
        self.cursor.is_some()
    }
}

impl Core {
    /// Takes up the map that has replaced this worker's, if one has.
    pub(super) fn take_up_map(&mut self) {
        if self.instance.map_epoch() != self.map.epoch {
            self.adopt_map();
        }
    }

    fn adopt_map(&mut self) {
        let next = self.instance.map();
        let owns = |map: &Map, slot| map.worker_of(slot) == Some(self.index);
        let has_gained = (0..SLOTS).any(|slot| owns(&next, slot) && !owns(&self.map, slot));
        let has_lost = (0..SLOTS).any(|slot| !owns(&next, slot) && owns(&self.map, slot));
        if has_gained && self.leftovers.may_exist {
            // One of them may be in a slot that comes back. This takes as long as KEYS, and happens to an operator who
            // moves slots to and fro.
            self.leftovers.cursor = Some(0);
            while self.leftovers.is_searched() {
                self.drop_leftovers();
            }
        }
        self.map = next;
        if has_lost {
            self.leftovers = Leftovers { cursor: Some(0), may_exist: true };
        }
    }

    /// Drops some of the items that belong elsewhere.
    pub(super) fn drop_leftovers(&mut self) {
        let Some(cursor) = self.leftovers.cursor else { return };
        let mut found: Vec<Box<[u8]>> = Vec::new();
        let (map, own, now) = (&self.map, self.index, self.now.unix_ms);
        let next = self.shard.scan(cursor, ITEMS_PER_TICK, now, &mut |item| {
            if map.worker_of(slot_of(item.key)) != Some(own) {
                found.push(item.key.into());
            }
        });
        for key in found {
            self.shard.delete(&key, now);
        }
        self.leftovers.cursor = Some(next).filter(|cursor| *cursor != 0);
    }
}
