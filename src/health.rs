//! `corering health`: asks a running server's admin port whether it is well, for container images without other tools.
//!
//! In: an address. Out: what the port says, or one line with cause and remedy. What must stay true: it waits no longer
//! than [`LIMIT`], whatever hangs.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use crate::config::{Settings, TABLE, source};

/// How long everything may take, from the look-up of a name on; a server gives its workers a second.
const LIMIT: Duration = Duration::from_secs(5);

/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// The port that is asked where none is set.
const PORT: u16 = 9180;

/// The admin port of a server with this environment, as seen from where it runs.
///
/// # Errors
/// The variable whose value the server would not take.
pub fn target(environment: impl Fn(&str) -> Option<OsString>) -> Result<String, String> {
    let mut settings = Settings { admin_port: PORT, ..Settings::default() };
    for row in TABLE.iter().filter(|row| ["admin-port", "admin-bind"].contains(&row.key)) {
        let name = source::variable(row.key);
        if let Some(value) = environment(&name) {
            let value = value.to_string_lossy();
            (row.set)(&mut settings, &value).map_err(|error| format!("{name}: {value:?} {error}"))?;
        }
    }
    let address = match settings.admin_bind.first() {
        Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Ipv6Addr::LOCALHOST.into(),
        Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) | None => Ipv4Addr::LOCALHOST.into(),
        Some(address) => *address,
    };
    Ok(SocketAddr::new(address, settings.admin_port).to_string())
}

/// Asks the admin port at `target`. An exchange that takes too long is left to its thread.
///
/// # Errors
/// What is wrong, in one sentence.
pub fn ask(target: &str) -> Result<String, String> {
    let failed = |error: String| format!("{target} does not answer: {error}; --target names an admin port");
    let (sender, receiver) = mpsc::channel();
    let address = target.to_owned();
    let run = move || drop(sender.send(exchange(&address)));
    std::thread::Builder::new().spawn(run).map_err(|error| failed(error.to_string()))?;
    let answer = receiver.recv_timeout(LIMIT).map_err(|_| failed(format!("{LIMIT:?} have passed")))?;
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some(status) => Err(format!("{target} answers {status}: {}", body.trim_end())),
        None => Err(format!("{target} sent no HTTP; --target names an admin port")),
    }
}

fn exchange(target: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(target)?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_target_follows_the_environment() {
        let rows = [
            (None, None, "127.0.0.1:9180"),
            (Some("7"), None, "127.0.0.1:7"),
            (Some("7"), Some("0.0.0.0"), "127.0.0.1:7"),
            (None, Some("::"), "[::1]:9180"),
            (None, Some("10.0.0.2 127.0.0.1"), "10.0.0.2:9180"),
            (Some("seven"), None, "CORERING_ADMIN_PORT"),
        ];
        for (port, bind, expected) in rows {
            let environment = |name: &str| match name {
                "CORERING_ADMIN_PORT" => port.map(OsString::from),
                "CORERING_ADMIN_BIND" => bind.map(OsString::from),
                _ => None,
            };
            let found = target(environment).unwrap_or_else(|error| error);
            assert!(found.starts_with(expected), "{port:?} {bind:?}: {found}");
        }
    }

    #[test]
    fn a_drip_of_bytes_does_not_hold_it_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(LIMIT / 50);
            }
        });
        let begun = Instant::now();
        let error = ask(&address.to_string()).unwrap_err();
        assert!(error.contains("5s have passed") && begun.elapsed() < LIMIT * 2, "{error}");
    }
}
