//! Pages made ready ahead of need, and large ones for what is large.
//!
//! In: how far log and index will grow next. Out: advice to the kernel, one at a time, which whoever drives the shard
//! has followed off the request path. What must stay true: what is populated counts as used; nothing waits for it, for
//! a page that is not there comes when it is first written, only later. Pages may be large only while they are made
//! ready: else a request would wait for the zeroing of one, or the kernel fill what was given back.
//!
//! In a large cache most of a look-up is the search for the page of an index entry, and for that of the item: with
//! pages of 2 MiB the processor remembers where they are. A small cache has small ones, for it would waste the rest;
//! when it has grown, these are replaced.

use std::ops::Range;

use super::memory::Advice;
use super::{PageAdvice, Shard};
use crate::shard::evict::RESERVE;

/// The next large page of the log is populated when less than this share of one is left.
const SHARE_LEFT: usize = 4;

/// What is done with pages: the advice in its order.
const POPULATE: [Advice; 3] = [Advice::Enlarge, Advice::Populate, Advice::Settle];
const REPLACE: [Advice; 3] = [Advice::Enlarge, Advice::Collapse, Advice::Settle];

/// Whose pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Index,
    Log,
}

/// Pages that are being made ready.
#[derive(Debug)]
struct Pages {
    part: Part,
    bytes: Range<usize>,
    advice: [Advice; 3],
    /// How much of the advice has been followed.
    followed: usize,
}

/// What is being made ready, and what has been.
#[derive(Debug)]
pub(super) struct Ahead {
    is_wanted: bool,
    pages: Option<Pages>,
    /// An advice was handed out and has not been followed yet.
    is_asked: bool,
    /// Up to where small pages were replaced, or cannot be for the present, by part.
    replaced: [usize; 2],
}

impl Ahead {
    pub(super) fn new(is_wanted: bool) -> Self {
        Self { is_wanted: is_wanted && !cfg!(miri), pages: None, is_asked: false, replaced: [0; 2] }
    }

    /// For the shard that takes the place of this one's: the same is wanted, and what was asked will be answered.
    pub(super) fn of_next(&self) -> Self {
        Self { is_asked: self.is_asked, ..Self::new(self.is_wanted) }
    }

    /// Large pages were given back: the small ones that come again are to be replaced.
    pub(super) fn restart(&mut self) {
        self.replaced = [0; 2];
    }
}

impl Shard {
    /// Advice for the kernel about memory that will be written before long, to be followed off the request path; then
    /// [`advised`](Self::advised) is to be called, and this again. `None` when there is none, or one is out.
    pub fn advise(&mut self) -> Option<PageAdvice> {
        if !self.ahead.is_wanted || self.ahead.is_asked {
            return None;
        }
        let pages = self.ahead.pages.take().or_else(|| self.choose_pages())?;
        let advice = pages.advice[pages.followed];
        let advice = match pages.part {
            Part::Index => self.index.advice(&pages.bytes, advice),
            Part::Log => self.log.advice(&pages.bytes, advice),
        };
        self.ahead.pages = Some(pages);
        self.ahead.is_asked = true;
        Some(advice)
    }

    /// The last advice was followed, or could not be: then pages come when they are first written, or stay small.
    pub fn advised(&mut self) {
        self.ahead.is_asked = false;
        let Some(pages) = &mut self.ahead.pages else { return };
        pages.followed += 1;
        if pages.followed == pages.advice.len() {
            if pages.part == Part::Log && pages.advice == POPULATE {
                self.log.populated();
            }
            self.ahead.pages = None;
        }
    }

    /// What runs short first of what was populated; else small pages that are to be replaced.
    fn choose_pages(&mut self) -> Option<Pages> {
        let segments = self.log.segments_per_huge_page();
        let runs_short = self.log.warm() * SHARE_LEFT < segments;
        let populate = |part| move |bytes| Pages { part, bytes, advice: POPULATE, followed: 0 };
        if let Some(bytes) = self.index.populate() {
            return Some(populate(Part::Index)(bytes));
        }
        if runs_short && self.log.has_huge_pages() && self.may_grow(segments + RESERVE) {
            return self.log.populate().map(populate(Part::Log));
        }
        let [of_index, of_log] = &mut self.ahead.replaced;
        let (part, bytes) = match self.index.outgrown(*of_index) {
            Some(bytes) => {
                *of_index = bytes.end;
                (Part::Index, bytes)
            }
            None => {
                let (bytes, next) = self.log.outgrown(*of_log);
                *of_log = next;
                (Part::Log, bytes?)
            }
        };
        Some(Pages { part, bytes, advice: REPLACE, followed: 0 })
    }

    /// Free segments that may have been populated ahead.
    pub(super) fn populated_max(&self) -> usize {
        if self.ahead.is_wanted && self.log.has_huge_pages() { self.log.segments_per_huge_page() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Expiry, NewValue, ShardOptions, Stored, When};
    use super::*;
    use crate::config::Policy;

    const MIB: u64 = 1 << 20;

    fn shard(budget_bytes: u64) -> Shard {
        Shard::new(ShardOptions {
            budget_bytes,
            address_bytes: u64::MAX,
            policy: Policy::Cache,
            huge_pages: true,
            seed: 7,
        })
    }

    fn set(shard: &mut Shard, number: u64, value: &[u8]) {
        let stored = shard.set(&number.to_le_bytes(), NewValue::Copied(value), Expiry::Never, When::Always, 1);
        assert!(matches!(stored, Stored::Done { .. }));
    }

    /// Follows all advice; the bytes that were populated, and those whose pages were replaced.
    fn follow(shard: &mut Shard) -> [usize; 2] {
        let mut bytes = [0; 2];
        while let Some(advice) = shard.advise() {
            assert_eq!(shard.advise(), None, "one at a time");
            let (_, len, kind) = advice.arguments();
            bytes[0] += if kind == libc::MADV_POPULATE_WRITE { len } else { 0 };
            bytes[1] += if kind == libc::MADV_COLLAPSE { len } else { 0 };
            let _ = advice.give();
            shard.advised();
        }
        bytes
    }

    #[test]
    fn a_large_log_is_populated_before_it_is_written_and_within_the_budget() {
        let budget = 256 * MIB;
        let mut shard = shard(budget);
        let [mut populated, mut replaced] = [0; 2];
        for number in 0..600_000 {
            set(&mut shard, number, &[7; 1000]);
            shard.maintain(1);
            let bytes = follow(&mut shard);
            (populated, replaced) = (populated + bytes[0], replaced + bytes[1]);
            if shard.stats().used_bytes < 60 * MIB {
                assert_eq!((populated, replaced), (0, 0), "a small cache has small pages");
            }
            assert!(shard.stats().used_bytes <= budget + budget / 64, "{}", shard.stats().used_bytes);
        }
        assert!(shard.stats().evicted > 0 && shard.len() > 200_000, "{:?}", shard.stats());
        // From 64 MiB to the budget but for the index and what is kept free; the rest was replaced.
        let (least, most) = (160 * MIB as usize, 192 * MIB as usize);
        assert!((least..=most).contains(&populated) && replaced == 64 * MIB as usize, "{populated} {replaced}");
        let used = shard.stats().used_bytes;
        shard.clear();
        while shard.maintain(1) {}
        let left = shard.stats().used_bytes;
        assert!(left < used / 16, "what was populated is given back as well: {left} of {used}");
        let mut again = 0;
        for number in 0..300_000 {
            set(&mut shard, number, &[7; 1000]);
            shard.maintain(1);
            again += follow(&mut shard)[1];
        }
        assert!(again > replaced, "a cache that is filled again has large pages again: {again}");
        set(&mut shard, 1, b"value");
        assert_eq!(shard.get(&1_u64.to_le_bytes(), 1).map(|item| item.value), Some(&b"value"[..]));
    }

    #[test]
    fn a_clear_while_pages_are_made_ready_loses_none_of_them() {
        let mut shard = shard(u64::MAX);
        let mut number = 0;
        let advice = loop {
            set(&mut shard, number, &[7; 1000]);
            number += 1;
            if let Some(advice) = shard.advise() {
                break advice;
            }
        };
        shard.clear();
        let _ = advice.give();
        shard.advised();
        follow(&mut shard);
        while shard.maintain(1) {}
        assert!(shard.stats().used_bytes < 8 * MIB, "{}", shard.stats().used_bytes);
        (0..2 * number).for_each(|number| set(&mut shard, number, &[8; 1000]));
        assert!((0..2 * number).all(|number| shard.peek(&number.to_le_bytes(), 1).is_some()));
    }

    #[test]
    fn a_large_index_grows_into_what_was_populated() {
        let mut shard = shard(u64::MAX);
        let mut populated = 0;
        for number in 0..2_300_000_u64 {
            set(&mut shard, number, b"");
            if number % 64 == 0 {
                populated += follow(&mut shard)[0];
            }
        }
        assert!(populated > 7 * MIB as usize, "{populated}");
        assert!((0..2_300_000_u64).step_by(1000).all(|number| shard.peek(&number.to_le_bytes(), 1).is_some()));
        let used = shard.stats().used_bytes;
        (0..2_300_000_u64).for_each(|number| _ = shard.delete(&number.to_le_bytes(), 1));
        while shard.maintain(1) {}
        let left = shard.stats().used_bytes;
        assert!(left < used / 4, "what was populated goes when the table shrinks: {left} of {used}");
    }
}
