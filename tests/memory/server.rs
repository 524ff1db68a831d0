//! A server as a process of its own, what it holds, and a client that fills it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corering::protocol::Output;

/// A server.
pub(crate) struct Server {
    child: Child,
    port: u16,
}

impl Server {
    pub(crate) fn start(workers: u64, maxmemory: u64, policy: &str) -> Self {
        let (workers, budget) = (workers.to_string(), maxmemory.to_string());
        let arguments = ["--port", "0", "--workers", &workers, "--maxmemory", &budget, "--maxmemory-policy", policy];
        let mut command = Command::new(env!("CARGO_BIN_EXE_corering"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let port = lines.find_map(|line| {
            let line = line.expect("text");
            let (_, address) = line.split_once("ready on 127.0.0.1:")?;
            address.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
        });
        // Nobody reads what it logs from here on; one that logs little does not mind.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port: port.expect("it says that it is ready") }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        stream
    }

    /// Its resident memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("it runs");
        let pages: u64 = statm.split(' ').nth(1).expect("resident pages").parse().expect("a number");
        pages * 4096
    }

    /// A number that INFO says.
    pub(crate) fn info(&self, field: &str) -> u64 {
        let mut stream = BufReader::new(self.connect());
        stream.get_mut().write_all(b"INFO\r\nQUIT\r\n").expect("it takes requests");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        let value = text.lines().find_map(|line| line.strip_prefix(field)).expect("a field of INFO");
        value.split(',').next().expect("a value").parse().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends requests of one reply line each and reads the replies; how many were errors.
pub(crate) fn exchange(stream: &mut TcpStream, requests: &Output, count: usize) -> usize {
    stream.write_all(&requests.to_vec()).expect("it takes requests");
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    let mut errors = 0;
    for _ in 0..count {
        line.clear();
        reader.read_until(b'\n', &mut line).expect("it answers");
        errors += usize::from(line.starts_with(b"-"));
    }
    errors
}
