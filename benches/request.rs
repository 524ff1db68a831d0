//! What does a pipelined GET cost of what is ours: parse, command, slot, hash, look-up, encode?
//!
//! `cargo bench --bench request`. Batches of 16 GETs of 16-byte keys drawn from 10,000, whose values have 64 bytes, in
//! the steps in which a worker takes them; a `time` is for one batch, `thrpt` counts requests. The aim is 100 ns a
//! request, 1.6 µs a batch. What the kernel, the ring and a connection's turn cost comes on top.

#![allow(missing_docs, reason = "criterion_main! makes the entry point")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use corering::command::slot::slot_of;
use corering::command::{self, Session};
use corering::config::Settings;
use corering::protocol::resp::{Decoder, Limits, Reply, Version, encode_request};
use corering::protocol::{Output, Requests};
use corering::ring::sim::Random;
use corering::shard::{Expiry, NewValue, Shard, ShardOptions, Stored, When};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BATCH: usize = 16;

const KEYS: usize = 10_000;

fn key(number: usize) -> [u8; 16] {
    format!("key:{number:012}").into_bytes().try_into().expect("sixteen letters")
}

fn filled(settings: &Settings) -> Shard {
    let mut shard = Shard::new(ShardOptions::new(settings, 1, 1));
    for number in 0..KEYS {
        let stored = shard.set(&key(number), NewValue::Copied(&[b'v'; 64]), Expiry::Never, When::Always, 1);
        assert!(matches!(stored, Stored::Done { .. }));
    }
    shard
}

/// Decodes and answers one batch; with the slot of each key where there are several workers.
fn serve(
    stream: &[u8],
    (shard, decoder, batch, output): (&mut Shard, &mut Decoder, &mut Requests, &mut Output),
    (session, settings, limits): (&Session, &Settings, &Limits),
    has_slots: bool,
) {
    let decoded = decoder.decode(stream, BATCH, limits, batch);
    let hashes: [_; BATCH] = std::array::from_fn(|index| shard.hash(batch.get(index, decoded.received).get(1)));
    shard.prefetch(&hashes);
    for index in 0..batch.len() {
        let args = batch.get(index, decoded.received);
        black_box(command::find(session.client(), settings, args).is_ok());
        if has_slots {
            black_box(slot_of(args.get(1)));
        }
        let item = shard.get(args.get(1), 1).expect("every key is there");
        Reply { output, version: Version::Resp2 }.bulk(item.value);
    }
}

fn request(criterion: &mut Criterion) {
    let (session, settings) = (Session::default(), Settings::default());
    let (mut shard, mut random, limits) = (filled(&settings), Random::new(1), Limits::new(&settings));
    let (mut decoder, mut batch, mut output) = (Decoder::default(), Requests::default(), Output::new());
    let mut group = criterion.benchmark_group("request");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, has_slots) in [("GET, one worker", false), ("GET, several workers", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|batches| {
                let mut taken = Duration::ZERO;
                for _ in 0..batches {
                    let mut stream = Output::new();
                    (0..BATCH).for_each(|_| encode_request(&mut stream, &[b"GET", &key(random.below(KEYS))]));
                    let stream = stream.to_vec();
                    output.clear();
                    let start = Instant::now();
                    let state = (&mut shard, &mut decoder, &mut batch, &mut output);
                    serve(black_box(&stream), state, (&session, &settings, &limits), has_slots);
                    taken += start.elapsed();
                    assert_eq!(output.len(), BATCH * "$64\r\n\r\n".len() + BATCH * 64);
                }
                taken
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = request
}
criterion_main!(benches);
