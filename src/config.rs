//! THE settings table: every key with its flag, type, default, bounds and documentation, and the limits derived from it.

use std::path::PathBuf;
use std::time::Duration;

/// What to evict when the memory budget is reached; Redis' names, and `cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The default: the best hit ratio measured. The same as `allkeys-lfu`.
    Cache,
    /// Evict nothing; refuse writes.
    NoEviction,
    /// Approximate least recently used, of all keys.
    AllKeysLru,
    /// Approximate least frequently used, of all keys.
    AllKeysLfu,
    /// Any key.
    AllKeysRandom,
    /// Approximate least recently used, of keys with an expiry.
    VolatileLru,
    /// Approximate least frequently used, of keys with an expiry.
    VolatileLfu,
    /// Any key with an expiry.
    VolatileRandom,
    /// The key that expires first, approximately.
    VolatileTtl,
}

/// Everything an operator can set. Field names are the keys with `-` written `_`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Settings {
    pub port: u16,
    pub bind: Vec<std::net::IpAddr>,
    pub unixsocket: Option<PathBuf>,
    pub unixsocketperm: u32,
    pub tcp_backlog: u32,
    pub tcp_keepalive: Duration,
    /// 0: one per CPU that the process may use.
    pub workers: u16,
    /// Empty: all that the process may use.
    pub cpus: Vec<usize>,
    pub pin: bool,
    pub maxclients: u32,
    /// Idle clients are closed after this; zero: never.
    pub timeout: Duration,
    /// A client whose output makes no progress for this long is closed.
    pub send_timeout: Duration,
    pub requirepass: String,
    pub databases: u32,
    /// Bytes; 0: no limit.
    pub maxmemory: u64,
    pub maxmemory_policy: Policy,
    pub proto_max_bulk_len: u64,
    pub client_query_buffer_limit: u64,
    /// Above this, a client's requests wait until half of it is sent.
    pub output_soft_limit: u64,
    /// Above this, the client is closed.
    pub output_hard_limit: u64,
    pub ring_submissions: u32,
    pub ring_completions: u32,
    pub ring_buffers: u16,
    pub ring_buffer_bytes: u32,
    /// Longest busy wait before a worker sleeps; zero: never spin.
    pub spin: Duration,
    /// Requests executed for one connection in one tick.
    pub tick_requests: u32,
    /// Bytes sent for one connection in one send.
    pub send_bytes: u32,
    pub loglevel: String,
    pub log_format: String,
}

impl Settings {
    /// The share of the memory budget that one of `workers` shards gets.
    pub fn shard_budget_bytes(&self, workers: u16) -> u64 {
        if self.maxmemory == 0 { u64::MAX } else { self.maxmemory / u64::from(workers.max(1)) }
    }
}
