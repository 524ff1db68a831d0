//! System calls on sockets that the worker names by number; none of them blocks.
//!
//! In: descriptors. Out: bytes, addresses, errno values. What must stay true: a descriptor is only borrowed for the
//! call, except by [`close`], after which nobody names it.
#![allow(unsafe_code, reason = "descriptors as numbers, and a message with room for the time of arrival")]

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::RecvFlags;
use socket2::SockRef;

use super::{Errno, Fd, stamped};

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Self {
        Errno(errno.raw_os_error())
    }
}

/// The descriptor for a call.
pub(super) fn borrowed(fd: Fd) -> BorrowedFd<'static> {
    // SAFETY: needs a descriptor that stays open while it is borrowed; holds because the worker closes one only when no
    // operation uses it, and every caller here drops the borrow when its system call returns.
    unsafe { BorrowedFd::borrow_raw(fd.0) }
}

/// close(2).
pub(super) fn close(fd: Fd) {
    // SAFETY: needs a descriptor that nobody else owns; holds because the worker hands over what it has accepted.
    drop(unsafe { OwnedFd::from_raw_fd(fd.0) });
}

/// shutdown(2).
pub(super) fn shutdown(fd: Fd, how: std::net::Shutdown) -> Result<(), Errno> {
    use rustix::net::Shutdown;
    let how = match how {
        std::net::Shutdown::Read => Shutdown::Read,
        std::net::Shutdown::Write => Shutdown::Write,
        std::net::Shutdown::Both => Shutdown::Both,
    };
    Ok(rustix::net::shutdown(borrowed(fd), how)?)
}

/// Lets calls on this socket fail rather than wait.
pub(super) fn unblock(fd: Fd) -> Result<(), Errno> {
    Ok(rustix::io::ioctl_fionbio(borrowed(fd), true)?)
}

/// Bytes into `buffer`; `Ok(0)` is the end.
pub(super) fn receive(fd: Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let (_, count) = rustix::net::recv(borrowed(fd), buffer, RecvFlags::DONTWAIT)?;
    Ok(count)
}

/// The same, and when the last of them reached the host, nanoseconds since the Unix epoch; 0 when that is not known.
pub(super) fn receive_stamped(fd: Fd, buffer: &mut [u8]) -> Result<(usize, u64), Errno> {
    let mut control = [0_u64; stamped::CONTROL_BYTES / 8];
    let mut piece = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut message = *stamped::request();
    message.msg_iov = &raw mut piece;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: needs a message whose pointers are valid for their lengths; holds because all of them point to what lives
    // in this frame, or is borrowed for it.
    let count = unsafe { libc::recvmsg(fd.0, &raw mut message, libc::MSG_DONTWAIT) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)));
    };
    let mut bytes = [0; stamped::CONTROL_BYTES];
    bytes.chunks_exact_mut(8).zip(control).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_ne_bytes()));
    let filled = bytes.len().min(message.msg_controllen as _);
    Ok((count, stamped::arrival(&bytes[..filled]).unwrap_or(0)))
}

/// See [`Ring::stamp_arrivals`](super::Ring::stamp_arrivals).
pub(super) fn stamp_arrivals(fd: Fd) -> bool {
    let flags = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    // SAFETY: needs a pointer to an int of the length given; holds because `flags` is a u32 that outlives the call.
    let result = unsafe {
        let value: *const u32 = &raw const flags;
        libc::setsockopt(fd.0, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, value.cast(), size_of::<u32>() as u32)
    };
    result == 0
}

/// See [`Ring::addresses`](super::Ring::addresses).
pub(super) fn addresses(fd: Fd) -> Option<(SocketAddr, SocketAddr)> {
    let fd = borrowed(fd);
    let socket = SockRef::from(&fd);
    Some((socket.peer_addr().ok()?.as_socket()?, socket.local_addr().ok()?.as_socket()?))
}
