//! The usual requests: for a command over keys that are here, from a client that wants its replies.
//!
//! In: a connection's batch. Out: replies in its output. What is the same for all of them is looked at once, so that
//! little lies between one request of a pipeline and the next. What must stay true: a request with anything unusual
//! about it, and those behind it, are left to [`serve`](super::serve), which decides as is decided here.

use crate::clock::Clock;
use crate::cluster::Map;
use crate::command::session::ReplyMode;
use crate::command::{self, Client, CommandId, Execute, Front, route};
use crate::config::Settings;
use crate::observe::slow::Stage;
use crate::observe::{Metric, WorkerMetrics};
use crate::protocol::resp::Reply;
use crate::protocol::{Args, Output, Requests};

use super::connection::Connection;
use super::gather::keep;
use super::hop::Caller;
use super::stages::Stages;
use super::{BATCH_REQUESTS, Core};

/// The clock of a command that is timed.
#[derive(Clone, Copy)]
pub(super) struct Timing {
    pub(super) start_ns: u64,
    /// How many calls this one stands for.
    pub(super) stands_for: u64,
}

/// What counts and times the commands that a worker runs.
#[derive(Clone, Copy)]
pub(super) struct Meter<'a> {
    pub(super) metrics: &'a WorkerMetrics,
    pub(super) stages: &'a Stages,
    pub(super) clock: &'a Clock,
}

impl Meter<'_> {
    /// Counts a command that begins, where it runs; starts the clock if this one is timed.
    #[inline]
    pub(super) fn begin(self, command: CommandId) -> Option<Timing> {
        let stands_for = self.metrics.command(command.0).begin(self.stages.masks[command.0 as usize])?;
        Some(Timing { start_ns: self.clock.mono_ns(), stands_for })
    }

    /// Counts what came of a command whose reply begins at `start`. How long it took, if it was timed; else 0.
    #[inline]
    pub(super) fn end(self, command: CommandId, timing: Option<Timing>, (output, start): (&Output, usize)) -> u64 {
        let mut elapsed_ns = 0;
        if let Some(Timing { start_ns, stands_for }) = timing {
            elapsed_ns = self.clock.mono_ns().saturating_sub(start_ns);
            self.metrics.command(command.0).add_time(elapsed_ns, stands_for);
        }
        if let Some((b'-', text)) = output.plain_from(start).split_first() {
            self.metrics.command(command.0).fail();
            self.metrics.add_error(text);
        }
        elapsed_ns
    }

    /// Whether a command that was timed took too long.
    #[inline]
    pub(super) fn is_slow(self, timing: Option<Timing>, elapsed_ns: u64) -> bool {
        timing.is_some() && elapsed_ns >= self.stages.slow_ns
    }
}

impl Connection {
    /// Whether its next request may be a usual one.
    #[inline]
    fn is_usual(&self) -> bool {
        let is_heard = self.session.is_authenticated && self.session.reply_mode == ReplyMode::On;
        self.session.front != Front::Http && is_heard
    }
}

/// The command of a usual request, what it runs on this worker with this map, and its arguments; `None` for any other.
#[inline]
fn usual<'a>(
    client: Client,
    (settings, map, worker): (&Settings, &Map, u16),
    args: Option<Args<'a>>,
    known: Option<u16>,
) -> Option<(CommandId, Execute, Args<'a>)> {
    let args = args?;
    let command = command::find(client, settings, args).ok()?;
    Some((command, route::here(command, args, known, map, (client.front, worker))?, args))
}

impl Core {
    /// Executes the requests of a batch from `first` on as long as they are usual ones; how many. The slots of their
    /// arguments 1 may be known.
    pub(super) fn execute_direct(
        &mut self,
        slot: usize,
        (batch, received): (&Requests, &[u8]),
        first: usize,
        slots: &[Option<u16>; BATCH_REQUESTS],
    ) -> usize {
        let connection = &mut self.connections[slot];
        if !connection.is_usual() || self.pause.is_active {
            return 0;
        }
        let version = connection.session.version;
        let (client, caller) = (connection.session.client(), Caller::of(&connection.session));
        let here = (&*self.settings, &*self.map, self.index);
        let request = |index: usize| (index < batch.len()).then(|| batch.get(index, received));
        let mut found = usual(client, here, request(first), slots[first]);
        if found.is_none() {
            return 0;
        }
        let limit = self.budget.output_limit(self.settings.output_soft_limit) as usize;
        let room = limit.saturating_sub(connection.output_bytes());
        // Behind replies that other workers owe, these have to wait for them.
        let is_next = connection.gather.is_empty();
        let mut output = std::mem::take(if is_next { &mut connection.output } else { connection.gather.local() });
        let (begin, output_max) = (output.len(), output.len().saturating_add(room));
        if output.capacity() == 0 {
            output = self.spare_output();
        }
        let (mut next, mut last, mut slow_ns) = (first, None, None);
        self.with_call(caller, |call, meter| {
            while output.len() <= output_max
                && slow_ns.is_none()
                && let Some((command, execute, args)) = found
            {
                let start = output.len();
                let timing = meter.begin(command);
                execute(call, args, &mut Reply { output: &mut output, version });
                let elapsed_ns = meter.end(command, timing, (&output, start));
                slow_ns = meter.is_slow(timing, elapsed_ns).then_some(elapsed_ns);
                (next, last) = (next + 1, Some(command));
                let here = (call.settings, call.map, call.worker);
                found = usual(client, here, request(next), slots.get(next).copied().flatten());
            }
        });
        let connection = &mut self.connections[slot];
        connection.is_over_limit |= output.len() > output_max;
        match is_next {
            true if output.is_empty() => keep(&mut self.spare_outputs, output),
            true => connection.output = output,
            false => connection.gather.push_local(output, begin),
        }
        let Some(last) = last else { return 0 };
        connection.requests_in_tick += (next - first) as u32;
        connection.session.last_command = Some(last);
        self.metrics.add(Metric::Commands, (next - first) as u64);
        if let Some(ns) = slow_ns {
            self.log_slow(Stage::Execute, ns, last, Some(batch.get(next - 1, received)), Some(slot));
        }
        next - first
    }
}
