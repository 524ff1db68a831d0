//! Items with allocations of their own: their values are sent from where they lie, by whoever holds a reference.
//!
//! In: a key and a value. Out: the item, and how many bytes of values are alive. What must stay true: a value's bytes
//! count from when it is stored until its last reference is gone, whether or not the item is still there: a client that
//! is slow to take it holds memory, and the budget knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{NewValue, UnixMs};

/// Bytes of a large item beyond key and value: its place, its record, three allocations' headers.
const OVERHEAD_BYTES: usize = size_of::<Large>() + 8 + 96;

/// An item that has allocations of its own.
#[derive(Debug)]
pub(super) struct Large {
    pub(super) key: Box<[u8]>,
    pub(super) value: Bytes,
    /// 0: never. The record's may be earlier: it cannot hold all.
    pub(super) expires_at: UnixMs,
    /// Packed attributes; empty for none.
    pub(super) extras: Box<[u8]>,
}

impl Large {
    /// Memory that it takes.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.own_bytes() + self.value.len() as u64
    }

    /// The same without the value.
    pub(super) fn own_bytes(&self) -> u64 {
        (self.key.len() + self.extras.len() + OVERHEAD_BYTES) as u64
    }
}

/// How many bytes of values are alive. References may end on any thread.
#[derive(Debug, Default)]
pub(super) struct Alive(Arc<AtomicU64>);

impl Alive {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value to be stored.
#[derive(Clone, Debug)]
pub(super) enum Source<'a> {
    /// A client's.
    New(NewValue<'a>),
    /// A large item's, which counts already.
    Held(Bytes),
}

impl Source<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::New(value) => value.bytes(),
            Self::Held(bytes) => bytes,
        }
    }

    /// The value of a large item: what has an allocation of its own keeps it.
    pub(super) fn to_large(&self, alive: &Alive) -> Bytes {
        let bytes = match self {
            Self::New(NewValue::Copied(bytes)) => Bytes::copy_from_slice(bytes),
            Self::New(NewValue::Shared(bytes)) => Bytes::clone(bytes),
            Self::Held(bytes) => return bytes.clone(),
        };
        alive.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Bytes::from_owner(Counted { bytes, alive: Arc::clone(&alive.0) })
    }
}

/// Bytes that are counted as long as somebody refers to them.
struct Counted {
    bytes: Bytes,
    alive: Arc<AtomicU64>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_until_its_last_reference_is_gone() {
        let alive = Alive::default();
        let stored = Source::New(NewValue::Copied(&[1; 100])).to_large(&alive);
        let moved = Source::Held(stored.clone()).to_large(&alive);
        let sent = moved.slice(10..20);
        assert_eq!(alive.bytes(), 100);
        drop((stored, moved));
        assert_eq!(alive.bytes(), 100);
        drop(sent);
        assert_eq!(alive.bytes(), 0);
    }
}
