//! What do small requests notice of large values beside them, and of a cache that fills, evicts and expires?
//!
//! `cargo bench --bench isolation -- [ROUNDS]` (needs redis-server; 8 rounds take three and a half minutes). GETs of 64
//! bytes arrive at 20,000/s, an open loop; alone, and while four connections fetch values of 10 MB back to back; then
//! alone, and while two connections write new items in bursts, half of which expire within 1 to 3 s, into 128 MB, which
//! hold a part of them. Each of it of Corering with one worker and of redis-server, in turn: ratios are to the window
//! alone of the same server in the same round, the readers' rate is compared with redis-server's of the same round.
//!
//! Servers are on CPU 0, everything else on CPU 1: there the small requests' thread goes before all others (SCHED_FIFO,
//! where it is allowed) and sleeps between arrivals; the kernel drops the large values' bytes on the way to the readers,
//! which check the length and the ends of each. The CPU does not go to sleep when they pause. The small requests' keys
//! are written anew before each window and asked for twice a second; those that were evicted since are counted.
//!
//! The exit code is 1 when Corering keeps a limit below not. A percentile with which the generator was late may be the
//! generator's: it is left out, and where most rounds lack it, the limit counts as not measured.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corering::load::plan::{Operation, Rate, Waiting};
use corering::load::report::{self, Report};
use corering::load::sizes::Sizes;
use corering::load::{Plan, measure};
use corering::topology::{self, Scheduler};

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

/// The readers' rate, to what they get of redis-server.
const READERS_RATE_MIN: f64 = 0.8;

/// p99.9 beside writers, to the one alone.
const WRITERS_P999_MAX: f64 = 1.5;

/// A latency beyond this, and beyond all that were seen alone, is a stall.
const STALL_US: f64 = 5_000.0;

const RATE: f64 = 20_000.0;
const KEYS: u64 = 10_000;
const WINDOW: Duration = Duration::from_millis(2500);

const SERVER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;

/// Name and command, with the memory that the items may take.
const SERVERS: [(&str, &str); 2] = [
    ("corering", concat!("'", env!("CARGO_BIN_EXE_corering"), "' --port {port} --workers 1 --maxmemory 128mb")),
    (
        "redis",
        "redis-server --port {port} --save '' --appendonly no --maxmemory 128mb --maxmemory-policy allkeys-lru",
    ),
];

/// Latencies of the small requests, µs; `None` where the generator was late.
const QUANTILES: [(&str, f64); 4] = [("p50, µs", 0.5), ("p99, µs", 0.99), ("p99.9, µs", 0.999), ("max, µs", 1.0)];
const P999: usize = 2;
const MAX: usize = 3;

/// What one window has shown.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// As [`QUANTILES`].
    latencies_us: [Option<f64>; QUANTILES.len()],
    /// Of the generator, at p99.9.
    lateness_us: f64,
    /// Look-ups that found nothing.
    misses: u64,
    /// What the company did.
    done: u64,
    done_per_second: f64,
}

/// Alone, and in company.
type Pair = [Sample; 2];

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
    topology::pin(GENERATOR_CPU);
    let are_first = thread::spawn(|| topology::schedule(Scheduler::Fifo(1))).join().expect("asking does not panic");
    if let Err(error) = are_first {
        println!("SCHED_FIFO is refused ({error}): the small requests wait for the others on their CPU as well");
    }
    let readers = rotate(rounds, Company::Readers)?;
    println!("\nGET of 64 bytes at {RATE}/s, alone and beside four readers of 10 MB values, whose bytes per second follow");
    let mut verdicts = Verdicts::default();
    tell(&readers);
    verdicts.tail(&readers, READERS_P999_MAX);
    verdicts.rate(&readers);
    let writers = rotate(rounds, Company::Writers { first: 0 })?;
    println!("\nGET of 64 bytes at {RATE}/s, alone and beside two writers in bursts, whose items per second follow");
    tell(&writers);
    let written = |server: usize| writers.iter().map(|round| round[server][1].done).sum::<u64>();
    let missed = |server: usize| writers.iter().map(|round| round[server][1].misses).sum::<u64>();
    for (server, (name, _)) in SERVERS.iter().enumerate() {
        println!("{name}: {} items written, {} small look-ups missed", written(server), missed(server));
    }
    verdicts.tail(&writers, WRITERS_P999_MAX);
    verdicts.stalls(&writers);
    println!("\n{}, {}, {rounds} rounds of {WINDOW:?}", report::host(), report::date());
    Ok(verdicts.are_kept)
}

/// Visits both servers in turn, each alone and in company; who comes first changes.
fn rotate(rounds: usize, company: Company) -> Result<Rounds, String> {
    let servers = SERVERS.map(|(name, command)| Peer::new(name, command).start(SERVER_CPU));
    let servers = servers.into_iter().collect::<Result<Vec<Running>, _>>()?;
    if company == Company::Readers {
        servers.iter().try_for_each(|server| company::store_large(server.port))?;
    }
    let is_watched = std::io::stderr().is_terminal();
    let mut next = [0; SERVERS.len()];
    let mut seen = Rounds::new();
    for round in 0..rounds {
        if is_watched {
            eprint!("\r{company:?}, round {} of {rounds} ", round + 1);
        }
        let mut pairs = [None; SERVERS.len()];
        for turn in 0..SERVERS.len() {
            let number = (turn + round) % SERVERS.len();
            let company = match company {
                Company::Writers { .. } => Company::Writers { first: next[number] },
                other => other,
            };
            let sample = |company| {
                let failed = |what| format!("{}, {company:?}: {what}", SERVERS[number].0);
                sample(&servers[number], company, round as u64).map_err(failed)
            };
            let pair = if round / 2 % 2 == 0 {
                [sample(Company::Nobody)?, sample(company)?]
            } else {
                let beside = sample(company)?;
                [sample(Company::Nobody)?, beside]
            };
            next[number] += pair[1].done;
            pairs[number] = Some(pair);
        }
        seen.push(pairs.map(|pair| pair.expect("each was visited")));
    }
    if is_watched {
        eprintln!();
    }
    Ok(seen)
}

/// Runs one window.
fn sample(server: &Running, company: Company, seed: u64) -> Result<Sample, String> {
    let plan = Plan {
        rate: Rate::PerSecond(RATE),
        keys: KEYS,
        value_sizes: Sizes::Fixed(64),
        mix: vec![(Operation::Get, 1)],
        duration: WINDOW,
        warmup: WINDOW / 10,
        cpus: vec![GENERATOR_CPU],
        waiting: Waiting::Sleep,
        seed,
        ..Plan::default()
    };
    let (target, stop) = (server.target(), AtomicBool::new(false));
    let (report, done, time) = thread::scope(|scope| {
        let start = Instant::now();
        let company = scope.spawn(|| company.keep(server.port, &stop));
        let small = scope.spawn(|| {
            // Its own threads inherit it. Refused, it was said at the beginning.
            let _ = topology::schedule(Scheduler::Fifo(1));
            measure(&plan, &target, None, |_| ())
        });
        let outcome = small.join().expect("measuring does not panic");
        stop.store(true, Ordering::Relaxed);
        let done = company.join().expect("company does not panic")?;
        let outcome = outcome.map_err(|error| error.to_string())?;
        Ok::<_, String>((Report::new(&plan, &target, outcome), done, start.elapsed()))
    })?;
    if !report.is_clean() {
        return Err(format!("{} errors, {} wrong replies", report.counts.errors, report.counts.wrong));
    }
    let latencies_us = QUANTILES.map(|(_, quantile)| {
        let at = report.quantile(quantile);
        at.is_valid.then_some(at.latency_ns as f64 / 1e3)
    });
    Ok(Sample {
        latencies_us,
        lateness_us: report.quantile(0.999).lateness_ns as f64 / 1e3,
        misses: report.counts.misses,
        done,
        done_per_second: done as f64 / time.as_secs_f64(),
    })
}

/// A line for each server alone, one in company, and the ratio.
fn tell(rounds: &Rounds) {
    let heads: String = QUANTILES.iter().map(|(name, _)| format!(" {name:>19}")).collect();
    println!("{:24}{heads} {:>12} {:>22}", "", "late p99.9", "beside it, 1/s");
    for (server, (name, _)) in SERVERS.iter().enumerate() {
        for (who, title) in ["alone", "in company"].into_iter().enumerate() {
            let cells: String = (0..QUANTILES.len()).map(|at| format!(" {:>19}", cell(rounds, server, who, at))).collect();
            let late = spread(rounds, |round| Some(round[server][who].lateness_us));
            let late = late.map_or("–".to_owned(), |late| format!("{:.0}", late.median));
            let done = spread(rounds, |round| Some(round[server][who].done_per_second));
            let done = done.filter(|done| done.median > 0.0).map_or(String::new(), |done| format!("{:.3e}", done.median));
            println!("{:24}{cells} {late:>12} {done:>22}", format!("{name}, {title}"));
        }
    }
    println!("Median; in company, its ratio to the one alone within a round [quartiles]");
}

fn cell(rounds: &Rounds, server: usize, who: usize, at: usize) -> String {
    let Some(value) = spread(rounds, |round| round[server][who].latencies_us[at]) else { return "late".to_owned() };
    let ratio = (who == 1).then(|| ratio(rounds, server, at)).flatten();
    let ratio = ratio.map_or(String::new(), |ratio| format!(" {}", text(ratio)));
    format!("{:.0}{ratio}", value.median)
}

fn text(Spread { quartile1, median, quartile3 }: Spread) -> String {
    format!("{median:.2} [{quartile1:.2} {quartile3:.2}]")
}

/// `None` when most rounds lack it.
fn spread(rounds: &Rounds, figure: impl Fn(&[Pair; SERVERS.len()]) -> Option<f64>) -> Option<Spread> {
    let found: Vec<f64> = rounds.iter().filter_map(figure).collect();
    if found.len() * 2 > rounds.len() { Spread::of(found) } else { None }
}

/// Of a latency in company to the one alone.
fn ratio(rounds: &Rounds, server: usize, at: usize) -> Option<Spread> {
    spread(rounds, |round| {
        let [alone, beside] = round[server].map(|sample| sample.latencies_us[at]);
        Some(beside? / alone?)
    })
}

/// The limits that were looked at.
struct Verdicts {
    are_kept: bool,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self { are_kept: true }
    }
}

impl Verdicts {
    /// Prints one; only Corering's count.
    fn tell(&mut self, server: usize, what: &str, is_kept: Option<bool>) {
        let verdict = match is_kept {
            Some(true) => "kept",
            Some(false) => "NOT kept",
            None => "not measured: the generator was late",
        };
        println!("{:10} {what}: {verdict}", SERVERS[server].0);
        self.are_kept &= server > 0 || is_kept != Some(false);
    }

    fn tail(&mut self, rounds: &Rounds, most: f64) {
        for server in 0..SERVERS.len() {
            let found = ratio(rounds, server, P999);
            let what = format!("p99.9 {} times the one alone, {most} at most", found.map_or("–".to_owned(), text));
            self.tell(server, &what, found.map(|found| found.median <= most));
        }
    }

    fn rate(&mut self, rounds: &Rounds) {
        let found = spread(rounds, |[own, redis]| Some(own[1].done_per_second / redis[1].done_per_second));
        let what = format!("readers' rate {} times redis', {READERS_RATE_MIN} at least", found.map_or("–".to_owned(), text));
        self.tell(0, &what, found.map(|found| found.median >= READERS_RATE_MIN));
    }

    fn stalls(&mut self, rounds: &Rounds) {
        for server in 0..SERVERS.len() {
            let longest = |who: usize| rounds.iter().filter_map(|round| round[server][who].latencies_us[MAX]).reduce(f64::max);
            let (alone, beside) = (longest(0), longest(1));
            let is_kept = beside.map(|beside| beside <= STALL_US.max(alone.unwrap_or(0.0)));
            let show = |longest: Option<f64>| longest.map_or("–".to_owned(), |us| format!("{:.2} ms", us / 1e3));
            let what = format!("longest {}, alone {}; more than that and 5 ms is a stall", show(beside), show(alone));
            self.tell(server, &what, is_kept);
        }
    }
}
