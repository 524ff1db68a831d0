//! What is a request and what is none, wherever it is cut.

use corering::command::Front;
use corering::protocol::http::request::{AUTHORIZATION, BODY, KEY, QUERY, ROUTE};
use corering::protocol::{Limits, Requests};
use corering::ring::sim::Random;

use super::decode::{Heard, Request, decode, decode_every_way};

const LIMITS: Limits = Limits {
    bulk_bytes_max: 100,
    request_bytes_max: 1 << 20,
    body_bytes_min: 32,
    body_room_bytes: 90,
    is_unauthenticated: false,
};

/// What becomes of a stream: its routes with keys, queries and bodies, or the status of its fault.
fn shown(stream: &[u8]) -> String {
    let Heard { requests, is_last, .. } = decode_every_way(Front::Http, stream, LIMITS);
    let show = |args: &Request| {
        assert_eq!(args.len(), BODY + 1);
        if args[ROUTE] == b" bad" {
            return String::from_utf8_lossy(&args[AUTHORIZATION]).into_owned();
        }
        let part = |mark: &str, bytes: &[u8]| {
            if bytes.is_empty() { String::new() } else { format!("{mark}{}", bytes.escape_ascii()) }
        };
        part("", &args[ROUTE])
            + &part(" key=", &args[KEY])
            + &part(" query=", &args[QUERY])
            + &part(" body=", &args[BODY])
    };
    let shown: Vec<String> = requests.iter().map(show).collect();
    shown.join(" | ") + if is_last { " ." } else { "" }
}

const FORTY: &str = "0123456789012345678901234567890123456789";

fn put(fields: &str, body: &str) -> String {
    format!("PUT /v1/keys/k HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}")
}

fn get(fields: &str) -> String {
    format!("GET /a HTTP/1.1\r\n{fields}\r\n")
}

fn chunked(body: &str) -> String {
    put("Transfer-Encoding: chunked\r\n", body)
}

/// Streams and what becomes of them.
fn check(rows: &[(String, &str)]) {
    for (stream, wanted) in rows {
        assert_eq!(shown(stream.as_bytes()), *wanted, "{stream}");
    }
}

#[test]
fn targets_are_read_as_rfc_9112_has_them() {
    check(&[
        (get("Host: h\r\n"), "GET /a"),
        (
            "GET /v1/keys/a%20b%2Fc/ttl?x=1&y HTTP/1.1\r\nhost:h\r\n\r\n".into(),
            "GET /v1/keys/{key}/ttl key=a b/c query=x=1&y",
        ),
        ("GET http://h:1/v1/keys/a HTTP/1.1\r\nHost: h\r\n\r\n".into(), "GET /v1/keys/{key} key=a"),
        ("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n".into(), "GET /"),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".into(), "OPTIONS *"),
        ("GET * HTTP/1.1\r\nHost: h\r\n\r\n".into(), "400 ."),
        ("GET /v1/keys/%zz HTTP/1.1\r\nHost: h\r\n\r\n".into(), "400 ."),
        ("GET /v1/keys/%2 HTTP/1.1\r\nHost: h\r\n\r\n".into(), "400 ."),
        ("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n".into(), "400 ."),
    ]);
}

#[test]
fn a_connection_is_kept_or_not() {
    check(&[
        (get("Host: h\r\n") + "\r\n\r\n" + &get("Host: h\r\n"), "GET /a | GET /a"),
        (get("Host: h\r\nConnection: close\r\n") + &get("Host: h\r\n"), "GET /a ."),
        (get("Host: h\r\nConnection: x, Close\r\n"), "GET /a ."),
        ("GET /a HTTP/1.0\r\n\r\n".into(), "GET /a ."),
        ("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(), "GET /a"),
    ]);
}

#[test]
fn bodies_are_of_known_length_or_in_chunks() {
    check(&[
        (put("Content-Length: 5\r\n", "hello") + &get("Host: h\r\n"), "PUT /v1/keys/{key} key=k body=hello | GET /a"),
        (put("Content-Length: 0\r\n", ""), "PUT /v1/keys/{key} key=k"),
        (put("Content-Length: 40\r\n", FORTY), &format!("PUT /v1/keys/{{key}} key=k body={FORTY}")),
        (put("Content-Length: 5\r\nExpect: 100-continue\r\n", "hello"), "PUT /v1/keys/{key} key=k body=hello"),
        (put("Expect: fish\r\n", ""), "417 ."),
        (put("Content-Length: 95\r\n", ""), "507 ."),
        (put("Content-Length: 101\r\n", ""), "413 ."),
        (put("Content-Length: 99999999999999999999\r\n", ""), "400 ."),
        (chunked("5\r\nhello\r\n0\r\n\r\n"), "PUT /v1/keys/{key} key=k body=hello"),
        (
            chunked("2;a=b\r\nhe\r\n003\r\nllo\r\n0\r\nTrailer: x\r\n\r\n") + &get("Host: h\r\n"),
            "PUT /v1/keys/{key} key=k body=hello | GET /a",
        ),
        (
            put("Transfer-Encoding: chunked\r\nConnection: close\r\n", "0\r\n\r\n") + "more",
            "PUT /v1/keys/{key} key=k .",
        ),
        (chunked("28\r\n") + FORTY + "\r\n40\r\n", "413 ."),
    ]);
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    check(&[
        (put("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), "400 ."),
        (put("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), "400 ."),
        (put("Content-Length: 5, 5\r\n", "hello"), "400 ."),
        (put("Content-Length: +5\r\n", "hello"), "400 ."),
        (put("Content-Length: 0x5\r\n", "hello"), "400 ."),
        (put("Content-Length: \r\n", "hello"), "400 ."),
        (put("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "400 ."),
        (put("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "400 ."),
        (put("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "501 ."),
        (put("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), "501 ."),
        ("PUT /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), "400 ."),
        (put("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), "400 ."),
        (put("X: a\r\n folded\r\n", ""), "400 ."),
        (" GET /a HTTP/1.1\r\nHost: h\r\n\r\n".into(), "400 ."),
        ("GET /a HTTP/1.1\nHost: h\n\n".into(), "400 ."),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: y\n\r\n".into(), "400 ."),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n".into(), "400 ."),
        ("GET /a HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n".into(), "400 ."),
        ("GET /a b HTTP/1.1\r\nHost: h\r\n\r\n".into(), "400 ."),
        (get(""), "400 ."),
        (get("Host: a\r\nHost: b\r\n"), "400 ."),
        (get("Host: a\r\nAuthorization: a\r\nAuthorization: b\r\n"), "400 ."),
        (get("Host: a\r\nno colon\r\n"), "400 ."),
    ]);
}

#[test]
fn chunks_are_read_to_the_letter() {
    check(&[
        (chunked("5\nhello\r\n0\r\n\r\n"), "400 ."),
        (chunked("5\r\nhelloX\r\n0\r\n\r\n"), "400 ."),
        (chunked("0x5\r\nhello\r\n0\r\n\r\n"), "400 ."),
        (chunked("-5\r\nhello\r\n0\r\n\r\n"), "400 ."),
        (chunked(" 5\r\nhello\r\n0\r\n\r\n"), "400 ."),
        (chunked("\r\nhello\r\n0\r\n\r\n"), "400 ."),
        (chunked("fffffffff\r\n"), "400 ."),
        (chunked("ffffffff\r\n"), "413 ."),
        (chunked("5;a=\x01\r\nhello\r\n0\r\n\r\n"), "400 ."),
        (chunked("0\r\n\n"), "400 ."),
    ]);
}

#[test]
fn versions_and_fields_are_bounded() {
    check(&[
        ("GET /a HTTP/2.0\r\nHost: h\r\n\r\n".into(), "505 ."),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), "505 ."),
        (get(&format!("Host: h\r\n{}", "X: y\r\n".repeat(64))), "431 ."),
        ("\x16\x03\x01\x02\0\x01\0\r\n\r\n".into(), "400 ."),
    ]);
}

#[test]
fn heads_are_bounded() {
    let long = "x".repeat(20_000);
    for (stream, status) in [
        (format!("GET /{long}"), b"414"),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}"), b"431"),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n"), b"431"),
    ] {
        for step in [1000, 100_000] {
            let heard = decode(Front::Http, stream.as_bytes().chunks(step), LIMITS, 16);
            assert!(heard.is_last && heard.requests.len() == 1);
            assert_eq!(heard.requests[0][AUTHORIZATION], status, "{step}");
        }
    }
}

#[test]
fn a_body_is_awaited_only_from_whom_it_may_come() {
    let limits = Limits { is_unauthenticated: true, bulk_bytes_max: 1 << 20, body_room_bytes: 1 << 20, ..LIMITS };
    let (mut decoder, mut batch) = (Front::Http.decoder(), Requests::default());
    let head = b"PUT /v1/keys/k HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer b\r\nContent-Length: 20000\r\n\r\nxx";
    let decoded = decoder.decode(head, 16, &limits, &mut batch);
    let args = batch.get(0, decoded.received);
    assert_eq!(
        (args.get(ROUTE), args.get(AUTHORIZATION), args.get(KEY)),
        (&b" begin"[..], &b"Bearer b"[..], &b"k"[..])
    );
}

#[test]
fn random_bytes_are_the_same_wherever_they_are_cut() {
    const WORDS: &[&[u8]] = &[
        b"GET ",
        b"PUT ",
        b"/v1/keys/k",
        b"/a%20",
        b" HTTP/1.1\r\n",
        b" HTTP/1.1\r\nHost: h\r\n",
        b"PUT /v1/keys/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT /v1/keys/k HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"\r\n",
        b"\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"hello",
        b"0123456789012345678901234567890123456789",
    ];
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let stream: Vec<u8> = (0..20).flat_map(|_| WORDS[random.below(WORDS.len())].to_vec()).collect();
        let whole = decode(Front::Http, [&stream[..]], LIMITS, 1000);
        let step = 1 + random.below(stream.len());
        let cut = decode(Front::Http, stream.chunks(step), LIMITS, 1 + random.below(4));
        assert_eq!(cut, whole, "seed {seed}, pieces of {step}: {}", stream.escape_ascii());
    }
}
