//! How long does the longest call of the shard take?
//!
//! `cargo bench --bench pauses` takes some minutes and 2 GiB; `CORERING_BENCH_ITEMS=1000000` less of both. A shard gets
//! twice as many new items as fit, with a slice of maintenance after every 16, as a worker does it; what a worker
//! leaves to the kernel's threads, populating memory ahead, is done between the calls. The shortest of three runs'
//! times of a call is what the call takes; the rest is the host's.
//!
//! `cargo bench --bench pauses -- --clear` removes everything from a full shard of 4 GiB instead: the call, and the
//! longest slice of the maintenance that gives the memory back.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::time::{Duration, Instant};

use corering::config::Policy;
use corering::shard::{Expiry, NewValue, Shard, ShardOptions, When};

/// The longest that a call may take.
const CALL_MAX: Duration = Duration::from_micros(50);

const RUNS: usize = 3;

/// Bytes of an item with everything that belongs to it, roughly.
const ITEM_BYTES: u64 = 72;

const VALUE: [u8; 32] = [b'v'; 32];

/// Items between two slices of maintenance.
const BATCH: u64 = 16;

fn main() {
    if std::env::args().any(|argument| argument == "--clear") {
        return (0..RUNS).for_each(|_| clear_full());
    }
    let items = std::env::var("CORERING_BENCH_ITEMS").ok();
    let items: u64 =
        items.map_or(10_000_000, |items| items.parse().expect("CORERING_BENCH_ITEMS is a number of items"));
    println!("{:34} {:>12} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "calls", "p50", "p99", "p99.99", "longest", "limit");
    for (name, ttl_ms) in [("2 × items, none of which expire", None), ("2 × items that expire in bursts", Some(3))] {
        let mut least = vec![u32::MAX; (2 * items + 2 * items / BATCH) as usize];
        (0..RUNS).for_each(|_| run(items, ttl_ms, &mut least));
        least.sort_unstable();
        let at = |share: f64| Duration::from_nanos(least[((least.len() - 1) as f64 * share) as usize].into());
        println!(
            "{name:34} {:>12} {:>9.0?} {:>9.0?} {:>9.1?} {:>9.1?} {CALL_MAX:>9.0?}",
            least.len(),
            at(0.5),
            at(0.99),
            at(0.9999),
            at(1.0),
        );
    }
}

/// Removes everything: with small items, with large ones, and from a shard that has grown from 2 MiB, whose segments
/// are as small as that asked for.
fn clear_full() {
    const BUDGET: u64 = 4 << 30;
    for (name, begin, len) in [("1,000 bytes", BUDGET, 1000), ("20,000 bytes", BUDGET, 20_000), ("grown", 2 << 20, 500)]
    {
        let mut shard = Shard::new(ShardOptions {
            budget_bytes: begin,
            address_bytes: u64::MAX,
            policy: Policy::Cache,
            huge_pages: false,
            seed: 1,
        });
        let value = vec![b'v'; len];
        let mut number = 0_u64;
        let mut set = |shard: &mut Shard| {
            shard.set(&number.to_le_bytes(), NewValue::Copied(&value), Expiry::Never, When::Always, 1);
            number += 1;
        };
        (0..100).for_each(|_| set(&mut shard));
        shard.resize(BUDGET);
        while shard.stats().evicted == 0 {
            set(&mut shard);
        }
        let start = Instant::now();
        shard.clear();
        let clear = start.elapsed();
        let mut longest = Duration::ZERO;
        loop {
            let start = Instant::now();
            let has_more = shard.maintain(2);
            longest = longest.max(start.elapsed());
            if !has_more {
                break;
            }
        }
        println!("{name:16} {number:>10} items: {clear:>9.0?}, then slices of {longest:>9.0?} at most");
    }
}

/// Makes the calls, and lowers the time of each to what it took this time, nanoseconds. With a time to live, a tenth
/// of the items expires at once, again and again.
fn run(items: u64, ttl_ms: Option<u64>, least: &mut [u32]) {
    let mut calls = least.iter_mut();
    let mut time = |start: Instant| {
        let nanos = start.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32;
        let least = calls.next().expect("as many calls in each run");
        *least = nanos.min(*least);
    };
    let mut shard = Shard::new(ShardOptions {
        budget_bytes: items * ITEM_BYTES,
        address_bytes: u64::MAX,
        policy: Policy::Cache,
        huge_pages: true,
        seed: 1,
    });
    for number in 0..items * 2 {
        let now = 10_000 + number / (items / 10);
        let expiry = ttl_ms.map_or(Expiry::Never, |ttl_ms| Expiry::At(now + ttl_ms));
        let start = Instant::now();
        shard.set(&u128::from(number).to_le_bytes(), NewValue::Copied(&VALUE), expiry, When::Always, now);
        time(start);
        if number % BATCH == BATCH - 1 {
            let start = Instant::now();
            shard.maintain(now);
            time(start);
            while let Some(advice) = shard.advise() {
                // Refused where the kernel has no large pages.
                let _ = advice.give();
                shard.advised();
            }
        }
    }
}
