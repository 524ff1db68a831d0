//! How far two CPUs are from each other: the time that a cache line takes from one to the other and back.
//!
//! In: two CPUs. Out: nanoseconds. A virtual machine's CPUs are threads of its host, which has them behind one
//! last-level cache for a while and behind two for another. Whatever goes from CPU to CPU, as every packet between a
//! server and its clients does, is dearer by then, and what a server computes by itself is not: so ratios differ too.
//! What must stay true: it ends soon, wherever the threads run.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use corering::topology;

/// Trips in a row that are timed together, and how often: the median counts.
const TRIPS: u32 = 1000;
const BATCHES: usize = 5;

/// What all of them take at most, where the two wait for one CPU.
const TIME_MAX: Duration = Duration::from_millis(100);

/// `None` when it cannot be found out.
pub(crate) fn round_trip_ns(cpus: [usize; 2]) -> Option<f64> {
    let start = Instant::now();
    let is_late = || start.elapsed() > TIME_MAX;
    let line = Line(AtomicU32::new(0));
    // Goes on from an even number to an odd one, or the other way; false when the other has not come.
    let pass = |from: u32| {
        let mut looks = 0_u32;
        while line.0.load(Ordering::Acquire) != from {
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(1024) && is_late() {
                return false;
            }
            std::hint::spin_loop();
        }
        line.0.store(from + 1, Ordering::Release);
        true
    };
    let all = TRIPS * BATCHES as u32;
    std::thread::scope(|scope| {
        scope.spawn(|| topology::pin(cpus[1]) && (0..all).all(|trip| pass(2 * trip + 1)));
        let near = scope.spawn(|| {
            let mut batches = [0.0; BATCHES];
            let is_pinned = topology::pin(cpus[0]);
            let is_whole = batches.iter_mut().zip(0..).all(|(batch, number)| {
                let start = Instant::now();
                let is_whole = (number * TRIPS..(number + 1) * TRIPS).all(|trip| pass(2 * trip));
                *batch = start.elapsed().as_nanos() as f64 / f64::from(TRIPS);
                is_whole
            });
            batches.sort_by(f64::total_cmp);
            (is_pinned && is_whole).then_some(batches[BATCHES / 2])
        });
        near.join().ok().flatten()
    })
}

/// Alone on its cache line, and on the one that is fetched with it.
#[repr(align(128))]
struct Line(AtomicU32);
