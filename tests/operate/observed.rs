//! A server with an admin port, and its two sides: what RESP clients say, what operators are told.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::process::{PATIENCE, Serving, corering};

/// A server in a process of its own.
pub(crate) struct Observed {
    pub(crate) serving: Serving,
    pub(crate) admin_port: u16,
}

/// An answer of the admin port.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Observed {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        // Somebody else may take the port in between.
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let admin_port = free.expect("a free port").port();
            let port = admin_port.to_string();
            match Serving::start(&mut corering(&[&["--port", "0", "--admin-port", &port], arguments].concat())) {
                Ok(serving) => return Self { serving, admin_port },
                Err(ended) => eprintln!("port {port}: {ended:?}"),
            }
        }
        panic!("no port is free");
    }

    /// A connection to the admin port.
    pub(crate) fn connect_admin(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.admin_port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }

    /// Asks the admin port and reads to the end.
    pub(crate) fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect_admin();
        stream.write_all(request.as_bytes()).expect("it reads");
        hear(&mut stream)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// Samples of `/metrics`: name with labels, and value.
    pub(crate) fn metrics(&self) -> HashMap<String, f64> {
        let samples = self.get("/metrics").body;
        let samples = samples.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        samples.map(sample).collect()
    }

    /// The replies to RESP commands, each a line that is sent inline; a bulk string is its text.
    pub(crate) fn resp(&self, commands: &[&str]) -> Vec<String> {
        let mut client = self.client();
        commands.iter().map(|command| client.ask(command)).collect()
    }

    pub(crate) fn client(&self) -> Client {
        let client = redis::Client::open(("127.0.0.1", self.serving.port())).expect("an address");
        Client(client.get_connection().expect("it listens"))
    }
}

/// Everything until the server closes.
pub(crate) fn hear(stream: &mut TcpStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer and its end");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A RESP client.
pub(crate) struct Client(pub(crate) redis::Connection);

impl Client {
    /// The reply to a command of words, as text.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        let mut words = command.split(' ');
        let mut request = redis::cmd(words.next().expect("a command"));
        words.for_each(|word| {
            request.arg(word);
        });
        match request.query::<redis::Value>(&mut self.0) {
            Ok(redis::Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            Ok(redis::Value::SimpleString(text)) => text,
            Ok(redis::Value::Okay) => "OK".to_owned(),
            Ok(redis::Value::Int(number)) => number.to_string(),
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("error: {error}"),
        }
    }

    /// A field of `INFO ALL`; empty when there is none.
    pub(crate) fn info(&mut self, field: &str) -> String {
        let all = self.ask("INFO ALL");
        let value = all.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_default().to_owned()
    }
}
