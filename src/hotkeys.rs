//! `corering hotkeys`: asks a running server for the keys that are asked for most, and prints them.
//!
//! In: an address, a password. Out: a table, or one line with cause and remedy. What must stay true: it waits no longer
//! than [`LIMIT`].

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::protocol::Output;
use crate::protocol::resp::{Value, encode_request, parse};

/// How long a server may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks the server at `target` for `count` keys.
///
/// # Errors
/// One sentence with cause and remedy.
pub fn ask(target: &str, password: &str, count: u32) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{target} does not answer: {error}; --target names a running server");
    let mut stream = TcpStream::connect(target).map_err(failed)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
    let mut output = Output::new();
    if !password.is_empty() {
        encode_request(&mut output, &[&b"AUTH"[..], password.as_bytes()]);
    }
    encode_request(&mut output, &[&b"HOTKEYS"[..], b"COUNT", count.to_string().as_bytes()]);
    stream.write_all(output.head()).map_err(failed)?;
    let mut received = Vec::new();
    if !password.is_empty() {
        refused(next_reply(&mut stream, &mut received).map_err(failed)?)?;
    }
    match refused(next_reply(&mut stream, &mut received).map_err(failed)?)? {
        Value::Array(keys) => Ok(table(&keys)),
        other => Err(format!("{target} sent {other:?}; is it a Corering server?")),
    }
}

/// Reads until a reply is whole.
fn next_reply(stream: &mut TcpStream, received: &mut Vec<u8>) -> std::io::Result<Value> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let parsed = parse(received).map_err(|error| std::io::Error::other(error.0))?;
        if let Some((reply, len)) = parsed {
            received.drain(..len);
            return Ok(reply);
        }
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => received.extend_from_slice(&buffer[..count]),
        }
    }
}

fn refused(reply: Value) -> Result<Value, String> {
    match reply {
        Value::Error(text) => Err(String::from_utf8_lossy(&text).into_owned()),
        reply => Ok(reply),
    }
}

fn table(keys: &[Value]) -> String {
    let text = |value: &Value| match value {
        Value::Bulk(bytes) | Value::Simple(bytes) => bytes.escape_ascii().to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let mut table = format!("{:>15} {:>12} {:>12}  key\n", "share", "requests", "too many by");
    let mut stands_out = keys.is_empty();
    for key in keys {
        let Value::Array(fields) = key else { continue };
        let fields: Vec<String> = fields.iter().map(text).collect();
        let [key, requests, error, share] = &fields[..] else { continue };
        let number = |text: &str| text.parse::<f64>().unwrap_or_default();
        // What may be other keys' requests is left out of what is certain.
        let certain = 1.0 - number(error) / number(requests).max(1.0);
        stands_out |= certain > 0.5;
        let least = if certain < 1.0 { format!("{:.2}-", number(share) * certain) } else { String::new() };
        let _ = writeln!(table, "{:>13} % {requests:>12} {error:>12}  {key}", least + share);
    }
    if !stands_out {
        table.push_str("No key stands out: half of each count and more may be other keys' requests.\n");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_as_far_as_it_is_certain() {
        let key = |name: &str, requests, error, share| {
            let name = Value::Bulk(name.as_bytes().to_vec());
            Value::Array(vec![name, Value::Integer(requests), Value::Integer(error), Value::Double(share)])
        };
        let even = table(&[key("a", 1920, 1792, 0.8), key("b", 1900, 1792, 0.8)]);
        assert!(even.contains(" 0.05-0.8 % ") && even.contains("No key stands out"), "{even}");
        let hot = table(&[key("a", 5000, 0, 40.0), key("b", 1900, 1792, 0.8)]);
        assert!(hot.contains(" 40 % ") && !hot.contains("stands out"), "{hot}");
        assert!(!table(&[]).contains("stands out"));
    }
}
