//! memcached's text protocol.
//!
//! In: operations and bytes of replies. Out: requests, and what each reply was. Source: `doc/protocol.txt` of
//! memcached.

use super::{Broken, Items, Next, Operation, Output, Pending, Reply, append_value, number};
use crate::load::items::{COUNTER_KEY, VALUE_KEY};

pub(super) fn encode(operation: Operation, keys: &[u32], items: &Items, ttl_seconds: &[u8], output: &mut Output) {
    let name = |letter| items.name(letter, keys[0]);
    match operation {
        Operation::Get | Operation::MultiGet(_) => {
            output.extend(b"get");
            for key in keys {
                output.push(b' ');
                output.extend(items.name(VALUE_KEY, *key).as_bytes());
            }
        }
        Operation::Set => set(keys[0], items, b"0", output),
        Operation::SetExpiring => set(keys[0], items, ttl_seconds, output),
        Operation::Increment => {
            output.extend(b"incr ");
            output.extend(name(COUNTER_KEY).as_bytes());
            output.extend(b" 1");
        }
        Operation::Delete => {
            output.extend(b"delete ");
            output.extend(name(VALUE_KEY).as_bytes());
        }
        Operation::ResetCounter => {
            output.extend(b"set ");
            output.extend(name(COUNTER_KEY).as_bytes());
            output.extend(b" 0 0 1\r\n0");
        }
    }
    output.extend(b"\r\n");
}

fn set(key: u32, items: &Items, ttl_seconds: &[u8], output: &mut Output) {
    output.extend(b"set ");
    output.extend(items.name(VALUE_KEY, key).as_bytes());
    output.extend(b" 0 ");
    output.extend(ttl_seconds);
    output.push(b' ');
    output.extend(itoa::Buffer::new().format(items.value_bytes(key)).as_bytes());
    output.extend(b"\r\n");
    append_value(items, key, output);
}

#[inline]
pub(super) fn line(line: &[u8], reply: &mut Reply, pending: &mut Pending) -> Result<Next, Broken> {
    let Some(operation) = pending.asked.front().map(|asked| asked.operation) else {
        return Err(Broken::line("it sent what nobody asked for", line));
    };
    if line == b"ERROR" || line.starts_with(b"CLIENT_ERROR") || line.starts_with(b"SERVER_ERROR") {
        reply.refuse(line);
        return Ok(Next::End);
    }
    let is_expected = match operation {
        Operation::Get | Operation::MultiGet(_) => return value_line(line, reply, pending),
        Operation::Set | Operation::SetExpiring | Operation::ResetCounter => line == b"STORED",
        Operation::Delete => line == b"DELETED" || line == b"NOT_FOUND",
        Operation::Increment => number(line).is_some() || line == b"NOT_FOUND",
    };
    let is_known = [&b"NOT_STORED"[..], b"EXISTS", b"STORED", b"DELETED", b"NOT_FOUND", b"TOUCHED"].contains(&line);
    if !is_expected && !is_known {
        return Err(Broken::line("this is not memcached's text protocol", line));
    }
    reply.is_wrong |= !is_expected;
    reply.misses += u32::from(line == b"NOT_FOUND");
    Ok(Next::End)
}

/// A `VALUE` line, or the end of the values. Keys that were passed over were not found.
fn value_line(line: &[u8], reply: &mut Reply, pending: &mut Pending) -> Result<Next, Broken> {
    if line == b"END" {
        while reply.take_key(pending).is_some() {
            reply.misses += 1;
        }
        return Ok(Next::End);
    }
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(b"VALUE"), Some(name), Some(_flags), Some(len)) =
        (words.next(), words.next(), words.next(), words.next().and_then(number))
    else {
        return Err(Broken::line("this is not memcached's text protocol", line));
    };
    let wanted = Items::number(name);
    let key = loop {
        match reply.take_key(pending) {
            Some(key) if Some(key) == wanted => break Some(key),
            Some(_) => reply.misses += 1,
            None => break None,
        }
    };
    reply.is_wrong |= key.is_none();
    reply.hits += 1;
    Ok(Next::Body { len, key, has_line_end: true, is_last: false })
}
