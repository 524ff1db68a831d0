//! Where a request runs: on this worker, on another one, on several, or at another node.
//!
//! In: a command with its arguments, and where it came in. Out: a [`Route`]. What must stay true: a connection of a
//! node's port is served that node's slots only, one slot a request; a connection of the shared port is served every
//! slot of this process; with one worker that has every slot and no cluster, no slot is computed.

use std::ops::Range;
use std::sync::Arc;

use super::fanout::{Fanout, Merge, Round, Spread};
use super::session::Front;
use super::slot::{self, slot_of};
use super::table::Spec;
use super::{CommandId, Execute, Flags, Run, http, lease};
use crate::cluster::{Map, SLOTS};
use crate::protocol::Args;

/// Where a request must run.
#[derive(Debug)]
pub enum Route {
    /// On the worker that has the connection.
    Here,
    /// On another worker, as it is.
    Worker(u16),
    /// On several; the first round is ready to be sent.
    Fanout(Box<Fanout>, Round),
    /// At the node that has this slot: the client is told so.
    Moved(u16),
    /// Nowhere: its keys are in several slots.
    CrossSlot,
}

/// Where a request came in.
#[derive(Clone, Copy, Debug)]
pub struct Entrance<'a> {
    /// Who has which slots.
    pub map: &'a Arc<Map>,
    /// The kind of listener.
    pub front: Front,
    /// The worker that has the connection.
    pub here: u16,
    /// The time, for what is answered later.
    pub unix_ms: u64,
}

/// The workers whose keys are served where a client came in.
pub(super) fn reach(map: &Map, front: Front, here: u16) -> Range<u16> {
    if front == Front::RespCore { map.node_of_worker(here).workers.clone() } else { 0..map.workers() }
}

impl Entrance<'_> {
    /// The workers whose keys are served here.
    pub fn reach(self) -> Range<u16> {
        reach(self.map, self.front, self.here)
    }

    #[inline]
    fn is_whole(self) -> bool {
        is_whole(self.map, self.front)
    }

    fn to(self, worker: u16) -> Route {
        if worker == self.here { Route::Here } else { Route::Worker(worker) }
    }

    #[inline]
    fn to_slot(self, slot: u16) -> Route {
        if self.map.is_own(self.here, slot) { Route::Here } else { self.to_owner(slot) }
    }

    #[inline(never)]
    fn to_owner(self, slot: u16) -> Route {
        match self.map.worker_of(slot) {
            Some(worker) if self.reach().contains(&worker) => Route::Worker(worker),
            _ => Route::Moved(slot),
        }
    }
}

/// Decides where a request runs. The slot of its argument 1, the usual place of a key, may be known already.
// Small where requests are executed: what is rare stays outside, with the room that its plans take.
#[inline(always)]
pub fn route(command: CommandId, spec: &Spec, args: Args<'_>, known: Option<u16>, from: Entrance<'_>) -> Route {
    match spec.run {
        Run::Spread(_, spread) => spread_out(command, spread, args, from),
        _ if from.is_whole() => Route::Here,
        Run::Session(_) | Run::Container => Route::Here,
        Run::Keyed(_) => from.to_slot(key_slot(spec, args, known)),
        Run::Everywhere(_, merge) => everywhere(command, merge, args, from),
    }
}

/// What a command over keys runs when all of it runs at once on the worker that has the connection, where [`route`]
/// says `Here`. The connection's front, and the worker.
#[inline]
pub fn here(
    command: CommandId,
    args: Args<'_>,
    known: Option<u16>,
    map: &Map,
    (front, worker): (Front, u16),
) -> Option<Execute> {
    let spec = command.spec();
    match spec.run {
        Run::Keyed(execute) => {
            (is_whole(map, front) || map.is_own(worker, key_slot(spec, args, known))).then_some(execute)
        }
        Run::Spread(execute, spread) => {
            let is_plain = !matches!(spread, Spread::Batch) && !spec.flags.has(Flags::CLUSTER);
            (is_plain && is_whole(map, front) && wait_ms(command, args) == 0).then_some(execute)
        }
        Run::Session(_) | Run::Everywhere(..) | Run::Container => None,
    }
}

#[inline]
fn key_slot(spec: &Spec, args: Args<'_>, known: Option<u16>) -> u16 {
    known.filter(|_| spec.keys.first == 1).unwrap_or_else(|| slot_of(args.get(spec.keys.first as usize)))
}

/// Whether every key there is lies with this worker, and is served here.
#[inline]
fn is_whole(map: &Map, front: Front) -> bool {
    matches!(front, Front::Resp | Front::Memcache | Front::Http) && map.is_one_workers()
}

/// A command for every worker that can be reached.
#[inline(never)]
fn everywhere(command: CommandId, merge: Merge, args: Args<'_>, from: Entrance<'_>) -> Route {
    let reach = from.reach();
    if reach.len() == 1 {
        return from.to(reach.start);
    }
    let (fanout, round) = Fanout::everywhere(command, merge, args, reach);
    Route::Fanout(Box::new(fanout), round)
}

/// A command that may have to ask several workers, or the same one again.
#[inline(never)]
fn spread_out(command: CommandId, spread: Spread, args: Args<'_>, from: Entrance<'_>) -> Route {
    if let Spread::Batch = spread {
        return http::batch::plan(args, from)
            .map_or(Route::Here, |(batch, round)| Route::Fanout(Box::new(Fanout::batch(batch)), round));
    }
    if from.is_whole() {
        // Even one worker lets its client wait.
        return match wait_ms(command, args) {
            0 => Route::Here,
            wait_ms => wait_for(command, args, from.here, wait_ms),
        };
    }
    match spread {
        Spread::Cursor => {
            let reach = from.reach();
            from.to(slot::cursor_worker(args.get(1)).filter(|worker| reach.contains(worker)).unwrap_or(reach.start))
        }
        Spread::Lease | Spread::Read => match (from.to_slot(slot_of(args.get(1))), wait_ms(command, args)) {
            (Route::Here, wait_ms @ 1..) => wait_for(command, args, from.here, wait_ms),
            (Route::Worker(worker), wait_ms @ 1..) => wait_for(command, args, worker, wait_ms),
            (route, _) => route,
        },
        Spread::Slot => {
            let slot = slot::number(args.get(2)).filter(|slot| *slot < SLOTS);
            let owner = slot.and_then(|slot| from.map.worker_of(slot));
            from.to(owner.filter(|worker| from.reach().contains(worker)).unwrap_or(from.here))
        }
        spread => several_keys(command, spread, args, from),
    }
}

/// How long a client wants to wait until its request has a better reply.
fn wait_ms(command: CommandId, args: Args<'_>) -> u64 {
    match command.spec().run {
        Run::Spread(_, Spread::Lease) if args.len() > 2 => lease::options(args).map_or(0, |options| options.wait_ms),
        Run::Spread(_, Spread::Read) => http::wait_ms(args),
        _ => 0,
    }
}

fn wait_for(command: CommandId, args: Args<'_>, worker: u16, wait_ms: u64) -> Route {
    let (fanout, round) = Fanout::wait(command, args, worker, wait_ms);
    Route::Fanout(Box::new(fanout), round)
}

/// A command with several keys.
fn several_keys(command: CommandId, spread: Spread, args: Args<'_>, from: Entrance<'_>) -> Route {
    let mut slots = command.spec().keys.positions(args.len()).map(|key| slot_of(args.get(key)));
    let Some(first) = slots.next() else { return Route::Here };
    let owner = from.map.worker_of(first);
    let (mut is_one_slot, mut is_one_worker, mut is_all_here) = (true, true, owner.is_some());
    for slot in slots {
        let other = from.map.worker_of(slot);
        is_one_slot &= slot == first;
        is_one_worker &= other == owner;
        is_all_here &= other.is_some();
    }
    if is_one_slot {
        return from.to_slot(first);
    }
    if from.front == Front::RespCore || !is_all_here {
        return Route::CrossSlot;
    }
    match owner.filter(|_| is_one_worker) {
        Some(worker) => from.to(worker),
        None => Fanout::spread(command, spread, args, from.map)
            .map_or(Route::Here, |(fanout, round)| Route::Fanout(Box::new(fanout), round)),
    }
}
