//! HTTP/1.1 with keep-alive.
//!
//! In: operations and bytes of replies. Out: requests, and what each reply was. Source: RFC 9112.

use super::{Broken, Encoder, Items, Next, Operation, Output, Pending, Reply, append_value, number};
use crate::load::items::{COUNTER_KEY, VALUE_KEY};

pub(super) fn encode(operation: Operation, key: u32, items: &Items, encoder: &Encoder, output: &mut Output) {
    let (method, letter, suffix): (&[u8], u8, &[u8]) = match operation {
        Operation::Get | Operation::MultiGet(_) => (b"GET ", VALUE_KEY, &encoder.http_suffix),
        Operation::Set => (b"PUT ", VALUE_KEY, b""),
        Operation::SetExpiring => (b"PUT ", VALUE_KEY, b"?ttl="),
        Operation::Delete => (b"DELETE ", VALUE_KEY, b""),
        Operation::Increment => (b"POST ", COUNTER_KEY, b"/incr"),
        Operation::ResetCounter => (b"PUT ", COUNTER_KEY, b""),
    };
    output.extend(method);
    output.extend(&encoder.http_prefix);
    output.extend(items.name(letter, key).as_bytes());
    output.extend(suffix);
    if operation == Operation::SetExpiring {
        output.extend(&encoder.ttl_seconds);
    }
    output.extend(b" HTTP/1.1\r\nHost: bench\r\n");
    match operation {
        Operation::Set | Operation::SetExpiring => {
            output.extend(b"Content-Length: ");
            output.extend(itoa::Buffer::new().format(items.value_bytes(key)).as_bytes());
            output.extend(b"\r\n\r\n");
            append_value(items, key, output);
        }
        Operation::ResetCounter => output.extend(b"Content-Length: 1\r\n\r\n0"),
        Operation::Increment => output.extend(b"Content-Length: 0\r\n\r\n"),
        _ => output.extend(b"\r\n"),
    }
}

pub(super) fn line(line: &[u8], reply: &mut Reply, pending: &mut Pending) -> Result<Next, Broken> {
    if reply.lines == 0 {
        return status_line(line, reply);
    }
    if line.is_empty() {
        return end_of_head(reply, pending);
    }
    let Some(colon) = memchr::memchr(b':', line) else {
        return Err(Broken::line("this is no HTTP header", line));
    };
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    if name.eq_ignore_ascii_case(b"content-length") {
        reply.body_bytes = number(value).ok_or_else(|| Broken::line("this is no HTTP header", line))?;
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        return Err(Broken::line("bodies without Content-Length cannot be read", line));
    } else if name.eq_ignore_ascii_case(b"connection") && value.eq_ignore_ascii_case(b"close") {
        return Err(Broken::line("it does not keep the connection", line));
    }
    Ok(Next::Line)
}

fn status_line(line: &[u8], reply: &mut Reply) -> Result<Next, Broken> {
    let not_http = || Broken::line("this is no HTTP/1.1", line);
    let rest = line.strip_prefix(b"HTTP/1.1 ").ok_or_else(not_http)?;
    let status = rest.get(..3).and_then(number).ok_or_else(not_http)?;
    reply.status = status as u16;
    if status >= 400 && status != 404 {
        reply.refuse(rest);
    }
    Ok(Next::Line)
}

fn end_of_head(reply: &mut Reply, pending: &mut Pending) -> Result<Next, Broken> {
    let operation = pending.asked.front().map(|asked| asked.operation);
    let is_success = (200..300).contains(&reply.status);
    let mut key = None;
    match (operation, reply.status) {
        (_, 100..=199) => return Err(Broken("it sent an interim reply that nobody asked for".to_owned())),
        (Some(Operation::Get), 200) => {
            reply.hits += 1;
            key = reply.take_key(pending);
        }
        (Some(Operation::Get | Operation::Delete), 404) => reply.misses += 1,
        (_, 404) => reply.refuse(b"404"),
        _ => reply.is_wrong |= !is_success && reply.error.is_none(),
    }
    let len = if matches!(reply.status, 204 | 304) { 0 } else { reply.body_bytes };
    if len == 0 && key.is_none() {
        return Ok(Next::End);
    }
    Ok(Next::Body { len, key, has_line_end: false, is_last: true })
}
