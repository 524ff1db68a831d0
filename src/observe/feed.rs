//! What `MONITOR` shows: the requests of all workers, as lines, for those who watch.
//!
//! In: lines, from any worker. Out: the lines that a watcher has not seen yet. What must stay true: no more than
//! [`LINES_MAX`] lines and [`BYTES_MAX`] bytes are kept, so a watcher that is too slow misses some and is told how
//! many; while nobody watches, a worker looks at one number a tick.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const LINES_MAX: usize = 4096;
const BYTES_MAX: usize = 1 << 20;

/// Lines and who watches them.
#[derive(Debug, Default)]
pub struct Feed {
    watchers: AtomicU32,
    /// The number that the next line gets.
    next: AtomicU64,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<Arc<str>>,
    bytes: usize,
    /// The number of the oldest line kept.
    first: u64,
}

impl Feed {
    /// Somebody begins to watch; the number of the next line.
    pub fn join(&self) -> u64 {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        self.next()
    }

    /// Somebody watches no longer.
    pub fn leave(&self) {
        self.watchers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// The number that the next line gets: who has seen all has this one.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Adds a line.
    ///
    /// # Panics
    /// Never: the lock is not held while anything can panic.
    pub fn push(&self, line: &str) {
        let mut lines = self.lines.lock().expect("no panic while held");
        lines.bytes += line.len();
        lines.kept.push_back(line.into());
        while lines.kept.len() > LINES_MAX || lines.bytes > BYTES_MAX {
            let Some(oldest) = lines.kept.pop_front() else { break };
            lines.bytes -= oldest.len();
            lines.first += 1;
        }
        let next = lines.first + lines.kept.len() as u64;
        self.next.store(next, Ordering::Release);
    }

    /// The lines from number `from` on, and how many before them are lost.
    ///
    /// # Panics
    /// Never, as for [`push`](Self::push).
    pub fn since(&self, from: u64) -> (Vec<Arc<str>>, u64) {
        let lines = self.lines.lock().expect("no panic while held");
        let lost = lines.first.saturating_sub(from);
        let known = (from + lost).saturating_sub(lines.first) as usize;
        (lines.kept.iter().skip(known).cloned().collect(), lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_sees_each_line_once_and_is_told_what_it_missed() {
        let feed = Feed::default();
        feed.push("before");
        let from = feed.join();
        assert!(feed.is_watched());
        feed.push("one");
        feed.push("two");
        let (lines, lost) = feed.since(from);
        assert_eq!((lines.iter().map(|line| &**line).collect::<Vec<_>>(), lost), (vec!["one", "two"], 0));
        assert_eq!(feed.since(feed.next()), (Vec::new(), 0));

        (0..LINES_MAX + 7).for_each(|_| feed.push("many"));
        let (lines, lost) = feed.since(from);
        assert_eq!((lines.len(), lost), (LINES_MAX, 9), "one and two are lost, and seven of many");
        (0..100).for_each(|_| feed.push(&"x".repeat(BYTES_MAX / 10)));
        assert_eq!(feed.since(from).0.len(), 10);
        feed.leave();
        assert!(!feed.is_watched());
    }
}
