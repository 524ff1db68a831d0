//! The report as a table for a terminal.
//!
//! In: a report. Out: text in columns, a remark below for each figure that is not to be trusted.

use std::fmt::Write;

use super::{Report, bytes, duration};
use crate::load::session::Point;

/// The whole report, several lines.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for (name, value) in &report.facts {
        line(&mut text, name, value);
    }
    text.push('\n');
    let kind = if report.rate.is_some() { "from the scheduled time" } else { "closed loop, from the sending" };
    line(&mut text, "latency", kind);
    for percentile in &report.percentiles {
        let mark = if percentile.is_valid { "" } else { " !" };
        let _ = writeln!(text, "  {:>10}  {:>10}{mark}", percentile.name, duration(percentile.latency_ns));
    }
    text.push('\n');
    let counts = &report.counts;
    line(&mut text, "throughput", &format!("{:.0} replies/s", report.throughput));
    if let Some(rate) = report.rate {
        line(&mut text, "asked for", &format!("{rate:.0} requests/s"));
    }
    let cpu = report.server_cpu_ns.map(|ns| format!("{:.2} µs per reply", ns / 1e3));
    line(&mut text, "server CPU", &cpu.unwrap_or_else(|| "unknown (--pid)".to_owned()));
    let generator = format!("{:.2} µs per reply, busy {:.0} %", report.generator_ns / 1e3, report.generator_busy * 1e2);
    line(&mut text, "generator", &generator);
    let (received, sent) = (bytes(counts.bytes_received as f64), bytes(counts.bytes_sent as f64));
    line(&mut text, "bytes", &format!("{received} received, {sent} sent"));
    if counts.hits + counts.misses > 0 {
        line(&mut text, "look-ups", &format!("{} found, {} not", counts.hits, counts.misses));
    }
    line(&mut text, "errors", &format!("{} refused, {} wrong", counts.errors, counts.wrong));
    for (error, count) in &report.errors {
        let _ = writeln!(text, "  {count:>10} × {error}");
    }
    for note in &report.notes {
        let _ = writeln!(text, "\n! {note}");
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name:<12} {value}");
}

/// One second of a run that goes on.
pub fn progress(second: &Point) -> String {
    let Point { at_seconds, rate, p50_ns, p99_ns, p999_ns, .. } = second;
    format!(
        "{at_seconds:>6.0} s  {rate:>9.0} replies/s  p50 {:>8}  p99 {:>8}  p99.9 {:>8}",
        duration(*p50_ns),
        duration(*p99_ns),
        duration(*p999_ns),
    )
}
