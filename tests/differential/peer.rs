//! The servers that are compared, each behind one connection.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use corering::Server;
use corering::config::{ClusterMode, Settings};
use corering::protocol::Output;
use corering::protocol::resp::{Skipper, encode_request};
use tempfile::TempDir;

use crate::generate::Request;
use crate::nodes::Nodes;

/// A server that does not answer for this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server and how it is reached.
pub(crate) struct Peer {
    /// How reports call it.
    pub(crate) name: String,
    link: Link,
    _server: Process,
}

enum Link {
    One(Connection),
    Nodes(Nodes),
}

/// One connection.
pub(crate) struct Connection {
    reader: Box<dyn Read + Send>,
    writer: Box<dyn Write + Send>,
    /// Received bytes that no reply has taken yet.
    received: Vec<u8>,
}

enum Process {
    Redis { child: Child, _directory: TempDir },
    Corering(Option<Server>),
}

impl Peer {
    /// Debian's redis-server on a socket of its own; `None`, with a word about it, when it is not installed.
    pub(crate) fn redis() -> Option<Self> {
        let directory = TempDir::new().expect("a directory");
        let socket = directory.path().join("redis.sock");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--databases", "1", "--save", "", "--appendonly", "no"])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                let is_required =
                    ["CORERING_REQUIRE_CLIENTS", "CI"].iter().any(|name| std::env::var_os(name).is_some());
                assert!(!is_required, "redis-server is required: {error}");
                eprintln!("skipped: redis-server is not installed ({error})");
                return None;
            }
        };
        let server = Process::Redis { child, _directory: directory };
        let start = Instant::now();
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(start.elapsed() < PATIENCE, "redis-server does not listen: {error}"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let reader = Box::new(stream.try_clone().expect("a socket"));
        let connection = Connection { reader, writer: Box::new(stream), received: Vec::new() };
        Some(Self { name: "redis-server".into(), link: Link::One(connection), _server: server })
    }

    /// Corering in this process, through the port that all workers share.
    pub(crate) fn corering(workers: u16) -> Self {
        let settings = Settings { port: 0, workers, ..crate::defaults::defaults() };
        let server = Server::start(settings).expect("the server starts");
        let link = Link::One(Connection::new(server.port()));
        let name = format!("corering with {workers} worker(s)");
        Self { name, link, _server: Process::Corering(Some(server)) }
    }

    /// Corering in this process, through the ports of its cores.
    pub(crate) fn cores(workers: u16) -> Self {
        let cluster_mode = ClusterMode::Cores;
        let settings = Settings { port: 0, core_port_base: 0, workers, cluster_mode, ..crate::defaults::defaults() };
        let server = Server::start(settings).expect("the server starts");
        let ports: Vec<u16> = server.instance().map().nodes.iter().map(|node| node.port).collect();
        let link = Link::Nodes(Nodes::new(&ports));
        Self { name: format!("corering's {workers} cores"), link, _server: Process::Corering(Some(server)) }
    }

    /// Sends requests, as one pipeline where there is one connection, and returns the bytes of each reply.
    pub(crate) fn exchange(&mut self, requests: &[Request]) -> Vec<Vec<u8>> {
        match &mut self.link {
            Link::One(connection) => connection.exchange(&self.name, requests),
            Link::Nodes(nodes) => requests.iter().map(|request| nodes.ask(request)).collect(),
        }
    }
}

impl Connection {
    /// A connection to a port of this host.
    pub(crate) fn new(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let reader = Box::new(stream.try_clone().expect("a socket"));
        Self { reader, writer: Box::new(stream), received: Vec::new() }
    }

    /// Sends requests as one pipeline and returns the bytes of each reply.
    pub(crate) fn exchange(&mut self, name: &str, requests: &[Request]) -> Vec<Vec<u8>> {
        let mut pipeline = Output::new();
        for request in requests {
            let args: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
            encode_request(&mut pipeline, &args);
        }
        let Self { reader, writer, received } = self;
        // Replies are read while requests are still being written: a server may stop reading until they are.
        thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&pipeline.to_vec()).expect("the server reads"));
            requests.iter().map(|request| next_reply(reader, received, name, request)).collect()
        })
    }

    /// Sends one request and returns its reply's bytes.
    pub(crate) fn ask(&mut self, request: &Request) -> Vec<u8> {
        let mut bytes = Output::new();
        let args: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
        encode_request(&mut bytes, &args);
        self.writer.write_all(&bytes.to_vec()).expect("the server reads");
        next_reply(&mut self.reader, &mut self.received, "a node", request)
    }
}

fn next_reply(reader: &mut impl Read, received: &mut Vec<u8>, name: &str, request: &Request) -> Vec<u8> {
    let mut skipper = Skipper::default();
    let mut end = 0;
    loop {
        let skipped = skipper.skip(&received[end..]).unwrap_or_else(|error| panic!("{name} sent no reply: {error:?}"));
        end += skipped.consumed;
        if skipped.is_complete {
            return received.drain(..end).collect();
        }
        let mut chunk = [0; 64 * 1024];
        let count = match reader.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.unwrap_or_else(|error| {
                panic!("{name} does not answer {}: {error}", crate::generate::show(request));
            }),
        };
        assert!(count > 0, "{name} closed the connection at {}", crate::generate::show(request));
        received.extend_from_slice(&chunk[..count]);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        match self {
            Process::Redis { child, .. } => {
                // Killing fails only when it has ended already.
                let _ = child.kill();
                let _ = child.wait();
            }
            Process::Corering(server) => {
                if let Some(server) = server.take() {
                    server.stop();
                }
            }
        }
    }
}
