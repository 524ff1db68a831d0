//! Items with allocations of their own: their values are sent from where they lie, by whoever holds a reference.
//!
//! In: a key and a value. Out: the item, and how many bytes of values are alive. What must stay true: a value's bytes
//! count from when it is stored until its last reference is gone, whether or not the item is still there: a client that
//! is slow to take it holds memory, and the budget knows. What nobody refers to any more counts until it was freed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::memory::{RELEASED_BYTES, release};
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

    /// What comes free with it: a larger value only becomes one that nobody refers to.
    pub(super) fn freed_bytes(&self) -> u64 {
        self.own_bytes() + if self.value.len() < SLICED_BYTES_MIN { self.value.len() as u64 } else { 0 }
    }
}

/// How many bytes of values are alive, and those of them whose last reference is gone. References may end on any
/// thread.
#[derive(Debug, Default)]
pub(super) struct Alive(Arc<Values>);

#[derive(Debug, Default)]
struct Values {
    bytes: AtomicU64,
    /// Values that nobody refers to any more. Freeing one takes the longer the larger it is.
    dead: Mutex<Vec<Bytes>>,
    /// Their bytes, which count above as well.
    dead_bytes: AtomicU64,
}

/// A value at least as large is freed in slices.
const SLICED_BYTES_MIN: usize = 2 * RELEASED_BYTES;

impl Alive {
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Of these, what nobody refers to any more.
    pub(super) fn dead_bytes(&self) -> u64 {
        self.0.dead_bytes.load(Ordering::Acquire)
    }

    /// Frees a slice of what nobody refers to any more; false when there is nothing of the kind.
    pub(super) fn free_slice(&self) -> bool {
        if self.dead_bytes() == 0 {
            return false;
        }
        // Not in the same statement as what takes long: others wait for the lock.
        let value = self.0.dead().pop();
        let Some(value) = value else { return false };
        let len = value.len();
        // A request may still refer to it, whose end frees the rest.
        let left = value.try_into_mut().ok().filter(|value| value.len() > RELEASED_BYTES).map(|mut value| {
            let kept = value.len() - RELEASED_BYTES;
            release(&mut value[kept..]);
            value.truncate(kept);
            value.freeze()
        });
        let freed = (len - left.as_ref().map_or(0, Bytes::len)) as u64;
        self.0.bytes.fetch_sub(freed, Ordering::Relaxed);
        self.0.dead_bytes.fetch_sub(freed, Ordering::Relaxed);
        self.0.dead().extend(left);
        true
    }
}

impl Values {
    fn dead(&self) -> MutexGuard<'_, Vec<Bytes>> {
        // Whoever panicked left a list of values all the same.
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
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
        alive.0.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Bytes::from_owner(Counted { bytes, alive: Arc::clone(&alive.0) })
    }
}

/// Bytes that are counted as long as somebody refers to them.
struct Counted {
    bytes: Bytes,
    alive: Arc<Values>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.bytes.len() < SLICED_BYTES_MIN {
            self.alive.bytes.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
            return;
        }
        let bytes = std::mem::take(&mut self.bytes);
        // Before somebody can take it out again.
        self.alive.dead_bytes.fetch_add(bytes.len() as u64, Ordering::Release);
        self.alive.dead().push(bytes);
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

    #[test]
    fn a_large_value_is_freed_in_slices_and_counts_until_then() {
        let alive = Alive::default();
        let len = 3 * RELEASED_BYTES as u64 + 5;
        let value = Bytes::from(vec![1; len as usize]);
        let (kept, request) = (Source::New(NewValue::Shared(&value)).to_large(&alive), value.clone());
        assert!(!alive.free_slice());
        drop((kept, value));
        // The request holds the memory, and is not counted.
        assert!(alive.free_slice() && alive.bytes() == 0 && !alive.free_slice() && request[0] == 1);
        let kept = Source::New(NewValue::Shared(&request)).to_large(&alive);
        drop((kept, request));
        for left in [2 * RELEASED_BYTES as u64 + 5, RELEASED_BYTES as u64 + 5, 5, 0] {
            assert!(alive.free_slice());
            assert_eq!(alive.bytes(), left);
        }
        assert!(!alive.free_slice());
    }
}
