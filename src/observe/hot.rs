//! Which keys are asked for most: a sketch for each worker, of a sample of the requests of its clients.
//!
//! In: keys of sampled requests. Out: the most frequent ones of all workers together. What must stay true: a sketch
//! holds at most [`KEYS_MAX`] keys however many there are; a count is at most its error too high, and never too low
//! but for what has faded: counts are halved once a minute, so that what was hot long ago makes room.
//!
//! Source: Metwally, Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data streams"
//! (2005), the algorithm Space-Saving.

use std::collections::HashMap;
use std::sync::Mutex;

use crossbeam_utils::CachePadded;

/// Keys of one sketch: any key that has more than one request in so many is among them.
const KEYS_MAX: usize = 128;

/// Longer keys are not followed.
const KEY_BYTES_MAX: usize = 1024;

/// How often counts are halved, milliseconds.
const FADE_MS: u64 = 60_000;

/// A key and how often it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    /// The key.
    pub key: Box<[u8]>,
    /// Sampled requests, lately.
    pub count: u64,
    /// So many of them may be another key's.
    pub error: u64,
}

/// One worker's sketch.
#[derive(Clone, Debug, Default)]
struct Sketch {
    keys: Vec<HotKey>,
    total: u64,
    faded_ms: u64,
}

impl Sketch {
    fn add(&mut self, key: &[u8], unix_ms: u64) {
        if unix_ms.saturating_sub(self.faded_ms) >= FADE_MS {
            self.faded_ms = unix_ms;
            self.fade();
        }
        self.total += 1;
        if let Some(known) = self.keys.iter_mut().find(|known| *known.key == *key) {
            known.count += 1;
        } else if self.keys.len() < KEYS_MAX {
            self.keys.push(HotKey { key: key.into(), count: 1, error: 0 });
        } else if let Some(coldest) = self.keys.iter_mut().min_by_key(|known| known.count) {
            let error = coldest.count;
            *coldest = HotKey { key: key.into(), count: error + 1, error };
        }
    }

    fn fade(&mut self) {
        self.total /= 2;
        self.keys.iter_mut().for_each(|known| (known.count, known.error) = (known.count / 2, known.error / 2));
        self.keys.retain(|known| known.count > 0);
    }
}

/// The sketches of all workers.
#[derive(Debug)]
pub struct HotKeys {
    /// Locked for one sampled request in turn, and when somebody asks, while it is copied: no sample is taken so long.
    workers: Box<[CachePadded<Mutex<Sketch>>]>,
}

impl HotKeys {
    /// Empty sketches.
    pub fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| CachePadded::default()).collect() }
    }

    /// Counts a sampled request of one of a worker's clients; not while somebody reads the sketch.
    pub fn add(&self, worker: u16, key: &[u8], unix_ms: u64) {
        if key.len() <= KEY_BYTES_MAX
            && let Ok(mut sketch) = self.workers[worker as usize].try_lock()
        {
            sketch.add(key, unix_ms);
        }
    }

    /// The `most` most frequent keys, most frequent first, and how many requests were sampled.
    ///
    /// # Panics
    /// Never: the locks are not held while anything can panic.
    pub fn top(&self, most: usize) -> (Vec<HotKey>, u64) {
        let (mut sums, mut total) = (HashMap::<Box<[u8]>, (u64, u64)>::new(), 0);
        for worker in &self.workers {
            let sketch = worker.lock().expect("no panic while held").clone();
            total += sketch.total;
            for known in sketch.keys {
                let sum = sums.entry(known.key).or_default();
                *sum = (sum.0 + known.count, sum.1 + known.error);
            }
        }
        let mut keys: Vec<HotKey> =
            sums.into_iter().map(|(key, (count, error))| HotKey { key, count, error }).collect();
        keys.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.key.cmp(&other.key)));
        keys.truncate(most);
        (keys, total)
    }

    /// Forgets all of them.
    ///
    /// # Panics
    /// Never, as for [`top`](Self::top).
    pub fn clear(&self) {
        self.workers.iter().for_each(|worker| *worker.lock().expect("no panic while held") = Sketch::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_keys_are_found_among_many() {
        let hot = HotKeys::new(2);
        for request in 0..40_000_u64 {
            let worker = (request % 2) as u16;
            hot.add(worker, format!("once:{request}").as_bytes(), 1);
            if request % 10 == 0 {
                hot.add(worker, b"tenth", 1);
            }
            if request % 50 < 2 {
                hot.add(worker, b"twenty-fifth", 1);
            }
        }
        let (keys, total) = hot.top(2);
        assert_eq!(total, 40_000 + 4000 + 1600);
        let names: Vec<&[u8]> = keys.iter().map(|known| &*known.key).collect();
        assert_eq!(names, [&b"tenth"[..], b"twenty-fifth"]);
        for (known, requests) in keys.iter().zip([4000, 1600]) {
            assert!((requests..=requests + known.error).contains(&known.count), "{known:?}");
        }
        hot.clear();
        assert_eq!(hot.top(9), (Vec::new(), 0));
    }

    #[test]
    fn a_worker_does_not_wait_for_who_reads() {
        let hot = HotKeys::new(1);
        let held = hot.workers[0].lock();
        hot.add(0, b"left out", 1);
        drop(held);
        hot.add(0, b"counted", 1);
        assert_eq!(hot.top(9).1, 1);
    }

    #[test]
    fn what_was_hot_fades() {
        let hot = HotKeys::new(1);
        (0..8).for_each(|_| hot.add(0, b"old", 100_000));
        (0..6).for_each(|_| hot.add(0, b"new", 161_000));
        let counts: Vec<u64> = hot.top(2).0.iter().map(|known| known.count).collect();
        assert_eq!(counts, [6, 4]);
        (0..8).for_each(|minute| hot.add(0, b"other", 230_000 + minute * 60_000));
        assert!(!hot.top(9).0.iter().any(|known| *known.key == *b"old"));
        hot.add(0, &[b'x'; 2000], 1);
        assert!(hot.top(9).0.iter().all(|known| known.key.len() < 2000));
    }
}
