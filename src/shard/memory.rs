//! A reservation of address space: zero bytes that cost nothing until they are written.
//!
//! In: how much may ever be needed. Out: that many bytes at one place, lent as slices. What must stay true: the pages
//! of what was never written, or was given back, belong to nobody; the place never moves. Pages come from the memory
//! node of the thread that writes them first.
#![allow(unsafe_code, reason = "memory maps, and bytes seen as words")]

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

/// What the kernel hands out at a time on the hosts that we run on; only a matter of speed.
pub(super) const PAGE_BYTES: usize = 4096;

/// Pages of the larger size.
pub(super) const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// Bytes whose pages are given back in one call: a page takes up to a microsecond.
pub(super) const RELEASED_BYTES: usize = 16 * PAGE_BYTES;

/// What the kernel is asked to do with some pages. None of it changes what lies in them, or who may use them. See
/// madvise(2) and transhuge.rst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Advice {
    /// Pages that come from now on may be large.
    Enlarge = libc::MADV_HUGEPAGE,
    /// Pages that come from now on are small; those that are there stay as they are.
    Settle = libc::MADV_NOHUGEPAGE,
    /// Pages that are not there come now.
    Populate = libc::MADV_POPULATE_WRITE,
    /// Small pages become large ones.
    Collapse = libc::MADV_COLLAPSE,
}

/// Advice about a range of memory. It may be given at any time, on any thread, whatever has become of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageAdvice {
    start: usize,
    len: usize,
    advice: Advice,
}

impl PageAdvice {
    /// The arguments of madvise(2): the first address, the number of bytes, and the advice.
    pub fn arguments(&self) -> (*const libc::c_void, usize, i32) {
        (std::ptr::with_exposed_provenance(self.start), self.len, self.advice as i32)
    }

    /// Gives the advice, and waits until the kernel has followed it.
    ///
    /// # Errors
    /// Those of madvise(2): a kernel without large pages, or without memory.
    pub fn give(&self) -> io::Result<()> {
        let (start, len, advice) = self.arguments();
        // SAFETY: needs advice that takes nothing from memory that others use; holds because none of the four does.
        let result = unsafe { libc::madvise(start.cast_mut(), len, advice) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Makes the process's allocator give the pages of large values back as soon as they are freed. By itself glibc keeps
/// more and more of them, and what lies between those still in use stays resident. For a process that is a server.
/// Source: mallopt(3), `M_MMAP_THRESHOLD`.
pub fn return_freed_memory() {
    /// Allocations of this size and more have pages of their own.
    #[cfg(target_env = "gnu")]
    const OWN_PAGES_MIN: i32 = 256 * 1024;
    #[cfg(target_env = "gnu")]
    // SAFETY: needs a parameter that the allocator knows; holds because it is glibc's, and setting it touches nothing
    // that is allocated.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES_MIN);
    };
}

/// Reserved bytes, zero at first.
#[derive(Debug)]
pub(super) struct Reservation {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: needs that nothing but this value refers to the memory; holds because the map is private and `start` is never
// handed out but as a slice that borrows the value.
unsafe impl Send for Reservation {}

impl Reservation {
    /// Reserves `len` bytes, rounded up to whole pages; at least one. The first one begins where a large page may.
    /// Pages are small unless [`advice`](Self::advice) asks for others: what is written first would else wait until
    /// 2 MiB of zeros have been.
    ///
    /// # Errors
    /// When the address space or the host's overcommit limit does not allow it.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let len = len.max(1).next_multiple_of(PAGE_BYTES);
        let this = Self { start: map(len)?, len };
        if !cfg!(miri) {
            // A kernel that was built without large pages refuses, and has small ones.
            let _ = this.advice(&(0..len), Advice::Settle).give();
        }
        Ok(this)
    }

    /// Advice about some of the bytes.
    pub(super) fn advice(&self, range: &Range<usize>, advice: Advice) -> PageAdvice {
        let start = self.bytes()[range.clone()].as_ptr().expose_provenance();
        PageAdvice { start, len: range.len(), advice }
    }

    /// All bytes.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: needs `len` readable, initialised bytes at `start` that nobody writes meanwhile; holds because the
        // map is that long, zeroed by the kernel, and writing takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// All bytes, to be written.
    #[inline]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: needs `len` writable, initialised bytes at `start` that nobody else uses; holds because the map is
        // that long, zeroed by the kernel, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// All bytes as words of eight.
    #[inline]
    pub(super) fn words(&self) -> &[u64] {
        // SAFETY: needs aligned, initialised memory of `len` bytes that nobody writes meanwhile; holds because the map
        // begins at a page, is whole pages long, zeroed by the kernel, and writing takes `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len / size_of::<u64>()) }
    }

    /// All bytes as words of eight, to be written.
    #[inline]
    pub(super) fn words_mut(&mut self) -> &mut [u64] {
        // SAFETY: needs aligned, initialised memory of `len` bytes that nobody else uses; holds because the map begins
        // at a page, is whole pages long, zeroed by the kernel, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.len / size_of::<u64>()) }
    }

    /// Brings the cache line at a byte towards the processor.
    #[inline]
    pub(super) fn prefetch(&self, at: usize) {
        prefetch(self.start.as_ptr().wrapping_add(at));
    }

    /// Gives the pages of `range` back to the kernel; they read as zero from now on. Whole pages only.
    pub(super) fn release(&mut self, range: Range<usize>) {
        assert!(range.start.is_multiple_of(PAGE_BYTES) && range.end.is_multiple_of(PAGE_BYTES), "whole pages");
        release(&mut self.bytes_mut()[range]);
    }
}

/// Brings a cache line towards the processor.
#[inline]
pub(super) fn prefetch(place: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: needs a processor with SSE; holds because every x86-64 has it, and a prefetch of whatever address faults
    // on nothing.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    };
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}

/// Gives the pages that lie wholly within some allocated bytes back to the kernel; these read as zero from now on.
pub(super) fn release(bytes: &mut [u8]) {
    let start = bytes.as_ptr().align_offset(PAGE_BYTES).min(bytes.len());
    let whole = (bytes.len() - start) / PAGE_BYTES * PAGE_BYTES;
    let bytes = &mut bytes[start..start + whole];
    if cfg!(miri) {
        return bytes.fill(0);
    }
    let (start, len): (*mut std::ffi::c_void, _) = (bytes.as_mut_ptr().cast(), bytes.len());
    // SAFETY: needs pages of private, anonymous memory that nobody else refers to; holds because allocators have no
    // other, and they are borrowed mutably.
    let released = unsafe { rustix::mm::madvise(start, len, rustix::mm::Advice::LinuxDontNeed) };
    if released.is_err() {
        // Locked memory cannot be given back; it must read as zero all the same.
        bytes.fill(0);
    }
}

/// Maps `len` bytes that begin where a large page may.
fn map(len: usize) -> io::Result<NonNull<u8>> {
    use rustix::mm::{MapFlags, ProtFlags};
    let (flags, slack) = match cfg!(miri) {
        true => (MapFlags::PRIVATE, 0),
        false => (MapFlags::PRIVATE | MapFlags::NORESERVE, HUGE_PAGE_BYTES - PAGE_BYTES),
    };
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let mapped = len.checked_add(slack).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: needs a place where nothing is; holds because the kernel chooses it.
    let first = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), mapped, access, flags) }?;
    let before = first.cast::<u8>().align_offset(if slack == 0 { 1 } else { HUGE_PAGE_BYTES });
    let start = first.cast::<u8>().wrapping_add(before);
    for (surplus, len) in [(first, before), (start.wrapping_add(len).cast(), slack.saturating_sub(before))] {
        if len > 0 {
            // SAFETY: needs a part of a map that nobody refers to; holds because it was just mapped and is not kept.
            let _ = unsafe { rustix::mm::munmap(surplus, len) };
        }
    }
    Ok(NonNull::new(start).expect("the kernel maps nothing at zero"))
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: needs a map of `len` bytes at `start` that nobody refers to; holds because `map` made it and it is
        // dropped here.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_stays_until_it_is_released() {
        let mut memory = Reservation::new(3 * PAGE_BYTES - 1).unwrap();
        assert_eq!(memory.bytes().len(), 3 * PAGE_BYTES);
        memory.bytes_mut().fill(7);
        memory.prefetch(PAGE_BYTES);
        assert!(memory.bytes().as_ptr().addr().is_multiple_of(if cfg!(miri) { 1 } else { HUGE_PAGE_BYTES }));
        memory.release(PAGE_BYTES..2 * PAGE_BYTES);
        let sum = |range: Range<usize>| memory.bytes()[range].iter().map(|byte| u64::from(*byte)).sum::<u64>();
        assert_eq!(sum(0..PAGE_BYTES), 7 * PAGE_BYTES as u64);
        assert_eq!(sum(PAGE_BYTES..2 * PAGE_BYTES), 0);
        assert_eq!(memory.words()[PAGE_BYTES * 2 / 8], 0x0707_0707_0707_0707);
        memory.words_mut()[0] = 1;
        assert_eq!(memory.bytes()[..8], 1_u64.to_ne_bytes());
    }
}
