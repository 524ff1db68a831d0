//! The sockets of a simulation, and the clients at their other ends.
//!
//! In: what clients and rings do to a connection. Out: bytes, ends and errors as TCP on Linux gives them. What must
//! stay true: each direction holds a bounded number of bytes; bytes arrive in the order in which they were written; the
//! lowest free descriptor is the next one given out, as in the kernel, so that a stale one soon names somebody else's
//! socket.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};

use super::operation::State;
use super::{Errno, Fd, Network};

/// Where the lowest descriptor of a simulation begins: 0 to 2 are taken in a process.
const DESCRIPTORS_FIRST: usize = 3;

/// Whose operations may name a socket: the token's generation and slot.
pub(super) type Owner = (u32, u32);

/// What a descriptor stands for.
#[derive(Debug)]
pub(super) enum Socket {
    /// Connections that wait to be accepted.
    Listener(VecDeque<usize>),
    /// The server's end of a connection, and who used it first.
    Connection(usize, Option<Owner>),
}

/// The descriptors of the simulated process.
#[derive(Debug, Default)]
pub(super) struct Descriptors(Vec<Option<Socket>>);

impl Descriptors {
    /// Opens the lowest free descriptor.
    pub(super) fn open(&mut self, socket: Socket) -> Fd {
        let place = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        if place == self.0.len() {
            self.0.push(None);
        }
        self.0[place] = Some(socket);
        Fd((place + DESCRIPTORS_FIRST) as i32)
    }

    pub(super) fn get(&mut self, fd: Fd) -> &mut Socket {
        let place = (fd.0 as usize).wrapping_sub(DESCRIPTORS_FIRST);
        self.0.get_mut(place).and_then(Option::as_mut).unwrap_or_else(|| panic!("{fd:?} is not open"))
    }

    pub(super) fn close(&mut self, fd: Fd) {
        self.get(fd);
        self.0[fd.0 as usize - DESCRIPTORS_FIRST] = None;
    }

    /// The open ends of connections.
    pub(super) fn connections(&self) -> impl Iterator<Item = usize> {
        self.0.iter().flatten().filter_map(|socket| match socket {
            Socket::Connection(id, _) => Some(*id),
            Socket::Listener(_) => None,
        })
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) bytes: VecDeque<u8>,
    /// The writer has shut its half: after `bytes` comes the end.
    pub(super) has_ended: bool,
}

/// Two ends and what lies between them.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) to_server: Pipe,
    pub(super) to_client: Pipe,
    pub(super) capacity: usize,
    /// The client accepts no bytes before this time.
    pub(super) stalled_until_ns: u64,
    pub(super) is_reset: bool,
    /// The reset's error, until one operation of the server has returned it.
    pub(super) error: Option<Errno>,
    /// The server has shut its reading half.
    pub(super) is_shut: bool,
    pub(super) is_client_closed: bool,
    pub(super) is_server_closed: bool,
}

/// What a receive finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receivable {
    Nothing,
    Bytes(usize),
    End,
    Error(Errno),
}

impl Connection {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            to_server: Pipe::default(),
            to_client: Pipe::default(),
            capacity,
            stalled_until_ns: 0,
            is_reset: false,
            error: None,
            is_shut: false,
            is_client_closed: false,
            is_server_closed: false,
        }
    }

    pub(super) fn receivable(&self) -> Receivable {
        match (self.to_server.bytes.len(), self.error) {
            (count @ 1.., _) => Receivable::Bytes(count),
            (0, Some(error)) => Receivable::Error(error),
            (0, None) if self.to_server.has_ended || self.is_reset || self.is_shut => Receivable::End,
            (0, None) => Receivable::Nothing,
        }
    }

    /// How many bytes the client has room for.
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.to_client.bytes.len())
    }

    /// Whether a send would fail.
    pub(super) fn is_broken(&self) -> bool {
        self.is_reset || self.to_client.has_ended
    }

    /// From when on a send can make a step; `None` while the client has no room.
    pub(super) fn sendable_ns(&self) -> Option<u64> {
        if self.is_broken() || self.is_client_closed {
            return Some(0);
        }
        (self.room() > 0).then_some(self.stalled_until_ns)
    }

    /// The client's host says that there is no such connection.
    pub(super) fn reset(&mut self, loses_bytes: bool) {
        if self.is_reset {
            return;
        }
        self.is_reset = true;
        self.error = Some(Errno(libc::ECONNRESET));
        if loses_bytes {
            self.to_server.bytes.clear();
            self.to_client.bytes.clear();
        }
    }

    /// The server closes its end. Bytes that it has not received turn the end into a reset, as TCP does.
    pub(super) fn close(&mut self, loses_bytes: bool) {
        self.is_server_closed = true;
        if self.to_server.bytes.is_empty() {
            self.to_client.has_ended = true;
        } else {
            self.reset(loses_bytes);
        }
    }
}

/// The client's end of a connection. It acts only when the test says so.
#[derive(Debug)]
pub struct Client {
    network: Network,
    id: usize,
}

impl Client {
    pub(super) fn new(network: &Network, id: usize) -> Self {
        Self { network: network.clone(), id }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State, usize) -> T) -> T {
        act(&mut self.network.state.borrow_mut(), self.id)
    }

    /// Sends as many of the bytes as the connection has room for; returns how many.
    pub fn write(&self, bytes: &[u8]) -> usize {
        self.with(|state, id| {
            let loses_bytes = state.loses_bytes();
            let connection = &mut state.connections[id];
            assert!(!connection.is_client_closed && !connection.to_server.has_ended, "the client has ended its half");
            if connection.is_server_closed {
                connection.reset(loses_bytes);
            }
            if connection.is_reset {
                return 0;
            }
            let count =
                bytes.len().min(connection.capacity - connection.to_server.bytes.len().min(connection.capacity));
            connection.to_server.bytes.extend(&bytes[..count]);
            count
        })
    }

    /// Takes everything that has arrived.
    pub fn read(&self) -> Vec<u8> {
        self.with(|state, id| state.connections[id].to_client.bytes.drain(..).collect())
    }

    /// How many bytes have arrived and were not read.
    pub fn unread(&self) -> usize {
        self.with(|state, id| state.connections[id].to_client.bytes.len())
    }

    /// Says that nothing more will be written, and goes on reading.
    pub fn end(&self) {
        self.with(|state, id| state.connections[id].to_server.has_ended = true);
    }

    /// Closes; with unread bytes that is a reset.
    pub fn close(&self) {
        self.with(|state, id| {
            let loses_bytes = state.loses_bytes();
            let connection = &mut state.connections[id];
            connection.is_client_closed = true;
            connection.to_server.has_ended = true;
            if !connection.to_client.bytes.is_empty() {
                connection.reset(loses_bytes);
            }
        });
    }

    /// Breaks the connection off.
    pub fn reset(&self) {
        self.with(|state, id| {
            let loses_bytes = state.loses_bytes();
            state.connections[id].is_client_closed = true;
            state.connections[id].reset(loses_bytes);
        });
    }

    /// Whether the connection was reset, by either end.
    pub fn was_reset(&self) -> bool {
        self.with(|state, id| state.connections[id].is_reset)
    }

    /// Whether nothing more will arrive: everything was read, and the server has ended its half or there was a reset.
    pub fn has_ended(&self) -> bool {
        self.with(|state, id| {
            let connection = &state.connections[id];
            connection.to_client.bytes.is_empty() && (connection.to_client.has_ended || connection.is_reset)
        })
    }
}

/// The addresses of a connection: the peer's, then the server's.
pub(super) fn addresses(id: usize) -> (SocketAddr, SocketAddr) {
    let address = |port: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
    (address(32_768 + id % 32_768), address(6379))
}
