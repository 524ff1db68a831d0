//! HTTP/1.1: requests with their bodies, and the parts of replies.
//!
//! | module    | in                   | out                                                                       |
//! |-----------|----------------------|---------------------------------------------------------------------------|
//! | `decode`  | bytes, cut anywhere  | [`Requests`](super::Requests), with the arguments that [`request`] lists   |
//! | `head`    | one head             | those arguments, and how the body is framed                               |
//! | `body`    | a body's bytes       | the body, of known length or in chunks                                    |
//! | `request` | arguments            | typed requests: query, conditions, directives, credentials                |
//! | `reply`   | statuses and fields  | bytes                                                                     |
//!
//! What must stay true: where two readers of the same bytes might disagree about where a request ends, it is refused
//! and the connection closed; every part has a limit.
//! Source: RFC 9112 (syntax), RFC 9110 (semantics), RFC 9111 (`Cache-Control`, `Age`).

mod body;
mod decode;
mod head;
pub mod reply;
pub mod request;

pub use decode::Decoder;
pub use request::Request;

/// Longest head, from the request line to the empty line, bytes.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most fields of a head.
const FIELDS_MAX: usize = 64;

/// Longest body before the client has shown its credentials.
const UNAUTHENTICATED_BODY_BYTES_MAX: u64 = 16 * 1024;

/// Why a request cannot be served: a status, and what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) u16, pub(super) &'static str);
