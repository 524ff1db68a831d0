//! `INFO`: the server's state, in Redis' sections and under Redis' names, so that dashboards read it unchanged.
//!
//! In: names of sections. Out: lines `name:value`. Sums over all workers are made here, when somebody asks; what has no
//! meaning in a server without replication, scripts or files has the value of a server that does not use them. On a
//! node's port the figures are the node's, so that whoever adds up all nodes counts nothing twice; `Workers` and what
//! the operating system tells are always the process's.

use std::fmt::Write;

use super::connection::REDIS_VERSION;
use super::memory::Figures;
use super::session::{Front, Session};
use super::{Call, table};
use crate::observe::Metric;
use crate::observe::histogram::Distribution;
use crate::observe::process::Process;
use crate::observe::slow::Stage;
use crate::protocol::Args;
use crate::protocol::resp::Reply;
use crate::topology;

/// Writes one section's lines.
type Section = fn(&Call<'_>, &mut String);

/// Title, whether it is shown when none is asked for, its lines.
static SECTIONS: &[(&str, bool, Section)] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Modules", true, |_, _| {}),
    ("Commandstats", false, command_stats),
    ("Errorstats", true, error_stats),
    ("Latencystats", false, latency_stats),
    ("Cluster", true, |call, text| line(text, "cluster_enabled", u8::from(call.front.is_cluster()))),
    ("Keyspace", true, keyspace),
    ("Workers", true, workers),
    ("Stages", false, stages),
];

/// `INFO [section …]`.
pub fn info(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let is_asked = |word: &str| args.iter().skip(1).any(|section| section.eq_ignore_ascii_case(word.as_bytes()));
    let has_all = is_asked("all") || is_asked("everything");
    let has_default = args.len() == 1 || is_asked("default");
    let mut text = String::with_capacity(4096);
    for (title, is_default, section) in SECTIONS {
        if has_all || (has_default && *is_default) || is_asked(title) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let _ = write!(text, "# {title}\r\n");
            section(call, &mut text);
        }
    }
    reply.verbatim("txt", &text);
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = write!(text, "{name}:{value}\r\n");
}

/// A size as Redis shows it to people: `1.50M`.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let power = (bytes.ilog2() / 10).min(UNITS.len() as u32);
    format!("{:.2}{}", bytes as f64 / 1024_f64.powi(power as i32), UNITS[power as usize - 1])
}

fn server(call: &Call<'_>, text: &mut String) {
    let instance = call.instance;
    let uptime_seconds = call.now.unix_ms.saturating_sub(instance.started_unix_ms) / 1000;
    let is_node = call.front == Front::RespCore;
    let port = if is_node { call.map.node_of_worker(call.worker).listen_port } else { instance.tcp_port };
    let path = |path: Option<std::path::PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
    line(text, "redis_version", REDIS_VERSION);
    line(text, "server_name", "corering");
    line(text, "corering_version", env!("CARGO_PKG_VERSION"));
    line(text, "redis_mode", if call.front.is_cluster() { "cluster" } else { "standalone" });
    line(text, "os", topology::kernel());
    line(text, "arch_bits", usize::BITS);
    line(text, "multiplexing_api", call.settings.io.api());
    line(text, "io_mode", &instance.io_mode);
    line(text, "process_id", std::process::id());
    line(text, "run_id", &instance.run_id);
    line(text, "tcp_port", port);
    line(text, "server_time_usec", call.now.unix_us);
    line(text, "uptime_in_seconds", uptime_seconds);
    line(text, "uptime_in_days", uptime_seconds / 86400);
    line(text, "hz", 10);
    line(text, "workers", instance.workers);
    line(text, "executable", path(std::env::current_exe().ok()));
    line(text, "config_file", path(instance.origin.file.clone()));
    line(text, "profile", instance.origin.profile.as_deref().unwrap_or_default());
}

fn clients(call: &Call<'_>, text: &mut String) {
    line(text, "connected_clients", call.instance.metrics.sum(call.reach(), Metric::ConnectionsOpen));
    line(text, "cluster_connections", 0);
    line(text, "maxclients", call.settings.maxclients);
    line(text, "blocked_clients", 0);
    line(text, "tracking_clients", 0);
}

fn memory(call: &Call<'_>, text: &mut String) {
    let figures = Figures::of(call);
    let host = topology::memory_bytes();
    line(text, "used_memory", figures.used);
    line(text, "used_memory_human", human(figures.used));
    line(text, "used_memory_rss", figures.resident);
    line(text, "used_memory_rss_human", human(figures.resident));
    line(text, "used_memory_peak", figures.peak);
    line(text, "used_memory_peak_human", human(figures.peak));
    line(text, "used_memory_overhead", figures.used.saturating_sub(figures.dataset));
    line(text, "used_memory_startup", figures.startup);
    line(text, "used_memory_dataset", figures.dataset);
    line(text, "total_system_memory", host);
    line(text, "total_system_memory_human", human(host));
    line(text, "maxmemory", call.settings.maxmemory);
    line(text, "maxmemory_human", human(call.settings.maxmemory));
    line(text, "maxmemory_policy", call.settings.maxmemory_policy.name());
    line(text, "mem_fragmentation_ratio", format_args!("{:.2}", figures.fragmentation()));
    line(text, "mem_clients_normal", figures.connections);
    line(text, "mem_allocator", "libc");
}

fn persistence(call: &Call<'_>, text: &mut String) {
    line(text, "loading", 0);
    line(text, "rdb_changes_since_last_save", 0);
    line(text, "rdb_bgsave_in_progress", 0);
    line(text, "rdb_last_save_time", call.instance.started_unix_ms / 1000);
    line(text, "rdb_last_bgsave_status", "ok");
    line(text, "aof_enabled", 0);
}

fn stats(call: &Call<'_>, text: &mut String) {
    let total = |metric| call.instance.metrics.sum(call.reach(), metric);
    let counters = [Metric::Commands, Metric::InputBytes, Metric::OutputBytes].map(total);
    let rates = match call.front {
        Front::RespCore => 1 + call.reach().start,
        Front::Resp | Front::RespCluster | Front::Memcache | Front::Http => 0,
    };
    let [commands, input, output] = call.instance.rates[rates as usize].look(call.now.mono_ns, counters);
    line(text, "total_connections_received", total(Metric::ConnectionsAccepted));
    line(text, "total_commands_processed", total(Metric::Commands));
    line(text, "instantaneous_ops_per_sec", commands as u64);
    line(text, "total_net_input_bytes", total(Metric::InputBytes));
    line(text, "total_net_output_bytes", total(Metric::OutputBytes));
    line(text, "instantaneous_input_kbps", format_args!("{:.2}", input / 1024.0));
    line(text, "instantaneous_output_kbps", format_args!("{:.2}", output / 1024.0));
    for metric in [
        Metric::ConnectionsRejected,
        Metric::Expired,
        Metric::Evicted,
        Metric::Hits,
        Metric::Misses,
        Metric::ErrorReplies,
        Metric::Ticks,
        Metric::OutputLimitClosed,
    ] {
        line(text, metric.name(), total(metric));
    }
    // What other memory would bring: an estimate, see `shard::shadow`.
    if let Some([half, same, double]) = call.instance.metrics.miss_ratios(call.reach()) {
        line(text, "miss_ratio_half_memory", format_args!("{half:.4}"));
        line(text, "miss_ratio_same_memory", format_args!("{same:.4}"));
        line(text, "miss_ratio_double_memory", format_args!("{double:.4}"));
    }
    line(text, "pubsub_channels", 0);
    line(text, "pubsub_patterns", 0);
    line(text, "latest_fork_usec", 0);
}

fn replication(call: &Call<'_>, text: &mut String) {
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
    line(text, "master_failover_state", "no-failover");
    line(text, "master_replid", &call.instance.run_id);
    line(text, "master_repl_offset", 0);
}

fn cpu(_: &Call<'_>, text: &mut String) {
    let process = Process::now();
    line(text, "used_cpu_sys", format_args!("{:.6}", process.system_seconds));
    line(text, "used_cpu_user", format_args!("{:.6}", process.user_seconds));
}

fn command_stats(call: &Call<'_>, text: &mut String) {
    for command in table::rows() {
        let totals = call.instance.metrics.command(call.reach(), command.0);
        if totals.calls + totals.rejected == 0 || command.full_name().starts_with(' ') {
            continue;
        }
        let usec = totals.execution_ns / 1000;
        let _ = write!(
            text,
            "cmdstat_{}:calls={},usec={usec},usec_per_call={:.2},rejected_calls={},failed_calls={}\r\n",
            command.full_name(),
            totals.calls,
            totals.execution_ns as f64 / 1000.0 / totals.calls.max(1) as f64,
            totals.rejected,
            totals.failed,
        );
    }
}

/// Microseconds at the percentiles that dashboards read.
fn percentiles(times: &Distribution) -> String {
    let show = |(name, share): (&str, f64)| format!("{name}={:.3}", times.quantile_ns(share) as f64 / 1000.0);
    [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)].map(show).join(",")
}

fn latency_stats(call: &Call<'_>, text: &mut String) {
    for command in table::rows().filter(|command| !command.full_name().starts_with(' ')) {
        let times = call.instance.metrics.command_times(call.reach(), command.0);
        if times.count() > 0 {
            let _ = write!(text, "latency_percentiles_usec_{}:{}\r\n", command.full_name(), percentiles(&times));
        }
    }
}

/// Where the time of requests goes, microseconds; empty while `stage-sampling` is 0.
fn stages(call: &Call<'_>, text: &mut String) {
    line(text, "stage_sampling", call.settings.stage_sampling);
    for stage in Stage::ALL {
        let times = call.instance.metrics.stage_times(call.reach(), stage);
        let count = times.count();
        if count > 0 {
            let mean = times.sum_ns as f64 / 1000.0 / count as f64;
            let _ = write!(text, "stage_{}:count={count},mean={mean:.3},{}\r\n", stage.name(), percentiles(&times));
        }
    }
}

fn error_stats(call: &Call<'_>, text: &mut String) {
    for (code, count) in call.instance.metrics.errors(call.reach()).filter(|(_, count)| *count > 0) {
        let _ = write!(text, "errorstat_{code}:count={count}\r\n");
    }
}

fn keyspace(call: &Call<'_>, text: &mut String) {
    let metrics = &call.instance.metrics;
    let [keys, expires] = [Metric::Keys, Metric::Expires].map(|metric| metrics.sum(call.reach(), metric));
    let ttl_ms = |worker| {
        let row = metrics.worker(worker);
        row.get(Metric::TtlMsMean) * row.get(Metric::Expires)
    };
    let ttl_ms_mean = call.reach().map(ttl_ms).sum::<u64>() / expires.max(1);
    if keys > 0 {
        let _ = write!(text, "db0:keys={keys},expires={expires},avg_ttl={ttl_ms_mean}\r\n");
    }
}

/// What only this server has: each worker's share of the work, and what the path between cores costs.
fn workers(call: &Call<'_>, text: &mut String) {
    const SHOWN: [Metric; 7] = [
        Metric::ConnectionsOpen,
        Metric::Commands,
        Metric::Keys,
        Metric::Ticks,
        Metric::HopsSent,
        Metric::HopsServed,
        Metric::Wakes,
    ];
    for worker in 0..call.instance.workers {
        let row = call.instance.metrics.worker(worker);
        let values: Vec<String> =
            SHOWN.iter().map(|metric| format!("{}={}", metric.name(), row.get(*metric))).collect();
        let _ = write!(text, "worker{worker}:{}\r\n", values.join(","));
    }
    for metric in [Metric::LettersSent, Metric::HopsSent, Metric::BuffersExhausted, Metric::StaleCompletions] {
        line(text, metric.name(), call.instance.metrics.total(metric));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        let rows = [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1536 << 10, "1.50M"), (u64::MAX, "16384.00P")];
        for (bytes, text) in rows {
            assert_eq!(human(bytes), text);
        }
    }
}
