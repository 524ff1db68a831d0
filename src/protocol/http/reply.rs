//! Replies: a status, fields, and a body.
//!
//! In: numbers and bytes. Out: bytes. What must stay true: nothing is allocated; every reply tells its length, but for
//! those that have no body by their status (204, 304) or to HEAD; errors are problem details (RFC 9457).

use super::request::{IS_HEAD, IS_LAST, IS_OLD};
use crate::protocol::Output;

/// The reason phrase of a status.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Error",
    }
}

/// A reply whose head is being written.
#[derive(Debug)]
pub struct Head<'o> {
    output: &'o mut Output,
    mode: u8,
    status: u16,
}

impl<'o> Head<'o> {
    /// Begins a reply to a request with this [`mode`](super::Request::mode).
    #[inline]
    pub fn new(status: u16, mode: u8, output: &'o mut Output) -> Self {
        if status == 200 {
            output.extend(b"HTTP/1.1 200 OK\r\n");
        } else {
            output.extend(b"HTTP/1.1 ");
            output.extend(itoa::Buffer::new().format(status).as_bytes());
            output.push(b' ');
            output.extend(reason(status).as_bytes());
            output.extend(b"\r\n");
        }
        Self { output, mode, status }
    }

    /// Adds a field; `name` is followed by its colon and a space.
    #[inline]
    pub fn field(self, name: &[u8], value: &[u8]) -> Self {
        self.output.extend(name);
        self.output.extend(value);
        self.output.extend(b"\r\n");
        self
    }

    /// Adds a field that is a number.
    #[inline]
    pub fn number(self, name: &[u8], value: u64) -> Self {
        self.field(name, itoa::Buffer::new().format(value).as_bytes())
    }

    /// `ETag`.
    #[inline]
    pub fn tag(self, version: u64) -> Self {
        self.output.extend(b"ETag: \"");
        self.output.extend(itoa::Buffer::new().format(version).as_bytes());
        self.output.extend(b"\"\r\n");
        self
    }

    /// Ends the head of a reply with a body of `len` bytes. Returns where that goes, unless it is left out.
    #[inline]
    pub fn end(self, len: usize, unix_ms: u64) -> Option<&'o mut Output> {
        let has_length = self.status != 204 && self.status != 304;
        let has_body = has_length && self.mode & IS_HEAD == 0;
        let this = if has_length { self.number(b"Content-Length: ", len as u64) } else { self };
        let output = this.finish(unix_ms);
        has_body.then_some(output)
    }

    /// Ends the head of a reply whose body comes in chunks.
    pub fn end_chunked(self, unix_ms: u64) {
        self.field(b"Transfer-Encoding: ", b"chunked").finish(unix_ms);
    }

    fn finish(self, unix_ms: u64) -> &'o mut Output {
        let this = self.field(b"Date: ", &date(unix_ms / 1000));
        let connection: &[u8] = match this.mode & (IS_LAST | IS_OLD) {
            0 => b"\r\n",
            IS_OLD => b"Connection: keep-alive\r\n\r\n",
            _ => b"Connection: close\r\n\r\n",
        };
        this.output.extend(connection);
        this.output
    }
}

/// Seconds since the epoch as RFC 9110 has dates: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn date(unix_seconds: u64) -> [u8; 29] {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let (days, seconds) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Civil date from days, with years that begin in March (Howard Hinnant's algorithm).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12;
    let year = year_of_era + era * 400 + u64::from(month < 2);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let mut two = |at: usize, number: u64| {
        text[at] = b'0' + (number / 10 % 10) as u8;
        text[at + 1] = b'0' + (number % 10) as u8;
    };
    two(5, day);
    two(12, year / 100);
    two(14, year);
    two(17, seconds / 3600);
    two(20, seconds / 60 % 60);
    two(23, seconds % 60);
    let (weekday, month) = ((days % 7 * 3) as usize, (month * 3) as usize);
    text[..3].copy_from_slice(&DAYS[weekday..weekday + 3]);
    text[8..11].copy_from_slice(&MONTHS[month..month + 3]);
    text
}

/// The body of an error, as RFC 9457 has it.
pub fn problem(status: u16, detail: &str) -> String {
    let title = reason(status);
    let detail = serde_json::Value::from(detail);
    format!(r#"{{"type":"about:blank","title":"{title}","status":{status},"detail":{detail}}}"#)
}

/// An error that is no route's, in words as RESP has them.
pub fn refusal(text: &[u8], output: &mut Output) {
    let status = match text {
        [b'O', b'O', b'M', ..] => 507,
        [b'M', b'O', b'V', b'E', b'D', ..] => 421,
        [b'T', b'I', b'M', b'E', ..] => 408,
        text if text.starts_with(b"ERR max number of clients") => 503,
        _ => 400,
    };
    let body = problem(status, &String::from_utf8_lossy(text));
    let head = Head::new(status, 0, output).field(b"Content-Type: ", b"application/problem+json");
    let head = head.number(b"Content-Length: ", body.len() as u64);
    // After these the connection is closed.
    head.output.extend(if matches!(status, 408 | 503) { b"Connection: close\r\n\r\n" } else { b"\r\n" });
    output.extend(body.as_bytes());
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates_are_those_of_the_calendar() {
        let rows: [(u64, &[u8; 29]); 5] = [
            (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, b"Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, b"Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_164_800, b"Thu, 29 Feb 2024 00:00:00 GMT"),
            (4_102_444_799, b"Thu, 31 Dec 2099 23:59:59 GMT"),
        ];
        for (seconds, text) in rows {
            assert_eq!(super::date(seconds), *text);
        }
    }
}
