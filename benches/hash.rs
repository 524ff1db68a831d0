//! What does it cost to find out where a key belongs?
//!
//! `cargo bench --bench hash`. Its slot, which says on which core it lives, is the CRC16 of its tag, as Redis Cluster
//! has it; its hash says where in the shard. Both are computed once per request. A `time` is for 64 different keys;
//! `thrpt` counts single keys.

#![allow(missing_docs, reason = "criterion_main! makes the entry point")]

use std::hint::black_box;

use corering::command::slot::{crc16, slot_of};
use corering::config::Policy;
use corering::shard::{Shard, ShardOptions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BATCH: usize = 64;

fn hash(criterion: &mut Criterion) {
    let shard = Shard::new(ShardOptions {
        budget_bytes: u64::MAX,
        address_bytes: u64::MAX,
        policy: Policy::Cache,
        huge_pages: false,
        seed: 1,
    });
    let keys = |len: usize| -> Vec<String> { (0..BATCH).map(|number| format!("{number:0len$}")).collect() };
    let tagged = (0..BATCH).map(|number| format!("cart:{{user:{number:04}}}:items")).collect();
    let rows: [(&str, Vec<String>); 4] =
        [("8 bytes", keys(8)), ("16 bytes", keys(16)), ("64 bytes", keys(64)), ("23 bytes with a tag", tagged)];
    for (name, keys) in &rows {
        let mut group = criterion.benchmark_group(format!("key of {name}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function("crc16", |bencher| {
            bencher.iter(|| keys.iter().map(|key| u32::from(crc16(black_box(key.as_bytes())))).sum::<u32>());
        });
        group.bench_function("slot", |bencher| {
            bencher.iter(|| keys.iter().map(|key| u32::from(slot_of(black_box(key.as_bytes())))).sum::<u32>());
        });
        group.bench_function("hash", |bencher| {
            bencher.iter(|| keys.iter().for_each(|key| _ = black_box(shard.hash(black_box(key.as_bytes())))));
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = hash
}
criterion_main!(benches);
