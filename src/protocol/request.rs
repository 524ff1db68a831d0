//! Requests as their arguments.
//!
//! A decoder fills [`Requests`] from received bytes; the command layer reads one request's [`Args`]. An argument lies
//! in one of three places: in the received bytes (the usual case, no copy), in the batch's own scratch (unquoted inline
//! arguments, and requests that were copied to travel to another core), or in an allocation of its own (large values).
//! `Requests` is scratch: it is cleared and refilled, and in steady state allocates nothing. What must stay true: a
//! span lies inside the bytes that it points into, and an unfinished request leaves nothing behind.

use bytes::Bytes;

/// Where an argument lies.
///
/// | bits of `place` | meaning                                     |
/// |-----------------|---------------------------------------------|
/// | 30–31           | 0 received bytes, 1 scratch, 2 body         |
/// | 0–29            | offset in bytes; for a body its index       |
#[derive(Clone, Copy, Debug)]
pub struct Span {
    place: u32,
    len: u32,
}

/// Received bytes and scratch are addressed with this many bits, so a request without its bodies is below 1 GiB.
pub const SPAN_OFFSET_MAX: usize = (1 << 30) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Received = 0,
    Scratch = 1,
    Body = 2,
}

impl Span {
    fn new(place: Place, offset: usize, len: usize) -> Self {
        assert!(offset <= SPAN_OFFSET_MAX && len <= u32::MAX as usize, "an argument beyond what a span can address");
        Span { place: (place as u32) << 30 | offset as u32, len: len as u32 }
    }

    fn offset(self) -> usize {
        (self.place & SPAN_OFFSET_MAX as u32) as usize
    }
}

/// The arguments of one request; the first is the command's name. Copying it copies four references.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    received: &'a [u8],
    scratch: &'a [u8],
    bodies: &'a [Bytes],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// How many arguments there are, the command's name included.
    #[allow(clippy::len_without_is_empty, reason = "a request has at least its name")]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Argument `index`.
    ///
    /// # Panics
    /// When there are not that many; commands check their arity first.
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        let span = self.spans[index];
        let (offset, len) = (span.offset(), span.len as usize);
        match span.place >> 30 {
            0 => &self.received[offset..offset + len],
            1 => &self.scratch[offset..offset + len],
            _ => &self.bodies[offset],
        }
    }

    /// Argument `index` when it is a large value with an allocation of its own.
    pub fn body(&self, index: usize) -> Option<&'a Bytes> {
        let span = self.spans[index];
        (span.place >> 30 == Place::Body as u32).then(|| &self.bodies[span.offset()])
    }

    /// All arguments in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let args = *self;
        (0..args.len()).map(move |index| args.get(index))
    }

    /// The arguments from `first` on.
    pub fn skip(&self, first: usize) -> Args<'a> {
        Args { spans: &self.spans[first..], ..*self }
    }
}

/// What a giant request took is not kept: with more than this [`Requests::clear`] gives everything back.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// A batch of complete requests.
#[derive(Debug, Default)]
pub struct Requests {
    /// The received bytes, when a decoder had to keep them and handed them over with the requests.
    carried: Vec<u8>,
    scratch: Vec<u8>,
    bodies: Vec<Bytes>,
    spans: Vec<Span>,
    /// For each finished request, the number of spans up to its end.
    ends: Vec<u32>,
}

impl Requests {
    /// How many requests are complete.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no request is complete.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Empties it and keeps the allocations.
    #[inline]
    pub fn clear(&mut self) {
        self.carried.clear();
        self.scratch.clear();
        self.bodies.clear();
        self.spans.clear();
        self.ends.clear();
        if self.capacity() + self.bodies.capacity() * size_of::<Bytes>() > KEPT_BYTES_MAX {
            self.give_back();
        }
    }

    #[cold]
    fn give_back(&mut self) {
        *self = Self::default();
    }

    /// Request `index`, whose received arguments lie in `received` (unless the batch carries them itself).
    #[inline]
    pub fn get<'a>(&'a self, index: usize, received: &'a [u8]) -> Args<'a> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        let spans = &self.spans[start..self.ends[index] as usize];
        let received = if self.carried.is_empty() { received } else { &self.carried };
        Args { received, scratch: &self.scratch, bodies: &self.bodies, spans }
    }

    /// The request being built, whose received arguments lie in `received`.
    pub(super) fn unfinished<'a>(&'a self, received: &'a [u8]) -> Args<'a> {
        let start = self.ends.last().map_or(0, |end| *end as usize);
        Args { received, scratch: &self.scratch, bodies: &self.bodies, spans: &self.spans[start..] }
    }

    /// Adds an argument of the request being built that lies in the received bytes.
    #[inline]
    pub fn push_received(&mut self, offset: usize, len: usize) {
        self.spans.push(Span::new(Place::Received, offset, len));
    }

    /// Adds an argument of the request being built by copying it.
    #[inline]
    pub fn push_copy(&mut self, bytes: &[u8]) {
        self.spans.push(Span::new(Place::Scratch, self.scratch.len(), bytes.len()));
        self.scratch.extend_from_slice(bytes);
    }

    /// Adds an argument of the request being built that `build` appends to the scratch it is given. When it fails the
    /// argument is not added.
    ///
    /// # Errors
    /// What `build` returns.
    pub(super) fn push_built<T, E>(&mut self, build: impl FnOnce(&mut Vec<u8>) -> Result<T, E>) -> Result<T, E> {
        let start = self.scratch.len();
        let built = build(&mut self.scratch);
        match &built {
            Ok(_) => self.spans.push(Span::new(Place::Scratch, start, self.scratch.len() - start)),
            Err(_) => self.scratch.truncate(start),
        }
        built
    }

    /// Adds an argument of the request being built that has an allocation of its own.
    #[inline]
    pub fn push_body(&mut self, body: Bytes) {
        self.spans.push(Span::new(Place::Body, self.bodies.len(), body.len()));
        self.bodies.push(body);
    }

    /// Ends the request being built. A request without arguments is dropped.
    #[inline]
    pub fn finish(&mut self) {
        let start = self.ends.last().map_or(0, |end| *end as usize);
        if self.spans.len() > start {
            self.ends.push(self.spans.len() as u32);
        }
    }

    /// Drops the request being built.
    pub fn abandon(&mut self) {
        let start = self.ends.last().map_or(0, |end| *end as usize);
        for span in self.spans.drain(start..).rev() {
            match span.place >> 30 {
                1 => self.scratch.truncate(span.offset()),
                2 => self.bodies.truncate(span.offset()),
                _ => {}
            }
        }
    }

    /// Takes the first request of this batch, which `other` has been building over several receives, and finishes it.
    pub(super) fn adopt(&mut self, other: &mut Requests) {
        assert!(self.spans.is_empty(), "an adopted request is the first of its batch");
        debug_assert!(self.scratch.is_empty() && self.bodies.is_empty());
        self.spans.append(&mut other.spans);
        self.scratch.append(&mut other.scratch);
        self.bodies.append(&mut other.bodies);
        self.finish();
        other.clear();
    }

    /// Takes over the bytes that the received arguments lie in, except for those from `tail` on, which are left in
    /// `buffer`.
    pub(super) fn carry(&mut self, buffer: &mut Vec<u8>, tail: usize) {
        debug_assert!(self.carried.is_empty());
        // The tail gets an allocation of its own size: it may stay in its connection for long.
        let kept = buffer[tail..].to_vec();
        self.carried = std::mem::replace(buffer, kept);
        self.carried.truncate(tail);
    }

    /// Adds a whole request: small arguments are copied, bodies shared. It no longer depends on received bytes.
    pub fn push_request(&mut self, args: Args<'_>) {
        if self.push_run(args) {
            return self.finish();
        }
        for index in 0..args.len() {
            match args.body(index) {
                Some(body) => self.push_body(body.clone()),
                None => self.push_copy(args.get(index)),
            }
        }
        self.finish();
    }

    /// Copies all arguments at once, with what little lies between them; false when they do not lie together.
    fn push_run(&mut self, args: Args<'_>) -> bool {
        /// What lies between two arguments: a line end, and the length of the next.
        const GAP_BYTES_MAX: usize = 16;
        let Some(first) = args.spans.first() else { return false };
        let source = match first.place >> 30 {
            0 => args.received,
            1 => args.scratch,
            _ => return false,
        };
        let (base, mut end) = (first.offset(), first.offset());
        for span in args.spans {
            let is_same_place = span.place >> 30 == first.place >> 30;
            if !is_same_place || !(end..=end + GAP_BYTES_MAX).contains(&span.offset()) {
                return false;
            }
            end = span.offset() + span.len as usize;
        }
        let start = self.scratch.len();
        self.scratch.extend_from_slice(&source[base..end]);
        let moved = |span: &Span| Span::new(Place::Scratch, span.offset() - base + start, span.len as usize);
        self.spans.extend(args.spans.iter().map(moved));
        true
    }

    /// Bytes of arguments that were copied.
    pub fn copied_bytes(&self) -> usize {
        self.scratch.len()
    }

    /// Memory held, in bytes (bodies apart).
    pub fn capacity(&self) -> usize {
        self.carried.capacity()
            + self.scratch.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.ends.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_request_leaves_nothing_behind() {
        let mut batch = Requests::default();
        batch.push_copy(b"first");
        batch.push_body(Bytes::from_static(b"body"));
        batch.finish();
        batch.push_copy(b"second");
        batch.push_received(0, 1);
        batch.push_body(Bytes::from_static(b"other"));
        batch.push_copy(b"third");
        batch.abandon();
        assert_eq!((batch.scratch.as_slice(), batch.bodies.len(), batch.spans.len()), (&b"first"[..], 1, 2));
        batch.push_copy(b"next");
        batch.finish();
        assert_eq!(batch.get(0, b"").iter().collect::<Vec<_>>(), [&b"first"[..], b"body"]);
        assert_eq!(batch.get(1, b"").iter().collect::<Vec<_>>(), [b"next"]);
    }

    #[test]
    fn a_copied_request_needs_no_received_bytes() {
        let mut batch = Requests::default();
        batch.push_received(1, 2);
        batch.push_body(Bytes::from_static(b"body"));
        batch.finish();
        let mut copy = Requests::default();
        copy.push_request(batch.get(0, b"abcd"));
        assert_eq!(copy.get(0, b"").iter().collect::<Vec<_>>(), [&b"bc"[..], b"body"]);
        assert!(copy.get(0, b"").body(0).is_none());
        let address = |args: Args<'_>| args.body(1).map(|body| body.as_ptr());
        assert_eq!(address(copy.get(0, b"")), address(batch.get(0, b"abcd")));
    }

    #[test]
    fn what_was_adopted_leaves_no_large_allocation_behind() {
        let (mut batch, mut built) = (Requests::default(), Requests::default());
        (0..KEPT_BYTES_MAX).for_each(|at| built.push_received(at, 1));
        batch.adopt(&mut built);
        assert_eq!(batch.len(), 1);
        assert!(built.capacity() <= KEPT_BYTES_MAX * 2, "{} bytes kept", built.capacity());
    }

    #[test]
    fn clearing_gives_large_allocations_back() {
        let mut batch = Requests::default();
        batch.push_copy(&vec![0; KEPT_BYTES_MAX * 4]);
        batch.finish();
        batch.clear();
        assert!(batch.capacity() <= KEPT_BYTES_MAX * 2, "{} bytes kept", batch.capacity());
    }
}
