//! Requests that wait for something: for other workers, for room, for a pause to end. Each of them is answered.

use std::time::Duration;

use corering::config::Settings;
use corering::instance::Phase;
use corering::observe::Metric;
use corering::ring::sim::Options;

use crate::cluster::Cluster;
use crate::table::{array, encode};

/// A request of words that are made up from numbers.
fn request(name: &str, words: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let words: Vec<Vec<u8>> = std::iter::once(name.as_bytes().to_vec()).chain(words).collect();
    let mut request = Vec::new();
    array(&mut request, words.iter().map(Vec::as_slice));
    request
}

#[test]
fn a_request_may_have_more_keys_than_sixteen_bits_count() {
    const KEYS: usize = 70_000;
    let key = |index: usize| format!("k{index}").into_bytes();
    let value = |index: usize| format!("v{index}").into_bytes();
    for workers in 1..=2 {
        let mut cluster = Cluster::new(workers);
        cluster.ask(&request("MSET", (0..KEYS).flat_map(|index| [key(index), value(index)])), b"+OK\r\n");
        let mut expected = Vec::new();
        array(&mut expected, (0..KEYS).map(value).collect::<Vec<_>>().iter().map(Vec::as_slice));
        cluster.ask(&request("MGET", (0..KEYS).map(key)), &expected);
        cluster.end(Phase::Draining);
    }
}

/// A worker that does not spin, and that no timer would wake up.
fn sleeper(settings: Settings) -> Cluster {
    let settings = Settings { spin: Duration::ZERO, send_timeout: Duration::ZERO, ..settings };
    Cluster::with(1, settings, Options { socket_bytes: 1 << 20, ..Options::default() })
}

#[test]
fn a_sleeper_sends_what_one_send_cannot_carry() {
    // Large values are pieces of their own in a send, as is what stands between two.
    const VALUES: usize = 50;
    let value = vec![b'v'; 1100];
    let mut expected = Vec::new();
    array(&mut expected, std::iter::repeat_n(&value[..], VALUES));
    let rows = [
        Settings { large_value_bytes: 1024, ..Settings::default() },
        Settings { send_bytes: 4096, ..Settings::default() },
    ];
    for settings in rows {
        let mut cluster = sleeper(settings);
        cluster.ask(&request("SET", [b"k".to_vec(), value.clone()].into_iter()), b"+OK\r\n");
        let peer = cluster.connect(0);
        for round in 1..=4 {
            cluster.say(peer, &request("MGET", std::iter::repeat_n(b"k".to_vec(), VALUES)));
            cluster.settle();
            assert_eq!(cluster.heard(peer).len(), round * expected.len());
        }
        cluster.close(peer);
        cluster.end(Phase::Draining);
    }
}

#[test]
fn a_sleeper_goes_on_when_a_reply_has_left() {
    let mut cluster = sleeper(Settings { output_soft_limit: 1024, ..Settings::default() });
    let long = "e".repeat(1000);
    let peer = cluster.connect(0);
    cluster.say(peer, &encode(&format!("ECHO {long}")).repeat(64));
    let reply_bytes = 64 * format!("$1000\r\n{long}\r\n").len();
    assert_eq!(cluster.listen(peer, reply_bytes).len(), reply_bytes, "over the soft limit");
    cluster.say(peer, &encode("QUIT"));
    cluster.settle();
    assert!(cluster.has_ended(peer), "the connection is closed once the reply has left");
    cluster.close(peer);
    let peer = cluster.connect(0);
    cluster.say_last(peer, &encode("PING"));
    cluster.settle();
    assert!(cluster.has_ended(peer), "the end is answered");
    cluster.close(peer);
    cluster.end(Phase::Draining);
}

#[test]
fn who_has_said_everything_hears_every_reply_although_they_do_not_fit_at_once() {
    // Sixteen requests are decoded at once, and as many of these replies go over the soft limit.
    const VALUE_BYTES: usize = 17_000;
    let value = vec![b'v'; VALUE_BYTES];
    for is_draining in [false, true] {
        let mut cluster = Cluster::new(1);
        cluster.ask(&request("SET", [b"big".to_vec(), value.clone()].into_iter()), b"+OK\r\n");
        let peer = cluster.connect(0);
        cluster.peer(peer).is_reading = false;
        let requests = encode("GET big").repeat(64);
        if is_draining {
            cluster.say(peer, &requests);
            cluster.settle();
            cluster.advance(Phase::Draining);
        } else {
            cluster.say_last(peer, &requests);
        }
        cluster.settle();
        cluster.peer(peer).is_reading = true;
        let reply_bytes = format!("${VALUE_BYTES}\r\n\r\n").len() + VALUE_BYTES;
        assert_eq!(cluster.listen(peer, 64 * reply_bytes).len(), 64 * reply_bytes, "draining: {is_draining}");
        cluster.end(Phase::Draining);
    }
}

#[test]
fn who_is_not_let_go_of_is_waited_for_a_second() {
    let mut cluster = Cluster::new(1);
    let peer = cluster.connect(0);
    // The send's time-out is a minute, and must not be what ends it.
    cluster.say(peer, &encode("PING"));
    cluster.settle();
    cluster.say(peer, &encode("QUIT"));
    cluster.pass(Duration::from_secs(3));
    assert_eq!(cluster.heard(peer), b"+PONG\r\n+OK\r\n");
    assert_eq!(cluster.metric(Metric::ConnectionsOpen), 0, "the client keeps its end open, the server does not");
    cluster.end(Phase::Draining);
}

#[test]
fn a_new_time_out_holds_for_who_is_there() {
    let mut cluster = Cluster::new(1);
    let (silent, operator) = (cluster.connect(0), cluster.connect(0));
    cluster.say(silent, &encode("PING"));
    cluster.settle();
    cluster.say(operator, &encode("CONFIG SET timeout 5"));
    cluster.pass(Duration::from_secs(4));
    assert_eq!(cluster.metric(Metric::ConnectionsOpen), 2);
    cluster.pass(Duration::from_secs(3));
    assert_eq!(cluster.metric(Metric::ConnectionsOpen), 0);
    cluster.end(Phase::Draining);
}

#[test]
fn a_client_sees_what_its_last_request_has_changed() {
    for workers in 1..=2 {
        let mut cluster = Cluster::new(workers);
        let peer = cluster.connect(0);
        cluster.say(peer, &encode("CONFIG SET timeout 77;CONFIG GET timeout;CONFIG SET requirepass p;AUTH p"));
        let expected = b"+OK\r\n*2\r\n$7\r\ntimeout\r\n$2\r\n77\r\n+OK\r\n+OK\r\n";
        assert_eq!(cluster.listen(peer, expected.len()), expected);
        let held = encode("CLIENT PAUSE 500 ALL;EXISTS nothing");
        cluster.say(peer, &held);
        cluster.pass(Duration::from_millis(400));
        assert_eq!(&cluster.heard(peer)[expected.len()..], b"+OK\r\n");
        cluster.pass(Duration::from_millis(200));
        assert_eq!(&cluster.heard(peer)[expected.len()..], b"+OK\r\n:0\r\n");
        cluster.end(Phase::Draining);
    }
}

#[test]
fn a_pause_without_end_ends_when_somebody_says_so() {
    for workers in 1..=2 {
        let mut cluster = Cluster::new(workers);
        let (operator, held) = (cluster.connect(0), cluster.connect(1));
        cluster.say(operator, &encode(&format!("CLIENT PAUSE {} WRITE", i64::MAX)));
        cluster.settle();
        cluster.say(held, &encode("SET a 1"));
        cluster.pass(Duration::from_secs(10));
        assert_eq!(cluster.heard(held), b"");
        cluster.say(operator, &encode("CLIENT UNPAUSE"));
        cluster.settle();
        assert_eq!(cluster.heard(held), b"+OK\r\n", "at once, on whatever worker");
        cluster.end(Phase::Draining);
    }
}

#[test]
fn when_the_password_is_taken_away_everybody_may_go_on() {
    let settings = Settings { requirepass: "p".to_owned(), ..Settings::default() };
    let mut cluster = Cluster::with(2, settings, Options::default());
    let (operator, other) = (cluster.connect(0), cluster.connect(1));
    cluster.say(other, &encode("EXISTS nothing"));
    cluster.settle();
    assert_eq!(cluster.heard(other), b"-NOAUTH Authentication required.\r\n");
    cluster.say(operator, &encode("AUTH p;CONFIG SET requirepass %"));
    cluster.settle();
    assert_eq!(cluster.heard(operator), b"+OK\r\n+OK\r\n");
    cluster.say(other, &encode("EXISTS nothing"));
    cluster.settle();
    assert!(cluster.heard(other).ends_with(b"\r\n:0\r\n"), "{}", cluster.heard(other).escape_ascii());
    cluster.end(Phase::Draining);
}

#[test]
fn a_drain_does_not_wait_for_ever() {
    for workers in 1..=2 {
        let mut cluster = Cluster::new(workers);
        let (operator, held) = (cluster.connect(0), cluster.connect(1));
        cluster.say(operator, &encode("CLIENT PAUSE 3600000 ALL"));
        cluster.settle();
        cluster.say(held, &encode("GET a"));
        cluster.settle();
        cluster.advance(Phase::Draining);
        cluster.pass(Duration::from_secs(9));
        assert!(!cluster.is_done());
        cluster.pass(Duration::from_secs(2));
        assert!(cluster.is_done());
        cluster.end(Phase::Draining);
    }
}
