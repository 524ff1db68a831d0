//! Who is connected, for those who watch: each worker tells its first clients when somebody asks.
//!
//! In: a round that somebody begins; from each worker at most [`CLIENTS_MAX`] clients. Out: what they told. What must
//! stay true: nothing happens unless somebody asks; a worker copies numbers and short names, makes no text, and waits
//! for no lock.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clients that one worker tells of: some microseconds of its time.
pub const CLIENTS_MAX: usize = 32;

/// Bytes of a name that it tells; clients may give themselves names of any length.
pub const NAME_BYTES_MAX: usize = 64;

/// A client.
#[derive(Clone, Debug)]
pub struct ClientSummary {
    /// Unique in the server's life.
    pub id: u64,
    /// Its address; `None` for a unix socket.
    pub peer: Option<SocketAddr>,
    /// What it speaks.
    pub protocol: &'static str,
    /// What it calls itself.
    pub name: Box<[u8]>,
    /// Its library and that one's version.
    pub library: [Box<[u8]>; 2],
    /// Milliseconds since it connected.
    pub age_ms: u64,
    /// Milliseconds since its last request.
    pub idle_ms: u64,
    /// Bytes received that are no whole request yet.
    pub input_bytes: usize,
    /// Bytes of replies that it has not taken yet.
    pub output_bytes: usize,
    /// What it asked last.
    pub last_command: Option<&'static str>,
}

/// What a worker told last.
#[derive(Debug, Default)]
struct Told {
    /// In which round; set after `clients`.
    round: AtomicU64,
    /// Locked by the worker while it has not told in a round, then by who takes it: never by both at once, unless
    /// somebody begins a round before the one before was taken.
    clients: Mutex<Vec<ClientSummary>>,
}

/// The rounds, and what the workers told last.
#[derive(Debug)]
pub struct Census {
    round: AtomicU64,
    workers: Box<[Told]>,
}

impl Census {
    /// Before the first round.
    pub fn new(workers: usize) -> Self {
        Self { round: AtomicU64::new(0), workers: (0..workers).map(|_| Told::default()).collect() }
    }

    /// Begins a round; its number. The workers have to be woken.
    pub fn begin(&self) -> u64 {
        self.round.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The round for which a worker has told nothing yet.
    pub fn awaited(&self, worker: u16) -> Option<u64> {
        let round = self.round.load(Ordering::Acquire);
        (self.workers[worker as usize].round.load(Ordering::Relaxed) < round).then_some(round)
    }

    /// A worker tells, unless somebody takes just now what it told before.
    pub fn tell(&self, worker: u16, round: u64, clients: Vec<ClientSummary>) {
        let told = &self.workers[worker as usize];
        if let Ok(mut last) = told.clients.try_lock() {
            *last = clients;
            told.round.store(round, Ordering::Release);
        }
    }

    /// What a worker told in `round` or later, once; `None` when it has not.
    ///
    /// # Panics
    /// Never: the lock is not held while anything can panic.
    pub fn take(&self, worker: u16, round: u64) -> Option<Vec<ClientSummary>> {
        let told = &self.workers[worker as usize];
        let has_told = told.round.load(Ordering::Acquire) >= round;
        has_told.then(|| std::mem::take(&mut *told.clients.lock().expect("no panic while held")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_tells_once_a_round() {
        let census = Census::new(2);
        assert_eq!(census.awaited(0), None, "nobody has asked");
        let round = census.begin();
        assert_eq!((census.awaited(0), census.take(0, round).is_some()), (Some(round), false));
        census.tell(0, round, Vec::new());
        assert_eq!((census.awaited(0), census.awaited(1)), (None, Some(round)));
        assert!(census.take(0, round).is_some() && census.take(1, round).is_none());
        assert_eq!(census.begin(), round + 1);
        assert_eq!(census.awaited(0), Some(round + 1));
    }

    #[test]
    fn a_worker_does_not_wait_for_who_takes() {
        let census = Census::new(1);
        let round = census.begin();
        let held = census.workers[0].clients.lock();
        census.tell(0, round, Vec::new());
        assert_eq!(census.awaited(0), Some(round), "it has told nothing");
        drop(held);
        census.tell(0, round, Vec::new());
        assert!(census.take(0, round).is_some());
    }
}
