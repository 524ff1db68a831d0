//! What latencies, throughput and server CPU does this host give, from one connection to 256, from small values to
//! large ones, below and at the limit?
//!
//! `cargo bench --bench latency -- [SECONDS]` measures a server inside, with a worker on every CPU that the generator
//! leaves free, row after row (SECONDS each, 2 by default). A table at the end. Closed loops (`max`) show the limit and
//! hide stalls; open loops count from the scheduled time. To compare servers, use the compare bench: figures of two
//! runs differ by the host's mood.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

use std::time::Duration;

use corering::load::plan::{Operation, Rate};
use corering::load::report::{Report, date, duration, host};
use corering::load::sizes::Sizes;
use corering::load::{Embedded, LoadError, Plan, measure};

/// Connections, pipeline, per cent of writes, bytes of a value, requests a second (none: a closed loop).
type Row = (usize, usize, u32, u32, Option<f64>);

const KIB: u32 = 1 << 10;

const ROWS: &[Row] = &[
    (1, 1, 0, 64, None),
    (1, 1, 10, 64, None),
    (1, 16, 0, 64, None),
    (1, 16, 10, 64, None),
    (32, 1, 0, 64, None),
    (32, 1, 10, 64, None),
    (32, 16, 0, 64, None),
    (32, 16, 10, 64, None),
    (256, 1, 0, 64, None),
    (256, 1, 10, 64, None),
    (256, 16, 0, 64, None),
    (256, 16, 10, 64, None),
    (1, 1, 10, 16 * KIB, None),
    (32, 1, 10, 16 * KIB, None),
    (1, 1, 10, 1024 * KIB, None),
    (32, 1, 10, 1024 * KIB, None),
    (32, 16, 10, 64, Some(10_000.0)),
    (32, 16, 10, 64, Some(50_000.0)),
    (32, 16, 10, 64, Some(100_000.0)),
    (256, 16, 10, 64, Some(100_000.0)),
    (32, 16, 10, 16 * KIB, Some(20_000.0)),
];

/// Bytes of all values of a row together, at most.
const VALUES_BYTES: u64 = 256 << 20;

fn main() {
    let seconds = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let seconds =
        seconds.map_or(Some(2.0), |text| text.parse().ok()).filter(|seconds| (0.1..=3600.0).contains(seconds));
    let Some(seconds) = seconds else {
        eprintln!("latency: SECONDS is a number from 0.1 to 3600");
        std::process::exit(2);
    };
    match run(Duration::from_secs_f64(seconds)) {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(error) => {
            eprintln!("latency: {error}");
            std::process::exit(1);
        }
    }
}

/// Whether all replies were right.
fn run(duration: Duration) -> Result<bool, LoadError> {
    let plan = Plan::default();
    let embedded = Embedded::start(&plan)?;
    let mut lines = Vec::new();
    let mut is_clean = true;
    for (number, row) in ROWS.iter().enumerate() {
        eprintln!("{:>2} of {}: {}", number + 1, ROWS.len(), title(row));
        let plan = row_plan(row, duration);
        let outcome = measure(&plan, &embedded.target, Some(embedded.meter.clone()), |_| ())?;
        let report = Report::new(&plan, &embedded.target, outcome);
        is_clean &= report.is_clean();
        lines.push(line(row, &report));
    }
    embedded.server.stop();
    let names = ["replies/s", "CPU, µs", "p50", "p99", "p99.9", "p99.99", "max"];
    println!("{:46} {}", "", names.map(|name| format!("{name:>9}")).join(" "));
    lines.iter().for_each(|line| println!("{line}"));
    println!("\nCPU: the server's, per reply. Percentiles marked ! may be the generator's own doing.");
    println!("{}, {}, {duration:?} a row", host(), date());
    Ok(is_clean)
}

fn row_plan(&(connections, pipeline, set_percent, value_bytes, rate): &Row, duration: Duration) -> Plan {
    let mut mix = vec![(Operation::Get, 100 - set_percent)];
    mix.extend((set_percent > 0).then_some((Operation::Set, set_percent)));
    // Values of another length belong to other keys.
    let key_bytes = 16 + value_bytes.ilog2() as usize;
    Plan {
        connections,
        pipeline,
        mix,
        key_bytes,
        value_sizes: Sizes::Fixed(value_bytes),
        keys: (VALUES_BYTES / u64::from(value_bytes)).min(10_000),
        rate: rate.map_or(Rate::Max, Rate::PerSecond),
        duration,
        warmup: duration / 4,
        ..Plan::default()
    }
}

fn title(&(connections, pipeline, set_percent, value_bytes, rate): &Row) -> String {
    let rate = rate.map_or("max".to_owned(), |rate| format!("{rate:.0}/s"));
    let value = if value_bytes < KIB { format!("{value_bytes} B") } else { format!("{} KiB", value_bytes / KIB) };
    let clients = format!("{connections} × {pipeline}");
    format!("{clients:>8}  {set_percent:>2} % SET {value:>9}  {rate:>9}")
}

fn line(row: &Row, report: &Report) -> String {
    let cpu = report.server_cpu_ns.map_or("–".to_owned(), |ns| format!("{:.2}", ns / 1e3));
    let mut text = format!("{:46} {:>9.0} {cpu:>9}", title(row), report.throughput);
    for quantile in [0.5, 0.99, 0.999, 0.9999, 1.0] {
        let at = report.quantile(quantile);
        let mark = if at.is_valid { "" } else { "!" };
        text += &format!(" {:>9}", duration(at.latency_ns) + mark);
    }
    text
}
