//! The log: segments to which records are appended, and what is known of each segment.
//!
//! In: a key, a value, an expiry. Out: the record's location, by which it is read. What must stay true: records of a
//! segment lie without gaps from [`FIRST`] to its end, so that it can be walked; a segment's live bytes are the sum of
//! the records that the index knows; only whole segments become free.

use std::io;
use std::ops::Range;

use super::memory::{Advice, HUGE_PAGE_BYTES, PAGE_BYTES, PageAdvice, RELEASED_BYTES, Reservation};
use super::{LARGE_VALUE_BYTES, UnixMs};

/// Where a segment's first record lies: no record is at location 0.
const FIRST: u32 = 8;

/// Sizes of segments: 1/512 of the budget between these.
const SEGMENT_BYTES_MIN: u64 = PAGE_BYTES as u64;
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024;

/// Segments that a budget is divided into.
const SEGMENTS: u64 = 512;

/// Segments below have small pages: the processor finds them, and large ones would be a waste.
const SMALL_PAGES_BYTES: usize = 64 * 1024 * 1024;

/// Segments looked at in one call for those that were cleared: some microseconds.
const SWEPT_PER_CALL: usize = 256;

/// Large pages looked at in one call for one that may replace small ones.
const OUTGROWN_PER_CALL: usize = 16;

/// What the processor fetches at a time; only a matter of speed.
const CACHE_LINE_BYTES: usize = 64;

/// Expiries that fit a record, milliseconds since the Unix epoch; later ones make an item large.
pub(super) const EXPIRY_MAX: UnixMs = (1 << 48) - 1;

const EXPIRY_BYTES: usize = 6;
const HEADER_BYTES: usize = 4;

/// A record's header.
///
/// | bits   | what       | meaning                                                            |
/// |--------|------------|--------------------------------------------------------------------|
/// | 0..14  | value      | length of the value; 4 for a large item: its number                |
/// | 14..28 | key        | length of the key; 0 for a large item, which has its key elsewhere |
/// | 28     | has expiry | six bytes of expiry follow, before the key                         |
/// | 29     | is large   | the value is the item's number                                     |
/// | 30     | has extras | attributes follow, before the key; their first byte is their length |
#[derive(Clone, Copy)]
struct Header(u32);

const LEN_MASK: u32 = (1 << 14) - 1;
const HAS_EXPIRY: u32 = 1 << 28;
const IS_LARGE: u32 = 1 << 29;
const HAS_EXTRAS: u32 = 1 << 30;

const _: () = assert!(LARGE_VALUE_BYTES <= 1 << 14);

impl Header {
    fn new(draft: &Draft<'_>) -> Self {
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        let flags = flag(draft.expires_at != 0, HAS_EXPIRY)
            | flag(draft.is_large, IS_LARGE)
            | flag(!draft.extras.is_empty(), HAS_EXTRAS);
        Self(draft.value.len() as u32 | (draft.key.len() as u32) << 14 | flags)
    }

    #[inline]
    fn is_plain(self) -> bool {
        self.0 & (HAS_EXPIRY | IS_LARGE | HAS_EXTRAS) == 0
    }

    #[inline]
    fn value_len(self) -> usize {
        (self.0 & LEN_MASK) as usize
    }

    #[inline]
    fn key_len(self) -> usize {
        (self.0 >> 14 & LEN_MASK) as usize
    }

    #[inline]
    fn is_large(self) -> bool {
        self.0 & IS_LARGE != 0
    }

    #[inline]
    fn has_expiry(self) -> bool {
        self.0 & HAS_EXPIRY != 0
    }

    #[inline]
    fn expiry_len(self) -> usize {
        if self.has_expiry() { EXPIRY_BYTES } else { 0 }
    }
}

/// A record to be appended. Key and value are shorter than [`Log::large_bytes_min`] together.
#[derive(Clone, Copy)]
pub(super) struct Draft<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    /// 0: never; at most [`EXPIRY_MAX`].
    pub(super) expires_at: UnixMs,
    pub(super) is_large: bool,
    /// Packed attributes; empty for none, as always for a large item, which has them elsewhere.
    pub(super) extras: &'a [u8],
}

impl Draft<'_> {
    pub(super) fn len(&self) -> usize {
        let expiry = if self.expires_at == 0 { 0 } else { EXPIRY_BYTES };
        HEADER_BYTES + expiry + self.extras.len() + self.key.len() + self.value.len()
    }
}

/// A record as it lies in the log.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) expires_at: UnixMs,
    pub(super) is_large: bool,
    pub(super) extras: &'a [u8],
    pub(super) len: usize,
}

impl Record<'_> {
    /// A large item's number.
    pub(super) fn number(&self) -> usize {
        u32::from_le_bytes(self.value.try_into().expect("a large item's value is its number")) as usize
    }
}

/// Which queue of the eviction policy a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// New items, most of which will not be asked for again.
    Small = 0,
    /// Items that were asked for again.
    Main = 1,
}

/// Records are kept together by how long they have to live, so that whole segments expire.
const CLASS_LIMITS_MS: [u64; 5] = [10_000, 120_000, 1_800_000, 14_400_000, 172_800_000];
pub(super) const CLASSES: usize = CLASS_LIMITS_MS.len() + 2;

/// The class of an expiry: 0 when there is none.
fn class_of(expires_at: UnixMs, now: UnixMs) -> usize {
    match expires_at {
        0 => 0,
        at => 1 + CLASS_LIMITS_MS.partition_point(|limit| at.saturating_sub(now) > *limit),
    }
}

/// What a segment is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Empty.
    Free,
    /// Being appended to.
    Open,
    /// Full.
    Sealed,
}

/// What is known of a segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Unless it was cleared: see [`Log::state`].
    state: State,
    pub(super) queue: Queue,
    pub(super) class: u8,
    /// Bytes written.
    pub(super) end: u32,
    /// Bytes of records that the index knows.
    pub(super) live: u32,
    /// No record expires later; 0 when some never do.
    pub(super) expires_last: UnixMs,
    /// When its first record was written.
    pub(super) opened_at: UnixMs,
    /// Changes with every opening.
    pub(super) generation: u32,
    /// The log's when it was opened: another one means that it was cleared since.
    era: u32,
    /// It is not one of those whose pages are not there.
    has_pages: bool,
}

impl Segment {
    /// One that was never used.
    pub(super) const FREE: Self = Self {
        state: State::Free,
        queue: Queue::Small,
        class: 0,
        end: FIRST,
        live: 0,
        expires_last: 0,
        opened_at: 0,
        generation: 0,
        era: 0,
        has_pages: false,
    };

    /// Whether any of its records may expire.
    pub(super) fn is_volatile(&self) -> bool {
        self.class != 0
    }
}

/// The log of one shard.
#[derive(Debug)]
pub(super) struct Log {
    memory: Reservation,
    segment_bytes: usize,
    /// At most [`LARGE_VALUE_BYTES`].
    pub(super) large_value_bytes: usize,
    pub(super) segments: Vec<Segment>,
    /// Free segments whose pages are there, but for those that were cleared and not swept since.
    warm: Vec<u32>,
    /// Changes with every clearing.
    era: u32,
    /// Segments that were cleared and not swept since: this many, of which none has a lower number than `swept`.
    cleared: usize,
    swept: usize,
    /// Free segments whose pages were given back.
    cold: Vec<u32>,
    /// Up to here pages may be small: they came before the log was large, or again after they had been given back.
    small_end: usize,
    /// Free segments that are being populated.
    populating: Range<u32>,
    /// The segment whose pages are being given back, and how many bytes of it have been.
    cooling: Option<(u32, usize)>,
    /// The segments that are appended to, by queue and class.
    open: [[Option<u32>; CLASSES]; 2],
    /// Bytes of full segments in which nothing lives: records that the index does not know any more, and ends too
    /// short for one. In segments that are appended to, the records only.
    pub(super) dead_bytes: u64,
}

impl Log {
    /// An empty log for a budget, which may be raised later as far as `reserve_bytes` goes.
    ///
    /// # Errors
    /// When the address space cannot be reserved.
    pub(super) fn new(budget_bytes: u64, reserve_bytes: usize) -> io::Result<Self> {
        Ok(Self {
            memory: Reservation::new(reserve_bytes)?,
            segment_bytes: Self::segment_bytes_for(budget_bytes),
            large_value_bytes: LARGE_VALUE_BYTES,
            segments: Vec::new(),
            warm: Vec::new(),
            era: 0,
            cleared: 0,
            swept: 0,
            cold: Vec::new(),
            small_end: SMALL_PAGES_BYTES,
            populating: 0..0,
            cooling: None,
            open: [[None; CLASSES]; 2],
            dead_bytes: 0,
        })
    }

    /// The size of segments that suits a budget.
    pub(super) fn segment_bytes_for(budget_bytes: u64) -> usize {
        1 << (budget_bytes / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).ilog2()
    }

    pub(super) fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// Bytes of address space.
    pub(super) fn reserved_bytes(&self) -> usize {
        self.memory.bytes().len()
    }

    /// Items of this size have allocations of their own: a segment is to hold several records.
    pub(super) fn large_bytes_min(&self) -> usize {
        self.large_value_bytes.min(self.segment_bytes / 4)
    }

    /// Memory that segments take, free ones with pages included.
    pub(super) fn memory_bytes(&self) -> u64 {
        let cooled = self.cooling.map_or(0, |(_, bytes)| bytes);
        ((self.segments.len() - self.cold.len()) * self.segment_bytes - cooled) as u64
    }

    /// Free segments with pages.
    pub(super) fn warm(&self) -> usize {
        self.warm.len() + self.cleared
    }

    /// What a segment is used for.
    pub(super) fn state(&self, segment: u32) -> State {
        let known = &self.segments[segment as usize];
        if known.era == self.era { known.state } else { State::Free }
    }

    /// The segment of a location.
    pub(super) fn segment_of(&self, location: u64) -> u32 {
        // A power of two.
        (location >> self.segment_bytes.trailing_zeros()) as u32
    }

    /// The queue that a record is in.
    pub(super) fn queue_of(&self, location: u64) -> Queue {
        self.segments[self.segment_of(location) as usize].queue
    }

    /// The first location of a segment, and the one behind its last record.
    pub(super) fn span(&self, segment: u32) -> Range<u64> {
        let start = u64::from(segment) * self.segment_bytes as u64;
        start + u64::from(FIRST)..start + u64::from(self.segments[segment as usize].end)
    }

    #[inline]
    fn header(&self, location: u64) -> Header {
        let at = location as usize;
        Header(u32::from_le_bytes(self.memory.bytes()[at..at + HEADER_BYTES].try_into().expect("four bytes")))
    }

    /// Length of a record's attributes.
    #[inline]
    fn extras_len(&self, location: u64, header: Header) -> usize {
        if header.0 & HAS_EXTRAS == 0 {
            return 0;
        }
        usize::from(self.memory.bytes()[location as usize + HEADER_BYTES + header.expiry_len()])
    }

    /// The record at a location.
    #[inline]
    pub(super) fn record(&self, location: u64) -> Record<'_> {
        let header = self.header(location);
        let (key_len, value_len, expiry_len) = (header.key_len(), header.value_len(), header.expiry_len());
        let extras_len = self.extras_len(location, header);
        let len = HEADER_BYTES + expiry_len + extras_len + key_len + value_len;
        let bytes = &self.memory.bytes()[location as usize..][..len];
        let (extras, rest) = bytes[HEADER_BYTES + expiry_len..].split_at(extras_len);
        let (key, value) = rest.split_at(key_len);
        let expires_at = if header.has_expiry() {
            let mut expires_at = [0; 8];
            expires_at[..EXPIRY_BYTES].copy_from_slice(&bytes[HEADER_BYTES..HEADER_BYTES + EXPIRY_BYTES]);
            u64::from_le_bytes(expires_at)
        } else {
            0
        };
        Record { key, value, expires_at, is_large: header.is_large(), extras, len }
    }

    /// Whether the record at a location is a header, a key and a value, and nothing else.
    #[inline]
    pub(super) fn is_plain(&self, location: u64) -> bool {
        self.header(location).is_plain()
    }

    /// Key and value of such a record.
    #[inline]
    pub(super) fn plain(&self, location: u64) -> (&[u8], &[u8]) {
        let header = self.header(location);
        let from = location as usize + HEADER_BYTES;
        self.memory.bytes()[from..from + header.key_len() + header.value_len()].split_at(header.key_len())
    }

    /// The key of the record at a location; `None` for a large item's, which has its key elsewhere.
    #[inline]
    pub(super) fn key(&self, location: u64) -> Option<&[u8]> {
        let header = self.header(location);
        if header.is_plain() {
            let from = location as usize + HEADER_BYTES;
            return Some(&self.memory.bytes()[from..from + header.key_len()]);
        }
        let start = location as usize + HEADER_BYTES + header.expiry_len() + self.extras_len(location, header);
        (!header.is_large()).then(|| &self.memory.bytes()[start..start + header.key_len()])
    }

    /// Whether the record at a location has an expiry, or is a large item's, which may have one.
    #[inline]
    pub(super) fn may_expire(&self, location: u64) -> bool {
        self.header(location).0 & (HAS_EXPIRY | IS_LARGE) != 0
    }

    /// Whether the record at a location has attributes, or is a large item's, which may have some.
    #[inline]
    pub(super) fn may_have_extras(&self, location: u64) -> bool {
        self.header(location).0 & (HAS_EXTRAS | IS_LARGE) != 0
    }

    /// The number of a large item, if the record at a location is one's.
    #[inline]
    pub(super) fn large_number(&self, location: u64) -> Option<usize> {
        self.header(location).is_large().then(|| self.record(location).number())
    }

    /// Brings the first lines of a record towards the processor.
    #[inline]
    pub(super) fn prefetch(&self, location: u64) {
        self.memory.prefetch(location as usize);
        self.memory.prefetch(location as usize + CACHE_LINE_BYTES);
    }

    /// Room for a record in its queue's segment; `None` when that is full: give the queue a new one and try again.
    fn room(&mut self, len: usize, expires_at: UnixMs, queue: Queue, now: UnixMs) -> Option<usize> {
        let segment = self.open[queue as usize][class_of(expires_at, now)]?;
        let known = &mut self.segments[segment as usize];
        if known.end as usize + len > self.segment_bytes {
            return None;
        }
        let at = segment as usize * self.segment_bytes + known.end as usize;
        known.end += len as u32;
        known.live += len as u32;
        known.expires_last = known.expires_last.max(expires_at);
        Some(at)
    }

    /// Appends a record; `None` when its queue's segment is full.
    pub(super) fn append(&mut self, draft: &Draft<'_>, queue: Queue, now: UnixMs) -> Option<u64> {
        let len = draft.len();
        let at = self.room(len, draft.expires_at, queue, now)?;
        let (header, rest) = self.memory.bytes_mut()[at..at + len].split_at_mut(HEADER_BYTES);
        header.copy_from_slice(&Header::new(draft).0.to_le_bytes());
        let (expiry, rest) = rest.split_at_mut(if draft.expires_at == 0 { 0 } else { EXPIRY_BYTES });
        expiry.copy_from_slice(&draft.expires_at.to_le_bytes()[..expiry.len()]);
        let (extras, rest) = rest.split_at_mut(draft.extras.len());
        extras.copy_from_slice(draft.extras);
        let (key, value) = rest.split_at_mut(draft.key.len());
        key.copy_from_slice(draft.key);
        value.copy_from_slice(draft.value);
        Some(at as u64)
    }

    /// Copies a record to another place; `None` when its queue's segment is full.
    pub(super) fn copy(&mut self, location: u64, queue: Queue, now: UnixMs) -> Option<u64> {
        let Record { len, expires_at, .. } = self.record(location);
        let at = self.room(len, expires_at, queue, now)?;
        self.memory.bytes_mut().copy_within(location as usize..location as usize + len, at);
        Some(at as u64)
    }

    /// Overwrites attributes with ones of the same length.
    pub(super) fn overwrite_extras(&mut self, location: u64, extras: &[u8]) {
        let header = self.header(location);
        assert_eq!(self.extras_len(location, header), extras.len(), "a record does not change its length");
        let at = location as usize + HEADER_BYTES + header.expiry_len();
        self.memory.bytes_mut()[at..at + extras.len()].copy_from_slice(extras);
    }

    /// Overwrites a value with one of the same length.
    pub(super) fn overwrite(&mut self, location: u64, value: &[u8]) {
        let header = self.header(location);
        assert_eq!(header.value_len(), value.len(), "a record does not change its length");
        let extras_len = self.extras_len(location, header);
        let at = location as usize + HEADER_BYTES + header.expiry_len() + extras_len + header.key_len();
        self.memory.bytes_mut()[at..at + value.len()].copy_from_slice(value);
    }

    /// Overwrites the expiry of a record that has one.
    pub(super) fn overwrite_expiry(&mut self, location: u64, expires_at: UnixMs) {
        assert!(self.header(location).expiry_len() > 0 && expires_at != 0, "a record does not change its length");
        let at = location as usize + HEADER_BYTES;
        self.memory.bytes_mut()[at..at + EXPIRY_BYTES].copy_from_slice(&expires_at.to_le_bytes()[..EXPIRY_BYTES]);
        let segment = self.segment_of(location);
        let known = &mut self.segments[segment as usize];
        known.expires_last = known.expires_last.max(expires_at);
    }

    /// The index does not know a record any more.
    pub(super) fn kill(&mut self, location: u64, len: usize) {
        let segment = self.segment_of(location);
        self.segments[segment as usize].live -= len as u32;
        self.dead_bytes += len as u64;
    }

    /// Takes a free segment with pages.
    pub(super) fn take_warm(&mut self) -> Option<u32> {
        while self.warm.is_empty() && self.cleared > 0 {
            self.sweep();
        }
        self.warm.pop()
    }

    /// Looks for cleared segments among the next ones.
    fn sweep(&mut self) {
        let end = self.segments.len().min(self.swept + SWEPT_PER_CALL);
        assert!(self.swept < end, "what was cleared is found");
        for (number, segment) in (self.swept..).zip(&mut self.segments[self.swept..end]) {
            if segment.era != self.era && segment.state != State::Free {
                (segment.state, segment.end, segment.live) = (State::Free, FIRST, 0);
                self.warm.push(number as u32);
                self.cleared -= 1;
            }
        }
        self.swept = end;
    }

    /// Takes a free segment that has no pages yet; `None` when the reservation is at its end.
    pub(super) fn take_cold(&mut self) -> Option<u32> {
        if let Some(segment) = self.cold.pop() {
            return Some(segment);
        }
        if (self.segments.len() + 1) * self.segment_bytes > self.memory.bytes().len() {
            return None;
        }
        self.segments.push(Segment::FREE);
        Some(self.segments.len() as u32 - 1)
    }

    /// Segments that share a large page.
    pub(super) fn segments_per_huge_page(&self) -> usize {
        HUGE_PAGE_BYTES / self.segment_bytes
    }

    /// Whether the next segments may have large pages: they have never been used.
    pub(super) fn has_huge_pages(&self) -> bool {
        self.cold.is_empty() && self.segments.len() * self.segment_bytes >= SMALL_PAGES_BYTES
    }

    /// Takes the free segments that share the next large page, to be populated; these are the bytes.
    /// [`populated`](Self::populated) makes them free again.
    pub(super) fn populate(&mut self) -> Option<Range<usize>> {
        let first = self.take_cold()?;
        self.populating = first..first + 1;
        while !(self.segments.len()).is_multiple_of(self.segments_per_huge_page()) && self.take_cold().is_some() {
            self.populating.end += 1;
        }
        let byte = |segment: u32| segment as usize * self.segment_bytes;
        Some(byte(first)..byte(self.populating.end))
    }

    /// The bytes of the next large page that is to replace small ones, for the log has become large, if there is one
    /// among some from `start` on; and where the next look begins.
    pub(super) fn outgrown(&self, start: usize) -> (Option<Range<usize>>, usize) {
        let used = (self.segments.len() - self.cold.len()) * self.segment_bytes;
        if used < 2 * SMALL_PAGES_BYTES || self.cold.len() > self.segments.len() / 16 {
            return (None, start);
        }
        let end = self.small_end.min(start + OUTGROWN_PER_CALL * HUGE_PAGE_BYTES);
        let mut ranges = (start..end).step_by(HUGE_PAGE_BYTES).map(|start| start..start + HUGE_PAGE_BYTES);
        // What was given back must not come by itself.
        let found = ranges.find(|range| {
            let segments = self.segments.get(range.start / self.segment_bytes..range.end / self.segment_bytes);
            segments.is_some_and(|segments| segments.iter().all(|segment| segment.has_pages))
        });
        let next = found.as_ref().map_or(end.max(start), |range| range.end);
        (found, next)
    }

    /// The segments that were being populated have pages, or get them when they are written.
    pub(super) fn populated(&mut self) {
        self.warm.extend(std::mem::take(&mut self.populating).rev());
    }

    /// Advice about some of the log's memory.
    pub(super) fn advice(&self, range: &Range<usize>, advice: Advice) -> PageAdvice {
        self.memory.advice(range, advice)
    }

    /// Opens a free segment for a queue and an expiry's class; returns the one that it follows, now full.
    pub(super) fn open(&mut self, segment: u32, queue: Queue, expires_at: UnixMs, now: UnixMs) -> Option<u32> {
        let class = class_of(expires_at, now);
        let known = Segment {
            state: State::Open,
            queue,
            class: class as u8,
            end: FIRST,
            live: 0,
            expires_last: 0,
            opened_at: now,
            generation: self.segments[segment as usize].generation.wrapping_add(1),
            era: self.era,
            has_pages: true,
        };
        self.segments[segment as usize] = known;
        let full = self.open[queue as usize][class].replace(segment);
        full.into_iter().for_each(|full| self.seal(full));
        full
    }

    fn seal(&mut self, segment: u32) {
        let known = &mut self.segments[segment as usize];
        known.state = State::Sealed;
        self.dead_bytes += u64::from(self.segment_bytes as u32 - known.end);
    }

    /// Closes the segments that are appended to and whose items may go, because nothing else may; one at a time.
    pub(super) fn seal_one(&mut self, may_go: impl Fn(&Segment) -> bool) -> Option<u32> {
        let segments = &self.segments;
        let is_wanted = |segment: &&mut Option<u32>| segment.is_some_and(|number| may_go(&segments[number as usize]));
        let segment = self.open.iter_mut().flatten().find(is_wanted)?.take()?;
        self.seal(segment);
        Some(segment)
    }

    /// Bytes of a full segment in which nothing lives.
    pub(super) fn dead_bytes_of(&self, segment: &Segment) -> u64 {
        u64::from(self.segment_bytes as u32 - FIRST - segment.live)
    }

    /// Makes a segment free; its pages stay.
    pub(super) fn free(&mut self, segment: u32) {
        let known = &mut self.segments[segment as usize];
        assert!(known.state == State::Sealed && known.live == 0, "no live record is lost");
        self.dead_bytes -= u64::from(self.segment_bytes as u32 - FIRST);
        known.state = State::Free;
        known.end = FIRST;
        self.warm.push(segment);
    }

    /// Gives back some pages of a free segment; false when there is none.
    pub(super) fn cool(&mut self) -> bool {
        if self.cooling.is_none() && self.warm.is_empty() && self.cleared > 0 {
            self.sweep();
            return true;
        }
        let next = || self.warm.pop().map(|segment| (segment, 0));
        let Some((segment, from)) = self.cooling.take().or_else(next) else { return false };
        let (start, end) = (segment as usize * self.segment_bytes, self.segment_bytes.min(from + RELEASED_BYTES));
        self.memory.release(start + from..start + end);
        self.small_end = self.small_end.max(start + end);
        self.segments[segment as usize].has_pages = false;
        if end < self.segment_bytes {
            self.cooling = Some((segment, end));
        } else {
            self.cold.push(segment);
        }
        true
    }

    /// Makes all segments free; they are swept and their pages given back by [`cool`](Self::cool).
    pub(super) fn clear(&mut self) {
        let free = self.warm.len() + self.cold.len() + self.populating.len() + usize::from(self.cooling.is_some());
        self.cleared = self.segments.len() - free;
        self.swept = 0;
        self.era = self.era.wrapping_add(1);
        self.open = [[None; CLASSES]; 2];
        self.dead_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A large log of which some early segments have no pages: the small pages behind them are found.
    #[test]
    fn what_cannot_be_replaced_keeps_nothing_from_being() {
        let budget = 256 << 20;
        let mut log = Log::new(budget, budget as usize).unwrap();
        while let Some(segment) = log.take_cold() {
            log.open(segment, Queue::Main, 0, 1);
        }
        let per_page = log.segments_per_huge_page();
        let without = OUTGROWN_PER_CALL + 3;
        (0..without).for_each(|page| log.segments[page * per_page].has_pages = false);
        let (mut found, mut start) = (Vec::new(), 0);
        for _ in 0..SMALL_PAGES_BYTES / HUGE_PAGE_BYTES {
            let (range, next) = log.outgrown(start);
            assert!(next >= start && next <= SMALL_PAGES_BYTES);
            found.extend(range.map(|range| range.start / HUGE_PAGE_BYTES));
            start = next;
        }
        assert_eq!(found, (without..SMALL_PAGES_BYTES / HUGE_PAGE_BYTES).collect::<Vec<_>>());
    }
}
