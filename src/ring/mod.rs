//! The one door to the kernel on the data path.
//!
//! In: operations ([`Op`]) that own whatever the kernel will touch, each with a [`Token`] chosen by the worker.
//! Out: [`Completion`]s that carry the same token and give the owned memory back. Three things stand behind the door:
//! [`uring`], the kernel's io_uring; [`epoll`], for hosts that forbid it; and [`sim`], a deterministic twin that runs
//! whole workers from a seed.
//!
//! What must stay true:
//! - Memory handed to the kernel is owned by the ring until the last completion of its operation.
//! - At most one [`Op::Send`] is in flight per token slot; [`Ring::push`] asserts it.
//! - A descriptor that operations were pushed for is closed by [`Op::Close`], or after the ring.
//! - A receive buffer is shown and lent inside closures, and recycled when the lending ends, so no client can hold one.
//! - The ring knows descriptors and bytes; never a command or a key.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::protocol::Output;
use crate::shard::PageAdvice;

pub mod buffer;
pub mod epoll;
pub mod probe;
mod quiet;
pub mod sim;
mod socket;
mod stamped;
pub mod uring;

/// A socket: a file descriptor for the kernel's ring, a number of its own for the simulated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fd(pub i32);

/// What an operation is for; the `kind` field of a [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Multishot accept on a listener; the slot is the listener's index.
    Accept = 1,
    /// Multishot receive on a connection.
    Recv = 2,
    /// The send in flight on a connection.
    Send = 3,
    /// Cancellation of a connection's receive or send.
    Cancel = 4,
    /// shutdown(2) of a connection.
    Shutdown = 5,
    /// close(2) of a connection.
    Close = 6,
    /// A wake-up posted to, or arriving from, another ring.
    Wake = 7,
    /// Receive on the control socket, by which other threads wake this worker.
    Control = 8,
    /// Advice about memory.
    Advise = 9,
}

/// Names an operation in flight; it travels through the kernel as `user_data`.
///
/// | bits  | field      | meaning                                                     |
/// |-------|------------|-------------------------------------------------------------|
/// | 56–63 | kind       | [`Kind`]                                                    |
/// | 32–55 | generation | how often the slot was reused, so that late completions show |
/// | 0–31  | slot       | the connection's (or listener's) place in its slab          |
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(u64);

/// Generations wrap after this many reuses of a slot.
pub const GENERATION_MASK: u32 = (1 << 24) - 1;

impl Token {
    /// The one constructor; `generation` is taken modulo 2^24.
    pub const fn new(kind: Kind, generation: u32, slot: u32) -> Self {
        Token(((kind as u64) << 56) | (((generation & GENERATION_MASK) as u64) << 32) | slot as u64)
    }

    /// Reads a token back from `user_data`; `None` when no [`Kind`] has that number.
    pub const fn from_user_data(user_data: u64) -> Option<Self> {
        match user_data >> 56 {
            1..=9 => Some(Token(user_data)),
            _ => None,
        }
    }

    /// The 64 bits that the kernel carries.
    pub const fn user_data(self) -> u64 {
        self.0
    }

    /// What the operation is for.
    pub const fn kind(self) -> Kind {
        match self.0 >> 56 {
            1 => Kind::Accept,
            2 => Kind::Recv,
            3 => Kind::Send,
            4 => Kind::Cancel,
            5 => Kind::Shutdown,
            6 => Kind::Close,
            7 => Kind::Wake,
            8 => Kind::Control,
            _ => Kind::Advise,
        }
    }

    /// The slot's generation, 24 bits.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & GENERATION_MASK
    }

    /// The place in the slab.
    pub const fn slot(self) -> u32 {
        self.0 as u32
    }

    /// The same connection's token for another kind of operation.
    pub const fn with_kind(self, kind: Kind) -> Self {
        Token::new(kind, self.generation(), self.slot())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}/{}.{}", self.kind(), self.slot(), self.generation())
    }
}

/// An operation for the kernel. It owns what the kernel will read.
#[derive(Debug)]
pub enum Op {
    /// Accepts connections until it completes without [`Completion::has_more`].
    Accept {
        /// A listening socket.
        listener: Fd,
    },
    /// Receives into the ring's shared buffers until it completes without [`Completion::has_more`]. ENOBUFS: none is
    /// free. EAGAIN: there are more now. Push it again.
    Recv {
        /// A connected socket.
        fd: Fd,
        /// Stay armed after the first bytes. Not for clients on unix sockets: when one writes and ends its stream at
        /// the same moment, Linux 6.18 may never tell a multishot receive of the end (liburing 1549).
        is_multishot: bool,
    },
    /// The same, multishot, and each buffer says when its bytes reached the host; see [`Ring::stamp_arrivals`].
    RecvStamped {
        /// A connected socket.
        fd: Fd,
    },
    /// Sends `output[from..from + limit]`, all of it unless the peer goes away.
    Send {
        /// A connected socket.
        fd: Fd,
        /// The bytes; they come back in [`Carried::Output`].
        output: Output,
        /// Bytes of `output` that earlier sends have delivered.
        from: usize,
        /// Send at most this many bytes.
        limit: usize,
    },
    /// Cancels the operation with this token; its own completion still arrives.
    Cancel {
        /// The operation to cancel.
        target: Token,
    },
    /// shutdown(2).
    Shutdown {
        /// A connected socket.
        fd: Fd,
        /// One direction (`Write`: the peer sees the end, we can still read) or both.
        how: std::net::Shutdown,
    },
    /// close(2). Push it only when nothing else is in flight on the socket.
    Close {
        /// The socket to close.
        fd: Fd,
    },
    /// Posts a [`Kind::Wake`] completion to another worker's ring.
    Wake {
        /// [`Ring::wake_address`] of the other ring.
        peer: WakeAddress,
    },
    /// madvise(2), on a thread of the kernel's: it may take as long as zeroing 2 MiB does.
    Advise(PageAdvice),
}

/// Where [`Op::Wake`] finds another ring: its descriptor, or its number in a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeAddress(pub i32);

/// A receive buffer that a completion filled; give it to [`Ring::lend`] exactly once.
#[derive(Debug, PartialEq, Eq)]
pub struct BufferId {
    /// The buffer's number in the ring's set.
    pub id: u16,
    /// How many bytes were received.
    pub len: u32,
    /// Where in the buffer they begin.
    pub from: u32,
    /// When the last of them reached the host, nanoseconds since the Unix epoch; 0 when that is not known.
    pub arrived_unix_ns: u64,
}

impl BufferId {
    /// A buffer with nothing but bytes.
    pub fn plain(id: u16, len: u32) -> Self {
        Self { id, len, from: 0, arrived_unix_ns: 0 }
    }
}

/// What a completion gives back or hands over.
#[derive(Debug)]
pub enum Carried {
    /// Nothing.
    Nothing,
    /// Received bytes.
    Buffer(BufferId),
    /// The output of a finished send, whether it succeeded or not.
    Output(Output),
}

/// An errno value, as the kernel returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// One finished step of an operation.
#[derive(Debug)]
pub struct Completion {
    /// The token that the operation was pushed with.
    pub token: Token,
    /// Bytes transferred, or an accepted descriptor, or the errno.
    pub result: Result<u32, Errno>,
    /// A multishot operation stays armed. When false, it has ended and must be pushed again if wanted.
    pub has_more: bool,
    /// Memory that changes hands.
    pub carried: Carried,
}

/// How long [`Ring::enter`] may wait when nothing has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Submit, collect what is there, return.
    No,
    /// Until something completes, or this long.
    For(Duration),
    /// Until something completes.
    Forever,
}

/// A submission and completion queue pair; a worker has its own.
pub trait Ring {
    /// Queues an operation for the next [`enter`](Self::enter); submits at once when the queue is full.
    ///
    /// # Panics
    /// When a second send is pushed for a slot that already has one in flight: a bug in the caller.
    fn push(&mut self, token: Token, op: Op);

    /// Submits what is queued, runs completion work, and waits as told. A send that the kernel takes whole does not end
    /// the wait; it is the first of the completions when something else has.
    ///
    /// # Errors
    /// Only those from which the ring cannot recover; EINTR, ETIME, EAGAIN and EBUSY are handled inside.
    fn enter(&mut self, wait: Wait) -> io::Result<()>;

    /// Whether [`enter`](Self::enter) with [`Wait::No`] would bring completions. Two loads; made for spinning.
    fn is_ready(&mut self) -> bool;

    /// Whether operations are queued that no `enter` has submitted yet.
    fn has_unsubmitted(&mut self) -> bool;

    /// Takes the next completion that has arrived.
    fn complete(&mut self) -> Option<Completion>;

    /// Shows a received buffer to `read` and keeps it: it is still to be lent.
    fn peek<T>(&self, buffer: &BufferId, read: impl FnOnce(&[u8]) -> T) -> T;

    /// Lends a received buffer to `read`, then gives it back to the kernel.
    fn lend<T>(&mut self, buffer: BufferId, read: impl FnOnce(&[u8]) -> T) -> T;

    /// How many operations the kernel holds (a multishot counts as one).
    fn in_flight(&self) -> usize;

    /// Asks for the cancellation of everything in flight; completions keep arriving until
    /// [`in_flight`](Self::in_flight) is zero.
    fn cancel_all(&mut self);

    /// The address at which other rings wake this one.
    fn wake_address(&self) -> WakeAddress;

    /// Has the kernel note when bytes of a socket arrive, for [`Op::RecvStamped`]; false when it does not. A system
    /// call: cold paths only. Source: the kernel's networking/timestamping.rst.
    fn stamp_arrivals(&self, fd: Fd) -> bool;

    /// The address of a socket's peer and of its own end; `None` for unix sockets and the disconnected. A system call:
    /// cold paths only.
    fn addresses(&self, fd: Fd) -> Option<(SocketAddr, SocketAddr)>;
}

/// A ring beside others on one thread, which sleeps until one of them has completions.
pub trait Alarm: Ring {
    /// What epoll(7) tells of, edge by edge, when something completes while the alarm is armed. Made at the first call.
    ///
    /// # Errors
    /// Those of eventfd(2) and io_uring_register(2).
    fn alarm(&mut self) -> io::Result<BorrowedFd<'_>>;

    /// Has it go off from here on; whether there are completions already.
    ///
    /// # Errors
    /// As for [`Ring::enter`].
    fn arm(&mut self) -> io::Result<bool>;

    /// It need not go off any more.
    fn disarm(&mut self);
}
