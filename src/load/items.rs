//! The keys and values that the load generator writes and expects back.
//!
//! In: the number of a key. Out: its name, and its value, which is a piece of one random block: found without a table,
//! sent and compared without a copy. What must stay true: two runs with the same plan agree about every key and value,
//! so a run can check what another one wrote.

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::plan::{KEY_BYTES_MAX, KeyChoice, Plan};
use super::sizes::Sizes;

/// Values begin at one of so many places in the block: two keys share a value of the same length once in 4096 times.
const OFFSETS: usize = 4096;

/// Of a key's number.
const DIGITS_MAX: usize = u32::MAX.ilog10() as usize + 1;

/// Begins the name of a key that holds a value.
pub const VALUE_KEY: u8 = b'k';

/// Begins the name of a key that holds a counter.
pub const COUNTER_KEY: u8 = b'c';

/// Keys and values of a plan.
#[derive(Debug)]
pub struct Items {
    /// How many keys there are.
    pub keys: u64,
    key_bytes: usize,
    sizes: Sizes,
    /// Of a trace.
    sizes_by_key: Option<std::sync::Arc<super::trace::Trace>>,
    block: Bytes,
}

/// A key's name.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    text: [u8; KEY_BYTES_MAX],
    len: usize,
}

impl Name {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

impl Items {
    /// The keys and values of `plan`.
    pub fn new(plan: &Plan) -> Self {
        let trace = match (&plan.key_choice, &plan.value_sizes) {
            (KeyChoice::Trace(trace), Sizes::Trace) => Some(trace.clone()),
            _ => None,
        };
        let mut items = Self {
            keys: plan.keys,
            key_bytes: plan.key_bytes,
            sizes: plan.value_sizes.clone(),
            sizes_by_key: trace,
            block: Bytes::new(),
        };
        let longest = match &items.sizes_by_key {
            Some(trace) => trace.sizes.iter().copied().max().unwrap_or(0),
            None => items.sizes.longest(),
        } as usize;
        let mut random = SmallRng::seed_from_u64(0x636f_7265);
        let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
        let block = (0..longest + OFFSETS).map(|_| letters[random.random_range(0..letters.len())]);
        items.block = block.collect();
        items
    }

    /// The name of key number `key`: a letter, zeros, the number.
    pub fn name(&self, letter: u8, key: u32) -> Name {
        let mut name = Name { text: [b'0'; KEY_BYTES_MAX], len: self.key_bytes };
        name.text[0] = letter;
        Self::set_number(&mut name.text[..self.key_bytes], key);
        name
    }

    /// Puts another key's number into a name.
    #[inline]
    pub fn set_number(name: &mut [u8], key: u32) {
        let mut left = key;
        for digit in name[1..].iter_mut().rev().take(DIGITS_MAX) {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
    }

    /// The number in a name; `None` when it is not ours.
    pub fn number(name: &[u8]) -> Option<u32> {
        let (VALUE_KEY, digits) = name.split_first().map(|(letter, digits)| (*letter, digits))? else { return None };
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The length of a key's value.
    pub fn value_bytes(&self, key: u32) -> usize {
        match (&self.sizes_by_key, &self.sizes) {
            (Some(trace), _) => trace.sizes[key as usize % trace.sizes.len()] as usize,
            (None, Sizes::Fixed(bytes)) => *bytes as usize,
            (None, sizes) => sizes.pick(mix(u64::from(key))) as usize,
        }
    }

    /// A key's value.
    #[inline]
    pub fn value(&self, key: u32) -> &[u8] {
        let offset = Self::offset(key);
        &self.block[offset..offset + self.value_bytes(key)]
    }

    /// A key's value, sharing the block's memory.
    pub fn shared_value(&self, key: u32) -> Bytes {
        let offset = Self::offset(key);
        self.block.slice(offset..offset + self.value_bytes(key))
    }

    fn offset(key: u32) -> usize {
        (mix(u64::from(key)) >> 20) as usize % OFFSETS
    }
}

/// Spreads a number over 64 bits (the finalizer of SplitMix64, Steele et al. 2014).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_length_and_read_back() {
        let items = Items::new(&Plan { key_bytes: 6, keys: 10_000, ..Plan::default() });
        for (key, name) in [(0, "k00000"), (42, "k00042"), (9999, "k09999")] {
            assert_eq!(items.name(VALUE_KEY, key).as_bytes(), name.as_bytes());
            assert_eq!(Items::number(name.as_bytes()), Some(key));
            let mut other = *b"k98765";
            Items::set_number(&mut other, key);
            assert_eq!(other, name.as_bytes());
        }
        let long = Items::new(&Plan { key_bytes: 16, ..Plan::default() });
        assert_eq!(long.name(VALUE_KEY, u32::MAX).as_bytes(), b"k000004294967295");
        assert_eq!(Items::number(b"c00001"), None);
        assert_eq!(Items::number(b""), None);
    }

    #[test]
    fn values_are_the_same_every_time_and_differ_between_keys() {
        let plan = Plan { value_sizes: Sizes::Range(10, 500), ..Plan::default() };
        let (one, other) = (Items::new(&plan), Items::new(&plan));
        for key in 0..1000 {
            assert_eq!(one.value(key), other.value(key));
            assert_eq!(one.value(key), &one.shared_value(key)[..]);
            assert!((10..=500).contains(&one.value(key).len()));
        }
        let same = (1..1000).filter(|key| one.value(*key)[..10] == one.value(key - 1)[..10]).count();
        assert!(same < 5, "{same}");
    }
}
