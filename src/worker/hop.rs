//! The hop: requests for another core's keys, batched per tick and target.
//!
//! A [`Letter`] carries a tick's requests for one worker there and its replies back, and is then used again, so that
//! in steady state a hop allocates nothing. What must stay true: a worker has at most [`LETTERS_IN_FLIGHT_MAX`]
//! letters under way to each other worker, so that a mailbox is never full; further requests gather in the next
//! letter.

use std::collections::VecDeque;

use crate::command::{CommandId, Front, Session};
use crate::mailbox::Mailboxes;
use crate::protocol::resp::Version;
use crate::protocol::{Args, Output, Requests};

/// Letters that may be under way from one worker to another.
pub(super) const LETTERS_IN_FLIGHT_MAX: usize = 8;

/// Room in a mailbox: our letters, and the answers to the peer's.
pub const MAILBOX_CAPACITY: usize = 2 * LETTERS_IN_FLIGHT_MAX;

/// A letter that has grown beyond this is freed rather than used again; at half of it, the next one is begun.
const LETTER_BYTES_MAX: usize = 1 << 20;

/// Letters kept for the next ticks.
const SPARE_LETTERS_MAX: usize = 32;

/// Who asked, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Envelope {
    pub(super) slot: u32,
    pub(super) generation: u32,
    /// The entry in the connection's gather queue.
    pub(super) sequence: u32,
    /// The part of a fan's round; [`WHOLE`] when the reply is passed on as it is.
    pub(super) part: u32,
    pub(super) command: CommandId,
    pub(super) version: Version,
    pub(super) caller: Caller,
}

/// The asking client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) id: u64,
    pub(super) front: Front,
}

impl Caller {
    pub(super) fn of(session: &Session) -> Self {
        Self { id: session.id, front: session.front }
    }
}

/// [`Envelope::part`] of a request that is no part of a fan.
pub(super) const WHOLE: u32 = u32::MAX;

/// Requests on their way out, replies on their way back.
#[derive(Debug, Default)]
pub struct Letter {
    pub(super) requests: Requests,
    pub(super) envelopes: Vec<Envelope>,
    pub(super) replies: Output,
    /// For each request answered, the length of `replies` then.
    pub(super) ends: Vec<usize>,
    /// When it was posted, while stages are measured; else 0.
    pub(super) posted_ns: u64,
    /// How long its requests took to execute, as far as they were timed.
    pub(super) served_ns: u64,
    /// Timed exactly.
    pub(super) is_sampled: bool,
}

impl Letter {
    fn clear(&mut self) {
        self.requests.clear();
        self.envelopes.clear();
        self.replies.clear();
        self.ends.clear();
        (self.posted_ns, self.served_ns, self.is_sampled) = (0, 0, false);
    }

    fn capacity(&self) -> usize {
        self.requests.capacity() + self.replies.capacity()
    }
}

/// What lies in a mailbox.
#[derive(Debug)]
pub enum Message {
    /// Execute these.
    Requests(Box<Letter>),
    /// Your replies.
    Replies(Box<Letter>),
}

/// What goes to one other worker.
#[derive(Debug, Default)]
struct Outgoing {
    /// Requests of this tick, and of earlier ones while too many letters were under way.
    letters: VecDeque<Box<Letter>>,
    in_flight: usize,
    /// Something was posted since the bell was last looked at.
    is_unrung: bool,
}

/// A worker's correspondence with the others.
#[derive(Debug)]
pub(super) struct Hops {
    pub(super) mailboxes: Mailboxes<Message>,
    outgoing: Vec<Outgoing>,
    #[expect(clippy::vec_box, reason = "letters travel between workers in their boxes")]
    spares: Vec<Box<Letter>>,
    /// Letters to be served, the first of them partly.
    pub(super) serving: VecDeque<(u16, Box<Letter>)>,
}

impl Hops {
    pub(super) fn new(mailboxes: Mailboxes<Message>) -> Self {
        let outgoing = (0..mailboxes.workers()).map(|_| Outgoing::default()).collect();
        Self { mailboxes, outgoing, spares: Vec::new(), serving: VecDeque::new() }
    }

    /// Adds a request to the next letter for `to`.
    pub(super) fn send(&mut self, to: u16, envelope: Envelope, args: Args<'_>) {
        let letters = &mut self.outgoing[to as usize].letters;
        if letters.back().is_none_or(|letter| letter.requests.copied_bytes() > LETTER_BYTES_MAX / 2) {
            letters.push_back(self.spares.pop().unwrap_or_default());
        }
        let letter = letters.back_mut().expect("there is one now");
        letter.requests.push_request(args);
        letter.envelopes.push(envelope);
    }

    /// Posts an answered letter.
    pub(super) fn answer(&mut self, to: u16, letter: Box<Letter>) {
        self.post(to, Message::Replies(letter));
    }

    /// A letter of ours has come back and its replies are handed out: use it again.
    pub(super) fn recycle(&mut self, from: u16, mut letter: Box<Letter>) {
        self.outgoing[from as usize].in_flight -= 1;
        if letter.capacity() <= LETTER_BYTES_MAX && self.spares.len() < SPARE_LETTERS_MAX {
            letter.clear();
            self.spares.push(letter);
        }
    }

    /// Posts the letters of this tick, as far as letters may be under way, each stamped if it is to be; how many.
    pub(super) fn post_all(&mut self, mut stamp: impl FnMut() -> Option<(bool, u64)>) -> u64 {
        let mut posted = 0;
        for to in 0..self.outgoing.len() {
            while self.outgoing[to].in_flight < LETTERS_IN_FLIGHT_MAX
                && let Some(mut letter) = self.outgoing[to].letters.pop_front()
            {
                if let Some((is_sampled, now_ns)) = stamp() {
                    (letter.is_sampled, letter.posted_ns) = (is_sampled, now_ns);
                }
                self.outgoing[to].in_flight += 1;
                self.post(to as u16, Message::Requests(letter));
                posted += 1;
            }
        }
        posted
    }

    fn post(&mut self, to: u16, message: Message) {
        let posted = self.mailboxes.post(to, message);
        assert!(posted.is_ok(), "a mailbox has room for every letter that may be under way");
        self.outgoing[to as usize].is_unrung = true;
    }

    /// Wakes every worker that sleeps, at the end of the tick: settings or phase have changed.
    pub(super) fn ring_all(&mut self) {
        let own = self.mailboxes.index() as usize;
        let others = self.outgoing.iter_mut().enumerate().filter(|(to, _)| *to != own);
        others.for_each(|(_, outgoing)| outgoing.is_unrung = true);
    }

    /// The wake addresses of workers that sleep although there is something for them to see.
    pub(super) fn bells(&mut self) -> impl Iterator<Item = crate::ring::WakeAddress> {
        let Self { mailboxes, outgoing, .. } = self;
        outgoing.iter_mut().enumerate().filter_map(|(to, outgoing)| {
            let is_unrung = std::mem::take(&mut outgoing.is_unrung);
            if is_unrung { mailboxes.ring_bell(to as u16) } else { None }
        })
    }
}
