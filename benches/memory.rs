//! What does an item take beyond its key and value, in resident memory, over the wire, with one worker?
//!
//! `cargo bench --bench memory` fills servers with 1 to 16 million items (`-- 1,10` chooses millions), then turns the
//! full ones over ten times under a budget. Keys of 16 bytes. It takes some minutes and 5 GiB.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

#[path = "../tests/memory/server.rs"]
mod server;

use corering::protocol::Output;
use corering::protocol::resp::encode_request;

use server::{Server, exchange};

const KEY_BYTES: u64 = 16;

/// Requests that are sent together.
const BATCH: u64 = 10_000;

/// How often a full cache is written anew.
const TURNOVERS: u64 = 10;

/// Name, bytes of a value, whether it has an expiry, and the limit: bytes beyond key and value.
const ROWS: [(&str, usize, bool, f64); 3] =
    [("32 bytes", 32, false, 20.0), ("32 bytes, with a TTL", 32, true, 24.0), ("200 bytes", 200, false, 24.0)];

fn main() {
    let millions = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let millions = millions.as_deref().unwrap_or("1,2,4,7,10,13,16");
    println!("{:22} {:>10} {:>16} {:>16} {:>6}", "values", "items", "bytes of an item", "after turnovers", "limit");
    for (name, value_bytes, expires, limit) in ROWS {
        for text in millions.split(',') {
            let Ok(million) = text.parse::<f64>() else {
                return eprintln!("memory: {text:?} is no number of millions");
            };
            let items = (million * 1e6) as u64;
            let filled = filled(items, value_bytes, expires);
            let turned = turned_over(items, value_bytes, expires);
            println!("{name:22} {items:>10} {filled:>16.1} {turned:>16.1} {limit:>6}");
        }
    }
}

/// A server whose ring and connection have had their buffers, which are no part of an item, and its resident bytes.
fn warm_server(maxmemory: u64) -> (Server, u64) {
    let server = Server::start(1, maxmemory, "cache");
    let mut requests = Output::new();
    for _ in 0..BATCH {
        encode_request(&mut requests, &[&b"EXISTS"[..], &[b'k'; 64]]);
    }
    exchange(&mut server.connect(), &requests, BATCH as usize);
    let resident_bytes = server.resident_bytes();
    (server, resident_bytes)
}

/// Stores items `from..to`.
fn store(server: &Server, from: u64, to: u64, value_bytes: usize, expires: bool) {
    let (mut stream, value) = (server.connect(), vec![b'v'; value_bytes]);
    let mut requests = Output::new();
    for first in (from..to).step_by(BATCH as usize) {
        requests.clear();
        for number in first..to.min(first + BATCH) {
            let key = format!("key:{number:012}");
            let mut request: Vec<&[u8]> = vec![b"SET", key.as_bytes(), &value];
            if expires {
                request.extend([&b"EX"[..], b"86400"]);
            }
            encode_request(&mut requests, &request);
        }
        let errors = exchange(&mut stream, &requests, (to.min(first + BATCH) - first) as usize);
        assert_eq!(errors, 0, "everything is stored");
    }
}

/// Bytes for each item beyond key and value, when so many were stored without a limit.
fn filled(items: u64, value_bytes: usize, expires: bool) -> f64 {
    let (server, before) = warm_server(0);
    store(&server, 0, items, value_bytes, expires);
    assert_eq!(server.info("db0:keys="), items);
    (server.resident_bytes() - before) as f64 / items as f64 - (KEY_BYTES + value_bytes as u64) as f64
}

/// The same in a cache that holds about as many, after so many times as many were written.
fn turned_over(items: u64, value_bytes: usize, expires: bool) -> f64 {
    let item_bytes = KEY_BYTES + value_bytes as u64 + if expires { 24 } else { 18 };
    let (server, before) = warm_server(items * item_bytes);
    store(&server, 0, items * TURNOVERS, value_bytes, expires);
    let held = server.info("db0:keys=");
    (server.resident_bytes() - before) as f64 / held as f64 - (KEY_BYTES + value_bytes as u64) as f64
}
