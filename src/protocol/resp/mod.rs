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

pub use super::{Decoded, Limits, ProtocolError};
pub use decode::{Decoder, first_key};
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

impl ProtocolError {
    fn new(cause: &str) -> Self {
        ProtocolError(format!("Protocol error: {cause}"))
    }
}

/// Longest line: an inline request, or the digits of a length (Redis' `PROTO_INLINE_MAX_SIZE`).
const LINE_BYTES_MAX: usize = 64 * 1024;
