//! The figures for programs, and for the console.
//!
//! In: the metric table, the commands, the stages, /proc. Out: the JSON of `/status.json` and `/settings.json`. What
//! must stay true: the fields of `INFO` have their names here; a secret is shown to nobody.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::history::History;
use super::prometheus::used_commands;
use crate::command::memory::Figures;
use crate::command::table::CommandId;
use crate::config::{Settings, TABLE};
use crate::instance::Instance;
use crate::observe::histogram::Distribution;
use crate::observe::process::{self, Process};
use crate::observe::slow::Stage;
use crate::observe::{CommandTotals, Metric};
use crate::topology;

/// What stands for a secret's value.
const HIDDEN: &str = "(hidden)";

/// Everything for programs: the fields of `INFO` under their names, each worker's, and the settings.
pub(super) fn status(instance: &Instance, history: &History, descriptors: usize) -> Value {
    let all = 0..instance.workers;
    let settings = instance.settings();
    let errors: Map<String, Value> =
        instance.metrics.errors(all.clone()).map(|(code, count)| (code.to_owned(), count.into())).collect();
    let stage = |stage: Stage| {
        let times = instance.metrics.stage_times(all.clone(), stage);
        let mut row = percentiles(&times);
        row.insert("count".to_owned(), times.count().into());
        row.insert("seconds".to_owned(), (times.sum_ns as f64 / 1e9).into());
        (stage.name().to_owned(), Value::from(row))
    };
    let process = Process::now();
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    json!({
        "server": "corering", "version": env!("CARGO_PKG_VERSION"), "run_id": instance.run_id,
        "phase": instance.phase().name(), "pid": std::process::id(), "kernel": topology::kernel(),
        "io_mode": instance.io_mode, "profile": instance.origin.profile, "tcp_port": instance.tcp_port,
        "unix_ms": unix_ms, "uptime_seconds": unix_ms.saturating_sub(instance.started_unix_ms) as f64 / 1000.0,
        "process": {
            "resident_bytes": process.resident_bytes, "cpu_user_seconds": process.user_seconds,
            "cpu_system_seconds": process.system_seconds, "open_descriptors": descriptors,
        },
        "totals": totals(instance), "workers": workers(instance), "memory": memory(instance, &settings),
        "commands": commands(instance), "errors": errors,
        "stages": Stage::ALL.into_iter().map(stage).collect::<Map<String, Value>>(),
        "slow_requests": instance.slow.len(), "latest": history.latest(), "last_minute": history.last_minute(),
        "settings": TABLE.iter().map(|row| {
            let value = if row.is_secret() { HIDDEN.to_owned() } else { (row.get)(&settings) };
            (row.key.to_owned(), Value::from(value))
        }).collect::<Map<String, Value>>(),
    })
}

fn row(value: impl Fn(Metric) -> u64) -> Map<String, Value> {
    Metric::ALL.iter().map(|metric| (metric.name().to_owned(), value(*metric).into())).collect()
}

fn percentiles(times: &Distribution) -> Map<String, Value> {
    let seconds = |share: f64| Value::from(times.quantile_ns(share) as f64 / 1e9);
    let shares = [("p50_seconds", 0.5), ("p99_seconds", 0.99), ("p99_9_seconds", 0.999)];
    shares.into_iter().map(|(name, share)| (name.to_owned(), seconds(share))).collect()
}

fn totals(instance: &Instance) -> Map<String, Value> {
    let mut totals = row(|metric| instance.metrics.total(metric));
    // A mean cannot be added up.
    totals.remove(Metric::TtlMsMean.name());
    let ratios = instance.metrics.miss_ratios(0..instance.workers).into_iter().flatten();
    let names = ["miss_ratio_half_memory", "miss_ratio_same_memory", "miss_ratio_double_memory"];
    totals.extend(names.iter().zip(ratios).map(|(name, ratio)| ((*name).to_owned(), ratio.into())));
    totals
}

fn workers(instance: &Instance) -> Vec<Map<String, Value>> {
    let threads = process::worker_threads();
    let worker = |worker: u16| {
        let mut row = row(|metric| instance.metrics.worker(worker).get(metric));
        if let Some((_, time)) = threads.iter().find(|(index, _)| *index == worker) {
            row.insert("cpu_seconds".to_owned(), time.run_seconds.into());
            row.insert("cpu_wait_seconds".to_owned(), time.wait_seconds.into());
        }
        row
    };
    (0..instance.workers).map(worker).collect()
}

/// Memory by kind, as in `INFO memory`, bytes.
fn memory(instance: &Instance, settings: &Settings) -> Value {
    let figures = Figures::new(instance, settings, 0..instance.workers);
    json!({
        "used_memory": figures.used, "used_memory_peak": figures.peak, "used_memory_startup": figures.startup,
        "used_memory_dataset": figures.dataset, "items_overhead": figures.shards.saturating_sub(figures.dataset),
        "mem_clients_normal": figures.connections, "used_memory_rss": figures.resident,
        "maxmemory": settings.maxmemory, "maxmemory_policy": settings.maxmemory_policy.name(),
    })
}

fn commands(instance: &Instance) -> Map<String, Value> {
    let command = |(command, totals): (CommandId, CommandTotals)| {
        let mut row = percentiles(&instance.metrics.command_times(0..instance.workers, command.0));
        let counts = [("calls", totals.calls), ("failed", totals.failed), ("rejected", totals.rejected)];
        row.extend(counts.map(|(name, count)| (name.to_owned(), count.into())));
        row.insert("seconds".to_owned(), (totals.execution_ns as f64 / 1e9).into());
        (command.full_name().to_owned(), Value::from(row))
    };
    used_commands(instance).into_iter().map(command).collect()
}

/// Every setting with its advice.
pub(super) fn settings(instance: &Instance) -> Value {
    let (settings, profile) = (instance.settings(), &instance.origin.profile);
    let defaults = Settings::default();
    let row = |row: &crate::config::Setting| {
        let (value, default) = ((row.get)(&settings), (row.get)(&defaults));
        let is_default = value == default;
        let value = if row.is_secret() && !value.is_empty() { HIDDEN.to_owned() } else { value };
        json!({
            "key": row.key, "group": row.group, "value": value, "default": default, "is_default": is_default,
            "is_mutable": row.is_mutable, "takes": (row.form)(), "advice": row.doc,
        })
    };
    json!({ "profile": profile, "settings": TABLE.iter().map(row).collect::<Vec<_>>() })
}
