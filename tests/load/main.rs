//! The load generator against servers that behave as told: does it measure what they do?
//!
//! One test at a time: each needs the CPUs for itself.

#![allow(clippy::print_stderr, reason = "a test that cannot run says so")]

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corering::load::plan::{Operation, Protocol, Rate, Waiting};
use corering::load::sizes::Sizes;
use corering::load::{LoadError, Plan, Report, Target, measure};
use corering::topology;

#[path = "../fronts/defaults.rs"]
mod defaults;
mod fake;
mod peers;
mod program;
mod stall;

use fake::{Answer, Fake};

const NO_DELAY: Duration = Duration::ZERO;

/// Held by the test that runs.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Small and short.
fn plan(rate: Rate) -> Plan {
    Plan {
        rate,
        connections: 8,
        keys: 200,
        warmup: millis(100),
        duration: millis(1000),
        waiting: Waiting::Sleep,
        io: defaults::defaults().io,
        ..Plan::default()
    }
}

fn run(plan: &Plan, target: &Target) -> Result<Report, LoadError> {
    measure(plan, target, None, |_| ()).map(|outcome| Report::new(plan, target, outcome))
}

/// A percentile in milliseconds.
fn ms_at(report: &Report, quantile: f64) -> f64 {
    report.quantile(quantile).latency_ns as f64 / 1e6
}

#[test]
fn a_known_delay_is_what_is_measured() {
    let _alone = alone();
    let fake = Fake::resp(millis(20));
    for rate in [Rate::PerSecond(100.0), Rate::Max] {
        let report = run(&plan(rate), &fake.target()).unwrap();
        assert!(report.is_clean());
        let (least, median) = (report.latencies.min() as f64 / 1e6, ms_at(&report, 0.5));
        assert!(least >= 19.9, "{rate:?}: a reply after {least} ms of 20");
        assert!((20.0..26.0).contains(&median), "{rate:?}: median {median} ms of 20");
    }
}

#[test]
fn the_rate_is_kept_and_every_reply_counted() {
    let _alone = alone();
    let fake = Fake::resp(NO_DELAY);
    for (threads, pipeline) in [(1, 1), (2, 4)] {
        let before = fake.shared.requests.load(Ordering::Relaxed);
        let plan = Plan { threads, pipeline, warmup: NO_DELAY, ..plan(Rate::PerSecond(3000.0)) };
        let report = run(&plan, &fake.target()).unwrap();
        // Five deviations of a Poisson count.
        let expected = 3000.0 - 5.0 * 55.0..3000.0 + 5.0 * 55.0;
        assert!(expected.contains(&report.throughput), "{} replies/s", report.throughput);
        let requests = fake.shared.requests.load(Ordering::Relaxed) - before - plan.keys;
        assert_eq!(report.latencies.len(), requests, "each request has a latency");
        let points: f64 = report.timeline.iter().map(|point| point.rate / 10.0).sum();
        assert!((points - report.counts.answered as f64).abs() <= 0.02 * points, "the time line has all replies");
    }
}

#[test]
fn a_sleeping_generator_knows_its_own_cpu_time() {
    let _alone = alone();
    let fake = Fake::resp(NO_DELAY);
    // It ends as soon as its time is over, when this thread, which shares its CPU, may not have woken up yet.
    let cpu = topology::usable_cpus()[0];
    topology::pin(cpu);
    for _ in 0..10 {
        let plan =
            Plan { connections: 1, cpus: vec![cpu], warmup: millis(20), duration: millis(100), ..plan(Rate::Max) };
        let report = run(&plan, &fake.target()).unwrap();
        let (cpu_ns, all_ns) = (report.generator_ns, 1e9 / report.throughput);
        assert!(cpu_ns > 100.0 && cpu_ns < 1.5 * all_ns, "{cpu_ns} ns of CPU time in {all_ns} ns for each reply");
    }
}

#[test]
fn every_key_is_written_first_and_found_then() {
    let _alone = alone();
    for protocol in [Protocol::Resp2, Protocol::Resp3, Protocol::Memcache, Protocol::Http] {
        let fake = match protocol {
            Protocol::Memcache => Fake::start(fake::split_memcache, NO_DELAY, |shared, request| {
                Answer::Bytes(fake::answer_memcache(shared, request))
            }),
            Protocol::Http => Fake::start(fake::split_http, NO_DELAY, |shared, request| {
                Answer::Bytes(fake::answer_http(shared, request))
            }),
            _ => Fake::resp(NO_DELAY),
        };
        let mut mix = vec![(Operation::Get, 5), (Operation::Set, 3), (Operation::SetExpiring, 1)];
        if protocol != Protocol::Http {
            mix.extend([(Operation::MultiGet(3), 2), (Operation::Increment, 1)]);
        }
        let plan =
            Plan { protocol, mix, pipeline: 4, value_sizes: Sizes::Range(0, 3000), ..plan(Rate::PerSecond(1000.0)) };
        let report = run(&plan, &fake.target()).unwrap();
        assert!(report.is_clean(), "{protocol:?}: {:?} {:?}", report.counts, report.errors);
        assert!(report.counts.hits > 300 && report.counts.misses == 0, "{protocol:?}: {:?}", report.counts);
        let stored = fake.shared.store.lock().unwrap();
        let values = stored.keys().filter(|key| !key.contains(&b'c') && !key.contains(&b'?')).count();
        assert_eq!(values, 200, "{protocol:?}");
    }
}

#[test]
fn large_values_are_sent_and_checked_whole() {
    let _alone = alone();
    let fake = Fake::resp(NO_DELAY);
    let plan = Plan { value_sizes: Sizes::Fixed(3 << 20), keys: 5, ..plan(Rate::PerSecond(30.0)) };
    let report = run(&plan, &fake.target()).unwrap();
    assert!(report.is_clean() && report.counts.hits > 5, "{:?}", report.counts);
    assert!(report.counts.bytes_received > 5 * (3 << 20));
}

#[test]
fn wrong_replies_and_refusals_are_counted_one_by_one() {
    let _alone = alone();
    let fake = Fake::start(fake::split_resp, NO_DELAY, |shared, request| {
        let right = fake::answer_resp(shared, request);
        Answer::Bytes(match (&request[0][..], shared.requests.load(Ordering::Relaxed) % 10) {
            (b"GET", 3) => b"$5\r\nwrong\r\n".to_vec(),
            (b"GET", 6) => b"-ERR not today\r\n".to_vec(),
            _ => right,
        })
    });
    let plan = Plan { mix: vec![(Operation::Get, 1)], ..plan(Rate::PerSecond(1000.0)) };
    let report = run(&plan, &fake.target()).unwrap();
    let tenth = 80..=140;
    assert!(tenth.contains(&report.counts.wrong) && tenth.contains(&report.counts.errors), "{:?}", report.counts);
    assert_eq!(report.errors, [("ERR not today".to_owned(), report.counts.errors)]);
    assert!(!report.is_clean());
}

#[test]
fn each_key_goes_to_its_node() {
    let _alone = alone();
    let second = Fake::resp(NO_DELAY);
    let other = second.address.port();
    let first = Fake::start(fake::split_resp, NO_DELAY, move |shared, request| {
        if request[0] == b"CLUSTER" {
            let node = |from, to, host: &str, port| {
                format!("*3\r\n:{from}\r\n:{to}\r\n*3\r\n${}\r\n{host}\r\n:{port}\r\n$2\r\nid\r\n", host.len())
            };
            // An empty host is the one that was asked; its port is told by the test below.
            let port = shared.store.lock().unwrap().get(&b"port"[..]).cloned().unwrap_or_default();
            let port = String::from_utf8_lossy(&port).into_owned();
            let map = ["*2\r\n".to_owned(), node(0, 8191, "", port), node(8192, 16383, "127.0.0.1", other.to_string())];
            return Answer::Bytes(map.concat().into_bytes());
        }
        Answer::Bytes(fake::answer_resp(shared, request))
    });
    let port = first.address.port().to_string().into_bytes();
    first.shared.store.lock().unwrap().insert(b"port".to_vec(), port);
    for rate in [Rate::PerSecond(500.0), Rate::Max] {
        let plan = Plan { cluster: true, ..plan(rate) };
        let report = run(&plan, &first.target()).unwrap();
        assert!(report.is_clean() && report.counts.misses == 0 && report.counts.hits > 100, "{:?}", report.counts);
    }
    let slots = |fake: &Fake| -> Vec<u16> {
        let store = fake.shared.store.lock().unwrap();
        store.keys().filter(|key| key.starts_with(b"k")).map(|key| corering::command::slot::slot_of(key)).collect()
    };
    let (low, high) = (slots(&first), slots(&second));
    assert!(low.iter().all(|slot| *slot < 8192) && high.iter().all(|slot| *slot >= 8192));
    assert_eq!(low.len() + high.len(), 200);
}

#[test]
fn a_generator_that_cannot_keep_up_says_so() {
    let _alone = alone();
    let server = corering::Server::start(corering::config::Settings { port: 0, workers: 1, ..defaults::defaults() });
    let target = Target::Tcp(format!("127.0.0.1:{}", server.as_ref().unwrap().port()));
    // Far beyond what one thread can send; the connections always have room, so nothing waits for the server.
    let plan = Plan { connections: 64, pipeline: 10_000, duration: millis(300), ..plan(Rate::PerSecond(20e6)) };
    let report = run(&plan, &target).unwrap();
    assert!(!report.is_valid());
    assert!(report.notes.iter().any(|note| note.starts_with("The generator fell behind its schedule: by ")));
}

#[test]
fn a_server_that_cannot_keep_up_is_not_excused() {
    let _alone = alone();
    // 8 connections, a reply each 10 ms: 800/s at most, and the rate is twice that.
    let fake = Fake::resp(millis(10));
    let plan = Plan { mix: vec![(Operation::Get, 1)], ..plan(Rate::PerSecond(1600.0)) };
    let report = run(&plan, &fake.target()).unwrap();
    assert!(report.throughput < 850.0, "{}", report.throughput);
    assert!(ms_at(&report, 0.9) > 300.0, "who waits for a connection waits for the server: {}", ms_at(&report, 0.9));
    assert!(report.quantile(0.9).is_valid, "and it is the server's doing");
    assert!(report.notes.iter().any(|note| note.contains("requests/s were answered")), "{:?}", report.notes);
}
