//! In steady state a small GET or SET allocates nothing.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

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

/// A write and a read of every key, and the replies.
fn exchange() -> (Vec<u8>, Vec<u8>) {
    let (mut requests, mut replies) = (Output::new(), Vec::new());
    for key in 0..KEYS {
        let (key, value) = (format!("key:{key:012}"), format!("{key:064}"));
        encode_request(&mut requests, &[b"SET", key.as_bytes(), value.as_bytes()]);
        encode_request(&mut requests, &[b"GET", key.as_bytes()]);
        replies.extend(format!("+OK\r\n$64\r\n{value}\r\n").bytes());
    }
    (requests.to_vec(), replies)
}

/// Allocations of the whole process while a client writes and reads again and again.
fn allocations(server: &Server) -> usize {
    let mut client = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
    let (requests, expected) = exchange();
    let mut replies = vec![0; expected.len()];
    let mut run = |rounds: usize| {
        for _ in 0..rounds {
            client.write_all(&requests).expect("it reads");
            client.read_exact(&mut replies).expect("it answers");
            assert!(replies == expected);
        }
    };
    run(ROUNDS);
    let region = Region::new(ALLOCATOR);
    run(ROUNDS);
    let change = region.change();
    change.allocations + change.reallocations
}

/// One test, for the count is the process's.
#[test]
fn nothing_is_allocated_per_request() {
    for workers in [1, 2] {
        let server = Server::start(Settings { port: 0, workers, ..Settings::default() }).expect("it starts");
        // So many that either worker has one of them: for the one the first key is its own, for the other it hops.
        for client in 0..8 {
            assert_eq!(allocations(&server), 0, "client {client} of {workers} workers");
        }
    }
}
