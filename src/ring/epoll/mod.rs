//! epoll behind the door, for hosts that forbid io_uring: the same operations, with system calls of their own.
//!
//! In: operations; out: completions, see [`Ring`]. An operation is tried when it is submitted. One that would block
//! waits for its socket's event:
//!
//! ```text
//!  push → queued → tried ──────────────────────────────→ completed
//!                    └ would block → armed → epoll tells ┘
//! ```
//!
//! A socket is watched edge by edge (`EPOLLET`), so that one call makes it known for good; what an edge has told stays
//! noted until a receive comes back empty or short. What must stay true: nothing blocks but [`Ring::enter`] when it is
//! told to; sockets receive in turn, a buffer each, so that none starves another; while no buffer is free nothing is
//! received, and the kernel's own buffers hold the clients back; one `enter` takes at most [`EVENTS_MAX`] events and
//! makes at most [`STEPS_PER_SOCKET`] receives times the sockets that are ready: a pool for all of them, of which each
//! has one before any has its next.
//!
//! At TCP's urgent mark a receive comes back short though more is there: of a socket with such a mark (`EPOLLPRI`), as
//! of one that has ended, only a receive that comes back empty tells that there is no more.
//!
//! Source: epoll(7).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::event::{Timespec, epoll};
use rustix::net::SocketFlags;

use super::uring::Options;
use super::{Alarm, BufferId, Carried, Completion, Errno, Fd, Kind, Op, Ring, Token, Wait, WakeAddress, socket};

mod adviser;
mod bell;
mod send;

use adviser::Adviser;
use bell::Bell;
use send::Sending;

/// Events taken with one call.
const EVENTS_MAX: usize = 256;

/// Receives that one `enter` makes, by ready socket: 64 KiB in buffers of the usual size.
const STEPS_PER_SOCKET: usize = 16;

/// A look is a system call, so a spinning worker makes one in so many turns: about 0.2 µs.
const TURNS_PER_LOOK: u32 = 16;

/// Times that an `enter` which has completions already may leave out the look for more.
const LOOKS_LEFT_OUT_MAX: u32 = 4;

/// A longer wait ends early: beyond 24 days it takes epoll_pwait2(2), which Linux has from 5.11 on.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// What an event of the bell carries in place of a descriptor.
const BELL: u64 = u64::MAX;

/// A ring made of epoll.
pub struct EpollRing {
    epoll: OwnedFd,
    bell: Bell,
    adviser: Adviser,
    sockets: HashMap<Fd, Socket, ahash::RandomState>,
    /// Where the operations wait that can be cancelled.
    armed: HashMap<Token, Fd, ahash::RandomState>,
    queued: Vec<(Token, Op)>,
    /// Sockets on which a receive or accept may be tried, in turn.
    ready: VecDeque<Fd>,
    completed: VecDeque<Completion>,
    buffers: Box<[u8]>,
    buffer_bytes: usize,
    /// Numbers of the buffers that nobody has.
    free: Vec<u16>,
    /// Token slots with a send in flight.
    is_sending: Vec<bool>,
    in_flight: usize,
    events: Vec<epoll::Event>,
    turns: u32,
    looks_left_out: u32,
}

/// A socket that operations were pushed for.
#[derive(Debug, Default)]
struct Socket {
    is_watched: bool,
    /// Watched for room to send as well: a send has found none.
    is_watched_for_room: bool,
    /// An edge has told of something to receive, and no receive has come back without since.
    is_readable: bool,
    /// The peer has ended its stream, or there is an error, of which no edge tells again; or it has set an urgent mark.
    has_special: bool,
    is_ready: bool,
    input: Option<Input>,
    sending: Option<Sending>,
}

/// What waits for something to come in.
#[derive(Clone, Copy, Debug)]
struct Input {
    token: Token,
    kind: InputKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputKind {
    Accept,
    Receive { is_multishot: bool, is_stamped: bool },
}

impl std::fmt::Debug for EpollRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EpollRing({}, {} in flight)", self.epoll.as_raw_fd(), self.in_flight)
    }
}

impl EpollRing {
    /// Makes a ring with its receive buffers; queues grow as needed.
    ///
    /// # Errors
    /// Those of epoll_create1(2) and eventfd(2).
    pub fn new(options: &Options) -> io::Result<Self> {
        let count = options.buffers.next_power_of_two();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let bell = Bell::new()?;
        epoll::add(&epoll, &bell, epoll::EventData::new_u64(BELL), EventFlags::IN | EventFlags::ET)?;
        Ok(Self {
            adviser: Adviser::new(bell.address()),
            epoll,
            bell,
            sockets: HashMap::default(),
            armed: HashMap::default(),
            queued: Vec::new(),
            ready: VecDeque::new(),
            completed: VecDeque::new(),
            buffers: vec![0; usize::from(count) * options.buffer_bytes as usize].into_boxed_slice(),
            buffer_bytes: options.buffer_bytes as usize,
            free: (0..count).rev().collect(),
            is_sending: Vec::new(),
            in_flight: 0,
            events: Vec::with_capacity(EVENTS_MAX),
            turns: 0,
            looks_left_out: 0,
        })
    }

    /// Tries everything that was pushed.
    fn submit(&mut self) {
        let mut queued = std::mem::take(&mut self.queued);
        for (token, op) in queued.drain(..) {
            self.begin(token, op);
        }
        self.queued = queued;
    }

    fn begin(&mut self, token: Token, op: Op) {
        match op {
            Op::Accept { listener } => self.arm(listener, Input { token, kind: InputKind::Accept }),
            Op::Recv { fd, is_multishot } => {
                self.arm(fd, Input { token, kind: InputKind::Receive { is_multishot, is_stamped: false } });
            }
            Op::RecvStamped { fd } => {
                self.arm(fd, Input { token, kind: InputKind::Receive { is_multishot: true, is_stamped: true } });
            }
            Op::Send { fd, output, from, limit } => {
                self.sockets.entry(fd).or_default().sending = Some(Sending::new(token, output, from, limit));
                self.go_on_sending(fd);
            }
            Op::Cancel { target } => {
                let result = self.cancel(target);
                self.complete_with(token, result);
            }
            Op::Shutdown { fd, how } => {
                let result = socket::shutdown(fd, how).map(|()| 0);
                self.complete_with(token, result);
            }
            Op::Close { fd } => {
                self.sockets.remove(&fd);
                socket::close(fd);
                self.complete_with(token, Ok(0));
            }
            Op::Wake { peer } => bell::ring(peer),
            Op::Advise(advice) => self.completed.extend(self.adviser.give(token, advice)),
        }
    }

    /// The last completion of an operation that carries nothing.
    fn complete_with(&mut self, token: Token, result: Result<u32, Errno>) {
        self.completed.push_back(Completion { token, result, has_more: false, carried: Carried::Nothing });
    }

    fn arm(&mut self, fd: Fd, input: Input) {
        let socket = self.sockets.entry(fd).or_default();
        assert!(socket.input.is_none(), "{:?} is in flight already", input.token);
        socket.input = Some(input);
        let unblocked = if input.kind == InputKind::Accept { socket::unblock(fd) } else { Ok(()) };
        match unblocked.and_then(|()| socket.watch(&self.epoll, fd, socket.is_watched_for_room)) {
            Ok(()) => {
                self.armed.insert(input.token, fd);
                if socket.is_readable {
                    socket.queue(fd, &mut self.ready);
                }
            }
            Err(errno) => {
                socket.input = None;
                self.complete_with(input.token, Err(errno));
            }
        }
    }

    fn cancel(&mut self, target: Token) -> Result<u32, Errno> {
        let not_found = Errno(libc::ENOENT);
        let fd = self.armed.remove(&target).ok_or(not_found)?;
        let socket = self.sockets.get_mut(&fd).ok_or(not_found)?;
        if socket.input.take_if(|input| input.token == target).is_some() {
            self.complete_with(target, Err(Errno(libc::ECANCELED)));
        } else if let Some(sending) = socket.sending.take_if(|sending| sending.token == target) {
            self.completed.push_back(sending.end(Errno(libc::ECANCELED)));
        }
        Ok(0)
    }

    /// Sends until all is sent or the socket has no room.
    fn go_on_sending(&mut self, fd: Fd) {
        let Some(socket) = self.sockets.get_mut(&fd) else { return };
        let Some(mut sending) = socket.sending.take() else { return };
        let completion = match sending.transmit(fd) {
            Ok(()) => sending.finish(),
            Err(Errno(libc::EAGAIN)) => match socket.watch(&self.epoll, fd, true) {
                Ok(()) => {
                    self.armed.insert(sending.token, fd);
                    socket.sending = Some(sending);
                    return;
                }
                Err(errno) => sending.end(errno),
            },
            Err(errno) => sending.end(errno),
        };
        if socket.is_watched_for_room {
            self.armed.remove(&completion.token);
            // It was watched before, so it can be.
            let _ = socket.watch(&self.epoll, fd, false);
        }
        self.completed.push_back(completion);
    }

    /// Takes events, waiting for the first one as long as `timeout` says; how many.
    fn look(&mut self, timeout: Option<&Timespec>) -> io::Result<usize> {
        let mut events = std::mem::take(&mut self.events);
        let found = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout);
        for event in events.drain(..) {
            match event.data.u64() {
                BELL => {
                    self.bell.silence();
                    while let Some(completion) = self.adviser.done() {
                        self.completed.push_back(completion);
                    }
                    let token = Token::new(Kind::Wake, 0, 0);
                    self.complete_with(token, Ok(0));
                }
                number => self.on_event(Fd(number as i32), event.flags),
            }
        }
        self.events = events;
        match found {
            Ok(count) => Ok(count),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    fn on_event(&mut self, fd: Fd, flags: EventFlags) {
        let Some(socket) = self.sockets.get_mut(&fd) else { return };
        let special = EventFlags::ERR | EventFlags::HUP | EventFlags::RDHUP | EventFlags::PRI;
        if flags.intersects(EventFlags::IN | special) {
            socket.is_readable = true;
            socket.has_special |= flags.intersects(special);
            if socket.input.is_some() {
                socket.queue(fd, &mut self.ready);
            }
        }
        if flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
            self.go_on_sending(fd);
        }
    }

    /// Whether a receive or accept can be tried.
    fn can_receive(&self) -> bool {
        !self.ready.is_empty() && !self.free.is_empty()
    }

    /// Receives and accepts, socket by socket in turn.
    fn receive(&mut self) {
        let mut steps = self.ready.len() * STEPS_PER_SOCKET;
        while steps > 0
            && self.can_receive()
            && let Some(fd) = self.ready.pop_front()
        {
            steps -= 1;
            let Some(socket) = self.sockets.get_mut(&fd) else { continue };
            socket.is_ready = false;
            let Some(input) = socket.input else { continue };
            let completion = match input.kind {
                InputKind::Accept => socket.accept(fd, input.token),
                InputKind::Receive { is_multishot, is_stamped } => {
                    let id = self.free.pop().expect("there is a free buffer");
                    let start = usize::from(id) * self.buffer_bytes;
                    let buffer = &mut self.buffers[start..start + self.buffer_bytes];
                    let received = socket.receive(fd, buffer, is_stamped);
                    let completion = received.map(|received| input.received(received, id, is_multishot));
                    if !matches!(completion, Some(Completion { carried: Carried::Buffer(_), .. })) {
                        self.free.push(id);
                    }
                    completion
                }
            };
            if completion.as_ref().is_some_and(|completion| !completion.has_more) {
                socket.input = None;
                self.armed.remove(&input.token);
            } else if socket.is_readable {
                socket.queue(fd, &mut self.ready);
            }
            self.completed.extend(completion);
        }
    }
}

impl Socket {
    /// Has epoll tell of what comes in, and of room to send when asked to.
    fn watch(&mut self, epoll: &OwnedFd, fd: Fd, for_room: bool) -> Result<(), Errno> {
        if self.is_watched && self.is_watched_for_room == for_room {
            return Ok(());
        }
        let room = if for_room { EventFlags::OUT } else { EventFlags::empty() };
        let flags = EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP | EventFlags::ET | room;
        let (socket, number) = (socket::borrowed(fd), epoll::EventData::new_u64(fd.0 as u64));
        if self.is_watched {
            epoll::modify(epoll, socket, number, flags)?;
        } else {
            epoll::add(epoll, socket, number, flags)?;
        }
        (self.is_watched, self.is_watched_for_room) = (true, for_room);
        Ok(())
    }

    /// Gives it a place among those that are tried.
    fn queue(&mut self, fd: Fd, ready: &mut VecDeque<Fd>) {
        if !self.is_ready {
            self.is_ready = true;
            ready.push_back(fd);
        }
    }

    /// `None` when nothing has come.
    fn accept(&mut self, fd: Fd, token: Token) -> Option<Completion> {
        let (result, has_more) = match rustix::net::accept_with(socket::borrowed(fd), SocketFlags::CLOEXEC) {
            Ok(accepted) => (Ok(accepted.into_raw_fd() as u32), true),
            Err(rustix::io::Errno::AGAIN) => {
                self.is_readable = false;
                return None;
            }
            // The client has gone again.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => return None,
            Err(errno) => (Err(errno.into()), false),
        };
        Some(Completion { token, result, has_more, carried: Carried::Nothing })
    }

    /// How many bytes have come, and when; `None` when there are none.
    fn receive(&mut self, fd: Fd, buffer: &mut [u8], is_stamped: bool) -> Option<Result<(usize, u64), Errno>> {
        let received = match is_stamped {
            true => socket::receive_stamped(fd, buffer),
            false => socket::receive(fd, buffer).map(|count| (count, 0)),
        };
        match received {
            // What comes from here on makes another edge.
            Ok((count, _)) => self.is_readable &= count == buffer.len() || self.has_special,
            Err(Errno(libc::EAGAIN)) => {
                self.is_readable = false;
                return None;
            }
            Err(Errno(libc::EINTR)) => return None,
            Err(_) => {}
        }
        Some(received)
    }
}

impl Input {
    fn received(self, received: Result<(usize, u64), Errno>, id: u16, is_multishot: bool) -> Completion {
        let (result, carried) = match received {
            Ok((0, _)) => (Ok(0), Carried::Nothing),
            Ok((count, arrived_unix_ns)) => {
                let buffer = BufferId { arrived_unix_ns, ..BufferId::plain(id, count as u32) };
                (Ok(count as u32), Carried::Buffer(buffer))
            }
            Err(errno) => (Err(errno), Carried::Nothing),
        };
        let has_more = is_multishot && matches!(carried, Carried::Buffer(_));
        Completion { token: self.token, result, has_more, carried }
    }
}

impl Ring for EpollRing {
    fn push(&mut self, token: Token, op: Op) {
        if matches!(op, Op::Send { .. }) {
            let slot = token.slot() as usize;
            if self.is_sending.len() <= slot {
                self.is_sending.resize(slot + 1, false);
            }
            assert!(!std::mem::replace(&mut self.is_sending[slot], true), "one send at a time per connection");
        }
        self.in_flight += usize::from(token.kind() != Kind::Wake);
        self.queued.push((token, op));
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.submit();
        let has_something = !self.completed.is_empty() || self.can_receive();
        if has_something && wait == Wait::No && self.looks_left_out < LOOKS_LEFT_OUT_MAX {
            self.looks_left_out += 1;
        } else {
            self.looks_left_out = 0;
            let limit = match wait {
                Wait::For(limit) if !has_something => Some(limit.min(WAIT_MAX)),
                Wait::Forever if !has_something => None,
                _ => Some(Duration::ZERO),
            };
            let limit =
                limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() });
            self.look(limit.as_ref())?;
        }
        self.receive();
        Ok(())
    }

    /// A look at the kernel now and then: it is a system call here.
    fn is_ready(&mut self) -> bool {
        self.turns = self.turns.wrapping_add(1);
        if self.completed.is_empty() && !self.can_receive() && self.turns.is_multiple_of(TURNS_PER_LOOK) {
            // `enter` will meet the same error and tell it.
            let _ = self.look(Some(&Timespec::default()));
        }
        !self.completed.is_empty() || self.can_receive()
    }

    fn has_unsubmitted(&mut self) -> bool {
        !self.queued.is_empty()
    }

    fn complete(&mut self) -> Option<Completion> {
        let completion = self.completed.pop_front()?;
        let kind = completion.token.kind();
        self.in_flight -= usize::from(!completion.has_more && kind != Kind::Wake);
        if kind == Kind::Send {
            self.is_sending[completion.token.slot() as usize] = false;
        }
        Some(completion)
    }

    fn peek<T>(&self, buffer: &BufferId, read: impl FnOnce(&[u8]) -> T) -> T {
        let start = usize::from(buffer.id) * self.buffer_bytes;
        read(&self.buffers[start..start + buffer.len as usize])
    }

    fn lend<T>(&mut self, buffer: BufferId, read: impl FnOnce(&[u8]) -> T) -> T {
        let result = self.peek(&buffer, read);
        self.free.push(buffer.id);
        result
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn cancel_all(&mut self) {
        self.submit();
        let tokens: Vec<Token> = self.armed.keys().copied().collect();
        for token in tokens {
            // It is armed, so it is found.
            let _ = self.cancel(token);
        }
    }

    fn wake_address(&self) -> WakeAddress {
        self.bell.address()
    }

    fn stamp_arrivals(&self, fd: Fd) -> bool {
        socket::stamp_arrivals(fd)
    }

    fn addresses(&self, fd: Fd) -> Option<(SocketAddr, SocketAddr)> {
        socket::addresses(fd)
    }
}

impl Alarm for EpollRing {
    /// An epoll can be watched by another one.
    fn alarm(&mut self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.epoll.as_fd())
    }

    fn arm(&mut self) -> io::Result<bool> {
        self.submit();
        // There may be more of them, of which no edge tells again.
        let is_full = self.look(Some(&Timespec::default()))? == EVENTS_MAX;
        Ok(is_full || !self.completed.is_empty() || self.can_receive())
    }

    fn disarm(&mut self) {}
}

impl Drop for EpollRing {
    fn drop(&mut self) {
        // Descriptors are still to be closed, and others to be woken.
        self.queued.retain(|(_, op)| matches!(op, Op::Close { .. } | Op::Wake { .. }));
        self.submit();
    }
}
