//! Commands over several workers: what is sent where, and how the replies become one.
//!
//! A [`Fanout`] is a small plan in rounds. Each [`Round`] is a list of requests for single workers; when their replies
//! have all arrived, [`Fanout::advance`] either asks for another round or writes the client's reply. The replies of a
//! round are encoded in RESP2, except where they are passed on as they are. What must stay true: each key is handled
//! atomically by its owner, the whole is not; a client sees the same reply as with one worker; an error of any part
//! becomes the reply.

use std::ops::Range;

use super::http::{self, batch::Batch};
use super::lease;
use super::slot::slot_of;
use super::table::{self, CommandId};
use crate::cluster::Map;
use crate::protocol::resp::{Reply, Version};
use crate::protocol::{Args, Output, Requests, memcache};

/// How a command with several keys is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Keys grouped by worker; integer replies are added (`DEL EXISTS TOUCH UNLINK`).
    Sum,
    /// Key-value pairs grouped by worker; `+OK` when all say so (`MSET`).
    Pairs,
    /// Every key on its own; array elements in key order (`MGET`).
    Each,
    /// Set all or none (`MSETNX`): worker after worker in ascending order, undone when a later one refuses. Of two
    /// overlapping calls at most one succeeds; others may see a part of it while it runs.
    AllOrNone,
    /// Moves or copies one key's item to another key (`RENAME RENAMENX COPY`): copied first, then removed.
    Transfer,
    /// Runs on the worker that the cursor names (`SCAN`).
    Cursor,
    /// Runs on the worker that has the slot (`CLUSTER COUNTKEYSINSLOT`).
    Slot,
    /// Every key on its own; memcached's items in key order, then one `END` (`get gets gat gats`).
    Retrieval,
    /// One key; asked again for as long as the client will wait for a better reply (`GETLEASE … WAIT`).
    Lease,
    /// The same over HTTP (`GET … Corering-Lease: wait=…`).
    Read,
    /// Redis commands that an HTTP request stands for.
    Batch,
}

/// How the replies of all workers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Integers are added (`DBSIZE`).
    Sum,
    /// `+OK` when all say so (`FLUSHALL`).
    AllOk,
    /// Arrays are joined (`KEYS`).
    Concat,
    /// Texts are joined (`CLIENT LIST`).
    Text,
    /// Any reply that is not null (`RANDOMKEY`).
    AnyPresent,
    /// Integers are added; else `+OK` when any says so, else the first error (`CLIENT KILL`).
    AnyOk,
    /// All say the same (`flush_all`).
    First,
}

/// Requests to be sent at once; one reply is awaited for each.
#[derive(Debug, Default)]
pub struct Round {
    /// Worker and command of each request in `requests`.
    pub parts: Vec<(u16, CommandId)>,
    /// The requests; they depend on no received bytes.
    pub requests: Requests,
}

impl Round {
    fn add(&mut self, worker: u16, command: CommandId, args: &[&[u8]]) {
        args.iter().for_each(|arg| self.requests.push_copy(arg));
        self.finish(worker, command);
    }

    pub(super) fn finish(&mut self, worker: u16, command: CommandId) {
        self.requests.finish();
        self.parts.push((worker, command));
    }
}

/// A command that is being carried out by several workers.
#[derive(Debug)]
pub struct Fanout {
    plan: Plan,
}

#[derive(Debug)]
enum Plan {
    Sum,
    AllOk,
    Each,
    Concat,
    Text,
    AnyPresent,
    AnyOk,
    First,
    Retrieval,
    Wait(Wait),
    Batch(Box<Batch>),
    AllOrNone(AllOrNone),
    Transfer(Transfer),
}

/// A request that is sent again and again, ever less often: after a quarter of the time that has passed already, so
/// that a wait of a second costs about thirty look-ups and ends at most a quarter later than it might.
#[derive(Debug)]
struct Wait {
    request: Requests,
    to: (u16, CommandId),
    wait_ms: u64,
    /// When the first reply came.
    since_ms: Option<u64>,
    next_ms: u64,
}

/// Longest time between two requests of a wait.
const WAIT_STEP_MS_MAX: u64 = 50;

/// `MSETNX`, worker by worker.
#[derive(Debug)]
struct AllOrNone {
    /// One request per worker, ascending.
    steps: Round,
    done: usize,
    /// The reply to give once the undo round has been answered.
    undone: Option<Output>,
}

/// `RENAME`, `RENAMENX`, `COPY` from one worker to another.
#[derive(Debug)]
struct Transfer {
    from: Box<[u8]>,
    to: Box<[u8]>,
    /// Workers of `from` and `to`.
    owners: (u16, u16),
    keeps_source: bool,
    replaces: bool,
    replies_integer: bool,
    step: TransferStep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransferStep {
    Dump,
    Restore,
    Delete,
}

impl Fanout {
    /// Plans a command whose keys are on several workers; `None` when its arguments are wrong, so that running it
    /// anywhere gives the error.
    pub fn spread(command: CommandId, spread: Spread, args: Args<'_>, map: &Map) -> Option<(Fanout, Round)> {
        let owner = |index: usize| owner_of(args.get(index), map);
        let (plan, round) = match spread {
            Spread::Sum => (Plan::Sum, grouped(command, args, 1, map)),
            Spread::Pairs if args.len() % 2 == 1 => (Plan::AllOk, grouped(command, args, 2, map)),
            Spread::Each => {
                let mut round = Round::default();
                (1..args.len()).for_each(|i| round.add(owner(i), command, &[args.get(0), args.get(i)]));
                (Plan::Each, round)
            }
            Spread::Retrieval if args.iter().skip(1).all(|key| memcache::key(key).is_ok()) => {
                let (mut round, first) = (Round::default(), command.spec().keys.first as usize);
                for index in first..args.len() {
                    (0..first).chain([index]).for_each(|index| round.requests.push_copy(args.get(index)));
                    round.finish(owner(index), command);
                }
                (Plan::Retrieval, round)
            }
            Spread::AllOrNone if args.len() % 2 == 1 => {
                let mut plan = AllOrNone { steps: grouped(command, args, 2, map), done: 0, undone: None };
                let first = plan.next_step();
                (Plan::AllOrNone(plan), first)
            }
            Spread::Transfer => {
                let transfer = Transfer::new(command, args, (owner(1), owner(2)))?;
                let round = transfer.round(&[]);
                (Plan::Transfer(transfer), round)
            }
            Spread::Pairs | Spread::AllOrNone | Spread::Retrieval | Spread::Lease | Spread::Cursor => return None,
            Spread::Slot | Spread::Read | Spread::Batch => return None,
        };
        Some((Fanout { plan }, round))
    }

    /// Plans a request that is sent again while its reply tells to wait, for so long at most.
    pub fn wait(command: CommandId, args: Args<'_>, worker: u16, wait_ms: u64) -> (Fanout, Round) {
        let mut request = Requests::default();
        request.push_request(args);
        let wait = Wait { request, to: (worker, command), wait_ms, since_ms: None, next_ms: 0 };
        let round = wait.round();
        (Fanout { plan: Plan::Wait(wait) }, round)
    }

    /// Carries out the commands of one HTTP request.
    pub fn batch(batch: Batch) -> Self {
        Fanout { plan: Plan::Batch(Box::new(batch)) }
    }

    /// Plans a command that runs on each of `workers`.
    pub fn everywhere(command: CommandId, merge: Merge, args: Args<'_>, workers: Range<u16>) -> (Fanout, Round) {
        let plan = match merge {
            Merge::Sum => Plan::Sum,
            Merge::AllOk => Plan::AllOk,
            Merge::Concat => Plan::Concat,
            Merge::Text => Plan::Text,
            Merge::AnyPresent => Plan::AnyPresent,
            Merge::AnyOk => Plan::AnyOk,
            Merge::First => Plan::First,
        };
        let mut round = Round::default();
        for worker in workers {
            round.requests.push_request(args);
            round.parts.push((worker, command));
        }
        (Fanout { plan }, round)
    }

    /// The version that the parts' replies are wanted in: the client's where they are passed on as they are.
    pub fn reply_version(&self, client: Version) -> Version {
        match &self.plan {
            Plan::Batch(batch) => batch.reply_version(),
            Plan::Each | Plan::AnyPresent | Plan::Wait(_) => client,
            _ => Version::Resp2,
        }
    }

    /// Whether the client's next requests must wait until this one is done, because later rounds would be overtaken.
    pub fn is_sequential(&self) -> bool {
        matches!(self.plan, Plan::AllOrNone(_) | Plan::Transfer(_) | Plan::Batch(_))
    }

    /// When the round that [`advance`](Self::advance) has returned is to be sent; `None`: at once.
    pub fn resume_ms(&self) -> Option<u64> {
        match &self.plan {
            Plan::Wait(wait) => Some(wait.next_ms),
            Plan::Batch(batch) => batch.resume_ms(),
            _ => None,
        }
    }

    /// Takes the replies of a round, in the order of its parts, at a time in milliseconds of any clock that does not go
    /// back. Returns the next round, or writes the client's reply.
    pub fn advance(&mut self, replies: &[Output], now_ms: u64, reply: &mut Reply<'_>) -> Option<Round> {
        match &mut self.plan {
            Plan::Wait(wait) => return wait.advance(replies, now_ms, reply),
            Plan::Batch(batch) => return batch.advance(replies, now_ms, reply),
            Plan::AllOrNone(plan) => return plan.advance(replies, reply),
            Plan::Transfer(plan) => return plan.advance(replies, reply),
            Plan::First => {
                replies.first().into_iter().for_each(|first| reply.output.append(first));
                return None;
            }
            Plan::Retrieval => {
                join_retrievals(replies, reply.output);
                return None;
            }
            Plan::AnyOk if replies.iter().all(|reply| first_byte(reply) == b':') => {
                reply.integer(replies.iter().map(number).sum());
                return None;
            }
            Plan::AnyOk => {
                let ok = replies.iter().find(|reply| first_byte(reply) != b'-').or(replies.first());
                ok.into_iter().for_each(|ok| reply.output.append(ok));
                return None;
            }
            _ => {}
        }
        if let Some(error) = replies.iter().find(|reply| first_byte(reply) == b'-') {
            reply.output.append(error);
            return None;
        }
        match &self.plan {
            Plan::Sum => reply.integer(replies.iter().map(number).sum()),
            Plan::AllOk => reply.simple("OK"),
            Plan::Each => {
                reply.array(replies.len());
                replies.iter().for_each(|element| append_body(reply, element));
            }
            Plan::Concat => {
                reply.array(replies.iter().map(number).sum::<i64>() as usize);
                replies.iter().for_each(|array| append_body(reply, array));
            }
            Plan::Text => {
                let texts = replies.iter().map(|text| String::from_utf8_lossy(bulk(&text.to_vec())).into_owned());
                reply.verbatim("txt", &texts.collect::<String>());
            }
            Plan::AnyPresent => {
                let present: Vec<&Output> = replies.iter().filter(|reply| number(reply) >= 0).collect();
                // Which one is as random as the replies are.
                let random =
                    present.iter().flat_map(|reply| reply.to_vec()).fold(0, |sum, byte| sum + usize::from(byte));
                match present.get(random % present.len().max(1)) {
                    Some(present) => reply.output.append(present),
                    None => reply.null(),
                }
            }
            Plan::AnyOk | Plan::First | Plan::Retrieval => unreachable!("answered above"),
            Plan::Wait(_) | Plan::Batch(_) | Plan::AllOrNone(_) | Plan::Transfer(_) => unreachable!("answered above"),
        }
        None
    }
}

/// memcached's items one after the other, or the first reply that is none.
fn join_retrievals(replies: &[Output], output: &mut Output) {
    const END: &[u8] = b"END\r\n";
    let is_retrieval = |reply: &&Output| reply.head().starts_with(b"VALUE ") || reply.head() == END;
    if let Some(refusal) = replies.iter().find(|reply| !is_retrieval(reply)) {
        return output.append(refusal);
    }
    replies.iter().for_each(|items| output.append_range(items, 0..items.len() - END.len()));
    output.extend(END);
}

/// The worker that has a key, which is one of this process.
fn owner_of(key: &[u8], map: &Map) -> u16 {
    map.worker_of(slot_of(key)).expect("a request with another process's key is refused before it is spread")
}

/// One request per worker that owns any of the keys, ascending, each with its keys (and values) in their order.
fn grouped(command: CommandId, args: Args<'_>, step: usize, map: &Map) -> Round {
    let owners: Vec<u16> = (1..args.len()).step_by(step).map(|key| owner_of(args.get(key), map)).collect();
    let mut round = Round::default();
    for worker in 0..map.workers() {
        if !owners.contains(&worker) {
            continue;
        }
        round.requests.push_copy(args.get(0));
        for (index, _) in owners.iter().enumerate().filter(|(_, owner)| **owner == worker) {
            let key = 1 + index * step;
            (key..key + step).for_each(|index| push_argument(&mut round.requests, args, index));
        }
        round.finish(worker, command);
    }
    round
}

fn push_argument(requests: &mut Requests, args: Args<'_>, index: usize) {
    match args.body(index) {
        Some(body) => requests.push_body(body.clone()),
        None => requests.push_copy(args.get(index)),
    }
}

impl Wait {
    fn round(&self) -> Round {
        let mut round = Round::default();
        round.requests.push_request(self.request.get(0, &[]));
        round.parts.push(self.to);
        round
    }

    fn advance(&mut self, replies: &[Output], now_ms: u64, reply: &mut Reply<'_>) -> Option<Round> {
        let waited_ms = now_ms.saturating_sub(*self.since_ms.get_or_insert(now_ms));
        let is_waiting = [lease::WAITS, http::WAITS].iter().any(|waits| replies[0].head().starts_with(waits));
        if !is_waiting || waited_ms >= self.wait_ms {
            reply.output.append(&replies[0]);
            return None;
        }
        let step_ms = (waited_ms / 4).clamp(1, WAIT_STEP_MS_MAX).min(self.wait_ms - waited_ms);
        self.next_ms = now_ms + step_ms;
        Some(self.round())
    }
}

impl AllOrNone {
    fn next_step(&mut self) -> Round {
        let mut round = Round::default();
        round.requests.push_request(self.steps.requests.get(self.done, &[]));
        round.parts.push(self.steps.parts[self.done]);
        self.done += 1;
        round
    }

    fn advance(&mut self, replies: &[Output], reply: &mut Reply<'_>) -> Option<Round> {
        if let Some(undone) = &self.undone {
            reply.output.append(undone);
            return None;
        }
        let refused = first_byte(&replies[0]) == b'-' || number(&replies[0]) == 0;
        if !refused && self.done < self.steps.parts.len() {
            return Some(self.next_step());
        }
        if !refused || self.done == 1 {
            reply.output.append(&replies[0]);
            return None;
        }
        self.undone = Some(replies[0].clone());
        Some(self.undo())
    }

    /// Deletes what the steps before the one that was refused have set.
    fn undo(&self) -> Round {
        let delete = table::hidden("del");
        let mut round = Round::default();
        for step in 0..self.done - 1 {
            let args = self.steps.requests.get(step, &[]);
            round.requests.push_copy(b"del");
            (1..args.len()).step_by(2).for_each(|key| round.requests.push_copy(args.get(key)));
            round.finish(self.steps.parts[step].0, delete);
        }
        round
    }
}

impl Transfer {
    fn new(command: CommandId, args: Args<'_>, owners: (u16, u16)) -> Option<Self> {
        let name = command.spec().name;
        let mut replaces = name == "rename";
        let mut options = args.iter().skip(3);
        while let Some(option) = options.next() {
            if option.eq_ignore_ascii_case(b"replace") {
                replaces = true;
            } else if !(option.eq_ignore_ascii_case(b"db") && options.next() == Some(b"0")) {
                return None;
            }
        }
        Some(Transfer {
            from: args.get(1).into(),
            to: args.get(2).into(),
            owners,
            keeps_source: name == "copy",
            replaces,
            replies_integer: name != "rename",
            step: TransferStep::Dump,
        })
    }

    /// The request of the current step; `dumped` is the reply to the dump.
    fn round(&self, dumped: &[u8]) -> Round {
        let mut round = Round::default();
        match self.step {
            TransferStep::Dump => round.add(self.owners.0, table::hidden(" dump"), &[b" dump", &self.from]),
            TransferStep::Restore => {
                let (value, expiry) = dumped_item(dumped);
                let replace: &[u8] = if self.replaces { b"1" } else { b"0" };
                let args = [b" restore", &self.to[..], value, expiry, replace];
                round.add(self.owners.1, table::hidden(" restore"), &args);
            }
            TransferStep::Delete => round.add(self.owners.0, table::hidden("del"), &[b"del", &self.from]),
        }
        round
    }

    fn advance(&mut self, replies: &[Output], reply: &mut Reply<'_>) -> Option<Round> {
        let answer = &replies[0];
        if first_byte(answer) == b'-' {
            reply.output.append(answer);
            return None;
        }
        match self.step {
            TransferStep::Dump if number(answer) < 0 => {
                if self.keeps_source {
                    reply.integer(0);
                } else {
                    reply.error("ERR no such key");
                }
                return None;
            }
            TransferStep::Dump => {
                self.step = TransferStep::Restore;
                return Some(self.round(&answer.to_vec()));
            }
            TransferStep::Restore if number(answer) == 0 => reply.integer(0),
            TransferStep::Restore if !self.keeps_source => {
                self.step = TransferStep::Delete;
                return Some(self.round(&[]));
            }
            TransferStep::Restore | TransferStep::Delete if self.replies_integer => reply.integer(1),
            TransferStep::Restore | TransferStep::Delete => reply.simple("OK"),
        }
        None
    }
}

fn first_byte(reply: &Output) -> u8 {
    reply.first().unwrap_or(b'-')
}

/// Splits a reply's first line from the rest: the number after its type byte, and the position after the line end.
fn header(bytes: &[u8]) -> (i64, usize) {
    let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
    let digits = bytes.get(1..end.saturating_sub(2)).unwrap_or_default();
    let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
    (number.unwrap_or(-1), end)
}

/// The number in a reply's first line: an integer's value, an aggregate's or a string's length, -1 for null.
fn number(reply: &Output) -> i64 {
    header(reply.head()).0
}

/// The content of an encoded bulk string.
fn bulk(bytes: &[u8]) -> &[u8] {
    let (len, start) = header(bytes);
    bytes.get(start..start + len.max(0) as usize).unwrap_or_default()
}

/// The value and the expiry in a reply to the hidden dump command: an array of a bulk string and an integer.
fn dumped_item(reply: &[u8]) -> (&[u8], &[u8]) {
    let rest = &reply[header(reply).1..];
    let value = bulk(rest);
    let integer = &rest[header(rest).1 + value.len() + 2..];
    (value, &integer[1..integer.len() - 2])
}

/// Appends a reply without its first line.
fn append_body(reply: &mut Reply<'_>, array: &Output) {
    let start = header(array.head()).1;
    reply.output.append_range(array, start..array.len());
}
