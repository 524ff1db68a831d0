//! The last minutes, for the console's time lines.
//!
//! In: the workers' counters and histograms, read every [`INTERVAL`]. Out: a [`Point`] for each interval. What must
//! stay true: the control thread reads, no worker does anything for it; no more than [`POINTS_MAX`] points and the
//! readings of a minute are kept.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};

use crate::instance::Instance;
use crate::observe::Metric;
use crate::observe::histogram::Distribution;
use crate::observe::slow::Stage;

/// Time from one reading to the next.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// Ten minutes.
const POINTS_MAX: usize = 300;

/// Readings whose first and last are a minute apart.
const READINGS_MAX: usize = 31;

const COUNTERS: [Metric; 9] = [
    Metric::Commands,
    Metric::Hits,
    Metric::Misses,
    Metric::ErrorReplies,
    Metric::InputBytes,
    Metric::OutputBytes,
    Metric::Evicted,
    Metric::Expired,
    Metric::HopsSent,
];

/// The commands' execution, then each stage.
const TIMES: usize = 1 + Stage::ALL.len();

/// Requests timed, and nanoseconds: mean, p50, p99, p99.9. `None` when none was timed.
type Times = Option<[u64; 5]>;

/// What happened in one interval.
#[derive(Debug, Serialize)]
struct Point {
    /// Counts up by one.
    number: u64,
    /// Its end.
    unix_ms: u64,
    /// Its length.
    seconds: f64,
    /// Growth of [`COUNTERS`].
    counters: [u64; COUNTERS.len()],
    times: [Times; TIMES],
}

#[derive(Debug)]
struct Reading {
    at: Instant,
    counters: [u64; COUNTERS.len()],
    times: [Distribution; TIMES],
}

/// What was read lately.
#[derive(Debug, Default)]
pub(super) struct History {
    readings: VecDeque<Reading>,
    points: VecDeque<Point>,
    next_number: u64,
}

impl Reading {
    fn take(instance: &Instance, at: Instant) -> Self {
        let all = || 0..instance.workers;
        let times = |index: usize| match index.checked_sub(1) {
            None => instance.metrics.execution_times(all()),
            Some(stage) => instance.metrics.stage_times(all(), Stage::ALL[stage]),
        };
        let counters = COUNTERS.map(|metric| instance.metrics.total(metric));
        Self { at, counters, times: std::array::from_fn(times) }
    }

    fn times_since(&self, earlier: &Reading) -> [Times; TIMES] {
        std::array::from_fn(|index| {
            let times = self.times[index].since(&earlier.times[index]);
            let count = times.count();
            let mean_ns = times.sum_ns.checked_div(count)?;
            Some([count, mean_ns, times.quantile_ns(0.5), times.quantile_ns(0.99), times.quantile_ns(0.999)])
        })
    }

    fn counters_since(&self, earlier: &Reading) -> [u64; COUNTERS.len()] {
        // A counter that was set to zero in between has grown by what it has.
        std::array::from_fn(|index| match self.counters[index].checked_sub(earlier.counters[index]) {
            Some(growth) => growth,
            None => self.counters[index],
        })
    }
}

impl History {
    /// Reads, and forgets what is too old.
    pub(super) fn read(&mut self, instance: &Instance, at: Instant) {
        let reading = Reading::take(instance, at);
        if let Some(earlier) = self.readings.back() {
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.points.push_back(Point {
                number: self.next_number,
                unix_ms: unix.as_millis() as u64,
                seconds: (at - earlier.at).as_secs_f64(),
                counters: reading.counters_since(earlier),
                times: reading.times_since(earlier),
            });
            self.next_number += 1;
        }
        self.readings.push_back(reading);
        self.points.drain(..self.points.len().saturating_sub(POINTS_MAX));
        self.readings.drain(..self.readings.len().saturating_sub(READINGS_MAX));
    }

    /// The last point; null before the first.
    pub(super) fn latest(&self) -> Value {
        json!(self.points.back())
    }

    /// The times of the last minute; null before there are any.
    pub(super) fn last_minute(&self) -> Value {
        match (self.readings.front(), self.readings.back()) {
            (Some(first), Some(last)) if self.readings.len() > 1 => {
                json!({"seconds": (last.at - first.at).as_secs_f64(), "times": last.times_since(first)})
            }
            _ => Value::Null,
        }
    }

    /// All points, oldest first, and what their columns are.
    pub(super) fn all(&self) -> Value {
        let times = std::iter::once("all commands").chain(Stage::ALL.map(Stage::name));
        json!({
            "interval_seconds": INTERVAL.as_secs_f64(), "counters": COUNTERS.map(Metric::name),
            "times": times.collect::<Vec<_>>(), "columns": ["count", "mean_ns", "p50_ns", "p99_ns", "p99_9_ns"],
            "points": self.points,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    #[test]
    fn points_tell_what_happened_in_between_and_old_ones_go() {
        let instance = Instance::new(Settings::default(), 2, String::new(), 0);
        let (mut history, start) = (History::default(), Instant::now());
        history.read(&instance, start);
        assert_eq!((history.latest(), history.last_minute()), (Value::Null, Value::Null));
        instance.metrics.worker(1).add(Metric::Commands, 20);
        instance.metrics.worker(1).record_stage(Stage::Hop, 7_000, 64);
        instance.metrics.worker(0).command(3).add_time(1_000, 1);
        history.read(&instance, start + INTERVAL);
        let latest = history.latest();
        assert_eq!((&latest["seconds"], &latest["counters"][0]), (&json!(2.0), &json!(20)));
        assert_eq!(latest["times"][0], json!([1, 1000, 1023, 1023, 1023]));
        assert_eq!(latest["times"][1 + Stage::Hop as usize], json!([64, 7000, 7167, 7167, 7167]));
        assert_eq!(latest["times"][1 + Stage::Send as usize], Value::Null);

        (0..2).for_each(|worker| instance.metrics.worker(worker).reset());
        instance.metrics.worker(0).add(Metric::Commands, 3);
        (2..400).for_each(|number| history.read(&instance, start + INTERVAL * number));
        assert_eq!(history.points.iter().map(|point| point.counters[0]).sum::<u64>(), 0, "long ago");
        assert_eq!(history.points[0].number, 99);
        assert_eq!((history.points.len(), history.last_minute()["seconds"].as_f64()), (POINTS_MAX, Some(60.0)));
        assert_eq!(history.all()["counters"].as_array().map(Vec::len), Some(COUNTERS.len()));
    }
}
