//! Requests that wait for something: for other workers, for room, for a pause to end. Each of them is answered.

use corering::instance::Phase;

use crate::cluster::Cluster;
use crate::table::array;

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
