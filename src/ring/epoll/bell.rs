//! What wakes a ring that sleeps in epoll: an eventfd.
//!
//! In: rings that come and go. Out: a bell for each. What must stay true: a bell's descriptor is a bell as long as the
//! process lives, for others may ring it when its ring is already gone, and a number that had become a client's
//! connection would give that client eight bytes. So bells are handed on from ring to ring; there are as many as there
//! ever were rings at one time.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::ring::{Fd, WakeAddress, socket};

/// Bells without a ring.
static SPARES: Mutex<Vec<&'static OwnedFd>> = Mutex::new(Vec::new());

fn spares() -> MutexGuard<'static, Vec<&'static OwnedFd>> {
    SPARES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bell of one ring.
#[derive(Debug)]
pub(super) struct Bell(&'static OwnedFd);

impl Bell {
    /// A silent one.
    pub(super) fn new() -> std::io::Result<Self> {
        let spare = spares().pop();
        let bell = match spare {
            Some(spare) => Self(spare),
            None => Self(Box::leak(Box::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))),
        };
        bell.silence();
        Ok(bell)
    }

    /// Forgets that it was rung.
    pub(super) fn silence(&self) {
        // One that was not rung has nothing to read.
        let _ = rustix::io::read(self.0, &mut [0; 8]);
    }

    pub(super) fn address(&self) -> WakeAddress {
        WakeAddress(self.0.as_raw_fd())
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Rings the bell at this address.
pub(super) fn ring(address: WakeAddress) {
    // A full counter has rung already.
    let _ = rustix::io::write(socket::borrowed(Fd(address.0)), &1_u64.to_ne_bytes());
}

impl Drop for Bell {
    fn drop(&mut self) {
        spares().push(self.0);
    }
}
