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
    /// Connections are unix sockets: they have no addresses.
    pub is_unix: bool,
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
            is_unix: false,
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
            is_unix: options.is_unix,
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

    /// Whether a ring that submits what it holds, and waits, would return now.
    pub fn is_ready(&self, ring: WakeAddress) -> bool {
        let mut state = self.state.borrow_mut();
        let index = ring.0 as usize;
        state.submit(index);
        state.run(index);
        state.wakes(index)
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
            delivered: VecDeque::new(),
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
        let pending = Pending { token, op, sent: 0, has_waited: false, is_last: false, is_cancelled: false, resume_ns };
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
        let completion = ring.delivered.pop_front().or_else(|| ring.completed.pop_front())?;
        let kind = completion.token.kind();
        if !completion.has_more && kind != Kind::Wake {
            ring.in_flight -= 1;
        }
        if kind == Kind::Send {
            ring.sends[completion.token.slot() as usize] = false;
        }
        Some(completion)
    }

    fn peek<T>(&self, buffer: &BufferId, read: impl FnOnce(&[u8]) -> T) -> T {
        let Buffer::Filled(memory) = &self.state.borrow().rings[self.index].buffers[buffer.id as usize] else {
            panic!("buffer {} was given back already", buffer.id)
        };
        read(&memory[..buffer.len as usize])
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
            pending.is_cancelled |=
                matches!(pending.op, Op::Accept { .. } | Op::Recv { .. } | Op::RecvStamped { .. } | Op::Send { .. });
        }
    }

    fn wake_address(&self) -> WakeAddress {
        WakeAddress(self.index as i32)
    }

    fn stamp_arrivals(&self, _: Fd) -> bool {
        false
    }

    fn addresses(&self, fd: Fd) -> Option<(SocketAddr, SocketAddr)> {
        let mut state = self.state.borrow_mut();
        let Socket::Connection(id, _) = state.descriptors.get(fd) else { return None };
        let id = *id;
        (!state.is_unix && !state.connections[id].is_reset).then(|| network::addresses(id))
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
        ring.delivered.clear();
        let index = self.index;
        state.left.extend(left.into_iter().map(|what| format!("ring {index}: {what}")));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use super::*;
    use crate::protocol::Output;

    /// A ring with one accepted connection, its descriptor, and its client.
    fn accepted(options: Options) -> (Network, SimRing, Fd, Client) {
        let network = Network::new(options);
        let mut ring = SimRing::new(&network);
        let listener = network.listen();
        let client = network.connect(listener);
        ring.push(token(Kind::Accept), Op::Accept { listener });
        ring.enter(Wait::No).unwrap();
        let fd = Fd(ring.complete().unwrap().result.unwrap() as i32);
        (network, ring, fd, client)
    }

    fn token(kind: Kind) -> Token {
        Token::new(kind, 1, 0)
    }

    fn send(fd: Fd, bytes: &[u8]) -> Op {
        let mut output = Output::new();
        output.extend(bytes);
        Op::Send { fd, output, from: 0, limit: usize::MAX }
    }

    /// Pushes one operation and takes everything that completes.
    fn run(ring: &mut SimRing, kind: Kind, op: Op) -> Vec<Completion> {
        ring.push(token(kind), op);
        ring.enter(Wait::No).unwrap();
        std::iter::from_fn(|| ring.complete()).collect()
    }

    fn results(completions: &[Completion]) -> Vec<(Kind, Result<u32, i32>)> {
        completions.iter().map(|it| (it.token.kind(), it.result.map_err(|errno| errno.0))).collect()
    }

    #[test]
    fn a_send_waits_for_room_and_tells_what_it_moved_when_cancelled() {
        let (_network, mut ring, fd, client) = accepted(Options { socket_bytes: 10, ..Options::default() });
        assert!(run(&mut ring, Kind::Send, send(fd, b"0123456789abcdefghij!")).is_empty());
        assert_eq!(client.read(), b"0123456789");
        ring.enter(Wait::No).unwrap();
        let done = run(&mut ring, Kind::Cancel, Op::Cancel { target: token(Kind::Send) });
        assert_eq!(results(&done), [(Kind::Cancel, Ok(0)), (Kind::Send, Ok(20))]);
        assert_eq!(client.read(), b"abcdefghij");
        assert_eq!(results(&run(&mut ring, Kind::Send, send(fd, b"more"))), [(Kind::Send, Ok(4))]);
    }

    #[test]
    fn the_end_comes_after_the_bytes_and_a_reset_is_told_once() {
        let (_network, mut ring, fd, client) = accepted(Options::default());
        client.write(b"last words");
        client.end();
        let recv = || Op::Recv { fd, is_multishot: true };
        let mut done = run(&mut ring, Kind::Recv, recv());
        assert_eq!(results(&done), [(Kind::Recv, Ok(10)), (Kind::Recv, Ok(0))]);
        let Carried::Buffer(buffer) = done.remove(0).carried else { panic!("bytes come in a buffer") };
        assert_eq!(ring.lend(buffer, <[u8]>::to_vec), b"last words");
        client.reset();
        let done = [
            run(&mut ring, Kind::Send, send(fd, b"x")),
            run(&mut ring, Kind::Send, send(fd, b"x")),
            run(&mut ring, Kind::Recv, recv()),
            run(&mut ring, Kind::Shutdown, Op::Shutdown { fd, how: Shutdown::Both }),
        ];
        let expected = [Err(libc::ECONNRESET), Err(libc::EPIPE), Ok(0), Err(libc::ENOTCONN)];
        assert_eq!(done.map(|done| results(&done)[0].1), expected);
    }

    #[test]
    fn a_close_with_unread_input_is_a_reset_and_frees_the_descriptor() {
        let (network, mut ring, fd, client) = accepted(Options::default());
        client.write(b"nobody reads this");
        assert_eq!(results(&run(&mut ring, Kind::Close, Op::Close { fd })), [(Kind::Close, Ok(0))]);
        assert!(client.was_reset());
        assert_eq!(network.pair().0, fd, "the lowest free descriptor is the next");
    }

    #[test]
    fn buffers_run_out_and_come_back() {
        let (_network, mut ring, fd, client) = accepted(Options { buffers: 2, buffer_bytes: 4, ..Options::default() });
        client.write(b"0123456789");
        let done = run(&mut ring, Kind::Recv, Op::Recv { fd, is_multishot: true });
        assert_eq!(results(&done), [(Kind::Recv, Ok(4)), (Kind::Recv, Ok(4)), (Kind::Recv, Err(libc::ENOBUFS))]);
        assert!(!done[2].has_more && done[1].has_more);
        for completion in done {
            if let Carried::Buffer(buffer) = completion.carried {
                ring.lend(buffer, |_| {});
            }
        }
        let done = run(&mut ring, Kind::Recv, Op::Recv { fd, is_multishot: false });
        assert_eq!(results(&done), [(Kind::Recv, Ok(2))]);
        assert!(!done[0].has_more);
    }

    #[test]
    #[should_panic(expected = "one send at a time")]
    fn two_sends_in_flight_break_the_rules() {
        let (_network, mut ring, fd, _client) = accepted(Options { socket_bytes: 1, ..Options::default() });
        run(&mut ring, Kind::Send, send(fd, b"one"));
        run(&mut ring, Kind::Send, send(fd, b"two"));
    }

    #[test]
    #[should_panic(expected = "are in flight")]
    fn a_close_before_its_time_breaks_the_rules() {
        let (_network, mut ring, fd, _client) = accepted(Options::default());
        run(&mut ring, Kind::Recv, Op::Recv { fd, is_multishot: true });
        run(&mut ring, Kind::Close, Op::Close { fd });
    }

    #[test]
    #[should_panic(expected = "was given back already")]
    fn a_buffer_is_given_back_once() {
        let (_network, mut ring, fd, client) = accepted(Options::default());
        client.write(b"x");
        let done = run(&mut ring, Kind::Recv, Op::Recv { fd, is_multishot: true });
        let Carried::Buffer(buffer) = &done[0].carried else { panic!("bytes come in a buffer") };
        let again = BufferId::plain(buffer.id, buffer.len);
        ring.lend(BufferId::plain(buffer.id, buffer.len), |_| {});
        ring.lend(again, |_| {});
    }

    #[test]
    #[should_panic(expected = "is another connection's")]
    fn a_stale_descriptor_is_noticed() {
        let (network, mut ring, fd, _client) = accepted(Options::default());
        run(&mut ring, Kind::Close, Op::Close { fd });
        let (reused, _other) = network.pair();
        assert_eq!(reused, fd);
        ring.push(Token::new(Kind::Recv, 2, 0), Op::Recv { fd, is_multishot: true });
        ring.push(token(Kind::Send), send(fd, b"for somebody else"));
    }

    #[test]
    #[should_panic(expected = "receive buffers were not given back")]
    fn a_kept_buffer_is_left_behind() {
        let (network, mut ring, fd, client) = accepted(Options::default());
        client.write(b"x");
        drop(run(&mut ring, Kind::Recv, Op::Recv { fd, is_multishot: true }));
        drop(ring);
        network.check_nothing_left();
    }
}
