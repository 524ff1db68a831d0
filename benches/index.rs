//! What does the index cost by itself: a look-up, an entry more, an entry less?
//!
//! `cargo bench --bench index`. The items have no value, so hardly anything but the index is touched; a look-up of a
//! key that is absent touches nothing else. Once for a table that lies in the cache, once for one that does not.

#![allow(missing_docs, reason = "criterion_main! makes the entry point")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use corering::config::Policy;
use corering::shard::{Expiry, NewValue, Shard, ShardOptions, When};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Look-ups that are made together.
const BATCH: usize = 16;

/// An odd factor spreads numbers over 64 bits.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

fn key(number: u64) -> [u8; 8] {
    number.wrapping_mul(SPREAD).to_le_bytes()
}

fn insert(shard: &mut Shard, number: u64) {
    shard.set(&key(number), NewValue::Copied(b""), Expiry::Never, When::Always, 1);
}

fn filled(items: u64) -> Shard {
    let mut shard = Shard::new(ShardOptions {
        budget_bytes: u64::MAX,
        address_bytes: u64::MAX,
        policy: Policy::Cache,
        huge_pages: false,
        seed: 1,
    });
    (0..items).for_each(|number| insert(&mut shard, number));
    shard
}

fn look_up(criterion: &mut Criterion) {
    for (size, items) in [("10,000 keys", 10_000), ("4 M keys", 4_000_000)] {
        let mut shard = filled(items);
        let mut group = criterion.benchmark_group(format!("index of {size}"));
        group.throughput(Throughput::Elements(BATCH as u64));
        for (name, first) in [("present", 0), ("absent", 1 << 40)] {
            let mut number = 0_u64;
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    let keys: [[u8; 8]; BATCH] = std::array::from_fn(|_| {
                        number = number.wrapping_add(SPREAD);
                        key(first + ((u128::from(number) * u128::from(items)) >> 64) as u64)
                    });
                    let hashes = keys.map(|key| shard.hash(&key));
                    shard.prefetch(&hashes);
                    keys.iter().filter(|key| black_box(shard.get(&key[..], 1)).is_some()).count()
                });
            });
        }
        group.finish();
    }
}

/// Mean of so many changes of a table of so many entries.
fn change(criterion: &mut Criterion) {
    const ITEMS: u64 = 4_000_000;
    let mut group = criterion.benchmark_group("index that grows or shrinks");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    group.bench_function("an entry more", |bencher| {
        bencher.iter_custom(|count| {
            let mut elapsed = Duration::ZERO;
            for first in (0..count).step_by(ITEMS as usize) {
                let mut shard = filled(0);
                let start = Instant::now();
                (0..ITEMS.min(count - first)).for_each(|number| insert(&mut shard, number));
                elapsed += start.elapsed();
            }
            elapsed
        });
    });
    group.bench_function("an entry less", |bencher| {
        bencher.iter_custom(|count| {
            let mut elapsed = Duration::ZERO;
            for first in (0..count).step_by(ITEMS as usize) {
                let mut shard = filled(ITEMS.min(count - first));
                let start = Instant::now();
                (0..ITEMS.min(count - first)).for_each(|number| assert!(shard.delete(&key(number), 1)));
                elapsed += start.elapsed();
            }
            elapsed
        });
    });
    group.finish();
}

criterion_group!(benches, look_up, change);
criterion_main!(benches);
