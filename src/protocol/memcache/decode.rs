//! The decoder of one connection: received bytes to requests.
//!
//! In: bytes, cut anywhere. Out: batches of whole requests, parsed in place when they have arrived whole. What must
//! stay true: bytes are looked at a bounded number of times however they arrive; a large data block goes into one
//! allocation of its own, reserved when it is announced; what has no room is thrown away as it arrives; after an error
//! nothing more is decoded.

use bytes::Bytes;

use super::line::{Follows, push_line, refuse};
use super::{KEY_BYTES_MAX, LINE_BYTES_MAX, is_quiet, meta, text};
use crate::protocol::decode::{self, Incremental, Kept};
use crate::protocol::request::SPAN_OFFSET_MAX;
use crate::protocol::{Decoded, Limits, ProtocolError, Requests};

/// The incremental decoder of one connection; eight bytes while no request is incomplete.
pub type Decoder = Incremental<Partial>;

/// The limits, put so that each is one comparison.
pub struct Bounds {
    requests_max: usize,
    pub(super) bulk_max: u64,
    pub(super) body_min: usize,
    pub(super) body_room: u64,
    /// Longest line of a retrieval.
    retrieval_max: usize,
}

/// First byte of a request in the binary protocol.
const BINARY_REQUEST: u8 = 0x80;

/// Longest data block before authentication: a name and a password.
const UNAUTHENTICATED_DATA_BYTES_MAX: u64 = 2048;

impl Bounds {
    fn new(requests_max: usize, limits: &Limits) -> Self {
        let bulk_max = limits.bulk_bytes_max.min(limits.request_bytes_max).min(u64::from(u32::MAX));
        let is_unauthenticated = limits.is_unauthenticated;
        let retrieval_max = (limits.request_bytes_max as usize).min(SPAN_OFFSET_MAX / 2);
        Self {
            requests_max: if is_unauthenticated { 1 } else { requests_max },
            bulk_max: if is_unauthenticated { bulk_max.min(UNAUTHENTICATED_DATA_BYTES_MAX) } else { bulk_max },
            body_min: limits.body_bytes_min,
            body_room: limits.body_room_bytes,
            retrieval_max: if is_unauthenticated { LINE_BYTES_MAX } else { retrieval_max },
        }
    }
}

/// The second word of the first line, which is the key in most requests; `None` when it is too long for one.
#[inline]
pub fn first_key(bytes: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr2(b' ', b'\n', bytes).filter(|end| bytes[*end] == b' ')?;
    let rest = &bytes[end + 1..];
    let len = memchr::memchr3(b' ', b'\r', b'\n', &rest[..rest.len().min(KEY_BYTES_MAX + 1)])?;
    Some(&rest[..len])
}

/// Why no further request could be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The batch is full.
    Full,
    /// The line has no end before this place.
    Line(usize),
    /// The data block ends here, with its line end.
    Data(usize),
    /// The line ends here, and a data block of this many bytes follows that gets an allocation of its own.
    Body(usize, usize),
    /// Beyond the end so many bytes are to be thrown away.
    Waste(usize),
    TooLong,
    /// A client speaks the binary protocol.
    Binary,
}

/// Parses requests from `at` on, and moves it past them; no line end lies before `scanned`.
#[inline]
fn parse(bytes: &[u8], at: &mut usize, mut scanned: usize, bounds: &Bounds, batch: &mut Requests) -> Stop {
    while batch.len() < bounds.requests_max {
        let start = *at;
        let from = scanned.max(start);
        if bytes.get(start) == Some(&BINARY_REQUEST) {
            return Stop::Binary;
        }
        let Some(len) = memchr::memchr(b'\n', &bytes[from..]) else {
            let is_retrieval = bytes[start..].starts_with(b"get") || bytes[start..].starts_with(b"gat");
            let max = if is_retrieval { bounds.retrieval_max } else { LINE_BYTES_MAX };
            return if bytes.len() - start > max { Stop::TooLong } else { Stop::Line(bytes.len()) };
        };
        let next = from + len + 1;
        let end = if from + len > start && bytes[next - 2] == b'\r' { next - 2 } else { next - 1 };
        *at = match push_line(bytes, start, end, bounds, batch) {
            Follows::Nothing => next,
            Follows::Data(len) => match parse_data(bytes, next, len, bounds, batch) {
                Ok(behind) => behind,
                Err(stop) => {
                    batch.abandon();
                    return stop;
                }
            },
            Follows::Waste(len) if next + len > bytes.len() => {
                batch.finish();
                *at = bytes.len();
                return Stop::Waste(next + len - bytes.len());
            }
            Follows::Waste(len) => next + len,
        };
        batch.finish();
        scanned = 0;
    }
    Stop::Full
}

/// Parses a data block of `len` bytes at `start`; the place behind it.
fn parse_data(bytes: &[u8], start: usize, len: usize, bounds: &Bounds, batch: &mut Requests) -> Result<usize, Stop> {
    let end = start + len;
    let is_body = len >= bounds.body_min;
    let Some(trailer) = bytes.get(end..end + 2) else {
        return Err(if is_body { Stop::Body(start, len) } else { Stop::Data(end + 2) });
    };
    if trailer != b"\r\n" {
        refuse_chunk(bytes, batch);
    } else if is_body {
        batch.push_body(Bytes::copy_from_slice(&bytes[start..end]));
    } else {
        batch.push_received(start, len);
    }
    Ok(end + 2)
}

/// The data of the request being built is not followed by a line end. As in memcached, `ms` knows no `noreply`, and
/// what is wrong with its flags comes first.
fn refuse_chunk(bytes: &[u8], batch: &mut Requests) {
    let line = batch.unfinished(bytes);
    let text = match line.get(0) {
        b"ms" => match meta(line, 3, line.len()) {
            Ok(flags) if flags.mode.is_some_and(|mode| !b"SsEeAaPpRr".contains(&mode)) => text::BAD_STORE_MODE,
            Ok(_) => text::BAD_CHUNK,
            Err(text) => text,
        },
        _ if is_quiet(line) => return batch.abandon(),
        _ => text::BAD_CHUNK,
    };
    refuse(text, batch);
}

/// A request that has not arrived whole, and bytes that wait behind it.
#[derive(Debug, Default)]
pub struct Partial {
    kept: Kept,
    /// With fewer bytes kept there is nothing to be parsed.
    needed: usize,
    /// Bytes to be thrown away before anything else.
    waste: usize,
    /// The words of a request whose data block is arriving; they lie at the beginning of what is kept.
    request: Requests,
    body: Vec<u8>,
    /// Length of that data block; `None` when none is arriving.
    body_len: Option<usize>,
    /// Why nothing more is decoded.
    failure: Option<ProtocolError>,
}

impl decode::Partial for Partial {
    type Bounds = Bounds;

    fn bounds(requests_max: usize, limits: &Limits) -> Bounds {
        Bounds::new(requests_max, limits)
    }

    fn begin<'a>(kept: &mut Option<Box<Self>>, input: &'a [u8], bounds: &Bounds, batch: &mut Requests) -> Decoded<'a> {
        let mut at = 0;
        let stop = parse(input, &mut at, 0, bounds, batch);
        let mut decoded = Decoded { received: input, ..Decoded::of(input.len()) };
        match stop {
            Stop::Full => (decoded.consumed, decoded.is_full) = (at, at < input.len()),
            Stop::Line(_) if at == input.len() => {}
            stop => {
                let partial = kept.insert(Box::default());
                partial.kept.bytes.extend_from_slice(&input[at..]);
                partial.settle(stop, at, bounds);
                decoded.error = partial.failure.clone();
            }
        }
        decoded
    }

    fn go_on(&mut self, input: &[u8], bounds: &Bounds, batch: &mut Requests) -> Decoded<'static> {
        self.take_over(input);
        let decoded = Decoded { error: self.failure.clone(), ..Decoded::of(input.len()) };
        if decoded.error.is_some() || !self.deliver_body(batch) || self.kept.bytes.len() < self.needed {
            return decoded;
        }
        let kept = &mut self.kept;
        let addressable = kept.addressable();
        let stop = parse(&kept.bytes[..addressable], &mut kept.position, kept.scanned, bounds, batch);
        if stop == Stop::Full && !kept.waiting().is_empty() {
            (kept.scanned, self.needed) = (0, 0);
            return Decoded { is_full: true, ..decoded };
        }
        let shift = kept.hand_over(batch);
        self.settle(stop, shift, bounds);
        Decoded { error: self.failure.clone(), ..decoded }
    }

    fn take_over(&mut self, input: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        let (wasted, input) = input.split_at(self.waste.min(input.len()));
        self.waste -= wasted.len();
        let (body, input) = input.split_at(self.announced_bytes().min(input.len()));
        self.body.extend_from_slice(body);
        self.kept.take_over(input, self.body_len.is_none());
    }

    fn kept(&self) -> &Kept {
        &self.kept
    }

    fn is_idle(&self) -> bool {
        let is_empty = self.kept.waiting().is_empty() && self.body_len.is_none();
        is_empty && self.waste == 0 && self.failure.is_none()
    }

    fn buffered_bytes(&self) -> usize {
        self.kept.waiting().len() + self.body.len()
    }

    fn announced_bytes(&self) -> usize {
        self.body_len.map_or(0, |len| len - self.body.len())
    }
}

impl Partial {
    /// Takes note of why parsing stopped; `shift` bytes have left the front of what it looked at.
    fn settle(&mut self, stop: Stop, shift: usize, bounds: &Bounds) {
        (self.kept.scanned, self.needed) = (0, 0);
        match stop {
            Stop::Full => {}
            Stop::Line(scanned) => self.kept.scanned = scanned - shift,
            Stop::Data(end) => self.needed = end - shift,
            Stop::Body(line_end, len) => self.await_body(line_end - shift, len, bounds),
            Stop::Waste(bytes) => self.waste = bytes,
            Stop::TooLong => self.fail(text::LINE_TOO_LONG),
            Stop::Binary => self.fail(text::BINARY),
        }
    }

    fn fail(&mut self, text: &str) {
        *self = Self { failure: Some(ProtocolError(text.to_owned())), ..Self::default() };
    }

    /// The line at the buffer's beginning is followed by a large data block.
    fn await_body(&mut self, line_end: usize, len: usize, bounds: &Bounds) {
        let line = &self.kept.bytes[..line_end];
        let end = line.strip_suffix(b"\r\n").map_or(line_end - 1, <[u8]>::len);
        let follows = push_line(&self.kept.bytes, 0, end, bounds, &mut self.request);
        if follows != Follows::Data(len) || self.body.try_reserve_exact(len).is_err() {
            return self.fail(text::NO_MEMORY);
        }
        let here = len.min(self.kept.bytes.len() - line_end);
        self.body.extend(self.kept.bytes.drain(line_end..line_end + here));
        (self.body_len, self.kept.position) = (Some(len), line_end);
    }

    /// Delivers the request whose data block has arrived; false when one is awaited still.
    fn deliver_body(&mut self, batch: &mut Requests) -> bool {
        let Some(len) = self.body_len else { return true };
        let Some(trailer) = self.kept.bytes.get(self.kept.position..self.kept.position + 2) else { return false };
        if self.body.len() < len {
            return false;
        }
        let body = Bytes::from(std::mem::take(&mut self.body));
        if trailer == b"\r\n" {
            self.request.push_body(body);
        } else {
            refuse_chunk(&self.kept.bytes, &mut self.request);
        }
        batch.adopt(&mut self.request);
        self.body_len = None;
        self.kept.position += 2;
        true
    }
}
