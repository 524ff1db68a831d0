//! A request that has not arrived whole, and bytes that wait behind it.
//!
//! In: bytes as they arrive. Out: the request once it is whole, or what is wrong with it. A large argument goes into
//! one allocation of its own, reserved when its length is announced and filled as it arrives; everything else stays in
//! one buffer. The work is resumed where it stopped, so a request that arrives a byte at a time costs linear time.
//!
//! ```text
//!                        ┌────────── *n, n ≤ 0 ────────────────────────┐
//!                        │                                             ▼
//!   Between ──► Count ───┴──► Length ──┬──► Argument ────────┬─last──► Whole ──► Between
//!      │                        ▲      ├──► Body ─► Trailer ─┤           ▲
//!      │                        │      └──► Skip ───► "      │           │
//!      │                        └──────────── more ──────────┘           │
//!      └──► Inline ──────────────────────────────────────────────────────┘      any ──► Failed
//! ```

use bytes::Bytes;

use super::decode::{Bounds, parse_whole};
use super::length::{self, Line};
use super::{Decoded, Limits, ProtocolError, inline};
use crate::protocol::Requests;
use crate::protocol::decode::{self, Kept};
use crate::protocol::request::SPAN_OFFSET_MAX;

/// Where in a request the bytes that are still to come belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No request has begun; the buffer may hold whole requests.
    Between,
    /// In the line `*count`.
    Count,
    /// In the line `$length` of the next argument.
    Length,
    /// In an argument of this length, which stays in the buffer.
    Argument(usize),
    /// In an argument of this length, which goes into `body`.
    Body(usize),
    /// In an argument for which there is no room; so much of it is still to come.
    Skip(usize),
    /// In the two bytes after a body.
    Trailer,
    /// In a line of words.
    Inline,
    /// The request is whole and not yet delivered.
    Whole,
    /// A malformed request was met (`failure` says why); nothing more is decoded.
    Failed,
}

/// Whether the present request is refused, and whether that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    None,
    New,
    Answered,
}

/// The bytes of an unfinished request, how far it was parsed, and what waits behind it.
#[derive(Debug)]
pub struct Partial {
    stage: Stage,
    /// The bytes; everything before their position is parsed.
    kept: Kept,
    /// Arguments announced.
    args_count: u32,
    /// Arguments still to come, the present one included.
    args_missing: u32,
    /// The arguments that are whole; received ones lie in what is kept.
    request: Requests,
    /// The large argument that is arriving.
    body: Vec<u8>,
    /// Bytes of the request that went into bodies.
    body_bytes: usize,
    /// Bytes that its bodies have announced.
    body_bytes_due: u64,
    /// The request is refused: there is no room for its arguments.
    refusal: Refusal,
    /// Why nothing more is decoded.
    failure: Option<ProtocolError>,
}

impl Default for Partial {
    fn default() -> Self {
        Partial {
            stage: Stage::Between,
            kept: Kept::default(),
            args_count: 0,
            args_missing: 0,
            request: Requests::default(),
            body: Vec::new(),
            body_bytes: 0,
            body_bytes_due: 0,
            refusal: Refusal::None,
            failure: None,
        }
    }
}

/// What a step found: go on with the next one, or wait for more bytes.
enum Step {
    Next,
    Wait,
}

impl decode::Partial for Partial {
    type Bounds = Bounds;

    #[inline]
    fn bounds(requests_max: usize, limits: &Limits) -> Bounds {
        Bounds::new(requests_max, limits)
    }

    #[inline]
    fn begin<'a>(kept: &mut Option<Box<Self>>, input: &'a [u8], bounds: &Bounds, batch: &mut Requests) -> Decoded<'a> {
        let mut at = 0;
        let is_full = parse_whole(input, &mut at, bounds, batch);
        if is_full || at == input.len() {
            return Decoded { received: input, is_full: at < input.len(), ..Decoded::of(at) };
        }
        let partial = kept.insert(Box::default());
        partial.take_over(&input[at..]);
        Decoded { received: input, ..partial.resumed(input.len(), bounds) }
    }

    fn go_on(&mut self, input: &[u8], bounds: &Bounds, batch: &mut Requests) -> Decoded<'static> {
        self.take_over(input);
        if !self.is_between() {
            let decoded = self.resumed(input.len(), bounds);
            // Its refusal comes before whatever follows it.
            if !decoded.is_full || decoded.is_refused {
                return decoded;
            }
            self.deliver(batch);
        }
        let addressable = self.kept.addressable();
        let is_full = parse_whole(&self.kept.bytes[..addressable], &mut self.kept.position, bounds, batch);
        if is_full && !self.is_idle() {
            return Decoded { is_full, ..Decoded::of(input.len()) };
        }
        self.kept.hand_over(batch);
        if self.is_idle() { Decoded::of(input.len()) } else { self.resumed(input.len(), bounds) }
    }

    fn take_over(&mut self, input: &[u8]) {
        let rest = match self.stage {
            Stage::Failed => return,
            Stage::Body(len) => self.fill_body(len, input),
            Stage::Skip(left) => {
                let skipped = left.min(input.len());
                self.stage = Stage::Skip(left - skipped);
                &input[skipped..]
            }
            _ => input,
        };
        self.kept.take_over(rest, self.is_between());
    }

    fn kept(&self) -> &Kept {
        &self.kept
    }

    fn is_idle(&self) -> bool {
        self.is_between() && self.kept.waiting().is_empty()
    }

    fn buffered_bytes(&self) -> usize {
        let kept = if self.is_between() { self.kept.waiting() } else { &self.kept.bytes };
        kept.len() + self.body_bytes
    }

    fn announced_bytes(&self) -> usize {
        match self.stage {
            Stage::Body(len) => len - self.body.len(),
            _ => 0,
        }
    }
}

impl Partial {
    /// Goes on with the request that has begun: how far that went, with so many bytes more.
    fn resumed(&mut self, consumed: usize, bounds: &Bounds) -> Decoded<'static> {
        let resumed = self.resume(bounds);
        let (is_refused, is_full) = (self.refusal == Refusal::New, resumed == Ok(true));
        Decoded { error: resumed.err(), is_refused, is_full, ..Decoded::of(consumed) }
    }

    /// Moves bytes into the body as far as they belong to it; returns the others.
    fn fill_body<'a>(&mut self, len: usize, input: &'a [u8]) -> &'a [u8] {
        let (body, rest) = input.split_at(input.len().min(len - self.body.len()));
        self.body.extend_from_slice(body);
        self.body_bytes += body.len();
        rest
    }

    /// The refusal was answered.
    pub(super) fn acknowledge(&mut self) {
        self.refusal = Refusal::Answered;
    }

    /// Whether no request has begun.
    fn is_between(&self) -> bool {
        self.stage == Stage::Between
    }

    /// Hands a whole request over; what follows it is still to be parsed.
    fn deliver(&mut self, batch: &mut Requests) {
        debug_assert!(self.stage == Stage::Whole);
        if self.refusal == Refusal::None {
            batch.adopt(&mut self.request);
        }
        self.request.clear();
        self.refusal = Refusal::None;
        (self.body_bytes, self.body_bytes_due) = (0, 0);
        self.stage = Stage::Between;
    }

    /// Goes on with the request that begins, or began, at the start of the buffer: whether it is whole now.
    ///
    /// # Errors
    /// The request is malformed or exceeds a bound; everything is dropped.
    fn resume(&mut self, bounds: &Bounds) -> Result<bool, ProtocolError> {
        loop {
            let step = match self.stage {
                Stage::Between => self.begin(),
                Stage::Count => self.read_count(bounds),
                Stage::Length => self.read_length(bounds),
                Stage::Argument(len) => Ok(self.read_argument(len)),
                Stage::Body(len) => Ok(self.read_body(len)),
                Stage::Skip(left) => Ok(self.skip(left)),
                Stage::Trailer => Ok(self.read_trailer()),
                Stage::Inline => self.read_inline(),
                Stage::Whole => return Ok(true),
                Stage::Failed => return self.failure.clone().map_or(Ok(false), Err),
            };
            match step {
                Ok(Step::Next) => {}
                Ok(Step::Wait) => return Ok(false),
                Err(error) => {
                    *self = Partial { stage: Stage::Failed, failure: Some(error.clone()), ..Partial::default() };
                    return Err(error);
                }
            }
        }
    }

    fn begin(&mut self) -> Result<Step, ProtocolError> {
        debug_assert!(self.kept.position == 0, "arguments are placed from the start of the buffer");
        self.stage = match self.kept.bytes.first() {
            None => return Ok(Step::Wait),
            Some(b'*') => Stage::Count,
            Some(_) => Stage::Inline,
        };
        Ok(Step::Next)
    }

    fn read_count(&mut self, bounds: &Bounds) -> Result<Step, ProtocolError> {
        let Some(end) = self.find_line("too big mbulk count string")? else { return Ok(Step::Wait) };
        let count = length::parse_number(&self.kept.bytes[self.kept.position + 1..end])
            .filter(|count| *count <= bounds.count_max_authenticated)
            .ok_or_else(|| ProtocolError::new("invalid multibulk length"))?;
        if count > bounds.count_max {
            return Err(ProtocolError::new("unauthenticated multibulk length"));
        }
        self.args_count = count.max(0) as u32;
        self.args_missing = self.args_count;
        self.end_line(end + 2);
        self.check_size(0, bounds)?;
        self.stage = if self.args_missing == 0 { Stage::Whole } else { Stage::Length };
        Ok(Step::Next)
    }

    fn read_length(&mut self, bounds: &Bounds) -> Result<Step, ProtocolError> {
        let Some(end) = self.find_line("too big bulk count string")? else { return Ok(Step::Wait) };
        let marker = self.kept.bytes[self.kept.position];
        if marker != b'$' {
            return Err(ProtocolError::new(&format!("expected '$', got '{}'", char::from(marker))));
        }
        let len = length::parse_number(&self.kept.bytes[self.kept.position + 1..end])
            .and_then(|len| u64::try_from(len).ok())
            .filter(|len| *len <= bounds.bulk_max_authenticated)
            .ok_or_else(|| ProtocolError::new("invalid bulk length"))?;
        if len > bounds.bulk_max {
            return Err(ProtocolError::new("unauthenticated bulk length"));
        }
        self.end_line(end + 2);
        self.check_size(len + 2, bounds)?;
        let len = len as usize;
        self.body_bytes_due += if len < bounds.body_min { 0 } else { len as u64 };
        self.stage = if len < bounds.body_min {
            Stage::Argument(len)
        } else if self.refusal != Refusal::None || self.body_bytes_due > bounds.body_room {
            self.refuse();
            Stage::Skip(len)
        } else {
            self.body = reserve_body(len).ok_or_else(|| ProtocolError::new("no memory for a bulk of that length"))?;
            Stage::Body(len)
        };
        Ok(Step::Next)
    }

    fn read_argument(&mut self, len: usize) -> Step {
        if self.kept.bytes.len() - self.kept.position < len + 2 {
            return Step::Wait;
        }
        self.request.push_received(self.kept.position, len);
        self.end_argument(len + 2);
        Step::Next
    }

    /// Takes what lies in the buffer; what comes later goes straight into the body.
    fn read_body(&mut self, len: usize) -> Step {
        let here = self.kept.bytes.len() - self.kept.position;
        let taken = here.min(len - self.body.len());
        self.body.extend_from_slice(&self.kept.bytes[self.kept.position..self.kept.position + taken]);
        if taken == here {
            self.kept.bytes.truncate(self.kept.position);
            self.body_bytes += taken;
        } else {
            self.kept.position += taken;
        }
        if self.body.len() < len {
            return Step::Wait;
        }
        self.request.push_body(Bytes::from(std::mem::take(&mut self.body)));
        self.stage = Stage::Trailer;
        Step::Next
    }

    /// What has come so far of the request's large arguments is given up; the rest will be skipped.
    fn refuse(&mut self) {
        if self.refusal == Refusal::None {
            self.refusal = Refusal::New;
        }
        self.request.clear();
        self.body_bytes = 0;
    }

    fn skip(&mut self, left: usize) -> Step {
        let here = left.min(self.kept.bytes.len() - self.kept.position);
        self.kept.position += here;
        if here < left {
            // Nothing of it is kept.
            self.stage = Stage::Skip(left - here);
            return Step::Wait;
        }
        self.stage = Stage::Trailer;
        Step::Next
    }

    fn read_trailer(&mut self) -> Step {
        if self.kept.bytes.len() - self.kept.position < 2 {
            return Step::Wait;
        }
        self.end_argument(2);
        Step::Next
    }

    fn read_inline(&mut self) -> Result<Step, ProtocolError> {
        match inline::find_line(&self.kept.bytes, self.kept.position, self.kept.scanned) {
            Line::End(end) => {
                inline::split(&self.kept.bytes, self.kept.position, end, &mut self.request)
                    .map_err(|inline::Unbalanced| ProtocolError::new("unbalanced quotes in request"))?;
                self.end_line(end + 1);
                self.stage = Stage::Whole;
                Ok(Step::Next)
            }
            Line::Unfinished(scanned) => {
                self.kept.scanned = scanned;
                Ok(Step::Wait)
            }
            Line::TooLong => Err(ProtocolError::new("too big inline request")),
        }
    }

    /// The end of the length line at `position`, if it is whole.
    fn find_line(&mut self, too_long: &str) -> Result<Option<usize>, ProtocolError> {
        match length::find_line(&self.kept.bytes, self.kept.position, self.kept.scanned) {
            Line::End(end) => Ok(Some(end)),
            Line::Unfinished(scanned) => {
                self.kept.scanned = scanned;
                Ok(None)
            }
            Line::TooLong => Err(ProtocolError::new(too_long)),
        }
    }

    fn end_line(&mut self, next: usize) {
        self.kept.position = next;
        self.kept.scanned = next;
    }

    fn end_argument(&mut self, bytes: usize) {
        self.end_line(self.kept.position + bytes);
        self.args_missing -= 1;
        self.stage = if self.args_missing == 0 { Stage::Whole } else { Stage::Length };
    }

    /// Refuses a request that will exceed the bound with the bytes that were announced just now.
    fn check_size(&self, announced: u64, bounds: &Bounds) -> Result<(), ProtocolError> {
        let bytes = (self.kept.position + self.body_bytes) as u64 + announced;
        let is_addressable = self.kept.bytes.len() <= SPAN_OFFSET_MAX;
        if bounds.is_too_large(bytes, u64::from(self.args_count)) || !is_addressable {
            return Err(ProtocolError::new("request exceeds client-query-buffer-limit"));
        }
        Ok(())
    }
}

/// An allocation for a body, which nobody has touched yet: until its bytes arrive it costs address space only. `None`
/// when there is none.
fn reserve_body(len: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    body.try_reserve_exact(len).ok()?;
    Some(body)
}

/// A body that has arrived already.
pub(super) fn copy_body(bytes: &[u8]) -> Option<Bytes> {
    let mut body = reserve_body(bytes.len())?;
    body.extend_from_slice(bytes);
    Some(Bytes::from(body))
}
