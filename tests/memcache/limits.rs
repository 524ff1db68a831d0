//! What is too long, too large, or cut short.

use corering::config::Settings;

use crate::server::Fronts;

#[test]
fn keys_of_250_bytes_and_no_longer() {
    let fronts = Fronts::with_workers(2);
    let mut client = fronts.memcache();
    let (longest, too_long) = ("k".repeat(250), "k".repeat(251));
    assert_eq!(client.words(&format!("set {longest} 0 0 1|x")), "STORED");
    assert_eq!(client.words(&format!("get {longest}")), format!("VALUE {longest} 0 1|x|END"));
    const REFUSED: &str = "CLIENT_ERROR bad command line format";
    for request in ["get a K", "gat 0 a K", "delete K", "touch K 0", "incr K 1", "mg K v", "md K", "ma K", "me K"] {
        assert_eq!(client.words(&request.replace('K', &too_long)), REFUSED, "{request}");
    }
    assert_eq!(client.words(&format!("set {too_long} 0 0 1")), REFUSED);
    assert_eq!(client.words(&format!("ms {too_long} 1")), REFUSED);
    fronts.server.stop();
}

#[test]
fn what_is_too_large_is_swallowed_and_what_it_would_have_replaced_is_gone() {
    let fronts = Fronts::start(&Settings { proto_max_bulk_len: 1 << 20, workers: 2, ..Settings::default() });
    let mut client = fronts.memcache();
    let big = "x".repeat((1 << 20) + 1);
    let largest = &big[1..];
    for (command, rest) in [("set", "0 0 "), ("ms", "")] {
        client.words("set k 0 0 3|old");
        let heard = client.words(&format!("{command} k {rest}{}|{big}", big.len()));
        assert_eq!(heard, "SERVER_ERROR object too large for cache");
        assert_eq!(client.words("get k"), "END");
        assert_eq!(
            client.words(&format!("{command} k {rest}{}|{largest}", largest.len())).replace("HD", "STORED"),
            "STORED"
        );
        assert_eq!(client.words("mg k s"), "HD s1048576");
    }
    assert_eq!(client.words(&format!("set k 0 0 {} noreply|{big}", big.len())), "");
    assert_eq!(client.words("get k"), "END");
    let heard = client.ask(format!("set k 0 0 {0}\r\n{largest}\r\nget k\r\n", largest.len()).as_bytes());
    assert_eq!(heard, format!("STORED\r\nVALUE k 0 {0}\r\n{largest}\r\nEND\r\n", largest.len()).as_bytes());
    fronts.server.stop();
}

#[test]
fn a_line_without_an_end_is_refused_and_closed() {
    let fronts = Fronts::with_workers(1);
    let mut client = fronts.memcache();
    client.say("x".repeat(5000).as_bytes());
    let heard = client.hear_end();
    assert_eq!(heard, "CLIENT_ERROR line too long\r\n");
    // A retrieval may name many keys.
    let mut client = fronts.memcache();
    let keys: String = (0..10_000).map(|key| format!(" key{key}")).collect();
    assert_eq!(client.words(&format!("get{keys}")), "END");
    fronts.server.stop();
}

#[test]
fn quitting_answers_what_came_before() {
    let fronts = Fronts::with_workers(2);
    let mut client = fronts.memcache();
    client.say(b"set a 0 0 1\r\nx\r\nget a b\r\nquit\r\nget a\r\n");
    assert_eq!(client.hear_end(), "STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n");
    fronts.server.stop();
}

#[test]
fn too_many_clients_are_told_so() {
    let fronts = Fronts::start(&Settings { maxclients: 1, workers: 1, ..Settings::default() });
    let mut first = fronts.memcache();
    assert_eq!(first.words("version"), "VERSION 1.6.18");
    let mut second = fronts.memcache();
    assert_eq!(second.hear_end(), "SERVER_ERROR max number of clients reached\r\n");
    fronts.server.stop();
}
