//! A server that speaks all three protocols, and clients that write bytes and read what comes.

#![allow(dead_code, reason = "shared by the tests of each protocol and of all together")]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use corering::Server;
use corering::config::Settings;

#[path = "defaults.rs"]
mod defaults;

use defaults::defaults;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A running server and its ports.
pub(crate) struct Fronts {
    pub(crate) server: Server,
    pub(crate) memcache_port: u16,
    pub(crate) http_port: u16,
}

impl Fronts {
    pub(crate) fn start(settings: &Settings) -> Self {
        // Somebody else may take a port in between.
        for _ in 0..20 {
            let (memcache_port, http_port) = (free_port(), free_port());
            let io = defaults().io;
            match Server::start(Settings { port: 0, memcache_port, http_port, io, ..settings.clone() }) {
                Ok(server) => return Self { server, memcache_port, http_port },
                Err(error) => eprintln!("ports {memcache_port} and {http_port}: {error}"),
            }
        }
        panic!("no port is free");
    }

    pub(crate) fn with_workers(workers: u16) -> Self {
        Self::start(&Settings { workers, ..Settings::default() })
    }

    pub(crate) fn resp(&self) -> Client {
        Client::to(self.server.port())
    }

    pub(crate) fn memcache(&self) -> Client {
        Client::to(self.memcache_port)
    }

    pub(crate) fn http(&self) -> Client {
        Client::to(self.http_port)
    }
}

/// A reply over HTTP.
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

    /// Reads until what was read ends so; the whole.
    pub(crate) fn hear_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        let mut piece = [0; 4096];
        while !heard.ends_with(end) {
            match self.0.read(&mut piece) {
                Ok(0) => panic!("closed after {:?}", String::from_utf8_lossy(&heard)),
                Ok(len) => heard.extend_from_slice(&piece[..len]),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&heard)),
            }
        }
        heard
    }

    /// One line.
    pub(crate) fn hear_until_line(&mut self) -> String {
        let mut heard = Vec::new();
        while heard.last() != Some(&b'\n') {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("it answers");
            heard.push(byte[0]);
        }
        String::from_utf8_lossy(&heard).into_owned()
    }

    /// Says something on the memcached port; everything that is answered.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.say(request);
        self.say(b"mn\r\n");
        let mut heard = self.hear_until(b"MN\r\n");
        heard.truncate(heard.len() - 4);
        heard
    }

    /// The same with text, whose line ends are written as `|`, and spaces at its end left out.
    pub(crate) fn words(&mut self, request: &str) -> String {
        let request = request.replace('|', "\r\n") + "\r\n";
        let heard = String::from_utf8_lossy(&self.ask(request.as_bytes())).replace("\r\n", "|");
        heard.strip_suffix('|').unwrap_or(&heard).to_owned()
    }

    /// Says a line on the RESP port; the reply, which has `lines` lines, with `|` for line ends.
    pub(crate) fn resp(&mut self, request: &str, lines: usize) -> String {
        self.say(format!("{request}\r\n").as_bytes());
        let heard: String = (0..lines).map(|_| self.hear_until_line()).collect();
        heard.trim_end().replace("\r\n", "|")
    }

    /// One reply over HTTP, whose body is as long as it says or comes in chunks.
    pub(crate) fn hear_http(&mut self, has_body: bool) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &self.hear_until_line();
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut answer = Answer { status, head, body: Vec::new() };
        if answer.field("transfer-encoding") == "chunked" {
            self.hear_chunks(&mut answer.body);
        } else if has_body {
            answer.body.resize(answer.field("content-length").parse().unwrap_or(0), 0);
            self.0.read_exact(&mut answer.body).expect("a whole body");
        }
        answer
    }

    fn hear_chunks(&mut self, body: &mut Vec<u8>) {
        loop {
            let len = usize::from_str_radix(self.hear_until_line().trim_end(), 16).expect("a chunk's length");
            let start = body.len();
            body.resize(start + len + 2, 0);
            self.0.read_exact(&mut body[start..]).expect("a whole chunk");
            assert_eq!(body.split_off(start + len), b"\r\n");
            if len == 0 {
                return;
            }
        }
    }

    /// Asks on the HTTP port, with further fields that each end a line.
    pub(crate) fn http(&mut self, request: &str, fields: &str, body: &str) -> Answer {
        let len = body.len();
        self.say(format!("{request} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {len}\r\n\r\n{body}").as_bytes());
        self.hear_http(!request.starts_with("HEAD"))
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
