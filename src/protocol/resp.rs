//! RESP2 and RESP3, both ways.
//!
//! In: bytes, cut anywhere; out: [`Requests`]. And [`Reply`], which appends one command's reply in the version that
//! the client negotiated.
//! Source: the RESP specification, <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use bytes::Bytes;

use super::{Output, Requests};

/// The protocol version that a client negotiated with `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// RESP2, spoken until negotiated otherwise.
    #[default]
    Resp2,
    /// RESP3.
    Resp3,
}

/// Bounds on what a client may announce.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest argument, bytes (`proto-max-bulk-len`).
    pub bulk_bytes_max: u64,
    /// Most bytes buffered for one incomplete request, bodies included (`client-query-buffer-limit`).
    pub request_bytes_max: u64,
    /// Arguments of at least this many bytes get an allocation of their own, reserved once.
    pub body_bytes_min: usize,
    /// The client has not authenticated: at most 10 arguments of 16 KiB.
    pub is_unauthenticated: bool,
}

/// What one call of [`Decoder::decode`] found.
pub struct Decoded<'a> {
    /// The bytes that the batch's received arguments lie in: pass them to [`Requests::get`].
    pub received: &'a [u8],
    /// How many bytes of the input were taken over; call again with the rest.
    pub consumed: usize,
    /// A malformed request follows the complete ones: answer it and close.
    pub error: Option<ProtocolError>,
    /// The batch was full: more complete requests may be waiting; call again (with an empty input if all was consumed).
    pub is_full: bool,
}

/// Why a client's bytes are no request. The text after `-ERR ` is Redis'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError(pub String);

/// The incremental decoder of one connection; eight bytes while no request is incomplete.
#[derive(Debug, Default)]
pub struct Decoder {}

impl Decoder {
    /// Decodes at most `requests_max` complete requests into `batch` (cleared first). Without buffered bytes it works
    /// in place on `input`; an incomplete tail is copied. With buffered bytes it takes over all of `input` first.
    pub fn decode<'a>(
        &'a mut self,
        _input: &'a [u8],
        _requests_max: usize,
        _limits: &Limits,
        _batch: &mut Requests,
    ) -> Decoded<'a> {
        unimplemented!()
    }
    /// Keeps `input` for a later [`decode`](Self::decode): the connection may not go on now.
    pub fn hold(&mut self, _input: &[u8]) {
        unimplemented!()
    }
    /// Bytes held for incomplete or held requests.
    pub fn buffered_bytes(&self) -> usize {
        unimplemented!()
    }
}

/// Appends one command's reply. Aggregates are announced with their length, then their elements follow.
pub struct Reply<'a> {
    /// Where the bytes go.
    pub output: &'a mut Output,
    /// How to spell them.
    pub version: Version,
}

impl Reply<'_> {
    /// `+text`; for `OK`, `PONG`, `QUEUED`.
    pub fn simple(&mut self, _text: &str) {
        unimplemented!()
    }
    /// `-text`; the text begins with its code: `ERR …`, `WRONGTYPE …`. Line ends in it are replaced by spaces.
    pub fn error(&mut self, _text: &str) {
        unimplemented!()
    }
    /// `:value`.
    pub fn integer(&mut self, _value: i64) {
        unimplemented!()
    }
    /// `$len` and a copy.
    pub fn bulk(&mut self, _bytes: &[u8]) {
        unimplemented!()
    }
    /// `$len` and the value spliced in, not copied.
    pub fn bulk_shared(&mut self, _value: &Bytes) {
        unimplemented!()
    }
    /// `$-1` or `_`.
    pub fn null(&mut self) {
        unimplemented!()
    }
    /// `*-1` or `_`.
    pub fn null_array(&mut self) {
        unimplemented!()
    }
    /// `*len`.
    pub fn array(&mut self, _len: usize) {
        unimplemented!()
    }
    /// `%len`, or `*2·len` in RESP2; `len` pairs follow.
    pub fn map(&mut self, _len: usize) {
        unimplemented!()
    }
    /// `~len`, or `*len` in RESP2.
    pub fn set(&mut self, _len: usize) {
        unimplemented!()
    }
    /// `>len`, or `*len` in RESP2.
    pub fn push(&mut self, _len: usize) {
        unimplemented!()
    }
    /// `,value`, or a bulk string in RESP2.
    pub fn double(&mut self, _value: f64) {
        unimplemented!()
    }
    /// `#t`/`#f`, or `:1`/`:0` in RESP2.
    pub fn boolean(&mut self, _value: bool) {
        unimplemented!()
    }
    /// `=len` with a three-letter format, or a bulk string in RESP2.
    pub fn verbatim(&mut self, _format: &str, _text: &str) {
        unimplemented!()
    }
    /// `(digits`, or a bulk string in RESP2.
    pub fn big_number(&mut self, _digits: &str) {
        unimplemented!()
    }
}
