//! Of many who find a key missing or stale one computes, whatever protocol they speak.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::server::{Both, Client, PATIENCE};

/// A RESP client reads `key`; when told to compute it does so.
fn read_resp(client: &mut Client, key: &str, computed: &AtomicUsize) -> String {
    let heard = lease(client, &format!("GETLEASE {key} WAIT 20000"));
    if let Some(token) = heard.strip_prefix("lease - ") {
        computed.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(100));
        assert_eq!(client.resp(&format!("SETLEASE {key} {token} value"), 1), "+OK");
        return "value".to_owned();
    }
    heard.strip_prefix("hit ").and_then(|heard| heard.strip_suffix(" -")).unwrap_or(&heard).to_owned()
}

/// The same for a memcached client, which asks again and again.
fn read_memcache(client: &mut Client, key: &str, computed: &AtomicUsize) -> String {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let heard = client.words(&format!("mg {key} v N30"));
        let (head, value) = heard.split_once('|').expect("a line and a value");
        if head.ends_with(" W") {
            computed.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(100));
            assert_eq!(client.words(&format!("ms {key} 5|value")), "HD");
        } else if !head.ends_with(" Z") {
            return value.to_owned();
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("nobody computes {key}");
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
    for (workers, every_memcache) in [(1, 2), (3, 2), (2, READERS + 1), (2, 1)] {
        let both = Both::with_workers(workers);
        for round in 0..3 {
            let (computed, begin) = (AtomicUsize::new(0), Barrier::new(READERS));
            let key = format!("popular{round}");
            let ports = (both.port, both.server.port());
            thread::scope(|scope| {
                for reader in 0..READERS {
                    let (computed, begin, key) = (&computed, &begin, &key);
                    scope.spawn(move || {
                        let is_memcache = reader % every_memcache == 0;
                        let mut client = Client::to(if is_memcache { ports.0 } else { ports.1 });
                        begin.wait();
                        let value = if is_memcache {
                            read_memcache(&mut client, key, computed)
                        } else {
                            read_resp(&mut client, key, computed)
                        };
                        assert_eq!(value, "value");
                    });
                }
            });
            assert_eq!(computed.into_inner(), 1, "{workers} workers, {key}");
        }
        both.server.stop();
    }
}

#[test]
fn a_lease_whose_holder_is_gone_passes_on_after_its_bound() {
    for workers in [1, 3] {
        let both = Both::with_workers(workers);
        let mut holder = both.connect_resp();
        let begun = Instant::now();
        assert!(lease(&mut holder, "GETLEASE k FOR 400").starts_with("lease - "));
        drop(holder);
        let (mut next, mut memcache) = (both.connect_resp(), both.connect());
        assert_eq!(lease(&mut next, "GETLEASE k FOR 400"), "wait - -");
        assert_eq!(memcache.words("mg k N30 v"), "VA 0 Z|");
        assert_eq!(memcache.words("get k"), "END");
        assert!(lease(&mut next, "GETLEASE k FOR 300 WAIT 10000").starts_with("lease - "));
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_millis(400) && waited < Duration::from_secs(5), "{waited:?}");
        // And from RESP to memcached.
        thread::sleep(Duration::from_millis(350));
        assert_eq!(memcache.words("mg k N1 v"), "VA 0 W|");
        assert_eq!(lease(&mut next, "GETLEASE k"), "wait - -");
        assert!(lease(&mut next, "GETLEASE k WAIT 10000").starts_with("lease - "));
        both.server.stop();
    }
}

#[test]
fn a_stale_value_is_served_while_one_computes() {
    for workers in [1, 3] {
        let both = Both::with_workers(workers);
        let (mut first, mut second) = (both.connect_resp(), both.connect_resp());
        let token = lease(&mut first, "GETLEASE k").replace("lease - ", "");
        assert_eq!(first.resp(&format!("SETLEASE k {token} old EX 100 FRESH 100"), 1), "+OK");
        assert_eq!(lease(&mut second, "GETLEASE k"), "hit old -");
        thread::sleep(Duration::from_millis(150));
        let token = lease(&mut first, "GETLEASE k").replace("lease old ", "");
        assert_eq!(lease(&mut second, "GETLEASE k"), "stale old -");
        assert_eq!(both.connect().words("mg k v"), "VA 3 Z X|old");
        assert_eq!(second.resp("GET k", 2), "$3|old");
        assert_eq!(first.resp(&format!("SETLEASE k {token} new"), 1), "+OK");
        assert_eq!(lease(&mut second, "GETLEASE k"), "hit new -");
        assert_eq!(first.resp(&format!("SETLEASE k {token} late"), 1), "$-1");
        both.server.stop();
    }
}

#[test]
fn a_write_or_a_delete_ends_a_lease() {
    for workers in [1, 3] {
        let both = Both::with_workers(workers);
        let mut client = both.connect_resp();
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
        both.server.stop();
    }
}

#[test]
fn that_there_is_none_is_remembered_for_its_time() {
    for workers in [1, 3] {
        let both = Both::with_workers(workers);
        let mut client = both.connect_resp();
        let token = lease(&mut client, "GETLEASE k").replace("lease - ", "");
        assert_eq!(client.resp("GET k", 1), "$-1");
        assert_eq!(client.resp(&format!("SETLEASE k {token} - PX 300 ABSENT"), 1), "+OK");
        assert_eq!(lease(&mut client, "GETLEASE k"), "absent - -");
        assert_eq!(lease(&mut client, "GETLEASE k WAIT 1000"), "absent - -");
        assert_eq!(client.resp("GET k", 1), "$-1");
        assert_eq!(client.resp("EXISTS k", 1), ":0");
        assert_eq!(both.connect().words("get k"), "END");
        thread::sleep(Duration::from_millis(350));
        assert!(lease(&mut client, "GETLEASE k").starts_with("lease - "));
        assert_eq!(client.resp("SET k v NX", 1), "+OK");
        both.server.stop();
    }
}

#[test]
fn set_compares_values_and_versions() {
    for workers in [1, 3] {
        let both = Both::with_workers(workers);
        let mut client = both.connect_resp();
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
        let heard = both.connect().words("gets k");
        let version = heard.split([' ', '|']).nth(4).unwrap();
        assert_eq!(client.resp(&format!("SET k e IFVERSION {version}"), 1), "+OK");
        assert_eq!(client.resp("SET k e IFEQ e NX", 1), "-ERR syntax error");
        assert_eq!(client.resp("SET k e XX IFVERSION 1", 1), "-ERR syntax error");
        assert_eq!(client.resp("SET k e IFEQ", 1), "-ERR syntax error");
        both.server.stop();
    }
}
