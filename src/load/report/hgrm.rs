//! The percentile distribution in the text form of HdrHistogram.
//!
//! In: a report. Out: lines in microseconds, for the plotters that read this form.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// Steps in each halving of the rest, as HdrHistogram's own tools use.
const STEPS_PER_HALVING: u32 = 5;

/// The whole distribution.
pub fn render(latencies: &Histogram<u64>) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in latencies.iter_quantiles(STEPS_PER_HALVING) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / 1e3, step.quantile_iterated_to());
        let _ = match quantile {
            quantile if quantile < 1.0 => {
                writeln!(text, "{value:>12.3} {quantile:>14.12} {total:>10} {:>14.2}", 1.0 / (1.0 - quantile))
            }
            quantile => writeln!(text, "{value:>12.3} {quantile:>14.12} {total:>10}"),
        };
    }
    let (mean, deviation) = (latencies.mean() / 1e3, latencies.stdev() / 1e3);
    let (max, count) = (latencies.max() as f64 / 1e3, latencies.len());
    let _ = writeln!(text, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let _ = writeln!(text, "#[Max     = {max:>12.3}, Total count    = {count:>12}]");
    let _ = writeln!(text, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", latencies.buckets(), 2048);
    text
}
