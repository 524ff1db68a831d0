//! The sample of requests by which hot keys are found.
//!
//! In: batches of requests. Out: the key of about one request in `hotkeys-sampling` to the worker's sketch. What must
//! stay true: while it is off, a batch costs one comparison; the distance between samples is not constant, so that no
//! rhythm of the clients hides a key.

use crate::command;
use crate::protocol::Requests;

use super::Core;

/// When the next request is taken.
#[derive(Debug)]
pub(super) struct HotSampling {
    /// One request in about so many; 0 for none.
    pub(super) every: u32,
    /// Requests until the next one.
    countdown: u32,
    /// Of a xorshift generator; never 0.
    random: u32,
}

impl HotSampling {
    pub(super) fn new(every: u32) -> Self {
        Self { every, countdown: 0, random: 0x9E37_79B9 }
    }

    /// The place of the request to be taken among the next `count`, if any.
    fn next_of(&mut self, count: u32) -> Option<u32> {
        if self.countdown >= count {
            self.countdown -= count;
            return None;
        }
        let place = self.countdown;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        // Uniform around the mean distance; the rest of this batch is passed over.
        self.countdown = if self.every == 1 { 0 } else { self.random % (2 * self.every - 1) };
        Some(place)
    }
}

impl Core {
    /// Takes at most one request of a batch.
    #[cold]
    pub(super) fn sample_hot(&mut self, slot: usize, batch: &Requests, received: &[u8]) {
        let Some(place) = self.hot.next_of(batch.len() as u32) else { return };
        let args = batch.get(place as usize, received);
        let session = &self.connections[slot].session;
        let Ok(command) = command::find(session.client(), &self.settings, args) else { return };
        let place = command.spec().keys.first;
        if place > 0 && (place as usize) < args.len() {
            self.instance.hot.add(self.index, args.get(place as usize), self.now.unix_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_in_so_many_is_taken() {
        for every in [1, 10, 64] {
            let mut sampling = HotSampling::new(every);
            let taken = (0..100_000).filter(|_| sampling.next_of(1).is_some()).count() as f64;
            let expected = 100_000.0 / f64::from(every);
            assert!((taken / expected - 1.0).abs() < 0.1, "{every}: {taken}");
        }
    }
}
