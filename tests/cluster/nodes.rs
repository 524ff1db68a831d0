//! The servers of a test, and plain connections to their ports.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};

use corering::protocol::Output;
use corering::protocol::resp::{Value, encode_request, parse};

use crate::process::{PATIENCE, Serving, corering};

/// A connection that asks one thing at a time.
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self { stream, received: Vec::new() }
    }

    /// Asks, in words; the reply's bytes.
    pub(crate) fn ask(&mut self, request: &str) -> String {
        let words: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        let mut output = Output::new();
        encode_request(&mut output, &words);
        self.stream.write_all(&output.to_vec()).expect("it reads");
        loop {
            if let Some((_, len)) = parse(&self.received).expect("a reply") {
                let reply: Vec<u8> = self.received.drain(..len).collect();
                return String::from_utf8_lossy(&reply).into_owned();
            }
            let mut chunk = [0; 16 * 1024];
            let count = self.stream.read(&mut chunk).expect("it answers");
            assert!(count > 0, "closed at {request}");
            self.received.extend_from_slice(&chunk[..count]);
        }
    }

    /// The same for a reply that is a text.
    pub(crate) fn text(&mut self, request: &str) -> String {
        match parse(self.ask(request).as_bytes()) {
            Ok(Some((Value::Bulk(text) | Value::Verbatim(_, text), _))) => String::from_utf8(text).expect("text"),
            other => panic!("{request}: {other:?}"),
        }
    }
}

/// Running processes that are one cluster.
pub(crate) struct Servers {
    pub(crate) processes: Vec<Serving>,
    /// The port of every node.
    pub(crate) ports: Vec<u16>,
    /// Holds the map.
    _folder: Option<tempfile::TempDir>,
}

/// Ports that nobody listens on, one after the other: below those that the kernel gives to clients, and other ones for
/// each test and each run.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 12_000;
    const MANY: u16 = 20_000;
    let start = (std::process::id() % 997) as u16 * 20;
    for _ in 0..1000 {
        let base = FIRST + (start + NEXT.fetch_add(count, Ordering::Relaxed)) % MANY;
        // A listener to try it with could live on for a moment in a child that another test is starting.
        let is_free = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_err();
        if (base..base + count).all(is_free) {
            return base;
        }
    }
    panic!("no {count} free ports in a row");
}

/// A server with these flags beside the ones every test has.
pub(crate) fn start(flags: &[&str]) -> Serving {
    let all = [&["--port", "0", "--cluster-mode", "cores", "--maxmemory", "256mb"], flags].concat();
    Serving::start(&mut corering(&all)).unwrap_or_else(|ended| panic!("{flags:?}: {ended:?}"))
}

/// One process whose two cores are nodes.
pub(crate) fn one_process(flags: &[&str]) -> Servers {
    let base = free_ports(2);
    let text = base.to_string();
    let process = start(&[&["--workers", "2", "--core-port-base", &text], flags].concat());
    Servers { processes: vec![process], ports: vec![base, base + 1], _folder: None }
}

/// Three processes with two nodes each and a fixed map, whose slots are not in the order of the nodes.
pub(crate) fn three_processes() -> Servers {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("map.toml");
    let base = free_ports(6);
    std::fs::write(&path, map(1, base, SLOTS)).expect("our file");
    let processes = ["a", "b", "c"].map(|name| start_of_map(&path, name)).into();
    Servers { processes, ports: (base..base + 6).collect(), _folder: Some(folder) }
}

/// One of the processes of a map.
pub(crate) fn start_of_map(path: &Path, name: &str) -> Serving {
    let path = path.to_str().expect("text");
    start(&["--workers", "2", "--cluster-map", path, "--cluster-process", name])
}

/// The slots of the six nodes of [`three_processes`].
pub(crate) const SLOTS: [&str; 6] =
    ["0-999 8000-9999", "1000-2999", "10000-12999", "3000-5499", "5500-7999 13000", "13001-16383"];

/// A map of three processes with two nodes each.
pub(crate) fn map(epoch: u64, base: u16, slots: [&str; 6]) -> String {
    let mut text = format!("epoch = {epoch}\n");
    for (process, own) in slots.chunks(2).enumerate() {
        text += &format!("[[process]]\nname = \"{}\"\nhost = \"127.0.0.1\"\nnodes = [\n", ["a", "b", "c"][process]);
        for (port, slots) in (base + 2 * process as u16..).zip(own) {
            text += &format!("  {{ port = {port}, slots = \"{slots}\" }},\n");
        }
        text += "]\n";
    }
    text
}

impl Servers {
    /// Processes whose ports are known elsewhere.
    pub(crate) fn of(processes: Vec<Serving>) -> Self {
        Self { processes, ports: Vec::new(), _folder: None }
    }

    /// Messages that the cores have sent each other.
    pub(crate) fn messages(&self) -> u64 {
        self.processes.iter().map(|process| counter(process.port(), "mailbox_messages_sent")).sum()
    }

    /// Ends them as a service manager does, so that their ports are free.
    pub(crate) fn end(mut self) {
        self.processes.iter().for_each(|process| process.process.terminate());
        self.processes.iter_mut().for_each(|process| assert!(process.process.wait().success()));
    }
}

/// A counter of INFO.
pub(crate) fn counter(port: u16, name: &str) -> u64 {
    let info = Client::new(port).text("INFO everything");
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {info}")).parse().expect("a number")
}
