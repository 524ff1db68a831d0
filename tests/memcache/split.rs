//! A stream of requests decodes to the same, wherever it is cut.

use corering::command::Front;
use corering::protocol::Limits;
use corering::ring::sim::Random;

use super::decode::{Request, decode, decode_every_way};

const LIMITS: Limits = Limits {
    bulk_bytes_max: 100,
    request_bytes_max: 1 << 20,
    body_bytes_min: 32,
    body_room_bytes: 90,
    is_unauthenticated: false,
};

/// Every shape of request: whole, quiet, refused, too large, without room, in base64, with a bad data block.
const STREAM: &[u8] = b"get a\r\nget a b  c\nset k 1 2 3\r\nabc\r\nset k 1 2 3 noreply\r\na\r\n\r\nms k 0\r\n\r\n\
    set large 0 0 40\r\n0123456789012345678901234567890123456789\r\nmg YQ== b v\r\nmg bad= b\r\n\
    set toolarge 0 0 101\r\n01234567890123456789012345678901234567890123456789012345678901234567890123456789\
    012345678901234567890\r\nset noroom 0 0 95 noreply\r\n0123456789012345678901234567890123456789\
    0123456789012345678901234567890123456789012345678901234\r\n\r\n   \r\nset a 0 0 2\r\nxyz\r\nset a 0 0 2 noreply\r\n\
    xyz\r\nset a 0 0 40\r\n0123456789012345678901234567890123456789xx\r\nset a x 0 1\r\nset a x 0 1 noreply\r\n\
    cas k 1 2 1 99\r\n\n\r\nms k 2 T0 F1 I\r\nab\r\nms k 1 2 3 4 5 6 7 8 9 a b c d e f g h i j\r\nx\r\n\
    mn\r\nquit\r\nincr n 1\r\n";

#[test]
fn requests_are_the_same_wherever_they_are_cut() {
    let heard = decode_every_way(Front::Memcache, STREAM, LIMITS);
    assert_eq!((heard.requests.len(), heard.error), (25, None), "{:#?}", show(&heard.requests));
}

#[test]
fn random_bytes_are_the_same_wherever_they_are_cut() {
    const WORDS: &[&[u8]] = &[
        b"get",
        b"set",
        b"ms",
        b"mg",
        b"cas",
        b" ",
        b" k",
        b" 0",
        b" 5",
        b" 40",
        b" 200",
        b"\r\n",
        b"\n",
        b"\r",
        b"hello\r\n",
        b" noreply",
        b" b",
        b" YQ==",
        b"\0",
        b"\x80",
        b" -1",
    ];
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let stream: Vec<u8> = (0..60).flat_map(|_| WORDS[random.below(WORDS.len())].to_vec()).collect();
        let whole = decode(Front::Memcache, [&stream[..]], LIMITS, 1000);
        let step = 1 + random.below(stream.len());
        let cut = decode(Front::Memcache, stream.chunks(step), LIMITS, 1 + random.below(4));
        assert_eq!(cut, whole, "seed {seed}, pieces of {step}: {}", stream.escape_ascii());
    }
}

/// Data blocks without a line end: who wants no reply gets none, but for `ms`, which knows no `noreply`.
#[test]
fn data_without_a_line_end_is_refused_wherever_it_is_cut() {
    const BAD: &str = " bad|CLIENT_ERROR bad data chunk";
    const FLAG: &str = " bad|CLIENT_ERROR invalid flag";
    // The data, with what stands for its line end, ends in mid-line where no line end lies before the next line.
    let rows: &[(&str, &[&str])] = &[
        ("set k 0 0 3\r\nabc\rJms k 0 0 40 noreply\r\n0123456789", &[BAD, FLAG]),
        ("set k 0 0 3\r\nabcxxset k 0 0 1 noreply\r\n123mn\r\n", &[BAD, "mn"]),
        ("set k 0 0 3\r\nabcxxset k 0 0 1 noreply \r\n123mn\r\n", &[BAD, "mn"]),
        ("set k 0 0 3\r\nabcxxms k 1 noreply\n123mn\r\n", &[BAD, FLAG, "mn"]),
        ("set k 0 0 40 noreply\r\n0123456789012345678901234567890123456789xxmn\r\n", &["mn"]),
        ("ms k 1 q c\r\n123mn\r\n", &[BAD, "mn"]),
        ("ms k 40 noreply\r\n0123456789012345678901234567890123456789xxmn\r\n", &[FLAG, "mn"]),
    ];
    let to_owned = |requests: &[&str]| requests.iter().map(|request| (*request).to_owned()).collect::<Vec<_>>();
    for (stream, requests) in rows {
        let heard = decode_every_way(Front::Memcache, stream.as_bytes(), LIMITS);
        assert_eq!(
            (show(&heard.requests).as_slice(), heard.error),
            (to_owned(requests).as_slice(), None),
            "{stream:?}"
        );
    }
}

fn show(requests: &[Request]) -> Vec<String> {
    requests.iter().map(|args| args.join(&b'|').escape_ascii().to_string()).collect()
}
