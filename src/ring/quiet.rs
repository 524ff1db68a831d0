//! Sends that make no completion when the kernel takes all of them at once.
//!
//! Nearly every reply fits the socket's buffer, so that its completion says only what is known as soon as the
//! submission returns. Such a send is submitted with IOSQE_CQE_SKIP_SUCCESS, MSG_WAITALL and MSG_DONTWAIT: whatever is
//! not delivered whole fails, and then there is a completion when `io_uring_enter` returns (io_uring_enter(2), since
//! Linux 5.17). What must stay true: a send counts as delivered only once the kernel has taken all submissions and
//! every completion of that call has been looked at.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use socket2::{Domain, Socket, Type};

use super::probe::alone;
use super::uring::Refused;
use super::{Fd, Kind, Op, Ring, Token, Wait};
use crate::protocol::Output;

/// A longer send rarely fits the socket's buffer: it would be tried twice.
pub(super) const BYTES_MAX: usize = 64 * 1024;

/// What makes the kernel complete a send, whole or not, within the call that submits it.
pub(super) const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT;

/// A quiet send: its token, and which of all sends it is, as the token may be another's by now.
pub(super) type QuietSend = (Token, u32);

/// Quiet sends of which the ring's owner does not know yet, those among them that have failed.
#[derive(Debug, Default)]
pub(super) struct QuietSends {
    queued: Vec<QuietSend>,
    taken: Vec<QuietSend>,
}

impl QuietSends {
    #[inline]
    pub(super) fn queue(&mut self, send: QuietSend) {
        self.queued.push(send);
    }

    /// The kernel has taken all submissions.
    #[inline]
    pub(super) fn take_all(&mut self) {
        if self.taken.is_empty() {
            std::mem::swap(&mut self.queued, &mut self.taken);
        } else {
            self.taken.append(&mut self.queued);
        }
    }

    /// A send that was delivered whole unless the kernel has told otherwise.
    #[inline]
    pub(super) fn next(&mut self) -> Option<QuietSend> {
        self.taken.pop()
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    pub(super) fn has_taken(&self) -> bool {
        !self.taken.is_empty()
    }
}

/// Whether this kernel tells of what was not delivered before the call returns; tried once, on a ring of its own.
///
/// # Errors
/// The ring does not work at all.
pub(super) fn is_supported<R: Ring>(ring: impl FnOnce() -> Result<R, Refused> + Send) -> Result<bool, Refused> {
    static IS_SUPPORTED: OnceLock<bool> = OnceLock::new();
    if let Some(is_supported) = IS_SUPPORTED.get() {
        return Ok(*is_supported);
    }
    let failed = |error| Refused { call: "io_uring_enter", error };
    let is_supported = alone(|| tells_at_once(ring()?).map_err(failed))?;
    Ok(*IS_SUPPORTED.get_or_init(|| is_supported))
}

/// Of two sends into a small buffer, the first is cut short and the second refused: neither may count as delivered.
fn tells_at_once(mut ring: impl Ring) -> io::Result<bool> {
    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    near.set_send_buffer_size(4096)?;
    for slot in 0..2 {
        let mut output = Output::new();
        output.extend(&[0; BYTES_MAX]);
        let send = Op::Send { fd: Fd(near.as_raw_fd()), output, from: 0, limit: BYTES_MAX };
        ring.push(Token::new(Kind::Send, 0, slot), send);
        ring.enter(Wait::No)?;
        if let Some(early) = ring.complete() {
            // The kernel may still read it.
            std::mem::forget(early);
            return Ok(false);
        }
    }
    drop(far);
    while ring.in_flight() > 0 {
        ring.enter(Wait::Forever)?;
        while ring.complete().is_some() {}
    }
    Ok(true)
}
