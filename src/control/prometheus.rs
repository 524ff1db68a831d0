//! All metrics for Prometheus.
//!
//! In: the metric table, the commands, the stages, /proc. Out: the text of `/metrics`. What must stay true: every row
//! of the metric table is there, with one sample for each worker.

use crate::command::table::{self, CommandId};
use crate::instance::Instance;
use crate::observe::exposition::Exposition;
use crate::observe::process::{self, Process};
use crate::observe::slow::Stage;
use crate::observe::{CommandTotals, Kind, Metric};

/// Every metric, in the format of Prometheus.
pub(super) fn metrics(instance: &Instance, descriptors: usize) -> String {
    let mut out = Exposition::default();
    let settings = instance.settings();
    let workers: Vec<String> = (0..instance.workers).map(|worker| worker.to_string()).collect();
    let build = [("version", env!("CARGO_PKG_VERSION")), ("io_mode", &instance.io_mode), ("run_id", &instance.run_id)];
    out.family("corering_build_info", Kind::Gauge, "Version and data path of the server.").sample(&build, 1.0);
    for metric in Metric::ALL {
        out.family(metric.exported_name(), metric.kind(), metric.help());
        for (worker, label) in workers.iter().enumerate() {
            let value = instance.metrics.worker(worker as u16).get(*metric) as f64;
            let value = if metric.kind() == Kind::GaugeMs { value / 1000.0 } else { value };
            out.sample(&[("worker", label)], value);
        }
    }
    out.family("corering_maxmemory_bytes", Kind::Gauge, "The setting maxmemory; 0 sets no limit.")
        .sample(&[], settings.maxmemory as f64);
    out.family("corering_maxclients", Kind::Gauge, "The setting maxclients.")
        .sample(&[], f64::from(settings.maxclients));
    out.family("corering_startup_bytes", Kind::Gauge, "Memory that counts as used before anybody is served.")
        .sample(&[], settings.startup_bytes(instance.workers) as f64);
    commands(instance, &mut out);
    out.family("corering_errors_total", Kind::Counter, "Error replies by the code that they begin with.");
    for (code, count) in instance.metrics.errors(0..instance.workers) {
        out.sample(&[("code", code)], count as f64);
    }
    stages(instance, &mut out);
    threads(&mut out);
    this_process(instance, descriptors, &mut out);
    out.text
}

/// Commands that were asked for at least once.
pub(super) fn used_commands(instance: &Instance) -> Vec<(CommandId, CommandTotals)> {
    let totals = table::rows().map(|row| (row, instance.metrics.command(0..instance.workers, row.0)));
    // Rows that clients cannot name are shown by no tool.
    totals.filter(|(row, totals)| !row.full_name().starts_with(' ') && totals.calls + totals.rejected > 0).collect()
}

fn commands(instance: &Instance, out: &mut Exposition) {
    type Column = (&'static str, &'static str, fn(&CommandTotals) -> f64);
    const COLUMNS: [Column; 4] = [
        ("corering_command_calls_total", "How often a command ran.", |totals| totals.calls as f64),
        ("corering_command_failures_total", "How often it answered with an error.", |totals| totals.failed as f64),
        ("corering_command_rejections_total", "How often it was refused before it ran.", |totals| {
            totals.rejected as f64
        }),
        ("corering_command_seconds_total", "Time spent running it, from a sample of its calls.", |totals| {
            totals.execution_ns as f64 / 1e9
        }),
    ];
    let used = used_commands(instance);
    for (name, help, value) in COLUMNS {
        out.family(name, Kind::Counter, help);
        for (command, totals) in &used {
            out.sample(&[("command", command.full_name())], value(totals));
        }
    }
}

/// Upper bounds of the buckets, seconds: from 1 µs to 4 s, each four times the one before.
const STAGE_BOUNDS: u32 = 12;

/// Where the time of requests goes; empty histograms while `stage-sampling` is 0.
fn stages(instance: &Instance, out: &mut Exposition) {
    out.histogram("corering_stage_seconds", "Time of requests by stage, from a sample of them (stage-sampling).");
    for stage in Stage::ALL {
        let times = instance.metrics.stage_times(0..instance.workers, stage);
        let label = ("stage", stage.name());
        for us in (0..STAGE_BOUNDS).map(|power| 4_u64.pow(power)) {
            let bound = (us as f64 / 1e6).to_string();
            out.sample_of("_bucket", &[label, ("le", &bound)], times.count_within(us * 1000) as f64);
        }
        out.sample_of("_bucket", &[label, ("le", "+Inf")], times.count() as f64);
        out.sample_of("_sum", &[label], times.sum_ns as f64 / 1e9);
        out.sample_of("_count", &[label], times.count() as f64);
    }
    out.family("corering_slow_requests", Kind::Gauge, "Requests that SLOWLOG keeps.")
        .sample(&[], instance.slow.len() as f64);
}

fn threads(out: &mut Exposition) {
    type Column = (&'static str, &'static str, fn(&process::ThreadTime) -> f64);
    const COLUMNS: [Column; 2] = [
        (
            "corering_worker_cpu_seconds_total",
            "Time that the worker's thread had a CPU. Workers of one CPU share the thread of the first.",
            |time| time.run_seconds,
        ),
        ("corering_worker_cpu_wait_seconds_total", "Time that it was ready to run and others had its CPU.", |time| {
            time.wait_seconds
        }),
    ];
    let threads = process::worker_threads();
    for (name, help, value) in COLUMNS {
        out.family(name, Kind::Counter, help);
        for (worker, time) in &threads {
            out.sample(&[("worker", &worker.to_string())], value(time));
        }
    }
}

/// The names that every client library of Prometheus gives a process.
fn this_process(instance: &Instance, descriptors: usize, out: &mut Exposition) {
    let process = Process::now();
    let cpu_seconds = process.user_seconds + process.system_seconds;
    out.family("process_cpu_seconds_total", Kind::Counter, "Time on CPUs.").sample(&[], cpu_seconds);
    out.family("process_resident_memory_bytes", Kind::Gauge, "Resident memory.")
        .sample(&[], process.resident_bytes as f64);
    out.family("process_open_fds", Kind::Gauge, "Open descriptors.").sample(&[], descriptors as f64);
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        out.family("process_max_fds", Kind::Gauge, "Descriptors that may be open.").sample(&[], limit as f64);
    }
    out.family("process_start_time_seconds", Kind::Gauge, "Start, seconds since the Unix epoch.")
        .sample(&[], instance.started_unix_ms as f64 / 1000.0);
}
