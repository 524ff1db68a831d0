//! Bytes to requests, replies to bytes. Pure: no socket, no clock, no shard.
//!
//! In: bytes as they were received, cut anywhere. Out: [`Requests`], whose [`Args`] point into those bytes; and, the
//! other way, replies appended to an [`Output`]. What must stay true: a request cut at any byte gives the same result
//! as one received whole; limits are enforced before anything is allocated; a malformed request is a
//! [`ProtocolError`], never a panic.

pub mod base64;
pub mod decode;
pub mod http;
pub mod memcache;
pub mod output;
pub mod request;
pub mod resp;

pub use decode::{Decoded, Decoder, Limits, ProtocolError};
pub use output::Output;
pub use request::{Args, Requests};
