//! From a connection's state to the operations that it needs: the one place where they are pushed.
//!
//! In: completions, deadlines, and the list of dirty connections. Out: operations on the ring. What must stay true: at
//! most one send is in flight per connection; a descriptor is closed only when nothing else is in flight on it; a slot
//! is free again only after that close has completed.

use crate::command::Front;
use crate::instance::Phase;
use crate::observe::Metric;
use crate::protocol::Output;
use crate::ring::{Carried, Completion, Errno, Fd, Kind, Op, Ring, Token};

use super::connection::{Connection, Receive, State};
use super::gather::keep;
use super::serve::UNTIL_READ;
use super::{ACCEPT_PAUSE_NS, Core, Worker};

/// A listening socket of this worker.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) fd: Fd,
    pub(super) front: Front,
    pub(super) is_armed: bool,
    /// Not to be armed before this time: descriptors had run out.
    pub(super) resume_ns: u64,
}

/// The cancellation of an accept, which belongs to no connection.
const CANCEL_ACCEPT: Token = Token::new(Kind::Cancel, 0, u32::MAX);

impl<R: Ring> Worker<R> {
    /// Handles one completion.
    pub(super) fn on_completion(&mut self, completion: Completion) {
        let token = completion.token;
        match token.kind() {
            Kind::Accept => self.on_accept(&completion),
            Kind::Control => self.on_control(completion),
            Kind::Wake => {}
            Kind::Advise => self.core.shard.advised(),
            Kind::Cancel if token == CANCEL_ACCEPT => {}
            Kind::Recv | Kind::Send | Kind::Cancel | Kind::Shutdown | Kind::Close => {
                let is_current = |connection: &Connection| connection.generation == token.generation();
                if !self.core.connections.get(token.slot() as usize).is_some_and(is_current) {
                    self.core.metrics.add(Metric::StaleCompletions, 1);
                    return self.discard(completion.carried);
                }
                self.on_connection(completion);
            }
        }
    }

    fn on_connection(&mut self, completion: Completion) {
        let slot = completion.token.slot() as usize;
        let connection = &mut self.core.connections[slot];
        if !completion.has_more {
            connection.in_flight -= 1;
        }
        match completion.token.kind() {
            Kind::Recv => self.on_received(slot, completion),
            Kind::Send => {
                self.core.on_sent(slot, completion);
                // The usual case: the reply is gone, and the next request has not come.
                if self.core.connections[slot].is_at_rest() {
                    return self.core.watch(slot);
                }
            }
            Kind::Close => {
                self.core.remove(slot);
                self.core.resume_accepting();
                return;
            }
            _ => {}
        }
        self.core.mark_dirty(slot);
    }

    fn on_received(&mut self, slot: usize, completion: Completion) {
        let connection = &mut self.core.connections[slot];
        if !completion.has_more {
            connection.receive = Receive::Idle;
        }
        match (completion.result, completion.carried) {
            (_, Carried::Buffer(buffer)) if buffer.len > 0 => {
                let arrived_unix_ns = buffer.arrived_unix_ns;
                self.ring.lend(buffer, |bytes| self.core.receive(slot, bytes, arrived_unix_ns));
            }
            (Ok(_), carried) => {
                connection.has_eof = true;
                self.discard(carried);
            }
            (Err(Errno(libc::ENOBUFS)), _) => self.core.metrics.add(Metric::BuffersExhausted, 1),
            (Err(Errno(libc::ECANCELED | libc::EINTR | libc::EAGAIN)), _) => {}
            (Err(_), carried) => {
                connection.abandon();
                self.discard(carried);
            }
        }
    }

    fn on_accept(&mut self, completion: &Completion) {
        let listener = &mut self.core.listeners[completion.token.slot() as usize];
        listener.is_armed &= completion.has_more;
        match completion.result {
            Ok(fd) => {
                let fd = Fd(fd as i32);
                let (front, addresses) = (listener.front, self.ring.addresses(fd));
                self.core.admit(fd, front, addresses);
            }
            Err(Errno(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) => {
                listener.resume_ns = self.core.now.mono_ns + ACCEPT_PAUSE_NS;
                self.core.warn_of_descriptors();
            }
            // The client went away before it was accepted, or accepting was cancelled.
            Err(_) => {}
        }
    }

    /// Another thread has written to the control socket: settings or phase may have changed, which every tick looks at;
    /// or somebody asks who is connected.
    fn on_control(&mut self, completion: Completion) {
        self.core.is_control_armed &= completion.has_more;
        self.discard(completion.carried);
        self.core.tell_clients();
    }

    /// Gives back what a completion carries and nobody wants.
    fn discard(&mut self, carried: Carried) {
        match carried {
            Carried::Buffer(buffer) => self.ring.lend(buffer, |_| {}),
            Carried::Output(_) | Carried::Nothing => {}
        }
    }

    /// Pushes what listeners, the control socket and every dirty connection need.
    pub(super) fn settle(&mut self) {
        let is_running = self.core.phase == Phase::Running;
        for (index, listener) in self.core.listeners.iter_mut().enumerate() {
            let token = Token::new(Kind::Accept, 0, index as u32);
            if is_running && !listener.is_armed && listener.resume_ns <= self.core.now.mono_ns {
                listener.is_armed = true;
                self.ring.push(token, Op::Accept { listener: listener.fd });
            } else if !is_running && listener.is_armed && !self.core.has_stopped_accepting {
                self.ring.push(CANCEL_ACCEPT, Op::Cancel { target: token });
            }
        }
        self.core.has_stopped_accepting |= !is_running;
        if let Some(fd) = self.core.control
            && !self.core.is_control_armed
        {
            self.core.is_control_armed = true;
            self.ring.push(Token::new(Kind::Control, 0, 0), Op::Recv { fd, is_multishot: true });
        }
        let mut dirty = std::mem::take(&mut self.core.dirty);
        for slot in dirty.drain(..) {
            self.settle_connection(slot as usize);
        }
        dirty.append(&mut self.core.dirty);
        self.core.dirty = dirty;
    }

    fn settle_connection(&mut self, slot: usize) {
        let Self { ring, core, .. } = self;
        let Some(connection) = core.connections.get_mut(slot) else { return };
        connection.is_dirty = false;
        connection.advance(core.now.mono_ns);
        let token = Token::new(Kind::Recv, connection.generation, slot as u32);
        let push = |ring: &mut R, connection: &mut Connection, kind: Kind, op: Op| {
            connection.in_flight += 1;
            ring.push(token.with_kind(kind), op);
        };
        let fd = connection.fd;
        match connection.state {
            State::Open | State::Flushing | State::Lingering => {
                if connection.sending_bytes == 0 && connection.has_output_to_send() {
                    let pushed_ns = core.stages.moment(&core.clock, core.now.mono_ns);
                    let output = connection.take_output(core.now.mono_ns, pushed_ns);
                    let limit = core.sends.begin(output.len(), core.settings.send_bytes, core.now.mono_ns);
                    push(ring, connection, Kind::Send, Op::Send { fd, output, from: 0, limit });
                }
                let wants_input = connection.wants_input();
                if wants_input && connection.receive == Receive::Idle {
                    connection.receive = Receive::Armed;
                    let receive = receive_op(ring, connection, core.stages.wants_stamps(slot as u32));
                    push(ring, connection, Kind::Recv, receive);
                } else if !wants_input && connection.receive == Receive::Armed {
                    connection.receive = Receive::Cancelling;
                    push(ring, connection, Kind::Cancel, Op::Cancel { target: token });
                }
                if connection.state == State::Lingering && !connection.is_shut {
                    connection.is_shut = true;
                    push(ring, connection, Kind::Shutdown, Op::Shutdown { fd, how: std::net::Shutdown::Write });
                }
                core.awaits_completion |=
                    connection.awaits_sent(core.sends.limit(core.settings.send_bytes, core.now.mono_ns));
            }
            State::Closing => {
                if !connection.is_cancelled {
                    connection.is_cancelled = true;
                    if connection.receive == Receive::Armed {
                        push(ring, connection, Kind::Cancel, Op::Cancel { target: token });
                    }
                    if connection.sending_bytes > 0 {
                        push(ring, connection, Kind::Cancel, Op::Cancel { target: token.with_kind(Kind::Send) });
                    }
                    push(ring, connection, Kind::Shutdown, Op::Shutdown { fd, how: std::net::Shutdown::Both });
                }
                if connection.in_flight == 0 {
                    connection.state = State::Closed;
                    push(ring, connection, Kind::Close, Op::Close { fd });
                }
            }
            State::Closed => {}
        }
        if core.stages.is_on() {
            core.note_push(slot);
        }
        core.watch(slot);
        core.account(slot);
    }
}

/// A receive, with the times of arrival where they are wanted and the kernel gives them.
fn receive_op<R: Ring>(ring: &R, connection: &Connection, wants_stamps: bool) -> Op {
    let (fd, is_multishot) = (connection.fd, connection.addresses.is_some());
    if is_multishot && wants_stamps && ring.stamp_arrivals(fd) {
        Op::RecvStamped { fd }
    } else {
        Op::Recv { fd, is_multishot }
    }
}

impl Connection {
    /// The replies, which are the kernel's from now on.
    #[inline]
    fn take_output(&mut self, now_ns: u64, pushed_ns: u64) -> Output {
        let output = std::mem::take(&mut self.output);
        (self.sending_bytes, self.sending_capacity) = (output.len(), output.capacity());
        (self.progress_ns, self.pushed_ns) = (now_ns, pushed_ns);
        output
    }

    /// Whether there are replies to be sent now. A pipeline's replies are written once, as long as they are short: they
    /// wait for those that other workers still owe.
    #[inline]
    fn has_output_to_send(&self) -> bool {
        !self.output.is_empty() && (self.gather.is_empty() || self.output.len() >= super::HELD_OUTPUT_BYTES_MAX)
    }

    /// Whether it only waits for the next request, so that there is nothing to settle.
    #[inline]
    fn is_at_rest(&self) -> bool {
        self.sending_bytes == 0 && self.rests_once_sent()
    }

    /// Whether it will only wait for the next request when the send in flight has ended.
    #[inline]
    fn rests_once_sent(&self) -> bool {
        let may_stay_open = !(self.session.is_closing || self.has_eof || self.is_draining);
        let has_answered = self.output.is_empty() && self.gather.is_empty();
        self.state == State::Open
            && may_stay_open
            && has_answered
            && self.wants_input()
            && self.receive == Receive::Armed
    }

    /// Whether something follows the end of the send in flight, which is noticed with whatever comes next otherwise.
    #[inline]
    fn awaits_sent(&self, limit: usize) -> bool {
        self.sending_bytes > limit || (self.sending_bytes > 0 && !self.rests_once_sent())
    }

    /// Moves on to the next state when the present one is done.
    fn advance(&mut self, now_ns: u64) {
        if self.state == State::Open && self.session.is_closing {
            self.state = State::Flushing;
        }
        // Over the limit, whole requests may be waiting in the decoder.
        let may_go_on = self.is_runnable || self.is_paused || self.is_over_limit;
        let is_idle = !may_go_on && self.held.is_none() && self.gather.is_empty();
        if self.state == State::Open && (self.has_eof || self.is_draining) && is_idle {
            self.state = State::Flushing;
        }
        if self.state == State::Flushing && self.has_answered() {
            // A refused client is not waited for, there may be very many; and a draining server is in a hurry.
            let lingers = self.is_admitted && !self.has_eof && !self.is_draining;
            self.state = if lingers { State::Lingering } else { State::Closing };
            self.progress_ns = now_ns;
        }
        if self.state == State::Lingering && self.has_eof {
            self.state = State::Closing;
        }
    }
}

impl Core {
    /// A connection was accepted: serve it, or refuse it when there are too many.
    fn admit(&mut self, fd: Fd, front: Front, addresses: Option<super::connection::Addresses>) {
        let generation = self.next_generation();
        let mut connection = Connection::new(fd, front, generation, addresses, self.now.mono_ns);
        let open = self.instance.metrics.total(Metric::ConnectionsOpen);
        let metrics = &self.metrics;
        metrics.add(Metric::ConnectionsAccepted, 1);
        if self.phase != Phase::Running {
            connection.abandon();
        } else if open >= u64::from(self.settings.maxclients) {
            metrics.add(Metric::ConnectionsRejected, 1);
            front.write_error(b"ERR max number of clients reached", &mut connection.output);
            connection.state = State::Flushing;
        } else {
            metrics.add(Metric::ConnectionsOpen, 1);
            connection.is_admitted = true;
            connection.session.id = self.instance.next_client_id();
            connection.session.is_authenticated = self.settings.requirepass.is_empty();
        }
        let slot = self.connections.insert(connection);
        self.mark_dirty(slot);
    }

    fn next_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1) & crate::ring::GENERATION_MASK;
        self.generation
    }

    #[inline]
    fn on_sent(&mut self, slot: usize, completion: Completion) {
        let connection = &mut self.connections[slot];
        let Carried::Output(output) = completion.carried else { return };
        match completion.result {
            Ok(sent) if sent > 0 => {
                self.metrics.add(Metric::OutputBytes, u64::from(sent));
                connection.sending_bytes -= sent as usize;
                connection.progress_ns = self.now.mono_ns;
            }
            Err(Errno(libc::EINTR | libc::EAGAIN)) => {}
            // Nothing could be sent, or the peer has gone.
            Ok(_) | Err(_) => {
                connection.sending_bytes = 0;
                connection.abandon();
            }
        }
        if connection.sending_bytes > 0 {
            let from = output.len() - connection.sending_bytes;
            self.sends.put_off((completion.token, output, from));
            return;
        }
        // What `weigh` would find.
        let released = std::mem::take(&mut connection.sending_capacity);
        connection.accounted.0 -= released;
        self.budget.held -= released;
        if self.stages.is_on() {
            self.note_sent(slot);
        }
        let connection = &mut self.connections[slot];
        let limit = self.budget.output_limit(self.settings.output_soft_limit);
        if connection.is_over_limit && connection.output_bytes() as u64 <= limit / 2 {
            connection.is_over_limit = false;
            let held = self.waiting.iter_mut().filter(|waiting| waiting.slot as usize == slot);
            held.filter(|waiting| waiting.at_ms == UNTIL_READ).for_each(|waiting| waiting.at_ms = 0);
            self.mark_runnable(slot);
        }
        keep(&mut self.spare_outputs, output);
    }

    fn remove(&mut self, slot: usize) {
        let connection = self.connections.remove(slot);
        self.waiting.retain(|waiting| waiting.slot as usize != slot);
        let (held, announced) = connection.accounted;
        self.budget.held -= held;
        self.budget.announced -= announced;
        if connection.is_admitted {
            let metrics = &self.metrics;
            metrics.set(Metric::ConnectionsOpen, metrics.get(Metric::ConnectionsOpen) - 1);
        }
    }

    /// A descriptor has become free: listeners that had to pause may go on.
    fn resume_accepting(&mut self) {
        self.listeners.iter_mut().for_each(|listener| listener.resume_ns = 0);
    }

    /// Descriptors have run out; said at most once a minute.
    fn warn_of_descriptors(&mut self) {
        if self.now.mono_ns >= self.descriptors_warning_ns {
            self.descriptors_warning_ns = self.now.mono_ns + 60_000_000_000;
            tracing::warn!(
                "accepting pauses: no descriptor is free; raise LimitNOFILE or `ulimit -n`, or lower maxclients"
            );
        }
    }

    /// Puts a connection that has a deadline into the timer wheel.
    #[inline]
    fn watch(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        // An earlier place is good enough: the deadline is looked at again then.
        let deadline_ns = connection.deadline_ns(&self.time_limits);
        if deadline_ns < connection.timed_ns.saturating_sub(super::timer::SPOKE_NS) {
            connection.timed_ns = self.timers.insert(deadline_ns, (slot as u32, connection.generation));
        }
    }

    /// Closes the connections whose deadline has passed.
    pub(super) fn fire_timers(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.timers.turn(self.now.mono_ns, &mut due);
        for (slot, generation) in due.drain(..) {
            let slot = slot as usize;
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            // A place that was given up for an earlier one comes round as well.
            if connection.generation != generation || connection.timed_ns > self.now.mono_ns {
                continue;
            }
            connection.timed_ns = u64::MAX;
            if connection.deadline_ns(&self.time_limits) <= self.now.mono_ns {
                if connection.sending_bytes > 0 {
                    self.metrics.add(Metric::OutputLimitClosed, 1);
                }
                let is_request_late = connection.request_deadline_ns(&self.time_limits) <= self.now.mono_ns;
                if connection.state == State::Open && is_request_late {
                    connection.state = State::Flushing;
                    self.refuse(slot, b"TIMEOUT the request did not arrive within http-request-timeout");
                } else {
                    connection.abandon();
                }
            }
            self.mark_dirty(slot);
        }
        self.due = due;
    }

    /// Keeps the gauge of connections' memory and closes a client whose output has grown beyond the hard limit.
    fn account(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        let is_closing = matches!(connection.state, State::Closing | State::Closed);
        if !is_closing && connection.output_bytes() as u64 > self.settings.output_hard_limit {
            self.metrics.add(Metric::OutputLimitClosed, 1);
            connection.abandon();
            self.mark_dirty(slot);
        }
        self.weigh(slot);
    }

    /// Brings the budget up to date with what a connection holds.
    #[inline]
    pub(super) fn weigh(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        let (held, announced) = connection.accounted;
        connection.accounted = (connection.memory_bytes(), connection.decoder.announced_bytes());
        self.budget.held = self.budget.held + connection.accounted.0 - held;
        self.budget.announced = self.budget.announced + connection.accounted.1 - announced;
    }
}
