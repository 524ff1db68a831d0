//! Making room: which items go, which segments are emptied, and how the work is cut into slices.
//!
//! In: the need for a segment or for bytes, and idle moments. Out: free segments. What must stay true: no slice looks
//! at more records than it says; two segments with pages are kept free for survivors; without an evicting policy
//! nothing is lost but what has expired.
//!
//! Items enter the small queue, at first a tenth of the segments. The oldest small segment's items go, and their keys
//! become ghosts, unless they were used meanwhile: those are copied to the main queue. There the oldest segment's used
//! items are copied to the end, each with a use less; the others become ghosts as well. A key that comes back while
//! its ghost is there enters the main queue. Of the two queues, the one whose keys come back sooner grows.
//! With items of unequal sizes, a large one needs more uses to be kept, and does not enter the main queue for one.
//! Source: Yang, Zhang, Qiu, Yue, Vigfusson, "FIFO queues are all you need for cache eviction" (SOSP 2023), with
//! segments in place of items.

use super::ghost::Ghost;
use super::index::Slot;
use super::log::{Draft, Queue, Segment, State};
use super::memory::RELEASED_BYTES;
use super::store::Found;
use super::{KeyHash, Shard, UnixMs};
use crate::config::Policy;

/// Free segments with pages, kept for survivors.
pub(super) const RESERVE: usize = 2;

/// Records looked at in a slice of eviction ahead of need: so many are on their way to the processor at once.
const RECORDS_AHEAD: usize = 8;

/// Changes of items for each such slice, while there is time: more than the changes take, and not much more, so that no
/// pipeline of them takes several times as long as others.
const CHANGES_PER_SLICE: u32 = 3;

/// Records looked at in one call otherwise.
pub(super) const RECORDS_PER_CALL: usize = 64;

/// Records that active expiry looks at in one call: nothing has brought these towards the processor.
const RECORDS_WALKED: usize = 16;

/// Records looked at in one call that stores an item larger than those, unless the budget is overdrawn.
const RECORDS_FOR_LARGER: usize = 1024;

/// An item that is stored may have so many times its bytes looked at: some records stay.
const BYTES_FOR_BYTES: u64 = 4;

/// Segments looked at for the one with the most dead bytes, and those that active expiry passes by in a call.
const SEGMENTS_PER_CALL: usize = 32;

/// Segments among which a random one is taken, or the one that expires first: all of 512 MiB.
const SEGMENTS_SAMPLED: usize = 512;

/// Bytes given back in one call, and a few times those that it stores.
const FREED_BYTES_PER_CALL: u64 = 2 * RELEASED_BYTES as u64;

/// The share of the budget that may be held beyond it before more records are looked at for each change, and before
/// items go although they were used.
const OVERDRAFT_SHARE: u64 = 128;
pub(super) const OVERDRAFT_SHARE_MAX: u64 = 32;

/// Dead bytes are cleaned up when they are more than this share of the log.
const DEAD_SHARE: u64 = 10;

/// Why a segment is being emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To make room: items go unless they were used.
    Evict,
    /// To gather live items: none goes.
    Clean,
    /// Everything in it has expired.
    Expire,
}

/// What the present call has done to make room, so that it comes to an end.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Records looked at.
    pub(super) records: usize,
    /// Their bytes.
    bytes: u64,
    /// Bytes given back: pages of the log, large values that are gone.
    freed: u64,
}

impl Work {
    /// Whether a call that stores `bytes` may look at further records, when it may look at `records` in any case. For
    /// an overdrawn budget their number does not matter.
    fn goes_on(&self, records: usize, bytes: u64, is_overdrawn: bool) -> bool {
        let may_more = self.records < RECORDS_FOR_LARGER || is_overdrawn;
        self.records < records || (self.bytes < bytes * BYTES_FOR_BYTES && may_more)
    }

    /// Whether a call that stores `bytes` may give more back.
    fn frees_on(&self, bytes: u64) -> bool {
        self.freed < FREED_BYTES_PER_CALL + 2 * bytes
    }
}

/// How soon segments run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    None,
    Ahead,
    /// The next one may be needed at once.
    Near,
}

/// Changes since the last slice of work that they bring with them.
#[derive(Debug, Default)]
pub(super) struct Owed {
    changes: u32,
    bytes: u64,
}

/// The segment that is being emptied.
#[derive(Debug)]
pub(super) struct Victim {
    segment: u32,
    /// The next record.
    at: u64,
    purpose: Purpose,
}

/// Where active expiry has come to.
#[derive(Debug, Default)]
pub(super) struct Walk {
    segment: usize,
    /// The next record; 0: the segment's first.
    at: u64,
    generation: u32,
    /// The next segment of which it is looked whether all of it has expired.
    whole: usize,
    last_ms: UnixMs,
    /// Much of what the last slice looked at had expired.
    is_busy: bool,
}

impl Victim {
    /// Its items are not to go any more.
    pub(super) fn spare(&mut self) {
        if self.purpose == Purpose::Evict {
            self.purpose = Purpose::Clean;
        }
    }
}

impl Shard {
    /// The queue of a new item. That its ghost is there counts as one hit.
    pub(super) fn queue_of_new(&mut self, hash: KeyHash, bytes: usize) -> Queue {
        match self.policy {
            Policy::AllKeysLru | Policy::VolatileLru => Queue::Main,
            Policy::Cache | Policy::AllKeysLfu => match self.ghost.take(hash) {
                Some(ghost) if self.keeping.is_dense(1, bytes) => {
                    if ghost.is_recent {
                        self.balance.see_return(ghost.queue, self.index.len());
                    }
                    // What was kept for long enough has to earn its place anew.
                    if ghost.queue == Queue::Small { Queue::Main } else { Queue::Small }
                }
                _ => Queue::Small,
            },
            _ => Queue::Small,
        }
    }

    /// Whether an item of a segment that is being emptied stays.
    fn keeps(&self, hits: u64, bytes: usize) -> bool {
        match self.policy {
            Policy::Cache | Policy::AllKeysLfu => hits > 0 && self.keeping.is_dense(hits, bytes),
            Policy::AllKeysLru | Policy::VolatileLru | Policy::VolatileLfu => hits > 0,
            Policy::AllKeysRandom | Policy::VolatileRandom | Policy::VolatileTtl => false,
            Policy::NoEviction => true,
        }
    }

    /// Whether evicted keys are remembered.
    pub(super) fn has_ghosts(&self) -> bool {
        matches!(self.policy, Policy::Cache | Policy::AllKeysLfu)
    }

    /// What is held, and what the tables will want next: with the budget used up they must not take the survivors'
    /// segments.
    pub(super) fn planned_bytes(&self) -> u64 {
        let ghost = if self.has_ghosts() { Ghost::bytes_for(self.index.len()) } else { 0 };
        let growth = self.index.growth_bytes() + ghost.saturating_sub(self.ghost.memory_bytes());
        self.used_bytes() + growth as u64 + self.shadow_growth_bytes()
    }

    /// Whether more than this share of the budget is held beyond it: when almost all items were used, new ones come
    /// faster than others go.
    fn is_overdrawn_by(&self, share: u64) -> bool {
        let held = self.planned_bytes().saturating_sub(self.freeable_bytes());
        held > self.budget_bytes.saturating_add(self.budget_bytes / share)
    }

    /// Bytes that an item may have at most for which nothing can be evicted; when something can, as much as any budget.
    pub fn room_bytes(&self) -> u64 {
        if self.may_evict() { self.budget_max() } else { self.budget_bytes.saturating_sub(self.stats.dataset_bytes) }
    }

    /// Whether anything may be evicted.
    pub(super) fn may_evict(&self) -> bool {
        match self.policy {
            Policy::NoEviction => false,
            policy if policy.is_volatile() => self.stats.expires > 0,
            _ => self.index.len() > 0,
        }
    }

    /// Whether the present call, which stores `bytes`, has to stop although further ones can make more room.
    fn ends_early(&self, bytes: u64) -> bool {
        let held = self.planned_bytes().saturating_add(bytes).saturating_sub(self.freeable_bytes());
        let only_frees = held <= self.budget_bytes && !self.work.frees_on(bytes);
        let is_overdrawn = self.is_overdrawn_by(OVERDRAFT_SHARE_MAX);
        only_frees || (self.may_evict() && !self.work.goes_on(RECORDS_PER_CALL, bytes, is_overdrawn))
    }

    /// Whether one more segment may have pages, and `reserved` further ones after it.
    pub(super) fn may_grow(&self, reserved: usize) -> bool {
        let bytes = (1 + reserved) as u64 * self.log.segment_bytes() as u64;
        self.planned_bytes().saturating_add(bytes) <= self.budget_bytes
    }

    /// Appends a record; `None` when there is no room and none can be made. An urgent one may exceed the budget.
    pub(super) fn append_record(
        &mut self,
        draft: &Draft<'_>,
        queue: Queue,
        is_urgent: bool,
        now: UnixMs,
    ) -> Option<u64> {
        loop {
            if let Some(location) = self.log.append(draft, queue, now) {
                return Some(location);
            }
            let segment = self.free_segment(draft.len() as u64, is_urgent, now)?;
            self.open(segment, queue, draft.expires_at, now);
        }
    }

    fn open(&mut self, segment: u32, queue: Queue, expires_at: UnixMs, now: UnixMs) {
        self.is_stale = true;
        if let Some(full) = self.log.open(segment, queue, expires_at, now) {
            self.queues.push(full, &self.log.segments[full as usize]);
        }
    }

    /// A free segment for new items, of which `bytes` come at present. Evicts if need be; usually
    /// [`catch_up`](Self::catch_up) has done so.
    fn free_segment(&mut self, bytes: u64, is_urgent: bool, now: UnixMs) -> Option<u32> {
        loop {
            let is_within = self.planned_bytes() <= self.budget_bytes;
            if self.log.warm() > RESERVE && is_within {
                return self.log.take_warm();
            }
            if self.may_grow(RESERVE.saturating_sub(self.log.warm()))
                && let Some(segment) = self.log.take_warm().or_else(|| self.log.take_cold())
            {
                return Some(segment);
            }
            let missing = 1 + RESERVE.saturating_sub(self.log.warm());
            if !self.make_some_room((missing * self.log.segment_bytes()) as u64, bytes, now) {
                break;
            }
        }
        // What this call may not do any more the next ones will: a segment holds many items, each of which brings
        // more work than it takes. Where nothing may be evicted, cleaning alone does not go on for ever, and what it
        // frees is not for new items.
        if is_urgent || self.ends_early(bytes) {
            if self.log.warm() > RESERVE { self.log.take_warm() } else { self.log.take_cold() }
        } else if self.planned_bytes() <= self.budget_bytes {
            self.log.take_warm()
        } else {
            None
        }
    }

    /// Makes room for a large item, or as much of it as one call may; false when it cannot be made.
    pub(super) fn make_room(&mut self, bytes: u64, now: UnixMs) -> bool {
        // Beside it, its record needs a segment.
        let least = self.index.memory_bytes() as u64 + (RESERVE as u64 + 1) * self.log.segment_bytes() as u64;
        if bytes.saturating_add(least) > self.budget_bytes {
            return false;
        }
        while self.planned_bytes().saturating_add(bytes) > self.budget_bytes {
            if !self.make_some_room(bytes, bytes, now) {
                return self.ends_early(bytes);
            }
        }
        true
    }

    /// A step towards `room` for a call that stores `bytes`; false when it may do no more, or there is nothing to do.
    fn make_some_room(&mut self, room: u64, bytes: u64, now: UnixMs) -> bool {
        if self.work.frees_on(bytes) && self.free_some() {
            return true;
        }
        // What can be given back need not be made room for.
        let wanted = self.planned_bytes().saturating_add(room).saturating_sub(self.freeable_bytes());
        wanted > self.budget_bytes
            && self.work.goes_on(RECORDS_PER_CALL, bytes, self.is_overdrawn_by(OVERDRAFT_SHARE_MAX))
            && self.empty_segments(RECORDS_PER_CALL, bytes, true, now)
    }

    /// Bytes that count as used, but only have to be given back.
    fn freeable_bytes(&self) -> u64 {
        let spare = self.log.warm().saturating_sub(RESERVE) * self.log.segment_bytes();
        spare as u64 + self.gone_bytes()
    }

    /// Of these, those that were items.
    fn gone_bytes(&self) -> u64 {
        self.garbage_bytes + self.alive.dead_bytes() + self.former_bytes()
    }

    /// Gives something back; false when there is nothing.
    fn free_some(&mut self) -> bool {
        let freed = if let Some(freed) = self.free_garbage() {
            freed
        } else if self.log.warm() > RESERVE && self.log.cool() {
            self.ahead.restart();
            RELEASED_BYTES as u64
        } else if self.alive.free_slice() || self.dismantle_former() {
            RELEASED_BYTES as u64
        } else {
            return false;
        };
        self.work.freed += freed;
        true
    }

    /// The slice of work that a change of an item of `bytes` brings with it: growth of the index, eviction ahead of
    /// need.
    pub(super) fn catch_up(&mut self, bytes: u64, now: UnixMs) {
        self.step_index();
        // As much as comes, and more.
        let _ = (0..2 * bytes / RELEASED_BYTES as u64).take_while(|_| self.alive.free_slice()).count();
        let is_large = bytes >= self.log.large_bytes_min() as u64;
        if self.is_stale || is_large {
            self.is_stale = false;
            self.shortage = self.find_shortage();
            self.prepare_ghost();
        }
        self.ghost.warm();
        let shortage = self.shortage;
        if shortage == Shortage::None && !self.is_gathering() && !self.needs_cleaning() {
            return;
        }
        self.is_stale = true;
        self.owed = Owed { changes: self.owed.changes + 1, bytes: self.owed.bytes + bytes };
        let is_overdrawn = self.is_overdrawn_by(OVERDRAFT_SHARE);
        // Only what is ahead of need has time: what has died or expired may be most of what lies there.
        let has_time = shortage == Shortage::Ahead && !is_overdrawn && !is_large && !self.is_gathering();
        if !has_time || self.owed.changes >= CHANGES_PER_SLICE {
            let owed = std::mem::take(&mut self.owed);
            let records = if is_overdrawn { RECORDS_PER_CALL } else { RECORDS_AHEAD };
            // Half the usual multiple of what came: twice as much.
            let bytes = if has_time { owed.bytes / 2 } else { owed.bytes };
            self.empty_segments(records, bytes, shortage != Shortage::None, now);
        }
    }

    /// Whether a segment is being emptied whose items stay, or have expired.
    fn is_gathering(&self) -> bool {
        self.victim.as_ref().is_some_and(|victim| victim.purpose != Purpose::Evict)
    }

    fn step_index(&mut self) {
        let (log, larges, hasher) = (&self.log, &self.larges, &self.hasher);
        let has_moved = self.index.step(
            |location| log.prefetch(location),
            |location| KeyHash(hasher.hash_one(Found::at(log, larges, location).key)),
        );
        self.moves += u64::from(has_moved);
        self.is_stale |= has_moved;
    }

    /// How soon segments run out.
    fn find_shortage(&self) -> Shortage {
        if self.policy == Policy::NoEviction {
            return Shortage::None;
        }
        let segment_bytes = self.log.segment_bytes() as u64;
        let gone = self.gone_bytes();
        let free = self.budget_bytes.saturating_add(gone).saturating_sub(self.planned_bytes()) / segment_bytes;
        match (free + self.log.warm() as u64).checked_sub(RESERVE as u64) {
            None | Some(0) => Shortage::Near,
            Some(1) => Shortage::Ahead,
            Some(2..) => Shortage::None,
        }
    }

    /// Has room for ghosts before the first item is evicted.
    fn prepare_ghost(&mut self) {
        if self.has_ghosts() && self.planned_bytes() > self.budget_bytes / 8 * 7 {
            self.ghost.fit(self.index.len());
        }
    }

    pub(super) fn needs_cleaning(&self) -> bool {
        self.log.dead_bytes > 4 * self.log.segment_bytes() as u64
            && self.log.dead_bytes > self.log.memory_bytes() / DEAD_SHARE
    }

    /// One bounded slice of the work that is due: expiring, evicting ahead of need, freeing. Whether more is waiting.
    pub fn maintain(&mut self, now: UnixMs) -> bool {
        self.work = Work::default();
        // One kind of work that takes long is enough for a call.
        if self.free_garbage().is_some()
            || self.alive.free_slice()
            || self.dismantle_former()
            || self.index.cool()
            || self.ghost.cool()
        {
            return true;
        }
        let mut has_more = false;
        // Where many have expired, more have; else once a millisecond will do.
        if self.stats.expires > 0 && (self.walk.is_busy || self.walk.last_ms != now) {
            self.walk.last_ms = now;
            self.choose_expired(now);
            let is_emptying = self.victim.as_ref().is_some_and(|victim| victim.purpose == Purpose::Expire);
            self.walk.is_busy = is_emptying || self.expire(now) * 4 >= RECORDS_WALKED;
            has_more |= self.walk.is_busy;
        }
        if self.planned_bytes() > self.budget_bytes {
            has_more |= self.free_some() || self.empty_segments(RECORDS_PER_CALL, 0, true, now);
        } else if self.log.warm() > RESERVE + 2 + self.populated_max() {
            self.ahead.restart();
            return self.log.cool();
        }
        if self.is_gathering() || self.needs_cleaning() {
            has_more |= self.empty_segments(RECORDS_PER_CALL / 2, 0, false, now);
        }
        if self.work.records <= RECORDS_AHEAD {
            self.step_index();
        }
        has_more
    }

    /// Looks at some records of the segment that is being emptied, choosing one first if there is none, until the
    /// present call, which stores `bytes`, has looked at `records`. False when there is none to choose; with
    /// `may_evict` items may go.
    fn empty_segments(&mut self, records: usize, bytes: u64, may_evict: bool, now: UnixMs) -> bool {
        if self.victim.is_none() {
            self.victim = self.choose(may_evict && self.policy != Policy::NoEviction);
        }
        let Some(mut victim) = self.victim.take() else { return false };
        if !may_evict {
            // There is room by now: what has not gone yet stays.
            victim.spare();
        }
        let end = self.log.span(victim.segment).end;
        let mut has_enough = false;
        let is_overdrawn = may_evict && self.is_overdrawn_by(OVERDRAFT_SHARE_MAX);
        while victim.at < end && !has_enough && self.work.goes_on(records, bytes, is_overdrawn) {
            let mut next = [(0, KeyHash(0)); RECORDS_AHEAD];
            let count = self.look_ahead(victim.at, end, &mut next);
            for (location, hash) in &next[..count] {
                let large_bytes = self.large_bytes_of.iter().sum::<u64>();
                let record_bytes = self.log.record(*location).len as u64;
                victim.at = location + record_bytes;
                self.work.records += 1;
                self.work.bytes += record_bytes;
                // A record that the index does not know is dead.
                if let Some(slot) = self.index.find(*hash, |candidate| candidate == *location) {
                    self.judge(&victim, *hash, slot, now);
                }
                // A large one may have been enough: no more than necessary goes.
                has_enough = self.large_bytes_of.iter().sum::<u64>() < large_bytes;
                if has_enough {
                    break;
                }
            }
        }
        self.moves += 1;
        if victim.at >= end {
            self.log.free(victim.segment);
        } else {
            self.victim = Some(victim);
        }
        true
    }

    /// Finds the next records of a segment, and brings what will be asked about them towards the processor.
    fn look_ahead(&self, from: u64, end: u64, next: &mut [(u64, KeyHash); RECORDS_AHEAD]) -> usize {
        let (mut at, mut count) = (from, 0);
        while at < end && count < RECORDS_AHEAD {
            let hash = self.hash_at(at);
            self.index.prefetch(hash);
            self.ghost.prefetch(hash);
            next[count] = (at, hash);
            count += 1;
            at += self.log.record(at).len as u64;
        }
        count
    }

    /// Decides about one live item of the segment that is being emptied.
    fn judge(&mut self, victim: &Victim, hash: KeyHash, slot: Slot, now: UnixMs) {
        let entry = self.index.entry(slot);
        let found = self.found(entry.location());
        let (hits, bytes) = (entry.frequency(), found.memory_bytes);
        if found.is_expired(now) {
            self.remove(slot);
            self.stats.expired += 1;
            return;
        }
        let queue = self.log.segments[victim.segment as usize].queue;
        // The clock may have stepped back since everything in it had expired.
        let is_kept = if victim.purpose != Purpose::Evict {
            self.keep(slot, queue, hits, true, now)
        } else {
            self.keeping.see(hits, bytes);
            let hits_left = if queue == Queue::Main { hits.saturating_sub(1) } else { 0 };
            self.keeps(hits, bytes)
                && !self.is_overdrawn_by(OVERDRAFT_SHARE_MAX)
                && self.keep(slot, Queue::Main, hits_left, false, now)
        };
        if !is_kept {
            self.ghost.add(hash, queue);
            self.remove(slot);
            self.stats.evicted += 1;
        }
    }

    /// Copies an item's record to another segment; false when there is none.
    fn keep(&mut self, slot: Slot, queue: Queue, frequency: u64, is_urgent: bool, now: UnixMs) -> bool {
        let location = self.index.entry(slot).location();
        let record = self.log.record(location);
        let (len, expires_at) = (record.len, record.expires_at);
        let large_bytes = if record.is_large { self.larges[record.number()].memory_bytes() } else { 0 };
        loop {
            if let Some(copy) = self.log.copy(location, queue, now) {
                self.large_bytes_of[self.log.queue_of(location) as usize] -= large_bytes;
                self.large_bytes_of[queue as usize] += large_bytes;
                self.log.kill(location, len);
                self.index.replace(slot, copy, frequency);
                return true;
            }
            let may_grow = is_urgent || self.may_grow(0);
            let free = self.log.take_warm().or_else(|| if may_grow { self.log.take_cold() } else { None });
            let Some(segment) = free else { return false };
            self.open(segment, queue, expires_at, now);
        }
    }

    /// The next segment to be emptied.
    fn choose(&mut self, may_evict: bool) -> Option<Victim> {
        if !may_evict || self.needs_cleaning() {
            let dirtiest = self.choose_dirty();
            if dirtiest.is_some() || !may_evict {
                return dirtiest;
            }
        }
        let segment = self.choose_oldest().or_else(|| {
            // Whatever may go may lie in segments that are not full yet.
            let needs_expiry = self.policy.is_volatile();
            self.log.seal_one(|segment| segment.is_volatile() || !needs_expiry)
        });
        match segment {
            Some(segment) => Some(self.victim_of(segment, Purpose::Evict)),
            // Nothing may be evicted; what is dead can still be gathered.
            None => self.choose_dirty(),
        }
    }

    fn victim_of(&self, segment: u32, purpose: Purpose) -> Victim {
        Victim { segment, at: self.log.span(segment).start, purpose }
    }

    /// Takes the segment that the policy gives up first out of its queue.
    fn choose_oldest(&mut self) -> Option<u32> {
        let bytes = |queue: Queue| {
            self.queues.len(queue) as u64 * self.log.segment_bytes() as u64 + self.large_bytes_of[queue as usize]
        };
        let (small, main) = (bytes(Queue::Small), bytes(Queue::Main));
        let has_small_share = small * 100 >= (small + main) * self.balance.small_percent();
        let order = if has_small_share { [Queue::Small, Queue::Main] } else { [Queue::Main, Queue::Small] };
        let random = self.next_random();
        let is_volatile = self.policy.is_volatile();
        if self.queues.oldest(order[0], is_volatile).is_none() && self.large_bytes_of[order[0] as usize] > 0 {
            // A few records of large items do not fill a segment, but are what is to go.
            let may_go = |segment: &Segment| segment.queue == order[0] && (segment.is_volatile() || !is_volatile);
            let sealed = self.log.seal_one(may_go);
            if sealed.is_some() {
                return sealed;
            }
        }
        let segments = &self.log.segments;
        let number = order.into_iter().find_map(|queue| {
            let mut some = self.some_sealed(random, SEGMENTS_SAMPLED).filter(|number| {
                let segment = &segments[*number as usize];
                segment.queue == queue && (segment.is_volatile() || !is_volatile)
            });
            let chosen = match self.policy {
                Policy::AllKeysRandom | Policy::VolatileRandom => some.next(),
                Policy::VolatileTtl => some.min_by_key(|number| segments[*number as usize].expires_last),
                _ => None,
            };
            chosen.or_else(|| self.queues.oldest(queue, is_volatile))
        })?;
        self.queues.remove(number, &segments[number as usize]);
        Some(number)
    }

    /// The full ones of so many segments, from a random one on.
    fn some_sealed(&self, random: u64, count: usize) -> impl Iterator<Item = u32> {
        let segments = &self.log.segments;
        let start = random as usize % segments.len().max(1);
        let some = (0..segments.len().min(count)).map(move |index| (start + index) % segments.len());
        some.map(|number| number as u32).filter(|number| self.log.state(*number) == State::Sealed)
    }

    /// Takes the full segment with the most dead bytes, of some, out of its queue.
    fn choose_dirty(&mut self) -> Option<Victim> {
        let random = self.next_random();
        let dead_bytes = |number: &u32| self.log.dead_bytes_of(&self.log.segments[*number as usize]);
        let dirtiest = self.some_sealed(random, SEGMENTS_PER_CALL).max_by_key(dead_bytes)?;
        // Less than that may be the ends of the segments that it would be gathered in.
        let worth = (self.log.segment_bytes() / 16).max(2 * self.log.large_bytes_min()) as u64;
        if dead_bytes(&dirtiest) < worth {
            return None;
        }
        self.queues.remove(dirtiest, &self.log.segments[dirtiest as usize]);
        Some(self.victim_of(dirtiest, Purpose::Clean))
    }

    /// Has the next segment emptied in which everything has expired, if there is one among some.
    fn choose_expired(&mut self, now: UnixMs) {
        if self.victim.is_none()
            && let Some(open) = self.log.seal_one(|segment| segment.is_volatile() && segment.expires_last <= now)
        {
            self.victim = Some(self.victim_of(open, Purpose::Expire));
        }
        let count = self.log.segments.len();
        for _ in 0..count.min(SEGMENTS_PER_CALL) {
            if self.victim.is_some() {
                return;
            }
            let number = self.walk.whole % count;
            self.walk.whole = number + 1;
            let segment = &self.log.segments[number];
            let is_full = self.log.state(number as u32) == State::Sealed;
            if segment.is_volatile() && is_full && segment.expires_last <= now {
                self.queues.remove(number as u32, segment);
                self.victim = Some(self.victim_of(number as u32, Purpose::Expire));
            }
        }
    }

    /// Looks at some records that may have expired; how many had.
    fn expire(&mut self, now: UnixMs) -> usize {
        let (mut expired, mut segments) = (0, 0);
        while self.work.records < RECORDS_WALKED && segments < SEGMENTS_PER_CALL && !self.log.segments.is_empty() {
            let number = self.walk.segment % self.log.segments.len();
            self.walk.segment = number;
            let segment = &self.log.segments[number];
            let span = self.log.span(number as u32);
            if self.walk.at == 0 || self.walk.generation != segment.generation {
                (self.walk.at, self.walk.generation) = (span.start, segment.generation);
            }
            // Active expiry has nothing (more) to look at there.
            let is_free = self.log.state(number as u32) == State::Free;
            if is_free || !segment.is_volatile() || self.walk.at >= span.end {
                (self.walk.segment, self.walk.at) = (number + 1, 0);
                segments += 1;
                continue;
            }
            let location = self.walk.at;
            let record = self.log.record(location);
            self.walk.at += record.len as u64;
            self.work.records += 1;
            if record.expires_at != 0 && record.expires_at <= now && self.found(location).is_expired(now) {
                let slot = self.index.find(self.hash_at(location), |candidate| candidate == location);
                if let Some(slot) = slot {
                    self.remove(slot);
                    self.stats.expired += 1;
                    expired += 1;
                }
            }
        }
        expired
    }
}
