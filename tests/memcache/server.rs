//! A server that speaks both protocols, and clients that write lines and read what comes.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use corering::Server;
use corering::config::Settings;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A running server and the port of its memcached clients.
pub(crate) struct Both {
    pub(crate) server: Server,
    pub(crate) port: u16,
}

impl Both {
    pub(crate) fn start(settings: &Settings) -> Self {
        // Somebody else may take the port in between.
        for _ in 0..20 {
            let port = free_port();
            let settings = Settings { port: 0, memcache_port: port, ..settings.clone() };
            match Server::start(settings) {
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

    /// A connection to the RESP port.
    pub(crate) fn connect_resp(&self) -> Client {
        Client::to(self.server.port())
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

    /// Everything until the server closes.
    pub(crate) fn hear_end(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        match self.0.read_to_end(&mut heard) {
            Ok(_) => heard,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => heard,
            Err(error) => panic!("{error}"),
        }
    }
}
