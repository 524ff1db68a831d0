//! The string commands in awkward cases. Replies are those of Debian's redis-server 7.0.15.

use corering::config::{Policy, Settings};

use crate::harness::Harness;

const OK: &str = r"+OK\r\n";
const NULL: &str = r"$-1\r\n";
const SYNTAX: &str = r"-ERR syntax error\r\n";
const NOT_AN_INTEGER: &str = r"-ERR value is not an integer or out of range\r\n";
const OUT_OF_MEMORY: &str = r"-OOM command not allowed when used memory > \'maxmemory\'.\r\n";

/// Requests in order, each with its reply; with one worker and with three.
fn check(rows: &[(&str, &str)]) {
    for workers in [1, 3] {
        let mut server = Harness::new(workers);
        for (request, reply) in rows {
            assert_eq!(server.words(request), *reply, "{request} with {workers} worker(s)");
        }
    }
}

/// Requests that each find `k` with the value `old` and no expiry.
fn check_each(rows: &[(&str, &str)]) {
    for (request, reply) in rows {
        check(&[("SET k old", OK), (request, reply)]);
    }
}

#[test]
fn set_takes_every_combination_that_redis_takes() {
    let invalid = r"-ERR invalid expire time in \'set\' command\r\n";
    check_each(&[
        ("SET k v nx", NULL),
        ("SET k v NX nx", NULL),
        ("SET k v XX", OK),
        ("SET other v XX", NULL),
        ("SET other v NX", OK),
        ("SET k v NX XX", SYNTAX),
        ("SET k v XX NX", SYNTAX),
        ("SET k v GET", r"$3\r\nold\r\n"),
        ("SET k v NX GET", r"$3\r\nold\r\n"),
        ("SET other v NX GET", NULL),
        ("SET other v XX GET", NULL),
        ("SET k v EX 10", OK),
        ("SET k v EX 10 EX 20", OK),
        ("SET k v EX x EX 20", OK),
        ("SET k v EX 10 PX 20", SYNTAX),
        ("SET k v EX 10 KEEPTTL", SYNTAX),
        ("SET k v KEEPTTL EX 10", SYNTAX),
        ("SET k v KEEPTTL KEEPTTL", OK),
        ("SET k v PERSIST", SYNTAX),
        ("SET k v EX", SYNTAX),
        ("SET k v EXAT", SYNTAX),
        ("SET k v nonsense", SYNTAX),
        ("SET k v ", SYNTAX),
        ("SET k v EX x", NOT_AN_INTEGER),
        ("SET k v EX 1.5", NOT_AN_INTEGER),
        ("SET k v EX 0", invalid),
        ("SET k v PX -1", invalid),
        ("SET k v EX 9223372036854775807", invalid),
        ("SET k v EX 9223372036854775", invalid),
        ("SET k v PX 9223372036854775807", invalid),
        ("SET k v EXAT 9223372036854776", invalid),
        ("SET k v PXAT 9223372036854775807", OK),
        // The options are read before the number, the number before the key.
        ("SET k v EX x nonsense", SYNTAX),
        ("SET k v NX EX 0", invalid),
        ("SET k", r"-ERR wrong number of arguments for \'set\' command\r\n"),
    ]);
}

#[test]
fn a_refused_set_changes_nothing() {
    check(&[
        ("SET k old", OK),
        ("SET k v NX", NULL),
        ("GET k", r"$3\r\nold\r\n"),
        ("SET k v NX GET", r"$3\r\nold\r\n"),
        ("GET k", r"$3\r\nold\r\n"),
        ("SET other v XX GET", NULL),
        ("GET other", NULL),
        ("SET k v GET EX 0", r"-ERR invalid expire time in \'set\' command\r\n"),
        ("GET k", r"$3\r\nold\r\n"),
    ]);
}

#[test]
fn expiries_are_set_kept_and_removed() {
    // Each request on a key that expires in 100 ms; whether the key is there 150 ms later.
    let rows = [
        ("SET k v", true),
        ("SET k v KEEPTTL", false),
        ("SET k v PX 1000", true),
        ("SET k v PX 120", false),
        ("SET k v PXAT 1", false),
        ("SET k v EXAT 2000000001", true),
        ("SETEX k 1 v", true),
        ("PSETEX k 120 v", false),
        ("GETSET k v", true),
        ("SETNX k v", false),
        ("APPEND k 1", false),
        ("SETRANGE k 1 1", false),
        ("INCR k", false),
        ("INCRBYFLOAT k 1.5", false),
        ("MSET k v", true),
        ("GETEX k", false),
        ("GETEX k PERSIST", true),
        ("GETEX k PX 1000", true),
        ("GETEX k EX 1", true),
        ("GETEX k EXAT 1", false),
        ("GETDEL k", false),
    ];
    for (request, remains) in rows {
        let mut server = Harness::new(1);
        server.words("SET k 1 PX 100");
        server.words(request);
        server.advance_ms(150);
        assert_eq!(server.words("GET k") != NULL, remains, "{request}");
    }
}

#[test]
fn getex_looks_at_options_then_key_then_number() {
    let invalid = r"-ERR invalid expire time in \'getex\' command\r\n";
    check_each(&[
        ("GETEX k", r"$3\r\nold\r\n"),
        ("GETEX k PERSIST PERSIST", r"$3\r\nold\r\n"),
        ("GETEX k EX 1 PERSIST", SYNTAX),
        ("GETEX k PERSIST EX 1", SYNTAX),
        ("GETEX k EX", SYNTAX),
        ("GETEX k KEEPTTL", SYNTAX),
        ("GETEX k NX", SYNTAX),
        ("GETEX k EX 0", invalid),
        ("GETEX k PXAT -5", invalid),
        ("GETEX k EX x", NOT_AN_INTEGER),
        ("GETEX absent EX x", NULL),
        ("GETEX absent EX 0", NULL),
        ("GETEX absent EX", SYNTAX),
    ]);
}

#[test]
fn the_shorthands_name_themselves_in_errors() {
    check_each(&[
        ("SETEX k 0 v", r"-ERR invalid expire time in \'setex\' command\r\n"),
        ("SETEX k x v", NOT_AN_INTEGER),
        ("PSETEX k -1 v", r"-ERR invalid expire time in \'psetex\' command\r\n"),
        ("SETNX k v", r":0\r\n"),
        ("SETNX absent v", r":1\r\n"),
        ("GETSET k v", r"$3\r\nold\r\n"),
        ("GETSET absent v", NULL),
        ("GETDEL absent", NULL),
        ("STRLEN k", r":3\r\n"),
        ("STRLEN absent", r":0\r\n"),
        ("MSET a", r"-ERR wrong number of arguments for \'mset\' command\r\n"),
        ("MSET a 1 b", r"-ERR wrong number of arguments for \'mset\' command\r\n"),
        ("MSETNX a 1 b", r"-ERR wrong number of arguments for \'msetnx\' command\r\n"),
    ]);
}

#[test]
fn several_keys_keep_their_order() {
    check(&[
        ("MSET a 1 b 2 c 3 a 4", OK),
        ("MGET c absent a a b", r"*5\r\n$1\r\n3\r\n$-1\r\n$1\r\n4\r\n$1\r\n4\r\n$1\r\n2\r\n"),
        ("MSETNX x 1 b 2", r":0\r\n"),
        ("GET x", NULL),
        ("MSETNX x 1 x 2 y 3", r":1\r\n"),
        ("MGET x y", r"*2\r\n$1\r\n2\r\n$1\r\n3\r\n"),
    ]);
}

#[test]
fn parts_are_cut_where_redis_cuts_them() {
    let empty = r"$0\r\n\r\n";
    let rows = [
        ("0 -1", "$5\\r\\nhello\\r\\n"),
        ("1 3", "$3\\r\\nell\\r\\n"),
        ("-3 -1", "$3\\r\\nllo\\r\\n"),
        ("-100 100", "$5\\r\\nhello\\r\\n"),
        ("3 1", empty),
        ("5 9", empty),
        ("-1 -3", empty),
        // An end before the beginning is the first byte.
        ("0 -100", "$1\\r\\nh\\r\\n"),
        ("-100 -99", "$1\\r\\nh\\r\\n"),
        ("-9223372036854775808 9223372036854775807", "$5\\r\\nhello\\r\\n"),
        ("9223372036854775807 -9223372036854775808", empty),
        ("x 1", NOT_AN_INTEGER),
        ("1 x", NOT_AN_INTEGER),
    ];
    for command in ["GETRANGE", "SUBSTR"] {
        for (part, reply) in rows {
            check(&[("SET k hello", OK), (&format!("{command} k {part}"), reply)]);
        }
    }
    check(&[("GETRANGE absent 0 -1", empty), ("GETRANGE absent x -1", NOT_AN_INTEGER)]);
}

#[test]
fn setrange_pads_and_refuses() {
    let too_long = r"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    check_each(&[
        ("SETRANGE k 5 x", r":6\r\n"),
        ("SETRANGE k 0 ", r":3\r\n"),
        ("SETRANGE absent 7 ", r":0\r\n"),
        ("SETRANGE absent 2 x", r":3\r\n"),
        ("SETRANGE k -1 x", r"-ERR offset is out of range\r\n"),
        ("SETRANGE k -1 ", r"-ERR offset is out of range\r\n"),
        ("SETRANGE k x x", NOT_AN_INTEGER),
        ("SETRANGE k 536870912 x", too_long),
        ("SETRANGE k 9223372036854775807 x", too_long),
        ("SETRANGE k 9223372036854775807 ", r":3\r\n"),
    ]);
    check(&[
        ("SETRANGE k 2 x", r":3\r\n"),
        ("GET k", r"$3\r\n\x00\x00x\r\n"),
        ("SETRANGE k 0 abcd", r":4\r\n"),
        ("SETRANGE k 1 X", r":4\r\n"),
        ("APPEND k ef", r":6\r\n"),
        ("GET k", r"$6\r\naXcdef\r\n"),
        ("APPEND new ", r":0\r\n"),
        ("GET new", r"$0\r\n\r\n"),
    ]);
}

#[test]
fn values_do_not_outgrow_the_longest_argument() {
    let mut server = Harness::with(1, Settings { proto_max_bulk_len: 10, ..Settings::default() });
    let too_long = r"-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    assert_eq!(server.words("SET k 12345678"), OK);
    assert_eq!(server.words("APPEND k 90"), r":10\r\n");
    assert_eq!(server.words("APPEND k 1"), too_long);
    assert_eq!(server.words("SETRANGE k 9 a"), r":10\r\n");
    assert_eq!(server.words("SETRANGE k 10 a"), too_long);
}

#[test]
fn integers_overflow_as_in_redis() {
    let overflow = r"-ERR increment or decrement would overflow\r\n";
    check(&[
        ("INCR n", r":1\r\n"),
        ("DECRBY n 3", r":-2\r\n"),
        ("INCRBY n -9223372036854775806", r":-9223372036854775808\r\n"),
        ("DECR n", overflow),
        ("INCRBY n -1", overflow),
        ("DECRBY n -9223372036854775808", r"-ERR decrement would overflow\r\n"),
        ("SET n 9223372036854775807", OK),
        ("INCR n", overflow),
        ("INCRBY n 1.0", NOT_AN_INTEGER),
        ("INCRBY n 9223372036854775808", NOT_AN_INTEGER),
        ("SET n 01", OK),
        ("INCR n", NOT_AN_INTEGER),
        ("SET n ", OK),
        ("INCR n", NOT_AN_INTEGER),
        ("GET n", r"$0\r\n\r\n"),
    ]);
}

#[test]
fn floats_fail_as_in_redis() {
    let not_a_float = r"-ERR value is not a valid float\r\n";
    let not_finite = r"-ERR increment would produce NaN or Infinity\r\n";
    check(&[
        ("INCRBYFLOAT f 10.50", r"$4\r\n10.5\r\n"),
        ("INCRBYFLOAT f 0.1", r"$4\r\n10.6\r\n"),
        ("INCRBYFLOAT f 1e-4951", not_a_float),
        ("INCRBYFLOAT f nan", not_a_float),
        ("INCRBYFLOAT f inf", not_finite),
        ("INCRBYFLOAT absent -inf", not_finite),
        ("GET absent", NULL),
        ("SET f inf", OK),
        ("INCRBYFLOAT f -inf", not_finite),
        ("SET f abc", OK),
        ("INCRBYFLOAT f 1", not_a_float),
        ("SET f 3.0e3", OK),
        ("INCRBYFLOAT f 0", r"$4\r\n3000\r\n"),
        ("INCR f", r":3001\r\n"),
    ]);
}

#[test]
fn large_values_come_back_whole_and_in_parts() {
    let mut server = Harness::new(1);
    let large: Vec<u8> = (0..100_000u32).map(|index| index as u8).collect();
    let bulk = |bytes: &[u8]| [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    assert_eq!(server.run(&[b"SET", b"k", &large]), b"+OK\r\n");
    assert_eq!(server.run(&[b"GET", b"k"]), bulk(&large));
    assert_eq!(server.run(&[b"GETRANGE", b"k", b"10", b"59999"]), bulk(&large[10..60_000]));
    assert_eq!(server.run(&[b"GETRANGE", b"k", b"10", b"19"]), bulk(&large[10..20]));
    assert_eq!(server.run(&[b"SET", b"k", b"small", b"GET"]), bulk(&large));
    assert_eq!(server.run(&[b"GET", b"k"]), bulk(b"small"));
}

#[test]
fn parts_of_values_are_sent_from_where_these_lie_from_the_size_that_is_set() {
    for (large_value_bytes, len, is_copied) in [(2048, 2047, true), (2048, 2048, false), (16384, 2048, true)] {
        let mut server = Harness::with(1, Settings { large_value_bytes, ..Settings::default() });
        assert_eq!(server.run(&[b"SET", b"k", &[7; 50_000]]), b"+OK\r\n");
        let reply = server.reply(&[b"GETRANGE", b"k", b"0", (len - 1).to_string().as_bytes()]);
        assert_eq!(reply.as_plain().is_some(), is_copied, "{len} of {large_value_bytes}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let settings = Settings { maxmemory: 1 << 20, maxmemory_policy: Policy::NoEviction, ..Settings::default() };
    let mut server = Harness::with(1, settings);
    let big = vec![b'v'; 1 << 20];
    assert_eq!(server.words("SET k old"), OK);
    let requests: &[&[&[u8]]] = &[
        &[b"SET", b"k", &big],
        &[b"SET", b"k", &big, b"GET"],
        &[b"SETEX", b"k", b"10", &big],
        &[b"SETNX", b"absent", &big],
        &[b"GETSET", b"k", &big],
        &[b"APPEND", b"k", &big],
        &[b"SETRANGE", b"k", b"100", &big],
        &[b"MSET", b"absent", &big],
        &[b"MSETNX", b"absent", b"1", b"absent2", &big],
    ];
    for request in requests {
        let reply = server.run(request);
        assert_eq!(reply.escape_ascii().to_string(), OUT_OF_MEMORY, "{}", request[0].escape_ascii());
    }
    assert_eq!(server.words("GET k"), r"$3\r\nold\r\n");
    assert_eq!(server.words("MGET absent absent2"), r"*2\r\n$-1\r\n$-1\r\n");
}
