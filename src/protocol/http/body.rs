//! A body as it arrives.
//!
//! In: bytes, cut anywhere. Out: the body, in one allocation, and where it ends. What must stay true: a chunk's size is
//! hexadecimal digits and nothing else, lines end with CR LF, and extensions and trailers are read over but bounded; no
//! byte behind the body is taken.

use super::Fault;
use super::head::Framing;

/// Longest line of a chunk's size, and of all trailers together.
const SIZE_LINE_BYTES_MAX: usize = 256;
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Most digits of a chunk's size.
const SIZE_DIGITS_MAX: usize = 8;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes of known number.
    Counted(u64),
    /// A chunk's size so far, and its digits.
    Size(u64, usize),
    /// What follows a size, up to its CR.
    Extension(u64),
    /// LF after a size.
    SizeEnd(u64),
    /// A chunk's bytes.
    Chunk(u64),
    /// CR, and LF, after a chunk.
    ChunkReturn,
    ChunkEnd,
    /// A trailer's line, which is empty so far or not.
    Trailer(bool),
    TrailerEnd(bool),
    Complete,
}

/// A body that is arriving.
#[derive(Debug)]
pub(super) struct Body {
    state: State,
    pub(super) bytes: Vec<u8>,
    bytes_max: u64,
    /// Bytes of the present line, or of the trailers.
    line_bytes: usize,
}

impl Body {
    /// Makes room for a body whose length is known.
    pub(super) fn new(framing: Framing, bytes_max: u64) -> Result<Self, Fault> {
        let mut bytes = Vec::new();
        let state = match framing {
            Framing::Length(len) => {
                bytes.try_reserve_exact(len as usize).map_err(|_| NO_ROOM)?;
                if len == 0 { State::Complete } else { State::Counted(len) }
            }
            Framing::Chunked => State::Size(0, 0),
        };
        Ok(Self { state, bytes, bytes_max, line_bytes: 0 })
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Bytes that are announced and have not arrived.
    pub(super) fn missing_bytes(&self) -> usize {
        match self.state {
            State::Counted(missing) | State::Chunk(missing) => missing as usize,
            _ => 0,
        }
    }

    /// Takes what belongs to the body; how many bytes that was.
    pub(super) fn feed(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let mut at = 0;
        while at < input.len() && self.state != State::Complete {
            if let State::Counted(missing) | State::Chunk(missing) = self.state {
                let here = missing.min((input.len() - at) as u64) as usize;
                self.bytes.extend_from_slice(&input[at..at + here]);
                at += here;
                let missing = missing - here as u64;
                self.state = match self.state {
                    State::Counted(_) if missing == 0 => State::Complete,
                    State::Counted(_) => State::Counted(missing),
                    _ if missing == 0 => State::ChunkReturn,
                    _ => State::Chunk(missing),
                };
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// One byte of the chunks' frames.
    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        self.line_bytes += 1;
        let is_trailer = matches!(self.state, State::Trailer(_) | State::TrailerEnd(_));
        if self.line_bytes > if is_trailer { TRAILER_BYTES_MAX } else { SIZE_LINE_BYTES_MAX } {
            return Err(Fault(431, "a chunk's size line or the trailers are too long"));
        }
        Ok(match (self.state, byte) {
            (State::Size(size, digits), byte) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS_MAX => {
                State::Size(size << 4 | u64::from((byte as char).to_digit(16).unwrap_or(0)), digits + 1)
            }
            (State::Size(size, 1..), b'\r') | (State::Extension(size), b'\r') => State::SizeEnd(size),
            (State::Size(size, 1..), b';') => State::Extension(size),
            (State::Extension(size), b'\t' | b' '..=b'~' | 0x80..) => State::Extension(size),
            (State::SizeEnd(0), b'\n') => {
                self.line_bytes = 0;
                State::Trailer(true)
            }
            (State::SizeEnd(size), b'\n') => {
                if self.bytes.len() as u64 + size > self.bytes_max {
                    return Err(TOO_LARGE);
                }
                self.bytes.try_reserve(size as usize).map_err(|_| NO_ROOM)?;
                State::Chunk(size)
            }
            (State::ChunkReturn, b'\r') => State::ChunkEnd,
            (State::ChunkEnd, b'\n') => {
                self.line_bytes = 0;
                State::Size(0, 0)
            }
            (State::Trailer(is_empty), b'\r') => State::TrailerEnd(is_empty),
            (State::Trailer(_), b'\t' | b' '..=b'~' | 0x80..) => State::Trailer(false),
            (State::TrailerEnd(true), b'\n') => State::Complete,
            (State::TrailerEnd(false), b'\n') => State::Trailer(true),
            _ => return Err(Fault(400, "the body's chunks are malformed")),
        })
    }
}

pub(super) const TOO_LARGE: Fault = Fault(413, "the body is larger than proto-max-bulk-len or the query buffer");
pub(super) const NO_ROOM: Fault = Fault(507, "no memory is left for the body: see maxmemory");
