//! memcached's text protocol: the classic commands and the meta commands.
//!
//! | module    | in                         | out                                                                |
//! |-----------|----------------------------|--------------------------------------------------------------------|
//! | `decode`  | bytes, cut anywhere        | [`Requests`](super::Requests): the words of a line, then its data block |
//! | `line`    | one line                   | its words, and what follows the line                               |
//! | `request` | a request's arguments      | typed requests: numbers, times, flags                              |
//! | `reply`   | an item, a status          | bytes                                                              |
//!
//! What must stay true: lines are accepted and refused as memcached 1.6 does, with its texts. On purpose differ: a key
//! with control characters is refused, as the specification has it and the program does not; a line that is too long is
//! answered before the connection is closed; a key that does not fit a line is always returned in base64.
//! Source: memcached's `doc/protocol.txt`.

mod decode;
mod line;
mod reply;
mod request;

pub use decode::{Decoder, first_key};
pub use line::{BAD, UNSTORABLE};
pub use reply::{text, write_key, write_number, write_opaque_key, write_refusal, write_value_line};
pub use request::{Exptime, Meta, Store, delta, exptime, is_quiet, key, meta, store};

/// Longest key, bytes.
pub const KEY_BYTES_MAX: usize = 250;

/// Longest line, but for retrievals, which may name many keys.
const LINE_BYTES_MAX: usize = 2048;

/// Words of a meta command, its name and key included, at most.
const META_WORDS_MAX: usize = 19;

/// Longest opaque token, its letter included.
const OPAQUE_BYTES_MAX: usize = 32;
