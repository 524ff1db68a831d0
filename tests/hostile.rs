//! Clients that mean harm, or are broken: each gets a clear protocol error or a closed connection; nobody else notices,
//! and the memory goes back to where it was.

#[path = "fronts/defaults.rs"]
mod defaults;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use corering::Server;
use corering::config::Settings;

const MIB: usize = 1 << 20;

/// One test at a time: they share a process, whose memory they watch.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(change: impl FnOnce(&mut Settings)) -> Server {
    let mut settings = Settings { port: 0, workers: 2, ..defaults::defaults() };
    change(&mut settings);
    Server::start(settings).expect("the server starts")
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends a request and waits for exactly `reply`.
fn ask(stream: &mut TcpStream, request: &[u8], reply: &[u8]) {
    stream.write_all(request).unwrap();
    let mut read = vec![0; reply.len()];
    stream.read_exact(&mut read).unwrap();
    assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(reply));
}

/// Everything until the server closes the connection, by an end or a reset.
fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => all,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => all,
        Err(error) => panic!("the server neither answered nor closed: {error}"),
    }
}

/// Resident memory of this process, server included.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Waits until memory is below `limit`.
fn assert_memory_returns(limit: usize) {
    let start = Instant::now();
    while resident_bytes() > limit {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{} MiB resident, limit {}",
            resident_bytes() / MIB,
            limit / MIB
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn malformed_requests_get_their_error_and_are_closed() {
    let _alone = alone();
    let server = start(|_| {});
    let mut witness = connect(&server);
    let long_inline = vec![b'a'; 70_000];
    let rows: &[(&[u8], &str)] = &[
        (b"*abc\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*99999999999999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1000000000\r\n", "-ERR Protocol error: request exceeds client-query-buffer-limit\r\n"),
        (b"*1\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$999999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$abc\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*2\r\n$3\r\nGET\r\nxyz\r\n", "-ERR Protocol error: expected '$', got 'x'\r\n"),
        (b"SET \"unbalanced value\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        (&long_inline, "-ERR Protocol error: too big inline request\r\n"),
    ];
    for (bytes, error) in rows {
        let mut stream = connect(&server);
        // What was asked before the malformed bytes is answered first.
        stream.write_all(b"PING\r\n").unwrap();
        stream.write_all(bytes).unwrap();
        let reply = read_to_close(&mut stream);
        assert_eq!(String::from_utf8_lossy(&reply), format!("+PONG\r\n{error}"));
        ask(&mut witness, b"PING\r\n", b"+PONG\r\n");
    }
    server.stop();
}

#[test]
fn garbage_never_stops_the_server() {
    let _alone = alone();
    let server = start(|_| {});
    let mut witness = connect(&server);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..300 {
        let mut stream = connect(&server);
        let bytes: Vec<u8> = (0..2000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Mostly the protocol's own letters, so that parsing gets far.
                let alphabet = b"*$\r\n0123456789-+:GETSETPING \"'\\x\0\xff";
                alphabet[(state >> 33) as usize % alphabet.len()]
            })
            .collect();
        // The server may close before it has read everything.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        read_to_close(&mut stream);
    }
    ask(&mut witness, b"PING\r\n", b"+PONG\r\n");
    server.stop();
}

#[test]
fn announced_lengths_cost_nothing_until_they_arrive() {
    let _alone = alone();
    let server = start(|_| {});
    let before = resident_bytes();
    let mut clients: Vec<TcpStream> = (0..200).map(|_| connect(&server)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        let announced: &[u8] = match index % 3 {
            0 => b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\nabc",
            1 => b"*1000000\r\n$3\r\nDEL\r\n",
            _ => b"*1000000000\r\n$3\r\nDEL\r\n",
        };
        client.write_all(announced).unwrap();
    }
    let mut witness = connect(&server);
    ask(&mut witness, b"PING\r\n", b"+PONG\r\n");
    assert!(resident_bytes() < before + 64 * MIB, "{} MiB more", (resident_bytes() - before) / MIB);
    drop(clients);
    ask(&mut witness, b"PING\r\n", b"+PONG\r\n");
    server.stop();
}

#[test]
fn an_endless_inline_request_is_cut_off() {
    let _alone = alone();
    let server = start(|_| {});
    let before = resident_bytes();
    let mut stream = connect(&server);
    let chunk = vec![b'x'; MIB];
    // 1 GB without a line end: the server must close long before.
    let sent = (0..1024).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(sent < 64, "{sent} MiB were taken");
    assert_memory_returns(before + 32 * MIB);
    server.stop();
}

#[test]
fn a_client_that_never_reads_is_held_back_and_closed() {
    let _alone = alone();
    let server = start(|settings| settings.send_timeout = Duration::from_secs(2));
    let mut witness = connect(&server);
    let value = vec![b'v'; 10 * MIB];
    let mut set = format!("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n${}\r\n", value.len()).into_bytes();
    set.extend_from_slice(&value);
    set.extend_from_slice(b"\r\n");
    ask(&mut witness, &set, b"+OK\r\n");
    let before = resident_bytes();
    let mut greedy: Vec<TcpStream> = (0..10).map(|_| connect(&server)).collect();
    for stream in &mut greedy {
        stream.write_all(&b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n".repeat(100)).unwrap();
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        ask(&mut witness, b"PING\r\n", b"+PONG\r\n");
        assert!(resident_bytes() < before + 64 * MIB, "{} MiB more", (resident_bytes() - before) / MIB);
    }
    // 10 GB were asked for. The server gives up on them after its time-out.
    std::thread::sleep(Duration::from_secs(4));
    for stream in &mut greedy {
        let mut total = 0;
        let mut buffer = vec![0; MIB];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            total += read;
        }
        assert!(total < 100 * 10 * MIB, "the client was served to the end");
    }
    ask(&mut witness, b"PING\r\n", b"+PONG\r\n");
    server.stop();
}

#[test]
fn half_a_request_and_silence_disturbs_nobody() {
    let _alone = alone();
    let server = start(|settings| settings.timeout = Duration::from_secs(1));
    let mut silent = connect(&server);
    silent.write_all(b"*2\r\n$3\r\nGET\r\n$10\r\nab").unwrap();
    let mut witness = connect(&server);
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        ask(&mut witness, b"PING\r\n", b"+PONG\r\n");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The idle time-out has closed the silent one and not the busy one.
    assert_eq!(read_to_close(&mut silent), b"");
    ask(&mut witness, b"PING\r\n", b"+PONG\r\n");
    server.stop();
}

#[test]
fn resets_in_the_middle_of_pipelines_leave_nothing_behind() {
    let _alone = alone();
    let server = start(|_| {});
    let mut witness = connect(&server);
    ask(&mut witness, b"SET k v\r\n", b"+OK\r\n");
    let before = resident_bytes();
    for round in 0..500 {
        let mut stream = connect(&server);
        stream.write_all(&b"GET k\r\nMGET k a b c d e\r\nSET other value\r\n".repeat(100)).unwrap();
        if round % 2 == 0 {
            // Closing with unread replies resets the connection.
            let _ = stream.read(&mut [0; 10]);
        }
        drop(stream);
    }
    ask(&mut witness, b"PING\r\n", b"+PONG\r\n");
    assert_memory_returns(before + 16 * MIB);
    let open = || server.instance().metrics.total(corering::observe::Metric::ConnectionsOpen);
    let start = Instant::now();
    while open() > 1 {
        assert!(start.elapsed() < Duration::from_secs(10), "{} connections are left", open());
        std::thread::sleep(Duration::from_millis(20));
    }
    server.stop();
}

#[test]
fn connections_beyond_the_limit_are_refused_politely() {
    let _alone = alone();
    let server = start(|settings| settings.maxclients = 50);
    let mut admitted: Vec<TcpStream> = (0..50).map(|_| connect(&server)).collect();
    admitted.iter_mut().for_each(|stream| ask(stream, b"PING\r\n", b"+PONG\r\n"));
    let before = resident_bytes();
    for _ in 0..200 {
        let refused: Vec<TcpStream> = (0..100).map(|_| connect(&server)).collect();
        for mut stream in refused {
            assert_eq!(read_to_close(&mut stream), b"-ERR max number of clients reached\r\n");
        }
    }
    admitted.iter_mut().for_each(|stream| ask(stream, b"PING\r\n", b"+PONG\r\n"));
    assert_memory_returns(before + 16 * MIB);
    // A place that becomes free can be taken again.
    drop(admitted.pop());
    let start = Instant::now();
    loop {
        let mut stream = connect(&server);
        stream.write_all(b"PING\r\n").unwrap();
        let mut first = [0];
        if stream.read_exact(&mut first).is_ok() && first == *b"+" {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "no place becomes free");
    }
    server.stop();
}

/// However many large values are asked for at once, and on whichever core they lie, all of them come.
#[test]
fn a_pipeline_of_large_values_is_served_to_its_end() {
    let _alone = alone();
    let server = start(|_| {});
    let mut stream = connect(&server);
    let value = vec![b'v'; 10 * MIB];
    let header = format!("${}\r\n", value.len());
    for key in ["a", "b"] {
        let set = format!("*3\r\n$3\r\nSET\r\n$1\r\n{key}\r\n{header}");
        ask(&mut stream, &[set.as_bytes(), &value, b"\r\n"].concat(), b"+OK\r\n");
    }
    const ROUNDS: usize = 150;
    stream.write_all(&b"GET a\r\nGET b\r\n".repeat(ROUNDS)).unwrap();
    let expected = 2 * ROUNDS * (header.len() + value.len() + 2);
    let (mut read, mut buffer) = (0, vec![0; MIB]);
    while read < expected {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed after {read} of {expected} bytes");
        read += count;
    }
    ask(&mut stream, b"PING\r\n", b"+PONG\r\n");
    server.stop();
}
