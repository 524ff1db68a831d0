//! What is counted, and how it is shown.
//!
//! Each worker has its own row of counters on cache lines of its own; it alone writes them, with plain loads and
//! stores, and others read them relaxed. Sums are made when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

macro_rules! metrics {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// One counter or gauge of a worker.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Metric { $($(#[$doc])* $variant,)* }

        impl Metric {
            /// All of them, in order.
            pub const ALL: &[Metric] = &[$(Metric::$variant,)*];
            /// The name that INFO and the exporters use.
            pub const fn name(self) -> &'static str {
                match self { $(Metric::$variant => $name,)* }
            }
        }
    };
}

metrics! {
    /// Connections accepted.
    ConnectionsAccepted => "total_connections_received",
    /// Connections refused because of `maxclients`.
    ConnectionsRejected => "rejected_connections",
    /// Connections open now.
    ConnectionsOpen => "connected_clients",
    /// Commands executed.
    Commands => "total_commands_processed",
    /// Bytes received.
    InputBytes => "total_net_input_bytes",
    /// Bytes sent.
    OutputBytes => "total_net_output_bytes",
    /// Error replies.
    ErrorReplies => "total_error_replies",
    /// Look-ups that found their key.
    Hits => "keyspace_hits",
    /// Look-ups that did not.
    Misses => "keyspace_misses",
    /// Items removed because their time had come.
    Expired => "expired_keys",
    /// Items removed to make room.
    Evicted => "evicted_keys",
    /// Items present.
    Keys => "keys",
    /// Items with an expiry.
    Expires => "expires",
    /// Mean time to live, milliseconds.
    TtlMsMean => "avg_ttl",
    /// Memory used by the shard, bytes.
    ShardBytes => "shard_bytes",
    /// Memory used by keys and values themselves, bytes.
    DatasetBytes => "dataset_bytes",
    /// Memory used by connections: input tails and output, bytes.
    BufferBytes => "buffer_bytes",
    /// Turns of the loop.
    Ticks => "eventloop_cycles",
    /// Requests sent to other workers.
    HopsSent => "hops_sent",
    /// Requests executed for other workers.
    HopsServed => "hops_served",
    /// Wake-ups posted to sleeping workers.
    Wakes => "wakes",
    /// Receives that ended because no buffer was free.
    BuffersExhausted => "receive_buffers_exhausted",
    /// Completions for operations of an earlier generation.
    StaleCompletions => "stale_completions",
    /// Clients closed because their output exceeded the hard limit or made no progress.
    OutputLimitClosed => "client_output_buffer_limit_disconnections",
}

/// One worker's row.
#[derive(Debug)]
pub struct WorkerMetrics {
    values: [AtomicU64; Metric::ALL.len()],
}

impl WorkerMetrics {
    /// Adds to a counter. Only the owning worker may call it: a load and a store, not a read-modify-write.
    pub fn add(&self, metric: Metric, by: u64) {
        let value = &self.values[metric as usize];
        value.store(value.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// Sets a gauge. Only the owning worker may call it.
    pub fn set(&self, metric: Metric, to: u64) {
        self.values[metric as usize].store(to, Ordering::Relaxed);
    }

    /// Reads a value.
    pub fn get(&self, metric: Metric) -> u64 {
        self.values[metric as usize].load(Ordering::Relaxed)
    }
}

/// All workers' rows.
#[derive(Debug)]
pub struct Metrics {
    workers: Box<[CachePadded<WorkerMetrics>]>,
}

impl Metrics {
    /// Rows of zeros.
    pub fn new(workers: usize) -> Self {
        let row = || CachePadded::new(WorkerMetrics { values: std::array::from_fn(|_| AtomicU64::new(0)) });
        Self { workers: (0..workers).map(|_| row()).collect() }
    }

    /// One worker's row.
    pub fn worker(&self, index: u16) -> &WorkerMetrics {
        &self.workers[index as usize]
    }

    /// The sum over all workers.
    pub fn total(&self, metric: Metric) -> u64 {
        self.workers.iter().map(|worker| worker.get(metric)).fold(0, u64::wrapping_add)
    }
}
