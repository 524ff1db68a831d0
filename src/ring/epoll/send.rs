//! A send that goes on until all is sent, as often as its socket has room.
//!
//! In: an output and which part of it. Out: the output again, with how much has left. What must stay true: no call
//! waits, and what has left is told even when the rest never can.

use std::io::IoSlice;

use rustix::net::{SendAncillaryBuffer, SendFlags};

use crate::protocol::Output;
use crate::ring::{Carried, Completion, Errno, Fd, Token, socket};

/// Pieces of one system call.
const PIECES_MAX: usize = 64;

/// Bytes on their way, and how many of them have left.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) token: Token,
    output: Output,
    from: usize,
    wanted: usize,
    sent: usize,
}

impl Sending {
    pub(super) fn new(token: Token, output: Output, from: usize, limit: usize) -> Self {
        let wanted = output.len().min(from.saturating_add(limit)) - from;
        Self { token, output, from, wanted, sent: 0 }
    }

    /// Sends what is left; EAGAIN when the socket has no more room.
    pub(super) fn transmit(&mut self, fd: Fd) -> Result<(), Errno> {
        while self.sent < self.wanted {
            match self.step(fd) {
                Ok(count) => self.sent += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn step(&self, fd: Fd) -> rustix::io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let (from, end) = (self.from + self.sent, self.from + self.wanted);
        match self.output.as_plain() {
            Some(bytes) => rustix::net::send(socket::borrowed(fd), &bytes[from..end], flags),
            None => {
                let mut pieces: Vec<IoSlice<'_>> = Vec::with_capacity(PIECES_MAX);
                self.output.io_slices(from, end - from, PIECES_MAX, &mut pieces);
                rustix::net::sendmsg(socket::borrowed(fd), &pieces, &mut SendAncillaryBuffer::default(), flags)
            }
        }
    }

    /// The completion of a send that has sent everything.
    pub(super) fn finish(self) -> Completion {
        let result = Ok(self.sent as u32);
        Completion { token: self.token, result, has_more: false, carried: Carried::Output(self.output) }
    }

    /// The completion of one that cannot go on: what has left counts, else the error.
    pub(super) fn end(self, errno: Errno) -> Completion {
        match self.sent {
            0 => Completion { result: Err(errno), ..self.finish() },
            _ => self.finish(),
        }
    }
}
