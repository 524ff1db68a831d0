//! How well the shard chooses what to keep: misses of recorded or made-up requests at a share of their footprint.
//!
//! `cargo bench --bench hitratio -- [--share 1,10] [--policy cache,allkeys-lru] [--advice] [--json] [TRACE …]`
//!
//! In: trace files (CTR1 or lines, plain or zstd; see `load::trace`) or names of workloads that are made up: `zipf`,
//! `scans` (Zipf, with scans of keys that never come back), `loop`, `ttl` (Zipf, with keys that live for a while); none
//! means all of these. Out: a table of objects and bytes missed, per policy, with an exact LRU of the same number of
//! objects (or bytes) for reference, and each one's misses relative to it. The shard is the real one: the budget is
//! what the share of the items takes with everything that belongs to them. What reads miss is stored, for as long as
//! the key was stored for before. With `--advice`: what a shard says that half and twice its memory would miss, and
//! what shards with that memory miss.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeMap;
use std::path::Path;

use corering::config::Policy;
use corering::load::trace::{Detail, Trace};
use corering::observe::miss_ratios;
use corering::shard::{Expiry, NewValue, Shard, ShardOptions, ShardStats, Stored, When};

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
    is_advice: bool,
    traces: Vec<String>,
}

fn main() {
    let options = options();
    let mut rows = Vec::new();
    for name in &options.traces {
        let made_up = WORKLOADS.iter().find(|(other, _)| other == name);
        let load = || Trace::load(Path::new(name)).unwrap_or_else(|error| fail(&format!("{name}: {error}")));
        let trace = made_up.map_or_else(load, |(_, make)| make());
        let name = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
        for share in &options.shares {
            if options.is_advice {
                advise(&name, &trace, *share, &options.policies);
                continue;
            }
            rows.extend(measure(&name, &trace, *share, &options.policies));
        }
    }
    if options.is_json {
        println!("{}", serde_json::to_string_pretty(&rows).expect("rows are plain"));
    } else if !options.is_advice {
        println!(
            "{:30} {:>6} {:>12} {:>9} {:>9} {:>9} {:>9}",
            "trace", "share", "policy", "objects", "missed", "of LRU", "bytes"
        );
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
    miss_ratio_to_lru: f64,
    byte_miss_ratio: f64,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row { trace, share_percent, policy, objects, miss_ratio, miss_ratio_to_lru, byte_miss_ratio } = self;
        write!(f, "{trace:30} {share_percent:>5}% {policy:>12} {objects:>9}")?;
        write!(f, " {miss_ratio:>9.4} {miss_ratio_to_lru:>9.3} {byte_miss_ratio:>9.4}")
    }
}

/// The size of a key's value, the bytes of a share of all items, and how many objects it should hold.
fn scale(trace: &Trace, share: f64) -> (impl Fn(u32) -> u32 + Copy, u64, f64) {
    let mut is_used = vec![false; trace.sizes.len()];
    trace.requests.iter().for_each(|key| is_used[*key as usize] = true);
    let has_sizes = trace.sizes.iter().any(|size| *size > 1);
    let size = move |key: u32| if has_sizes { trace.sizes[key as usize] } else { UNIT_VALUE_BYTES };
    let used = || (0..trace.sizes.len() as u32).filter(|key| is_used[*key as usize]);
    let footprint: u64 = used().map(|key| u64::from(size(key)) + KEY_BYTES + OVERHEAD_BYTES).sum();
    let budget = (footprint as f64 * share / 100.0) as u64;
    (size, budget, used().count() as f64 * share / 100.0)
}

/// Prints what a shard says of half and twice its memory, and what is true.
fn advise(name: &str, trace: &Trace, share: f64, policies: &[(&str, Policy)]) {
    let (size, budget, _) = scale(trace, share);
    for (policy_name, policy) in policies {
        let [half, same, double] = [budget / 2, budget, budget * 2].map(|bytes| replay(trace, size, bytes, *policy));
        let ShardStats { hits, misses, simulated_misses, .. } = same.1;
        let [half_said, _, double_said] = miss_ratios(hits, misses, simulated_misses).unwrap_or_default();
        let (half, same, objects, double) = (half.0.1, same.0.1, same.0.0, double.0.1);
        println!(
            "{name:30} {share:>5}% {policy_name:>12} {objects:>9} misses {same:.4}; half {half:.4}, said \
             {half_said:.4} ({:+.4}); twice {double:.4}, said {double_said:.4} ({:+.4})",
            half_said - half,
            double_said - double
        );
    }
}

fn measure(name: &str, trace: &Trace, share: f64, policies: &[(&str, Policy)]) -> Vec<Row> {
    let (size, budget, expected) = scale(trace, share);
    if expected < OBJECTS_MIN as f64 {
        eprintln!("{name} at {share} %: {expected:.0} objects, fewer than {OBJECTS_MIN}; left out");
        return Vec::new();
    }
    let reference = lru(trace, size, budget);
    let row = |policy: &str, (objects, missed, bytes): (u64, f64, f64)| Row {
        trace: name.to_owned(),
        share_percent: share,
        policy: policy.to_owned(),
        objects,
        miss_ratio: missed,
        miss_ratio_to_lru: missed / reference.1,
        byte_miss_ratio: bytes,
    };
    let mut rows: Vec<Row> =
        policies.iter().map(|(name, policy)| row(name, replay(trace, size, budget, *policy).0)).collect();
    rows.push(row("exact LRU", reference));
    rows
}

/// Objects held at the end, objects missed, bytes missed; and what the shard tells.
fn replay(trace: &Trace, size: impl Fn(u32) -> u32, budget: u64, policy: Policy) -> ((u64, f64, f64), ShardStats) {
    let mut shard =
        Shard::new(ShardOptions { budget_bytes: budget, address_bytes: u64::MAX, policy, huge_pages: false, seed: 1 });
    let value = vec![b'v'; trace.sizes.iter().copied().max().unwrap_or(0).max(UNIT_VALUE_BYTES) as usize];
    let (mut misses, mut missed_bytes, mut bytes) = (0_u64, 0_u64, 0_u64);
    let mut stored_for = vec![0; trace.sizes.len()];
    for (number, key) in trace.requests.iter().enumerate() {
        let (Request { now_ms, is_read }, len) = (request(trace, number, &mut stored_for), size(*key));
        let ttl_ms = u64::from(stored_for[*key as usize]) * 1000;
        let key = u64::from(*key).to_be_bytes();
        if is_read {
            bytes += u64::from(len);
            if shard.get(&key, now_ms).is_some() {
                continue;
            }
            misses += 1;
            missed_bytes += u64::from(len);
        }
        if number % 16 == 0 {
            shard.maintain(now_ms);
        }
        let expiry = if ttl_ms == 0 { Expiry::Never } else { Expiry::At(now_ms + ttl_ms) };
        let stored = shard.set(&key, NewValue::Copied(&value[..len as usize]), expiry, When::Always, now_ms);
        assert!(!matches!(stored, Stored::Refused), "it is stored always");
    }
    assert!(shard.stats().used_bytes <= budget + budget / 50 + (1 << 20), "the budget holds");
    ((shard.len() as u64, misses as f64 / reads(trace), missed_bytes as f64 / bytes as f64), shard.stats())
}

struct Request {
    now_ms: u64,
    is_read: bool,
}

/// Request `number`; notes for how long its key is stored when it stores it.
fn request(trace: &Trace, number: usize, stored_for: &mut [u32]) -> Request {
    let Some(detail) = trace.details.get(number) else {
        return Request { now_ms: 1 + number as u64 / 1_000, is_read: true };
    };
    if let Some(seconds) = detail.stored_for {
        stored_for[trace.requests[number] as usize] = seconds;
    }
    Request { now_ms: 1 + u64::from(detail.seconds) * 1000, is_read: detail.stored_for.is_none() }
}

fn reads(trace: &Trace) -> f64 {
    let writes = trace.details.iter().filter(|detail| detail.stored_for.is_some()).count();
    (trace.requests.len() - writes) as f64
}

/// The same with an exact LRU, which expires exactly as well, but keeps what has expired until it is its turn.
fn lru(trace: &Trace, size: impl Fn(u32) -> u32, budget: u64) -> (u64, f64, f64) {
    // When each key was used last, counted in requests, and when it expires.
    let mut last = vec![0_u64; trace.sizes.len()];
    let mut expires = vec![u64::MAX; trace.sizes.len()];
    let mut stored_for = vec![0; trace.sizes.len()];
    let mut order: BTreeMap<u64, u32> = BTreeMap::new();
    let (mut held, mut misses, mut missed_bytes, mut bytes) = (0_u64, 0_u64, 0_u64, 0_u64);
    for (number, key) in trace.requests.iter().enumerate() {
        let Request { now_ms, is_read } = request(trace, number, &mut stored_for);
        let (at, time, len) = (*key as usize, number as u64 + 1, u64::from(size(*key)));
        let before = std::mem::replace(&mut last[at], time);
        let is_there = before != 0 && order.remove(&before).is_some();
        let is_live = is_there && expires[at] > now_ms;
        held += if is_there { 0 } else { len + KEY_BYTES + OVERHEAD_BYTES };
        order.insert(time, *key);
        if is_read {
            bytes += len;
            misses += u64::from(!is_live);
            missed_bytes += if is_live { 0 } else { len };
        }
        if !is_live || !is_read {
            let ttl_ms = u64::from(stored_for[at]) * 1000;
            expires[at] = if ttl_ms == 0 { u64::MAX } else { now_ms + ttl_ms };
        }
        while held > budget {
            let Some((_, oldest)) = order.pop_first() else { break };
            held -= u64::from(size(oldest)) + KEY_BYTES + OVERHEAD_BYTES;
        }
    }
    (order.len() as u64, misses as f64 / reads(trace), missed_bytes as f64 / bytes as f64)
}

type Make = fn() -> Trace;

/// Workloads that are made up, two million requests each.
const WORKLOADS: &[(&str, Make)] = &[
    ("zipf", || zipf(|_, _, key| key)),
    // Every twentieth part is a scan of keys that never come back.
    ("scans", || zipf(|number, fresh, key| if number / 1_000 % 20 == 19 { fresh } else { key })),
    // Half of the requests go round and round through a third of the keys.
    ("loop", || zipf(|number, _, key| if number % 2 == 0 { number / 2 % (KEYS / 3) } else { key })),
    ("ttl", || {
        let mut trace = zipf(|_, _, key| key);
        // 200 requests a second; each key is stored for 10 s to about 3 h whenever it is read and is not there.
        let lifetime = |key: u32| 10 << (key % 11);
        let detail = |(number, key): (usize, &u32)| {
            let is_write = number < KEYS as usize;
            Detail { seconds: number as u32 / 200, stored_for: is_write.then(|| lifetime(*key)) }
        };
        (0..KEYS).for_each(|key| trace.requests[key as usize] = key);
        trace.details = trace.requests.iter().enumerate().map(detail).collect();
        trace
    }),
];

const KEYS: u32 = 500_000;
const REQUESTS: u32 = 2_000_000;

/// Zipf requests, changed by `choose`: it is given the request's number, a key that was never asked for, and the key.
fn zipf(choose: impl Fn(u32, u32, u32) -> u32) -> Trace {
    use rand::SeedableRng;
    use rand_distr::Distribution;
    let zipf = rand_distr::Zipf::new(f64::from(KEYS), 0.99).expect("a valid exponent");
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let mut fresh = KEYS;
    let mut request = |number: u32| {
        let key = choose(number, fresh, zipf.sample(&mut random) as u32 - 1);
        fresh += u32::from(key == fresh);
        key
    };
    let requests: Vec<u32> = (0..REQUESTS).map(&mut request).collect();
    Trace { sizes: vec![1; fresh as usize], requests, details: Vec::new() }
}

fn options() -> Options {
    let mut options = Options {
        shares: vec![1.0, 10.0],
        policies: vec![("cache", Policy::Cache), ("allkeys-lru", Policy::AllKeysLru)],
        is_json: false,
        is_advice: false,
        traces: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| fail(&format!("{word} wants a value")));
        match word.as_str() {
            // Given by `cargo bench`.
            "--bench" => {}
            "--advice" => options.is_advice = true,
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
            path => options.traces.push(path.to_owned()),
        }
    }
    if options.traces.is_empty() {
        options.traces = WORKLOADS.iter().map(|(name, _)| (*name).to_owned()).collect();
    }
    options
}

fn fail(what: &str) -> ! {
    eprintln!("hitratio: {what}");
    std::process::exit(2)
}
