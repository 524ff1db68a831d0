//! What all connections of the admin port share.
//!
//! In: questions whose answers cost something. Out: answers that are a moment old when many ask. What must stay true:
//! however many ask, workers are asked for their clients, and their sketches are locked, at most once in [`FRESH`], and
//! they are woken for a sign of life at most once in [`PULSE_FRESH`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::Mutex;

use super::findings::Findings;
use super::history::{self, History};
use super::runtime::Stream;
use super::{pages, people};
use crate::observe::census::ClientSummary;
use crate::observe::process;
use crate::server::Waker;

/// How long an answer is good enough.
const FRESH: Duration = Duration::from_secs(2);

/// The same for signs of life.
const PULSE_FRESH: Duration = Duration::from_millis(100);

/// The same for the number of descriptors: counting 10,000 of them takes milliseconds.
const DESCRIPTORS_FRESH: Duration = Duration::from_secs(5);

/// How long who asks waits for the first examination of the host, which takes a second and a little more.
const FINDINGS_LIMIT: Duration = Duration::from_secs(5);

/// How long workers may take to tell of their clients.
const CENSUS_LIMIT: Duration = Duration::from_secs(1);

/// How often to look whether they have.
const CENSUS_POLL: Duration = Duration::from_millis(2);

/// How often to look whether the host is examined.
const FINDINGS_POLL: Duration = Duration::from_millis(50);

/// What the workers told of their clients, each.
type Told = Vec<Option<Vec<ClientSummary>>>;

/// An answer and when it was given.
type Last<T> = Option<(Instant, T)>;

pub(super) struct Desk {
    pub(super) waker: Waker,
    /// Connections that are served.
    pub(super) open: Cell<usize>,
    /// Those of them that ask nothing just now, the longest first.
    pub(super) idle: RefCell<VecDeque<Rc<Stream>>>,
    pub(super) history: RefCell<History>,
    cpus: Vec<usize>,
    findings: RefCell<Findings>,
    /// Held while somebody asks the workers; others wait for the answer.
    clients: Mutex<Last<Told>>,
    /// The workers that are stuck; held as `clients` is.
    pulse: Mutex<Last<Vec<u16>>>,
    hot_keys: RefCell<Last<Value>>,
    descriptors: RefCell<Last<usize>>,
}

impl Desk {
    /// Of a server whose workers have these CPUs.
    pub(super) fn new(waker: Waker, cpus: Vec<usize>) -> Self {
        Self {
            waker,
            open: Cell::new(0),
            idle: RefCell::default(),
            history: RefCell::default(),
            cpus,
            findings: RefCell::default(),
            clients: Mutex::default(),
            pulse: Mutex::default(),
            hot_keys: RefCell::default(),
            descriptors: RefCell::default(),
        }
    }

    /// What of this host costs latency; old findings while somebody looks for new ones.
    ///
    /// # Errors
    /// When it cannot be examined, or that takes longer than [`FINDINGS_LIMIT`].
    pub(super) async fn findings(&self) -> std::io::Result<Value> {
        let limit = Instant::now() + FINDINGS_LIMIT;
        loop {
            let settings = self.waker.instance().settings();
            if let Some(found) = self.findings.borrow_mut().ask(&settings, &self.cpus)? {
                return Ok(found);
            }
            if Instant::now() >= limit {
                let why = format!("that takes longer than {FINDINGS_LIMIT:?}; ask again");
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why));
            }
            tokio::time::sleep(FINDINGS_POLL).await;
        }
    }

    /// What the workers tell of their clients; `None` for one that does not turn its loop.
    pub(super) async fn clients(&self) -> Told {
        let mut last = self.clients.lock().await;
        if let Some(told) = fresh(&last, FRESH) {
            return told;
        }
        let instance = self.waker.instance();
        let round = instance.census.begin();
        self.waker.wake();
        let mut told: Told = vec![None; instance.workers.into()];
        let limit = Instant::now() + CENSUS_LIMIT;
        loop {
            for (worker, told) in told.iter_mut().enumerate().filter(|(_, told)| told.is_none()) {
                *told = instance.census.take(worker as u16, round);
            }
            if told.iter().all(Option::is_some) || Instant::now() >= limit {
                *last = Some((Instant::now(), told.clone()));
                return told;
            }
            tokio::time::sleep(CENSUS_POLL).await;
        }
    }

    /// The workers that do not turn their loop.
    pub(super) async fn stuck_workers(&self) -> Vec<u16> {
        let mut last = self.pulse.lock().await;
        if let Some(stuck) = fresh(&last, PULSE_FRESH) {
            return stuck;
        }
        let stuck = pages::stuck_workers(&self.waker).await;
        *last = Some((Instant::now(), stuck.clone()));
        stuck
    }

    /// The keys that are asked for most.
    pub(super) fn hot_keys(&self) -> Value {
        kept(&self.hot_keys, FRESH, || people::hot_keys(self.waker.instance()))
    }

    /// Open descriptors of this process.
    pub(super) fn descriptors(&self) -> usize {
        kept(&self.descriptors, DESCRIPTORS_FRESH, process::open_descriptors)
    }
}

/// An answer that is good enough.
fn fresh<T: Clone>(last: &Last<T>, limit: Duration) -> Option<T> {
    last.as_ref().filter(|(at, _)| at.elapsed() < limit).map(|(_, answer)| answer.clone())
}

/// The same, or a new one.
fn kept<T: Clone>(last: &RefCell<Last<T>>, limit: Duration, renew: impl FnOnce() -> T) -> T {
    let mut last = last.borrow_mut();
    fresh(&last, limit).unwrap_or_else(|| {
        let answer = renew();
        *last = Some((Instant::now(), answer.clone()));
        answer
    })
}

/// Reads the counters, for ever.
pub(super) async fn keep_history(desk: Rc<Desk>) {
    loop {
        desk.history.borrow_mut().read(desk.waker.instance(), Instant::now());
        tokio::time::sleep(history::INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Server;
    use crate::config::{Io, Settings};
    use crate::observe::Metric;

    fn asked(ask: &impl AsyncFn(&Desk)) {
        let server = Server::start(Settings { port: 0, workers: 1, ..Settings::default() }).unwrap();
        let desk = Desk::new(server.waker(), Vec::new());
        super::super::runtime::run(Io::Epoll, ask(&desk)).unwrap();
        desk.waker.advance(crate::instance::Phase::Stopping);
        server.wait().unwrap();
    }

    #[test]
    fn many_who_ask_for_a_sign_of_life_share_one() {
        asked(&async |desk| {
            let ticks = || desk.waker.instance().metrics.worker(0).get(Metric::Ticks);
            let (before, start) = (ticks(), Instant::now());
            for _ in 0..10_000 {
                assert_eq!(desk.stuck_workers().await, Vec::<u16>::new());
            }
            // A wake-up takes a turn or two, and the worker has some of its own.
            let most = 10 + 10 * start.elapsed().as_millis() as u64 / 100;
            assert!((1..=most).contains(&(ticks() - before)), "{} turns of {most}", ticks() - before);
        });
    }

    #[test]
    fn who_asks_for_findings_does_not_wait_for_ever() {
        asked(&async |desk| {
            let (_open, never) = std::sync::mpsc::channel::<Value>();
            *desk.findings.borrow_mut() =
                Findings::awaiting(std::thread::spawn(move || never.recv().unwrap_or_default()));
            let error = tokio::time::timeout(3 * FINDINGS_LIMIT, desk.findings()).await.expect("it ends").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        });
    }
}
