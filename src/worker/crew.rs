//! The workers of one CPU, on one thread: it runs them in turn, and sleeps when none of them has work.
//!
//! In: workers, each with its ring. Out: their turns. Threads of their own would each have to be switched to: a turn of
//! a dozen requests costs less than two of its switches. What must stay true: nothing in a turn blocks; a worker whose
//! ring or mailbox has something is not slept over.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::Worker;
use crate::ring::{Alarm, Wait};

/// A longer sleep ends early, for nothing: epoll_pwait2(2), which takes more than 24 days, is Linux 5.11's.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// Alarms taken with one call: one that stays behind ends the next sleep early.
const EVENTS_MAX: usize = 16;
const NO_EVENT: Event = Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };

/// Workers that share a thread.
#[derive(Debug)]
pub struct Crew<R: Alarm> {
    workers: Vec<Worker<R>>,
    /// Tells of every ring's completions; one ring alone is waited for by itself.
    alarms: Option<OwnedFd>,
}

impl<R: Alarm> Crew<R> {
    /// Workers that have not run yet, and their first turns.
    ///
    /// # Errors
    /// Those of epoll_create1(2), and of the rings.
    pub fn new(mut workers: Vec<Worker<R>>) -> io::Result<Self> {
        let alarms = if workers.len() > 1 { Some(epoll::create(CreateFlags::CLOEXEC)?) } else { None };
        for worker in &mut workers {
            if let Some(alarms) = &alarms {
                epoll::add(alarms, worker.ring.alarm()?, EventData::new_u64(0), EventFlags::IN | EventFlags::ET)?;
            }
            worker.tick_in_company()?;
        }
        Ok(Self { workers, alarms })
    }

    /// Runs until the server has drained or is to stop.
    ///
    /// # Errors
    /// When a ring fails in a way that it cannot recover from.
    pub fn run(&mut self) -> io::Result<()> {
        let Self { workers, alarms } = self;
        let Some(alarms) = alarms else { return workers.iter_mut().try_for_each(Worker::run) };
        loop {
            // None of them needs a bell from the others: its turn comes.
            workers.iter().for_each(Worker::get_up);
            for worker in at_work(workers) {
                worker.tick_in_company()?;
            }
            if at_work(workers).next().is_none() {
                return Ok(());
            }
            if let Some(limit) = sleep_limit(workers) {
                sleep(workers, alarms, limit)?;
            }
        }
    }
}

fn at_work<R: Alarm>(workers: &mut [Worker<R>]) -> impl Iterator<Item = &mut Worker<R>> {
    workers.iter_mut().filter(|worker| !worker.is_done())
}

/// How long all of them may sleep; `None` when one has work, or when the last has just become done: other threads'
/// clients count for that.
fn sleep_limit<R: Alarm>(workers: &mut [Worker<R>]) -> Option<Duration> {
    let mut limit = None;
    for worker in at_work(workers) {
        let own = match worker.lie_down() {
            Wait::No => return None,
            Wait::For(duration) => duration.min(SLEEP_MAX),
            Wait::Forever => SLEEP_MAX,
        };
        limit = Some(limit.map_or(own, |limit: Duration| limit.min(own)));
    }
    limit
}

/// Sleeps until a ring has completions, but no longer than `limit`.
fn sleep<R: Alarm>(workers: &mut [Worker<R>], alarms: &OwnedFd, limit: Duration) -> io::Result<()> {
    let mut is_ready = false;
    // Nobody takes what comes for those that are done.
    for worker in at_work(workers) {
        is_ready |= worker.ring.arm()?;
    }
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    let mut events = [NO_EVENT; EVENTS_MAX];
    let slept = if is_ready { Ok(0) } else { epoll::wait(alarms, &mut events[..], Some(&limit)) };
    workers.iter_mut().for_each(|worker| worker.ring.disarm());
    match slept {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
