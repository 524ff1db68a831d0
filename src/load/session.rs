//! One run: connections, threads, phases, and the gathering of what the threads have seen.
//!
//! In: a plan and a server that listens. Out: an [`Outcome`]. What must stay true: all threads measure the same window;
//! the server's CPU time is read just before it and at its end.
//!
//! ```text
//!   look ► connect ► populate ─┬─ warm-up ─┬──────── measured ────────┬─ drain ─► done
//!                            start      CPU time                  CPU time
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::LoadError;
use super::connect::{self, Nodes, ServerInfo};
use super::cpu::{Meter, age_seconds, own_thread};
use super::draw::Arrivals;
use super::engine::{Engine, Setup, Source, ring_options};
use super::items::Items;
use super::plan::{Operation, Plan, Protocol, Rate, Target};
use super::recorder::{Recorder, Seen, Slice, Window};
use crate::config::Io;
use crate::ring::Ring;
use crate::ring::epoll::EpollRing;
use crate::ring::probe;
use crate::ring::uring::UringRing;
use crate::topology;

/// Between the last thread's being ready and the start of the clock.
const START_DELAY: Duration = Duration::from_millis(5);

/// CPU times are read so long before the measured part: a request that was due meanwhile would have to wait for it.
const READ_EARLY: Duration = Duration::from_millis(1);

/// Shortest slice of the time line.
const SLICE_MIN: Duration = Duration::from_millis(100);

/// Most slices of the time line.
const SLICES_MAX: u32 = 1000;

/// Difference in age by which a process is recognised as the server: INFO tells whole seconds.
const AGE_TOLERANCE_SECONDS: u64 = 2;

/// A point of the time line.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// End of the slice, seconds from the start of the measured part.
    pub at_seconds: f64,
    /// Replies per second.
    pub rate: f64,
    /// Latency, nanoseconds; zero when nothing was answered.
    pub p50_ns: u64,
    /// As above.
    pub p99_ns: u64,
    /// As above.
    pub p999_ns: u64,
    /// As above.
    pub max_ns: u64,
}

/// What was measured.
#[derive(Debug)]
pub struct Outcome {
    /// Latencies and counts.
    pub seen: Seen,
    /// The measured part, slice by slice.
    pub timeline: Vec<Point>,
    /// Length of the measured part.
    pub duration: Duration,
    /// CPU time that the server had in it.
    pub server_cpu: Option<Duration>,
    /// CPU time that the generator had in it, spinning included.
    pub generator_cpu: Option<Duration>,
    /// What the server says it is.
    pub server_name: String,
    /// CPUs of the generator's threads.
    pub cpus: Vec<usize>,
    /// Those among them to which threads of the server are pinned.
    pub shared_cpus: Vec<usize>,
}

/// Runs `plan` against `target`. `progress` is told of each second; `meter` overrides how the server's CPU is measured.
///
/// # Errors
/// The server or the host fails.
pub fn measure(
    plan: &Plan,
    target: &Target,
    meter: Option<Meter>,
    mut progress: impl FnMut(&Point),
) -> Result<Outcome, LoadError> {
    check_host(plan)?;
    let (nodes, info) = connect::look(plan, target)?;
    let meter = meter.or_else(|| find_process(plan, target, &info));
    check_process(plan, meter.as_ref())?;
    let items = Items::new(plan);
    let cpus = place(plan)?;
    let pinned = meter.as_ref().map(Meter::pinned_cpus).unwrap_or_default();
    let slice = (plan.duration / SLICES_MAX).max(SLICE_MIN).min(plan.duration);
    let window = window(plan, slice);
    let stop = AtomicBool::new(false);
    let crew = Crew { plan, nodes: &nodes, items: &items, stop: &stop, window };

    thread::scope(|scope| {
        let (ready_sender, ready) = mpsc::channel();
        let (slice_sender, slices) = mpsc::channel();
        let mut starts = Vec::new();
        let mut threads = Vec::new();
        for (index, cpu) in cpus.iter().copied().enumerate() {
            let (start_sender, start) = mpsc::channel();
            starts.push(start_sender);
            let (ready, slices) = (ready_sender.clone(), slice_sender.clone());
            let crew = &crew;
            let thread = thread::Builder::new().name(format!("load-{index}"));
            // When one fails, the others stop.
            let fail = |_: &LoadError| crew.stop.store(true, Ordering::Relaxed);
            let body = move || crew.work(index, cpu, ready, &start, slices).inspect_err(fail);
            threads.push(thread.spawn_scoped(scope, body).map_err(LoadError::Host)?);
        }
        drop((ready_sender, slice_sender));
        // A thread that fails drops its sender: the count stays short, and joining tells why.
        let ready: Vec<u32> = ready.iter().take(cpus.len()).collect();
        let meters = Meters { server: meter, generator: Meter::Threads(ready.clone()) };
        let mut watch = Watch::new(plan, cpus.len(), slice, meters);
        if ready.len() == cpus.len() {
            let start = Instant::now() + START_DELAY;
            // A thread that is gone tells why when it is joined.
            starts.iter().for_each(|sender| _ = sender.send(start));
            watch.run(start, &slices, &mut progress);
        }
        drop(starts);
        let seen = join(threads)?;
        check_seen(plan, &seen)?;
        Ok(Outcome {
            seen,
            timeline: watch.points,
            duration: plan.duration,
            server_cpu: watch.cpu.server,
            generator_cpu: watch.cpu.generator,
            server_name: info.name,
            shared_cpus: cpus.iter().copied().filter(|cpu| pinned.contains(cpu)).collect(),
            cpus: cpus.clone(),
        })
    })
}

/// Descriptors for the connections, and a ring.
fn check_host(plan: &Plan) -> Result<(), LoadError> {
    crate::listen::raise_descriptor_limit(plan.connections as u32);
    probe::check(plan.io, &ring_options(plan.connections, plan)).map_err(LoadError::Ring)
}

/// A process that was named is there.
fn check_process(plan: &Plan, meter: Option<&Meter>) -> Result<(), LoadError> {
    match (plan.pid, meter.map(Meter::read)) {
        (Some(pid), Some(None)) => Err(LoadError::Usage(format!("--pid {pid}: there is no such process"))),
        _ => Ok(()),
    }
}

/// Something was measured.
fn check_seen(plan: &Plan, seen: &Seen) -> Result<(), LoadError> {
    if !seen.latencies.is_empty() || seen.counts.answered > 0 {
        return Ok(());
    }
    let length = plan.duration;
    Err(LoadError::Usage(format!("no request was due within {length:?}: give --duration or --rate more")))
}

/// The time that counts, cut into slices.
fn window(plan: &Plan, slice: Duration) -> Window {
    let (from, until) = (plan.warmup, plan.warmup + plan.duration);
    let ns = |time: Duration| time.as_nanos() as u64;
    Window { from_ns: ns(from), until_ns: ns(until), slice_ns: ns(slice) }
}

/// What all threads have seen, or why one of them failed; that others were stopped for it is the lesser reason.
fn join(threads: Vec<ScopedJoinHandle<'_, Result<Seen, LoadError>>>) -> Result<Seen, LoadError> {
    let mut seen = Seen::default();
    let mut failure = None;
    for thread in threads {
        match thread.join() {
            Ok(Ok(part)) => seen.add(&part),
            Ok(Err(LoadError::Stopped)) => failure = failure.or(Some(LoadError::Stopped)),
            Ok(Err(error)) => failure = Some(error),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    failure.map_or(Ok(seen), Err)
}

/// What all threads share.
struct Crew<'a> {
    plan: &'a Plan,
    nodes: &'a Nodes,
    items: &'a Items,
    stop: &'a AtomicBool,
    window: Window,
}

impl Crew<'_> {
    /// One thread's part, from connecting to the last reply.
    fn work(
        &self,
        index: usize,
        cpu: usize,
        ready: Sender<u32>,
        start: &Receiver<Instant>,
        slices: Sender<Slice>,
    ) -> Result<Seen, LoadError> {
        let plan = self.plan;
        topology::pin(cpu);
        let mine = (index..plan.connections).step_by(plan.threads);
        let node_count = self.nodes.targets.len();
        // Each thread needs a connection to every node.
        let count = mine.len().max(node_count);
        let sockets = (0..count).map(|number| {
            let node = number % node_count;
            connect::open(plan, &self.nodes.targets[node]).map(|socket| (socket, node as u16))
        });
        let setup = Setup {
            plan,
            items: self.items,
            thread: index,
            sockets: sockets.collect::<Result<_, _>>()?,
            slots: &self.nodes.slots,
            stop: self.stop,
            recorder: Recorder::new(slices),
        };
        let options = ring_options(count, plan);
        match plan.io {
            Io::Uring => {
                let ring = UringRing::new(&options).map_err(|refused| LoadError::Host(refused.into()))?;
                self.drive(Engine::new(setup, ring), index, ready, start)
            }
            Io::Epoll => {
                let ring = EpollRing::new(&options).map_err(LoadError::Host)?;
                self.drive(Engine::new(setup, ring), index, ready, start)
            }
        }
    }

    /// The keys, the load, and what was seen.
    fn drive<R: Ring>(
        &self,
        mut engine: Engine<'_, R>,
        index: usize,
        ready: Sender<u32>,
        start: &Receiver<Instant>,
    ) -> Result<Seen, LoadError> {
        let plan = self.plan;
        self.populate(&mut engine, index)?;
        let _ = ready.send(own_thread());
        drop(ready);
        let Ok(begin) = start.recv() else { return Err(LoadError::Stopped) };
        engine.begin(begin, |recorder| recorder.set_window(self.window));
        let source = match plan.rate {
            Rate::Max => Source::Closed,
            Rate::PerSecond(rate) => {
                let seed = plan.seed.wrapping_add(0x5eed).wrapping_mul(index as u64 + 1);
                Source::Open(Arrivals::new(rate / plan.threads as f64, seed))
            }
        };
        engine.run(source, self.window.until_ns)?;
        let connections = engine.connections();
        let (recorder, answered) = engine.finish();
        let seen = recorder.finish();
        // The account of a thread ends with it: it is read first.
        let _ = start.recv();
        if answered == 0 && !seen.latencies.is_empty() {
            return Err(LoadError::Silent { connections, limit: plan.duration });
        }
        Ok(seen)
    }

    fn populate<R: Ring>(&self, engine: &mut Engine<'_, R>, index: usize) -> Result<(), LoadError> {
        if !self.plan.populate {
            return Ok(());
        }
        let is_adding = self.plan.mix.iter().any(|(operation, _)| *operation == Operation::Increment);
        if is_adding && self.plan.protocol == Protocol::Memcache {
            engine.populate(index, Operation::ResetCounter)?;
        }
        // Where nothing is ever written for good, nothing is written for good first.
        let is_expiring = self.plan.mix.iter().all(|(operation, _)| *operation == Operation::SetExpiring);
        engine.populate(index, if is_expiring { Operation::SetExpiring } else { Operation::Set })
    }
}

/// The coordinator's eyes: the time line, the progress, the server's CPU time.
struct Watch {
    threads: usize,
    slice: Duration,
    begin: Duration,
    end: Duration,
    meters: Meters,
    /// Just before the measured part; after its end, what was used in it.
    cpu: CpuTimes,
    /// Slices of which some threads are missing.
    partial: BTreeMap<u64, (Histogram<u32>, usize)>,
    points: Vec<Point>,
    /// Of the present second.
    second: Option<Histogram<u32>>,
    second_slices: u32,
}

struct Meters {
    server: Option<Meter>,
    generator: Meter,
}

#[derive(Clone, Copy, Default)]
struct CpuTimes {
    server: Option<Duration>,
    generator: Option<Duration>,
}

impl Meters {
    fn read(&self) -> CpuTimes {
        CpuTimes { server: self.server.as_ref().and_then(Meter::read), generator: self.generator.read() }
    }
}

/// The measured part's share of the time since the first reading, as long as that leaves little to guess.
fn share(begin: Instant, end: Instant, read_at: Instant) -> Option<f64> {
    let since = end.saturating_duration_since(read_at);
    (since * 2 > end - begin).then(|| (end - begin).div_duration_f64(since))
}

impl CpuTimes {
    /// Of what was used since `begin`, the part of the measured time, which is `share` of the time since then.
    fn since(self, begin: Self, share: f64) -> Self {
        let used = |end: Option<Duration>, begin: Option<Duration>| Some(end?.checked_sub(begin?)?.mul_f64(share));
        Self { server: used(self.server, begin.server), generator: used(self.generator, begin.generator) }
    }
}

impl Watch {
    fn new(plan: &Plan, threads: usize, slice: Duration, meters: Meters) -> Self {
        let (begin, end) = (plan.warmup, plan.warmup + plan.duration);
        Self {
            threads,
            slice,
            begin,
            end,
            meters,
            cpu: CpuTimes::default(),
            partial: BTreeMap::new(),
            points: Vec::new(),
            second: None,
            second_slices: 0,
        }
    }

    /// Until the threads have ended and dropped their senders.
    fn run(&mut self, start: Instant, slices: &Receiver<Slice>, progress: &mut impl FnMut(&Point)) {
        let (begin, end) = (start + self.begin, start + self.end);
        let mut due = vec![end, begin - READ_EARLY];
        let mut read_at = begin;
        loop {
            let next = due.last().copied();
            let wait = next.map_or(self.slice, |next| next.saturating_duration_since(Instant::now()));
            let slice = slices.recv_timeout(wait);
            let has_ended = matches!(slice, Err(RecvTimeoutError::Disconnected));
            if let Ok(slice) = slice {
                self.add(&slice, progress);
            }
            if next.is_some_and(|next| has_ended || next <= Instant::now()) {
                let cpu = self.meters.read();
                if due.len() == 2 {
                    (self.cpu, read_at) = (cpu, Instant::now().max(start));
                } else {
                    let share = share(begin, end, read_at);
                    self.cpu = share.map_or_else(CpuTimes::default, |share| cpu.since(self.cpu, share));
                }
                due.pop();
            }
            if has_ended {
                if due.len() == 1 {
                    // Its begin was read too late.
                    self.cpu = CpuTimes::default();
                }
                return;
            }
        }
    }

    fn add(&mut self, slice: &Slice, progress: &mut impl FnMut(&Point)) {
        let (sum, threads) = self.partial.entry(slice.index).or_insert_with(|| {
            let mut empty = slice.latencies.clone();
            empty.reset();
            (empty, 0)
        });
        sum.add(&slice.latencies).expect("the same bounds");
        *threads += 1;
        if *threads < self.threads {
            return;
        }
        let Some((latencies, _)) = self.partial.remove(&slice.index) else { return };
        let at = self.slice * (slice.index as u32 + 1);
        self.points.push(point(&latencies, at, self.slice));
        match &mut self.second {
            Some(second) => second.add(&latencies).expect("the same bounds"),
            None => self.second = Some(latencies),
        }
        self.second_slices += 1;
        if self.slice * self.second_slices >= Duration::from_secs(1)
            && let Some(second) = self.second.take()
        {
            progress(&point(&second, at, self.slice * self.second_slices));
            self.second_slices = 0;
        }
    }
}

fn point(latencies: &Histogram<u32>, at: Duration, length: Duration) -> Point {
    Point {
        at_seconds: at.as_secs_f64(),
        rate: latencies.len() as f64 / length.as_secs_f64(),
        p50_ns: latencies.value_at_quantile(0.5),
        p99_ns: latencies.value_at_quantile(0.99),
        p999_ns: latencies.value_at_quantile(0.999),
        max_ns: latencies.max(),
    }
}

/// The server's process: as told, or as it says itself when it runs on this host (its age is compared).
fn find_process(plan: &Plan, target: &Target, info: &ServerInfo) -> Option<Meter> {
    if let Some(pid) = plan.pid {
        return Some(Meter::Process(pid));
    }
    let is_local = match target {
        Target::Unix(_) => true,
        Target::Tcp(address) => ["127.", "localhost:", "[::1]:"].iter().any(|local| address.starts_with(local)),
    };
    let (pid, age) = info.process.filter(|_| is_local)?;
    let is_same = age_seconds(pid).is_some_and(|other| other.abs_diff(age) <= AGE_TOLERANCE_SECONDS);
    is_same.then_some(Meter::Process(pid))
}

/// A CPU for each thread: as told, or the last ones.
fn place(plan: &Plan) -> Result<Vec<usize>, LoadError> {
    let given = if plan.cpus.is_empty() { last_cpus(plan.threads) } else { plan.cpus.clone() };
    topology::place_workers(&given, plan.threads as u16).map_err(|error| LoadError::Usage(error.to_string()))
}

fn last_cpus(threads: usize) -> Vec<usize> {
    topology::usable_cpus().into_iter().rev().take(threads).collect()
}

/// CPUs that the generator leaves free; all of them when that is none.
pub(super) fn cpus_beside(plan: &Plan) -> Vec<usize> {
    let taken = if plan.cpus.is_empty() { last_cpus(plan.threads) } else { plan.cpus.clone() };
    let usable = topology::usable_cpus();
    let free: Vec<usize> = usable.iter().copied().filter(|cpu| !taken.contains(cpu)).collect();
    if free.is_empty() { usable } else { free }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_that_of_the_measured_part() {
        let ms = Duration::from_millis;
        let begin = Instant::now() + ms(10);
        // The first reading, ms from the start: the share of the 100 ms that follow the first ten.
        for (read_at, expected) in
            [(9, Some(100.0 / 101.0)), (10, Some(1.0)), (30, Some(1.25)), (60, None), (200, None)]
        {
            let share = share(begin, begin + ms(100), begin + ms(read_at) - ms(10));
            assert_eq!(share.is_some(), expected.is_some(), "{read_at}");
            assert!((share.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-6, "{read_at}: {share:?}");
        }
        let times = |ns| CpuTimes { server: Some(Duration::from_nanos(ns)), generator: None };
        let used = times(5_000).since(times(1_000), 0.5);
        assert_eq!((used.server, used.generator), (Some(Duration::from_nanos(2_000)), None));
        assert!(times(1).since(times(2), 1.0).server.is_none());
    }
}
