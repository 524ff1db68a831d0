//! In steady state a small GET or SET allocates nothing, nor does a read by memcached's protocol or over HTTP.

#[path = "fronts/defaults.rs"]
mod defaults;

use std::alloc::System;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use corering::Server;
use corering::config::Settings;
use corering::protocol::Output;
use corering::protocol::resp::encode_request;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests for all of them fit into one receive buffer: one that is cut at its end is kept in an allocation.
const KEYS: usize = 24;
const ROUNDS: usize = 500;

/// A write and a read of every key.
fn exchange() -> Vec<u8> {
    let mut requests = Output::new();
    for key in 0..KEYS {
        let (key, value) = (format!("key:{key:012}"), format!("{key:064}"));
        encode_request(&mut requests, &[b"SET", key.as_bytes(), value.as_bytes()]);
        encode_request(&mut requests, &[b"GET", key.as_bytes()]);
    }
    requests.to_vec()
}

/// Allocations of the whole process while a client asks the same again and again, and each time hears as much.
fn allocations(port: u16, requests: &[u8]) -> usize {
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    client.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
    client.write_all(requests).expect("it reads");
    let mut replies = Vec::new();
    // Nothing tells the end of all replies but silence.
    let end = client.read_to_end(&mut replies).expect_err("it does not close").kind();
    assert_eq!(end, ErrorKind::WouldBlock);
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let mut run = |rounds: usize| {
        for _ in 0..rounds {
            client.write_all(requests).expect("it reads");
            client.read_exact(&mut replies).expect("it answers");
        }
    };
    run(ROUNDS);
    let region = Region::new(ALLOCATOR);
    run(ROUNDS);
    let change = region.change();
    change.allocations + change.reallocations
}

/// A request for every key.
fn for_every_key(request: impl Fn(&str) -> String) -> Vec<u8> {
    (0..KEYS).map(|key| request(&format!("key:{key:012}"))).collect::<String>().into_bytes()
}

/// A server with ports for the two other protocols, of which somebody else may take one in between.
fn start(workers: u16) -> (Server, [u16; 2]) {
    let free =
        || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
    let try_start = |_| {
        let [memcache_port, http_port] = [free(), free()];
        let settings = Settings { port: 0, memcache_port, http_port, workers, ..defaults::defaults() };
        Server::start(settings).ok().map(|server| (server, [memcache_port, http_port]))
    };
    (0..20).find_map(try_start).expect("it starts")
}

/// One test, for the count is the process's.
#[test]
fn nothing_is_allocated_per_request() {
    let by_memcache = for_every_key(|key| format!("get {key}\r\nmg {key} v f t\r\n"));
    let by_http = for_every_key(|key| format!("GET /v1/keys/{key} HTTP/1.1\r\nHost: h\r\nUser-Agent: u\r\n\r\n"));
    for workers in [1, 2] {
        let (server, [memcache_port, http_port]) = start(workers);
        // So many that either worker has one of them: for the one the first key is its own, for the other it hops.
        for client in 0..8 {
            let how = format!("client {client} of {workers} workers");
            assert_eq!(allocations(server.port(), &exchange()), 0, "{how}");
            assert_eq!(allocations(memcache_port, &by_memcache), 0, "{how}, memcached's protocol");
            assert_eq!(allocations(http_port, &by_http), 0, "{how}, HTTP");
        }
    }
}
