//! Does the load generator agree with redis-benchmark, and what does it cost itself?
//!
//! `cargo bench --bench generator -- [ROUNDS]` (needs redis-server and redis-benchmark). Both send the same GETs as
//! closed loops to one redis-server on CPU 0, in turn, from CPU 1: ours once sleeping between replies, as
//! redis-benchmark does, and once spinning, as it does by default. Figures are ratios within a round, to
//! redis-benchmark's. Both sleeping, ours must agree within 10 % in throughput and median latency where redis-benchmark
//! is not the bottleneck itself, and take at most 60 % of its CPU time per request; otherwise the exit code is 1.
//!
//! With one connection a plain loop is measured as well, which writes a request, reads the reply and then looks at the
//! clock. redis-benchmark looks at it before it reads, and tells medians in steps of 8 µs.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what it is for")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

const KEYS: u64 = 10_000;

/// Connections and pipeline, each with the requests that take redis-benchmark about as long as [`WINDOW`].
const ROWS: [(usize, usize, u64); 3] = [(1, 1, 4_000), (32, 1, 24_000), (32, 16, 160_000)];

/// What each has in a round: short, so that both see the same host.
const WINDOW: Duration = Duration::from_millis(200);

/// Throughput (1/s), median latency (ns), the generator's CPU time per request (ns).
type Sample = [f64; 3];

const FIGURES: [&str; 3] = ["replies/s", "p50, ns", "CPU per request, ns"];

/// From here on a generator is busy all the time: it measures itself, not the server.
const SATURATED: f64 = 0.9;

/// Any ratio will do.
const NO_LIMIT: (f64, f64) = (0.0, f64::INFINITY);

/// The least and greatest ratio to redis-benchmark for each figure. What a saturated generator says of a server that
/// waits for it is no measure of agreement, and of a pipeline redis-benchmark times the first reply only. With one
/// connection both pay the kernel for falling asleep and waking up, and little else.
fn limits(connections: usize, pipeline: usize, busy: f64) -> [(f64, f64); 3] {
    let is_saturated = busy >= SATURATED;
    let throughput = (0.9, if is_saturated { f64::INFINITY } else { 1.1 });
    let median = if is_saturated || pipeline > 1 { NO_LIMIT } else { (0.9, 1.1) };
    let cpu = if connections == 1 { NO_LIMIT } else { (0.0, 0.6) };
    [throughput, median, cpu]
}

fn main() {
    let rounds = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let rounds = rounds.map_or(Ok(60), |text| {
        let number = text.parse().ok().filter(|rounds| *rounds > 0);
        number.ok_or_else(|| format!("{text:?} is no number of rounds"))
    });
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
    let host = report::host();
    // From here on this process is a generator like the other one.
    topology::pin(GENERATOR_CPU);
    let mut are_kept = true;
    for (connections, pipeline, requests) in ROWS {
        let (mut samples, mut plain) = (Vec::new(), Vec::new());
        // Round zero writes the keys and warms up.
        for round in 0..=rounds {
            let theirs = || redis_benchmark(redis.port, connections, pipeline, requests);
            let ours = |waiting| ours(&redis, (connections, pipeline), waiting, round == 0);
            // Each comes first every other time.
            let [theirs, sleeping, spinning] = if round % 2 == 0 {
                let sleeping = ours(Waiting::Sleep)?;
                [theirs()?, sleeping, ours(Waiting::Spin)?]
            } else {
                [theirs()?, ours(Waiting::Sleep)?, ours(Waiting::Spin)?]
            };
            if round > 0 {
                samples.push([theirs, sleeping, spinning]);
                if connections * pipeline == 1 {
                    plain.push((plain_loop(redis.port)?, sleeping));
                }
            }
        }
        are_kept &= tell(connections, pipeline, &samples)?;
        for figure in 0..2 {
            let ratios = plain.iter().map(|(plain, sleeping)| sleeping[figure] / plain[figure]).collect();
            if let Some(Spread { quartile1, median, quartile3 }) = Spread::of(ratios) {
                let name = FIGURES[figure];
                println!("{name}: ours, sleeping, to a plain loop's {median:.2} [{quartile1:.2} {quartile3:.2}]");
            }
        }
    }
    println!("\n{host}, {}, {rounds} rounds", report::date());
    Ok(are_kept)
}

/// Prints a row; whether its limits are kept.
fn tell(connections: usize, pipeline: usize, samples: &[[Sample; 3]]) -> Result<bool, String> {
    let spread = |figure: &dyn Fn(&[Sample; 3]) -> f64| Spread::of(samples.iter().map(figure).collect());
    let none = || "no rounds".to_owned();
    let busy = spread(&|[[rate, _, cpu_ns], ..]| rate * cpu_ns / 1e9).ok_or_else(none)?.median;
    println!("\n{connections} connections × {pipeline}; redis-benchmark is busy {:.0} % of the time", busy * 100.0);
    println!("{:20} {:>16} {:>21} {:>21}", "", "redis-benchmark", "ours, sleeping", "ours, spinning");
    let mut are_kept = true;
    for (figure, (least, most)) in limits(connections, pipeline, busy).into_iter().enumerate() {
        let theirs = spread(&|sample| sample[0][figure]).ok_or_else(none)?;
        let [asleep, spins] = [1, 2].map(|who| spread(&|sample| sample[who][figure] / sample[0][figure]));
        let (asleep, spins) = (asleep.ok_or_else(none)?, spins.ok_or_else(none)?);
        let is_kept = (least..=most).contains(&asleep.median);
        are_kept &= is_kept;
        let verdict = match is_kept {
            _ if (least, most) == NO_LIMIT => "no limit".to_owned(),
            true => format!("within {least}–{most}"),
            false => format!("NOT within {least}–{most}"),
        };
        let text = |Spread { quartile1, median, quartile3 }| format!("{median:.2} [{quartile1:.2} {quartile3:.2}]");
        println!("{:20} {:>16.0} {:>21} {:>21}  {verdict}", FIGURES[figure], theirs.median, text(asleep), text(spins));
    }
    Ok(are_kept)
}

fn ours(
    redis: &Running,
    (connections, pipeline): (usize, usize),
    waiting: Waiting,
    populate: bool,
) -> Result<Sample, String> {
    let plan = Plan {
        rate: Rate::Max,
        connections,
        pipeline,
        keys: KEYS,
        mix: vec![(Operation::Get, 1)],
        duration: WINDOW,
        warmup: WINDOW / 8,
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

/// Throughput and median latency of a loop over one connection that can do nothing else.
fn plain_loop(port: u16) -> Result<[f64; 2], String> {
    let failed = |error: std::io::Error| format!("the plain loop: {error}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let mut reply = [0; 4096];
    let mut latencies = Vec::new();
    let start = Instant::now();
    for key in (0..KEYS).cycle() {
        let begin = Instant::now();
        if begin - start >= WINDOW {
            break;
        }
        stream.write_all(format!("*2\r\n$3\r\nGET\r\n$16\r\nk{key:015}\r\n").as_bytes()).map_err(failed)?;
        let count = stream.read(&mut reply).map_err(failed)?;
        latencies.push(begin.elapsed().as_nanos() as f64);
        if !(reply.starts_with(b"$6") && reply[..count].ends_with(b"\r\n")) {
            return Err(format!("the plain loop: {:?}", String::from_utf8_lossy(&reply[..count])));
        }
    }
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    let median = Spread::of(latencies).ok_or("the plain loop: no replies")?.median;
    Ok([rate, median])
}

fn redis_benchmark(port: u16, connections: usize, pipeline: usize, requests: u64) -> Result<Sample, String> {
    // Twelve digits take the place of `__rand_int__`: the names of our keys.
    let line = format!("-p {port} -c {connections} -P {pipeline} -n {requests} -r {KEYS} --csv GET k000__rand_int__");
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
