//! Numbers as `INCRBYFLOAT` reads, adds and writes them: x87 extended precision, the C `long double` of Linux on
//! x86-64.
//!
//! In: an argument or a stored value. Out: at most 17 digits after the point, without trailing zeros. What must stay
//! true: on every machine the bytes are the ones that glibc's `strtold` and `printf("%.17Lf")` give on x86-64, which
//! is what Redis stores and replicates.

use rustc_apfloat::ieee::X87DoubleExtended;
use rustc_apfloat::{Float, Round, Status};

/// Longest text that is read as a number; Redis' limit, one byte of its 5 KiB buffer being the terminator.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Digits written after the point before trailing zeros are cut.
const FRACTION_DIGITS: usize = 17;
const FRACTION_SCALE: u128 = 10u128.pow(FRACTION_DIGITS as u32);
/// Digits of the largest finite number, 1.19e4932.
const INTEGER_DIGITS_MAX: usize = 4933;
/// The highest power of two in a significand's unit: 2^16383 with 63 bits behind the leading one.
const SHIFT_MAX: u32 = 16383 - 63;

/// A number in x87 extended precision; never not-a-number.
#[derive(Clone, Copy)]
pub struct LongDouble(X87DoubleExtended);

impl LongDouble {
    /// Zero.
    pub const ZERO: LongDouble = LongDouble(X87DoubleExtended::ZERO);

    /// Reads what `strtold` would take as a whole: decimal or hexadecimal with optional exponent, or infinity. `None`
    /// for anything else, for what is too large, and for what is not zero but too small.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let (is_negative, magnitude) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let number = if is_infinity(magnitude) { X87DoubleExtended::INFINITY } else { parse_finite(magnitude)? };
        Some(Self(if is_negative { -number } else { number }))
    }

    /// The sum, rounded to nearest even; `None` when it is infinite or not a number.
    pub fn plus(self, other: Self) -> Option<Self> {
        let sum = self.0.add_r(other.0, Round::NearestTiesToEven).value;
        sum.is_finite().then_some(Self(sum))
    }

    /// Writes a finite number.
    pub fn format(self, text: &mut FloatText) -> &[u8] {
        debug_assert!(self.0.is_finite());
        let bits = self.0.to_bits();
        let significand = bits as u64;
        let exponent = (bits >> 64) as i32 & 0x7fff;
        // The significand counts units of 2^shift; numbers below the normal range share the smallest exponent.
        let shift = exponent.max(1) - 16383 - 63;
        if shift > 0 {
            text.set_integer(&DecimalLimbs::shifted(significand, shift as u32));
            text.end = INTEGER_END;
        } else {
            let (integer, fraction) = split(significand, shift.unsigned_abs());
            text.set_small_integer(integer);
            text.set_fraction(fraction);
        }
        if self.0.is_negative() && text.as_bytes() != b"0" {
            text.start -= 1;
            text.bytes[text.start] = b'-';
        }
        text.as_bytes()
    }
}

/// Room for a written number: the integer part grows down from the point, the fraction up.
pub struct FloatText {
    bytes: [u8; 1 + INTEGER_DIGITS_MAX + 1 + FRACTION_DIGITS],
    start: usize,
    end: usize,
}

const INTEGER_END: usize = 1 + INTEGER_DIGITS_MAX;

impl Default for FloatText {
    fn default() -> Self {
        Self { bytes: [0; 1 + INTEGER_DIGITS_MAX + 1 + FRACTION_DIGITS], start: INTEGER_END, end: INTEGER_END }
    }
}

impl FloatText {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn set_small_integer(&mut self, integer: u64) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(integer).as_bytes();
        self.start = INTEGER_END - digits.len();
        self.bytes[self.start..INTEGER_END].copy_from_slice(digits);
    }

    fn set_integer(&mut self, integer: &DecimalLimbs) {
        self.start = INTEGER_END;
        for (index, limb) in integer.limbs[..integer.len].iter().enumerate() {
            let is_first = index + 1 == integer.len;
            let mut rest = *limb;
            for _ in 0..LIMB_DIGITS {
                if is_first && rest == 0 {
                    break;
                }
                self.start -= 1;
                self.bytes[self.start] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }

    /// `fraction` counts units of 10^-17; without one there is no point either.
    fn set_fraction(&mut self, mut fraction: u64) {
        self.end = INTEGER_END;
        if fraction == 0 {
            return;
        }
        self.bytes[INTEGER_END] = b'.';
        let mut kept = FRACTION_DIGITS;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            kept -= 1;
        }
        self.end = INTEGER_END + 1 + kept;
        for place in (INTEGER_END + 1..self.end).rev() {
            self.bytes[place] = b'0' + (fraction % 10) as u8;
            fraction /= 10;
        }
    }
}

fn is_infinity(magnitude: &str) -> bool {
    magnitude.eq_ignore_ascii_case("inf") || magnitude.eq_ignore_ascii_case("infinity")
}

fn parse_finite(magnitude: &str) -> Option<X87DoubleExtended> {
    let parsed = if magnitude.starts_with("0x") || magnitude.starts_with("0X") {
        match scan(&magnitude[2..], u8::is_ascii_hexdigit, b'p')? {
            Exponent::Present => X87DoubleExtended::from_str_r(magnitude, Round::NearestTiesToEven),
            Exponent::Absent => X87DoubleExtended::from_str_r(&format!("{magnitude}p0"), Round::NearestTiesToEven),
        }
    } else {
        scan(magnitude, u8::is_ascii_digit, b'e')?;
        X87DoubleExtended::from_str_r(magnitude, Round::NearestTiesToEven)
    };
    let parsed = parsed.ok()?;
    let is_lost = parsed.value.is_zero() && parsed.status != Status::OK;
    (parsed.value.is_finite() && !is_lost).then_some(parsed.value)
}

enum Exponent {
    Present,
    Absent,
}

/// Checks `digits [. digits] [marker [sign] digits]` with at least one digit before the marker, and nothing after it.
fn scan(text: &str, is_digit: fn(&u8) -> bool, marker: u8) -> Option<Exponent> {
    let text = text.as_bytes();
    let end = text.iter().position(|byte| byte.eq_ignore_ascii_case(&marker)).unwrap_or(text.len());
    let (significand, exponent) = text.split_at(end);
    let points = significand.iter().filter(|byte| **byte == b'.').count();
    let digits = significand.iter().filter(|byte| is_digit(byte)).count();
    if digits == 0 || points > 1 || digits + points != significand.len() {
        return None;
    }
    let [_, exponent @ ..] = exponent else { return Some(Exponent::Absent) };
    let exponent = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
    (!exponent.is_empty() && exponent.iter().all(u8::is_ascii_digit)).then_some(Exponent::Present)
}

/// `significand / 2^places` as an integer and units of 10^-17, rounded half to even.
fn split(significand: u64, places: u32) -> (u64, u64) {
    let integer = significand.checked_shr(places).unwrap_or(0);
    let remainder = significand - integer.checked_shl(places).unwrap_or(0);
    // Below 2^64 · 10^17 < 2^121: with more places than that, less than half a unit is left.
    let scaled = u128::from(remainder) * FRACTION_SCALE;
    if places == 0 || places > 122 {
        return (integer, 0);
    }
    let (units, lost) = (scaled >> places, scaled & ((1 << places) - 1));
    let half = 1u128 << (places - 1);
    let units = units + u128::from(lost > half || (lost == half && units & 1 == 1));
    if units == FRACTION_SCALE { (integer + 1, 0) } else { (integer, units as u64) }
}

const LIMB_DIGITS: usize = 9;
const LIMB_BASE: u64 = 1_000_000_000;
const LIMBS_MAX: usize = INTEGER_DIGITS_MAX.div_ceil(LIMB_DIGITS);

/// A large integer in base 10^9, lowest limb first.
struct DecimalLimbs {
    limbs: [u32; LIMBS_MAX],
    len: usize,
}

impl DecimalLimbs {
    /// `value · 2^shift`: about 0.1 ms for the largest.
    fn shifted(value: u64, shift: u32) -> Self {
        debug_assert!(shift <= SHIFT_MAX);
        let mut decimal = Self { limbs: [0; LIMBS_MAX], len: 0 };
        decimal.push_carry(value);
        let mut left = shift;
        while left > 0 {
            let step = left.min(32);
            decimal.shift_left(step);
            left -= step;
        }
        decimal
    }

    /// Multiplies by 2^`by`; at most 32, so that a limb and its carry fit 64 bits.
    fn shift_left(&mut self, by: u32) {
        let mut carry = 0;
        for limb in &mut self.limbs[..self.len] {
            let wide = (u64::from(*limb) << by) + carry;
            *limb = (wide % LIMB_BASE) as u32;
            carry = wide / LIMB_BASE;
        }
        self.push_carry(carry);
    }

    fn push_carry(&mut self, mut carry: u64) {
        while carry > 0 {
            self.limbs[self.len] = (carry % LIMB_BASE) as u32;
            self.len += 1;
            carry /= LIMB_BASE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(value: &str, increment: &str) -> String {
        let sum = LongDouble::parse(value.as_bytes()).unwrap().plus(LongDouble::parse(increment.as_bytes()).unwrap());
        sum.map_or("overflow".into(), |sum| String::from_utf8(sum.format(&mut FloatText::default()).to_vec()).unwrap())
    }

    #[test]
    fn sums_are_those_of_redis() {
        // From Debian's redis-server 7.0.15 on x86-64.
        let rows = &[
            ("0", "3.0e3", "3000"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "1.1", "4.1"),
            ("0", "0.1", "0.1"),
            ("0", "-0.0", "0"),
            ("-0", "0", "0"),
            ("1", "-1", "0"),
            ("0", "1e-17", "0.00000000000000001"),
            ("0", "5e-18", "0"),
            ("0", "1.5e-17", "0.00000000000000002"),
            ("0", "4.9e-18", "0"),
            ("0", "-4.9e-18", "0"),
            ("0", "-1e-17", "-0.00000000000000001"),
            ("0", "1e-4950", "0"),
            ("0", "0x1.8p1", "3"),
            ("0", "0XA", "10"),
            ("0", "0x.8", "0.5"),
            ("0", "0x1p-1", "0.5"),
            ("0", "-0x10.p-4", "-1"),
            ("0", ".5", "0.5"),
            ("0", "5.", "5"),
            ("0", "+7", "7"),
            ("0", "1E2", "100"),
            ("0", "0e999999999999", "0"),
            ("0", "0x0p99999999999", "0"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("9007199254740993", "0.5", "9007199254740993.5"),
            ("0.99999999999999999999", "0", "1"),
            ("1.00000000000000000005", "0", "1"),
            ("123456789.123456789123456789", "0", "123456789.12345678912242875"),
            ("1e20", "0.1", "100000000000000000000"),
            ("1e17", "0.01", "100000000000000000.0078125"),
            ("1e30", "1", "1000000000000000000024696061952"),
            ("0.1", "0.2", "0.3"),
            ("1.1", "2.2", "3.3"),
            ("-1.5", "0.25", "-1.25"),
            ("1e40", "-1e40", "0"),
            ("36893488147419103232", "3", "36893488147419103236"),
            ("0.00000000000000001", "0.00000000000000001", "0.00000000000000002"),
            ("0x1.fffffffffffffffep62", "0", "9223372036854775807.5"),
            ("0x1.ffffffffffffffffp0", "0", "2"),
            ("0x1p-58", "0", "0"),
            ("0x1p-57", "0", "0.00000000000000001"),
            ("0x3p-58", "0", "0.00000000000000001"),
            ("99999999999999999.5", "0.25", "99999999999999999.75"),
        ];
        for (value, increment, expected) in rows {
            assert_eq!(sum(value, increment), *expected, "{value} + {increment}");
        }
    }

    #[test]
    fn the_largest_numbers_have_all_their_digits() {
        let largest = sum("1.18973149535723176502e4932", "0");
        assert_eq!(largest.len(), INTEGER_DIGITS_MAX);
        assert!(largest.starts_with("118973149535723176502126385303"));
        assert!(largest.ends_with("44156604419552086811989770240"));
        assert_eq!(sum("1.18973149535723176502e4932", "1.18973149535723176502e4932"), "overflow");
    }

    #[test]
    fn what_strtold_would_not_take_as_a_whole_is_refused() {
        let rows: &[&[u8]] = &[
            b"",
            b" 1",
            b"1 ",
            b"+",
            b"-",
            b".",
            b"e5",
            b"1e",
            b"1e+",
            b"1e5.0",
            b"1.2.3",
            b"--1",
            b"+-1",
            b"0x",
            b"0x.",
            b"0xp1",
            b"0x1p",
            b"0x1p-",
            b"0x1g",
            b"1p3",
            b"nan",
            b"-NaN",
            b"nan(1)",
            b"infin",
            b"infinityx",
            b"1,5",
            b"1_0",
            b"1e4933",
            b"-1e99999999999999999999",
            b"1e-4951",
            b"1e-99999999999999999999",
            b"0x1p16384",
            b"0x1p-16447",
            b"1\0",
            b"\xff",
            "１".as_bytes(),
        ];
        for text in rows {
            assert!(LongDouble::parse(text).is_none(), "{}", text.escape_ascii());
        }
        assert!(LongDouble::parse(&[b'1'; TEXT_BYTES_MAX + 1]).is_none());
        assert!(LongDouble::parse(&[b'0'; TEXT_BYTES_MAX]).is_some());
    }
}
