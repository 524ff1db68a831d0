//! The commands that store: `set add replace append prepend cas`, and `ms`, which can do what they all do.
//!
//! In: a request whose last argument is its data. Out: the item stored, or why not. What must stay true: an item that
//! could not be replaced for want of room is gone, so that nobody reads what its writer has given up.

use super::super::string::value_at;
use super::meta::{version_of_new, write_tokens};
use super::{Call, expires_at, expiry_at, line, line_bytes, line_unless};
use crate::protocol::memcache::{self, text};
use crate::protocol::resp::Reply;
use crate::protocol::{Args, Output};
use crate::shard::{Attributes, NewValue, Stored, UnixMs, View};

/// How an item is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Set,
    Add,
    Replace,
    Append,
    Prepend,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Stored,
    NotStored,
    Exists,
    NotFound,
    OutOfMemory,
}

/// What is to be stored beside key and value.
struct Change {
    mode: Mode,
    flags: u32,
    expires_at: UnixMs,
    /// The version that must be there.
    version: Option<u64>,
    /// With an older one the value is stored as a stale one.
    is_invalidating: bool,
    /// Its key was named in base64.
    is_key_encoded: bool,
    new_version: u64,
}

/// What an item has that decides about its successor.
#[derive(Clone, Copy)]
struct Old {
    version: u64,
    leased_until: UnixMs,
    expires_at: UnixMs,
}

pub(super) fn store(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    let request = memcache::store(args);
    let mode = match args.get(0) {
        b"add" => Mode::Add,
        b"replace" => Mode::Replace,
        b"append" => Mode::Append,
        b"prepend" => Mode::Prepend,
        _ => Mode::Set,
    };
    let change = Change {
        mode,
        flags: request.flags,
        expires_at: expires_at(request.exptime, call.now.unix_ms),
        version: request.version,
        is_invalidating: false,
        is_key_encoded: false,
        new_version: 0,
    };
    let outcome = apply(call, args.get(1), value_at(args, args.len() - 1), &change);
    line_unless(
        request.is_quiet,
        reply.output,
        match outcome {
            Outcome::Stored => "STORED",
            Outcome::NotStored => "NOT_STORED",
            Outcome::Exists => "EXISTS",
            Outcome::NotFound => "NOT_FOUND",
            Outcome::OutOfMemory => text::NO_MEMORY,
        },
    );
}

/// Stores a value if the conditions hold.
fn apply(call: &mut Call<'_>, key: &[u8], value: NewValue<'_>, change: &Change) -> Outcome {
    let now = call.now.unix_ms;
    let mut attributes = Attributes {
        flags: change.flags,
        version: change.new_version,
        is_key_encoded: change.is_key_encoded,
        ..Attributes::default()
    };
    // A plain set asks nothing about what was there.
    if change.mode == Mode::Set && change.version.is_none() {
        return put(call, key, value, change.expires_at, &attributes);
    }
    if change.is_invalidating && change.version.is_some() {
        // Which of two versions is older shows only when the item has one.
        call.shard.version(View::Memcache, key, now);
    }
    let old = call.shard.peek_as(View::Memcache, key, now).map(|item| {
        let Attributes { version, leased_until, .. } = item.attributes();
        Old { version, leased_until, expires_at: item.expires_at.unwrap_or(0) }
    });
    let refusal = match (change.mode, &old) {
        (Mode::Add, Some(_)) => Some(Outcome::NotStored),
        (Mode::Add, None) => None,
        (Mode::Set, None) => Some(Outcome::NotFound),
        (Mode::Replace, None) if change.version.is_some() => Some(Outcome::NotFound),
        (_, None) => Some(Outcome::NotStored),
        (_, Some(old)) => judge_version(change, *old, now, &mut attributes),
    };
    if let Some(refusal) = refusal {
        return refusal;
    }
    let new_len = match change.mode {
        Mode::Append => call.shard.append_as(View::Memcache, key, bytes(&value), now),
        Mode::Prepend => call.shard.prepend_as(View::Memcache, key, bytes(&value), now),
        Mode::Set | Mode::Add | Mode::Replace => {
            // Whoever asked for the last version will ask for this one.
            if change.version.is_some() && attributes.version == 0 {
                attributes.version = call.shard.next_version(now);
            }
            let stale_until = old.filter(|_| attributes.fresh_until != 0).map(|old| old.expires_at);
            return put(call, key, value, stale_until.unwrap_or(change.expires_at), &attributes);
        }
    };
    if new_len.is_none() {
        return Outcome::OutOfMemory;
    }
    if change.new_version != 0 {
        call.shard.change(key, now, |_, attributes| attributes.version = change.new_version);
    }
    Outcome::Stored
}

/// Compares versions, where one was given: the refusal, or what a value from an older one carries.
fn judge_version(change: &Change, old: Old, now: UnixMs, attributes: &mut Attributes<'_>) -> Option<Outcome> {
    let is_part = matches!(change.mode, Mode::Append | Mode::Prepend);
    let expected = change.version.filter(|version| !is_part || *version != 0)?;
    if expected == old.version && expected != 0 {
        return None;
    }
    if !change.is_invalidating || is_part || expected == 0 || expected >= old.version {
        return Some(Outcome::Exists);
    }
    // Stale from the beginning, and whoever was computing it still is.
    attributes.fresh_until = now;
    attributes.leased_until = old.leased_until;
    None
}

fn put(call: &mut Call<'_>, key: &[u8], value: NewValue<'_>, at: UnixMs, attributes: &Attributes<'_>) -> Outcome {
    match call.shard.put(key, value, expiry_at(at), attributes, call.now.unix_ms) {
        Stored::Done { .. } => Outcome::Stored,
        Stored::Refused | Stored::OutOfMemory => {
            call.shard.delete(key, call.now.unix_ms);
            Outcome::OutOfMemory
        }
    }
}

fn bytes<'a>(value: &NewValue<'a>) -> &'a [u8] {
    match value {
        NewValue::Copied(bytes) => bytes,
        NewValue::Shared(bytes) => bytes,
    }
}

pub(super) fn meta(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    match parse(call, args) {
        Ok((change, flags)) => {
            let outcome = apply(call, args.get(1), value_at(args, args.len() - 1), &change);
            let code = match outcome {
                Outcome::Stored if flags.has(b'q') => return,
                Outcome::Stored => "HD",
                Outcome::NotStored => "NS",
                Outcome::Exists => "EX",
                Outcome::NotFound => "NF",
                Outcome::OutOfMemory => return line(reply.output, text::NO_MEMORY),
            };
            reply.output.extend(code.as_bytes());
            let version = if outcome == Outcome::Stored { change.new_version } else { 0 };
            write_stored(call, args, &flags, version, reply.output);
        }
        Err(text) => line(reply.output, text),
    }
}

fn parse(call: &mut Call<'_>, args: Args<'_>) -> Result<(Change, memcache::Meta), &'static str> {
    let flags = memcache::meta(args, 3, args.len() - 1)?;
    if !flags.has(b'b') {
        memcache::key(args.get(1))?;
    }
    let mode = match flags.mode {
        None | Some(b'S' | b's') => Mode::Set,
        Some(b'E' | b'e') => Mode::Add,
        Some(b'A' | b'a') => Mode::Append,
        Some(b'P' | b'p') => Mode::Prepend,
        Some(b'R' | b'r') => Mode::Replace,
        Some(_) => return Err(text::BAD_STORE_MODE),
    };
    let change = Change {
        mode,
        flags: flags.flags,
        expires_at: flags.exptime.map_or(0, |exptime| expires_at(exptime, call.now.unix_ms)),
        version: flags.version,
        is_invalidating: flags.has(b'I'),
        is_key_encoded: flags.has(b'b'),
        new_version: version_of_new(call, &flags),
    };
    Ok((change, flags))
}

/// The return flags of `ms`, in their order.
fn write_stored(call: &Call<'_>, args: Args<'_>, flags: &memcache::Meta, version: u64, output: &mut Output) {
    let (key, now) = (args.get(1), call.now.unix_ms);
    for index in 3..args.len() - 1 {
        match args.get(index)[0] {
            b'c' => {
                output.extend(b" c");
                memcache::write_number(version, output);
            }
            b's' => {
                output.extend(b" s");
                let len = call.shard.peek_as(View::Memcache, key, now).map_or(0, |item| item.value.len());
                memcache::write_number(len as u64, output);
            }
            _ => write_tokens(args, index, flags.has(b'b'), output),
        }
    }
    output.extend(b"\r\n");
}

/// A request whose data has no room: what it would have replaced is gone, as the client will believe.
pub(super) fn unstorable(call: &mut Call<'_>, args: Args<'_>, reply: &mut Reply<'_>) {
    if matches!(args.get(2), b"set" | b"ms") {
        call.shard.delete(args.get(1), call.now.unix_ms);
    }
    if !args.get(3).is_empty() {
        line_bytes(reply.output, args.get(3));
    }
}
