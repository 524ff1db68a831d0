//! How fast is the shard beside what one would write without it: a hash table, boxed keys and values, an LRU list?
//!
//! `cargo bench --bench shard` takes some minutes and 6 GiB; `CORERING_BENCH_ITEMS=1000000` less of both, and
//! `CORERING_BENCH_HUGE_PAGES=no` leaves the shard with small pages. Random keys of 16 bytes, values of 32, 16 at a
//! time as in a pipeline. Both run in turn, in windows of 16,384 items, so that each finds the processor's caches as
//! itself has left them. What a worker leaves to the kernel's threads, populating memory ahead, is timed by itself. A
//! ratio is the median of the windows' (of `grow` the ratio of the means).
//!
//! | row       | what happens                                             | at most, times the boxed one |
//! |-----------|----------------------------------------------------------|------------------------------|
//! | hit       | GET of keys that are there                               | 1/3                          |
//! | miss      | GET of keys that are not                                 | 2.2                          |
//! | overwrite | SET of keys that are there                               | 1                            |
//! | replace   | SET of new keys into a full cache, each evicts another   | 1                            |
//! | grow      | SET of new keys into an empty cache until it is full     | 1.6                          |

#![allow(missing_docs, reason = "criterion_main! makes the entry point")]
#![allow(clippy::print_stdout, reason = "the tables are what it is for")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ahash::RandomState;
use corering::config::Policy;
use corering::shard::{Expiry, NewValue, Shard, ShardOptions, When};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Look-ups that are made together.
const BATCH: usize = 16;

const VALUE: [u8; 32] = [b'v'; 32];

/// Bytes of an item with everything that belongs to it, roughly: what a budget for a number of items is made from.
const ITEM_BYTES: u64 = 72;

fn huge_pages() -> bool {
    std::env::var("CORERING_BENCH_HUGE_PAGES").map_or(true, |choice| choice != "no")
}

fn items() -> u64 {
    let items = std::env::var("CORERING_BENCH_ITEMS").ok();
    items.map_or(10_000_000, |items| items.parse().expect("CORERING_BENCH_ITEMS is a number of items"))
}

/// The key of a number.
fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(number).to_le_bytes());
    key[8..].copy_from_slice(&number.to_le_bytes());
    key
}

/// The keys of a number and those after it.
fn keys(first: u64) -> [[u8; 16]; BATCH] {
    std::array::from_fn(|at| key(first + at as u64))
}

fn mix(number: u64) -> u64 {
    let mixed = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ mixed >> 31
}

/// What is compared.
trait Cache {
    /// One for about so many items.
    fn new(items: u64) -> Self;
    /// Looks keys up; how many were there.
    fn get(&mut self, keys: &[[u8; 16]; BATCH]) -> usize;
    /// Stores under all of them.
    fn set(&mut self, keys: &[[u8; 16]; BATCH]);
    fn len(&self) -> u64;
    /// What a worker has others do meanwhile.
    fn populate(&mut self) {}
}

impl Cache for Shard {
    fn new(items: u64) -> Self {
        Shard::new(ShardOptions {
            budget_bytes: items * ITEM_BYTES,
            address_bytes: u64::MAX,
            policy: Policy::Cache,
            huge_pages: huge_pages(),
            seed: 1,
        })
    }

    fn get(&mut self, keys: &[[u8; 16]; BATCH]) -> usize {
        prefetch(self, keys);
        keys.iter().filter(|key| Shard::get(self, &key[..], 1).is_some_and(|item| item.value[0] == VALUE[0])).count()
    }

    fn set(&mut self, keys: &[[u8; 16]; BATCH]) {
        prefetch(self, keys);
        for key in keys {
            Shard::set(self, key, NewValue::Copied(&VALUE), Expiry::Never, When::Always, 1);
        }
    }

    fn len(&self) -> u64 {
        Shard::len(self) as u64
    }

    fn populate(&mut self) {
        while let Some(advice) = self.advise() {
            // Refused where the kernel has no large pages.
            let _ = advice.give();
            self.advised();
        }
    }
}

/// What a worker does with the keys of a pipeline before it executes the requests.
fn prefetch(shard: &Shard, keys: &[[u8; 16]; BATCH]) {
    shard.prefetch(&keys.map(|key| shard.hash(&key)));
}

/// An item in the list, the least recently used one last.
struct Node {
    key: Box<[u8]>,
    value: Box<[u8]>,
    before: u32,
    after: u32,
}

const NONE: u32 = u32::MAX;

/// A hash table of numbers of nodes, and a list through these.
struct Boxed {
    table: HashTable<u32>,
    nodes: Vec<Node>,
    hasher: RandomState,
    first: u32,
    last: u32,
    items_max: usize,
}

impl Boxed {
    fn unlink(&mut self, at: u32) {
        let Node { before, after, .. } = self.nodes[at as usize];
        match before {
            NONE => self.first = after,
            before => self.nodes[before as usize].after = after,
        }
        match after {
            NONE => self.last = before,
            after => self.nodes[after as usize].before = before,
        }
    }

    fn link_first(&mut self, at: u32) {
        let first = std::mem::replace(&mut self.first, at);
        (self.nodes[at as usize].before, self.nodes[at as usize].after) = (NONE, first);
        match first {
            NONE => self.last = at,
            first => self.nodes[first as usize].before = at,
        }
    }

    fn touch(&mut self, at: u32) {
        if self.first != at {
            self.unlink(at);
            self.link_first(at);
        }
    }

    fn set_one(&mut self, key: &[u8]) {
        let hash = self.hasher.hash_one(key);
        if let Some(at) = self.table.find(hash, |at| *self.nodes[*at as usize].key == *key).copied() {
            self.nodes[at as usize].value.copy_from_slice(&VALUE);
            return self.touch(at);
        }
        let at = self.node(key);
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        let entry = self.table.entry(hash, |_| false, |at| hasher.hash_one(&nodes[*at as usize].key[..]));
        if let Entry::Vacant(vacant) = entry {
            vacant.insert(at);
        }
        self.link_first(at);
    }

    /// A node for a new item: a fresh one, or that of the item that was not used for longest.
    fn node(&mut self, key: &[u8]) -> u32 {
        let node = Node { key: key.into(), value: VALUE[..].into(), before: NONE, after: NONE };
        if self.nodes.len() < self.items_max {
            self.nodes.push(node);
            return self.nodes.len() as u32 - 1;
        }
        let at = self.last;
        self.unlink(at);
        let hash = self.hasher.hash_one(&self.nodes[at as usize].key[..]);
        let entry = self.table.find_entry(hash, |other| *other == at);
        entry.expect("every node is in the table").remove();
        self.nodes[at as usize] = node;
        at
    }
}

impl Cache for Boxed {
    fn set(&mut self, keys: &[[u8; 16]; BATCH]) {
        keys.iter().for_each(|key| self.set_one(key));
    }

    fn new(items: u64) -> Self {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        let items_max = items as usize;
        Self { table: HashTable::new(), nodes: Vec::new(), hasher, first: NONE, last: NONE, items_max }
    }

    fn get(&mut self, keys: &[[u8; 16]; BATCH]) -> usize {
        let mut found = 0;
        for key in keys {
            let hash = self.hasher.hash_one(&key[..]);
            if let Some(at) = self.table.find(hash, |at| self.nodes[*at as usize].key[..] == key[..]).copied() {
                self.touch(at);
                found += usize::from(self.nodes[at as usize].value[0] == VALUE[0]);
            }
        }
        found
    }

    fn len(&self) -> u64 {
        self.nodes.len() as u64
    }
}

/// What was measured.
#[derive(Default)]
struct Samples {
    /// Nanoseconds for one item of both caches, in each round, by row.
    rounds: BTreeMap<&'static str, Vec<[f64; 2]>>,
    /// Time that the shard's memory took to be populated, by row.
    populating: BTreeMap<&'static str, Duration>,
    /// No two batches have the same keys.
    last: u64,
}

/// Batches of one cache before it is the other's turn.
const WINDOW: u64 = 1024;

const ROWS: [(&str, f64); 5] = [("hit", 1.0 / 3.0), ("miss", 2.2), ("overwrite", 1.0), ("replace", 1.0), ("grow", 1.6)];

fn compare(criterion: &mut Criterion) {
    let mut samples = Samples::default();
    let (mut shard, mut boxed): (Shard, Boxed) = (Cache::new(items()), Cache::new(items()));
    // All of them fit, or almost.
    for number in (0..items() * 9 / 10).step_by(BATCH) {
        Cache::set(&mut shard, &keys(number));
        shard.populate();
        boxed.set(&keys(number));
    }
    for (row, _) in ROWS {
        let mut group = criterion.benchmark_group(row);
        group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20).measurement_time(Duration::from_secs(5));
        // Both in turn, so that the host's moods are the same for both; the time of the one is criterion's.
        group.bench_function("shard", |bencher| {
            bencher.iter_custom(|count| run(&mut shard, &mut boxed, row, count, &mut samples));
        });
        group.finish();
        // Growth is rare and sudden, and small caches grow unlike large ones: whole growths count.
        while row == "grow" && samples.rounds.contains_key(row) && !is_full(&shard) {
            run(&mut shard, &mut boxed, row, WINDOW, &mut samples);
        }
    }
    println!(
        "{:10} {:>10} {:>10} {:>8} {:>8} {:>14}",
        "", "shard, ns", "boxed, ns", "ratio", "limit", "populating, ns"
    );
    for (row, limit) in ROWS {
        let Some(rounds) = samples.rounds.get(row) else { continue }; // Not chosen on the command line.
        let mean = |column: fn(&[f64; 2]) -> f64| rounds.iter().map(column).sum::<f64>() / rounds.len() as f64;
        let (shard, boxed) = (mean(|[shard, _]| *shard), mean(|[_, boxed]| *boxed));
        let mut ratios: Vec<f64> = rounds.iter().map(|[shard, boxed]| shard / boxed).collect();
        ratios.sort_by(f64::total_cmp);
        // A table that grows all at once does so in few of the rounds: its mean counts.
        let ratio = if row == "grow" { shard / boxed } else { ratios[ratios.len() / 2] };
        let populating =
            samples.populating[row].as_nanos() as f64 / (rounds.len() as u64 * WINDOW * BATCH as u64) as f64;
        println!("{row:10} {shard:>10.1} {boxed:>10.1} {ratio:>8.2} {limit:>8.2} {populating:>14.1}");
    }
}

/// At least `count` batches of what a row is about, in whole windows, with both caches; the time that `count` of them
/// take the first.
fn run(shard: &mut Shard, boxed: &mut Boxed, row: &'static str, count: u64, samples: &mut Samples) -> Duration {
    let windows = count.div_ceil(WINDOW);
    let mut total = Duration::ZERO;
    for _ in 0..windows {
        let ours = window(shard, row, samples.last);
        let start = Instant::now();
        shard.populate();
        *samples.populating.entry(row).or_default() += start.elapsed();
        let theirs = window(boxed, row, samples.last);
        samples.last += WINDOW * BATCH as u64;
        let nanos = |elapsed: Duration| elapsed.as_nanos() as f64 / (WINDOW * BATCH as u64) as f64;
        samples.rounds.entry(row).or_default().push([nanos(ours), nanos(theirs)]);
        total += ours;
    }
    total.mul_f64(count as f64 / (windows * WINDOW) as f64)
}

/// Whether two more windows of new items are too many for it.
fn is_full(cache: &impl Cache) -> bool {
    cache.len() + 2 * WINDOW * BATCH as u64 > items() * 9 / 10
}

fn window<C: Cache>(cache: &mut C, row: &'static str, first: u64) -> Duration {
    let items = items();
    if row == "grow" && is_full(cache) {
        *cache = C::new(items);
        // What the allocator has put off when the old one was freed is not growth.
        (0..WINDOW * BATCH as u64).step_by(BATCH).for_each(|number| cache.set(&keys(number | 1 << 61)));
        cache.populate();
    }
    let number_of: fn(u64, u64) -> u64 = match row {
        "hit" | "overwrite" => |number, items| mix(number) % (items / 2),
        "miss" => |number, _| mix(number) | 1 << 63,
        _ => |number, _| number | 1 << 62,
    };
    // Making them up is not what is measured.
    let batch = |at: u64| std::array::from_fn(|of| key(number_of(first + at * BATCH as u64 + of as u64, items)));
    let batches: Vec<[[u8; 16]; BATCH]> = (0..WINDOW).map(batch).collect();
    let start = Instant::now();
    for keys in &batches {
        match row {
            "hit" | "miss" => _ = black_box(cache.get(keys)),
            _ => cache.set(keys),
        }
    }
    start.elapsed()
}

criterion_group!(benches, compare);
criterion_main!(benches);
