//! What all connections of the admin port share.
//!
//! In: questions whose answers cost something. Out: answers that are a moment old when many ask. What must stay true:
//! however many ask, workers are asked for their clients, and their sketches are locked, at most once in [`FRESH`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::findings::Findings;
use super::history::{self, History};
use super::people;
use crate::observe::census::ClientSummary;
use crate::server::Waker;

/// How long an answer is good enough.
const FRESH: Duration = Duration::from_secs(2);

/// How long workers may take to tell of their clients.
const CENSUS_LIMIT: Duration = Duration::from_secs(1);

/// How often to look whether they have.
const CENSUS_POLL: Duration = Duration::from_millis(2);

/// How often to look whether the host is examined.
const FINDINGS_POLL: Duration = Duration::from_millis(50);

/// What the workers told of their clients, each.
type Told = Vec<Option<Vec<ClientSummary>>>;

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) waker: Waker,
    /// Connections that are served.
    pub(super) open: Cell<usize>,
    pub(super) history: RefCell<History>,
    cpus: Vec<usize>,
    findings: RefCell<Findings>,
    clients: RefCell<Option<(Instant, Told)>>,
    /// A round of the census that has not ended.
    round: Cell<Option<u64>>,
    hot_keys: RefCell<Option<(Instant, Value)>>,
}

impl Desk {
    /// Of a server whose workers have these CPUs.
    pub(super) fn new(waker: Waker, cpus: Vec<usize>) -> Self {
        Self {
            waker,
            open: Cell::new(0),
            history: RefCell::default(),
            cpus,
            findings: RefCell::default(),
            clients: RefCell::default(),
            round: Cell::default(),
            hot_keys: RefCell::default(),
        }
    }

    /// What of this host costs latency; old findings while somebody looks for new ones.
    pub(super) async fn findings(&self) -> std::io::Result<Value> {
        loop {
            let settings = self.waker.instance().settings();
            if let Some(found) = self.findings.borrow_mut().ask(&settings, &self.cpus)? {
                return Ok(found);
            }
            tokio::time::sleep(FINDINGS_POLL).await;
        }
    }

    /// What the workers tell of their clients; `None` for one that does not turn its loop.
    pub(super) async fn clients(&self) -> Told {
        if let Some(told) = fresh(&self.clients) {
            return told;
        }
        let instance = self.waker.instance();
        let round = self.round.get().unwrap_or_else(|| {
            let round = instance.census.begin();
            self.waker.wake();
            round
        });
        self.round.set(Some(round));
        let limit = Instant::now() + CENSUS_LIMIT;
        loop {
            let told: Told = (0..instance.workers).map(|worker| instance.census.of(worker, round)).collect();
            if told.iter().all(Option::is_some) || Instant::now() >= limit {
                self.round.set(None);
                *self.clients.borrow_mut() = Some((Instant::now(), told.clone()));
                return told;
            }
            tokio::time::sleep(CENSUS_POLL).await;
        }
    }

    /// The keys that are asked for most.
    pub(super) fn hot_keys(&self) -> Value {
        fresh(&self.hot_keys).unwrap_or_else(|| {
            let keys = people::hot_keys(self.waker.instance());
            *self.hot_keys.borrow_mut() = Some((Instant::now(), keys.clone()));
            keys
        })
    }
}

fn fresh<T: Clone>(answer: &RefCell<Option<(Instant, T)>>) -> Option<T> {
    let answer = answer.borrow();
    answer.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, answer)| answer.clone())
}

/// Reads the counters, for ever.
pub(super) async fn keep_history(desk: Rc<Desk>) {
    loop {
        desk.history.borrow_mut().read(desk.waker.instance(), Instant::now());
        tokio::time::sleep(history::INTERVAL).await;
    }
}
