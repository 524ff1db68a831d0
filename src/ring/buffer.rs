//! The shared receive buffers of a ring: memory that the kernel picks from when bytes arrive.
//!
//! In: a buffer's number, when its bytes have been read. Out: the bytes of a buffer that a completion named. What must
//! stay true: a buffer belongs either to the kernel (its entry lies between the kernel's head and our tail), or to
//! exactly one completion that was not yet recycled, or was never handed out.
//!
//! The kernel takes the buffer that has lain there longest, so all that it has pass through the processor's cache in
//! turn. It is given few at first, more as more is in flight, and all once somebody has sent more than they hold.
//!
//! Source: io_uring_register_buf_ring(3).
#![allow(unsafe_code, reason = "memory shared with the kernel")]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// So many the kernel has from the beginning.
const FIRST: u16 = 64;

/// Between two buffers, so that the beginnings of all do not compete for the same few places of the processor's caches.
const GAP_BYTES: usize = 64;

/// Buffers in one mapping: first the ring of entries that the kernel reads, then the buffers themselves.
#[derive(Debug)]
pub(super) struct BufferRing {
    memory: NonNull<u8>,
    mapped_bytes: usize,
    /// A power of two.
    count: u16,
    buffer_bytes: u32,
    tail: u16,
    /// The first so many have been handed out.
    in_play: u16,
}

impl BufferRing {
    /// Maps `count` buffers (a power of two) and hands them to the kernel.
    pub(super) fn register(ring: &IoUring, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        let count = count.next_power_of_two();
        let mapped_bytes = Self::entries_bytes(count) + count as usize * (buffer_bytes as usize + GAP_BYTES);
        // SAFETY: needs a length above zero; holds because both factors are.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mapped_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).expect("mmap does not return null");
        let mut buffers = Self { memory, mapped_bytes, count, buffer_bytes, tail: 0, in_play: 0 };
        buffers.play(FIRST.into());
        // SAFETY: needs entries that stay valid until the ring is gone; holds because `UringRing` drops its ring first,
        // and leaks this memory when the kernel may still use it.
        unsafe { ring.submitter().register_buf_ring_with_flags(memory.as_ptr() as u64, count, GROUP, 0) }?;
        Ok(buffers)
    }

    /// Hands out so many, or all there are.
    #[inline]
    pub(super) fn play(&mut self, wanted: usize) {
        while usize::from(self.in_play) < wanted && self.in_play < self.count {
            self.recycle(self.in_play);
            self.in_play += 1;
        }
    }

    /// Whether there are more than the kernel has been given.
    pub(super) fn has_more(&self) -> bool {
        self.in_play < self.count
    }

    /// Bytes of the entries, rounded up so that the buffers begin on a page.
    fn entries_bytes(count: u16) -> usize {
        (count as usize * size_of::<BufRingEntry>()).next_multiple_of(4096)
    }

    fn buffer(&self, id: u16) -> *mut u8 {
        assert!(id < self.count, "the kernel named buffer {id} of {}", self.count);
        let offset = Self::entries_bytes(self.count) + id as usize * (self.buffer_bytes as usize + GAP_BYTES);
        // SAFETY: needs an offset inside the mapping; holds because `id < count`.
        unsafe { self.memory.as_ptr().add(offset) }
    }

    /// The bytes that a completion put into a buffer.
    pub(super) fn bytes(&self, id: u16, len: u32) -> &[u8] {
        assert!(len <= self.buffer_bytes, "the kernel wrote {len} bytes into a buffer of {}", self.buffer_bytes);
        // SAFETY: needs initialised memory that nobody writes; holds because mmap zeroed it, and the kernel does not
        // touch a buffer between its completion and its recycling.
        unsafe { std::slice::from_raw_parts(self.buffer(id), len as usize) }
    }

    /// Gives a buffer to the kernel.
    pub(super) fn recycle(&mut self, id: u16) {
        let address = self.buffer(id) as u64;
        let entries: *mut BufRingEntry = self.memory.as_ptr().cast();
        // SAFETY: needs an index below `count`; holds because of the mask, `count` being a power of two.
        let entry = unsafe { entries.add((self.tail & (self.count - 1)) as usize) };
        // SAFETY: needs an entry that the kernel does not read; holds because it lies beyond the published tail.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: needs the address of the first entry; holds because the mapping begins with it.
        let tail = unsafe { BufRingEntry::tail(entries) };
        // SAFETY: needs an aligned u16 that is only accessed atomically; holds because the kernel reads it so, and this
        // is the only place where we write it.
        let tail = unsafe { &*tail.cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: needs a mapping that nobody uses any more; holds because the ring was dropped before (see
        // `register`).
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.mapped_bytes) };
    }
}
