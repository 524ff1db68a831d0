//! What a run has shown, ready to be written for people and programs.
//!
//! In: a plan and an [`Outcome`]. Out: a [`Report`], and its forms: [`table`], [`json`], [`hgrm`], [`html`]. What must
//! stay true: a percentile that may be the generator's own doing is marked as such in every form.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::LoadError;
use super::plan::{Files, KeyChoice, Operation, Plan, Protocol, Rate, Target, Waiting};
use super::recorder::Counts;
use super::session::{Outcome, Point};

pub mod hgrm;
pub mod html;
pub mod json;
mod plot;
pub mod table;

/// The percentiles that every form shows; the last is the maximum.
const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];

/// Lateness of the generator that is never held against a percentile: a turn of its loop.
const LATENESS_NS_FREE: u64 = 20_000;

/// A percentile is not the server's when so much of it can be the generator's lateness: a quarter.
const LATENESS_SHARE: u64 = 4;

/// Less than this share answered is worth a note.
const ANSWERED_MIN: f64 = 0.98;

/// A latency that a share of the requests does not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentile {
    /// `p99.9`.
    pub name: &'static str,
    /// 0.999.
    pub quantile: f64,
    /// Nanoseconds.
    pub latency_ns: u64,
    /// By how much the generator was late at the same share of the requests, nanoseconds; zero in a closed loop.
    pub lateness_ns: u64,
    /// The latency is the server's.
    pub is_valid: bool,
}

/// All that a run has shown.
#[derive(Debug)]
pub struct Report {
    /// Facts for the head of the report, name and value.
    pub facts: Vec<(&'static str, String)>,
    /// Requests a second that were asked for; none in a closed loop.
    pub rate: Option<f64>,
    /// Requests a second that were sent or due.
    pub offered: f64,
    /// Replies a second.
    pub throughput: f64,
    /// Percentiles of latency.
    pub percentiles: Vec<Percentile>,
    /// Mean latency, nanoseconds.
    pub mean_ns: f64,
    /// Counts.
    pub counts: Counts,
    /// Error texts and how often each came.
    pub errors: Vec<(String, u64)>,
    /// Server CPU per reply, nanoseconds, when it is known.
    pub server_cpu_ns: Option<f64>,
    /// Share of the time in which the generator had something to do (spinning) or had the CPU (sleeping).
    pub generator_busy: f64,
    /// That time per reply, nanoseconds.
    pub generator_ns: f64,
    /// The measured part, slice by slice.
    pub timeline: Vec<Point>,
    /// All latencies, nanoseconds.
    pub latencies: Histogram<u64>,
    /// How late the generator sent, nanoseconds.
    pub lateness: Histogram<u64>,
    /// What the reader must know, as sentences.
    pub notes: Vec<String>,
}

impl Report {
    /// Sums an outcome up.
    pub fn new(plan: &Plan, target: &Target, outcome: Outcome) -> Self {
        let seconds = outcome.duration.as_secs_f64();
        let Outcome { seen, timeline, server_cpu, generator_cpu, server_name, cpus, shared_cpus, .. } = outcome;
        let generator = match plan.waiting {
            Waiting::Spin => Some(Duration::from_nanos(seen.counts.busy_ns)),
            Waiting::Sleep => generator_cpu,
        }
        .unwrap_or_default();
        let answered = seen.counts.answered;
        let per_reply = |ns: f64| if answered == 0 { 0.0 } else { ns / answered as f64 };
        let percentiles = QUANTILES.map(|(name, quantile)| percentile(name, quantile, &seen.latencies, &seen.lateness));
        let mut report = Self {
            facts: facts(plan, target, &server_name, &cpus),
            rate: match plan.rate {
                Rate::PerSecond(rate) => Some(rate),
                Rate::Max => None,
            },
            offered: seen.latencies.len() as f64 / seconds,
            throughput: answered as f64 / seconds,
            percentiles: percentiles.to_vec(),
            mean_ns: seen.latencies.mean(),
            counts: seen.counts,
            errors: seen.errors.into_iter().collect(),
            server_cpu_ns: server_cpu.filter(|_| answered > 0).map(|cpu| per_reply(cpu.as_nanos() as f64)),
            generator_busy: generator.as_secs_f64() / (seconds * cpus.len() as f64),
            generator_ns: per_reply(generator.as_nanos() as f64),
            timeline,
            latencies: seen.latencies,
            lateness: seen.lateness,
            notes: Vec::new(),
        };
        report.notes = notes(plan, &report, &shared_cpus);
        report
    }

    /// Whether every reply was what it must be.
    pub fn is_clean(&self) -> bool {
        self.counts.errors + self.counts.wrong == 0
    }

    /// Whether every percentile is the server's.
    pub fn is_valid(&self) -> bool {
        self.percentiles.iter().all(|percentile| percentile.is_valid)
    }

    /// The latency that a share of the requests does not exceed.
    pub fn quantile(&self, quantile: f64) -> Percentile {
        percentile("", quantile, &self.latencies, &self.lateness)
    }

    /// Writes the files that were asked for.
    ///
    /// # Errors
    /// The first that cannot be written.
    pub fn write(&self, files: &Files) -> Result<(), LoadError> {
        let write = |path: &Path, text: io::Result<String>| {
            text.and_then(|text| std::fs::write(path, text)).map_err(|error| LoadError::File(path.to_owned(), error))
        };
        if let Some(path) = &files.json {
            write(path, json::render(self))?;
        }
        if let Some(path) = &files.hgrm {
            write(path, Ok(hgrm::render(&self.latencies)))?;
        }
        if let Some(path) = &files.html {
            write(path, Ok(html::render(self)))?;
        }
        Ok(())
    }
}

fn percentile(name: &'static str, quantile: f64, latencies: &Histogram<u64>, lateness: &Histogram<u64>) -> Percentile {
    let (latency_ns, lateness_ns) = (latencies.value_at_quantile(quantile), lateness.value_at_quantile(quantile));
    let is_valid = lateness_ns <= LATENESS_NS_FREE.max(latency_ns / LATENESS_SHARE);
    Percentile { name, quantile, latency_ns, lateness_ns, is_valid }
}

fn facts(plan: &Plan, target: &Target, server: &str, cpus: &[usize]) -> Vec<(&'static str, String)> {
    let place = if plan.target.is_some() { "" } else { ", inside this process" };
    let loop_kind = match plan.rate {
        Rate::PerSecond(rate) => format!("open loop, {rate:.0} requests/s on a Poisson schedule"),
        Rate::Max => "closed loop: as fast as replies come; stalls are hidden".to_owned(),
    };
    let mix: Vec<String> =
        plan.mix.iter().map(|(kind, weight)| format!("{}:{weight}", operation_name(*kind))).collect();
    let choice = match &plan.key_choice {
        KeyChoice::Uniform => "uniform".to_owned(),
        KeyChoice::Zipf(exponent) => format!("zipf {exponent}"),
        KeyChoice::Trace(trace) => format!("trace of {} requests", trace.requests.len()),
    };
    let waiting = match plan.waiting {
        Waiting::Spin => "spinning",
        Waiting::Sleep => "sleeping",
    };
    let cluster = if plan.cluster { ", cluster" } else { "" };
    let (connections, pipeline) = (plan.connections, plan.pipeline);
    let (keys, key_bytes, sizes) = (plan.keys, plan.key_bytes, &plan.value_sizes);
    vec![
        ("server", format!("{server} at {target}{place}")),
        ("load", loop_kind),
        ("connections", format!("{connections} × pipeline {pipeline}, {}{cluster}", plan.protocol.name())),
        (
            "requests",
            format!("{}, {keys} keys ({choice}) of {key_bytes} bytes, values of {sizes} bytes", mix.join(",")),
        ),
        ("time", format!("{:?} measured after {:?}", plan.duration, plan.warmup)),
        ("generator", format!("{} threads on CPUs {cpus:?}, {waiting}, {}", plan.threads, plan.io.api())),
        ("host", host()),
        ("date", date()),
    ]
}

fn operation_name(operation: Operation) -> String {
    match operation {
        Operation::Get => "get".to_owned(),
        Operation::Set => "set".to_owned(),
        Operation::Increment => "incr".to_owned(),
        Operation::MultiGet(keys) => format!("mget:{keys}"),
        Operation::Delete => "del".to_owned(),
        Operation::SetExpiring => "setex".to_owned(),
        Operation::ResetCounter => "reset".to_owned(),
    }
}

/// Processor, CPUs and kernel.
pub fn host() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let cpus = crate::topology::usable_cpus().len();
    format!("{model}, {cpus} CPUs, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

/// Today, in UTC.
pub fn date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Days to a date in the Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let days = (seconds / 86400) as i64 + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

fn notes(plan: &Plan, report: &Report, shared_cpus: &[usize]) -> Vec<String> {
    let mut notes = Vec::new();
    if !shared_cpus.is_empty() {
        notes.push(format!(
            "The server has threads that may run nowhere but on the generator's CPUs {shared_cpus:?}: each takes the \
             other's time. Give the server others (corering --cpus 0), or the generator (--cpus)."
        ));
    }
    let worst = report.percentiles.iter().rev().find(|percentile| !percentile.is_valid);
    if let Some(worst) = worst {
        let first = report.percentiles.iter().find(|percentile| !percentile.is_valid).unwrap_or(worst);
        notes.push(format!(
            "The generator fell behind its schedule: by {} at {}, by at most {}. The percentiles marked ! are its own, \
             not the server's. Give it a CPU of its own, more --threads, or a lower --rate.",
            duration(first.lateness_ns),
            first.name,
            duration(report.percentiles.last().map_or(0, |max| max.lateness_ns)),
        ));
    }
    if report.counts.unfinished > 0 {
        notes.push(format!(
            "{} requests had no reply one second after the end; they count with the time that they had waited by then.",
            report.counts.unfinished
        ));
    }
    if report.throughput < ANSWERED_MIN * report.offered {
        notes.push(format!("{:.0} of {:.0} requests/s were answered.", report.throughput, report.offered));
    }
    if !plan.is_open_loop() && report.generator_busy > 0.9 && plan.waiting == Waiting::Spin {
        notes.push(format!(
            "The generator was busy {:.0} % of the time: the throughput may be its limit. More --threads may show \
             more.",
            report.generator_busy * 100.0
        ));
    }
    if plan.protocol != Protocol::Http && report.counts.misses > 0 && plan.populate {
        let share = report.counts.misses as f64 / (report.counts.hits + report.counts.misses) as f64;
        notes.push(format!("{:.2} % of the look-ups found nothing.", share * 100.0));
    }
    if report.counts.wrong > 0 {
        notes.push(format!("{} replies were not what was asked for.", report.counts.wrong));
    }
    notes
}

/// A duration with three digits and its unit.
pub fn duration(ns: u64) -> String {
    let (scaled, unit) = match ns {
        0..1000 => return format!("{ns} ns"),
        1000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if scaled < 10.0 { 2 } else { usize::from(scaled < 100.0) };
    format!("{scaled:.digits$} {unit}")
}

/// A number of bytes with three digits and its unit.
fn bytes(count: f64) -> String {
    match count {
        count if count < 1e3 => format!("{count:.0} B"),
        count if count < 1e6 => format!("{:.1} kB", count / 1e3),
        count if count < 1e9 => format!("{:.1} MB", count / 1e6),
        count => format!("{:.2} GB", count / 1e9),
    }
}

#[cfg(test)]
mod tests;
