//! Nodes of a cluster under every fault: what is theirs is served in its place in the pipeline, what is not is sent on,
//! and when the map is replaced nothing old comes back.

use std::time::Duration;

use corering::cluster::{Map, Node, SLOTS};
use corering::command::Front;
use corering::command::slot::slot_of;
use corering::config::Settings;
use corering::instance::Phase;
use corering::observe::Metric;
use corering::protocol::resp::skip;
use corering::ring::sim::{Faults, Options, Random};

use crate::cluster::{Cluster, PeerId};
use crate::table;

/// Requests of each client.
const REQUESTS: usize = 200;

fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    table::array(&mut bytes, words.iter().map(|word| word.as_bytes()));
    bytes
}

fn options(seed: u64) -> Options {
    let faults = if seed.is_multiple_of(4) { Faults::none() } else { Faults { reset: 0.0, ..Faults::harsh() } };
    Options { seed, buffers: 4, faults, ..Options::default() }
}

/// Nodes of `group` workers each. Their slots are shifted by `shift`, so that other maps have other owners.
fn map(epoch: u64, workers: u16, group: u16, shift: u16) -> Map {
    let (count, mut nodes) = (workers / group, Vec::new());
    for index in 0..count {
        let cut = |index: u16| (u32::from(index) * u32::from(SLOTS) / u32::from(count)) as u16;
        let mut slots: Vec<u16> = (cut(index)..cut(index + 1)).map(|slot| (slot + shift) % SLOTS).collect();
        slots.sort_unstable();
        let ranges = slots.chunk_by(|one, next| one + 1 == *next).map(|run| run[0]..=run[run.len() - 1]).collect();
        let mut node = Node::new("simulated", index as usize, ranges, index * group..(index + 1) * group);
        node.port = 7000 + index;
        nodes.push(node);
    }
    Map::new(epoch, nodes)
}

#[test]
fn nodes_serve_what_is_theirs_and_send_on_what_is_not() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let group = 1 + (seed % 2) as u16;
        let map = map(1, 4, group, 0);
        let mut cluster = Cluster::with_map(4, Settings::default(), options(seed), Some(map.clone()));
        let mut clients = Vec::new();
        for client in 0..4 {
            let worker = random.below(4);
            let own = &map.node_of_worker(worker as u16).id;
            let peer = cluster.connect_to(Front::RespCore, worker);
            let mut expected = Vec::new();
            for request in 0..REQUESTS {
                let key = format!("{client}:{request}");
                let slot = slot_of(key.as_bytes());
                let is_own = map.node_of(slot).id == *own;
                let moved = format!("-MOVED {slot} 127.0.0.1:{}\r\n", map.node_of(slot).port);
                cluster.say(peer, &command(&["SET", &key, &key]));
                expected.extend(if is_own { b"+OK\r\n" } else { moved.as_bytes() });
                cluster.say(peer, &command(&["MGET", &key, &format!("{{{key}}}x")]));
                let both = format!("*2\r\n${}\r\n{key}\r\n$-1\r\n", key.len());
                expected.extend(if is_own { both.as_bytes() } else { moved.as_bytes() });
                cluster.say(peer, &command(&["DEL", &key, "another"]));
                expected.extend(b"-CROSSSLOT Keys in request don't hash to the same slot\r\n");
            }
            clients.push((peer, expected));
        }
        for (peer, expected) in &clients {
            let heard = cluster.listen(*peer, expected.len());
            assert_eq!(heard.escape_ascii().to_string(), expected.escape_ascii().to_string(), "seed {seed}");
        }
        assert_eq!(cluster.metric(Metric::LettersSent) > 0, group > 1, "seed {seed}");
        cluster.end(Phase::Draining);
    }
}

/// How many replies a client has heard.
fn replies(cluster: &Cluster, peer: PeerId) -> Vec<Vec<u8>> {
    let mut rest = cluster.heard(peer);
    let mut replies = Vec::new();
    while let Some(len) = skip(rest).expect("replies").filter(|_| !rest.is_empty()) {
        replies.push(rest[..len].to_vec());
        rest = &rest[len..];
    }
    replies
}

/// Asks on a connection of a shared port, while the map is being replaced, and takes the replies.
fn ask_while_replacing(cluster: &mut Cluster, worker: usize, requests: &[Vec<u8>], next: Option<Map>) -> Vec<Vec<u8>> {
    let peer = cluster.connect(worker);
    cluster.say(peer, &requests.concat());
    if let Some(next) = next {
        (0..20).for_each(|_| {
            cluster.turn();
        });
        cluster.replace_map(next);
    }
    cluster.run(Duration::from_secs(60), |cluster| replies(cluster, peer).len() == requests.len());
    let replies = replies(cluster, peer);
    cluster.close(peer);
    replies
}

#[test]
fn nothing_old_comes_back_when_slots_do() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut cluster = Cluster::with_map(4, Settings::default(), options(seed), Some(map(1, 4, 1, 0)));
        let keys: Vec<String> = (0..REQUESTS).map(|key| format!("key:{key}")).collect();
        let set = |value: &str| keys.iter().map(|key| command(&["SET", key, value])).collect::<Vec<_>>();
        let get: Vec<Vec<u8>> = keys.iter().map(|key| command(&["GET", key])).collect();
        for round in 0..3 {
            let old = format!("old{round}");
            let there = Some(map(2 + 2 * round, 4, 1, 5000));
            let replies = ask_while_replacing(&mut cluster, random.below(4), &set(&old), there);
            assert!(replies.len() == REQUESTS && replies.iter().all(|reply| reply == b"+OK\r\n"), "seed {seed}");
            let new = format!("new{round}");
            let replies = ask_while_replacing(&mut cluster, random.below(4), &set(&new), None);
            assert!(replies.len() == REQUESTS && replies.iter().all(|reply| reply == b"+OK\r\n"), "seed {seed}");
            let back = map(3 + 2 * round, 4, 1, 0);
            cluster.replace_map(back);
            cluster.settle();
            let replies = ask_while_replacing(&mut cluster, random.below(4), &get, None);
            assert_eq!(replies.len(), REQUESTS, "seed {seed}");
            let told = format!("${}\r\n{new}\r\n", new.len());
            let is_right = |reply: &Vec<u8>| reply == b"$-1\r\n" || *reply == told.as_bytes();
            assert!(replies.iter().all(is_right), "seed {seed}, round {round}: something old is back");
        }
        cluster.end(Phase::Draining);
    }
}
