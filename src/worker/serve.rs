//! From received bytes to replies: decode, decide where a request runs, run it or send it on.
//!
//! In: bytes of one connection, or a letter of another worker. Out: replies in the connection's output or the letter.
//! What must stay true: a connection's replies are in the order of its requests; the work for one connection in one
//! tick is bounded; nothing is lost when a connection has to stop in the middle of a pipeline.

use std::ops::Range;
use std::time::Duration;

use crate::clock::Clock;
use crate::command::arguments::Refusal;
use crate::command::session::{Front, ReplyMode};
use crate::command::slot::slot_of;
use crate::command::table::Spec;
use crate::command::{self, Call, ClientView, Clients, CommandId, Entrance, Fanout, Route, Run, Session, cluster};
use crate::observe::slow::Stage;
use crate::observe::{Metric, TIME_ALL, TIME_SOME};
use crate::protocol::resp::{Reply, Version};
use crate::protocol::{Args, Output, Requests};
use crate::shard::{KeyHash, LARGE_VALUE_BYTES};

use super::connection::{Connection, Held, State};
use super::direct::{Meter, Timing};
use super::gather::{Fan, FanStep, keep};
use super::hop::{Caller, Envelope, Letter, Message, WHOLE};
use super::{BATCH_REQUESTS, Core, LINGER_BYTES_MAX, PENDING_MIN};

/// The time of a round that is to be sent once its client has read enough.
pub(super) const UNTIL_READ: u64 = u64::MAX;

/// A round of a fan that is to be sent later.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Or [`UNTIL_READ`].
    pub(super) at_ms: u64,
    pub(super) slot: u32,
    generation: u32,
    sequence: u32,
    round: command::Round,
}

/// What follows from one request for those behind it.
enum Flow {
    /// The next one may be executed.
    Next,
    /// The next one must wait.
    Stop,
    /// This one must wait, and those behind it.
    Hold,
}

impl Core {
    /// Bytes have arrived on a connection.
    pub(super) fn receive(&mut self, slot: usize, bytes: &[u8], arrived_unix_ns: u64) {
        let metrics = &self.metrics;
        metrics.add(Metric::InputBytes, bytes.len() as u64);
        let connection = &mut self.connections[slot];
        if connection.state != State::Open {
            connection.discarded_bytes += bytes.len();
            if connection.discarded_bytes > LINGER_BYTES_MAX {
                connection.abandon();
                self.mark_dirty(slot);
            }
            return;
        }
        connection.active_ns = self.now.mono_ns;
        if connection.must_wait() || connection.held.is_some() || connection.is_runnable {
            connection.decoder.hold(bytes);
        } else if self.stages.is_on() {
            self.begin_batch(slot, arrived_unix_ns);
            self.execute(slot, bytes);
            self.end_batch(slot);
        } else {
            self.execute(slot, bytes);
        }
        let connection = &mut self.connections[slot];
        if connection.input_bytes() as u64 > self.settings.client_query_buffer_limit {
            connection.abandon();
        }
        self.mark_dirty(slot);
    }

    /// Executes what a connection has received, as far as it may go on in this tick.
    pub(super) fn execute(&mut self, slot: usize, mut input: &[u8]) {
        let connection = &mut self.connections[slot];
        let mut decoder = std::mem::take(&mut connection.decoder);
        let mut batch = self.batch.take().unwrap_or_default();
        let mut limits = self.limits;
        limits.body_room_bytes = self.budget.room().min(self.shard.room_bytes());
        if decoder.buffered_bytes() >= LARGE_VALUE_BYTES {
            // It may become an item now, whose bytes count as such.
            self.weigh(slot);
            self.shard.set_budget(self.budget.items());
        }
        let mut is_new = input.is_empty();
        let mut goes_on = self.execute_held(slot);
        while goes_on {
            let allowance = self.allowance(slot);
            if allowance == 0 {
                self.mark_runnable(slot);
                break;
            }
            limits.is_unauthenticated = !self.connections[slot].session.is_authenticated;
            let mark_ns = self.stages.mark(&self.clock);
            let decoded = decoder.decode(input, allowance.min(BATCH_REQUESTS), &limits, &mut batch);
            self.stages.add(&self.clock, mark_ns, true);
            input = &input[decoded.consumed..];
            is_new |= !batch.is_empty();
            let executed = self.execute_batch(slot, &batch, decoded.received);
            if executed < batch.len() {
                self.hold(slot, &batch, executed, decoded.received);
                goes_on = false;
            } else if let Some(error) = decoded.error {
                self.refuse(slot, format!("ERR {}", error.0).as_bytes());
                self.connections[slot].state = State::Flushing;
                goes_on = false;
            } else if decoded.is_last {
                self.connections[slot].state = State::Flushing;
                goes_on = false;
            } else {
                goes_on = decoded.is_full;
                if decoded.is_refused {
                    decoder.acknowledge_refusal();
                    self.answer(slot, |reply| Refusal::OutOfMemory.write(reply));
                }
                goes_on &= !self.connections[slot].must_wait();
            }
        }
        let connection = &mut self.connections[slot];
        if connection.state == State::Open && !input.is_empty() {
            decoder.hold(input);
        }
        connection.decoder = decoder;
        connection.note_request(is_new, self.now.mono_ns);
        batch.clear();
        self.batch = Some(batch);
        if self.connections[slot].decoder.announced_bytes() > 0 {
            self.make_room(slot);
        }
    }

    /// Room for a large argument is made while it arrives.
    fn make_room(&mut self, slot: usize) {
        self.weigh(slot);
        self.shard.set_budget(self.budget.items());
        self.is_upkeep_due |= self.shard.maintain(self.now.unix_ms);
    }

    /// How many more requests this connection may execute in this tick.
    #[inline]
    fn allowance(&mut self, slot: usize) -> usize {
        let connection = &mut self.connections[slot];
        if connection.tick != self.tick {
            connection.tick = self.tick;
            connection.requests_in_tick = 0;
        }
        self.settings.tick_requests.saturating_sub(connection.requests_in_tick) as usize
    }

    /// Executes the requests that had to wait; false when some must wait on.
    fn execute_held(&mut self, slot: usize) -> bool {
        while let Some(mut held) = self.connections[slot].held.take() {
            if held.next == held.requests.len() {
                break;
            }
            if self.allowance(slot) == 0 {
                self.connections[slot].held = Some(held);
                self.mark_runnable(slot);
                return false;
            }
            let flow = self.execute_one(slot, held.requests.get(held.next, &[]), None);
            held.next += usize::from(!matches!(flow, Flow::Hold));
            if held.next < held.requests.len() && self.connections[slot].state == State::Open {
                self.connections[slot].held = Some(held);
            }
            if !matches!(flow, Flow::Next) {
                return false;
            }
        }
        self.connections[slot].state == State::Open
    }

    /// Keeps the requests of a batch from `first` on for later.
    fn hold(&mut self, slot: usize, batch: &Requests, first: usize, received: &[u8]) {
        let connection = &mut self.connections[slot];
        if connection.state == State::Open {
            let held = connection.held.get_or_insert_with(Box::<Held>::default);
            (first..batch.len()).for_each(|index| held.requests.push_request(batch.get(index, received)));
        }
    }

    /// Executes a batch in order; returns how many requests are done with.
    fn execute_batch(&mut self, slot: usize, batch: &Requests, received: &[u8]) -> usize {
        if self.stages.is_on() {
            self.note_late(slot, batch, received);
        }
        if self.is_watched {
            self.show_requests(slot, batch, received);
        }
        if self.hot.every != 0 {
            self.sample_hot(slot, batch, received);
        }
        let mark_ns = self.stages.mark(&self.clock);
        let executed = self.execute_in_order(slot, batch, received);
        self.stages.add(&self.clock, mark_ns, false);
        executed
    }

    fn execute_in_order(&mut self, slot: usize, batch: &Requests, received: &[u8]) -> usize {
        let mut slots = [None; BATCH_REQUESTS];
        // Alone, a request's slot is found where it is needed.
        if batch.len() > 1 && self.workers > 1 && self.connections[slot].session.front != Front::RespCore {
            for (index, slot) in slots.iter_mut().enumerate().take(batch.len()) {
                let args = batch.get(index, received);
                *slot = (args.len() > 1).then(|| slot_of(args.get(1)));
            }
        }
        let is_own = |index: usize| slots[index].is_none_or(|slot| self.map.is_own(self.index, slot));
        self.prefetch(batch, 0..batch.len(), received, is_own);
        let mut index = 0;
        while index < batch.len() {
            index += self.execute_direct(slot, (batch, received), index, &slots);
            if index == batch.len() || self.connections[slot].must_wait() {
                break;
            }
            match self.execute_one(slot, batch.get(index, received), slots[index]) {
                Flow::Next => index += 1,
                Flow::Stop => return index + 1,
                Flow::Hold => return index,
            }
        }
        index
    }

    /// Brings what up to [`BATCH_REQUESTS`] requests will look up towards the processor before the first is executed.
    fn prefetch(&self, requests: &Requests, range: Range<usize>, received: &[u8], is_own: impl Fn(usize) -> bool) {
        if range.len() < 2 {
            return;
        }
        let mut hashes = [KeyHash(0); BATCH_REQUESTS];
        let mut count = 0;
        for index in range.take(BATCH_REQUESTS) {
            let args = requests.get(index, received);
            if args.len() > 1 && is_own(index) {
                hashes[count] = self.shard.hash(args.get(1));
                count += 1;
            }
        }
        self.shard.prefetch(&hashes[..count]);
    }

    /// Executes one request; the slot of its argument 1 may be known.
    fn execute_one(&mut self, slot: usize, args: Args<'_>, key_slot: Option<u16>) -> Flow {
        let connection = &mut self.connections[slot];
        connection.requests_in_tick += 1;
        let command = match command::find(connection.session.client(), &self.settings, args) {
            Ok(command) => command,
            Err(unfit) => {
                unfit.command.into_iter().for_each(|command| self.reject(command));
                self.refuse(slot, &unfit.text);
                return Flow::Next;
            }
        };
        let spec = command.spec();
        if let Err(text) = command::check(&connection.session, spec) {
            self.reject(command);
            self.refuse(slot, text.as_bytes());
            return Flow::Next;
        }
        if self.pause.holds(spec.flags) {
            connection.is_paused = true;
            self.paused.push((slot as u32, connection.generation));
            return Flow::Hold;
        }
        connection.session.last_command = Some(command);
        let (front, unix_ms) = (connection.session.front, self.now.unix_ms);
        let entrance = Entrance { map: &self.map, front, here: self.index, unix_ms };
        match command::route(command, spec, args, key_slot, entrance) {
            Route::Here => self.run_here(slot, command, spec, args),
            Route::Worker(to) => self.hop(slot, to, command, args),
            Route::Fanout(plan, round) => self.fan_out(slot, command, plan, &round),
            Route::Moved(key_slot) => {
                self.reject(command);
                let local = self.connections[slot].addresses.map(|(_, local)| local.ip());
                let text = cluster::moved(&self.map, key_slot, local);
                self.refuse(slot, text.as_bytes());
            }
            Route::CrossSlot => {
                self.reject(command);
                self.refuse(slot, cluster::CROSS_SLOT.as_bytes());
            }
        }
        let connection = &mut self.connections[slot];
        if connection.session.is_closing {
            connection.state = State::Flushing;
        }
        connection.is_over_limit |=
            connection.output_bytes() as u64 > self.budget.output_limit(self.settings.output_soft_limit);
        if connection.must_wait() { Flow::Stop } else { Flow::Next }
    }

    /// Runs a command on this worker and answers.
    fn run_here(&mut self, slot: usize, command: CommandId, spec: &Spec, args: Args<'_>) {
        let connection = &mut self.connections[slot];
        // When no other worker is awaited, the reply goes straight to its place.
        let is_direct = connection.gather.is_empty();
        let place = if is_direct { &mut connection.output } else { connection.gather.local() };
        let mut output = std::mem::take(place);
        if output.capacity() == 0 {
            output = self.spare_output();
        }
        let start = output.len();
        let timing = self.meter().begin(command);
        let connection = &mut self.connections[slot];
        if let Run::Session(converse) = spec.run {
            let mut session = std::mem::take(&mut connection.session);
            let (version, was_monitor) = (session.version, session.is_monitor);
            let caller = Caller::of(&session);
            self.with_call(caller, |call, _| {
                converse(call, &mut session, args, &mut Reply { output: &mut output, version });
            });
            let begins_to_watch = session.is_monitor && !was_monitor;
            self.connections[slot].session = session;
            if begins_to_watch {
                self.watch_requests(slot);
            }
        } else {
            let (version, caller) = (connection.session.version, Caller::of(&connection.session));
            self.run(spec, args, version, caller, &mut output);
        }
        self.metrics.add(Metric::Commands, 1);
        self.end(command, timing, (&output, start), args, Some(slot));
        let connection = &mut self.connections[slot];
        if mutes(&mut connection.session.reply_mode) {
            output.truncate(start);
        }
        if is_direct {
            connection.output = output;
        } else {
            connection.gather.push_local(output, start);
        }
        if matches!(spec.run, Run::Session(_)) && self.has_changes() {
            // The next request, which may be in hand already, sees what this one has changed.
            self.take_up_changes();
        }
    }

    /// Runs a command of the shard on this worker, whoever asked.
    fn run(&mut self, spec: &Spec, args: Args<'_>, version: Version, caller: Caller, output: &mut Output) {
        let execute = match spec.run {
            Run::Session(converse) => {
                // An HTTP request's command: there is no session that it could change.
                let mut session =
                    Session { front: caller.front, is_authenticated: true, version, ..Session::default() };
                return self.with_call(caller, |call, _| {
                    converse(call, &mut session, args, &mut Reply { output, version });
                });
            }
            run => run.execute(),
        };
        let Some(execute) = execute else { return };
        self.with_call(caller, |call, _| execute(call, args, &mut Reply { output, version }));
    }

    #[inline]
    pub(super) fn with_call(&mut self, caller: Caller, run: impl FnOnce(&mut Call<'_>, Meter<'_>)) {
        let connections = &mut self.connections;
        let clock = &self.clock;
        let meter = Meter { metrics: &self.metrics, stages: &self.stages, clock };
        let mut clients =
            WorkerClients { connections, clock, caller: caller.id, now_ns: self.now.mono_ns, killed: Vec::new() };
        let mut call = Call {
            shard: &mut self.shard,
            clients: &mut clients,
            instance: &self.instance,
            settings: &self.settings,
            map: &self.map,
            front: caller.front,
            worker: self.index,
            caller: caller.id,
            now: self.now,
        };
        run(&mut call, meter);
        if !clients.killed.is_empty() {
            clients.killed.into_iter().for_each(|slot| self.mark_dirty(slot));
        }
    }

    /// Answers a request that runs nothing.
    pub(super) fn answer(&mut self, slot: usize, write: impl FnOnce(&mut Reply<'_>)) {
        let mut output = self.spare_output();
        let connection = &mut self.connections[slot];
        write(&mut Reply { output: &mut output, version: connection.session.version });
        if !mutes(&mut connection.session.reply_mode) {
            if let Some((b'-', text)) = output.head().split_first() {
                self.metrics.add_error(text);
            }
            if connection.gather.is_empty() {
                connection.output.append(&output);
            } else {
                let mut local = std::mem::take(connection.gather.local());
                let start = local.len();
                local.append(&output);
                connection.gather.push_local(local, start);
            }
        }
        keep(&mut self.spare_outputs, output);
    }

    /// Answers with an error that is no command's, in the words of the client's protocol.
    pub(super) fn refuse(&mut self, slot: usize, text: &[u8]) {
        let front = self.connections[slot].session.front;
        self.answer(slot, |reply| front.write_error(text, reply.output));
    }

    /// Sends a request on to the worker that owns its key.
    fn hop(&mut self, slot: usize, to: u16, command: CommandId, args: Args<'_>) {
        let connection = &mut self.connections[slot];
        let is_muted = mutes(&mut connection.session.reply_mode);
        let envelope = Envelope {
            slot: slot as u32,
            generation: connection.generation,
            sequence: connection.gather.push_waiting(is_muted),
            part: WHOLE,
            command,
            version: connection.session.version,
            caller: Caller::of(&connection.session),
        };
        self.hops.send(to, envelope, args);
        let metrics = &self.metrics;
        metrics.add(Metric::HopsSent, 1);
        metrics.add(Metric::Commands, 1);
    }

    /// Begins a command over several workers.
    fn fan_out(&mut self, slot: usize, command: CommandId, plan: Box<Fanout>, round: &command::Round) {
        // What its parts take is not timed: they run on several workers at once.
        let _ = self.metrics.command(command.0).begin(TIME_SOME);
        let connection = &mut self.connections[slot];
        let fan = Fan::new(plan, connection.session.version);
        let is_muted = mutes(&mut connection.session.reply_mode);
        connection.is_sequential = fan.is_sequential();
        let sequence = connection.gather.push_fan(fan, is_muted);
        self.metrics.add(Metric::Commands, 1);
        self.send_round(slot, sequence, round);
    }

    /// Sends the parts of a round; those for this worker run at once.
    fn send_round(&mut self, slot: usize, sequence: u32, round: &command::Round) {
        let connection = &mut self.connections[slot];
        connection.gather.begin_round(sequence, round);
        let version = connection.gather.part_version(sequence);
        let (generation, caller) = (connection.generation, Caller::of(&connection.session));
        let mut local = Vec::new();
        for (index, (worker, command)) in round.parts.iter().enumerate() {
            let part = index as u32;
            if *worker == self.index {
                local.push(part);
                continue;
            }
            let envelope =
                Envelope { slot: slot as u32, generation, sequence, part, command: *command, version, caller };
            self.hops.send(*worker, envelope, round.requests.get(index, &[]));
            self.metrics.add(Metric::HopsSent, 1);
        }
        for part in local {
            let mut output = self.spare_output();
            let command = round.parts[part as usize].1;
            let args = round.requests.get(part as usize, &[]);
            let timing = self.begin_part(command);
            self.run(command.spec(), args, version, caller, &mut output);
            self.end_part(command, timing, args, Some(slot));
            let range = 0..output.len();
            self.fan_reply(slot, sequence, part, &output, range);
            keep(&mut self.spare_outputs, output);
        }
    }

    fn fan_reply(&mut self, slot: usize, sequence: u32, part: u32, letter: &Output, range: std::ops::Range<usize>) {
        let connection = &mut self.connections[slot];
        match connection.gather.fan_reply(sequence, part, letter, range, self.now.mono_ns / 1_000_000) {
            FanStep::Wait => {}
            FanStep::Send(round, None) => self.send_round(slot, sequence, &round),
            FanStep::Send(round, Some(at_ms)) => {
                let generation = connection.generation;
                connection.gather.release(&mut connection.output, &mut self.spare_outputs);
                let limit = self.budget.output_limit(self.settings.output_soft_limit);
                connection.is_over_limit |= connection.output_bytes() as u64 > limit;
                // Who reads too slowly is waited for.
                let at_ms = if connection.is_over_limit { UNTIL_READ } else { at_ms };
                self.waiting.push(Waiting { at_ms, slot: slot as u32, generation, sequence, round });
            }
            FanStep::Done { was_sequential } => {
                // One that began before the sequential one may end while that is under way.
                connection.is_sequential &= !was_sequential;
                connection.gather.release(&mut connection.output, &mut self.spare_outputs);
                self.resume(slot);
            }
        }
    }

    /// Sends the rounds whose time has come.
    pub(super) fn send_waiting(&mut self) {
        let now_ms = self.now.mono_ns / 1_000_000;
        let due = self.waiting.extract_if(.., |waiting| waiting.at_ms <= now_ms).collect::<Vec<_>>();
        for Waiting { slot, generation, sequence, round, .. } in due {
            let slot = slot as usize;
            let is_wanted =
                |connection: &Connection| connection.generation == generation && !connection.gather.is_empty();
            if self.connections.get(slot).is_some_and(is_wanted) {
                self.send_round(slot, sequence, &round);
                self.mark_dirty(slot);
            }
        }
    }

    /// Reads the mail: serves other workers' requests, at most `tick-hop-requests`, and hands out replies.
    pub(super) fn read_mail(&mut self) {
        while let Some((from, message)) = self.hops.mailboxes.receive() {
            match message {
                Message::Requests(letter) => {
                    // Its sender may go by a newer map than this worker does.
                    self.take_up_map();
                    self.hops.serving.push_back((from, letter));
                }
                Message::Replies(letter) => {
                    self.hand_out(&letter);
                    self.hops.recycle(from, letter);
                }
            }
        }
        let mut allowance = self.settings.tick_hop_requests as usize;
        while let Some((from, mut letter)) = self.hops.serving.pop_front() {
            if self.serve(&mut letter, &mut allowance) {
                self.hops.answer(from, letter);
            } else {
                self.hops.serving.push_front((from, letter));
                break;
            }
        }
    }

    /// Executes a letter's requests; false when the allowance ended before them.
    fn serve(&mut self, letter: &mut Letter, allowance: &mut usize) -> bool {
        let began_ns = if letter.is_sampled { self.clock.mono_ns() } else { 0 };
        let first = letter.ends.len();
        let last = letter.envelopes.len().min(first + *allowance);
        let mut index = first;
        while index < last {
            let batch = index..last.min(index + BATCH_REQUESTS);
            self.prefetch(&letter.requests, batch.clone(), &[], |_| true);
            while index < batch.end {
                let alike = self.serve_alike(letter, index..batch.end);
                if alike == 0 {
                    self.serve_one(letter, index);
                }
                index += alike.max(1);
            }
        }
        if letter.is_sampled {
            letter.served_ns = self.clock.mono_ns().saturating_sub(began_ns);
        }
        *allowance -= last - first;
        self.metrics.add(Metric::HopsServed, (last - first) as u64);
        last == letter.envelopes.len()
    }

    /// Executes a letter's requests as long as they are whole commands of one client; how many.
    fn serve_alike(&mut self, letter: &mut Letter, range: Range<usize>) -> usize {
        let caller = letter.envelopes[range.start].caller;
        let Letter { requests, envelopes, replies, ends, served_ns, .. } = letter;
        let (mut next, mut slow) = (range.start, None);
        self.with_call(caller, |call, meter| {
            while next < range.end && slow.is_none() {
                let Envelope { command, part, version, caller: other, .. } = envelopes[next];
                let Some(execute) = command.spec().run.execute().filter(|_| part == WHOLE && other == caller) else {
                    break;
                };
                let start = replies.len();
                let timing = meter.begin(command);
                execute(call, requests.get(next, &[]), &mut Reply { output: replies, version });
                let elapsed_ns = meter.end(command, timing, (replies, start));
                slow = meter.is_slow(timing, elapsed_ns).then_some((command, elapsed_ns));
                *served_ns += elapsed_ns;
                ends.push(replies.len());
                next += 1;
            }
        });
        if let Some((command, ns)) = slow {
            self.log_slow(Stage::Execute, ns, command, Some(letter.requests.get(next - 1, &[])), None);
        }
        next - range.start
    }

    /// Executes one request of a letter.
    fn serve_one(&mut self, letter: &mut Letter, index: usize) {
        let Envelope { command, part, version, caller, .. } = letter.envelopes[index];
        let args = letter.requests.get(index, &[]);
        let start = letter.replies.len();
        // A part of a command is counted with the whole, where that is asked for.
        let is_whole = part == WHOLE;
        let timing = if is_whole { self.meter().begin(command) } else { self.begin_part(command) };
        self.run(command.spec(), args, version, caller, &mut letter.replies);
        letter.served_ns += if is_whole {
            self.end(command, timing, (&letter.replies, start), args, None)
        } else {
            self.end_part(command, timing, args, None)
        };
        letter.ends.push(letter.replies.len());
    }

    /// Gives the replies of a letter to the connections that wait for them.
    fn hand_out(&mut self, letter: &Letter) {
        if letter.posted_ns != 0 && self.stages.is_on() {
            self.note_hop(letter);
        }
        let mut start = 0;
        for (index, (envelope, end)) in letter.envelopes.iter().zip(&letter.ends).enumerate() {
            let range = start..*end;
            start = *end;
            let slot = envelope.slot as usize;
            let is_wanted =
                |connection: &Connection| connection.generation == envelope.generation && !connection.gather.is_empty();
            let Some(connection) = self.connections.get_mut(slot).filter(|connection| is_wanted(connection)) else {
                continue;
            };
            if envelope.part != WHOLE {
                self.fan_reply(slot, envelope.sequence, envelope.part, &letter.replies, range);
                self.mark_dirty(slot);
                continue;
            }
            let (output, spares) = (&mut connection.output, &mut self.spare_outputs);
            connection.gather.resolve(envelope.sequence, &letter.replies, range, output, spares);
            // Once for all the replies that follow each other for one connection.
            let goes_on = |next: &Envelope| {
                (next.slot, next.generation, next.part) == (envelope.slot, envelope.generation, WHOLE)
            };
            if !letter.envelopes.get(index + 1).is_some_and(goes_on) {
                self.resume(slot);
                self.mark_dirty(slot);
            }
        }
    }

    /// Lets a connection go on that may have been waiting for replies, with more or fewer of them awaited at a time.
    fn resume(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        if connection.output_bytes() as u64 > self.budget.output_limit(self.settings.output_soft_limit) {
            connection.is_over_limit = true;
            connection.pending_max = PENDING_MIN;
        } else if connection.gather.is_empty() {
            connection.pending_max = (connection.pending_max * 2).min(self.settings.hop_replies as usize);
        }
        if connection.input_bytes() > 0 && !connection.must_wait() {
            self.mark_runnable(slot);
        }
    }

    fn meter(&self) -> Meter<'_> {
        Meter { metrics: &self.metrics, stages: &self.stages, clock: &self.clock }
    }

    /// [`Meter::end`], and what was slow is noted.
    #[inline]
    fn end(
        &self,
        command: CommandId,
        timing: Option<Timing>,
        reply: (&Output, usize),
        args: Args<'_>,
        slot: Option<usize>,
    ) -> u64 {
        let elapsed_ns = self.meter().end(command, timing, reply);
        if self.meter().is_slow(timing, elapsed_ns) {
            self.log_slow(Stage::Execute, elapsed_ns, command, Some(args), slot);
        }
        elapsed_ns
    }

    /// Starts the clock for a part of a command over several workers that may be slow.
    fn begin_part(&self, command: CommandId) -> Option<Timing> {
        let is_timed = self.stages.masks[command.0 as usize] == TIME_ALL;
        is_timed.then(|| Timing { start_ns: self.clock.mono_ns(), stands_for: 0 })
    }

    /// How long the part took, if it was timed; else 0.
    fn end_part(&self, command: CommandId, timing: Option<Timing>, args: Args<'_>, slot: Option<usize>) -> u64 {
        let Some(Timing { start_ns, .. }) = timing else { return 0 };
        let elapsed_ns = self.clock.mono_ns().saturating_sub(start_ns);
        if elapsed_ns >= self.stages.slow_ns {
            self.log_slow(Stage::Execute, elapsed_ns, command, Some(args), slot);
        }
        elapsed_ns
    }

    /// Counts a request that was refused before it ran.
    fn reject(&self, command: CommandId) {
        self.metrics.command(command.0).reject();
    }

    pub(super) fn spare_output(&mut self) -> Output {
        self.spare_outputs.pop().unwrap_or_default()
    }
}

/// Whether the reply being made is to be dropped; moves the mode on.
fn mutes(mode: &mut ReplyMode) -> bool {
    match mode {
        ReplyMode::On => false,
        ReplyMode::Off => true,
        ReplyMode::SkipNext => {
            *mode = ReplyMode::Skip;
            true
        }
        ReplyMode::Skip => {
            *mode = ReplyMode::On;
            true
        }
    }
}

/// The worker's clients as commands see them.
struct WorkerClients<'a> {
    connections: &'a mut slab::Slab<Connection>,
    clock: &'a Clock,
    caller: u64,
    now_ns: u64,
    /// Slots of clients that were killed: to be settled.
    killed: Vec<usize>,
}

impl WorkerClients<'_> {
    fn show<'a>(connection: &Connection, session: &'a Session, now_ns: u64) -> ClientView<'a> {
        let peer = connection.peer();
        let local = connection.addresses.map_or_else(|| peer.clone(), |(_, local)| local.to_string());
        ClientView {
            session,
            local_ip: connection.addresses.map(|(_, local)| local.ip()),
            is_local: connection.addresses.is_none_or(|(peer, _)| peer.ip().is_loopback()),
            peer,
            local,
            fd: connection.fd.0,
            age_ms: (now_ns - connection.connected_ns) / 1_000_000,
            idle_ms: (now_ns - connection.active_ns) / 1_000_000,
            input_bytes: connection.input_bytes(),
            output_bytes: connection.output_bytes(),
        }
    }
}

impl Clients for WorkerClients<'_> {
    fn view<'a>(&mut self, session: &'a Session) -> Option<ClientView<'a>> {
        // The session of a client that is being served is on loan, so the connection is the one without an id.
        let own = self.connections.iter().find(|(_, connection)| connection.is_admitted && connection.session.id == 0);
        own.map(|(_, connection)| Self::show(connection, session, self.now_ns))
    }

    fn for_each(&mut self, show: &mut dyn FnMut(&ClientView<'_>)) {
        for (_, connection) in self.connections.iter().filter(|(_, connection)| connection.is_admitted) {
            show(&Self::show(connection, &connection.session, self.now_ns));
        }
    }

    fn kill(&mut self, id: u64) -> bool {
        let of_id = |connection: &Connection| connection.is_admitted && connection.session.id == id;
        let Some((slot, connection)) = self.connections.iter_mut().find(|(_, connection)| of_id(connection)) else {
            return false;
        };
        if id == self.caller {
            // Its own reply is still to be sent.
            connection.session.is_closing = true;
        } else {
            connection.abandon();
        }
        self.killed.push(slot);
        true
    }

    fn stall(&mut self, duration: Duration) {
        self.clock.sleep(duration);
    }
}
