//! The decoder of one connection: received bytes to requests.
//!
//! In: bytes, cut anywhere. Out: batches of whole requests. Whole requests are parsed in place, by a loop that gives up
//! on anything it cannot finish; what it gave up on goes to a [`Partial`], which keeps the bytes, goes on where it
//! stopped, and says what is wrong with them if they are wrong.
//!
//! What must stay true: an idle decoder is eight bytes and holds no allocation; every byte is parsed at most twice
//! however it arrives; no allocation is larger than what was received, except one body's, which is reserved and not
//! touched; after an error nothing more is decoded.

use super::length::{self, Line};
use super::partial::Partial;
use super::{Limits, inline};
use crate::protocol::Requests;
use crate::protocol::decode::Incremental;

/// The incremental decoder of one connection; eight bytes while no request is incomplete.
pub type Decoder = Incremental<Partial>;

impl Decoder {
    /// A refused request was answered.
    pub fn acknowledge_refusal(&mut self) {
        self.partial.iter_mut().for_each(|partial| partial.acknowledge());
    }
}

/// The limits, put so that each is one comparison.
pub struct Bounds {
    pub(super) requests_max: usize,
    pub(super) count_max: i64,
    pub(super) bulk_max: u64,
    pub(super) body_min: usize,
    pub(super) body_room: u64,
    pub(super) request_max: u64,
    /// What is above `count_max` and `bulk_max` is the client's fault for not having authenticated, unless it is above
    /// these.
    pub(super) count_max_authenticated: i64,
    pub(super) bulk_max_authenticated: u64,
}

/// Most arguments, and longest one, before authentication.
const UNAUTHENTICATED_COUNT_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_MAX: u64 = 16 * 1024;

impl Bounds {
    #[inline]
    pub(super) fn new(requests_max: usize, limits: &Limits) -> Self {
        let count_max = i64::from(i32::MAX);
        let bulk_max = limits.bulk_bytes_max.min(u64::from(u32::MAX));
        let is_unauthenticated = limits.is_unauthenticated;
        Bounds {
            requests_max: if is_unauthenticated { requests_max.min(1) } else { requests_max },
            count_max: if is_unauthenticated { UNAUTHENTICATED_COUNT_MAX } else { count_max },
            bulk_max: if is_unauthenticated { bulk_max.min(UNAUTHENTICATED_BULK_MAX) } else { bulk_max },
            body_min: limits.body_bytes_min,
            body_room: limits.body_room_bytes,
            request_max: limits.request_bytes_max,
            count_max_authenticated: count_max,
            bulk_max_authenticated: bulk_max,
        }
    }

    /// Whether a request of so many bytes and arguments is too large.
    #[inline]
    pub(super) fn is_too_large(&self, bytes: u64, args: u64) -> bool {
        bytes + args * SPAN_BYTES > self.request_max
    }
}

/// What an argument's place takes in a batch.
const SPAN_BYTES: u64 = 8;

/// Parses whole requests from `at` on, and moves it past them. Whether the batch is full; if not, what begins at `at`,
/// if anything, is not a whole and well-formed request.
#[inline]
pub(super) fn parse_whole(bytes: &[u8], at: &mut usize, bounds: &Bounds, batch: &mut Requests) -> bool {
    while batch.len() < bounds.requests_max {
        match bytes.get(*at) {
            None => return false,
            Some(marker) => {
                let end = if *marker == b'*' {
                    parse_multibulk(bytes, *at, bounds, batch)
                } else {
                    parse_inline(bytes, *at, batch)
                };
                let Some(end) = end else {
                    batch.abandon();
                    return false;
                };
                *at = end;
                batch.finish();
            }
        }
    }
    true
}

/// Parses one array of bulk strings; the place after it. An array of no or fewer elements is skipped, as Redis does.
#[inline]
fn parse_multibulk(bytes: &[u8], start: usize, bounds: &Bounds, batch: &mut Requests) -> Option<usize> {
    let (count, mut at, mut name) = match length::read_short_head(bytes, start) {
        Some((count @ 1.., len, from)) => (count.into(), from, Some((len.into(), from))),
        _ => length::read_length(bytes, start).map(|(count, at)| (count, at, None))?,
    };
    if count > bounds.count_max {
        return None;
    }
    let mut bodies = 0;
    for _ in 0..count {
        let (len, from) = match name.take() {
            Some(name) => name,
            None if *bytes.get(at)? == b'$' => length::read_length(bytes, at)?,
            None => return None,
        };
        // A negative length is above every bound as well.
        if len as u64 > bounds.bulk_max {
            return None;
        }
        let len = len as usize;
        // The two bytes after an argument are skipped unseen, as Redis does.
        at = from + len + 2;
        if at > bytes.len() {
            return None;
        }
        if len < bounds.body_min {
            batch.push_received(from, len);
        } else {
            bodies += len as u64;
            if bodies > bounds.body_room {
                return None;
            }
            batch.push_body(super::partial::copy_body(&bytes[from..from + len])?);
        }
    }
    let is_too_large = bounds.is_too_large((at - start) as u64, count.max(0) as u64);
    (!is_too_large).then_some(at)
}

/// Argument 1 of the first request, if it is sent as an array and is all there.
#[inline]
pub fn first_key(bytes: &[u8]) -> Option<&[u8]> {
    let range = |marker: u8, at: usize| {
        bytes.get(at).filter(|byte| **byte == marker)?;
        let (len, from) = length::read_length(bytes, at)?;
        Some(from..from + usize::try_from(len).ok()?)
    };
    let name = range(b'$', range(b'*', 0)?.start)?;
    bytes.get(range(b'$', name.end + 2)?)
}

/// Parses one line of words; the place after it.
#[inline(never)]
fn parse_inline(bytes: &[u8], start: usize, batch: &mut Requests) -> Option<usize> {
    let Line::End(end) = inline::find_line(bytes, start, start) else { return None };
    inline::split(bytes, start, end, batch).ok()?;
    Some(end + 1)
}
