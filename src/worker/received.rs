//! From completions to what they mean, received bytes in groups.
//!
//! In: the completions that have arrived. Out: each is handled, in its order. Look-ups wait for memory more than for
//! anything else, and most connections send one request at a time; so before the first of a group is executed, the
//! index entries and the items of all its keys are on their way. What must stay true: a completion without bytes is
//! handled after those that came before it; no buffer is kept beyond the call.

use crate::ring::{Carried, Ring};
use crate::shard::KeyHash;

use super::connection::Connection;
use super::{BATCH_REQUESTS, Worker};

impl<R: Ring> Worker<R> {
    /// Handles all that has completed.
    pub(super) fn take_completions(&mut self) {
        while let Some(completion) = self.ring.complete() {
            if matches!(completion.carried, Carried::Buffer(_)) {
                self.received.push(completion);
                if self.received.len() == BATCH_REQUESTS {
                    self.take_received();
                }
            } else {
                self.take_received();
                self.on_completion(completion);
            }
        }
        self.take_received();
    }

    fn take_received(&mut self) {
        if self.received.len() > 1 {
            self.prefetch_received();
        }
        let mut received = std::mem::take(&mut self.received);
        received.drain(..).for_each(|completion| self.on_completion(completion));
        self.received = received;
    }

    /// Brings what the first request of each will look up towards the processor; those behind it in a pipeline are
    /// decoded together, and then looked up so. A key may turn out to be another worker's: to ask first takes longer.
    fn prefetch_received(&self) {
        let mut hashes = [KeyHash(0); BATCH_REQUESTS];
        let mut count = 0;
        for completion in &self.received {
            let Carried::Buffer(buffer) = &completion.carried else { continue };
            let token = completion.token;
            let is_served =
                |connection: &&Connection| connection.generation == token.generation() && !connection.must_wait();
            let connection = self.core.connections.get(token.slot() as usize);
            let Some(connection) = connection.filter(is_served) else { continue };
            let first_key = |bytes: &[u8]| connection.decoder.first_key(bytes).map(|key| self.core.shard.hash(key));
            if let Some(hash) = self.ring.peek(buffer, first_key) {
                hashes[count] = hash;
                count += 1;
            }
        }
        self.core.shard.prefetch(&hashes[..count]);
    }
}
