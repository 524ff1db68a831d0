//! Does the load generator agree with redis-benchmark, and what does it cost itself?
//!
//! `cargo bench --bench generator -- [ROUNDS]` (needs redis-server and redis-benchmark). Both send the same GETs as
//! closed loops to one redis-server on CPU 0, in turn, from CPU 1: ours once sleeping between replies, as
//! redis-benchmark does, and once spinning, as it does by default. Figures are ratios within a round, to
//! redis-benchmark's. It must agree within 10 % in throughput and median latency, and take at most 60 % of the CPU time
//! per request, both sleeping; otherwise the exit code is 1.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use corering::load::cpu::Meter;
use corering::load::plan::{Operation, Rate, Waiting};
use corering::load::report::{self, Report};
use corering::load::{Plan, measure};
use corering::topology;

#[path = "side/server.rs"]
mod server;
#[path = "side/spread.rs"]
mod spread;

use server::{Peer, Running};
use spread::Spread;

const SERVER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;

const CONNECTIONS: usize = 32;
const KEYS: u64 = 10_000;

/// Pipelines, each with the requests that take redis-benchmark about half a second.
const ROWS: [(usize, u64); 2] = [(1, 60_000), (16, 400_000)];

/// Throughput (1/s), median latency (ns), the generator's CPU time per request (ns).
type Sample = [f64; 3];

const FIGURES: [&str; 3] = ["replies/s", "p50", "CPU per request"];

/// Each figure's least and greatest ratio, where there is one.
const LIMITS: [(f64, f64); 3] = [(0.9, 1.1), (0.9, 1.1), (0.0, 0.6)];

fn main() {
    let rounds = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let rounds = rounds.map_or(Ok(20), |text| text.parse().map_err(|_| format!("{text:?} is no number of rounds")));
    match rounds.and_then(compare) {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(what) => {
            eprintln!("generator: {what}");
            std::process::exit(1);
        }
    }
}

/// Whether all limits are kept.
fn compare(rounds: usize) -> Result<bool, String> {
    let redis = Peer::new("redis", "redis-server --port {port} --save '' --appendonly no").start(SERVER_CPU)?;
    // From here on this process is a generator like the other one.
    topology::pin(GENERATOR_CPU);
    let mut are_kept = true;
    for (pipeline, requests) in ROWS {
        let mut samples = Vec::new();
        // Round zero writes the keys and warms up.
        for round in 0..=rounds {
            let theirs = || redis_benchmark(redis.port, pipeline, requests);
            let ours = |waiting| ours(&redis, pipeline, waiting, round == 0);
            // Each comes first every other time.
            let [theirs, sleeping, spinning] = if round % 2 == 0 {
                let sleeping = ours(Waiting::Sleep)?;
                [theirs()?, sleeping, ours(Waiting::Spin)?]
            } else {
                [theirs()?, ours(Waiting::Sleep)?, ours(Waiting::Spin)?]
            };
            if round > 0 {
                samples.push([theirs, sleeping, spinning]);
            }
        }
        println!("\n{CONNECTIONS} connections × {pipeline}: ratio to redis-benchmark [quartiles]");
        for (figure, name) in FIGURES.iter().enumerate() {
            let value = |who: usize| Spread::of(samples.iter().map(|sample| sample[who][figure]).collect());
            let ratio =
                |who: usize| Spread::of(samples.iter().map(|sample| sample[who][figure] / sample[0][figure]).collect());
            let (Some(theirs), Some(asleep), Some(spins)) = (value(0), ratio(1), ratio(2)) else {
                return Err("no rounds".to_owned());
            };
            let (least, most) = LIMITS[figure];
            let is_kept = (least..=most).contains(&asleep.median);
            are_kept &= is_kept;
            let verdict = if is_kept { "kept" } else { "NOT KEPT" };
            let text = |Spread { quartile1, median, quartile3 }| format!("{median:.2} [{quartile1:.2} {quartile3:.2}]");
            println!(
                "{name:16} {:>9.0}  sleeping {}  spinning {}  limit {least}–{most}: {verdict}",
                theirs.median,
                text(asleep),
                text(spins)
            );
        }
    }
    println!("\n{}, {}, {rounds} rounds", report::host(), report::date());
    Ok(are_kept)
}

fn ours(redis: &Running, pipeline: usize, waiting: Waiting, populate: bool) -> Result<Sample, String> {
    let plan = Plan {
        rate: Rate::Max,
        connections: CONNECTIONS,
        pipeline,
        keys: KEYS,
        mix: vec![(Operation::Get, 1)],
        duration: Duration::from_millis(400),
        warmup: Duration::from_millis(50),
        cpus: vec![GENERATOR_CPU],
        waiting,
        populate,
        ..Plan::default()
    };
    let target = redis.target();
    let outcome = measure(&plan, &target, Some(redis.meter()), |_| ()).map_err(|error| error.to_string())?;
    let report = Report::new(&plan, &target, outcome);
    if !report.is_clean() || report.counts.misses > 0 {
        return Err("the server gave wrong replies".to_owned());
    }
    Ok([report.throughput, report.quantile(0.5).latency_ns as f64, report.generator_ns])
}

fn redis_benchmark(port: u16, pipeline: usize, requests: u64) -> Result<Sample, String> {
    // Twelve digits take the place of `__rand_int__`: the names of our keys.
    let line = format!("-p {port} -c {CONNECTIONS} -P {pipeline} -n {requests} -r {KEYS} --csv GET k000__rand_int__");
    let failed = |what: &str| format!("redis-benchmark: {what}");
    let mut command = Command::new("redis-benchmark");
    command.args(line.split(' ')).stdout(Stdio::piped()).stderr(Stdio::null());
    // It inherits this thread's CPU.
    let mut child = command.spawn().map_err(|error| failed(&error.to_string()))?;
    let mut text = String::new();
    let read = child.stdout.take().map(|mut out| out.read_to_string(&mut text));
    // It has ended, and its account is there until it is waited for.
    let cpu = Meter::Process(child.id()).read();
    let status = child.wait().map_err(|error| failed(&error.to_string()))?;
    let (true, Some(Ok(_)), Some(cpu)) = (status.success(), read, cpu) else { return Err(failed("it fails")) };
    // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms", …
    let fields: Vec<f64> = text
        .lines()
        .last()
        .unwrap_or_default()
        .split(',')
        .filter_map(|field| field.trim_matches('"').parse().ok())
        .collect();
    let [rate, _, _, p50_ms, ..] = fields[..] else { return Err(failed(&format!("it says {text:?}"))) };
    Ok([rate, p50_ms * 1e6, cpu.as_nanos() as f64 / requests as f64])
}
