//! Whose a worker's memory is: what connections hold is not the items'.
//!
//! In: the worker's share of `maxmemory`, and what connections hold. Out: what is left for items, for one more large
//! argument, and for unread replies. What must stay true: items and connections together stay within the share, except
//! that items are always left [`SHARD_BYTES_MIN`]; and items never get more than the shard has addresses for.

use crate::config::SHARD_BYTES_MIN;

/// What a client may have unread when connections hold half of the memory, bytes.
const OUTPUT_LIMIT_SHORT: u64 = 16 * 1024;

/// One worker's memory, in bytes.
#[derive(Debug)]
pub(super) struct Budget {
    /// For items and connections; `u64::MAX` for no limit.
    pub(super) share: u64,
    /// Held by connections.
    pub(super) held: usize,
    /// What the large arguments that are arriving will take beyond what has arrived.
    pub(super) announced: usize,
}

impl Budget {
    pub(super) fn new(share: u64) -> Self {
        Self { share, held: 0, announced: 0 }
    }

    /// Warns when the share is more than the `most` for which the shard has addresses: nothing else shows it.
    pub(super) fn compare(&self, most: u64) {
        if self.share != u64::MAX && self.share > most {
            tracing::warn!(
                "a worker's share of maxmemory is {} MiB and it has addresses for {} MiB of items, which is its limit: \
                 raise the limit of the address space (ulimit -v, LimitAS= in systemd), have more workers, or lower \
                 maxmemory",
                self.share >> 20,
                most >> 20
            );
        }
    }

    /// What items may take.
    pub(super) fn items(&self) -> u64 {
        match self.share {
            u64::MAX => u64::MAX,
            share => share.saturating_sub(self.held as u64).max(SHARD_BYTES_MIN),
        }
    }

    /// The largest argument that may still be announced: it has to fit in beside the shard's own tables.
    pub(super) fn room(&self) -> u64 {
        match self.items() {
            u64::MAX => u64::MAX,
            items => (items - items / 8).saturating_sub(self.announced as u64),
        }
    }

    /// What a client may have unread before its requests wait.
    pub(super) fn output_limit(&self, limit: u64) -> u64 {
        if self.held as u64 > self.share / 2 { limit.min(OUTPUT_LIMIT_SHORT) } else { limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connections_hold_is_not_the_items() {
        const MIB: u64 = 1 << 20;
        // share, held, announced: items, room, output limit
        let rows = [
            (u64::MAX, 1 << 40, 1 << 40, u64::MAX, u64::MAX, 256 << 10),
            (64 * MIB, 0, 0, 64 * MIB, 56 * MIB, 256 << 10),
            (64 * MIB, 24 << 20, 0, 40 * MIB, 35 * MIB, 256 << 10),
            (64 * MIB, 0, 50 << 20, 64 * MIB, 6 * MIB, 256 << 10),
            (64 * MIB, 40 << 20, 0, 24 * MIB, 21 * MIB, 16 << 10),
            (64 * MIB, 80 << 20, 50 << 20, SHARD_BYTES_MIN, 0, 16 << 10),
        ];
        for (share, held, announced, items, room, limit) in rows {
            let budget = Budget { share, held, announced };
            let found = (budget.items(), budget.room(), budget.output_limit(256 << 10));
            assert_eq!(found, (items, room, limit), "{budget:?}");
        }
    }
}
