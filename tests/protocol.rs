//! RESP requests as they arrive: cut anywhere, malformed, hostile; and what redis-server makes of the same bytes.
//!
//! Every stream is decoded whole, split at every byte and a byte at a time, with small and large batches, and each time
//! the requests and the error must be the same.

#[path = "fuzz/decode.rs"]
mod decode;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corering::command::Front;
use corering::protocol::resp::{encode_request, parse, skip};
use corering::protocol::{Limits, Output, Requests};
use decode::{Connection, Heard, Request};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const LIMITS: Limits = Limits {
    bulk_bytes_max: 512 << 20,
    request_bytes_max: 1 << 30,
    body_bytes_min: 16 << 10,
    body_room_bytes: u64::MAX,
    is_unauthenticated: false,
};

fn heard(requests: Vec<Request>) -> Heard {
    Heard { requests, ..Heard::default() }
}

fn decode(stream: &[u8], cuts: impl IntoIterator<Item = usize>, limits: Limits, requests_max: usize) -> Heard {
    let mut connection = Connection::new(Front::Resp, limits, requests_max);
    let mut from = 0;
    for cut in cuts {
        connection.receive(&stream[from..cut]);
        from = cut;
    }
    connection.receive(&stream[from..]);
    connection.heard
}

fn decode_every_way(stream: &[u8], limits: Limits) -> Heard {
    decode::decode_every_way(Front::Resp, stream, limits)
}

fn request(args: &[&str]) -> Request {
    args.iter().map(|arg| arg.as_bytes().to_vec()).collect()
}

#[test]
fn the_first_key_is_known_before_a_request_is_decoded() {
    let rows: &[(Front, &str, Option<&str>)] = &[
        (Front::Resp, "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n", Some("key")),
        (Front::Resp, "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nhal", Some("key")),
        (Front::Resp, "*1\r\n$4\r\nPING\r\n", None),
        (Front::Resp, "*2\r\n$3\r\nGET\r\n$3\r\nke", None),
        (Front::Resp, "*2\r\n$9223372036854775807\r\n$3\r\nkey\r\n", None),
        (Front::Resp, "*2\r\n$3\r\nGET\r\n$-1\r\n", None),
        (Front::Resp, "*1\r\n$0\r\n\r\n*1\r\n$0\r\n\r\n", None),
        (Front::Resp, "$0\r\n\r\n", None),
        (Front::Resp, "GET key\r\n", None),
        (Front::Resp, "", None),
        (Front::Memcache, "get key\r\n", Some("key")),
        (Front::Memcache, "set key 0 0 5\r\nhal", Some("key")),
        (Front::Memcache, "version\r\nget key\r\n", None),
        (Front::Memcache, "get key\nget other\n", Some("key")),
        (Front::Memcache, "get ke", None),
        (Front::Http, "GET /v1/keys/key HTTP/1.1\r\n\r\n", None),
    ];
    for (front, stream, key) in rows {
        assert_eq!(front.decoder().first_key(stream.as_bytes()), key.map(str::as_bytes), "{stream:?}");
    }
    // What goes on with a request that has begun begins with none.
    let mut decoder = Front::Resp.decoder();
    decoder.hold(b"*2\r\n");
    assert_eq!(decoder.first_key(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"), None);
}

#[test]
fn requests_are_the_same_however_they_are_cut() {
    let rows: &[(&str, &[&[&str]])] = &[
        ("*1\r\n$4\r\nPING\r\n", &[&["PING"]]),
        ("*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000042\r\n", &[&["GET", "key:000000000042"]]),
        ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", &[&["SET", "k", ""]]),
        ("*2\r\n$4\r\nECHO\r\n$6\r\na\r\nb\r\n\r\n", &[&["ECHO", "a\r\nb\r\n"]]),
        ("*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI", &[&["PING"], &["PING"]]),
        ("*0\r\n*-1\r\n*-9999999999\r\n\r\n\n \r\n*1\r\n$4\r\nPING\r\n", &[&["PING"]]),
        ("PING\r\n", &[&["PING"]]),
        ("PING\nECHO hi\r\n", &[&["PING"], &["ECHO", "hi"]]),
        ("  SET \"a b\" 'c\\'d'\t\"\\x41\\n\"\r\n", &[&["SET", "a b", "c'd", "A\n"]]),
        ("ECHO \"\"\r\nECHO ''\r\n", &[&["ECHO", ""], &["ECHO", ""]]),
        ("*1\r\n$4\r\nPING\r\nPING \"x\" y\r\n*1\r\n$4\r\nECHO\r\n", &[&["PING"], &["PING", "x", "y"], &["ECHO"]]),
        // The byte after a `\r`, and the two after an argument, are not looked at.
        ("*1\rX$4\rYPINGab*1\r\n$4\r\nECHO\r\n", &[&["PING"], &["ECHO"]]),
        ("*2\r\n$10\r\n0123456789\r\n$1", &[]),
    ];
    for (stream, expected) in rows {
        let expected: Vec<Request> = expected.iter().map(|args| request(args)).collect();
        assert_eq!(decode_every_way(stream.as_bytes(), LIMITS), heard(expected), "{stream:?}");
    }
}

#[test]
fn large_arguments_get_allocations_of_their_own() {
    let limits = Limits { body_bytes_min: 8, ..LIMITS };
    let stream = b"*3\r\n$3\r\nSET\r\n$7\r\n1234567\r\n$12\r\n12345678\r\nab\r\n\
        *2\r\n$8\r\n\r\n$3\r\nab\r\n$9\r\n123456789\r\n\
        *1\r\n$4\r\nPING\r\n*1\r\n$10\r\n12345";
    let heard = decode_every_way(stream, limits);
    let expected =
        [request(&["SET", "1234567", "12345678\r\nab"]), request(&["\r\n$3\r\nab", "123456789"]), request(&["PING"])];
    assert_eq!(heard, Heard { bodies: 3, ..self::heard(expected.into()) });
    let heard = decode_every_way(b"*2\r\n$1\r\nx\r\n$0\r\n\r\n", Limits { body_bytes_min: 0, ..LIMITS });
    assert_eq!(heard.bodies, 2);
}

/// Streams that are no requests, and what is wrong with each.
const BAD: &[(&str, &str)] = &[
    ("*x\r\n", "invalid multibulk length"),
    ("*\r\n", "invalid multibulk length"),
    ("*+5\r\n", "invalid multibulk length"),
    ("* 5\r\n", "invalid multibulk length"),
    ("*05\r\n", "invalid multibulk length"),
    ("*-0\r\n", "invalid multibulk length"),
    ("*2147483648\r\n", "invalid multibulk length"),
    ("*99999999999999999999999\r\n", "invalid multibulk length"),
    ("*1\r\nPING\r\n", "expected '$', got 'P'"),
    ("*1\r\n\r\n\r\n", "expected '$', got '\r'"),
    ("*2\r\n$4\r\nECHO\r\n:4\r\n", "expected '$', got ':'"),
    ("*1\r\n$-1\r\n", "invalid bulk length"),
    ("*1\r\n$-5\r\n", "invalid bulk length"),
    ("*1\r\n$\r\n", "invalid bulk length"),
    ("*1\r\n$+4\r\n", "invalid bulk length"),
    ("*1\r\n$ 4\r\n", "invalid bulk length"),
    ("*1\r\n$04\r\n", "invalid bulk length"),
    ("*1\r\n$4x\r\n", "invalid bulk length"),
    ("*1\r\n$536870913\r\n", "invalid bulk length"),
    ("*1\r\n$999999999999\r\n", "invalid bulk length"),
    ("*1\r\n$99999999999999999999999\r\n", "invalid bulk length"),
    ("PING \"x\r\n", "unbalanced quotes in request"),
    ("PING 'x\r\n", "unbalanced quotes in request"),
    ("PING \"x\"y\r\n", "unbalanced quotes in request"),
];

#[test]
fn malformed_requests_are_refused_in_redis_words() {
    for (stream, cause) in BAD {
        let good = "*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n";
        let decoded = decode_every_way(format!("{good}{stream}{good}").as_bytes(), LIMITS);
        let error = Some(format!("Protocol error: {cause}"));
        assert_eq!(decoded, Heard { error, ..heard(vec![request(&["ECHO", "hi"])]) }, "{stream:?}");
    }
}

#[test]
fn endless_lines_are_refused() {
    let line = "1".repeat((64 << 10) + 1);
    for (start, cause) in [
        ("", "too big inline request"),
        ("*", "too big mbulk count string"),
        ("*1\r\n$", "too big bulk count string"),
        ("*1\r\nx", "too big bulk count string"),
    ] {
        let stream = format!("{start}{line}");
        let error = Some(format!("Protocol error: {cause}"));
        assert_eq!(decode(stream.as_bytes(), [], LIMITS, 64).error, error);
        assert_eq!(decode(stream.as_bytes(), 1..stream.len(), LIMITS, 64).error, error);
        // A line end that comes too late changes nothing.
        assert_eq!(decode(format!("{stream}\r\n").as_bytes(), [], LIMITS, 64).error, error);
    }
    let stream = format!("{}\r\n", &line[..(64 << 10) - 1]);
    let heard = decode(stream.as_bytes(), [], LIMITS, 64);
    assert_eq!((heard.requests.len(), heard.error), (1, None));
}

#[test]
fn before_authentication_little_is_taken() {
    let limits = Limits { is_unauthenticated: true, ..LIMITS };
    let rows = [
        ("*11\r\n", Some("unauthenticated multibulk length")),
        ("*2147483648\r\n", Some("invalid multibulk length")),
        ("*1\r\n$16385\r\n", Some("unauthenticated bulk length")),
        ("*1\r\n$999999999999\r\n", Some("invalid bulk length")),
        ("*10\r\n$16384\r\n", None),
    ];
    for (stream, cause) in rows {
        let heard = decode_every_way(stream.as_bytes(), limits);
        assert_eq!(heard.error, cause.map(|cause| format!("Protocol error: {cause}")), "{stream:?}");
    }
    // What follows AUTH is judged after AUTH was executed.
    let stream = b"*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n*11\r\n";
    let (mut decoder, mut batch) = (Front::Resp.decoder(), Requests::default());
    let decoded = decoder.decode(stream, 64, &limits, &mut batch);
    assert_eq!((decoded.error, decoded.is_full, batch.len()), (None, true, 1));
    let rest = &stream[decoded.consumed..];
    assert_eq!(decoder.decode(rest, 64, &LIMITS, &mut batch).error, None);
}

#[test]
fn a_request_beyond_its_bound_is_refused_before_it_arrives() {
    let limits = Limits { request_bytes_max: 1000, body_bytes_min: 100, ..LIMITS };
    let error = Some("Protocol error: request exceeds client-query-buffer-limit".to_string());
    let bulk = |len: usize| format!("${len}\r\n{}\r\n", "x".repeat(len));
    for stream in [
        "*2147483647\r\n".to_string(),
        "*1\r\n$1001\r\n".to_string(),
        format!("*2\r\n{}$501\r\n", bulk(500)),
        format!("*12\r\n{}$81\r\n", bulk(80).repeat(10)),
        format!("*1\r\n{}", bulk(1001)),
    ] {
        let heard = decode_every_way(stream.as_bytes(), limits);
        assert_eq!((heard.requests.len(), &heard.error), (0, &error), "{stream:?}");
    }
    let heard = decode_every_way(format!("*2\r\n{}", bulk(450).repeat(2)).as_bytes(), limits);
    assert_eq!((heard.requests.len(), heard.error), (1, None));
}

#[test]
fn a_request_without_room_is_skipped_and_reported_once() {
    let limits = Limits { body_bytes_min: 8, body_room_bytes: 20, ..LIMITS };
    let bulk = |len: usize| format!("${len}\r\n{}\r\n", "x".repeat(len));
    let ping = "*1\r\n$4\r\nPING\r\n";
    let x = |len: usize| "x".repeat(len);
    let rows = [
        (format!("*1\r\n{}", bulk(20)), vec![vec![x(20)]]),
        (format!("*1\r\n{}", bulk(21)), vec![vec!["refused".into()]]),
        (format!("*2\r\n{}{}{ping}", bulk(10), bulk(11)), vec![vec!["refused".into()], vec!["PING".into()]]),
        (format!("{ping}*3\r\n{0}{0}{1}", bulk(15), bulk(3)), vec![vec!["PING".into()], vec!["refused".into()]]),
        (format!("*2\r\n{}{}", bulk(21), bulk(8)).repeat(2), vec![vec!["refused".into()]; 2]),
        // Answered when it is announced.
        ("*2\r\n$100\r\nxyz".into(), vec![vec!["refused".into()]]),
    ];
    for (stream, expected) in rows {
        let heard = decode_every_way(stream.as_bytes(), limits);
        let expected: Vec<Request> =
            expected.iter().map(|args| args.iter().map(|arg: &String| arg.clone().into_bytes()).collect()).collect();
        assert_eq!((heard.requests, heard.error), (expected, None), "{stream:?}");
    }
}

#[test]
fn announced_lengths_commit_no_memory() {
    let resident_pages = || -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let before = resident_pages();
    let mut connections: Vec<Connection> = (0..64).map(|_| Connection::new(Front::Resp, LIMITS, 64)).collect();
    for connection in &mut connections {
        connection.receive(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc");
        assert_eq!(connection.heard.error, None);
        assert!(connection.decoder.buffered_bytes() < 64);
    }
    let grown_bytes = (resident_pages() - before) * 4096;
    assert!(grown_bytes < 64 << 20, "{grown_bytes} bytes");
}

#[test]
fn nothing_is_kept_once_everything_is_decoded() {
    let mut connection = Connection::new(Front::Resp, LIMITS, 64);
    connection.receive(b"*2\r\n$4\r\nECHO\r\n$100000\r\n");
    connection.receive(&[b'x'; 60_000]);
    assert!(connection.decoder.buffered_bytes() >= 60_000);
    connection.receive(&[b'x'; 40_000]);
    connection.receive(b"\r\n*1\r\n$4\r\nPING\r\n");
    assert_eq!(connection.heard.requests.len(), 2);
    assert_eq!(connection.decoder.buffered_bytes(), 0);
    assert!(format!("{:?}", connection.decoder).contains("None"), "an idle decoder holds no allocation");
}

#[test]
fn time_is_linear_however_small_the_pieces() {
    let args = 100_000;
    let many = format!("*{args}\r\n{}", "$1\r\nx\r\n".repeat(args));
    let large = format!("*2\r\n$4\r\nECHO\r\n$1000000\r\n{}\r\n", "x".repeat(1_000_000));
    let piped = "*1\r\n$4\r\nPING\r\n".repeat(50_000);
    let start = Instant::now();
    for (stream, requests) in [(&many, 1), (&large, 1), (&piped, 50_000)] {
        for body_bytes_min in [16 << 10, usize::MAX] {
            let limits = Limits { body_bytes_min, ..LIMITS };
            let mut connection = Connection::new(Front::Resp, limits, 64);
            stream.as_bytes().iter().for_each(|byte| connection.receive(&[*byte]));
            assert_eq!(connection.heard.requests.len(), requests);
            let mut connection = Connection::new(Front::Resp, limits, 1);
            connection.decoder.hold(stream.as_bytes());
            connection.receive(b"");
            assert_eq!(connection.heard.requests.len(), requests);
        }
    }
    // Quadratic work would be 10^11 bytes looked at: minutes.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// Bytes that look like requests more often than chance would have it.
fn lookalike() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "*1\r\n", "*2\r\n", "*0\r\n", "*-1\r\n", "*", "$", "\r", "\n", "\r\n", "$4\r\nPING\r\n",
            "$4\r\nECHO\r\n", "$1\r\nx\r\n", "$0\r\n\r\n", "$3\r\n", "$12\r\n", "PING", "ECHO ", "\"", "'", "\\",
            "\\x41", " ", "1", "0", "-", "zz",
        ])
        .prop_map(|piece: &str| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(1u8..128, 0..4),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn cut_places(len: usize, cuts: &[prop::sample::Index]) -> Vec<usize> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(len + 1)).collect();
    places.sort_unstable();
    places
}

proptest! {
    #[test]
    fn any_bytes_decode_the_same_however_cut(
        stream in prop_oneof![lookalike(), prop::collection::vec(any::<u8>(), 0..200)],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        requests_max in 1usize..5,
        body_bytes_min in 0usize..20,
    ) {
        let limits = Limits { body_bytes_min, ..LIMITS };
        let whole = decode(&stream, [], limits, 64);
        prop_assert_eq!(&decode(&stream, cut_places(stream.len(), &cuts), limits, requests_max), &whole);
        prop_assert_eq!(&decode(&stream, 0..stream.len(), limits, requests_max), &whole);
    }

    #[test]
    fn any_requests_survive_any_cut(
        requests in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 0..12
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        requests_max in 1usize..5,
        body_bytes_min in 0usize..40,
    ) {
        let mut output = Output::new();
        for request in &requests {
            encode_request(&mut output, &request.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        let stream = output.to_vec();
        let limits = Limits { body_bytes_min, ..LIMITS };
        let heard = decode(&stream, cut_places(stream.len(), &cuts), limits, requests_max);
        let decoder = Front::Resp.decoder();
        let key = requests.first().and_then(|request| request.get(1));
        prop_assert_eq!(decoder.first_key(&stream), key.map(Vec::as_slice));
        let bodies = requests.iter().flatten().filter(|arg| arg.len() >= body_bytes_min).count();
        prop_assert_eq!(heard, Heard { bodies, ..self::heard(requests) });
    }

    #[test]
    fn any_reply_bytes_are_parsed_or_refused(
        bytes in prop_oneof![lookalike(), prop::collection::vec(any::<u8>(), 0..200)],
    ) {
        if let Ok(Some((_, len))) = parse(&bytes) {
            prop_assert_eq!(skip(&bytes), Ok(Some(len)));
        }
    }
}

/// A redis-server of our own, on a socket that nobody else can have.
struct Oracle {
    process: Child,
    directory: tempfile::TempDir,
}

impl Oracle {
    /// `None`, with a message, where there is none.
    fn start() -> Option<Oracle> {
        let directory = tempfile::tempdir().unwrap();
        let spawned = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", "socket"])
            .current_dir(&directory)
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = spawned else {
            eprintln!("skipped: no redis-server to compare with");
            return None;
        };
        let oracle = Oracle { process, directory };
        let deadline = Instant::now() + Duration::from_secs(10);
        while oracle.connect().is_err() {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(oracle)
    }

    fn connect(&self) -> std::io::Result<UnixStream> {
        UnixStream::connect(self.directory.path().join("socket"))
    }

    /// Everything it answers to a stream that then ends.
    fn answer(&self, stream: &[u8]) -> Vec<u8> {
        let mut socket = self.connect().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut writer = socket.try_clone().unwrap();
        let mut answer = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // It may close before it has read everything.
                let _ = writer.write_all(stream);
                let _ = writer.shutdown(Shutdown::Write);
            });
            // After a protocol error unread bytes make it a reset.
            let _ = socket.read_to_end(&mut answer);
        });
        answer
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What redis-server 7.0 answers to requests of PING, ECHO and commands that do not exist.
fn expected_answer(heard: &Heard) -> Vec<u8> {
    let mut answer = Vec::new();
    for args in &heard.requests {
        match (args[0].to_ascii_uppercase().as_slice(), args.len()) {
            (b"PING", 1) => answer.extend(b"+PONG\r\n"),
            (b"PING", 2) | (b"ECHO", 2) => {
                let last = &args[1];
                answer.extend([format!("${}\r\n", last.len()).as_bytes(), last, b"\r\n"].concat());
            }
            (name @ (b"PING" | b"ECHO"), _) => {
                let name = String::from_utf8_lossy(name).to_ascii_lowercase();
                answer.extend(format!("-ERR wrong number of arguments for '{name}' command\r\n").as_bytes());
            }
            _ => answer.extend(unknown_command(args)),
        }
    }
    if let Some(error) = &heard.error {
        answer.extend(format!("-ERR {}\r\n", error.replace(['\r', '\n'], " ")).as_bytes());
    }
    answer
}

fn unknown_command(args: &[Vec<u8>]) -> Vec<u8> {
    // printf's %s ends at a NUL.
    let printed = |bytes: &[u8], max: usize| -> Vec<u8> {
        bytes.iter().copied().take_while(|byte| *byte != 0).take(max).collect()
    };
    let mut shown = Vec::new();
    for arg in &args[1..] {
        if shown.len() >= 128 {
            break;
        }
        let room = 128 - shown.len();
        shown.extend([&b"'"[..], &printed(arg, room), b"' "].concat());
    }
    let name = printed(&args[0], 128);
    let mut line = [&b"-ERR unknown command '"[..], &name, b"', with args beginning with: ", &shown].concat();
    line.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
    line.extend(b"\r\n");
    line
}

#[test]
fn redis_server_hears_the_same() {
    let Some(oracle) = Oracle::start() else { return };
    let good = "*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n";
    let long_line = "1".repeat((64 << 10) + 1);
    let mut streams: Vec<Vec<u8>> = BAD.iter().map(|(bad, _)| format!("{good}{bad}").into_bytes()).collect();
    streams.extend(["", "*", "*1\r\n$", "*1\r\nx"].iter().map(|start| format!("{start}{long_line}").into_bytes()));
    streams.extend(
        [
            "*0\r\n*-1\r\n*-9999999999\r\n\r\n\n \r\n*1\r\n$4\r\nPING\r\n",
            "*1\rX$4\rYPINGab*1\r\n$4\r\nPING\r\n",
            "*2147483647\r\n",
            "*1\r\n$536870912\r\n",
            "PING\nECHO hi\r\nECHO \"\\x41\\n\\\"\" \r\nECHO 'a\\'b\\n'\r\n",
            "ECHO a\x0bb\r\n\x0bPING\r\n zz \"a\"\x0bb\r\n",
        ]
        .map(|stream| stream.as_bytes().to_vec()),
    );
    let mut runner = TestRunner::deterministic();
    streams.extend((0..2000).map(|_| lookalike().new_tree(&mut runner).unwrap().current()));
    let mut errors = 0;
    for stream in &streams {
        let heard =
            decode(stream, [], Limits { request_bytes_max: u64::MAX, body_bytes_min: usize::MAX, ..LIMITS }, 64);
        errors += usize::from(heard.error.is_some());
        let (ours, theirs) = (expected_answer(&heard), oracle.answer(stream));
        let text = String::from_utf8_lossy(stream);
        assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs), "{text:?}");
    }
    assert!(errors > 100 && errors < streams.len() / 2 + 100, "{errors} of {} streams are malformed", streams.len());
}

#[test]
fn redis_server_trusts_a_stranger_as_little() {
    let Some(oracle) = Oracle::start() else { return };
    oracle.answer(b"CONFIG SET requirepass secret\r\n");
    let limits = Limits { is_unauthenticated: true, ..LIMITS };
    for stream in
        ["*11\r\n", "*10\r\n", "*1\r\n$16385\r\n", "*1\r\n$16384\r\n", "*1\r\n$999999999999\r\n", "*4294967296\r\n"]
    {
        let ours = expected_answer(&decode(stream.as_bytes(), [], limits, 64));
        assert_eq!(
            String::from_utf8_lossy(&ours),
            String::from_utf8_lossy(&oracle.answer(stream.as_bytes())),
            "{stream:?}"
        );
    }
}
