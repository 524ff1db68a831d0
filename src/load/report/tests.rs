//! The forms of a report.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::load::recorder::Seen;

/// A thousand replies of 1 to 1000 µs, sent `lateness_ns` late.
fn report(plan: &Plan, lateness_ns: u64, counts: Counts) -> Report {
    let mut seen = Seen::default();
    for us in 1..=1000 {
        seen.latencies.record(us * 1000).unwrap();
        seen.lateness.record(lateness_ns).unwrap();
    }
    seen.counts = Counts { answered: 1000, hits: 1000, busy_ns: 100_000_000, ..counts };
    seen.errors = BTreeMap::from([("ERR <no>".to_owned(), counts.errors)]);
    let timeline = (1..=10)
        .map(|tenth| Point {
            at_seconds: f64::from(tenth) / 10.0,
            rate: 1000.0,
            p50_ns: 500_000,
            p99_ns: 990_000,
            p999_ns: 999_000,
            max_ns: 1_000_000,
        })
        .collect();
    let outcome = Outcome {
        seen,
        timeline,
        duration: Duration::from_secs(1),
        server_cpu: Some(Duration::from_millis(10)),
        generator_cpu: None,
        server_name: "redis 7".to_owned(),
        shared_cpus: vec![],
        cpus: vec![1],
    };
    Report::new(plan, &Target::Tcp("host:1".to_owned()), outcome)
}

fn open_plan() -> Plan {
    Plan { rate: Rate::PerSecond(1000.0), ..Plan::default() }
}

#[test]
fn percentiles_are_those_of_the_latencies() {
    let report = report(&open_plan(), 1000, Counts::default());
    for (percentile, expected_us) in report.percentiles.iter().zip([500, 900, 990, 999, 1000, 1000]) {
        let us = percentile.latency_ns as f64 / 1e3;
        assert!((us / f64::from(expected_us) - 1.0).abs() < 0.002, "{}: {us}", percentile.name);
    }
    assert!(report.is_valid() && report.is_clean() && report.notes.is_empty(), "{:?}", report.notes);
    assert_eq!(report.server_cpu_ns, Some(10_000.0));
    assert!((report.generator_busy - 0.1).abs() < 1e-9);
}

#[test]
fn a_late_generator_disowns_its_percentiles() {
    // 200 µs late: more than a quarter of the median, less than a quarter of the p90.
    let report = report(&open_plan(), 200_000, Counts::default());
    let valid: Vec<bool> = report.percentiles.iter().map(|percentile| percentile.is_valid).collect();
    assert_eq!(valid, [false, true, true, true, true, true]);
    assert!(!report.is_valid());
    assert!(report.notes[0].starts_with("The generator fell behind its schedule: by 200"), "{:?}", report.notes);
    let table = table::render(&report);
    assert!(table.lines().any(|line| line.trim_start().starts_with("p50") && line.ends_with('!')), "{table}");
    assert!(html::render(&report).contains("<span class=\"note\">!</span>"));
    assert_eq!(json::value(&report)["is_valid"], false);
}

#[test]
fn the_table_says_what_went_wrong_and_which_loop_it_was() {
    let counts = Counts { errors: 3, wrong: 2, ..Counts::default() };
    let text = table::render(&report(&Plan { rate: Rate::Max, ..Plan::default() }, 1, counts));
    for expected in ["closed loop", "3 refused, 2 wrong", "3 × ERR <no>", "10.00 µs per reply", "2 replies were not"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn json_reads_back() {
    let report = report(&open_plan(), 1000, Counts::default());
    let value: serde_json::Value = serde_json::from_str(&json::render(&report).unwrap()).unwrap();
    assert_eq!(value["loop"], "open");
    assert_eq!(value["latency"][2]["name"], "p99");
    assert_eq!(value["replies"], 1000);
    assert_eq!(value["timeline"].as_array().unwrap().len(), 10);
}

#[test]
fn hgrm_ends_with_the_maximum_and_the_count() {
    let text = hgrm::render(&report(&open_plan(), 1, Counts::default()).latencies);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
    let last = rows.iter().rfind(|row| row.len() == 3).unwrap();
    assert_eq!(last[1..], ["1.000000000000", "1000"]);
    let counts: Vec<u64> = rows.iter().filter(|row| row.len() >= 3).filter_map(|row| row[2].parse().ok()).collect();
    assert!(counts.is_sorted() && counts.len() > 20, "{text}");
    assert!(text.contains("Total count    =         1000"), "{text}");
}

#[test]
fn the_page_stands_alone() {
    let page = html::render(&report(&open_plan(), 1, Counts { errors: 1, ..Counts::default() }));
    assert!(page.contains("&lt;no&gt;") && !page.contains("<no>"), "texts of the server are escaped");
    for outside in ["http://", "https://", "<script", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<polyline").count(), 6, "percentiles, four over time, replies");
    for unit in ["time (s)", "thousand replies/s", "100 µs", "99.9 %", "prefers-color-scheme:dark"] {
        assert!(page.contains(unit), "{unit}");
    }
    assert!(!page.contains("NaN"));
}

#[test]
fn a_time_without_replies_is_a_gap() {
    let mut report = report(&open_plan(), 1, Counts::default());
    let silent = Point { rate: 0.0, p50_ns: 0, p99_ns: 0, p999_ns: 0, max_ns: 0, ..report.timeline[4] };
    report.timeline[4] = silent;
    let page = html::render(&report);
    assert_eq!(page.matches("<polyline").count(), 10, "each of the four over time in two pieces");
    assert!(!page.contains("NaN"));
}

#[test]
fn nothing_measured_is_still_a_report() {
    let outcome = Outcome {
        seen: Seen::default(),
        timeline: Vec::new(),
        duration: Duration::from_secs(1),
        server_cpu: None,
        generator_cpu: None,
        server_name: String::new(),
        shared_cpus: vec![0],
        cpus: vec![0],
    };
    let report = Report::new(&open_plan(), &Target::Tcp("host:1".to_owned()), outcome);
    assert!(table::render(&report).contains("unknown (--pid)"));
    assert!(report.notes[0].contains("nowhere but on the generator's CPUs [0]"), "{:?}", report.notes);
    assert!(!html::render(&report).contains("NaN"));
    assert!(hgrm::render(&report.latencies).contains("Total count"));
}

#[test]
fn durations_have_three_digits() {
    let rows =
        [(999, "999 ns"), (1500, "1.50 µs"), (23_400, "23.4 µs"), (234_000, "234 µs"), (2_000_000_000, "2.00 s")];
    for (ns, text) in rows {
        assert_eq!(duration(ns), text);
    }
}
