//! The same seeded random commands, to Redis and to Corering with one worker, with two, and through the ports of two
//! cores: the replies are the same byte for byte, except as [`compare`] says.
//!
//! `CORERING_DIFFERENTIAL_COMMANDS` is the number of commands (100,000 if unset), `CORERING_DIFFERENTIAL_SEED` another
//! seed. Without `redis-server` the test is skipped and says so; with `CORERING_REQUIRE_CLIENTS` or `CI` set it fails.

mod arguments;
mod compare;
#[path = "../fronts/defaults.rs"]
mod defaults;
mod generate;
mod nodes;
mod peer;
mod random;
mod shrink;

use std::collections::BTreeSet;
use std::thread;

use corering::command::slot::slot_of;
use corering::protocol::resp::{Value, parse};
use generate::{Generator, Request};
use peer::Peer;

/// Commands sent before the replies are read.
const BATCH: usize = 200;
/// Batches after which all servers are emptied, so that a failing sequence stays short enough to be shrunk.
const ROUND_BATCHES: usize = 10;

#[test]
fn replies_equal_those_of_redis_in_resp2() {
    run("2", 1, Keys::Anywhere);
}

#[test]
fn replies_equal_those_of_redis_in_resp3() {
    run("3", 2, Keys::Anywhere);
}

#[test]
fn replies_through_cores_equal_those_of_redis_in_resp2() {
    run("2", 3, Keys::OneSlot);
}

#[test]
fn replies_through_cores_equal_those_of_redis_in_resp3() {
    run("3", 4, Keys::OneSlot);
}

/// Where the keys of one request are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Anywhere, so that they meet the path between workers.
    Anywhere,
    /// In one slot, as a cluster asks for.
    OneSlot,
}

/// Puts a request's keys into one of a few slots; the first key says which, so that one key alone keeps its place.
fn tag(mut request: Request) -> Request {
    let positions = nodes::key_positions(&request);
    let Some(first) = positions.first() else { return request };
    let tag = format!("{{{}}}", slot_of(&request[*first]) % 5);
    for key in positions {
        request[key] = [tag.as_bytes(), &request[key]].concat();
    }
    request
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Half of the commands; the other version of the protocol has the other half. Through cores a tenth of that.
fn run(version: &str, seed: u64, keys: Keys) {
    let Some(redis) = Peer::redis() else { return };
    let mut peers = vec![redis, Peer::corering(1), Peer::corering(2)];
    if keys == Keys::OneSlot {
        peers.push(Peer::cores(2));
    }
    let share = if keys == Keys::OneSlot { 20 } else { 2 };
    for peer in &mut peers {
        peer.exchange(&[vec![b"HELLO".to_vec(), version.into()]]);
    }
    let commands = from_environment("CORERING_DIFFERENTIAL_COMMANDS").unwrap_or(100_000).div_ceil(share) as usize;
    let seed = from_environment("CORERING_DIFFERENTIAL_SEED").unwrap_or(seed);
    eprintln!("{commands} commands from seed {seed} in RESP{version}");
    let mut generator = Generator::new(seed);
    let mut round: Vec<Request> = Vec::new();
    for batch in 0..commands.div_ceil(BATCH) {
        if batch % ROUND_BATCHES == 0 {
            exchange(&mut peers, &[vec![b"FLUSHALL".to_vec()]]);
            round.clear();
        }
        let requests = (0..BATCH).map(|_| generator.request()).map(|request| match keys {
            Keys::Anywhere => request,
            Keys::OneSlot => tag(request),
        });
        let requests: Vec<Request> = requests.collect();
        let start = round.len();
        round.extend(requests);
        let replies = exchange(&mut peers, &round[start..]);
        for index in start..round.len() {
            for peer in 1..peers.len() {
                let (expected, found) = (&replies[0][index - start], &replies[peer][index - start]);
                if !compare::agree(&round[index], expected, found) {
                    let place = format!("seed {seed}, command {}", batch * BATCH + index - start);
                    let [redis, rest @ ..] = &mut peers[..] else { unreachable!("redis is the first") };
                    shrink::report(&place, redis, &mut rest[peer - 1], &round[..=index]);
                }
            }
        }
        let options = generator.scan_options();
        let keys: Vec<BTreeSet<Vec<u8>>> = peers.iter_mut().map(|peer| scan(peer, &options)).collect();
        for (peer, found) in peers.iter().zip(&keys).skip(1) {
            assert_eq!(
                &keys[0],
                found,
                "SCAN {} on {}, seed {seed}, batch {batch}",
                generate::show(&options),
                peer.name
            );
        }
    }
}

/// Sends the same requests to all peers at once.
fn exchange(peers: &mut [Peer], requests: &[Request]) -> Vec<Vec<Vec<u8>>> {
    thread::scope(|scope| {
        let threads: Vec<_> = peers.iter_mut().map(|peer| scope.spawn(|| peer.exchange(requests))).collect();
        threads.into_iter().map(|thread| thread.join().expect("the peer replies")).collect()
    })
}

/// The keys that a whole scan shows.
fn scan(peer: &mut Peer, options: &Request) -> BTreeSet<Vec<u8>> {
    let mut keys = BTreeSet::new();
    let mut cursor = b"0".to_vec();
    loop {
        let mut request = vec![b"SCAN".to_vec(), cursor];
        request.extend(options.iter().cloned());
        let reply = peer.exchange(&[request]).remove(0);
        let Ok(Some((Value::Array(parts), _))) = parse(&reply) else { panic!("no page: {}", reply.escape_ascii()) };
        let [Value::Bulk(next), Value::Array(page)] = &parts[..] else { panic!("no page: {parts:?}") };
        for key in page {
            let Value::Bulk(key) = key else { panic!("no key: {key:?}") };
            keys.insert(key.clone());
        }
        if next == b"0" {
            return keys;
        }
        cursor = next.clone();
    }
}
