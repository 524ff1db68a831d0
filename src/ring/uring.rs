//! The kernel's io_uring behind the door.
//!
//! In: operations; out: completions, see [`Ring`]. The flags: SINGLE_ISSUER and DEFER_TASKRUN let completion work run
//! only when the worker asks for it, TASKRUN_FLAG makes it visible without a system call, SUBMIT_ALL goes on after a
//! bad submission, CLAMP lowers sizes to what the kernel allows. Kernel 6.1 has all of them. What must stay true: the
//! memory of a send lives in [`InFlight`] at a fixed address until its completion has been taken.
#![allow(unsafe_code, reason = "submissions point into memory that the kernel reads")]

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use super::buffer::{self, BufferRing};
use super::quiet::{self, QuietSends};
use super::{
    Alarm, BufferId, Carried, Completion, Errno, Fd, Kind, Op, Ring, Token, Wait, WakeAddress, socket, stamped,
};
use crate::protocol::Output;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{self, CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use rustix::event::{EventfdFlags, eventfd};

/// Pieces of one send; further pieces go with the next.
pub(super) const SEND_PIECES_MAX: usize = 64;

/// `user_data` of operations whose completion nobody waits for.
const UNATTENDED: u64 = 0;

/// A new ring may find the locked memory of a process that just ended still charged: try again for this long.
const ENOMEM_RETRY: Duration = Duration::from_secs(2);

/// How long a ring that is dropped waits for its operations to end before it leaks their memory.
const DROP_DRAIN: Duration = Duration::from_secs(1);

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Submission queue entries.
    pub submissions: u32,
    /// Completion queue entries.
    pub completions: u32,
    /// Receive buffers, a power of two.
    pub buffers: u16,
    /// Bytes of each receive buffer.
    pub buffer_bytes: u32,
}

/// Why there is no ring.
#[derive(Debug)]
pub struct Refused {
    /// The system call that failed.
    pub call: &'static str,
    /// How.
    pub error: io::Error,
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        io::Error::new(refused.error.kind(), format!("{}: {}", refused.call, refused.error))
    }
}

/// A send in flight, and what the kernel reads meanwhile.
struct InFlight {
    output: Output,
    fd: Fd,
    /// Where in the output the send begins, and how many bytes it is to move.
    from: usize,
    len: usize,
    /// How many of them an earlier attempt has moved.
    delivered: usize,
    is_quiet: bool,
    /// The kernel has told of it, so that it was not delivered whole.
    is_told: bool,
    /// Which of all sends it is.
    number: u32,
    pieces: [libc::iovec; SEND_PIECES_MAX],
    message: libc::msghdr,
}

/// The kernel's ring. It must be made on the thread that uses it.
pub struct UringRing {
    ring: ManuallyDrop<IoUring>,
    buffers: ManuallyDrop<BufferRing>,
    /// The send in flight of each token slot.
    sends: Vec<Option<Box<InFlight>>>,
    quiet: QuietSends,
    can_be_quiet: bool,
    /// Completions that were looked at for what they say of quiet sends.
    arrived: VecDeque<cqueue::Entry>,
    /// How many sends there were, modulo 2^32.
    sent: u32,
    /// Everything is to end: nothing goes on by itself.
    is_ending: bool,
    /// Token slots whose receive is stamped; empty while there was none.
    stamped: Vec<bool>,
    /// What stamped receives ask for; the kernel only reads it.
    stamp_request: Box<libc::msghdr>,
    /// Emptied entries for the next sends.
    #[expect(clippy::vec_box, reason = "an entry moves between here and `sends` without a copy of its 64 pieces")]
    spares: Vec<Box<InFlight>>,
    /// Submissions that found the queue full and the kernel busy.
    backlog: VecDeque<Entry>,
    in_flight: usize,
    /// Among the completions are receives that have ended because buffers were not in play.
    expected_fewer: bool,
    /// Goes off with completions, when it is wanted.
    alarm: Option<OwnedFd>,
}

impl std::fmt::Debug for UringRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UringRing({}, {} in flight)", self.ring.as_raw_fd(), self.in_flight)
    }
}

impl UringRing {
    /// Sets a ring and its receive buffers up.
    ///
    /// # Errors
    /// Those of io_uring_setup(2) and of registering the buffers; [`probe`](super::probe) explains them to an operator.
    pub fn new(options: &Options) -> Result<Self, Refused> {
        let start = Instant::now();
        loop {
            let try_quiet =
                || Self::set_up(&Options { submissions: 4, completions: 8, buffers: 1, buffer_bytes: 64 }, true);
            let ring = quiet::is_supported(try_quiet).and_then(|can_be_quiet| Self::set_up(options, can_be_quiet));
            match ring {
                Err(Refused { error, .. })
                    if error.raw_os_error() == Some(libc::ENOMEM) && start.elapsed() < ENOMEM_RETRY =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                result => return result,
            }
        }
    }

    fn set_up(options: &Options, can_be_quiet: bool) -> Result<Self, Refused> {
        let refused = |call| move |error| Refused { call, error };
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(options.completions)
            .build(options.submissions)
            .map_err(refused("io_uring_setup"))?;
        let buffers =
            BufferRing::register(&ring, options.buffers, options.buffer_bytes).map_err(refused("io_uring_register"))?;
        Ok(Self {
            ring: ManuallyDrop::new(ring),
            buffers: ManuallyDrop::new(buffers),
            sends: Vec::new(),
            quiet: QuietSends::default(),
            can_be_quiet,
            arrived: VecDeque::new(),
            sent: 0,
            is_ending: false,
            stamped: Vec::new(),
            stamp_request: stamped::request(),
            spares: Vec::new(),
            backlog: VecDeque::new(),
            in_flight: 0,
            expected_fewer: false,
            alarm: None,
        })
    }

    /// Has the ring ask the network devices of its sockets for so long whenever it waits, before it sleeps; `prefers`:
    /// and hold their interrupts back meanwhile. Source: io_uring_register_napi(3).
    ///
    /// # Errors
    /// EINVAL before Linux 6.9, and without CONFIG_NET_RX_BUSY_POLL.
    pub fn poll_devices(&self, micros: u32, prefers: bool) -> io::Result<()> {
        let mut napi = types::Napi::new().set_busy_poll_timeout(micros).set_prefer_busy_poll(prefers);
        self.ring.submitter().register_napi(&mut napi)
    }

    /// Puts a send's memory where it stays, and describes it.
    fn prepare_send(&mut self, token: Token, fd: Fd, output: Output, from: usize, limit: usize) -> Entry {
        let slot = token.slot() as usize;
        if self.sends.len() <= slot {
            self.sends.resize_with(slot + 1, || None);
        }
        assert!(self.sends[slot].is_none(), "one send at a time per connection");
        let mut send = self.spares.pop().unwrap_or_else(InFlight::boxed);
        let len = limit.min(output.len() - from);
        (send.output, send.fd, send.from, send.len, send.delivered) = (output, fd, from, len, 0);
        send.is_told = false;
        send.is_quiet = self.can_be_quiet && len <= quiet::BYTES_MAX;
        self.sent = self.sent.wrapping_add(1);
        send.number = self.sent;
        let entry = send.entry();
        if send.is_quiet {
            self.quiet.queue((token, send.number));
        }
        self.sends[slot] = Some(send);
        entry
    }

    /// Notes how the receive of a slot is to be read; slots of other kinds of operations are not connections'.
    fn set_stamped(&mut self, token: Token, is_stamped: bool) {
        if token.kind() != Kind::Recv || (!is_stamped && self.stamped.is_empty()) {
            return;
        }
        let slot = token.slot() as usize;
        if self.stamped.len() <= slot {
            self.stamped.resize(slot + 1, false);
        }
        self.stamped[slot] = is_stamped;
    }

    /// Submits, and has the kernel complete in the same call what has arrived meanwhile.
    fn submit_and_collect(&mut self) -> io::Result<usize> {
        const GETEVENTS: u32 = 1;
        let submissions = self.ring.submission().len() as u32;
        // SAFETY: needs submissions whose memory stays valid until they complete, and no argument; holds because of
        // what `try_push` says, and because `GETEVENTS` alone has none.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(submissions, 0, GETEVENTS, None) }
    }

    fn push_entry(&mut self, entry: Entry) {
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    /// Pushes one submission, making room once if there is none.
    fn try_push(&mut self, entry: &Entry) -> bool {
        for _ in 0..2 {
            // SAFETY: needs memory that stays valid until the completion; holds because entries point only into
            // `sends`, which keeps each box until its completion is taken, or leaks it, and to `stamp_request`, which
            // lives as long as the ring or is leaked with them.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return true;
            }
            // A refusal (EBUSY: completions are to be taken first) leaves the queue full.
            let _ = self.ring.submit();
        }
        false
    }

    fn push_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    fn take_completion(&mut self, entry: &cqueue::Entry) -> Option<Completion> {
        let token = Token::from_user_data(entry.user_data())?;
        let has_more = cqueue::more(entry.flags());
        let mut result = u32::try_from(entry.result()).map_err(|_| Errno(-entry.result()));
        let is_receive = matches!(token.kind(), Kind::Recv | Kind::Control);
        if result == Err(Errno(libc::ENOBUFS)) && is_receive && (self.buffers.has_more() || self.expected_fewer) {
            // Somebody sends more at a time than was expected; nothing is short.
            self.buffers.play(usize::MAX);
            self.expected_fewer = true;
            result = Err(Errno(libc::EAGAIN));
        }
        if token.kind() == Kind::Wake {
            return Some(Completion { token, result, has_more, carried: Carried::Nothing });
        }
        if token.kind() == Kind::Send {
            return self.take_send(token, result);
        }
        if !has_more {
            self.in_flight -= 1;
        }
        let carried = match (token.kind(), cqueue::buffer_select(entry.flags())) {
            (Kind::Recv, Some(id)) if self.stamped.get(token.slot() as usize) == Some(&true) => {
                let bytes = self.buffers.bytes(id, result.unwrap_or(0));
                Carried::Buffer(stamped::parse(id, bytes, &self.stamp_request))
            }
            (_, Some(id)) => Carried::Buffer(BufferId::plain(id, result.unwrap_or(0))),
            (_, None) => Carried::Nothing,
        };
        Some(Completion { token, result, has_more, carried })
    }

    /// The kernel tells of a send: a quiet one goes on, and waits for room in the socket's buffer.
    fn take_send(&mut self, token: Token, result: Result<u32, Errno>) -> Option<Completion> {
        // A kernel that tells too late leaves none; it is not asked to be quiet again.
        let send = self.sends[token.slot() as usize].as_mut()?;
        let moved = result.map_or(0, |moved| moved as usize);
        send.delivered += moved;
        if send.is_quiet {
            send.is_quiet = false;
            if !self.is_ending && (moved > 0 || result == Err(Errno(libc::EAGAIN))) {
                let entry = send.entry();
                self.push_entry(entry.user_data(token.user_data()));
                return None;
            }
        }
        // What was moved before an error counts; the next send meets the error.
        let result = if send.delivered > 0 { Ok(send.delivered as u32) } else { result };
        Some(self.end_send(token, result))
    }

    /// The next send of which the kernel says nothing, because it was delivered whole. These come before what has
    /// arrived, so that the memory of their replies serves for the next.
    #[inline]
    fn complete_quietly(&mut self) -> Option<Completion> {
        for entry in self.ring.completion() {
            if let Some(token) = Token::from_user_data(entry.user_data()).filter(|token| token.kind() == Kind::Send)
                && let Some(send) = &mut self.sends[token.slot() as usize]
            {
                send.is_told = true;
            }
            self.arrived.push_back(entry);
        }
        // What the kernel holds back may tell otherwise.
        if self.ring.submission().cq_overflow() {
            return None;
        }
        loop {
            let (token, number) = self.quiet.next()?;
            let send = self.sends[token.slot() as usize].as_ref();
            if let Some(send) = send.filter(|send| send.is_quiet && !send.is_told && send.number == number) {
                let len = send.len as u32;
                return Some(self.end_send(token, Ok(len)));
            }
        }
    }

    #[inline]
    fn end_send(&mut self, token: Token, result: Result<u32, Errno>) -> Completion {
        self.in_flight -= 1;
        let mut send = self.sends[token.slot() as usize].take().expect("a send completes once");
        let output = std::mem::take(&mut send.output);
        self.spares.push(send);
        Completion { token, result, has_more: false, carried: Carried::Output(output) }
    }
}

impl InFlight {
    /// The submission of what is not delivered yet; `self` is boxed and stays where it is.
    fn entry(&mut self) -> Entry {
        let (from, len) = (self.from + self.delivered, self.len - self.delivered);
        let fd = types::Fd(self.fd.0);
        let plain = self.output.as_plain().map(|bytes| bytes[from..].as_ptr());
        let covered = if plain.is_some() { len } else { self.describe(from, len) };
        // What one send cannot carry is to follow at its end.
        self.is_quiet &= covered == len;
        self.len = self.delivered + covered;
        let quietly = if self.is_quiet { quiet::SEND_FLAGS } else { 0 };
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL | quietly;
        let entry = match plain {
            Some(bytes) => opcode::Send::new(fd, bytes, len as u32).flags(flags).build(),
            None => opcode::SendMsg::new(fd, &raw const self.message).flags(flags as u32).build(),
        };
        if self.is_quiet { entry.flags(Flags::SKIP_SUCCESS) } else { entry }
    }

    fn boxed() -> Box<Self> {
        let piece = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: needs a type for which zeros are a value; holds because a msghdr is pointers and integers.
        let message = unsafe { std::mem::zeroed() };
        let (output, pieces) = (Output::new(), [piece; SEND_PIECES_MAX]);
        Box::new(Self {
            output,
            fd: Fd(-1),
            from: 0,
            len: 0,
            delivered: 0,
            is_quiet: false,
            is_told: false,
            number: 0,
            pieces,
            message,
        })
    }

    /// Points the message at the pieces of the output; how many bytes they are.
    fn describe(&mut self, from: usize, limit: usize) -> usize {
        let mut slices = Vec::with_capacity(SEND_PIECES_MAX);
        let covered = self.output.io_slices(from, limit, SEND_PIECES_MAX, &mut slices);
        for (piece, slice) in self.pieces.iter_mut().zip(&slices) {
            *piece = libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() };
        }
        self.message.msg_iov = self.pieces.as_mut_ptr();
        self.message.msg_iovlen = slices.len() as _;
        covered
    }
}

impl Ring for UringRing {
    fn push(&mut self, token: Token, op: Op) {
        let entry = match op {
            Op::Accept { listener } => {
                opcode::AcceptMulti::new(types::Fd(listener.0)).flags(libc::SOCK_CLOEXEC).build()
            }
            Op::Recv { fd, is_multishot: true } => {
                self.set_stamped(token, false);
                opcode::RecvMulti::new(types::Fd(fd.0), buffer::GROUP).build()
            }
            Op::RecvStamped { fd } => {
                self.set_stamped(token, true);
                let request: *const libc::msghdr = &raw const *self.stamp_request;
                opcode::RecvMsgMulti::new(types::Fd(fd.0), request, buffer::GROUP).build()
            }
            Op::Recv { fd, is_multishot: false } => {
                self.set_stamped(token, false);
                // A length of zero: as much as the buffer that the kernel picks holds.
                let receive = opcode::Recv::new(types::Fd(fd.0), std::ptr::null_mut(), 0).buf_group(buffer::GROUP);
                receive.build().flags(Flags::BUFFER_SELECT)
            }
            Op::Send { fd, output, from, limit } => self.prepare_send(token, fd, output, from, limit),
            Op::Cancel { target } => opcode::AsyncCancel::new(target.user_data()).build(),
            Op::Shutdown { fd, how } => {
                let how = match how {
                    std::net::Shutdown::Read => libc::SHUT_RD,
                    std::net::Shutdown::Write => libc::SHUT_WR,
                    std::net::Shutdown::Both => libc::SHUT_RDWR,
                };
                opcode::Shutdown::new(types::Fd(fd.0), how).build()
            }
            Op::Close { fd } => opcode::Close::new(types::Fd(fd.0)).build(),
            Op::Wake { peer } => {
                let token = Token::new(Kind::Wake, 0, 0).user_data();
                let message = opcode::MsgRingData::new(types::Fd(peer.0), 0, token, None).build();
                return self.push_entry(message.flags(Flags::SKIP_SUCCESS).user_data(UNATTENDED));
            }
            Op::Advise(advice) => {
                let (start, len, advice) = advice.arguments();
                opcode::Madvise::new(start, len as libc::off_t, advice).build()
            }
        };
        self.in_flight += 1;
        self.buffers.play(self.in_flight);
        self.push_entry(entry.user_data(token.user_data()));
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.push_backlog();
        let must_wait = wait != Wait::No && self.backlog.is_empty() && !self.has_completed();
        if !must_wait && !self.has_unsubmitted() && !self.is_ready_in_kernel() {
            return Ok(());
        }
        self.expected_fewer &= self.has_completed();
        let submitted = match wait {
            Wait::For(limit) if must_wait => {
                let limit = Timespec::from(limit);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit))
            }
            _ if must_wait => self.ring.submit_and_wait(1),
            _ => self.submit_and_collect(),
        };
        self.note_submitted(submitted)
    }

    fn is_ready(&mut self) -> bool {
        self.has_completed() || self.is_ready_in_kernel()
    }

    fn has_unsubmitted(&mut self) -> bool {
        !self.backlog.is_empty() || self.quiet.has_queued() || !self.ring.submission().is_empty()
    }

    fn complete(&mut self) -> Option<Completion> {
        loop {
            if self.quiet.has_taken()
                && let Some(completion) = self.complete_quietly()
            {
                return Some(completion);
            }
            let entry = self.arrived.pop_front().or_else(|| self.ring.completion().next())?;
            if let Some(completion) = self.take_completion(&entry) {
                return Some(completion);
            }
        }
    }

    fn peek<T>(&self, buffer: &BufferId, read: impl FnOnce(&[u8]) -> T) -> T {
        read(&self.buffers.bytes(buffer.id, buffer.from + buffer.len)[buffer.from as usize..])
    }

    fn lend<T>(&mut self, buffer: BufferId, read: impl FnOnce(&[u8]) -> T) -> T {
        struct Recycle<'a>(&'a mut BufferRing, u16);
        impl Drop for Recycle<'_> {
            fn drop(&mut self) {
                self.0.recycle(self.1);
            }
        }
        let lent = Recycle(&mut self.buffers, buffer.id);
        read(&lent.0.bytes(buffer.id, buffer.from + buffer.len)[buffer.from as usize..])
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn cancel_all(&mut self) {
        self.is_ending = true;
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
        self.push_entry(cancel.user_data(UNATTENDED));
    }

    fn wake_address(&self) -> WakeAddress {
        WakeAddress(self.ring.as_raw_fd())
    }

    fn stamp_arrivals(&self, fd: Fd) -> bool {
        socket::stamp_arrivals(fd)
    }

    fn addresses(&self, fd: Fd) -> Option<(SocketAddr, SocketAddr)> {
        socket::addresses(fd)
    }
}

impl UringRing {
    fn has_completed(&mut self) -> bool {
        self.quiet.has_taken() || !self.arrived.is_empty() || !self.ring.completion().is_empty()
    }

    fn note_submitted(&mut self, submitted: io::Result<usize>) -> io::Result<()> {
        if self.backlog.is_empty() && self.ring.submission().is_empty() {
            self.quiet.take_all();
        }
        match submitted {
            Ok(_) => Ok(()),
            // Interrupted, timed out, or completions have to be taken first: the caller comes again.
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Completion work that an `enter` would run, or completions that did not fit the queue.
    fn is_ready_in_kernel(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }
}

impl Alarm for UringRing {
    fn alarm(&mut self) -> io::Result<BorrowedFd<'_>> {
        if self.alarm.is_none() {
            let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            self.ring.submitter().register_eventfd(alarm.as_raw_fd())?;
            self.ring.completion().disable_eventfd();
            self.alarm = Some(alarm);
        }
        Ok(self.alarm.as_ref().expect("it is there").as_fd())
    }

    fn arm(&mut self) -> io::Result<bool> {
        self.ring.completion().enable_eventfd();
        // Orders the flag before the kernel's look at its work; whoever adds to that looks at the flag behind it.
        fence(Ordering::SeqCst);
        let collected = self.submit_and_collect();
        self.note_submitted(collected)?;
        Ok(self.is_ready() || self.has_unsubmitted())
    }

    fn disarm(&mut self) {
        self.ring.completion().disable_eventfd();
    }
}

impl Drop for UringRing {
    fn drop(&mut self) {
        let start = Instant::now();
        self.cancel_all();
        while self.in_flight > 0 && start.elapsed() < DROP_DRAIN {
            if self.enter(Wait::For(Duration::from_millis(10))).is_err() {
                break;
            }
            while let Some(completion) = self.complete() {
                if let Carried::Buffer(buffer) = completion.carried {
                    self.lend(buffer, |_| {});
                }
            }
        }
        let is_idle = self.in_flight == 0;
        // SAFETY: needs that the ring is not used again; holds because this is its drop.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        if is_idle {
            // SAFETY: needs that neither we nor the kernel use the buffers; holds because nothing is in flight and the
            // ring is gone.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        } else {
            // The kernel may still read these: leaked rather than freed.
            std::mem::forget(std::mem::take(&mut self.sends));
            std::mem::forget(std::mem::replace(&mut self.stamp_request, stamped::request()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_polls_devices_as_told() {
        let options = Options { submissions: 8, completions: 16, buffers: 8, buffer_bytes: 512 };
        let ring = UringRing::new(&options).unwrap();
        match ring.poll_devices(70, true) {
            Ok(()) => {
                let mut was = types::Napi::new();
                ring.ring.submitter().unregister_napi(&mut was).unwrap();
                assert_eq!((was.busy_poll_timeout(), was.prefer_busy_poll()), (70, true));
            }
            // Before Linux 6.9, or built without it.
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINVAL)),
        }
    }
}
