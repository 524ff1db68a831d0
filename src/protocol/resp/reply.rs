//! One command's reply, in the version that the client negotiated.
//!
//! In: typed values, aggregates announced before their elements. Out: bytes appended to an [`Output`]. What must stay
//! true: whatever a text holds, a simple string or an error is one line.
//! Source: the RESP specification; numbers as Redis 7.2 prints them (`ll2string`, `d2string`).

use bytes::Bytes;

use super::Version;
use crate::protocol::Output;

/// Appends one command's reply. Aggregates are announced with their length, then their elements follow.
pub struct Reply<'a> {
    /// Where the bytes go.
    pub output: &'a mut Output,
    /// How to spell them.
    pub version: Version,
}

impl Reply<'_> {
    /// `+text`; for `OK`, `PONG`, `QUEUED`.
    #[inline]
    pub fn simple(&mut self, text: &str) {
        if text == "OK" {
            self.output.extend(b"+OK\r\n");
        } else {
            self.line(b'+', text.as_bytes());
        }
    }

    /// `-text`; the text begins with its code: `ERR …`, `WRONGTYPE …`. Line ends in it become
    /// spaces, at its end they are left out.
    pub fn error(&mut self, text: &str) {
        self.error_bytes(text.as_bytes());
    }

    /// The same for a text that repeats bytes of the request.
    pub fn error_bytes(&mut self, text: &[u8]) {
        let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        self.line(b'-', &text[..end]);
    }

    /// `:value`.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.header(b':', value);
    }

    /// `$len` and a copy.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.output.reserve(bytes.len() + HEADER_BYTES_MAX + 2);
        self.header(b'$', bytes.len() as i64);
        self.output.extend(bytes);
        self.output.extend(b"\r\n");
    }

    /// `$len` and the value spliced in, not copied.
    pub fn bulk_shared(&mut self, value: &Bytes) {
        self.header(b'$', value.len() as i64);
        self.output.splice(value.clone());
        self.output.extend(b"\r\n");
    }

    /// `$-1` or `_`.
    #[inline]
    pub fn null(&mut self) {
        self.output.extend(match self.version {
            Version::Resp2 => b"$-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// `*-1` or `_`.
    pub fn null_array(&mut self) {
        self.output.extend(match self.version {
            Version::Resp2 => b"*-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// `*len`.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// `%len`, or `*2·len` in RESP2; `len` pairs follow.
    pub fn map(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.header(b'*', 2 * len as i64),
            Version::Resp3 => self.header(b'%', len as i64),
        }
    }

    /// `~len`, or `*len` in RESP2.
    pub fn set(&mut self, len: usize) {
        self.header(self.either(b'*', b'~'), len as i64);
    }

    /// `>len`, or `*len` in RESP2.
    pub fn push(&mut self, len: usize) {
        self.header(self.either(b'*', b'>'), len as i64);
    }

    /// `,value`, or a bulk string in RESP2.
    pub fn double(&mut self, value: f64) {
        let text = format_double(value);
        self.scalar(b',', &text);
    }

    /// `#t`/`#f`, or `:1`/`:0` in RESP2.
    pub fn boolean(&mut self, value: bool) {
        self.output.extend(match (self.version, value) {
            (Version::Resp2, false) => b":0\r\n",
            (Version::Resp2, true) => b":1\r\n",
            (Version::Resp3, false) => b"#f\r\n",
            (Version::Resp3, true) => b"#t\r\n",
        });
    }

    /// `=len` with a three-letter format, or a bulk string in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &str) {
        debug_assert_eq!(format.len(), 3);
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => {
                self.header(b'=', (format.len() + 1 + text.len()) as i64);
                for part in [format, ":", text, "\r\n"] {
                    self.output.extend(part.as_bytes());
                }
            }
        }
    }

    /// `(digits`, or a bulk string in RESP2.
    pub fn big_number(&mut self, digits: &str) {
        self.scalar(b'(', digits);
    }

    fn either(&self, resp2: u8, resp3: u8) -> u8 {
        match self.version {
            Version::Resp2 => resp2,
            Version::Resp3 => resp3,
        }
    }

    /// A line of its own in RESP3, a bulk string in RESP2.
    fn scalar(&mut self, marker: u8, text: &str) {
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => self.line(marker, text.as_bytes()),
        }
    }

    fn line(&mut self, marker: u8, text: &[u8]) {
        self.output.reserve(text.len() + 3);
        self.output.push(marker);
        let mut rest = text;
        while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
            self.output.extend(&rest[..end]);
            self.output.push(b' ');
            rest = &rest[end + 1..];
        }
        self.output.extend(rest);
        self.output.extend(b"\r\n");
    }

    /// `marker`, a number, a line end.
    #[inline]
    fn header(&mut self, marker: u8, value: i64) {
        write_header(self.output, marker, value);
    }
}

/// Longest header: marker, sign, 19 digits, line end.
const HEADER_BYTES_MAX: usize = 1 + 20 + 2;

/// Appends `marker`, a number and a line end.
#[inline]
pub(super) fn write_header(output: &mut Output, marker: u8, value: i64) {
    // Nearly all headers have up to three digits; those are written in one piece.
    if let Ok(value @ 0..1000) = u16::try_from(value) {
        let digit = |number: u16| b'0' + number as u8;
        let [hundreds, tens, ones] = [digit(value / 100), digit(value / 10 % 10), digit(value % 10)];
        match value {
            0..10 => output.extend(&[marker, ones, b'\r', b'\n']),
            10..100 => output.extend(&[marker, tens, ones, b'\r', b'\n']),
            _ => output.extend(&[marker, hundreds, tens, ones, b'\r', b'\n']),
        }
    } else {
        let mut digits = itoa::Buffer::new();
        output.push(marker);
        output.extend(digits.format(value).as_bytes());
        output.extend(b"\r\n");
    }
}

/// A double as Redis 7.2 prints it: the shortest digits that read back as the same number, in plain notation up to a
/// point and with an exponent beyond it.
fn format_double(value: f64) -> String {
    /// Whole numbers up to here are printed as integers.
    const INTEGER_MAX: f64 = (i64::MAX / 2) as f64;

    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.into();
    }
    if value.abs() <= INTEGER_MAX && value.trunc() == value {
        return (value as i64).to_string();
    }
    format_shortest(value)
}

/// The layout of Redis' `fpconv`, from the digits that the standard library finds.
fn format_shortest(value: f64) -> String {
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').expect("{:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("{:e} writes a number");
    let digits: String = mantissa.chars().filter(|char| *char != '.').collect();
    let count = digits.len() as i32;
    // value = digits × 10^scale
    let scale = exponent - (count - 1);
    let sign = if value < 0.0 { "-" } else { "" };
    if scale >= 0 && exponent < count + 7 {
        return format!("{sign}{digits}{}", "0".repeat(scale as usize));
    }
    if scale < 0 && (scale > -7 || exponent.abs() < 4) {
        let point = count + scale;
        return if point <= 0 {
            format!("{sign}0.{}{digits}", "0".repeat(-point as usize))
        } else {
            format!("{sign}{}.{}", &digits[..point as usize], &digits[point as usize..])
        };
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}e{exponent:+}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `write` appends in each version.
    fn spelled(write: impl Fn(&mut Reply<'_>)) -> [String; 2] {
        [Version::Resp2, Version::Resp3].map(|version| {
            let mut output = Output::new();
            write(&mut Reply { output: &mut output, version });
            String::from_utf8(output.to_vec()).unwrap()
        })
    }

    #[test]
    fn every_reply_in_both_versions() {
        type Write = fn(&mut Reply<'_>);
        let rows: &[(Write, &str, &str)] = &[
            (|reply| reply.simple("OK"), "+OK\r\n", "+OK\r\n"),
            (|reply| reply.simple("PONG"), "+PONG\r\n", "+PONG\r\n"),
            (|reply| reply.error("ERR a\r\nb\n"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (|reply| reply.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|reply| reply.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (|reply| reply.bulk_shared(&Bytes::from_static(b"abc")), "$3\r\nabc\r\n", "$3\r\nabc\r\n"),
            (|reply| reply.null(), "$-1\r\n", "_\r\n"),
            (|reply| reply.null_array(), "*-1\r\n", "_\r\n"),
            (|reply| reply.array(0), "*0\r\n", "*0\r\n"),
            (|reply| reply.array(12), "*12\r\n", "*12\r\n"),
            (|reply| reply.map(2), "*4\r\n", "%2\r\n"),
            (|reply| reply.set(3), "*3\r\n", "~3\r\n"),
            (|reply| reply.push(2), "*2\r\n", ">2\r\n"),
            (|reply| reply.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (|reply| reply.boolean(true), ":1\r\n", "#t\r\n"),
            (|reply| reply.boolean(false), ":0\r\n", "#f\r\n"),
            (|reply| reply.verbatim("txt", "hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (|reply| reply.big_number("-123"), "$4\r\n-123\r\n", "(-123\r\n"),
        ];
        for (write, resp2, resp3) in rows {
            assert_eq!(spelled(write), [*resp2, *resp3]);
        }
    }

    #[test]
    fn integers_of_every_length() {
        let mut values: Vec<i64> = (-1100..1100).chain([i64::MIN, i64::MAX]).collect();
        values.extend((0..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit, -(1 << bit)]));
        values.extend((0..19).flat_map(|power| [10i64.pow(power) - 1, 10i64.pow(power)]));
        for value in values {
            assert_eq!(spelled(|reply| reply.integer(value))[0], format!(":{value}\r\n"));
        }
    }

    #[test]
    fn doubles_as_redis_7_2_prints_them() {
        let rows: &[(f64, &str)] = &[
            (0.0, "0"),
            (-0.0, "-0"),
            (f64::NAN, "nan"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (3.0, "3"),
            (-3.0, "-3"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (3.1, "3.1"),
            (-0.25, "-0.25"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e15, "1000000000000000"),
            (4e18, "4000000000000000000"),
            (1e19, "1e+19"),
            (1e20, "1e+20"),
            (1.5e300, "1.5e+300"),
            (-1e100, "-1e+100"),
            (0.001, "0.001"),
            (0.000_001, "0.000001"),
            (0.000_000_1, "1e-7"),
            (1.234e-7, "1.234e-7"),
            (1.5e-10, "1.5e-10"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::MAX, "1.7976931348623157e+308"),
            (123_456.789, "123456.789"),
        ];
        for (value, text) in rows {
            assert_eq!(format_double(*value), *text);
        }
    }
}
