//! What the decoders of all protocols have in common, and the one of a connection.
//!
//! In: bytes, cut anywhere. Out: batches of whole requests. What must stay true: an idle decoder is eight bytes and
//! holds no allocation; a connection's protocol is decided when it is accepted.

use super::request::SPAN_OFFSET_MAX;
use super::{Requests, http, memcache, resp};
use crate::config::Settings;

/// What one call of [`Decoder::decode`] found.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// The bytes that the batch's received arguments lie in: pass them to [`Requests::get`].
    pub received: &'a [u8],
    /// How many bytes of the input were taken over; call again with the rest.
    pub consumed: usize,
    /// A malformed request follows the complete ones: answer it and close. Later calls say the same again.
    pub error: Option<ProtocolError>,
    /// After the complete requests one begins for whose arguments there is no room, and which will not be delivered:
    /// answer it and say so with [`Decoder::acknowledge_refusal`]. Until then later calls say the same again.
    pub is_refused: bool,
    /// No request follows the complete ones, by the client's word or because what it sent is none: close the connection
    /// once they are answered. Later calls say the same again.
    pub is_last: bool,
    /// The batch was full: more complete requests may be waiting; call again (with an empty input if all was consumed).
    pub is_full: bool,
}

impl Decoded<'_> {
    /// Nothing but that so many bytes were taken over.
    pub(super) fn of(consumed: usize) -> Self {
        Self { received: &[], consumed, error: None, is_refused: false, is_last: false, is_full: false }
    }
}

/// Bounds on what a client may announce.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest argument, bytes (`proto-max-bulk-len`); never more than 4 GiB - 1.
    pub bulk_bytes_max: u64,
    /// Most bytes of one request as received, bodies included, with 8 bytes for every argument's place
    /// (`client-query-buffer-limit`).
    pub request_bytes_max: u64,
    /// Arguments of at least this many bytes get an allocation of their own, reserved once.
    pub body_bytes_min: usize,
    /// Such arguments together must fit in this; a request with more is read, thrown away and reported.
    pub body_room_bytes: u64,
    /// The client has not authenticated: small requests only, and one a batch, since the next one may be judged
    /// differently. RESP: at most 10 arguments of 16 KiB.
    pub is_unauthenticated: bool,
}

impl Limits {
    /// What the settings say, for a client that has authenticated.
    pub fn new(settings: &Settings) -> Self {
        Self {
            bulk_bytes_max: settings.proto_max_bulk_len,
            request_bytes_max: settings.client_query_buffer_limit,
            body_bytes_min: settings.large_value_bytes as usize,
            body_room_bytes: u64::MAX,
            is_unauthenticated: false,
        }
    }
}

/// Why a client's bytes are no request, or a server's no reply. For RESP requests the text after `-ERR ` is Redis'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError(pub String);

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ProtocolError {}

/// The incremental decoder of one connection that speaks one protocol.
#[derive(Debug)]
pub struct Incremental<P> {
    pub(super) partial: Option<Box<P>>,
}

const _: () = assert!(size_of::<Incremental<Kept>>() == 8);

impl<P> Default for Incremental<P> {
    fn default() -> Self {
        Self { partial: None }
    }
}

/// A request that has not arrived whole, and bytes that wait behind it: what a protocol has to say about that.
pub trait Partial: Default {
    /// The limits, put so that each is one comparison.
    type Bounds;

    /// See there.
    fn bounds(requests_max: usize, limits: &Limits) -> Self::Bounds;

    /// Decodes requests from `input` in place while nothing is kept; what is incomplete is put into `kept`.
    fn begin<'a>(
        kept: &mut Option<Box<Self>>,
        input: &'a [u8],
        bounds: &Self::Bounds,
        batch: &mut Requests,
    ) -> Decoded<'a>;

    /// Takes `input` over and decodes from what is kept. A batch that empties the buffer of whole requests carries it
    /// away with it.
    fn go_on(&mut self, input: &[u8], bounds: &Self::Bounds, batch: &mut Requests) -> Decoded<'static>;

    /// Keeps `input` behind what is kept already.
    fn take_over(&mut self, input: &[u8]);

    /// What is kept, bodies apart, and the bytes that delivered arguments lie in.
    fn kept(&self) -> &Kept;

    /// Whether it may be forgotten.
    fn is_idle(&self) -> bool;

    /// Bytes that are kept and were not delivered.
    fn buffered_bytes(&self) -> usize;

    /// What a large argument that is arriving will take beyond what has arrived.
    fn announced_bytes(&self) -> usize;
}

impl<P: Partial> Incremental<P> {
    /// Decodes at most `requests_max` complete requests into `batch` (cleared first). Without buffered bytes it works
    /// in place on `input`; an incomplete tail is copied. With buffered bytes it takes over all of `input` first, but
    /// for what follows a body.
    ///
    /// # Panics
    /// When `input` is longer than [`SPAN_OFFSET_MAX`]: a bug in the caller, receive buffers are far smaller.
    #[inline]
    pub fn decode<'a>(
        &'a mut self,
        input: &'a [u8],
        requests_max: usize,
        limits: &Limits,
        batch: &mut Requests,
    ) -> Decoded<'a> {
        assert!(input.len() <= SPAN_OFFSET_MAX);
        batch.clear();
        let bounds = P::bounds(requests_max, limits);
        let Some(partial) = &mut self.partial else { return P::begin(&mut self.partial, input, &bounds, batch) };
        let decoded = partial.go_on(input, &bounds, batch);
        if partial.is_idle() {
            self.partial = None;
        }
        Decoded { received: self.partial.as_ref().map_or(&[], |partial| &partial.kept().bytes), ..decoded }
    }

    /// Keeps `input` for a later [`decode`](Self::decode): the connection may not go on now.
    pub fn hold(&mut self, input: &[u8]) {
        if !input.is_empty() {
            self.partial.get_or_insert_default().take_over(input);
        }
    }

    /// Bytes held for incomplete or held requests.
    #[inline]
    pub fn buffered_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.buffered_bytes())
    }

    /// What a large argument that is arriving will take beyond what has arrived.
    #[inline]
    pub fn announced_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.announced_bytes())
    }
}

/// Bytes that wait for what completes them.
#[derive(Debug, Default)]
pub struct Kept {
    pub(super) bytes: Vec<u8>,
    /// What lies before was delivered, or belongs to the request that is being built.
    pub(super) position: usize,
    /// No line end lies before.
    pub(super) scanned: usize,
}

impl Kept {
    /// Appends to them. When all before the position was delivered, it is dropped once it is half of the bytes, so each
    /// byte is moved once at most.
    pub(super) fn take_over(&mut self, input: &[u8], is_delivered: bool) {
        if is_delivered && self.position > self.bytes.len() / 2 {
            self.bytes.drain(..self.position);
            self.scanned = self.scanned.saturating_sub(self.position);
            self.position = 0;
        }
        self.bytes.extend_from_slice(input);
    }

    /// What was not delivered.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.position..]
    }

    /// How much may be parsed: what lies beyond the reach of a span is, once what is before it has been handed over.
    pub(super) fn addressable(&self) -> usize {
        self.bytes.len().min(SPAN_OFFSET_MAX)
    }

    /// Hands what was delivered over to the batch whose arguments lie in it; how much that is. What `scanned` says is
    /// then of the rest.
    pub(super) fn hand_over(&mut self, batch: &mut Requests) -> usize {
        let delivered = std::mem::take(&mut self.position);
        if batch.is_empty() {
            self.bytes.drain(..delivered);
        } else {
            batch.carry(&mut self.bytes, delivered);
        }
        self.scanned = 0;
        delivered
    }
}

/// The decoder of one connection, in the protocol that it speaks.
#[derive(Debug)]
pub enum Decoder {
    /// RESP2 and RESP3.
    Resp(resp::Decoder),
    /// memcached's text protocol.
    Memcache(memcache::Decoder),
    /// HTTP/1.1.
    Http(http::Decoder),
}

impl Default for Decoder {
    fn default() -> Self {
        Self::Resp(resp::Decoder::default())
    }
}

macro_rules! each {
    ($decoder:expr, $inner:ident => $body:expr) => {
        match $decoder {
            Self::Resp($inner) => $body,
            Self::Memcache($inner) => $body,
            Self::Http($inner) => $body,
        }
    };
}

impl Decoder {
    /// Decodes at most `requests_max` complete requests into `batch`; see [`Incremental::decode`].
    #[inline]
    pub fn decode<'a>(
        &'a mut self,
        input: &'a [u8],
        requests_max: usize,
        limits: &Limits,
        batch: &mut Requests,
    ) -> Decoded<'a> {
        each!(self, decoder => decoder.decode(input, requests_max, limits, batch))
    }

    /// Keeps `input` for a later [`decode`](Self::decode): the connection may not go on now.
    pub fn hold(&mut self, input: &[u8]) {
        each!(self, decoder => decoder.hold(input));
    }

    /// What is probably the key of the first request in `input`: a hint, for prefetching.
    #[inline]
    pub fn first_key<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Resp(Incremental { partial: None }) => resp::first_key(input),
            Self::Memcache(Incremental { partial: None }) => memcache::first_key(input),
            Self::Resp(_) | Self::Memcache(_) | Self::Http(_) => None,
        }
    }

    /// Bytes held for incomplete or held requests.
    #[inline]
    pub fn buffered_bytes(&self) -> usize {
        each!(self, decoder => decoder.buffered_bytes())
    }

    /// What a large argument that is arriving will take beyond what has arrived.
    #[inline]
    pub fn announced_bytes(&self) -> usize {
        each!(self, decoder => decoder.announced_bytes())
    }

    /// A refused request was answered.
    pub fn acknowledge_refusal(&mut self) {
        match self {
            Self::Resp(decoder) => decoder.acknowledge_refusal(),
            // They deliver what has no room as a request without its data.
            Self::Memcache(_) | Self::Http(_) => {}
        }
    }

    /// Whether a request has begun to arrive that must not take for ever.
    #[inline]
    pub fn is_in_haste(&self) -> bool {
        matches!(self, Self::Http(decoder) if decoder.is_partial())
    }
}
