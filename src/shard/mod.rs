//! One worker's slice of the keyspace. Single-threaded, pure: no I/O, no clock of its own.
//!
//! In: keys, values, conditions and the time. Out: typed outcomes, which RESP, memcached and HTTP each spell in their
//! own words. What must stay true: an item past its expiry is never returned; memory stays within the budget by
//! evicting; every call does a bounded amount of work, and [`Shard::maintain`] does the rest in slices.

use bytes::Bytes;

pub use crate::config::LARGE_VALUE_BYTES;
use crate::config::{Policy, Settings};

/// Milliseconds since the Unix epoch.
pub type UnixMs = u64;

/// What a shard is created with.
#[derive(Clone, Copy, Debug)]
pub struct ShardOptions {
    /// Memory this shard may use, keys and index included; `u64::MAX` for no limit.
    pub budget_bytes: u64,
    /// Address space this shard may take, that of large values included; `u64::MAX` for no limit.
    pub address_bytes: u64,
    /// What to evict when the budget is reached.
    pub policy: Policy,
    /// Whether memory is populated ahead, in pages of 2 MiB where the kernel has them: see [`Shard::advise`].
    pub huge_pages: bool,
    /// Seed of the key hash and of random choices; the same seed and calls give the same results.
    pub seed: u64,
}

impl ShardOptions {
    /// What the settings say for a shard of one of `workers`.
    pub fn new(settings: &Settings, workers: u16, seed: u64) -> Self {
        Self {
            budget_bytes: settings.worker_budget_bytes(workers),
            address_bytes: crate::topology::address_space_bytes() / u64::from(workers.max(1)),
            policy: settings.maxmemory_policy,
            huge_pages: settings.huge_pages,
            seed,
        }
    }
}

/// A key's hash, computed once and used for prefetch and look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(pub u64);

/// A value to be stored.
#[derive(Clone, Copy, Debug)]
pub enum NewValue<'a> {
    /// Copied into the shard.
    Copied(&'a [u8]),
    /// Kept by reference; for large values.
    Shared(&'a Bytes),
}

/// What becomes of the expiry when a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The item never expires.
    Never,
    /// The expiry that the key had stays; none if the key is new.
    Keep,
    /// Expires at this time.
    At(UnixMs),
}

/// On what condition a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// Only when the key is absent (`NX`).
    Absent,
    /// Only when the key is present (`XX`).
    Present,
}

/// What came of storing a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Stored; whether the key was there before.
    Done {
        /// The key had a live value before.
        replaced: bool,
    },
    /// The condition did not hold; nothing changed.
    Refused,
    /// It does not fit and nothing more may be evicted for it; the key is as it was.
    OutOfMemory,
}

/// An item as it lies in the shard.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value's bytes.
    pub value: &'a [u8],
    /// The value's own allocation when it is large: clone it to send it without a copy.
    pub shared: Option<&'a Bytes>,
    /// When it expires.
    pub expires_at: Option<UnixMs>,
    /// Packed attributes.
    extras: &'a [u8],
}

impl<'a> Item<'a> {
    /// What it carries beside key, value and expiry.
    #[inline]
    pub fn attributes(&self) -> Attributes<'a> {
        if self.extras.is_empty() { Attributes::default() } else { Attributes::unpack(self.extras) }
    }
}

/// What an item takes, and how it is used.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Access counter as `OBJECT FREQ` reports it.
    pub frequency: u8,
    /// Whether it was read, or given another expiry, since it was written; for memcached's `h`.
    pub is_read: bool,
    /// About when it was written, or the present time when it was used since: the time of a use is not kept. For
    /// `OBJECT IDLETIME`.
    pub accessed_at: UnixMs,
    /// Memory, key, value and bookkeeping; for `MEMORY USAGE`.
    pub memory_bytes: usize,
}

/// Where a key stands with its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeToLive {
    /// No such key.
    Missing,
    /// The key never expires.
    Forever,
    /// The key expires then.
    At(UnixMs),
}

/// Counters and gauges of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Items with a value, those past their expiry but not yet swept included.
    pub keys: u64,
    /// Items that have an expiry.
    pub expires: u64,
    /// Mean time to live of those, milliseconds.
    pub ttl_ms_mean: u64,
    /// Items removed because their time had come.
    pub expired: u64,
    /// Items removed to make room.
    pub evicted: u64,
    /// Look-ups that found the key.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Look-ups that would have missed with half, the same and twice the memory: an estimate, while anything may be
    /// evicted.
    pub simulated_misses: [u64; 3],
    /// Memory used, bytes.
    pub used_bytes: u64,
    /// Memory used by live keys and values themselves, bytes.
    pub dataset_bytes: u64,
}

impl NewValue<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            NewValue::Copied(bytes) => bytes,
            NewValue::Shared(bytes) => bytes,
        }
    }
}

mod ahead;
mod attributes;
mod balance;
mod evict;
mod ghost;
mod index;
mod large;
mod lease;
mod log;
mod memory;
mod queues;
mod resize;
mod scan;
mod shadow;
mod store;
mod version;

#[cfg(test)]
mod tests;

pub use attributes::{Attributes, CONTENT_TYPE_BYTES_MAX, Presence, View};
pub use lease::{Fill, Leased};
pub use memory::{PageAdvice, return_freed_memory};
pub use store::Shard;
