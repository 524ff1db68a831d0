//! `maxmemory` is a promise about the process: whatever clients store, and however little they read, its resident
//! memory stays within the budget, and the cache stays full.
//!
//! `CORERING_TEST_MEMORY_MB=512 cargo test --release --test memory` tries a larger budget, for longer.

mod server;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use corering::protocol::Output;
use corering::protocol::resp::encode_request;

use server::{Server, exchange};

const MIB: u64 = 1 << 20;

/// What the process may take beyond 1.03 times its budget.
const BESIDE_BYTES: u64 = 24 * MIB;

/// The budget, and how many times it is written.
fn budget() -> (u64, u64) {
    let mib = std::env::var("CORERING_TEST_MEMORY_MB").ok();
    let mib = mib.map(|mib| mib.parse::<u64>().expect("a number of MiB"));
    mib.map_or((64 * MIB, 3), |mib| (mib * MIB, 10))
}

fn budget_bytes() -> u64 {
    budget().0
}

/// Looks at the resident memory, and that it is within the promise.
fn look(server: &Server) -> u64 {
    let (resident, limit) = (server.resident_bytes(), budget_bytes() / 100 * 103 + BESIDE_BYTES);
    assert!(resident <= limit, "{} MiB resident of {} MiB", resident / MIB, limit / MIB);
    resident
}

/// Numbers that look random.
fn random(seed: u64) -> u64 {
    let mixed = (seed ^ seed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB) >> 11
}

/// Writes the budget several times and says how much was resident at most: item `number` has the key and length that
/// `item` says.
fn fill(server: &Server, item: impl Fn(u64) -> (u64, usize), ttl_ms: Option<&str>) -> u64 {
    let mut stream = server.connect();
    let block = vec![b'v'; 12 << 20];
    let (mut written, mut number, mut peak_bytes) = (0, 0, 0);
    while written < budget().0 * budget().1 {
        let (mut requests, mut count) = (Output::new(), 0);
        while requests.len() < MIB as usize && count < 10_000 {
            let (key, len) = item(number);
            let key = format!("key:{key}");
            let mut request: Vec<&[u8]> = vec![b"SET", key.as_bytes(), &block[..len]];
            ttl_ms.into_iter().for_each(|ttl_ms| request.extend([&b"PX"[..], ttl_ms.as_bytes()]));
            encode_request(&mut requests, &request);
            written += (key.len() + len) as u64;
            (number, count) = (number + 1, count + 1);
        }
        assert_eq!(exchange(&mut stream, &requests, count), 0);
        peak_bytes = peak_bytes.max(look(server));
    }
    peak_bytes
}

#[test]
fn resident_memory_stays_within_the_budget_and_the_cache_stays_full() {
    let log_uniform = |number| 2_f64.powf((random(number) >> 33) as f64 / (1 << 20) as f64 * 20.0) as usize;
    // Fewer than fit with the mean of the lengths.
    let keys = budget_bytes() / 1600;
    // As many as fit.
    let small = budget_bytes() / 95;
    // What is written, and how much of the budget live items must take in the end, per cent.
    type Item<'a> = &'a dyn Fn(u64) -> (u64, usize);
    let rows: &[(&str, Item<'_>, Option<&str>, u64)] = &[
        ("64 bytes", &|number| (number, 64), None, 90),
        ("1 byte to 1 MiB", &|number| (number, log_uniform(number).min(1 << 20)), None, 90),
        ("10 MB", &|number| (number, 10 << 20), None, 90),
        ("64 bytes, then 10 MB", &|number| (number, if number < small { 64 } else { 10 << 20 }), None, 70),
        ("with a TTL", &|number| (number, 64), Some("600000"), 90),
        ("growing", &|number| (number % keys, 16 + (number * 400 / keys) as usize % 4_000), None, 80),
    ];
    for (workers, (name, item, ttl_ms, percent)) in
        [1, 2].into_iter().flat_map(|workers| rows.iter().map(move |row| (workers, row)))
    {
        let server = Server::start(workers, budget_bytes(), "cache");
        let peak = fill(&server, item, *ttl_ms);
        let (dataset, keys) = (server.info("used_memory_dataset:"), server.info("db0:keys="));
        let (live, mut full) = (dataset + keys * 20, budget_bytes() - server.info("used_memory_startup:"));
        if name.ends_with("10 MB") {
            // Each worker may lack room for one more, and the last one was still arriving when room was made.
            full -= (workers + 1) * (10 << 20);
        }
        eprintln!("{workers} workers, {name}: peak {} MiB resident, {} MiB live, {keys} keys", peak / MIB, live / MIB);
        assert!(live * 100 >= full * percent, "{workers} workers, {name}: {} MiB of {} live", live / MIB, full / MIB);
    }
}

#[test]
fn replies_that_nobody_reads_are_within_the_budget() {
    [1, 2].into_iter().for_each(let_nobody_read);
}

fn let_nobody_read(workers: u64) {
    let server = Server::start(workers, budget_bytes(), "cache");
    let value = vec![b'v'; 1 << 20];
    let mut unread: Vec<TcpStream> = (0..500).map(|_| server.connect()).collect();
    let mut writer = server.connect();
    let mut refused = 0;
    for (number, stream) in unread.iter_mut().enumerate() {
        // Each waits for a value of its own, which is written over and evicted afterwards.
        let (key, mut requests) = (format!("key:{number}"), Output::new());
        encode_request(&mut requests, &[b"SET", key.as_bytes(), &value]);
        refused += exchange(&mut writer, &requests, 1);
        requests.clear();
        // The kernel takes some of them.
        (0..8).for_each(|_| encode_request(&mut requests, &[b"GET", key.as_bytes()]));
        stream.write_all(&requests.to_vec()).expect("it takes requests");
        look(&server);
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        look(&server);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(refused < 500, "some values found room");
    drop(unread);
    // What they held is there for others again.
    let start = Instant::now();
    let mut requests = Output::new();
    encode_request(&mut requests, &[b"SET", b"key", &vec![b'v'; (budget_bytes() / workers) as usize / 2]]);
    while exchange(&mut writer, &requests, 1) > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "memory does not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
    look(&server);
}

#[test]
fn a_value_that_cannot_fit_is_refused_before_it_arrives() {
    let server = Server::start(1, budget_bytes(), "noeviction");
    let mut stream = BufReader::new(server.connect());
    let len = (2 * budget_bytes()).min(512 * MIB) as usize;
    let header = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n");
    stream.get_mut().write_all(header.as_bytes()).expect("it takes requests");
    let mut line = String::new();
    stream.read_line(&mut line).expect("it answers");
    assert_eq!(line, "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
    // The rest of it is thrown away, and what follows is served.
    let block = vec![b'v'; 1 << 20];
    for _ in 0..len / block.len() {
        stream.get_mut().write_all(&block).expect("it takes what it throws away");
        look(&server);
    }
    stream.get_mut().write_all(b"\r\nPING\r\n").expect("it takes requests");
    line.clear();
    stream.read_line(&mut line).expect("it answers");
    assert_eq!(line, "+PONG\r\n");
}
