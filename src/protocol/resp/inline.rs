//! Inline requests: a line of words, as a person types them.
//!
//! In: one line. Out: its arguments, in place where a word stands as it is, unescaped into the batch's scratch where
//! it has quotes. Words are split as Redis splits them (`sdssplitargs`): `"…"` knows `\n \r \t \b \a \xHH` and `\`
//! before any other byte; `'…'` knows `\'` only; a closing quote must be followed by a blank or the end.

use super::LINE_BYTES_MAX;
use super::length::Line;
use crate::protocol::Requests;

/// Finds the `\n` of the line that begins at `at`; no `\n` lies before `scanned`.
pub(super) fn find_line(bytes: &[u8], at: usize, scanned: usize) -> Line {
    let from = scanned.max(at);
    let until = bytes.len().min(at + LINE_BYTES_MAX + 1);
    match memchr::memchr(b'\n', &bytes[from..until]) {
        Some(distance) => Line::End(from + distance),
        None if until - at > LINE_BYTES_MAX => Line::TooLong,
        None => Line::Unfinished(until),
    }
}

/// A quote is not closed, or something follows its end at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unbalanced;

/// Adds the words of `bytes[start..end]` to the request being built; `end` is the place of the `\n`.
pub(super) fn split(bytes: &[u8], start: usize, end: usize, batch: &mut Requests) -> Result<(), Unbalanced> {
    let end = if end > start && bytes[end - 1] == b'\r' { end - 1 } else { end };
    let line = &bytes[..end];
    let mut at = start;
    while at < end {
        if is_blank(line[at]) {
            at += 1;
            continue;
        }
        let plain = line[at..].iter().position(|byte| ends_word(*byte) || is_quote(*byte)).unwrap_or(end - at);
        if at + plain < end && is_quote(line[at + plain]) {
            at = batch.push_built(|scratch| unescape(line, at, scratch))?;
        } else {
            batch.push_received(at, plain);
            at += plain;
        }
    }
    Ok(())
}

/// Copies the word at `at` without its quotes; the place after it.
fn unescape(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    while at < line.len() && !ends_word(line[at]) {
        at = match line[at] {
            b'"' => unescape_double(line, at + 1, word)?,
            b'\'' => unescape_single(line, at + 1, word)?,
            byte => {
                word.push(byte);
                at + 1
            }
        };
        if is_quote(line[at - 1]) {
            break; // a closing quote ends the word
        }
    }
    Ok(at)
}

/// Copies what stands between double quotes; `at` is after the opening one, the result after the closing one.
fn unescape_double(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    loop {
        match line[at..] {
            [] => return Err(Unbalanced),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex_digit(high) << 4 | hex_digit(low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            [b'"', ..] => return close(line, at),
            [byte, ..] => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

/// Copies what stands between single quotes; `at` is after the opening one, the result after the closing one.
fn unescape_single(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Result<usize, Unbalanced> {
    loop {
        match line[at..] {
            [] => return Err(Unbalanced),
            [b'\\', b'\'', ..] => {
                word.push(b'\'');
                at += 2;
            }
            [b'\'', ..] => return close(line, at),
            [byte, ..] => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

/// The place after the closing quote at `at`.
fn close(line: &[u8], at: usize) -> Result<usize, Unbalanced> {
    match line.get(at + 1) {
        Some(next) if !is_blank(*next) => Err(Unbalanced),
        _ => Ok(at + 1),
    }
}

/// What C calls a space.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// What ends a word outside quotes; vertical tab and form feed do not, though they are skipped before one.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'')
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
        let mut batch = Requests::default();
        split(line, 0, line.len(), &mut batch)?;
        batch.finish();
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        Ok(batch.get(0, line).iter().map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn words_are_split_and_unquoted() {
        let rows: &[(&[u8], &[&[u8]])] = &[
            (b"", &[]),
            (b"  \t \x0b\x0c ", &[]),
            (b"PING", &[b"PING"]),
            (b"PING\r", &[b"PING"]),
            (b"  set  a\tb ", &[b"set", b"a", b"b"]),
            (b"a\rb", &[b"a", b"b"]),
            (b"a\x0bb \x0cc", &[b"a\x0bb", b"c"]),
            (b"\"\"", &[b""]),
            (b"'' ''", &[b"", b""]),
            (b"\"a b\" c", &[b"a b", b"c"]),
            (b"foo\"bar\" x", &[b"foobar", b"x"]),
            (b"\"a\\nb\\r\\t\\b\\a\\q\\\\\\\"\"", &[b"a\nb\r\t\x08\x07q\\\""]),
            (b"\"\\x41\\xfF\\x4g\\x\"", &[b"A\xffx4gx"]),
            (b"'a\\nb\\'c'", &[b"a\\nb'c"]),
            (b"\"it's\" 'say \"so\"'", &[b"it's", b"say \"so\""]),
            (b"a\\nb", &[b"a\\nb"]),
            (b"\"a\"\x0bb", &[b"a", b"b"]),
            (b"a\0b", &[b"a\0b"]),
        ];
        for (line, expected) in rows {
            let words = words(line).unwrap_or_else(|_| panic!("{:?}", String::from_utf8_lossy(line)));
            assert_eq!(words, *expected, "{:?}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        let rows: &[&[u8]] = &[
            b"\"",
            b"'",
            b"get \"a",
            b"get 'a",
            b"\"a\"b",
            b"'a'b",
            b"'a'\"b\"",
            b"\"a\\",
            b"\"a\\\"",
            b"'a\\'",
            b"x\"y",
        ];
        for line in rows {
            assert_eq!(words(line), Err(Unbalanced), "{:?}", String::from_utf8_lossy(line));
        }
    }
}
