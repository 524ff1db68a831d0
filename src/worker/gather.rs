//! Replies in the order of their requests, whoever makes them.
//!
//! In: replies that arrive from other workers in any order, and local ones in between. Out: the client's bytes in the
//! order in which it asked. While nothing is awaited the queue is empty and replies go straight to the connection's
//! output; from the first request that leaves for another worker on, every reply gets an entry until the queue is
//! empty again.

use std::collections::VecDeque;

use crate::command::{Fanout, Round};
use crate::protocol::Output;
use crate::protocol::resp::{Reply, Version};

/// A multi-worker command under way.
#[derive(Debug)]
pub(super) struct Fan {
    plan: Box<Fanout>,
    replies: Vec<Output>,
    waiting: usize,
    version: Version,
}

impl Fan {
    pub(super) fn new(plan: Box<Fanout>, version: Version) -> Self {
        Self { plan, replies: Vec::new(), waiting: 0, version }
    }

    /// The version in which the parts of the plan answer.
    pub(super) fn part_version(&self) -> Version {
        self.plan.reply_version(self.version)
    }

    pub(super) fn is_sequential(&self) -> bool {
        self.plan.is_sequential()
    }

    fn begin(&mut self, round: &Round) {
        self.waiting = round.parts.len();
        self.replies.clear();
        self.replies.resize_with(self.waiting, Output::new);
    }
}

#[derive(Debug)]
enum State {
    /// Answered; the bytes are complete.
    Ready(Output),
    /// One other worker will answer.
    Waiting,
    /// Several will.
    Fan(Box<Fan>),
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// The client does not want this reply (`CLIENT REPLY`).
    is_muted: bool,
}

/// What [`Gather::fan_reply`] asks for.
#[derive(Debug)]
pub(super) enum FanStep {
    /// More replies of this round are awaited.
    Wait,
    /// Another round is to be sent, now or at this time in milliseconds.
    Send(Round, Option<u64>),
    /// The command is answered.
    Done {
        /// Later requests had to wait for it.
        was_sequential: bool,
    },
}

/// The replies that a connection still owes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Gather {
    entries: VecDeque<Entry>,
    /// Sequence number of the oldest entry.
    first: u32,
    /// Bytes waiting in ready entries.
    ready_bytes: usize,
}

impl Gather {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of replies that wait for an older one.
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Notes that one other worker will answer; returns the entry's sequence number.
    pub(super) fn push_waiting(&mut self, is_muted: bool) -> u32 {
        self.push(Entry { state: State::Waiting, is_muted })
    }

    /// Notes that several workers will answer.
    pub(super) fn push_fan(&mut self, fan: Fan, is_muted: bool) -> u32 {
        self.push(Entry { state: State::Fan(Box::new(fan)), is_muted })
    }

    /// Adds a local reply behind the entries; `spare` is used for its bytes when it needs an entry of its own.
    pub(super) fn push_ready(&mut self, reply: &Output, spare: impl FnOnce() -> Output) {
        self.ready_bytes += reply.len();
        if let Some(Entry { state: State::Ready(output), .. }) = self.entries.back_mut() {
            return output.append(reply);
        }
        let mut output = spare();
        output.append(reply);
        self.push(Entry { state: State::Ready(output), is_muted: false });
    }

    fn push(&mut self, entry: Entry) -> u32 {
        self.entries.push_back(entry);
        self.first.wrapping_add(self.entries.len() as u32 - 1)
    }

    fn entry(&mut self, sequence: u32) -> &mut Entry {
        &mut self.entries[sequence.wrapping_sub(self.first) as usize]
    }

    /// The reply of a [`push_waiting`](Self::push_waiting) entry has come: `range` of `letter`.
    pub(super) fn resolve(
        &mut self,
        sequence: u32,
        letter: &Output,
        range: std::ops::Range<usize>,
        out: &mut Output,
        spares: &mut Vec<Output>,
    ) {
        let is_oldest = sequence == self.first;
        let entry = self.entry(sequence);
        if entry.is_muted {
            entry.state = State::Ready(Output::new());
        } else if is_oldest {
            out.append_range(letter, range);
            entry.state = State::Ready(Output::new());
        } else {
            let mut output = spares.pop().unwrap_or_default();
            output.append_range(letter, range);
            let len = output.len();
            entry.state = State::Ready(output);
            self.ready_bytes += len;
        }
        self.release(out, spares);
    }

    /// A fan's round has been made and its parts are being sent.
    pub(super) fn begin_round(&mut self, sequence: u32, round: &Round) {
        if let State::Fan(fan) = &mut self.entry(sequence).state {
            fan.begin(round);
        }
    }

    /// The version in which the parts of the fan answer.
    pub(super) fn part_version(&mut self, sequence: u32) -> Version {
        match &self.entry(sequence).state {
            State::Fan(fan) => fan.part_version(),
            State::Ready(_) | State::Waiting => Version::Resp2,
        }
    }

    /// One part of a fan's round has answered with `range` of `letter`.
    pub(super) fn fan_reply(
        &mut self,
        sequence: u32,
        part: u32,
        letter: &Output,
        range: std::ops::Range<usize>,
        now_ms: u64,
    ) -> FanStep {
        let entry = self.entry(sequence);
        let State::Fan(fan) = &mut entry.state else { return FanStep::Wait };
        fan.replies[part as usize].append_range(letter, range);
        fan.waiting -= 1;
        if fan.waiting > 0 {
            return FanStep::Wait;
        }
        let mut output = Output::new();
        let replies = std::mem::take(&mut fan.replies);
        let next = fan.plan.advance(&replies, now_ms, &mut Reply { output: &mut output, version: fan.version });
        if let Some(round) = next {
            return FanStep::Send(round, fan.plan.resume_ms());
        }
        let was_sequential = fan.is_sequential();
        if entry.is_muted {
            output.clear();
        }
        let len = output.len();
        entry.state = State::Ready(output);
        self.ready_bytes += len;
        FanStep::Done { was_sequential }
    }

    /// Moves the oldest ready replies to `out`, up to the first that is still awaited.
    pub(super) fn release(&mut self, out: &mut Output, spares: &mut Vec<Output>) {
        while let Some(Entry { state: State::Ready(output), .. }) = self.entries.front_mut() {
            let mut output = std::mem::take(output);
            self.ready_bytes -= output.len();
            out.append(&output);
            self.entries.pop_front();
            self.first = self.first.wrapping_add(1);
            if output.capacity() > 0 && spares.len() < super::SPARE_OUTPUTS_MAX {
                output.clear();
                spares.push(output);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> Output {
        let mut output = Output::new();
        output.extend(text.as_bytes());
        output
    }

    #[test]
    fn replies_leave_in_the_order_of_their_requests() {
        let (mut gather, mut out, mut spares) = (Gather::default(), Output::new(), Vec::new());
        let first = gather.push_waiting(false);
        gather.push_ready(&output("b"), Output::new);
        gather.push_ready(&output("c"), Output::new);
        let fourth = gather.push_waiting(false);
        let muted = gather.push_waiting(true);
        gather.push_ready(&output("f"), Output::new);

        gather.resolve(fourth, &output("xdx"), 1..2, &mut out, &mut spares);
        assert!(out.is_empty());
        assert_eq!(gather.ready_bytes(), 4);
        gather.resolve(first, &output("a"), 0..1, &mut out, &mut spares);
        assert_eq!(out.to_vec(), b"abcd");
        gather.resolve(muted, &output("e"), 0..1, &mut out, &mut spares);
        assert_eq!(out.to_vec(), b"abcdf");
        assert!(gather.is_empty());
        assert_eq!(gather.ready_bytes(), 0);
    }

    #[test]
    fn sequence_numbers_wrap() {
        let (mut gather, mut out, mut spares) = (Gather::default(), Output::new(), Vec::new());
        gather.first = u32::MAX;
        let first = gather.push_waiting(false);
        let second = gather.push_waiting(false);
        assert_eq!((first, second), (u32::MAX, 0));
        gather.resolve(second, &output("2"), 0..1, &mut out, &mut spares);
        gather.resolve(first, &output("1"), 0..1, &mut out, &mut spares);
        assert_eq!(out.to_vec(), b"12");
    }
}
