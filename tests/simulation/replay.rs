//! A seed says everything: the same one gives the same run, to the last completion.

use std::time::Duration;

use corering::config::Settings;
use corering::instance::Phase;
use corering::ring::sim::{Faults, Options, Random};

use crate::cluster::{Cluster, PeerId};
use crate::model::Model;

/// Runs four clients under all faults; what each heard, and the trace.
fn run(seed: u64) -> (Vec<Vec<u8>>, u64) {
    let options = Options { seed, buffers: 4, faults: Faults::harsh(), ..Options::default() };
    let mut cluster = Cluster::with(3, Settings::default(), options);
    // The clients ask the same in every run, whatever its seed.
    let mut random = Random::new(7);
    let mut peers: Vec<(PeerId, usize)> = Vec::new();
    for client in 0..4 {
        let mut model = Model::new(format!("client{client}:"));
        (0..100).for_each(|_| model.draw(&mut random));
        let peer = cluster.connect(client);
        cluster.say(peer, &model.script.requests);
        peers.push((peer, model.script.replies.len()));
    }
    cluster.run(Duration::from_secs(60), |cluster| {
        peers.iter().all(|(peer, len)| cluster.heard(*peer).len() >= *len || cluster.has_ended(*peer))
    });
    let heard = peers.iter().map(|(peer, _)| cluster.heard(*peer).to_vec()).collect();
    (heard, cluster.end(Phase::Draining))
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let mut traces = Vec::new();
    for seed in 0..12 {
        let (heard, trace) = run(seed);
        let again = run(seed);
        assert!(heard == again.0, "seed {seed}: other bytes");
        assert_eq!(trace, again.1, "seed {seed}: other completions");
        assert!(!traces.contains(&trace), "seed {seed} gives the run of an earlier one");
        traces.push(trace);
    }
}
