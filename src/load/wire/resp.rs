//! RESP2 and RESP3.
//!
//! In: operations and bytes of replies. Out: requests, and what each reply was. Source: the RESP specification.

use std::ops::Range;

use super::{Broken, Items, Next, Operation, Output, Pending, Reply, append_value, number};
use crate::load::items::{COUNTER_KEY, VALUE_KEY};
use crate::protocol::resp::encode_request;

/// A request for one value, as most are, ready but for the number of its key.
#[derive(Clone, Debug)]
pub(super) struct Get {
    text: Vec<u8>,
    name: Range<usize>,
}

impl Get {
    pub(super) fn new(items: &Items) -> Self {
        let (name, mut output) = (items.name(VALUE_KEY, 0), Output::new());
        encode_request(&mut output, &[b"GET", name.as_bytes()]);
        let end = output.len() - b"\r\n".len();
        Self { text: output.to_vec(), name: end - name.as_bytes().len()..end }
    }

    #[inline]
    pub(super) fn encode(&mut self, key: u32, output: &mut Output) {
        Items::set_number(&mut self.text[self.name.clone()], key);
        output.extend(&self.text);
    }
}

pub(super) fn encode(
    operation: Operation,
    keys: &[u32],
    items: &Items,
    (get, ttl_seconds): (&mut Get, &[u8]),
    output: &mut Output,
) {
    let name = || items.name(VALUE_KEY, keys[0]);
    let counter = || items.name(COUNTER_KEY, keys[0]);
    match operation {
        Operation::Get => get.encode(keys[0], output),
        Operation::Delete => encode_request(output, &[b"DEL", name().as_bytes()]),
        Operation::Increment => encode_request(output, &[b"INCR", counter().as_bytes()]),
        Operation::ResetCounter => encode_request(output, &[b"SET", counter().as_bytes(), b"0"]),
        Operation::MultiGet(_) => {
            begin(output, b'*', keys.len() + 1);
            argument(output, b"MGET");
            keys.iter().for_each(|key| argument(output, items.name(VALUE_KEY, *key).as_bytes()));
        }
        Operation::Set => {
            begin(output, b'*', 3);
            argument(output, b"SET");
            argument(output, name().as_bytes());
            value(items, keys[0], output);
        }
        Operation::SetExpiring => {
            begin(output, b'*', 4);
            argument(output, b"SETEX");
            argument(output, name().as_bytes());
            argument(output, ttl_seconds);
            value(items, keys[0], output);
        }
    }
}

fn begin(output: &mut Output, marker: u8, number: usize) {
    output.push(marker);
    output.extend(itoa::Buffer::new().format(number).as_bytes());
    output.extend(b"\r\n");
}

fn argument(output: &mut Output, bytes: &[u8]) {
    begin(output, b'$', bytes.len());
    output.extend(bytes);
    output.extend(b"\r\n");
}

fn value(items: &Items, key: u32, output: &mut Output) {
    begin(output, b'$', items.value_bytes(key));
    append_value(items, key, output);
    output.extend(b"\r\n");
}

/// The length of the reply that `bytes` begin with, if that is this value and all there.
#[inline]
pub(super) fn whole_value(bytes: &[u8], value: &[u8]) -> Option<usize> {
    let from = bytes.iter().position(|byte| *byte == b'\n')? + 1;
    let len = number(bytes[..from].strip_prefix(b"$")?.strip_suffix(b"\r\n")?)?;
    let end = from + value.len();
    let is_right = len == value.len() as u64 && bytes.get(from..end)? == value;
    (is_right && bytes.get(end..end + 2)? == b"\r\n").then_some(end + 2)
}

#[inline]
pub(super) fn line(line: &[u8], reply: &mut Reply, pending: &mut Pending) -> Result<Next, Broken> {
    let Some(operation) = pending.asked.front().map(|asked| asked.operation) else {
        return Err(Broken::line("it sent what nobody asked for", line));
    };
    let Some((marker, text)) = line.split_first() else { return Err(Broken::line("an empty line is no RESP", line)) };
    let is_array = matches!(operation, Operation::MultiGet(_));
    if reply.lines == 0 && is_array && *marker == b'*' {
        reply.elements = number(text).ok_or_else(|| Broken::line("this is no RESP", line))?;
        reply.is_wrong |= Operation::MultiGet(reply.elements as u16) != operation;
        return Ok(if reply.elements == 0 { Next::End } else { Next::Line });
    }
    // An error in the place of an array is the whole reply.
    reply.elements = reply.elements.saturating_sub(1);
    let next = if reply.elements == 0 { Next::End } else { Next::Line };
    match (marker, operation) {
        (b'-', _) => reply.refuse(text),
        (b'$', _) if text == b"-1" => no_value(operation, reply, pending),
        (b'_', _) if text.is_empty() => no_value(operation, reply, pending),
        (b'$', _) => {
            let len = number(text).ok_or_else(|| Broken::line("this is no RESP", line))?;
            let is_value = matches!(operation, Operation::Get | Operation::MultiGet(_));
            let key = if is_value { reply.take_key(pending) } else { None };
            reply.is_wrong |= key.is_none();
            reply.hits += 1;
            return Ok(Next::Body { len, key, has_line_end: true, is_last: matches!(next, Next::End) });
        }
        (b'+', Operation::Set | Operation::SetExpiring | Operation::ResetCounter) => reply.is_wrong |= text != b"OK",
        (b':', Operation::Increment | Operation::Delete) => {
            let digits = text.strip_prefix(b"-").unwrap_or(text);
            number(digits).ok_or_else(|| Broken::line("this is no RESP", line))?;
        }
        (b'+' | b':' | b',' | b'#' | b'(', _) => reply.is_wrong = true,
        _ => return Err(Broken::line("this is no RESP, or no reply to what was asked", line)),
    }
    Ok(next)
}

fn no_value(operation: Operation, reply: &mut Reply, pending: &mut Pending) {
    let is_value = matches!(operation, Operation::Get | Operation::MultiGet(_));
    reply.is_wrong |= !is_value || reply.take_key(pending).is_none();
    reply.misses += 1;
}
