//! The library's server: started and stopped many times over, several at once, with clients in the middle of something.
//!
//! One test looks at what the process holds, so the tests take turns.

#[path = "fronts/defaults.rs"]
mod defaults;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use corering::Server;
use corering::config::{Io, Settings};
use corering::instance::Phase;
use corering::observe::Metric;
use corering::topology::{self, Cpus};

const MIB: usize = 1 << 20;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn settings(workers: u16) -> Settings {
    Settings { port: 0, workers, ..defaults::defaults() }
}

fn start(workers: u16) -> Server {
    Server::start(settings(workers)).expect("the server starts")
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

fn ask(stream: &mut (impl Read + Write), request: &[u8], reply: &[u8]) {
    stream.write_all(request).expect("it reads");
    let mut read = vec![0; reply.len()];
    stream.read_exact(&mut read).expect("it answers");
    assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(reply));
}

/// Stores `len` bytes under `big`; the reply to a GET of it.
fn store_big(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let bulk = [format!("${len}\r\n").as_bytes(), &vec![b'v'; len], b"\r\n"].concat();
    ask(stream, &[b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n", &bulk[..]].concat(), b"+OK\r\n");
    bulk
}

/// What this process holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    resident_bytes: usize,
}

impl Held {
    fn now() -> Self {
        let count = |folder: &str| std::fs::read_dir(folder).expect("procfs").count();
        let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
        let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
        Self { descriptors: count("/proc/self/fd"), threads: count("/proc/self/task"), resident_bytes: pages * 4096 }
    }
}

/// Clients that ask whichever server runs, until the end of the test.
struct Load {
    /// The server's address; 0 as its port when none runs.
    port: AtomicU64,
    replies: AtomicU64,
    is_over: AtomicBool,
}

impl Load {
    const REQUESTS: &[u8] = b"SET a 1\r\nGET a\r\nMSET b 2 c 3\r\nMGET a b c\r\nDEL b\r\n";
    const REPLIES: &[u8] = b"+OK\r\n$1\r\n1\r\n+OK\r\n*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n:1\r\n";

    fn new() -> Self {
        Self { port: AtomicU64::new(0), replies: AtomicU64::new(0), is_over: AtomicBool::new(false) }
    }

    /// One client's life: connects, asks until it is disconnected, and so on.
    fn run(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let port = self.port.load(Ordering::Relaxed) as u16;
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            match TcpStream::connect(address) {
                Ok(mut stream) if port != 0 => self.ask_until_closed(&mut stream),
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }

    fn ask_until_closed(&self, stream: &mut TcpStream) {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut replies = vec![0; Self::REPLIES.len()];
        while stream.write_all(Self::REQUESTS).is_ok() && stream.read_exact(&mut replies).is_ok() {
            self.replies.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits for replies from the present server.
    fn wait_for_replies(&self) {
        let (before, start) = (self.replies.load(Ordering::Relaxed), Instant::now());
        while self.replies.load(Ordering::Relaxed) < before + 4 {
            assert!(start.elapsed() < PATIENCE, "nobody is answered");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_thousand_starts_and_stops_under_load_leave_nothing_behind() {
    const CYCLES: usize = 1000;
    /// Allocator arenas, thread stacks and the first lazy tables are filled by then.
    const WARM_UP: usize = 100;
    const GROWTH_MAX: usize = 8 * MIB;

    let _turn = turn();
    let load = Load::new();
    let before = std::thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(|| load.run())));
        let mut before = None;
        for cycle in 0..CYCLES {
            if cycle == WARM_UP {
                before = Some(Held::now());
            }
            let server = start(1 + cycle as u16 % 2);
            load.port.store(server.port().into(), Ordering::Relaxed);
            load.wait_for_replies();
            load.port.store(0, Ordering::Relaxed);
            let stopping = Instant::now();
            // Every way to end: in order, and at once.
            if cycle % 3 == 0 {
                drop(server);
            } else {
                server.stop();
            }
            assert!(stopping.elapsed() < Duration::from_secs(5), "cycle {cycle}: it took {:?}", stopping.elapsed());
        }
        load.is_over.store(true, Ordering::Relaxed);
        before.expect("the warm-up is over")
    });
    // The load's two threads and their connections were there before and are gone now.
    let start = Instant::now();
    let mut after = Held::now();
    while after.descriptors > before.descriptors || after.threads > before.threads - 2 {
        assert!(start.elapsed() < Duration::from_secs(5), "{before:?} before, {after:?} after");
        std::thread::sleep(Duration::from_millis(10));
        after = Held::now();
    }
    assert!(after.resident_bytes < before.resident_bytes + GROWTH_MAX, "{before:?} before, {after:?} after");
}

#[test]
fn servers_in_one_process_know_nothing_of_each_other() {
    let _turn = turn();
    let mut servers: Vec<Server> = (0..4).map(|index| start(1 + index % 2)).collect();
    let mut clients: Vec<TcpStream> = servers.iter().map(connect).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        ask(client, format!("SET k {index}\r\n").as_bytes(), b"+OK\r\n");
    }
    servers.remove(0).stop();
    assert_eq!(clients.remove(0).read(&mut [0]).expect("closed in order"), 0);
    for (index, client) in clients.iter_mut().enumerate() {
        ask(client, b"GET k\r\n", format!("$1\r\n{}\r\n", index + 1).as_bytes());
    }
    let identities: Vec<String> = servers.iter().map(|server| server.instance().run_id.clone()).collect();
    assert!(identities.iter().all(|identity| identity.len() == 40));
    assert_ne!(identities[0], identities[1]);
    servers.into_iter().for_each(Server::stop);
}

#[test]
fn stopping_answers_what_is_in_flight() {
    const TIMES: usize = 10;
    let _turn = turn();
    for workers in [1, 2] {
        let server = start(workers);
        let mut client = connect(&server);
        let reply = store_big(&mut client, 3 * MIB);
        client.write_all(&b"GET big\r\n".repeat(TIMES)).expect("it reads");
        // The first byte of the first reply: everything before has been received.
        client.peek(&mut [0]).expect("it answers");
        let stopping = std::thread::spawn(move || server.stop());
        std::thread::sleep(Duration::from_millis(100));
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("answered and closed in order");
        assert!(all == reply.repeat(TIMES), "{} of {} bytes", all.len(), reply.len() * TIMES);
        stopping.join().expect("no panic");
    }
}

#[test]
fn dropping_waits_for_nobody() {
    let _turn = turn();
    let server = start(2);
    let mut client = connect(&server);
    store_big(&mut client, 3 * MIB);
    client.write_all(&b"GET big\r\n".repeat(100)).expect("it reads");
    client.peek(&mut [0]).expect("it answers");
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
}

#[test]
fn a_port_can_be_had_again_at_once() {
    let _turn = turn();
    let server = start(2);
    let port = server.port();
    let mut client = connect(&server);
    ask(&mut client, b"SET k v\r\n", b"+OK\r\n");
    assert!(Server::start(Settings { port, ..settings(1) }).is_err(), "two servers share a port");
    server.stop();
    let server = Server::start(Settings { port, ..settings(1) }).expect("the port is free");
    ask(&mut connect(&server), b"EXISTS k\r\n", b":0\r\n");
    server.stop();
}

#[test]
fn waiting_ends_when_somebody_asks_for_it() {
    let _turn = turn();
    let server = start(2);
    let waker = server.waker();
    let mut idle = connect(&server);
    ask(&mut idle, b"EXISTS k\r\n", b":0\r\n");
    let waiting = std::thread::spawn(move || server.wait());
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiting.is_finished());
    waker.advance(Phase::Draining);
    waiting.join().expect("no panic").expect("no worker failed");
    assert_eq!(idle.read(&mut [0]).expect("closed in order"), 0);
}

/// A client that ends its half of the connection gets its replies and then the end of ours.
#[test]
fn half_closed_connections_are_answered_and_closed() {
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("corering.sock");
    let server = Server::start(Settings { unixsocket: Some(path.clone()), ..settings(2) }).expect("the server starts");
    let (requests, replies) = (b"EXISTS k\r\n".repeat(3000), b":0\r\n".repeat(3000));
    for _ in 0..200 {
        let mut local = UnixStream::connect(&path).expect("it listens");
        local.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        local.write_all(&requests).expect("it reads");
        local.shutdown(std::net::Shutdown::Write).expect("still connected");
        let mut all = Vec::new();
        local.read_to_end(&mut all).expect("answered and closed");
        assert!(all == replies);

        let mut remote = connect(&server);
        remote.write_all(&requests).expect("it reads");
        remote.shutdown(std::net::Shutdown::Write).expect("still connected");
        let mut all = Vec::new();
        remote.read_to_end(&mut all).expect("answered and closed");
        assert!(all == replies);
    }
    server.stop();
}

/// A worker that is looking for work when a client ends the server is told, although no bell rings for it.
#[test]
fn a_client_ends_the_server_while_the_other_worker_spins() {
    let _turn = turn();
    let server = Server::start(Settings { spin: Duration::from_millis(500), ..settings(2) }).expect("it starts");
    // A client of each worker.
    let mut clients: [Option<TcpStream>; 2] = [None, None];
    while clients.iter().any(Option::is_none) {
        let mut client = connect(&server);
        let executed = || server.instance().metrics.worker(0).get(Metric::Commands);
        let before = executed();
        ask(&mut client, b"PING\r\n", b"+PONG\r\n");
        let worker = usize::from(executed() == before);
        clients[worker].get_or_insert(client);
    }
    let [Some(mut first), Some(mut second)] = clients else { unreachable!("there is one of each") };
    ask(&mut second, b"PING\r\n", b"+PONG\r\n");
    first.write_all(b"SHUTDOWN NOSAVE\r\n").expect("it reads");
    let waker = server.waker();
    let (sender, ended) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || sender.send(server.wait().is_ok()));
    let has_ended = ended.recv_timeout(PATIENCE / 4);
    waker.advance(Phase::Stopping);
    thread.join().expect("no panic").expect("somebody listens");
    assert_eq!(has_ended, Ok(true), "a worker sleeps on");
}

/// Names of this process's threads.
fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs").flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect()
}

/// Every client sets and gets a key, most of which are another worker's than the client.
fn set_and_get(clients: &mut [TcpStream], value: usize) {
    for (number, client) in clients.iter_mut().enumerate() {
        let set = format!("*3\r\n$3\r\nSET\r\n$4\r\nkey{number}\r\n$1\r\n{value}\r\n");
        ask(client, set.as_bytes(), b"+OK\r\n");
        let get = format!("*2\r\n$3\r\nGET\r\n$4\r\nkey{number}\r\n");
        ask(client, get.as_bytes(), format!("$1\r\n{value}\r\n").as_bytes());
    }
}

/// With one CPU, one thread has all workers; with two, each has some, and they wake each other.
#[test]
fn workers_of_one_cpu_share_a_thread_that_sleeps_and_wakes() {
    const IDLE: Duration = Duration::from_millis(300);

    let _turn = turn();
    let usable = topology::usable_cpus();
    for (io, cpus) in [(Io::Uring, 1), (Io::Epoll, 1), (Io::Uring, 2), (Io::Epoll, 2)] {
        let cpus: Vec<usize> = usable.iter().copied().take(cpus).collect();
        let case = format!("{io:?} on CPUs {cpus:?}");
        let threads = cpus.len();
        let server = Server::start(Settings { io, cpus: Cpus::List(cpus), ..settings(4) }).expect("it starts");
        let names = thread_names();
        assert_eq!(names.iter().filter(|name| name.starts_with("worker-")).count(), threads, "{case}: {names:?}");
        let total = |metric| server.instance().metrics.total(metric);
        let mut clients: Vec<TcpStream> = (0..9).map(|_| connect(&server)).collect();
        for round in 0..3 {
            set_and_get(&mut clients, round);
            std::thread::sleep(IDLE / 10);
            let before = total(Metric::Ticks);
            std::thread::sleep(IDLE);
            let turns = total(Metric::Ticks) - before;
            assert!(turns < 100, "{case}: {turns} turns with nothing to do");
        }
        assert!(total(Metric::LettersSent) > 0, "{case}: nothing hopped");
        // Workers of one thread have no bell to ring.
        assert_eq!(total(Metric::Wakes) > 0, threads > 1, "{case}: {} wake-ups", total(Metric::Wakes));
        // An item that expires is noticed, and clients that ask for nothing do not hold the end up.
        ask(&mut clients[0], b"*5\r\n$3\r\nSET\r\n$4\r\ngone\r\n$1\r\nv\r\n$2\r\nPX\r\n$2\r\n30\r\n", b"+OK\r\n");
        std::thread::sleep(IDLE);
        assert_eq!(total(Metric::Expired), 1, "{case}");
        let (sender, ended) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            server.stop();
            sender.send(()).expect("somebody listens");
        });
        assert_eq!(ended.recv_timeout(PATIENCE / 4), Ok(()), "{case}: the workers sleep on");
        thread.join().expect("no panic");
    }
}
