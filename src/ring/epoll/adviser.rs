//! Advice about memory is given on a thread of its own: it may take as long as zeroing 2 MiB does.
//!
//! In: advice with its token. Out: its completion, after which the ring's bell rings. What must stay true: the ring's
//! thread never waits for it, except at the ring's end.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::bell;
use crate::ring::{Carried, Completion, Errno, Token, WakeAddress};
use crate::shard::PageAdvice;
use crate::topology;

/// The thread and how it is asked.
type Thread = (Sender<(Token, PageAdvice)>, JoinHandle<()>);

/// Has advice given by a thread, which is started with the first.
#[derive(Debug)]
pub(super) struct Adviser {
    bell: WakeAddress,
    thread: Option<Thread>,
    done_sender: Sender<Completion>,
    done: Receiver<Completion>,
}

impl Adviser {
    /// One that rings this bell.
    pub(super) fn new(bell: WakeAddress) -> Self {
        let (done_sender, done) = channel();
        Self { bell, thread: None, done_sender, done }
    }

    /// Has advice given; what becomes of it is told by [`done`](Self::done), or returned when there is no thread.
    pub(super) fn give(&mut self, token: Token, advice: PageAdvice) -> Option<Completion> {
        if self.thread.is_none() {
            self.thread = start(self.bell, self.done_sender.clone()).ok();
        }
        let sent = self.thread.as_ref().and_then(|(sender, _)| sender.send((token, advice)).ok());
        // Pages are made ready when they are first written, then.
        sent.is_none().then(|| completion(token, Err(Errno(libc::EAGAIN))))
    }

    /// The next advice that was given.
    pub(super) fn done(&self) -> Option<Completion> {
        self.done.try_recv().ok()
    }
}

fn completion(token: Token, result: Result<u32, Errno>) -> Completion {
    Completion { token, result, has_more: false, carried: Carried::Nothing }
}

fn start(address: WakeAddress, done: Sender<Completion>) -> std::io::Result<Thread> {
    let (sender, receiver) = channel::<(Token, PageAdvice)>();
    let run = move || {
        topology::leave_place();
        for (token, advice) in receiver {
            let given = advice.give().map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)));
            if done.send(completion(token, given.map(|()| 0))).is_err() {
                return;
            }
            bell::ring(address);
        }
    };
    Ok((sender, std::thread::Builder::new().name("pages".to_owned()).spawn(run)?))
}

impl Drop for Adviser {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}
