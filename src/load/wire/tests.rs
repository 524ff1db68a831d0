//! Replies of each protocol, whole and cut everywhere.

use super::*;
use crate::load::plan::Operation::*;
use crate::load::sizes::Sizes;

/// Small values, so that tables stay readable: key 0 and key 1.
fn items() -> Items {
    Items::new(&Plan { keys: 100, key_bytes: 3, value_sizes: Sizes::Fixed(5), ..Plan::default() })
}

fn value(key: u32) -> String {
    String::from_utf8(items().value(key).to_vec()).unwrap()
}

/// Hits, misses, wrong, refused.
type Verdict = (u32, u32, bool, bool);

/// Feeds `bytes` in pieces of `step`; the verdict on every reply.
fn read(protocol: Protocol, asked: &[(Operation, &[u32])], bytes: &[u8], step: usize) -> Result<Vec<Verdict>, Broken> {
    let (items, mut reader, mut pending) = (items(), Reader::new(protocol), Pending::default());
    for (operation, keys) in asked {
        pending.push(Asked { operation: *operation, keys: keys.len() as u16, since_ns: 0 }, keys);
    }
    let mut verdicts = Vec::new();
    for piece in bytes.chunks(step) {
        reader.read(piece, &mut pending, &items, |_, reply| {
            verdicts.push((reply.hits, reply.misses, reply.is_wrong, reply.error.is_some()));
        })?;
    }
    assert_eq!(pending.asked.len() + verdicts.len(), asked.len());
    assert!(!pending.is_empty() || pending.keys.is_empty(), "keys are left behind");
    Ok(verdicts)
}

const RIGHT: Verdict = (0, 0, false, false);
const HIT: Verdict = (1, 0, false, false);
const MISS: Verdict = (0, 1, false, false);
const WRONG: Verdict = (0, 0, true, false);
const WRONG_VALUE: Verdict = (1, 0, true, false);
const REFUSED: Verdict = (0, 0, false, true);

/// The rows' replies one after the other, at every way of cutting them.
fn check(protocol: Protocol, rows: &[(Operation, &[u32], String, Verdict)]) {
    for (operation, keys, reply, verdict) in rows {
        for step in 1..=reply.len() {
            let read = read(protocol, &[(*operation, *keys)], reply.as_bytes(), step);
            assert_eq!(read, Ok(vec![*verdict]), "{operation:?} {reply:?} in pieces of {step}");
        }
    }
    let asked: Vec<_> = rows.iter().map(|(operation, keys, ..)| (*operation, *keys)).collect();
    let stream: String = rows.iter().map(|(_, _, reply, _)| reply.as_str()).collect();
    let verdicts: Vec<_> = rows.iter().map(|(.., verdict)| *verdict).collect();
    for step in [1, 2, 3, 7, 64, stream.len()] {
        assert_eq!(read(protocol, &asked, stream.as_bytes(), step), Ok(verdicts.clone()), "in pieces of {step}");
    }
}

#[test]
fn resp_replies_are_checked() {
    let (zero, one) = (value(0), value(1));
    let rows: Vec<(Operation, &[u32], String, Verdict)> = vec![
        (Get, &[0], format!("$5\r\n{zero}\r\n"), HIT),
        (Get, &[1], format!("$5\r\n{zero}\r\n"), WRONG_VALUE),
        (Get, &[0], format!("$4\r\n{}\r\n", &zero[..4]), WRONG_VALUE),
        (Get, &[0], "$0\r\n\r\n".to_owned(), WRONG_VALUE),
        (Get, &[0], "$-1\r\n".to_owned(), MISS),
        (Get, &[0], "_\r\n".to_owned(), MISS),
        (Get, &[0], "+OK\r\n".to_owned(), WRONG),
        (Get, &[0], "-WRONGTYPE no\r\n".to_owned(), REFUSED),
        (Set, &[0], "+OK\r\n".to_owned(), RIGHT),
        (Set, &[0], "+QUEUED\r\n".to_owned(), WRONG),
        (Set, &[0], ":1\r\n".to_owned(), WRONG),
        (Set, &[0], format!("$5\r\n{zero}\r\n"), WRONG_VALUE),
        (SetExpiring, &[0], "-OOM full\r\n".to_owned(), REFUSED),
        (Increment, &[0], ":42\r\n".to_owned(), RIGHT),
        (Increment, &[0], ":-42\r\n".to_owned(), RIGHT),
        (Delete, &[0], ":0\r\n".to_owned(), RIGHT),
        (MultiGet(2), &[0, 1], format!("*2\r\n$5\r\n{zero}\r\n$5\r\n{one}\r\n"), (2, 0, false, false)),
        (MultiGet(2), &[0, 1], format!("*2\r\n$5\r\n{zero}\r\n$-1\r\n"), (1, 1, false, false)),
        (MultiGet(2), &[0, 1], format!("*2\r\n$5\r\n{one}\r\n$5\r\n{zero}\r\n"), (2, 0, true, false)),
        (MultiGet(2), &[0, 1], format!("*1\r\n$5\r\n{zero}\r\n"), (1, 0, true, false)),
        (MultiGet(2), &[0, 1], "*0\r\n".to_owned(), WRONG),
        (MultiGet(2), &[0, 1], "-CROSSSLOT\r\n".to_owned(), REFUSED),
    ];
    check(Protocol::Resp2, &rows);
}

#[test]
fn memcache_replies_are_checked() {
    let (zero, one) = (value(0), value(1));
    let end = "END\r\n";
    let rows: Vec<(Operation, &[u32], String, Verdict)> = vec![
        (Get, &[0], format!("VALUE k00 0 5\r\n{zero}\r\n{end}"), HIT),
        (Get, &[0], format!("VALUE k00 0 5\r\n{one}\r\n{end}"), WRONG_VALUE),
        (Get, &[0], format!("VALUE k00 0 6\r\n{zero}x\r\n{end}"), WRONG_VALUE),
        (Get, &[0], format!("VALUE k01 0 5\r\n{one}\r\n{end}"), (1, 1, true, false)),
        (Get, &[0], end.to_owned(), MISS),
        (Set, &[0], "STORED\r\n".to_owned(), RIGHT),
        (Set, &[0], "NOT_STORED\r\n".to_owned(), WRONG),
        (Set, &[0], "SERVER_ERROR out of memory\r\n".to_owned(), REFUSED),
        (Increment, &[0], "17\r\n".to_owned(), RIGHT),
        (Increment, &[0], "NOT_FOUND\r\n".to_owned(), MISS),
        (Delete, &[0], "DELETED\r\n".to_owned(), RIGHT),
        (Get, &[0], "ERROR\r\n".to_owned(), REFUSED),
        (MultiGet(3), &[0, 1, 0], format!("VALUE k01 0 5\r\n{one}\r\n{end}"), (1, 2, false, false)),
        (
            MultiGet(2),
            &[0, 1],
            format!("VALUE k00 0 5\r\n{zero}\r\nVALUE k01 0 5\r\n{one}\r\n{end}"),
            (2, 0, false, false),
        ),
    ];
    check(Protocol::Memcache, &rows);
}

#[test]
fn http_replies_are_checked() {
    let (zero, one) = (value(0), value(1));
    let ok = |body: &str| format!("HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let rows: Vec<(Operation, &[u32], String, Verdict)> = vec![
        (Get, &[0], ok(&zero), HIT),
        (Get, &[0], ok(&one), WRONG_VALUE),
        (Get, &[0], ok("longer"), WRONG_VALUE),
        (Get, &[0], ok(""), WRONG_VALUE),
        (Get, &[0], "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno".to_owned(), MISS),
        (Get, &[0], "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_owned(), REFUSED),
        (Get, &[0], "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), WRONG),
        (Set, &[0], "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), RIGHT),
        (Set, &[0], "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), REFUSED),
        (Increment, &[0], ok("{\"value\":3}"), RIGHT),
    ];
    check(Protocol::Http, &rows);
}

#[test]
fn what_is_no_reply_ends_the_run() {
    let long = format!("+{}\r\n", "x".repeat(LINE_BYTES_MAX));
    let rows: &[(Protocol, &str)] = &[
        (Protocol::Resp2, "HTTP/1.1 400 Bad Request\r\n"),
        (Protocol::Resp2, "\r\n"),
        (Protocol::Resp2, "$5\n"),
        (Protocol::Resp2, "$x\r\n"),
        (Protocol::Resp2, "$99999999999999999999\r\n"),
        (Protocol::Resp2, "*1\r\n"),
        (Protocol::Resp2, "$2\r\nabcd\r\n"),
        (Protocol::Resp2, &long),
        (Protocol::Resp3, ">2\r\n"),
        (Protocol::Memcache, "$5\r\n"),
        (Protocol::Memcache, "VALUE k00 0\r\n"),
        (Protocol::Http, "$5\r\n"),
        (Protocol::Http, "HTTP/1.1 OK\r\n"),
        (Protocol::Http, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"),
        (Protocol::Http, "HTTP/1.1 200 OK\r\nConnection: close\r\n"),
        (Protocol::Http, "HTTP/1.1 100 Continue\r\n\r\n"),
    ];
    for (protocol, reply) in rows {
        for step in [1, 3, reply.len()] {
            let read = read(*protocol, &[(Get, &[0])], reply.as_bytes(), step);
            assert!(read.is_err(), "{protocol:?} {reply:.40?} in pieces of {step}: {read:?}");
        }
    }
    assert!(read(Protocol::Resp2, &[], b"+OK\r\n", 5).is_err(), "a reply that nobody asked for");
}

#[test]
fn requests_are_framed() {
    let items = items();
    let (zero, ttl) = (value(0), 60);
    let rows: Vec<(Protocol, Operation, &[u32], String)> = vec![
        (Protocol::Resp2, Get, &[0], "*2\r\n$3\r\nGET\r\n$3\r\nk00\r\n".into()),
        (Protocol::Resp2, Set, &[0], format!("*3\r\n$3\r\nSET\r\n$3\r\nk00\r\n$5\r\n{zero}\r\n")),
        (
            Protocol::Resp3,
            SetExpiring,
            &[0],
            format!("*4\r\n$5\r\nSETEX\r\n$3\r\nk00\r\n$2\r\n{ttl}\r\n$5\r\n{zero}\r\n"),
        ),
        (Protocol::Resp2, MultiGet(2), &[0, 42], "*3\r\n$4\r\nMGET\r\n$3\r\nk00\r\n$3\r\nk42\r\n".into()),
        (Protocol::Resp2, Increment, &[7], "*2\r\n$4\r\nINCR\r\n$3\r\nc07\r\n".into()),
        (Protocol::Memcache, MultiGet(2), &[0, 42], "get k00 k42\r\n".into()),
        (Protocol::Memcache, SetExpiring, &[0], format!("set k00 0 {ttl} 5\r\n{zero}\r\n")),
        (Protocol::Memcache, ResetCounter, &[7], "set c07 0 0 1\r\n0\r\n".into()),
        (Protocol::Memcache, Increment, &[7], "incr c07 1\r\n".into()),
        (Protocol::Memcache, Delete, &[7], "delete k07\r\n".into()),
        (Protocol::Http, Get, &[7], "GET /v1/keys/k07 HTTP/1.1\r\nHost: bench\r\n\r\n".into()),
        (
            Protocol::Http,
            SetExpiring,
            &[0],
            format!("PUT /v1/keys/k00?ttl={ttl} HTTP/1.1\r\nHost: bench\r\nContent-Length: 5\r\n\r\n{zero}"),
        ),
        (
            Protocol::Http,
            Increment,
            &[7],
            "POST /v1/keys/c07/incr HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n".into(),
        ),
    ];
    for (protocol, operation, keys, expected) in rows {
        let mut encoder = Encoder::new(&Plan { protocol, ..Plan::default() }, &items);
        let mut output = Output::new();
        encoder.encode(operation, keys, &items, &mut output);
        assert_eq!(String::from_utf8(output.to_vec()).unwrap(), expected, "{protocol:?} {operation:?}");
    }
}
