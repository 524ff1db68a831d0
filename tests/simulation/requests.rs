//! Every request of a table gives the same reply, however it is cut, whoever owns its keys, whatever goes wrong.

use std::collections::BTreeSet;

use corering::instance::Phase;
use corering::ring::sim::Random;

use crate::cluster::{Cluster, PeerId};
use crate::table::{Row, big, comparable, encode, small};

/// Empties the server and puts the row's keys there.
fn set_up(cluster: &mut Cluster, row: &Row) {
    cluster.ask(&encode("FLUSHALL"), b"+OK\r\n");
    if !row.setup.is_empty() {
        let peer = cluster.connect(0);
        cluster.say(peer, &row.setup);
        cluster.settle();
        assert!(!cluster.heard(peer).contains(&b'-'), "the setup fails");
        cluster.close(peer);
    }
}

/// What a row answers on one worker, sent at once, when nothing goes wrong.
fn reference(row: &Row) -> Vec<u8> {
    let mut cluster = Cluster::new(1);
    set_up(&mut cluster, row);
    let peer = cluster.connect_to(row.front, 0);
    cluster.say(peer, &row.request);
    cluster.settle();
    let reply = comparable(cluster.heard(peer));
    cluster.end(Phase::Stopping);
    assert!(!reply.is_empty());
    reply
}

/// Sends a row in pieces, coming to rest after each.
fn answer(cluster: &mut Cluster, row: &Row, worker: usize, cuts: &[usize]) -> Vec<u8> {
    set_up(cluster, row);
    let peer = cluster.connect_to(row.front, worker);
    let mut start = 0;
    for end in cuts.iter().copied().chain([row.request.len()]) {
        cluster.say(peer, &row.request[start..end]);
        cluster.settle();
        start = end;
    }
    let reply = comparable(cluster.heard(peer));
    cluster.close(peer);
    cluster.settle();
    reply
}

fn assert_same(row: &Row, reply: &[u8], expected: &[u8], how: &str) {
    let show = |bytes: &[u8]| bytes[..bytes.len().min(2000)].escape_ascii().to_string();
    assert!(reply == expected, "{how}: {}\n got {}\nwant {}", show(&row.request), show(reply), show(expected));
}

/// Their replies depend on the number of workers, or on where an item lies.
const NOT_IN_THE_TABLE: &[&str] = &["scan", "object", "memory", "wait"];

#[test]
fn the_table_has_every_command_on_strings_and_keys() {
    let requests: Vec<String> =
        small().iter().map(|row| row.request.to_ascii_lowercase().escape_ascii().to_string()).collect();
    for command in corering::command::table::commands() {
        let spec = command.spec();
        let is_wanted = matches!(spec.group, "string" | "generic") && !NOT_IN_THE_TABLE.contains(&spec.name);
        let word = format!("${}\\r\\n{}\\r\\n", spec.name.len(), spec.name);
        assert!(!is_wanted || requests.iter().any(|request| request.contains(&word)), "{} is missing", spec.name);
    }
}

#[test]
fn small_requests_may_be_cut_anywhere() {
    for workers in 1..=3 {
        let mut cluster = Cluster::new(workers);
        for row in small() {
            let expected = reference(&row);
            for cut in 0..row.request.len() {
                let reply = answer(&mut cluster, &row, cut, &[cut]);
                assert_same(&row, &reply, &expected, &format!("cut at {cut}, {workers} workers"));
            }
            let everywhere: Vec<usize> = (1..row.request.len()).collect();
            let reply = answer(&mut cluster, &row, 0, &everywhere);
            assert_same(&row, &reply, &expected, &format!("a byte at a time, {workers} workers"));
        }
        cluster.end(Phase::Draining);
    }
}

#[test]
fn big_requests_may_be_cut_anywhere() {
    for workers in 1..=3 {
        let mut cluster = Cluster::new(workers);
        for row in big() {
            let expected = reference(&row);
            let len = row.request.len();
            let is_edge =
                |cut: &usize| *cut < 40 || len - cut < 200 || (cut % 4096 + 2) % 4096 < 4 || cut.is_multiple_of(997);
            for cut in (0..len).filter(is_edge) {
                let reply = answer(&mut cluster, &row, cut, &[cut]);
                assert_same(&row, &reply, &expected, &format!("cut at {cut}, {workers} workers"));
            }
        }
        cluster.end(Phase::Draining);
    }
}

/// Sends a row in random pieces under faults; `None` when the connection was reset.
fn answer_under_faults(cluster: &mut Cluster, random: &mut Random, row: &Row, expected: &[u8]) -> Option<Vec<u8>> {
    set_up_under_faults(cluster, row);
    let peer = cluster.connect_to(row.front, random.below(3));
    let mut rest = row.request.as_slice();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(1 + random.below(rest.len()));
        cluster.say(peer, piece);
        (0..random.below(4)).for_each(|_| {
            cluster.turn();
        });
        rest = later;
    }
    let reply = heard_whole(cluster, peer, expected);
    cluster.close(peer);
    if reply.is_none() {
        cluster.forget();
    }
    reply
}

/// The reply may be longer than expected by what differs from run to run: wait for the end of the reply, then a little.
fn heard_whole(cluster: &mut Cluster, peer: PeerId, expected: &[u8]) -> Option<Vec<u8>> {
    let is_whole = |cluster: &mut Cluster| {
        let heard = cluster.heard(peer);
        let has_enough = heard.len() >= expected.len() && comparable(heard) == expected;
        has_enough || cluster.has_ended(peer)
    };
    cluster.run(std::time::Duration::from_secs(60), is_whole);
    let was_reset = cluster.was_reset(peer);
    (!was_reset).then(|| comparable(cluster.heard(peer)))
}

fn set_up_under_faults(cluster: &mut Cluster, row: &Row) {
    cluster.ask(&encode("FLUSHALL"), b"+OK\r\n");
    let mut single = Cluster::new(1);
    let peer = single.connect(0);
    single.say(peer, &row.setup);
    single.settle();
    let reply = single.heard(peer).to_vec();
    single.end(Phase::Stopping);
    if !row.setup.is_empty() {
        cluster.ask(&row.setup, &reply);
    }
}

/// What a server has met after enough seeds.
const ERRORS: &[i32] = &[
    libc::EAGAIN,
    libc::EALREADY,
    libc::ECANCELED,
    libc::ECONNRESET,
    libc::EINTR,
    libc::EMFILE,
    libc::ENOBUFS,
    libc::ENOENT,
    libc::ENOTCONN,
];

#[test]
fn faults_change_no_reply() {
    let rows: Vec<(Row, Vec<u8>)> = small()
        .into_iter()
        .chain(big())
        .map(|row| {
            let expected = reference(&row);
            (row, expected)
        })
        .collect();
    let (mut answered, mut resets, mut errors) = (0, 0, BTreeSet::new());
    for seed in 0..100 {
        let workers = 1 + seed as u16 % 3;
        let mut cluster = Cluster::harsh(workers, seed);
        let mut random = Random::new(seed);
        for (row, expected) in &rows {
            match answer_under_faults(&mut cluster, &mut random, row, expected) {
                Some(reply) => {
                    assert_same(row, &reply, expected, &format!("seed {seed}, {workers} workers"));
                    answered += 1;
                }
                None => resets += 1,
            }
        }
        errors.extend(cluster.network.errors().into_keys());
        cluster.end(Phase::Draining);
    }
    for errno in ERRORS {
        assert!(errors.contains(errno), "no operation met errno {errno}: too little is tested");
    }
    assert!(answered > resets * 4, "{answered} answered, {resets} reset: too little is tested");
}
