//! The decoder of one connection: received bytes to requests.
//!
//! In: bytes, cut anywhere. Out: batches of whole requests, parsed in place when they have arrived whole. A fault is
//! delivered as a request of its own, ` bad`, behind which nothing is decoded; a client that waits before it sends a
//! body, or has to show its credentials before, is delivered as ` begin`. What must stay true: bytes are looked at a
//! bounded number of times; a body that arrives in pieces goes into one allocation, once there is room for it.

use bytes::Bytes;

use super::body::{Body, NO_ROOM, TOO_LARGE};
use super::head::{self, Framing, Head};
use super::request::{AUTHORIZATION, BODY, MODE, ROUTE};
use super::{Fault, HEAD_BYTES_MAX, UNAUTHENTICATED_BODY_BYTES_MAX};
use crate::protocol::decode::{self, Incremental, Kept};
use crate::protocol::{Args, Decoded, Limits, Requests};

/// The incremental decoder of one connection; eight bytes while no request is incomplete.
pub type Decoder = Incremental<Partial>;

impl Decoder {
    /// Whether a request has begun to arrive.
    pub fn is_partial(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| !partial.is_over)
    }
}

/// Why no further request could be parsed.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// The batch is full.
    Full,
    /// The head has no end before this place.
    Head(usize),
    /// A head begins and ends here, and its body has not arrived whole.
    Body(usize, usize, Head),
    /// Nothing more is decoded.
    Over,
}

/// Finds the end of the head that begins at `start`; no line end lies before `scanned`.
fn find_end(bytes: &[u8], start: usize, scanned: usize) -> Result<Option<usize>, Fault> {
    let within = &bytes[..bytes.len().min(start + HEAD_BYTES_MAX)];
    let mut from = scanned.max(start);
    while let Some(len) = memchr::memchr(b'\n', &within[from..]) {
        let at = from + len;
        if at == start || within[at - 1] != b'\r' {
            return Err(Fault(400, "a line ends with LF alone"));
        }
        if within[start..at - 1].ends_with(b"\r\n") {
            return Ok(Some(at + 1));
        }
        from = at + 1;
    }
    if within.len() < bytes.len() {
        let has_line = memchr::memchr(b'\n', &within[start..]).is_some();
        return Err(if has_line { Fault(431, "the head is too long") } else { Fault(414, "the target is too long") });
    }
    Ok(None)
}

/// Parses requests from `at` on, and moves it past them; no end of a head lies before `scanned`.
fn parse(
    bytes: &[u8],
    at: &mut usize,
    mut scanned: usize,
    (requests_max, limits): &(usize, Limits),
    batch: &mut Requests,
) -> Stop {
    while batch.len() < *requests_max {
        // Empty lines before a request are read over, as RFC 9112 has it.
        while bytes[*at..].starts_with(b"\r\n") {
            *at += 2;
        }
        let end = match find_end(bytes, *at, scanned) {
            Ok(Some(end)) => end,
            Ok(None) => return Stop::Head(bytes.len()),
            Err(fault) => return refuse(fault, batch),
        };
        scanned = 0;
        let head = match head::push(bytes, *at, end, batch).and_then(|head| check(head, limits)) {
            Ok(head) => head,
            Err(fault) => return refuse(fault, batch),
        };
        let body_len = match head.framing {
            Framing::Length(len) if len <= (bytes.len() - end) as u64 => len as usize,
            _ => {
                batch.abandon();
                return Stop::Body(*at, end, head);
            }
        };
        if body_len >= limits.body_bytes_min {
            batch.push_body(Bytes::copy_from_slice(&bytes[end..end + body_len]));
        } else {
            batch.push_received(end, body_len);
        }
        batch.finish();
        *at = end + body_len;
        if head.is_last {
            return Stop::Over;
        }
    }
    Stop::Full
}

/// Whether there is room for a body of known length.
fn check(head: Head, limits: &Limits) -> Result<Head, Fault> {
    match head.framing {
        Framing::Length(len) if len > body_max(limits) => Err(TOO_LARGE),
        Framing::Length(len) if len >= limits.body_bytes_min as u64 && len > limits.body_room_bytes => Err(NO_ROOM),
        _ => Ok(head),
    }
}

fn body_max(limits: &Limits) -> u64 {
    limits.bulk_bytes_max.min(limits.request_bytes_max).min(u64::from(u32::MAX))
}

/// Delivers a fault instead of the request being built.
fn refuse(Fault(status, text): Fault, batch: &mut Requests) -> Stop {
    batch.abandon();
    let mut digits = itoa::Buffer::new();
    for index in 0..=BODY {
        batch.push_copy(match index {
            ROUTE => b" bad",
            MODE => &[super::request::IS_LAST],
            AUTHORIZATION => digits.format(status).as_bytes(),
            BODY => text.as_bytes(),
            _ => b"",
        });
    }
    batch.finish();
    Stop::Over
}

/// A request that has not arrived whole, and bytes that wait behind it.
#[derive(Debug, Default)]
pub struct Partial {
    kept: Kept,
    /// The request whose body is arriving, without it.
    request: Requests,
    body: Option<Body>,
    is_last: bool,
    /// Nothing more is decoded.
    is_over: bool,
}

impl decode::Partial for Partial {
    type Bounds = (usize, Limits);

    fn bounds(requests_max: usize, limits: &Limits) -> (usize, Limits) {
        // The next request may be judged differently.
        (if limits.is_unauthenticated { 1 } else { requests_max }, *limits)
    }

    fn begin<'a>(
        kept: &mut Option<Box<Self>>,
        input: &'a [u8],
        bounds: &Self::Bounds,
        batch: &mut Requests,
    ) -> Decoded<'a> {
        let mut at = 0;
        let stop = parse(input, &mut at, 0, bounds, batch);
        let mut decoded = Decoded { received: input, ..Decoded::of(input.len()) };
        match stop {
            Stop::Full => (decoded.consumed, decoded.is_full) = (at, at < input.len()),
            Stop::Head(_) if at == input.len() => {}
            Stop::Head(scanned) => {
                let bytes = input[at..].to_vec();
                kept.insert(Box::default()).kept = Kept { bytes, position: 0, scanned: scanned - at };
            }
            Stop::Body(start, end, head) => {
                let partial = kept.insert(Box::default());
                partial.begin_body(&input[start..end], head, &bounds.1, batch);
                (decoded.consumed, decoded.is_full, decoded.is_last) = (end, !partial.is_over, partial.is_over);
            }
            Stop::Over => {
                kept.insert(Box::default()).is_over = true;
                decoded.is_last = true;
            }
        }
        decoded
    }

    fn go_on(&mut self, input: &[u8], bounds: &Self::Bounds, batch: &mut Requests) -> Decoded<'static> {
        if self.is_over {
            return Decoded { is_last: true, ..Decoded::of(input.len()) };
        }
        if self.body.is_some() {
            return self.go_on_with_body(input, &bounds.1, batch);
        }
        self.take_over(input);
        let decoded = Decoded::of(input.len());
        let kept = &mut self.kept;
        let (addressable, scanned) = (kept.addressable(), std::mem::take(&mut kept.scanned));
        let stop = parse(&kept.bytes[..addressable], &mut kept.position, scanned, bounds, batch);
        match stop {
            Stop::Full if !kept.waiting().is_empty() => return Decoded { is_full: true, ..decoded },
            Stop::Body(start, end, head) => {
                let bytes = kept.bytes[start..end].to_vec();
                kept.position = end;
                self.begin_body(&bytes, head, &bounds.1, batch);
                return Decoded { is_full: !self.is_over, is_last: self.is_over, ..decoded };
            }
            Stop::Over => self.is_over = true,
            Stop::Full => _ = kept.hand_over(batch),
            Stop::Head(scanned) => kept.scanned = scanned - kept.hand_over(batch),
        }
        Decoded { is_last: self.is_over, ..decoded }
    }

    fn take_over(&mut self, input: &[u8]) {
        if !self.is_over {
            self.kept.take_over(input, true);
        }
    }

    fn kept(&self) -> &Kept {
        &self.kept
    }

    fn is_idle(&self) -> bool {
        self.kept.waiting().is_empty() && self.body.is_none() && !self.is_over
    }

    fn buffered_bytes(&self) -> usize {
        let waiting = if self.is_over { &[] } else { self.kept.waiting() };
        waiting.len() + self.body.as_ref().map_or(0, |body| body.bytes.len())
    }

    fn announced_bytes(&self) -> usize {
        self.body.as_ref().map_or(0, Body::missing_bytes)
    }
}

impl Partial {
    /// A body follows this head, of which at least a byte is missing; or it comes in chunks.
    fn begin_body(&mut self, bytes: &[u8], head: Head, limits: &Limits, batch: &mut Requests) {
        let room = limits.body_room_bytes.max(limits.body_bytes_min as u64);
        let body_max = body_max(limits).min(room);
        let mut one = Requests::default();
        let begun = head::push(bytes, 0, bytes.len(), &mut one).and_then(|_| Body::new(head.framing, body_max));
        match begun {
            Ok(body) => self.body = Some(body),
            Err(fault) => {
                refuse(fault, batch);
                self.is_over = true;
                return;
            }
        }
        one.finish();
        self.request.clear();
        self.request.push_request(one.get(0, bytes));
        self.is_last = head.is_last;
        let is_long = match head.framing {
            Framing::Length(len) => len > UNAUTHENTICATED_BODY_BYTES_MAX,
            Framing::Chunked => true,
        };
        if head.expects || (limits.is_unauthenticated && is_long) {
            let args = self.request.get(0, &[]);
            batch.push_copy(b" begin");
            args.iter().skip(1).for_each(|arg| batch.push_copy(arg));
            batch.push_copy(b"");
            batch.finish();
        }
    }

    /// Feeds the body: from the buffer while that has anything.
    fn go_on_with_body(&mut self, input: &[u8], limits: &Limits, batch: &mut Requests) -> Decoded<'static> {
        let Some(body) = &mut self.body else { return Decoded::of(0) };
        let waiting = self.kept.waiting();
        let is_kept = !waiting.is_empty();
        let source = if is_kept { waiting } else { input };
        let fed = match body.feed(source) {
            Ok(fed) => fed,
            Err(fault) => {
                refuse(fault, batch);
                *self = Self { is_over: true, ..Self::default() };
                return Decoded { is_last: true, ..Decoded::of(input.len()) };
            }
        };
        let mut decoded = Decoded::of(if is_kept { 0 } else { fed });
        self.kept.position += if is_kept { fed } else { 0 };
        if self.kept.waiting().is_empty() {
            self.kept = Kept::default();
        }
        if body.is_complete() {
            let bytes = std::mem::take(&mut body.bytes);
            self.body = None;
            push_whole(self.request.get(0, &[]), bytes, limits, batch);
            (self.is_over, decoded.is_last) = (self.is_last, self.is_last);
        }
        decoded.is_full = !self.is_over && (decoded.consumed < input.len() || !self.kept.waiting().is_empty());
        decoded
    }
}

/// Delivers a request whose body has arrived.
fn push_whole(args: Args<'_>, body: Vec<u8>, limits: &Limits, batch: &mut Requests) {
    args.iter().for_each(|arg| batch.push_copy(arg));
    if body.len() >= limits.body_bytes_min {
        batch.push_body(Bytes::from(body));
    } else {
        batch.push_copy(&body);
    }
    batch.finish();
}
