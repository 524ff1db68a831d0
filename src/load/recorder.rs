//! What one thread of the generator has seen.
//!
//! In: replies, each with the time since which it was waited for. Out: latencies, counts and, ten times a second or
//! rarer, a slice of the time line. What must stay true: a request counts in the percentiles when its latency *began*
//! in the measured part, whenever it ends; in the throughput when its reply *arrived* there.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use hdrhistogram::Histogram;

use super::wire::Reply;

/// Longest latency that is told apart: an hour, in nanoseconds.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// Different error texts that are counted one by one.
const ERROR_TEXTS_MAX: usize = 8;

/// An empty histogram of latencies in nanoseconds, exact to three digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("constant bounds")
}

/// The measured part of a run, nanoseconds from its start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    /// The warm-up ends.
    pub from_ns: u64,
    /// The measuring ends.
    pub until_ns: u64,
    /// Length of a slice of the time line.
    pub slice_ns: u64,
}

impl Window {
    fn contains(&self, at_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&at_ns)
    }
}

/// Things counted in the measured part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Replies that arrived in it.
    pub answered: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Values found.
    pub hits: u64,
    /// Values not found.
    pub misses: u64,
    /// Requests that the server refused, in the whole run.
    pub errors: u64,
    /// Replies that were not what was asked for, in the whole run.
    pub wrong: u64,
    /// Requests that were due and had no reply when the run ended; their latency counts up to then.
    pub unfinished: u64,
    /// Nanoseconds in which the generator had something to do.
    pub busy_ns: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.hits += other.hits;
        self.misses += other.misses;
        self.errors += other.errors;
        self.wrong += other.wrong;
        self.unfinished += other.unfinished;
        self.busy_ns += other.busy_ns;
    }
}

/// A piece of the time line.
#[derive(Debug)]
pub(super) struct Slice {
    /// Its number, from the beginning of the measured part.
    pub index: u64,
    /// Latencies of the replies that arrived in it, nanoseconds.
    pub latencies: Histogram<u32>,
}

/// All that a thread has seen.
#[derive(Debug)]
pub struct Seen {
    /// Nanoseconds.
    pub latencies: Histogram<u64>,
    /// How late requests were sent for reasons of the generator's own, nanoseconds.
    pub lateness: Histogram<u64>,
    /// Counts.
    pub counts: Counts,
    /// Error texts.
    pub errors: BTreeMap<String, u64>,
}

impl Default for Seen {
    /// Nothing yet.
    fn default() -> Self {
        let (latencies, lateness) = (histogram(), histogram());
        Self { latencies, lateness, counts: Counts::default(), errors: BTreeMap::new() }
    }
}

impl Seen {
    /// Adds what another thread has seen.
    pub fn add(&mut self, other: &Seen) {
        self.latencies.add(&other.latencies).expect("the same bounds");
        self.lateness.add(&other.lateness).expect("the same bounds");
        self.counts += other.counts;
        for (text, count) in &other.errors {
            self.count_error(text, *count);
        }
    }

    fn count_error(&mut self, text: &str, count: u64) {
        // Each names another slot, and all say the same.
        let text = if text.starts_with("MOVED ") { "MOVED: a node of a cluster; give --cluster yes" } else { text };
        let is_room = self.errors.len() < ERROR_TEXTS_MAX || self.errors.contains_key(text);
        *self.errors.entry(if is_room { text } else { "(others)" }.to_owned()).or_default() += count;
    }
}

/// Records.
#[derive(Debug)]
pub(super) struct Recorder {
    window: Window,
    slice: Histogram<u32>,
    slice_index: u64,
    slices: Sender<Slice>,
    seen: Seen,
    /// The last replies, as long as they have taken equally long: those of a pipeline are recorded together.
    alike: Alike,
}

/// Replies that were waited for at the same time.
#[derive(Clone, Copy, Debug, Default)]
struct Alike {
    since_ns: u64,
    now_ns: u64,
    count: u32,
}

impl Recorder {
    /// Records nothing until a window is set.
    pub(super) fn new(slices: Sender<Slice>) -> Self {
        let slice = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 2).expect("constant bounds");
        Self {
            window: Window::default(),
            slice,
            slice_index: 0,
            slices,
            seen: Seen::default(),
            alike: Alike::default(),
        }
    }

    /// Measures in `window` from now on.
    pub(super) fn set_window(&mut self, window: Window) {
        self.record_alike();
        self.window = window;
    }

    /// A reply has arrived that was waited for since `since_ns`.
    #[inline]
    pub(super) fn reply(&mut self, since_ns: u64, reply: &Reply, now_ns: u64) {
        if (since_ns, now_ns) != (self.alike.since_ns, self.alike.now_ns) {
            self.record_alike();
            self.alike = Alike { since_ns, now_ns, count: 0 };
        }
        self.alike.count += 1;
        if self.window.contains(now_ns) {
            self.seen.counts.answered += 1;
            self.seen.counts.hits += u64::from(reply.hits);
            self.seen.counts.misses += u64::from(reply.misses);
        }
        if let Some(error) = &reply.error {
            self.seen.counts.errors += 1;
            self.seen.count_error(error, 1);
        }
        self.seen.counts.wrong += u64::from(reply.is_wrong);
    }

    #[inline]
    fn record_alike(&mut self) {
        let Alike { since_ns, now_ns, count } = std::mem::take(&mut self.alike);
        if count == 0 {
            return;
        }
        let latency_ns = now_ns.saturating_sub(since_ns).max(1);
        if self.window.contains(since_ns) {
            self.seen.latencies.saturating_record_n(latency_ns, count.into());
        }
        if self.window.contains(now_ns) {
            self.slice.saturating_record_n(latency_ns, count);
        }
    }

    /// A request that was due at `due_ns` has had no reply when the run ends.
    pub(super) fn unfinished(&mut self, due_ns: u64, now_ns: u64) {
        if self.window.contains(due_ns) {
            self.seen.counts.unfinished += 1;
            self.seen.latencies.saturating_record(now_ns.saturating_sub(due_ns).max(1));
        }
    }

    /// A request that was due at `due_ns` is sent so much later because of the generator.
    #[inline]
    pub(super) fn lateness(&mut self, due_ns: u64, lateness_ns: u64) {
        if self.window.contains(due_ns) {
            self.seen.lateness.saturating_record(lateness_ns.max(1));
        }
    }

    /// Bytes were received.
    #[inline]
    pub(super) fn received(&mut self, bytes: u64, now_ns: u64) {
        self.seen.counts.bytes_received += if self.window.contains(now_ns) { bytes } else { 0 };
    }

    /// Bytes were sent.
    #[inline]
    pub(super) fn sent(&mut self, bytes: u64, now_ns: u64) {
        self.seen.counts.bytes_sent += if self.window.contains(now_ns) { bytes } else { 0 };
    }

    /// The generator had something to do from `from_ns` to `until_ns`.
    #[inline]
    pub(super) fn busy(&mut self, from_ns: u64, until_ns: u64) {
        self.seen.counts.busy_ns += if self.window.contains(from_ns) { until_ns - from_ns } else { 0 };
    }

    /// Hands over the slices that have ended.
    #[inline]
    pub(super) fn turn(&mut self, now_ns: u64) {
        let ended = now_ns.min(self.window.until_ns).saturating_sub(self.window.from_ns);
        if self.window.slice_ns > 0 && ended >= (self.slice_index + 1) * self.window.slice_ns {
            self.end_slice(ended / self.window.slice_ns);
        }
    }

    /// Ends the present slice and leaves out those in which nothing was looked at.
    fn end_slice(&mut self, next: u64) {
        self.record_alike();
        // Nobody listening: the run is being given up.
        let _ = self.slices.send(Slice { index: self.slice_index, latencies: self.slice.clone() });
        self.slice.reset();
        self.slice_index = next;
    }

    /// What was seen.
    pub(super) fn finish(mut self) -> Seen {
        self.record_alike();
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_count_where_they_begin_and_where_they_arrive() {
        let (sender, slices) = std::sync::mpsc::channel();
        let mut recorder = Recorder::new(sender);
        let mut hit = Reply::default();
        hit.hits = 1;
        recorder.reply(10, &hit, 20);
        recorder.set_window(Window { from_ns: 100, until_ns: 1100, slice_ns: 500 });
        // since, now: three of a pipeline; one that began too early; two of a slice's end and the next one's begin;
        // one that arrives too late
        for (since_ns, now_ns) in [(150, 250), (150, 250), (150, 250), (50, 250), (150, 590), (150, 600), (1090, 1190)]
        {
            recorder.turn(now_ns);
            recorder.reply(since_ns, &hit, now_ns);
        }
        let mut seen = recorder.finish();
        assert_eq!(seen.latencies.iter_recorded().map(|at| at.count_at_value()).collect::<Vec<_>>(), [4, 1, 1]);
        assert_eq!((seen.latencies.min(), seen.latencies.max()), (100, 450));
        assert_eq!((seen.counts.answered, seen.counts.hits), (6, 6));
        for text in ["MOVED 1 host:1", "MOVED 2 host:1", "ERR no"] {
            seen.count_error(text, 1);
        }
        assert_eq!(seen.errors.values().copied().collect::<Vec<_>>(), [1, 2], "{:?}", seen.errors);
        let slices: Vec<_> = slices.iter().map(|slice| (slice.index, slice.latencies.len())).collect();
        assert_eq!(slices, [(0, 5), (1, 1)]);
    }
}
