//! Large replies beside small ones: how much of each goes to the kernel in a tick.
//!
//! In: the replies that begin to leave, and sends that stopped before their end. Out: how far a send may go, and the
//! sends that go on in this tick. What must stay true: every send goes on in its turn; while small replies leave as
//! well, a tick spends little time on large ones, so that none of the small ones waits for long.
//!
//! The kernel copies what it is given within the call that submits it: 256 KiB take it about 70 µs, as much as seven
//! small requests. Pieces as small as the shared ones cost large replies up to a third of their rate, so they are taken
//! only while somebody else gains by it.

use std::collections::VecDeque;

use crate::protocol::Output;
use crate::ring::{Op, Ring, Token};

use super::Worker;
use super::connection::State;

/// A reply of up to so many bytes is small; a large one goes on in such pieces while small ones leave.
const SHARED_SEND_BYTES: usize = 32 << 10;

/// What all large replies together have of a tick then, about 40 µs.
const SHARED_TICK_BYTES: usize = 4 * SHARED_SEND_BYTES;

/// So long after a small reply the next one is expected.
const SMALL_EXPECTED_NS: u64 = 10_000_000;

/// A send to be continued: its token, its bytes, and how many of them were sent.
pub(super) type Unfinished = (Token, Output, usize);

/// The sends of a worker.
#[derive(Debug, Default)]
pub(super) struct Sends {
    /// Those that go on in a later tick, the one that has waited longest first.
    unfinished: VecDeque<Unfinished>,
    /// Until when small replies count as leaving.
    shared_until_ns: u64,
}

impl Sends {
    /// A reply of so many bytes begins to leave; how many of them at most in this tick.
    #[inline]
    pub(super) fn begin(&mut self, bytes: usize, send_bytes: u32, now_ns: u64) -> usize {
        if bytes <= SHARED_SEND_BYTES {
            self.shared_until_ns = now_ns + SMALL_EXPECTED_NS;
        }
        self.limit(send_bytes, now_ns)
    }

    /// How far one send may go in this tick.
    #[inline]
    pub(super) fn limit(&self, send_bytes: u32, now_ns: u64) -> usize {
        let is_shared = now_ns < self.shared_until_ns;
        (send_bytes as usize).min(if is_shared { SHARED_SEND_BYTES } else { usize::MAX })
    }

    /// A send has stopped before its end.
    pub(super) fn put_off(&mut self, unfinished: Unfinished) {
        self.unfinished.push_back(unfinished);
    }

    /// Whether some have to go on.
    pub(super) fn is_empty(&self) -> bool {
        self.unfinished.is_empty()
    }
}

impl<R: Ring> Worker<R> {
    /// Sends that stopped before their end go on, in turn, as far as a tick allows.
    pub(super) fn continue_sends(&mut self) {
        let core = &mut self.core;
        let limit = core.sends.limit(core.settings.send_bytes, core.now.mono_ns);
        let mut left = if core.sends.shared_until_ns > core.now.mono_ns { SHARED_TICK_BYTES } else { usize::MAX };
        while left > 0
            && let Some((token, output, from)) = core.sends.unfinished.pop_front()
        {
            // It may have been closed while its turn had not come.
            let is_same = |connection: &&mut super::Connection| connection.generation == token.generation();
            let Some(connection) = core.connections.get_mut(token.slot() as usize).filter(is_same) else { continue };
            if connection.state == State::Closing {
                connection.sending_bytes = 0;
                continue;
            }
            left = left.saturating_sub(limit.min(output.len() - from));
            connection.in_flight += 1;
            core.awaits_completion = true;
            self.ring.push(token, Op::Send { fd: connection.fd, output, from, limit });
        }
    }
}
