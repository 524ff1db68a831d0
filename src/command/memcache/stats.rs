//! `stats`: the figures of the server under memcached's names.
//!
//! In: the group that is asked for. Out: `STAT name value` lines and `END`. What must stay true: the figures are those
//! of `INFO`, over all workers; a group that has no meaning here (`slabs`, `items`) shows the one class that there is.

use super::super::table;
use super::{Call, Session, VERSION, line, line_unless};
use crate::observe::Metric;
use crate::observe::process::Process;
use crate::protocol::memcache::{self, text};
use crate::protocol::resp::Reply;
use crate::protocol::{Args, Output};

fn stat(output: &mut Output, name: &str, value: impl std::fmt::Display) {
    line(output, &format!("STAT {name} {value}"));
}

pub(super) fn stats(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    let group = if args.len() > 1 { args.get(1) } else { b"" };
    let show: fn(&mut Call<'_>, &mut Output) = match group {
        b"" => general,
        b"settings" => settings,
        b"items" => items,
        b"slabs" => slabs,
        b"conns" => connections,
        b"cachedump" => |_, _| {},
        b"sizes" => |_, output| stat(output, "sizes_status", "disabled"),
        b"detail" => return detail(args, reply.output),
        _ => return line(reply.output, "ERROR"),
    };
    show(call, reply.output);
    line(reply.output, "END");
}

fn general(call: &mut Call<'_>, output: &mut Output) {
    let metrics = &call.instance.metrics;
    let (started, now) = (call.instance.started_unix_ms, call.now.unix_ms);
    let Process { user_seconds: user, system_seconds: system, .. } = Process::now();
    stat(output, "pid", std::process::id());
    stat(output, "uptime", now.saturating_sub(started) / 1000);
    stat(output, "time", now / 1000);
    stat(output, "version", VERSION);
    stat(output, "corering_version", env!("CARGO_PKG_VERSION"));
    stat(output, "pointer_size", usize::BITS);
    stat(output, "rusage_user", format_args!("{user:.6}"));
    stat(output, "rusage_system", format_args!("{system:.6}"));
    stat(output, "max_connections", call.settings.maxclients);
    let calls = |names: &[&str]| -> u64 { names.iter().map(|name| calls(call, name)).sum() };
    let rows = [
        ("curr_connections", metrics.total(Metric::ConnectionsOpen)),
        ("total_connections", metrics.total(Metric::ConnectionsAccepted)),
        ("rejected_connections", metrics.total(Metric::ConnectionsRejected)),
        ("cmd_get", calls(&["get", "gets", "mg"])),
        ("cmd_set", calls(&["set", "add", "replace", "append", "prepend", "cas", "ms"])),
        ("cmd_flush", calls(&["flush_all"])),
        ("cmd_touch", calls(&["touch", "gat", "gats"])),
        ("cmd_meta", calls(&["mg", "ms", "md", "ma", "me"])),
        ("get_hits", metrics.total(Metric::Hits)),
        ("get_misses", metrics.total(Metric::Misses)),
        ("get_expired", metrics.total(Metric::Expired)),
        ("bytes_read", metrics.total(Metric::InputBytes)),
        ("bytes_written", metrics.total(Metric::OutputBytes)),
        ("limit_maxbytes", call.settings.maxmemory),
        ("threads", u64::from(call.instance.workers)),
        ("bytes", metrics.total(Metric::ShardBytes)),
        ("curr_items", metrics.total(Metric::Keys)),
        ("evictions", metrics.total(Metric::Evicted)),
        ("reclaimed", metrics.total(Metric::Expired)),
    ];
    rows.iter().for_each(|(name, value)| stat(output, name, value));
}

/// How often one of memcached's commands ran.
fn calls(call: &Call<'_>, name: &str) -> u64 {
    let row = table::subcommand(table::hidden(super::CONTAINER), name.as_bytes());
    row.map_or(0, |row| call.instance.metrics.command(0..call.instance.workers, row.0).calls)
}

fn settings(call: &mut Call<'_>, output: &mut Output) {
    let settings = call.settings;
    stat(output, "maxbytes", settings.maxmemory);
    stat(output, "maxconns", settings.maxclients);
    stat(output, "tcpport", settings.memcache_port);
    stat(output, "verbosity", 0);
    stat(output, "evictions", if settings.maxmemory_policy.name() == "noeviction" { "off" } else { "on" });
    stat(output, "cas_enabled", "yes");
    stat(output, "num_threads", call.instance.workers);
    stat(output, "item_size_max", settings.proto_max_bulk_len);
    stat(output, "tcp_backlog", settings.tcp_backlog);
    stat(output, "auth_enabled_ascii", if settings.requirepass.is_empty() { "no" } else { "yes" });
    stat(output, "flush_enabled", "yes");
    stat(output, "idle_timeout", settings.timeout.as_secs());
}

fn items(call: &mut Call<'_>, output: &mut Output) {
    let metrics = &call.instance.metrics;
    stat(output, "items:1:number", metrics.total(Metric::Keys));
    stat(output, "items:1:evicted", metrics.total(Metric::Evicted));
    stat(output, "items:1:reclaimed", metrics.total(Metric::Expired));
}

fn slabs(call: &mut Call<'_>, output: &mut Output) {
    let metrics = &call.instance.metrics;
    stat(output, "1:used_chunks", metrics.total(Metric::Keys));
    stat(output, "1:mem_requested", metrics.total(Metric::DatasetBytes));
    stat(output, "active_slabs", 1);
    stat(output, "total_malloced", metrics.total(Metric::ShardBytes));
}

/// The connections of this worker.
fn connections(call: &mut Call<'_>, output: &mut Output) {
    call.clients.for_each(&mut |client| {
        let fd = client.fd;
        stat(output, &format!("{fd}:addr"), format_args!("tcp:{}", client.peer));
        stat(output, &format!("{fd}:listen_addr"), format_args!("tcp:{}", client.local));
        stat(output, &format!("{fd}:secs_since_last_cmd"), client.idle_ms / 1000);
    });
}

/// As `CONFIG RESETSTAT`, on each worker.
pub(super) fn reset(call: &mut Call<'_>, _: Args<'_>, reply: &mut Reply<'_>) {
    call.instance.metrics.worker(call.worker).reset();
    call.shard.reset_stats();
    line(reply.output, "RESET");
}

/// `cache_memlimit MiB`: the setting `maxmemory`.
pub(super) fn limit_memory(call: &mut Call<'_>, _: &mut Session, args: Args<'_>, reply: &mut Reply<'_>) {
    const SMALLEST_MIB: u64 = 8;
    let mib = memcache::delta(args.get(1)).ok().and_then(|mib| mib.checked_mul(1 << 20));
    let text = match mib {
        None => text::ERROR,
        Some(bytes) if bytes < SMALLEST_MIB << 20 => "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m",
        Some(bytes) => {
            let changed = call.instance.change_settings(|settings| {
                settings.maxmemory = bytes;
                settings.check()
            });
            if changed.is_ok() { "OK" } else { "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust" }
        }
    };
    line_unless(memcache::is_quiet(args), reply.output, text);
}

fn detail(args: Args<'_>, output: &mut Output) {
    line(
        output,
        match (args.len() > 2).then(|| args.get(2)) {
            Some(b"on" | b"off") => "OK",
            Some(b"dump") => "END",
            _ => text::BAD_DETAIL,
        },
    );
}
