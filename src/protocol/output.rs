//! Bytes on their way to a socket.
//!
//! An [`Output`] is one run of bytes into which large values are spliced by reference, so that a 10 MB value is sent
//! from where it lies. Small things are appended to the run; the run is reused from send to send.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;

/// Bytes in order, with large values spliced in.
#[derive(Debug, Default, Clone)]
pub struct Output {
    /// Everything that is not spliced.
    bytes: Vec<u8>,
    /// Large values in their order; apart, because an output is moved several times for each request, and few have any.
    #[expect(clippy::box_collection, reason = "a third of the size")]
    spliced: Option<Box<Vec<Splice>>>,
}

/// A large value and where it belongs.
#[derive(Debug, Clone)]
struct Splice {
    /// The place in the run of bytes before which it belongs.
    place: usize,
    /// Where it begins, counted over everything.
    start: usize,
    value: Bytes,
}

impl Splice {
    fn end(&self) -> usize {
        self.start + self.value.len()
    }
}

/// Length of the values that an output begins with, together.
fn spliced_len(spliced: &[Splice]) -> usize {
    spliced.last().map_or(0, |splice| splice.end() - splice.place)
}

impl Output {
    /// An empty output; allocates nothing.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), spliced: None }
    }

    #[inline]
    fn splices(&self) -> &[Splice] {
        self.spliced.as_ref().map_or(&[], |spliced| spliced)
    }

    /// Length in bytes, spliced values included.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() + spliced_len(self.splices())
    }

    /// Whether nothing is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.splices().is_empty()
    }

    /// Memory that this output holds for itself, in bytes (spliced values belong to the shard).
    #[inline]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity() + self.spliced.as_ref().map_or(0, |spliced| spliced.capacity() * size_of::<Splice>())
    }

    /// Makes room for `len` more bytes, so that what follows does not grow it step by step.
    #[inline]
    pub fn reserve(&mut self, len: usize) {
        self.bytes.reserve(len);
    }

    /// Appends a copy.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends one byte.
    #[inline]
    pub fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Appends a value without copying it.
    pub fn splice(&mut self, value: Bytes) {
        let start = self.len();
        self.spliced.get_or_insert_default().push(Splice { place: self.bytes.len(), start, value });
    }

    /// Empties it and keeps the allocation.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spliced.iter_mut().for_each(|spliced| spliced.clear());
    }

    /// Drops everything after the first `len` bytes. `len` must not lie inside a spliced value.
    pub fn truncate(&mut self, len: usize) {
        let (keep, spliced_before) = self.spliced_before(len);
        self.spliced.iter_mut().for_each(|spliced| spliced.truncate(keep));
        self.bytes.truncate(len - spliced_before);
    }

    /// How many spliced values lie before `position`, and their length. It must not lie inside one.
    fn spliced_before(&self, position: usize) -> (usize, usize) {
        let before = &self.splices()[..self.splices().partition_point(|splice| splice.start < position)];
        (before.len(), spliced_len(before))
    }

    /// What is not spliced from `start` on; `start` must not lie inside a spliced value.
    #[inline]
    pub fn plain_from(&self, start: usize) -> &[u8] {
        if self.spliced.is_none() {
            return &self.bytes[start..];
        }
        &self.bytes[start - self.spliced_before(start).1..]
    }

    /// The run of bytes when nothing is spliced into it.
    #[inline]
    pub fn as_plain(&self) -> Option<&[u8]> {
        self.splices().is_empty().then_some(&self.bytes[..])
    }

    /// The run of bytes before the first spliced value.
    pub fn head(&self) -> &[u8] {
        &self.bytes[..self.splices().first().map_or(self.bytes.len(), |splice| splice.place)]
    }

    /// The first byte, unless it is spliced.
    pub fn first(&self) -> Option<u8> {
        self.head().first().copied()
    }

    /// Appends another output, moving its spliced values and copying the rest.
    pub fn append(&mut self, other: &Output) {
        self.append_range(other, 0..other.len());
    }

    /// Appends `range` of another output, copying plain bytes and sharing spliced values.
    pub fn append_range(&mut self, other: &Output, range: Range<usize>) {
        if other.splices().is_empty() {
            return self.extend(&other.bytes[range]);
        }
        other.pieces(range, |piece| match piece {
            Piece::Plain(bytes) => self.extend(bytes),
            Piece::Spliced(value, part) => self.splice(value.slice(part)),
        });
    }

    /// Fills `slices` with the pieces of `from..from + limit`, in order; stops when `slices` has `max` entries.
    /// Returns how many bytes they cover.
    pub fn io_slices<'a>(&'a self, from: usize, limit: usize, max: usize, slices: &mut Vec<IoSlice<'a>>) -> usize {
        let mut covered = 0;
        let end = self.len().min(from.saturating_add(limit));
        self.pieces(from..end, |piece| {
            if slices.len() < max {
                let bytes = match piece {
                    Piece::Plain(bytes) => bytes,
                    Piece::Spliced(value, part) => &value[part],
                };
                covered += bytes.len();
                slices.push(IoSlice::new(bytes));
            }
        });
        covered
    }

    /// All bytes in one allocation; for tests and small replies.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        self.pieces(0..self.len(), |piece| match piece {
            Piece::Plain(bytes) => all.extend_from_slice(bytes),
            Piece::Spliced(value, part) => all.extend_from_slice(&value[part]),
        });
        all
    }

    /// Walks the non-empty pieces that overlap `range`, in order.
    fn pieces<'a>(&'a self, range: Range<usize>, mut visit: impl FnMut(Piece<'a>)) {
        let spliced = self.splices();
        let first = spliced.partition_point(|splice| splice.end() <= range.start);
        // How far the plain bytes lie behind their positions in the whole.
        let mut behind = spliced_len(&spliced[..first]);
        let mut at = range.start;
        for splice in spliced[first..].iter().take_while(|splice| splice.start < range.end) {
            if at < splice.start {
                visit(Piece::Plain(&self.bytes[at - behind..splice.start - behind]));
            }
            let (from, to) = (at.max(splice.start) - splice.start, range.end.min(splice.end()) - splice.start);
            if from < to {
                visit(Piece::Spliced(&splice.value, from..to));
            }
            behind += splice.value.len();
            at = at.max(splice.end());
        }
        if at < range.end {
            visit(Piece::Plain(&self.bytes[at - behind..range.end - behind]));
        }
    }
}

enum Piece<'a> {
    Plain(&'a [u8]),
    Spliced(&'a Bytes, Range<usize>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Output {
        let mut output = Output::new();
        output.extend(b"ab");
        output.splice(Bytes::from_static(b"CDE"));
        output.splice(Bytes::from_static(b"F"));
        output.extend(b"gh");
        output
    }

    #[test]
    fn every_range_reads_as_the_whole_does() {
        let output = sample();
        let whole = output.to_vec();
        assert_eq!(whole, b"abCDEFgh");
        for from in 0..=whole.len() {
            for to in from..=whole.len() {
                let mut slices = Vec::new();
                let covered = output.io_slices(from, to - from, 1024, &mut slices);
                let joined: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
                assert_eq!(joined, &whole[from..to]);
                assert_eq!(covered, to - from);
                let mut copy = Output::new();
                copy.append_range(&output, from..to);
                assert_eq!(copy.to_vec(), &whole[from..to]);
            }
        }
    }

    #[test]
    fn truncating_drops_the_tail() {
        for len in [0, 1, 2, 5, 6, 7, 8] {
            let mut output = sample();
            output.truncate(len);
            assert_eq!(output.to_vec(), &b"abCDEFgh"[..len]);
            assert_eq!(output.len(), len);
        }
    }

    #[test]
    fn what_is_not_spliced_is_found_from_anywhere() {
        for (start, rest) in [(0, "abgh"), (1, "bgh"), (2, "gh"), (6, "gh"), (7, "h"), (8, "")] {
            assert_eq!(sample().plain_from(start), rest.as_bytes());
        }
    }
}
