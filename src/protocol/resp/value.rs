//! The client's side: requests to bytes, reply bytes to values.
//!
//! In: what a server sent, RESP2 or RESP3. Out: a [`Value`], or only where the reply ends, which [`Skipper`] finds
//! without building anything and over as many receives as it takes. For the load generator, the merging of fan-outs and
//! the tests. What must stay true: no bytes panic, nest deeper than [`DEPTH_MAX`] or make more room than they take.

use super::ProtocolError;
use super::length::{self, Line};
use super::reply::write_header;
use crate::protocol::Output;

/// Deepest nesting of aggregates that [`parse`] follows; the deepest reply of Redis has five levels.
pub const DEPTH_MAX: usize = 32;

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `+`
    Simple(Vec<u8>),
    /// `-`, or RESP3's `!`
    Error(Vec<u8>),
    /// `:`
    Integer(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `_`, `$-1` or `*-1`
    Null,
    /// `*`
    Array(Vec<Value>),
    /// `%`
    Map(Vec<(Value, Value)>),
    /// `~`
    Set(Vec<Value>),
    /// `>`
    Push(Vec<Value>),
    /// `,`
    Double(f64),
    /// `#`
    Boolean(bool),
    /// `=`: the format's three letters, and the text.
    Verbatim([u8; 3], Vec<u8>),
    /// `(`
    BigNumber(Vec<u8>),
    /// `|`: attributes of the value that follows them.
    Attributed(Vec<(Value, Value)>, Box<Value>),
}

/// Appends a request.
pub fn encode_request(output: &mut Output, args: &[&[u8]]) {
    write_header(output, b'*', args.len() as i64);
    for arg in args {
        write_header(output, b'$', arg.len() as i64);
        output.extend(arg);
        output.extend(b"\r\n");
    }
}

/// Parses the reply at the start of `bytes`: the value and its length, or `None` while it is incomplete. It begins anew
/// with every call: wait for a large reply with a [`Skipper`].
///
/// # Errors
/// The bytes are no reply, or nest too deep.
pub fn parse(bytes: &[u8]) -> Result<Option<(Value, usize)>, ProtocolError> {
    let mut parser = Parser { bytes, at: 0 };
    Ok(parser.value(DEPTH_MAX)?.map(|value| (value, parser.at)))
}

/// The length of the reply at the start of `bytes`, or `None` while it is incomplete. Builds nothing.
///
/// # Errors
/// The bytes are no reply.
pub fn skip(bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
    let skipped = Skipper::default().skip(bytes)?;
    Ok(skipped.is_complete.then_some(skipped.consumed))
}

/// How far one call of [`Skipper::skip`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// So many bytes are dealt with. When the reply is not complete the rest is a line that is cut: the next call
    /// begins with it.
    pub consumed: usize,
    /// A reply ends there.
    pub is_complete: bool,
}

/// Finds where replies end in a stream of them, in linear time however it is cut; nesting is only counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Skipper {
    /// Values still to begin before the present reply is complete.
    values_missing: u64,
    /// Bytes of a bulk string, line end included, still to come.
    bytes_missing: u64,
}

impl Skipper {
    /// Skips to the end of the present reply, or as far as `bytes` go.
    ///
    /// # Errors
    /// The bytes are no reply.
    #[inline]
    pub fn skip(&mut self, bytes: &[u8]) -> Result<Skipped, ProtocolError> {
        if self.values_missing == 0 && self.bytes_missing == 0 && !bytes.is_empty() {
            self.values_missing = 1;
        }
        let mut at = 0;
        loop {
            let here = self.bytes_missing.min((bytes.len() - at) as u64);
            at += here as usize;
            self.bytes_missing -= here;
            if self.bytes_missing > 0 {
                return Ok(Skipped { consumed: at, is_complete: false });
            }
            if self.values_missing == 0 {
                return Ok(Skipped { consumed: at, is_complete: at > 0 });
            }
            let Some(head) = Head::read(bytes, at)? else { return Ok(Skipped { consumed: at, is_complete: false }) };
            at = head.next;
            self.values_missing -= 1;
            match head.kind {
                Kind::Line(_) | Kind::Null => {}
                Kind::Bulk(len) => self.bytes_missing = len + 2,
                Kind::Aggregate(count) => self.expect(count)?,
                Kind::Pairs(count) => self.expect(2 * count)?,
                // The value that they belong to follows.
                Kind::Attributes(count) => self.expect(2 * count + 1)?,
            }
        }
    }

    /// At least so many bytes are still to come before the present reply is complete; 0 between replies.
    pub fn bytes_missing_min(&self) -> u64 {
        // The shortest value is `_\r\n`.
        self.bytes_missing + self.values_missing.saturating_mul(3)
    }

    fn expect(&mut self, values: u64) -> Result<(), ProtocolError> {
        self.values_missing =
            self.values_missing.checked_add(values).ok_or_else(|| ProtocolError::new("reply too large"))?;
        Ok(())
    }
}

/// The first line of a value.
struct Head<'a> {
    marker: u8,
    kind: Kind<'a>,
    /// The place after the line.
    next: usize,
}

/// What follows, or is in, a first line. Lengths and counts are below 2^62.
enum Kind<'a> {
    /// The value is the line's text.
    Line(&'a [u8]),
    /// So many bytes and a line end follow.
    Bulk(u64),
    Null,
    /// So many values follow.
    Aggregate(u64),
    /// So many pairs of values follow.
    Pairs(u64),
    /// So many pairs of values follow, then the value that they belong to.
    Attributes(u64),
}

/// Largest length or count that a reply may announce.
const ANNOUNCED_MAX: i64 = (1 << 62) - 1;

impl<'a> Head<'a> {
    /// The line at `at`; `None` while it is cut.
    #[inline]
    fn read(bytes: &'a [u8], at: usize) -> Result<Option<Self>, ProtocolError> {
        let Some(&marker) = bytes.get(at) else { return Ok(None) };
        match marker {
            b'$' | b'*' | b'=' | b'!' | b'~' | b'>' | b'%' | b'|' => Self::read_announced(bytes, at, marker),
            b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => {
                let Some(end) = find_line(bytes, at)? else { return Ok(None) };
                Ok(Some(Head { marker, kind: Kind::Line(&bytes[at + 1..end]), next: end + 2 }))
            }
            _ => Err(invalid(&format!("unknown type '{}'", char::from(marker)))),
        }
    }

    #[inline]
    fn read_announced(bytes: &'a [u8], at: usize, marker: u8) -> Result<Option<Self>, ProtocolError> {
        let (number, next) = match length::read_length(bytes, at) {
            Some(read) => read,
            None if find_line(bytes, at)?.is_none() => return Ok(None),
            None => return Err(invalid("invalid length")),
        };
        if bytes[next - 1] != b'\n' || number > ANNOUNCED_MAX {
            return Err(invalid("invalid length"));
        }
        let kind = match (marker, u64::try_from(number)) {
            (b'$' | b'*', Err(_)) if number == -1 => Kind::Null,
            (_, Err(_)) => return Err(invalid("invalid length")),
            (b'$' | b'=' | b'!', Ok(len)) => Kind::Bulk(len),
            (b'%', Ok(count)) => Kind::Pairs(count),
            (b'|', Ok(count)) => Kind::Attributes(count),
            (_, Ok(count)) => Kind::Aggregate(count),
        };
        Ok(Some(Head { marker, kind, next }))
    }
}

/// The place of the `\r\n` of the line at `at`; `None` while it is cut.
fn find_line(bytes: &[u8], at: usize) -> Result<Option<usize>, ProtocolError> {
    match length::find_line(bytes, at, at) {
        Line::End(end) if bytes[end + 1] == b'\n' => Ok(Some(end)),
        Line::End(_) => Err(invalid("a line end without its second half")),
        Line::Unfinished(_) => Ok(None),
        Line::TooLong => Err(invalid("too long a line")),
    }
}

fn invalid(cause: &str) -> ProtocolError {
    ProtocolError::new(&format!("{cause} in reply"))
}

/// A place in the bytes of a reply.
struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    /// The value at the present place; `None` when it is cut.
    fn value(&mut self, depth: usize) -> Result<Option<Value>, ProtocolError> {
        let Some(head) = Head::read(self.bytes, self.at)? else { return Ok(None) };
        self.at = head.next;
        let inner = depth.checked_sub(1).ok_or_else(|| invalid("nested too deep"));
        Ok(match head.kind {
            Kind::Line(text) => Some(line_value(head.marker, text)?),
            Kind::Bulk(len) => self.bulk(len)?.map(|bytes| bulk_value(head.marker, bytes)).transpose()?,
            Kind::Null => Some(Value::Null),
            Kind::Aggregate(count) => self.values(count, inner?)?.map(|values| match head.marker {
                b'~' => Value::Set(values),
                b'>' => Value::Push(values),
                _ => Value::Array(values),
            }),
            Kind::Pairs(count) => self.pairs(count, inner?)?.map(Value::Map),
            Kind::Attributes(count) => {
                let inner = inner?;
                let Some(attributes) = self.pairs(count, inner)? else { return Ok(None) };
                self.value(inner)?.map(|value| Value::Attributed(attributes, Box::new(value)))
            }
        })
    }

    fn bulk(&mut self, len: u64) -> Result<Option<Vec<u8>>, ProtocolError> {
        let rest = &self.bytes[self.at..];
        if (rest.len() as u64) < len + 2 {
            return Ok(None);
        }
        let (bytes, after) = rest.split_at(len as usize);
        if !after.starts_with(b"\r\n") {
            return Err(invalid("a bulk string without its line end"));
        }
        self.at += bytes.len() + 2;
        Ok(Some(bytes.to_vec()))
    }

    fn values(&mut self, count: u64, depth: usize) -> Result<Option<Vec<Value>>, ProtocolError> {
        let mut values = Vec::new();
        for _ in 0..count {
            let Some(value) = self.value(depth)? else { return Ok(None) };
            values.push(value);
        }
        Ok(Some(values))
    }

    fn pairs(&mut self, count: u64, depth: usize) -> Result<Option<Vec<(Value, Value)>>, ProtocolError> {
        let mut pairs = Vec::new();
        for _ in 0..count {
            let Some(key) = self.value(depth)? else { return Ok(None) };
            let Some(value) = self.value(depth)? else { return Ok(None) };
            pairs.push((key, value));
        }
        Ok(Some(pairs))
    }
}

fn line_value(marker: u8, text: &[u8]) -> Result<Value, ProtocolError> {
    let value = match marker {
        b'+' => Some(Value::Simple(text.to_vec())),
        b'-' => Some(Value::Error(text.to_vec())),
        b':' => length::parse_number(text).map(Value::Integer),
        b'_' => text.is_empty().then_some(Value::Null),
        b'#' => match text {
            b"t" => Some(Value::Boolean(true)),
            b"f" => Some(Value::Boolean(false)),
            _ => None,
        },
        b',' => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).map(Value::Double),
        _ => Some(Value::BigNumber(text.to_vec())),
    };
    value.ok_or_else(|| invalid("a malformed value"))
}

fn bulk_value(marker: u8, bytes: Vec<u8>) -> Result<Value, ProtocolError> {
    match marker {
        b'!' => Ok(Value::Error(bytes)),
        b'=' => match bytes[..] {
            [a, b, c, b':', ..] => Ok(Value::Verbatim([a, b, c], bytes[4..].to_vec())),
            _ => Err(invalid("a verbatim string without its format")),
        },
        _ => Ok(Value::Bulk(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(bytes: &[u8]) -> Value {
        Value::Bulk(bytes.to_vec())
    }

    /// Every type, with its value.
    fn replies() -> Vec<(&'static [u8], Value)> {
        use Value::*;
        vec![
            (b"+OK\r\n", Simple(b"OK".to_vec())),
            (b"+\r\n", Simple(Vec::new())),
            (b"-ERR no\r\n", Error(b"ERR no".to_vec())),
            (b"!6\r\nERR\r\nx\r\n", Error(b"ERR\r\nx".to_vec())),
            (b":-42\r\n", Integer(-42)),
            (b"$0\r\n\r\n", bulk(b"")),
            (b"$4\r\na\r\nb\r\n", bulk(b"a\r\nb")),
            (b"$12\r\nabcdefghijkl\r\n", bulk(b"abcdefghijkl")),
            (b"$-1\r\n", Null),
            (b"*-1\r\n", Null),
            (b"_\r\n", Null),
            (b"*0\r\n", Array(vec![])),
            (b"*2\r\n*1\r\n:1\r\n$1\r\nx\r\n", Array(vec![Array(vec![Integer(1)]), bulk(b"x")])),
            (b"~1\r\n#t\r\n", Set(vec![Boolean(true)])),
            (b">2\r\n+a\r\n#f\r\n", Push(vec![Simple(b"a".to_vec()), Boolean(false)])),
            (b"%1\r\n+k\r\n*0\r\n", Map(vec![(Simple(b"k".to_vec()), Array(vec![]))])),
            (b",1.5\r\n", Double(1.5)),
            (b",-inf\r\n", Double(f64::NEG_INFINITY)),
            (b"=7\r\ntxt:abc\r\n", Verbatim(*b"txt", b"abc".to_vec())),
            (b"(123456789012345678901234567890\r\n", BigNumber(b"123456789012345678901234567890".to_vec())),
            (b"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n", {
                Attributed(vec![(Simple(b"ttl".to_vec()), Integer(3))], Box::new(bulk(b"x")))
            }),
        ]
    }

    #[test]
    fn every_type_whole_and_cut() {
        for (bytes, value) in replies() {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(parse(bytes), Ok(Some((value, bytes.len()))), "{text:?}");
            assert_eq!(skip(bytes), Ok(Some(bytes.len())), "{text:?}");
            for len in 0..bytes.len() {
                assert_eq!(parse(&bytes[..len]), Ok(None), "{text:?} cut at {len}");
                assert_eq!(skip(&bytes[..len]), Ok(None), "{text:?} cut at {len}");
            }
        }
    }

    #[test]
    fn a_stream_is_skipped_however_it_is_cut() {
        let stream: Vec<u8> = replies().iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
        let ends: Vec<usize> = replies()
            .iter()
            .scan(0, |end, (bytes, _)| {
                *end += bytes.len();
                Some(*end)
            })
            .collect();
        for step in 1..stream.len() {
            let (mut skipper, mut at, mut found) = (Skipper::default(), 0, Vec::new());
            let mut received = 0;
            while received < stream.len() {
                received = stream.len().min(received + step);
                loop {
                    let skipped = skipper.skip(&stream[at..received]).unwrap();
                    at += skipped.consumed;
                    if !skipped.is_complete {
                        break;
                    }
                    assert_eq!(skipper.bytes_missing_min(), 0);
                    found.push(at);
                }
            }
            assert_eq!(found, ends, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_bulk_tells_how_much_is_missing() {
        let mut skipper = Skipper::default();
        assert_eq!(skipper.skip(b"*2\r\n$1000000\r\nabc"), Ok(Skipped { consumed: 17, is_complete: false }));
        assert_eq!(skipper.bytes_missing_min(), 1_000_000 - 3 + 2 + 3);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let rows: &[&[u8]] =
            &[b"x", b"\r\n", b"$-2\r\n", b"$+1\r\n", b"*9223372036854775807\r\n", b"%-1\r\n", b"$1\rxa\r\n", b"+a\rb"];
        for bytes in rows {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
            assert!(skip(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        // What a value holds is the parser's business alone.
        for bytes in [&b":x\r\n"[..], b"#x\r\n", b"_x\r\n", b",x\r\n", b"=3\r\nabc\r\n", b"$1\r\nabc"] {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn nesting_is_bounded_where_it_costs_stack() {
        let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
        assert!(parse(&nested(DEPTH_MAX)).unwrap().is_some());
        assert!(parse(&nested(DEPTH_MAX + 1)).is_err());
        assert_eq!(skip(&nested(1_000_000)), Ok(Some(4_000_004)));
    }

    #[test]
    fn an_encoded_request_reads_as_an_array() {
        let mut output = Output::new();
        encode_request(&mut output, &[b"SET", b"key", b""]);
        assert_eq!(output.to_vec(), b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$0\r\n\r\n");
    }
}
