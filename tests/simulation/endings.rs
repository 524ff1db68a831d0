//! However a connection or a server ends, nothing is left behind and nobody else notices.

use std::time::Duration;

use corering::config::Settings;
use corering::instance::Phase;
use corering::observe::Metric;
use corering::ring::sim::{Faults, Options, Random};

use crate::cluster::Cluster;
use crate::model::Model;
use crate::pipelines::Script;
use crate::table::{PROBE, encode};

/// A client's pipeline and the replies to it.
fn pipeline(client: usize, requests: usize, random: &mut Random) -> Script {
    let mut model = Model::new(format!("client{client}:"));
    (0..requests).for_each(|_| model.draw(random));
    model.script
}

/// All faults but resets, on a server with room for little.
fn harsh_without_resets(seed: u64) -> Options {
    let faults = Faults { reset: 0.0, ..Faults::harsh() };
    Options { seed, faults, buffers: 4, socket_bytes: 2000, ..Options::default() }
}

#[test]
fn a_drain_answers_what_was_received_and_ends() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let workers = 1 + seed as u16 % 3;
        let options = if seed % 2 == 0 { Options { seed, ..Options::default() } } else { harsh_without_resets(seed) };
        let mut cluster = Cluster::with(workers, Settings::default(), options);
        let script = pipeline(0, 200, &mut random);
        let peer = cluster.connect(0);
        cluster.say(peer, &script.requests);
        let stop = random.below(60);
        cluster.run(Duration::from_millis(random.below(20) as u64), |_| false);
        (0..stop).for_each(|_| {
            cluster.turn();
        });
        let received = cluster.metric(Metric::InputBytes) as usize;
        let heard_before = cluster.heard(peer).len();
        cluster.advance(Phase::Draining);
        let start_ns = cluster.network.now_ns();
        assert!(cluster.run(Duration::from_secs(5), |cluster| cluster.is_done()), "seed {seed}: it does not end");
        assert!(cluster.network.now_ns() - start_ns < 2_000_000_000, "seed {seed}: it takes its time");
        let owed = script.ends.iter().take_while(|(request, _)| *request <= received).last().map_or(0, |end| end.1);
        let heard = cluster.heard(peer).to_vec();
        assert!(script.replies.starts_with(&heard), "seed {seed}: other replies");
        if seed % 2 == 0 || !cluster.was_reset(peer) {
            assert!(
                heard.len() >= owed,
                "seed {seed}: {} of {owed} bytes answered ({heard_before} before)",
                heard.len()
            );
            assert!(
                script.ends.iter().any(|end| end.1 == heard.len()) || heard.is_empty(),
                "seed {seed}: half a reply"
            );
        }
        cluster.end(Phase::Draining);
    }
}

#[test]
fn a_stop_ends_at_once_whatever_is_under_way() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let workers = 1 + seed as u16 % 3;
        let mut cluster = Cluster::with(workers, Settings::default(), Options { seed, ..harsh_without_resets(seed) });
        for client in 0..5 {
            let peer = cluster.connect(client);
            cluster.peer(peer).is_reading = client != 0;
            cluster.say(peer, &pipeline(client, 100, &mut random).requests);
        }
        (0..random.below(100)).for_each(|_| {
            cluster.turn();
        });
        // Some are still waiting to be accepted.
        (0..3).for_each(|client| {
            cluster.connect(client);
        });
        cluster.advance(Phase::Stopping);
        assert!(cluster.run(Duration::from_millis(100), |cluster| cluster.is_done()), "seed {seed}: it does not end");
        cluster.end(Phase::Stopping);
    }
}

#[test]
fn a_stop_while_clients_connect_forgets_none_of_them() {
    for seed in 0..200 {
        let mut cluster = Cluster::with(2, Settings::default(), harsh_without_resets(seed));
        (0..20).for_each(|client| {
            cluster.connect(client);
            cluster.turn();
        });
        cluster.end(if seed % 2 == 0 { Phase::Stopping } else { Phase::Draining });
    }
}

#[test]
fn what_came_before_an_end_is_executed_before_it() {
    for ends_by_reset in [false, true] {
        let mut cluster = Cluster::new(1);
        let peers: Vec<_> = (0..40).map(|_| cluster.connect(0)).collect();
        cluster.settle();
        // All of it arrives in one tick.
        for (index, peer) in peers.iter().copied().enumerate() {
            cluster.peer(peer).client.write(&encode(&format!("SET key{index} value")));
        }
        for peer in peers {
            let client = &cluster.peer(peer).client;
            if ends_by_reset { client.reset() } else { client.close() }
        }
        cluster.settle();
        let keys: String = (0..40).map(|index| format!(" key{index}")).collect();
        cluster.ask(&encode(&format!("EXISTS{keys}")), b":40\r\n");
        cluster.end(Phase::Draining);
    }
}

#[test]
fn a_draining_server_accepts_nobody() {
    let mut cluster = Cluster::new(2);
    let busy = cluster.connect(0);
    cluster.peer(busy).is_reading = false;
    cluster.say(busy, &encode(&format!("SET big {}; GET big", "x".repeat(100_000))));
    cluster.settle();
    cluster.advance(Phase::Draining);
    cluster.settle();
    let late = cluster.connect(1);
    cluster.say(late, &encode(PROBE));
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.heard(late), b"");
    assert!(!cluster.is_done(), "somebody has not taken its reply yet");
    cluster.peer(busy).is_reading = true;
    assert!(cluster.run(Duration::from_secs(1), |cluster| cluster.is_done()));
    assert_eq!(cluster.heard(busy).len(), 100_000 + "+OK\r\n$100000\r\n\r\n".len());
    cluster.end(Phase::Draining);
}

#[test]
fn resets_in_the_middle_of_pipelines_disturb_nobody_else() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let workers = 1 + seed as u16 % 3;
        let mut cluster = Cluster::with(workers, Settings::default(), harsh_without_resets(seed));
        let script = pipeline(99, 100, &mut random);
        let witness = cluster.connect(0);
        cluster.say(witness, &script.requests);
        for client in 0..30 {
            let peer = cluster.connect(client);
            cluster.peer(peer).is_reading = random.chance(0.7);
            cluster.say(peer, &pipeline(client % 5, 30, &mut random).requests);
            cluster.run(Duration::from_micros(random.below(2000) as u64), |_| false);
            (0..random.below(10)).for_each(|_| {
                cluster.turn();
            });
            if random.chance(0.5) { cluster.reset(peer) } else { cluster.close(peer) }
        }
        cluster.run(Duration::from_secs(60), |cluster| cluster.heard(witness).len() >= script.replies.len());
        assert!(cluster.heard(witness) == script.replies, "seed {seed}: the witness hears something else");
        let is_alone = |cluster: &mut Cluster| cluster.network.open_connections() == 1 + workers as usize;
        assert!(cluster.run(Duration::from_secs(10), is_alone), "seed {seed}: connections are left");
        assert_eq!(cluster.metric(Metric::ConnectionsOpen), 1);
        cluster.end(Phase::Draining);
    }
}

#[test]
fn a_half_closed_client_hears_every_reply() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut cluster = Cluster::with(1 + seed as u16 % 3, Settings::default(), harsh_without_resets(seed));
        let script = pipeline(0, 50, &mut random);
        let peer = cluster.connect(0);
        cluster.say_last(peer, &script.requests);
        assert!(
            cluster.run(Duration::from_secs(60), |cluster| cluster.has_ended(peer)),
            "seed {seed}: it is not closed"
        );
        assert!(cluster.heard(peer) == script.replies, "seed {seed}: other replies");
        assert!(!cluster.was_reset(peer), "seed {seed}: a reset instead of an end");
        cluster.end(Phase::Draining);
    }
}
