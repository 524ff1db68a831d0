//! One core's loop: a thread pinned to a CPU, with its ring, its shard, its connections and its mail. Workers that have
//! a CPU together share its thread: a [`Crew`].
//!
//! In: completions from the ring, letters from other workers, the clock. Out: operations on the ring, letters. One turn
//! is a tick:
//!
//! ```text
//!  submit, spin or sleep → completions → connections that had to stop → mail → timers → shard upkeep
//!          ↑                                                                                  │
//!          └───────── wake sleeping workers ← post letters ← push operations (lifecycle) ←────┘
//! ```
//!
//! What must stay true: nothing in a tick blocks; the work per connection, per letter and per upkeep is bounded; with
//! one worker, nothing on the request path is an atomic read-modify-write (the metrics are plain loads and stores).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use slab::Slab;

use crate::clock::{Clock, Now};
use crate::cluster::Map;
use crate::command::Front;
use crate::command::table::Flags;
use crate::config::Settings;
use crate::instance::{Instance, Phase};
use crate::mailbox::Mailboxes;
use crate::observe::{Metric, WorkerMetrics};
use crate::protocol::{Limits, Output, Requests};
use crate::ring::{Completion, Fd, Ring, Wait};
use crate::shard::{Shard, ShardOptions};
use crate::topology;

mod budget;
mod census;
mod connection;
mod crew;
mod direct;
mod gather;
mod hop;
mod hot;
mod lifecycle;
mod monitor;
mod received;
mod sends;
mod serve;
mod slots;
pub mod spin;
mod stages;
mod timer;

pub use crew::Crew;
pub use hop::{MAILBOX_CAPACITY, Message};

use budget::Budget;
use connection::{Connection, TimeLimits};
use hop::Hops;
use hot::HotSampling;
use lifecycle::Listener;
use monitor::Watcher;
use sends::Sends;
use serve::{UNTIL_READ, Waiting};
use slots::Leftovers;
use spin::Spin;
use stages::Stages;
use timer::{Timed, TimerWheel};

/// Requests decoded together, so that their look-ups overlap.
const BATCH_REQUESTS: usize = 16;

/// Replies that one connection may await from other workers at first. They become more, up to `hop-replies`, after a
/// time in which all of them were small: large ones that arrive together would pass every limit at once.
const PENDING_MIN: usize = 32;

/// Input that a connection may have waiting before its receive is cancelled.
const HELD_INPUT_BYTES_MAX: usize = 64 * 1024;

/// Replies that wait for those of other workers, to be sent together: a send costs as much as several requests.
const HELD_OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// Emptied outputs kept for reuse, and the largest one kept.
const SPARE_OUTPUTS_MAX: usize = 128;
const SPARE_OUTPUT_BYTES_MAX: usize = 32 * 1024;

/// How long a half-closed connection waits for the peer's end.
const LINGER_NS: u64 = 1_000_000_000;

/// What a half-closed connection may still send while it waits; a well-behaved client has this much under way at most.
const LINGER_BYTES_MAX: usize = 4 << 20;

/// How long accepting pauses when descriptors have run out, unless one is closed before.
const ACCEPT_PAUSE_NS: u64 = 100_000_000;

/// How often the shard is looked after while nothing else happens.
const UPKEEP: Duration = Duration::from_millis(100);

/// How long draining lets clients take their replies before it closes them.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How often a draining worker looks whether the others are done.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// What a worker is made of.
pub struct Options<R> {
    /// Its number, from 0.
    pub index: u16,
    /// Its ring, made on the thread that will run the worker.
    pub ring: R,
    /// Its listening sockets, and what each is for; whoever made them closes them.
    pub listeners: Vec<(Fd, Front)>,
    /// A byte written to the other end of this socket wakes the worker.
    pub control: Option<Fd>,
    /// What all workers share.
    pub instance: Arc<Instance>,
    /// Its ends of the mailboxes.
    pub mailboxes: Mailboxes<Message>,
    /// Where the time comes from.
    pub clock: Clock,
    /// How its shard is made.
    pub shard: ShardOptions,
    /// Whether no other worker runs on its CPU: else it never spins.
    pub has_own_cpu: bool,
}

/// One core's loop.
#[derive(Debug)]
pub struct Worker<R: Ring> {
    ring: R,
    core: Core,
    /// Completions that carry bytes, to be handled together.
    received: Vec<Completion>,
}

/// Everything of a worker but its ring, so that a received buffer can be lent by the one and read by the other.
#[derive(Debug)]
struct Core {
    index: u16,
    workers: u16,
    instance: Arc<Instance>,
    /// This worker's row of the instance's.
    metrics: Arc<CachePadded<WorkerMetrics>>,
    map: Arc<Map>,
    settings: Arc<Settings>,
    settings_version: u64,
    limits: Limits,
    time_limits: TimeLimits,
    clock: Clock,
    now: Now,
    tick: u64,
    phase: Phase,
    /// When draining has lasted too long.
    drained_by_ns: u64,
    pause: Pause,
    shard: Shard,
    leftovers: Leftovers,
    /// The shard has more to do at once.
    is_upkeep_due: bool,
    connections: Slab<Connection>,
    /// Generation of the connection accepted last.
    generation: u32,
    listeners: Vec<Listener>,
    has_stopped_accepting: bool,
    control: Option<Fd>,
    is_control_armed: bool,
    hops: Hops,
    timers: TimerWheel,
    /// Connections whose state changed in this tick.
    dirty: Vec<u32>,
    /// Connections with requests that may be executed in the next tick.
    runnable: Vec<u32>,
    /// Rounds to be sent later.
    waiting: Vec<Waiting>,
    /// Connections stopped by `CLIENT PAUSE`.
    paused: Vec<Timed>,
    sends: Sends,
    spin: Spin,
    stages: Stages,
    hot: HotSampling,
    /// Somebody watches requests, here or on another worker.
    is_watched: bool,
    /// The connections of this worker that do.
    watchers: Vec<Watcher>,
    has_own_cpu: bool,
    /// Something follows the end of a send that was pushed in this tick.
    awaits_completion: bool,
    /// What the next tick's `enter` may do.
    wait: Wait,
    budget: Budget,
    descriptors_warning_ns: u64,
    // Scratch, empty between uses.
    batch: Option<Box<Requests>>,
    spare_outputs: Vec<Output>,
    due: Vec<Timed>,
}

/// What `CLIENT PAUSE` holds back at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pause {
    until_ms: u64,
    is_active: bool,
    is_for_all: bool,
}

impl Pause {
    /// Operators' commands are never held, so that a pause can be ended.
    fn holds(self, flags: Flags) -> bool {
        self.is_active && !flags.has(Flags::ADMIN) && (self.is_for_all || flags.has(Flags::WRITE))
    }
}

impl<R: Ring> Worker<R> {
    /// A worker before its first tick.
    ///
    /// # Errors
    /// When there is no address space for its shard.
    pub fn new(options: Options<R>) -> io::Result<Self> {
        let now = options.clock.now();
        let settings = options.instance.settings();
        options.mailboxes.register(options.ring.wake_address());
        let listener = |(fd, front)| Listener { fd, front, is_armed: false, resume_ns: 0 };
        let shard = new_shard(options.shard, &settings)?;
        let core = Core {
            index: options.index,
            workers: options.instance.workers,
            settings_version: options.instance.settings_version(),
            limits: Limits::new(&settings),
            time_limits: TimeLimits::new(&settings),
            spin: Spin::new(spin_max(&settings, options.has_own_cpu)),
            stages: Stages::new(&settings),
            hot: HotSampling::new(settings.hotkeys_sampling),
            is_watched: false,
            watchers: Vec::new(),
            has_own_cpu: options.has_own_cpu,
            awaits_completion: false,
            settings,
            map: options.instance.map(),
            metrics: Arc::clone(options.instance.metrics.worker(options.index)),
            instance: options.instance,
            clock: options.clock,
            now,
            tick: 0,
            phase: Phase::Running,
            drained_by_ns: u64::MAX,
            pause: Pause::default(),
            shard,
            leftovers: Leftovers::default(),
            is_upkeep_due: false,
            connections: Slab::new(),
            generation: 0,
            listeners: options.listeners.into_iter().map(listener).collect(),
            has_stopped_accepting: false,
            control: options.control,
            is_control_armed: false,
            hops: Hops::new(options.mailboxes),
            timers: TimerWheel::new(now.mono_ns),
            dirty: Vec::new(),
            runnable: Vec::new(),
            waiting: Vec::new(),
            paused: Vec::new(),
            sends: Sends::default(),
            wait: Wait::No,
            budget: Budget::new(options.shard.budget_bytes),
            descriptors_warning_ns: 0,
            batch: None,
            spare_outputs: Vec::new(),
            due: Vec::new(),
        };
        core.doubt_memory();
        let mut worker = Self { ring: options.ring, core, received: Vec::with_capacity(BATCH_REQUESTS) };
        worker.settle();
        Ok(worker)
    }

    /// Runs until the server has drained or is to stop.
    ///
    /// # Errors
    /// When the ring fails in a way that it cannot recover from.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_done() {
            self.tick()?;
        }
        Ok(())
    }

    /// Whether the phase asks for an end and nothing is left to do.
    pub fn is_done(&self) -> bool {
        let core = &self.core;
        // An accept that is still armed may bring a connection, which somebody has to close.
        let is_idle = core.connections.is_empty() && !core.listeners.iter().any(|listener| listener.is_armed);
        match core.phase {
            Phase::Running => false,
            // Other workers' clients may still need this shard.
            Phase::Draining => is_idle && core.instance.metrics.total(Metric::ConnectionsOpen) == 0,
            Phase::Stopping => is_idle,
        }
    }

    /// How long the next tick may sleep: what a simulation needs to know.
    pub fn wait(&self) -> Wait {
        self.core.wait
    }

    /// One turn of the loop, which begins with the sleep that the last one has decided on.
    ///
    /// # Errors
    /// When the ring fails in a way that it cannot recover from.
    pub fn tick(&mut self) -> io::Result<()> {
        self.turn(self.core.wait)?;
        self.choose_wait()
    }

    /// One turn on a thread that has other workers to run: it waits for nothing, and what it has pushed is submitted at
    /// once, since the others' turns come before its next.
    ///
    /// # Errors
    /// When the ring fails in a way that it cannot recover from.
    pub fn tick_in_company(&mut self) -> io::Result<()> {
        self.turn(Wait::No)?;
        self.core.wait = Wait::No;
        if self.ring.has_unsubmitted() { self.ring.enter(Wait::No) } else { Ok(()) }
    }

    fn turn(&mut self, wait: Wait) -> io::Result<()> {
        self.enter(wait)?;
        self.core.begin_tick();
        self.take_completions();
        self.core.run_runnable();
        self.core.read_mail();
        self.core.fire_timers();
        self.core.send_waiting();
        if !self.core.watchers.is_empty() {
            self.core.feed_watchers();
        }
        self.core.drop_leftovers();
        self.core.shard.set_budget(self.core.budget.items());
        self.core.is_upkeep_due = self.core.shard.maintain(self.core.now.unix_ms);
        self.populate_ahead();
        self.core.publish();
        self.core.awaits_completion = false;
        self.continue_sends();
        self.settle();
        self.post_mail();
        Ok(())
    }

    /// Submits, and sleeps as told.
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.ring.enter(wait)?;
        if self.core.wait != Wait::No {
            self.core.hops.mailboxes.wake();
        }
        Ok(())
    }

    /// Has the kernel make the pages ready that the shard will write next.
    fn populate_ahead(&mut self) {
        if let Some(advice) = self.core.shard.advise() {
            let token = crate::ring::Token::new(crate::ring::Kind::Advise, 0, 0);
            self.ring.push(token, crate::ring::Op::Advise(advice));
        }
    }

    fn post_mail(&mut self) {
        let Core { hops, stages, clock, now, .. } = &mut self.core;
        let posted = hops.post_all(|| stages.stamp_letter(clock, now.mono_ns));
        let metrics = &self.core.metrics;
        metrics.add(Metric::LettersSent, posted);
        for peer in self.core.hops.bells() {
            metrics.add(Metric::Wakes, 1);
            let token = crate::ring::Token::new(crate::ring::Kind::Wake, 0, 0);
            self.ring.push(token, crate::ring::Op::Wake { peer });
        }
    }

    /// Whether the next tick has something to do already.
    fn has_work(&mut self) -> bool {
        self.core.has_work() || self.ring.is_ready() || self.core.hops.mailboxes.has_mail()
    }

    /// Decides how the next tick begins: at once, after a successful spin, or asleep until the next deadline.
    fn choose_wait(&mut self) -> io::Result<()> {
        self.core.wait = Wait::No;
        if self.has_work() {
            return Ok(());
        }
        if self.core.awaits_completion || self.core.spin.budget_ns() > 0 {
            // Most sends are done as soon as they are submitted: no other tick for them.
            self.ring.enter(Wait::No)?;
            self.core.stages.collected(0);
            self.take_completions();
            if self.has_work() {
                return Ok(());
            }
        }
        let core = &mut self.core;
        if core.spin.budget_ns() > 0 {
            let (ring, mailboxes, clock) = (&mut self.ring, &mut core.hops.mailboxes, &core.clock);
            if core.spin.until(clock, || ring.is_ready() || mailboxes.has_mail()) {
                return Ok(());
            }
        }
        self.core.lie_down();
        Ok(())
    }

    /// Tells the others that it is not asleep.
    pub(super) fn get_up(&self) {
        self.core.hops.mailboxes.wake();
    }

    /// After a turn in company: how long the worker may sleep, of which the others are told; its next turn ends that.
    pub fn lie_down(&mut self) -> Wait {
        if !self.has_work() {
            self.core.lie_down();
        }
        self.core.wait
    }
}

impl Core {
    fn begin_tick(&mut self) {
        self.tick += 1;
        let before_ns = self.now.mono_ns;
        self.now = self.clock.now();
        let since_ns = self.now.mono_ns.saturating_sub(before_ns);
        if self.wait != Wait::No {
            self.spin.slept(since_ns);
        } else if since_ns >= self.stages.slow_ns {
            self.note_tick(since_ns);
        }
        self.stages.begin_turn(self.now.mono_ns);
        self.is_watched = self.instance.feed.is_watched();
        self.metrics.add(Metric::Ticks, 1);
        self.shard.begin(self.now.unix_ms);
        self.take_up_changes();
        if self.phase == Phase::Draining && self.now.mono_ns >= self.drained_by_ns {
            tracing::warn!("clients did not take their replies within {DRAIN_LIMIT:?}; closing them");
            self.instance.advance(Phase::Stopping);
        }
        let phase = self.instance.phase();
        if phase != self.phase {
            self.phase = phase;
            self.wind_down();
            self.hops.ring_all();
        }
    }

    /// Whether another worker or thread, or a client in this tick, has changed what all workers share.
    fn has_news(&self) -> bool {
        self.instance.phase() != self.phase || self.has_changes() || self.has_lines()
    }

    fn has_changes(&self) -> bool {
        self.instance.settings_version() != self.settings_version
            || self.instance.map_epoch() != self.map.epoch
            || self.instance.paused() != (self.pause.until_ms, self.pause.is_for_all)
    }

    /// Adopts changed settings, and the beginning or end of a pause; what is new is passed on to sleeping workers.
    fn take_up_changes(&mut self) {
        if self.has_changes() {
            self.hops.ring_all();
        }
        if self.instance.settings_version() != self.settings_version {
            self.adopt_settings();
        }
        self.take_up_map();
        let (until_ms, is_for_all) = self.instance.paused();
        self.pause = Pause { until_ms, is_active: until_ms > self.now.unix_ms, is_for_all };
        if !self.pause.is_active && !self.paused.is_empty() {
            self.end_pause();
        }
    }

    /// Warns of a `maxmemory` that cannot be what was meant. The first worker does so for all.
    fn doubt_memory(&self) {
        if self.index == 0 {
            self.budget.compare(self.shard.budget_max());
            let doubt = self.settings.memory_doubt(self.workers, topology::memory_bytes());
            doubt.into_iter().for_each(|doubt| tracing::warn!("{doubt}"));
        }
    }

    fn adopt_settings(&mut self) {
        self.settings_version = self.instance.settings_version();
        let maxmemory = self.settings.maxmemory;
        self.settings = self.instance.settings();
        self.limits = Limits::new(&self.settings);
        self.time_limits = TimeLimits::new(&self.settings);
        self.shard.set_policy(self.settings.maxmemory_policy);
        self.shard.set_large_value_bytes(self.settings.large_value_bytes as usize);
        let share = std::mem::replace(&mut self.budget.share, self.settings.worker_budget_bytes(self.workers));
        if self.budget.share != share {
            self.shard.resize(self.budget.share);
        }
        if self.settings.maxmemory != maxmemory {
            self.doubt_memory();
        }
        self.spin.set_max(spin_max(&self.settings, self.has_own_cpu));
        self.stages.adopt(&self.settings);
        self.hot = HotSampling::new(self.settings.hotkeys_sampling);
        // A new time-out applies to the connections that are there, and so does that there is no password any more.
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let connection = &mut self.connections[slot];
            connection.session.is_authenticated |= self.settings.requirepass.is_empty();
            connection.trace = connection.trace.take().filter(|_| self.stages.is_on());
            self.mark_dirty(slot);
        }
    }

    /// Lets the connections that `CLIENT PAUSE` had stopped go on.
    fn end_pause(&mut self) {
        for (slot, generation) in std::mem::take(&mut self.paused) {
            if let Some(connection) = self.connections.get_mut(slot as usize)
                && connection.generation == generation
            {
                connection.is_paused = false;
                self.mark_runnable(slot as usize);
            }
        }
    }

    /// Draining: everybody is answered and then closed. Stopping: everybody is closed.
    fn wind_down(&mut self) {
        self.drained_by_ns = self.now.mono_ns + DRAIN_LIMIT.as_nanos() as u64;
        let is_stopping = self.phase == Phase::Stopping;
        let slots: Vec<usize> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let connection = &mut self.connections[slot];
            if is_stopping {
                connection.abandon();
            } else {
                connection.is_draining = true;
            }
            self.mark_dirty(slot);
        }
    }

    /// Executes requests of connections that had to stop.
    fn run_runnable(&mut self) {
        let mut runnable = std::mem::take(&mut self.runnable);
        for slot in runnable.drain(..) {
            let slot = slot as usize;
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            connection.is_runnable = false;
            // What goes on here is not timed.
            connection.trace.iter_mut().for_each(|trace| trace.parse_ns = 0);
            connection.drop_empty_trace();
            if !connection.must_wait() {
                self.execute(slot, &[]);
            }
            self.mark_dirty(slot);
        }
        // What became runnable meanwhile waits for the next tick.
        if self.runnable.is_empty() {
            self.runnable = runnable;
        }
    }

    fn mark_dirty(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(slot as u32);
        }
    }

    fn mark_runnable(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        if !connection.is_runnable {
            connection.is_runnable = true;
            self.runnable.push(slot as u32);
        }
        self.mark_dirty(slot);
    }

    /// Whether the next tick has something to do already.
    fn has_work(&self) -> bool {
        // What has changed is taken up, and passed on, at the beginning of the next.
        self.has_news()
            || !self.runnable.is_empty()
            || !self.dirty.is_empty()
            || !self.sends.is_empty()
            || !self.hops.serving.is_empty()
            || self.is_upkeep_due
            || self.waiting.iter().any(|waiting| waiting.at_ms <= self.now.mono_ns / 1_000_000)
            || self.leftovers.is_searched()
    }

    /// Lets the others ring the bell from here on, unless something has come up.
    fn lie_down(&mut self) {
        if !self.hops.mailboxes.sleep() {
            return;
        }
        // What others changed while this worker was still awake rang no bell.
        if !self.has_news() {
            self.now.mono_ns = self.clock.mono_ns();
            self.wait = self.sleep();
        }
        if self.wait == Wait::No {
            self.hops.mailboxes.wake();
        }
    }

    /// Until when to sleep.
    fn sleep(&self) -> Wait {
        let mut nearest_ns = self.timers.next_ns().unwrap_or(u64::MAX);
        let mut within = |duration: Duration| {
            let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
            nearest_ns = nearest_ns.min(self.now.mono_ns.saturating_add(duration_ns));
        };
        if self.shard.stats().expires > 0 {
            within(UPKEEP);
        }
        let rounds = self.waiting.iter().map(|waiting| waiting.at_ms);
        if let Some(at_ms) = rounds.filter(|at_ms| *at_ms != UNTIL_READ).min() {
            within(Duration::from_nanos((at_ms * 1_000_000).saturating_sub(self.now.mono_ns).max(1)));
        }
        if self.phase != Phase::Running {
            within(DRAIN_POLL);
        }
        if !self.paused.is_empty() {
            within(Duration::from_millis(self.pause.until_ms.saturating_sub(self.now.unix_ms).max(1)));
        }
        let pausing = self.listeners.iter().filter(|listener| !listener.is_armed && self.phase == Phase::Running);
        if let Some(resume_ns) = pausing.map(|listener| listener.resume_ns).min() {
            within(Duration::from_nanos(resume_ns.saturating_sub(self.now.mono_ns).max(1)));
        }
        match nearest_ns {
            u64::MAX => Wait::Forever,
            nearest_ns if nearest_ns <= self.now.mono_ns => Wait::No,
            nearest_ns => Wait::For(Duration::from_nanos(nearest_ns - self.now.mono_ns)),
        }
    }

    /// Copies the shard's gauges to where INFO finds them, before any reply of this tick leaves.
    fn publish(&self) {
        let (stats, metrics) = (self.shard.stats(), &self.metrics);
        metrics.set(Metric::Keys, stats.keys);
        metrics.set(Metric::Expires, stats.expires);
        metrics.set(Metric::TtlMsMean, stats.ttl_ms_mean);
        metrics.set(Metric::Hits, stats.hits);
        metrics.set(Metric::Misses, stats.misses);
        let [half, same, double] = stats.simulated_misses;
        metrics.set(Metric::MissesHalf, half);
        metrics.set(Metric::MissesSame, same);
        metrics.set(Metric::MissesDouble, double);
        metrics.set(Metric::Expired, stats.expired);
        metrics.set(Metric::Evicted, stats.evicted);
        metrics.set(Metric::ShardBytes, stats.used_bytes);
        metrics.set(Metric::DatasetBytes, stats.dataset_bytes);
        metrics.set(Metric::BufferBytes, self.budget.held as u64);
        let used_bytes = stats.used_bytes + self.budget.held as u64;
        metrics.set(Metric::UsedBytesPeak, metrics.get(Metric::UsedBytesPeak).max(used_bytes));
    }
}

fn new_shard(options: ShardOptions, settings: &Settings) -> io::Result<Shard> {
    let mut shard = Shard::try_new(options).map_err(|error| {
        let what = "no address space is left for its shard; have fewer workers, or a higher limit (`ulimit -v`)";
        io::Error::new(error.kind(), format!("{what}: {error}"))
    })?;
    shard.set_large_value_bytes(settings.large_value_bytes as usize);
    Ok(shard)
}

fn spin_max(settings: &Settings, has_own_cpu: bool) -> Duration {
    if has_own_cpu { settings.spin } else { Duration::ZERO }
}
