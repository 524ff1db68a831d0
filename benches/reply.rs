//! What does it cost to encode a reply?
//!
//! `cargo bench --bench reply`. A `time` is for a batch of 64, as a pipeline has them; `thrpt` counts single replies.

#![allow(missing_docs, reason = "criterion_main! makes the entry point")]

use std::hint::black_box;

use corering::protocol::Output;
use corering::protocol::resp::{Reply, Version};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BATCH: usize = 64;

fn reply(criterion: &mut Criterion) {
    type Write = fn(&mut Reply<'_>);
    let rows: &[(&str, Write)] = &[
        ("OK", |reply| reply.simple(black_box("OK"))),
        ("null", |reply| reply.null()),
        ("integer of 1 digit", |reply| reply.integer(black_box(1))),
        ("integer of 3 digits", |reply| reply.integer(black_box(123))),
        ("integer of 10 digits", |reply| reply.integer(black_box(1_234_567_890))),
        ("bulk of 64 bytes", |reply| reply.bulk(black_box(&[b'v'; 64]))),
        ("bulk of 4 KiB", |reply| reply.bulk(black_box(&[b'v'; 4096]))),
        ("error", |reply| reply.error(black_box("WRONGTYPE Operation against a key holding the wrong kind of value"))),
    ];
    let mut group = criterion.benchmark_group("reply");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, write) in rows {
        let mut output = Output::new();
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                output.clear();
                for _ in 0..BATCH {
                    write(&mut Reply { output: &mut output, version: black_box(Version::Resp2) });
                }
                output.len()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = reply
}
criterion_main!(benches);
