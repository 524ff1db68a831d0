//! Requests as their arguments.
//!
//! A decoder fills [`Requests`] from received bytes; the command layer reads one request's [`Args`]. An argument lies
//! in one of three places: in the received bytes (the usual case, no copy), in the batch's own scratch (unquoted inline
//! arguments, and requests that were copied to travel to another core), or in an allocation of its own (large values).
//! `Requests` is scratch: it is cleared and refilled, and in steady state allocates nothing.

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
        debug_assert!(offset <= SPAN_OFFSET_MAX && len <= u32::MAX as usize);
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

/// A batch of complete requests.
#[derive(Debug, Default)]
pub struct Requests {
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
    pub fn clear(&mut self) {
        self.scratch.clear();
        self.bodies.clear();
        self.spans.clear();
        self.ends.clear();
    }

    /// Request `index`, whose received arguments lie in `received`.
    pub fn get<'a>(&'a self, index: usize, received: &'a [u8]) -> Args<'a> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        let spans = &self.spans[start..self.ends[index] as usize];
        Args { received, scratch: &self.scratch, bodies: &self.bodies, spans }
    }

    /// Adds an argument of the request being built that lies in the received bytes.
    pub fn push_received(&mut self, offset: usize, len: usize) {
        self.spans.push(Span::new(Place::Received, offset, len));
    }

    /// Adds an argument of the request being built by copying it.
    pub fn push_copy(&mut self, bytes: &[u8]) {
        self.spans.push(Span::new(Place::Scratch, self.scratch.len(), bytes.len()));
        self.scratch.extend_from_slice(bytes);
    }

    /// Adds an argument of the request being built that has an allocation of its own.
    pub fn push_body(&mut self, body: Bytes) {
        self.spans.push(Span::new(Place::Body, self.bodies.len(), body.len()));
        self.bodies.push(body);
    }

    /// Ends the request being built. A request without arguments is dropped.
    pub fn finish(&mut self) {
        let start = self.ends.last().map_or(0, |end| *end as usize);
        if self.spans.len() > start {
            self.ends.push(self.spans.len() as u32);
        }
    }

    /// Drops the request being built.
    pub fn abandon(&mut self) {
        self.spans.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    /// Adds a whole request: small arguments are copied, bodies shared. It no longer depends on received bytes.
    pub fn push_request(&mut self, args: Args<'_>) {
        for index in 0..args.len() {
            match args.body(index) {
                Some(body) => self.push_body(body.clone()),
                None => self.push_copy(args.get(index)),
            }
        }
        self.finish();
    }

    /// Memory held, in bytes (bodies apart).
    pub fn capacity(&self) -> usize {
        self.scratch.capacity() + self.spans.capacity() * size_of::<Span>() + self.ends.capacity() * 4
    }
}
