//! Lengths on lines of their own: `*3\r\n`, `$16\r\n`.
//!
//! In: bytes and the place of the marker. Out: the number and where the next thing begins. As Redis has it, `\r` ends
//! the line and the byte after it is skipped unseen; a number has no `+`, no spaces and no leading zeros.

use super::LINE_BYTES_MAX;

/// Where the line is that begins with a marker at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The place of its `\r`; a byte follows it.
    End(usize),
    /// It has not ended yet, and no line end lies before this place.
    Unfinished(usize),
    /// It is longer than any line may be.
    TooLong,
}

/// Finds the end of the line that begins at `at`; no line end lies before `scanned`.
pub(super) fn find_line(bytes: &[u8], at: usize, scanned: usize) -> Line {
    let from = scanned.max(at);
    let until = bytes.len().min(at + LINE_BYTES_MAX + 1);
    match memchr::memchr(b'\r', &bytes[from..until]) {
        Some(distance) if from + distance + 2 <= bytes.len() => Line::End(from + distance),
        Some(distance) => Line::Unfinished(from + distance),
        None if until - at > LINE_BYTES_MAX => Line::TooLong,
        None => Line::Unfinished(until),
    }
}

/// Reads the length whose marker is at `at`: the number, and the place after the line. `None` when the line is
/// unfinished or holds no number.
#[inline(always)]
pub(super) fn read_length(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    // One to three digits cover nearly all lines. Reading five bytes needs no more than a whole argument has, save at
    // the very end of the input, where the long way serves.
    if let Some(&[a, b, c, d, _]) = bytes.get(at + 1..at + 6).and_then(|window| window.first_chunk::<5>()) {
        let digit = |byte: u8| i64::from(byte.wrapping_sub(b'0'));
        let (first, second, third) = (digit(a), digit(b), digit(c));
        if b == b'\r' && first <= 9 {
            return Some((first, at + 4));
        }
        if c == b'\r' && (1..=9).contains(&first) && second <= 9 {
            return Some((first * 10 + second, at + 5));
        }
        if d == b'\r' && (1..=9).contains(&first) && second <= 9 && third <= 9 {
            return Some((first * 100 + second * 10 + third, at + 6));
        }
    }
    read_long_length(bytes, at)
}

/// Reads `*n\r\n$m\r\n` at `at`, as requests with a short name begin: n, m, and the place behind. `None` for anything
/// else.
#[inline(always)]
pub(super) fn read_short_head(bytes: &[u8], at: usize) -> Option<(u8, u8, usize)> {
    let [b'*', count, b'\r', b'\n', b'$', len, b'\r', b'\n'] = *bytes.get(at..at + 8)?.first_chunk::<8>()? else {
        return None;
    };
    let (count, len) = (count.wrapping_sub(b'0'), len.wrapping_sub(b'0'));
    (count <= 9 && len <= 9).then_some((count, len, at + 8))
}

#[inline(never)]
fn read_long_length(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    match find_line(bytes, at, at) {
        Line::End(end) => Some((parse_number(&bytes[at + 1..end])?, end + 2)),
        Line::Unfinished(_) | Line::TooLong => None,
    }
}

/// A number as Redis reads it (`string2ll`): an optional `-`, then digits without leading zeros, within 64 bits.
pub(super) fn parse_number(digits: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, digits),
    };
    match digits {
        [] => return None,
        [b'0'] => return (!is_negative).then_some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    let mut value = 0i64;
    for byte in digits {
        let digit = i64::from(byte.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        // Counting downwards reaches the least number without overflow.
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if is_negative { Some(value) } else { value.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_strict_as_redis() {
        let rows: &[(&str, Option<i64>)] = &[
            ("0", Some(0)),
            ("5", Some(5)),
            ("1234567890", Some(1_234_567_890)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("99999999999999999999999999", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("05", None),
            ("00", None),
            ("-05", None),
            ("+5", None),
            (" 5", None),
            ("5 ", None),
            ("5a", None),
            ("0x5", None),
            (":", None),
            ("/", None),
        ];
        for (text, number) in rows {
            assert_eq!(parse_number(text.as_bytes()), *number, "{text:?}");
        }
    }

    #[test]
    fn the_short_way_reads_what_the_long_way_reads() {
        let alphabet = b"019:/-\r\n";
        let mut line = [b'$', 0, 0, 0, 0, b'\r', b'\n', b'x', b'x'];
        for code in 0..alphabet.len().pow(4) {
            for place in 0..4 {
                line[1 + place] = alphabet[code / alphabet.len().pow(place as u32) % alphabet.len()];
            }
            for len in 0..=line.len() {
                let bytes = &line[..len];
                let whole = if len == 0 { None } else { read_long_length(bytes, 0) };
                let short = if len == 0 { None } else { read_length(bytes, 0) };
                assert_eq!(short, whole, "{:?}", String::from_utf8_lossy(bytes));
            }
        }
    }

    #[test]
    fn a_line_is_too_long_by_its_length_alone() {
        let mut line = vec![b'1'; LINE_BYTES_MAX + 10];
        assert_eq!(find_line(&line[..LINE_BYTES_MAX], 0, 0), Line::Unfinished(LINE_BYTES_MAX));
        assert_eq!(find_line(&line[..=LINE_BYTES_MAX], 0, 0), Line::TooLong);
        line[LINE_BYTES_MAX + 1] = b'\r';
        assert_eq!(find_line(&line, 0, 0), Line::TooLong);
        line[LINE_BYTES_MAX] = b'\r';
        assert_eq!(find_line(&line, 0, 0), Line::End(LINE_BYTES_MAX));
        assert_eq!(find_line(&line[..=LINE_BYTES_MAX], 0, 0), Line::Unfinished(LINE_BYTES_MAX));
    }
}
