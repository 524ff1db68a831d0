//! One client's connection: its state, what was received and not yet executed, what is to be sent.
//!
//! A connection pushes no operation itself: whatever happens marks it dirty, and at the end of the tick
//! [`lifecycle`](super::lifecycle) looks at its state and pushes what is missing.

use std::net::SocketAddr;
use std::time::Duration;

use crate::command::{Front, Session};
use crate::config::Settings;
use crate::protocol::{Decoder, Output, Requests};
use crate::ring::Fd;

use super::gather::Gather;
use super::stages::Trace;

/// Where a connection is in its life.
///
/// ```text
///            QUIT, EOF, bad input, drain        all replies sent        peer's EOF, 1 s
///      Open ────────────────────────────> Flushing ─────────> Lingering ───────────────┐
///       │                                    │  peer's EOF seen before                 │
///       │ reset, killed, stalled, idle       └─────────────────────────────> Closing <─┘
///       └──────────────────────────────────────────────────────────────────>    │ nothing in flight
///                                                                             Closed ──> slot is free
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Receiving, executing, answering.
    Open,
    /// Executing nothing more; sending what is still owed.
    Flushing,
    /// Our half is shut; discarding input until the peer has seen the end, so that no reset overtakes our last reply.
    Lingering,
    /// Cancelling what is in flight.
    Closing,
    /// close(2) is in flight.
    Closed,
}

/// The multishot receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    /// Not armed.
    Idle,
    /// Armed in the kernel.
    Armed,
    /// Armed, and its cancellation is on the way.
    Cancelling,
}

/// Requests that were decoded but may not be executed yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) requests: Requests,
    pub(super) next: usize,
}

/// The peer's address and our own.
pub(super) type Addresses = (SocketAddr, SocketAddr);

/// How long a connection may take for what, nanoseconds; `u64::MAX` for as long as it likes.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLimits {
    /// To take some of its replies.
    pub(super) send_ns: u64,
    /// To ask for something.
    pub(super) idle_ns: u64,
    /// For a request that has begun to arrive.
    pub(super) request_ns: u64,
}

impl TimeLimits {
    pub(super) fn new(settings: &Settings) -> Self {
        let limit_ns = |limit: Duration| if limit.is_zero() { u64::MAX } else { limit.as_nanos() as u64 };
        Self {
            send_ns: limit_ns(settings.send_timeout),
            idle_ns: limit_ns(settings.timeout),
            request_ns: settings.http_request_timeout.as_nanos() as u64,
        }
    }
}

/// One client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) fd: Fd,
    pub(super) generation: u32,
    /// `None` for unix sockets.
    pub(super) addresses: Option<Addresses>,
    pub(super) state: State,
    pub(super) session: Session,
    /// Bytes received that are no whole request yet.
    pub(super) decoder: Decoder,
    /// Requests that wait for a sequential command, a pause, or room in the output.
    pub(super) held: Option<Box<Held>>,
    /// Replies for the next send.
    pub(super) output: Output,
    /// Replies that other workers still owe.
    pub(super) gather: Gather,
    pub(super) receive: Receive,
    /// Bytes of the send in flight that the peer has not taken yet; 0 when none is in flight.
    pub(super) sending_bytes: usize,
    /// Memory of the output in flight.
    pub(super) sending_capacity: usize,
    /// Operations that the ring holds for this connection.
    pub(super) in_flight: u8,
    /// A sequential command is under way: later requests wait.
    pub(super) is_sequential: bool,
    /// Replies that may be awaited from other workers at present.
    pub(super) pending_max: usize,
    /// The output was over its soft limit and is not yet below half of it.
    pub(super) is_over_limit: bool,
    /// The peer will send nothing more.
    pub(super) has_eof: bool,
    /// Counted as an open client (refused ones are not).
    pub(super) is_admitted: bool,
    /// The server is draining: to be closed once everything received is answered.
    pub(super) is_draining: bool,
    /// `CLIENT PAUSE` has stopped it.
    pub(super) is_paused: bool,
    /// shutdown(2) of our half was pushed.
    pub(super) is_shut: bool,
    /// What was in flight when closing began is being cancelled.
    pub(super) is_cancelled: bool,
    /// In the worker's list of connections to settle.
    pub(super) is_dirty: bool,
    /// In the worker's list of connections with requests to execute.
    pub(super) is_runnable: bool,
    /// When its place in the timer wheel comes round; `u64::MAX` when it has none.
    pub(super) timed_ns: u64,
    /// Tick of `requests_in_tick`.
    pub(super) tick: u64,
    /// Requests executed in that tick.
    pub(super) requests_in_tick: u32,
    pub(super) connected_ns: u64,
    /// When the last request came.
    pub(super) active_ns: u64,
    /// When the request began to arrive that has to arrive in time; `u64::MAX` when there is none.
    pub(super) request_ns: u64,
    /// When the output last made progress, or lingering began.
    pub(super) progress_ns: u64,
    /// When the output in flight was handed to the kernel.
    pub(super) pushed_ns: u64,
    /// Bytes received since it was last open, and thrown away.
    pub(super) discarded_bytes: usize,
    /// A timed batch's way to the client.
    pub(super) trace: Option<Box<Trace>>,
    /// What it holds and has announced, as last added to the worker's budget.
    pub(super) accounted: (usize, usize),
}

impl Connection {
    pub(super) fn new(fd: Fd, front: Front, generation: u32, addresses: Option<Addresses>, now_ns: u64) -> Self {
        Self {
            fd,
            generation,
            addresses,
            state: State::Open,
            session: Session { front, ..Session::default() },
            decoder: front.decoder(),
            held: None,
            output: Output::new(),
            gather: Gather::default(),
            receive: Receive::Idle,
            sending_bytes: 0,
            sending_capacity: 0,
            in_flight: 0,
            is_sequential: false,
            pending_max: super::PENDING_MIN,
            is_over_limit: false,
            has_eof: false,
            is_admitted: false,
            is_draining: false,
            is_paused: false,
            is_shut: false,
            is_cancelled: false,
            is_dirty: false,
            is_runnable: false,
            timed_ns: u64::MAX,
            tick: 0,
            requests_in_tick: 0,
            connected_ns: now_ns,
            active_ns: now_ns,
            request_ns: u64::MAX,
            progress_ns: now_ns,
            pushed_ns: now_ns,
            discarded_bytes: 0,
            trace: None,
            accounted: (0, 0),
        }
    }

    /// The peer's address as tools show it.
    pub(super) fn peer(&self) -> String {
        self.addresses.map_or_else(|| "unix:0".to_owned(), |(peer, _)| peer.to_string())
    }

    /// Bytes of replies that the peer has not taken yet.
    #[inline]
    pub(super) fn output_bytes(&self) -> usize {
        self.output.len() + self.sending_bytes + self.gather.ready_bytes()
    }

    /// Bytes and requests received and not executed yet.
    #[inline]
    pub(super) fn input_bytes(&self) -> usize {
        self.decoder.buffered_bytes() + self.held.as_ref().map_or(0, |held| held.requests.capacity())
    }

    /// Memory that the connection holds; spliced values are the shard's.
    #[inline]
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.input_bytes()
            + self.output.capacity()
            + self.sending_capacity
            + self.gather.held_bytes()
    }

    /// Whether no further request may be executed for now.
    #[inline]
    pub(super) fn must_wait(&self) -> bool {
        self.state != State::Open
            || self.is_sequential
            || self.is_paused
            || self.is_over_limit
            || self.gather.len() >= self.pending_max
    }

    /// Takes note of a request that is arriving, now that those before it are dealt with.
    #[inline]
    pub(super) fn note_request(&mut self, is_new: bool, now_ns: u64) {
        self.request_ns = match self.decoder.is_in_haste() {
            true if is_new || self.request_ns == u64::MAX => now_ns,
            true => self.request_ns,
            false => u64::MAX,
        };
    }

    /// When the request that is arriving is given up, if it is for the client to go on: each KiB buys a second.
    /// `u64::MAX` for never.
    #[inline]
    pub(super) fn request_deadline_ns(&self, limits: &TimeLimits) -> u64 {
        let is_awaited = self.request_ns != u64::MAX && !self.must_wait() && !self.is_runnable && self.held.is_none();
        if !is_awaited {
            return u64::MAX;
        }
        let bought_ns = self.decoder.buffered_bytes() as u64 * 1_000_000;
        self.request_ns.saturating_add(limits.request_ns).saturating_add(bought_ns)
    }

    /// When the connection is to be closed unless something happens before; `u64::MAX` for never.
    #[inline]
    pub(super) fn deadline_ns(&self, limits: &TimeLimits) -> u64 {
        match self.state {
            State::Open | State::Flushing if self.sending_bytes > 0 => self.progress_ns.saturating_add(limits.send_ns),
            State::Open if self.is_admitted => {
                self.active_ns.saturating_add(limits.idle_ns).min(self.request_deadline_ns(limits))
            }
            State::Lingering => self.progress_ns + super::LINGER_NS,
            State::Open | State::Flushing | State::Closing | State::Closed => u64::MAX,
        }
    }

    /// Whether bytes should be received.
    #[inline]
    pub(super) fn wants_input(&self) -> bool {
        match self.state {
            State::Open => {
                let has_to_wait = self.must_wait() || self.is_runnable;
                let is_backed_up = has_to_wait && self.input_bytes() > super::HELD_INPUT_BYTES_MAX;
                !self.has_eof && !self.is_over_limit && !is_backed_up
            }
            State::Lingering => !self.has_eof,
            State::Flushing | State::Closing | State::Closed => false,
        }
    }

    /// Whether every reply has been handed to the kernel and taken.
    #[inline]
    pub(super) fn has_answered(&self) -> bool {
        self.output.is_empty() && self.sending_bytes == 0 && self.gather.is_empty()
    }

    /// Gives up whatever is owed and wanted; the peer is gone or to be dropped.
    pub(super) fn abandon(&mut self) {
        if !matches!(self.state, State::Closing | State::Closed) {
            self.state = State::Closing;
            self.held = None;
            self.output = Output::new();
            self.gather = Gather::default();
        }
    }
}
