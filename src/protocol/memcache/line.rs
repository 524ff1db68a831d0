//! One line of a client: its words, and how many bytes of data follow it.
//!
//! In: a line without its end. Out: the words as arguments of the request being built, and what follows. What must stay
//! true: a line that stores something is followed by its data or becomes [`BAD`] or [`UNSTORABLE`], so that the last
//! argument of a request that stores is always its data block. Clients cannot send those two: words have no blanks.

use super::decode::Bounds;
use super::request::{Refused, data_len, is_key_too_long};
use super::{META_WORDS_MAX, text};
use crate::protocol::Requests;
use crate::protocol::base64;

/// First argument of what is no request: answered with its second, the text.
pub const BAD: &[u8] = b" bad";

/// First argument of a request whose data has no room; then its key, its own name, and the text for the client, which
/// is empty when it wants none.
pub const UNSTORABLE: &[u8] = b" unstorable";

/// What follows a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// The next line.
    Nothing,
    /// So many bytes of data and a line end, which belong to the request.
    Data(usize),
    /// So many bytes to be thrown away.
    Waste(usize),
}

/// The words of a line, each with its place in `bytes`.
pub(super) fn words(bytes: &[u8], start: usize, end: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = start;
    std::iter::from_fn(move || {
        at += bytes[at..end].iter().position(|byte| *byte != b' ')?;
        let from = at;
        at = memchr::memchr(b' ', &bytes[from..end]).map_or(end, |len| from + len);
        Some((from, &bytes[from..at]))
    })
}

/// Adds the words of the line `bytes[start..end]` to the request being built.
#[inline]
pub(super) fn push_line(bytes: &[u8], start: usize, end: usize, bounds: &Bounds, batch: &mut Requests) -> Follows {
    let mut words = words(bytes, start, end);
    let Some((name_at, name)) = words.next() else {
        refuse(text::ERROR, batch);
        return Follows::Nothing;
    };
    batch.push_received(name_at, name.len());
    if matches!(name, b"get" | b"gets" | b"gat" | b"gats") {
        words.for_each(|(at, word)| batch.push_received(at, word.len()));
        return Follows::Nothing;
    }
    push_command(name, words, bounds, batch)
}

/// The same for what is no retrieval.
fn push_command<'a>(
    name: &[u8],
    words: impl Iterator<Item = (usize, &'a [u8])>,
    bounds: &Bounds,
    batch: &mut Requests,
) -> Follows {
    // One word more than any command may have tells that there are too many.
    let mut known: [&[u8]; META_WORDS_MAX + 1] = [&[]; META_WORDS_MAX + 1];
    let mut places = [0; META_WORDS_MAX + 1];
    let mut count = 1;
    known[0] = name;
    for (at, word) in words.take(META_WORDS_MAX) {
        (known[count], places[count]) = (word, at);
        count += 1;
    }
    let known = &known[..count];
    let is_meta = matches!(name, b"mg" | b"ms" | b"md" | b"ma" | b"me");
    let flags_from = if name == b"ms" { 3 } else { 2 };
    let is_encoded = is_meta && known.iter().skip(flags_from).any(|flag| flag.first() == Some(&b'b'));
    for (index, word) in known.iter().enumerate().skip(1) {
        if index == 1 && is_encoded && !is_key_too_long(word) {
            // A key that is malformed becomes an empty one, which no client can send.
            let decode = |scratch: &mut Vec<u8>| {
                let _ = base64::decode(word, scratch);
                Ok::<(), ()>(())
            };
            batch.push_built(decode).expect("it does not fail");
        } else {
            batch.push_received(places[index], word.len());
        }
    }
    match data_len(known) {
        Ok(None) => Follows::Nothing,
        Ok(Some(len)) => expect_data(known, len, bounds, batch),
        Err(Refused { text, is_quiet }) => {
            batch.abandon();
            if !is_quiet {
                refuse(text, batch);
            }
            Follows::Nothing
        }
    }
}

/// A line that stores `len` bytes, if there is room for them.
fn expect_data(known: &[&[u8]], len: usize, bounds: &Bounds, batch: &mut Requests) -> Follows {
    let bytes = len as u64;
    let is_short_of_room = len >= bounds.body_min && bytes > bounds.body_room;
    if bytes <= bounds.bulk_max && !is_short_of_room {
        return Follows::Data(len);
    }
    let is_quiet = known[0] != b"ms" && known.last() == Some(&&b"noreply"[..]);
    let text = if bytes > bounds.bulk_max { text::TOO_LARGE } else { text::NO_MEMORY };
    batch.abandon();
    batch.push_copy(UNSTORABLE);
    batch.push_copy(known[1]);
    batch.push_copy(known[0]);
    batch.push_copy(if is_quiet { b"" } else { text.as_bytes() });
    Follows::Waste(len + 2)
}

/// Makes the request being built one that is answered with a text.
pub(super) fn refuse(text: &str, batch: &mut Requests) {
    batch.abandon();
    batch.push_copy(BAD);
    batch.push_copy(text.as_bytes());
}
