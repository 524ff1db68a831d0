//! What does it cost to parse a request?
//!
//! `cargo bench --bench parse`. A `time` is for a batch of 64, as a pipeline has them; `thrpt` counts single requests.
//! The aim for a GET of a 16-byte key is 25 ns, 1.6 µs for the batch. `skip` is the same for replies, as a client or a
//! test reads them.

#![allow(missing_docs, reason = "criterion_main! makes the entry point")]

use std::hint::black_box;

use corering::config::Settings;
use corering::protocol::resp::{Decoder, Limits, Reply, Skipper, Version, encode_request};
use corering::protocol::{Output, Requests};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BATCH: usize = 64;

fn parse(criterion: &mut Criterion) {
    let limits = Limits::new(&Settings::default());
    let (value, page) = ([b'v'; 64], [b'v'; 4096]);
    let keys: Vec<String> = (0..100).map(|key| format!("key:{key:012}")).collect();
    let key = keys[0].as_bytes();
    let mget: Vec<&[u8]> = std::iter::once(&b"MGET"[..]).chain(keys.iter().map(String::as_bytes)).collect();
    let rows: &[(&str, Vec<&[u8]>)] = &[
        ("PING", vec![b"PING"]),
        ("GET of a 16-byte key", vec![b"GET", key]),
        ("SET of 64 bytes", vec![b"SET", key, &value]),
        ("SET of 4 KiB", vec![b"SET", key, &page]),
        ("MGET of 100 keys", mget),
    ];
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, args) in rows {
        let mut stream = Output::new();
        (0..BATCH).for_each(|_| encode_request(&mut stream, args));
        let stream = stream.to_vec();
        let (mut decoder, mut batch) = (Decoder::default(), Requests::default());
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                let decoded = decoder.decode(black_box(&stream), BATCH, &limits, &mut batch);
                assert_eq!((decoded.consumed, batch.len()), (stream.len(), BATCH));
            });
        });
    }
    let inline = b"GET key:000000000042\r\n".repeat(BATCH);
    let (mut decoder, mut batch) = (Decoder::default(), Requests::default());
    group.bench_function("inline GET", |bencher| {
        bencher.iter(|| decoder.decode(black_box(&inline), BATCH, &limits, &mut batch).consumed);
    });
    let mut stream = Output::new();
    (0..BATCH).for_each(|_| encode_request(&mut stream, &[b"GET", key]));
    let stream = stream.to_vec();
    group.bench_function("GET cut in the middle of the batch", |bencher| {
        bencher.iter(|| {
            let (first, second) = black_box(&stream).split_at(stream.len() / 2 + 10);
            decoder.decode(first, BATCH, &limits, &mut batch);
            decoder.decode(second, BATCH, &limits, &mut batch);
        });
    });
    group.finish();
}

fn skip(criterion: &mut Criterion) {
    let mut output = Output::new();
    let mut reply = Reply { output: &mut output, version: Version::Resp2 };
    (0..BATCH).for_each(|_| reply.bulk(&[b'v'; 64]));
    let stream = output.to_vec();
    let mut group = criterion.benchmark_group("skip");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("bulk of 64 bytes", |bencher| {
        bencher.iter(|| {
            let (mut skipper, mut at) = (Skipper::default(), 0);
            for _ in 0..BATCH {
                at += skipper.skip(black_box(&stream[at..])).map_or(0, |skipped| skipped.consumed);
            }
            assert_eq!(at, stream.len());
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = parse, skip
}
criterion_main!(benches);
