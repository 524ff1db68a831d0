//! A server on simulated rings: its workers, its clients, and the order in which they have their turns.
//!
//! A worker has its turn when it would not sleep: it has something to do, its ring is ready, or its deadline has come.
//! When nobody has a turn, the clock moves to the next deadline or the end of the next delay, so a lost wake-up shows
//! as a reply that never comes.

use std::sync::Arc;
use std::time::Duration;

use corering::cluster::Map;
use corering::command::Front;
use corering::config::Settings;
use corering::instance::{Instance, Phase};
use corering::mailbox;
use corering::observe::Metric;
use corering::ring::sim::{Client, Faults, Network, Options, Random, SimRing};
use corering::ring::{Fd, Ring, Wait, WakeAddress};
use corering::shard::ShardOptions;
use corering::worker::{self, MAILBOX_CAPACITY, Worker};

/// What every worker listens for.
const FRONTS: [Front; 4] = [Front::Resp, Front::RespCore, Front::Memcache, Front::Http];

/// Turns without a movement of the clock that nothing sensible exceeds.
const TURNS_MAX: usize = 200_000;

/// A client that sends what it was told to as fast as it can, and listens.
pub(crate) struct Peer {
    pub(crate) client: Client,
    outbox: Vec<u8>,
    written: usize,
    heard: Vec<u8>,
    /// Takes what arrives; otherwise it stays where it is.
    pub(crate) is_reading: bool,
    /// Ends its half of the connection when everything is written.
    is_last: bool,
}

impl Peer {
    /// Moves bytes; whether any moved.
    fn pump(&mut self) -> bool {
        let mut has_moved = false;
        if self.is_reading {
            let read = self.client.read();
            has_moved |= !read.is_empty();
            self.heard.extend(read);
        }
        if self.written < self.outbox.len() {
            let count = self.client.write(&self.outbox[self.written..]);
            has_moved |= count > 0;
            self.written += count;
        } else if self.is_last {
            self.is_last = false;
            self.client.end();
            has_moved = true;
        }
        has_moved
    }
}

/// Names a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerId(usize);

/// One worker and what belongs to it.
struct Seat {
    worker: Worker<SimRing>,
    address: WakeAddress,
    listeners: Vec<(Fd, Front)>,
    control: Fd,
    /// The other end of the control socket.
    bell: Client,
    /// When it wants to wake at the latest.
    deadline_ns: Option<u64>,
}

/// A server in a test.
pub(crate) struct Cluster {
    pub(crate) network: Network,
    pub(crate) instance: Arc<Instance>,
    /// Each turn is that of a worker whose thread has others: with half of the seeds.
    is_crew: bool,
    seats: Vec<Seat>,
    peers: Vec<Peer>,
    /// The peers that have not closed.
    open: Vec<usize>,
    random: Random,
}

impl Cluster {
    /// A server without faults and with ordinary settings.
    pub(crate) fn new(workers: u16) -> Self {
        Self::with(workers, Settings::default(), Options::default())
    }

    /// A server under harsh faults.
    pub(crate) fn harsh(workers: u16, seed: u64) -> Self {
        Self::with(
            workers,
            Settings::default(),
            Options { seed, buffers: 4, faults: Faults::harsh(), ..Options::default() },
        )
    }

    /// A server before its first turn.
    pub(crate) fn with(workers: u16, settings: Settings, options: Options) -> Self {
        Self::with_map(workers, settings, options, None)
    }

    /// The same, with a map of the slots.
    pub(crate) fn with_map(workers: u16, settings: Settings, options: Options, map: Option<Map>) -> Self {
        let (random, epoch_unix_ms) = (Random::new(!options.seed), options.epoch_unix_ms);
        let is_crew = Random::new(options.seed.rotate_left(32)).chance(0.5);
        let network = Network::new(options);
        let instance = Arc::new(Instance::new(settings, workers, "0".repeat(40), epoch_unix_ms));
        instance.replace_map(map.unwrap_or(Map::alone(workers)));
        let mailboxes = mailbox::mesh(workers, MAILBOX_CAPACITY);
        let seat = |(index, mailboxes)| {
            let ring = SimRing::new(&network);
            let (address, (control, bell)) = (ring.wake_address(), network.pair());
            let listeners: Vec<(Fd, Front)> = FRONTS.iter().map(|front| (network.listen(), *front)).collect();
            let settings = instance.settings();
            let worker = Worker::new(worker::Options {
                index: index as u16,
                ring,
                listeners: listeners.clone(),
                control: Some(control),
                instance: Arc::clone(&instance),
                mailboxes,
                clock: network.clock(),
                shard: ShardOptions::new(&settings, workers, index as u64 + 1),
                // Where it has, it would spin, and no time passes meanwhile.
                has_own_cpu: settings.spin.is_zero(),
            })
            .expect("address space");
            Seat { worker, address, listeners, control, bell, deadline_ns: None }
        };
        let seats = mailboxes.into_iter().enumerate().map(seat).collect();
        Self { network, instance, is_crew, seats, peers: Vec::new(), open: Vec::new(), random }
    }

    /// Connects a client to a worker, chosen by a number that is taken modulo their count.
    pub(crate) fn connect(&mut self, worker: usize) -> PeerId {
        self.connect_to(Front::Resp, worker)
    }

    /// Connects a client to one of a worker's listeners.
    pub(crate) fn connect_to(&mut self, front: Front, worker: usize) -> PeerId {
        let listeners = &self.seats[worker % self.seats.len()].listeners;
        let (listener, _) = listeners.iter().find(|(_, of)| *of == front).expect("a worker listens for every front");
        let client = self.network.connect(*listener);
        let (outbox, heard) = (Vec::new(), Vec::new());
        self.peers.push(Peer { client, outbox, written: 0, heard, is_reading: true, is_last: false });
        self.open.push(self.peers.len() - 1);
        PeerId(self.peers.len() - 1)
    }

    pub(crate) fn peer(&mut self, peer: PeerId) -> &mut Peer {
        &mut self.peers[peer.0]
    }

    /// Gives a client something to send.
    pub(crate) fn say(&mut self, peer: PeerId, bytes: &[u8]) {
        self.peer(peer).outbox.extend_from_slice(bytes);
    }

    /// Gives a client the last thing to send; it goes on listening.
    pub(crate) fn say_last(&mut self, peer: PeerId, bytes: &[u8]) {
        self.say(peer, bytes);
        self.peer(peer).is_last = true;
    }

    /// Everything that a client has heard.
    pub(crate) fn heard(&self, peer: PeerId) -> &[u8] {
        &self.peers[peer.0].heard
    }

    /// Closes the client's end.
    pub(crate) fn close(&mut self, peer: PeerId) {
        self.open.retain(|open| *open != peer.0);
        let peer = self.peer(peer);
        peer.pump();
        peer.client.close();
    }

    /// Breaks the client's connection off.
    pub(crate) fn reset(&mut self, peer: PeerId) {
        self.open.retain(|open| *open != peer.0);
        self.peer(peer).client.reset();
    }

    pub(crate) fn was_reset(&mut self, peer: PeerId) -> bool {
        self.peer(peer).client.was_reset()
    }

    pub(crate) fn has_ended(&mut self, peer: PeerId) -> bool {
        self.peer(peer).client.has_ended()
    }

    pub(crate) fn metric(&self, metric: Metric) -> u64 {
        self.instance.metrics.total(metric)
    }

    /// Everybody who can do something now does it once, in an order of the seed; whether anything moved.
    pub(crate) fn turn(&mut self) -> bool {
        let mut has_moved = false;
        let first = self.random.below(self.seats.len());
        for index in 0..self.seats.len() {
            let seat = (first + index) % self.seats.len();
            if self.is_due(seat) {
                self.tick(seat);
                has_moved = true;
            }
        }
        // After them: who sleeps has sent something as well.
        for peer in &self.open {
            has_moved |= self.peers[*peer].pump();
        }
        has_moved
    }

    fn is_due(&self, seat: usize) -> bool {
        let seat = &self.seats[seat];
        let is_late = seat.deadline_ns.is_some_and(|deadline| deadline <= self.network.now_ns());
        !seat.worker.is_done() && (seat.worker.wait() == Wait::No || is_late || self.network.is_ready(seat.address))
    }

    fn tick(&mut self, seat: usize) {
        let now_ns = self.network.now_ns();
        let seat = &mut self.seats[seat];
        let ticked = if self.is_crew { seat.worker.tick_in_company() } else { seat.worker.tick() };
        ticked.expect("a simulated ring does not fail");
        let wait = if self.is_crew { seat.worker.lie_down() } else { seat.worker.wait() };
        seat.deadline_ns = match wait {
            Wait::For(limit) => Some(now_ns + limit.as_nanos() as u64),
            Wait::No | Wait::Forever => None,
        };
        if wait != Wait::No {
            // Going to sleep submits what was pushed, wake-ups of the others among it.
            self.network.is_ready(seat.address);
        }
    }

    /// Turns until nobody can do anything without the clock moving.
    pub(crate) fn settle(&mut self) {
        let turns = (0..TURNS_MAX).take_while(|_| self.turn()).count();
        assert!(turns < TURNS_MAX, "the workers never come to rest");
    }

    /// Turns, and moves the clock, until `is_reached`; false when that took longer than `limit`, or can never be.
    pub(crate) fn run(&mut self, limit: Duration, mut is_reached: impl FnMut(&mut Self) -> bool) -> bool {
        let end_ns = self.network.now_ns() + limit.as_nanos() as u64;
        loop {
            self.settle();
            if is_reached(self) {
                return true;
            }
            let now_ns = self.network.now_ns();
            let awake = self.seats.iter().filter(|seat| !seat.worker.is_done());
            let deadlines = awake.filter_map(|seat| seat.deadline_ns);
            let Some(next_ns) = deadlines.chain(self.network.next_event_ns()).min() else { return false };
            if now_ns >= end_ns {
                return false;
            }
            self.network.advance(Duration::from_nanos(next_ns.min(end_ns) - now_ns));
        }
    }

    /// Lets this much time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end_ns = self.network.now_ns() + time.as_nanos() as u64;
        if !self.run(time, |cluster| cluster.network.now_ns() >= end_ns) {
            let rest_ns = end_ns.saturating_sub(self.network.now_ns());
            self.network.advance(Duration::from_nanos(rest_ns));
            self.settle();
        }
    }

    /// Runs until a client has heard so many bytes, or its connection has ended.
    pub(crate) fn listen(&mut self, peer: PeerId, bytes: usize) -> Vec<u8> {
        self.run(Duration::from_secs(60), |cluster| cluster.heard(peer).len() >= bytes || cluster.has_ended(peer));
        self.heard(peer).to_vec()
    }

    /// Says one thing on a fresh connection and waits for the reply, on another connection if this one is reset.
    pub(crate) fn ask(&mut self, request: &[u8], reply: &[u8]) {
        for attempt in 0..100 {
            let peer = self.connect(attempt);
            self.say(peer, request);
            let heard = self.listen(peer, reply.len());
            let was_reset = self.was_reset(peer);
            self.close(peer);
            if heard == reply {
                return;
            }
            assert!(was_reset, "{} answered {}", request.escape_ascii(), heard.escape_ascii());
            self.forget();
        }
        panic!("{} is not answered", request.escape_ascii());
    }

    /// Lets the server find out about connections that were reset: what they sent may be executed until then.
    pub(crate) fn forget(&mut self) {
        self.pass(Duration::from_secs(1));
    }

    /// Lets every worker know of a phase, as the server does.
    pub(crate) fn advance(&mut self, phase: Phase) {
        self.instance.advance(phase);
        self.ring_bells();
    }

    fn ring_bells(&self) {
        self.seats.iter().for_each(|seat| {
            seat.bell.write(&[1]);
        });
    }

    /// Replaces the map of the slots and lets every worker know.
    pub(crate) fn replace_map(&mut self, map: Map) {
        self.instance.replace_map(map);
        self.ring_bells();
    }

    /// Whether every worker has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.seats.iter().all(|seat| seat.worker.is_done())
    }

    /// Ends the server in this phase and checks that nothing is left; the trace of the whole run.
    pub(crate) fn end(mut self, phase: Phase) -> u64 {
        self.advance(phase);
        assert!(self.run(Duration::from_secs(60), |cluster| cluster.is_done()), "the workers do not end");
        assert_eq!(self.metric(Metric::ConnectionsOpen), 0);
        for seat in std::mem::take(&mut self.seats) {
            drop(seat.worker);
            seat.listeners.iter().for_each(|(listener, _)| self.network.close(*listener));
            self.network.close(seat.control);
        }
        self.network.check_nothing_left();
        self.network.trace()
    }
}
