//! Long pipelines of several clients over several workers: every reply in its place, as a simple model says.

use std::time::Duration;

use corering::command::Front;
use corering::config::Settings;
use corering::instance::Phase;
use corering::ring::sim::{Faults, Options, Random};

use crate::cluster::{Cluster, PeerId};
use crate::model::Model;
use crate::table::{array, comparable};

/// Requests of each client.
pub(crate) const REQUESTS: usize = 300;

/// What a client says, and what it should hear.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) requests: Vec<u8>,
    pub(crate) replies: Vec<u8>,
    /// Where each request ends, and where its reply does.
    pub(crate) ends: Vec<(usize, usize)>,
}

impl Script {
    /// Says a line.
    pub(crate) fn say(&mut self, line: &str) {
        self.requests.extend([line.as_bytes(), b"\r\n"].concat());
    }

    /// Should hear a line.
    pub(crate) fn hear(&mut self, line: &str) {
        self.replies.extend([line.as_bytes(), b"\r\n"].concat());
    }

    /// Ends a request and its reply.
    pub(crate) fn end(&mut self) {
        self.ends.push((self.requests.len(), self.replies.len()));
    }
}

/// Sizes at which something is always full, and sizes at which nothing is.
fn draw_sizes(random: &mut Random) -> (Settings, Options) {
    let mut one_of = |tight: usize, ample: usize| if random.chance(0.5) { tight } else { ample };
    let settings = Settings {
        tick_requests: one_of(3, 128) as u32,
        output_soft_limit: one_of(1024, 256 << 10) as u64,
        send_bytes: one_of(100, 256 << 10) as u32,
        spin: Duration::from_micros(one_of(0, 50) as u64),
        ..Settings::default()
    };
    let options = Options {
        buffers: one_of(2, 64) as u16,
        buffer_bytes: one_of(16, 4096),
        socket_bytes: one_of(300, 64 << 10),
        is_unix: one_of(0, 1) == 0,
        ..Options::default()
    };
    (settings, options)
}

/// Compares what a client heard with what it should have.
fn assert_heard(heard: &[u8], script: &Script, how: &str) {
    let expected = &script.replies[..];
    if heard == expected {
        return;
    }
    let same = heard.iter().zip(expected).take_while(|(heard, expected)| heard == expected).count();
    let show = |bytes: &[u8]| bytes[same.saturating_sub(60)..bytes.len().min(same + 60)].escape_ascii().to_string();
    let before = script.ends.iter().take_while(|(_, reply)| *reply <= same).map(|(request, _)| *request);
    let before: Vec<usize> = before.collect();
    let start = before.len().checked_sub(8).map_or(0, |index| before[index]);
    panic!(
        "{how}: {} of {} bytes heard, different from {same} on\n got {}\nwant {}\nasked {}",
        heard.len(),
        expected.len(),
        show(heard),
        show(expected),
        script.requests[start..script.requests.len().min(start + 600)].escape_ascii(),
    );
}

/// Lets several clients say what `write` has for each, by its prefix, all at once, on one worker to four, with faults
/// and without.
pub(crate) fn check(front: Front, seeds: u64, write: impl Fn(&mut Random, String) -> Script) {
    for seed in 0..seeds {
        let mut random = Random::new(seed);
        let (settings, options) = draw_sizes(&mut random);
        let faults = if seed % 4 == 0 { Faults::none() } else { Faults { reset: 0.0, ..Faults::harsh() } };
        let workers = 1 + random.below(4) as u16;
        let mut cluster = Cluster::with(workers, settings, Options { seed, faults, ..options });
        let mut clients = Vec::new();
        for client in 0..4 {
            let peer = cluster.connect_to(front, random.below(4));
            let script = write(&mut random, format!("client{client}:"));
            cluster.say(peer, &script.requests);
            clients.push((peer, script));
        }
        let how = format!("{front:?}, seed {seed}, {workers} workers");
        let mut waiting: Vec<&(PeerId, Script)> = clients.iter().collect();
        cluster.run(Duration::from_secs(600), |cluster| {
            waiting.retain(|(peer, script)| {
                let heard = cluster.heard(*peer);
                heard.len() < script.replies.len() || comparable(heard) != script.replies
            });
            waiting.is_empty()
        });
        for (peer, script) in &clients {
            assert_heard(&comparable(cluster.heard(*peer)), script, &how);
            cluster.close(*peer);
        }
        cluster.end(Phase::Draining);
    }
}

#[test]
fn replies_come_in_order_and_as_the_model_says() {
    check(Front::Resp, 60, |random, prefix| {
        let mut model = Model::new(prefix);
        (0..REQUESTS).for_each(|_| model.draw(random));
        model.script
    });
}

#[test]
fn a_counter_that_all_clients_share_misses_nobody() {
    const COUNTS: usize = 200;
    for seed in 0..20 {
        let workers = 1 + seed as u16 % 4;
        let faults = Faults { reset: 0.0, ..Faults::harsh() };
        let mut cluster = Cluster::with(workers, Settings::default(), Options { seed, faults, ..Options::default() });
        let mut request = Vec::new();
        array(&mut request, [b"INCR".as_slice(), b"shared"].into_iter());
        let peers: Vec<PeerId> = (0..5).map(|peer| cluster.connect(peer)).collect();
        peers.iter().for_each(|peer| cluster.say(*peer, &request.repeat(COUNTS)));
        let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        cluster.run(Duration::from_secs(600), |cluster| peers.iter().all(|peer| lines(cluster.heard(*peer)) == COUNTS));
        let mut all: Vec<u64> = Vec::new();
        for peer in &peers {
            let text = String::from_utf8(cluster.heard(*peer).to_vec()).unwrap();
            let counts: Vec<u64> = text.lines().map(|line| line[1..].parse().unwrap()).collect();
            assert!(counts.is_sorted(), "seed {seed}: {counts:?}");
            all.extend(counts);
        }
        all.sort_unstable();
        assert_eq!(all, (1..=5 * COUNTS as u64).collect::<Vec<_>>(), "seed {seed}");
        cluster.end(Phase::Stopping);
    }
}
