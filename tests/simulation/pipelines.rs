//! Long pipelines of several clients over several workers: every reply in its place, as a simple model says.

use std::time::Duration;

use corering::config::Settings;
use corering::instance::Phase;
use corering::ring::sim::{Faults, Options, Random};

use crate::cluster::{Cluster, PeerId};
use crate::model::Model;
use crate::table::array;

/// Requests of each client.
const REQUESTS: usize = 300;

/// Sizes at which something is always full, and sizes at which nothing is.
fn draw_sizes(random: &mut Random) -> (Settings, Options) {
    let mut one_of = |tight: usize, ample: usize| if random.chance(0.5) { tight } else { ample };
    let settings = Settings {
        tick_requests: one_of(3, 128) as u32,
        output_soft_limit: one_of(1024, 256 << 10) as u64,
        send_bytes: one_of(100, 256 << 10) as u32,
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

/// Compares what a client heard with what the model says.
fn assert_heard(cluster: &Cluster, peer: PeerId, model: &Model, how: &str) {
    let (heard, expected) = (cluster.heard(peer), &model.replies[..]);
    if heard == expected {
        return;
    }
    let same = heard.iter().zip(expected).take_while(|(heard, expected)| heard == expected).count();
    let show = |bytes: &[u8]| bytes[same.saturating_sub(60)..bytes.len().min(same + 60)].escape_ascii().to_string();
    let before = model.ends.iter().take_while(|(_, reply)| *reply <= same).map(|(request, _)| *request);
    let before: Vec<usize> = before.collect();
    let start = before[before.len().saturating_sub(8)];
    panic!(
        "{how}: {} of {} bytes heard, different from {same} on\n got {}\nwant {}\nasked {}",
        heard.len(),
        expected.len(),
        show(heard),
        show(expected),
        model.requests[start..model.requests.len().min(start + 600)].escape_ascii(),
    );
}

#[test]
fn replies_come_in_order_and_as_the_model_says() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let (settings, options) = draw_sizes(&mut random);
        let faults = if seed % 4 == 0 { Faults::none() } else { Faults { reset: 0.0, ..Faults::harsh() } };
        let workers = 1 + random.below(4) as u16;
        let mut cluster = Cluster::with(workers, settings, Options { seed, faults, ..options });
        let mut clients = Vec::new();
        for client in 0..4 {
            let peer = cluster.connect(random.below(4));
            let mut model = Model::new(format!("client{client}:"));
            (0..REQUESTS).for_each(|_| model.draw(&mut random));
            cluster.say(peer, &model.requests);
            clients.push((peer, model));
        }
        let how = format!("seed {seed}, {workers} workers");
        let is_answered = |cluster: &mut Cluster| {
            clients.iter().all(|(peer, model)| cluster.heard(*peer).len() >= model.replies.len())
        };
        cluster.run(Duration::from_secs(600), is_answered);
        for (peer, model) in &clients {
            assert_heard(&cluster, *peer, model, &how);
            cluster.close(*peer);
        }
        cluster.end(Phase::Draining);
    }
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
