//! Requests that wait for something: for other workers, for room, for a pause to end. Each of them is answered.

use corering::instance::Phase;

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
