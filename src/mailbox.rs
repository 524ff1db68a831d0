//! Core to core: one single-producer single-consumer ring per ordered pair of workers, and a bell to wake a sleeper.
//!
//! In: messages for another worker. Out: messages from the others, in the order in which each of them posted. What must
//! stay true: the messages of a pair never overtake each other; a message posted to a worker that is about to sleep is
//! either seen by it or rings its bell ([`Mailboxes::sleep`] tells the order of steps that guarantees this); a mailbox
//! knows nothing of what a message means.
#![allow(unsafe_code, reason = "slots are shared between two threads without a lock")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering, fence};

use crossbeam_utils::CachePadded;

use crate::ring::WakeAddress;

/// The slots that a producer and a consumer share. `tail - head` messages lie in it; both only grow, modulo 2^64.
struct Slots<T> {
    cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Next cell to read; written by the consumer.
    head: CachePadded<AtomicUsize>,
    /// Next cell to write; written by the producer.
    tail: CachePadded<AtomicUsize>,
}

// SAFETY: needs that no cell is touched by two threads at once; holds because only the one `Sender` writes cells at
// `tail`, only the one `Receiver` reads cells at `head`, and the release/acquire pairs on both indices hand each over.
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T> Slots<T> {
    fn cell(&self, position: usize) -> *mut MaybeUninit<T> {
        self.cells[position & (self.cells.len() - 1)].get()
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        for position in *self.head.get_mut()..*self.tail.get_mut() {
            // SAFETY: needs a cell that nobody else touches; holds because `&mut self` proves that both ends are gone.
            let cell = unsafe { &mut *self.cell(position) };
            // SAFETY: needs an initialised cell; holds because head..tail were written and not yet read.
            unsafe { cell.assume_init_drop() };
        }
    }
}

/// The producer's end.
struct Sender<T> {
    slots: Arc<Slots<T>>,
    tail: usize,
    /// The consumer's position when last looked at; it can only have moved on.
    head_seen: usize,
}

impl<T> Sender<T> {
    /// Gives the message back when the ring is full.
    fn send(&mut self, message: T) -> Result<(), T> {
        let capacity = self.slots.cells.len();
        if self.tail.wrapping_sub(self.head_seen) == capacity {
            self.head_seen = self.slots.head.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) == capacity {
                return Err(message);
            }
        }
        // SAFETY: needs a cell that nobody else touches; holds because it is not full, so the consumer's head has
        // passed this cell (acquire above), and only this end writes.
        unsafe { (*self.slots.cell(self.tail)).write(message) };
        self.tail = self.tail.wrapping_add(1);
        self.slots.tail.store(self.tail, Ordering::Release);
        Ok(())
    }
}

/// The consumer's end.
struct Receiver<T> {
    slots: Arc<Slots<T>>,
    head: usize,
    tail_seen: usize,
}

impl<T> Receiver<T> {
    fn is_empty(&mut self) -> bool {
        if self.head == self.tail_seen {
            self.tail_seen = self.slots.tail.load(Ordering::Acquire);
        }
        self.head == self.tail_seen
    }

    fn receive(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: needs a cell that nobody else touches; holds because the producer leaves cells alone until our head
        // has passed them, and only this end reads.
        let cell = unsafe { &*self.slots.cell(self.head) };
        // SAFETY: needs an initialised cell that is read once; holds because head is before the tail that was loaded
        // with acquire after the producer's release, and moves on below.
        let message = unsafe { cell.assume_init_read() };
        self.head = self.head.wrapping_add(1);
        self.slots.head.store(self.head, Ordering::Release);
        Some(message)
    }
}

/// How a sleeping worker is woken.
#[derive(Debug)]
struct Bell {
    is_asleep: AtomicBool,
    address: AtomicI32,
}

/// One worker's ends of all mailboxes.
pub struct Mailboxes<T> {
    index: u16,
    outgoing: Vec<Option<Sender<T>>>,
    incoming: Vec<Option<Receiver<T>>>,
    bells: Arc<[CachePadded<Bell>]>,
    /// Where the next [`receive`](Self::receive) looks first, so that no sender is favoured.
    next: usize,
}

impl<T> std::fmt::Debug for Mailboxes<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mailboxes of worker {} of {}", self.index, self.bells.len())
    }
}

/// Mailboxes between all pairs of `workers`, each with room for `capacity` messages, rounded up to a power of two.
pub fn mesh<T>(workers: u16, capacity: usize) -> Vec<Mailboxes<T>> {
    let count = workers as usize;
    let bell = || CachePadded::new(Bell { is_asleep: AtomicBool::new(false), address: AtomicI32::new(-1) });
    let bells: Arc<[_]> = (0..count).map(|_| bell()).collect();
    let empty = |index| Mailboxes {
        index,
        outgoing: (0..count).map(|_| None).collect(),
        incoming: (0..count).map(|_| None).collect(),
        bells: Arc::clone(&bells),
        next: 0,
    };
    let mut all: Vec<Mailboxes<T>> = (0..workers).map(empty).collect();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let cells = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
            let slots = Arc::new(Slots { cells, head: CachePadded::default(), tail: CachePadded::default() });
            all[from].outgoing[to] = Some(Sender { slots: Arc::clone(&slots), tail: 0, head_seen: 0 });
            all[to].incoming[from] = Some(Receiver { slots, head: 0, tail_seen: 0 });
        }
    }
    all
}

impl<T> Mailboxes<T> {
    /// How many workers there are, this one included.
    pub fn workers(&self) -> u16 {
        self.bells.len() as u16
    }

    /// This worker's number.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Tells the others how to wake this worker; before the first [`sleep`](Self::sleep).
    pub fn register(&self, address: WakeAddress) {
        self.bells[self.index as usize].address.store(address.0, Ordering::Release);
    }

    /// Posts a message to another worker.
    ///
    /// # Errors
    /// Gives the message back when the mailbox is full.
    ///
    /// # Panics
    /// When `to` is this worker or none.
    pub fn post(&mut self, to: u16, message: T) -> Result<(), T> {
        self.outgoing[to as usize].as_mut().expect("a worker does not write to itself").send(message)
    }

    /// After one or more posts to `to`: its address when it sleeps and nobody else has rung yet.
    pub fn ring_bell(&self, to: u16) -> Option<WakeAddress> {
        let bell = &self.bells[to as usize];
        // Orders the post before the look at the flag; pairs with the fence in `sleep`.
        fence(Ordering::SeqCst);
        let rings = bell.is_asleep.load(Ordering::Relaxed) && bell.is_asleep.swap(false, Ordering::Relaxed);
        rings.then(|| WakeAddress(bell.address.load(Ordering::Acquire)))
    }

    /// Takes the next message, from each sender in turn.
    pub fn receive(&mut self) -> Option<(u16, T)> {
        let count = self.incoming.len();
        for _ in 0..count {
            let from = self.next;
            self.next = if from + 1 == count { 0 } else { from + 1 };
            if let Some(message) = self.incoming[from].as_mut().and_then(Receiver::receive) {
                return Some((from as u16, message));
            }
        }
        None
    }

    /// Whether a message is waiting.
    pub fn has_mail(&mut self) -> bool {
        self.incoming.iter_mut().flatten().any(|receiver| !receiver.is_empty())
    }

    /// Announces that this worker is about to sleep. When it returns false, mail has come: do not sleep.
    pub fn sleep(&mut self) -> bool {
        self.bells[self.index as usize].is_asleep.store(true, Ordering::Relaxed);
        // Orders the flag before the look at the mail; pairs with the fence in `ring_bell`.
        fence(Ordering::SeqCst);
        if self.has_mail() {
            self.wake();
            return false;
        }
        true
    }

    /// Announces that this worker is awake.
    pub fn wake(&self) {
        self.bells[self.index as usize].is_asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_pair_keep_their_order_and_a_full_mailbox_refuses() {
        let mut all = mesh::<u32>(2, 4);
        let mut second = all.pop().unwrap();
        let mut first = all.pop().unwrap();
        for round in 0..10 {
            for message in 0..4 {
                first.post(1, round * 4 + message).unwrap();
            }
            assert_eq!(first.post(1, 99), Err(99));
            for message in 0..4 {
                assert_eq!(second.receive(), Some((0, round * 4 + message)));
            }
            assert_eq!(second.receive(), None);
        }
    }

    #[test]
    fn unread_messages_are_dropped_once() {
        let message = Arc::new(());
        let mut all = mesh::<Arc<()>>(2, 8);
        for _ in 0..5 {
            all[0].post(1, Arc::clone(&message)).unwrap();
        }
        drop(all[1].receive());
        assert_eq!(Arc::strong_count(&message), 5);
        drop(all);
        assert_eq!(Arc::strong_count(&message), 1);
    }

    #[test]
    fn senders_are_served_in_turn() {
        let mut all = mesh::<u32>(3, 8);
        for message in 0..3 {
            all[0].post(2, message).unwrap();
            all[1].post(2, message).unwrap();
        }
        let order: Vec<u16> = std::iter::from_fn(|| all[2].receive()).map(|(from, _)| from).collect();
        assert_eq!(order, [0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn the_bell_rings_once_and_only_for_a_sleeper() {
        let mut all = mesh::<u32>(2, 8);
        all[1].register(WakeAddress(7));
        assert_eq!(all[0].ring_bell(1), None);
        assert!(all[1].sleep());
        all[0].post(1, 1).unwrap();
        assert_eq!(all[0].ring_bell(1), Some(WakeAddress(7)));
        assert_eq!(all[0].ring_bell(1), None);
        assert!(!all[1].sleep(), "mail is waiting");
    }

    /// Two threads, one of which sleeps whenever it may: every message arrives, so no wake-up was lost.
    #[test]
    fn no_wake_up_is_lost() {
        const MESSAGES: u32 = if cfg!(miri) { 200 } else { 100_000 };
        let mut all = mesh::<u32>(2, 64);
        let mut consumer = all.pop().unwrap();
        let mut producer = all.pop().unwrap();
        let (ring, rung) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut expected = 0;
            while expected < MESSAGES {
                match consumer.receive() {
                    Some((_, message)) => {
                        assert_eq!(message, expected);
                        expected += 1;
                    }
                    None if consumer.sleep() => {
                        rung.recv_timeout(std::time::Duration::from_secs(10)).expect("a wake-up was lost");
                        consumer.wake();
                    }
                    None => {}
                }
            }
        });
        let mut message = 0;
        while message < MESSAGES {
            if producer.post(1, message).is_ok() {
                message += 1;
            }
            if producer.ring_bell(1).is_some() {
                ring.send(()).unwrap();
            }
        }
        thread.join().unwrap();
    }
}
