//! What the arguments of a request say: numbers, times, the flags of the meta commands.
//!
//! In: words. Out: typed requests, or the text of the refusal. What must stay true: arguments are judged in memcached's
//! order, since what is wrong first decides the text, and whether a data block is expected.

use super::{KEY_BYTES_MAX, META_WORDS_MAX, OPAQUE_BYTES_MAX, text};
use crate::protocol::Args;

/// A line that cannot be followed.
pub(super) struct Refused {
    pub(super) text: &'static str,
    /// The client wants no reply, not even this one.
    pub(super) is_quiet: bool,
}

impl Refused {
    fn new(text: &'static str) -> Self {
        Self { text, is_quiet: false }
    }
}

/// Longest data block that a line can announce.
const DATA_BYTES_MAX: i64 = i32::MAX as i64 - 2;

pub(super) fn is_key_too_long(word: &[u8]) -> bool {
    word.len() > KEY_BYTES_MAX
}

/// How many bytes of data follow a line; `None` when it stores nothing.
pub(super) fn data_len(words: &[&[u8]]) -> Result<Option<usize>, Refused> {
    match words[0] {
        b"set" | b"add" | b"replace" | b"append" | b"prepend" => classic_data_len(words, 5),
        b"cas" => classic_data_len(words, 6),
        b"ms" => meta_data_len(words),
        b"me" if words.len() == 1 => Err(Refused::new(text::BAD_FORMAT)),
        _ => Ok(None),
    }
}

fn classic_data_len(words: &[&[u8]], count: usize) -> Result<Option<usize>, Refused> {
    if words.len() != count && words.len() != count + 1 {
        return Err(Refused::new(text::ERROR));
    }
    let is_quiet = words.last() == Some(&&b"noreply"[..]);
    let refused = || Refused { text: text::BAD_FORMAT, is_quiet };
    let len = signed(words[4]).filter(|len| (0..=DATA_BYTES_MAX).contains(len));
    let is_right = is_key(words[1])
        && unsigned(words[2]).is_some_and(|flags| flags <= u64::from(u32::MAX))
        && signed(words[3]).is_some()
        && (count == 5 || unsigned(words[5]).is_some());
    len.filter(|_| is_right).map(|len| Some(len as usize)).ok_or_else(refused)
}

fn meta_data_len(words: &[&[u8]]) -> Result<Option<usize>, Refused> {
    if words.len() < 2 {
        return Err(Refused::new(text::ERROR));
    }
    if words.len() == 2 || is_key_too_long(words[1]) {
        return Err(Refused::new(text::BAD_FORMAT));
    }
    if words.len() > META_WORDS_MAX {
        return Err(Refused::new(text::TOO_MANY_FLAGS));
    }
    let len = signed(words[2]).filter(|len| (0..=DATA_BYTES_MAX).contains(len));
    let Some(len) = len else { return Err(Refused::new(text::BAD_FORMAT)) };
    Ok(Some(len as usize))
}

/// Whether a word is a key: not too long, without control characters.
fn is_key(word: &[u8]) -> bool {
    !is_key_too_long(word) && !word.iter().any(|byte| *byte < b' ' || *byte == 0x7f)
}

/// A key as it stands in a line.
///
/// # Errors
/// The text of the refusal.
#[inline]
pub fn key(word: &[u8]) -> Result<&[u8], &'static str> {
    if is_key(word) { Ok(word) } else { Err(text::BAD_FORMAT) }
}

/// Whether a classic command's client wants no reply: its last word says so.
pub fn is_quiet(args: Args<'_>) -> bool {
    args.get(args.len() - 1) == b"noreply"
}

/// The digits of a number.
fn unsigned(word: &[u8]) -> Option<u64> {
    let digits = word.strip_prefix(b"+").unwrap_or(word);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// A number with its sign: one of 32 bits, or, as times beyond the year 2038 are, of 32 bits without.
fn signed(word: &[u8]) -> Option<i64> {
    let number = match word {
        [b'-', digits @ ..] if !digits.starts_with(b"+") => -i64::try_from(unsigned(digits)?).ok()?,
        _ => i64::try_from(unsigned(word)?).ok()?,
    };
    (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&number).then_some(number)
}

/// When an item expires, as clients say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exptime {
    /// 0.
    Never,
    /// Negative: it has expired already.
    Now,
    /// Up to 30 days: seconds from now.
    Seconds(u32),
    /// Above: seconds since the Unix epoch.
    UnixSeconds(u32),
}

/// Seconds up to here count from now.
const RELATIVE_SECONDS_MAX: i64 = 60 * 60 * 24 * 30;

/// An expiry time.
///
/// # Errors
/// The text of the refusal.
pub fn exptime(word: &[u8]) -> Result<Exptime, &'static str> {
    signed(word).map(exptime_of).ok_or(text::BAD_EXPTIME)
}

fn exptime_of(number: i64) -> Exptime {
    match number {
        0 => Exptime::Never,
        ..0 => Exptime::Now,
        seconds @ 1..=RELATIVE_SECONDS_MAX => Exptime::Seconds(seconds as u32),
        seconds => Exptime::UnixSeconds(seconds as u32),
    }
}

/// What `incr` and `decr` add and take.
///
/// # Errors
/// The text of the refusal.
pub fn delta(word: &[u8]) -> Result<u64, &'static str> {
    unsigned(word).ok_or(text::BAD_DELTA)
}

/// A classic command that stores; its line has been judged when its data was awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// Client flags.
    pub flags: u32,
    /// When it expires.
    pub exptime: Exptime,
    /// The version that must be there (`cas`).
    pub version: Option<u64>,
    /// The client wants no reply.
    pub is_quiet: bool,
}

/// Reads a classic command that stores: its words, then its data block.
pub fn store(args: Args<'_>) -> Store {
    let number = |index: usize| unsigned(args.get(index)).unwrap_or(0);
    Store {
        flags: number(2) as u32,
        exptime: exptime_of(signed(args.get(3)).unwrap_or(0)),
        version: (args.get(0) == b"cas").then(|| number(5)),
        is_quiet: args.get(args.len() - 2) == b"noreply",
    }
}

/// The flags of a meta command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// A bit for each flag that is there, by its letter.
    letters: u128,
    /// `M`.
    pub mode: Option<u8>,
    /// `T`.
    pub exptime: Option<Exptime>,
    /// `N`: the time of an item that is made because there is none.
    pub vivify: Option<Exptime>,
    /// `R`: less than this left, and the item is to be computed anew.
    pub recache: Option<Exptime>,
    /// `F`.
    pub flags: u32,
    /// `C`: the version that must be there.
    pub version: Option<u64>,
    /// `E`: the version that the item gets.
    pub new_version: Option<u64>,
    /// `D`.
    pub delta: u64,
    /// `J`.
    pub initial: u64,
}

impl Meta {
    /// Whether a flag is there.
    pub fn has(&self, letter: u8) -> bool {
        letter < 128 && self.letters & 1 << letter != 0
    }
}

const KNOWN_FLAGS: &[u8] = b"bcfhklqstuvxIOPLNTRFCEMJD";

/// Reads the flags of a meta command, from argument `from` up to `to`.
///
/// # Errors
/// The text of the refusal.
pub fn meta(args: Args<'_>, from: usize, to: usize) -> Result<Meta, &'static str> {
    let mut meta = Meta {
        letters: 0,
        mode: None,
        exptime: None,
        vivify: None,
        recache: None,
        flags: 0,
        version: None,
        new_version: None,
        delta: 1,
        initial: 0,
    };
    if to > META_WORDS_MAX {
        return Err(text::TOO_MANY_FLAGS);
    }
    let mut wrong = None;
    for index in from..to {
        let word = args.get(index);
        let letter = word[0];
        if letter >= 127 || meta.has(letter) {
            return Err(text::DUPLICATE_FLAG);
        }
        if !KNOWN_FLAGS.contains(&letter) {
            return Err(text::INVALID_FLAG);
        }
        meta.letters |= 1 << letter;
        wrong = match meta.take(letter, &word[1..], args) {
            Ok(()) => wrong,
            // The one has no text of its own, the other is seen last.
            Err(text @ (text::BAD_FORMAT | text::OPAQUE_TOO_LONG)) => wrong.or(Some(text)),
            Err(text) => Some(text),
        };
    }
    wrong.map_or(Ok(meta), Err)
}

impl Meta {
    fn take(&mut self, letter: u8, token: &[u8], args: Args<'_>) -> Result<(), &'static str> {
        let time = || signed(token).map(exptime_of).ok_or(text::BAD_TOKEN);
        let number = |text| unsigned(token).ok_or(text);
        match letter {
            b'b' if args.get(1).is_empty() => return Err(text::BAD_ENCODING),
            b'N' => self.vivify = Some(time()?),
            b'T' => self.exptime = Some(time()?),
            b'R' => self.recache = Some(time()?),
            b'F' => self.flags = u32::try_from(number(text::BAD_FORMAT)?).map_err(|_| text::BAD_FORMAT)?,
            b'C' => self.version = Some(number(text::BAD_TOKEN)?),
            b'E' => self.new_version = Some(number(text::BAD_TOKEN)?),
            b'D' => self.delta = number(text::BAD_META_DELTA)?,
            b'J' => self.initial = number(text::BAD_INITIAL)?,
            b'M' if token.len() != 1 => return Err(text::BAD_MODE_LENGTH),
            b'M' => self.mode = Some(token[0]),
            b'O' if token.len() >= OPAQUE_BYTES_MAX => return Err(text::OPAQUE_TOO_LONG),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_fits() {
        let rows: &[(&[u8], Option<i64>, Option<u64>)] = &[
            (b"0", Some(0), Some(0)),
            (b"-1", Some(-1), None),
            (b"+1", Some(1), Some(1)),
            (b"-+1", None, None),
            (b"++1", None, None),
            (b"-2147483648", Some(i64::from(i32::MIN)), None),
            (b"-2147483649", None, None),
            (b"4294967295", Some(i64::from(u32::MAX)), Some(u32::MAX.into())),
            (b"4294967296", None, Some(1 << 32)),
            (b"18446744073709551615", None, Some(u64::MAX)),
            (b"18446744073709551616", None, None),
            (b"", None, None),
            (b"-", None, None),
            (b"1x", None, None),
            (b"x", None, None),
        ];
        for (word, as_signed, as_unsigned) in rows {
            assert_eq!((signed(word), unsigned(word)), (*as_signed, *as_unsigned), "{}", word.escape_ascii());
        }
    }

    #[test]
    fn times_up_to_30_days_count_from_now() {
        let rows: &[(&[u8], Result<Exptime, &str>)] = &[
            (b"0", Ok(Exptime::Never)),
            (b"-1", Ok(Exptime::Now)),
            (b"1", Ok(Exptime::Seconds(1))),
            (b"2592000", Ok(Exptime::Seconds(2_592_000))),
            (b"2592001", Ok(Exptime::UnixSeconds(2_592_001))),
            (b"4294967295", Ok(Exptime::UnixSeconds(u32::MAX))),
            (b"x", Err(text::BAD_EXPTIME)),
        ];
        for (word, expected) in rows {
            assert_eq!(exptime(word), *expected);
        }
    }
}
