//! What the admin port answers: health, readiness, the metric table for Prometheus and as JSON.
//!
//! In: a [`Question`], the workers' metrics. Out: a [`Page`]. What must stay true: a page is made from relaxed reads of
//! counters and from /proc; no worker waits for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::command::connection::is_same;
use crate::command::table;
use crate::config::TABLE;
use crate::instance::{Instance, Phase};
use crate::observe::exposition::{self, Exposition};
use crate::observe::process::{self, Process};
use crate::observe::slow::Stage;
use crate::observe::{Kind, Metric};
use crate::server::Waker;
use crate::topology;

/// How long a worker may take for the turn of its loop in which it was asked for a sign of life.
const PULSE_LIMIT: Duration = Duration::from_secs(1);

const PULSE_POLL: Duration = Duration::from_millis(1);

/// A request.
#[derive(Debug)]
pub(super) struct Question {
    /// Without its query.
    pub(super) path: String,
    /// The bearer token.
    pub(super) token: Option<Vec<u8>>,
    pub(super) is_head: bool,
    /// The connection stays open after the answer.
    pub(super) goes_on: bool,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) media_type: &'static str,
    pub(super) body: String,
    /// The methods that there are, when the one asked for is not.
    pub(super) allow: &'static str,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

impl Page {
    fn new(status: u16, media_type: &'static str, body: String) -> Self {
        Self { status, media_type, body, allow: "" }
    }

    /// An answer to what cannot be done.
    pub(super) fn problem(status: u16, why: &str) -> Self {
        Self::new(status, TEXT, format!("{why}\n"))
    }

    /// The status with its phrase (RFC 9110, section 15).
    pub(super) fn status_line(&self) -> &'static str {
        match self.status {
            200 => "200 OK",
            400 => "400 Bad Request",
            401 => "401 Unauthorized",
            404 => "404 Not Found",
            405 => "405 Method Not Allowed",
            408 => "408 Request Timeout",
            413 => "413 Content Too Large",
            431 => "431 Request Header Fields Too Large",
            _ => "503 Service Unavailable",
        }
    }
}

/// Path, whether it is there without a token, and what it is for.
const ROUTES: &[(&str, bool, &str)] = &[
    ("/health", true, "200 while every worker turns its loop"),
    ("/ready", true, "200 while clients are accepted"),
    ("/metrics", false, "all metrics, for Prometheus"),
    ("/status.json", false, "the same for programs, with the settings"),
];

/// Answers a request.
pub(super) async fn answer(question: &Question, waker: &Waker) -> Page {
    let route = ROUTES.iter().find(|(path, ..)| *path == question.path);
    let is_open = route.is_some_and(|(_, is_open, _)| *is_open);
    let expected = &waker.instance().settings().admin_token;
    let is_known = || question.token.as_deref().is_some_and(|given| is_same(expected.as_bytes(), given));
    if !is_open && !expected.is_empty() && !is_known() {
        return Page::problem(401, "show admin-token as Authorization: Bearer");
    }
    match question.path.as_str() {
        "/health" => health(waker).await,
        "/ready" => ready(waker),
        "/metrics" => Page::new(200, exposition::MEDIA_TYPE, metrics(waker.instance())),
        "/status.json" => Page::new(200, JSON, status(waker.instance()).to_string()),
        _ => {
            let routes: String = ROUTES.iter().map(|(path, _, what)| format!("{path}  {what}\n")).collect();
            Page::problem(404, &format!("there is no such page; there are\n{}", routes.trim_end()))
        }
    }
}

/// The workers that do not finish a turn of their loop within [`PULSE_LIMIT`].
pub(super) async fn stuck_workers(waker: &Waker) -> Vec<u16> {
    let instance = waker.instance();
    let ticks = |worker: u16| instance.metrics.worker(worker).get(Metric::Ticks);
    let mut awaited: Vec<(u16, u64)> = (0..instance.workers).map(|worker| (worker, ticks(worker))).collect();
    waker.wake();
    let limit = tokio::time::Instant::now() + PULSE_LIMIT;
    loop {
        awaited.retain(|(worker, before)| ticks(*worker) == *before);
        if awaited.is_empty() || tokio::time::Instant::now() >= limit {
            return awaited.into_iter().map(|(worker, _)| worker).collect();
        }
        tokio::time::sleep(PULSE_POLL).await;
    }
}

async fn health(waker: &Waker) -> Page {
    let stuck = stuck_workers(waker).await;
    match &stuck[..] {
        [] => Page::new(200, TEXT, "ok\n".to_owned()),
        stuck => Page::problem(503, &format!("workers without a sign of life for {PULSE_LIMIT:?}: {stuck:?}")),
    }
}

fn ready(waker: &Waker) -> Page {
    match waker.phase() {
        Phase::Running => Page::new(200, TEXT, "ready\n".to_owned()),
        phase => Page::problem(503, phase.name()),
    }
}

/// Every metric, in the format of Prometheus.
fn metrics(instance: &Instance) -> String {
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
    this_process(instance, &mut out);
    out.text
}

/// Commands that were asked for at least once.
fn used_commands(instance: &Instance) -> Vec<(&'static str, crate::observe::CommandTotals)> {
    let totals = table::rows().map(|row| (row.full_name(), instance.metrics.command(0..instance.workers, row.0)));
    // Rows that clients cannot name are shown by no tool.
    totals.filter(|(name, totals)| !name.starts_with(' ') && totals.calls + totals.rejected > 0).collect()
}

fn commands(instance: &Instance, out: &mut Exposition) {
    type Column = (&'static str, &'static str, fn(&crate::observe::CommandTotals) -> f64);
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
            out.sample(&[("command", command)], value(totals));
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
        ("corering_worker_cpu_seconds_total", "Time that the worker's thread had a CPU.", |time| time.run_seconds),
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
fn this_process(instance: &Instance, out: &mut Exposition) {
    let process = Process::now();
    let cpu_seconds = process.user_seconds + process.system_seconds;
    out.family("process_cpu_seconds_total", Kind::Counter, "Time on CPUs.").sample(&[], cpu_seconds);
    out.family("process_resident_memory_bytes", Kind::Gauge, "Resident memory.")
        .sample(&[], process.resident_bytes as f64);
    out.family("process_open_fds", Kind::Gauge, "Open descriptors.").sample(&[], process::open_descriptors() as f64);
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        out.family("process_max_fds", Kind::Gauge, "Descriptors that may be open.").sample(&[], limit as f64);
    }
    out.family("process_start_time_seconds", Kind::Gauge, "Start, seconds since the Unix epoch.")
        .sample(&[], instance.started_unix_ms as f64 / 1000.0);
}

/// Everything for programs: the fields of `INFO` under their names, each worker's, and the settings.
fn status(instance: &Instance) -> Value {
    let all = 0..instance.workers;
    let row = |value: &dyn Fn(Metric) -> u64| -> Map<String, Value> {
        Metric::ALL.iter().map(|metric| (metric.name().to_owned(), value(*metric).into())).collect()
    };
    let mut totals = row(&|metric| instance.metrics.total(metric));
    // A mean cannot be added up.
    totals.remove(Metric::TtlMsMean.name());
    let ratios = instance.metrics.miss_ratios(all.clone()).into_iter().flatten();
    let names = ["miss_ratio_half_memory", "miss_ratio_same_memory", "miss_ratio_double_memory"];
    totals.extend(names.iter().zip(ratios).map(|(name, ratio)| ((*name).to_owned(), ratio.into())));
    let threads = process::worker_threads();
    let workers = all.clone().map(|worker| {
        let mut row = row(&|metric| instance.metrics.worker(worker).get(metric));
        if let Some((_, time)) = threads.iter().find(|(index, _)| *index == worker) {
            row.insert("cpu_seconds".to_owned(), time.run_seconds.into());
            row.insert("cpu_wait_seconds".to_owned(), time.wait_seconds.into());
        }
        row
    });
    let command = |(name, totals): (&str, crate::observe::CommandTotals)| {
        let seconds = totals.execution_ns as f64 / 1e9;
        let row =
            json!({"calls": totals.calls, "failed": totals.failed, "rejected": totals.rejected, "seconds": seconds});
        (name.to_owned(), row)
    };
    let commands: Map<String, Value> = used_commands(instance).into_iter().map(command).collect();
    let errors: Map<String, Value> =
        instance.metrics.errors(all.clone()).map(|(code, count)| (code.to_owned(), count.into())).collect();
    let stage = |stage: Stage| {
        let times = instance.metrics.stage_times(all.clone(), stage);
        let seconds = |share: f64| times.quantile_ns(share) as f64 / 1e9;
        let row = json!({"count": times.count(), "seconds": times.sum_ns as f64 / 1e9, "p50_seconds": seconds(0.5),
            "p99_seconds": seconds(0.99), "p99_9_seconds": seconds(0.999)});
        (stage.name().to_owned(), row)
    };
    let stages: Map<String, Value> = Stage::ALL.into_iter().map(stage).collect();
    let settings = instance.settings();
    let setting = |row: &crate::config::Setting| {
        let value = if row.is_secret() { "(hidden)".to_owned() } else { (row.get)(&settings) };
        (row.key.to_owned(), Value::from(value))
    };
    let process = Process::now();
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    json!({
        "server": "corering", "version": env!("CARGO_PKG_VERSION"), "run_id": instance.run_id,
        "phase": instance.phase().name(), "pid": std::process::id(), "kernel": topology::kernel(),
        "io_mode": instance.io_mode, "profile": instance.origin.profile, "tcp_port": instance.tcp_port,
        "uptime_seconds": unix_ms.saturating_sub(instance.started_unix_ms) as f64 / 1000.0,
        "process": {
            "resident_bytes": process.resident_bytes, "cpu_user_seconds": process.user_seconds,
            "cpu_system_seconds": process.system_seconds, "open_descriptors": process::open_descriptors(),
        },
        "totals": totals, "workers": workers.collect::<Vec<_>>(), "commands": commands, "errors": errors,
        "stages": stages,
        "settings": TABLE.iter().map(setting).collect::<Map<String, Value>>(),
    })
}
