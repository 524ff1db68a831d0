//! A stream of requests through the decoder of a connection, whole and cut in every way: each time the same is heard.
//! For the fuzz targets, and for the tests of every protocol.

use corering::command::Front;
use corering::protocol::{Decoded, Decoder, Limits, Requests};

pub(crate) type Request = Vec<Vec<u8>>;

/// What a stream is decoded to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Heard {
    /// Without the notes of HTTP that a body is awaited, which depend on how it arrives.
    pub(crate) requests: Vec<Request>,
    /// How many arguments had an allocation of their own.
    pub(crate) bodies: usize,
    pub(crate) error: Option<String>,
    /// The connection is to be closed behind the requests.
    pub(crate) is_last: bool,
}

/// One connection's decoder as a worker uses it.
pub(crate) struct Connection {
    pub(crate) decoder: Decoder,
    batch: Requests,
    limits: Limits,
    requests_max: usize,
    pub(crate) heard: Heard,
}

impl Connection {
    pub(crate) fn new(front: Front, limits: Limits, requests_max: usize) -> Self {
        let (decoder, batch) = (front.decoder(), Requests::default());
        Connection { decoder, batch, limits, requests_max, heard: Heard::default() }
    }

    pub(crate) fn receive(&mut self, mut input: &[u8]) {
        let is_http = matches!(self.decoder, Decoder::Http(_));
        // A hint, of which nothing is asked but that it hurts nobody.
        let _ = self.decoder.first_key(input);
        loop {
            let decoded = self.decoder.decode(input, self.requests_max, &self.limits, &mut self.batch);
            assert!(self.batch.len() <= self.requests_max);
            for index in 0..self.batch.len() {
                let args = self.batch.get(index, decoded.received);
                if !is_http || args.get(0) != b" begin" {
                    self.heard.bodies += (0..args.len()).filter(|place| args.body(*place).is_some()).count();
                    self.heard.requests.push(args.iter().map(<[u8]>::to_vec).collect());
                }
            }
            input = &input[decoded.consumed..];
            let Decoded { error, is_refused, is_full, is_last, .. } = decoded;
            if is_refused {
                self.decoder.acknowledge_refusal();
                self.heard.requests.push(vec![b"refused".to_vec()]);
            }
            self.heard.is_last |= is_last;
            assert_eq!(self.heard.is_last, is_last, "what is over stays so");
            if let Some(error) = error {
                assert!(self.heard.error.as_ref().is_none_or(|before| *before == error.0), "one error, said again");
                self.heard.error = Some(error.0);
            } else if is_full {
                continue;
            }
            assert!(input.is_empty() || is_last, "all is taken over");
            return;
        }
    }
}

/// Decodes a stream that arrives in pieces.
pub(crate) fn decode<'a>(
    front: Front,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: Limits,
    requests_max: usize,
) -> Heard {
    let mut connection = Connection::new(front, limits, requests_max);
    pieces.into_iter().for_each(|piece| connection.receive(piece));
    connection.heard
}

/// Decodes a stream in every way there is, and returns the one result.
#[allow(dead_code, reason = "fuzz targets cut at random")]
pub(crate) fn decode_every_way(front: Front, stream: &[u8], limits: Limits) -> Heard {
    let whole = decode(front, [stream], limits, 64);
    let text = stream.escape_ascii();
    for requests_max in [1, 2, 64] {
        assert_eq!(decode(front, [stream], limits, requests_max), whole, "{text} in batches of {requests_max}");
        for step in [1, 2, 3, 7, 64] {
            assert_eq!(decode(front, stream.chunks(step), limits, requests_max), whole, "{text} in pieces of {step}");
        }
        for cut in 0..stream.len() {
            let (before, after) = stream.split_at(cut);
            assert_eq!(decode(front, [before, after], limits, requests_max), whole, "{text} cut at {cut}");
        }
    }
    for cut in 0..stream.len() {
        let mut connection = Connection::new(front, limits, 2);
        connection.decoder.hold(&stream[..cut]);
        connection.decoder.hold(&stream[cut..]);
        assert_eq!(connection.decoder.buffered_bytes(), stream.len());
        connection.receive(b"");
        assert_eq!(connection.heard, whole, "{text} held, cut at {cut}");
    }
    whole
}

/// The first byte says in pieces of what length the others arrive; they decode to the same as at once.
#[allow(dead_code, reason = "tests choose the cuts themselves")]
pub(crate) fn check(front: Front, bytes: &[u8]) {
    const LIMITS: Limits = Limits {
        bulk_bytes_max: 1 << 20,
        request_bytes_max: 1 << 20,
        body_bytes_min: 32,
        body_room_bytes: 1 << 10,
        is_unauthenticated: false,
    };
    let Some((step, stream)) = bytes.split_first() else { return };
    let step = usize::from(*step) + 1;
    assert_eq!(decode(front, stream.chunks(step), LIMITS, step), decode(front, [stream], LIMITS, 64));
}
