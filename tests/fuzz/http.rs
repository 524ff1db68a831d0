//! Any bytes on the HTTP port, cut anywhere, decode to the same requests as the whole; the first byte says how they are
//! cut.

#![no_main]

use corering::protocol::http::Decoder;
use corering::protocol::{Limits, Requests};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    bulk_bytes_max: 1 << 20,
    request_bytes_max: 1 << 20,
    body_bytes_min: 32,
    body_room_bytes: 1 << 10,
    is_unauthenticated: false,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((step, stream)) = bytes.split_first() else { return };
    let step = usize::from(*step) + 1;
    assert_eq!(decode(stream.chunks(step), step), decode([stream], 64));
});

/// The requests, and whether the connection is to be closed behind them. That a body is awaited depends on the cuts.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, requests_max: usize) -> (Vec<Vec<Vec<u8>>>, bool) {
    let (mut decoder, mut batch) = (Decoder::default(), Requests::default());
    let mut requests = Vec::new();
    for mut input in pieces {
        loop {
            let decoded = decoder.decode(input, requests_max, &LIMITS, &mut batch);
            let args = |index| batch.get(index, decoded.received).iter().map(<[u8]>::to_vec).collect();
            let whole = (0..batch.len()).map(args).filter(|args: &Vec<Vec<u8>>| args[0] != b" begin");
            requests.extend(whole);
            input = &input[decoded.consumed..];
            if decoded.is_last {
                return (requests, true);
            }
            if !decoded.is_full {
                break;
            }
        }
    }
    (requests, false)
}
