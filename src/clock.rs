//! Time as the server sees it.
//!
//! A worker reads the clock once per tick and hands [`Now`] down, so that everything done in one tick agrees on the
//! time and nothing below the worker reads a clock. Under simulation the time moves only when the simulator says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of the clock: wall time for expiry, monotonic time for deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Microseconds since the Unix epoch (`TIME`).
    pub unix_us: u64,
    /// Monotonic nanoseconds since an arbitrary start.
    pub mono_ns: u64,
}

/// Where [`Now`] comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The kernel's clocks; monotonic time counts from this instant.
    System(Instant),
    /// A clock that only the simulator moves.
    Simulated(Arc<SimulatedTime>),
}

/// The time of a simulation, shared by everything that runs in it.
#[derive(Debug)]
pub struct SimulatedTime {
    mono_ns: AtomicU64,
    epoch_unix_us: u64,
}

impl SimulatedTime {
    /// Starts at `epoch_unix_ms` of wall time and zero of monotonic time.
    pub fn new(epoch_unix_ms: u64) -> Self {
        Self { mono_ns: AtomicU64::new(0), epoch_unix_us: epoch_unix_ms * 1000 }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        self.mono_ns.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Monotonic nanoseconds since the simulation began.
    pub fn mono_ns(&self) -> u64 {
        self.mono_ns.load(Ordering::Relaxed)
    }
}

impl Clock {
    /// The kernel's clocks.
    pub fn system() -> Self {
        Clock::System(Instant::now())
    }

    /// Stops this thread; a simulated clock moves on at once.
    pub fn sleep(&self, duration: Duration) {
        match self {
            Clock::System(_) => std::thread::sleep(duration),
            Clock::Simulated(time) => time.advance(duration),
        }
    }

    /// Reads the monotonic time alone, nanoseconds: one vDSO call.
    pub fn mono_ns(&self) -> u64 {
        match self {
            Clock::System(start) => start.elapsed().as_nanos() as u64,
            Clock::Simulated(time) => time.mono_ns(),
        }
    }

    /// Reads the time: two vDSO calls, no system call.
    pub fn now(&self) -> Now {
        match self {
            Clock::System(_) => {
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Now { unix_ms: unix.as_millis() as u64, unix_us: unix.as_micros() as u64, mono_ns: self.mono_ns() }
            }
            Clock::Simulated(time) => {
                let mono_ns = time.mono_ns();
                let unix_us = time.epoch_unix_us + mono_ns / 1000;
                Now { unix_ms: unix_us / 1000, unix_us, mono_ns }
            }
        }
    }
}
