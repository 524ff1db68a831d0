//! A server that behaves as told: answers a protocol, late, wrongly or not at all.
//!
//! A thread per connection; requests are read whole; everybody shares one store and one gate that a test can shut.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use corering::load::Target;
use corering::protocol::resp::{Value, parse};

/// What a request is answered with.
pub(crate) enum Answer {
    Bytes(Vec<u8>),
    /// Nothing, ever.
    Nothing,
    /// The connection's end.
    Close,
}

/// Everything that the connections share.
#[derive(Default)]
pub(crate) struct Shared {
    pub store: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    /// Held for writing, nobody is answered.
    pub gate: RwLock<()>,
    /// Requests, INFO and the like not counted.
    pub requests: AtomicU64,
}

/// Splits the first request off; `None` while it is incomplete.
pub(crate) type Split = fn(&[u8]) -> Option<(Vec<Vec<u8>>, usize)>;

pub(crate) struct Fake {
    pub address: SocketAddr,
    pub shared: Arc<Shared>,
}

impl Fake {
    /// Serves until the test ends. Requests that arrive together are answered together, `delay` later.
    pub(crate) fn start(
        split: Split,
        delay: Duration,
        answer: impl Fn(&Shared, &[Vec<u8>]) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (accepted, answer) = (shared.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (shared, answer) = (accepted.clone(), answer.clone());
                // A client that goes away ends its thread.
                std::thread::spawn(move || serve(stream, split, delay, &shared, &*answer).unwrap_or_default());
            }
        });
        Self { address, shared }
    }

    /// A store that answers RESP, `delay` late.
    pub(crate) fn resp(delay: Duration) -> Self {
        Self::start(split_resp, delay, |shared, request| Answer::Bytes(answer_resp(shared, request)))
    }

    pub(crate) fn target(&self) -> Target {
        Target::Tcp(self.address.to_string())
    }

    /// Answers nobody from `after` now for `length`.
    pub(crate) fn stall(&self, after: Duration, length: Duration) {
        let shared = self.shared.clone();
        std::thread::spawn(move || {
            std::thread::sleep(after);
            let _shut = shared.gate.write().unwrap();
            std::thread::sleep(length);
        });
    }
}

fn serve(
    mut stream: TcpStream,
    split: Split,
    delay: Duration,
    shared: &Shared,
    answer: &dyn Fn(&Shared, &[Vec<u8>]) -> Answer,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut received, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        let arrived = Instant::now();
        received.extend_from_slice(&buffer[..len]);
        let mut replies = Vec::new();
        while let Some((request, taken)) = split(&received) {
            received.drain(..taken);
            match answer(shared, &request) {
                Answer::Bytes(bytes) => replies.extend(bytes),
                Answer::Nothing => {}
                Answer::Close => return Ok(()),
            }
        }
        std::thread::sleep(delay.saturating_sub(arrived.elapsed()));
        let _open = shared.gate.read().unwrap();
        stream.write_all(&replies)?;
    }
}

/// A RESP request.
pub(crate) fn split_resp(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let (value, taken) = parse(bytes).ok()??;
    let Value::Array(words) = value else { return None };
    let words = words.into_iter().map(|word| match word {
        Value::Bulk(word) => word,
        _ => Vec::new(),
    });
    Some((words.collect(), taken))
}

pub(crate) fn answer_resp(shared: &Shared, request: &[Vec<u8>]) -> Vec<u8> {
    let mut store = shared.store.lock().unwrap();
    let bulk = |value: Option<&Vec<u8>>| match value {
        Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
        None => b"$-1\r\n".to_vec(),
    };
    if request[0] != b"INFO" {
        shared.requests.fetch_add(1, Ordering::Relaxed);
    }
    match &request[0][..] {
        b"GET" => bulk(store.get(&request[1])),
        b"MGET" => {
            let values = request[1..].iter().flat_map(|key| bulk(store.get(key)));
            format!("*{}\r\n", request.len() - 1).into_bytes().into_iter().chain(values).collect()
        }
        b"SET" | b"SETEX" => {
            store.insert(request[1].clone(), request[request.len() - 1].clone());
            b"+OK\r\n".to_vec()
        }
        b"DEL" => format!(":{}\r\n", u8::from(store.remove(&request[1]).is_some())).into_bytes(),
        b"INCR" => b":1\r\n".to_vec(),
        b"HELLO" => b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec(),
        b"INFO" => bulk(Some(&b"redis_version:0.0.fake\r\n".to_vec())),
        _ => b"-ERR unknown command\r\n".to_vec(),
    }
}

/// A line, and for `set` the value after it.
pub(crate) fn split_memcache(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let mut words: Vec<Vec<u8>> = bytes[..end].split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
    if words[0] != b"set" {
        return Some((words, end + 2));
    }
    let len: usize = std::str::from_utf8(&words[4]).ok()?.parse().ok()?;
    let value = bytes.get(end + 2..end + 2 + len)?.to_vec();
    bytes.get(end + 2 + len..end + 4 + len)?;
    words.push(value);
    Some((words, end + 4 + len))
}

pub(crate) fn answer_memcache(shared: &Shared, request: &[Vec<u8>]) -> Vec<u8> {
    let mut store = shared.store.lock().unwrap();
    match &request[0][..] {
        b"get" => {
            let found = request[1..].iter().filter_map(|key| store.get(key).map(|value| (key, value)));
            let values = found.flat_map(|(key, value)| {
                let head = format!("VALUE {} 0 {}\r\n", String::from_utf8_lossy(key), value.len());
                [head.as_bytes(), value, b"\r\n"].concat()
            });
            values.chain(*b"END\r\n").collect()
        }
        b"set" => {
            store.insert(request[1].clone(), request[5].clone());
            b"STORED\r\n".to_vec()
        }
        b"incr" if store.contains_key(&request[1]) => b"1\r\n".to_vec(),
        b"delete" if store.remove(&request[1]).is_some() => b"DELETED\r\n".to_vec(),
        b"incr" | b"delete" => b"NOT_FOUND\r\n".to_vec(),
        b"stats" => b"STAT version 0.0.fake\r\nEND\r\n".to_vec(),
        _ => b"ERROR\r\n".to_vec(),
    }
}

/// Method, path and body.
pub(crate) fn split_http(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok()).unwrap_or(0);
    let body = bytes.get(end..end + len)?.to_vec();
    let mut words = head.split(' ').map(|word| word.as_bytes().to_vec());
    Some((vec![words.next()?, words.next()?, body], end + len))
}

pub(crate) fn answer_http(shared: &Shared, request: &[Vec<u8>]) -> Vec<u8> {
    let mut store = shared.store.lock().unwrap();
    let reply = |status: &str, body: &[u8]| {
        [format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
    };
    match &request[0][..] {
        b"GET" => {
            store.get(&request[1]).map_or_else(|| reply("404 Not Found", b"none"), |value| reply("200 OK", value))
        }
        b"PUT" => {
            store.insert(request[1].clone(), request[2].clone());
            b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()
        }
        b"DELETE" if store.remove(&request[1]).is_some() => reply("200 OK", b""),
        b"DELETE" => reply("404 Not Found", b""),
        _ => reply("405 Method Not Allowed", b""),
    }
}
