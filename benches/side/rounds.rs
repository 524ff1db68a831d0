//! Servers visited in turn: short windows, the order rotated each round, ratios within a round.
//!
//! In: servers that stay up, and workloads. Out: for each workload, server and figure, its spread over the rounds and
//! the spread of its ratio to the first server's figure of the same round. A host that speeds up or slows down between
//! rounds moves the figures and leaves the ratios. What must stay true: a figure that may be the generator's own doing
//! is left out.

use std::io::IsTerminal;
use std::time::Duration;

use corering::load::plan::{Operation, Rate};
use corering::load::sizes::Sizes;
use corering::load::{Plan, Report, measure};
use serde::Serialize;

use crate::server::Running;

/// A workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    connections: usize,
    pipeline: usize,
    /// Requests a second; none is a closed loop.
    rate: Option<f64>,
    set_percent: u32,
    value_bytes: u32,
}

const fn closed(name: &'static str, connections: usize, pipeline: usize) -> Workload {
    Workload { name, connections, pipeline, rate: None, set_percent: 0, value_bytes: ECHO_VALUE_BYTES }
}

/// Bytes of the values that echoes answer with.
pub(crate) const ECHO_VALUE_BYTES: u32 = 64;

/// Connections × pipeline; MIX has writes, B16K large values, OL20 is an open loop at 20,000/s.
pub(crate) const WORKLOADS: [Workload; 7] = [
    closed("1conn", 1, 1),
    closed("C32", 32, 1),
    closed("C256", 256, 1),
    closed("P16", 32, 16),
    Workload { set_percent: 10, ..closed("MIX", 32, 1) },
    Workload { value_bytes: 16 << 10, ..closed("B16K", 32, 1) },
    Workload { rate: Some(20_000.0), ..closed("OL20", 32, 1) },
];

impl Workload {
    /// Whether a server that always gives the same reply can serve it.
    pub(crate) fn suits_an_echo(&self) -> bool {
        self.set_percent == 0 && self.value_bytes == ECHO_VALUE_BYTES
    }

    fn plan(&self, server: &Running, window: Duration, cpu: usize) -> Plan {
        let is_large = self.value_bytes != ECHO_VALUE_BYTES;
        let gets = (Operation::Get, 100 - self.set_percent);
        let sets = (self.set_percent > 0).then_some((Operation::Set, self.set_percent));
        Plan {
            protocol: server.protocol,
            rate: self.rate.map_or(Rate::Max, Rate::PerSecond),
            connections: self.connections,
            pipeline: self.pipeline,
            duration: window,
            warmup: window / 4,
            // Large values have keys of their own.
            key_bytes: if is_large { 17 } else { 16 },
            keys: if server.is_echo { 1 } else { 10_000 },
            value_sizes: Sizes::Fixed(self.value_bytes),
            mix: std::iter::once(gets).chain(sets).collect(),
            cpus: vec![cpu],
            populate: false,
            ..Plan::default()
        }
    }
}

/// The figures of one window; what may be the generator's doing is `None`.
pub(crate) type Sample = [Option<f64>; FIGURES.len()];

/// Names and units.
pub(crate) const FIGURES: [&str; 5] = ["server CPU, µs", "replies/s", "p50, µs", "p99, µs", "p99.9, µs"];

/// Runs one window.
///
/// # Errors
/// The server fails, or gives a wrong reply.
fn sample(workload: &Workload, server: &Running, plan: &Plan) -> Result<Sample, String> {
    let place = || format!("{}, {}", server.name, workload.name);
    let target = server.target();
    let outcome = measure(plan, &target, Some(server.meter()), |_| ());
    let report = Report::new(plan, &target, outcome.map_err(|error| format!("{}: {error}", place()))?);
    if !report.is_clean() {
        return Err(format!("{}: {} errors, {} wrong replies", place(), report.counts.errors, report.counts.wrong));
    }
    let micros = |quantile| {
        let at = report.quantile(quantile);
        at.is_valid.then_some(at.latency_ns as f64 / 1e3)
    };
    let cpu = report.server_cpu_ns.map(|ns| ns / 1e3);
    Ok([cpu, Some(report.throughput), micros(0.5), micros(0.99), micros(0.999)])
}

/// Everything that was seen: by workload, server and round.
#[derive(Debug)]
pub(crate) struct Rounds {
    samples: Vec<Vec<Vec<Sample>>>,
}

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
    /// Of the generator.
    pub(crate) cpu: usize,
}

/// Visits all servers with all workloads, again and again; the first server is what the others are compared with. A
/// terminal shows how far it is.
///
/// # Errors
/// A server fails, or gives a wrong reply.
pub(crate) fn rotate(method: Method, workloads: &[Workload], servers: &[Running]) -> Result<Rounds, String> {
    let mut samples = vec![vec![Vec::new(); servers.len()]; workloads.len()];
    let is_watched = std::io::stderr().is_terminal();
    for round in 0..=method.rounds {
        if is_watched {
            eprint!("\rround {round} of {} ", method.rounds);
        }
        for (workload, samples) in workloads.iter().zip(&mut samples) {
            for turn in 0..servers.len() {
                let number = (turn + round) % servers.len();
                let server = &servers[number];
                if !(server.suits)(workload) {
                    continue;
                }
                let mut plan = workload.plan(server, method.window, method.cpu);
                // Round zero only writes the keys and warms up.
                plan.populate = round == 0 && !server.is_echo;
                let sample = sample(workload, server, &plan)?;
                if round > 0 {
                    samples[number].push(sample);
                }
            }
        }
    }
    if is_watched {
        eprintln!();
    }
    Ok(Rounds { samples })
}

/// Median and quartiles.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) quartile1: f64,
    pub(crate) median: f64,
    pub(crate) quartile3: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        // Between neighbours where it falls between them.
        let at = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (low, high) = (values[place.floor() as usize], values[place.ceil() as usize]);
            low + (high - low) * place.fract()
        };
        (!values.is_empty()).then(|| Self { quartile1: at(0.25), median: at(0.5), quartile3: at(0.75) })
    }
}

/// A figure of a server under a workload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) value: Spread,
    /// To the first server's in the same round.
    pub(crate) ratio: Spread,
    /// Round by round.
    pub(crate) values: Vec<Option<f64>>,
}

impl Rounds {
    /// `None` when most rounds have no figure that is the server's.
    pub(crate) fn figure(&self, workload: usize, server: usize, figure: usize) -> Option<Figure> {
        let (own, first) = (&self.samples[workload][server], &self.samples[workload][0]);
        let values: Vec<f64> = own.iter().filter_map(|sample| sample[figure]).collect();
        let both = own.iter().zip(first).filter_map(|(own, first)| own[figure].zip(first[figure]));
        let ratios: Vec<f64> = both.map(|(own, first)| own / first).collect();
        if ratios.len() * 2 <= own.len() {
            return None;
        }
        Some(Figure {
            value: Spread::of(values)?,
            ratio: Spread::of(ratios)?,
            values: own.iter().map(|sample| sample[figure]).collect(),
        })
    }
}

/// A table for each workload, a line for each server.
pub(crate) fn table(rounds: &Rounds, workloads: &[Workload], servers: &[&str]) -> String {
    let mut text = String::new();
    for (row, workload) in workloads.iter().enumerate() {
        text += &format!("\n{:13}", workload.name);
        FIGURES.iter().for_each(|name| text += &format!(" {name:>28}"));
        for (number, name) in servers.iter().enumerate() {
            text += &format!("\n{name:13}");
            for figure in 0..FIGURES.len() {
                let cell = rounds.figure(row, number, figure).map_or("–".to_owned(), |found| cell(&found));
                text += &format!(" {cell:>28}");
            }
        }
        text.push('\n');
    }
    text
}

fn cell(Figure { value, ratio, .. }: &Figure) -> String {
    let digits = if value.median < 100.0 { 2 } else { 0 };
    let Spread { quartile1, median, quartile3 } = ratio;
    format!("{:.digits$}  {median:.2} [{quartile1:.2} {quartile3:.2}]", value.median)
}
