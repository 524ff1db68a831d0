//! What does a hop cost: a message to another core and its answer back?
//!
//! `cargo bench --bench mailbox`. A thread on the first CPU posts messages as large as the workers' own; one on the
//! second, which never sleeps, sends each back. `time` is for the messages that are under way together (1: the latency
//! of a hop there and back; 8: what a letter costs when as many as may be under way share it); `thrpt` counts hops.
//! With one CPU there is nothing to measure.

#![allow(missing_docs, reason = "criterion_main! makes the entry point")]
#![allow(clippy::print_stderr, reason = "a host that cannot measure it is told so")]

use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, Ordering};

use corering::mailbox::{Mailboxes, mesh};
use corering::topology::{pin, usable_cpus};
use corering::worker::{MAILBOX_CAPACITY, Message};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// As many bytes as a worker's message.
type Letter = [u64; size_of::<Message>() / 8];

fn hop(criterion: &mut Criterion) {
    let [first_cpu, second_cpu, ..] = usable_cpus()[..] else {
        return eprintln!("mailbox: needs two CPUs");
    };
    let mut group = criterion.benchmark_group("hop");
    for together in [1, 8] {
        let mut ends = mesh::<Letter>(2, MAILBOX_CAPACITY);
        let (mut second, mut first) = (ends.pop().expect("two ends"), ends.pop().expect("two ends"));
        let is_over = AtomicBool::new(false);
        group.throughput(Throughput::Elements(together));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pin(second_cpu);
                while !is_over.load(Ordering::Relaxed) {
                    match second.receive() {
                        Some((_, letter)) => post(&mut second, 0, letter),
                        None => spin_loop(),
                    }
                }
            });
            pin(first_cpu);
            group.bench_function(format!("{together} together"), |bencher| {
                bencher.iter(|| {
                    (0..together).for_each(|number| post(&mut first, 1, [number; _]));
                    let mut missing = together;
                    while missing > 0 {
                        match first.receive() {
                            Some(_) => missing -= 1,
                            None => spin_loop(),
                        }
                    }
                });
            });
            is_over.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

fn post(mailboxes: &mut Mailboxes<Letter>, to: u16, letter: Letter) {
    assert!(mailboxes.post(to, letter).is_ok(), "there is room for all that are under way");
}

criterion_group!(benches, hop);
criterion_main!(benches);
