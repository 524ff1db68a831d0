//! Where a request's time goes: each stage's times of a sample of the requests, and the name of the stage that made a
//! request slow.
//!
//! In: the moments at which a connection's bytes arrived, were taken up, parsed, executed, answered, sent. Out:
//! histograms in the worker's metrics, entries of the slow log, latency events. With `stage-sampling` 0 nothing is
//! measured but the commands themselves, and nobody reads a clock for this.
//!
//! ```text
//!  arrival ─socket─> enter ─queue─> taken up ─parse─> execute ─output─> pushed ─send─> completed
//!                                                        └─hop─> another worker ─┘
//! ```
//!
//! One batch in `stage-sampling` is timed exactly. For the others the time of the tick will do, and one reading of the
//! clock in [`LOOKS_ONE_IN`]: whatever makes a request slow holds up many, and what was seen to be slow has the clock
//! read for all that follows in the same turn.

use std::cell::Cell;

use crate::clock::Clock;
use crate::command::{CommandId, Front, Run, table};
use crate::config::Settings;
use crate::observe::slow::{SlowEntry, Stage, shorten};
use crate::observe::{COMMANDS_MAX, TIME_ALL, TIME_SOME};
use crate::protocol::{Args, Requests};

use super::Core;
use super::connection::Connection;
use super::hop::{Envelope, Letter};

/// Below this threshold of the slow log every command is timed.
const TIMES_EACH_BELOW_NS: u64 = 1_000_000;

/// With a threshold of the slow log that every command passes, other stages than the command's must still take so long.
const STAGE_NS_MIN: u64 = 1_000_000;

/// Of the batches of a turn that are not timed, one in so many reads the clock to see whether it was held up.
const LOOKS_ONE_IN: u32 = 8;

/// A worker's sampling.
#[derive(Debug)]
pub(super) struct Stages {
    /// One batch in so many is timed; 0 for none.
    pub(super) every: u32,
    /// Batches until the next that is timed.
    countdown: u32,
    /// Letters to other workers until the next that is timed.
    letters_until: u32,
    /// Whatever takes longer is slow, nanoseconds.
    pub(super) slow_ns: u64,
    /// For each row of the command table which of its calls are timed.
    pub(super) masks: Box<[u64; COMMANDS_MAX]>,
    /// When the ring was last asked for completions; 0 until something is taken up, then that moment.
    collected_ns: u64,
    /// Batches until one that reads the clock though it is not timed.
    looks_in: u32,
    /// Something in this turn took long, and has held up what follows.
    is_slow: Cell<bool>,
    /// The batch in hand, if it is timed or was late.
    batch: Option<Batch>,
}

/// One connection's bytes that are being dealt with.
#[derive(Debug)]
struct Batch {
    /// Timed exactly.
    is_sampled: bool,
    /// The stage before it was taken up that was slow.
    late: Option<(Stage, u64)>,
    /// It ended a request at least.
    has_requests: bool,
    parse_ns: u64,
    execute_ns: u64,
}

/// What is remembered of a timed batch whose replies are on their way.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// When its replies were ready; 0 when there are none that wait.
    replied_ns: u64,
    /// When the send was pushed that has its replies; 0 when there is none.
    sent_ns: u64,
    /// What the bytes of a request have taken that has not arrived as a whole yet.
    pub(super) parse_ns: u64,
}

impl Stages {
    pub(super) fn new(settings: &Settings) -> Self {
        let masks = Box::new([TIME_SOME; COMMANDS_MAX]);
        let mut stages = Self {
            every: 0,
            countdown: 0,
            letters_until: 0,
            slow_ns: 0,
            masks,
            collected_ns: 0,
            looks_in: LOOKS_ONE_IN,
            is_slow: Cell::new(false),
            batch: None,
        };
        stages.adopt(settings);
        stages
    }

    /// Takes over changed settings.
    pub(super) fn adopt(&mut self, settings: &Settings) {
        self.every = settings.stage_sampling;
        (self.countdown, self.letters_until) = (0, 0);
        let log_ns = u64::try_from(settings.slowlog_log_slower_than).map_or(u64::MAX, |us| us.saturating_mul(1000));
        let event_ns = match settings.latency_monitor_threshold {
            0 => u64::MAX,
            ms => ms.saturating_mul(1_000_000),
        };
        self.slow_ns = log_ns.min(event_ns);
        for row in table::rows() {
            let spec = row.spec();
            // What may take long is always timed; what concerns keys takes no longer than its arguments are large.
            let may_be_slow = matches!(spec.run, Run::Session(_) | Run::Everywhere(..)) && spec.complexity != "O(1)";
            let times_all = may_be_slow || self.slow_ns < TIMES_EACH_BELOW_NS;
            self.masks[row.0 as usize] = if times_all { TIME_ALL } else { TIME_SOME };
        }
    }

    /// Whether anything is measured at all.
    pub(super) fn is_on(&self) -> bool {
        self.every != 0
    }

    /// Whether the kernel is to stamp what arrives for this connection: one in [`every`](Self::every), as a stamp makes
    /// a receive cost microseconds more.
    pub(super) fn wants_stamps(&self, slot: u32) -> bool {
        self.is_on() && (slot + 1).is_multiple_of(self.every)
    }

    /// A turn begins.
    pub(super) fn begin_turn(&mut self, now_ns: u64) {
        self.is_slow.set(false);
        self.collected(now_ns);
    }

    /// The ring has been asked for completions; `now_ns` 0 is the time at which the first is taken up.
    pub(super) fn collected(&mut self, now_ns: u64) {
        (self.collected_ns, self.looks_in) = (now_ns, LOOKS_ONE_IN - 1);
    }

    /// The time of what happens now: that of the turn's beginning unless something has taken long since.
    #[inline]
    pub(super) fn moment(&self, clock: &Clock, begun_ns: u64) -> u64 {
        if self.is_slow.get() { clock.mono_ns() } else { begun_ns }
    }

    /// Whether nothing is to be known of the next batch, which is the usual case.
    #[inline]
    fn skips(&mut self) -> bool {
        let skips = self.countdown > 0 && self.looks_in > 0 && self.collected_ns > 0 && !self.is_slow.get();
        if skips {
            (self.countdown, self.looks_in) = (self.countdown - 1, self.looks_in - 1);
        }
        skips
    }

    /// Whether the next batch is one in [`every`](Self::every).
    fn is_due(&mut self) -> bool {
        is_due(&mut self.countdown, self.every)
    }

    /// Whether a letter that is posted now is timed exactly, and the time; `None` when nothing is measured.
    pub(super) fn stamp_letter(&mut self, clock: &Clock, now_ns: u64) -> Option<(bool, u64)> {
        if !self.is_on() {
            return None;
        }
        let is_sampled = is_due(&mut self.letters_until, self.every);
        Some((is_sampled, if is_sampled { clock.mono_ns() } else { self.moment(clock, now_ns) }))
    }

    /// Reads the clock if the batch in hand is timed; else 0.
    pub(super) fn mark(&self, clock: &Clock) -> u64 {
        match self.batch {
            Some(Batch { is_sampled: true, .. }) => clock.mono_ns(),
            _ => 0,
        }
    }

    /// What began at `mark_ns` was parsing, or else executing.
    pub(super) fn add(&mut self, clock: &Clock, mark_ns: u64, is_parse: bool) {
        if mark_ns != 0
            && let Some(batch) = &mut self.batch
        {
            let elapsed_ns = clock.mono_ns().saturating_sub(mark_ns);
            *if is_parse { &mut batch.parse_ns } else { &mut batch.execute_ns } += elapsed_ns;
        }
    }
}

impl Connection {
    /// Nothing is remembered any more of a timed batch whose last trace is gone.
    pub(super) fn drop_empty_trace(&mut self) {
        self.trace.take_if(|trace| (trace.replied_ns, trace.sent_ns, trace.parse_ns) == (0, 0, 0));
    }
}

/// One in `every`, the first of them first.
fn is_due(until: &mut u32, every: u32) -> bool {
    let is_due = *until == 0;
    *until = if is_due { every - 1 } else { *until - 1 };
    is_due
}

impl Core {
    /// Bytes of a connection are taken up that arrived then (0: not known).
    #[inline]
    pub(super) fn begin_batch(&mut self, slot: usize, arrived_unix_ns: u64) {
        let connection = &self.connections[slot];
        // A request that is timed is timed to its end, and one that is not stays so: each counts once.
        let goes_on = connection.trace.is_some() || connection.decoder.buffered_bytes() > 0;
        if goes_on || arrived_unix_ns != 0 || !self.stages.skips() {
            self.note_batch(slot, arrived_unix_ns);
        }
    }

    #[inline(never)]
    fn note_batch(&mut self, slot: usize, arrived_unix_ns: u64) {
        let connection = &mut self.connections[slot];
        let parse_ns = connection.trace.as_mut().map_or(0, |trace| std::mem::take(&mut trace.parse_ns));
        let (is_begun, goes_on) = (connection.decoder.buffered_bytes() > 0, parse_ns != 0);
        let is_sampled = goes_on || (!is_begun && self.stages.is_due());
        let (socket_ns, queue_ns) = self.waited(is_sampled, arrived_unix_ns);
        let (stage, longer_ns) =
            if socket_ns > queue_ns { (Stage::Socket, socket_ns) } else { (Stage::Queue, queue_ns) };
        let late = (longer_ns >= self.stages.slow_ns).then_some((stage, longer_ns));
        if late.is_some() {
            self.stages.is_slow.set(true);
        }
        if is_sampled && !goes_on {
            self.record(Stage::Queue, queue_ns);
        }
        // One connection in `every` is stamped: of its requests each counts.
        if arrived_unix_ns != 0 && !is_begun {
            self.record(Stage::Socket, socket_ns);
        }
        if is_sampled || late.is_some() {
            self.stages.batch = Some(Batch { is_sampled, late, has_requests: false, parse_ns, execute_ns: 0 });
        }
    }

    /// How long what is taken up now waited in the socket, and then in the completion queue, nanoseconds.
    fn waited(&mut self, is_sampled: bool, arrived_unix_ns: u64) -> (u64, u64) {
        let stages = &mut self.stages;
        if stages.collected_ns == 0 {
            stages.collected_ns = self.clock.mono_ns();
        }
        // A stamp costs more than the clock does.
        if !is_sampled && arrived_unix_ns == 0 && stages.looks_in > 0 && !stages.is_slow.get() {
            stages.looks_in -= 1;
            return (0, 0);
        }
        stages.looks_in = LOOKS_ONE_IN - 1;
        let queued_ns = self.clock.mono_ns().saturating_sub(stages.collected_ns);
        if arrived_unix_ns == 0 {
            return (0, queued_ns);
        }
        let since_arrival_ns = (self.clock.now().unix_us * 1000).saturating_sub(arrived_unix_ns);
        let queue_ns = queued_ns.min(since_arrival_ns);
        (since_arrival_ns - queue_ns, queue_ns)
    }

    /// Says which request waited, now that it is known.
    pub(super) fn note_late(&mut self, slot: usize, requests: &Requests, received: &[u8]) {
        let Some(batch) = self.stages.batch.as_mut().filter(|_| !requests.is_empty()) else { return };
        batch.has_requests = true;
        if let Some((stage, ns)) = batch.late.take() {
            let args = requests.get(0, received);
            if let Ok(command) = crate::command::find(self.connections[slot].session.client(), &self.settings, args) {
                self.log_slow(stage, ns, command, Some(args), Some(slot));
            }
        }
    }

    /// The batch is dealt with.
    #[inline]
    pub(super) fn end_batch(&mut self, slot: usize) {
        if let Some(batch) = self.stages.batch.take().filter(|batch| batch.is_sampled) {
            self.end_timed(slot, &batch);
        }
    }

    #[inline(never)]
    fn end_timed(&mut self, slot: usize, batch: &Batch) {
        if !batch.has_requests {
            self.connections[slot].trace.get_or_insert_default().parse_ns = batch.parse_ns;
            return;
        }
        for (stage, ns) in [(Stage::Parse, batch.parse_ns), (Stage::Execute, batch.execute_ns)] {
            if ns > 0 {
                self.record(stage, ns);
            }
        }
        let connection = &self.connections[slot];
        let command = connection.session.last_command;
        if batch.parse_ns >= self.stages.slow_ns
            && let Some(command) = command
        {
            self.log_slow(Stage::Parse, batch.parse_ns, command, None, Some(slot));
        }
        if !self.connections[slot].output.is_empty() && self.connections[slot].gather.is_empty() {
            self.note_reply(slot);
        }
        self.connections[slot].drop_empty_trace();
    }

    /// Replies of a timed batch are ready to be sent.
    fn note_reply(&mut self, slot: usize) {
        let now_ns = self.clock.mono_ns();
        let trace = self.connections[slot].trace.get_or_insert_default();
        if trace.replied_ns == 0 {
            trace.replied_ns = now_ns;
        }
    }

    /// A connection is settled: if a send was pushed, its output is the kernel's now.
    #[inline]
    pub(super) fn note_push(&mut self, slot: usize) {
        // The time of its end counts.
        self.awaits_completion = true;
        if self.connections[slot].trace.is_some() {
            self.note_traced_push(slot);
        }
    }

    #[inline(never)]
    fn note_traced_push(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        // Replies that wait for an earlier send have not been pushed.
        let is_sending = connection.sending_bytes > 0 && connection.output.is_empty();
        let Some(trace) = &mut connection.trace else { return };
        if !is_sending || trace.sent_ns != 0 || trace.replied_ns == 0 {
            return;
        }
        trace.sent_ns = self.clock.mono_ns();
        let waited_ns = trace.sent_ns.saturating_sub(std::mem::take(&mut trace.replied_ns));
        self.record(Stage::Output, waited_ns);
        if waited_ns >= self.stages.slow_ns {
            self.log_last(Stage::Output, waited_ns, slot);
        }
    }

    /// The kernel has taken all of a connection's output.
    #[inline]
    pub(super) fn note_sent(&mut self, slot: usize) {
        let connection = &self.connections[slot];
        let took_ns = self.now.mono_ns.saturating_sub(connection.pushed_ns);
        if connection.trace.is_some() || took_ns >= self.stages.slow_ns {
            self.note_send(slot, took_ns);
        }
    }

    #[inline(never)]
    fn note_send(&mut self, slot: usize, mut took_ns: u64) {
        let connection = &mut self.connections[slot];
        if let Some(trace) = connection.trace.as_mut().filter(|trace| trace.sent_ns != 0) {
            took_ns = self.clock.mono_ns().saturating_sub(std::mem::take(&mut trace.sent_ns));
            connection.drop_empty_trace();
            self.record(Stage::Send, took_ns);
        }
        if took_ns >= self.stages.slow_ns {
            self.log_last(Stage::Send, took_ns, slot);
        }
    }

    /// A letter of ours has come back.
    pub(super) fn note_hop(&mut self, letter: &Letter) {
        let now_ns = if letter.is_sampled { self.clock.mono_ns() } else { self.now.mono_ns };
        let hop_ns = now_ns.saturating_sub(letter.posted_ns).saturating_sub(letter.served_ns);
        let Some(envelope) = letter.envelopes.first() else { return };
        if letter.is_sampled {
            self.record(Stage::Hop, hop_ns);
        }
        if hop_ns >= self.stages.slow_ns {
            let Envelope { slot, generation, command, .. } = *envelope;
            let slot = slot as usize;
            let is_there = self.connections.get(slot).is_some_and(|connection| connection.generation == generation);
            self.log_slow(Stage::Hop, hop_ns, command, Some(letter.requests.get(0, &[])), is_there.then_some(slot));
        }
    }

    fn record(&self, stage: Stage, ns: u64) {
        self.metrics.record_stage(stage, ns, u64::from(self.stages.every));
    }

    /// A turn of the loop took long: of interest when no single request did.
    pub(super) fn note_tick(&self, ns: u64) {
        self.note_event("tick", ns);
    }

    fn note_event(&self, event: &'static str, ns: u64) {
        let threshold_ms = self.settings.latency_monitor_threshold;
        let ms = ns / 1_000_000;
        if threshold_ms != 0 && ms >= threshold_ms {
            self.instance.slow.note(event, self.now.unix_ms / 1000, ms);
        }
    }

    fn log_last(&self, stage: Stage, ns: u64, slot: usize) {
        if let Some(command) = self.connections[slot].session.last_command {
            self.log_slow(stage, ns, command, None, Some(slot));
        }
    }

    /// A request was slow, in this stage. Its arguments and its client may not be known any more.
    #[cold]
    pub(super) fn log_slow(
        &self,
        stage: Stage,
        ns: u64,
        command: CommandId,
        args: Option<Args<'_>>,
        slot: Option<usize>,
    ) {
        self.stages.is_slow.set(true);
        let is_fast = command.spec().flags.has(table::Flags::FAST);
        let event = if stage == Stage::Execute && is_fast { "fast-command" } else { stage.event() };
        self.note_event(event, ns);
        let us = ns / 1000;
        if stage != Stage::Execute && ns < STAGE_NS_MIN {
            return;
        }
        let threshold_us = u64::try_from(self.settings.slowlog_log_slower_than);
        if threshold_us.is_err() || threshold_us.is_ok_and(|threshold| us < threshold) {
            return;
        }
        let connection = slot.map(|slot| &self.connections[slot]);
        let front = connection.map_or(Front::Resp, |connection| connection.session.front);
        let mut arguments = arguments(front, command, args);
        if stage != Stage::Execute {
            arguments.push(format!("(stage: {})", stage.name()).into_bytes());
        }
        let peer = connection.map_or_else(|| "?:0".to_owned(), Connection::peer);
        let name = connection.map(|connection| connection.session.name.to_vec()).unwrap_or_default();
        let unix_s = self.now.unix_ms / 1000;
        let entry = SlowEntry { id: 0, unix_s, us, arguments, peer, name, stage };
        self.instance.slow.push(entry, self.settings.slowlog_max_len as usize);
    }
}

/// A request as the slow log shows it: without passwords, and without what only its protocol could read.
pub(super) fn arguments(front: Front, command: CommandId, args: Option<Args<'_>>) -> Vec<Vec<u8>> {
    let name = command.full_name();
    let is_resp = matches!(front, Front::Resp | Front::RespCluster | Front::RespCore);
    let Some(args) = args.filter(|_| is_resp && !name.starts_with(' ')) else {
        return vec![name.trim_start().as_bytes().to_vec()];
    };
    let shown = match name {
        "auth" | "hello" => 1,
        "config|set" => 2,
        _ => return shorten(args.len(), args.iter()),
    };
    let mut kept = shorten(shown.min(args.len()), args.iter());
    if args.len() > shown {
        kept.push(b"(redacted)".to_vec());
    }
    kept
}
