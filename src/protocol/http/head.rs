//! One head: its request line and fields, as the arguments of a request.
//!
//! In: the bytes from the request line to the empty line. Out: the arguments but for the body, and how that is framed.
//! What must stay true: nothing is copied but the route and a key with escapes; what RFC 9112 calls invalid, ambiguous
//! or a means of smuggling is a fault: a second `Content-Length`, one beside `Transfer-Encoding`, folded lines.

use std::mem::MaybeUninit;

use super::request::{EXPECTS, FIELDS, IS_HEAD, IS_LAST, IS_OLD};
use super::{FIELDS_MAX, Fault};
use crate::protocol::Requests;

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// What the decoder needs to know of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) framing: Framing,
    pub(super) expects: bool,
    pub(super) is_last: bool,
}

/// What stands before a key in a path, and what stands for it in a route.
const KEYS: &[u8] = b"/v1/keys/";
const KEY: &[u8] = b"{key}";

/// Adds the arguments of the head that is `bytes[start..end]`; on a fault the request is to be abandoned.
pub(super) fn push(bytes: &[u8], start: usize, end: usize, batch: &mut Requests) -> Result<Head, Fault> {
    let mut places = [MaybeUninit::uninit(); FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed
        .parse_with_uninit_headers(&bytes[start..end], &mut places)
        .map_err(|error| fault_of(error, &bytes[start..end]))?;
    let (true, Some(method), Some(target), Some(version)) =
        (status.is_complete(), parsed.method, parsed.path, parsed.version)
    else {
        return Err(Fault(400, "the head is incomplete"));
    };
    let at = |part: &[u8]| part.as_ptr() as usize - bytes.as_ptr() as usize;
    let mut values = [&b""[..]; FIELDS.len()];
    let mut connection = Connection { is_old: version == 0, ..Connection::default() };
    for field in parsed.headers.iter() {
        let value = field.value.trim_ascii();
        if !connection.take(field.name.as_bytes(), value)? {
            keep(&mut values, field.name.as_bytes(), value)?;
        }
    }
    let head = connection.head()?;
    push_target(method.as_bytes(), target.as_bytes(), at(target.as_bytes()), batch)?;
    let mode = |is_so: bool, bit: u8| if is_so { bit } else { 0 };
    batch.push_copy(&[mode(head.is_last, IS_LAST)
        | mode(method == "HEAD", IS_HEAD)
        | mode(version == 0, IS_OLD)
        | mode(head.expects, EXPECTS)]);
    for value in values {
        if value.is_empty() { batch.push_received(0, 0) } else { batch.push_received(at(value), value.len()) }
    }
    Ok(head)
}

fn fault_of(error: httparse::Error, head: &[u8]) -> Fault {
    let is_version = || {
        let line = &head[..memchr::memchr(b'\r', head).unwrap_or(head.len())];
        line.split(|byte| *byte == b' ').nth(2).is_some_and(|version| version.starts_with(b"HTTP/"))
    };
    match error {
        httparse::Error::TooManyHeaders => Fault(431, "more than 64 header fields"),
        httparse::Error::Version if is_version() => Fault(505, "only HTTP/1.1 and HTTP/1.0 are spoken here"),
        httparse::Error::HeaderName => Fault(400, "a header field's name is malformed, or its line is folded"),
        httparse::Error::HeaderValue => Fault(400, "a header field's value is malformed"),
        _ => Fault(400, "the request line is malformed"),
    }
}

/// Keeps a field that requests are made of; of those that may be repeated, the first.
fn keep<'a>(values: &mut [&'a [u8]; FIELDS.len()], name: &[u8], value: &'a [u8]) -> Result<(), Fault> {
    let index = FIELDS.iter().position(|field| field.name.eq_ignore_ascii_case(name));
    if let Some(index) = index {
        if values[index].is_empty() {
            values[index] = value;
        } else if FIELDS[index].is_single {
            return Err(Fault(400, "a header field that may be given once is given twice"));
        }
    }
    Ok(())
}

/// What fields say of the connection and the body.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    is_old: bool,
    hosts: u32,
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps: bool,
    expects: bool,
}

impl Connection {
    /// Takes note of a field; whether it was one of these.
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Fault> {
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Fault(400, "Content-Length is given twice"));
            }
            self.length = Some(decimal(value).ok_or(Fault(400, "Content-Length is no number"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_chunked || self.is_old {
                return Err(Fault(400, "Transfer-Encoding is given twice, or with HTTP/1.0"));
            }
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault(501, "the only Transfer-Encoding is chunked"));
            }
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            for word in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                self.closes |= word.eq_ignore_ascii_case(b"close");
                self.keeps |= word.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name.eq_ignore_ascii_case(b"expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(Fault(417, "the only expectation that can be met is 100-continue"));
            }
            self.expects = !self.is_old;
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
            // It is an argument as well.
            return Ok(false);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn head(self) -> Result<Head, Fault> {
        if self.hosts > 1 || (self.hosts == 0 && !self.is_old) {
            return Err(Fault(400, "exactly one Host is needed"));
        }
        let framing = match (self.is_chunked, self.length) {
            (true, Some(_)) => return Err(Fault(400, "Content-Length beside Transfer-Encoding")),
            (true, None) => Framing::Chunked,
            (false, length) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(Head { framing, expects: self.expects, is_last: self.closes || (self.is_old && !self.keeps) })
    }
}

/// A number of digits only.
fn decimal(text: &[u8]) -> Option<u64> {
    let is_plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}

/// Adds route, key and query. `offset` is where the target lies in the received bytes.
fn push_target(method: &[u8], target: &[u8], offset: usize, batch: &mut Requests) -> Result<(), Fault> {
    const BAD: Fault = Fault(400, "the request's target is malformed");
    let skipped = match target {
        [b'/', ..] => 0,
        b"*" if method == b"OPTIONS" => 0,
        _ => {
            let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| target.starts_with(scheme));
            let authority = scheme.ok_or(BAD)?.len();
            let len = target[authority..].iter().position(|byte| matches!(byte, b'/' | b'?'));
            authority + len.unwrap_or(target.len() - authority)
        }
    };
    let (target, offset) = (&target[skipped..], offset + skipped);
    if target.contains(&b'#') {
        return Err(BAD);
    }
    let path_len = memchr::memchr(b'?', target).unwrap_or(target.len());
    let path = &target[..path_len];
    let key_len = path.strip_prefix(KEYS).map(|rest| memchr::memchr(b'/', rest).unwrap_or(rest.len()));
    let key = key_len.filter(|len| *len > 0).map(|len| KEYS.len()..KEYS.len() + len);
    let built = batch.push_built(|route| {
        route.extend_from_slice(method);
        route.push(b' ');
        match &key {
            Some(key) => [KEYS, KEY, &path[key.end..]].into_iter().for_each(|part| route.extend_from_slice(part)),
            None if path.is_empty() => route.push(b'/'),
            None => route.extend_from_slice(path),
        }
        Ok::<_, Fault>(())
    });
    built?;
    match key {
        Some(key) if path[key.clone()].contains(&b'%') => {
            batch.push_built(|bytes| decode_percent(&path[key], false, bytes)).map_err(|()| BAD)?;
        }
        Some(key) => batch.push_received(offset + key.start, key.len()),
        None => batch.push_received(0, 0),
    }
    let query = (path_len + 1).min(target.len());
    batch.push_received(offset + query, target.len() - query);
    Ok(())
}

/// Appends what `text` stands for; in a query a plus stands for a space.
pub(super) fn decode_percent(text: &[u8], is_query: bool, bytes: &mut Vec<u8>) -> Result<(), ()> {
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = behind;
        bytes.push(match first {
            b'%' => {
                let [high, low, behind @ ..] = rest else { return Err(()) };
                let digit = |letter: &u8| (*letter as char).to_digit(16).ok_or(());
                rest = behind;
                (digit(high)? << 4 | digit(low)?) as u8
            }
            b'+' if is_query => b' ',
            byte => *byte,
        });
    }
    Ok(())
}
