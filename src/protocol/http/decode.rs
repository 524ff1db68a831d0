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
use crate::protocol::request::SPAN_OFFSET_MAX;
use crate::protocol::{Args, Decoded, Limits, Requests};

/// The incremental decoder of one connection; eight bytes while no request is incomplete.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
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
    (requests_max, limits): (usize, &Limits),
    batch: &mut Requests,
) -> Stop {
    while batch.len() < requests_max {
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

impl Decoder {
    /// Decodes at most `requests_max` complete requests into `batch` (cleared first). Without buffered bytes it works
    /// in place on `input`; an incomplete tail is copied. With buffered bytes it takes over all of `input` first.
    ///
    /// # Panics
    /// When `input` is longer than [`SPAN_OFFSET_MAX`]: a bug in the caller, receive buffers are far smaller.
    pub fn decode<'a>(
        &'a mut self,
        input: &'a [u8],
        requests_max: usize,
        limits: &Limits,
        batch: &mut Requests,
    ) -> Decoded<'a> {
        assert!(input.len() <= SPAN_OFFSET_MAX);
        batch.clear();
        // The next request may be judged differently.
        let requests_max = if limits.is_unauthenticated { 1 } else { requests_max };
        if self.partial.is_some() {
            return self.go_on(input, requests_max, limits, batch);
        }
        let mut at = 0;
        let stop = parse(input, &mut at, 0, (requests_max, limits), batch);
        let mut decoded = Decoded { received: input, ..Decoded::of(input.len()) };
        match stop {
            Stop::Full => (decoded.consumed, decoded.is_full) = (at, at < input.len()),
            Stop::Head(_) if at == input.len() => {}
            Stop::Head(scanned) => {
                let partial = self.partial.insert(Box::default());
                partial.buffer.extend_from_slice(&input[at..]);
                partial.scanned = scanned - at;
            }
            Stop::Body(start, end, head) => {
                let partial = self.partial.insert(Box::default());
                partial.begin_body(&input[start..end], head, limits, batch);
                (decoded.consumed, decoded.is_full, decoded.is_last) = (end, !partial.is_over, partial.is_over);
            }
            Stop::Over => {
                self.partial.insert(Box::default()).is_over = true;
                decoded.is_last = true;
            }
        }
        decoded
    }

    /// Keeps `input` for a later [`decode`](Self::decode): the connection may not go on now.
    pub fn hold(&mut self, input: &[u8]) {
        if !input.is_empty() {
            self.partial.get_or_insert_default().take_over(input);
        }
    }

    /// Bytes held for incomplete or held requests.
    pub fn buffered_bytes(&self) -> usize {
        let body_bytes = |partial: &Partial| partial.body.as_ref().map_or(0, |body| body.bytes.len());
        self.partial.as_ref().map_or(0, |partial| partial.waiting().len() + body_bytes(partial))
    }

    /// What a body that is arriving will take beyond what has arrived.
    pub fn announced_bytes(&self) -> usize {
        self.partial.as_ref().and_then(|partial| partial.body.as_ref()).map_or(0, Body::missing_bytes)
    }

    /// Whether a request has begun to arrive.
    pub fn is_partial(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| !partial.is_over)
    }

    /// Decodes from the kept bytes. A batch that empties the buffer of whole requests carries the buffer away with it.
    fn go_on<'a>(
        &'a mut self,
        input: &[u8],
        requests_max: usize,
        limits: &Limits,
        batch: &mut Requests,
    ) -> Decoded<'a> {
        let partial = self.partial.get_or_insert_default();
        if partial.is_over {
            return Decoded { is_last: true, ..Decoded::of(input.len()) };
        }
        if partial.body.is_some() {
            let decoded = partial.go_on_with_body(input, limits, batch);
            if partial.is_idle() {
                self.partial = None;
            }
            return decoded;
        }
        partial.take_over(input);
        let mut decoded = Decoded::of(input.len());
        // What lies beyond the reach of a span is parsed once what is before it has been handed over.
        let addressable = partial.buffer.len().min(SPAN_OFFSET_MAX);
        let scanned = std::mem::take(&mut partial.scanned);
        let bounds = (requests_max, limits);
        match parse(&partial.buffer[..addressable], &mut partial.position, scanned, bounds, batch) {
            Stop::Full if partial.position < partial.buffer.len() => decoded.is_full = true,
            Stop::Body(start, end, head) => {
                let bytes = partial.buffer[start..end].to_vec();
                partial.position = end;
                partial.begin_body(&bytes, head, limits, batch);
                (decoded.is_full, decoded.is_last) = (!partial.is_over, partial.is_over);
            }
            Stop::Over => (partial.is_over, decoded.is_last) = (true, true),
            stop => {
                let shift = std::mem::take(&mut partial.position);
                if let Stop::Head(scanned) = stop {
                    partial.scanned = scanned - shift;
                }
                if batch.is_empty() {
                    partial.buffer.drain(..shift);
                } else {
                    batch.carry(&mut partial.buffer, shift);
                }
                if partial.is_idle() {
                    self.partial = None;
                }
                return decoded;
            }
        }
        let partial = self.partial.get_or_insert_default();
        Decoded { received: &partial.buffer, ..decoded }
    }
}

/// A request that has not arrived whole, and bytes that wait behind it.
#[derive(Debug, Default)]
struct Partial {
    buffer: Vec<u8>,
    /// What lies before was delivered.
    position: usize,
    /// No end of a head lies before.
    scanned: usize,
    /// The request whose body is arriving, without it.
    request: Requests,
    body: Option<Body>,
    is_last: bool,
    /// Nothing more is decoded.
    is_over: bool,
}

impl Partial {
    fn waiting(&self) -> &[u8] {
        if self.is_over { &[] } else { &self.buffer[self.position..] }
    }

    fn is_idle(&self) -> bool {
        self.waiting().is_empty() && self.body.is_none() && !self.is_over
    }

    /// Keeps `input` behind what is kept already.
    fn take_over(&mut self, input: &[u8]) {
        if self.is_over {
            return;
        }
        // Delivered requests are dropped once they are half of the buffer, so each byte is moved once at most.
        if self.position > self.buffer.len() / 2 {
            self.buffer.drain(..self.position);
            self.scanned = self.scanned.saturating_sub(self.position);
            self.position = 0;
        }
        self.buffer.extend_from_slice(input);
    }

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
    fn go_on_with_body<'a>(&mut self, input: &[u8], limits: &Limits, batch: &mut Requests) -> Decoded<'a> {
        let Some(body) = &mut self.body else { return Decoded::of(0) };
        let is_kept = self.position < self.buffer.len();
        let source = if is_kept { &self.buffer[self.position..] } else { input };
        let fed = match body.feed(source) {
            Ok(fed) => fed,
            Err(fault) => {
                refuse(fault, batch);
                *self = Self { is_over: true, ..Self::default() };
                return Decoded { is_last: true, ..Decoded::of(input.len()) };
            }
        };
        let mut decoded = Decoded::of(if is_kept { 0 } else { fed });
        self.position += if is_kept { fed } else { 0 };
        if self.position == self.buffer.len() {
            (self.buffer, self.position) = (Vec::new(), 0);
        }
        if body.is_complete() {
            let bytes = std::mem::take(&mut body.bytes);
            self.body = None;
            push_whole(self.request.get(0, &[]), bytes, limits, batch);
            (self.is_over, decoded.is_last) = (self.is_last, self.is_last);
        }
        decoded.is_full = !self.is_over && (decoded.consumed < input.len() || self.position < self.buffer.len());
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
