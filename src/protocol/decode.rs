//! What the decoders of all protocols have in common, and the one of a connection.
//!
//! In: bytes, cut anywhere. Out: batches of whole requests. What must stay true: an idle decoder holds no allocation; a
//! connection's protocol is decided when it is accepted.

use super::{Requests, http, memcache, resp};

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

/// Why a client's bytes are no request, or a server's no reply. For RESP requests the text after `-ERR ` is Redis'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError(pub String);

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ProtocolError {}

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
    /// Decodes at most `requests_max` complete requests into `batch` (cleared first); see the protocols' own.
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
