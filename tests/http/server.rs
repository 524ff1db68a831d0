//! A server that speaks HTTP and RESP, and clients that write bytes and read replies.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use corering::Server;
use corering::config::Settings;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running server and the port of its HTTP clients.
pub(crate) struct Both {
    pub(crate) server: Server,
    pub(crate) port: u16,
}

/// A reply.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A field's value; empty when it is not there.
    pub(crate) fn field(&self, name: &str) -> &str {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Both {
    pub(crate) fn start(settings: &Settings) -> Self {
        // Somebody else may take the port in between.
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let port = free.expect("a free port").port();
            match Server::start(Settings { port: 0, http_port: port, ..settings.clone() }) {
                Ok(server) => return Self { server, port },
                Err(error) => eprintln!("port {port}: {error}"),
            }
        }
        panic!("no port is free");
    }

    pub(crate) fn with_workers(workers: u16) -> Self {
        Self::start(&Settings { workers, ..Settings::default() })
    }

    pub(crate) fn connect(&self) -> Client {
        Client::to(self.port)
    }
}

/// A connection.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_nodelay(true).expect("a TCP socket");
        Self(stream)
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("it reads");
    }

    /// One reply, whose body is as long as it says.
    pub(crate) fn hear(&mut self, has_body: bool) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("it answers");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("a head is text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut answer = Answer { status, head, body: Vec::new() };
        let len = if has_body { answer.field("content-length").parse().unwrap_or(0) } else { 0 };
        answer.body.resize(len, 0);
        self.0.read_exact(&mut answer.body).expect("a whole body");
        answer
    }

    /// Asks, with further fields that each end a line.
    pub(crate) fn ask(&mut self, request: &str, fields: &str, body: &str) -> Answer {
        let len = body.len();
        self.say(format!("{request} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {len}\r\n\r\n{body}").as_bytes());
        self.hear(!request.starts_with("HEAD"))
    }

    /// Everything until the server closes.
    pub(crate) fn hear_end(&mut self) -> String {
        let mut heard = Vec::new();
        match self.0.read_to_end(&mut heard) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
        }
        String::from_utf8_lossy(&heard).into_owned()
    }
}
