//! Receives that say when their bytes reached the host.
//!
//! In: a buffer that such a receive has filled: a header, control messages, the bytes. Out: where the bytes begin and
//! the time of arrival. What must stay true: a buffer without a time is as good as any other.
//!
//! Source: io_uring_prep_recvmsg_multishot(3); the kernel's networking/timestamping.rst.

use io_uring::types::RecvMsgOut;

use super::BufferId;

/// A control message's header (length, level, type) and three times of seconds and nanoseconds.
pub(super) const CONTROL_BYTES: usize = 16 + 3 * 16;

/// Bytes of the header that comes first: four numbers of 32 bits.
const HEADER_BYTES: u32 = 16;

/// A message without an address and with room for the time.
pub(super) fn request() -> Box<libc::msghdr> {
    Box::new(libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: std::ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: std::ptr::null_mut(),
        msg_controllen: CONTROL_BYTES as _,
        msg_flags: 0,
    })
}

/// Finds the bytes and their time in a buffer.
pub(super) fn parse(id: u16, buffer: &[u8], request: &libc::msghdr) -> BufferId {
    let Ok(message) = RecvMsgOut::parse(buffer, request) else { return BufferId::plain(id, 0) };
    BufferId {
        id,
        len: message.payload_data().len() as u32,
        from: HEADER_BYTES + CONTROL_BYTES as u32,
        arrived_unix_ns: arrival(message.control_data()).unwrap_or(0),
    }
}

/// The kernel's own time, the first of three, nanoseconds since the Unix epoch.
pub(super) fn arrival(control: &[u8]) -> Option<u64> {
    let number = |at: usize| Some(u32::from_ne_bytes(control.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_ne_bytes(control.get(at..at + 8)?.try_into().ok()?));
    let is_time = number(8)? == libc::SOL_SOCKET as u32 && number(12)? == libc::SCM_TIMESTAMPING as u32;
    is_time.then_some(())?;
    long(16)?.checked_mul(1_000_000_000)?.checked_add(long(24)?)
}
