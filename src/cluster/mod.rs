//! Who serves which slots: the nodes of the cluster, each a group of cores, and the map of the slots among them.
//!
//! In: settings, or the file of a fixed map. Out: a [`Map`], which answers in one look which worker of this process
//! owns a slot, or which node else. What must stay true: a map is a value with an epoch, complete in itself, and is
//! only ever replaced as a whole; every slot has exactly one node; a worker belongs to exactly one node. A server that
//! is no cluster has a map too: one node with all workers.

use std::ops::{Range, RangeInclusive};

mod file;
mod plan;

pub use plan::nodes;

/// Number of slots in the keyspace.
pub const SLOTS: u16 = 16384;

/// The last slot.
const LAST: u16 = SLOTS - 1;

/// In the table of workers: a slot of another process.
const ELSEWHERE: u16 = u16::MAX;

/// Where clients find the nodes of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// What clients are told to connect to: an address, or a name. Empty: the address that they are connected to.
    pub endpoint: String,
    /// The address; empty when another process's name does not resolve here.
    pub ip: String,
    /// The name, told beside the address; may be empty.
    pub hostname: String,
}

/// One node: a group of cores of one process, with a port and some of the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 40 hexadecimal digits, the same in every process and after every restart.
    pub id: String,
    /// The same for the shard, which has no other node.
    pub shard_id: String,
    /// Where clients find it.
    pub host: Host,
    /// The port that clients are told.
    pub port: u16,
    /// The port that this process listens on; 0 lets the kernel choose.
    pub listen_port: u16,
    /// Its slots, ascending.
    pub slots: Vec<RangeInclusive<u16>>,
    /// The workers of this process that serve it, each an equal part of the slots; none for another process's node.
    pub workers: Range<u16>,
}

impl Node {
    /// The node number `index` of a process; names and numbers make its ids.
    pub fn new(process: &str, index: usize, slots: Vec<RangeInclusive<u16>>, workers: Range<u16>) -> Self {
        let id = |kind: &str| digits(&format!("{kind} {process}/{index}"));
        Self { id: id("node"), shard_id: id("shard"), host: Host::default(), port: 0, listen_port: 0, slots, workers }
    }

    /// How many slots it has.
    pub fn slot_count(&self) -> usize {
        self.slots.iter().map(|range| range.len()).sum()
    }

    /// Whether this process serves it.
    pub fn is_own(&self) -> bool {
        !self.workers.is_empty()
    }
}

/// One division of the slots among nodes, and of this process's slots among its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Grows with every change.
    pub epoch: u64,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// For each slot its node.
    node_of_slot: Box<[u16]>,
    /// For each slot its worker in this process, or [`ELSEWHERE`].
    worker_of_slot: Box<[u16]>,
    /// For each worker its node.
    node_of_worker: Box<[u16]>,
    /// For each worker the first run of slots that are all its own, where the tables need not be asked: most have one.
    run_of_worker: Box<[Range<u16>]>,
}

impl Map {
    /// The map of a server that is no cluster.
    pub fn alone(workers: u16) -> Self {
        Self::new(0, vec![Node::new("", 0, vec![0..=LAST], 0..workers)])
    }

    /// A map of nodes that have every slot once, and every worker.
    pub fn new(epoch: u64, nodes: Vec<Node>) -> Self {
        let workers = nodes.iter().map(|node| node.workers.len()).sum();
        let mut map = Self {
            epoch,
            node_of_slot: vec![0; SLOTS as usize].into(),
            worker_of_slot: vec![ELSEWHERE; SLOTS as usize].into(),
            node_of_worker: vec![0; workers].into(),
            run_of_worker: vec![0..0; workers].into(),
            nodes,
        };
        for (index, node) in map.nodes.iter().enumerate() {
            let count = node.slot_count();
            for (rank, slot) in node.slots.iter().cloned().flatten().enumerate() {
                map.node_of_slot[slot as usize] = index as u16;
                if node.is_own() {
                    let part = rank * node.workers.len() / count;
                    map.worker_of_slot[slot as usize] = node.workers.start + part as u16;
                }
            }
            node.workers.clone().for_each(|worker| map.node_of_worker[worker as usize] = index as u16);
        }
        for (slot, worker) in (0..).zip(&map.worker_of_slot) {
            match map.run_of_worker.get_mut(*worker as usize) {
                Some(run) if *run == (0..0) => *run = slot..slot + 1,
                Some(run) if run.end == slot => run.end += 1,
                _ => {}
            }
        }
        map
    }

    /// Whether a worker of this process owns a slot.
    #[inline]
    pub fn is_own(&self, worker: u16, slot: u16) -> bool {
        self.run_of_worker[worker as usize].contains(&slot) || self.worker_of(slot) == Some(worker)
    }

    /// The worker of this process that owns a slot; `None` when it is another process's.
    pub fn worker_of(&self, slot: u16) -> Option<u16> {
        Some(self.worker_of_slot[slot as usize]).filter(|worker| *worker != ELSEWHERE)
    }

    /// The node that has a slot.
    pub fn node_of(&self, slot: u16) -> &Node {
        &self.nodes[self.node_of_slot[slot as usize] as usize]
    }

    /// The node that a worker of this process belongs to.
    pub fn node_of_worker(&self, worker: u16) -> &Node {
        &self.nodes[self.node_of_worker[worker as usize] as usize]
    }

    /// Whether one worker has every slot.
    pub fn is_one_workers(&self) -> bool {
        self.node_of_worker.len() == 1 && self.nodes.len() == 1
    }

    /// How many workers this process has.
    pub fn workers(&self) -> u16 {
        self.node_of_worker.len() as u16
    }

    /// The slots in their order, each run of them with its node.
    pub fn runs(&self) -> Vec<(RangeInclusive<u16>, &Node)> {
        let mut runs: Vec<_> =
            self.nodes.iter().flat_map(|node| node.slots.iter().map(move |range| (range.clone(), node))).collect();
        runs.sort_by_key(|(range, _)| *range.start());
        runs
    }
}

/// Forty hexadecimal digits that belong to a text: FNV-1a, and SplitMix64 to make more of it.
fn digits(text: &str) -> String {
    let mut state = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    format!("{:016x}{:016x}{:08x}", next(), next(), next() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_owns_a_contiguous_share() {
        for workers in 1..=64 {
            let map = Map::alone(workers);
            let mut counts = vec![0u32; workers as usize];
            let mut last = 0;
            for slot in 0..SLOTS {
                let worker = map.worker_of(slot).unwrap();
                assert!(worker >= last);
                last = worker;
                counts[worker as usize] += 1;
            }
            let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(max - min <= 1, "{workers} workers: {min}..{max}");
        }
    }

    #[test]
    fn a_node_of_another_process_has_no_worker_here() {
        let nodes = vec![
            Node::new("a", 0, vec![0..=99, 300..=LAST], 0..2),
            Node::new("b", 0, vec![100..=299], 0..0),
            Node::new("a", 1, vec![], 2..3),
        ];
        let map = Map::new(7, nodes);
        assert_eq!((map.worker_of(0), map.worker_of(LAST), map.worker_of(100)), (Some(0), Some(1), None));
        assert_eq!(map.node_of(299).id, map.nodes[1].id);
        let is_own_as_told =
            |slot| (0..3).all(|worker| map.is_own(worker, slot) == (map.worker_of(slot) == Some(worker)));
        assert!((0..SLOTS).all(is_own_as_told));
        assert_eq!((map.node_of_worker(1).workers.clone(), map.node_of_worker(2).workers.clone()), (0..2, 2..3));
        let runs: Vec<_> = map.runs().into_iter().map(|(range, _)| range).collect();
        assert_eq!(runs, [0..=99, 100..=299, 300..=LAST]);
    }

    #[test]
    fn ids_differ_and_last() {
        let ids: Vec<String> = (0..100)
            .flat_map(|index| {
                let node = Node::new("a", index, vec![], 0..0);
                [node.id, node.shard_id]
            })
            .collect();
        assert!(ids.iter().all(|id| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 200);
        assert_eq!(Node::new("a", 0, vec![], 0..0).id, ids[0]);
    }
}
