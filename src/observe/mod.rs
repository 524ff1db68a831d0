//! What is counted, and how it is shown.
//!
//! Each worker has its own row of counters on cache lines of its own; it alone writes them, with plain loads and
//! stores, and others read them relaxed. Sums are made when somebody asks.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use histogram::{Distribution, Histogram};
use slow::Stage;

pub mod census;
pub mod exposition;
pub mod feed;
pub mod histogram;
pub mod hot;
pub mod process;
pub mod rates;
pub mod slow;

/// Most rows that the command table may have: each worker keeps statistics of so many.
pub const COMMANDS_MAX: usize = 256;

/// The codes by which error replies are counted; the last stands for all others.
pub const ERROR_CODES: &[&str] =
    &["ERR", "NOAUTH", "WRONGPASS", "NOPROTO", "OOM", "WRONGTYPE", "MOVED", "CROSSSLOT", "OTHER"];

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until it is reset.
    Counter,
    /// Goes up and down.
    Gauge,
    /// The same, in milliseconds: exporters show seconds.
    GaugeMs,
}

macro_rules! metrics {
    ($(#[doc = $doc:literal] $variant:ident => $name:literal, $kind:ident $exported:literal;)*) => {
        /// One counter or gauge of a worker.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Metric { $(#[doc = $doc] $variant,)* }

        impl Metric {
            /// All of them, in order.
            pub const ALL: &[Metric] = &[$(Metric::$variant,)*];
            /// The name in `INFO` and in `/status.json`.
            pub const fn name(self) -> &'static str {
                match self { $(Metric::$variant => $name,)* }
            }
            /// The name by the conventions of Prometheus: base units, counters end in `_total`.
            pub const fn exported_name(self) -> &'static str {
                match self { $(Metric::$variant => $exported,)* }
            }
            /// How it moves.
            pub const fn kind(self) -> Kind {
                match self { $(Metric::$variant => Kind::$kind,)* }
            }
            /// What it counts, in a sentence.
            pub fn help(self) -> &'static str {
                match self { $(Metric::$variant => $doc.trim_ascii(),)* }
            }
        }
    };
}

metrics! {
    /// Connections accepted.
    ConnectionsAccepted => "total_connections_received", Counter "corering_connections_accepted_total";
    /// Connections refused because of `maxclients`.
    ConnectionsRejected => "rejected_connections", Counter "corering_connections_rejected_total";
    /// Connections open now.
    ConnectionsOpen => "connected_clients", Gauge "corering_connections";
    /// Commands executed.
    Commands => "total_commands_processed", Counter "corering_commands_total";
    /// Bytes received.
    InputBytes => "total_net_input_bytes", Counter "corering_input_bytes_total";
    /// Bytes sent.
    OutputBytes => "total_net_output_bytes", Counter "corering_output_bytes_total";
    /// Error replies.
    ErrorReplies => "total_error_replies", Counter "corering_error_replies_total";
    /// Look-ups that found their key.
    Hits => "keyspace_hits", Counter "corering_hits_total";
    /// Look-ups that did not.
    Misses => "keyspace_misses", Counter "corering_misses_total";
    /// Look-ups that half the memory would have missed, estimated from a sample of the keys.
    MissesHalf => "simulated_misses_half_memory", Counter "corering_simulated_misses_half_memory_total";
    /// The same with the memory that there is: what the estimate is to be compared with.
    MissesSame => "simulated_misses_same_memory", Counter "corering_simulated_misses_same_memory_total";
    /// The same with twice the memory.
    MissesDouble => "simulated_misses_double_memory", Counter "corering_simulated_misses_double_memory_total";
    /// Items removed because their time had come.
    Expired => "expired_keys", Counter "corering_expired_items_total";
    /// Items removed to make room.
    Evicted => "evicted_keys", Counter "corering_evicted_items_total";
    /// Items present.
    Keys => "keys", Gauge "corering_items";
    /// Items with an expiry.
    Expires => "expires", Gauge "corering_items_with_expiry";
    /// Mean time to live.
    TtlMsMean => "avg_ttl", GaugeMs "corering_time_to_live_mean_seconds";
    /// Memory used by the shard.
    ShardBytes => "shard_bytes", Gauge "corering_shard_bytes";
    /// Memory used by keys and values themselves.
    DatasetBytes => "dataset_bytes", Gauge "corering_dataset_bytes";
    /// Memory used by connections: input tails and output.
    BufferBytes => "buffer_bytes", Gauge "corering_connection_buffer_bytes";
    /// Most memory that shard and connections have used together.
    UsedBytesPeak => "used_memory_peak", Gauge "corering_used_peak_bytes";
    /// Turns of the loop.
    Ticks => "eventloop_cycles", Counter "corering_ticks_total";
    /// Requests sent to other workers.
    HopsSent => "hops_sent", Counter "corering_hops_sent_total";
    /// Requests executed for other workers.
    HopsServed => "hops_served", Counter "corering_hops_served_total";
    /// Letters with requests that were posted to other workers.
    LettersSent => "mailbox_messages_sent", Counter "corering_mailbox_messages_sent_total";
    /// Wake-ups posted to sleeping workers.
    Wakes => "wakes", Counter "corering_wakes_total";
    /// Receives that ended because no buffer was free.
    BuffersExhausted => "receive_buffers_exhausted", Counter "corering_receive_buffers_exhausted_total";
    /// Completions for operations of an earlier generation.
    StaleCompletions => "stale_completions", Counter "corering_stale_completions_total";
    /// Clients closed because their output exceeded the hard limit or made no progress.
    OutputLimitClosed => "client_output_buffer_limit_disconnections", Counter "corering_output_limit_closed_total";
}

impl Metric {
    /// Counters that `CONFIG RESETSTAT` sets to zero, as Redis does.
    const RESETTABLE: &[Metric] = &[
        Metric::ConnectionsAccepted,
        Metric::ConnectionsRejected,
        Metric::Commands,
        Metric::InputBytes,
        Metric::OutputBytes,
        Metric::ErrorReplies,
        Metric::OutputLimitClosed,
    ];
}

/// Shares of look-ups that miss: with half the memory, as it is, with twice the memory; `None` when nothing was looked
/// up or simulated. The simulated misses of half and twice the memory count as many times the real ones as they are
/// times those simulated with the memory that there is: what the sample of keys has too many or too few of, all three
/// have.
pub fn miss_ratios(hits: u64, misses: u64, simulated: [u64; 3]) -> Option<[f64; 3]> {
    let [half, same, double] = simulated.map(|misses| misses as f64);
    let (lookups, misses) = ((hits + misses) as f64, misses as f64);
    if lookups == 0.0 || half + same + double == 0.0 {
        return None;
    }
    let scale = if same > 0.0 { misses / same } else { 1.0 };
    Some([half * scale, misses, double * scale].map(|misses| (misses / lookups).min(1.0)))
}

/// One command's statistics on one worker.
#[derive(Debug, Default)]
pub struct CommandMetrics {
    calls: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
    execution_ns: AtomicU64,
    /// Made when the command is timed for the first time.
    times: OnceLock<Box<Histogram>>,
}

/// A copy of a command's statistics, or a sum of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandTotals {
    /// How often it ran.
    pub calls: u64,
    /// How often it ran and answered with an error.
    pub failed: u64,
    /// How often it was refused before it ran.
    pub rejected: u64,
    /// Time spent running it, nanoseconds; every call is timed at first, later a sample that stands for the others.
    pub execution_ns: u64,
}

/// Adds with a load and a store: only for what one thread writes.
fn add(value: &AtomicU64, by: u64) {
    value.store(value.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

/// Calls of a command that are all timed, and later one of so many.
const TIMED_CALLS: u64 = 64;

/// Times one call in 64; see [`CommandMetrics::begin`].
pub const TIME_SOME: u64 = TIMED_CALLS - 1;

/// Times every call.
pub const TIME_ALL: u64 = 0;

impl CommandMetrics {
    /// Counts a call that begins. Tells whether to time it, and for how many calls its time stands. `mask` is
    /// [`TIME_SOME`] or [`TIME_ALL`].
    pub fn begin(&self, mask: u64) -> Option<u64> {
        let calls = self.calls.load(Ordering::Relaxed);
        self.calls.store(calls.wrapping_add(1), Ordering::Relaxed);
        match calls {
            0..TIMED_CALLS => Some(1),
            calls if calls & mask == 0 => Some(mask + 1),
            _ => None,
        }
    }

    /// Adds the time of a call that was timed.
    pub fn add_time(&self, elapsed_ns: u64, stands_for: u64) {
        add(&self.execution_ns, elapsed_ns * stands_for);
        self.times.get_or_init(Box::default).record(elapsed_ns, stands_for);
    }

    /// Counts a call that ended with an error.
    pub fn fail(&self) {
        add(&self.failed, 1);
    }

    /// Counts a request that was refused before it ran.
    pub fn reject(&self) {
        add(&self.rejected, 1);
    }

    fn all(&self) -> [&AtomicU64; 4] {
        [&self.calls, &self.failed, &self.rejected, &self.execution_ns]
    }
}

/// One worker's row.
#[derive(Debug)]
pub struct WorkerMetrics {
    values: [AtomicU64; Metric::ALL.len()],
    errors: [AtomicU64; ERROR_CODES.len()],
    commands: Box<[CommandMetrics]>,
    /// Made when a stage is timed for the first time.
    stages: [OnceLock<Box<Histogram>>; Stage::ALL.len()],
}

impl WorkerMetrics {
    /// Adds to a counter. Only the owning worker may call it: a load and a store, not a read-modify-write.
    pub fn add(&self, metric: Metric, by: u64) {
        add(&self.values[metric as usize], by);
    }

    /// One command's statistics, by its row in the command table. Only the owning worker may change them.
    pub fn command(&self, row: u16) -> &CommandMetrics {
        &self.commands[row as usize]
    }

    /// Counts an error reply by the code that its text begins with. Only the owning worker may call it.
    pub fn add_error(&self, text: &[u8]) {
        let code = text.split(|byte| !byte.is_ascii_uppercase()).next().unwrap_or_default();
        let index = ERROR_CODES.iter().position(|known| known.as_bytes() == code).unwrap_or(ERROR_CODES.len() - 1);
        add(&self.errors[index], 1);
        self.add(Metric::ErrorReplies, 1);
    }

    /// Records how long a stage took. Only the owning worker may call it.
    pub fn record_stage(&self, stage: Stage, ns: u64, weight: u64) {
        self.stages[stage as usize].get_or_init(Box::default).record(ns, weight);
    }

    /// Sets counters to zero. Only the owning worker may call it.
    pub fn reset(&self) {
        let commands = self.commands.iter().flat_map(CommandMetrics::all);
        commands.chain(&self.errors).for_each(|value| value.store(0, Ordering::Relaxed));
        let times = self.commands.iter().filter_map(|command| command.times.get());
        times.chain(self.stages.iter().filter_map(OnceLock::get)).for_each(|times| times.clear());
        Metric::RESETTABLE.iter().for_each(|metric| self.set(*metric, 0));
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
    workers: Box<[Arc<CachePadded<WorkerMetrics>>]>,
}

impl Metrics {
    /// Rows of zeros.
    pub fn new(workers: usize) -> Self {
        let row = || {
            Arc::new(CachePadded::new(WorkerMetrics {
                values: std::array::from_fn(|_| AtomicU64::new(0)),
                errors: std::array::from_fn(|_| AtomicU64::new(0)),
                commands: (0..COMMANDS_MAX).map(|_| CommandMetrics::default()).collect(),
                stages: std::array::from_fn(|_| OnceLock::new()),
            }))
        };
        Self { workers: (0..workers).map(|_| row()).collect() }
    }

    /// One worker's row.
    pub fn worker(&self, index: u16) -> &Arc<CachePadded<WorkerMetrics>> {
        &self.workers[index as usize]
    }

    /// The sum over all workers.
    pub fn total(&self, metric: Metric) -> u64 {
        self.sum(0..self.workers.len() as u16, metric)
    }

    /// The sum over some workers.
    pub fn sum(&self, workers: Range<u16>, metric: Metric) -> u64 {
        self.rows(workers).map(|worker| worker.get(metric)).fold(0, u64::wrapping_add)
    }

    /// Shares of look-ups that miss on some workers: with half the memory, as it is, with twice the memory. `None`
    /// before there is anything to tell.
    pub fn miss_ratios(&self, workers: Range<u16>) -> Option<[f64; 3]> {
        let sum = |metric| self.sum(workers.clone(), metric);
        let simulated = [Metric::MissesHalf, Metric::MissesSame, Metric::MissesDouble].map(sum);
        miss_ratios(sum(Metric::Hits), sum(Metric::Misses), simulated)
    }

    fn rows(&self, workers: Range<u16>) -> impl Iterator<Item = &WorkerMetrics> {
        workers.map(|worker| &***self.worker(worker))
    }

    /// A command's statistics over some workers, by its row in the command table.
    pub fn command(&self, workers: Range<u16>, row: u16) -> CommandTotals {
        let mut sums = [0_u64; 4];
        for worker in self.rows(workers) {
            let values = worker.command(row).all();
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value.load(Ordering::Relaxed));
        }
        let [calls, failed, rejected, execution_ns] = sums;
        CommandTotals { calls, failed, rejected, execution_ns }
    }

    /// How long the calls of a command took that were timed, each for those it stands for.
    pub fn command_times(&self, workers: Range<u16>, row: u16) -> Distribution {
        distribution(self.rows(workers).map(|worker| &worker.command(row).times))
    }

    /// The same of all commands together.
    pub fn execution_times(&self, workers: Range<u16>) -> Distribution {
        distribution(self.rows(workers).flat_map(|worker| worker.commands.iter().map(|command| &command.times)))
    }

    /// How long a stage took.
    pub fn stage_times(&self, workers: Range<u16>, stage: Stage) -> Distribution {
        distribution(self.rows(workers).map(|worker| &worker.stages[stage as usize]))
    }

    /// How many error replies of some workers had each of [`ERROR_CODES`].
    pub fn errors(&self, workers: Range<u16>) -> impl Iterator<Item = (&'static str, u64)> {
        let count =
            move |index: usize| self.rows(workers.clone()).map(|row| row.errors[index].load(Ordering::Relaxed)).sum();
        ERROR_CODES.iter().enumerate().map(move |(index, code)| (*code, count(index)))
    }
}

fn distribution<'a>(histograms: impl Iterator<Item = &'a OnceLock<Box<Histogram>>>) -> Distribution {
    let mut sum = Distribution::default();
    histograms.filter_map(OnceLock::get).for_each(|histogram| sum.add(histogram));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_code_and_commands_by_row() {
        let metrics = Metrics::new(2);
        for (worker, text) in [(0, "ERR syntax error"), (1, "ERR no"), (1, "OOM command"), (0, "STRANGE")] {
            metrics.worker(worker).add_error(text.as_bytes());
        }
        let errors: Vec<_> = metrics.errors(0..2).filter(|(_, count)| *count > 0).collect();
        assert_eq!(errors, [("ERR", 2), ("OOM", 1), ("OTHER", 1)]);
        assert_eq!(metrics.total(Metric::ErrorReplies), 4);

        for call in 0..=128 {
            let expected = if call < 64 { Some(1) } else { (call % 64 == 0).then_some(64) };
            assert_eq!(metrics.worker(0).command(3).begin(TIME_SOME), expected);
        }
        metrics.worker(1).command(3).begin(TIME_ALL);
        metrics.worker(1).command(3).fail();
        metrics.worker(1).command(3).add_time(7, 64);
        let totals = CommandTotals { calls: 130, failed: 1, rejected: 0, execution_ns: 448 };
        assert_eq!(metrics.command(0..2, 3), totals);
        assert_eq!(metrics.command_times(0..2, 3).count(), 64);
        metrics.worker(0).reset();
        assert_eq!(metrics.command(0..2, 3).calls, 1);
        assert_eq!(metrics.total(Metric::ErrorReplies), 2);
    }
}
