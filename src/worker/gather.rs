//! Replies in the order of their requests, whoever makes them.
//!
//! In: replies that arrive from other workers in any order, and local ones in between. Out: the client's bytes in the
//! order in which it asked. While nothing is awaited the queue is empty and replies go straight to the connection's
//! output; from the first request that leaves for another worker on, every reply gets an entry until the queue is
//! empty again. Local replies lie one behind the other in one run of bytes, for they are made in their order.

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
    /// What there is of the reply already.
    early: Output,
}

impl Fan {
    pub(super) fn new(plan: Box<Fanout>, version: Version) -> Self {
        Self { plan, replies: Vec::new(), waiting: 0, version, early: Output::new() }
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
    /// Answered here: so many bytes, the next ones of the local run.
    Here(usize),
    /// Answered by another worker before an older one was.
    Arrived(Output),
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

/// Released bytes of the local run that may lie before those that are not.
const RELEASED_BYTES_MAX: usize = 16 * 1024;

/// The replies that a connection still owes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Gather {
    entries: VecDeque<Entry>,
    /// Sequence number of the oldest entry.
    first: u32,
    /// The bytes of [`State::Here`], in order.
    local: Output,
    /// How many of them were released.
    released: usize,
    /// Bytes of [`State::Arrived`], and of what fans have early.
    arrived_bytes: usize,
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
        self.local.len() - self.released + self.arrived_bytes
    }

    /// Memory that they take.
    pub(super) fn held_bytes(&self) -> usize {
        self.local.capacity() + self.arrived_bytes
    }

    /// Notes that one other worker will answer; returns the entry's sequence number.
    pub(super) fn push_waiting(&mut self, is_muted: bool) -> u32 {
        self.push(Entry { state: State::Waiting, is_muted })
    }

    /// Notes that several workers will answer.
    pub(super) fn push_fan(&mut self, fan: Fan, is_muted: bool) -> u32 {
        self.push(Entry { state: State::Fan(Box::new(fan)), is_muted })
    }

    /// The run of local replies, to be taken for another one to be appended.
    pub(super) fn local(&mut self) -> &mut Output {
        &mut self.local
    }

    /// Gives the run back, with a reply that begins at `start`.
    pub(super) fn push_local(&mut self, local: Output, start: usize) {
        let len = local.len() - start;
        self.local = local;
        match self.entries.back_mut() {
            Some(Entry { state: State::Here(bytes), .. }) => *bytes += len,
            _ if len > 0 => _ = self.push(Entry { state: State::Here(len), is_muted: false }),
            _ => {}
        }
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
        entry.state = State::Here(0);
        if is_oldest && !entry.is_muted {
            pass_on(letter, range, out, spares);
        } else if !entry.is_muted {
            let mut output = spares.pop().unwrap_or_default();
            output.append_range(letter, range);
            self.arrive(sequence, output);
        }
        self.release(out, spares);
    }

    fn arrive(&mut self, sequence: u32, output: Output) {
        self.arrived_bytes += output.len();
        self.entry(sequence).state = State::Arrived(output);
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
            State::Here(_) | State::Arrived(_) | State::Waiting => Version::Resp2,
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
        let mut output = std::mem::take(&mut fan.early);
        let early_bytes = output.len();
        let replies = std::mem::take(&mut fan.replies);
        let next = fan.plan.advance(&replies, now_ms, &mut Reply { output: &mut output, version: fan.version });
        let (was_sequential, resume_ms) = (fan.is_sequential(), fan.plan.resume_ms());
        if entry.is_muted {
            output.clear();
        }
        if let Some(round) = next {
            let bytes = output.len();
            fan.early = output;
            self.arrived_bytes += bytes;
            self.arrived_bytes -= early_bytes;
            return FanStep::Send(round, resume_ms);
        }
        self.arrived_bytes -= early_bytes;
        self.arrive(sequence, output);
        FanStep::Done { was_sequential }
    }

    /// Moves the oldest ready replies to `out`, up to the first that is still awaited.
    pub(super) fn release(&mut self, out: &mut Output, spares: &mut Vec<Output>) {
        while let Some(entry) = self.entries.front_mut() {
            match &mut entry.state {
                State::Here(len) => {
                    let end = self.released + *len;
                    pass_on(&self.local, self.released..end, out, spares);
                    self.released = end;
                }
                State::Arrived(output) => {
                    let output = std::mem::take(output);
                    self.arrived_bytes -= output.len();
                    pass_on(&output, 0..output.len(), out, spares);
                    keep(spares, output);
                }
                State::Fan(fan) => {
                    let early = std::mem::take(&mut fan.early);
                    self.arrived_bytes -= early.len();
                    pass_on(&early, 0..early.len(), out, spares);
                    break;
                }
                State::Waiting => break,
            }
            self.entries.pop_front();
            self.first = self.first.wrapping_add(1);
        }
        if self.entries.is_empty() {
            self.released = 0;
            keep(spares, std::mem::take(&mut self.local));
        } else if self.released == self.local.len() {
            self.released = 0;
            self.local.clear();
        } else if self.released > RELEASED_BYTES_MAX.max(self.local.len() / 2) {
            let mut rest = Output::new();
            rest.append_range(&self.local, self.released..self.local.len());
            (self.local, self.released) = (rest, 0);
        }
    }
}

/// Appends `range` of `from` to a connection's output, whose memory may have left with the last send.
fn pass_on(from: &Output, range: std::ops::Range<usize>, out: &mut Output, spares: &mut Vec<Output>) {
    if !range.is_empty() && out.capacity() == 0 {
        *out = spares.pop().unwrap_or_default();
    }
    out.append_range(from, range);
}

/// Keeps an output's memory for another one, unless there is enough or it is large.
pub(super) fn keep(spares: &mut Vec<Output>, mut output: Output) {
    if (1..=super::SPARE_OUTPUT_BYTES_MAX).contains(&output.capacity()) && spares.len() < super::SPARE_OUTPUTS_MAX {
        output.clear();
        spares.push(output);
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

    fn push_local(gather: &mut Gather, text: &str) {
        let mut local = std::mem::take(gather.local());
        let start = local.len();
        local.extend(text.as_bytes());
        gather.push_local(local, start);
    }

    #[test]
    fn replies_leave_in_the_order_of_their_requests() {
        let (mut gather, mut out, mut spares) = (Gather::default(), Output::new(), Vec::new());
        let first = gather.push_waiting(false);
        push_local(&mut gather, "b");
        push_local(&mut gather, "c");
        let fourth = gather.push_waiting(false);
        let muted = gather.push_waiting(true);
        push_local(&mut gather, "f");

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

    #[test]
    fn a_queue_that_is_never_empty_stays_small() {
        let (mut gather, mut out, mut spares) = (Gather::default(), Output::new(), Vec::new());
        let mut next = gather.push_waiting(false);
        for round in 0..10_000 {
            let text = format!("local {round}, ");
            push_local(&mut gather, &text);
            let current = std::mem::replace(&mut next, gather.push_waiting(false));
            push_local(&mut gather, "behind, ");
            out.clear();
            gather.resolve(current, &output("hop, "), 0..5, &mut out, &mut spares);
            let before = if round == 0 { "" } else { "behind, " };
            assert_eq!(String::from_utf8(out.to_vec()), Ok(format!("hop, {before}{text}")));
            assert_eq!(gather.ready_bytes(), 8);
        }
        assert!(gather.held_bytes() <= 4 * RELEASED_BYTES_MAX, "{} bytes", gather.held_bytes());
    }
}
