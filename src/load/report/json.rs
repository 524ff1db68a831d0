//! The report as JSON.
//!
//! In: a report. Out: one object, units in the names.

use std::io;

use serde_json::{Map, Value, json};

use super::Report;

/// The whole report.
///
/// # Errors
/// None that can be caused from outside; serde's signature.
pub fn render(report: &Report) -> io::Result<String> {
    let text = serde_json::to_string_pretty(&value(report)).map_err(io::Error::other)?;
    Ok(text + "\n")
}

/// As a value, to be part of another document.
pub fn value(report: &Report) -> Value {
    let counts = &report.counts;
    let facts: Map<String, Value> =
        report.facts.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.clone()))).collect();
    let texts: Vec<Value> = report.errors.iter().map(|(text, count)| json!({"text": text, "count": count})).collect();
    let timeline = report.timeline.iter().map(|point| {
        json!({
            "at_seconds": point.at_seconds, "replies_per_second": point.rate, "p50_ns": point.p50_ns,
            "p99_ns": point.p99_ns, "p999_ns": point.p999_ns, "max_ns": point.max_ns,
        })
    });
    json!({
        "facts": facts,
        "loop": if report.rate.is_some() { "open" } else { "closed" },
        "requested_per_second": report.rate,
        "offered_per_second": report.offered,
        "replies_per_second": report.throughput,
        "latency": report.percentiles,
        "latency_mean_ns": report.mean_ns,
        "is_valid": report.is_valid(),
        "replies": counts.answered,
        "errors": counts.errors,
        "wrong": counts.wrong,
        "unfinished": counts.unfinished,
        "hits": counts.hits,
        "misses": counts.misses,
        "bytes_received": counts.bytes_received,
        "bytes_sent": counts.bytes_sent,
        "server_cpu_ns_per_reply": report.server_cpu_ns,
        "generator_ns_per_reply": report.generator_ns,
        "generator_busy": report.generator_busy,
        "error_texts": texts,
        "notes": report.notes,
        "timeline": timeline.collect::<Vec<_>>(),
    })
}
