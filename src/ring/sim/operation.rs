//! How operations make progress: step by step, as the kernel would, with the faults of the seed in between.
//!
//! In: the operations that rings hold, and the state of their sockets. Out: completions. An operation whose socket has
//! nothing for it waits; all others make one step at a time, in an order that the seed decides. The rules of the door
//! are asserted here: who breaks one panics with the token that did it.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash};
use std::sync::Arc;

use super::faults::{Faults, Random};
use super::network::{Connection, Descriptors, Receivable, Socket};
use super::{BufferId, Carried, Completion, Errno, Fd, Kind, Op, Token};
use crate::clock::SimulatedTime;
use crate::protocol::Output;
use crate::ring::uring::SEND_PIECES_MAX;

/// An operation that a ring holds.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) token: Token,
    pub(super) op: Op,
    /// Bytes that a send has moved.
    pub(super) sent: usize,
    /// It did not end in the call that submitted it.
    pub(super) has_waited: bool,
    /// Its next completion is its last.
    pub(super) is_last: bool,
    pub(super) is_cancelled: bool,
    /// Makes no step before this time.
    pub(super) resume_ns: u64,
}

/// A receive buffer.
#[derive(Debug)]
pub(super) enum Buffer {
    Free(Box<[u8]>),
    /// Named by a completion that was not lent yet.
    Filled(Box<[u8]>),
    /// Being read.
    Lent,
}

/// One ring of the simulation.
#[derive(Debug)]
pub(super) struct RingState {
    /// Pushed, not yet submitted.
    pub(super) queued: Vec<Pending>,
    /// Submitted, oldest first.
    pub(super) pending: Vec<Pending>,
    pub(super) completed: VecDeque<Completion>,
    /// Sends that ended whole in the call that submitted them: nobody is woken for their completions.
    pub(super) delivered: VecDeque<Completion>,
    pub(super) buffers: Vec<Buffer>,
    /// As [`Ring::in_flight`](super::Ring::in_flight) counts: until the last completion was taken.
    pub(super) in_flight: usize,
    /// Whether each token slot has a send in flight.
    pub(super) sends: Vec<bool>,
    pub(super) is_gone: bool,
}

/// Everything of a simulation.
#[derive(Debug)]
pub(super) struct State {
    pub(super) faults: Faults,
    pub(super) random: Random,
    pub(super) time: Arc<SimulatedTime>,
    pub(super) trace: DefaultHasher,
    pub(super) errors: BTreeMap<i32, u64>,
    pub(super) socket_bytes: usize,
    pub(super) is_unix: bool,
    pub(super) descriptors: Descriptors,
    pub(super) connections: Vec<Connection>,
    pub(super) rings: Vec<RingState>,
    /// What rings left behind when they were dropped.
    pub(super) left: Vec<String>,
}

impl State {
    pub(super) fn now_ns(&self) -> u64 {
        self.time.mono_ns()
    }

    pub(super) fn loses_bytes(&mut self) -> bool {
        self.random.chance(self.faults.reset_loses_bytes)
    }

    /// When the next step may be made: now, or later by a drawn delay.
    pub(super) fn resume_ns(&mut self) -> u64 {
        let is_delayed = self.random.chance(self.faults.delay);
        let delay_ns = if is_delayed { self.random.nanos_up_to(self.faults.delay_max) } else { 0 };
        self.now_ns() + delay_ns
    }

    fn connection_id(&mut self, fd: Fd) -> usize {
        match self.descriptors.get(fd) {
            Socket::Connection(id, _) => *id,
            Socket::Listener(_) => panic!("{fd:?} is a listener"),
        }
    }

    pub(super) fn connection(&mut self, fd: Fd) -> &mut Connection {
        let id = self.connection_id(fd);
        &mut self.connections[id]
    }

    /// From when on an operation can make a step; `None` while it waits for its peer.
    pub(super) fn due_ns(&mut self, ring: usize, index: usize) -> Option<u64> {
        let pending = &self.rings[ring].pending[index];
        let (resume_ns, is_cancelled) = (pending.resume_ns, pending.is_cancelled);
        let ready_ns = match pending.op {
            _ if is_cancelled => Some(0),
            Op::Accept { listener } => match self.descriptors.get(listener) {
                Socket::Listener(waiting) => (!waiting.is_empty()).then_some(0),
                Socket::Connection(..) => panic!("{listener:?} is no listener"),
            },
            Op::Recv { fd, .. } | Op::RecvStamped { fd } => {
                (self.connection(fd).receivable() != Receivable::Nothing).then_some(0)
            }
            Op::Send { fd, .. } => self.connection(fd).sendable_ns(),
            Op::Cancel { .. } | Op::Shutdown { .. } | Op::Close { .. } | Op::Wake { .. } | Op::Advise(_) => Some(0),
        };
        ready_ns.map(|ready_ns| ready_ns.max(resume_ns))
    }

    /// Whether a step can be made now, or a completion taken.
    pub(super) fn is_ready(&mut self, ring: usize) -> bool {
        self.wakes(ring) || !self.rings[ring].delivered.is_empty()
    }

    /// Whether a ring that waits would return.
    pub(super) fn wakes(&mut self, ring: usize) -> bool {
        let now_ns = self.now_ns();
        !self.rings[ring].completed.is_empty()
            || (0..self.rings[ring].pending.len())
                .any(|index| self.due_ns(ring, index).is_some_and(|due| due <= now_ns))
    }

    /// Hands over what was pushed; wake-ups go to the rings that they are for.
    pub(super) fn submit(&mut self, ring: usize) {
        for pending in std::mem::take(&mut self.rings[ring].queued) {
            let target = if let Op::Wake { peer } = pending.op { peer.0 as usize } else { ring };
            if !self.rings[target].is_gone {
                self.rings[target].pending.push(pending);
            }
        }
    }

    /// Makes steps until none can be made.
    pub(super) fn run(&mut self, ring: usize) {
        let now_ns = self.now_ns();
        let mut due = Vec::new();
        loop {
            due.clear();
            due.extend(
                (0..self.rings[ring].pending.len())
                    .filter(|index| self.due_ns(ring, *index).is_some_and(|due| due <= now_ns)),
            );
            if due.is_empty() {
                break;
            }
            let is_reordered = self.random.chance(self.faults.reorder);
            let index = due[if is_reordered { self.random.below(due.len()) } else { 0 }];
            let pending = self.rings[ring].pending.remove(index);
            if let Some(mut pending) = self.step(ring, pending) {
                pending.resume_ns = pending.resume_ns.max(self.resume_ns());
                // A step of another operation (a cancellation) may have shortened the list.
                let index = index.min(self.rings[ring].pending.len());
                self.rings[ring].pending.insert(index, pending);
            }
        }
        self.rings[ring].pending.iter_mut().for_each(|pending| pending.has_waited = true);
    }

    /// One step of an operation; gives it back when it goes on.
    fn step(&mut self, ring: usize, pending: Pending) -> Option<Pending> {
        match pending.op {
            Op::Accept { listener } => self.accept(ring, pending, listener),
            Op::Recv { fd, is_multishot } => self.receive(ring, pending, fd, is_multishot),
            Op::RecvStamped { fd } => self.receive(ring, pending, fd, true),
            Op::Send { fd, .. } => self.send(ring, pending, fd),
            Op::Cancel { target } => {
                let result = self.cancel(ring, target);
                self.finish(ring, pending, result)
            }
            Op::Shutdown { fd, how } => {
                let result = self.shutdown(fd, how);
                self.finish(ring, pending, result)
            }
            Op::Close { fd } => {
                self.close(pending.token, fd);
                self.finish(ring, pending, Ok(0))
            }
            Op::Wake { .. } | Op::Advise(_) => self.finish(ring, pending, Ok(0)),
        }
    }

    /// Posts the last completion of an operation.
    fn finish(&mut self, ring: usize, pending: Pending, result: Result<u32, Errno>) -> Option<Pending> {
        let carried = match pending.op {
            Op::Send { output, .. } => Carried::Output(output),
            _ => Carried::Nothing,
        };
        self.post(ring, Completion { token: pending.token, result, has_more: false, carried });
        None
    }

    fn post(&mut self, ring: usize, completion: Completion) {
        let Completion { token, result, has_more, .. } = &completion;
        (ring, token.user_data(), result.map_err(|errno| errno.0), has_more, self.now_ns()).hash(&mut self.trace);
        if let Err(Errno(errno)) = result {
            *self.errors.entry(*errno).or_default() += 1;
        }
        self.rings[ring].completed.push_back(completion);
    }

    /// Whether the kernel interrupts this step, and how.
    fn interruption(&mut self) -> Option<Errno> {
        if !self.random.chance(self.faults.interrupted) {
            return None;
        }
        Some(Errno(if self.random.chance(0.5) { libc::EINTR } else { libc::EAGAIN }))
    }

    fn accept(&mut self, ring: usize, mut pending: Pending, listener: Fd) -> Option<Pending> {
        if pending.is_cancelled {
            return self.finish(ring, pending, Err(Errno(libc::ECANCELED)));
        }
        if let Some(errno) = self.interruption() {
            return self.finish(ring, pending, Err(errno));
        }
        if self.random.chance(self.faults.descriptors_exhausted) {
            return self.finish(ring, pending, Err(Errno(libc::EMFILE)));
        }
        let Socket::Listener(waiting) = self.descriptors.get(listener) else { panic!("{listener:?} is no listener") };
        let id = waiting.pop_front().expect("a step is made only when a connection waits");
        let fd = self.descriptors.open(Socket::Connection(id, None));
        pending.is_last |= self.random.chance(self.faults.multishot_end);
        self.post_shot(ring, pending, fd.0 as u32, Carried::Nothing)
    }

    /// Posts a completion of a multishot operation, which stays armed unless this is the last one.
    fn post_shot(&mut self, ring: usize, pending: Pending, result: u32, carried: Carried) -> Option<Pending> {
        let has_more = !pending.is_last;
        self.post(ring, Completion { token: pending.token, result: Ok(result), has_more, carried });
        has_more.then_some(pending)
    }

    fn draw_reset(&mut self, fd: Fd) {
        if self.random.chance(self.faults.reset) {
            let loses_bytes = self.loses_bytes();
            self.connection(fd).reset(loses_bytes);
        }
    }

    fn receive(&mut self, ring: usize, mut pending: Pending, fd: Fd, is_multishot: bool) -> Option<Pending> {
        if pending.is_cancelled {
            return self.finish(ring, pending, Err(Errno(libc::ECANCELED)));
        }
        if let Some(errno) = self.interruption() {
            return self.finish(ring, pending, Err(errno));
        }
        self.draw_reset(fd);
        let available = match self.connection(fd).receivable() {
            Receivable::Bytes(available) => available,
            Receivable::Error(errno) => {
                self.connection(fd).error = None;
                return self.finish(ring, pending, Err(errno));
            }
            Receivable::End | Receivable::Nothing => return self.finish(ring, pending, Ok(0)),
        };
        let is_exhausted = self.random.chance(self.faults.buffers_exhausted);
        let free = self.rings[ring].buffers.iter().position(|buffer| matches!(buffer, Buffer::Free(_)));
        let Some(id) = free.filter(|_| !is_exhausted) else {
            return self.finish(ring, pending, Err(Errno(libc::ENOBUFS)));
        };
        let len = self.fill(ring, id, fd, available);
        pending.is_last |= !is_multishot || self.random.chance(self.faults.multishot_end);
        let buffer = BufferId::plain(id as u16, len as u32);
        self.post_shot(ring, pending, len as u32, Carried::Buffer(buffer))
    }

    /// Moves received bytes into a free buffer; returns how many.
    fn fill(&mut self, ring: usize, id: usize, fd: Fd, available: usize) -> usize {
        let Buffer::Free(mut memory) = std::mem::replace(&mut self.rings[ring].buffers[id], Buffer::Lent) else {
            panic!("buffer {id} is not free");
        };
        let mut len = available.min(memory.len());
        if self.random.chance(self.faults.short_receive) {
            len = 1 + self.random.below(len);
        }
        for (place, byte) in memory.iter_mut().zip(self.connection(fd).to_server.bytes.drain(..len)) {
            *place = byte;
        }
        memory[..len].hash(&mut self.trace);
        self.rings[ring].buffers[id] = Buffer::Filled(memory);
        len
    }

    fn send(&mut self, ring: usize, mut pending: Pending, fd: Fd) -> Option<Pending> {
        if pending.is_cancelled {
            return self.end_send(ring, pending, Errno(libc::ECANCELED));
        }
        if let Some(errno) = self.interruption() {
            return self.end_send(ring, pending, errno);
        }
        self.draw_reset(fd);
        let now_ns = self.now_ns();
        if self.random.chance(self.faults.stall) {
            let stalled_until_ns = now_ns + self.random.nanos_up_to(self.faults.stall_max);
            self.connection(fd).stalled_until_ns = stalled_until_ns;
            return Some(pending);
        }
        let connection = self.connection(fd);
        if connection.is_broken() {
            let errno = connection.error.take().unwrap_or(Errno(libc::EPIPE));
            return self.end_send(ring, pending, errno);
        }
        let room = if connection.is_client_closed { usize::MAX } else { connection.room() };
        let is_first = !pending.has_waited && pending.sent == 0;
        self.transmit(fd, room, &mut pending);
        let wanted = wanted_bytes(&pending.op);
        if is_first && pending.sent == wanted && is_for_one_send(&pending.op) {
            self.finish(ring, pending, Ok(wanted as u32));
            let completed = &mut self.rings[ring];
            completed.delivered.extend(completed.completed.pop_back());
            return None;
        }
        let is_short = pending.sent < wanted && self.random.chance(self.faults.short_send);
        if pending.sent == wanted || is_short {
            let sent = pending.sent as u32;
            return self.finish(ring, pending, Ok(sent));
        }
        Some(pending)
    }

    /// Moves the next bytes of a send to its client, at most `room`.
    fn transmit(&mut self, fd: Fd, room: usize, pending: &mut Pending) {
        let Op::Send { output, from, .. } = &pending.op else { return };
        let mut count = room.min(wanted_bytes(&pending.op) - pending.sent);
        if self.random.chance(self.faults.partial_send) {
            count = 1 + self.random.below(count);
        }
        let mut slices = Vec::new();
        let covered = output.io_slices(from + pending.sent, count, usize::MAX, &mut slices);
        assert_eq!(covered, count, "{:?} ends before its limit", pending.token);
        let loses_bytes = self.loses_bytes();
        for slice in &slices {
            slice.hash(&mut self.trace);
        }
        let connection = self.connection(fd);
        if connection.is_client_closed {
            // Nobody is there: the bytes leave, and the answer is a reset.
            connection.reset(loses_bytes);
        } else {
            slices.iter().for_each(|slice| connection.to_client.bytes.extend(slice.iter()));
        }
        pending.sent += count;
    }

    /// A send cannot go on: what it has moved counts, else the error.
    fn end_send(&mut self, ring: usize, pending: Pending, errno: Errno) -> Option<Pending> {
        let result = if pending.sent > 0 { Ok(pending.sent as u32) } else { Err(errno) };
        self.finish(ring, pending, result)
    }

    fn cancel(&mut self, ring: usize, target: Token) -> Result<u32, Errno> {
        let found = self.rings[ring].pending.iter().position(|pending| pending.token == target);
        let Some(index) = found else { return Err(Errno(libc::ENOENT)) };
        let now_ns = self.now_ns();
        if !self.random.chance(self.faults.late_cancel) {
            let pending = &mut self.rings[ring].pending[index];
            pending.is_cancelled = true;
            pending.resume_ns = now_ns;
            return Ok(0);
        }
        if self.due_ns(ring, index).is_some_and(|due| due <= now_ns) {
            // The target was about to end by itself.
            let mut pending = self.rings[ring].pending.remove(index);
            pending.is_last = true;
            let Some(pending) = self.step(ring, pending) else { return Err(Errno(libc::ENOENT)) };
            self.rings[ring].pending.insert(index, pending);
        }
        // It will end, but later.
        let resume_ns = self.resume_ns();
        let pending = &mut self.rings[ring].pending[index];
        pending.is_cancelled = true;
        pending.resume_ns = resume_ns;
        Err(Errno(libc::EALREADY))
    }

    fn shutdown(&mut self, fd: Fd, how: std::net::Shutdown) -> Result<u32, Errno> {
        let connection = self.connection(fd);
        if connection.is_reset {
            return Err(Errno(libc::ENOTCONN));
        }
        connection.is_shut |= how != std::net::Shutdown::Write;
        connection.to_client.has_ended |= how != std::net::Shutdown::Read;
        Ok(0)
    }

    fn close(&mut self, token: Token, fd: Fd) {
        let others = self.rings.iter().flat_map(|ring| ring.queued.iter().chain(&ring.pending));
        let others: Vec<Token> =
            others.filter(|other| descriptor(&other.op) == Some(fd)).map(|other| other.token).collect();
        assert!(others.is_empty(), "{token:?} closes {fd:?} while {others:?} are in flight");
        let loses_bytes = self.loses_bytes();
        self.connection(fd).close(loses_bytes);
        self.descriptors.close(fd);
    }

    /// Checks that an operation may be pushed, and by whom.
    pub(super) fn check(&mut self, ring: usize, token: Token, op: &Op) {
        if let Op::Send { output, from, limit, .. } = op {
            assert!(*from < output.len() && *limit > 0, "{token:?} sends nothing");
            let (sends, slot) = (&mut self.rings[ring].sends, token.slot() as usize);
            if sends.len() <= slot {
                sends.resize(slot + 1, false);
            }
            assert!(!std::mem::replace(&mut sends[slot], true), "{token:?}: one send at a time per connection");
        }
        if matches!(op, Op::Accept { .. } | Op::Recv { .. } | Op::RecvStamped { .. } | Op::Close { .. }) {
            let ring = &self.rings[ring];
            let is_armed = ring.queued.iter().chain(&ring.pending).any(|pending| pending.token == token);
            assert!(!is_armed, "{token:?} is in flight already");
        }
        let Some(fd) = descriptor(op) else { return };
        let identity = (token.generation(), token.slot());
        if let Socket::Connection(_, owner) = self.descriptors.get(fd) {
            let owner = owner.get_or_insert(identity);
            assert_eq!(*owner, identity, "{token:?} uses {fd:?}, which is another connection's");
        }
    }
}

/// The socket that an operation works on.
fn descriptor(op: &Op) -> Option<Fd> {
    match op {
        Op::Recv { fd, .. }
        | Op::RecvStamped { fd }
        | Op::Send { fd, .. }
        | Op::Shutdown { fd, .. }
        | Op::Close { fd } => Some(*fd),
        Op::Accept { .. } | Op::Cancel { .. } | Op::Wake { .. } | Op::Advise(_) => None,
    }
}

/// How many bytes a send is to move: as the kernel's ring, at most so many pieces at once.
fn wanted_bytes(op: &Op) -> usize {
    let Op::Send { output, from, limit, .. } = op else { return 0 };
    match output.as_plain() {
        Some(bytes) => bytes.len().min(from.saturating_add(*limit)) - from,
        None => covered_bytes(output, *from, *limit),
    }
}

/// Whether one send can carry all that is asked for.
fn is_for_one_send(op: &Op) -> bool {
    let Op::Send { output, from, limit, .. } = op else { return false };
    wanted_bytes(op) == output.len().min(from.saturating_add(*limit)) - from
}

fn covered_bytes(output: &Output, from: usize, limit: usize) -> usize {
    output.io_slices(from, limit, SEND_PIECES_MAX, &mut Vec::new())
}

impl RingState {
    /// What was not given back or finished, apart from operations on listeners and the control socket, which end with
    /// the ring.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let is_forgotten =
            |completion: &&Completion| completion.token.kind() == Kind::Accept && completion.result.is_ok();
        let forgotten = self.completed.iter().filter(is_forgotten).count();
        let is_ringwide = |kind| matches!(kind, Kind::Accept | Kind::Control | Kind::Wake | Kind::Cancel);
        let pending = self.queued.iter().chain(&self.pending).map(|pending| pending.token);
        let completed = self.completed.iter().chain(&self.delivered).map(|completion| completion.token);
        let tokens = pending.chain(completed);
        let mut left: Vec<String> =
            tokens.filter(|token| !is_ringwide(token.kind())).map(|token| format!("{token:?} is in flight")).collect();
        let filled = self.buffers.iter().filter(|buffer| !matches!(buffer, Buffer::Free(_))).count();
        let named = self.completed.iter().filter(|completion| matches!(completion.carried, Carried::Buffer(_))).count();
        if filled > named {
            left.push(format!("{} receive buffers were not given back", filled - named));
        }
        if forgotten > 0 {
            left.push(format!("{forgotten} accepted connections were forgotten"));
        }
        left
    }
}
