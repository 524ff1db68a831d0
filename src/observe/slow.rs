//! What was slow: the slow log and the latency events, as `SLOWLOG` and `LATENCY` show them.
//!
//! In: a request or an event that took long, from any worker. Out: bounded lists. What must stay true: nobody takes the
//! lock unless something was slow or an operator asks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

/// Where a request's time goes, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Received by the kernel, not yet by us.
    Socket,
    /// Received by us while others had their turn.
    Queue,
    /// From bytes to requests.
    Parse,
    /// On the way to another worker and back.
    Hop,
    /// The command itself.
    Execute,
    /// Answered, while others had their turn.
    Output,
    /// Taken by the kernel and the peer.
    Send,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Stage; 7] =
        [Stage::Socket, Stage::Queue, Stage::Parse, Stage::Hop, Stage::Execute, Stage::Output, Stage::Send];

    /// The name that operators see.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Socket => "socket",
            Stage::Queue => "queue",
            Stage::Parse => "parse",
            Stage::Hop => "hop",
            Stage::Execute => "execute",
            Stage::Output => "output",
            Stage::Send => "send",
        }
    }

    /// The event's name in `LATENCY`.
    pub const fn event(self) -> &'static str {
        match self {
            Stage::Socket => "stage-socket",
            Stage::Queue => "stage-queue",
            Stage::Parse => "stage-parse",
            Stage::Hop => "stage-hop",
            Stage::Execute => "command",
            Stage::Output => "stage-output",
            Stage::Send => "stage-send",
        }
    }
}

/// Arguments of an entry, and bytes of each; Redis keeps as many.
const ARGUMENTS_MAX: usize = 32;
const ARGUMENT_BYTES_MAX: usize = 128;

/// Points in time of an event that are kept, one for each second; Redis keeps as many.
const SAMPLES_MAX: usize = 160;

/// Names of events that are kept.
const EVENTS_MAX: usize = 32;

/// A slow request.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    /// Counts up from 0.
    pub id: u64,
    /// When it was noticed, seconds since the Unix epoch.
    pub unix_s: u64,
    /// How long the stage took, microseconds.
    pub us: u64,
    /// The request, shortened.
    pub arguments: Vec<Vec<u8>>,
    /// The client's address.
    pub peer: String,
    /// The client's name.
    pub name: Vec<u8>,
    /// The stage that was slow.
    pub stage: Stage,
}

/// A request's arguments as an entry keeps them.
pub fn shorten<'a>(count: usize, arguments: impl Iterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let shown = if count > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { count };
    let shorten = |argument: &[u8]| match argument.len().checked_sub(ARGUMENT_BYTES_MAX) {
        None | Some(0) => argument.to_vec(),
        Some(more) => {
            let mut short = argument[..ARGUMENT_BYTES_MAX].to_vec();
            short.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
            short
        }
    };
    let mut kept: Vec<Vec<u8>> = arguments.take(shown).map(shorten).collect();
    if count > shown {
        kept.push(format!("... ({} more arguments)", count - shown).into_bytes());
    }
    kept
}

/// The times at which an event took long.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Second since the Unix epoch and the longest time in it, milliseconds; oldest first.
    pub samples: VecDeque<(u64, u64)>,
    /// The longest of all, milliseconds.
    pub max_ms: u64,
}

#[derive(Debug, Default)]
struct Lists {
    entries: VecDeque<SlowEntry>,
    next_id: u64,
    events: BTreeMap<&'static str, Event>,
}

/// What was slow, for the whole server.
#[derive(Debug, Default)]
pub struct Slow {
    lists: Mutex<Lists>,
}

impl Slow {
    fn lists(&self) -> std::sync::MutexGuard<'_, Lists> {
        self.lists.lock().expect("no panic while held")
    }

    /// Keeps a slow request, and no more than `most` of them; its id is given here.
    pub fn push(&self, mut entry: SlowEntry, most: usize) {
        let mut lists = self.lists();
        entry.id = lists.next_id;
        lists.next_id += 1;
        lists.entries.push_front(entry);
        lists.entries.truncate(most);
    }

    /// The newest slow requests, newest first.
    pub fn entries(&self, most: usize) -> Vec<SlowEntry> {
        self.lists().entries.iter().take(most).cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lists().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets them.
    pub fn clear(&self) {
        self.lists().entries.clear();
    }

    /// Keeps an event: of one second the longest.
    pub fn note(&self, event: &'static str, unix_s: u64, ms: u64) {
        let mut lists = self.lists();
        if lists.events.len() >= EVENTS_MAX && !lists.events.contains_key(event) {
            return;
        }
        let event = lists.events.entry(event).or_default();
        event.max_ms = event.max_ms.max(ms);
        match event.samples.back_mut() {
            Some((second, longest)) if *second == unix_s => *longest = ms.max(*longest),
            _ => {
                event.samples.push_back((unix_s, ms));
                if event.samples.len() > SAMPLES_MAX {
                    event.samples.pop_front();
                }
            }
        }
    }

    /// The events, by name.
    pub fn events(&self) -> BTreeMap<&'static str, Event> {
        self.lists().events.clone()
    }

    /// Forgets events that `is_meant`; how many.
    pub fn reset(&self, is_meant: impl Fn(&str) -> bool) -> usize {
        let mut lists = self.lists();
        let before = lists.events.len();
        lists.events.retain(|name, _| !is_meant(name));
        before - lists.events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(us: u64) -> SlowEntry {
        let arguments = shorten(1, [&b"GET"[..]].into_iter());
        SlowEntry { id: 0, unix_s: 1, us, arguments, peer: String::new(), name: Vec::new(), stage: Stage::Execute }
    }

    #[test]
    fn the_newest_are_kept() {
        let slow = Slow::default();
        (0..5).for_each(|us| slow.push(entry(us), 3));
        let kept: Vec<(u64, u64)> = slow.entries(2).iter().map(|entry| (entry.id, entry.us)).collect();
        assert_eq!((kept, slow.len()), (vec![(4, 4), (3, 3)], 3));
        slow.clear();
        slow.push(entry(9), 3);
        assert_eq!(slow.entries(9)[0].id, 5, "ids go on");
    }

    #[test]
    fn long_requests_are_shortened() {
        let long = [b'x'; 130];
        let kept = shorten(40, std::iter::repeat_n(&long[..], 40));
        assert_eq!(kept.len(), 32);
        assert!(kept[0].ends_with(b"x... (2 more bytes)"));
        assert_eq!(kept[31], b"... (9 more arguments)");
        assert_eq!(shorten(32, std::iter::repeat_n(&b"y"[..], 32)).last().map(Vec::as_slice), Some(&b"y"[..]));
    }

    #[test]
    fn events_keep_the_longest_of_a_second() {
        let slow = Slow::default();
        for (unix_s, ms) in [(1, 5), (1, 9), (1, 7), (2, 3)] {
            slow.note("command", unix_s, ms);
        }
        (0..200).for_each(|unix_s| slow.note("tick", unix_s, 1));
        let events = slow.events();
        assert_eq!(
            (events["command"].samples.clone(), events["command"].max_ms),
            (VecDeque::from([(1, 9), (2, 3)]), 9)
        );
        assert_eq!(events["tick"].samples.len(), 160);
        assert_eq!(slow.reset(|name| name == "tick"), 1);
        assert_eq!(slow.reset(|_| true), 1);
    }
}
