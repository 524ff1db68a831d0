//! One thread of the generator: connections, a ring of its own, and the loop that sends and receives.
//!
//! In: connected sockets, and a [`Source`] of requests. Out: a [`Recorder`] with what was seen. What must stay true:
//! an arrival's latency counts from the time for which it was scheduled, however late it is sent; how much of that was
//! the generator's own doing is recorded beside it; a turn is short, so that replies are noticed soon.
//!
//! It stands on the same [`Ring`] as the server's workers: one multishot receive and at most one send per connection.
//!
//! The generator's own lateness: a request is late through the generator since it was due, or since the generator last
//! found nothing to do, whichever is later. At such a moment every arrival that was due and had a connection was on its
//! way; who waited on, waited for the server.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::LoadError;
use super::draw::{Arrivals, Draw, Request};
use super::items::{Items, VALUE_KEY};
use super::plan::{Operation, Plan, Waiting};
use super::recorder::Recorder;
use super::wire::{Asked, Encoder, Pending, Reader, keys_of};
use crate::command::slot::slot_of;
use crate::protocol::Output;
use crate::ring::uring::Options;
use crate::ring::{BufferId, Carried, Completion, Errno, Fd, Kind, Op, Ring, Token, Wait};

/// Connections that are written to between two looks at the ring: about 30 µs.
const SENDS_PER_TURN: usize = 16;

/// Arrivals that wait for a connection, remembered one by one; further ones are made up when there is room.
const BACKLOG_MAX: usize = 1 << 20;

/// Arrivals taken from the schedule between two looks at the ring: about 30 µs.
const ARRIVALS_PER_TURN: usize = 512;

/// How long replies are waited for after the last request.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// Requests per connection while the keys are written for the first time.
const POPULATE_PIPELINE: usize = 16;

/// Writes that wait for a connection, per node, while the keys are written for the first time.
const POPULATE_BACKLOG: usize = 1024;

/// A sleeper wakes up this much before the next arrival: the kernel's timers are late by their slack of 50 µs.
const WAKE_EARLY: Duration = Duration::from_micros(70);

/// Longest sleep, and the interval of the checks for silent servers.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Between two checks, anything longer is a pause of the generator's own, which is not the server's silence.
const PAUSE_NOTICED: Duration = Duration::from_millis(100);

/// Which node of a cluster serves each slot; empty when there is one node.
pub(super) type SlotMap = Vec<u16>;

/// Where requests come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Every key of this thread once, `step` apart.
    Populate {
        /// The next key.
        next: u64,
        /// Threads.
        step: u64,
        /// What is written.
        operation: Operation,
    },
    /// Each connection sends as soon as it has its replies.
    Closed,
    /// On a schedule.
    Open(Arrivals),
}

/// A request that waits for a connection.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    request: Request,
    due_ns: u64,
}

/// One server.
#[derive(Debug, Default)]
struct Node {
    /// Connections that may take a request.
    ready: VecDeque<u32>,
    backlog: VecDeque<Arrival>,
}

#[derive(Debug)]
struct Connection {
    socket: Socket,
    node: u16,
    pending: Pending,
    reader: Reader,
    /// To be sent next.
    output: Output,
    is_sending: bool,
    /// How much of the output in flight earlier sends have delivered.
    delivered: usize,
    is_ready: bool,
    /// When requests were last handed to the ring.
    sent_ns: u64,
    /// When bytes last arrived, or when it began to wait for some.
    progressed_ns: u64,
}

/// What an engine works with.
#[derive(Debug)]
pub(super) struct Setup<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Keys and values.
    pub items: &'a Items,
    /// Which thread this is.
    pub thread: usize,
    /// Sockets, each with the number of its node.
    pub sockets: Vec<(Socket, u16)>,
    /// Slots to nodes.
    pub slots: &'a SlotMap,
    /// Set when another thread has failed.
    pub stop: &'a AtomicBool,
    /// Where everything is recorded.
    pub recorder: Recorder,
}

/// One thread of the generator.
#[derive(Debug)]
pub(super) struct Engine<'a, R> {
    /// Dropped before the sockets that it uses.
    ring: R,
    connections: Vec<Connection>,
    nodes: Vec<Node>,
    slots: &'a SlotMap,
    /// Connections with output to be sent.
    dirty: Vec<u32>,
    plan: &'a Plan,
    items: &'a Items,
    encoder: Encoder,
    draw: Draw,
    keys: Vec<u32>,
    /// Requests that a connection may have unanswered.
    depth: usize,
    is_closed_loop: bool,
    start: Instant,
    /// When the generator last had nothing to do.
    idle_ns: u64,
    checked_ns: u64,
    answered: u64,
    stop: &'a AtomicBool,
    recorder: Recorder,
}

impl<'a, R: Ring> Engine<'a, R> {
    /// Takes connected sockets over, with a ring of this thread's.
    pub(super) fn new(setup: Setup<'a>, mut ring: R) -> Self {
        let Setup { plan, items, thread, sockets, slots, stop, recorder } = setup;
        let nodes = 1 + sockets.iter().map(|(_, node)| *node).max().unwrap_or(0);
        for (slot, (socket, _)) in sockets.iter().enumerate() {
            ring.push(
                Token::new(Kind::Recv, 0, slot as u32),
                Op::Recv { fd: Fd(socket.as_raw_fd()), is_multishot: true },
            );
        }
        let connections = sockets.into_iter().map(|(socket, node)| Connection {
            socket,
            node,
            pending: Pending::default(),
            reader: Reader::new(plan.protocol),
            output: Output::new(),
            is_sending: false,
            delivered: 0,
            is_ready: false,
            sent_ns: 0,
            progressed_ns: 0,
        });
        Self {
            ring,
            connections: connections.collect(),
            nodes: (0..nodes).map(|_| Node::default()).collect(),
            slots,
            dirty: Vec::new(),
            plan,
            items,
            encoder: Encoder::new(plan, items),
            draw: Draw::new(plan, thread as u64),
            keys: Vec::new(),
            depth: plan.pipeline,
            is_closed_loop: false,
            start: Instant::now(),
            idle_ns: 0,
            checked_ns: 0,
            answered: 0,
            stop,
            recorder,
        }
    }

    /// Writes every key that belongs to this thread.
    ///
    /// # Errors
    /// The server fails.
    pub(super) fn populate(&mut self, thread: usize, operation: Operation) -> Result<(), LoadError> {
        self.depth = self.plan.pipeline.max(POPULATE_PIPELINE);
        let source = Source::Populate { next: thread as u64, step: self.plan.threads as u64, operation };
        let result = self.run(source, u64::MAX);
        self.depth = self.plan.pipeline;
        result
    }

    /// Times count from `start` on, and are measured as `set` by the caller in the recorder.
    pub(super) fn begin(&mut self, start: Instant, set: impl FnOnce(&mut Recorder)) {
        self.start = start;
        (self.idle_ns, self.checked_ns) = (0, 0);
        self.connections.iter_mut().for_each(|connection| connection.progressed_ns = 0);
        set(&mut self.recorder);
    }

    /// Sends what `source` gives until `until_ns`, then waits for the replies.
    ///
    /// # Errors
    /// The server fails, or another thread has.
    pub(super) fn run(&mut self, mut source: Source, until_ns: u64) -> Result<(), LoadError> {
        self.is_closed_loop = matches!(source, Source::Closed);
        for index in 0..self.connections.len() {
            self.offer(index);
        }
        loop {
            let now_ns = self.now_ns();
            let has_ended = self.feed(&mut source, now_ns, until_ns);
            let sent = self.serve(&source, now_ns, has_ended);
            self.flush();
            self.enter(&source, now_ns)?;
            let looked_ns = self.now_ns();
            let completed = self.drain(looked_ns)?;
            if sent + completed == 0 {
                self.idle_ns = now_ns;
            } else {
                self.recorder.busy(now_ns, self.now_ns());
            }
            self.recorder.turn(looked_ns);
            if has_ended && self.is_done(&source, looked_ns, until_ns) {
                return Ok(());
            }
            if looked_ns >= self.checked_ns + CHECK_INTERVAL.as_nanos() as u64 {
                self.check(looked_ns)?;
            }
        }
    }

    /// How many connections it has.
    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// What was seen, and how many replies there were in all.
    pub(super) fn finish(self) -> (Recorder, u64) {
        (self.recorder, self.answered)
    }

    fn now_ns(&self) -> u64 {
        // Zero before a start that lies in the future.
        Instant::now().saturating_duration_since(self.start).as_nanos() as u64
    }

    /// Adds the arrivals that are due; whether none will follow.
    fn feed(&mut self, source: &mut Source, now_ns: u64, until_ns: u64) -> bool {
        match source {
            Source::Closed => now_ns >= until_ns,
            Source::Open(arrivals) => {
                for _ in 0..ARRIVALS_PER_TURN {
                    if arrivals.next_ns() > now_ns || arrivals.next_ns() >= until_ns {
                        break;
                    }
                    let request = self.draw.request();
                    let node = self.node_of(request.key);
                    if self.nodes[node].backlog.len() >= BACKLOG_MAX {
                        break;
                    }
                    self.nodes[node].backlog.push_back(Arrival { request, due_ns: arrivals.next_ns() });
                    arrivals.advance();
                }
                now_ns >= until_ns
            }
            Source::Populate { next, step, operation } => {
                while *next < self.items.keys {
                    let key = *next as u32;
                    let node = self.node_of(key);
                    if self.nodes[node].backlog.len() >= POPULATE_BACKLOG {
                        return false;
                    }
                    let request = Request { operation: *operation, key };
                    self.nodes[node].backlog.push_back(Arrival { request, due_ns: now_ns });
                    *next += *step;
                }
                true
            }
        }
    }

    /// Hands requests to connections that are ready; how many.
    fn serve(&mut self, source: &Source, now_ns: u64, has_ended: bool) -> usize {
        let mut sent = 0;
        for node in 0..self.nodes.len() {
            while self.dirty.len() < SENDS_PER_TURN {
                let is_wanted = if self.is_closed_loop { !has_ended } else { !self.nodes[node].backlog.is_empty() };
                let Some(index) = is_wanted.then(|| self.nodes[node].ready.pop_front()).flatten() else { break };
                let index = index as usize;
                self.connections[index].is_ready = false;
                if self.is_closed_loop {
                    for _ in 0..self.depth {
                        let request = self.draw_for(node);
                        self.ask(index, request, now_ns, now_ns);
                    }
                    sent += self.depth;
                } else if let Some(arrival) = self.nodes[node].backlog.pop_front() {
                    if matches!(source, Source::Open(_)) {
                        let since_ns = arrival.due_ns.max(self.idle_ns);
                        self.recorder.lateness(arrival.due_ns, now_ns.saturating_sub(since_ns));
                    }
                    self.ask(index, arrival.request, arrival.due_ns, now_ns);
                    sent += 1;
                    self.offer(index);
                }
            }
        }
        sent
    }

    /// A request whose key lies on `node`. Nodes get equal shares of a closed loop, as their connections do.
    fn draw_for(&mut self, node: usize) -> Request {
        loop {
            let request = self.draw.request();
            if self.node_of(request.key) == node {
                return request;
            }
        }
    }

    fn node_of(&self, key: u32) -> usize {
        if self.nodes.len() == 1 {
            return 0;
        }
        self.slots[slot_of(self.items.name(VALUE_KEY, key).as_bytes()) as usize] as usize
    }

    /// Writes a request into a connection's output.
    fn ask(&mut self, index: usize, request: Request, since_ns: u64, now_ns: u64) {
        let count = keys_of(request);
        self.keys.clear();
        self.keys.push(request.key);
        for _ in 1..count {
            let key = self.draw.key();
            self.keys.push(key);
        }
        let connection = &mut self.connections[index];
        if connection.pending.is_empty() {
            connection.progressed_ns = now_ns;
        }
        if connection.output.is_empty() {
            self.dirty.push(index as u32);
        }
        connection.pending.push(Asked { operation: request.operation, keys: count, since_ns }, &self.keys);
        self.encoder.encode(request.operation, &self.keys, self.items, &mut connection.output);
    }

    /// Makes a connection known as ready when it may take a request.
    fn offer(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let unanswered_max = if self.is_closed_loop { 1 } else { self.depth };
        if !connection.is_ready && connection.pending.len() < unanswered_max {
            connection.is_ready = true;
            self.nodes[connection.node as usize].ready.push_back(index as u32);
        }
    }

    fn flush(&mut self) {
        // Of a closed loop's latencies, making the requests is no part.
        let now_ns = if self.is_closed_loop && !self.dirty.is_empty() { self.now_ns() } else { 0 };
        while let Some(index) = self.dirty.pop() {
            let connection = &mut self.connections[index as usize];
            if !connection.is_sending {
                connection.is_sending = true;
                connection.sent_ns = now_ns;
                let output = std::mem::take(&mut connection.output);
                push_send(&mut self.ring, connection, index, output);
            }
        }
    }

    fn enter(&mut self, source: &Source, now_ns: u64) -> Result<(), LoadError> {
        let wait = match self.plan.waiting {
            Waiting::Spin => {
                if let Some(aside) = &self.plan.aside {
                    (aside.0)();
                }
                Wait::No
            }
            Waiting::Sleep => self.sleep(source, now_ns),
        };
        if wait == Wait::No && !self.ring.has_unsubmitted() && !self.ring.is_ready() {
            return Ok(());
        }
        self.ring.enter(wait).map_err(LoadError::Host)
    }

    /// Until the next arrival, unless there is something to send.
    fn sleep(&self, source: &Source, now_ns: u64) -> Wait {
        let is_waiting_for_server =
            self.nodes.iter().all(|node| node.ready.is_empty() || (!self.is_closed_loop && node.backlog.is_empty()));
        let limit = match source {
            Source::Open(arrivals) => Duration::from_nanos(arrivals.next_ns().saturating_sub(now_ns)),
            _ => CHECK_INTERVAL,
        };
        let limit = limit.min(CHECK_INTERVAL).saturating_sub(WAKE_EARLY);
        if is_waiting_for_server && !limit.is_zero() { Wait::For(limit) } else { Wait::No }
    }

    /// Handles what has completed; how many replies and sends.
    fn drain(&mut self, now_ns: u64) -> Result<usize, LoadError> {
        let mut completed = 0;
        while let Some(Completion { token, result, has_more, carried }) = self.ring.complete() {
            completed += 1;
            let index = token.slot() as usize;
            match (token.kind(), carried) {
                (Kind::Recv, Carried::Buffer(buffer)) => self.receive(index, buffer, now_ns)?,
                (Kind::Recv, _) => match result {
                    Ok(_) => return Err(self.closed(index)),
                    // The buffers were all taken for a moment.
                    Err(Errno(libc::ENOBUFS | libc::EAGAIN)) => {}
                    Err(errno) => return Err(self.lost(index, errno)),
                },
                (Kind::Send, Carried::Output(output)) => match result {
                    Ok(sent) => self.sent(index, output, sent as usize, now_ns),
                    Err(errno) => return Err(self.lost(index, errno)),
                },
                _ => {}
            }
            if token.kind() == Kind::Recv && !has_more {
                self.ring
                    .push(token, Op::Recv { fd: Fd(self.connections[index].socket.as_raw_fd()), is_multishot: true });
            }
        }
        Ok(completed)
    }

    fn receive(&mut self, index: usize, buffer: BufferId, now_ns: u64) -> Result<(), LoadError> {
        if buffer.len == 0 {
            self.ring.lend(buffer, |_| ());
            return Err(self.closed(index));
        }
        self.recorder.received(u64::from(buffer.len), now_ns);
        let connection = &mut self.connections[index];
        connection.progressed_ns = now_ns;
        let (recorder, answered, items) = (&mut self.recorder, &mut self.answered, self.items);
        let sent_ns = self.is_closed_loop.then_some(connection.sent_ns);
        let read = self.ring.lend(buffer, |bytes| {
            connection.reader.read(bytes, &mut connection.pending, items, |asked, reply| {
                *answered += 1;
                recorder.reply(sent_ns.unwrap_or(asked.since_ns), reply, now_ns);
            })
        });
        self.offer(index);
        read.map_err(|broken| LoadError::Broken(self.peer(index), broken.0))
    }

    /// A send has ended: the rest of it, or what was collected meanwhile, is next.
    fn sent(&mut self, index: usize, mut output: Output, sent: usize, now_ns: u64) {
        self.recorder.sent(sent as u64, now_ns);
        let connection = &mut self.connections[index];
        connection.delivered += sent;
        if connection.delivered < output.len() {
            return push_send(&mut self.ring, connection, index as u32, output);
        }
        connection.delivered = 0;
        output.clear();
        std::mem::swap(&mut connection.output, &mut output);
        connection.is_sending = !output.is_empty();
        if connection.is_sending {
            connection.sent_ns = now_ns;
            push_send(&mut self.ring, connection, index as u32, output);
        }
    }

    fn is_done(&mut self, source: &Source, now_ns: u64, until_ns: u64) -> bool {
        let is_answered = self.connections.iter().all(|connection| connection.pending.is_empty());
        let is_backlog_empty = self.nodes.iter().all(|node| node.backlog.is_empty());
        let is_schedule_done = match source {
            Source::Open(arrivals) => arrivals.next_ns() >= until_ns,
            _ => true,
        };
        if is_answered && is_backlog_empty && is_schedule_done {
            return true;
        }
        let is_over = until_ns != u64::MAX && now_ns >= until_ns + DRAIN_LIMIT.as_nanos() as u64;
        if is_over {
            self.give_up(source, now_ns, until_ns);
        }
        is_over
    }

    /// Records every request that has had no reply, with its latency so far.
    fn give_up(&mut self, source: &Source, now_ns: u64, until_ns: u64) {
        for connection in &self.connections {
            for asked in connection.pending.iter() {
                let since_ns = if self.is_closed_loop { connection.sent_ns } else { asked.since_ns };
                self.recorder.unfinished(since_ns, now_ns);
            }
        }
        let Source::Open(arrivals) = source else { return };
        let mut unsent = |due_ns: u64| {
            self.recorder.unfinished(due_ns, now_ns);
            self.recorder.lateness(due_ns, now_ns.saturating_sub(due_ns.max(self.idle_ns)));
        };
        self.nodes.iter().flat_map(|node| &node.backlog).for_each(|arrival| unsent(arrival.due_ns));
        let mut rest = arrivals.clone();
        while rest.next_ns() < until_ns {
            unsent(rest.next_ns());
            rest.advance();
        }
    }

    /// Has the server gone silent, or another thread failed?
    fn check(&mut self, now_ns: u64) -> Result<(), LoadError> {
        let paused_ns = now_ns.saturating_sub(self.checked_ns + PAUSE_NOTICED.as_nanos() as u64);
        self.checked_ns = now_ns;
        if paused_ns > 0 {
            // What was not looked for cannot have come.
            self.connections.iter_mut().for_each(|connection| connection.progressed_ns += paused_ns);
        }
        if self.stop.load(Ordering::Relaxed) {
            return Err(LoadError::Stopped);
        }
        let limit_ns = self.plan.timeout.as_nanos() as u64;
        let is_silent = |connection: &&Connection| {
            !connection.pending.is_empty() && now_ns.saturating_sub(connection.progressed_ns) > limit_ns
        };
        match self.connections.iter().filter(is_silent).count() {
            0 => Ok(()),
            silent => Err(LoadError::Silent { connections: silent, limit: self.plan.timeout }),
        }
    }

    fn peer(&self, index: usize) -> String {
        let address = self.connections[index].socket.peer_addr().ok();
        let address = address.and_then(|address| address.as_socket()).map(|address| address.to_string());
        address.or_else(|| self.plan.target.as_ref().map(ToString::to_string)).unwrap_or_default()
    }

    fn closed(&self, index: usize) -> LoadError {
        LoadError::Closed { peer: self.peer(index), answered: self.answered }
    }

    fn lost(&self, index: usize, errno: Errno) -> LoadError {
        LoadError::Lost { peer: self.peer(index), error: io::Error::from_raw_os_error(errno.0) }
    }
}

fn push_send(ring: &mut impl Ring, connection: &Connection, index: u32, output: Output) {
    let from = connection.delivered;
    let limit = output.len() - from;
    let fd = Fd(connection.socket.as_raw_fd());
    ring.push(Token::new(Kind::Send, 0, index), Op::Send { fd, output, from, limit });
}

/// A receive buffer per connection, larger ones for larger values, 16 MiB at most in all.
pub(super) fn ring_options(connections: usize, plan: &Plan) -> Options {
    let buffers = connections.next_power_of_two().clamp(64, 4096);
    let buffer_bytes = (16 << 20) / buffers;
    let wanted = plan.value_sizes.longest() as usize * plan.pipeline;
    Options {
        submissions: 256,
        completions: 4096,
        buffers: buffers as u16,
        buffer_bytes: wanted.next_multiple_of(4096).clamp(4096, buffer_bytes.min(128 << 10)) as u32,
    }
}
