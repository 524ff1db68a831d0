//! RESP2 and RESP3, both ways.
//!
//! | module    | in                    | out                                                        |
//! |-----------|-----------------------|------------------------------------------------------------|
//! | `decode`  | bytes, cut anywhere   | [`Requests`](super::Requests); whole requests are parsed in place |
//! | `partial` | bytes of one request  | that request, once it is whole; linear however it was cut  |
//! | `inline`  | one line              | its arguments                                              |
//! | `length`  | `*3\r\n`, `$16\r\n`   | numbers                                                    |
//! | `reply`   | one command's outcome | bytes, in the version that the client negotiated           |
//! | `value`   | reply bytes           | values, or where a reply ends: the client's side           |
//!
//! What must stay true: requests are accepted and refused exactly as Redis 7.2 does, with its error texts. Two things
//! differ on purpose: a NUL byte in a line is a byte like any other (Redis waits for ever), and a line is too long
//! by where it ends, not by how it was cut.
//! Source: the RESP specification, <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

mod decode;
mod inline;
mod length;
mod partial;
mod reply;
mod value;

pub use decode::{Decoded, Decoder};
pub use reply::Reply;
pub use value::{DEPTH_MAX, Skipped, Skipper, Value, encode_request, parse, skip};

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
    /// Longest argument, bytes (`proto-max-bulk-len`); never more than 4 GiB - 1.
    pub bulk_bytes_max: u64,
    /// Most bytes of one request as received, bodies included, with 8 bytes for every argument's place
    /// (`client-query-buffer-limit`).
    pub request_bytes_max: u64,
    /// Arguments of at least this many bytes get an allocation of their own, reserved once.
    pub body_bytes_min: usize,
    /// Such arguments together must fit in this; a request with more is read, thrown away and reported.
    pub body_room_bytes: u64,
    /// The client has not authenticated: at most 10 arguments of 16 KiB, and one request a batch, since the next one
    /// may be judged differently.
    pub is_unauthenticated: bool,
}

/// Why a client's bytes are no request, or a server's no reply. For requests the text after `-ERR ` is Redis'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError(pub String);

impl ProtocolError {
    fn new(cause: &str) -> Self {
        ProtocolError(format!("Protocol error: {cause}"))
    }
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ProtocolError {}

/// Longest line: an inline request, or the digits of a length (Redis' `PROTO_INLINE_MAX_SIZE`).
const LINE_BYTES_MAX: usize = 64 * 1024;
