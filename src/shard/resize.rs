//! What an operator changes while the shard holds items; with a budget for which the log is cut too coarsely another
//! shard takes the place of this one.
//!
//! In: budget, policy, the size of large values. Out: a shard whose segments suit them. What must stay true: nothing
//! goes that may not be evicted; what the former shard holds counts as used until it was given back, in slices.

use super::evict::{OVERDRAFT_SHARE_MAX, Victim};
use super::log::Log;
use super::shadow::Shadow;
use super::{LARGE_VALUE_BYTES, Shard, ShardOptions, ShardStats};
use crate::config::Policy;

/// With fewer segments hardly any item has a place beside the open ones and those kept for survivors.
const SEGMENTS_MIN: u64 = 8;

/// The share of the log's address space that is for what may be held beyond the budget.
const BEYOND_SHARE: u64 = OVERDRAFT_SHARE_MAX / 2;

impl Shard {
    /// Changes the budget for good, far from what it was when the shard was made too. All items go when it is less than
    /// so many of the present segments; unless they must not be evicted: then little room is left for others.
    pub fn resize(&mut self, budget_bytes: u64) {
        self.set_budget(budget_bytes);
        let suitable_bytes = Log::segment_bytes_for(budget_bytes.min(self.budget_max()));
        let segment_bytes = self.log.segment_bytes();
        let is_coarse = segment_bytes as u64 > budget_bytes / SEGMENTS_MIN;
        let is_wanted = self.index.len() == 0 || (is_coarse && self.may_evict() && !self.policy.is_volatile());
        if suitable_bytes == segment_bytes || !is_wanted {
            return;
        }
        let (policy, seed, address_bytes) = (self.policy, self.seed, self.address_bytes);
        let options = ShardOptions { budget_bytes, address_bytes, policy, huge_pages: false, seed };
        // Without address space for another it stays as it is.
        let Ok(mut next) = Self::try_new(options) else { return };
        if next.log.reserved_bytes() < self.log.reserved_bytes() {
            return;
        }
        let (evicted, clear_at) = (self.stats.evicted + self.index.len() as u64, self.clear_at);
        self.clear();
        next.stats = ShardStats { evicted, ..self.stats };
        next.alive = std::mem::take(&mut self.alive);
        next.garbage = std::mem::take(&mut self.garbage);
        next.garbage_bytes = std::mem::take(&mut self.garbage_bytes);
        next.large_own_bytes = std::mem::take(&mut self.large_own_bytes);
        next.shadow = std::mem::replace(&mut self.shadow, Shadow::new(false));
        next.fit_shadow();
        next.log.large_value_bytes = self.log.large_value_bytes;
        next.ahead = self.ahead.of_next();
        next.moves = self.moves;
        (next.version, next.now_seen, next.clear_at) = (self.version, self.now_seen, clear_at);
        let former = std::mem::replace(self, next);
        self.former = Some(Box::new(former));
    }

    /// The most that a budget can be: what the address space is enough for.
    pub fn budget_max(&self) -> u64 {
        let reserved = self.log.reserved_bytes() as u64;
        reserved - reserved / BEYOND_SHARE
    }

    /// Changes the budget, to [`budget_max`](Self::budget_max) at most; shrinking happens in
    /// [`maintain`](Self::maintain).
    pub fn set_budget(&mut self, budget_bytes: u64) {
        self.is_limited = budget_bytes != u64::MAX;
        let budget_bytes = budget_bytes.min(self.budget_max());
        self.is_stale |= self.budget_bytes != budget_bytes;
        self.budget_bytes = budget_bytes;
        self.fit_shadow();
    }

    /// Changes the policy.
    pub fn set_policy(&mut self, policy: Policy) {
        if self.policy != policy {
            self.is_stale = true;
            self.policy = policy;
            // What one policy has missed says nothing of another.
            self.shadow = Shadow::new(false);
            self.fit_shadow();
            // What was to go may have to stay now.
            self.victim.iter_mut().for_each(Victim::spare);
        }
        if !self.has_ghosts() {
            self.ghost.fit(0);
        }
    }

    /// Values of this size and more, from now on, have an allocation of their own and are sent from where they lie.
    pub fn set_large_value_bytes(&mut self, bytes: usize) {
        self.log.large_value_bytes = bytes.min(LARGE_VALUE_BYTES);
    }

    /// What the former shard still holds, bytes.
    pub(super) fn former_bytes(&self) -> u64 {
        self.former.as_ref().map_or(0, |former| former.used_bytes())
    }

    /// Gives back some of what the former shard held; false when there is none.
    pub(super) fn dismantle_former(&mut self) -> bool {
        let Some(former) = &mut self.former else { return false };
        let has_more = former.index.cool() || former.ghost.cool() || former.log.cool() || former.dismantle_former();
        if !has_more {
            self.former = None;
        }
        true
    }
}
