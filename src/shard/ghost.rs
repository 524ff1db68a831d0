//! Keys that were evicted not long ago, as fingerprints: who comes back soon was worth keeping.
//!
//! In: hashes of evicted keys. Out: whether a key was among the last ones. What must stay true: it takes two bytes for
//! each key remembered; a wrong yes happens for one key in some thousands.

use super::KeyHash;

/// Fingerprints that push each other out, oldest first; two to a cache line.
const SET: usize = 16;

/// The fingerprints.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    sets: Vec<[u16; SET]>,
}

impl Ghost {
    /// Sets for a cache of so many keys: nine tenths of them are remembered.
    fn sets_for(keys: usize) -> usize {
        (keys / 10 * 9).div_ceil(SET)
    }

    /// Memory for a cache of so many keys.
    pub(super) fn bytes_for(keys: usize) -> usize {
        Self::sets_for(keys) * size_of::<[u16; SET]>()
    }

    /// Makes room for a cache of so many keys, and forgets everything then, unless it is about right already.
    pub(super) fn fit(&mut self, keys: usize) {
        let sets = Self::sets_for(keys);
        if self.sets.len() * 4 < sets * 3 || self.sets.len() > sets * 2 {
            self.sets = vec![[0; SET]; sets];
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.sets.len() * size_of::<[u16; SET]>()
    }

    /// The set of a key, and its fingerprint, which is never 0.
    fn place(&self, hash: KeyHash) -> (usize, u16) {
        let set = ((u128::from(hash.0) * self.sets.len() as u128) >> 64) as usize;
        (set, (hash.0 as u16).max(1))
    }

    /// Remembers an evicted key and forgets the oldest of its set.
    pub(super) fn add(&mut self, hash: KeyHash) {
        if self.sets.is_empty() {
            return;
        }
        let (set, fingerprint) = self.place(hash);
        let set = &mut self.sets[set];
        set.copy_within(1.., 0);
        set[SET - 1] = fingerprint;
    }

    /// Whether a key was evicted not long ago; forgets it.
    pub(super) fn take(&mut self, hash: KeyHash) -> bool {
        if self.sets.is_empty() {
            return false;
        }
        let (set, fingerprint) = self.place(hash);
        let set = &mut self.sets[set];
        let Some(index) = set.iter().rposition(|other| *other == fingerprint) else { return false };
        set.copy_within(..index, 1);
        set[0] = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_keys_are_remembered_once() {
        let hash = |key: u64| KeyHash(key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ key << 40);
        let mut ghost = Ghost::default();
        ghost.add(hash(1));
        assert!(!ghost.take(hash(1)), "no room yet");
        ghost.fit(1_800);
        (0..10_000).for_each(|key| ghost.add(hash(key)));
        let recent = (9_000..10_000).filter(|key| ghost.take(hash(*key))).count();
        assert!(recent > 950, "{recent} of the last 1,000");
        let again = (9_000..10_000).filter(|key| ghost.take(hash(*key))).count();
        assert!(again < 20, "{again} were taken already");
        let old = (0..5_000).filter(|key| ghost.take(hash(*key))).count();
        assert!(old < 50, "{old} were forgotten long ago");
    }
}
