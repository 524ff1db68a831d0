//! Numbers: `incr`, `decr` and `ma`.
//!
//! In: a key and how much. Out: the new number. What must stay true: numbers are unsigned 64-bit ones; adding wraps,
//! subtracting ends at 0; a value does not become shorter but is padded with spaces, as memcached's does.

use super::meta::{parse_change, version_of_new, write_all_tokens, write_tokens, write_ttl};
use super::{Call, expires_at, expiry_at, line, line_bytes, line_unless};
use crate::protocol::memcache::{self, text};
use crate::protocol::resp::Reply;
use crate::protocol::{Args, Output};
use crate::shard::{Attributes, NewValue, Stored, UnixMs, View};

/// Numbers with their padding; what is longer takes an allocation.
const PADDED_BYTES: usize = 64;

/// A number to be changed by another.
struct Delta {
    is_increment: bool,
    by: u64,
    /// The version that must be there.
    version: Option<u64>,
}

/// Why a number was not changed.
enum Unchanged {
    NotFound,
    Exists,
    Refused(&'static str),
}

/// Reads a stored number: digits, and behind a space whatever was appended to them.
fn stored_number(value: &[u8]) -> Option<u64> {
    memcache::delta(value.trim_ascii_start().split(u8::is_ascii_whitespace).next()?).ok()
}

/// Changes a number; what it is now.
fn change(call: &mut Call<'_>, key: &[u8], delta: &Delta) -> Result<u64, Unchanged> {
    let now = call.now.unix_ms;
    let Some(item) = call.shard.peek_as(View::Memcache, key, now) else { return Err(Unchanged::NotFound) };
    let old = item.attributes();
    if item.value.is_empty() {
        return Err(Unchanged::Refused(text::NOT_A_NUMBER));
    }
    if delta.version.is_some_and(|version| version != old.version && version != 0) {
        return Err(Unchanged::Exists);
    }
    let Some(number) = stored_number(item.value) else { return Err(Unchanged::Refused(text::NOT_A_NUMBER)) };
    let (old_len, at) = (item.value.len(), item.expires_at.unwrap_or(0));
    let (attributes, has_version) = (Attributes { content_type: &[], ..old }, old.version != 0);
    let number = if delta.is_increment { number.wrapping_add(delta.by) } else { number.saturating_sub(delta.by) };
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    let (mut short, mut long) = ([b' '; PADDED_BYTES], Vec::new());
    let len = old_len.max(digits.len());
    let value = if len <= PADDED_BYTES {
        &mut short[..len]
    } else {
        long.resize(len, b' ');
        &mut long[..]
    };
    value[..digits.len()].copy_from_slice(digits);
    let version = if has_version { call.shard.next_version(now) } else { 0 };
    // What becomes longer is written anew: nobody's win, not stale, and named in plain text.
    let kept =
        if len == old_len { attributes } else { Attributes { flags: attributes.flags, ..Attributes::default() } };
    let attributes = Attributes { version, ..kept };
    match call.shard.put_changed(key, value, expiry_at(at), &attributes, now) {
        Stored::Done { .. } => Ok(number),
        Stored::Refused | Stored::OutOfMemory => Err(Unchanged::Refused(text::NO_MEMORY)),
    }
}

pub(super) fn classic(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let is_quiet = memcache::is_quiet(args);
    let delta = if args.len() > 4 {
        Err(text::ERROR)
    } else {
        memcache::key(args.get(1)).and_then(|_| memcache::delta(args.get(2)))
    };
    let by = match delta {
        Ok(by) => by,
        Err(text) => return line_unless(is_quiet, reply.output, text),
    };
    let delta = Delta { is_increment: args.get(0) == b"incr", by, version: None };
    let changed = change(call, args.get(1), &delta);
    if is_quiet {
        return;
    }
    match changed {
        Ok(number) => {
            memcache::write_number(number, reply.output);
            line(reply.output, "");
        }
        Err(Unchanged::Refused(text)) => line(reply.output, text),
        Err(Unchanged::NotFound | Unchanged::Exists) => line(reply.output, "NOT_FOUND"),
    }
}

pub(super) fn meta(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let flags = match parse_change(args) {
        Ok(flags) => flags,
        Err(text) => return line(reply.output, text),
    };
    let is_increment = match flags.mode {
        None | Some(b'I' | b'i' | b'+') => true,
        Some(b'D' | b'd' | b'-') => false,
        Some(_) => return line(reply.output, text::BAD_DELTA_MODE),
    };
    let (key, now) = (args.get(1), call.now.unix_ms);
    let delta = Delta { is_increment, by: flags.delta, version: flags.version };
    let mut made = None;
    let changed = match change(call, key, &delta) {
        Err(Unchanged::NotFound) if flags.vivify.is_some() => {
            let version = version_of_new(call, &flags);
            made = flags.vivify.map(|exptime| Made { at: expires_at(exptime, now), version });
            create(call, key, flags.initial, made)
        }
        changed => changed,
    };
    let number = match changed {
        Ok(number) => number,
        Err(Unchanged::Refused(text)) => return line(reply.output, text),
        Err(why) => {
            reply.output.extend(if matches!(why, Unchanged::Exists) { b"EX" } else { b"NF" });
            return write_all_tokens(args, &flags, reply.output);
        }
    };
    if let Some(version) = flags.new_version {
        call.shard.change(key, now, |_, attributes| attributes.version = version);
    }
    let start = reply.output.len();
    write_number(call, args, &flags, (number, made), reply.output);
    // As memcached, which tells of what it has made.
    if flags.has(b'q') && made.is_none() {
        reply.output.truncate(start);
    }
}

/// What was made because there was none.
#[derive(Clone, Copy, Debug, Default)]
struct Made {
    /// When it expires.
    at: UnixMs,
    version: u64,
}

fn create(call: &mut Call<'_>, key: &[u8], initial: u64, made: Option<Made>) -> Result<u64, Unchanged> {
    let Made { at, version } = made.unwrap_or_default();
    let mut digits = itoa::Buffer::new();
    let value = NewValue::Copied(digits.format(initial).as_bytes());
    match call.shard.put(key, value, expiry_at(at), &Attributes { version, ..Attributes::default() }, call.now.unix_ms)
    {
        Stored::Done { .. } => Ok(initial),
        Stored::Refused | Stored::OutOfMemory => Err(Unchanged::Refused(text::NO_MEMORY)),
    }
}

/// The reply of `ma` that succeeded; `T` takes effect where it stands among the flags.
fn write_number(
    call: &mut Call<'_>,
    args: Args<'_>,
    flags: &memcache::Meta,
    (number, made): (u64, Option<Made>),
    output: &mut Output,
) {
    let (key, now) = (args.get(1), call.now.unix_ms);
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number).as_bytes();
    if flags.has(b'v') {
        output.extend(b"VA ");
        memcache::write_number(digits.len() as u64, output);
    } else {
        output.extend(b"HD");
    }
    let found_at = call.shard.peek_as(View::Memcache, key, now).and_then(|item| item.expires_at).unwrap_or(0);
    let mut at = if made.is_some() { 0 } else { found_at };
    for index in 2..args.len() {
        match args.get(index)[0] {
            b'N' => at = made.map_or(at, |made| made.at),
            b'T' => at = flags.exptime.map_or(at, |exptime| expires_at(exptime, now)),
            b't' => write_ttl(at, now, output),
            b'c' => {
                output.extend(b" c");
                let version = made.map(|made| made.version).or_else(|| call.shard.version(View::Memcache, key, now));
                memcache::write_number(version.unwrap_or(0), output);
            }
            _ => write_tokens(args, index, flags.has(b'b'), output),
        }
    }
    if at != found_at {
        call.shard.change(key, now, |expires_at, _| *expires_at = at);
    }
    output.extend(b"\r\n");
    if flags.has(b'v') {
        line_bytes(output, digits);
    }
}
