//! A stream of requests decodes to the same, wherever it is cut.

use corering::protocol::memcache::Decoder;
use corering::protocol::{Limits, Requests};
use corering::ring::sim::Random;

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

/// The requests, and the error that follows them.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, requests_max: usize) -> (Vec<Vec<Vec<u8>>>, Option<String>) {
    let (mut decoder, mut batch) = (Decoder::default(), Requests::default());
    let mut requests = Vec::new();
    for mut input in pieces {
        loop {
            let decoded = decoder.decode(input, requests_max, &LIMITS, &mut batch);
            let args = |index| batch.get(index, decoded.received).iter().map(<[u8]>::to_vec).collect();
            requests.extend((0..batch.len()).map(args));
            input = &input[decoded.consumed..];
            if let Some(error) = decoded.error {
                return (requests, Some(error.0));
            }
            if !decoded.is_full {
                assert!(input.is_empty(), "all is taken over");
                break;
            }
        }
    }
    assert!(decoder.buffered_bytes() <= STREAM.len());
    (requests, None)
}

#[test]
fn requests_are_the_same_wherever_they_are_cut() {
    let (whole, error) = decode([STREAM], 1000);
    assert_eq!((whole.len(), error), (25, None), "{:#?}", show(&whole));
    for cut in 0..=STREAM.len() {
        let (before, after) = STREAM.split_at(cut);
        assert_eq!(decode([before, after], 1000), (whole.clone(), None), "cut at {cut}");
    }
    for step in 1..200 {
        for requests_max in [1, 3, 1000] {
            let pieces = STREAM.chunks(step);
            assert_eq!(decode(pieces, requests_max), (whole.clone(), None), "pieces of {step}, {requests_max} a batch");
        }
    }
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
        let whole = decode([&stream[..]], 1000);
        let step = 1 + random.below(stream.len());
        let cut = decode(stream.chunks(step), 1 + random.below(4));
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
    for (stream, requests) in rows {
        for step in 1..=stream.len() {
            let (heard, error) = decode(stream.as_bytes().chunks(step), 1000);
            assert_eq!(
                (show(&heard), error),
                (requests.iter().map(|row| row.to_string()).collect(), None),
                "{stream:?}"
            );
        }
    }
}

fn show(requests: &[Vec<Vec<u8>>]) -> Vec<String> {
    requests.iter().map(|args| args.join(&b'|').escape_ascii().to_string()).collect()
}
