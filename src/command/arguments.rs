//! Arguments as Redis reads them: numbers, expire times, the options of `SET` and `GETEX`; and why a request is
//! refused.
//!
//! In: the bytes of arguments. Out: typed values, or the [`Refusal`] whose text is Redis'. What must stay true: the
//! same bytes are accepted and refused as by Redis; nothing here looks at a key.

use crate::clock::Now;
use crate::protocol::Args;
use crate::protocol::resp::Reply;
use crate::shard::UnixMs;

/// Why a request is refused. Redis' wording: as of 7.2, which for these is that of 7.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An unknown option, one that excludes another, or one without its value.
    Syntax,
    /// An argument or a stored value is not a 64-bit integer.
    NotAnInteger,
    /// An argument or a stored value is not a number.
    NotAFloat,
    /// The sum does not fit 64 bits.
    Overflow,
    /// The decrement cannot be negated.
    DecrementOverflow,
    /// The sum of floats is not finite.
    NotFinite,
    /// An offset is negative.
    OffsetOutOfRange,
    /// The value would be longer than `proto-max-bulk-len`.
    TooLong,
    /// The expire time is not positive, or too far away; with the command's name.
    ExpireTime(&'static str),
    /// Keys and values do not come in pairs; with the command's name.
    Arity(&'static str),
    /// It does not fit, and nothing may be evicted for it.
    OutOfMemory,
}

impl Refusal {
    /// Writes the error reply.
    #[cold]
    pub fn write(self, reply: &mut Reply<'_>) {
        reply.error(match self {
            Self::Syntax => "ERR syntax error",
            Self::NotAnInteger => "ERR value is not an integer or out of range",
            Self::NotAFloat => "ERR value is not a valid float",
            Self::Overflow => "ERR increment or decrement would overflow",
            Self::DecrementOverflow => "ERR decrement would overflow",
            Self::NotFinite => "ERR increment would produce NaN or Infinity",
            Self::OffsetOutOfRange => "ERR offset is out of range",
            Self::TooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Self::ExpireTime(command) => {
                return reply.error(&format!("ERR invalid expire time in '{command}' command"));
            }
            Self::Arity(command) => {
                return reply.error(&format!("ERR wrong number of arguments for '{command}' command"));
            }
            Self::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
        });
    }
}

/// An error's text that repeats bytes of the request, up to a NUL, as Redis does.
pub fn repeating(before: &str, bytes: &[u8], after: &str) -> Vec<u8> {
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    [before.as_bytes(), &bytes[..end], after.as_bytes()].concat()
}

/// Ends a command: writes the error reply when it was refused.
pub fn conclude(outcome: Result<(), Refusal>, reply: &mut Reply<'_>) {
    if let Err(refusal) = outcome {
        refusal.write(reply);
    }
}

/// Longest decimal 64-bit integer, the sign included.
const INTEGER_BYTES_MAX: usize = 20;

/// Reads a 64-bit integer in its one canonical form: no `+`, no leading zeros, no spaces, no `-0`.
pub fn integer(text: &[u8]) -> Result<i64, Refusal> {
    canonical_integer(text).ok_or(Refusal::NotAnInteger)
}

fn canonical_integer(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        b"0" => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if text.len() > INTEGER_BYTES_MAX || !matches!(digits, [b'1'..=b'9', ..]) {
        return None;
    }
    // Downwards, since the lowest number has no positive counterpart.
    let negated = digits.iter().try_fold(0i64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_sub(digit)
    })?;
    if is_negative { Some(negated) } else { negated.checked_neg() }
}

/// How an expire time is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeForm {
    /// `EX`: seconds from now.
    Seconds,
    /// `PX`: milliseconds from now.
    Milliseconds,
    /// `EXAT`: seconds since the epoch.
    UnixSeconds,
    /// `PXAT`: milliseconds since the epoch.
    UnixMilliseconds,
}

impl TimeForm {
    fn named(option: &[u8]) -> Option<Self> {
        let forms = [
            (&b"ex"[..], Self::Seconds),
            (b"px", Self::Milliseconds),
            (b"exat", Self::UnixSeconds),
            (b"pxat", Self::UnixMilliseconds),
        ];
        forms.iter().find(|(name, _)| option.eq_ignore_ascii_case(name)).map(|(_, form)| *form)
    }

    /// Whether the time counts from the epoch.
    pub fn is_absolute(self) -> bool {
        matches!(self, Self::UnixSeconds | Self::UnixMilliseconds)
    }
}

/// An expire time as given; its number is read only when it is needed, as Redis does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpireTime<'a> {
    /// The number's text.
    pub number: &'a [u8],
    /// What the number counts.
    pub form: TimeForm,
}

impl ExpireTime<'_> {
    /// When it is: always positive and below 2^63. `command` is named in the error.
    pub fn resolve(self, now: Now, command: &'static str) -> Result<UnixMs, Refusal> {
        let number = integer(self.number)?;
        let scale = match self.form {
            TimeForm::Seconds | TimeForm::UnixSeconds => 1000,
            TimeForm::Milliseconds | TimeForm::UnixMilliseconds => 1,
        };
        let start = if self.form.is_absolute() { 0 } else { now.unix_ms as i64 };
        let at = Some(number).filter(|number| *number > 0).and_then(|n| n.checked_mul(scale)?.checked_add(start));
        at.map(|at| at as UnixMs).ok_or(Refusal::ExpireTime(command))
    }
}

/// What `SET` and `GETEX` are told about the expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryOption<'a> {
    /// Nothing.
    Unsaid,
    /// `KEEPTTL`, which only `SET` has.
    Keep,
    /// `PERSIST`, which only `GETEX` has.
    Persist,
    /// One of `EX PX EXAT PXAT`; given twice in the same form, the last number counts.
    At(ExpireTime<'a>),
}

impl<'a> ExpiryOption<'a> {
    /// Takes `option` if it is one of these, with its number out of `rest`. `other` is the command's option that no
    /// other tolerates, itself excepted: `KEEPTTL` or `PERSIST`.
    fn take(
        &mut self,
        option: &[u8],
        rest: &mut impl Iterator<Item = &'a [u8]>,
        (name, other): (&[u8], ExpiryOption<'a>),
    ) -> Result<(), Refusal> {
        if option.eq_ignore_ascii_case(name) && (*self == Self::Unsaid || *self == other) {
            *self = other;
            return Ok(());
        }
        let form = TimeForm::named(option).ok_or(Refusal::Syntax)?;
        let is_free = match self {
            Self::Unsaid => true,
            Self::At(given) => given.form == form,
            Self::Keep | Self::Persist => false,
        };
        let number = rest.next().filter(|_| is_free).ok_or(Refusal::Syntax)?;
        *self = Self::At(ExpireTime { number, form });
        Ok(())
    }
}

/// What the item of a key must be for `SET` to replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// `IFEQ`: it has this value (as of Valkey 8.1 and Redis 8.4).
    Value(&'a [u8]),
    /// `IFVERSION`: it has this version, which `GETVERSION`, memcached's `gets` and HTTP's ETag tell.
    Version(u64),
}

/// Takes `EX`, `PX`, `EXAT` or `PXAT` with its number out of `rest`.
pub(super) fn expiry_option<'a>(
    expiry: &mut ExpiryOption<'a>,
    option: &[u8],
    rest: &mut impl Iterator<Item = &'a [u8]>,
) -> Result<(), Refusal> {
    if option.is_empty() {
        return Err(Refusal::Syntax);
    }
    expiry.take(option, rest, (b"", ExpiryOption::Unsaid))
}

/// The options of `SET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetOptions<'a> {
    /// `NX` or `XX`.
    pub when: crate::shard::When,
    /// `IFEQ` or `IFVERSION`, which neither tolerate.
    pub condition: Option<Condition<'a>>,
    /// `GET`.
    pub returns_old: bool,
    /// The expiry.
    pub expiry: ExpiryOption<'a>,
}

impl<'a> SetOptions<'a> {
    /// Reads what follows the value.
    pub fn parse(args: Args<'a>) -> Result<Self, Refusal> {
        use crate::shard::When;
        let mut options =
            Self { when: When::Always, condition: None, returns_old: false, expiry: ExpiryOption::Unsaid };
        let mut rest = args.iter();
        while let Some(option) = rest.next() {
            let is_free = options.condition.is_none();
            if option.eq_ignore_ascii_case(b"nx") && options.when != When::Present && is_free {
                options.when = When::Absent;
            } else if option.eq_ignore_ascii_case(b"xx") && options.when != When::Absent && is_free {
                options.when = When::Present;
            } else if option.eq_ignore_ascii_case(b"ifeq") && options.when == When::Always && is_free {
                options.condition = Some(Condition::Value(rest.next().ok_or(Refusal::Syntax)?));
            } else if option.eq_ignore_ascii_case(b"ifversion") && options.when == When::Always && is_free {
                let version = super::lease::version(rest.next().ok_or(Refusal::Syntax)?)?;
                options.condition = Some(Condition::Version(version));
            } else if option.eq_ignore_ascii_case(b"get") {
                options.returns_old = true;
            } else {
                options.expiry.take(option, &mut rest, (b"keepttl", ExpiryOption::Keep))?;
            }
        }
        Ok(options)
    }
}

/// Reads what follows the key of `GETEX`.
pub fn getex_options(args: Args<'_>) -> Result<ExpiryOption<'_>, Refusal> {
    let mut expiry = ExpiryOption::Unsaid;
    let mut rest = args.iter();
    while let Some(option) = rest.next() {
        expiry.take(option, &mut rest, (b"persist", ExpiryOption::Persist))?;
    }
    Ok(expiry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_form() {
        let accepted: &[(&[u8], i64)] = &[
            (b"0", 0),
            (b"7", 7),
            (b"-1", -1),
            (b"9223372036854775807", i64::MAX),
            (b"-9223372036854775808", i64::MIN),
        ];
        for (text, value) in accepted {
            assert_eq!(integer(text), Ok(*value));
        }
        let refused: &[&[u8]] = &[
            b"",
            b"-",
            b"+1",
            b"-0",
            b"00",
            b"01",
            b"-01",
            b" 1",
            b"1 ",
            b"1\0",
            b"1.0",
            b"1e3",
            b"0x10",
            b"9223372036854775808",
            b"-9223372036854775809",
            b"18446744073709551616",
            b"100000000000000000000000",
            b"1a",
            b"a",
        ];
        for text in refused {
            assert_eq!(integer(text), Err(Refusal::NotAnInteger), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn expire_times_are_positive_and_fit() {
        let now = Now { unix_ms: 1_000_000, ..Now::default() };
        let error = Err(Refusal::ExpireTime("set"));
        let rows: &[(&[u8], TimeForm, Result<UnixMs, Refusal>)] = &[
            (b"1", TimeForm::Seconds, Ok(1_001_000)),
            (b"1", TimeForm::Milliseconds, Ok(1_000_001)),
            (b"1", TimeForm::UnixSeconds, Ok(1000)),
            (b"1", TimeForm::UnixMilliseconds, Ok(1)),
            (b"0", TimeForm::Seconds, error),
            (b"-1", TimeForm::UnixMilliseconds, error),
            (b"9223372036854775", TimeForm::UnixSeconds, Ok(9_223_372_036_854_775_000)),
            (b"9223372036854776", TimeForm::UnixSeconds, error),
            (b"9223372036854775", TimeForm::Seconds, error),
            (b"9223372036854775807", TimeForm::Milliseconds, error),
            (b"9223372036854775807", TimeForm::UnixMilliseconds, Ok(i64::MAX as u64)),
            (b"x", TimeForm::Seconds, Err(Refusal::NotAnInteger)),
        ];
        for (number, form, expected) in rows {
            let time = ExpireTime { number, form: *form };
            assert_eq!(time.resolve(now, "set"), *expected, "{} {form:?}", number.escape_ascii());
        }
    }
}
