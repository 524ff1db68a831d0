//! Clients that take too much, or nothing at all, on a clock that makes a minute of silence cheap.

use std::time::Duration;

use corering::config::Settings;
use corering::instance::Phase;
use corering::observe::Metric;
use corering::ring::sim::{Faults, Options};

use crate::cluster::Cluster;
use crate::table::{PROBE, PROBED, array, encode};

const SECOND: Duration = Duration::from_secs(1);

/// A server with this change to ordinary settings.
fn with(workers: u16, change: impl FnOnce(&mut Settings)) -> Cluster {
    let mut settings = Settings::default();
    change(&mut settings);
    Cluster::with(workers, settings, Options::default())
}

/// Puts a value of `len` bytes at `big`.
fn set_big(cluster: &mut Cluster, len: usize) {
    let mut request = Vec::new();
    array(&mut request, [b"SET".as_slice(), b"big", &vec![b'v'; len]].into_iter());
    cluster.ask(&request, b"+OK\r\n");
}

#[test]
fn who_never_reads_is_held_back_and_closed() {
    for workers in 1..=2 {
        let mut cluster = with(workers, |settings| settings.send_timeout = 5 * SECOND);
        set_big(&mut cluster, 200_000);
        let greedy = cluster.connect(0);
        cluster.peer(greedy).is_reading = false;
        let request = encode("GET big").repeat(100_000);
        cluster.say(greedy, &request);
        let witness = cluster.connect(0);
        let buffers_max = 512 << 10;
        for second in 1..=4 {
            cluster.say(witness, &encode(PROBE));
            cluster.settle();
            assert_eq!(cluster.heard(witness), PROBED.repeat(second), "the others go on");
            assert!(!cluster.was_reset(greedy) && !cluster.has_ended(greedy));
            let buffered = cluster.metric(Metric::BufferBytes);
            assert!(buffered < buffers_max, "{buffered} bytes buffered");
            assert!(cluster.metric(Metric::InputBytes) < 400_000, "input goes on being received");
            cluster.pass(SECOND);
        }
        cluster.pass(3 * SECOND);
        assert_eq!(cluster.metric(Metric::ConnectionsOpen), 1, "the time-out closes the one that takes nothing");
        assert_eq!(cluster.metric(Metric::OutputLimitClosed), 1);
        cluster.end(Phase::Draining);
    }
}

#[test]
fn who_asks_faster_than_it_is_served_is_held_back() {
    let settings = Settings::default();
    for value_bytes in [100, 10_000, 200_000] {
        let mut cluster = with(2, |_| {});
        set_big(&mut cluster, value_bytes);
        // One of them is on the worker that owns the key. They take their replies at first, then no more.
        let greedy = [cluster.connect(0), cluster.connect(1)];
        greedy.iter().for_each(|peer| cluster.say(*peer, &encode("GET big").repeat(200_000)));
        let mut peak = 0;
        for turn in 0.. {
            greedy.iter().for_each(|peer| cluster.peer(*peer).is_reading = turn < 100);
            if !cluster.turn() {
                break;
            }
            peak = peak.max(cluster.metric(Metric::BufferBytes));
        }
        // Large values are not copied. A buffer that grows may be twice as large as what it holds.
        let copied = if value_bytes < 100_000 { value_bytes as u64 } else { 0 };
        let output = settings.output_soft_limit + u64::from(settings.tick_requests) * copied;
        let limit = 2 * (2 * output + (256 << 10));
        assert!(peak < limit, "values of {value_bytes}: {peak} bytes buffered, {limit} are the limit");
        cluster.end(Phase::Stopping);
    }
}

#[test]
fn who_reads_slowly_is_served_to_the_end() {
    let mut cluster = with(2, |settings| {
        settings.send_timeout = 5 * SECOND;
        // What a client has to take within that time.
        settings.send_bytes = 50_000;
    });
    set_big(&mut cluster, 200_000);
    let slow = cluster.connect(0);
    cluster.peer(slow).is_reading = false;
    cluster.say(slow, &encode("GET big").repeat(10));
    let reply_len = 200_000 + "$200000\r\n\r\n".len();
    for _ in 0..40 {
        cluster.pass(4 * SECOND);
        assert!(!cluster.was_reset(slow));
        cluster.peer(slow).is_reading = true;
        cluster.turn();
        cluster.peer(slow).is_reading = false;
    }
    assert_eq!(cluster.heard(slow).len(), 10 * reply_len);
    cluster.end(Phase::Draining);
}

#[test]
fn one_reply_beyond_the_hard_limit_closes_its_client() {
    for workers in 1..=2 {
        let mut cluster = with(workers, |settings| settings.output_hard_limit = 1 << 20);
        set_big(&mut cluster, 200_000);
        let witness = cluster.connect(0);
        let greedy = cluster.connect(0);
        cluster.say(greedy, &encode(&format!("MGET{}", " big".repeat(20))));
        cluster.settle();
        assert!(cluster.has_ended(greedy));
        assert_eq!(cluster.metric(Metric::OutputLimitClosed), 1);
        cluster.say(witness, &encode(PROBE));
        cluster.settle();
        assert_eq!(cluster.heard(witness), PROBED);
        cluster.end(Phase::Stopping);
    }
}

#[test]
fn many_large_replies_leave_a_tick_to_small_ones() {
    const LEN: usize = 1 << 20;
    const READERS: usize = 8;
    let reply_len = LEN + format!("${LEN}\r\n\r\n").len();
    for is_shared in [true, false] {
        // A socket takes all that it is given.
        let options = Options { socket_bytes: 4 << 20, ..Options::default() };
        let mut cluster = Cluster::with(1, Settings::default(), options);
        set_big(&mut cluster, LEN);
        let witness = cluster.connect(0);
        let readers: Vec<_> = (0..READERS).map(|_| cluster.connect(0)).collect();
        cluster.pass(SECOND);
        if is_shared {
            cluster.say(witness, &encode(PROBE));
        }
        readers.iter().for_each(|reader| cluster.say(*reader, &encode("GET big")));
        let (mut most, mut heard) = (0, 0);
        for turn in 0.. {
            // One goes away while it waits, another takes its place.
            if is_shared && turn == 10 {
                cluster.reset(readers[0]);
                let other = cluster.connect(0);
                cluster.say(other, &encode(PROBE));
            }
            let goes_on = cluster.turn();
            let now = readers.iter().map(|reader| cluster.heard(*reader).len()).sum();
            (most, heard) = (most.max(now - heard), now);
            if !goes_on {
                break;
            }
        }
        // When all of them begin at once, each has a piece of 32 KiB.
        assert_eq!(most <= READERS * (32 << 10), is_shared, "{most} bytes in one tick");
        assert!(readers[1..].iter().all(|reader| cluster.heard(*reader).len() == reply_len), "all have their replies");
        cluster.end(Phase::Stopping);
    }
}

#[test]
fn a_large_reply_whose_turn_has_not_come_ends_with_its_client() {
    const LEN: usize = 1 << 20;
    let options = Options { socket_bytes: 4 << 20, ..Options::default() };
    let mut cluster = Cluster::with(1, Settings::default(), options);
    set_big(&mut cluster, LEN);
    let killer = cluster.connect(0);
    let readers: Vec<_> = (0..96).map(|_| cluster.connect(0)).collect();
    readers.iter().for_each(|reader| cluster.say(*reader, &encode("CLIENT ID")));
    cluster.settle();
    let (going, staying) = readers.split_at(48);
    let kills: Vec<u8> = going
        .iter()
        .flat_map(|reader| {
            let id = String::from_utf8_lossy(&cluster.heard(*reader)[1..]).trim().to_owned();
            encode(&format!("CLIENT KILL ID {id}"))
        })
        .collect();
    cluster.say(killer, &encode(PROBE));
    staying.iter().chain(going).for_each(|reader| cluster.say(*reader, &encode("GET big")));
    let mut others = Vec::new();
    for turn in 0..60 {
        if turn == 10 {
            cluster.say(killer, &kills);
        }
        // They take the places of those that have gone.
        if (11..19).contains(&turn) {
            others.extend((0..6).map(|_| cluster.connect(0)));
            others.iter().rev().take(6).for_each(|other| cluster.say(*other, &encode(PROBE)));
        }
        cluster.turn();
    }
    cluster.settle();
    assert!(going.iter().all(|reader| cluster.has_ended(*reader) && cluster.heard(*reader).len() < LEN));
    assert!(staying.iter().all(|reader| cluster.heard(*reader).len() > LEN), "all have their replies");
    assert!(others.iter().all(|other| cluster.heard(*other) == PROBED), "none has what another was to have");
    cluster.end(Phase::Stopping);
}

#[test]
fn half_a_request_and_silence_is_closed_in_time() {
    let mut cluster = with(2, |settings| settings.timeout = 10 * SECOND);
    let silent = cluster.connect(0);
    cluster.say(silent, b"*2\r\n$3\r\nGET\r\n$10\r\nab");
    let busy = cluster.connect(0);
    for second in 1..=14 {
        cluster.say(busy, &encode(PROBE));
        cluster.pass(SECOND);
        assert!(!cluster.has_ended(busy), "closed after {second} s");
        if second < 10 {
            assert!(!cluster.has_ended(silent), "closed after {second} s");
        }
    }
    assert!(cluster.has_ended(silent));
    assert_eq!(cluster.heard(silent), b"");
    assert_eq!(cluster.heard(busy), PROBED.repeat(14));
    cluster.end(Phase::Draining);
}

#[test]
fn connections_beyond_maxclients_are_refused() {
    for workers in 1..=3 {
        let mut cluster = with(workers, |settings| settings.maxclients = 3);
        let admitted: Vec<_> = (0..3).map(|worker| cluster.connect(worker)).collect();
        cluster.settle();
        for worker in 0..10 {
            let refused = cluster.connect(worker);
            cluster.settle();
            assert_eq!(cluster.heard(refused), b"-ERR max number of clients reached\r\n");
            assert!(cluster.has_ended(refused) && !cluster.was_reset(refused));
        }
        for peer in &admitted {
            cluster.say(*peer, &encode(PROBE));
            cluster.settle();
            assert_eq!(cluster.heard(*peer), PROBED);
        }
        cluster.close(admitted[0]);
        cluster.settle();
        let next = cluster.connect(0);
        cluster.say(next, &encode(PROBE));
        cluster.settle();
        assert_eq!(cluster.heard(next), PROBED);
        assert_eq!(cluster.metric(Metric::ConnectionsRejected), 10);
        cluster.end(Phase::Draining);
    }
}

#[test]
fn accepting_pauses_while_descriptors_are_exhausted() {
    let mut cluster = with(1, |_| {});
    let early = cluster.connect(0);
    cluster.settle();
    cluster.network.set_faults(Faults { descriptors_exhausted: 1.0, ..Faults::none() });
    let late = cluster.connect(0);
    cluster.say(late, &encode(PROBE));
    let ticks = cluster.metric(Metric::Ticks);
    cluster.pass(SECOND);
    assert!(cluster.metric(Metric::Ticks) - ticks < 100, "it tries again and again");
    cluster.say(early, &encode(PROBE));
    cluster.settle();
    assert_eq!(cluster.heard(early), PROBED);
    cluster.network.set_faults(Faults::none());
    cluster.pass(Duration::from_millis(100));
    assert_eq!(cluster.heard(late), PROBED);
    cluster.end(Phase::Draining);
}

#[test]
fn items_expire_at_their_millisecond_and_without_being_asked_for() {
    for workers in 1..=2 {
        let mut cluster = with(workers, |_| {});
        cluster.ask(&encode("SET k v PX 500; SET l v PX 700; GET k"), b"+OK\r\n+OK\r\n$1\r\nv\r\n");
        cluster.pass(Duration::from_millis(499));
        cluster.ask(&encode("GET k; PTTL k"), b"$1\r\nv\r\n:1\r\n");
        cluster.pass(Duration::from_millis(1));
        cluster.ask(&encode("GET k; PTTL k; PTTL l"), b"$-1\r\n:-2\r\n:200\r\n");
        cluster.pass(SECOND);
        assert_eq!((cluster.metric(Metric::Expired), cluster.metric(Metric::Keys)), (2, 0));
        cluster.end(Phase::Draining);
    }
}

#[test]
fn who_talks_on_after_bad_input_is_cut_off() {
    let mut cluster = with(1, |_| {});
    let endless = cluster.connect(0);
    cluster.say(endless, b"*1\r\n$-5\r\n");
    cluster.say(endless, &vec![b'x'; 64 << 20]);
    cluster.settle();
    assert_eq!(cluster.heard(endless), b"-ERR Protocol error: invalid bulk length\r\n");
    assert!(cluster.was_reset(endless), "everything it says is received");
    let received = cluster.metric(Metric::InputBytes);
    assert!(received < 8 << 20, "{received} bytes received");
    cluster.end(Phase::Draining);
}

#[test]
fn what_workers_do_for_each_other_is_bounded_as_told() {
    // The change of settings; turns of the loop and messages that a pipeline takes, half of whose requests hop.
    let cost = |change: fn(&mut Settings)| {
        let mut cluster = with(2, change);
        let peer = cluster.connect(0);
        let round = |cluster: &mut Cluster| {
            let before = [Metric::Ticks, Metric::LettersSent].map(|metric| cluster.metric(metric));
            let requests: Vec<u8> = (0..800).flat_map(|key| encode(&format!("GET {key}"))).collect();
            let heard = cluster.heard(peer).len();
            cluster.say(peer, &requests);
            cluster.settle();
            assert_eq!(cluster.heard(peer).len() - heard, 800 * b"$-1\r\n".len());
            [cluster.metric(Metric::Ticks) - before[0], cluster.metric(Metric::LettersSent) - before[1]]
        };
        // The replies that are awaited at a time become more from pipeline to pipeline.
        let costs = (0..6).map(|_| round(&mut cluster)).last();
        cluster.end(Phase::Stopping);
        costs.expect("six rounds")
    };
    let [ticks, letters] = cost(|_| {});
    let [more_ticks, _] = cost(|settings| settings.tick_hop_requests = 1);
    assert!(more_ticks > ticks + 300, "{more_ticks} turns against {ticks}");
    let [_, more_letters] = cost(|settings| settings.hop_replies = 32);
    assert!(more_letters > letters, "{more_letters} messages against {letters}");
}

#[test]
fn a_pipeline_has_its_share_of_a_turn_and_every_request_counts() {
    const REQUESTS: u64 = 40;
    // The first alone runs somewhere else than those that are all alike.
    for (request, reply) in [("GET a", "$-1\r\n"), ("MGET a b", "*2\r\n$-1\r\n$-1\r\n"), ("PING", "+PONG\r\n")] {
        let mut cluster = with(1, |settings| settings.tick_requests = 3);
        let before = cluster.metric(Metric::Commands);
        let peer = cluster.connect(0);
        cluster.say(peer, &encode(request).repeat(REQUESTS as usize));
        let mut executed = before;
        while cluster.turn() {
            let now = cluster.metric(Metric::Commands);
            assert!(now <= executed + 3, "{request}: {} requests in a turn", now - executed);
            executed = now;
        }
        assert_eq!(cluster.heard(peer), reply.repeat(REQUESTS as usize).as_bytes(), "{request}");
        assert_eq!(cluster.metric(Metric::Commands) - before, REQUESTS, "{request}");
        cluster.end(Phase::Draining);
    }
}
