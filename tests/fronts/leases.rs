//! Of many who find a key missing or stale one computes, whatever protocol they speak.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use corering::observe::Metric;

use crate::server::{Client, Fronts, PATIENCE};

/// A client that finds keys missing, and computes them when it is told to.
struct Reader {
    protocol: Protocol,
    client: Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Resp,
    Memcache,
    Http,
}

const ALL: [Protocol; 3] = [Protocol::Resp, Protocol::Memcache, Protocol::Http];

/// What a reader is told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Value(String),
    /// Compute it, and fill it with this token, of which memcached's clients have none.
    Compute(String),
    Wait,
}

impl Reader {
    fn new(protocol: Protocol, fronts: &Fronts) -> Self {
        let client = match protocol {
            Protocol::Resp => fronts.resp(),
            Protocol::Memcache => fronts.memcache(),
            Protocol::Http => fronts.http(),
        };
        Self { protocol, client }
    }

    /// Asks for a key; to compute it would take a second at most. Waits for another's value, where a protocol can, for
    /// `wait_ms`.
    fn ask(&mut self, key: &str, wait_ms: u64) -> Told {
        match self.protocol {
            Protocol::Resp => {
                let heard = lease(&mut self.client, &format!("GETLEASE {key} FOR 1000 WAIT {wait_ms}"));
                match heard.split(' ').collect::<Vec<_>>()[..] {
                    ["hit", value, "-"] => Told::Value(value.to_owned()),
                    ["lease", "-", token] => Told::Compute(token.to_owned()),
                    _ => Told::Wait,
                }
            }
            Protocol::Memcache => {
                let heard = self.client.words(&format!("mg {key} v N1"));
                let (head, value) = heard.split_once('|').expect("a line and a value");
                match head {
                    _ if head.ends_with(" W") => Told::Compute(String::new()),
                    _ if head.ends_with(" Z") => Told::Wait,
                    _ => Told::Value(value.to_owned()),
                }
            }
            Protocol::Http => {
                let fields = format!("Corering-Lease: for=1000, wait={wait_ms}\r\n");
                let answer = self.client.http(&format!("GET /v1/keys/{key}"), &fields, "");
                match answer.field("corering-lease") {
                    "hit" => Told::Value(answer.text()),
                    "wait" => Told::Wait,
                    token => Told::Compute(token.to_owned()),
                }
            }
        }
    }

    fn fill(&mut self, key: &str, token: &str) {
        match self.protocol {
            Protocol::Resp => assert_eq!(self.client.resp(&format!("SETLEASE {key} {token} value"), 1), "+OK"),
            Protocol::Memcache => assert_eq!(self.client.words(&format!("ms {key} 5|value")), "HD"),
            Protocol::Http => {
                let fields = format!("Corering-Lease: {token}\r\n");
                assert!(self.client.http(&format!("PUT /v1/keys/{key}"), &fields, "value").status < 300);
            }
        }
    }

    /// Reads a key, and computes it when told to.
    fn read(&mut self, key: &str, computed: &AtomicUsize) -> String {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.ask(key, 20_000) {
                Told::Value(value) => return value,
                Told::Compute(token) => {
                    computed.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(100));
                    self.fill(key, &token);
                }
                Told::Wait => thread::sleep(Duration::from_millis(5)),
            }
        }
        panic!("nobody computes {key}");
    }
}

/// A reply of three elements as words: state, value and token, `-` for null.
fn lease(client: &mut Client, request: &str) -> String {
    client.say(format!("{request}\r\n").as_bytes());
    let mut line = || {
        let mut heard = client.hear_until_line();
        heard.truncate(heard.trim_end().len());
        heard
    };
    let header = line();
    assert_eq!(header, "*3", "{request}");
    let mut words = Vec::new();
    for _ in 0..3 {
        words.push(if line() == "$-1" { "-".to_owned() } else { line() });
    }
    words.join(" ")
}

#[test]
fn two_hundred_readers_of_a_missing_key_cause_one_computation() {
    const READERS: usize = 200;
    let mixes: [&[Protocol]; 4] = [&ALL[..1], &ALL[1..2], &ALL[2..], &ALL];
    for (workers, mix) in [1, 3].into_iter().flat_map(|workers| mixes.map(|mix| (workers, mix))) {
        let fronts = Fronts::with_workers(workers);
        for round in 0..3 {
            let (computed, begin) = (AtomicUsize::new(0), Barrier::new(READERS));
            let key = format!("popular{round}");
            thread::scope(|scope| {
                for reader in 0..READERS {
                    let mut reader = Reader::new(mix[reader % mix.len()], &fronts);
                    let (computed, begin, key) = (&computed, &begin, &key);
                    scope.spawn(move || {
                        begin.wait();
                        assert_eq!(reader.read(key, computed), "value");
                    });
                }
            });
            assert_eq!(computed.into_inner(), 1, "{workers} workers, {mix:?}, {key}");
        }
        fronts.server.stop();
    }
}

/// Whoever holds the lease has a second, then the next has it: whatever either speaks, and whether the holder has gone
/// or only never fills.
#[test]
fn a_lease_whose_holder_is_dead_passes_on_after_its_bound() {
    const BOUND: Duration = Duration::from_secs(1);
    /// The server's clock moves by ticks.
    const TICK: Duration = Duration::from_millis(10);
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let pairs = ALL.into_iter().flat_map(|holder| ALL.map(|next| (holder, next)));
        let cases = pairs.flat_map(|pair| [true, false].map(|is_gone| (pair, is_gone)));
        thread::scope(|scope| {
            for ((holder, next), is_gone) in cases {
                let (mut first, mut second) = (Some(Reader::new(holder, &fronts)), Reader::new(next, &fronts));
                scope.spawn(move || {
                    let how = format!("{workers} workers, {holder:?} before {next:?}, gone: {is_gone}");
                    let key = format!("{holder:?}{next:?}{is_gone}");
                    let begun = Instant::now();
                    let told = first.as_mut().map(|holder| holder.ask(&key, 0));
                    assert!(matches!(told, Some(Told::Compute(_))), "{how}: {told:?}");
                    first.take_if(|_| is_gone);
                    assert_eq!(second.ask(&key, 0), Told::Wait, "{how}");
                    let mut told = second.ask(&key, 10_000);
                    while told == Told::Wait && begun.elapsed() < PATIENCE {
                        thread::sleep(Duration::from_millis(5));
                        told = second.ask(&key, 10_000);
                    }
                    let Told::Compute(token) = told else { panic!("{how}: {told:?}") };
                    let waited = begun.elapsed();
                    assert!(waited + TICK >= BOUND && waited < BOUND * 8, "{how}: {waited:?}");
                    second.fill(&key, &token);
                });
            }
        });
        fronts.server.stop();
    }
}

#[test]
fn a_stale_value_is_served_while_one_computes() {
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let (mut first, mut second) = (fronts.resp(), fronts.resp());
        let token = lease(&mut first, "GETLEASE k").replace("lease - ", "");
        assert_eq!(first.resp(&format!("SETLEASE k {token} old EX 100 FRESH 100"), 1), "+OK");
        assert_eq!(lease(&mut second, "GETLEASE k"), "hit old -");
        thread::sleep(Duration::from_millis(150));
        let token = lease(&mut first, "GETLEASE k").replace("lease old ", "");
        assert_eq!(lease(&mut second, "GETLEASE k"), "stale old -");
        assert_eq!(fronts.memcache().words("mg k v"), "VA 3 Z X|old");
        assert_eq!(second.resp("GET k", 2), "$3|old");
        assert_eq!(first.resp(&format!("SETLEASE k {token} new"), 1), "+OK");
        assert_eq!(lease(&mut second, "GETLEASE k"), "hit new -");
        assert_eq!(first.resp(&format!("SETLEASE k {token} late"), 1), "$-1");
        fronts.server.stop();
    }
}

#[test]
fn a_write_or_a_delete_ends_a_lease() {
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let mut client = fronts.resp();
        for change in ["SET k other", "DEL k", "FLUSHALL"] {
            client.resp("DEL k", 1);
            let token = lease(&mut client, "GETLEASE k").replace("lease - ", "");
            client.resp(change, 1);
            assert_eq!(client.resp(&format!("SETLEASE k {token} mine"), 1), "$-1", "{change}");
        }
        assert_eq!(client.resp("SETLEASE k nonsense v", 1), "-ERR value is not an integer or out of range");
        assert_eq!(client.resp("SETLEASE k 1 v NONSENSE", 1), "-ERR syntax error");
        assert_eq!(client.resp("GETLEASE k WAIT", 1), "-ERR syntax error");
        assert_eq!(client.resp("GETLEASE k FOR 0", 1), "-ERR syntax error");
        fronts.server.stop();
    }
}

/// However often it is looked for meanwhile.
#[test]
fn a_value_that_many_wait_for_is_missed_once() {
    let fronts = Fronts::with_workers(1);
    let mut client = fronts.resp();
    let total = |metric| fronts.server.instance().metrics.total(metric);
    let token = lease(&mut client, "GETLEASE k").replace("lease - ", "");
    assert!(lease(&mut client, "GETLEASE k WAIT 200").starts_with("wait - "));
    assert!(lease(&mut fronts.resp(), "GETLEASE k").starts_with("wait - "));
    assert_eq!((total(Metric::Hits), total(Metric::Misses)), (0, 1));
    assert_eq!(client.resp(&format!("SETLEASE k {token} v"), 1), "+OK");
    lease(&mut client, "GETLEASE k WAIT 200");
    client.resp("PING", 1);
    assert_eq!((total(Metric::Hits), total(Metric::Misses)), (1, 1));
    fronts.server.stop();
}

#[test]
fn that_there_is_none_is_remembered_for_its_time() {
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let mut client = fronts.resp();
        let token = lease(&mut client, "GETLEASE k").replace("lease - ", "");
        assert_eq!(client.resp("GET k", 1), "$-1");
        assert_eq!(client.resp(&format!("SETLEASE k {token} - PX 300 ABSENT"), 1), "+OK");
        assert_eq!(lease(&mut client, "GETLEASE k"), "absent - -");
        assert_eq!(lease(&mut client, "GETLEASE k WAIT 1000"), "absent - -");
        assert_eq!(client.resp("GET k", 1), "$-1");
        assert_eq!(client.resp("EXISTS k", 1), ":0");
        assert_eq!(fronts.memcache().words("get k"), "END");
        thread::sleep(Duration::from_millis(350));
        assert!(lease(&mut client, "GETLEASE k").starts_with("lease - "));
        assert_eq!(client.resp("SET k v NX", 1), "+OK");
        fronts.server.stop();
    }
}

#[test]
fn set_compares_values_and_versions() {
    for workers in [1, 3] {
        let fronts = Fronts::with_workers(workers);
        let mut client = fronts.resp();
        assert_eq!(client.resp("SET k b IFEQ a", 1), "$-1");
        assert_eq!(client.resp("GETVERSION k", 1), "*-1");
        client.resp("SET k a", 1);
        assert_eq!(client.resp("SET k b IFEQ x", 1), "$-1");
        assert_eq!(client.resp("SET k b IFEQ x GET", 2), "$1|a");
        assert_eq!(client.resp("SET k b IFEQ a GET", 2), "$1|a");
        assert_eq!(client.resp("SET k c IFEQ b EX 100", 1), "+OK");
        let version = client.resp("GETVERSION k", 5).split('|').next_back().unwrap().to_owned();
        assert_eq!(client.resp(&format!("SET k d IFVERSION {version}"), 1), "+OK");
        assert_eq!(client.resp(&format!("SET k e IFVERSION {version}"), 1), "$-1");
        let heard = fronts.memcache().words("gets k");
        let version = heard.split([' ', '|']).nth(4).unwrap();
        assert_eq!(client.resp(&format!("SET k e IFVERSION {version}"), 1), "+OK");
        assert_eq!(client.resp("SET k e IFEQ e NX", 1), "-ERR syntax error");
        assert_eq!(client.resp("SET k e XX IFVERSION 1", 1), "-ERR syntax error");
        assert_eq!(client.resp("SET k e IFEQ", 1), "-ERR syntax error");
        fronts.server.stop();
    }
}
