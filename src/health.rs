//! `corering health`: asks a running server's admin port whether it is well, for container images without other tools.
//!
//! In: an address. Out: what the port says, or one line with cause and remedy. What must stay true: it waits no longer
//! than [`LIMIT`].

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a server may take to answer; it gives its workers a second.
const LIMIT: Duration = Duration::from_secs(5);

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Asks the admin port at `target`.
///
/// # Errors
/// What is wrong, in one sentence.
pub fn ask(target: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{target} does not answer: {error}; --target names an admin port");
    let mut stream = TcpStream::connect(target).map_err(failed)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some(status) => Err(format!("{target} answers {status}: {}", body.trim_end())),
        None => Err(format!("{target} sent no HTTP; --target names an admin port")),
    }
}
