//! What clients are told: memcached's texts, and the lines that carry items.
//!
//! In: keys, numbers. Out: bytes appended to an [`Output`].

use crate::protocol::Output;
use crate::protocol::base64;

/// memcached's texts, without their line end.
pub mod text {
    #![allow(missing_docs, reason = "they say it themselves")]
    pub const ERROR: &str = "ERROR";
    pub const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format";
    pub const BAD_DELETE: &str = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
    pub const BAD_CHUNK: &str = "CLIENT_ERROR bad data chunk";
    pub const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument";
    pub const BAD_DELTA: &str = "CLIENT_ERROR invalid numeric delta argument";
    pub const NOT_A_NUMBER: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value";
    pub const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format";
    pub const BAD_ENCODING: &str = "CLIENT_ERROR error decoding key";
    pub const BAD_META_DELTA: &str = "CLIENT_ERROR invalid numeric delta value";
    pub const BAD_INITIAL: &str = "CLIENT_ERROR invalid numeric initial value";
    pub const BAD_MODE_LENGTH: &str = "CLIENT_ERROR incorrect length for M token";
    pub const BAD_STORE_MODE: &str = "CLIENT_ERROR invalid mode for ms M token";
    pub const BAD_DELTA_MODE: &str = "CLIENT_ERROR invalid mode for ma M token";
    pub const INVALID_FLAG: &str = "CLIENT_ERROR invalid flag";
    pub const DUPLICATE_FLAG: &str = "CLIENT_ERROR duplicate flag";
    pub const INVALID_OR_DUPLICATE_FLAG: &str = "CLIENT_ERROR invalid or duplicate flag";
    pub const TOO_MANY_FLAGS: &str = "CLIENT_ERROR options flags too long";
    pub const TOO_MANY_GET_FLAGS: &str = "CLIENT_ERROR options flags are too long";
    pub const OPAQUE_TOO_LONG: &str = "CLIENT_ERROR opaque token too long";
    pub const LINE_TOO_LONG: &str = "CLIENT_ERROR line too long";
    pub const BINARY: &str = "CLIENT_ERROR the binary protocol is not spoken here, use the text protocol";
    pub const TOO_LARGE: &str = "SERVER_ERROR object too large for cache";
    pub const NO_MEMORY: &str = "SERVER_ERROR out of memory storing object";
    pub const UNAUTHENTICATED: &str = "CLIENT_ERROR unauthenticated";
    pub const BAD_CREDENTIALS_FORMAT: &str = "CLIENT_ERROR bad authentication token format";
    pub const AUTHENTICATION_FAILED: &str = "CLIENT_ERROR authentication failure";
    pub const BAD_DETAIL: &str = "CLIENT_ERROR usage: stats detail on|off|dump";
    pub const SHUTDOWN_REFUSED: &str = "ERROR: shutdown not enabled";
}

/// An error that is no command's, given as RESP has it: its text as it stands when it is memcached's, else behind
/// `SERVER_ERROR`.
pub fn write_refusal(text: &[u8], output: &mut Output) {
    let text = text.strip_prefix(b"ERR ").unwrap_or(text);
    if !text.starts_with(b"CLIENT_ERROR ") && !text.starts_with(b"SERVER_ERROR ") {
        output.extend(b"SERVER_ERROR ");
    }
    output.extend(text);
    output.extend(b"\r\n");
}

/// A number's digits.
#[inline]
pub fn write_number(number: u64, output: &mut Output) {
    output.extend(itoa::Buffer::new().format(number).as_bytes());
}

/// `VALUE key flags bytes [version]`, and the line end.
#[inline]
pub fn write_value_line(key: &[u8], flags: u32, bytes: usize, version: Option<u64>, output: &mut Output) {
    output.reserve(key.len() + 64);
    output.extend(b"VALUE ");
    output.extend(key);
    if flags == 0 {
        output.extend(b" 0 ");
    } else {
        output.push(b' ');
        write_number(u64::from(flags), output);
        output.push(b' ');
    }
    write_number(bytes as u64, output);
    if let Some(version) = version {
        output.push(b' ');
        write_number(version, output);
    }
    output.extend(b"\r\n");
}

/// A key, in base64 when that is wanted or it does not fit a line otherwise; whether it is.
pub fn write_key(key: &[u8], is_encoded: bool, output: &mut Output) -> bool {
    let is_encoded = is_encoded || key.iter().any(|byte| *byte <= b' ' || *byte == 0x7f);
    if is_encoded {
        base64::encode(key, |letter| output.push(letter));
    } else {
        output.extend(key);
    }
    is_encoded
}

/// ` kkey`, or ` kkey b` with the key in base64.
pub fn write_opaque_key(key: &[u8], is_encoded: bool, output: &mut Output) {
    output.extend(b" k");
    if write_key(key, is_encoded, output) {
        output.extend(b" b");
    }
}
