//! What do small requests notice of large values beside them, and of a cache that fills, evicts and expires?
//!
//! `cargo bench --bench isolation -- [ROUNDS]` (needs redis-server; the usual 8 rounds take two and a half minutes).
//! GETs of 64-byte values arrive at 20,000/s, an open loop: alone, and beside four connections that fetch values of
//! 10 MB back to back; then alone, and beside two that write new items in bursts, 16 in flight on each, half of which
//! expire within two seconds, into 64 MB, which hold a part of them. Corering with one worker and redis-server are
//! visited in turn, each alone and then in company, in short windows, since the host takes its CPUs away for
//! milliseconds now and then: a figure is the median of the windows of a visit, a ratio is to the visit alone in the
//! same round, or to redis-server's. Each visit is to a server just started, so that each cache grows, and alone: what
//! another one has to expire would take CPU time as well.
//!
//! Servers are on CPU 0, the load on CPU 1, where one thread spins and does it all, so that no part of it waits for the
//! kernel to let it run. The kernel drops the large values' bytes on their way to the readers, which check the length
//! and both ends of each. The small items are written before each visit and asked for twice a second each; those that
//! were evicted since are counted. A window is left out where the generator was late; where most rounds have none left,
//! the limit counts as not measured. The exit code is 1 when Corering exceeds a limit.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corering::load::plan::{Aside, Operation, Rate};
use corering::load::report::{self, Report};
use corering::load::sizes::Sizes;
use corering::load::{Plan, measure};
use hdrhistogram::Histogram;

#[path = "side/company.rs"]
mod company;
#[path = "side/server.rs"]
mod server;
#[path = "side/spread.rs"]
mod spread;

use company::Company;
use server::{Peer, Running};
use spread::Spread;

/// p99.9 beside readers of large values, to the one alone.
const READERS_P999_MAX: f64 = 3.0;

/// The readers' bytes per second, to what they get of redis-server.
const READERS_RATE_MIN: f64 = 0.8;

/// p99.9 beside writers, to the one alone.
const WRITERS_P999_MAX: f64 = 1.5;

/// A latency beyond this, and beyond all that were seen alone, is a stall.
const STALL_NS: u64 = 5_000_000;

/// Name and command.
const SERVERS: [(&str, &str); 2] = [
    ("corering", concat!("'", env!("CARGO_BIN_EXE_corering"), "' --port {port} --workers 1 --maxmemory {memory}")),
    (
        "redis",
        "redis-server --port {port} --save '' --appendonly no --maxmemory {memory} --maxmemory-policy allkeys-lru",
    ),
];

const SERVER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;

const RATE: f64 = 20_000.0;
const WINDOW: Duration = Duration::from_millis(100);

/// A window is left out where the generator was later at p99.9 than this, and than this share of the latency there.
const LATENESS_NS_MAX: u64 = 100_000;
const LATENESS_SHARE: u64 = 100;

/// Latencies of small requests, µs.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("longest", 1.0)];
const P999: usize = 2;
const LONGEST: usize = 3;

/// Who shares a server with the small requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Readers,
    Writers,
}

impl Part {
    /// Windows of a visit.
    const fn windows(self) -> usize {
        match self {
            Part::Readers => 8,
            Part::Writers => 12,
        }
    }

    /// For the items: room for the large values and redis' copies of them, or for about half of what is written.
    const fn memory(self) -> &'static str {
        match self {
            Part::Readers => "256mb",
            Part::Writers => "64mb",
        }
    }
}

/// What some windows, one after the other, have shown.
#[derive(Debug)]
struct Visit {
    /// As [`QUANTILES`], of the windows in which the generator was on time.
    on_time: Vec<[f64; QUANTILES.len()]>,
    /// Of all windows, of which there were so many, ns.
    windows: usize,
    latencies: Histogram<u64>,
    /// Look-ups that found nothing.
    misses: u64,
    /// Of the company: bytes or items, and those per second.
    done: u64,
    done_per_second: f64,
    /// Share of a CPU that the server took.
    server_cpu: f64,
}

/// Alone, and in company.
type Pair = [Visit; 2];

/// Round by round, a pair for each of [`SERVERS`].
type Rounds = Vec<[Pair; SERVERS.len()]>;

fn main() {
    let rounds = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let rounds = rounds.map_or(Ok(8), |text| match text.parse() {
        Ok(rounds @ 1..=1000) => Ok(rounds),
        _ => Err(format!("{text:?} is no number of rounds from 1 to 1000")),
    });
    match rounds.and_then(isolate) {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(what) => {
            eprintln!("isolation: {what}");
            std::process::exit(1);
        }
    }
}

/// Whether no limit was seen to be exceeded.
fn isolate(rounds: usize) -> Result<bool, String> {
    let mut verdicts = Verdicts { are_kept: true };
    let readers = rotate(rounds, Part::Readers)?;
    println!("GETs of 64 bytes at {RATE}/s, alone and beside four readers of 10 MB values; their GB/s");
    tell(&readers, 1e9);
    verdicts.tail(&readers, READERS_P999_MAX);
    verdicts.rate(&readers);
    let writers = rotate(rounds, Part::Writers)?;
    println!("\nGETs of 64 bytes at {RATE}/s, alone and beside two writers in bursts; their million items/s");
    tell(&writers, 1e6);
    for (server, (name, _)) in SERVERS.iter().enumerate() {
        let sum = |figure: fn(&Visit) -> u64| writers.iter().map(|round| figure(&round[server][1])).sum::<u64>();
        println!(
            "{name}: {} items were written, {} small ones missed",
            sum(|visit| visit.done),
            sum(|visit| visit.misses)
        );
    }
    verdicts.tail(&writers, WRITERS_P999_MAX);
    verdicts.stalls(&writers);
    println!("\n{}, {}, {rounds} rounds, windows of {WINDOW:?}", report::host(), report::date());
    Ok(verdicts.are_kept)
}

/// Visits both servers in turn; who comes first changes.
fn rotate(rounds: usize, part: Part) -> Result<Rounds, String> {
    let is_watched = std::io::stderr().is_terminal();
    let mut seen = Rounds::new();
    for round in 0..rounds {
        if is_watched {
            eprint!("\r{part:?}, round {} of {rounds} ", round + 1);
        }
        let mut pairs = [const { None }; SERVERS.len()];
        for turn in 0..SERVERS.len() {
            let number = (turn + round) % SERVERS.len();
            let (name, command) = SERVERS[number];
            let pair = pair(name, command, part, round as u64);
            pairs[number] = Some(pair.map_err(|what| format!("{name}, {part:?}: {what}"))?);
        }
        seen.push(pairs.map(|pair| pair.expect("each was visited")));
    }
    if is_watched {
        eprintln!();
    }
    Ok(seen)
}

/// Starts a server and visits it. Another one that was up would be at work as well, on what it has to expire.
fn pair(name: &str, command: &str, part: Part, seed: u64) -> Result<Pair, String> {
    let command = command.replace("{memory}", part.memory());
    let server = Peer::new(name, command).start(SERVER_CPU)?;
    if part == Part::Readers {
        company::store_large(server.port)?;
    }
    let alone = visit(&server, part.windows(), None, seed)?;
    let company = match part {
        Part::Readers => Company::readers(server.port),
        Part::Writers => Company::writers(server.port),
    };
    Ok([alone, visit(&server, part.windows(), Some(company?), seed)?])
}

/// Runs some windows.
fn visit(server: &Running, windows: usize, company: Option<Company>, seed: u64) -> Result<Visit, String> {
    let company = company.map(|company| Arc::new(Mutex::new(company)));
    let aside = company.clone().map(|company| Aside(Arc::new(move || look(&company).step())));
    let target = server.target();
    let mut visit = Visit {
        on_time: Vec::new(),
        windows,
        latencies: Histogram::new(3).expect("a constant"),
        misses: 0,
        done: 0,
        done_per_second: 0.0,
        server_cpu: 0.0,
    };
    for window in 0..windows {
        let plan = Plan {
            rate: Rate::PerSecond(RATE),
            value_sizes: Sizes::Fixed(64),
            mix: vec![(Operation::Get, 1)],
            duration: WINDOW,
            warmup: WINDOW / 8,
            cpus: vec![GENERATOR_CPU],
            populate: window == 0,
            aside: aside.clone(),
            seed: seed * windows as u64 + window as u64,
            ..Plan::default()
        };
        let outcome = measure(&plan, &target, Some(server.meter()), |_| ()).map_err(|error| error.to_string())?;
        let report = Report::new(&plan, &target, outcome);
        if let Some(what) = company.as_ref().and_then(|company| look(company).failure.clone()) {
            return Err(what);
        }
        if !report.is_clean() {
            return Err(format!("{} errors, {} wrong replies", report.counts.errors, report.counts.wrong));
        }
        let tail = report.quantile(0.999);
        if tail.lateness_ns <= LATENESS_NS_MAX.max(tail.latency_ns / LATENESS_SHARE) {
            visit.on_time.push(QUANTILES.map(|(_, quantile)| report.quantile(quantile).latency_ns as f64 / 1e3));
        }
        visit.latencies.add(&report.latencies).map_err(|error| error.to_string())?;
        visit.misses += report.counts.misses;
        visit.server_cpu += report.server_cpu_ns.unwrap_or(0.0) * report.throughput / 1e9 / windows as f64;
    }
    if let Some(company) = company {
        let company = look(&company);
        visit.done = company.done;
        visit.done_per_second = company.done as f64 / company.time.as_secs_f64();
    }
    Ok(visit)
}

/// Nobody who holds it panics.
fn look(company: &Mutex<Company>) -> MutexGuard<'_, Company> {
    company.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two lines for each server: alone, and in company.
fn tell(rounds: &Rounds, unit: f64) {
    let heads: String = QUANTILES.iter().map(|(name, _)| format!(" {:>24}", format!("{name}, µs"))).collect();
    println!("{:22}{heads} {:>10} {:>8} {:>5} {:>8}", "", "p99.9 all", "on time", "CPU", "company");
    for (server, (name, _)) in SERVERS.iter().enumerate() {
        for (who, title) in ["alone", "in company"].into_iter().enumerate() {
            let mut line = format!("{:22}", format!("{name}, {title}"));
            for quantile in 0..QUANTILES.len() {
                line += &format!(" {:>24}", cell(rounds, server, who, quantile));
            }
            let mut all = Histogram::<u64>::new(3).expect("a constant");
            rounds.iter().for_each(|round| all.add(&round[server][who].latencies).expect("it grows"));
            let on_time: usize = rounds.iter().map(|round| round[server][who].on_time.len()).sum();
            let windows: usize = rounds.iter().map(|round| round[server][who].windows).sum();
            let median = |figure: &dyn Fn(&Visit) -> f64| {
                spread(rounds, |round| Some(figure(&round[server][who]))).map_or(0.0, |figure| figure.median)
            };
            line += &format!(" {:>10.0}", all.value_at_quantile(0.999) as f64 / 1e3);
            line += &format!(" {:>8}", format!("{on_time}/{windows}"));
            line += &format!(" {:>5.2}", median(&|visit| visit.server_cpu));
            let done = median(&|visit| visit.done_per_second / unit);
            println!("{line} {:>8}", if who == 0 { String::new() } else { format!("{done:.2}") });
        }
    }
    println!(
        "Medians; in brackets the ratio to the one alone within a round and its quartiles. \"All\" is over all windows,"
    );
    println!("the late ones as well, in which the p99.9 may be the generator's.");
}

fn cell(rounds: &Rounds, server: usize, who: usize, quantile: usize) -> String {
    let value = spread(rounds, |round| latency(&round[server][who], quantile));
    let ratio = if who == 0 { None } else { ratio(rounds, server, quantile) };
    let ratio = ratio.map_or(String::new(), |ratio| format!(" ({})", text(ratio)));
    value.map_or("late".to_owned(), |value| format!("{:.0}{ratio}", value.median))
}

fn text(Spread { quartile1, median, quartile3 }: Spread) -> String {
    format!("{median:.2} [{quartile1:.2} {quartile3:.2}]")
}

/// Of the median window; `None` when the generator was late in all of them.
fn latency(visit: &Visit, quantile: usize) -> Option<f64> {
    Spread::of(visit.on_time.iter().map(|window| window[quantile]).collect()).map(|spread| spread.median)
}

/// `None` when most rounds lack the figure.
fn spread(rounds: &Rounds, figure: impl Fn(&[Pair; SERVERS.len()]) -> Option<f64>) -> Option<Spread> {
    let found: Vec<f64> = rounds.iter().filter_map(figure).collect();
    if found.len() * 2 > rounds.len() { Spread::of(found) } else { None }
}

/// Of a latency in company to the one alone.
fn ratio(rounds: &Rounds, server: usize, quantile: usize) -> Option<Spread> {
    spread(rounds, |round| {
        let [alone, beside] = [0, 1].map(|who| latency(&round[server][who], quantile));
        Some(beside? / alone?)
    })
}

/// The limits that were looked at.
struct Verdicts {
    are_kept: bool,
}

impl Verdicts {
    /// Prints one; only Corering's count.
    fn tell(&mut self, server: usize, what: &str, is_kept: Option<bool>) {
        let verdict = match is_kept {
            Some(true) => "kept",
            Some(false) => "NOT kept",
            None => "not measured, the generator was late",
        };
        println!("{}: {what}: {verdict}", SERVERS[server].0);
        self.are_kept &= server > 0 || is_kept != Some(false);
    }

    fn tail(&mut self, rounds: &Rounds, limit: f64) {
        for server in 0..SERVERS.len() {
            let found = ratio(rounds, server, P999);
            let what = format!("p99.9 is {} times the one alone, {limit} at most", found.map_or("–".to_owned(), text));
            self.tell(server, &what, found.map(|found| found.median <= limit));
        }
    }

    fn rate(&mut self, rounds: &Rounds) {
        let found = spread(rounds, |[own, redis]| Some(own[1].done_per_second / redis[1].done_per_second));
        let what = format!(
            "readers get {} times redis' rate, {READERS_RATE_MIN} at least",
            found.map_or("–".to_owned(), text)
        );
        self.tell(0, &what, found.map(|found| found.median >= READERS_RATE_MIN));
    }

    /// In company, of the windows in which the generator was on time: a pause of its own is none of the server's.
    fn stalls(&mut self, rounds: &Rounds) {
        for server in 0..SERVERS.len() {
            let alone = rounds.iter().map(|round| round[server][0].latencies.max()).max().unwrap_or(0);
            let on_time = rounds.iter().flat_map(|round| &round[server][1].on_time);
            let longest = on_time.map(|window| (window[LONGEST] * 1e3) as u64).max();
            let text = |ns: Option<u64>| ns.map_or("–".to_owned(), report::duration);
            let what = format!("the longest took {}, alone {}", text(longest), text(Some(alone)));
            self.tell(
                server,
                &(what + "; 5 ms at most, or as alone"),
                longest.map(|longest| longest <= alone.max(STALL_NS)),
            );
        }
    }
}
