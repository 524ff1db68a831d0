//! Servers visited in turn: short windows, the order rotated each round, ratios within a round.
//!
//! In: servers and workloads. Out: for each workload, server and figure, its spread over the rounds and the spread of
//! its ratio to the first server's figure of the same round. A host that speeds up or slows down between rounds moves
//! the figures and leaves the ratios. Two things move those as well: where a process happens to have its memory, so all
//! are started anew now and then (Mytkowicz et al.: Producing Wrong Data Without Doing Anything Obviously Wrong!,
//! ASPLOS 2009); and how far the host has put the two CPUs from each other (`distance.rs`), so only rounds count in
//! which they are as far. What must stay true: a figure that may be the generator's own doing is left out.

use std::io::IsTerminal;
use std::time::Duration;

use corering::load::plan::{Operation, Protocol, Rate};
use corering::load::sizes::Sizes;
use corering::load::{Plan, Report, Target, measure};
use serde::Serialize;

use crate::distance;
use crate::server::{Peer, Running};
use crate::spread::Spread;

/// A workload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    connections: usize,
    pipeline: usize,
    pace: Pace,
    set_percent: u32,
    keys: u64,
    value_bytes: u32,
    is_http: bool,
}

/// When requests come.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// As soon as the replies to those before are there.
    Closed,
    /// An open loop, so many a second.
    PerSecond(f64),
    /// An open loop, half as many a second as [`YARDSTICK`] serves on as many connections, in the same round.
    HalfOfYardstick,
}

/// The server whose saturation is a measure.
const YARDSTICK: &str = "redis";

const fn closed(name: &'static str, connections: usize, pipeline: usize) -> Workload {
    Workload {
        name,
        connections,
        pipeline,
        pace: Pace::Closed,
        set_percent: 0,
        keys: 10_000,
        value_bytes: ECHO_VALUE_BYTES,
        is_http: false,
    }
}

/// Bytes of the values that echoes answer with.
pub(crate) const ECHO_VALUE_BYTES: u32 = 64;

/// Connections × pipeline; MIX has writes, B16K large values, OL20 is an open loop at 20,000/s, H64 values of 1 KiB
/// over HTTP. OLhalf comes at half of what redis-server can do, the ten million keys of P16-10M fit no processor's
/// cache, and B1M has values of 1 MiB.
pub(crate) const WORKLOADS: [Workload; 11] = [
    closed("1conn", 1, 1),
    closed("C32", 32, 1),
    closed("C256", 256, 1),
    closed("P16", 32, 16),
    Workload { set_percent: 10, ..closed("MIX", 32, 1) },
    Workload { value_bytes: 16 << 10, ..closed("B16K", 32, 1) },
    Workload { pace: Pace::PerSecond(20_000.0), ..closed("OL20", 32, 1) },
    Workload { value_bytes: 1024, is_http: true, ..closed("H64", 64, 1) },
    Workload { pace: Pace::HalfOfYardstick, ..closed("OLhalf", 32, 1) },
    Workload { keys: 10_000_000, ..closed("P16-10M", 32, 16) },
    Workload { keys: 64, value_bytes: 1 << 20, ..closed("B1M", 32, 1) },
];

/// A server that takes part.
#[derive(Clone, Debug)]
pub(crate) struct Entrant {
    pub(crate) peer: Peer,
    pub(crate) protocol: Protocol,
    /// It gives the same reply to everything.
    pub(crate) is_echo: bool,
    /// Its keys are asked for at their nodes.
    pub(crate) is_cluster: bool,
    /// What stands before and behind a key in a URL.
    pub(crate) http_path: (&'static str, &'static str),
    /// Its keys are written to a server that speaks RESP, on the port behind its own.
    pub(crate) is_gateway: bool,
    /// Which workloads it is there for.
    pub(crate) suits: fn(&Workload) -> bool,
}

impl Entrant {
    /// Takes part in everything.
    pub(crate) fn new(peer: Peer, protocol: Protocol) -> Self {
        let http_path = ("/v1/keys/", "");
        Self { peer, protocol, is_echo: false, is_cluster: false, http_path, is_gateway: false, suits: |_| true }
    }

    /// Whether it has a place in a row.
    pub(crate) fn takes_part(&self, workload: &Workload) -> bool {
        workload.is_http == (self.protocol == Protocol::Http) && (self.suits)(workload)
    }
}

impl Workload {
    /// Whether a server that always gives the same reply can serve it.
    pub(crate) fn suits_an_echo(&self) -> bool {
        self.set_percent == 0 && self.value_bytes == ECHO_VALUE_BYTES
    }

    /// The place of the server that its pace goes by, if it goes by one.
    ///
    /// # Errors
    /// That one is not there.
    pub(crate) fn yardstick(&self, entrants: &[Entrant]) -> Result<Option<usize>, String> {
        let Pace::HalfOfYardstick = self.pace else { return Ok(None) };
        let place = entrants.iter().position(|entrant| entrant.peer.name == YARDSTICK);
        let missing = || format!("the row {} is half of what {YARDSTICK}-server can do: install it", self.name);
        place.map(Some).ok_or_else(missing)
    }

    /// An open loop at half of the rate that a closed one has shown.
    fn at_half_of(self, [_, per_second, ..]: Sample) -> Result<Self, String> {
        let per_second = per_second.ok_or_else(|| format!("{YARDSTICK} has no throughput"))?;
        Ok(Self { pace: Pace::PerSecond(per_second / 2.0), ..self })
    }

    fn plan(&self, entrant: &Entrant, window: Duration) -> Plan {
        // Other values have keys of their own.
        let key_bytes = if self.value_bytes == ECHO_VALUE_BYTES { 16 } else { 7 + self.value_bytes.ilog2() as usize };
        let gets = (Operation::Get, 100 - self.set_percent);
        let sets = (self.set_percent > 0).then_some((Operation::Set, self.set_percent));
        Plan {
            protocol: entrant.protocol,
            cluster: entrant.is_cluster,
            http_prefix: entrant.http_path.0.to_owned(),
            http_suffix: entrant.http_path.1.to_owned(),
            rate: match self.pace {
                Pace::PerSecond(rate) => Rate::PerSecond(rate),
                Pace::Closed | Pace::HalfOfYardstick => Rate::Max,
            },
            connections: self.connections,
            pipeline: self.pipeline,
            duration: window,
            warmup: window / 8,
            key_bytes,
            keys: if entrant.is_echo { 1 } else { self.keys },
            value_sizes: Sizes::Fixed(self.value_bytes),
            mix: std::iter::once(gets).chain(sets).collect(),
            cpus: vec![GENERATOR_CPU],
            ..Plan::default()
        }
    }
}

/// The figures of one window; what may be the generator's doing is `None`.
pub(crate) type Sample = [Option<f64>; FIGURES.len()];

/// Names and units.
pub(crate) const FIGURES: [&str; 5] = ["server CPU, µs", "replies/s", "p50, µs", "p99, µs", "p99.9, µs"];

/// A percentile at which the generator was later than this is its own. To go by the share of the latency instead would
/// leave out the windows in which a server was quick; what the generator adds otherwise, it adds to all of them.
const LATENESS_NS_MAX: u64 = 50_000;

/// Runs one window.
///
/// # Errors
/// The server fails, or gives a wrong reply.
fn sample(server: &Running, plan: &Plan) -> Result<Sample, String> {
    let target = server.target();
    let outcome = measure(plan, &target, Some(server.meter()), |_| ());
    let report = Report::new(plan, &target, outcome.map_err(|error| error.to_string())?);
    if !report.is_clean() {
        return Err(format!("{} errors, {} wrong replies", report.counts.errors, report.counts.wrong));
    }
    if report.counts.misses > 0 {
        return Err(format!("{} values were not there, which had been written", report.counts.misses));
    }
    let micros = |quantile| {
        let at = report.quantile(quantile);
        (at.lateness_ns <= LATENESS_NS_MAX).then_some(at.latency_ns as f64 / 1e3)
    };
    let cpu = report.server_cpu_ns.map(|ns| ns / 1e3);
    Ok([cpu, Some(report.throughput), micros(0.5), micros(0.99), micros(0.999)])
}

/// Everything that was seen.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// By workload, server and round.
    samples: Vec<Vec<Vec<Sample>>>,
    /// Of each round, whether it counts or not.
    pub(crate) trips: Vec<Trip>,
}

/// How long a cache line took from the servers' CPU to the generator's and back, before and after a round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Trip {
    ns: [Option<f64>; 2],
}

impl Trip {
    /// Whether the CPUs were near each other throughout, or far; `None` when that changed or is not known.
    fn is_near(self) -> Option<bool> {
        let [before, after] = self.ns.map(|ns| Some(ns? < NEAR_NS));
        before.filter(|_| before == after)
    }
}

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    /// So many are to count.
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
}

/// Servers and generator have a CPU each.
pub(crate) const SERVER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;

/// Then all servers are started anew.
const ROUNDS_PER_START: usize = 11;

/// CPUs behind one cache have a line there and back in less: 46 ns and 360 to 380 ns were found on one host (AMD EPYC,
/// a virtual machine), little between them.
const NEAR_NS: f64 = 250.0;

/// Times the rounds that are to count, until enough of them have had the CPUs near each other.
const ROUNDS_TIMES_MAX: usize = 3;

/// Visits all entrants with all workloads, again and again; the first is what the others are compared with. A terminal
/// shows how far it is.
///
/// # Errors
/// A server fails, or gives a wrong reply.
pub(crate) fn rotate(method: Method, workloads: &[Workload], entrants: &[Entrant]) -> Result<Rounds, String> {
    let mut rounds = Rounds { samples: vec![vec![Vec::new(); entrants.len()]; workloads.len()], trips: Vec::new() };
    let is_watched = std::io::stderr().is_terminal();
    while rounds.wants_more(method) {
        let servers = entrants.iter().map(|entrant| entrant.peer.start(SERVER_CPU));
        let servers: Vec<Running> = servers.collect::<Result<_, _>>()?;
        // Round zero only writes the keys and warms up.
        for round in 0..=ROUNDS_PER_START {
            if !rounds.wants_more(method) {
                break;
            }
            if is_watched {
                eprint!("\rround {}, {} of {} count ", rounds.trips.len(), rounds.near(), method.rounds);
            }
            let before_ns = distance::round_trip_ns([SERVER_CPU, GENERATOR_CPU]);
            let number = rounds.trips.len() as u64;
            let number = if round == 0 { u64::MAX - number } else { number };
            let seen = visit(round == 0, number, method.window, workloads, entrants, &servers)?;
            let after_ns = distance::round_trip_ns([SERVER_CPU, GENERATOR_CPU]);
            if round > 0 {
                rounds.trips.push(Trip { ns: [before_ns, after_ns] });
                let places = rounds.samples.iter_mut().flatten().zip(seen.into_iter().flatten());
                places.for_each(|(samples, sample)| samples.extend(sample));
            }
        }
    }
    if is_watched {
        eprintln!();
    }
    Ok(rounds)
}

/// Everybody's turn, by workload and server; `None` for who does not take part.
fn visit(
    is_first: bool,
    number: u64,
    window: Duration,
    workloads: &[Workload],
    entrants: &[Entrant],
    servers: &[Running],
) -> Result<Vec<Vec<Option<Sample>>>, String> {
    let look = |workload: &Workload, place: usize| {
        let (entrant, server) = (&entrants[place], &servers[place]);
        let plan = Plan {
            populate: is_first && !entrant.is_echo && !entrant.is_gateway,
            seed: number,
            ..workload.plan(entrant, window)
        };
        let failed = |what: String| format!("{}, {}: {what}", entrant.peer.name, workload.name);
        if is_first && entrant.is_gateway {
            let store = Plan { protocol: Protocol::Resp2, populate: true, ..plan.clone() };
            measure(&store, &Target::Tcp(format!("127.0.0.1:{}", server.port + 1)), None, |_| ())
                .map_err(|error| failed(error.to_string()))?;
        }
        sample(server, &plan).map_err(failed)
    };
    let mut seen = vec![vec![None; servers.len()]; workloads.len()];
    for (workload, seen) in workloads.iter().zip(&mut seen) {
        let paced = match workload.yardstick(entrants)? {
            Some(place) => workload.at_half_of(look(workload, place)?)?,
            None => *workload,
        };
        for turn in 0..servers.len() {
            let place = (turn + (number % servers.len() as u64) as usize) % servers.len();
            if entrants[place].takes_part(&paced) {
                seen[place] = Some(look(&paced, place)?);
            }
        }
    }
    Ok(seen)
}

/// Two medians that differ by less are taken for equal.
const RESOLUTION: f64 = 0.08;

/// Times the distance of the quartiles, divided by the root of the number of values: so far may a median be off
/// (McGill, Tukey, Larsen: Variations of Box Plots, The American Statistician 32, 1978).
const NOTCH: f64 = 1.57;

/// A figure of a server under a workload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) value: Spread,
    /// To the first server's in the same round.
    pub(crate) ratio: Spread,
    /// The run tells this ratio's median from one [`RESOLUTION`] beside it.
    pub(crate) is_resolved: bool,
    /// Of the rounds that count.
    pub(crate) values: Vec<Option<f64>>,
}

impl Rounds {
    fn near(&self) -> usize {
        self.trips.iter().filter(|trip| trip.is_near() == Some(true)).count()
    }

    fn is_distance_known(&self) -> bool {
        self.trips.iter().any(|trip| trip.is_near().is_some())
    }

    fn wants_more(&self, method: Method) -> bool {
        let times = if self.trips.is_empty() || self.is_distance_known() { ROUNDS_TIMES_MAX } else { 1 };
        self.near() < method.rounds && self.trips.len() < method.rounds * times
    }

    /// Which rounds count: those with the CPUs near each other, unless there are not half as many as asked for; all
    /// where the distance is not known.
    fn counts(&self) -> impl Fn(usize) -> bool {
        let is_for_near = self.near() * ROUNDS_TIMES_MAX * 2 >= self.trips.len();
        let is_known = self.is_distance_known();
        move |round| !is_known || self.trips[round].is_near() == Some(is_for_near)
    }

    /// What the figures rest on.
    pub(crate) fn basis(&self) -> String {
        let counted: Vec<usize> = (0..self.trips.len()).filter(|round| self.counts()(*round)).collect();
        let trips = counted.iter().flat_map(|round| self.trips[*round].ns).flatten();
        let trip = Spread::of(trips.collect()).map_or("?".to_owned(), |spread| format!("{:.0} ns", spread.median));
        let (counted, all) = (counted.len(), self.trips.len());
        format!("{counted} of {all} rounds count: those in which a cache line went from CPU to CPU and back in {trip}")
    }

    /// The first server that takes part in a workload: the others are compared with it.
    pub(crate) fn first(&self, workload: usize) -> Option<usize> {
        self.samples[workload].iter().position(|samples| !samples.is_empty())
    }

    /// `None` when most rounds have no figure that is the server's.
    pub(crate) fn figure(&self, workload: usize, server: usize, figure: usize) -> Option<Figure> {
        let (own, first) = (&self.samples[workload][server], &self.samples[workload][self.first(workload)?]);
        let counts = self.counts();
        let counted = || own.iter().zip(first).enumerate().filter(|(round, _)| counts(*round)).map(|(_, both)| both);
        let values: Vec<Option<f64>> = counted().map(|(own, _)| own[figure]).collect();
        let both = counted().filter_map(|(own, first)| own[figure].zip(first[figure]));
        let ratios: Vec<f64> = both.map(|(own, first)| own / first).collect();
        if ratios.len() * 2 <= values.len() {
            return None;
        }
        let count = ratios.len() as f64;
        let ratio = Spread::of(ratios)?;
        Some(Figure {
            value: Spread::of(values.iter().flatten().copied().collect())?,
            is_resolved: NOTCH * (ratio.quartile3 - ratio.quartile1) / count.sqrt() < RESOLUTION / 2.0 * ratio.median,
            ratio,
            values,
        })
    }
}

/// A table for each workload, a line for each server.
pub(crate) fn table(rounds: &Rounds, workloads: &[Workload], entrants: &[Entrant]) -> String {
    let mut text = String::new();
    for (row, workload) in workloads.iter().enumerate() {
        text += &format!("\n{:13}", workload.name);
        FIGURES.iter().for_each(|name| text += &format!(" {name:>28}"));
        let here = entrants.iter().enumerate().filter(|(_, entrant)| entrant.takes_part(workload));
        for (number, entrant) in here {
            text += &format!("\n{:13}", entrant.peer.name);
            for figure in 0..FIGURES.len() {
                let cell = rounds.figure(row, number, figure).map_or("–".to_owned(), |found| cell(&found));
                text += &format!(" {cell:>28}");
            }
        }
        text.push('\n');
    }
    text + "\nEach figure: median, ratio to the first server in its round [quartiles]; ~: not resolved to 8 %.\n"
        + &rounds.basis()
        + ".\n"
}

fn cell(Figure { value, ratio, is_resolved, .. }: &Figure) -> String {
    let digits = if value.median < 100.0 { 2 } else { 0 };
    let Spread { quartile1, median, quartile3 } = ratio;
    let median = if *is_resolved { format!("{median:.2}") } else { "~".to_owned() };
    format!("{:.digits$}  {median} [{quartile1:.2} {quartile3:.2}]", value.median)
}
