//! How well the shard chooses what to keep: misses of recorded or made-up requests at a share of their footprint.
//!
//! `cargo bench --bench hitratio -- [--share 1,10] [--policy cache,allkeys-lru] [--json] [TRACE …]`
//!
//! In: trace files (CTR1, plain or zstd), or none for a workload of Zipf requests with scans. Out: a table of objects
//! and bytes missed, per policy, with an exact LRU of the same number of objects (or bytes) for reference. The shard
//! is the real one: the budget is what the share of the items takes with everything that belongs to them.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use corering::config::Policy;
use corering::load::trace::Trace;
use corering::shard::{Expiry, NewValue, Shard, ShardOptions, Stored, When};

/// Bytes of an item beyond key and value that a budget has to provide for: index, header, ghost, unfinished segments.
const OVERHEAD_BYTES: u64 = 20;

/// Bytes of each key; values of traces without sizes have as many as a small session has.
const KEY_BYTES: u64 = 8;
const UNIT_VALUE_BYTES: u32 = 64;

/// Objects below which segments are too few to say anything.
const OBJECTS_MIN: u64 = 5_000;

struct Options {
    shares: Vec<f64>,
    policies: Vec<(&'static str, Policy)>,
    is_json: bool,
    traces: Vec<PathBuf>,
}

fn main() {
    let options = options();
    let mut rows = Vec::new();
    let workloads: Vec<(String, Trace)> = if options.traces.is_empty() {
        vec![("zipf-with-scans".to_owned(), zipf_with_scans())]
    } else {
        let load =
            |path: &PathBuf| Trace::load(path).unwrap_or_else(|error| fail(&format!("{}: {error}", path.display())));
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        options.traces.iter().map(|path| (name(path), load(path))).collect()
    };
    for (name, trace) in &workloads {
        for share in &options.shares {
            rows.extend(measure(name, trace, *share, &options.policies));
        }
    }
    if options.is_json {
        println!("{}", serde_json::to_string_pretty(&rows).expect("rows are plain"));
    } else {
        println!("{:28} {:>6} {:>16} {:>9} {:>9} {:>9}", "trace", "share", "policy", "objects", "missed", "bytes");
        rows.iter().for_each(|row| println!("{row}"));
    }
}

#[derive(serde::Serialize)]
struct Row {
    trace: String,
    share_percent: f64,
    policy: String,
    objects: u64,
    miss_ratio: f64,
    byte_miss_ratio: f64,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row { trace, share_percent, policy, objects, miss_ratio, byte_miss_ratio } = self;
        write!(f, "{trace:28} {share_percent:>5}% {policy:>16} {objects:>9} {miss_ratio:>9.4} {byte_miss_ratio:>9.4}")
    }
}

fn measure(name: &str, trace: &Trace, share: f64, policies: &[(&str, Policy)]) -> Vec<Row> {
    let mut is_used = vec![false; trace.sizes.len()];
    trace.requests.iter().for_each(|key| is_used[*key as usize] = true);
    let has_sizes = trace.sizes.iter().any(|size| *size > 1);
    let size = |key: u32| if has_sizes { trace.sizes[key as usize] } else { UNIT_VALUE_BYTES };
    let used = || (0..trace.sizes.len() as u32).filter(|key| is_used[*key as usize]);
    let footprint: u64 = used().map(|key| u64::from(size(key)) + KEY_BYTES + OVERHEAD_BYTES).sum();
    let budget = (footprint as f64 * share / 100.0) as u64;
    let expected = used().count() as f64 * share / 100.0;
    if expected < OBJECTS_MIN as f64 {
        eprintln!("{name} at {share} %: {expected:.0} objects, fewer than {OBJECTS_MIN}; left out");
        return Vec::new();
    }
    let row = |policy: &str, (objects, missed, bytes): (u64, f64, f64)| Row {
        trace: name.to_owned(),
        share_percent: share,
        policy: policy.to_owned(),
        objects,
        miss_ratio: missed,
        byte_miss_ratio: bytes,
    };
    let mut rows: Vec<Row> =
        policies.iter().map(|(name, policy)| row(name, replay(trace, size, budget, *policy))).collect();
    rows.push(row("exact LRU", lru(trace, size, budget)));
    rows
}

/// Objects held at the end, objects missed, bytes missed.
fn replay(trace: &Trace, size: impl Fn(u32) -> u32, budget: u64, policy: Policy) -> (u64, f64, f64) {
    let mut shard = Shard::new(ShardOptions { budget_bytes: budget, policy, seed: 1 });
    let value = vec![b'v'; trace.sizes.iter().copied().max().unwrap_or(0).max(UNIT_VALUE_BYTES) as usize];
    let (mut misses, mut missed_bytes, mut bytes) = (0_u64, 0_u64, 0_u64);
    for (time, key) in trace.requests.iter().enumerate() {
        let (now, len) = (1 + time as u64 / 1_000, size(*key));
        let key = u64::from(*key).to_be_bytes();
        bytes += u64::from(len);
        if shard.get(&key, now).is_some() {
            continue;
        }
        misses += 1;
        missed_bytes += u64::from(len);
        let stored = shard.set(&key, NewValue::Copied(&value[..len as usize]), Expiry::Never, When::Always, now);
        assert!(!matches!(stored, Stored::Refused), "an absent key is set always");
    }
    assert!(shard.stats().used_bytes <= budget + budget / 50 + (1 << 20), "the budget holds");
    (shard.len() as u64, misses as f64 / trace.requests.len() as f64, missed_bytes as f64 / bytes as f64)
}

/// The same with an exact LRU.
fn lru(trace: &Trace, size: impl Fn(u32) -> u32, budget: u64) -> (u64, f64, f64) {
    let mut last = vec![0_u64; trace.sizes.len()];
    let mut order: BTreeMap<u64, u32> = BTreeMap::new();
    let (mut held, mut misses, mut missed_bytes, mut bytes) = (0_u64, 0_u64, 0_u64, 0_u64);
    for (time, key) in trace.requests.iter().enumerate() {
        let time = time as u64 + 1;
        let len = u64::from(size(*key));
        bytes += len;
        let before = std::mem::replace(&mut last[*key as usize], time);
        if before == 0 || order.remove(&before).is_none() {
            misses += 1;
            missed_bytes += len;
            held += len + KEY_BYTES + OVERHEAD_BYTES;
        }
        order.insert(time, *key);
        while held > budget {
            let Some((_, oldest)) = order.pop_first() else { break };
            held -= u64::from(size(oldest)) + KEY_BYTES + OVERHEAD_BYTES;
        }
    }
    (order.len() as u64, misses as f64 / trace.requests.len() as f64, missed_bytes as f64 / bytes as f64)
}

/// Two million requests: Zipf over 500,000 keys, and every twentieth part a scan of keys that never come back.
fn zipf_with_scans() -> Trace {
    use rand::SeedableRng;
    use rand_distr::Distribution;
    const KEYS: u32 = 500_000;
    const REQUESTS: u32 = 2_000_000;
    let zipf = rand_distr::Zipf::new(f64::from(KEYS), 0.9).expect("a valid exponent");
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let mut fresh = KEYS;
    let mut request = |number: u32| {
        if number / 1_000 % 20 == 19 {
            fresh += 1;
            return fresh - 1;
        }
        zipf.sample(&mut random) as u32 - 1
    };
    let requests: Vec<u32> = (0..REQUESTS).map(&mut request).collect();
    Trace { sizes: vec![1; fresh as usize], requests }
}

fn options() -> Options {
    let mut options = Options {
        shares: vec![1.0, 10.0],
        policies: vec![("cache", Policy::Cache), ("allkeys-lru", Policy::AllKeysLru)],
        is_json: false,
        traces: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| fail(&format!("{word} wants a value")));
        match word.as_str() {
            // Given by `cargo bench`.
            "--bench" => {}
            "--json" => options.is_json = true,
            "--share" => {
                let share =
                    |text: &str| text.parse().unwrap_or_else(|_| fail(&format!("{text:?} is no share in percent")));
                options.shares = value().split(',').map(share).collect();
            }
            "--policy" => {
                let policy = |text: &str| {
                    let found = Policy::NAMES.iter().find(|(name, _)| *name == text);
                    *found.unwrap_or_else(|| fail(&format!("{text:?} is no policy")))
                };
                options.policies = value().split(',').map(policy).collect();
            }
            path => options.traces.push(path.into()),
        }
    }
    options
}

fn fail(what: &str) -> ! {
    eprintln!("hitratio: {what}");
    std::process::exit(2)
}
