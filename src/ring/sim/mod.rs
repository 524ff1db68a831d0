//! The deterministic twin of the kernel's ring: whole workers run in one test thread, and a seed says everything.
//!
//! A [`Network`] owns simulated sockets, the simulated clock, and every ring; [`SimRing`] is one ring of it. In:
//! operations, and what the test's [`Client`]s do. Out: completions, in the orders and with the failures that the
//! kernel may produce, as [`Faults`] ask for. Nothing here blocks: whoever drives the workers looks at
//! [`Network::is_ready`] and moves the clock on to [`Network::next_event_ns`].
//!
//! What must stay true: two runs with one seed give the same [`Network::trace`]; a broken rule of the door (two sends
//! in flight, a close before its time, a buffer given back twice, somebody else's descriptor) is a panic here, where
//! the kernel would go on with somebody's bytes.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{BufferId, Carried, Completion, Errno, Fd, Kind, Op, Ring, Token, Wait, WakeAddress};
use crate::clock::{Clock, SimulatedTime};

mod faults;
mod network;
mod operation;

pub use faults::{Faults, Random};
pub use network::Client;

use network::{Connection, Descriptors, Socket};
use operation::{Buffer, Pending, RingState, State};

/// Sizes and faults of a simulation.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// Receive buffers of each ring.
    pub buffers: u16,
    /// Bytes of each receive buffer.
    pub buffer_bytes: usize,
    /// Bytes that each direction of a connection holds.
    pub socket_bytes: usize,
    /// Wall time of the beginning.
    pub epoch_unix_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            faults: Faults::none(),
            buffers: 16,
            buffer_bytes: 4096,
            socket_bytes: 64 * 1024,
            epoch_unix_ms: 2_000_000_000_000,
        }
    }
}

/// The simulated sockets, clock and rings; clones are the same one.
#[derive(Clone, Debug)]
pub struct Network {
    state: Rc<RefCell<State>>,
    buffers: u16,
    buffer_bytes: usize,
}

impl Network {
    /// A network without sockets.
    pub fn new(options: Options) -> Self {
        let state = State {
            faults: options.faults,
            random: Random::new(options.seed),
            time: Arc::new(SimulatedTime::new(options.epoch_unix_ms)),
            trace: DefaultHasher::new(),
            errors: BTreeMap::new(),
            socket_bytes: options.socket_bytes,
            descriptors: Descriptors::default(),
            connections: Vec::new(),
            rings: Vec::new(),
            left: Vec::new(),
        };
        let (buffers, buffer_bytes) = (options.buffers, options.buffer_bytes);
        Self { state: Rc::new(RefCell::new(state)), buffers, buffer_bytes }
    }

    /// The clock of the simulation.
    pub fn clock(&self) -> Clock {
        Clock::Simulated(Arc::clone(&self.state.borrow().time))
    }

    /// Monotonic time.
    pub fn now_ns(&self) -> u64 {
        self.state.borrow().now_ns()
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.state.borrow().time.advance(by);
    }

    /// From now on, these go wrong.
    pub fn set_faults(&self, faults: Faults) {
        self.state.borrow_mut().faults = faults;
    }

    /// Opens a listening socket.
    pub fn listen(&self) -> Fd {
        self.state.borrow_mut().descriptors.open(Socket::Listener(VecDeque::new()))
    }

    /// Connects to a listener; a ring accepts it when it can.
    ///
    /// # Panics
    /// When `listener` is none.
    pub fn connect(&self, listener: Fd) -> Client {
        let mut state = self.state.borrow_mut();
        let id = state.connect();
        match state.descriptors.get(listener) {
            Socket::Listener(waiting) => waiting.push_back(id),
            Socket::Connection(..) => panic!("{listener:?} is no listener"),
        }
        Client::new(self, id)
    }

    /// A socket that is connected already, and its other end: for a worker's control.
    pub fn pair(&self) -> (Fd, Client) {
        let mut state = self.state.borrow_mut();
        let id = state.connect();
        (state.descriptors.open(Socket::Connection(id, None)), Client::new(self, id))
    }

    /// Closes a listener or the end of a [`pair`](Self::pair), as those do who made them.
    pub fn close(&self, fd: Fd) {
        self.state.borrow_mut().descriptors.close(fd);
    }

    /// Whether a ring would not sleep now: it has something to submit, or something for its worker.
    pub fn is_ready(&self, ring: WakeAddress) -> bool {
        let mut state = self.state.borrow_mut();
        let index = ring.0 as usize;
        !state.rings[index].queued.is_empty() || state.is_ready(index)
    }

    /// When the next delay or stall ends, if one is all that somebody waits for.
    pub fn next_event_ns(&self) -> Option<u64> {
        let mut state = self.state.borrow_mut();
        let now_ns = state.now_ns();
        let all: Vec<(usize, usize)> = state
            .rings
            .iter()
            .enumerate()
            .flat_map(|(ring, held)| (0..held.pending.len()).map(move |index| (ring, index)))
            .collect();
        all.into_iter().filter_map(|(ring, index)| state.due_ns(ring, index)).filter(|due| *due > now_ns).min()
    }

    /// A hash of every completion, and of every byte received and sent, in order.
    pub fn trace(&self) -> u64 {
        self.state.borrow().trace.finish()
    }

    /// How often each errno was the result of an operation.
    pub fn errors(&self) -> BTreeMap<i32, u64> {
        self.state.borrow().errors.clone()
    }

    /// How many connections are open at the server's end.
    pub fn open_connections(&self) -> usize {
        self.state.borrow().descriptors.connections().count()
    }

    /// To be called when every ring is gone.
    ///
    /// # Panics
    /// When a ring is left, or a ring left an operation or a buffer behind, or a connection is open.
    pub fn check_nothing_left(&self) {
        let state = self.state.borrow();
        assert!(state.rings.iter().all(|ring| ring.is_gone), "a ring is still there");
        assert!(state.left.is_empty(), "left behind: {:?}", state.left);
        let open: Vec<usize> = state.descriptors.connections().collect();
        assert!(open.is_empty(), "connections {open:?} were not closed");
    }
}

impl State {
    fn connect(&mut self) -> usize {
        self.connections.push(Connection::new(self.socket_bytes));
        self.connections.len() - 1
    }
}

/// One ring of a [`Network`].
#[derive(Debug)]
pub struct SimRing {
    state: Rc<RefCell<State>>,
    index: usize,
}

impl SimRing {
    /// A ring with its receive buffers.
    pub fn new(network: &Network) -> Self {
        let buffer = || Buffer::Free(vec![0; network.buffer_bytes].into_boxed_slice());
        let ring = RingState {
            queued: Vec::new(),
            pending: Vec::new(),
            completed: VecDeque::new(),
            buffers: (0..network.buffers).map(|_| buffer()).collect(),
            in_flight: 0,
            sends: Vec::new(),
            is_gone: false,
        };
        let state = Rc::clone(&network.state);
        state.borrow_mut().rings.push(ring);
        let index = state.borrow().rings.len() - 1;
        Self { state, index }
    }
}

impl Ring for SimRing {
    fn push(&mut self, token: Token, op: Op) {
        let mut state = self.state.borrow_mut();
        let resume_ns = state.resume_ns();
        let pending = Pending { token, op, sent: 0, is_last: false, is_cancelled: false, resume_ns };
        state.check(self.index, token, &pending.op);
        let ring = &mut state.rings[self.index];
        ring.in_flight += usize::from(token.kind() != Kind::Wake);
        ring.queued.push(pending);
    }

    fn enter(&mut self, _wait: Wait) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.submit(self.index);
        state.run(self.index);
        Ok(())
    }

    fn is_ready(&mut self) -> bool {
        self.state.borrow_mut().is_ready(self.index)
    }

    fn has_unsubmitted(&mut self) -> bool {
        !self.state.borrow().rings[self.index].queued.is_empty()
    }

    fn complete(&mut self) -> Option<Completion> {
        let mut state = self.state.borrow_mut();
        let ring = &mut state.rings[self.index];
        let completion = ring.completed.pop_front()?;
        let kind = completion.token.kind();
        if !completion.has_more && kind != Kind::Wake {
            ring.in_flight -= 1;
        }
        if kind == Kind::Send {
            ring.sends[completion.token.slot() as usize] = false;
        }
        Some(completion)
    }

    fn lend<T>(&mut self, buffer: BufferId, read: impl FnOnce(&[u8]) -> T) -> T {
        let id = buffer.id as usize;
        let taken = std::mem::replace(&mut self.state.borrow_mut().rings[self.index].buffers[id], Buffer::Lent);
        let Buffer::Filled(memory) = taken else { panic!("buffer {id} was given back already") };
        let result = read(&memory[..buffer.len as usize]);
        self.state.borrow_mut().rings[self.index].buffers[id] = Buffer::Free(memory);
        result
    }

    fn in_flight(&self) -> usize {
        self.state.borrow().rings[self.index].in_flight
    }

    fn cancel_all(&mut self) {
        let mut state = self.state.borrow_mut();
        let ring = &mut state.rings[self.index];
        for pending in ring.queued.iter_mut().chain(&mut ring.pending) {
            pending.is_cancelled |= matches!(pending.op, Op::Accept { .. } | Op::Recv { .. } | Op::Send { .. });
        }
    }

    fn wake_address(&self) -> WakeAddress {
        WakeAddress(self.index as i32)
    }

    fn addresses(&self, fd: Fd) -> Option<(SocketAddr, SocketAddr)> {
        let mut state = self.state.borrow_mut();
        let Socket::Connection(id, _) = state.descriptors.get(fd) else { return None };
        let id = *id;
        (!state.connections[id].is_reset).then(|| network::addresses(id))
    }
}

impl Drop for SimRing {
    /// As the kernel's ring: what had come meanwhile is dropped, everything else is cancelled.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut state = self.state.borrow_mut();
        state.submit(self.index);
        state.run(self.index);
        let ring = &mut state.rings[self.index];
        ring.is_gone = true;
        let left = ring.leftovers();
        ring.queued.clear();
        ring.pending.clear();
        ring.completed.clear();
        let index = self.index;
        state.left.extend(left.into_iter().map(|what| format!("ring {index}: {what}")));
    }
}
