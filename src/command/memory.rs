//! `MEMORY`: what a key takes, what the whole takes, and whether that needs attention.
//!
//! In: a request's arguments, the workers' gauges. Out: Redis' replies; figures that mean nothing here are left out of
//! `STATS`, so that nobody draws a conclusion from a zero.

use std::ops::Range;

use super::arguments::{Refusal, conclude, integer};
use super::keyspace::{help, usage};
use super::session::Session;
use super::string::Outcome;
use super::table::{Flags, Keys, Spec};
use super::{Call, Run};
use crate::config::Settings;
use crate::instance::Instance;
use crate::observe::Metric;
use crate::observe::process::Process;
use crate::protocol::Args;
use crate::protocol::resp::Reply;
use crate::topology;

const READ: Flags = Flags::READONLY;

/// The family's rows of the command table.
pub static COMMANDS: &[Spec] =
    &[Spec { group: "server", ..row("memory", -2, READ, "Tells about memory.", Run::Container) }
        .costs("Depends on the subcommand")
        .with(SUBCOMMANDS)];

const fn row(name: &'static str, arity: i32, flags: Flags, summary: &'static str, run: Run) -> Spec {
    Spec::keyless("server", (name, arity, flags), "4.0.0", summary, run)
}

#[rustfmt::skip]
static SUBCOMMANDS: &[Spec] = &[
    row("doctor", 2, READ, "Tells whether memory needs attention.", Run::Session(doctor)),
    row("help", 2, Flags::LOADING.or(Flags::STALE), "Lists the subcommands.",
        Run::Session(|_, _, _, reply| help(reply, HELP))),
    row("purge", 2, READ, "Gives freed memory back; it is given back anyway.",
        Run::Session(|_, _, _, reply| reply.simple("OK"))),
    row("stats", 2, READ, "Returns what memory is used for.", Run::Session(stats)),
    Spec { keys: Keys { first: 2, last: 2, step: 1 }, ..row("usage", -3, READ, "Returns the memory that a key takes.",
        Run::Keyed(|call, args, reply| conclude(memory_usage(call, args, reply), reply))) },
];

const HELP: &[&str] = &[
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "DOCTOR",
    "    Return memory problems reports.",
    "PURGE",
    "    Attempt to purge dirty pages for reclamation by the allocator.",
    "STATS",
    "    Return information about the memory usage of the server.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value.",
    "HELP",
    "    Print this help.",
];

fn memory_usage(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut options = args.iter().skip(3);
    while let Some(option) = options.next() {
        let samples = options.next().filter(|_| option.eq_ignore_ascii_case(b"samples")).ok_or(Refusal::Syntax)?;
        if integer(samples)? < 0 {
            return Err(Refusal::Syntax);
        }
    }
    usage(call, args, reply, |usage, reply| reply.integer(usage.memory_bytes as i64));
    Ok(())
}

/// What `INFO memory` and `MEMORY` show, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Program and rings.
    pub startup: u64,
    /// All that is accounted for.
    pub used: u64,
    /// The most that it has been.
    pub peak: u64,
    /// Keys and values.
    pub dataset: u64,
    /// Input and output of clients.
    pub connections: u64,
    /// Resident memory of the process.
    pub resident: u64,
    /// Items, and what belongs to them.
    pub shards: u64,
    keys: u64,
}

impl Figures {
    pub(super) fn of(call: &Call<'_>) -> Self {
        Self::new(call.instance, call.settings, call.reach())
    }

    /// The figures of some workers.
    pub fn new(instance: &Instance, settings: &Settings, workers: Range<u16>) -> Self {
        let total = |metric| instance.metrics.sum(workers.clone(), metric);
        let startup = settings.startup_bytes(instance.workers);
        let (shards, connections) = (total(Metric::ShardBytes), total(Metric::BufferBytes));
        let used = startup + shards + connections;
        Self {
            startup,
            used,
            peak: (startup + total(Metric::UsedBytesPeak)).max(used),
            dataset: total(Metric::DatasetBytes),
            connections,
            resident: Process::now().resident_bytes,
            keys: total(Metric::Keys),
            shards,
        }
    }

    /// Resident memory by what is accounted for; 0 when nothing is.
    pub(super) fn fragmentation(&self) -> f64 {
        if self.used == 0 { 0.0 } else { self.resident as f64 / self.used as f64 }
    }

    fn percent(part: u64, of: u64) -> f64 {
        100.0 * part as f64 / of.max(1) as f64
    }
}

fn stats(call: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let figures = Figures::of(call);
    let overhead = figures.used.saturating_sub(figures.dataset);
    let beyond_startup = figures.used - figures.startup;
    let numbers = [
        ("peak.allocated", figures.peak),
        ("total.allocated", figures.used),
        ("startup.allocated", figures.startup),
        ("clients.normal", figures.connections),
        ("shards.allocated", figures.shards),
        ("overhead.total", overhead),
        ("keys.count", figures.keys),
        ("keys.bytes-per-key", figures.shards / figures.keys.max(1)),
        ("dataset.bytes", figures.dataset),
        ("rss.allocated", figures.resident),
    ];
    let shares = [
        ("dataset.percentage", Figures::percent(figures.dataset, beyond_startup)),
        ("peak.percentage", Figures::percent(figures.used, figures.peak)),
        ("fragmentation", figures.fragmentation()),
    ];
    reply.map(numbers.len() + shares.len());
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(number as i64);
    }
    for (name, share) in shares {
        reply.bulk(name.as_bytes());
        reply.double(share);
    }
}

/// Resident memory this far above what is accounted for asks for a look.
const FRAGMENTATION_MAX: f64 = 1.4;

/// With less than this resident, ratios say nothing.
const RESIDENT_MIN: u64 = 64 << 20;

fn doctor(call: &mut Call<'_>, _: &mut Session, _: Args<'_>, reply: &mut Reply<'_>) {
    let figures = Figures::of(call);
    let maxmemory = call.settings.maxmemory;
    let mut found = Vec::new();
    if let Some(doubt) = call.settings.memory_doubt(call.instance.workers, topology::memory_bytes()) {
        found.push(format!("{doubt}."));
    } else if maxmemory != 0 && figures.resident > maxmemory + maxmemory / 10 {
        found.push(format!(
            "The process has {} bytes resident, more than maxmemory {maxmemory}: see Transparent huge pages in \
             `corering doctor`, and report it.",
            figures.resident
        ));
    }
    if figures.resident > RESIDENT_MIN && figures.fragmentation() > FRAGMENTATION_MAX && maxmemory == 0 {
        found.push(format!(
            "Resident memory is {:.2} times what is accounted for; freed memory goes back in slices.",
            figures.fragmentation()
        ));
    }
    if figures.connections > figures.used / 4 && figures.used > RESIDENT_MIN {
        found.push(format!(
            "Connections hold {} bytes, more than a quarter: CLIENT LIST shows who does not read (obl), \
             output-soft-limit bounds it.",
            figures.connections
        ));
    }
    let evicted = call.instance.metrics.sum(call.reach(), Metric::Evicted);
    if maxmemory != 0 && evicted > 0 {
        found.push(format!("{evicted} items were evicted: INFO stats tells the misses that followed."));
    }
    let text = if found.is_empty() {
        "Nothing needs attention. Memory is accounted for item by item; see INFO memory.\n".to_owned()
    } else {
        found.iter().map(|line| format!("* {line}\n")).collect()
    };
    reply.verbatim("txt", &text);
}
